/*-------------------------------------------------------------------------
 *
 * findings.c
 *	  What is wrong with the server's TLS files: a part of pg_tls_findings.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"

#include "base/compat.h"
#include "base/preload.h"
#include "base/worker.h"
#include "rehearsal/advice.h"
#include "rehearsal/codes.h"
#include "rehearsal/dryrun.h"
#include "rehearsal/findings.h"
#include "server/inspect.h"

/*
 * A CRL in ssl_crl_dir is read and parsed by each connection that needs it.
 * From this size on, in bytes of DER, that takes milliseconds.
 */
#define LARGE_CRL		(128 * 1024)

/*
 * Findings include a dry run.  With CRLs of more than this in memory it loads
 * the files only if something has changed.
 */
#define MAX_DRY_RUN		(2 * 1024 * 1024)


PG_FUNCTION_INFO_V1(pg_tls_file_findings_1_0);


/* ----------------------------------------------------------------
 *		Worker
 * ----------------------------------------------------------------
 */

static void
answer_finding(FindingCode code, const char *object, const char *text)
{
	Row			row;

	pgtls_row_begin(&row);
	pgtls_row_text(&row, pgtls_codes[code].code);
	pgtls_row_message(&row, object);
	pgtls_row_message(&row, text);
	pgtls_worker_send(&row);
}

static void
answer_advice(List *advice)
{
	ListCell   *lc;

	foreach(lc, advice)
	{
		const Advice *a = lfirst(lc);

		answer_finding(a->code, a->object, a->text);
	}
}

/* What is wrong with a file in the directory. */
static void
answer_file_in_dir(const Inspection *in, const FileItem *item)
{
	if (item->problem != NULL)
		answer_finding(FINDING_CRL_DIR_ENTRY, "ssl_crl_dir",
					   psprintf("file \"%s\": %s", item->path, item->problem));
	else if (item->size > LARGE_CRL)
		answer_finding(FINDING_CRL_DIR_LARGE, "ssl_crl_dir",
					   psprintf("file \"%s\" holds a CRL of %ld kB, which each connection with a client certificate parses anew",
								item->path, item->size / 1024));
	if (item->crl == NULL || item->misnamed)
		return;
	answer_advice(pgtls_advice_on_crl(item->crl));
	if (pgtls_inspect_is_badly_signed(in, item->crl))
		answer_finding(FINDING_CRL_BAD_SIGNATURE, "ssl_crl_dir",
					   psprintf("the CRL in \"%s\" is not signed by the CA that it names: clients with certificates of this CA cannot connect",
								item->path));
}

/* What is wrong with a CRL that is loaded, advice apart. */
static void
answer_loaded_crl(const Inspection *in, const FileItem *item)
{
	char	   *issuer;

	if (!pgtls_inspect_is_badly_signed(in, item->crl))
		return;
	issuer = pgtls_advice_name(X509_CRL_get_issuer(item->crl));
	answer_finding(FINDING_CRL_BAD_SIGNATURE, issuer,
				   psprintf("the CRL of \"%s\" is not signed by it: clients with certificates of this CA cannot connect",
							issuer));
}

static FindingCode
problem_code(int file_kind, ProblemKind problem_kind)
{
	switch (problem_kind)
	{
		case PROBLEM_WITH_PASSPHRASE:
			return FINDING_KEY_PASSPHRASE;
		case PROBLEM_WITH_PERMISSIONS:
			return FINDING_KEY_PERMISSIONS;
		case PROBLEM_WITH_FILE:
			break;
	}
	return file_kind == DH_FILE ? FINDING_DH_PARAMS_PROBLEM :
		FINDING_FILE_PROBLEM;
}

/*
 * What is wrong with the files, and with what is loaded of them.  A dry run is
 * made last, since it replaces the configuration of this process.
 */
static void
answer_findings(const Inspection *in)
{
	bool		changed = false;
	long		crl_size = 0;
	CheckResult result;
	MemoryContext row;
	MemoryContext oldcontext;
	ListCell   *lc;

	if (!EnableSSL)
		return;
	answer_advice(pgtls_advice_on_inspection(in));
	answer_advice(pgtls_advice_on_inherited_strength(in));

	if ((in->files[CRL_FILE].path != NULL || in->files[CRL_DIR].path != NULL) &&
		in->files[CA_FILE].path == NULL)
		answer_finding(FINDING_CRL_WITHOUT_CA, "ssl_ca_file",
					   "CRLs are configured, but no CA: no client certificate is asked for");

	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		const TlsFile *file = &in->files[kind];
		const char *setting = pgtls_inspect_kinds[kind].setting;

		/* of files in the directories, each is told of below */
		if (file->problem != NULL && kind != CRL_DIR)
			answer_finding(problem_code(kind, file->problem_kind), setting,
						   psprintf("file \"%s\" %s", file->path,
									file->problem));
		foreach(lc, file->dir_problems)
			answer_finding(FINDING_FILE_PROBLEM, setting, lfirst(lc));
		if (file->state != NULL && strcmp(file->state, "changed") == 0)
		{
			changed = true;
			answer_finding(FINDING_FILE_CHANGED, setting,
						   file->path == NULL ?
						   psprintf("what was loaded is no longer configured") :
						   psprintf("\"%s\" holds something else than what the server has loaded",
									file->path));
		}
	}

	row = AllocSetContextCreate(CurrentMemoryContext, "pg_tls row",
								ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(row);
	foreach(lc, in->files[CRL_DIR].disk)
	{
		pgtls_worker_check();
		answer_file_in_dir(in, lfirst(lc));
		MemoryContextReset(row);
	}
	foreach(lc, in->loaded_items)
	{
		const FileItem *item = lfirst(lc);

		if (item->crl == NULL)
			continue;
		pgtls_worker_check();
		crl_size += item->size;
		answer_loaded_crl(in, item);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(row);

	pgtls_dryrun_without_passphrase = true;
	pgtls_dryrun_make(changed || crl_size <= MAX_DRY_RUN ? CHECK_FILES :
					  CHECK_SETTINGS,
					  &result);
	foreach(lc, result.config_errors)
		answer_finding(FINDING_CONFIGURATION_ERROR, "postgresql.conf",
					   psprintf("what a reload ignores, and a restart may fail for: %s",
								(char *) lfirst(lc)));
	if (!result.ssl)
		answer_finding(FINDING_SSL_OFF_PENDING, "ssl",
					   "a reload would turn TLS off, as the configuration file says now");
	if (!result.ok && !pgtls_dryrun_needs_passphrase)
		answer_finding(FINDING_RELOAD_WOULD_FAIL, "ssl",
					   psprintf("a reload would fail, and so would a restart: %s",
								result.error));
}

/* Main function of the worker. */
void
pgtls_findings_main(Datum arg)
{
	(void) pgtls_worker_begin(arg);
	answer_findings(pgtls_inspect_files());
	pgtls_worker_end();
}


/* ----------------------------------------------------------------
 *		Who asks
 * ----------------------------------------------------------------
 */

/*
 * pg_tls_file_findings() returns SETOF record: a part of pg_tls_findings
 *
 * Raises an error without preloading.
 */
Datum
pg_tls_file_findings_1_0(PG_FUNCTION_ARGS)
{
	Question	question = {
		.name = "pg_tls files",
		.function = "pgtls_findings_main",
		.what = "a look at the TLS files",
		.deadline = DT_NOEND,
		.optional = true
	};

	pgtls_preload_require();
	if (!pgtls_worker_ask_rows(fcinfo, &question))
	{
		Row			row;

		/* other findings are not to be lost for this */
		pgtls_row_begin(&row);
		pgtls_row_text(&row, pgtls_codes[FINDING_FILES_NOT_CHECKED].code);
		pgtls_row_text(&row, "max_worker_processes");
		pgtls_row_text(&row,
					   "the TLS files could not be looked at: all worker slots are in use");
		pgtls_row_store(&row, (ReturnSetInfo *) fcinfo->resultinfo);
	}
	return (Datum) 0;
}

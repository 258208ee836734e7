/*-------------------------------------------------------------------------
 *
 * contents.c
 *	  The views pg_tls_certificates and pg_tls_crls.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/preload.h"
#include "base/worker.h"
#include "rehearsal/advice.h"
#include "rehearsal/contents.h"
#include "server/inspect.h"
#include "x509/certificate.h"
#include "x509/crl.h"


/* Kinds of questions. */
#define ASK_CERTIFICATES	'c'
#define ASK_CRLS			'r'

PG_FUNCTION_INFO_V1(pg_tls_certificates_1_0);
PG_FUNCTION_INFO_V1(pg_tls_crls_1_0);


/* ----------------------------------------------------------------
 *		Worker
 * ----------------------------------------------------------------
 */

/* Whether something is in force, as the views say it; NULL: not known. */
static const char *
item_state(const Inspection *in, FileKind kind, const FileItem *item)
{
	if (!in->is_known)
		return NULL;
	if (kind == CRL_DIR && pgtls_inspect_crl_dir_is_in_force(in))
		return "on demand";
	return item->loaded ? (item->on_disk ? "loaded" : "loaded only") :
		"disk only";
}

/* What is wrong with a certificate or CRL, in sentences. */
static const char *
item_problem(const Inspection *in, FileKind kind, const FileItem *item,
			 const Lookup *advice)
{
	bool		in_force = item->loaded;
	const void *about = item->cert != NULL ? (const void *) item->cert :
		(const void *) item->crl;
	List	   *said = pgtls_lookup_find(advice, &about);
	StringInfoData buf;
	ListCell   *lc;
	TimestampTz from;
	TimestampTz until;

	if (item->problem != NULL)
		return item->problem;
	if (kind == CRL_DIR && pgtls_inspect_crl_dir_is_in_force(in))
	{
		in_force = true;
		said = pgtls_advice_on_crl(item->crl);
	}
	if (in_force)
	{
		initStringInfo(&buf);
		foreach(lc, said)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? "; " : "",
							 ((Advice *) lfirst(lc))->text);
		return buf.len > 0 ? buf.data : NULL;
	}

	from = pgtls_ossl_time(item->cert != NULL ?
						   X509_get0_notBefore(item->cert) :
						   X509_CRL_get0_lastUpdate(item->crl));
	until = pgtls_ossl_time(item->cert != NULL ?
							X509_get0_notAfter(item->cert) :
							X509_CRL_get0_nextUpdate(item->crl));
	switch (pgtls_advice_validity(from, until, GetCurrentTimestamp(),
								  item->crl != NULL))
	{
		case VALID:
			break;
		case ENDS_SOON:
			return psprintf("ends at %s", timestamptz_to_str(until));
		case ENDED:
			return psprintf("ended at %s", timestamptz_to_str(until));
		case NOT_YET:
			return psprintf("is not valid before %s", timestamptz_to_str(from));
	}
	return NULL;
}

static void
answer_certificate(Row *row, const Inspection *in, FileKind kind,
				   const FileItem *item, const Lookup *advice)
{
	CertInfo	info;
	CertDetails details;
	bool		configured = in->files[CRL_FILE].path != NULL ||
		in->files[CRL_DIR].path != NULL;

	if (!pgtls_certificate_read(item->cert, &info) ||
		!pgtls_certificate_read_details(item->cert, &details))
		pgtls_error_out_of_memory();
	pgtls_row_text(row, pgtls_inspect_kinds[kind].setting);
	if (item->position > 0)
		pgtls_row_int(row, item->position);
	else
		pgtls_row_null(row);
	pgtls_row_text(row, item_state(in, kind, item));
	pgtls_row_text(row, info.subject);
	pgtls_row_text(row, info.subject_rfc2253);
	pgtls_row_text(row, info.issuer);
	pgtls_row_text(row, details.issuer_rfc2253);
	pgtls_row_numeric(row, info.serial);
	pgtls_row_text(row, details.serial_hex);
	pgtls_row_time(row, info.not_before);
	pgtls_row_time(row, info.not_after);
	pgtls_row_list(row, info.san);
	pgtls_row_text(row, info.key);
	pgtls_row_list(row, info.eku);
	pgtls_row_text(row, details.signature_algorithm);
	pgtls_row_bool(row, details.is_ca);
	pgtls_row_bool(row, details.self_signed);
	pgtls_row_hex(row, info.fingerprint, sizeof(info.fingerprint));
	if (kind == CERT_FILE || !(item->loaded ? in->crls_in_use : configured))
		pgtls_row_null(row);
	else
		pgtls_row_bool(row, pgtls_inspect_has_crl(in, item));
	pgtls_row_message(row, item_problem(in, kind, item, advice));
	pgtls_worker_send(row);
	pgtls_certificate_free(&info);
	pgtls_certificate_free_details(&details);
}

static const char *
crl_status(const Inspection *in, const FileItem *item, const CrlInfo *info)
{
	bool		has_issuer;
	bool		verified;

	if (item->misnamed)
		return "misnamed";
	pgtls_inspect_find_crl_issuer(in, item->crl, &has_issuer, &verified);
	if (has_issuer && !verified)
		return "bad_signature";
	switch (pgtls_advice_validity(info->this_update, info->next_update,
								  GetCurrentTimestamp(), true))
	{
		case ENDED:
			return "expired";
		case NOT_YET:
			return "not_yet_valid";
		default:
			/* clients may send its issuer, so that the dates matter more */
			return has_issuer ? "current" : "no_issuer";
	}
}

static void
answer_crl(Row *row, const Inspection *in, FileKind kind,
		   const FileItem *item, const Lookup *advice)
{
	CrlInfo		info;
	const char *status;
	const char *problem;

	pgtls_row_text(row, pgtls_inspect_kinds[kind].setting);
	pgtls_row_message(row,
					  item->path != NULL ? item->path : in->files[kind].path);
	pgtls_row_text(row, item_state(in, kind, item));
	if (item->crl == NULL)
	{
		for (int i = 0; i < 6; i++)
			pgtls_row_null(row);
		pgtls_row_text(row, "unreadable");
		pgtls_row_null(row);
		pgtls_row_message(row, item->problem);
		pgtls_worker_send(row);
		return;
	}
	if (!pgtls_crl_read(item->crl, &info))
		pgtls_error_out_of_memory();
	pgtls_row_text(row, info.issuer);
	pgtls_row_numeric(row, info.number);
	pgtls_row_time(row, info.this_update);
	pgtls_row_time(row, info.next_update);
	pgtls_row_bigint(row, info.revoked);
	pgtls_row_bool(row, info.delta);
	status = crl_status(in, item, &info);
	pgtls_row_text(row, status);
	pgtls_row_hex(row, item->digest.bytes, sizeof(Sha256));
	problem = item_problem(in, kind, item, advice);
	if (problem == NULL && strcmp(status, "bad_signature") == 0)
		problem = "is not signed by the CA that it names";
	pgtls_row_message(row, problem);
	pgtls_worker_send(row);
	pgtls_crl_free(&info);
}

/* A function that sends a row about an item. */
typedef void (*AnswerItem) (Row *row, const Inspection *in,
							FileKind kind, const FileItem *item,
							const Lookup *advice);

/* Send what is said of each of these items, with memory for one at a time. */
static void
answer_list(const Inspection *in, FileKind kind, List *items,
			bool certificates, bool loaded_only, const Lookup *advice)
{
	AnswerItem	answer = certificates ? answer_certificate : answer_crl;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_tls row",
												  ALLOCSET_DEFAULT_SIZES);
	ListCell   *lc;

	foreach(lc, items)
	{
		const FileItem *item = lfirst(lc);
		MemoryContext oldcontext;
		Row			row;

		if ((item->cert != NULL) != certificates ||
			(loaded_only && item->on_disk))
			continue;
		pgtls_worker_check();
		oldcontext = MemoryContextSwitchTo(context);
		pgtls_row_begin(&row);
		answer(&row, in, kind, item, advice);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

/* The certificates, or the CRLs: those on disk, and those that were. */
static void
answer_items(const Inspection *in, bool certificates)
{
	Lookup	   *advice = pgtls_lookup_create(sizeof(const void *));
	ListCell   *lc;

	foreach(lc, pgtls_advice_on_inspection(in))
		pgtls_lookup_add(advice, &((Advice *) lfirst(lc))->about, lfirst(lc));
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		answer_list(in, kind, in->files[kind].disk, certificates, false,
					advice);
		answer_list(in, kind, in->files[kind].loaded, certificates, true,
					advice);
	}
}

/* Main function of the worker. */
void
pgtls_contents_main(Datum arg)
{
	char		kind = pgtls_worker_begin(arg);

	answer_items(pgtls_inspect_files(), kind == ASK_CERTIFICATES);
	pgtls_worker_end();
}


/* ----------------------------------------------------------------
 *		Who asks
 * ----------------------------------------------------------------
 */

static Datum
ask_rows(FunctionCallInfo fcinfo, char kind)
{
	Question	question = {
		.name = "pg_tls files",
		.function = "pgtls_contents_main",
		.what = "a look at the TLS files",
		.kind = kind,
		.deadline = DT_NOEND
	};

	pgtls_preload_require();
	(void) pgtls_worker_ask_rows(fcinfo, &question);
	return (Datum) 0;
}

/*
 * pg_tls_certificates() returns SETOF record
 *
 * The view's rows.  Raises an error without preloading, or if no worker can be
 * started.
 */
Datum
pg_tls_certificates_1_0(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_CERTIFICATES);
}

/* pg_tls_crls() returns SETOF record: the view's rows */
Datum
pg_tls_crls_1_0(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_CRLS);
}

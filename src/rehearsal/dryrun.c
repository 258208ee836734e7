/*-------------------------------------------------------------------------
 *
 * dryrun.c
 *	  The dry run: what would a reload of the TLS files do?
 *
 * The server's own loader does it, in a background worker that was started
 * for this and ends with it: a process that was forked from the postmaster
 * and may read the configuration and load the files as the postmaster would,
 * with nobody noticing.  Its messages are collected instead of logged.
 *
 * Nothing that the loader checks is checked here.  What is added are
 * warnings: what a load accepts, and clients will not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/preload.h"
#include "base/row.h"
#include "base/worker.h"
#include "client/judge.h"
#include "rehearsal/advice.h"
#include "rehearsal/dryrun.h"
#include "server/crldir.h"
#include "server/load.h"
#include "x509/certificate.h"

bool		pgtls_dryrun_without_passphrase = false;
bool		pgtls_dryrun_needs_passphrase = false;
int			pgtls_dryrun_command_limit = 0;
volatile sig_atomic_t pgtls_dryrun_command_hung = false;

/* State of the worker. */
static SSL_CTX *new_context = NULL;
static openssl_tls_init_hook_typ next_tls_init = NULL;
static pem_password_cb *next_passphrase = NULL;
static bool reading_settings = false;
static List *messages = NIL;	/* of char *, in TopMemoryContext */
static List *config_errors = NIL;	/* those about the configuration file */

PG_FUNCTION_INFO_V1(pg_tls_check_1_0);
PG_FUNCTION_INFO_V1(pg_tls_check_sessions_1_0);

/* ----------------------------------------------------------------
 *		Worker: load
 * ----------------------------------------------------------------
 */

/* emit_log_hook: collect what would be logged, and keep it out of the log. */
static void
collect_message(ErrorData *edata)
{
	MemoryContext oldcontext;

	if (edata->elevel >= FATAL)
		return;					/* why the worker ends */
	edata->output_to_server = false;
	if (edata->message == NULL)
		return;

	/*
	 * A child of the postmaster reads the configuration in silence: what the
	 * postmaster would log comes at debug levels.  Its errors have a code.
	 */
	if (reading_settings ?
		edata->sqlerrcode == ERRCODE_SUCCESSFUL_COMPLETION ||
		edata->sqlerrcode == ERRCODE_CANT_CHANGE_RUNTIME_PARAM :
		edata->elevel < LOG)
		return;

	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	messages = lappend(messages, edata->detail != NULL ?
					   psprintf("%s (%s)", edata->message, edata->detail) :
					   pstrdup(edata->message));
	if (reading_settings &&
		edata->sqlerrcode != ERRCODE_CANT_CHANGE_RUNTIME_PARAM &&
		(edata->message_id == NULL ||
		 strstr(edata->message_id, "contains errors") == NULL)) /* says what */
		config_errors = lappend(config_errors, llast(messages));
	MemoryContextSwitchTo(oldcontext);
}

static int
refuse_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	pgtls_dryrun_needs_passphrase = true;
	return -1;
}

/* SIGALRM: the command for the passphrase takes too long. */
static void
end_command(SIGNAL_ARGS)
{
	int			save_errno = errno;

	pgtls_dryrun_command_hung = true;
	pgtls_worker_end_commands();
	errno = save_errno;
}

/* Ask whom the server would ask, which is a command that may hang. */
static int
ask_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	unsigned int limit;
	int			len;

	pgtls_worker_in_command = true;
	pqsignal(SIGALRM, end_command);
	limit = alarm(pgtls_dryrun_command_limit);	/* of the worker itself */
	len = next_passphrase(buf, size, rwflag, userdata);

	/* a signal ends the reading, but not yet what the command has started */
	if (pgtls_worker_stop || pgtls_dryrun_command_hung)
		pgtls_worker_kill_commands();
	else
	{
		pgtls_worker_catch(SIGALRM, pgtls_worker_terminate);
		alarm(limit);
		pgtls_worker_in_command = false;
	}
	return len;
}

/* openssl_tls_init_hook: take the context that is being loaded. */
static void
take_context(SSL_CTX *context, bool isServerStart)
{
	next_tls_init(context, isServerStart);
	next_passphrase = SSL_CTX_get_default_passwd_cb(context);
	if (pgtls_dryrun_without_passphrase)
		SSL_CTX_set_default_passwd_cb(context, refuse_passphrase);
	else if (next_passphrase != NULL)
		SSL_CTX_set_default_passwd_cb(context, ask_passphrase);
	new_context = context;
}

/* All messages so far in one, and none any more; NULL if there were none. */
static char *
take_messages(void)
{
	StringInfoData buf;
	ListCell   *lc;

	if (messages == NIL)
		return NULL;
	initStringInfo(&buf);
	foreach(lc, messages)
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? "; " : "",
						 (char *) lfirst(lc));
	messages = NIL;
	return buf.data;
}

/*
 * Opening a FIFO waits for somebody to write to it, and would stop the
 * postmaster as it would stop this worker.
 */
static char *
find_unreadable_type(void)
{
	const char *files[PGTLS_LOADED_FILES];

	pgtls_load_get_files(files);
	for (int i = 0; i < PGTLS_LOADED_FILES; i++)
	{
		struct stat st;

		if (files[i] != NULL && files[i][0] != '\0' &&
			stat(files[i], &st) == 0 && !S_ISREG(st.st_mode) &&
			!S_ISDIR(st.st_mode))
			return psprintf("file \"%s\" is not a regular file, and the server might wait forever for its contents",
							files[i]);
	}
	return NULL;
}

/* Read the configuration, and load the files. */
static void
load(bool load_files, CheckResult *result)
{
	bool		failed;

	/* nothing is left of a dry run before, if there was one */
	memset(result, 0, sizeof(*result));
	new_context = NULL;
	messages = NIL;
	config_errors = NIL;
	pgtls_dryrun_needs_passphrase = false;
	pgtls_dryrun_command_hung = false;

	reading_settings = true;
	ProcessConfigFile(PGC_SIGHUP);
	reading_settings = false;
	result->warnings = messages;
	result->config_errors = list_copy(config_errors);
	messages = NIL;

	result->ok = true;
	result->ssl = EnableSSL;
	if (!EnableSSL || !load_files)
		return;

	result->error = find_unreadable_type();
	if (result->error != NULL)
	{
		result->ok = false;
		return;
	}

	next_tls_init = openssl_tls_init_hook;
	openssl_tls_init_hook = take_context;
	failed = be_tls_init(false) != 0;
	openssl_tls_init_hook = next_tls_init;
	if (failed)
	{
		result->ok = false;
		new_context = NULL;
		result->error = take_messages();
		if (pgtls_dryrun_command_hung)
			result->error =
				psprintf("the command of \"ssl_passphrase_command\" has not ended within %d s",
						 pgtls_dryrun_command_limit);
		if (result->error == NULL)
			result->error = "the server gave no reason";
	}
	else
		result->warnings = list_concat(result->warnings, messages);
}

/* ----------------------------------------------------------------
 *		Worker: warnings
 * ----------------------------------------------------------------
 */

#define warn(result, ...) \
	((result)->warnings = lappend((result)->warnings, psprintf(__VA_ARGS__)))

/* What a load accepts, and clients will not. */
static void
add_warnings(CheckResult *result)
{
	char		dir[MAXPGPATH];
	const char *rest = NULL;
	ListCell   *lc;

	result->advice = pgtls_advice_on_loaded(new_context, false, ssl_crl_dir);
	foreach(lc, result->advice)
		warn(result, "%s", ((Advice *) lfirst(lc))->text);
	result->advice = list_concat(result->advice,
								 pgtls_advice_on_strength(new_context, false));

	if ((ssl_crl_file[0] != '\0' || ssl_crl_dir[0] != '\0') &&
		ssl_ca_file[0] == '\0')
		warn(result,
			 "CRLs are configured, but no \"ssl_ca_file\": no client certificate is asked for");
	while (pgtls_crldir_next(ssl_crl_dir, &rest, dir, sizeof(dir)))
	{
		struct stat st;

		if (stat(dir, &st) != 0)
			warn(result,
				 "could not access directory \"%s\" of \"ssl_crl_dir\": %s",
				 dir, strerror(errno));
		else if (!S_ISDIR(st.st_mode))
			warn(result, "\"%s\" of \"ssl_crl_dir\" is not a directory", dir);
	}
}

/* ----------------------------------------------------------------
 *		Worker: main
 * ----------------------------------------------------------------
 */

/*
 * Rows of the answer have as their first column what they are about.  Send
 * that of a session that the new context refuses.  "arg" is a memory context
 * for its values.
 */
static void
send_refused(const SessionKey *key, const Verdict *verdict, void *arg)
{
	MemoryContext context = arg;
	MemoryContext oldcontext;
	X509	   *leaf;
	X509Stack  *sent;
	CertInfo	info;
	bool		has_info;
	Row			row;

	if (!pgtls_verdict_refused(verdict) ||
		!pgtls_slot_read_chain(key, &leaf, &sent))
		return;
	has_info = pgtls_certificate_read(leaf, &info);
	oldcontext = MemoryContextSwitchTo(context);
	pgtls_row_begin(&row);
	pgtls_row_text(&row, "session");
	pgtls_row_int(&row, key->pid);
	pgtls_row_text(&row, has_info ? info.subject : NULL);
	pgtls_row_numeric(&row, has_info ? info.serial : NULL);
	pgtls_row_hex(&row, has_info ? info.fingerprint : NULL, PGTLS_SHA256_LEN);
	pgtls_row_text(&row, pgtls_verdict_chain_status(verdict));
	pgtls_row_text(&row, X509_verify_cert_error_string(verdict->error));
	pgtls_row_int(&row, verdict->depth);
	pgtls_row_text(&row, pgtls_verdict_crl_status(verdict));
	pgtls_worker_send(&row);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(context);
	if (has_info)
		pgtls_certificate_free(&info);
	X509_free(leaf);
	sk_X509_pop_free(sent, X509_free);
}

static void
send_result(const CheckResult *result)
{
	ListCell   *lc;
	Row			row;

	pgtls_row_begin(&row);
	pgtls_row_text(&row, "result");
	pgtls_row_bool(&row, result->ok);
	pgtls_row_bool(&row, result->ssl);
	pgtls_row_message(&row, result->error);
	pgtls_worker_send(&row);
	foreach(lc, result->warnings)
	{
		pgtls_row_begin(&row);
		pgtls_row_text(&row, "warning");
		pgtls_row_message(&row, lfirst(lc));
		pgtls_worker_send(&row);
	}
}

/*
 * Make the dry run in this process, which has to end soon after: a worker.
 */
void
pgtls_dryrun_make(CheckDepth depth, CheckResult *result)
{
	emit_log_hook_type next_emit_log = emit_log_hook;
	char	   *log_level =
		pstrdup(GetConfigOption("log_min_messages", false, false));

	emit_log_hook = collect_message;
	SetConfigOption("log_min_messages", "debug3", PGC_SUSET, PGC_S_OVERRIDE);
	load(depth != CHECK_SETTINGS, result);
	SetConfigOption("log_min_messages", log_level, PGC_SUSET, PGC_S_OVERRIDE);
	emit_log_hook = next_emit_log;
	if (new_context == NULL || pgtls_worker_stop)
		return;
	add_warnings(result);
}

/* Main function of the worker. */
void
pgtls_dryrun_main(Datum arg)
{
	CheckDepth	depth = (CheckDepth) pgtls_worker_begin(arg);
	CheckResult result;

	pgtls_dryrun_make(depth, &result);
	send_result(&result);
	if (depth == CHECK_SESSIONS && new_context != NULL &&
		ssl_ca_file[0] != '\0')
	{
		pgtls_adopt_ciphers(new_context, pgtls_cipher_list);
		pgtls_judge_sessions(new_context, 0, 0, JUDGE_ALL, send_refused,
							 AllocSetContextCreate(CurrentMemoryContext,
												   "pg_tls row",
												   ALLOCSET_DEFAULT_SIZES));
	}
	pgtls_worker_end();
}

/* ----------------------------------------------------------------
 *		Caller
 * ----------------------------------------------------------------
 */

/* A caller, and where the sessions go. */
typedef struct CheckCaller
{
	CheckResult *result;
	ReturnSetInfo *rsinfo;		/* NULL without sessions */
} CheckCaller;

static void
take_row(Row *row, void *arg)
{
	CheckCaller *caller = arg;
	const char *about = pgtls_row_get_text(row, 0);

	if (strcmp(about, "result") == 0)
	{
		caller->result->ok = pgtls_row_get_bool(row, 1);
		caller->result->ssl = pgtls_row_get_bool(row, 2);
		caller->result->error = pgtls_row_get_text(row, 3);
	}
	else if (strcmp(about, "warning") == 0)
		caller->result->warnings =
			lappend(caller->result->warnings, pgtls_row_get_text(row, 1));
	else
	{
		MemoryContext context = pgtls_row_begin_rows();
		Row			session;

		pgtls_row_begin(&session);
		for (int i = 1; i < row->natts; i++)
			pgtls_row_copy(&session, row, i);
		pgtls_row_convert(&session);
		pgtls_row_store(&session, caller->rsinfo);
		pgtls_row_end_rows(context);
	}
}

static void
run_check(CheckDepth depth, TimestampTz deadline, CheckCaller *caller)
{
	Question	question = {
		.name = "pg_tls check",
		.function = "pgtls_dryrun_main",
		.what = "the dry run of the TLS configuration",
		.kind = (char) depth,
		.deadline = deadline
	};

	memset(caller->result, 0, sizeof(*caller->result));
	(void) pgtls_worker_ask(&question, take_row, caller);
}

/*
 * Have a dry run made.  Raises an error if none could be made, or if the
 * deadline passes (DT_NOEND for none); what is wrong with the files is no
 * error.
 */
void
pgtls_dryrun_run(TimestampTz deadline, CheckResult *result)
{
	CheckCaller caller = {result, NULL};

	run_check(CHECK_FILES, deadline, &caller);
}

/*
 * pg_tls_check() returns record (ok boolean, error text, warnings text[])
 *
 * Raises an error without preloading, or if no worker can be started.
 */
Datum
pg_tls_check_1_0(PG_FUNCTION_ARGS)
{
	CheckResult result;
	Row			row;

	pgtls_preload_require();
	pgtls_dryrun_run(DT_NOEND, &result);

	if (result.ok && !result.ssl)
		result.warnings =
			lcons("\"ssl\" is off: after a reload the server would not offer TLS",
				  result.warnings);
	pgtls_row_begin(&row);
	pgtls_row_bool(&row, result.ok);
	pgtls_row_message(&row, result.error);
	pgtls_row_messages(&row, result.warnings);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

/*
 * pg_tls_check_sessions() returns SETOF record
 *
 * Raises an error if the files could not be loaded, without preloading, or if
 * no worker can be started.
 */
Datum
pg_tls_check_sessions_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CheckResult result;
	CheckCaller caller = {&result, rsinfo};

	pgtls_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	run_check(CHECK_SESSIONS, DT_NOEND, &caller);
	if (!result.ok)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the server could not load its TLS files"),
				 errdetail("%s", pgtls_row_clean(result.error)),
				 errhint("Until this is mended, a reload leaves the old files in force.")));
	return (Datum) 0;
}

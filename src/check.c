/*-------------------------------------------------------------------------
 *
 * check.c
 *	  The dry run: what would a reload of the TLS files do?
 *
 * The server's own loader does it, in a background worker that was started
 * for this and ends with it: a process that was forked from the postmaster
 * and may read the configuration and load the files as the postmaster would,
 * with nobody noticing.  Its messages are collected instead of logged, and
 * what they and the new context tell goes to the caller through a queue in
 * dynamic shared memory.
 *
 * Nothing that the loader checks is checked here.  What is added are
 * warnings: what a load accepts, and clients will not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/stat.h>
#include <openssl/x509v3.h>

#include "libpq/libpq.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/postmaster.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shm_mq.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "check.h"
#include "certificate.h"
#include "compat.h"
#include "judge.h"
#include "monitor.h"
#include "ossl.h"
#include "pg_tls.h"
#include "row.h"

#define QUEUE_SIZE	((Size) 16 * 1024)

/* So long a caller waits for a free worker slot. */
#define START_LIMIT	(5 * USECS_PER_SEC)

int			pgtls_expiry_warning;

/* State of the worker. */
static volatile sig_atomic_t terminated = false;
static SSL_CTX *new_context = NULL;
static openssl_tls_init_hook_typ next_tls_init = NULL;
static bool reading_settings = false;
static List *messages = NIL;	/* of char *, in TopMemoryContext */

PG_FUNCTION_INFO_V1(pg_tls_check);
PG_FUNCTION_INFO_V1(pg_tls_check_sessions);

void
pgtls_check_define_settings(void)
{
	DefineCustomIntVariable("pg_tls.expiry_warning",
							"Sets how long before its end a certificate or CRL is warned of.",
							"A CRL is warned of in the last third of its life at the earliest.",
							&pgtls_expiry_warning,
							30 * MINS_PER_HOUR * HOURS_PER_DAY,
							0,
							INT_MAX / SECS_PER_MINUTE,
							PGC_SIGHUP,
							GUC_UNIT_MIN,
							NULL, NULL, NULL);
}


/* ----------------------------------------------------------------
 *		Worker: load
 * ----------------------------------------------------------------
 */

/*
 * SIGTERM: the caller does not want to know any more.  The worker is the
 * leader of its process group, and may be waiting for the passphrase command,
 * so that has to end, too.
 */
static void
terminate(int signo)
{
	int			save_errno = errno;

	if (!terminated)
	{
		terminated = true;
		pgtls_judge_stop = true;
		kill(0, SIGTERM);
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* emit_log_hook: collect what would be logged, and keep it out of the log. */
static void
collect_message(ErrorData *edata)
{
	MemoryContext oldcontext;

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
	MemoryContextSwitchTo(oldcontext);
}

/* openssl_tls_init_hook: take the context that is being loaded. */
static void
take_context(SSL_CTX *context, bool isServerStart)
{
	next_tls_init(context, isServerStart);
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
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? "; " : "", (char *) lfirst(lc));
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
	const char *const files[] = {
		ssl_cert_file, ssl_key_file, ssl_ca_file, ssl_crl_file, ssl_dh_params_file
	};

	for (int i = 0; i < (int) lengthof(files); i++)
	{
		struct stat st;

		if (files[i] != NULL && files[i][0] != '\0' && stat(files[i], &st) == 0 &&
			!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
			return psprintf("file \"%s\" is not a regular file, and the server might wait forever for its contents",
							files[i]);
	}
	return NULL;
}

/* The dry run itself.  Everything is left to the end of the process. */
static void
load(CheckResult *result)
{
	memset(result, 0, sizeof(*result));

	emit_log_hook = collect_message;
	SetConfigOption("log_min_messages", "debug3", PGC_SUSET, PGC_S_OVERRIDE);
	reading_settings = true;
	ProcessConfigFile(PGC_SIGHUP);
	reading_settings = false;
	result->warnings = messages;
	messages = NIL;

	result->ok = true;
	result->ssl = EnableSSL;
	if (!EnableSSL)
		return;

	result->error = find_unreadable_type();
	if (result->error != NULL)
	{
		result->ok = false;
		return;
	}

	next_tls_init = openssl_tls_init_hook;
	openssl_tls_init_hook = take_context;
	if (be_tls_init(false) != 0)
	{
		result->ok = false;
		new_context = NULL;
		result->error = take_messages();
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

/* A name for messages; valid UTF-8 without control characters. */
static char *
dn_text(const X509_NAME *name)
{
	char	   *text = pgtls_certificate_name(name);
	char	   *result = pstrdup(text != NULL && text[0] != '\0' ? text : "(empty name)");

	OPENSSL_free(text);
	return result;
}

/* Where something stands that is valid from and until given moments. */
typedef enum Validity
{
	VALID,
	ENDS_SOON,
	ENDED,
	NOT_YET
} Validity;

static Validity
validity(TimestampTz from, TimestampTz until, TimestampTz now, bool is_crl)
{
	TimestampTz notice = (TimestampTz) pgtls_expiry_warning * USECS_PER_MINUTE;

	if (until == PGTLS_NO_TIME)
		until = DT_NOEND;		/* a CRL need not have an end */
	if (is_crl && until != DT_NOEND && from != PGTLS_NO_TIME)
		notice = Min(notice, (until - from) / 3);
	if (until <= now)
		return ENDED;
	if (from > now)
		return NOT_YET;
	return until - now < notice ? ENDS_SOON : VALID;
}

/* "what" is a noun phrase, "consequence" completes the sentence for an end. */
static void
warn_validity(CheckResult *result, const char *what, TimestampTz from,
			  TimestampTz until, TimestampTz now, bool is_crl,
			  const char *consequence)
{
	switch (validity(from, until, now, is_crl))
	{
		case VALID:
			break;
		case ENDS_SOON:
			warn(result, "%s ends at %s", what, timestamptz_to_str(until));
			break;
		case ENDED:
			warn(result, "%s ended at %s: %s", what, timestamptz_to_str(until), consequence);
			break;
		case NOT_YET:
			warn(result, "%s is not valid before %s: %s", what,
				 timestamptz_to_str(from), consequence);
			break;
	}
}

static void
warn_certificate(CheckResult *result, const char *what, X509 *cert, TimestampTz now,
				 const char *consequence)
{
	warn_validity(result, psprintf("%s \"%s\"", what, dn_text(X509_get_subject_name(cert))),
				  pgtls_ossl_time(X509_get0_notBefore(cert)),
				  pgtls_ossl_time(X509_get0_notAfter(cert)),
				  now, false, consequence);
}

/* A certificate of the store by its subject, NULL if there is none. */
static X509 *
find_issuer(STACK_OF(X509_OBJECT) *objects, X509 *cert)
{
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509	   *candidate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (candidate != NULL && X509_check_issued(candidate, cert) == X509_V_OK)
			return candidate;
	}
	return NULL;
}

static bool
is_self_signed(X509 *cert)
{
	return X509_check_issued(cert, cert) == X509_V_OK;
}

/* The certificates that the server sends. */
static void
warn_server_chain(CheckResult *result, SSL_CTX *ctx, STACK_OF(X509_OBJECT) *objects,
				  TimestampTz now)
{
	X509	   *cert = SSL_CTX_get0_certificate(ctx);
	STACK_OF(X509) *chain = NULL;
	int			n;

	if (cert == NULL)
		return;
	warn_certificate(result, "server certificate", cert, now,
					 "clients that verify it cannot connect");
	if (X509_check_purpose(cert, X509_PURPOSE_SSL_SERVER, 0) != 1)
		warn(result, "server certificate \"%s\" is not meant for servers: clients that verify it cannot connect",
			 dn_text(X509_get_subject_name(cert)));

	SSL_CTX_get0_chain_certs(ctx, &chain);
	n = chain != NULL ? sk_X509_num(chain) : 0;
	for (int i = 0; i < n; i++)
	{
		X509	   *issuer = sk_X509_value(chain, i);

		if (X509_check_issued(issuer, cert) != X509_V_OK)
		{
			warn(result, "certificate %d in \"%s\" is not the issuer of the one before it",
				 i + 2, ssl_cert_file);
			return;
		}
		warn_certificate(result, "intermediate certificate", issuer, now,
						 "clients that verify the server cannot connect");
		cert = issuer;
	}

	/*
	 * The root may be left out, as clients have it.  Whether the issuer that
	 * is left out is a root is known where it is in ssl_ca_file.  A file with
	 * one certificate is completed from there by OpenSSL.
	 */
	if (n > 0 && !is_self_signed(cert))
	{
		X509	   *issuer = find_issuer(objects, cert);

		if (issuer != NULL && !is_self_signed(issuer))
			warn(result, "the chain in \"%s\" is not complete: it lacks \"%s\", which is no root",
				 ssl_cert_file, dn_text(X509_get_subject_name(issuer)));
	}
}

/* The CA certificates and CRLs by which clients are judged. */
static void
warn_store(CheckResult *result, X509_STORE *store, STACK_OF(X509_OBJECT) *objects,
		   TimestampTz now)
{
	X509_STORE_CTX *lookup = X509_STORE_CTX_new();
	bool		use_crls = ssl_crl_file[0] != '\0' || ssl_crl_dir[0] != '\0';

	if (use_crls && ssl_ca_file[0] == '\0')
		warn(result, "CRLs are configured, but no \"ssl_ca_file\": no client certificate is asked for");
	if (ssl_crl_dir[0] != '\0')
	{
		struct stat st;

		if (stat(ssl_crl_dir, &st) != 0)
			warn(result, "could not access directory \"%s\" of \"ssl_crl_dir\": %s", ssl_crl_dir,
				 strerror(errno));
		else if (!S_ISDIR(st.st_mode))
			warn(result, "\"%s\" of \"ssl_crl_dir\" is not a directory", ssl_crl_dir);
	}
	if (lookup == NULL || !X509_STORE_CTX_init(lookup, store, NULL, NULL))
		use_crls = false;

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		X509	   *ca = X509_OBJECT_get0_X509(object);
		X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(object);

		if (ca != NULL)
		{
			STACK_OF(X509_CRL) *crls = NULL;

			warn_certificate(result, "CA certificate", ca, now,
							 "clients with certificates of this CA cannot connect");
			if (use_crls)
				crls = X509_STORE_CTX_get1_crls(lookup, X509_get_subject_name(ca));
			if (use_crls && (crls == NULL || sk_X509_CRL_num(crls) == 0))
				warn(result, "CRLs are configured, but none of CA \"%s\": clients with certificates of this CA cannot connect",
					 dn_text(X509_get_subject_name(ca)));
			sk_X509_CRL_pop_free(crls, X509_CRL_free);
		}
		else if (crl != NULL)
		{
			char	   *issuer = dn_text(X509_CRL_get_issuer(crl));

			warn_validity(result, psprintf("CRL of \"%s\"", issuer),
						  pgtls_ossl_time(X509_CRL_get0_lastUpdate(crl)),
						  pgtls_ossl_time(X509_CRL_get0_nextUpdate(crl)),
						  now, true,
						  "clients with certificates of this CA cannot connect");
			if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
				warn(result, "CRL of \"%s\" is a delta CRL, which the server does not support",
					 issuer);
		}
	}
	X509_STORE_CTX_free(lookup);
	ERR_clear_error();
}

static void
add_warnings(CheckResult *result)
{
	X509_STORE *store = SSL_CTX_get_cert_store(new_context);
	STACK_OF(X509_OBJECT) *objects = pgtls_ossl_store_objects(store);
	TimestampTz now = GetCurrentTimestamp();

	if (objects == NULL)
		return;
	warn_server_chain(result, new_context, objects, now);
	warn_store(result, store, objects, now);
	pgtls_ossl_store_objects_free(objects);
	ERR_clear_error();
}


/* ----------------------------------------------------------------
 *		Worker: main
 * ----------------------------------------------------------------
 */

/* Keep a session that the new context refuses. */
static void
collect_refused(const SessionKey *key, const Verdict *verdict, void *arg)
{
	CheckResult *result = arg;
	CheckedSession *session;
	X509	   *leaf;
	STACK_OF(X509) *sent;
	CertInfo	info;

	if (!pgtls_verify_refused(verdict) || !pgtls_session_read_chain(key, &leaf, &sent))
		return;
	session = palloc0(sizeof(CheckedSession));
	session->pid = key->pid;
	session->chain_status = unconstify(char *, pgtls_verify_chain_status(verdict));
	session->chain_error = pgtls_session_error(verdict);
	session->crl_status = unconstify(char *, pgtls_verify_crl_status(verdict));
	if (pgtls_certificate_read(leaf, &info))
	{
		session->client_dn = info.subject;
		session->client_serial = info.serial;
		session->client_fingerprint = palloc(2 * PGTLS_SHA256_LEN + 1);
		for (int i = 0; i < PGTLS_SHA256_LEN; i++)
			sprintf(session->client_fingerprint + 2 * i, "%02x", info.fingerprint[i]);
	}
	X509_free(leaf);
	sk_X509_pop_free(sent, X509_free);
	result->sessions = lappend(result->sessions, session);
}

/*
 * The result goes as one message of strings with terminators: "ok", "ssl",
 * the error, the number of warnings, the warnings, and seven for each session.
 */
static void
put_string(StringInfo buf, const char *string)
{
	appendBinaryStringInfo(buf, string != NULL ? string : "",
						   (string != NULL ? strlen(string) : 0) + 1);
}

static void
send_result(shm_mq_handle *queue, const CheckResult *result)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	put_string(&buf, result->ok ? "t" : "f");
	put_string(&buf, result->ssl ? "t" : "f");
	put_string(&buf, result->error);
	put_string(&buf, psprintf("%d", list_length(result->warnings)));
	foreach(lc, result->warnings)
		put_string(&buf, lfirst(lc));
	foreach(lc, result->sessions)
	{
		const CheckedSession *session = lfirst(lc);

		put_string(&buf, psprintf("%d", session->pid));
		put_string(&buf, session->client_dn);
		put_string(&buf, session->client_serial);
		put_string(&buf, session->client_fingerprint);
		put_string(&buf, session->chain_status);
		put_string(&buf, session->chain_error);
		put_string(&buf, session->crl_status);
	}
	(void) pgtls_shm_mq_send(queue, buf.len, buf.data);
}

/*
 * Main function of the worker; the argument is the handle of a segment that
 * is a queue.  Always exits with 0: neither the postmaster nor the log needs
 * to hear of it.
 */
void
pgtls_check_main(Datum arg)
{
	dsm_segment *segment;
	shm_mq	   *queue;
	shm_mq_handle *handle;
	bool		sessions;
	CheckResult result;

	pgtls_monitor_catch_sigterm(terminate);
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(TopMemoryContext);

	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the caller has gone */
	sessions = MyBgworkerEntry->bgw_extra[0] != '\0';
	queue = dsm_segment_address(segment);
	shm_mq_set_sender(queue, MyProc);
	handle = shm_mq_attach(queue, segment, NULL);

	load(&result);
	if (new_context != NULL && !terminated)
		add_warnings(&result);
	if (new_context != NULL)
		pgtls_adopt_security_level(new_context, pgtls_cipher_list);
	if (sessions && new_context != NULL && ssl_ca_file[0] != '\0' && !terminated)
		pgtls_judge_sessions(new_context, 0, 0, JUDGE_ALL, collect_refused, &result);
	if (!terminated)
		send_result(handle, &result);
	proc_exit(0);
}


/* ----------------------------------------------------------------
 *		Caller
 * ----------------------------------------------------------------
 */

/* The next string of the message. */
static char *
next_string(char **position, const char *end)
{
	char	   *result = *position;
	char	   *terminator = memchr(result, '\0', end - result);

	if (terminator == NULL)
		elog(ERROR, "invalid message from the dry run");
	*position = terminator + 1;
	return result;
}

static void
receive_result(shm_mq_handle *queue, TimestampTz deadline, CheckResult *result)
{
	Size		size;
	void	   *data;
	char	   *copy;
	char	   *position;
	char	   *end;

	for (;;)
	{
		shm_mq_result status = shm_mq_receive(queue, &size, &data, true);

		if (status == SHM_MQ_SUCCESS)
			break;
		if (status == SHM_MQ_DETACHED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the dry run of the TLS configuration ended without a result"),
					 errhint("Try again.")));
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("timed out in the dry run of the TLS configuration"),
					 errdetail("Nothing was changed.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	copy = palloc(size);
	memcpy(copy, data, size);
	position = copy;
	end = copy + size;
	memset(result, 0, sizeof(*result));
	result->ok = next_string(&position, end)[0] == 't';
	result->ssl = next_string(&position, end)[0] == 't';
	result->error = next_string(&position, end);
	for (int n = atoi(next_string(&position, end)); n > 0; n--)
		result->warnings = lappend(result->warnings, next_string(&position, end));
	while (position < end)
	{
		CheckedSession *session = palloc(sizeof(CheckedSession));

		session->pid = atoi(next_string(&position, end));
		session->client_dn = next_string(&position, end);
		session->client_serial = next_string(&position, end);
		session->client_fingerprint = next_string(&position, end);
		session->chain_status = next_string(&position, end);
		session->chain_error = next_string(&position, end);
		session->crl_status = next_string(&position, end);
		result->sessions = lappend(result->sessions, session);
	}
}

static void
abandon_worker(int code, Datum arg)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(arg));
}

/*
 * Start the worker.  If others have all the slots, wait a while: they may be
 * dry runs like this one.
 */
static void
start_worker(BackgroundWorker *worker, TimestampTz deadline,
			 BackgroundWorkerHandle **worker_handle)
{
	deadline = Min(deadline, GetCurrentTimestamp() + START_LIMIT);
	while (!RegisterDynamicBackgroundWorker(worker, worker_handle))
	{
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not start a background worker for the dry run"),
					 errhint("All worker slots are in use. Try again, or increase \"max_worker_processes\".")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 50, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
pgtls_check_run(bool sessions, TimestampTz deadline, CheckResult *result)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *worker_handle;
	dsm_segment *segment;
	shm_mq	   *queue;
	shm_mq_handle *queue_handle;

	segment = dsm_create(QUEUE_SIZE, 0);
	queue = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	shm_mq_set_receiver(queue, MyProc);

	pgtls_monitor_worker(&worker, "pg_tls check", "pgtls_check_main");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_extra[0] = sessions;
	worker.bgw_notify_pid = MyProcPid;
	start_worker(&worker, deadline, &worker_handle);

	/* a session that is ended has to clean up, too, hence no PG_CATCH */
	PG_ENSURE_ERROR_CLEANUP(abandon_worker, PointerGetDatum(worker_handle));
	{
		queue_handle = shm_mq_attach(queue, segment, worker_handle);
		receive_result(queue_handle, deadline, result);
		/* so that its slot is free when the next one is wanted */
		(void) WaitForBackgroundWorkerShutdown(worker_handle);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_worker, PointerGetDatum(worker_handle));
	dsm_detach(segment);
}

/*
 * pg_tls_check() returns record (ok boolean, error text, warnings text[])
 *
 * Raises an error without preloading, or if no worker can be started.
 */
Datum
pg_tls_check(PG_FUNCTION_ARGS)
{
	CheckResult result;
	Row			row;

	pgtls_require_preload();
	pgtls_check_run(false, DT_NOEND, &result);

	if (result.ok && !result.ssl)
		result.warnings = lcons("\"ssl\" is off: after a reload the server would not offer TLS",
								result.warnings);
	pgtls_row_begin(&row);
	pgtls_row_bool(&row, result.ok);
	if (result.ok)
		pgtls_row_null(&row);
	else
		pgtls_row_message(&row, result.error);
	pgtls_row_messages(&row, result.warnings);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

static void
add_text(Row *row, const char *utf8)
{
	pgtls_row_text(row, utf8[0] != '\0' ? utf8 : NULL);
}

/*
 * pg_tls_check_sessions() returns SETOF record
 *
 * Raises an error if the files could not be loaded, without preloading, or if
 * no worker can be started.
 */
Datum
pg_tls_check_sessions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CheckResult result;
	ListCell   *lc;

	pgtls_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	pgtls_check_run(true, DT_NOEND, &result);
	if (!result.ok)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the server could not load its TLS files"),
				 errdetail("%s", pgtls_row_clean(result.error)),
				 errhint("Until this is mended, a reload leaves the old files in force.")));

	foreach(lc, result.sessions)
	{
		const CheckedSession *session = lfirst(lc);
		Row			row;

		pgtls_row_begin(&row);
		pgtls_row_int(&row, session->pid);
		add_text(&row, session->client_dn);
		pgtls_row_numeric(&row, session->client_serial[0] != '\0' ? session->client_serial : NULL);
		add_text(&row, session->client_fingerprint);
		add_text(&row, session->chain_status);
		add_text(&row, session->chain_error);
		add_text(&row, session->crl_status);
		pgtls_row_store(&row, rsinfo);
	}
	return (Datum) 0;
}

/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  The hooks of PostgreSQL that pg_tls uses.
 *
 * There is one function for each hook, and nothing else in pg_tls installs
 * one, but for a dry run, which puts itself in front in its own worker
 * (rehearsal/dryrun.c).  Each calls the rooms in an order that matters, and
 * that is said there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>

#include "libpq/auth.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"

#include "base/compat.h"
#include "base/ossl.h"
#include "base/wake.h"
#include "client/failure.h"
#include "client/session.h"
#include "hooks.h"
#include "server/crlchange.h"
#include "server/load.h"
#include "x509/verify.h"

static emit_log_hook_type prev_emit_log = NULL;
static ClientAuthentication_hook_type prev_client_authentication = NULL;
static openssl_tls_init_hook_typ prev_tls_init = NULL;

/*
 * openssl_tls_init_hook: the server's loader begins to fill a context, in the
 * postmaster, or in a worker that makes a dry run.
 */
static void
tls_init(SSL_CTX *context, bool isServerStart)
{
	/* core's default, which sets up the passphrase callback, or another's */
	prev_tls_init(context, isServerStart);

	if (MyProcPid == PostmasterPid)
		pgtls_load_begins(context, isServerStart);
	pgtls_verify_watch_store(SSL_CTX_get_cert_store(context));
	ERR_clear_error();
}

/*
 * Have the hook installed while ssl_sni is off, and only then.  If somebody
 * has installed another one since, ours stays below it.
 */
static void
adapt_to_sni(void)
{
	if (pgtls_sni_is_on())
	{
		if (openssl_tls_init_hook == tls_init)
			openssl_tls_init_hook = prev_tls_init;
	}
	else if (openssl_tls_init_hook == prev_tls_init)
		openssl_tls_init_hook = tls_init;
}

/*
 * emit_log_hook: in any process, also before authentication.
 *
 * The postmaster logs the change of a setting when it has made it and before it
 * loads the TLS files, which is when ssl_sni is heeded.  Where the log leaves
 * that out, it leaves out warnings, too.
 */
static void
log_message(ErrorData *edata)
{
	if (MyProcPid == PostmasterPid)
		pgtls_load_note_message(edata);
	else
	{
		pgtls_failure_note_message(edata);
		pgtls_session_explain_end(edata);
	}
	if (prev_emit_log)
		prev_emit_log(edata);
	if (MyProcPid == PostmasterPid)
		adapt_to_sni();
}

/*
 * ClientAuthentication_hook: all that a login does.  Before this, in the
 * handshake, OpenSSL has called note_crl() and note_end() (x509/verify.c).
 */
static void
client_authenticated(Port *port, int status)
{
	SessionInfo info;

	if (prev_client_authentication)
		prev_client_authentication(port, status);
	if (status != STATUS_OK)
		return;

	/* enforce, which may refuse the client, and count */
	pgtls_failure_require_encryption(port);
	pgtls_failure_count_accepted(port);
	if (pgtls_slot_mine() == NULL)
		return;

	/* describe the session, and publish it */
	pgtls_session_register();
	pgtls_session_describe(port, &info);
	pgtls_slot_write(pgtls_slot_mine(), &info);

	/* who judges sessions may have come too early for this one */
	if (pgtls_session_is_outdated(&info))
		pgtls_wake_monitor();
}

/* pthread_atfork: the postmaster, and others, are about to fork. */
static void
before_fork(void)
{
	if (MyProcPid != PostmasterPid)
		return;
	pgtls_load_before_fork();
	pgtls_crlchange_before_fork();
	pgtls_keep_loaded_tls();
}

/* From _PG_init() only. */
void
pgtls_hooks_install(void)
{
	prev_tls_init = openssl_tls_init_hook;
	adapt_to_sni();

	prev_emit_log = emit_log_hook;
	emit_log_hook = log_message;

	prev_client_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authenticated;

	pgtls_verify_on_handshake(pgtls_failure_note_verification);
	if (pthread_atfork(before_fork, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

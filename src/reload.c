/*-------------------------------------------------------------------------
 *
 * reload.c
 *	  Loads of the server's TLS files, and what came of them.
 *
 * The postmaster loads the TLS files at its start and whenever the
 * configuration is reloaded, each time into a new SSL_CTX, and keeps the old
 * one if anything is wrong (be_tls_init).  A hook tells that a load begins;
 * nothing tells how it ends.  But a context can carry a note that OpenSSL
 * hands back when it is freed, and be_tls_init frees
 *
 *	- the new context, if the load failed;
 *	- the old one, if the load succeeded;
 *	- none, if it succeeded and there was no old one.  But whatever the
 *	  postmaster does next, it does not do it before the load is over: at the
 *	  next load, or in a child forked since, an attempt that is still pending
 *	  has succeeded.
 *
 * be_tls_destroy, for "ssl" turned off, frees the loaded context with no
 * attempt pending.
 *
 * All of it happens in the postmaster, in its own memory; children inherit a
 * copy and only read it.  Nothing here takes a lock, allocates much, or
 * raises an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "ossl.h"
#include "reload.h"
#include "verify.h"

/*
 * State of the postmaster.  Attempts and generations count from one.  The
 * generation is the number of successful loads: every connection knows by it
 * which configuration its handshake used.
 */
static int64 attempts = 0;		/* loads begun */
static int64 pending = 0;		/* the attempt under way, 0 for none */
static int64 loaded = 0;		/* the attempt that is in force, 0 for none */
static int64 generation = 0;	/* loads that succeeded */

static openssl_tls_init_hook_typ prev_tls_init = NULL;

/* Where a context carries the number of its attempt. */
static int	attempt_index = -1;


/* The pending attempt has succeeded. */
static void
commit_pending(void)
{
	loaded = pending;
	pending = 0;
	generation++;
}

/* OpenSSL frees a context, be it ours or that of any other user of it. */
static void
context_freed(void *parent, void *value, CRYPTO_EX_DATA *ad, int index,
			  long argl, void *argp)
{
	int64		attempt = (int64) (intptr_t) value;

	if (attempt == 0 || MyProcPid != PostmasterPid)
		return;

	if (attempt == pending)
		pending = 0;			/* failed, and what was loaded stays */
	else if (attempt == loaded)
	{
		loaded = 0;				/* replaced, or TLS was turned off */
		if (pending != 0)
			commit_pending();
	}
}

/* openssl_tls_init_hook: a load begins. */
static void
tls_load_begins(SSL_CTX *context, bool isServerStart)
{
	/* core's default, which sets up the passphrase callback, or another's */
	prev_tls_init(context, isServerStart);

	if (MyProcPid != PostmasterPid)
		return;

	if (pending != 0)
		commit_pending();

	attempts++;
	if (attempt_index < 0)
		attempt_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, context_freed);
	if (attempt_index >= 0 &&
		SSL_CTX_set_ex_data(context, attempt_index, (void *) (intptr_t) attempts))
		pending = attempts;

	pgtls_verify_watch_store(SSL_CTX_get_cert_store(context));
	ERR_clear_error();
}

void
pgtls_reload_install_hooks(void)
{
	prev_tls_init = openssl_tls_init_hook;
	openssl_tls_init_hook = tls_load_begins;
}

/*
 * The generation of the TLS configuration that this process inherited, 0 if
 * none was loaded.  For children of the postmaster.
 */
int64
pgtls_reload_generation(void)
{
	return generation + (pending != 0 ? 1 : 0);
}

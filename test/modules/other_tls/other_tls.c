/*-------------------------------------------------------------------------
 *
 * other_tls.c
 *	  Another user of the TLS init hook, for tests: it supplies the passphrase
 *	  of the server's private key.
 *
 * With -DNO_CHAIN it forgets whoever had the hook before, as some modules do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/libpq-be.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

#ifndef NO_CHAIN
static openssl_tls_init_hook_typ prev_tls_init = NULL;
#endif

static int
passphrase(char *buf, int size, int rwflag, void *userdata)
{
	elog(LOG, "other_tls: passphrase asked for");
	return strlcpy(buf, "secret", size);
}

static void
tls_init(SSL_CTX *context, bool isServerStart)
{
#ifndef NO_CHAIN
	prev_tls_init(context, isServerStart);
#endif
	SSL_CTX_set_default_passwd_cb(context, passphrase);
}

void
_PG_init(void)
{
#ifndef NO_CHAIN
	prev_tls_init = openssl_tls_init_hook;
#endif
	openssl_tls_init_hook = tls_init;
}

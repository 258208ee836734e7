/*-------------------------------------------------------------------------
 *
 * verify.h
 *	  Verdicts: would the server accept this certificate?
 *
 * The one place where a verdict is reached.  It is reached by OpenSSL, with
 * the server's own trust store and flags; this file runs it in the way that
 * the server's handshakes run it, and puts the outcome into words.
 *
 * pgtls_verify_rfc5280() alone goes by other rules than the server's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_VERIFY_H
#define PGTLS_VERIFY_H

#include "x509/verdict.h"

/* Called at the end of the verification of a handshake, in its process. */
typedef void (*VerifyCallback) (X509_STORE_CTX *ctx);

extern void pgtls_verify_on_handshake(VerifyCallback callback);
extern void pgtls_verify_watch_store(X509_STORE *store);
extern void pgtls_verify_handshake(SSL *ssl, Verdict *verdict);
extern bool pgtls_verify_again(SSL *ssl, TimestampTz now, Verdict *verdict);
extern bool pgtls_verify_chain(SSL_CTX *ctx, X509 *leaf, X509Stack *sent,
							   TimestampTz now, Verdict *verdict);
extern bool pgtls_verify_rfc5280(X509 *leaf, X509Stack *sent,
								 X509Stack *trusted,
								 CrlStack *crls, TimestampTz at,
								 Verdict *verdict);
extern SSL_CTX *pgtls_verify_make_context(X509Stack *trusted,
										  CrlStack *crls);
extern bool pgtls_verify_checks_crls(X509_STORE *store);
extern TimestampTz pgtls_verify_next_change(X509_STORE *store, TimestampTz now);

#endif							/* PGTLS_VERIFY_H */

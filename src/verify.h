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

#include "datatype/timestamp.h"

#include "ossl.h"

/* What the chain is worth by itself, CRLs apart. */
typedef enum ChainStatus
{
	CHAIN_UNKNOWN,
	CHAIN_NOT_CHECKED,			/* the server has no CA to check it by */
	CHAIN_VALID,
	CHAIN_EXPIRED,
	CHAIN_NOT_YET_VALID,
	CHAIN_REVOKED,				/* valid by itself, but a CRL revokes it */
	CHAIN_UNTRUSTED,			/* leads to no CA that the server trusts */
	CHAIN_INVALID				/* anything else: signature, purpose, key ... */
} ChainStatus;

/* What the CRLs say of it.  Of several, the first of this order counts. */
typedef enum CrlStatus
{
	CRL_UNKNOWN,
	CRL_NOT_CHECKED,			/* the server has no CRL configured */
	CRL_REVOKED,
	CRL_INVALID,				/* bad signature, scope or contents */
	CRL_EXPIRED,				/* past its nextUpdate */
	CRL_MISSING,				/* no CRL of an issuer in the chain */
	CRL_GOOD
} CrlStatus;

/*
 * Verdict: would the server accept this certificate, sent with these
 * intermediates, at the moment checked_at?
 *
 * A verdict holds until the clock passes valid_until, if no file changes.
 * pgtls_verify_at() applies the clock.  Where nothing could be checked,
 * chain_status and crl_status are ..._NOT_CHECKED, and "acceptable" means
 * nothing.
 */
typedef struct Verdict
{
	bool		known;			/* false: nothing below is meaningful */
	bool		acceptable;
	ChainStatus chain_status;
	CrlStatus	crl_status;
	int			error;			/* X509_V_ERR_..., X509_V_OK if acceptable */
	int			depth;			/* where in the chain, 0 is the leaf */
	int			chain_length;	/* certificates in the chain, root included */
	int64		generation;		/* of the TLS configuration that it is by */
	uint32		crl_changes;	/* of ssl_crl_dir by then */
	TimestampTz checked_at;
	TimestampTz recheck_at;		/* when it may change by the clock; DT_NOEND
								 * for never */
	TimestampTz chain_until;	/* earliest notAfter of the chain; DT_NOBEGIN
								 * for not known */
	TimestampTz crl_until;		/* earliest nextUpdate of the CRLs that it was
								 * checked against; DT_NOEND for no CRL, or one
								 * without an end; DT_NOBEGIN for not known */
	int			chain_until_depth;	/* whose notAfter that is */
	int			crl_until_depth;	/* for whose certificate that CRL is */
} Verdict;

/* Called at the end of the verification of a handshake, in its process. */
typedef void (*VerifyCallback) (X509_STORE_CTX *ctx);

/* Called for each name by which certificates and CRLs were looked up. */
typedef void (*LookupCallback) (const X509_NAME *name);

extern void pgtls_verify_on_handshake(VerifyCallback callback);
extern void pgtls_verify_on_lookup(LookupCallback callback);
extern void pgtls_verify_watch_store(X509_STORE *store);
extern void pgtls_verify_classify(int error, Verdict *verdict);
extern void pgtls_verify_handshake(SSL *ssl, Verdict *verdict);
extern bool pgtls_verify_again(SSL *ssl, TimestampTz now, Verdict *verdict);
extern bool pgtls_verify_chain(SSL_CTX *ctx, X509 *leaf, STACK_OF(X509) *sent,
							   TimestampTz now, Verdict *verdict);
extern bool pgtls_verify_rfc5280(X509 *leaf, STACK_OF(X509) *sent,
								 STACK_OF(X509) *trusted, STACK_OF(X509_CRL) *crls,
								 TimestampTz at, Verdict *verdict);
extern SSL_CTX *pgtls_verify_make_context(STACK_OF(X509) *trusted,
										  STACK_OF(X509_CRL) *crls);
extern bool pgtls_verify_checks_crls(X509_STORE *store);
extern TimestampTz pgtls_verify_next_change(X509_STORE *store, TimestampTz now);
extern void pgtls_verify_not_checked(TimestampTz now, Verdict *verdict);
extern bool pgtls_verify_refused(const Verdict *verdict);
extern void pgtls_verify_at(Verdict *verdict, TimestampTz now);
extern const char *pgtls_verify_chain_status(const Verdict *verdict);
extern const char *pgtls_verify_crl_status(const Verdict *verdict);
extern TimestampTz pgtls_verify_valid_until(const Verdict *verdict);

#endif							/* PGTLS_VERIFY_H */

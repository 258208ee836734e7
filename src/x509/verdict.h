/*-------------------------------------------------------------------------
 *
 * verdict.h
 *	  Verdicts: what they say, and in which words.
 *
 * Pure but for pgtls_verdict_error(), which allocates.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_VERDICT_H
#define PGTLS_VERDICT_H

#include "datatype/timestamp.h"

#include "base/ossl.h"

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
 * A verdict holds until the clock reaches valid_until, if no file changes.
 * That and the ends that it is the first of are the first moments at which
 * OpenSSL refuses: of notAfter and nextUpdate, or a second later
 * (pgtls_ossl_past()).  pgtls_verdict_at() applies the clock.  Where nothing
 * could be checked, chain_status and crl_status are ..._NOT_CHECKED, and
 * "acceptable" means nothing.
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
	TimestampTz chain_until;	/* earliest end in the chain; DT_NOBEGIN for
								 * not known */
	TimestampTz crl_until;		/* earliest end of the CRLs that it was
								 * checked against; DT_NOEND for no CRL, or
								 * one without an end; DT_NOBEGIN for not
								 * known */
	int			chain_until_depth;	/* whose end that is */
	int			crl_until_depth;	/* for whose certificate that CRL is */
} Verdict;

extern CrlStatus pgtls_verdict_crl_status_of(int error);
extern ChainStatus pgtls_verdict_chain_status_of(int error);
extern void pgtls_verdict_classify(int error, Verdict *verdict);
extern void pgtls_verdict_not_checked(TimestampTz now, Verdict *verdict);
extern bool pgtls_verdict_refused(const Verdict *verdict);
extern void pgtls_verdict_at(Verdict *verdict, TimestampTz now);
extern TimestampTz pgtls_verdict_valid_until(const Verdict *verdict);
extern const char *pgtls_verdict_chain_status(const Verdict *verdict);
extern const char *pgtls_verdict_crl_status(const Verdict *verdict);
extern char *pgtls_verdict_error(const Verdict *verdict);

#endif							/* PGTLS_VERDICT_H */

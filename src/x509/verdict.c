/*-------------------------------------------------------------------------
 *
 * verdict.c
 *	  Verdicts: what they say, and in which words.
 *
 * Runs in backends, during their handshake and later, and in workers.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "utils/timestamp.h"

#include "x509/verdict.h"

/* Sort an error of the first pass that is about CRLs; CRL_GOOD if it is not. */
CrlStatus
pgtls_verdict_crl_status_of(int error)
{
	switch (error)
	{
		case X509_V_ERR_CERT_REVOKED:
			return CRL_REVOKED;
		case X509_V_ERR_CRL_HAS_EXPIRED:
			return CRL_EXPIRED;
		case X509_V_ERR_UNABLE_TO_GET_CRL:
			return CRL_MISSING;
		case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
		case X509_V_ERR_CRL_SIGNATURE_FAILURE:
		case X509_V_ERR_CRL_NOT_YET_VALID:
		case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
		case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
		case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
		case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
		case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
		case X509_V_ERR_DIFFERENT_CRL_SCOPE:
		case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
			return CRL_INVALID;
		default:
			return CRL_GOOD;
	}
}

/* Sort an error of the second pass, which looks at no CRL. */
ChainStatus
pgtls_verdict_chain_status_of(int error)
{
	switch (error)
	{
		case X509_V_OK:
			return CHAIN_VALID;
		case X509_V_ERR_CERT_HAS_EXPIRED:
			return CHAIN_EXPIRED;
		case X509_V_ERR_CERT_NOT_YET_VALID:
			return CHAIN_NOT_YET_VALID;
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		case X509_V_ERR_CERT_UNTRUSTED:
		case X509_V_ERR_CERT_REJECTED:
			return CHAIN_UNTRUSTED;
		default:
			return CHAIN_INVALID;
	}
}

/* Sort an error, whichever pass it comes from. */
void
pgtls_verdict_classify(int error, Verdict *verdict)
{
	memset(verdict, 0, sizeof(*verdict));
	verdict->known = true;
	verdict->acceptable = error == X509_V_OK;
	verdict->error = error;
	verdict->chain_status = pgtls_verdict_chain_status_of(error);
	verdict->crl_status = pgtls_verdict_crl_status_of(error);
}

/* The verdict of a server that checks no client certificates. */
void
pgtls_verdict_not_checked(TimestampTz now, Verdict *verdict)
{
	memset(verdict, 0, sizeof(*verdict));
	verdict->known = true;
	verdict->chain_status = CHAIN_NOT_CHECKED;
	verdict->crl_status = CRL_NOT_CHECKED;
	verdict->checked_at = now;
	verdict->recheck_at = DT_NOEND;
	verdict->chain_until = DT_NOBEGIN;
	verdict->crl_until = DT_NOBEGIN;
}

/* Whether a verdict is known, and is a refusal. */
bool
pgtls_verdict_refused(const Verdict *verdict)
{
	return verdict->known && !verdict->acceptable &&
		verdict->chain_status != CHAIN_NOT_CHECKED;
}

/*
 * When the certificate stops being acceptable by the clock; DT_NOBEGIN where
 * that is not known, or it was not acceptable to begin with.
 */
TimestampTz
pgtls_verdict_valid_until(const Verdict *verdict)
{
	return Min(verdict->chain_until, verdict->crl_until);
}

/*
 * Apply the clock to a verdict: from its end on it is no longer acceptable.
 *
 * OpenSSL looks at CRLs before it looks at the dates of the chain.
 */
void
pgtls_verdict_at(Verdict *verdict, TimestampTz now)
{
	if (!verdict->known || !verdict->acceptable)
		return;

	if (verdict->chain_until <= now && verdict->chain_until != DT_NOBEGIN)
	{
		verdict->acceptable = false;
		verdict->chain_status = CHAIN_EXPIRED;
		verdict->error = X509_V_ERR_CERT_HAS_EXPIRED;
		verdict->depth = verdict->chain_until_depth;
	}
	if (verdict->crl_until <= now && verdict->crl_until != DT_NOBEGIN)
	{
		verdict->acceptable = false;
		verdict->crl_status = CRL_EXPIRED;
		verdict->error = X509_V_ERR_CRL_HAS_EXPIRED;
		verdict->depth = verdict->crl_until_depth;
	}
}

/* Names of the statuses in SQL, NULL where not known. */
const char *
pgtls_verdict_chain_status(const Verdict *verdict)
{
	switch (verdict->chain_status)
	{
		case CHAIN_UNKNOWN:
			break;
		case CHAIN_NOT_CHECKED:
			return "not_checked";
		case CHAIN_VALID:
			return "valid";
		case CHAIN_EXPIRED:
			return "expired";
		case CHAIN_NOT_YET_VALID:
			return "not_yet_valid";
		case CHAIN_REVOKED:
			return "revoked";
		case CHAIN_UNTRUSTED:
			return "untrusted";
		case CHAIN_INVALID:
			return "invalid";
	}
	return NULL;
}

const char *
pgtls_verdict_crl_status(const Verdict *verdict)
{
	switch (verdict->crl_status)
	{
		case CRL_UNKNOWN:
			break;
		case CRL_NOT_CHECKED:
			return "not_checked";
		case CRL_REVOKED:
			return "revoked";
		case CRL_INVALID:
			return "invalid";
		case CRL_EXPIRED:
			return "expired";
		case CRL_MISSING:
			return "missing";
		case CRL_GOOD:
			return "good";
	}
	return NULL;
}

/* Why a certificate is refused, with the depth; allocated. */
char *
pgtls_verdict_error(const Verdict *verdict)
{
	return psprintf("%s (depth %d)",
					X509_verify_cert_error_string(verdict->error),
					verdict->depth);
}

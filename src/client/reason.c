/*-------------------------------------------------------------------------
 *
 * reason.c
 *	  Why clients fail.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "utils/elog.h"

#include "client/reason.h"
#include "x509/verdict.h"

#define REASON_NAME(name, text) text,
static const char *const reason_names[REASON_COUNT] = {REASONS(REASON_NAME)};

/* The name of a reason in SQL. */
const char *
pgtls_reason_name(FailureReason reason)
{
	return reason_names[reason];
}

/* Sort the error of a verification. */
FailureReason
pgtls_reason_of_verify_error(int error)
{
	Verdict		verdict;

	pgtls_verdict_classify(error, &verdict);
	switch (verdict.crl_status)
	{
		case CRL_REVOKED:
			return REASON_CERTIFICATE_REVOKED;
		case CRL_EXPIRED:
			return REASON_CRL_EXPIRED_;
		case CRL_MISSING:
			return REASON_CRL_MISSING_;
		case CRL_INVALID:
			return REASON_CRL_INVALID_;
		default:
			break;
	}
	if (error == X509_V_ERR_INVALID_PURPOSE)
		return REASON_CERTIFICATE_PURPOSE;
	switch (verdict.chain_status)
	{
		case CHAIN_EXPIRED:
			return REASON_CERTIFICATE_EXPIRED;
		case CHAIN_NOT_YET_VALID:
			return REASON_CERTIFICATE_NOT_YET_VALID;
		case CHAIN_UNTRUSTED:
			return REASON_CERTIFICATE_UNTRUSTED;
		default:
			return REASON_CERTIFICATE_INVALID;
	}
}

static bool
contains_any(const char *text, const char *const *parts)
{
	for (; *parts != NULL; parts++)
	{
		if (strstr(text, *parts) != NULL)
			return true;
	}
	return false;
}

/*
 * Sort what OpenSSL says of a handshake that failed.  The server keeps
 * nothing of it but the sentence, which OpenSSL does not translate.
 */
static FailureReason
reason_of_sentence(const char *sentence)
{
	static const char *const rejected[] = {
		"unknown ca", "bad certificate", "certificate unknown",
		"certificate expired", "certificate revoked",
		"unsupported certificate", "certificate unobtainable", NULL
	};
	static const char *const cipher[] = {"no shared cipher",
		"no suitable key share",
		"no shared group",
		"no suitable signature algorithm",
		"no shared signature algorithm",
		"no ciphers available",
		"handshake failure",
		"insufficient security",
	NULL};
	static const char *const protocol[] = {
		"unsupported protocol", "no protocols available", "version too low",
		"version too high", "wrong ssl version", "alert protocol version",
		"bad protocol version", "unknown ssl version",
		"inappropriate fallback", NULL
	};
	static const char *const no_tls[] = {
		"wrong version number", "http request", "https proxy request",
		"unknown protocol", "bad record type", "record layer failure",
		"packet length too long", "length mismatch", "length too short",
		"unexpected message", "bad packet", NULL
	};
	static const char *const end[] = {
		"EOF detected", "unexpected eof", "Connection reset", "Success",
		"Broken pipe", "close notify", NULL
	};

	if (strstr(sentence, "alert") != NULL && contains_any(sentence, rejected))
		return REASON_CLIENT_REJECTED_CERTIFICATE;
	if (contains_any(sentence, protocol))
		return REASON_UNSUPPORTED_PROTOCOL;
	if (contains_any(sentence, cipher))
		return REASON_NO_SHARED_CIPHER;
	if (strstr(sentence, "peer did not return a certificate") != NULL)
		return REASON_CERTIFICATE_REQUIRED;
	if (contains_any(sentence, end))
		return REASON_EOF_;
	if (contains_any(sentence, no_tls))
		return REASON_NOT_TLS;
	return REASON_OTHER;
}

static bool
starts_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

/*
 * Sort a message of the server by its untranslated text; false if it is not
 * about a client that fails because of TLS or a certificate.
 */
bool
pgtls_reason_of_message(const ErrorData *edata, FailureReason *reason)
{
	const char *id = edata->message_id;

	if (id == NULL)
		return false;
	if (starts_with(id, "could not accept SSL connection"))
	{
		/* what core or the system says may be translated */
		if (strstr(id, "EOF detected") != NULL || strstr(id, ": %m") != NULL)
			*reason = REASON_EOF_;
		else
			*reason = reason_of_sentence(edata->message);
	}
	else if (starts_with(id, "received unencrypted data after SSL request"))
		*reason = REASON_UNENCRYPTED_DATA;
	else if (starts_with(id, "invalid length of startup packet"))
		*reason = REASON_NOT_TLS;	/* TLS or HTTP without asking first, say */
	else if (starts_with(id, "connection requires a valid client certificate"))
		*reason = REASON_CERTIFICATE_REQUIRED;
	else if (starts_with(id, "certificate authentication failed") ||
			 starts_with(id,
						 "certificate validation (clientcert=verify-full) failed"))
		*reason = REASON_CERTIFICATE_USER_MISMATCH;
	else if (starts_with(id, "no pg_hba.conf entry") ||
			 starts_with(id, "pg_hba.conf rejects"))
	{
		if (MyProcPort->raddr.addr.ss_family == AF_UNIX)
			return false;
		*reason = REASON_NO_HBA_ENTRY;
	}
	else if (starts_with(id, "SSL certificate's") ||
			 starts_with(id, "could not initialize SSL connection"))
		*reason = REASON_OTHER;
	else
		return false;
	return true;
}

/*-------------------------------------------------------------------------
 *
 * reason.h
 *	  Why clients fail.
 *
 * Runs in backends before authentication: raises no error, takes no memory.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_REASON_H
#define PGTLS_REASON_H

/* Why a client failed; the names are those of SQL. */
#define REASONS(X) \
	X(CERTIFICATE_EXPIRED, "certificate_expired") \
	X(CERTIFICATE_NOT_YET_VALID, "certificate_not_yet_valid") \
	X(CERTIFICATE_REVOKED, "certificate_revoked") \
	X(CERTIFICATE_UNTRUSTED, "certificate_untrusted") \
	X(CERTIFICATE_PURPOSE, "certificate_purpose") \
	X(CERTIFICATE_INVALID, "certificate_invalid") \
	X(CRL_EXPIRED_, "crl_expired") \
	X(CRL_MISSING_, "crl_missing") \
	X(CRL_INVALID_, "crl_invalid") \
	X(CERTIFICATE_REQUIRED, "certificate_required") \
	X(CERTIFICATE_USER_MISMATCH, "certificate_user_mismatch") \
	X(NO_HBA_ENTRY, "no_hba_entry") \
	X(CLIENT_REJECTED_CERTIFICATE, "client_rejected_certificate") \
	X(NO_SHARED_CIPHER, "no_shared_cipher") \
	X(UNSUPPORTED_PROTOCOL, "unsupported_protocol") \
	X(NOT_TLS, "not_tls") \
	X(UNENCRYPTED_DATA, "unencrypted_data") \
	X(EOF_, "eof") \
	X(ENCRYPTION_REQUIRED, "encryption_required") \
	X(OTHER, "other")

#define REASON_ENUM(name, text) REASON_##name,
typedef enum FailureReason
{
	REASONS(REASON_ENUM)
	REASON_COUNT
} FailureReason;

extern const char *pgtls_reason_name(FailureReason reason);
extern FailureReason pgtls_reason_of_verify_error(int error);
extern bool pgtls_reason_of_message(const ErrorData *edata,
									FailureReason *reason);

#endif							/* PGTLS_REASON_H */

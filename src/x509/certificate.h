/*-------------------------------------------------------------------------
 *
 * certificate.h
 *	  X.509 certificates as plain C.
 *
 * Pure: no settings, no shared memory, no PostgreSQL error.  It may be called
 * in any process, before authentication included, and builds outside the
 * server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CERTIFICATE_H
#define PGTLS_CERTIFICATE_H

#include "base/ossl.h"

/*
 * CertInfo: what a certificate says, whole.
 *
 * All text is valid UTF-8 without hidden characters (controls, and others
 * that nobody sees).  A byte that is not part of a valid character, and each
 * byte of a hidden character, appears as a backslash and two hexadecimal
 * digits; where that could be confused with the original (everywhere but in
 * the names, which have escapes of their own), a backslash is doubled.
 *
 * Text belongs to the struct: pgtls_certificate_free().  A field that the
 * certificate lacks is NULL, a moment that it lacks is PGTLS_NO_TIME.
 *
 * A list is NULL where the certificate lacks the extension, and an empty
 * string where that has no elements.  An extension that cannot be told
 * element by element, since it is not DER or not what it should be, is one
 * element: a hash sign and its bytes in hexadecimal.  Several extensions of
 * one kind make one list.
 */
typedef struct CertInfo
{
	char	   *subject;		/* subject as pg_stat_ssl writes it:
								 * /C=NL/O=Example/CN=alice */
	char	   *issuer;			/* issuer, likewise */
	char	   *subject_rfc2253;	/* subject as hba.c compares it for
									 * clientname=DN (be_tls_open_server) */
	char	   *common_name;	/* first CN of the subject */
	char	   *serial;			/* serial number, decimal */
	char	   *san;			/* list of alternative names, with prefixes */
	char	   *eku;			/* list of extended key usages */
	char	   *key;			/* RSA-2048, EC-P-256, ED25519 ... */
	unsigned char fingerprint[PGTLS_SHA256_LEN];	/* SHA-256 of the DER */
	int64		not_before;		/* as TimestampTz */
	int64		not_after;		/* as TimestampTz */
} CertInfo;

/*
 * CertDetails: what only those want to know who look at a certificate for its
 * own sake.  Text as in CertInfo; pgtls_certificate_free_details().
 */
typedef struct CertDetails
{
	char	   *issuer_rfc2253; /* issuer, as CertInfo has the subject */
	char	   *serial_hex;		/* as the decimal one, lower case, in bytes */
	char	   *key_usage;		/* list, by the names of openssl.cnf(5); a bit
								 * without a name is "bit" and its number */
	char	   *signature_algorithm;	/* ecdsa-with-SHA256 ... */
	int			version;		/* 1 to 3, or what it claims; 0: senseless */
	bool		is_ca;			/* OpenSSL would take it for a CA's */
	bool		self_signed;	/* its own key has signed it */
} CertDetails;

extern bool pgtls_certificate_read(X509 *cert, CertInfo *info);
extern void pgtls_certificate_free(CertInfo *info);
extern bool pgtls_certificate_read_details(X509 *cert, CertDetails *details);
extern void pgtls_certificate_free_details(CertDetails *details);
extern bool pgtls_certificate_self_signed(X509 *cert);

#endif							/* PGTLS_CERTIFICATE_H */

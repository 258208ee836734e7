/*-------------------------------------------------------------------------
 *
 * extension.h
 *	  Extensions of certificates as text.
 *
 * Pure, as text.h is.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_EXTENSION_H
#define PGTLS_EXTENSION_H

#include "base/ossl.h"

/*
 * CertExtension: one extension, pgtls_extension_free().
 *
 * The text is for people: what OpenSSL prints, in several lines perhaps, or a
 * hash sign and the bytes where it prints nothing.  Two values may have the
 * same text.  Alternative names are as in CertInfo.
 */
typedef struct CertExtension
{
	char	   *oid;			/* dotted */
	const char *name;			/* OpenSSL's short name, NULL if it has none */
	bool		critical;
	char	   *value;			/* text, NULL where there is nothing to print */
	const ASN1_OCTET_STRING *der;	/* the value itself, in the certificate */
} CertExtension;

extern bool pgtls_extension_read(X509 *cert, int index,
								 CertExtension *extension);
extern void pgtls_extension_free(CertExtension *extension);

/* Lists, as CertInfo (x509/certificate.h) has them. */
extern bool pgtls_extension_print_san(BIO *out, X509 *cert);
extern bool pgtls_extension_print_eku(BIO *out, X509 *cert);
extern bool pgtls_extension_print_key_usage(BIO *out, X509 *cert);

#endif							/* PGTLS_EXTENSION_H */

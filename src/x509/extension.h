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
 * The value may have several lines.  It is as OpenSSL prints it where that is
 * known to tell all, and could be nothing else; alternative names are as in
 * CertInfo; any other value is a hash sign and its bytes in hexadecimal.
 */
typedef struct CertExtension
{
	char	   *oid;			/* dotted */
	const char *name;			/* OpenSSL's short name, NULL if it has none */
	bool		critical;
	char	   *value;			/* NULL where there is nothing to print */
} CertExtension;

extern bool pgtls_extension_read(X509 *cert, int index,
								 CertExtension *extension);
extern void pgtls_extension_free(CertExtension *extension);

/* Lists, as CertInfo (x509/certificate.h) has them. */
extern bool pgtls_extension_print_san(BIO *out, X509 *cert);
extern bool pgtls_extension_print_eku(BIO *out, X509 *cert);
extern bool pgtls_extension_print_key_usage(BIO *out, X509 *cert);

#endif							/* PGTLS_EXTENSION_H */

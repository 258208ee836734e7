/*-------------------------------------------------------------------------
 *
 * name.h
 *	  Distinguished names, and the other names in certificates, as text.
 *
 * Pure, as text.h is.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_NAME_H
#define PGTLS_NAME_H

#include <openssl/x509v3.h>

#include "base/ossl.h"

extern bool pgtls_name_print_slashes(BIO *out, const X509_NAME *name);
extern bool pgtls_name_print_rfc2253(BIO *out, const X509_NAME *name,
									 bool whole);
extern bool pgtls_name_print_cn(BIO *out, const X509_NAME *name);
extern bool pgtls_name_print_general(BIO *out, GENERAL_NAME *name);
extern bool pgtls_name_field(const X509_NAME *name, const ASN1_OBJECT *type,
							 char **value);
extern char *pgtls_name_text(const X509_NAME *name);

#endif							/* PGTLS_NAME_H */

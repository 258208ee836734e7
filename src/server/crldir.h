/*-------------------------------------------------------------------------
 *
 * crldir.h
 *	  ssl_crl_dir: its directories, and the CRLs that connections find there.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_CRLDIR_H
#define PGTLS_CRLDIR_H

#include "base/ossl.h"
#include "server/item.h"

/* For any process. */
extern bool pgtls_crldir_next(const char *list, const char **rest, char *dir,
							  Size size);
extern bool pgtls_crldir_is_hash_name(const char *name);

/* For workers. */
extern bool pgtls_crldir_find(TlsFile *file);
extern void pgtls_crldir_read(TlsFile *file, X509_STORE *store,
							  const Lookup *known);
extern CrlStack *pgtls_crldir_lookup(const char *list,
									 const X509_NAME *issuer,
									 List *loaded);
extern bool pgtls_crldir_has_crl(const char *list, X509 *ca, List *loaded);

#endif							/* PGTLS_CRLDIR_H */

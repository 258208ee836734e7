/*-------------------------------------------------------------------------
 *
 * signature.h
 *	  Remembers which CRLs have a good signature.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_SIGNATURE_H
#define PGTLS_SIGNATURE_H

#include "base/ossl.h"

/* For the postmaster, around each load of the TLS files. */
extern void pgtls_signature_load_begins(void);
extern int	pgtls_signature_load_ends(X509_STORE *store);

#endif							/* PGTLS_SIGNATURE_H */

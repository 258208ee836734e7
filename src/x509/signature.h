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

/* For the postmaster: around each load of the TLS files, and after it. */
extern void pgtls_signature_begin(void);
extern void pgtls_signature_end(void);
extern int	pgtls_signature_verify(X509_STORE *store);

#endif							/* PGTLS_SIGNATURE_H */

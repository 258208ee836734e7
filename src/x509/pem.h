/*-------------------------------------------------------------------------
 *
 * pem.h
 *	  Certificates and CRLs out of text in PEM that is an argument in SQL.
 *
 * May only be called in a backend, in a transaction, or in its child
 * (base/child.h):  what is not as it should be is an error, which says where
 * in which argument.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_PEM_H
#define PGTLS_PEM_H

#include "base/ossl.h"

/* The most bytes of a certificate in DER that is an argument. */
#define PGTLS_MAX_CERTIFICATE	(1024 * 1024)

/* One argument while it is read. */
typedef struct PemInput
{
	const char *function;		/* names, as SQL has them */
	const char *argument;
	const char *what;			/* what it consists of, for messages */
	const char *advice;			/* more of the hint, if there are none in it */
	const char *next;			/* the rest of the text */
	const char *end;
	int			line;			/* lines before "next" */
	int			found;			/* blocks before "next" */
} PemInput;

extern void pgtls_pem_begin(PemInput *input, const text *t,
							const char *function, const char *argument,
							const char *what, const char *advice);
extern X509 *pgtls_pem_next_certificate(PemInput *input, bool trusted);
extern X509_CRL *pgtls_pem_next_crl(PemInput *input);

#endif							/* PGTLS_PEM_H */

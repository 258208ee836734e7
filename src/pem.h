/*-------------------------------------------------------------------------
 *
 * pem.h
 *	  Certificates and CRLs out of text in PEM that is an argument in SQL.
 *
 * May only be called in a backend, in a transaction: what is not as it should
 * be is an error, which says where in which argument.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_PEM_H
#define PGTLS_PEM_H

#include "ossl.h"

/* One argument while it is read. */
typedef struct PemInput
{
	const char *function;		/* names, as SQL has them */
	const char *argument;
	const char *what;			/* what it consists of, for messages */
	bool		required;
	const char *next;			/* the rest of the text */
	const char *end;
	int			line;			/* of "next", from 1 */
} PemInput;

extern void pgtls_pem_begin(PemInput *input, const text *t, const char *function,
							const char *argument, const char *what, bool required);
extern void pgtls_pem_read(PemInput *input, STACK_OF(X509) *certs, bool trusted,
						   STACK_OF(X509_CRL) *crls);

#endif							/* PGTLS_PEM_H */

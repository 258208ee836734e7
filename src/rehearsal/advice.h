/*-------------------------------------------------------------------------
 *
 * advice.h
 *	  What the server loads without a word, and clients or auditors mind.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_ADVICE_H
#define PGTLS_ADVICE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "base/ossl.h"
#include "rehearsal/codes.h"
#include "server/inspect.h"

/* pg_tls.expiry_warning, in minutes */
extern int	pgtls_expiry_warning;

/* Something that is wrong, or soon will be. */
typedef struct Advice
{
	FindingCode code;
	const void *about;			/* X509 or X509_CRL that has it, or NULL */
	char	   *object;			/* its name, or that of a setting */
	char	   *text;			/* a sentence of fact without a full stop */
} Advice;

/* Where something stands that is valid from and until given moments. */
typedef enum Validity
{
	VALID,
	ENDS_SOON,
	ENDED,
	NOT_YET
} Validity;

extern void pgtls_advice_define_settings(void);
extern Validity pgtls_advice_validity(TimestampTz from, TimestampTz until,
									  TimestampTz now, bool is_crl);
extern char *pgtls_advice_name(const X509_NAME *name);
extern List *pgtls_advice_on_loaded(SSL_CTX *context, bool complete,
									const char *crl_dir);
extern List *pgtls_advice_on_crl(X509_CRL *crl);
extern List *pgtls_advice_on_strength(SSL_CTX *context, bool complete);

/* For workers, of what they inherited. */
extern List *pgtls_advice_on_inspection(const Inspection *in);
extern List *pgtls_advice_on_all(const Inspection *in);
extern List *pgtls_advice_on_inherited_strength(const Inspection *in);

#endif							/* PGTLS_ADVICE_H */

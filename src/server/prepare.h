/*-------------------------------------------------------------------------
 *
 * prepare.h
 *	  Work on a loaded TLS configuration that connections need not repeat.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_PREPARE_H
#define PGTLS_PREPARE_H

#include "base/ossl.h"

extern void pgtls_prepare_define_settings(void);
extern void pgtls_prepare_load_begins(void);
extern void pgtls_prepare_load_ends(void);
extern int	pgtls_prepare_context(SSL_CTX *context, bool has_crl_dir);
extern void pgtls_prepare_forget(void);
extern bool pgtls_prepare_built_chain(void);

#endif							/* PGTLS_PREPARE_H */

/*-------------------------------------------------------------------------
 *
 * reload.h
 *	  Loads of the server's TLS files, and what came of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_RELOAD_H
#define PGTLS_RELOAD_H

#include <sys/stat.h>

#include "ossl.h"

/* Size of the ssl_crl_dir that is remembered; what is longer is cut. */
#define PGTLS_CRL_DIR_SIZE	8192

extern void pgtls_reload_install_hooks(void);
extern Size pgtls_reload_shmem_size(void);
extern void pgtls_reload_shmem_init(void *area, bool found);
extern int64 pgtls_reload_generation(void);
extern int64 pgtls_reload_current_generation(void);
extern uint32 pgtls_reload_crl_changes(void);
extern uint32 pgtls_reload_current_crl_changes(void);
extern void pgtls_reload_count_crl_change(void);
extern TimestampTz pgtls_reload_changed_after(int64 generation, uint32 crl_changes);
extern uint32 pgtls_reload_request(bool watch);
extern void pgtls_reload_crl_dir(char *dir, Size size);
extern bool pgtls_reload_is_seen(void);
extern bool pgtls_reload_loaded(SSL_CTX **context);
extern bool pgtls_reload_context(SSL_CTX **context);
extern bool pgtls_reload_same_key_file(const struct stat *st);
extern bool pgtls_reload_same_dh_file(const struct stat *st);
extern const char *pgtls_reload_inherited_crl_dir(void);

#endif							/* PGTLS_RELOAD_H */

/*-------------------------------------------------------------------------
 *
 * reload.h
 *	  Loads of the server's TLS files, and what came of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_RELOAD_H
#define PGTLS_RELOAD_H

extern void pgtls_reload_install_hooks(void);
extern Size pgtls_reload_shmem_size(void);
extern void pgtls_reload_shmem_init(void *area, bool found);
extern int64 pgtls_reload_generation(void);

#endif							/* PGTLS_RELOAD_H */

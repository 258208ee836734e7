/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Client sessions and their TLS: per-backend slots, and pg_stat_tls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_SESSION_H
#define PGTLS_SESSION_H

extern void pgtls_session_install_hooks(void);
extern Size pgtls_session_shmem_size(void);
extern void pgtls_session_shmem_init(void *area, bool found);

#endif							/* PGTLS_SESSION_H */

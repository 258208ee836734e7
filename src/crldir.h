/*-------------------------------------------------------------------------
 *
 * crldir.h
 *	  ssl_crl_dir: its directories, and when what is in them has changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CRLDIR_H
#define PGTLS_CRLDIR_H

#include "datatype/timestamp.h"

extern bool pgtls_crldir_next(const char *list, const char **rest, char *dir, Size size);

extern Size pgtls_crldir_shmem_size(void);
extern void pgtls_crldir_shmem_init(void *area, bool found);

/* For the monitor. */
extern void pgtls_crldir_look(long *timeout);
extern bool pgtls_crldir_has_to_wait(long *timeout);

/* For the verifier. */
extern void pgtls_crldir_begin_pass(void);
extern bool pgtls_crldir_end_pass(void);
extern bool pgtls_crldir_may_refuse(int slot, TimestampTz start);
extern void pgtls_crldir_accept(int slot);
extern void pgtls_crldir_hold(void);

#endif							/* PGTLS_CRLDIR_H */

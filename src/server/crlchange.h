/*-------------------------------------------------------------------------
 *
 * crlchange.h
 *	  Notices when what is in ssl_crl_dir has changed.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_CRLCHANGE_H
#define PGTLS_CRLCHANGE_H

#include "datatype/timestamp.h"

extern Size pgtls_crlchange_shmem_size(void);
extern void pgtls_crlchange_shmem_init(void *area, bool found);

/* For the postmaster, before it forks. */
extern void pgtls_crlchange_before_fork(void);

/*
 * The number of the last change: that of which this process inherited what it
 * might have read, and the present one.
 */
extern uint32 pgtls_crlchange_inherited(void);
extern uint32 pgtls_crlchange_current(void);
extern TimestampTz pgtls_crlchange_changed_after(uint32 changes);

/* For the monitor. */
extern void pgtls_crlchange_look(long *timeout);
extern bool pgtls_crlchange_has_to_wait(long *timeout);

/* For the verifier. */
extern void pgtls_crlchange_begin_pass(void);
extern bool pgtls_crlchange_end_pass(void);
extern bool pgtls_crlchange_may_refuse(int slot, TimestampTz start);
extern void pgtls_crlchange_accept(int slot);
extern void pgtls_crlchange_hold(void);

#endif							/* PGTLS_CRLCHANGE_H */

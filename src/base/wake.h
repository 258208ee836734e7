/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the monitor, pg_tls's standing worker (work/monitor.c).
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_WAKE_H
#define PGTLS_WAKE_H

extern Size pgtls_wake_shmem_size(void);
extern void pgtls_wake_shmem_init(void *area, bool found);

/* For any process. */
extern int	pgtls_wake_monitor_pid(void);
extern void pgtls_wake_monitor(void);
extern void pgtls_wake_to_save(void);

/* For the monitor. */
extern void pgtls_wake_set_monitor(int pid);
extern void pgtls_wake_set_latch(int pgproc);
extern bool pgtls_wake_wants_save(void);
extern bool pgtls_wake_claim_save(void);

#endif							/* PGTLS_WAKE_H */

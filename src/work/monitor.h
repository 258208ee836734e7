/*-------------------------------------------------------------------------
 *
 * monitor.h
 *	  Background workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_MONITOR_H
#define PGTLS_MONITOR_H

extern void pgtls_monitor_define_settings(void);
extern void pgtls_monitor_register(void);
extern Size pgtls_monitor_shmem_size(void);
extern void pgtls_monitor_shmem_init(void *area, bool found);

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_monitor_main(Datum arg);

#endif							/* PGTLS_MONITOR_H */

/*-------------------------------------------------------------------------
 *
 * monitor.h
 *	  Background workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_MONITOR_H
#define PGTLS_MONITOR_H

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

/*
 * What the library is called for the processes that load it: another build
 * of it, for a test, has its own path.
 */
#ifndef PGTLS_LIBRARY
#define PGTLS_LIBRARY	"pg_tls"
#endif

extern void pgtls_monitor_register(void);
extern Size pgtls_monitor_shmem_size(void);
extern void pgtls_monitor_shmem_init(void *area, bool found);
extern int	pgtls_monitor_pid(void);
extern TimestampTz pgtls_monitor_judged_all_at(void);
extern void pgtls_monitor_wake(void);
extern void pgtls_monitor_save_soon(void);
extern void pgtls_monitor_define_settings(void);
extern void pgtls_monitor_catch(int signo, void (*handler) (int signo));
extern void pgtls_monitor_worker(BackgroundWorker *worker, const char *name,
								 const char *function);

/* Main functions of the workers. */
extern PGDLLEXPORT void pgtls_monitor_main(Datum arg);
extern PGDLLEXPORT void pgtls_verifier_main(Datum arg);

#endif							/* PGTLS_MONITOR_H */

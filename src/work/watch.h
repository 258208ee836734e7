/*-------------------------------------------------------------------------
 *
 * watch.h
 *	  Notices when the TLS files change, and when what is loaded of them ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_WATCH_H
#define PGTLS_WATCH_H

#include "datatype/timestamp.h"

extern void pgtls_watch_define_settings(void);
extern Size pgtls_watch_shmem_size(void);
extern void pgtls_watch_shmem_init(void *area, bool found);

/* For the monitor. */
extern void pgtls_watch_reloading(void);
extern bool pgtls_watch_is_due(TimestampTz now, int interval,
							   TimestampTz *next);
extern bool pgtls_watch_is_outdated(TimestampTz now);
extern int	pgtls_watch_task(void);
extern void pgtls_watch_started(int task);
extern bool pgtls_watch_is_running(void);

/* For the worker, and who stands in for it. */
extern void pgtls_watch_run(int task, bool standing_in);

extern PGDLLEXPORT void pgtls_watch_main(Datum arg);

#endif							/* PGTLS_WATCH_H */

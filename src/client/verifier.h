/*-------------------------------------------------------------------------
 *
 * verifier.h
 *	  The verifier: a worker that judges the connected sessions.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_VERIFIER_H
#define PGTLS_VERIFIER_H

#include "datatype/timestamp.h"

extern void pgtls_verifier_define_settings(void);
extern Size pgtls_verifier_shmem_size(void);
extern void pgtls_verifier_shmem_init(void *area, bool found);

/* For the monitor, who starts it. */
extern uint64 pgtls_verifier_passes(void);
extern TimestampTz pgtls_verifier_next_change(int64 generation);
extern bool pgtls_verifier_is_running(void);

/* For who stands in for it. */
extern void pgtls_verifier_run(void);

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_verifier_main(Datum arg);

#endif							/* PGTLS_VERIFIER_H */

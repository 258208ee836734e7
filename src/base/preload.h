/*-------------------------------------------------------------------------
 *
 * preload.h
 *	  What pg_tls has only where it was preloaded: shared memory and locks.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_PRELOAD_H
#define PGTLS_PRELOAD_H

#include "storage/lwlock.h"

/* Locks of the tranche "pg_tls", each used by the file that it is named for. */
typedef enum PgTlsLock
{
	PGTLS_LOCK_CHAIN,
	PGTLS_LOCK_CLIENTS,
	PGTLS_LOCK_CERTIFICATES,
	PGTLS_NUM_LOCKS
} PgTlsLock;

/* For _PG_init() and what it has called as the server starts. */
extern void pgtls_preload_succeeded(void);
extern void pgtls_preload_request_locks(void);

/* A lock, once shared memory is set up. */
extern LWLock *pgtls_preload_lock(PgTlsLock lock);

/*
 * Raise an error unless pg_tls was preloaded, that is, unless it has shared
 * memory.  For functions that SQL calls.
 */
extern void pgtls_preload_require(void);

#endif							/* PGTLS_PRELOAD_H */

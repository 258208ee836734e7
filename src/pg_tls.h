/*-------------------------------------------------------------------------
 *
 * pg_tls.h
 *	  What all files of pg_tls share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PG_TLS_H
#define PG_TLS_H

#include "compat.h"

/* Locks of the tranche "pg_tls", each used by the file that it is named for. */
typedef enum PgTlsLock
{
	PGTLS_LOCK_CHAIN,
	PGTLS_LOCK_CLIENTS,
	PGTLS_LOCK_CERTIFICATES,
	PGTLS_NUM_LOCKS
} PgTlsLock;

/*
 * Raise an error unless pg_tls was preloaded, that is, unless it has shared
 * memory.
 */
extern void pgtls_require_preload(void);

/* Raise the error that memory ran out in OpenSSL. */
pg_noreturn extern void pgtls_out_of_memory(void);
extern const char *pgtls_failure_reason(void);

#endif							/* PG_TLS_H */

/*-------------------------------------------------------------------------
 *
 * pg_tls.h
 *	  What all files of pg_tls share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PG_TLS_H
#define PG_TLS_H

/*
 * Raise an error unless pg_tls was preloaded, that is, unless it has shared
 * memory.
 */
extern void pgtls_require_preload(void);

#endif							/* PG_TLS_H */

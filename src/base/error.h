/*-------------------------------------------------------------------------
 *
 * error.h
 *	  Errors that OpenSSL is the cause of.
 *
 * For backends and workers: both functions may raise an error.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_ERROR_H
#define PGTLS_ERROR_H

#include "base/compat.h"

/* Raise the error that memory ran out in OpenSSL. */
pg_noreturn extern void pgtls_error_out_of_memory(void);

/*
 * Why OpenSSL failed just now; a constant.  Raises an error if it was for lack
 * of memory, for which nobody's input is to be blamed.  Empties the queue.
 */
extern const char *pgtls_error_reason(void);

#endif							/* PGTLS_ERROR_H */

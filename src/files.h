/*-------------------------------------------------------------------------
 *
 * files.h
 *	  The server's TLS files: configured, loaded, and on disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_FILES_H
#define PGTLS_FILES_H

#include "nodes/pg_list.h"
#include "ossl.h"

/* For workers. */
extern List *pgtls_files_advice(void);
extern List *pgtls_files_advice_on_strength(void);
extern char *pgtls_files_changed(uint64 *contents);
extern bool pgtls_files_hold_less(void);

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_files_main(Datum arg);

#endif							/* PGTLS_FILES_H */

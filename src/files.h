/*-------------------------------------------------------------------------
 *
 * files.h
 *	  The server's TLS files: configured, loaded, and on disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_FILES_H
#define PGTLS_FILES_H

#include "ossl.h"

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_files_main(Datum arg);

#endif							/* PGTLS_FILES_H */

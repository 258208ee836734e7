/*-------------------------------------------------------------------------
 *
 * fileviews.h
 *	  The view pg_tls_files, and what else a worker tells of what is loaded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_FILEVIEWS_H
#define PGTLS_FILEVIEWS_H

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_fileviews_main(Datum arg);

#endif							/* PGTLS_FILEVIEWS_H */

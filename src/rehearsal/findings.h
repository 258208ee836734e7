/*-------------------------------------------------------------------------
 *
 * findings.h
 *	  What is wrong with the server's TLS files: a part of pg_tls_findings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_FINDINGS_H
#define PGTLS_FINDINGS_H

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_findings_main(Datum arg);

#endif							/* PGTLS_FINDINGS_H */

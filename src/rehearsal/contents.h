/*-------------------------------------------------------------------------
 *
 * contents.h
 *	  The views pg_tls_certificates and pg_tls_crls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CONTENTS_H
#define PGTLS_CONTENTS_H

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_contents_main(Datum arg);

#endif							/* PGTLS_CONTENTS_H */

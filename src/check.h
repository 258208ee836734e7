/*-------------------------------------------------------------------------
 *
 * check.h
 *	  The dry run: what would a reload of the TLS files do?
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CHECK_H
#define PGTLS_CHECK_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* pg_tls.expiry_warning, in minutes */
extern int	pgtls_expiry_warning;

/* A session that the new configuration would refuse. */
typedef struct CheckedSession
{
	int			pid;
	char	   *client_dn;
	char	   *client_serial;
	char	   *client_fingerprint;
	char	   *chain_status;
	char	   *chain_error;
	char	   *crl_status;
} CheckedSession;

/* What came of a dry run, in memory of the caller's context. */
typedef struct CheckResult
{
	bool		ok;				/* the reload would succeed */
	bool		ssl;			/* "ssl" would be on after it */
	char	   *error;			/* why not; the server's own message */
	List	   *warnings;		/* of char *: what a success would hide */
	List	   *sessions;		/* of CheckedSession *, if asked for */
} CheckResult;

/*
 * Make a dry run, and judge the connected sessions by it if asked for.  Raises an error if none could be made, or if the deadline
 * passes (DT_NOEND for none); what is wrong with the files is no error.
 */
extern void pgtls_check_run(bool sessions, TimestampTz deadline, CheckResult *result);

extern void pgtls_check_define_settings(void);

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_check_main(Datum arg);

#endif							/* PGTLS_CHECK_H */

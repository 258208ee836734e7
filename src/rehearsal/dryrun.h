/*-------------------------------------------------------------------------
 *
 * dryrun.h
 *	  The dry run: what would a reload of the TLS files do?
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_DRYRUN_H
#define PGTLS_DRYRUN_H

#include <signal.h>

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* What a dry run tries. */
typedef enum CheckDepth
{
	CHECK_SETTINGS = 1,			/* read the configuration */
	CHECK_FILES,				/* and load the files */
	CHECK_SESSIONS				/* and judge the connected sessions by them */
} CheckDepth;

/* What came of a dry run, in memory of the caller's context. */
typedef struct CheckResult
{
	bool		ok;				/* the reload would succeed */
	bool		ssl;			/* "ssl" would be on after it */
	char	   *error;			/* why not; the server's own message, or NULL */
	List	   *warnings;		/* of char *: what a success would hide */
	List	   *config_errors;	/* those of them that concern postgresql.conf;
								 * for workers only */
	List	   *advice;			/* of Advice *, what the files would be
								 * advised of; for workers only */
} CheckResult;

/* In a worker: a passphrase is not to be asked for; and one would have been. */
extern bool pgtls_dryrun_without_passphrase;
extern bool pgtls_dryrun_needs_passphrase;

/*
 * In a worker: so many seconds the command for the passphrase may take, 0 for
 * any; and it took longer, and was ended.
 */
extern int	pgtls_dryrun_command_limit;
extern volatile sig_atomic_t pgtls_dryrun_command_hung;

extern void pgtls_dryrun_make(CheckDepth depth, CheckResult *result);
extern void pgtls_dryrun_run(TimestampTz deadline, CheckResult *result);

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_dryrun_main(Datum arg);

#endif							/* PGTLS_DRYRUN_H */

/*-------------------------------------------------------------------------
 *
 * check.h
 *	  The dry run: what would a reload of the TLS files do?
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CHECK_H
#define PGTLS_CHECK_H

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
	List	   *advice;			/* of Advice *, what the files would be advised
								 * of; for workers only */
} CheckResult;

/* In a worker: a passphrase is not to be asked for; and one would have been. */
extern bool pgtls_check_without_passphrase;
extern bool pgtls_check_needs_passphrase;

/*
 * In a worker: so many seconds the command for the passphrase may take, 0 for
 * any; and it took longer, and was ended.
 */
extern int	pgtls_check_command_limit;
extern volatile sig_atomic_t pgtls_check_command_hung;

/* The files that a load reads, by the settings; empty or NULL where unset. */
#define PGTLS_LOADED_FILES	5
extern void pgtls_check_get_files(const char **files);

extern void pgtls_check_make(CheckDepth depth, CheckResult *result);
extern void pgtls_check_run(TimestampTz deadline, CheckResult *result);

/* Main function of the worker. */
extern PGDLLEXPORT void pgtls_check_main(Datum arg);

#endif							/* PGTLS_CHECK_H */

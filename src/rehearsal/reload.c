/*-------------------------------------------------------------------------
 *
 * reload.c
 *	  pg_tls_reload(): try the TLS files, reload them, and tell what came of it.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include <signal.h>

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/row.h"
#include "base/worker.h"
#include "rehearsal/dryrun.h"
#include "server/history.h"
#include "server/reloads.h"

PG_FUNCTION_INFO_V1(pg_tls_reload_1_0);

/* Find the first attempt that began after a request; false for none yet. */
static bool
find_outcome(uint32 request, LoadAttempt *attempt)
{
	LoadState	s;
	bool		found = false;

	pgtls_history_read_state(&s);
	for (int64 number = s.attempts;
		 number > Max(0, s.attempts - PGTLS_HISTORY_SIZE); number--)
	{
		LoadAttempt candidate;

		if (!pgtls_history_read_attempt(number, &candidate))
			continue;
		if ((int32) (candidate.request - request) < 0)
			break;
		*attempt = candidate;
		found = true;
	}
	return found && attempt->outcome != LOAD_PENDING;
}

/* Milliseconds of an interval, bounded. */
static long
interval_milliseconds(const Interval *interval)
{
	double		result =
		interval->time / 1000.0 +
		((double) interval->month * DAYS_PER_MONTH + interval->day) *
		SECS_PER_DAY * 1000.0;

	if (result <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must be greater than zero")));
	return (long) Min(result, (double) INT_MAX);
}

/*
 * pg_tls_reload(timeout interval) returns pg_tls_reloads
 *
 * Tries the files first, has the postmaster reload its configuration, and
 * waits for the outcome.  Raises an error if the dry run or the load fails;
 * what was loaded before is then still in force.
 */
Datum
pg_tls_reload_1_0(PG_FUNCTION_ARGS)
{
	long		milliseconds;
	TimestampTz deadline;
	CheckResult check;
	LoadState	s;
	LoadAttempt attempt;
	uint32		request;
	Row			row;

	/* not strict: whoever gets no error takes the files for loaded */
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be null")));
	milliseconds = interval_milliseconds(PG_GETARG_INTERVAL_P(0));
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);

	pgtls_history_read_state(&s);
	if (!pgtls_history_is_hook_called(&s))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the outcome of a reload cannot be known"),
				 pgtls_sni_is_on() ?
				 errdetail("With \"ssl_sni\", the server lets no module see how it loads its TLS files.") :
				 errdetail("Another module has taken the TLS init hook for itself."),
				 errhint("Call pg_tls_check() and then pg_reload_conf().")));

	pgtls_dryrun_run(deadline, &check);
	if (!check.ok)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("TLS configuration was not reloaded"),
				 errdetail("%s", pgtls_row_clean(check.error)),
				 errhint("Mend this and try again. Nothing was changed: the server goes on as it was.")));
	if (!check.ssl)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("TLS configuration was not reloaded"),
				 errdetail("The setting \"ssl\" is off, so there is nothing to load."),
				 errhint("Set \"ssl\" to on, or call pg_reload_conf() to reload the configuration without TLS.")));

	request = pgtls_history_request(false);
	if (kill(PostmasterPid, SIGHUP) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not send signal to the postmaster: %m")));

	while (!find_outcome(request, &attempt))
	{
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("timed out while the server reloads its TLS configuration"),
					 errdetail("The reload was asked for, and may still take place."),
					 errhint("See the view pg_tls_reloads for its outcome.")));
		pgtls_worker_wait(5);
	}

	if (attempt.outcome != LOAD_SUCCEEDED)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("TLS configuration was not reloaded"),
				 errdetail("%s",
						   pgtls_row_clean(pgtls_reloads_error(&attempt))),
				 errhint("The files changed after they had been tried. What was loaded before is still in force.")));

	pgtls_reloads_make_row(&row, &attempt);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

/*-------------------------------------------------------------------------
 *
 * reloads.c
 *	  The view pg_tls_reloads.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "base/compat.h"
#include "base/row.h"
#include "server/history.h"
#include "server/reloads.h"

PG_FUNCTION_INFO_V1(pg_tls_reloads_1_0);

/*
 * The message of a failed attempt.  There is none where log_min_messages kept
 * it out of the log.
 */
const char *
pgtls_reloads_error(const LoadAttempt *attempt)
{
	return attempt->error[0] != '\0' ? attempt->error :
		"the server's message was kept out of the log by \"log_min_messages\"";
}

/* Two columns: the fingerprint of the server's certificate, and its end. */
void
pgtls_reloads_add_certificate(Row *row, const ServerCertificate *certificate)
{
	if (certificate->known)
	{
		pgtls_row_hex(row, certificate->fingerprint,
					  sizeof(certificate->fingerprint));
		pgtls_row_time(row, certificate->not_after);
	}
	else
	{
		pgtls_row_null(row);
		pgtls_row_null(row);
	}
}

/* The columns of pg_tls_reloads, in their order. */
void
pgtls_reloads_make_row(Row *row, const LoadAttempt *attempt)
{
	static const char *const trigger_names[] = {"startup", "reload",
	"function", "watch"};

	pgtls_row_begin(row);
	pgtls_row_bigint(row, attempt->attempt);
	if (attempt->outcome == LOAD_SUCCEEDED)
		pgtls_row_bigint(row, attempt->generation);
	else
		pgtls_row_null(row);
	pgtls_row_time(row, attempt->time);
	pgtls_row_text(row, trigger_names[attempt->trigger]);
	if (attempt->outcome == LOAD_PENDING)
		pgtls_row_null(row);
	else
		pgtls_row_bool(row, attempt->outcome == LOAD_SUCCEEDED);
	if (attempt->outcome == LOAD_FAILED)
		pgtls_row_message(row, pgtls_reloads_error(attempt));
	else
		pgtls_row_null(row);
	if (attempt->duration >= 0)
		pgtls_row_float(row, attempt->duration / 1000.0);
	else
		pgtls_row_null(row);
	pgtls_reloads_add_certificate(row, &attempt->certificate);
}

/*
 * pg_tls_reloads() returns SETOF record
 *
 * The view's rows, the latest attempt first.  Raises an error without
 * preloading.
 */
Datum
pg_tls_reloads_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LoadState	s;

	pgtls_history_read_state(&s);
	InitMaterializedSRF(fcinfo, 0);
	for (int64 number = s.attempts;
		 number > Max(0, s.attempts - PGTLS_HISTORY_SIZE); number--)
	{
		LoadAttempt attempt;
		Row			row;

		if (!pgtls_history_read_attempt(number, &attempt))
			continue;
		pgtls_reloads_make_row(&row, &attempt);
		pgtls_row_store(&row, rsinfo);
	}
	return (Datum) 0;
}

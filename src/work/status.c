/*-------------------------------------------------------------------------
 *
 * status.c
 *	  The view pg_tls_status, which gathers from several rooms.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/row.h"
#include "base/wake.h"
#include "client/chain.h"
#include "client/due.h"
#include "server/history.h"
#include "server/reloads.h"

PG_FUNCTION_INFO_V1(pg_tls_status_1_0);

static void
add_setting(Row *row, const char *value)
{
	if (value != NULL && value[0] != '\0')
		pgtls_row_message(row, value);
	else
		pgtls_row_null(row);
}

/*
 * Whether a reload can load the private key without a person; NULL where it
 * depends on another module that has not been seen to do it.
 */
static void
add_reloadable(Row *row, const LoadState *s)
{
	switch (s->settings.passphrase)
	{
		case PASSPHRASE_NONE:
			pgtls_row_bool(row, true);
			break;
		case PASSPHRASE_TERMINAL:
			pgtls_row_bool(row, false);
			break;
		case PASSPHRASE_COMMAND:
			pgtls_row_bool(row, ssl_passphrase_command[0] != '\0' &&
						   ssl_passphrase_command_supports_reload);
			break;
		case PASSPHRASE_OTHER:
			if (s->loaded > 1)
				pgtls_row_bool(row, true);
			else
				pgtls_row_null(row);
			break;
	}
}

/* A protocol version as the settings have it. */
static const char *
protocol_version(int version)
{
	switch (version)
	{
		case PG_TLS1_VERSION:
			return "TLSv1";
		case PG_TLS1_1_VERSION:
			return "TLSv1.1";
		case PG_TLS1_2_VERSION:
			return "TLSv1.2";
		case PG_TLS1_3_VERSION:
			return "TLSv1.3";
		default:
			return NULL;		/* no limit */
	}
}

/* The same as OpenSSL has it. */
static int
openssl_version(int version)
{
	switch (version)
	{
		case PG_TLS1_VERSION:
			return TLS1_VERSION;
		case PG_TLS1_1_VERSION:
			return TLS1_1_VERSION;
		case PG_TLS1_2_VERSION:
			return TLS1_2_VERSION;
		case PG_TLS1_3_VERSION:
			return TLS1_3_VERSION;
		default:
			return 0;
	}
}

/*
 * pg_tls_status() returns record
 *
 * The view's one row.  Raises an error without preloading.
 */
Datum
pg_tls_status_1_0(PG_FUNCTION_ARGS)
{
	LoadState	s;
	LoadAttempt last;
	bool		has_last;
	char	   *ciphers;
	char	   *conf;
	int			monitor_pid = pgtls_wake_monitor_pid();
	DueVerdicts due;
	Row			row;

	pgtls_history_read_state(&s);
	if (s.unseen)
		s.loaded = 0;
	has_last = pgtls_history_read_attempt(s.attempts, &last);

	pgtls_row_begin(&row);
	pgtls_row_bool(&row, EnableSSL);
	if (pgtls_history_sees_loads(&s) && (s.loaded != 0 || s.pending == 0))
		pgtls_row_bool(&row, s.loaded != 0);
	else
		pgtls_row_null(&row);
	if (s.loaded != 0)
	{
		pgtls_row_bigint(&row, s.generation);
		pgtls_row_time(&row, s.loaded_at);
	}
	else
	{
		pgtls_row_null(&row);
		pgtls_row_null(&row);
	}
	pgtls_row_bigint(&row, s.attempts);
	pgtls_row_bigint(&row, s.failures);
	if (has_last)
		pgtls_row_time(&row, last.time);
	else
		pgtls_row_null(&row);
	if (has_last && last.outcome != LOAD_PENDING)
		pgtls_row_bool(&row, last.outcome == LOAD_SUCCEEDED);
	else
		pgtls_row_null(&row);
	if (has_last && last.outcome == LOAD_FAILED)
		pgtls_row_message(&row, pgtls_reloads_error(&last));
	else
		pgtls_row_null(&row);

	if (s.loaded == 0)
	{
		for (int i = 0; i < 7; i++)
			pgtls_row_null(&row);
	}
	else
	{
		add_reloadable(&row, &s);
		pgtls_reloads_add_certificate(&row, &s.certificate);
		pgtls_row_text(&row, protocol_version(s.settings.min_version));
		pgtls_row_text(&row, protocol_version(s.settings.max_version));
		ciphers = pgtls_ossl_ciphers(s.settings.cipher_list,
									 s.settings.cipher_suites,
									 openssl_version(s.settings.min_version),
									 openssl_version(s.settings.max_version));
		add_setting(&row, pgtls_row_adopt(ciphers));
		add_setting(&row, s.settings.groups);
	}

	pgtls_row_text(&row, OpenSSL_version(OPENSSL_VERSION));
	conf = CONF_get1_default_config_file();
	add_setting(&row, pgtls_row_adopt(conf));
	pgtls_row_bool(&row, pgtls_ossl_fips());
	if (monitor_pid != 0)
		pgtls_row_int(&row, monitor_pid);
	else
		pgtls_row_null(&row);
	pgtls_due_count(&due);
	pgtls_row_bigint(&row, due.outdated + due.overdue);
	pgtls_row_time(&row, due.since != DT_NOEND ? due.since : PGTLS_NO_TIME);
	if (s.loaded != 0 && s.crl_signatures >= 0)
		pgtls_row_bigint(&row, s.crl_signatures);
	else
		pgtls_row_null(&row);
	pgtls_row_bigint(&row, (int64) pgtls_chain_refused());
	pgtls_row_bigint(&row, due.unkept);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

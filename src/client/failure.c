/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  Handshakes and authentications: how many, and why they fail.
 *
 * Nothing tells an extension that a handshake has failed.  But OpenSSL calls
 * back at the end of each verification (x509/verify.c), with the error and the
 * certificate at fault; and the server logs a message, which the log hook
 * sees.  One failure may come by both ways, and is one.
 *
 * Most of this runs in backends before authentication, with strangers at the
 * other end: there is no PGPROC, so no lock may be taken, and the process may
 * be ended by a signal's handler at any moment.  What is kept is bounded,
 * counters and a ring of the last failures (base/ring.h), whatever the
 * strangers do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netdb.h>
#include <signal.h>

#include "common/ip.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/postmaster.h"
#include "storage/shmem.h"
#include "utils/elog.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/preload.h"
#include "base/ring.h"
#include "base/row.h"
#include "base/stream.h"
#include "base/text.h"
#include "client/failure.h"
#include "client/reason.h"
#include "x509/certificate.h"

/* A failure.  Texts are UTF-8, but for those of the server and the client. */
typedef struct Failure
{
	TimestampTz time;
	int			pid;
	FailureReason reason;
	int			client_port;	/* -1 for none */
	int			verify_error;	/* X509_V_ERR_..., X509_V_OK for none */
	int			depth;			/* of the certificate at fault */
	bool		has_certificate;
	unsigned char fingerprint[PGTLS_SHA256_LEN];
	TimestampTz not_before;
	TimestampTz not_after;
	char		client_addr[64];
	char		usename[NAMEDATALEN];
	char		database[NAMEDATALEN];
	char		error[256];		/* the server's message */
	char		serial[64];
	char		subject[1024];
	char		issuer[1024];
} Failure;

/* A failure in the ring. */
typedef struct FailureSlot
{
	pg_atomic_uint64 stamp;
	Failure		failure;
} FailureSlot;

typedef struct Counter
{
	pg_atomic_uint64 count;
	pg_atomic_uint64 last_time; /* a TimestampTz */
} Counter;

typedef struct FailureShared
{
	pg_atomic_uint64 stats_reset;	/* when counting began, here and in
									 * inventory.c; a TimestampTz */
	Counter		accepted;
	Counter		failed[REASON_COUNT];
	pg_atomic_uint64 tickets;	/* how many were taken */
	pg_atomic_uint64 first_ticket;	/* those before were reset */
	pg_atomic_uint64 changes;	/* of all this, since the server's start */
	FailureSlot slots[FLEXIBLE_ARRAY_MEMBER];
} FailureShared;

static bool require_encryption; /* pg_tls.require_encryption */
static int	failure_log_size;	/* pg_tls.failure_log_size */

static FailureShared *shared = NULL;	/* NULL without preloading */

/* The failure of this process, and its ticket. */
static Failure current;
static bool published = false;
static uint64 current_ticket;

PG_FUNCTION_INFO_V1(pg_stat_tls_failures_1_0);
PG_FUNCTION_INFO_V1(pg_stat_tls_handshakes_1_0);

void
pgtls_failure_define_settings(void)
{
	DefineCustomBoolVariable("pg_tls.require_encryption",
							 "Refuses TCP connections that use neither TLS nor GSSAPI encryption.",
							 "It is checked after authentication, so that a password may have been sent in clear text by then; "
							 "hostssl lines in pg_hba.conf refuse earlier.",
							 &require_encryption,
							 false,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("pg_tls.failure_log_size",
							"Sets how many failed handshakes and authentications are remembered.",
							"Each takes about 3 kB of shared memory.",
							&failure_log_size,
							256,
							16,
							100000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
}

/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

Size
pgtls_failure_shmem_size(void)
{
	return add_size(offsetof(FailureShared, slots),
					mul_size(failure_log_size, sizeof(FailureSlot)));
}

static void
init_counter(Counter *counter)
{
	pg_atomic_init_u64(&counter->count, 0);
	pg_atomic_init_u64(&counter->last_time, 0);
}

void
pgtls_failure_shmem_init(void *area, bool found)
{
	shared = area;
	if (found)
		return;

	memset(area, 0, pgtls_failure_shmem_size());
	pg_atomic_init_u64(&shared->stats_reset, (uint64) GetCurrentTimestamp());
	init_counter(&shared->accepted);
	for (int i = 0; i < REASON_COUNT; i++)
		init_counter(&shared->failed[i]);
	pg_atomic_init_u64(&shared->tickets, 0);
	pg_atomic_init_u64(&shared->first_ticket, 0);
	pg_atomic_init_u64(&shared->changes, 0);
	for (int i = 0; i < failure_log_size; i++)
		pg_atomic_init_u64(&shared->slots[i].stamp, 0);
}

static void
count(Counter *counter, TimestampTz now)
{
	pg_atomic_fetch_add_u64(&counter->count, 1);
	pg_atomic_write_u64(&counter->last_time, (uint64) now);
}

static void
write_slot(uint64 ticket, const Failure *failure)
{
	FailureSlot *slot = &shared->slots[ticket % failure_log_size];

	pgtls_ring_write(&slot->stamp, &slot->failure, failure, sizeof(Failure),
					 ticket);
}

/* Copy the failure of a ticket; false if it is not there. */
static bool
read_slot(uint64 ticket, Failure *failure)
{
	FailureSlot *slot = &shared->slots[ticket % failure_log_size];

	return pgtls_ring_read(&slot->stamp, &slot->failure, failure,
						   sizeof(Failure), ticket);
}

/*
 * How many changes there were since the server's start, but for those by
 * pgtls_failure_load().  What was counted is there to be saved.
 */
uint64
pgtls_failure_changes(void)
{
	uint64		changes = pg_atomic_read_u64(&shared->changes);

	pg_memory_barrier();
	return changes;
}

/* When counting began: at the last reset, or the first start. */
TimestampTz
pgtls_failure_stats_reset(void)
{
	return (TimestampTz) pg_atomic_read_u64(&shared->stats_reset);
}

/* Count a change that was made. */
static void
note_change(void)
{
	pg_atomic_fetch_add_u64(&shared->changes, 1);
}

/* ----------------------------------------------------------------
 *		Producer
 * ----------------------------------------------------------------
 */

/* Who failed: what is known of the client by now. */
static void
describe_client(const Port *port, Failure *failure)
{
	char		service[16];

	failure->time = GetCurrentTimestamp();
	failure->pid = MyProcPid;
	failure->client_port = -1;
	if (port == NULL)
		return;
	if (port->raddr.addr.ss_family != AF_UNIX &&
		pg_getnameinfo_all(&port->raddr.addr, port->raddr.salen,
						   failure->client_addr, sizeof(failure->client_addr),
						   service, sizeof(service),
						   NI_NUMERICHOST | NI_NUMERICSERV) == 0)
	{
		char	   *zone = strchr(failure->client_addr, '%');

		if (zone != NULL)
			*zone = '\0';
		failure->client_port = atoi(service);
	}
	if (port->user_name != NULL)
		strlcpy(failure->usename, port->user_name, sizeof(failure->usename));
	if (port->database_name != NULL)
		strlcpy(failure->database, port->database_name,
				sizeof(failure->database));
}

static void
describe_certificate(X509 *cert, Failure *failure)
{
	CertInfo	info;

	if (!pgtls_certificate_read(cert, &info))
		return;
	failure->has_certificate = true;
	memcpy(failure->fingerprint, info.fingerprint,
		   sizeof(failure->fingerprint));
	failure->not_before = info.not_before;
	failure->not_after = info.not_after;
	if (info.serial != NULL && strlen(info.serial) < sizeof(failure->serial))
		strcpy(failure->serial, info.serial);
	pgtls_text_cut(failure->subject, sizeof(failure->subject), info.subject);
	pgtls_text_cut(failure->issuer, sizeof(failure->issuer), info.issuer);
	pgtls_certificate_free(&info);
}

/*
 * Publish this process's failure, or what more is known of it now.  All signals
 * are blocked meanwhile, as the handler of authentication_timeout would end the
 * process in the middle.
 */
static void
publish(void)
{
	sigset_t	all,
				old;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	if (!published)
	{
		count(&shared->failed[current.reason], current.time);
		current_ticket = pg_atomic_fetch_add_u64(&shared->tickets, 1);
		published = true;
	}
	write_slot(current_ticket, &current);
	note_change();
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* The verification of this process's handshake is over. */
void
pgtls_failure_note_verification(X509_STORE_CTX *ctx)
{
	int			error = X509_STORE_CTX_get_error(ctx);
	X509	   *cert = X509_STORE_CTX_get_current_cert(ctx);

	if (error == X509_V_OK || shared == NULL || published)
		return;
	memset(&current, 0, sizeof(current));
	describe_client(MyProcPort, &current);
	current.reason = pgtls_reason_of_verify_error(error);
	current.verify_error = error;
	current.depth = X509_STORE_CTX_get_error_depth(ctx);
	if (cert != NULL)
		describe_certificate(cert, &current);
	publish();
}

/* Something is logged: perhaps why a client fails. */
void
pgtls_failure_note_message(const ErrorData *edata)
{
	FailureReason reason;

	if (shared != NULL && MyProcPort != NULL && ClientAuthInProgress &&
		edata->message != NULL &&
		pgtls_reason_of_message(edata, &reason) && current.error[0] == '\0')
	{
		if (!published)
		{
			memset(&current, 0, sizeof(current));
			describe_client(MyProcPort, &current);
			current.reason = reason;
			if (MyProcPort->peer != NULL)
				describe_certificate(MyProcPort->peer, &current);
		}
		strlcpy(current.error, edata->message, sizeof(current.error));
		publish();
	}
}

/*
 * Raise FATAL if the client, who was authenticated, has to use encryption and
 * does not.
 */
void
pgtls_failure_require_encryption(Port *port)
{
	bool		encrypted = port->ssl_in_use;

#ifdef ENABLE_GSS
	encrypted = encrypted || (port->gss != NULL && be_gssapi_get_enc(port));
#endif
	if (require_encryption && !encrypted &&
		port->raddr.addr.ss_family != AF_UNIX)
	{
		if (shared != NULL)
		{
			memset(&current, 0, sizeof(current));
			describe_client(port, &current);
			current.reason = REASON_ENCRYPTION_REQUIRED;
			strlcpy(current.error, "connection is not encrypted",
					sizeof(current.error));
			publish();
		}
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("connection is not encrypted"),
				 errdetail("The server has \"pg_tls.require_encryption\" set."),
				 errhint("Connect with TLS, for example with sslmode=require or stricter.")));
	}
}

/* A client was accepted over TLS. */
void
pgtls_failure_count_accepted(const Port *port)
{
	if (port->ssl_in_use && shared != NULL)
	{
		count(&shared->accepted, GetCurrentTimestamp());
		note_change();
	}
}


/* ----------------------------------------------------------------
 *		Save file: when counting began, counters, and the failures from the
 *		oldest on
 * ----------------------------------------------------------------
 */

typedef struct SavedCounter
{
	uint64		count;
	uint64		last_time;
} SavedCounter;

typedef struct SavedHeader
{
	int32		counters;		/* the first is for "accepted" */
	int32		failure_size;
} SavedHeader;

static Counter *
counter_number(int i)
{
	return i == 0 ? &shared->accepted : &shared->failed[i - 1];
}

/* The tickets whose failures may still be there. */
static void
ticket_range(uint64 *first, uint64 *end)
{
	*end = pg_atomic_read_u64(&shared->tickets);
	*first = pg_atomic_read_u64(&shared->first_ticket);
	if (*end > (uint64) failure_log_size)
		*first = Max(*first, *end - failure_log_size);
}

void
pgtls_failure_save(Stream *stream)
{
	SavedHeader header = {REASON_COUNT + 1, sizeof(Failure)};
	TimestampTz since = pgtls_failure_stats_reset();
	uint64		first,
				end;

	pgtls_stream_put(stream, &header, sizeof(header));
	pgtls_stream_put(stream, &since, sizeof(since));
	for (int i = 0; i < header.counters; i++)
	{
		Counter    *counter = counter_number(i);
		SavedCounter saved = {pg_atomic_read_u64(&counter->count),
		pg_atomic_read_u64(&counter->last_time)};

		pgtls_stream_put(stream, &saved, sizeof(saved));
	}
	ticket_range(&first, &end);
	for (uint64 ticket = first; ticket < end; ticket++)
	{
		Failure		failure;

		if (read_slot(ticket, &failure))
			pgtls_stream_put_record(stream, &failure, sizeof(failure));
	}
	pgtls_stream_end_records(stream);
}

/*
 * Add what was saved; false if it is not to be understood.  Failures since the
 * start are newer, but come before those that are loaded now: the ring has no
 * other order than that of the tickets, and readers have the times.
 */
bool
pgtls_failure_load(Stream *stream)
{
	SavedHeader header;
	TimestampTz since;
	SavedCounter counters[REASON_COUNT + 1];
	Failure		failure;

	if (!pgtls_stream_get(stream, &header, sizeof(header)) ||
		header.counters != REASON_COUNT + 1 ||
		header.failure_size != sizeof(Failure) ||
		!pgtls_stream_get(stream, &since, sizeof(since)) ||
		!pgtls_stream_get(stream, counters, sizeof(counters)))
		return false;

	if (since < pgtls_failure_stats_reset())
		pg_atomic_write_u64(&shared->stats_reset, (uint64) since);
	for (int i = 0; i < header.counters; i++)
	{
		Counter    *counter = counter_number(i);

		pg_atomic_fetch_add_u64(&counter->count, counters[i].count);
		if (pg_atomic_read_u64(&counter->last_time) < counters[i].last_time)
			pg_atomic_write_u64(&counter->last_time, counters[i].last_time);
	}
	while (pgtls_stream_get_record(stream, &failure, sizeof(failure)))
	{
		if ((unsigned int) failure.reason < REASON_COUNT)
			write_slot(pg_atomic_fetch_add_u64(&shared->tickets, 1), &failure);
	}
	return stream->ok;
}

/* ----------------------------------------------------------------
 *		SQL
 * ----------------------------------------------------------------
 */

static void
add_message(Row *row, const char *text)
{
	if (text[0] != '\0')
		pgtls_row_message(row, text);
	else
		pgtls_row_null(row);
}

/* The columns of pg_stat_tls_failures, in their order. */
static void
make_row(Row *row, const Failure *failure)
{
	pgtls_row_begin(row);
	pgtls_row_time(row, failure->time);
	pgtls_row_int(row, failure->pid);
	pgtls_row_inet(row, failure->client_addr[0] != '\0' ?
				   failure->client_addr :
				   NULL);
	if (failure->client_port >= 0)
		pgtls_row_int(row, failure->client_port);
	else
		pgtls_row_null(row);
	pgtls_row_name(row, failure->usename);
	pgtls_row_name(row, failure->database);
	pgtls_row_text(row, pgtls_reason_name(failure->reason));
	add_message(row, failure->error);
	if (failure->verify_error != X509_V_OK)
	{
		pgtls_row_text(row,
					   X509_verify_cert_error_string(failure->verify_error));
		pgtls_row_int(row, failure->depth);
	}
	else
	{
		pgtls_row_null(row);
		pgtls_row_null(row);
	}
	if (!failure->has_certificate)
	{
		for (int i = 0; i < 6; i++)
			pgtls_row_null(row);
	}
	else
	{
		pgtls_row_text(row, failure->subject);
		pgtls_row_text(row, failure->issuer);
		pgtls_row_numeric(row, failure->serial[0] != '\0' ?
						  failure->serial :
						  NULL);
		pgtls_row_hex(row, failure->fingerprint,
					  sizeof(failure->fingerprint));
		pgtls_row_time(row, failure->not_before);
		pgtls_row_time(row, failure->not_after);
	}
	pgtls_row_time(row, pgtls_failure_stats_reset());
}

/*
 * pg_stat_tls_failures() returns SETOF record
 *
 * The view's rows, the latest first.  Raises an error without preloading.
 */
Datum
pg_stat_tls_failures_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		end;
	uint64		first;
	MemoryContext context;

	pgtls_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	context = pgtls_row_begin_rows();
	ticket_range(&first, &end);
	for (uint64 ticket = end; ticket > first; ticket--)
	{
		Failure		failure;
		Row			row;

		CHECK_FOR_INTERRUPTS();
		if (!read_slot(ticket - 1, &failure))
			continue;
		make_row(&row, &failure);
		pgtls_row_store(&row, rsinfo);
		MemoryContextReset(context);
	}
	pgtls_row_end_rows(context);
	return (Datum) 0;
}

static void
store_counter(ReturnSetInfo *rsinfo, const char *result, const char *reason,
			  Counter *counter)
{
	TimestampTz last_time =
		(TimestampTz) pg_atomic_read_u64(&counter->last_time);
	Row			row;

	pgtls_row_begin(&row);
	pgtls_row_text(&row, result);
	pgtls_row_text(&row, reason);
	pgtls_row_bigint(&row, (int64) pg_atomic_read_u64(&counter->count));
	if (last_time != 0)
		pgtls_row_time(&row, last_time);
	else
		pgtls_row_null(&row);
	pgtls_row_time(&row, pgtls_failure_stats_reset());
	pgtls_row_store(&row, rsinfo);
}

/*
 * pg_stat_tls_handshakes() returns SETOF record
 *
 * The view's rows, one for each reason.  Raises an error without preloading.
 */
Datum
pg_stat_tls_handshakes_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	pgtls_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	store_counter(rsinfo, "accepted", NULL, &shared->accepted);
	for (int i = 0; i < REASON_COUNT; i++)
		store_counter(rsinfo, "failed", pgtls_reason_name(i),
					  &shared->failed[i]);
	return (Datum) 0;
}

static void
reset_counter(Counter *counter)
{
	pg_atomic_write_u64(&counter->count, 0);
	pg_atomic_write_u64(&counter->last_time, 0);
}

void
pgtls_failure_reset(void)
{
	reset_counter(&shared->accepted);
	for (int i = 0; i < REASON_COUNT; i++)
		reset_counter(&shared->failed[i]);
	pg_atomic_write_u64(&shared->first_ticket,
						pg_atomic_read_u64(&shared->tickets));
	pg_atomic_write_u64(&shared->stats_reset, (uint64) GetCurrentTimestamp());
	note_change();
}

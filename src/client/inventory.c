/*-------------------------------------------------------------------------
 *
 * inventory.c
 *	  What clients used, over time: bounded tables in shared memory.
 *
 * One table counts sessions by who connected how, the other by certificate
 * and role.  A backend notes its session when nothing can refuse it any more.
 * When a table is full, the entry that was seen longest ago makes room.
 *
 * Each table has a lock, held while one entry is found and changed, or copied.
 * The save file is written by the monitor (work/save.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/preload.h"
#include "base/row.h"
#include "base/stream.h"
#include "base/text.h"
#include "base/wake.h"
#include "client/failure.h"
#include "client/inventory.h"
#include "client/table.h"

/* An address without port; family 0 for none. */
typedef struct Address
{
	uint8		family;			/* 4, 6, or 0 */
	uint8		bytes[16];
} Address;

/* What sessions of an entry have in common: when, and how many. */
typedef struct Seen
{
	int64		sessions;
	TimestampTz first_seen;
	TimestampTz last_seen;
} Seen;

/* Keys are compared as bytes: they are zero after the end of each text. */
typedef struct ClientKey
{
	char		usename[NAMEDATALEN];
	char		encryption[8];
	char		version[16];
	char		cipher[48];
	char		key_exchange[32];
	Address		addr;
} ClientKey;

typedef struct Client
{
	ClientKey	key;
	Seen		seen;
} Client;

typedef struct CertificateKey
{
	unsigned char fingerprint[PGTLS_SHA256_LEN];
	char		usename[NAMEDATALEN];
} CertificateKey;

typedef struct Certificate
{
	CertificateKey key;
	Seen		seen;
	Address		last_addr;
	TimestampTz not_before;
	TimestampTz not_after;
	char		key_name[48];
	char		serial[64];
	char		subject[512];
	char		issuer[512];
	char		san[512];
} Certificate;


static int	max_clients;		/* pg_tls.max_clients */
static int	max_certificates;	/* pg_tls.max_certificates */

static Table *clients = NULL;	/* NULL without preloading */
static Table *certificates = NULL;

PG_FUNCTION_INFO_V1(pg_stat_tls_clients_1_0);
PG_FUNCTION_INFO_V1(pg_stat_tls_client_certificates_1_0);
PG_FUNCTION_INFO_V1(pg_stat_tls_info_1_0);
PG_FUNCTION_INFO_V1(pg_stat_tls_reset_1_0);

void
pgtls_inventory_define_settings(void)
{
	DefineCustomIntVariable("pg_tls.max_clients",
							"Sets how many rows pg_stat_tls_clients has at most.",
							NULL,
							&max_clients,
							1000,
							10,
							100000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_tls.max_certificates",
							"Sets how many rows pg_stat_tls_client_certificates has at most.",
							NULL,
							&max_certificates,
							1000,
							10,
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
pgtls_inventory_shmem_size(void)
{
	return add_size(MAXALIGN(pgtls_table_size(max_clients, sizeof(Client))),
					pgtls_table_size(max_certificates, sizeof(Certificate)));
}

void
pgtls_inventory_shmem_init(void *area, bool found)
{
	clients = area;
	certificates =
		(Table *) ((char *) area +
				   MAXALIGN(pgtls_table_size(max_clients, sizeof(Client))));
	if (found)
		return;
	pgtls_table_init(clients, max_clients, sizeof(ClientKey), sizeof(Client),
					 PGTLS_LOCK_CLIENTS);
	pgtls_table_init(certificates, max_certificates, sizeof(CertificateKey),
					 sizeof(Certificate), PGTLS_LOCK_CERTIFICATES);
}


/* ----------------------------------------------------------------
 *		Producer
 * ----------------------------------------------------------------
 */

static void
set_address(Address *to, const SockAddr *from)
{
	memset(to, 0, sizeof(*to));
	if (from->addr.ss_family == AF_INET)
	{
		to->family = 4;
		memcpy(to->bytes,
			   &((const struct sockaddr_in *) &from->addr)->sin_addr, 4);
	}
	else if (from->addr.ss_family == AF_INET6)
	{
		to->family = 6;
		memcpy(to->bytes,
			   &((const struct sockaddr_in6 *) &from->addr)->sin6_addr, 16);
	}
}

/* One more session of an entry, or several of the save file. */
static void
add_seen(Seen *to, bool found, const Seen *more)
{
	if (!found)
		*to = *more;
	else
	{
		to->sessions += more->sessions;
		to->first_seen = Min(to->first_seen, more->first_seen);
		to->last_seen = Max(to->last_seen, more->last_seen);
	}
}

/*
 * Note a session.  Runs in a backend as it logs in; raises no error.
 */
void
pgtls_inventory_note(const InventorySession *session)
{
	Seen		now;
	Client		client;
	bool		found;

	if (clients == NULL)
		return;

	now.sessions = 1;
	now.first_seen = now.last_seen = GetCurrentTimestamp();

	/* the local ones are whole before the lock is taken */
	memset(&client, 0, sizeof(client));
	pgtls_text_cut(client.key.usename, sizeof(client.key.usename),
				   session->usename);
	strlcpy(client.key.encryption, session->encryption,
			sizeof(client.key.encryption));
	pgtls_text_cut(client.key.version, sizeof(client.key.version),
				   session->version);
	pgtls_text_cut(client.key.cipher, sizeof(client.key.cipher),
				   session->cipher);
	pgtls_text_cut(client.key.key_exchange, sizeof(client.key.key_exchange),
				   session->key_exchange);
	set_address(&client.key.addr, session->addr);

	LWLockAcquire(clients->lock, LW_EXCLUSIVE);
	{
		Client	   *entry = pgtls_table_find(clients, &client.key, &found);

		add_seen(&entry->seen, found, &now);
		clients->changes++;
	}
	LWLockRelease(clients->lock);

	if (session->has_certificate)
	{
		Certificate cert;

		memset(&cert, 0, sizeof(cert));
		memcpy(cert.key.fingerprint, session->fingerprint, PGTLS_SHA256_LEN);
		memcpy(cert.key.usename, client.key.usename, sizeof(cert.key.usename));
		cert.last_addr = client.key.addr;
		cert.not_before = session->not_before;
		cert.not_after = session->not_after;
		pgtls_text_cut(cert.key_name, sizeof(cert.key_name), session->key);
		if (session->serial != NULL &&
			strlen(session->serial) < sizeof(cert.serial))
			strcpy(cert.serial, session->serial);
		pgtls_text_cut(cert.subject, sizeof(cert.subject), session->subject);
		pgtls_text_cut(cert.issuer, sizeof(cert.issuer), session->issuer);
		pgtls_text_cut(cert.san, sizeof(cert.san), session->san);

		LWLockAcquire(certificates->lock, LW_EXCLUSIVE);
		{
			Certificate *entry =
				pgtls_table_find(certificates, &cert.key, &found);
			Seen		seen = entry->seen;

			add_seen(&seen, found, &now);
			*entry = cert;
			entry->seen = seen;
			certificates->changes++;
		}
		LWLockRelease(certificates->lock);
	}
}

static void
reset_tables(void)
{
	pgtls_table_reset(clients);
	pgtls_table_reset(certificates);
}


/* ----------------------------------------------------------------
 *		Save file: for each table, the size of an entry, the evictions, and the
 *		entries from the newest on
 * ----------------------------------------------------------------
 */


static void
save_table(Table *table, void *copy, Stream *stream)
{
	int32		size = (int32) table->entry_size;
	int64		evictions = pgtls_table_evictions(table);
	TableScan	scan;

	pgtls_stream_put(stream, &size, sizeof(size));
	pgtls_stream_put(stream, &evictions, sizeof(evictions));
	pgtls_table_begin_scan(&scan, table);
	while (pgtls_table_scan_next(&scan, copy))
		pgtls_stream_put_record(stream, copy, size);
	pgtls_stream_end_records(stream);
}

void
pgtls_inventory_save(Stream *stream)
{
	Client		client;
	Certificate cert;

	save_table(clients, &client, stream);
	save_table(certificates, &cert, stream);
}

/* How many changes there were since the server's start, but for loading. */
uint64
pgtls_inventory_changes(void)
{
	return pgtls_table_changes(clients) + pgtls_table_changes(certificates);
}

/* Add an entry that was saved. */
static void
load_entry(Table *table, const void *saved, Size seen_offset)
{
	char	   *entry;
	bool		found;

	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	entry = pgtls_table_load(table, saved, &found);
	if (found)
		add_seen((Seen *) (entry + seen_offset), true,
				 (const Seen *) ((const char *) saved + seen_offset));
	LWLockRelease(table->lock);
}

static bool
load_table(Table *table, void *copy, Size seen_offset, Stream *stream)
{
	int32		size;
	int64		evictions;

	if (!pgtls_stream_get(stream, &size, sizeof(size)) ||
		size != (int32) table->entry_size ||
		!pgtls_stream_get(stream, &evictions, sizeof(evictions)))
		return false;
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	table->evictions += evictions;
	LWLockRelease(table->lock);
	while (pgtls_stream_get_record(stream, copy, size))
		load_entry(table, copy, seen_offset);
	return stream->ok;
}

/*
 * Add what was saved; false if it is not to be understood.  Sessions that were
 * noted since are newer than all of it, so what finds no room is left out.
 */
bool
pgtls_inventory_load(Stream *stream)
{
	Client		client;
	Certificate cert;

	return load_table(clients, &client, offsetof(Client, seen), stream) &&
		load_table(certificates, &cert, offsetof(Certificate, seen), stream);
}


/* ----------------------------------------------------------------
 *		SQL
 * ----------------------------------------------------------------
 */

static void
add_address(Row *row, const Address *addr)
{
	char		buf[64];

	if (addr->family == 0 || inet_ntop(addr->family == 4 ? AF_INET : AF_INET6,
									   addr->bytes, buf, sizeof(buf)) == NULL)
		pgtls_row_null(row);
	else
		pgtls_row_inet(row, buf);
}

static void
add_text(Row *row, const char *text)
{
	pgtls_row_text(row, text[0] != '\0' ? text : NULL);
}

static void
add_seen_columns(Row *row, const Seen *seen)
{
	pgtls_row_bigint(row, seen->sessions);
	pgtls_row_time(row, seen->first_seen);
	pgtls_row_time(row, seen->last_seen);
}

/*
 * pg_stat_tls_clients() returns SETOF record
 *
 * The view's rows.  Raises an error without preloading.
 */
Datum
pg_stat_tls_clients_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Client		client;
	TableScan	scan;
	MemoryContext context;

	pgtls_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	pgtls_table_begin_scan(&scan, clients);
	context = pgtls_row_begin_rows();
	while (pgtls_table_scan_next(&scan, &client))
	{
		Row			row;

		pgtls_row_begin(&row);
		pgtls_row_name(&row, client.key.usename);
		add_address(&row, &client.key.addr);
		add_text(&row, client.key.encryption);
		add_text(&row, client.key.version);
		add_text(&row, client.key.cipher);
		add_text(&row, client.key.key_exchange);
		add_seen_columns(&row, &client.seen);
		pgtls_row_time(&row, pgtls_failure_stats_reset());
		pgtls_row_store(&row, rsinfo);
		MemoryContextReset(context);
	}
	pgtls_row_end_rows(context);
	return (Datum) 0;
}

/*
 * pg_stat_tls_client_certificates() returns SETOF record
 *
 * The view's rows.  Raises an error without preloading.
 */
Datum
pg_stat_tls_client_certificates_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Certificate cert;
	TableScan	scan;
	MemoryContext context;

	pgtls_preload_require();
	InitMaterializedSRF(fcinfo, 0);
	pgtls_table_begin_scan(&scan, certificates);
	context = pgtls_row_begin_rows();
	while (pgtls_table_scan_next(&scan, &cert))
	{
		Row			row;

		pgtls_row_begin(&row);
		pgtls_row_hex(&row, cert.key.fingerprint, PGTLS_SHA256_LEN);
		pgtls_row_name(&row, cert.key.usename);
		add_text(&row, cert.subject);
		add_text(&row, cert.issuer);
		pgtls_row_numeric(&row, cert.serial[0] != '\0' ? cert.serial : NULL);
		pgtls_row_list(&row, cert.san[0] != '\0' ? cert.san : NULL);
		add_text(&row, cert.key_name);
		pgtls_row_time(&row, cert.not_before);
		pgtls_row_time(&row, cert.not_after);
		add_seen_columns(&row, &cert.seen);
		add_address(&row, &cert.last_addr);
		pgtls_row_time(&row, pgtls_failure_stats_reset());
		pgtls_row_store(&row, rsinfo);
		MemoryContextReset(context);
	}
	pgtls_row_end_rows(context);
	return (Datum) 0;
}

/*
 * pg_stat_tls_info() returns record
 *
 * The view's row.  Raises an error without preloading.
 */
Datum
pg_stat_tls_info_1_0(PG_FUNCTION_ARGS)
{
	Row			row;

	pgtls_preload_require();
	pgtls_row_begin(&row);
	pgtls_row_bigint(&row, pgtls_table_evictions(clients));
	pgtls_row_bigint(&row, pgtls_table_evictions(certificates));
	pgtls_row_time(&row, pgtls_failure_stats_reset());
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

/*
 * pg_stat_tls_reset() returns void
 *
 * Resets what failure.c counts, too.  Raises an error without preloading.
 */
Datum
pg_stat_tls_reset_1_0(PG_FUNCTION_ARGS)
{
	pgtls_preload_require();
	pgtls_failure_reset();
	reset_tables();
	pgtls_wake_to_save();
	PG_RETURN_VOID();
}

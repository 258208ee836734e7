/*-------------------------------------------------------------------------
 *
 * session.c
 *	  A client's session describes itself; pg_stat_tls.
 *
 * A backend describes its own connection as soon as its client is
 * authenticated (hooks.c), puts the description into its slot in shared memory,
 * and empties the slot as it exits.  Any backend reads all slots.  Without
 * preloading there are no slots, and a backend can still describe itself.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "access/xact.h"
#include "libpq/auth.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/cell.h"
#include "base/compat.h"
#include "base/preload.h"
#include "base/row.h"
#include "base/text.h"
#include "client/chain.h"
#include "client/due.h"
#include "client/inventory.h"
#include "client/session.h"
#include "client/slot.h"
#include "server/crlchange.h"
#include "server/history.h"
#include "server/load.h"
#include "x509/certificate.h"
#include "x509/verify.h"

static const char *const encryption_names[] = {"none", "local", "gss", "tls"};

PG_FUNCTION_INFO_V1(pg_stat_tls_1_0);
PG_FUNCTION_INFO_V1(pg_tls_session_1_0);

/* ----------------------------------------------------------------
 *		Producer: a backend describes its own session
 *
 * All of this runs right after authentication, in every connection: nothing
 * raises an error, since that would cost the connection.
 * ----------------------------------------------------------------
 */

/*
 * Keep bytes that came from the client as they are, or are printed from such:
 * they become valid UTF-8 first.
 */
static void
put_bytes(SessionInfo *info, SessionText field, const char *bytes, int len,
		  bool double_backslash)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *data;

	if (bio != NULL &&
		pgtls_text_escape(bio, bytes, len, double_backslash) &&
		BIO_write(bio, "", 1) == 1 &&
		BIO_get_mem_data(bio, &data) > 0)
		pgtls_slot_put_text(info, field, data);
	BIO_free(bio);
	ERR_clear_error();
}

static void
describe_certificate(X509 *cert, SessionInfo *info, const char *identity)
{
	CertInfo	c;

	if (!pgtls_certificate_read(cert, &c))
		return;

	info->certificate_read = true;
	memcpy(info->fingerprint, c.fingerprint, sizeof(info->fingerprint));
	info->not_before = c.not_before;
	info->not_after = c.not_after;
	pgtls_slot_put_text(info, TEXT_CLIENT_DN, c.subject);
	pgtls_slot_put_text(info, TEXT_CLIENT_DN_RFC2253, c.subject_rfc2253);
	pgtls_slot_put_text(info, TEXT_ISSUER_DN, c.issuer);
	pgtls_slot_put_number(info, TEXT_SERIAL, c.serial);
	pgtls_slot_put_text(info, TEXT_CLIENT_CN, c.common_name);
	pgtls_slot_put_text(info, TEXT_CLIENT_SAN, c.san);
	pgtls_slot_put_text(info, TEXT_CLIENT_KEY, c.key);
	pgtls_slot_put_text(info, TEXT_CLIENT_EKU, c.eku);

	/* "cert" authentication makes the DN the identity; keep it once */
	if (identity != NULL && c.subject_rfc2253 != NULL &&
		strcmp(identity, c.subject_rfc2253) == 0)
		info->text_at[TEXT_AUTH_IDENTITY] =
			info->text_at[TEXT_CLIENT_DN_RFC2253];

	pgtls_certificate_free(&c);
}

static void
describe_tls(Port *port, SessionInfo *info, const char *identity)
{
	SSL		   *ssl = port->ssl;
	char		buf[32];
	const char *group;
	const char *name;
	const unsigned char *alpn;
	unsigned int alpn_len;

	/* as pg_stat_ssl has them (pgstat_bestart) */
	info->bits = be_tls_get_cipher_bits(port);
	pgtls_slot_put_text(info, TEXT_VERSION, be_tls_get_version(port));
	pgtls_slot_put_text(info, TEXT_CIPHER, be_tls_get_cipher(port));

	info->generation = pgtls_load_generation();
	group = pgtls_ossl_group(ssl, buf, sizeof(buf));
	info->post_quantum = pgtls_ossl_post_quantum(ssl, group);
	pgtls_slot_put_text(info, TEXT_KEY_EXCHANGE, group);
	pgtls_slot_put_text(info, TEXT_SIGNATURE, pgtls_ossl_signature(ssl, false));

	name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (name != NULL)
		put_bytes(info, TEXT_SERVER_NAME, name, strlen(name), true);
	SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	if (alpn_len > 0)
		put_bytes(info, TEXT_ALPN, (const char *) alpn, alpn_len, true);

	if (port->peer != NULL)
	{
		info->has_certificate = true;
		pgtls_slot_put_text(info, TEXT_CLIENT_SIGNATURE,
							pgtls_ossl_signature(ssl, true));
		describe_certificate(port->peer, info, identity);
	}
}

/* Describe this backend's connection, the verdict and the chain apart. */
static void
describe_connection(Port *port, const char *auth_method, SessionInfo *info)
{
	const char *identity = pgtls_authn_id(port);

	memset(info, 0, offsetof(SessionInfo, space));
	info->pid = MyProcPid;
	info->pgproc = pgtls_pgproc_number();
	info->start = MyStartTimestamp;
	info->chain = PGTLS_NO_CHAIN;
	info->not_before = PGTLS_NO_TIME;
	info->not_after = PGTLS_NO_TIME;
	pgtls_slot_put_text(info, TEXT_AUTH_METHOD, auth_method);

	if (port->ssl_in_use && port->ssl != NULL)
	{
		info->encryption = ENCRYPTION_TLS;
		describe_tls(port, info, identity);
	}
#ifdef ENABLE_GSS
	else if (port->gss != NULL && be_gssapi_get_enc(port))
		info->encryption = ENCRYPTION_GSS;
#endif
	else if (port->raddr.addr.ss_family == AF_UNIX)
		info->encryption = ENCRYPTION_LOCAL;

	if (identity != NULL && pgtls_slot_text(info, TEXT_AUTH_IDENTITY) == NULL)
		put_bytes(info, TEXT_AUTH_IDENTITY, identity, strlen(identity), false);
}

/* The session ends: empty the slot, give its chain back. */
static void
session_exit(int code, Datum arg)
{
	SessionSlot *slot = pgtls_slot_mine();
	ChainRef	chain = slot->info.chain;

	if (slot->info.pid != MyProcPid)
		return;
	pgtls_slot_write(slot, NULL);
	pgtls_chain_release(chain);
}

/* Count the session among others like it. */
static void
note_session(const Port *port, const SessionInfo *info)
{
	InventorySession session;

	session.usename = port->user_name;
	session.addr = &port->raddr;
	session.encryption = encryption_names[info->encryption];
	session.version = pgtls_slot_text(info, TEXT_VERSION);
	session.cipher = pgtls_slot_text(info, TEXT_CIPHER);
	session.key_exchange = pgtls_slot_text(info, TEXT_KEY_EXCHANGE);
	session.has_certificate = info->certificate_read;
	session.fingerprint = info->fingerprint;
	session.subject = pgtls_slot_text(info, TEXT_CLIENT_DN);
	session.issuer = pgtls_slot_text(info, TEXT_ISSUER_DN);
	session.serial = pgtls_slot_text(info, TEXT_SERIAL);
	session.san = pgtls_slot_text(info, TEXT_CLIENT_SAN);
	session.key = pgtls_slot_text(info, TEXT_CLIENT_KEY);
	session.not_before = info->not_before;
	session.not_after = info->not_after;
	pgtls_inventory_note(&session);
}

/*
 * Who is authenticated may still be refused: for a role or database that does
 * not exist, a limit of connections, or a privilege that is lacking.  The
 * transaction in which the server finds that out commits for those alone who
 * get a session, WAL senders included.
 *
 * To leave the list of callbacks while that is walked is not safe before
 * PostgreSQL 16, hence the flag.
 */
static void
transaction_ended(XactEvent event, void *arg)
{
	static bool begun = false;
	static bool triggers_fired = false;

	if (event != XACT_EVENT_COMMIT || begun)
		return;
	/* login event triggers have a transaction of their own, and may refuse */
	if (pgtls_has_login_triggers() && !triggers_fired)
	{
		triggers_fired = true;	/* by the next commit */
		return;
	}
	begun = true;
	note_session(MyProcPort, &pgtls_slot_mine()->info);
}

/*
 * Have the session counted once it has begun, and its slot emptied when it
 * ends.  Comes first of what a login does with its slot, since this may fail.
 */
void
pgtls_session_register(void)
{
	on_shmem_exit(session_exit, (Datum) 0);
	RegisterXactCallback(transaction_ended, NULL);
}

/* Describe this backend's session, which has just been authenticated. */
void
pgtls_session_describe(Port *port, SessionInfo *info)
{
	describe_connection(port, port->hba != NULL ?
						hba_authname(port->hba->auth_method) : NULL, info);
	if (!info->has_certificate)
		return;
	pgtls_verify_handshake(port->ssl, &info->verdict);
	info->verdict.generation = info->generation;
	info->verdict.crl_changes = pgtls_crlchange_inherited();
	info->chain = pgtls_chain_acquire(port->peer,
									  SSL_get_peer_cert_chain(port->ssl),
									  SSL_get0_verified_chain(port->ssl));
}

/*
 * After the session was published: whether the server has something else loaded
 * since the handshake, or the clock has changed what is loaded.  Then whoever
 * judged the sessions by that may have come too early for this one.
 */
bool
pgtls_session_is_outdated(const SessionInfo *info)
{
	pg_memory_barrier();
	return info->has_certificate &&
		(info->generation != pgtls_history_generation() ||
		 info->verdict.crl_changes != pgtls_crlchange_current() ||
		 info->verdict.checked_at < pgtls_due_judged_all_at());
}

/*
 * Something is logged.  A session that has to end since its certificate is no
 * longer acceptable does so as by pg_terminate_backend(): tell the client, and
 * the log, why.
 *
 * Of the struct a hook may change "output_to_server", and nothing else is
 * supported, says elog.c.  But no other code of ours runs when a backend ends
 * in this way: error context callbacks are forgotten at each error.  So this
 * sets what errdetail() would have set, in memory of the same context, and
 * leaves all else as it is.  PostgreSQL 13 to 19 call the hook before they
 * write to the log and to the client, from the same struct; that both get it,
 * whatever is set or hooked, is tested (test/t/029_reason_of_end.t).  A
 * server that did otherwise would tell less, and no more.
 *
 * Since PostgreSQL 19, the log has a detail of its own, who sent the signal,
 * which is kept.
 */
void
pgtls_session_explain_end(ErrorData *edata)
{
	SessionSlot *slot = pgtls_slot_mine();
	LaterVerdict later;
	char	   *reason;

	if (slot != NULL && edata->elevel == FATAL &&
		edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN && edata->detail == NULL &&
		slot->info.pid == MyProcPid &&
		pgtls_cell_read(&slot->later_changecount, &slot->later, &later,
						sizeof(later)) &&
		later.terminate && later.pid == MyProcPid &&
		later.start == MyStartTimestamp)
	{
		reason = psprintf("The client certificate is no longer acceptable: %s.",
						  pgtls_verdict_error(&later.verdict));
		edata->detail = reason;
		if (edata->detail_log != NULL)
			edata->detail_log = psprintf("%s %s", reason, edata->detail_log);
	}
}


/* ----------------------------------------------------------------
 *		SQL
 * ----------------------------------------------------------------
 */

static void
add_verdict_columns(Row *row, const Verdict *verdict)
{
	if (!verdict->known)
	{
		for (int i = 0; i < 8; i++)
			pgtls_row_null(row);
		return;
	}

	if (verdict->chain_length > 0)
		pgtls_row_int(row, verdict->chain_length);
	else
		pgtls_row_null(row);
	if (verdict->chain_status == CHAIN_NOT_CHECKED)
		pgtls_row_null(row);
	else
		pgtls_row_bool(row, verdict->acceptable);
	pgtls_row_text(row, pgtls_verdict_chain_status(verdict));
	if (pgtls_verdict_refused(verdict))
	{
		pgtls_row_text(row, X509_verify_cert_error_string(verdict->error));
		pgtls_row_int(row, verdict->depth);
	}
	else
	{
		pgtls_row_null(row);
		pgtls_row_null(row);
	}
	pgtls_row_text(row, pgtls_verdict_crl_status(verdict));
	pgtls_row_time(row, pgtls_verdict_valid_until(verdict));
	pgtls_row_time(row, verdict->checked_at);
}

/*
 * Columns of a certificate that take long to make, kept for the sessions with
 * the same one that follow.
 */
typedef struct CertificateColumns
{
	MemoryContext context;		/* of the values */
	bool		known;
	unsigned char fingerprint[PGTLS_SHA256_LEN];
	Row			row;

	/* extended key usages are the same for most certificates */
	MemoryContext eku_context;
	char	   *eku;			/* that the row is of, or NULL */
	Row			eku_row;
} CertificateColumns;

typedef enum CertificateColumn
{
	COLUMN_SERIAL, COLUMN_SAN, COLUMN_FINGERPRINT
} CertificateColumn;

static void
begin_columns(CertificateColumns *columns)
{
	columns->known = false;
	columns->context = AllocSetContextCreate(CurrentMemoryContext,
											 "pg_stat_tls certificate",
											 ALLOCSET_SMALL_SIZES);
	columns->eku = NULL;
	columns->eku_context = AllocSetContextCreate(CurrentMemoryContext,
												 "pg_stat_tls key usages",
												 ALLOCSET_SMALL_SIZES);
}

static void
add_column(Row *row, CertificateColumns *columns, const SessionInfo *info,
		   CertificateColumn which)
{
	if (!info->certificate_read)
	{
		pgtls_row_null(row);
		return;
	}
	if (!columns->known || memcmp(columns->fingerprint, info->fingerprint,
								  sizeof(info->fingerprint)) != 0)
	{
		MemoryContext oldcontext;

		columns->known = false;
		MemoryContextReset(columns->context);
		oldcontext = MemoryContextSwitchTo(columns->context);
		pgtls_row_begin(&columns->row);
		pgtls_row_numeric(&columns->row, pgtls_slot_text(info, TEXT_SERIAL));
		pgtls_row_list(&columns->row, pgtls_slot_text(info, TEXT_CLIENT_SAN));
		pgtls_row_hex(&columns->row, info->fingerprint,
					  sizeof(info->fingerprint));
		MemoryContextSwitchTo(oldcontext);
		memcpy(columns->fingerprint, info->fingerprint,
			   sizeof(info->fingerprint));
		columns->known = true;
	}
	pgtls_row_copy(row, &columns->row, which);
}

static void
add_eku(Row *row, CertificateColumns *columns, const SessionInfo *info)
{
	const char *eku =
		info->certificate_read ? pgtls_slot_text(info, TEXT_CLIENT_EKU) : NULL;

	if (eku == NULL)
	{
		pgtls_row_null(row);
		return;
	}
	if (columns->eku == NULL || strcmp(columns->eku, eku) != 0)
	{
		MemoryContext oldcontext;

		columns->eku = NULL;
		MemoryContextReset(columns->eku_context);
		oldcontext = MemoryContextSwitchTo(columns->eku_context);
		pgtls_row_begin(&columns->eku_row);
		pgtls_row_list(&columns->eku_row, eku);
		columns->eku = pstrdup(eku);
		MemoryContextSwitchTo(oldcontext);
	}
	pgtls_row_copy(row, &columns->eku_row, 0);
}

/* The columns of pg_stat_tls, in their order. */
static void
make_row(Row *row, SessionInfo *info, TimestampTz now,
		 CertificateColumns *columns)
{
	bool		tls = info->encryption == ENCRYPTION_TLS;

	pgtls_row_begin(row);
	pgtls_row_int(row, info->pid);
	pgtls_row_bool(row, tls);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_VERSION));
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_CIPHER));
	if (tls)
		pgtls_row_int(row, info->bits);
	else
		pgtls_row_null(row);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_CLIENT_DN));
	add_column(row, columns, info, COLUMN_SERIAL);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_ISSUER_DN));

	pgtls_row_text(row, encryption_names[info->encryption]);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_KEY_EXCHANGE));
	if (tls && info->post_quantum != PGTLS_PQ_UNKNOWN)
		pgtls_row_bool(row, info->post_quantum == PGTLS_PQ_YES);
	else
		pgtls_row_null(row);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_SIGNATURE));
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_CLIENT_SIGNATURE));
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_SERVER_NAME));
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_ALPN));
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_AUTH_METHOD));
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_AUTH_IDENTITY));

	pgtls_row_bool(row, info->has_certificate);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_CLIENT_CN));
	pgtls_row_text_in_place(row,
							pgtls_slot_value(info, TEXT_CLIENT_DN_RFC2253));
	add_column(row, columns, info, COLUMN_SAN);
	add_column(row, columns, info, COLUMN_FINGERPRINT);
	pgtls_row_text_in_place(row, pgtls_slot_value(info, TEXT_CLIENT_KEY));
	add_eku(row, columns, info);
	pgtls_row_time(row, info->not_before);
	pgtls_row_time(row, info->not_after);

	pgtls_verdict_at(&info->verdict, now);
	add_verdict_columns(row, &info->verdict);

	if (tls && info->generation > 0)
		pgtls_row_bigint(row, info->generation);
	else
		pgtls_row_null(row);
}

/*
 * Who may see a session: as pg_stat_ssl, members of its role, and
 * pg_read_all_stats.  The role is that of the PGPROC, which the session may
 * not have set yet, or have given back already.
 */
static bool
may_see(const SessionInfo *info, bool reads_all)
{
	PGPROC	   *proc;
	Oid			role;

	if (reads_all)
		return true;

	proc = GetPGProcByNumber(info->pgproc);
	role = ((volatile PGPROC *) proc)->roleId;
	pg_read_barrier();
	return ((volatile PGPROC *) proc)->pid == info->pid &&
		OidIsValid(role) && has_privs_of_role(GetUserId(), role);
}

/*
 * pg_stat_tls() returns SETOF record
 *
 * The view's rows.  Raises an error without preloading.
 */
Datum
pg_stat_tls_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	bool		reads_all = pgtls_reads_all_stats();
	MemoryContext row_context,
				oldcontext;
	SessionInfo *info;
	CertificateColumns columns;

	pgtls_preload_require();
	InitMaterializedSRF(fcinfo, 0);

	info = palloc(sizeof(SessionInfo));
	begin_columns(&columns);
	row_context = AllocSetContextCreate(CurrentMemoryContext, "pg_stat_tls row",
										ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(row_context);
	for (int i = 0; i < pgtls_slot_count(); i++)
	{
		Row			row;

		CHECK_FOR_INTERRUPTS();
		if (!pgtls_slot_read(i, info) || !may_see(info, reads_all))
			continue;
		pgtls_slot_apply_later_verdict(i, info);
		make_row(&row, info, now, &columns);
		pgtls_row_store(&row, rsinfo);
		MemoryContextReset(row_context);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(row_context);
	return (Datum) 0;
}

/*
 * pg_tls_session() returns pg_stat_tls
 *
 * The row of one's own session.  Without preloading it is made on the spot,
 * and the verdict is that of the server's trust store as it was when the
 * session began; the method of authentication is known only where core keeps
 * it.  NULL in a process that has no client.
 */
Datum
pg_tls_session_1_0(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	SessionInfo *info;
	CertificateColumns columns;
	Row			row;

	if (MyProcPort == NULL)
		PG_RETURN_NULL();

	info = palloc(sizeof(SessionInfo));
	begin_columns(&columns);
	if (pgtls_slot_mine() != NULL &&
		pgtls_slot_read(MyProcNumber, info) && info->pid == MyProcPid)
		pgtls_slot_apply_later_verdict(MyProcNumber, info);
	else
	{
		/* the line of pg_hba.conf is gone by now, with all of the file */
		describe_connection(MyProcPort, pgtls_auth_method(), info);
		if (info->has_certificate)
			(void) pgtls_verify_again(MyProcPort->ssl, now, &info->verdict);
	}
	make_row(&row, info, now, &columns);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Client sessions and their TLS: per-backend slots, and pg_stat_tls.
 *
 * A backend describes its own connection as soon as its client is
 * authenticated (ClientAuthentication_hook), puts the description into its
 * slot in shared memory, and empties the slot as it exits.  Any backend
 * reads all slots.  Without preloading there are no slots, and a backend can
 * still describe itself.
 *
 * No locks: see SessionSlot.  The postmaster only initializes the slots.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "libpq/auth.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "cell.h"
#include "certificate.h"
#include "chain.h"
#include "compat.h"
#include "handshake.h"
#include "inventory.h"
#include "monitor.h"
#include "pg_tls.h"
#include "reload.h"
#include "row.h"
#include "session.h"
#include "verify.h"

typedef enum Encryption
{
	ENCRYPTION_NONE,			/* TCP in clear text */
	ENCRYPTION_LOCAL,			/* Unix-domain socket */
	ENCRYPTION_GSS,
	ENCRYPTION_TLS
} Encryption;

static const char *const encryption_names[] = {"none", "local", "gss", "tls"};

/* The texts of a session, each with its bound in bytes. */
#define SESSION_TEXTS(X) \
	X(VERSION, 16) \
	X(CIPHER, 64) \
	X(KEY_EXCHANGE, 64) \
	X(SIGNATURE, 64) \
	X(CLIENT_SIGNATURE, 64) \
	X(SERVER_NAME, 255) \
	X(ALPN, 64) \
	X(AUTH_METHOD, 32) \
	X(AUTH_IDENTITY, 256) \
	X(CLIENT_DN, 1024) \
	X(CLIENT_DN_RFC2253, 1024) \
	X(ISSUER_DN, 1024) \
	X(SERIAL, 128) \
	X(CLIENT_CN, 256) \
	X(CLIENT_SAN, 1024) \
	X(CLIENT_KEY, 48) \
	X(CLIENT_EKU, 192)

#define TEXT_ENUM(name, bound) TEXT_##name,
typedef enum SessionText
{
	SESSION_TEXTS(TEXT_ENUM)
	SESSION_TEXT_COUNT
} SessionText;

#define TEXT_BOUND(name, bound) bound,
static const uint16 text_bound[SESSION_TEXT_COUNT] = {SESSION_TEXTS(TEXT_BOUND)};

/* All texts at their bounds, each aligned, with its length and a terminator. */
#define TEXT_SUM(name, bound) + INTALIGN(VARHDRSZ + (bound) + 1)
#define TEXT_SPACE	(0 SESSION_TEXTS(TEXT_SUM))

/*
 * SessionInfo: what is known of a session.
 *
 * Texts are UTF-8, since the session has no database yet when they are
 * written, and lie one after the other in space[], so that only what is used
 * needs to be copied; text[] holds where each begins, plus one, and zero for
 * NULL.  Each is a varlena value, which a row can use where it is, and a
 * terminator.  Lists are as in CertInfo.
 */
typedef struct SessionInfo
{
	int			pid;			/* 0: the slot is empty */
	int			pgproc;			/* number of the backend's PGPROC */
	TimestampTz start;			/* with pid, tells sessions apart */
	int64		generation;		/* of the TLS configuration, 0 without TLS */
	ChainRef	chain;			/* what the client sent, for later verdicts */
	Encryption	encryption;
	int			bits;
	PgTlsPostQuantum post_quantum;
	bool		has_certificate;	/* the client presented one */
	bool		certificate_read;	/* and the following fields are known */
	unsigned char fingerprint[PGTLS_SHA256_LEN];
	TimestampTz not_before;
	TimestampTz not_after;
	Verdict		verdict;		/* the handshake's */
	uint16		text[SESSION_TEXT_COUNT];
	uint16		used;			/* bytes of space[] in use */
	char		space[TEXT_SPACE];
} SessionInfo;

StaticAssertDecl(offsetof(SessionInfo, space) % sizeof(int32) == 0, "texts are not aligned");

/*
 * LaterVerdict: the verdict that was reached last after the handshake.
 *
 * Written by whoever judges sessions, never by the session itself, and hence
 * a cell of its own.  It counts for a session only if it names it: a slot may
 * be reused while a verdict is on its way.
 */
typedef struct LaterVerdict
{
	int			pid;
	TimestampTz start;
	bool		terminate;		/* the session has to end for it */
	Verdict		verdict;
} LaterVerdict;

/*
 * SessionSlot: one for each possible backend, at the index MyProcNumber.
 *
 * Each cell has one writer: "info" is written by the backend that owns the
 * slot, "later" by the verifier, of which there is at most one at a time.
 * The protocol is that of PgBackendStatus (backend_status.h): the writer
 * prepares a local copy, increments changecount, copies, and increments it
 * again, with write barriers between; so it is odd while the cell is being
 * written.  A reader copies the cell and must try again if changecount was
 * odd or has changed.  Nothing can fail or be interrupted between the two
 * increments, so a reader that pauses between its tries (cell.h) gives up only
 * where the writer died.  It then takes the slot for empty.
 */
typedef struct SessionSlot
{
	uint32		changecount;	/* of info */
	SessionInfo info;
	uint32		later_changecount;
	LaterVerdict later;
} SessionSlot;

/* Budget for each possible backend. */
StaticAssertDecl(sizeof(SessionSlot) <= 6 * 1024, "session slot is too large");
StaticAssertDecl(TEXT_SPACE <= PG_UINT16_MAX, "texts are too large");

#define SLOT_SIZE		CACHELINEALIGN(sizeof(SessionSlot))
#define READ_ATTEMPTS	1000

static char *slots = NULL;		/* NULL without preloading */
static int	nslots = 0;
static ClientAuthentication_hook_type prev_client_authentication = NULL;
static emit_log_hook_type prev_emit_log = NULL;

PG_FUNCTION_INFO_V1(pg_stat_tls);
PG_FUNCTION_INFO_V1(pg_tls_session);


/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

Size
pgtls_session_shmem_size(void)
{
	return mul_size(pgtls_max_backends(), SLOT_SIZE);
}

void
pgtls_session_shmem_init(void *area, bool found)
{
	slots = area;
	nslots = pgtls_max_backends();
	if (!found)
		memset(slots, 0, pgtls_session_shmem_size());
}

static SessionSlot *
get_slot(int number)
{
	Assert(number >= 0 && number < nslots);
	return (SessionSlot *) (slots + (Size) number * SLOT_SIZE);
}

/* Bytes of a SessionInfo that mean something. */
static size_t
info_size(const SessionInfo *info)
{
	return offsetof(SessionInfo, space) + Min(info->used, TEXT_SPACE);
}

#if defined(PGTLS_TEST_SLOW_WRITES) || defined(PGTLS_TEST_SLOW_READS)
/*
 * For the test of the protocol: give the other side every chance to act.  A
 * reader needs longer pauses, in which one session ends and the next begins.
 */
static void
copy_slowly(void *to, const void *from, size_t size, long pause_us)
{
	for (size_t done = 0; done < size; done += 64)
	{
		memcpy((char *) to + done, (const char *) from + done,
			   Min(64, size - done));
		pg_usleep(pause_us);
	}
}
#endif

/* The copy inside the write protocol. */
static void
copy_info(SessionInfo *to, const SessionInfo *from)
{
#ifdef PGTLS_TEST_SLOW_WRITES
	copy_slowly(to, from, info_size(from), 100);
#else
	memcpy(to, from, info_size(from));
#endif
}

/* Write this backend's own slot; info NULL empties it. */
static void
write_slot(SessionSlot *slot, const SessionInfo *info)
{
	volatile uint32 *changecount = &slot->changecount;

	(*changecount)++;
	pg_write_barrier();
	if (info != NULL)
		copy_info(&slot->info, info);
	else
		slot->info.pid = 0;
	pg_write_barrier();
	(*changecount)++;
}

/*
 * Copy a slot.  False if it is empty, or stays in the middle of a change; of
 * a later verdict that is being written, the earlier one stands.
 */
static bool
read_slot(int number, SessionInfo *info)
{
	SessionSlot *slot = get_slot(number);
	volatile uint32 *changecount = &slot->changecount;

	for (int i = 0; i < READ_ATTEMPTS; i++)
	{
		uint32		before = *changecount;
		bool		torn;

		pg_read_barrier();
		if (((volatile SessionInfo *) &slot->info)->pid == 0)
			return false;
#ifdef PGTLS_TEST_SLOW_READS
		copy_slowly(info, &slot->info, offsetof(SessionInfo, space), 1000);
		copy_slowly(info->space, slot->info.space, Min(info->used, TEXT_SPACE),
					1000);
#else
		memcpy(info, &slot->info, offsetof(SessionInfo, space));
		memcpy(info->space, slot->info.space, Min(info->used, TEXT_SPACE));
#endif
		pg_read_barrier();
		torn = (before & 1) != 0 || *changecount != before;
#ifdef PGTLS_TEST_UNPROTECTED
		torn = false;
#endif
#ifdef PGTLS_TEST_UNCOMPARED
		torn = (before & 1) != 0;
#endif
		if (!torn)
		{
			info->used = Min(info->used, TEXT_SPACE);
			return info->pid != 0;
		}
		pgtls_cell_pause(i);
	}
	return false;
}

/* Replace the handshake's verdict by a later one, if there is one. */
static void
read_later_verdict(int number, SessionInfo *info)
{
	SessionSlot *slot = get_slot(number);
	LaterVerdict later;

	if (pgtls_cell_read(&slot->later_changecount, &slot->later, &later, sizeof(later)) &&
		later.pid == info->pid && later.start == info->start)
		info->verdict = later.verdict;
}


/* ----------------------------------------------------------------
 *		Producer: a backend describes its own session
 *
 * All of this runs right after authentication, in every connection: nothing
 * raises an error, since that would cost the connection.
 * ----------------------------------------------------------------
 */

/* Keep a text, cut to its bound at a character. */
static void
put_text(SessionInfo *info, SessionText field, const char *utf8)
{
	text	   *to = (text *) (info->space + info->used);
	size_t		len;

	if (utf8 == NULL)
		return;
	info->text[field] = info->used + 1;
	pgtls_certificate_cut(VARDATA(to), text_bound[field] + 1, utf8);
	len = VARHDRSZ + strlen(VARDATA(to));
	SET_VARSIZE(to, len);
	info->used += INTALIGN(len + 1);
}

/*
 * Keep a number in digits, unless it is longer than any real one: it must not
 * be cut.
 */
static void
put_number(SessionInfo *info, SessionText field, const char *digits)
{
	if (digits != NULL && strlen(digits) <= text_bound[field])
		put_text(info, field, digits);
}

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
		pgtls_certificate_escape(bio, bytes, len, double_backslash) &&
		BIO_write(bio, "", 1) == 1 &&
		BIO_get_mem_data(bio, &data) > 0)
		put_text(info, field, data);
	BIO_free(bio);
	ERR_clear_error();
}

/* A text, NULL for none; also for one that does not lie in what was copied. */
static const text *
get_value(const SessionInfo *info, SessionText field)
{
	int			offset = (int) info->text[field] - 1;
	int			room = (int) info->used - offset;
	const text *value = (const text *) (info->space + offset);

	if (offset < 0 || offset % sizeof(int32) != 0 || room <= VARHDRSZ ||
		VARSIZE(value) < VARHDRSZ || VARSIZE(value) >= (Size) room ||
		((const char *) value)[VARSIZE(value)] != '\0')
		return NULL;
	return value;
}

static const char *
get_text(const SessionInfo *info, SessionText field)
{
	const text *value = get_value(info, field);

	return value != NULL ? VARDATA(value) : NULL;
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
	put_text(info, TEXT_CLIENT_DN, c.subject);
	put_text(info, TEXT_CLIENT_DN_RFC2253, c.subject_rfc2253);
	put_text(info, TEXT_ISSUER_DN, c.issuer);
	put_number(info, TEXT_SERIAL, c.serial);
	put_text(info, TEXT_CLIENT_CN, c.common_name);
	put_text(info, TEXT_CLIENT_SAN, c.san);
	put_text(info, TEXT_CLIENT_KEY, c.key);
	put_text(info, TEXT_CLIENT_EKU, c.eku);

	/* "cert" authentication makes the DN the identity; keep it once */
	if (identity != NULL && c.subject_rfc2253 != NULL &&
		strcmp(identity, c.subject_rfc2253) == 0)
		info->text[TEXT_AUTH_IDENTITY] = info->text[TEXT_CLIENT_DN_RFC2253];

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
	put_text(info, TEXT_VERSION, be_tls_get_version(port));
	put_text(info, TEXT_CIPHER, be_tls_get_cipher(port));

	info->generation = pgtls_reload_generation();
	group = pgtls_ossl_group(ssl, buf, sizeof(buf));
	info->post_quantum = pgtls_ossl_post_quantum(ssl, group);
	put_text(info, TEXT_KEY_EXCHANGE, group);
	put_text(info, TEXT_SIGNATURE, pgtls_ossl_signature(ssl, false));

	name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (name != NULL)
		put_bytes(info, TEXT_SERVER_NAME, name, strlen(name), true);
	SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	if (alpn_len > 0)
		put_bytes(info, TEXT_ALPN, (const char *) alpn, alpn_len, true);

	if (port->peer != NULL)
	{
		info->has_certificate = true;
		put_text(info, TEXT_CLIENT_SIGNATURE, pgtls_ossl_signature(ssl, true));
		describe_certificate(port->peer, info, identity);
	}
}

/* Describe this backend's connection, the verdict and the chain apart. */
static void
describe_session(Port *port, const char *auth_method, SessionInfo *info)
{
	const char *identity = pgtls_authn_id(port);

	memset(info, 0, offsetof(SessionInfo, space));
	info->pid = MyProcPid;
	info->pgproc = pgtls_pgproc_number();
	info->start = MyStartTimestamp;
	info->chain = PGTLS_NO_CHAIN;
	info->not_before = PGTLS_NO_TIME;
	info->not_after = PGTLS_NO_TIME;
	put_text(info, TEXT_AUTH_METHOD, auth_method);

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

	if (identity != NULL && get_text(info, TEXT_AUTH_IDENTITY) == NULL)
		put_bytes(info, TEXT_AUTH_IDENTITY, identity, strlen(identity), false);
}

/* The session ends: empty the slot, give its chain back. */
static void
session_exit(int code, Datum arg)
{
	SessionSlot *slot = get_slot(MyProcNumber);
	ChainRef	chain = slot->info.chain;

	if (slot->info.pid != MyProcPid)
		return;
	write_slot(slot, NULL);
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
	session.version = get_text(info, TEXT_VERSION);
	session.cipher = get_text(info, TEXT_CIPHER);
	session.key_exchange = get_text(info, TEXT_KEY_EXCHANGE);
	session.has_certificate = info->certificate_read;
	session.fingerprint = info->fingerprint;
	session.subject = get_text(info, TEXT_CLIENT_DN);
	session.issuer = get_text(info, TEXT_ISSUER_DN);
	session.serial = get_text(info, TEXT_SERIAL);
	session.san = get_text(info, TEXT_CLIENT_SAN);
	session.key = get_text(info, TEXT_CLIENT_KEY);
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
	/* login event triggers come in a transaction of their own, and may refuse */
	if (pgtls_has_login_triggers() && !triggers_fired)
	{
		triggers_fired = true;	/* by the next commit */
		return;
	}
	begun = true;
	note_session(MyProcPort, &get_slot(MyProcNumber)->info);
}

/* ClientAuthentication_hook: publish the session once it is let in. */
static void
session_authenticated(Port *port, int status)
{
	SessionInfo info;

	if (prev_client_authentication)
		prev_client_authentication(port, status);

	if (status == STATUS_OK)
		pgtls_handshake_accepted(port);
	if (status != STATUS_OK || slots == NULL ||
		MyProcNumber < 0 || MyProcNumber >= nslots)
		return;

	/* first, since they may fail */
	on_shmem_exit(session_exit, (Datum) 0);
	RegisterXactCallback(transaction_ended, NULL);

	describe_session(port, port->hba != NULL ?
					 hba_authname(port->hba->auth_method) : NULL, &info);
	if (info.has_certificate)
	{
		pgtls_verify_handshake(port->ssl, &info.verdict);
		info.verdict.generation = info.generation;
		info.verdict.crl_changes = pgtls_reload_crl_changes();
		info.chain = pgtls_chain_acquire(port->peer,
										 SSL_get_peer_cert_chain(port->ssl),
										 SSL_get0_verified_chain(port->ssl));
	}
	write_slot(get_slot(MyProcNumber), &info);

	/*
	 * If the server has something else loaded since the handshake, or the clock
	 * has changed what is loaded, whoever judged the sessions by that may have
	 * come too early for this one.
	 */
	pg_memory_barrier();
	if (info.has_certificate &&
		(info.generation != pgtls_reload_current_generation() ||
		 info.verdict.crl_changes != pgtls_reload_current_crl_changes() ||
		 info.verdict.checked_at < pgtls_monitor_judged_all_at()))
		pgtls_monitor_wake();
}

/*
 * emit_log_hook: a session that has to end for its certificate's sake does so
 * as by pg_terminate_backend(); tell the client, and the log, why.
 *
 * The struct is not ours to change, says elog.c, but for one field.  What is
 * added here is what errdetail() would have set.
 */
static void
explain_termination(ErrorData *edata)
{
	if (edata->elevel == FATAL && edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN &&
		edata->detail == NULL && slots != NULL &&
		MyProcNumber >= 0 && MyProcNumber < nslots)
	{
		SessionSlot *slot = get_slot(MyProcNumber);
		LaterVerdict later;

		if (slot->info.pid == MyProcPid &&
			pgtls_cell_read(&slot->later_changecount, &slot->later, &later, sizeof(later)) &&
			later.terminate && later.pid == MyProcPid && later.start == MyStartTimestamp)
			edata->detail = psprintf("The client certificate is no longer acceptable: %s.",
									 pgtls_session_error(&later.verdict));
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

void
pgtls_session_install_hooks(void)
{
	prev_client_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = session_authenticated;
	prev_emit_log = emit_log_hook;
	emit_log_hook = explain_termination;
}


/* ----------------------------------------------------------------
 *		For those who judge sessions
 * ----------------------------------------------------------------
 */

/* Why a certificate is refused, with the depth; allocated. */
char *
pgtls_session_error(const Verdict *verdict)
{
	return psprintf("%s (depth %d)", X509_verify_cert_error_string(verdict->error),
					verdict->depth);
}

/*
 * The sessions whose client has a certificate, with their verdicts.  Returns
 * their number, and an array of them that is allocated.
 */
int
pgtls_session_list(SessionKey **keys)
{
	SessionInfo *info = palloc(sizeof(SessionInfo));
	int			n = 0;

	*keys = palloc(Max(nslots, 1) * sizeof(SessionKey));
	for (int i = 0; i < nslots; i++)
	{
		SessionKey *key = &(*keys)[n];

		if (!read_slot(i, info) || !info->has_certificate)
			continue;
		read_later_verdict(i, info);
		key->number = i;
		key->pid = info->pid;
		key->start = info->start;
		key->chain = info->chain;
		key->not_after = info->not_after;
		key->verdict = info->verdict;
		n++;
	}
	pfree(info);
	return n;
}

static bool
is_current(const SessionKey *key)
{
	const volatile SessionInfo *info = &get_slot(key->number)->info;

	return info->pid == key->pid && info->start == key->start;
}

/*
 * The certificates that the client sent; the caller frees them.  False if
 * the session has ended, or they were not kept.
 */
bool
pgtls_session_read_chain(const SessionKey *key, X509 **leaf, STACK_OF(X509) **sent)
{
	ChainCopy  *copy = NULL;
	bool		ok;

	if (key->chain == PGTLS_NO_CHAIN)
		return false;

	/* a session gives its chain back after it has emptied its slot */
	pgtls_chain_lock();
	if (is_current(key))
		copy = pgtls_chain_copy(key->chain);
	pgtls_chain_unlock();
	if (copy == NULL)
		return false;
	ok = pgtls_chain_parse(copy, leaf, sent);
	pfree(copy);
	return ok;
}

/* Give a session a new verdict.  For the verifier alone. */
void
pgtls_session_judge(const SessionKey *key, const Verdict *verdict)
{
	SessionSlot *slot = get_slot(key->number);
	LaterVerdict later;

	memset(&later, 0, sizeof(later));
	later.pid = key->pid;
	later.start = key->start;
	later.verdict = *verdict;
	pgtls_cell_write(&slot->later_changecount, &slot->later, &later, sizeof(later));
}

/*
 * End a session, by a verdict that refuses it.  False if it has been told to
 * already, or has ended by itself.  For the verifier alone.
 */
bool
pgtls_session_terminate(const SessionKey *key, const Verdict *verdict)
{
	SessionSlot *slot = get_slot(key->number);
	LaterVerdict later = slot->later;	/* which only we write */
	bool		killed = false;

	if (later.pid == key->pid && later.start == key->start && later.terminate)
		return false;

	later.pid = key->pid;
	later.start = key->start;
	later.verdict = *verdict;
	later.terminate = true;
	pgtls_cell_write(&slot->later_changecount, &slot->later, &later, sizeof(later));

	/*
	 * The slot is emptied before the process leaves the ProcArray, for which
	 * it needs this lock.  So while the slot names it the process is there,
	 * and nobody else has its number.
	 */
	LWLockAcquire(ProcArrayLock, LW_SHARED);
	if (is_current(key))
		killed = kill(key->pid, SIGTERM) == 0;
	LWLockRelease(ProcArrayLock);
	return killed;
}

/* What the log says of a session: its certificate.  Allocated, valid UTF-8. */
char *
pgtls_session_describe(const SessionKey *key)
{
	SessionInfo *info = palloc(sizeof(SessionInfo));
	char	   *result = NULL;

	if (read_slot(key->number, info) && info->pid == key->pid && info->start == key->start)
	{
		const char *dn = get_text(info, TEXT_CLIENT_DN);
		const char *serial = get_text(info, TEXT_SERIAL);

		result = psprintf("\"%s\", serial number %s", dn != NULL ? dn : "",
						  serial != NULL ? serial : "unknown");
	}
	pfree(info);
	return result;
}

/*
 * When a verdict may have to be reached again by the clock alone, DT_NOEND for
 * never: at its own time; since the last pass over all sessions, which came too
 * early for it; or at once, if the clock was set back.
 */
TimestampTz
pgtls_session_due_at(const SessionKey *key, TimestampTz now)
{
	TimestampTz judged_all_at = pgtls_monitor_judged_all_at();
	TimestampTz checked_at = key->verdict.checked_at;

	if (key->chain == PGTLS_NO_CHAIN)
		return key->verdict.recheck_at; /* it had better keep what it has */
	if (checked_at > now)
		return now;
	if (checked_at < judged_all_at && judged_all_at <= now)
		return Min(judged_all_at, key->verdict.recheck_at);
	return key->verdict.recheck_at;
}

/* Count the verdicts that are due.  For any process. */
void
pgtls_session_due_verdicts(DueVerdicts *due)
{
	int64		generation = pgtls_reload_current_generation();
	uint32		crl_changes = pgtls_reload_current_crl_changes();
	bool		seen = pgtls_reload_is_seen();
	SessionKey *keys;
	TimestampTz now;

	memset(due, 0, sizeof(*due));
	due->since = DT_NOEND;
	due->next = DT_NOEND;
	due->sessions = pgtls_session_list(&keys);
	now = GetCurrentTimestamp();
	for (int i = 0; i < due->sessions; i++)
	{
		const Verdict *verdict = &keys[i].verdict;
		TimestampTz since;

		due->unkept += keys[i].chain == PGTLS_NO_CHAIN;
		if (!seen)
			continue;			/* nobody will judge it */
		if (verdict->generation != generation || verdict->crl_changes != crl_changes)
		{
			due->outdated++;
			since = pgtls_reload_changed_after(verdict->generation, verdict->crl_changes);
		}
		else
		{
			since = pgtls_session_due_at(&keys[i], now);
			due->next = Min(due->next, since);
			if (since > now)
				continue;
			due->overdue++;
		}
		due->since = Min(due->since, Max(since, keys[i].start));
	}
	pfree(keys);
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
		for (int i = 0; i < 7; i++)
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
	pgtls_row_text(row, pgtls_verify_chain_status(verdict));
	if (pgtls_verify_refused(verdict))
		pgtls_row_text(row, pgtls_session_error(verdict));
	else
		pgtls_row_null(row);
	pgtls_row_text(row, pgtls_verify_crl_status(verdict));
	pgtls_row_time(row, pgtls_verify_valid_until(verdict));
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
	columns->context = AllocSetContextCreate(CurrentMemoryContext, "pg_stat_tls certificate",
											 ALLOCSET_SMALL_SIZES);
	columns->eku = NULL;
	columns->eku_context = AllocSetContextCreate(CurrentMemoryContext, "pg_stat_tls key usages",
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
	if (!columns->known ||
		memcmp(columns->fingerprint, info->fingerprint, sizeof(info->fingerprint)) != 0)
	{
		MemoryContext oldcontext;

		columns->known = false;
		MemoryContextReset(columns->context);
		oldcontext = MemoryContextSwitchTo(columns->context);
		pgtls_row_begin(&columns->row);
		pgtls_row_numeric(&columns->row, get_text(info, TEXT_SERIAL));
		pgtls_row_list(&columns->row, get_text(info, TEXT_CLIENT_SAN));
		pgtls_row_hex(&columns->row, info->fingerprint, sizeof(info->fingerprint));
		MemoryContextSwitchTo(oldcontext);
		memcpy(columns->fingerprint, info->fingerprint, sizeof(info->fingerprint));
		columns->known = true;
	}
	pgtls_row_copy(row, &columns->row, which);
}

static void
add_eku(Row *row, CertificateColumns *columns, const SessionInfo *info)
{
	const char *eku = info->certificate_read ? get_text(info, TEXT_CLIENT_EKU) : NULL;

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
make_row(Row *row, SessionInfo *info, TimestampTz now, CertificateColumns *columns)
{
	bool		tls = info->encryption == ENCRYPTION_TLS;

	pgtls_row_begin(row);
	pgtls_row_int(row, info->pid);
	pgtls_row_bool(row, tls);
	pgtls_row_text_in_place(row, get_value(info, TEXT_VERSION));
	pgtls_row_text_in_place(row, get_value(info, TEXT_CIPHER));
	if (tls)
		pgtls_row_int(row, info->bits);
	else
		pgtls_row_null(row);
	pgtls_row_text_in_place(row, get_value(info, TEXT_CLIENT_DN));
	add_column(row, columns, info, COLUMN_SERIAL);
	pgtls_row_text_in_place(row, get_value(info, TEXT_ISSUER_DN));

	pgtls_row_text(row, encryption_names[info->encryption]);
	pgtls_row_text_in_place(row, get_value(info, TEXT_KEY_EXCHANGE));
	if (tls && info->post_quantum != PGTLS_PQ_UNKNOWN)
		pgtls_row_bool(row, info->post_quantum == PGTLS_PQ_YES);
	else
		pgtls_row_null(row);
	pgtls_row_text_in_place(row, get_value(info, TEXT_SIGNATURE));
	pgtls_row_text_in_place(row, get_value(info, TEXT_CLIENT_SIGNATURE));
	pgtls_row_text_in_place(row, get_value(info, TEXT_SERVER_NAME));
	pgtls_row_text_in_place(row, get_value(info, TEXT_ALPN));
	pgtls_row_text_in_place(row, get_value(info, TEXT_AUTH_METHOD));
	pgtls_row_text_in_place(row, get_value(info, TEXT_AUTH_IDENTITY));

	pgtls_row_bool(row, info->has_certificate);
	pgtls_row_text_in_place(row, get_value(info, TEXT_CLIENT_CN));
	pgtls_row_text_in_place(row, get_value(info, TEXT_CLIENT_DN_RFC2253));
	add_column(row, columns, info, COLUMN_SAN);
	add_column(row, columns, info, COLUMN_FINGERPRINT);
	pgtls_row_text_in_place(row, get_value(info, TEXT_CLIENT_KEY));
	add_eku(row, columns, info);
	pgtls_row_time(row, info->not_before);
	pgtls_row_time(row, info->not_after);

	pgtls_verify_at(&info->verdict, now);
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
pg_stat_tls(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	bool		reads_all = pgtls_reads_all_stats();
	MemoryContext row_context,
				oldcontext;
	SessionInfo *info;
	CertificateColumns columns;

	pgtls_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	info = palloc(sizeof(SessionInfo));
	begin_columns(&columns);
	row_context = AllocSetContextCreate(CurrentMemoryContext, "pg_stat_tls row",
										ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(row_context);
	for (int i = 0; i < nslots; i++)
	{
		Row			row;

		CHECK_FOR_INTERRUPTS();
		if (!read_slot(i, info) || !may_see(info, reads_all))
			continue;
		read_later_verdict(i, info);
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
pg_tls_session(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	SessionInfo *info;
	CertificateColumns columns;
	Row			row;

	if (MyProcPort == NULL)
		PG_RETURN_NULL();

	info = palloc(sizeof(SessionInfo));
	begin_columns(&columns);
	if (slots != NULL && read_slot(MyProcNumber, info) && info->pid == MyProcPid)
		read_later_verdict(MyProcNumber, info);
	else
	{
		/* the line of pg_hba.conf is gone by now, with all of the file */
		describe_session(MyProcPort, pgtls_auth_method(), info);
		if (info->has_certificate)
			(void) pgtls_verify_again(MyProcPort->ssl, now, &info->verdict);
	}
	make_row(&row, info, now, &columns);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

#ifdef PGTLS_TEST
/*
 * For tests: read the client's certificate, and tell the first error that is
 * left in OpenSSL's queue; NULL for none.
 */
PG_FUNCTION_INFO_V1(pg_tls_test_error_queue);

Datum
pg_tls_test_error_queue(PG_FUNCTION_ARGS)
{
	CertInfo	c;
	unsigned long error;

	if (MyProcPort == NULL || MyProcPort->peer == NULL)
		PG_RETURN_NULL();
	ERR_clear_error();
	if (pgtls_certificate_read(MyProcPort->peer, &c))
		pgtls_certificate_free(&c);
	error = ERR_get_error();
	ERR_clear_error();
	if (error == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%08lX %s", error,
											  ERR_reason_error_string(error))));
}
#endif							/* PGTLS_TEST */

/*-------------------------------------------------------------------------
 *
 * reload.c
 *	  Loads of the server's TLS files, and what came of them.
 *
 * The postmaster loads the TLS files at its start and whenever the
 * configuration is reloaded, each time into a new SSL_CTX, and keeps the old
 * one if anything is wrong (be_tls_init).  A hook tells that a load begins;
 * nothing tells how it ends.  But a context can carry a note that OpenSSL
 * hands back when it is freed, and be_tls_init frees
 *
 *	- the new context, if the load failed;
 *	- the old one, if the load succeeded;
 *	- none, if it succeeded and there was no old one.  But whatever the
 *	  postmaster does next, it does not do it before the load is over: when it
 *	  loads again, forks, or sets up shared memory, an attempt that is still
 *	  pending has succeeded.
 *
 * be_tls_destroy, for "ssl" turned off, frees the loaded context, too; the
 * setting is off by then.
 *
 * All of this happens in the postmaster, in its own memory.  Children inherit
 * a copy.  Whatever changes is also copied to shared memory, where others
 * read it: the postmaster is the one writer of those cells (cell.h), and
 * reads nothing there but one counter.  Nothing that it runs here takes a
 * lock, waits, opens a file, or raises an error.  Shared memory may be lost
 * in a crash of a backend, and is then filled again from the postmaster's
 * own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "libpq/libpq.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "answer.h"
#include "cell.h"
#include "certificate.h"
#include "chain.h"
#include "check.h"
#include "compat.h"
#include "inventory.h"
#include "monitor.h"
#include "ossl.h"
#include "pg_tls.h"
#include "prepare.h"
#include "reload.h"
#include "row.h"
#include "session.h"
#include "signature.h"
#include "verify.h"

/* How many attempts are remembered. */
#define HISTORY_SIZE	128

/* Of how many changes it is remembered when they were. */
#define NUM_CHANGE_TIMES	64

/* Bound of the server's message, in bytes. */
#define ERROR_SIZE		1024

typedef enum LoadOutcome
{
	LOAD_PENDING,
	LOAD_FAILED,
	LOAD_SUCCEEDED
} LoadOutcome;

typedef enum LoadTrigger
{
	TRIGGER_STARTUP,
	TRIGGER_RELOAD,
	TRIGGER_FUNCTION,
	TRIGGER_WATCH
} LoadTrigger;

/* Who gave the passphrase of the private key. */
typedef enum Passphrase
{
	PASSPHRASE_NONE,			/* none was asked for */
	PASSPHRASE_TERMINAL,		/* OpenSSL's prompt, at the start only */
	PASSPHRASE_COMMAND,			/* ssl_passphrase_command */
	PASSPHRASE_OTHER			/* a callback of another module */
} Passphrase;

/* One load of the TLS files.  Attempts and generations count from one. */
typedef struct LoadAttempt
{
	int64		attempt;
	int64		generation;		/* 0 unless it succeeded */
	uint32		request;		/* requests that it saw */
	uint32		watch_request;	/* those of the watch among them */
	LoadOutcome outcome;
	LoadTrigger trigger;
	TimestampTz time;
	int64		duration;		/* microseconds, -1 if its end was not seen */
	TimestampTz server_not_after;	/* of the certificate loaded */
	bool		has_fingerprint;
	unsigned char fingerprint[PGTLS_SHA256_LEN];
	char		error[ERROR_SIZE];	/* the server's message if it failed */
} LoadAttempt;

/* The settings of a load that no file holds. */
typedef struct LoadSettings
{
	Passphrase	passphrase;
	bool		has_ca;			/* client certificates are asked for */
	char		crl_dir[PGTLS_CRL_DIR_SIZE];	/* ssl_crl_dir, empty for none */
	int			min_version;	/* as ssl_min_protocol_version */
	int			max_version;
	char		cipher_list[2048];	/* TLS 1.2 and before */
	char		cipher_suites[256]; /* TLS 1.3, empty for OpenSSL's default */
	char		groups[256];
} LoadSettings;

/*
 * LoadState: where the postmaster stands.
 *
 * The generation is the number of successful loads: every connection knows
 * by it which configuration its handshake used.
 */
typedef struct LoadState
{
	int64		attempts;		/* loads begun */
	int64		failures;		/* loads that failed */
	int64		generation;		/* loads that succeeded */
	int64		pending;		/* the attempt under way, 0 for none */
	int64		loaded;			/* the attempt that is in force, 0 for none */
	TimestampTz loaded_at;		/* or when it was unloaded */
	int			crl_signatures; /* that connections need not verify */
	bool		unseen;			/* a load whose end could not be seen: what is
								 * in force is not known until the next */
	LoadSettings settings;		/* of the load in force */
} LoadState;

/* The copy in shared memory. */
typedef struct ReloadShared
{
	/*
	 * Incremented by whoever asks for a reload and wants to know what came
	 * of it.  Requests coalesce, as signals do: an attempt serves all
	 * requests that were made before it began.
	 */
	pg_atomic_uint32 requests;
	pg_atomic_uint32 watch_requests;	/* those of the watch among them */

	/*
	 * How often ssl_crl_dir was found changed.  Connections read it anew, so
	 * it is no matter of loads; but it is for children to know what they
	 * might have read.  Incremented by the monitor.
	 */
	pg_atomic_uint32 crl_changes;

	/*
	 * When the last generations were loaded (written by the postmaster), and
	 * the last changes of ssl_crl_dir found (by the monitor), each at its
	 * number modulo NUM_CHANGE_TIMES; TimestampTz.
	 */
	pg_atomic_uint64 generation_at[NUM_CHANGE_TIMES];
	pg_atomic_uint64 crl_changed_at[NUM_CHANGE_TIMES];

	/* Cells that the postmaster writes. */
	uint32		state_changecount;
	LoadState	state;
	struct
	{
		uint32		changecount;
		LoadAttempt attempt;
	}			history[HISTORY_SIZE];
} ReloadShared;

/* The postmaster's own. */
static LoadState state;
static LoadAttempt history[HISTORY_SIZE];

/*
 * What is loaded, and the state of ssl_crl_dir; children inherit it.  Of the
 * files whose contents cannot be told from what was loaded, what stat() said
 * before the load.
 */
static SSL_CTX *loaded_context = NULL;
static struct stat loaded_key_file;
static struct stat loaded_dh_file;
static uint32 crl_changes = 0;

/* What the requests were before the settings of a reload were read. */
static bool sighup_seen = false;
static uint32 sighup_request;
static uint32 sighup_watch_request;

/* Of the pending attempt. */
static SSL_CTX *pending_context = NULL;
static LoadSettings pending_settings;
static struct stat pending_key_file;
static struct stat pending_dh_file;
static instr_time pending_start;
static pem_password_cb *passphrase_callback = NULL;

static ReloadShared *shared = NULL; /* NULL without preloading */

static openssl_tls_init_hook_typ prev_tls_init = NULL;
static emit_log_hook_type prev_emit_log = NULL;

/* Where a context carries the number of its attempt. */
static int	attempt_index = -1;

PG_FUNCTION_INFO_V1(pg_tls_status);
PG_FUNCTION_INFO_V1(pg_tls_reloads);
PG_FUNCTION_INFO_V1(pg_tls_reload);


/* ----------------------------------------------------------------
 *		Producer: the postmaster
 * ----------------------------------------------------------------
 */

static int
history_index(int64 attempt)
{
	return (attempt - 1) % HISTORY_SIZE;
}

/* Copy the state and one attempt to shared memory, if there is any yet. */
static void
publish(const LoadAttempt *attempt)
{
	int			i = history_index(attempt->attempt);

	if (shared == NULL)
		return;
	pgtls_cell_write(&shared->history[i].changecount, &shared->history[i].attempt,
					 attempt, sizeof(LoadAttempt));
	pgtls_cell_write(&shared->state_changecount, &shared->state, &state, sizeof(state));
}

/*
 * The pending attempt has succeeded.  "now" if this is the moment when it
 * did, rather than a later one.
 */
static void
commit_pending(bool now)
{
	LoadAttempt *attempt = &history[history_index(state.pending)];
	X509	   *cert = SSL_CTX_get0_certificate(pending_context);

	pgtls_prepare_context(pending_context, pending_settings.crl_dir[0] != '\0');
	state.crl_signatures = pgtls_signature_load_ends(SSL_CTX_get_cert_store(pending_context));

	attempt->outcome = LOAD_SUCCEEDED;
	attempt->generation = ++state.generation;
	attempt->error[0] = '\0';	/* a complaint that was no failure */
	if (now)
	{
		instr_time	duration;

		INSTR_TIME_SET_CURRENT(duration);
		INSTR_TIME_SUBTRACT(duration, pending_start);
		attempt->duration = (int64) INSTR_TIME_GET_MICROSEC(duration);
	}
	if (cert != NULL)
	{
		unsigned int len = 0;

		attempt->has_fingerprint =
			X509_digest(cert, EVP_sha256(), attempt->fingerprint, &len) &&
			len == PGTLS_SHA256_LEN;
		attempt->server_not_after = pgtls_ossl_time(X509_get0_notAfter(cert));
	}

	state.loaded = state.pending;
	state.loaded_at = GetCurrentTimestamp();
	state.unseen = false;
	state.settings = pending_settings;
	loaded_key_file = pending_key_file;
	loaded_dh_file = pending_dh_file;
	state.pending = 0;
	loaded_context = pending_context;
	pending_context = NULL;
	if (shared != NULL)
		pg_atomic_write_u64(&shared->generation_at[state.generation % NUM_CHANGE_TIMES],
							(uint64) state.loaded_at);
	publish(attempt);
}

/* The pending attempt has failed; what was loaded stays. */
static void
fail_pending(void)
{
	LoadAttempt *attempt = &history[history_index(state.pending)];
	instr_time	duration;

	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, pending_start);
	attempt->duration = (int64) INSTR_TIME_GET_MICROSEC(duration);
	attempt->outcome = LOAD_FAILED;
	(void) pgtls_signature_load_ends(NULL);

	state.failures++;
	state.pending = 0;
	pending_context = NULL;
	publish(attempt);
}

/* OpenSSL frees a context, be it ours or that of any other user of it. */
static void
context_freed(void *parent, void *value, CRYPTO_EX_DATA *ad, int index,
			  long argl, void *argp)
{
	int64		attempt = (int64) (intptr_t) value;

	if (attempt == 0 || MyProcPid != PostmasterPid)
		return;

	/* "ssl" was turned off before anything told that the load had succeeded */
	if (attempt == state.pending && !EnableSSL)
		commit_pending(false);

	if (attempt == state.pending)
		fail_pending();
	else if (attempt == state.loaded)
	{
		/* replaced, or TLS was turned off */
		state.loaded = 0;
		state.loaded_at = GetCurrentTimestamp();
		loaded_context = NULL;
		if (state.pending != 0)
			commit_pending(true);
		else
		{
			pgtls_prepare_forget();
			publish(&history[history_index(attempt)]);
		}
	}
}

/*
 * Before a fork: a load that is still pending is over, and has succeeded.
 *
 * But the command for the passphrase is forked in the middle of a load; then
 * there is no private key yet.
 */
static void
before_fork(void)
{
	if (MyProcPid != PostmasterPid)
		return;
	if (state.pending != 0 && SSL_CTX_get0_privatekey(pending_context) != NULL)
		commit_pending(false);
	if (shared != NULL)
		crl_changes = pg_atomic_read_u32(&shared->crl_changes);
	pgtls_keep_loaded_tls();
}

/* The private key needs a passphrase: note that, and let it be asked for. */
static int
note_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	if (passphrase_callback == NULL)
	{
		pending_settings.passphrase = PASSPHRASE_TERMINAL;
		return PEM_def_callback(buf, size, rwflag, userdata);
	}
	pending_settings.passphrase = ssl_passphrase_command[0] != '\0' ?
		PASSPHRASE_COMMAND : PASSPHRASE_OTHER;
	return passphrase_callback(buf, size, rwflag, userdata);
}

/* Note which requests for a reload there are. */
static void
see_requests(void)
{
	sighup_request = shared != NULL ? pg_atomic_read_u32(&shared->requests) : 0;
	sighup_watch_request = shared != NULL ? pg_atomic_read_u32(&shared->watch_requests) : 0;
}

/* openssl_tls_init_hook: a load begins. */
static void
tls_load_begins(SSL_CTX *context, bool isServerStart)
{
	LoadAttempt *attempt;
	uint32		request;
	uint32		watch_request;

	/* core's default, which sets up the passphrase callback, or another's */
	prev_tls_init(context, isServerStart);

	if (MyProcPid != PostmasterPid)
	{
		/* a dry run */
		pgtls_verify_watch_store(SSL_CTX_get_cert_store(context));
		ERR_clear_error();
		return;
	}

	if (state.pending != 0)
		commit_pending(false);

	INSTR_TIME_SET_CURRENT(pending_start);
	if (!sighup_seen)
		see_requests();
	request = sighup_request;
	watch_request = sighup_watch_request;
	sighup_seen = false;
	state.attempts++;
	attempt = &history[history_index(state.attempts)];
	memset(attempt, 0, sizeof(LoadAttempt));
	attempt->attempt = state.attempts;
	attempt->request = request;
	attempt->watch_request = watch_request;
	attempt->outcome = LOAD_PENDING;
	attempt->time = GetCurrentTimestamp();
	attempt->duration = -1;
	attempt->server_not_after = PGTLS_NO_TIME;
	if (isServerStart)
		attempt->trigger = TRIGGER_STARTUP;
	else if (state.attempts > 1 &&
			 watch_request != history[history_index(state.attempts - 1)].watch_request)
		attempt->trigger = TRIGGER_WATCH;
	else if (state.attempts > 1 &&
			 request != history[history_index(state.attempts - 1)].request)
		attempt->trigger = TRIGGER_FUNCTION;
	else
		attempt->trigger = TRIGGER_RELOAD;

	memset(&pending_settings, 0, sizeof(pending_settings));
	pending_settings.has_ca = ssl_ca_file[0] != '\0';
	strlcpy(pending_settings.crl_dir, ssl_crl_dir, sizeof(pending_settings.crl_dir));
	pending_settings.min_version = ssl_min_protocol_version;
	pending_settings.max_version = ssl_max_protocol_version;
	strlcpy(pending_settings.cipher_list, pgtls_cipher_list,
			sizeof(pending_settings.cipher_list));
	strlcpy(pending_settings.cipher_suites, pgtls_cipher_suites,
			sizeof(pending_settings.cipher_suites));
	strlcpy(pending_settings.groups, SSLECDHCurve, sizeof(pending_settings.groups));

	if (stat(ssl_key_file, &pending_key_file) != 0)
		memset(&pending_key_file, 0, sizeof(pending_key_file));
	if (stat(ssl_dh_params_file, &pending_dh_file) != 0)
		memset(&pending_dh_file, 0, sizeof(pending_dh_file));

	passphrase_callback = SSL_CTX_get_default_passwd_cb(context);
	SSL_CTX_set_default_passwd_cb(context, note_passphrase);

	if (attempt_index < 0)
		attempt_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, context_freed);
	if (attempt_index >= 0 &&
		SSL_CTX_set_ex_data(context, attempt_index, (void *) (intptr_t) state.attempts))
	{
		state.pending = state.attempts;
		pending_context = context;
		pgtls_signature_load_begins();
	}
	else
		state.unseen = true;	/* no memory for the note */
	publish(attempt);

	pgtls_verify_watch_store(SSL_CTX_get_cert_store(context));
	ERR_clear_error();
}

/*
 * Have the hook installed while ssl_sni is off, and only then.  If somebody
 * has installed another one since, ours stays below it.
 */
static void
adapt_to_sni(void)
{
	if (pgtls_sni_is_on())
	{
		if (openssl_tls_init_hook == tls_load_begins)
			openssl_tls_init_hook = prev_tls_init;
	}
	else if (openssl_tls_init_hook == prev_tls_init)
		openssl_tls_init_hook = tls_load_begins;
}

/*
 * emit_log_hook: in the middle of a load, what goes to the log concerns it.
 *
 * The postmaster also logs the change of a setting when it has made it and
 * before it loads the TLS files, which is when ssl_sni is heeded.  Where the
 * log leaves that out, it leaves out warnings, too.
 */
static void
log_message(ErrorData *edata)
{
	if (state.pending != 0 && MyProcPid == PostmasterPid &&
		edata->elevel >= LOG && edata->message != NULL)
	{
		char	   *error = history[history_index(state.pending)].error;

		if (error[0] != '\0')
			strlcat(error, "; ", ERROR_SIZE);
		if (strlcat(error, edata->message, ERROR_SIZE) >= ERROR_SIZE)
			strcpy(error + ERROR_SIZE - 4, "...");
	}

	/*
	 * An attempt must not count for a request that was made after its
	 * settings were read.  Where the log leaves this message out, the request
	 * is looked at when the files are.
	 */
	if (MyProcPid == PostmasterPid && shared != NULL && edata->message_id != NULL &&
		strncmp(edata->message_id, "received SIGHUP", strlen("received SIGHUP")) == 0)
	{
		see_requests();
		sighup_seen = true;
	}
	if (prev_emit_log)
		prev_emit_log(edata);
	if (MyProcPid == PostmasterPid)
		adapt_to_sni();
}

void
pgtls_reload_install_hooks(void)
{
	prev_tls_init = openssl_tls_init_hook;
	adapt_to_sni();
	prev_emit_log = emit_log_hook;
	emit_log_hook = log_message;
	(void) pthread_atfork(before_fork, NULL, NULL);
}

/*
 * The generation of the TLS configuration that this process inherited, 0 if
 * none was loaded, or nobody told (ssl_sni).  For children of the postmaster.
 */
int64
pgtls_reload_generation(void)
{
	if (pgtls_sni_is_on() || state.loaded == 0 || state.unseen)
		return 0;
	return state.generation;
}


/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

Size
pgtls_reload_shmem_size(void)
{
	return sizeof(ReloadShared);
}

static void
forget_shmem(int code, Datum arg)
{
	shared = NULL;
}

/*
 * Runs in the postmaster: at its start, after the first load, and after a
 * crash of a backend, when no load follows.
 */
void
pgtls_reload_shmem_init(void *area, bool found)
{
	ReloadShared *s = area;

	if (state.pending != 0)
		commit_pending(false);

	if (!found)
	{
		memset(s, 0, sizeof(ReloadShared));
		pg_atomic_init_u32(&s->crl_changes, crl_changes + 1);
		for (int i = 0; i < NUM_CHANGE_TIMES; i++)
		{
			pg_atomic_init_u64(&s->generation_at[i], (uint64) state.loaded_at);
			pg_atomic_init_u64(&s->crl_changed_at[i], (uint64) GetCurrentTimestamp());
		}
		pg_atomic_init_u32(&s->requests, state.attempts == 0 ? 0 :
						   history[history_index(state.attempts)].request);
		pg_atomic_init_u32(&s->watch_requests, state.attempts == 0 ? 0 :
						   history[history_index(state.attempts)].watch_request);
		s->state = state;
		for (int i = 0; i < HISTORY_SIZE; i++)
			s->history[i].attempt = history[i];
	}
	shared = s;
	on_shmem_exit(forget_shmem, (Datum) 0);
}


/* ----------------------------------------------------------------
 *		Readers
 * ----------------------------------------------------------------
 */

/*
 * Whether the hook is called at all: a server with "ssl" on has loaded
 * something, or tried to.
 */
static bool
is_hook_called(const LoadState *s)
{
	return !EnableSSL || (s->attempts > 0 && !pgtls_sni_is_on());
}

/* Whether it is known what is in force. */
static bool
sees_loads(const LoadState *s)
{
	return is_hook_called(s) && !(EnableSSL && s->unseen);
}

static void
read_state(LoadState *copy)
{
	pgtls_require_preload();
	if (!pgtls_cell_read(&shared->state_changecount, &shared->state, copy, sizeof(*copy)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the state of the TLS configuration is being changed"),
				 errhint("Try again.")));
}

/* Copy an attempt; false if it is forgotten, or was never made. */
static bool
read_attempt(int64 number, LoadAttempt *copy)
{
	int			i = history_index(number);

	return number > 0 &&
		pgtls_cell_read(&shared->history[i].changecount, &shared->history[i].attempt,
						copy, sizeof(*copy)) &&
		copy->attempt == number;
}

/*
 * The generation of the configuration in force, as the postmaster has it now:
 * 0 if none is loaded, or it cannot be known.
 */
int64
pgtls_reload_current_generation(void)
{
	LoadState	s;

	/* each login asks for it: leave out the settings */
	if (shared == NULL || pgtls_sni_is_on() ||
		!pgtls_cell_read(&shared->state_changecount, &shared->state, &s,
						 offsetof(LoadState, settings)))
		return 0;
	return s.loaded != 0 && !s.unseen ? s.generation : 0;
}

/*
 * The state of ssl_crl_dir that this process inherited, the one there is now,
 * and, for the monitor, a new one.
 */
uint32
pgtls_reload_crl_changes(void)
{
	return crl_changes;
}

uint32
pgtls_reload_current_crl_changes(void)
{
	return shared != NULL ? pg_atomic_read_u32(&shared->crl_changes) : 0;
}

void
pgtls_reload_count_crl_change(void)
{
	uint32		next = pg_atomic_read_u32(&shared->crl_changes) + 1;	/* only we add */

	pg_atomic_write_u64(&shared->crl_changed_at[next % NUM_CHANGE_TIMES],
						(uint64) GetCurrentTimestamp());
	pg_atomic_fetch_add_u32(&shared->crl_changes, 1);
}

/* The first change after this one; of many, one of the last that are remembered. */
static TimestampTz
change_after(pg_atomic_uint64 *times, uint64 known, uint64 current)
{
	uint64		next = known < current ? known + 1 : current;

	if (current - next >= NUM_CHANGE_TIMES)
		next = current - NUM_CHANGE_TIMES + 1;
	return (TimestampTz) pg_atomic_read_u64(&times[next % NUM_CHANGE_TIMES]);
}

/*
 * When what is in force changed first after a verdict by this configuration and
 * this state of ssl_crl_dir.  For any process.
 */
TimestampTz
pgtls_reload_changed_after(int64 generation, uint32 crl_changes)
{
	uint32		current_changes = pgtls_reload_current_crl_changes();
	TimestampTz result = DT_NOEND;
	LoadState	s;

	if (shared == NULL ||
		!pgtls_cell_read(&shared->state_changecount, &shared->state, &s,
						 offsetof(LoadState, settings)))
		return result;
	if (s.loaded == 0 || generation > s.generation)
		result = s.loaded_at;	/* TLS was turned off */
	else if (generation != s.generation)
		result = change_after(shared->generation_at, generation, s.generation);
	if (crl_changes != current_changes)
		result = Min(result, change_after(shared->crl_changed_at, crl_changes,
										  current_changes));
	return result;
}

/* The ssl_crl_dir of the configuration in force, an empty string for none. */
void
pgtls_reload_crl_dir(char *dir, Size size)
{
	LoadState	s;

	dir[0] = '\0';
	if (pgtls_cell_read(&shared->state_changecount, &shared->state, &s, sizeof(s)) &&
		s.loaded != 0)
		strlcpy(dir, s.settings.crl_dir, size);
}

/* Whether generations mean anything.  For any process. */
bool
pgtls_reload_is_seen(void)
{
	LoadState	s;

	return shared != NULL &&
		pgtls_cell_read(&shared->state_changecount, &shared->state, &s, sizeof(s)) &&
		sees_loads(&s);
}

/*
 * The configuration that this child of the postmaster inherited: NULL if none
 * is loaded.  False if it cannot be known.
 */
bool
pgtls_reload_loaded(SSL_CTX **context)
{
	*context = NULL;
	if (!sees_loads(&state))
		return false;
	*context = loaded_context;
	return true;
}

/* The same, if clients are judged by it: NULL if it judges none. */
bool
pgtls_reload_context(SSL_CTX **context)
{
	if (!pgtls_reload_loaded(context))
		return false;
	if (!state.settings.has_ca)
		*context = NULL;
	if (*context != NULL)
		pgtls_adopt_ciphers(*context, state.settings.cipher_list);
	return true;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
		a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
		a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
		a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/*
 * Whether the file is the one that was there when the configuration was
 * loaded that this child of the postmaster inherited, and untouched since.
 */
bool
pgtls_reload_same_key_file(const struct stat *st)
{
	return same_file(st, &loaded_key_file);
}

bool
pgtls_reload_same_dh_file(const struct stat *st)
{
	return same_file(st, &loaded_dh_file);
}

/* The ssl_crl_dir of that configuration, an empty string for none. */
const char *
pgtls_reload_inherited_crl_dir(void)
{
	return loaded_context != NULL ? state.settings.crl_dir : "";
}

/*
 * The message of a failed attempt.  There is none where log_min_messages kept
 * it out of the log.
 */
static const char *
attempt_error(const LoadAttempt *attempt)
{
	return attempt->error[0] != '\0' ? attempt->error :
		"the server's message was kept out of the log by \"log_min_messages\"";
}

static void
add_setting(Row *row, const char *value)
{
	if (value != NULL && value[0] != '\0')
		pgtls_row_message(row, value);
	else
		pgtls_row_null(row);
}

static void
add_certificate(Row *row, const LoadAttempt *attempt)
{
	if (attempt != NULL && attempt->has_fingerprint)
	{
		pgtls_row_hex(row, attempt->fingerprint, sizeof(attempt->fingerprint));
		pgtls_row_time(row, attempt->server_not_after);
	}
	else
	{
		pgtls_row_null(row);
		pgtls_row_null(row);
	}
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
pg_tls_status(PG_FUNCTION_ARGS)
{
	LoadState	s;
	LoadAttempt last;
	LoadAttempt loaded;
	bool		has_last;
	bool		has_loaded;
	char	   *ciphers = NULL;
	char	   *conf;
	int			monitor_pid = pgtls_monitor_pid();
	DueVerdicts due;
	int64		client_evictions;
	int64		certificate_evictions;
	Row			row;

	read_state(&s);
	if (s.unseen)
		s.loaded = 0;
	has_last = read_attempt(s.attempts, &last);
	has_loaded = read_attempt(s.loaded, &loaded);

	pgtls_row_begin(&row);
	pgtls_row_bool(&row, EnableSSL);
	if (sees_loads(&s) && (s.loaded != 0 || s.pending == 0))
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
		pgtls_row_message(&row, attempt_error(&last));
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
		add_certificate(&row, has_loaded ? &loaded : NULL);
		pgtls_row_text(&row, protocol_version(s.settings.min_version));
		pgtls_row_text(&row, protocol_version(s.settings.max_version));
		ciphers = pgtls_ossl_ciphers(s.settings.cipher_list, s.settings.cipher_suites,
									 openssl_version(s.settings.min_version),
									 openssl_version(s.settings.max_version));
		add_setting(&row, ciphers);
		add_setting(&row, s.settings.groups);
		OPENSSL_free(ciphers);
	}

	pgtls_row_text(&row, OpenSSL_version(OPENSSL_VERSION));
	conf = CONF_get1_default_config_file();
	add_setting(&row, conf);
	OPENSSL_free(conf);
	pgtls_row_bool(&row, pgtls_ossl_fips());
	if (monitor_pid != 0)
		pgtls_row_int(&row, monitor_pid);
	else
		pgtls_row_null(&row);
	pgtls_session_due_verdicts(&due);
	pgtls_row_bigint(&row, due.outdated + due.overdue);
	pgtls_row_time(&row, due.since != DT_NOEND ? due.since : PGTLS_NO_TIME);
	if (s.loaded != 0)
		pgtls_row_bigint(&row, s.crl_signatures);
	else
		pgtls_row_null(&row);
	pgtls_row_bigint(&row, (int64) pgtls_chain_refused());
	pgtls_row_bigint(&row, due.unkept);
	pgtls_inventory_evictions(&client_evictions, &certificate_evictions);
	pgtls_row_bigint(&row, client_evictions);
	pgtls_row_bigint(&row, certificate_evictions);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

/* The columns of pg_tls_reloads, in their order. */
static void
make_row(Row *row, const LoadAttempt *attempt)
{
	static const char *const trigger_names[] = {"startup", "reload", "function", "watch"};

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
		pgtls_row_message(row, attempt_error(attempt));
	else
		pgtls_row_null(row);
	if (attempt->duration >= 0)
		pgtls_row_float(row, attempt->duration / 1000.0);
	else
		pgtls_row_null(row);
	add_certificate(row, attempt);
}

/*
 * pg_tls_reloads() returns SETOF record
 *
 * The view's rows, the latest attempt first.  Raises an error without
 * preloading.
 */
Datum
pg_tls_reloads(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LoadState	s;

	read_state(&s);
	InitMaterializedSRF(fcinfo, 0);
	for (int64 number = s.attempts; number > Max(0, s.attempts - HISTORY_SIZE); number--)
	{
		LoadAttempt attempt;
		Row			row;

		if (!read_attempt(number, &attempt))
			continue;
		make_row(&row, &attempt);
		pgtls_row_store(&row, rsinfo);
	}
	return (Datum) 0;
}


/* ----------------------------------------------------------------
 *		Reload now, and tell what came of it
 * ----------------------------------------------------------------
 */

/* Find the first attempt that began after a request; false for none yet. */
static bool
find_outcome(uint32 request, LoadAttempt *attempt)
{
	LoadState	s;
	bool		found = false;

	read_state(&s);
	for (int64 number = s.attempts; number > Max(0, s.attempts - HISTORY_SIZE); number--)
	{
		LoadAttempt candidate;

		if (!read_attempt(number, &candidate))
			continue;
		if ((int32) (candidate.request - request) < 0)
			break;
		*attempt = candidate;
		found = true;
	}
	return found && attempt->outcome != LOAD_PENDING;
}

/*
 * Count a request, which the next load that begins will have seen; to be
 * followed by a SIGHUP for the postmaster.  Returns its number.
 */
uint32
pgtls_reload_request(bool watch)
{
	if (watch)
		pg_atomic_fetch_add_u32(&shared->watch_requests, 1);
	return pg_atomic_add_fetch_u32(&shared->requests, 1);
}

/* Milliseconds of an interval, bounded. */
static long
interval_milliseconds(const Interval *interval)
{
	double		result = interval->time / 1000.0 +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * SECS_PER_DAY * 1000.0;

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
pg_tls_reload(PG_FUNCTION_ARGS)
{
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
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										   interval_milliseconds(PG_GETARG_INTERVAL_P(0)));

	read_state(&s);
	if (!is_hook_called(&s))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the outcome of a reload cannot be known"),
				 pgtls_sni_is_on() ?
				 errdetail("With \"ssl_sni\", the server lets no module see how it loads its TLS files.") :
				 errdetail("Another module has taken the TLS init hook for itself."),
				 errhint("Call pg_tls_check() and then pg_reload_conf().")));

	pgtls_check_run(deadline, &check);
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

	request = pgtls_reload_request(false);
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
		pgtls_answer_wait(5);
	}

	if (attempt.outcome != LOAD_SUCCEEDED)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("TLS configuration was not reloaded"),
				 errdetail("%s", pgtls_row_clean(attempt_error(&attempt))),
				 errhint("The files changed after they had been tried. What was loaded before is still in force.")));

	make_row(&row, &attempt);
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

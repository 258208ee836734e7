/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Loads of the server's TLS files, as the postmaster makes them.
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
 * read it: the postmaster is the one writer of those cells (base/cell.h), and
 * reads nothing there but one counter.  Nothing that it runs here takes a
 * lock, waits, opens a file, or raises an error.  Shared memory may be lost
 * in a crash of a backend, and is then filled again from the postmaster's
 * own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "libpq/libpq.h"
#include "portability/instr_time.h"
#include "postmaster/postmaster.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "server/history.h"
#include "server/load.h"
#include "server/prepare.h"

/* The postmaster's own. */
static LoadState state;
static LoadAttempt history[PGTLS_HISTORY_SIZE];

/*
 * What is loaded; children inherit it.  Of the files whose contents cannot be
 * told from what was loaded, what stat() said before the load.
 */
static SSL_CTX *loaded_context = NULL;
static struct stat loaded_key_file;
static struct stat loaded_dh_file;

/* The generation that was prepared last, 0 for none. */
static int64 prepared_generation = 0;

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

/* Where a context carries the number of its attempt. */
static int	attempt_index = -1;


/* ----------------------------------------------------------------
 *		The postmaster
 * ----------------------------------------------------------------
 */

/*
 * Record that the pending attempt has succeeded.  "now" if this is the moment
 * when it did, rather than a later one.
 */
static void
commit_pending(bool now)
{
	LoadAttempt *attempt = &history[pgtls_history_index(state.pending)];
	X509	   *cert = SSL_CTX_get0_certificate(pending_context);

	pgtls_prepare_load_ends();
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

		attempt->certificate.known =
			X509_digest(cert, EVP_sha256(), attempt->certificate.fingerprint,
						&len) && len == PGTLS_SHA256_LEN;
		attempt->certificate.not_after =
			pgtls_ossl_time(X509_get0_notAfter(cert));
	}

	state.loaded = state.pending;
	state.loaded_at = GetCurrentTimestamp();
	state.unseen = false;
	state.settings = pending_settings;
	state.certificate = attempt->certificate;
	state.crl_signatures = -1;
	loaded_key_file = pending_key_file;
	loaded_dh_file = pending_dh_file;
	state.pending = 0;
	loaded_context = pending_context;
	pending_context = NULL;
	pgtls_history_publish(&state, attempt);
}

/* Record that the pending attempt has failed; what was loaded stays. */
static void
fail_pending(void)
{
	LoadAttempt *attempt = &history[pgtls_history_index(state.pending)];
	instr_time	duration;

	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, pending_start);
	attempt->duration = (int64) INSTR_TIME_GET_MICROSEC(duration);
	attempt->outcome = LOAD_FAILED;
	pgtls_prepare_load_ends();

	state.failures++;
	state.pending = 0;
	pending_context = NULL;
	pgtls_history_publish(&state, attempt);
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
			pgtls_history_publish(&state,
								  &history[pgtls_history_index(attempt)]);
	}
}

/*
 * Prepare what is loaded, unless that was done.  Nothing else is under way
 * then:  no load, no context is being freed, and no lock is held.
 */
static void
prepare_loaded(void)
{
	int64		generation = state.loaded != 0 ? state.generation : 0;

	if (prepared_generation == generation)
		return;
	prepared_generation = generation;
	if (generation == 0)
	{
		pgtls_prepare_forget();
		return;
	}
	state.crl_signatures =
		pgtls_prepare_context(loaded_context,
							  state.settings.crl_dir[0] != '\0');
	pgtls_history_publish(&state, &history[pgtls_history_index(state.loaded)]);
}

/*
 * Before a fork: a load that is still pending is over, and has succeeded; and
 * what is loaded has to be prepared, as children inherit it.
 *
 * But the command for the passphrase is forked in the middle of a load; then
 * there is no private key yet.
 */
void
pgtls_load_before_fork(void)
{
	if (state.pending != 0 && SSL_CTX_get0_privatekey(pending_context) != NULL)
		commit_pending(false);
	if (state.pending != 0)
		return;

	/* a reload that loads nothing is over, too, and its requests are past */
	sighup_seen = false;
	prepare_loaded();
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

/* The postmaster begins a load, into this context. */
void
pgtls_load_begins(SSL_CTX *context, bool isServerStart)
{
	LoadAttempt *attempt;
	const LoadAttempt *last = state.attempts == 0 ? NULL :
		&history[pgtls_history_index(state.attempts)];
	uint32		last_request = last != NULL ? last->request : 0;
	uint32		last_watch_request = last != NULL ? last->watch_request : 0;
	uint32		request;
	uint32		watch_request;

	if (state.pending != 0)
		commit_pending(false);

	INSTR_TIME_SET_CURRENT(pending_start);
	if (!sighup_seen)
		pgtls_history_read_requests(&sighup_request, &sighup_watch_request);
	request = sighup_request;
	watch_request = sighup_watch_request;
	sighup_seen = false;
	state.attempts++;
	attempt = &history[pgtls_history_index(state.attempts)];
	memset(attempt, 0, sizeof(LoadAttempt));
	attempt->attempt = state.attempts;
	attempt->request = request;
	attempt->watch_request = watch_request;
	attempt->outcome = LOAD_PENDING;
	attempt->time = GetCurrentTimestamp();
	attempt->duration = -1;
	if (isServerStart)
		attempt->trigger = TRIGGER_STARTUP;
	else if (watch_request != last_watch_request)
		attempt->trigger = TRIGGER_WATCH;
	else if (request != last_request)
		attempt->trigger = TRIGGER_FUNCTION;
	else
		attempt->trigger = TRIGGER_RELOAD;

	memset(&pending_settings, 0, sizeof(pending_settings));
	pending_settings.has_ca = ssl_ca_file[0] != '\0';
	strlcpy(pending_settings.crl_dir, ssl_crl_dir,
			sizeof(pending_settings.crl_dir));
	pending_settings.min_version = ssl_min_protocol_version;
	pending_settings.max_version = ssl_max_protocol_version;
	strlcpy(pending_settings.cipher_list, pgtls_cipher_list,
			sizeof(pending_settings.cipher_list));
	strlcpy(pending_settings.cipher_suites, pgtls_cipher_suites,
			sizeof(pending_settings.cipher_suites));
	strlcpy(pending_settings.groups, SSLECDHCurve,
			sizeof(pending_settings.groups));

	if (stat(ssl_key_file, &pending_key_file) != 0)
		memset(&pending_key_file, 0, sizeof(pending_key_file));
	if (stat(ssl_dh_params_file, &pending_dh_file) != 0)
		memset(&pending_dh_file, 0, sizeof(pending_dh_file));

	passphrase_callback = SSL_CTX_get_default_passwd_cb(context);
	SSL_CTX_set_default_passwd_cb(context, note_passphrase);

	if (attempt_index < 0)
		attempt_index =
			SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, context_freed);
	if (attempt_index >= 0 &&
		SSL_CTX_set_ex_data(context, attempt_index,
							(void *) (intptr_t) state.attempts))
	{
		state.pending = state.attempts;
		pending_context = context;
		pgtls_prepare_load_begins();
	}
	else
		state.unseen = true;	/* no memory for the note */
	pgtls_history_publish(&state, attempt);
}

/*
 * Something is logged.  In the middle of a load that concerns it.
 *
 * An attempt must not count for a request that was made after its settings were
 * read.  So note the requests when the postmaster tells that it will read them.
 * Where the log leaves this message out, they are looked at when the files are.
 */
void
pgtls_load_note_message(const ErrorData *edata)
{
	if (state.pending != 0 && edata->elevel >= LOG && edata->message != NULL)
	{
		char	   *error = history[pgtls_history_index(state.pending)].error;

		if (error[0] != '\0')
			strlcat(error, "; ", PGTLS_LOAD_ERROR_SIZE);
		if (strlcat(error, edata->message, PGTLS_LOAD_ERROR_SIZE) >=
			PGTLS_LOAD_ERROR_SIZE)
			strcpy(error + PGTLS_LOAD_ERROR_SIZE - 4, "...");
	}
	if (edata->message_id != NULL &&
		strncmp(edata->message_id, "received SIGHUP",
				strlen("received SIGHUP")) == 0)
	{
		pgtls_history_read_requests(&sighup_request, &sighup_watch_request);
		sighup_seen = true;
	}
}

Size
pgtls_load_shmem_size(void)
{
	return pgtls_history_shmem_size();
}

/*
 * At the start of the server, after the first load; and after a crash of a
 * backend, when no load follows.
 */
void
pgtls_load_shmem_init(void *area, bool found)
{
	if (state.pending != 0)
		commit_pending(false);
	pgtls_history_shmem_init(area, found, &state, history);
}


/* ----------------------------------------------------------------
 *		What a child inherits
 * ----------------------------------------------------------------
 */

/*
 * The generation of the TLS configuration that this process inherited, 0 if
 * none was loaded, or nobody told (ssl_sni).  For children of the postmaster.
 */
int64
pgtls_load_generation(void)
{
	if (pgtls_sni_is_on() || state.loaded == 0 || state.unseen)
		return 0;
	return state.generation;
}

/*
 * The configuration that this child of the postmaster inherited: NULL if none
 * is loaded.  False if it cannot be known.
 */
bool
pgtls_load_context(SSL_CTX **context)
{
	*context = NULL;
	if (!pgtls_history_sees_loads(&state))
		return false;
	*context = loaded_context;
	return true;
}

/* The same, if clients are judged by it: NULL if it judges none. */
bool
pgtls_load_client_context(SSL_CTX **context)
{
	if (!pgtls_load_context(context))
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
pgtls_load_same_key_file(const struct stat *st)
{
	return same_file(st, &loaded_key_file);
}

bool
pgtls_load_same_dh_file(const struct stat *st)
{
	return same_file(st, &loaded_dh_file);
}

/* The ssl_crl_dir of that configuration, an empty string for none. */
const char *
pgtls_load_crl_dir(void)
{
	return loaded_context != NULL ? state.settings.crl_dir : "";
}

void
pgtls_load_get_files(const char **files)
{
	const char *const settings[PGTLS_LOADED_FILES] = {
		ssl_cert_file, ssl_key_file, ssl_ca_file, ssl_crl_file,
		ssl_dh_params_file
	};

	memcpy(files, settings, sizeof(settings));
}

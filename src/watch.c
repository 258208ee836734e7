/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  Notices when the TLS files change, and when what is loaded of them ends.
 *
 * The monitor looks at the files with stat() alone, which is cheap.  When that
 * tells of a change, it waits until nothing has changed for a moment, and has
 * a worker started, which compares contents with what is loaded (files.c).
 * Where they differ, the worker makes a dry run (check.c): a certificate and
 * its key are never replaced at once, and until they fit together the dry run
 * fails, and nothing happens.  When it succeeds, and the files are still what
 * they were when it began, the server is asked to reload, or the log is told.
 * Files that hold less than what is loaded of them have to stay as they are for
 * longer before the server is asked.
 *
 * Another task of that worker is to warn of the end of what is loaded.
 *
 * In shared memory: what the last worker found.  Only one runs at a time,
 * and the monitor reads that when it has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/stat.h>

#include "common/hashfn.h"
#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "advice.h"
#include "answer.h"
#include "check.h"
#include "compat.h"
#include "files.h"
#include "monitor.h"
#include "reload.h"
#include "watch.h"

/* So long the files have to stay as they are before they are read. */
#define SETTLE_TIME		USECS_PER_SEC

/*
 * So long files that hold less than what is loaded of them: whoever writes a
 * bundle may pause after a whole certificate.
 */
#define LESS_TIME		30			/* seconds */

/* How often the ends of what is loaded are looked at. */
#define EXPIRY_INTERVAL	USECS_PER_HOUR

/* The same is told again after this time, if so many others were not told. */
#define REPEAT_INTERVAL	USECS_PER_DAY
#define NUM_TOLD		64

/* What cannot be loaded is tried again after this time, and then less often. */
#define RETRY_INTERVAL	USECS_PER_MINUTE
#define MAX_RETRIES		5		/* doublings of that */

/* Tasks of the worker, to be combined. */
#define TASK_COMPARE	0x01	/* compare files with what is loaded */
#define TASK_COMPLAIN	0x02	/* tell if they cannot be loaded */
#define TASK_EXPIRY		0x04	/* warn of ends */
#define TASK_LESS		0x08	/* load files that hold less than what is loaded */

typedef enum WatchFiles
{
	WATCH_OFF,
	WATCH_REPORT,
	WATCH_RELOAD
} WatchFiles;

static const struct config_enum_entry watch_files_options[] = {
	{"off", WATCH_OFF, false},
	{"report", WATCH_REPORT, false},
	{"reload", WATCH_RELOAD, false},
	{NULL, 0, false}
};

static int	watch_files = WATCH_REPORT;	/* pg_tls.watch_files */

/* What came of a comparison. */
typedef enum WatchOutcome
{
	OUTCOME_NONE,				/* nothing yet; or the worker was ended */
	OUTCOME_DONE,
	OUTCOME_RELOADED,			/* a reload was asked for */
	OUTCOME_LESS,				/* the files hold less than what is loaded */
	OUTCOME_UNLOADABLE			/* the files differ, but are not for loading */
} WatchOutcome;

/* Something that was told, by a hash, and when. */
typedef struct Told
{
	uint64		hash;
	TimestampTz time;
} Told;

typedef struct WatchShared
{
	WatchOutcome outcome;		/* of the last comparison */
	uint64		reloaded_contents;	/* of the files for the last reload */
	int64		reloaded_generation;	/* what was in force before that */
	TimestampTz reloaded_at;
	Told		told[NUM_TOLD];
} WatchShared;

static WatchShared *shared = NULL;

/* State of the monitor. */
static uint64 last_signature = 0;
static TimestampTz compare_at = 0;	/* 0 for not at all */
static bool compared = false;	/* a worker has been, or is, at it */
static int	retries = 0;
static bool less = false;		/* LESS_TIME is waited for, or is over */
static TimestampTz expiry_at = 0;
static int64 expiry_generation = 0;
static uint64 expiry_signature = 0;

void
pgtls_watch_define_settings(void)
{
	DefineCustomEnumVariable("pg_tls.watch_files",
							 "Sets what happens when the contents of the TLS files have changed.",
							 "\"report\" logs it, \"reload\" reloads the server's configuration if the files can be loaded.",
							 &watch_files,
							 WATCH_REPORT,
							 watch_files_options,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
}

Size
pgtls_watch_shmem_size(void)
{
	return sizeof(WatchShared);
}

void
pgtls_watch_shmem_init(void *area, bool found)
{
	shared = area;
	if (!found)
		memset(shared, 0, sizeof(WatchShared));
}

static uint64
add_hash(uint64 hash, const void *data, size_t len)
{
	return hash_bytes_extended(data, len, hash);
}

/*
 * What stat() says of the files, in a number.  It follows links, so that it
 * sees a link change that is above the files.
 */
static uint64
file_signature(const char *const *paths)
{
	uint64		hash = 0;

	for (int i = 0; i < PGTLS_LOADED_FILES; i++)
	{
		const char *path = paths[i];
		struct stat st;
		uint64		parts[9];

		hash = add_hash(hash, path, strlen(path) + 1);
		if (path[0] == '\0' || stat(path, &st) != 0)
			continue;
		parts[0] = st.st_dev;
		parts[1] = st.st_ino;
		parts[2] = st.st_size;
		parts[3] = st.st_mtim.tv_sec;
		parts[4] = st.st_mtim.tv_nsec;
		parts[5] = st.st_ctim.tv_sec;
		parts[6] = st.st_ctim.tv_nsec;
		parts[7] = st.st_mode;
		parts[8] = st.st_uid;
		hash = add_hash(hash, parts, sizeof(parts));
	}
	return hash;
}


/* ----------------------------------------------------------------
 *		Monitor
 * ----------------------------------------------------------------
 */

/*
 * The server reloads its configuration.  Files that were compared, and have not
 * changed since, need no other look at them, unless it was this that was to
 * help.
 */
void
pgtls_watch_reloading(void)
{
	if (!compared || shared->outcome != OUTCOME_DONE)
		last_signature = 0;
}

/* The configured files, and what else a comparison depends on, in a number. */
static uint64
current_signature(void)
{
	const char *paths[PGTLS_LOADED_FILES];

	pgtls_check_get_files(paths);
	return add_hash(file_signature(paths), &watch_files, sizeof(watch_files));
}

/* Look at the files; true if they have changed since the last look. */
static bool
look(TimestampTz now)
{
	uint64		signature = current_signature();

	if (signature == last_signature)
		return false;
	last_signature = signature;
	compare_at = now + SETTLE_TIME;
	compared = false;
	retries = 0;
	less = false;
	return true;
}

/* While a worker runs: whether it looks at files that have changed since. */
bool
pgtls_watch_is_outdated(TimestampTz now)
{
	return compared && watch_files != WATCH_OFF && EnableSSL && look(now);
}

/*
 * Whether the worker is wanted now; or else, lower "next" to when something is
 * to be looked at.  "interval" is that of the monitor, in milliseconds.  Not
 * to be called while a worker runs.
 */
bool
pgtls_watch_is_due(TimestampTz now, int interval, TimestampTz *next)
{
	int64		generation = pgtls_reload_current_generation();

	if (watch_files != WATCH_OFF && EnableSSL)
	{
		if (!look(now) && compared)
		{
			if (shared->outcome == OUTCOME_LESS)
			{
				compared = false;
				compare_at = now + LESS_TIME * USECS_PER_SEC;
				less = true;
			}
			else if (shared->outcome != OUTCOME_DONE && shared->outcome != OUTCOME_RELOADED)
			{
				/*
				 * At first this may be a moment between two files.  Later, what
				 * kept the files from being loaded may be something else, such
				 * as the command for the passphrase.
				 */
				compared = false;
				compare_at = now + (retries == 0 ? interval * INT64CONST(1000) :
									RETRY_INTERVAL << Min(retries - 1, MAX_RETRIES));
				retries++;
			}
		}
		/* the clock may have been set back */
		if (compare_at > now + (RETRY_INTERVAL << (MAX_RETRIES + 1)))
			compare_at = now;
		if (compare_at != 0 && compare_at > now)
			*next = Min(*next, compare_at);
	}
	else
	{
		last_signature = 0;
		compare_at = 0;
	}

	/* what is loaded from the same files ends when it did before */
	if (generation != expiry_generation && generation != 0)
	{
		uint64		signature = add_hash(current_signature(), &pgtls_expiry_warning,
										 sizeof(pgtls_expiry_warning));

		if (signature != expiry_signature)
			expiry_at = now;
		expiry_generation = generation;
		expiry_signature = signature;
	}
	if (expiry_at > now + EXPIRY_INTERVAL)
		expiry_at = now;

	/* now and then compare, too: what was replaced and put back is not seen */
	if (expiry_generation != 0 && expiry_at <= now && compare_at == 0 &&
		watch_files != WATCH_OFF && EnableSSL)
		compare_at = now;
	return (compare_at != 0 && compare_at <= now) ||
		(expiry_generation != 0 && expiry_at <= now);
}

/* What the worker is to do, for it to be started with. */
int
pgtls_watch_task(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			task = 0;

	if (compare_at != 0 && compare_at <= now)
		task |= TASK_COMPARE | (retries > 0 ? TASK_COMPLAIN : 0) | (less ? TASK_LESS : 0);
	if (expiry_generation != 0 && expiry_at <= now)
		task |= TASK_EXPIRY;
	if (task & TASK_COMPARE)
		shared->outcome = OUTCOME_NONE;
	return task;
}

/* The worker was started with this task. */
void
pgtls_watch_started(int task)
{
	if (task & TASK_COMPARE)
	{
		compare_at = 0;
		compared = true;
	}
	if (task & TASK_EXPIRY)
		expiry_at = GetCurrentTimestamp() + EXPIRY_INTERVAL;
}


/* ----------------------------------------------------------------
 *		Worker
 * ----------------------------------------------------------------
 */

static uint64
hash_text(const char *text)
{
	return add_hash(0, text, strlen(text));
}

/*
 * Whether something is to be told: not if it was within the last day.  Of
 * several that were told, the one told longest ago makes room.
 */
static bool
is_news(uint64 hash, TimestampTz now)
{
	Told	   *oldest = &shared->told[0];

	for (int i = 0; i < NUM_TOLD; i++)
	{
		Told	   *told = &shared->told[i];

		if (told->hash == hash && told->time <= now && now < told->time + REPEAT_INTERVAL)
			return false;
		if (told->hash == hash || told->time > now)
		{
			oldest = told;
			break;
		}
		if (told->time < oldest->time)
			oldest = told;
	}
	oldest->hash = hash;
	oldest->time = now;
	return true;
}

/* Warn of what has ended, or soon will, of each but once a day. */
static void
warn_of_ends(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *lc;

	foreach(lc, pgtls_files_advice())
	{
		const Advice *advice = lfirst(lc);

		if (strstr(advice->code, "_expir") != NULL && is_news(hash_text(advice->text), now))
			ereport(WARNING,
					(errmsg("%s", advice->text),
					 errhint("Renew it, and call pg_tls_reload(). The setting \"pg_tls.expiry_warning\" says how early this is told.")));
	}
}

/* Whether advice says that somebody is kept out. */
static bool
keeps_out(const Advice *advice)
{
	static const char *const codes[] = {
		"_expired", "_not_yet_valid", "server_certificate_purpose", "server_chain_",
		"ca_without_crl", "crl_delta"
	};

	for (int i = 0; i < (int) lengthof(codes); i++)
	{
		if (strstr(advice->code, codes[i]) != NULL &&
			strstr(advice->code, "_expiring") == NULL)
			return true;
	}
	return false;
}

/*
 * What would keep somebody out after a reload and does not now; NULL for
 * nothing.
 */
static const char *
find_worse(List *now, List *then)
{
	ListCell   *lc;

	foreach(lc, then)
	{
		const Advice *advice = lfirst(lc);
		bool		known = false;
		ListCell   *lc2;

		foreach(lc2, now)
			known = known || strcmp(((Advice *) lfirst(lc2))->text, advice->text) == 0;
		if (keeps_out(advice) && !known)
			return advice->text;
	}
	return NULL;
}

/* Compare, and do what the setting says; returns what came of it. */
static WatchOutcome
compare_files(bool may_complain, bool may_hold_less)
{
	int			mode = watch_files; /* what the dry run reads is not in force */
	const char *paths[PGTLS_LOADED_FILES];
	uint64		signature;
	uint64		contents;
	char	   *changed;
	const char *worse;
	bool		hold_less;
	List	   *advice;
	CheckResult result;
	TimestampTz now = GetCurrentTimestamp();

	pgtls_check_get_files(paths);
	for (int i = 0; i < PGTLS_LOADED_FILES; i++)
		paths[i] = pstrdup(paths[i]);
	signature = file_signature(paths);
	changed = pgtls_files_changed(&contents);
	if (changed == NULL)
		return OUTCOME_DONE;
	hold_less = pgtls_files_hold_less();
	advice = list_concat(pgtls_files_advice(), pgtls_files_advice_on_strength());
	pgtls_check_make(CHECK_FILES, &result);
	if (pgtls_answer_unwanted)
		return OUTCOME_NONE;
	if (file_signature(paths) != signature)
		return OUTCOME_DONE;	/* the monitor will see that, too */

	if (!result.ok)
	{
		if (may_complain && is_news(add_hash(contents, result.error, strlen(result.error)), now))
			ereport(LOG,
					(errmsg("TLS files have changed, but the server could not load them: %s",
							result.error),
					 errdetail("Changed: %s.", changed),
					 errhint("What was loaded before is still in force. A restart would fail.")));
		return OUTCOME_UNLOADABLE;
	}
	if (mode == WATCH_REPORT)
	{
		if (is_news(contents, now))
			ereport(LOG,
					(errmsg("TLS files have changed, and the server still uses what it has loaded"),
					 errdetail("Changed: %s.", changed),
					 errhint("Call pg_tls_reload(), or set \"pg_tls.watch_files\" to \"reload\".")));
		return OUTCOME_DONE;
	}
	if (mode != WATCH_RELOAD)
		return OUTCOME_DONE;

	worse = find_worse(advice, result.advice);
	if (worse == NULL && !result.ssl)
		worse = "the configuration file turns \"ssl\" off";
	if (worse == NULL && contents == shared->reloaded_contents)
	{
		int64		generation = pgtls_reload_current_generation();

		/* if others have loaded something since, ours may help */
		if (generation == shared->reloaded_generation + 1)
			worse = "a reload of the same files has not helped";
		else if (generation <= shared->reloaded_generation &&
				 now < shared->reloaded_at + RETRY_INTERVAL && now >= shared->reloaded_at)
			return OUTCOME_UNLOADABLE;	/* it has failed, or is yet to come */
	}
	if (worse != NULL)
	{
		if (may_complain && is_news(add_hash(contents, worse, strlen(worse)), now))
			ereport(LOG,
					(errmsg("TLS files have changed, but are not reloaded without being asked to"),
					 errdetail("Changed: %s. After a reload: %s.", changed, worse),
					 errhint("Mend that, or call pg_tls_reload().")));
		return OUTCOME_UNLOADABLE;
	}

	if (hold_less && !may_hold_less)
	{
		if (is_news(add_hash(contents, "less", 4), now))
			ereport(LOG,
					(errmsg("TLS files have changed, but hold less than what is loaded"),
					 errdetail("Changed: %s.", changed),
					 errhint("If they stay as they are they are reloaded after %d seconds. Call pg_tls_reload() to have that at once.",
							 LESS_TIME)));
		return OUTCOME_LESS;
	}

	ereport(LOG,
			(errmsg("TLS files have changed, reloading the configuration"),
			 errdetail("Changed: %s.", changed)));
	shared->reloaded_contents = contents;
	shared->reloaded_generation = pgtls_reload_current_generation();
	shared->reloaded_at = now;
	pgtls_reload_request(true);
	(void) kill(PostmasterPid, SIGHUP);

	/* if it fails, since the files change just now, look again */
	return OUTCOME_RELOADED;
}

/* Main function of the worker; the argument says what to do. */
void
pgtls_watch_main(Datum arg)
{
	int			task = DatumGetInt32(arg);

	pgtls_monitor_catch_sigterm(pgtls_answer_terminate);
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(TopMemoryContext);
	if (shared == NULL)
		proc_exit(0);			/* another library than the one preloaded */
	if (task & TASK_EXPIRY)
		warn_of_ends();
	if (task & TASK_COMPARE)
		shared->outcome = compare_files((task & TASK_COMPLAIN) != 0, (task & TASK_LESS) != 0);
	proc_exit(0);
}

/*-------------------------------------------------------------------------
 *
 * watch.c
 *	  Notices when the TLS files change, and when what is loaded of them ends.
 *
 * The monitor looks at the files with stat() alone, which is cheap.  When
 * that tells of a change, it waits until nothing has changed for a moment,
 * and has a worker started, which compares contents with what is loaded
 * (server/inspect.c).  Where they differ, the worker makes a dry run
 * (rehearsal/dryrun.c): a certificate and its key are never replaced at once,
 * and until they fit together the dry run fails, and nothing happens.  When
 * it succeeds, and the files are still what they were when it began, the
 * server is asked to reload, or the log is told.  Files that hold less than
 * what is loaded of them have to stay as they are for longer before the
 * server is asked.  A command for the passphrase that hangs is ended: nothing
 * else would be looked at meanwhile.
 *
 * Another task of that worker is to warn of the end of what is loaded: of all
 * of it once a day, and of what comes in between within the hour.  Whatever
 * happens, the lines of a day have a limit.
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
#include "port/atomics.h"
#include "postmaster/postmaster.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/lookup.h"
#include "base/uptime.h"
#include "base/worker.h"
#include "rehearsal/advice.h"
#include "rehearsal/codes.h"
#include "rehearsal/dryrun.h"
#include "server/difference.h"
#include "server/history.h"
#include "server/inspect.h"
#include "server/load.h"
#include "work/watch.h"

/* So long the files have to stay as they are before they are read. */
#define SETTLE_TIME		USECS_PER_SEC

/*
 * So long files that hold less than what is loaded of them: whoever writes a
 * bundle may pause after a whole certificate.
 */
#define LESS_TIME		30		/* seconds */

/* How often the ends of what is loaded are looked at. */
#define EXPIRY_INTERVAL	USECS_PER_HOUR

/*
 * What was told of changed files is told again after a day.  So much is
 * remembered, and more is not told within an hour.
 */
#define REPEAT_INTERVAL	(24 * USECS_PER_HOUR)
#define NUM_TOLD		64
#define TOLD_INTERVAL	USECS_PER_HOUR

/*
 * What ends is told again after a day, a little less since that is looked at
 * each hour.  So many lines in a day are about one thing each.  Others stand
 * for several: one each hour, again a little less.
 */
#define ENDS_INTERVAL	(24 * USECS_PER_HOUR - USECS_PER_HOUR / 2)
#define ENDS_LINES		10
#define MORE_INTERVAL	(USECS_PER_HOUR - USECS_PER_HOUR / 6)
#define MAX_ENDS		8192	/* remembered; others are told each hour */

/* What cannot be loaded is tried again after this time, and then less often. */
#define RETRY_INTERVAL	USECS_PER_MINUTE
#define MAX_RETRIES		5		/* doublings of that */

/* So long the command for the passphrase may take, in seconds. */
#define COMMAND_LIMIT	60

/* Tasks of the worker, to be combined. */
#define TASK_COMPARE	0x01	/* compare files with what is loaded */
#define TASK_COMPLAIN	0x02	/* tell if they cannot be loaded */
#define TASK_EXPIRY		0x04	/* warn of ends */
#define TASK_LESS		0x08	/* load files that hold less than what is
								 * loaded */

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

static int	watch_files = WATCH_REPORT; /* pg_tls.watch_files */

/* What came of a comparison. */
typedef enum WatchOutcome
{
	OUTCOME_NONE,				/* nothing yet; or the worker was ended */
	OUTCOME_DONE,
	OUTCOME_RELOADED,			/* a reload was asked for */
	OUTCOME_LESS,				/* the files hold less than what is loaded */
	OUTCOME_UNLOADABLE			/* the files differ, but are not for loading */
} WatchOutcome;

/* Something that was told, by a hash, and when: pgtls_uptime(), 0 for never. */
typedef struct Told
{
	uint64		hash;
	int64		time;
} Told;

/* What was told of ends in a day that begins with the first of them. */
typedef struct ToldEnds
{
	int64		since;			/* pgtls_uptime(), 0 for never */
	int64		more_at;		/* the last line for several, likewise */
	int			lines;			/* for one thing each */
	int			num_hashes;
	uint64		hashes[MAX_ENDS];	/* of what was told, in their order */
} ToldEnds;

/*
 * What the monitor knows.  It outlives the monitor, which may give way to other
 * workers; else that would have files compared again, and so give way again.
 */
typedef struct WatchState
{
	uint64		signature;		/* of the files when last looked at */
	TimestampTz compare_at;		/* 0 for not at all */
	bool		compared;		/* a worker has been, or is, at it */
	bool		less;			/* LESS_TIME is waited for, or is over */
	int			retries;
	TimestampTz expiry_at;
	int64		expiry_generation;
	uint64		expiry_signature;
} WatchState;

/*
 * Written by the worker, of which only one runs at a time, but for the state.
 */
typedef struct WatchShared
{
	WatchState	state;			/* the monitor's */
	pg_atomic_uint32 pid;		/* of the worker that runs, 0 for none */
	WatchOutcome outcome;		/* of the last comparison */
	uint64		reloaded_contents;	/* of the files for the last reload */
	int64		reloaded_generation;	/* what was in force before that */
	TimestampTz reloaded_at;
	Told		told[NUM_TOLD];
	ToldEnds	ends;
} WatchShared;

static WatchShared *shared = NULL;
static WatchState *state = NULL;

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
	state = &shared->state;
	if (!found)
	{
		memset(shared, 0, sizeof(WatchShared));
		pg_atomic_init_u32(&shared->pid, 0);
	}
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
	if (!state->compared || shared->outcome != OUTCOME_DONE)
		state->signature = 0;
}

/* The configured files, and what else a comparison depends on, in a number. */
static uint64
current_signature(void)
{
	const char *paths[PGTLS_LOADED_FILES];

	pgtls_load_get_files(paths);
	return add_hash(file_signature(paths), &watch_files, sizeof(watch_files));
}

/* Look at the files; true if they have changed since the last look. */
static bool
look(TimestampTz now)
{
	uint64		signature = current_signature();

	if (signature == state->signature)
		return false;
	state->signature = signature;
	state->compare_at = now + SETTLE_TIME;
	state->compared = false;
	state->retries = 0;
	state->less = false;
	return true;
}

/* While a worker runs: whether it looks at files that have changed since. */
bool
pgtls_watch_is_outdated(TimestampTz now)
{
	return state->compared && watch_files != WATCH_OFF && EnableSSL &&
		look(now);
}

/*
 * Whether the worker is wanted now; or else, lower "next" to when something is
 * to be looked at.  "interval" is that of the monitor, in milliseconds.  Not
 * to be called while a worker runs.
 */
bool
pgtls_watch_is_due(TimestampTz now, int interval, TimestampTz *next)
{
	int64		generation = pgtls_history_generation();

	if (watch_files != WATCH_OFF && EnableSSL)
	{
		if (!look(now) && state->compared)
		{
			if (shared->outcome == OUTCOME_LESS)
			{
				state->compared = false;
				state->compare_at = now + LESS_TIME * USECS_PER_SEC;
				state->less = true;
			}
			else if (shared->outcome != OUTCOME_DONE &&
					 shared->outcome != OUTCOME_RELOADED)
			{
				/*
				 * At first this may be a moment between two files.  Later,
				 * what kept the files from being loaded may be something
				 * else, such as the command for the passphrase.
				 */
				state->compared = false;
				state->compare_at =
					now + (state->retries == 0 ?
						   interval * INT64CONST(1000) :
						   RETRY_INTERVAL
						   << Min(state->retries - 1, MAX_RETRIES));
				state->retries++;
			}
		}
		/* the clock may have been set back */
		if (state->compare_at > now + (RETRY_INTERVAL << (MAX_RETRIES + 1)))
			state->compare_at = now;
		if (state->compare_at != 0 && state->compare_at > now)
			*next = Min(*next, state->compare_at);
	}
	else
	{
		state->signature = 0;
		state->compare_at = 0;
	}

	/* what is loaded from the same files ends when it did before */
	if (generation != state->expiry_generation && generation != 0)
	{
		uint64		signature = add_hash(current_signature(),
										 &pgtls_expiry_warning,
										 sizeof(pgtls_expiry_warning));

		if (signature != state->expiry_signature)
			state->expiry_at = now;
		state->expiry_generation = generation;
		state->expiry_signature = signature;
	}
	if (state->expiry_at > now + EXPIRY_INTERVAL)
		state->expiry_at = now;

	/* now and then compare, too: what was replaced and put back is not seen */
	if (state->expiry_generation != 0 && state->expiry_at <= now &&
		state->compare_at == 0 && watch_files != WATCH_OFF && EnableSSL)
		state->compare_at = now;
	return (state->compare_at != 0 && state->compare_at <= now) ||
		(state->expiry_generation != 0 && state->expiry_at <= now);
}

/* What the worker is to do, for it to be started with. */
int
pgtls_watch_task(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			task = 0;

	if (state->compare_at != 0 && state->compare_at <= now)
		task |= TASK_COMPARE | (state->retries > 0 ? TASK_COMPLAIN : 0) |
			(state->less ? TASK_LESS : 0);
	if (state->expiry_generation != 0 && state->expiry_at <= now)
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
		state->compare_at = 0;
		state->compared = true;
	}
	if (task & TASK_EXPIRY)
		state->expiry_at = GetCurrentTimestamp() + EXPIRY_INTERVAL;
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
 * Find out whether something is to be told, and remember that it is.  It is
 * not if it was within the last day, nor if that many others were within the
 * last hour.
 */
static bool
claim_news(uint64 hash)
{
	int64		now = pgtls_uptime();
	Told	   *oldest = &shared->told[0];

	for (int i = 0; i < NUM_TOLD; i++)
	{
		Told	   *told = &shared->told[i];

		if (told->hash == hash && told->time != 0)
		{
			if (now - told->time < REPEAT_INTERVAL)
				return false;
			told->time = now;
			return true;
		}
		if (told->time < oldest->time)
			oldest = told;
	}
	if (oldest->time != 0 && now - oldest->time < TOLD_INTERVAL)
		return false;
	oldest->hash = hash;
	oldest->time = now;
	return true;
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		hash1 = *(const uint64 *) a;
	uint64		hash2 = *(const uint64 *) b;

	return hash1 < hash2 ? -1 : hash1 > hash2;
}

/*
 * What ends, or has ended, and was not told today: a List of char *, each once.
 */
static List *
find_new_ends(void)
{
	const ToldEnds *ends = &shared->ends;
	Lookup	   *seen = pgtls_lookup_create(sizeof(uint64));
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, pgtls_advice_on_all(pgtls_inspect_loaded()))
	{
		const Advice *advice = lfirst(lc);
		uint64		hash = hash_text(advice->text);

		if (!pgtls_codes[advice->code].is_end ||
			bsearch(&hash, ends->hashes, ends->num_hashes, sizeof(uint64),
					compare_hashes) != NULL ||
			pgtls_lookup_find(seen, &hash) != NIL)
			continue;
		pgtls_lookup_add(seen, &hash, advice->text);
		result = lappend(result, advice->text);
	}
	return result;
}

static void
warn_of_end(const char *text, int more)
{
	if (more == 0)
		ereport(WARNING,
				(errmsg("%s", text),
				 errhint("Renew it, and call pg_tls_reload(). The setting \"pg_tls.expiry_warning\" says how early this is told.")));
	else
		ereport(WARNING,
				(errmsg("%s (and %d more)", text, more),
				 errhint("The view pg_tls_findings shows all of them. Renew them, and call pg_tls_reload().")));
}

/*
 * Warn of what has ended, or soon will.  A day's first lines are about one
 * thing each, and another one for all others.  Those wait for the next time if
 * there was such a line within the hour.
 */
static void
warn_of_ends(void)
{
	ToldEnds   *ends = &shared->ends;
	int64		now = pgtls_uptime();
	List	   *news;
	int			told = 0;
	ListCell   *lc;

	if (ends->since == 0 || now - ends->since >= ENDS_INTERVAL)
		memset(ends, 0, sizeof(*ends));
	news = find_new_ends();
	if (news != NIL && ends->since == 0)
		ends->since = now;

	foreach(lc, news)
	{
		if (ends->lines >= ENDS_LINES)
			break;
		warn_of_end(lfirst(lc), 0);
		ends->lines++;
		told++;
	}
	if (told < list_length(news) &&
		(ends->more_at == 0 || now - ends->more_at >= MORE_INTERVAL))
	{
		warn_of_end(list_nth(news, told), list_length(news) - told - 1);
		ends->more_at = now;
		told = list_length(news);
	}

	for (int i = 0; i < told && ends->num_hashes < MAX_ENDS; i++)
		ends->hashes[ends->num_hashes++] = hash_text(list_nth(news, i));
	qsort(ends->hashes, ends->num_hashes, sizeof(uint64), compare_hashes);
}

/*
 * What would keep somebody out after a reload and does not now; NULL for
 * nothing.
 */
static const char *
find_worse(List *now, List *then)
{
	Lookup	   *known = pgtls_lookup_create(sizeof(uint64));
	ListCell   *lc;

	foreach(lc, now)
	{
		uint64		hash = hash_text(((Advice *) lfirst(lc))->text);

		pgtls_lookup_add(known, &hash, lfirst(lc));
	}
	foreach(lc, then)
	{
		const Advice *advice = lfirst(lc);
		uint64		hash = hash_text(advice->text);

		if (pgtls_codes[advice->code].keeps_out &&
			pgtls_lookup_find(known, &hash) == NIL)
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
	Inspection *in;
	uint64		contents;
	char	   *changed;
	const char *worse;
	bool		hold_less;
	List	   *advice;
	CheckResult result;
	TimestampTz now = GetCurrentTimestamp();

	pgtls_load_get_files(paths);
	for (int i = 0; i < PGTLS_LOADED_FILES; i++)
		paths[i] = pstrdup(paths[i]);
	signature = file_signature(paths);
	in = pgtls_inspect_files();
	changed = pgtls_difference_find(in, &contents);
	if (changed == NULL)
		return OUTCOME_DONE;
	hold_less = pgtls_difference_holds_less(in);
	advice = list_concat(pgtls_advice_on_all(in),
						 pgtls_advice_on_inherited_strength(in));
	pgtls_dryrun_make(CHECK_FILES, &result);
	if (pgtls_worker_stop)
		return OUTCOME_NONE;
	if (file_signature(paths) != signature)
		return OUTCOME_DONE;	/* the monitor will see that, too */

	if (!result.ok)
	{
		/* a command that hangs is no moment between two files */
		may_complain = may_complain || pgtls_dryrun_command_hung;
		if (may_complain &&
			claim_news(add_hash(contents, result.error, strlen(result.error))))
			ereport(LOG,
					(errmsg("TLS files have changed, but the server could not load them: %s",
							result.error),
					 errdetail("Changed: %s.", changed),
					 errhint("What was loaded before is still in force. A restart would fail.")));
		return OUTCOME_UNLOADABLE;
	}
	if (mode == WATCH_REPORT)
	{
		if (claim_news(contents))
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
		int64		generation = pgtls_history_generation();

		/* if others have loaded something since, ours may help */
		if (generation == shared->reloaded_generation + 1)
			worse = "a reload of the same files has not helped";
		else if (generation <= shared->reloaded_generation &&
				 now < shared->reloaded_at + RETRY_INTERVAL &&
				 now >= shared->reloaded_at)
			return OUTCOME_UNLOADABLE;	/* it has failed, or is yet to come */
	}
	if (worse != NULL)
	{
		if (may_complain &&
			claim_news(add_hash(contents, worse, strlen(worse))))
			ereport(LOG,
					(errmsg("TLS files have changed, but are not reloaded without being asked to"),
					 errdetail("Changed: %s. After a reload: %s.", changed,
							   worse),
					 errhint("Mend that, or call pg_tls_reload().")));
		return OUTCOME_UNLOADABLE;
	}

	if (hold_less && !may_hold_less)
	{
		if (claim_news(add_hash(contents, "less", 4)))
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
	shared->reloaded_generation = pgtls_history_generation();
	shared->reloaded_at = now;
	pgtls_history_request(true);
	(void) kill(PostmasterPid, SIGHUP);

	/* if it fails, since the files change just now, look again */
	return OUTCOME_RELOADED;
}

static void
end_turn(int code, Datum arg)
{
	uint32		me = MyProcPid;

	(void) pg_atomic_compare_exchange_u32(&shared->pid, &me, 0);
}

/* Does any worker run, be it one that a former monitor has started? */
bool
pgtls_watch_is_running(void)
{
	return pg_atomic_read_u32(&shared->pid) != 0;
}

/*
 * Do a task, in the worker or in the monitor's stead; the caller then exits.
 * Nothing is done if another one runs: then the monitor tries again.
 */
void
pgtls_watch_run(int task, bool standing_in)
{
	uint32		nobody = 0;

	MemoryContextSwitchTo(TopMemoryContext);
	if (!pg_atomic_compare_exchange_u32(&shared->pid, &nobody, MyProcPid))
		return;
	on_shmem_exit(end_turn, (Datum) 0);
	/* nothing else is done in the monitor's stead meanwhile */
	pgtls_dryrun_command_limit = standing_in ? Min(COMMAND_LIMIT, 5) :
		COMMAND_LIMIT;
	if (task & TASK_EXPIRY)
		warn_of_ends();
	if (task & TASK_COMPARE)
		shared->outcome = compare_files((task & TASK_COMPLAIN) != 0,
										(task & TASK_LESS) != 0);
}

/* Main function of the worker; the argument says what to do. */
void
pgtls_watch_main(Datum arg)
{
	pgtls_worker_begin_limited();
	if (shared != NULL)			/* else another library was preloaded */
		pgtls_watch_run(DatumGetInt32(arg), false);
	proc_exit(0);
}

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

/* How often the ends of what is loaded are looked at, and told of again. */
#define EXPIRY_INTERVAL	USECS_PER_HOUR
#define EXPIRY_REPEAT	USECS_PER_DAY

/* Tasks of the worker, to be combined. */
#define TASK_COMPARE	0x01	/* compare files with what is loaded */
#define TASK_COMPLAIN	0x02	/* tell if they cannot be loaded */
#define TASK_EXPIRY		0x04	/* warn of ends */

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

static int	watch_files;		/* pg_tls.watch_files */

typedef struct WatchShared
{
	bool		unloadable;		/* the files differ and cannot be loaded */
	uint64		expiry_hash;	/* of the warnings that were given last */
	TimestampTz expiry_time;	/* when that was */
} WatchShared;

static WatchShared *shared = NULL;

/* State of the monitor. */
static uint64 last_signature = 0;
static TimestampTz compare_at = 0;	/* 0 for not at all */
static bool compared = false;	/* a worker has been, or is, at it */
static bool complain = false;
static TimestampTz expiry_at = 0;
static int64 expiry_generation = 0;
static int	wanted_task = 0;

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
	const unsigned char *bytes = data;

	/* FNV-1a */
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * UINT64CONST(1099511628211);
	return hash;
}

#define EMPTY_HASH	UINT64CONST(14695981039346656037)

/*
 * What stat() says of the files, in a number.  It follows links, so that it
 * sees a link change that is above the files.
 */
static uint64
file_signature(void)
{
	const char *const paths[] = {
		ssl_cert_file, ssl_key_file, ssl_ca_file, ssl_crl_file, ssl_dh_params_file
	};
	uint64		hash = EMPTY_HASH;

	for (int i = 0; i < (int) lengthof(paths); i++)
	{
		struct stat st;
		uint64		parts[9];

		hash = add_hash(hash, paths[i], strlen(paths[i]) + 1);
		if (paths[i][0] == '\0' || stat(paths[i], &st) != 0)
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

/* The configuration was read again: what is watched may be another. */
void
pgtls_watch_settings_changed(void)
{
	last_signature = 0;
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
		uint64		signature = file_signature();

		if (signature != last_signature)
		{
			last_signature = signature;
			compare_at = now + SETTLE_TIME;
			compared = complain = false;
		}
		else if (compared && shared->unloadable && !complain)
		{
			/* not a moment between two files any more */
			complain = true;
			compare_at = now + interval * INT64CONST(1000);
		}
		if (compare_at != 0 && compare_at > now)
			*next = Min(*next, compare_at);
	}
	else
	{
		last_signature = 0;
		compare_at = 0;
	}

	if (generation != expiry_generation && generation != 0)
	{
		expiry_generation = generation;
		expiry_at = now;
	}
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
		task |= TASK_COMPARE | (complain ? TASK_COMPLAIN : 0);
	if (expiry_generation != 0 && expiry_at <= now)
		task |= TASK_EXPIRY;
	wanted_task = task;
	return task;
}

/* The worker was started with that. */
void
pgtls_watch_started(void)
{
	if (wanted_task & TASK_COMPARE)
	{
		compare_at = 0;
		compared = true;
	}
	if (wanted_task & TASK_EXPIRY)
		expiry_at = GetCurrentTimestamp() + EXPIRY_INTERVAL;
}


/* ----------------------------------------------------------------
 *		Worker
 * ----------------------------------------------------------------
 */

/* Warn of what has ended, or soon will, but not again before a day is over. */
static void
warn_of_ends(void)
{
	List	   *texts = NIL;
	uint64		hash = EMPTY_HASH;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *lc;

	foreach(lc, pgtls_files_advice())
	{
		Advice	   *advice = lfirst(lc);

		if (strstr(advice->code, "_expir") == NULL)
			continue;
		texts = lappend(texts, advice->text);
		hash = add_hash(hash, advice->text, strlen(advice->text));
	}
	if (texts == NIL ||
		(hash == shared->expiry_hash && now < shared->expiry_time + EXPIRY_REPEAT))
		return;
	foreach(lc, texts)
		ereport(WARNING,
				(errmsg("%s", (char *) lfirst(lc)),
				 errhint("Renew it, and call pg_tls_reload(). The setting \"pg_tls.expiry_warning\" says how early this is told.")));
	shared->expiry_hash = hash;
	shared->expiry_time = now;
}

/* Compare, and do what the setting says. */
static void
compare_files(bool may_complain)
{
	uint64		signature = file_signature();
	char	   *changed = pgtls_files_changed();
	CheckResult result;

	shared->unloadable = false;
	if (changed == NULL)
		return;
	pgtls_check_make(CHECK_FILES, &result);
	if (pgtls_answer_unwanted || file_signature() != signature)
		return;					/* the monitor will see that, too */

	if (!result.ok)
	{
		shared->unloadable = true;
		if (may_complain)
			ereport(LOG,
					(errmsg("TLS files have changed, but the server could not load them: %s",
							result.error),
					 errdetail("Changed: %s.", changed),
					 errhint("What was loaded before is still in force. A restart would fail.")));
	}
	else if (watch_files == WATCH_RELOAD && result.ssl)
	{
		ereport(LOG,
				(errmsg("TLS files have changed, reloading the configuration"),
				 errdetail("Changed: %s.", changed)));
		pgtls_reload_request(true);
		(void) kill(PostmasterPid, SIGHUP);
	}
	else if (watch_files == WATCH_REPORT)
		ereport(LOG,
				(errmsg("TLS files have changed, and the server still uses what it has loaded"),
				 errdetail("Changed: %s.", changed),
				 errhint("Call pg_tls_reload(), or set \"pg_tls.watch_files\" to \"reload\".")));
}

/*
 * SIGTERM: stop, and with the whole process group the command for the
 * passphrase, if that is what is waited for.
 */
static void
stop(int signo)
{
	if (!pgtls_answer_unwanted)
	{
		pgtls_answer_unwanted = true;
		kill(0, SIGTERM);
	}
}

/* Main function of the worker; the argument says what to do. */
void
pgtls_watch_main(Datum arg)
{
	int			task = DatumGetInt32(arg);

	pgtls_monitor_catch_sigterm(stop);
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(TopMemoryContext);
	if (shared == NULL)
		proc_exit(0);			/* another library than the one preloaded */
	if (task & TASK_EXPIRY)
		warn_of_ends();
	if (task & TASK_COMPARE)
		compare_files((task & TASK_COMPLAIN) != 0);
	proc_exit(0);
}

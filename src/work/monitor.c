/*-------------------------------------------------------------------------
 *
 * monitor.c
 *	  The monitor, which has the other workers started.
 *
 * The monitor is a standing worker, connected to no database, that does what
 * has to be done in time without anybody asking.
 *
 * The watch (work/watch.c) is another, which is started when the TLS files have
 * changed, or what is loaded of them may soon end.
 *
 * The verifier (client/verifier.c) is started when the verdicts on connected
 * sessions may have changed.
 *
 * These two need a worker slot, for which they compete with parallel queries
 * of everybody.  The monitor has a slot of its own.  Where no other is free for
 * some seconds, it gives way: it exits, and what the postmaster forks in its
 * place stands in for the worker that was wanted (stand_in), and exits, too,
 * for the monitor to come back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/pmsignal.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/uptime.h"
#include "base/wake.h"
#include "base/worker.h"
#include "client/due.h"
#include "client/verifier.h"
#include "server/crlchange.h"
#include "server/history.h"
#include "work/monitor.h"
#include "work/save.h"
#include "work/watch.h"

/* While something is to be done that cannot be done yet, try so often. */
#define RETRY_INTERVAL	1000	/* milliseconds */

/* So long a worker waits for a free slot, before the monitor gives way. */
#define SLOT_PATIENCE	(3 * USECS_PER_SEC)

/*
 * Between passes of the verifier that only the clock asks for.  A client may
 * send dozens of certificates that expire second by second.
 */
#define CLOCK_INTERVAL	(5 * USECS_PER_SEC)

#define MONITOR_NAME	"pg_tls monitor"

static int	watch_interval;		/* pg_tls.watch_interval, in milliseconds */

/* What the standing worker does, if not monitor. */
typedef enum StandIn
{
	STAND_IN_FOR_NOBODY,
	STAND_IN_FOR_VERIFIER,
	STAND_IN_FOR_WATCH
} StandIn;

/* Written by the standing worker alone. */
typedef struct MonitorShared
{
	/* What the standing worker is to do when it is started next. */
	StandIn		stand_in;
	int			watch_task;		/* for STAND_IN_FOR_WATCH */

	SaveState	save;
} MonitorShared;

static MonitorShared *shared = NULL;	/* NULL without preloading */

void
pgtls_monitor_define_settings(void)
{
	DefineCustomIntVariable("pg_tls.watch_interval",
							"Sets how often pg_tls looks whether anything has changed by itself.",
							NULL,
							&watch_interval,
							10000,
							100,
							INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}


Size
pgtls_monitor_shmem_size(void)
{
	return sizeof(MonitorShared);
}

void
pgtls_monitor_shmem_init(void *area, bool found)
{
	shared = area;
	if (!found)
		memset(shared, 0, sizeof(MonitorShared));
}

/*
 * Have the monitor started with the server.  From _PG_init() only.  It is soon
 * started again, since it may be giving way.
 */
void
pgtls_monitor_register(void)
{
	BackgroundWorker worker;

	pgtls_worker_fill(&worker, MONITOR_NAME, "pgtls_monitor_main");
	worker.bgw_restart_time = 2;
	RegisterBackgroundWorker(&worker);
	if (IsPostmasterEnvironment && !pgtls_is_worker_registered(MONITOR_NAME))
		ereport(WARNING,
				(errmsg("pg_tls has no background worker, since \"max_worker_processes\" is too low"),
				 errdetail("Verdicts on connected sessions will not follow reloads, revocations and the clock; TLS files will not be watched; and statistics will not be saved."),
				 errhint("Increase \"max_worker_processes\", which is %d, and restart the server.",
						 max_worker_processes)));
}


/* ----------------------------------------------------------------
 *		Starting workers
 * ----------------------------------------------------------------
 */

/* A worker that was started, or is yet to be. */
typedef struct Task
{
	const char *name;
	const char *function;
	BackgroundWorkerHandle *handle; /* NULL if it does not run */
	int64		start;			/* pgtls_uptime() */
	int64		no_slot_since;	/* likewise; 0 unless it waits for a slot */
} Task;

static Task verifier = {"pg_tls verifier", "pgtls_verifier_main", NULL, 0, 0};
static Task watch = {"pg_tls watch", "pgtls_watch_main", NULL, 0, 0};
static bool verifier_wanted = false;
static uint64 verifier_passes = 0;	/* when the last one was started */

/* This process is the standing worker, and stands in for another. */
static bool standing_in = false;

/* Whether a worker runs. */
static bool
is_running(Task *task)
{
	pid_t		pid;

	if (task->handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(task->handle, &pid) != BGWH_STOPPED)
		return true;
	pfree(task->handle);
	task->handle = NULL;
	return false;
}

/* Start a worker; false if there is no free slot. */
static bool
start_task(Task *task, Datum arg)
{
	BackgroundWorker worker;

	pgtls_worker_fill(&worker, task->name, task->function);
	worker.bgw_main_arg = arg;
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &task->handle))
	{
		task->handle = NULL;
		if (task->no_slot_since == 0)
			task->no_slot_since = pgtls_uptime();
		return false;
	}
	task->start = pgtls_uptime();
	task->no_slot_since = 0;
	return true;
}

/* Has a worker waited for a slot for so long that the monitor gives way? */
static bool
lacks_slot(const Task *task)
{
	return task->no_slot_since != 0 &&
		pgtls_uptime() - task->no_slot_since >= SLOT_PATIENCE;
}

/* Have the standing worker do something else when it is started next. */
static void
give_way(const Task *task, StandIn stand_in)
{
	ereport(LOG,
			(errmsg("no worker slot is free for the %s, so the %s gives way to it",
					task->name, MONITOR_NAME),
			 errhint("Increase \"max_worker_processes\", or decrease \"max_parallel_workers\".")));
	shared->stand_in = stand_in;
}

/* Start what is wanted; false if something runs, or has to wait. */
static bool
start_workers(long *timeout)
{
	bool		idle = true;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = DT_NOEND;

	if (is_running(&verifier))
		idle = false;
	else if (verifier_wanted)
	{
		idle = false;
		/* one that has failed, or was never forked, would fail again at once */
		if (pgtls_verifier_passes() != verifier_passes ||
			pgtls_uptime() - verifier.start >=
			RETRY_INTERVAL * INT64CONST(1000))
		{
			uint64		passes = pgtls_verifier_passes();

			if (start_task(&verifier, (Datum) 0))
			{
				verifier_wanted = false;
				verifier_passes = passes;
			}
			else if (lacks_slot(&verifier) &&
					 !pgtls_verifier_is_running())
				give_way(&verifier, STAND_IN_FOR_VERIFIER);
		}
	}
	else
		verifier.no_slot_since = 0;

	if (is_running(&watch))
	{
		idle = false;
		if (pgtls_watch_is_outdated(now))
			TerminateBackgroundWorker(watch.handle);
	}
	else if (pgtls_watch_is_due(now, watch_interval, &next))
	{
		int			task = pgtls_watch_task();

		idle = false;
		if (start_task(&watch, Int32GetDatum(task)))
			pgtls_watch_started(task);
		else if (lacks_slot(&watch) &&
				 shared->stand_in == STAND_IN_FOR_NOBODY && !verifier_wanted &&
				 !pgtls_watch_is_running())
		{
			pgtls_watch_started(task);
			shared->watch_task = task;
			give_way(&watch, STAND_IN_FOR_WATCH);
		}
	}
	else
		watch.no_slot_since = 0;
	if (next != DT_NOEND)
		*timeout = Min(*timeout, Max((next - now) / 1000, 0) + 1);
	return idle;
}

/*
 * Want the verifier if verdicts are due; or else lower the timeout to when.
 *
 * "reloading": the server reloads its configuration.  The postmaster passes the
 * signal on before it loads the TLS files, and starts workers only after that.
 * Where there are no sessions to judge, no worker is started: each costs the
 * postmaster a fork.  The first session that comes has it made up for.  But
 * where nothing was loaded before, only a fork tells how the load has ended
 * (server/load.c).
 */
static void
look_for_due_verdicts(bool reloading, long *timeout)
{
	int64		generation = pgtls_history_generation();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next_change;
	TimestampTz next;
	DueVerdicts due;

	pgtls_due_count(&due);
	if (reloading && (due.sessions > 0 || (EnableSSL && generation == 0)))
		verifier_wanted = true;
	if (!pgtls_history_is_seen() || due.sessions == 0)
		return;					/* there is nothing to judge by, or nobody */
	if (is_running(&verifier))
		return;					/* its end will have us look again */
	if (pgtls_crlchange_has_to_wait(timeout))
		return;
	next_change = pgtls_verifier_next_change(generation);
	if (due.outdated > 0 || next_change == DT_NOBEGIN)
	{
		verifier_wanted = true;
		return;
	}

	/* what the clock brings is judged together */
	next = Min(due.next, next_change);
	if (next == DT_NOEND)
		return;
	if (verifier.start != 0)
		next =
			Max(next, now + verifier.start + CLOCK_INTERVAL - pgtls_uptime());
	if (next <= now)
		verifier_wanted = true;
	else
		*timeout = Min(*timeout, (next - now) / 1000 + 1);
}


/* ----------------------------------------------------------------
 *		The standing worker
 * ----------------------------------------------------------------
 */

static void
monitor_exit(int code, Datum arg)
{
	if (pgtls_wake_monitor_pid() != MyProcPid)
		return;
	pgtls_wake_set_latch(-1);
	/* to those who ask, a change of roles is none */
	if (shared->stand_in == STAND_IN_FOR_NOBODY && !standing_in)
		pgtls_wake_set_monitor(0);
}

/*
 * Do, in the standing worker, what a worker was wanted for that found no
 * slot.
 */
static void
stand_in(StandIn role)
{
	pgtls_worker_exit_code = 1;
	pgtls_worker_begin_limited();
	if (role == STAND_IN_FOR_VERIFIER)
		pgtls_verifier_run();
	else
		pgtls_watch_run(shared->watch_task, true);
}

/* Read the save file, unless that has been done, or it was reset since. */
static void
load_saved(void)
{
	/* what was reset is not to come back out of the file */
	if (pgtls_wake_wants_save())
		shared->save.loaded = true;
	if (!shared->save.loaded)
		pgtls_save_load(&shared->save);
}

/* Write the save file if it is due, and lower the timeout to when it is. */
static void
look_at_save(bool reloading, long *timeout)
{
	bool		due = pgtls_wake_wants_save() ||
		pgtls_uptime() >= shared->save.due;
	int64		left;

	if (due || reloading)
		load_saved();
	if (due)
	{
		pgtls_save_store(&shared->save, pgtls_wake_claim_save());
	}
	left = Max(shared->save.due - pgtls_uptime(), 0);
	*timeout = Min(*timeout, left / 1000 + 1);
}

/* Main function of the standing worker: the monitor, but for a time. */
void
pgtls_monitor_main(Datum arg)
{
	StandIn		role;

	if (shared == NULL)
		proc_exit(1);			/* another library than the one preloaded */

	role = shared->stand_in;
	shared->stand_in = STAND_IN_FOR_NOBODY;
	standing_in = role != STAND_IN_FOR_NOBODY;
	pgtls_wake_set_monitor(MyProcPid);
	on_shmem_exit(monitor_exit, (Datum) 0);
	if (standing_in)
	{
		stand_in(role);
		proc_exit(1);			/* to come back as the monitor */
	}

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);	/* a worker has ended */
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext,
												"pg_tls monitor",
												ALLOCSET_DEFAULT_SIZES));
	pgtls_wake_set_latch(pgtls_pgproc_number());

	load_saved();

	while (!ShutdownRequestPending)
	{
		long		timeout = watch_interval;
		bool		reloading = ConfigReloadPending;

		if (reloading)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			/* see what comes of it */
			timeout = Min(watch_interval, RETRY_INTERVAL);
			pgtls_watch_reloading();
		}
		pgtls_crlchange_look(&timeout);
		look_for_due_verdicts(reloading, &timeout);

		look_at_save(reloading, &timeout);
		if (!start_workers(&timeout))
			timeout = Min(timeout, RETRY_INTERVAL);
		if (shared->stand_in != STAND_IN_FOR_NOBODY)
			break;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	pgtls_save_store(&shared->save, pgtls_wake_claim_save());

	/* if the server does not stop, it has to come back: not with 0 */
	proc_exit(1);
}

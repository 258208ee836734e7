/*-------------------------------------------------------------------------
 *
 * monitor.c
 *	  Background workers.
 *
 * The monitor is a standing worker, connected to no database, that does what
 * has to be done in time without anybody asking.
 *
 * The watch (watch.c) is another, which is started when the TLS files have
 * changed, or what is loaded of them may soon end.
 *
 * The verifier is a process that the monitor has started when the verdicts on
 * connected sessions may have changed: after a reload, when the clock brings a
 * change, or when ssl_crl_dir has changed; and where there are such
 * sessions.  It is forked from the postmaster, after a load that was under way,
 * and so inherits the trust store that the server uses; it judges the sessions
 * by that, ends those that have to end, and exits.
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

#include "answer.h"
#include "compat.h"
#include "crldir.h"
#include "judge.h"
#include "monitor.h"
#include "ossl.h"
#include "pg_tls.h"
#include "reload.h"
#include "save.h"
#include "session.h"
#include "uptime.h"
#include "watch.h"

/* While something is to be done that cannot be done yet, try so often. */
#define RETRY_INTERVAL	1000	/* milliseconds */

/* So long a worker waits for a free slot, before the monitor gives way. */
#define SLOT_PATIENCE	(3 * USECS_PER_SEC)

/*
 * Between passes of the verifier that only the clock asks for.  A client may
 * send dozens of certificates that expire second by second.
 */
#define CLOCK_INTERVAL	(5 * USECS_PER_SEC)

/*
 * A worker that takes longer than this is ended: a FIFO in ssl_crl_dir, say,
 * would hold the verifier up for ever, and with it all verdicts.
 */
#ifndef WORKER_LIMIT			/* tests have a shorter one */
#define WORKER_LIMIT	(10 * USECS_PER_MINUTE)
#endif

/* How often the save file is written. */
#define SAVE_INTERVAL	USECS_PER_MINUTE

#define NO_GENERATION	PG_UINT64_MAX

#define MONITOR_NAME	"pg_tls monitor"

typedef enum InvalidSessions
{
	INVALID_REPORT,
	INVALID_TERMINATE
} InvalidSessions;

static const struct config_enum_entry invalid_sessions_options[] = {
	{"report", INVALID_REPORT, false},
	{"terminate", INVALID_TERMINATE, false},
	{NULL, 0, false}
};

static int	invalid_sessions;	/* pg_tls.invalid_sessions */
static int	watch_interval;		/* pg_tls.watch_interval, in milliseconds */

/* What the standing worker does, if not monitor. */
typedef enum StandIn
{
	STAND_IN_FOR_NOBODY,
	STAND_IN_FOR_VERIFIER,
	STAND_IN_FOR_WATCH
} StandIn;

typedef struct MonitorShared
{
	int			pid;			/* of the monitor, 0 if it does not run */
	int			pgproc;			/* number of its PGPROC, -1 while it exits
								 * to give way, or to come back */

	/*
	 * What the standing worker is to do when it is started next.  Written by
	 * that worker alone.
	 */
	StandIn		stand_in;
	int			watch_task;		/* for STAND_IN_FOR_WATCH */

	/*
	 * Process ID of the verifier whose turn it is, 0 for none; each claims its
	 * turn.  The monitor starts one at a time; but if the monitor itself is
	 * started again, another one may still run.  The time is that at which it
	 * began, 0 for not yet.
	 */
	pg_atomic_uint32 verifier_pid;
	TimestampTz verifier_start;

	bool		loaded;			/* the save file was read, if it is of use */
	bool		save_soon;		/* the save file is to be written at once */

	/* The rest is written by the verifier whose turn it is. */

	/* How many passes have come to their end. */
	pg_atomic_uint64 passes;

	/*
	 * When a certificate or CRL of the server's store next begins or ends, so
	 * that any verdict may change; a TimestampTz.
	 */
	pg_atomic_uint64 next_change;

	/* Generation of that store, NO_GENERATION if the time is not known. */
	pg_atomic_uint64 next_change_generation;

	/*
	 * When the last pass began that judged all sessions, as such a time had
	 * come; a TimestampTz.  A verdict from before it is due.
	 */
	pg_atomic_uint64 judged_all_at;
} MonitorShared;

static MonitorShared *shared = NULL;	/* NULL without preloading */

void
pgtls_monitor_define_settings(void)
{
	DefineCustomEnumVariable("pg_tls.invalid_sessions",
							 "Sets what happens to sessions whose client certificate the server would no longer accept.",
							 "\"report\" shows them in pg_stat_tls, \"terminate\" ends them.",
							 &invalid_sessions,
							 INVALID_REPORT,
							 invalid_sessions_options,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
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


/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

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
	{
		memset(shared, 0, sizeof(MonitorShared));
		shared->pgproc = -1;
		pg_atomic_init_u32(&shared->verifier_pid, 0);
		pg_atomic_init_u64(&shared->passes, 0);
		pg_atomic_init_u64(&shared->next_change, (uint64) DT_NOEND);
		pg_atomic_init_u64(&shared->next_change_generation, NO_GENERATION);
		pg_atomic_init_u64(&shared->judged_all_at, (uint64) DT_NOBEGIN);
	}
}

/* Process ID of the monitor, 0 if it does not run. */
int
pgtls_monitor_pid(void)
{
	return shared != NULL ? *(volatile int *) &shared->pid : 0;
}

/* Have the monitor look at once.  Any backend may call this. */
void
pgtls_monitor_wake(void)
{
	int			pgproc = *(volatile int *) &shared->pgproc;

	if (pgproc >= 0)
		SetLatch(&GetPGProcByNumber(pgproc)->procLatch);
}

/*
 * When the verifier last began to judge all sessions, whatever was known of
 * them: a verdict from before that is due.  Any backend may call this.
 */
TimestampTz
pgtls_monitor_judged_all_at(void)
{
	return (TimestampTz) pg_atomic_read_u64(&shared->judged_all_at);
}

/* What is in the save file is not to come back.  Any backend may call this. */
void
pgtls_monitor_save_soon(void)
{
	shared->save_soon = true;
	pgtls_monitor_wake();
}


/* ----------------------------------------------------------------
 *		Starting workers
 * ----------------------------------------------------------------
 */

/* Fill in a worker that runs once. */
void
pgtls_monitor_worker(BackgroundWorker *worker, const char *name, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker->bgw_start_time = BgWorkerStart_PostmasterStart;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, PGTLS_LIBRARY, sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, name, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, name, sizeof(worker->bgw_type));
}

/*
 * Have a worker's signal call a handler, and interrupt what waits: a file that
 * is opened may be a FIFO.  (pqsignal() has system calls begun again.)
 */
void
pgtls_monitor_catch(int signo, void (*handler) (int signo))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	sigemptyset(&action.sa_mask);
	(void) sigaction(signo, &action, NULL);
}

/*
 * Have the monitor started with the server.  From _PG_init() only.  It is soon
 * started again, since it may be giving way.
 */
void
pgtls_monitor_register(void)
{
	BackgroundWorker worker;

	pgtls_monitor_worker(&worker, MONITOR_NAME, "pgtls_monitor_main");
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
 *		The verifier
 * ----------------------------------------------------------------
 */

/* The verdicts of a pass, until it is known what it is worth. */
typedef struct NewVerdict
{
	SessionKey	key;
	Verdict		verdict;
} NewVerdict;

static NewVerdict *new_verdicts;
static int	num_new_verdicts = 0;

static void
take_verdict(const SessionKey *key, const Verdict *verdict, void *arg)
{
	if (num_new_verdicts % 64 == 0)
		new_verdicts = num_new_verdicts == 0 ? palloc(64 * sizeof(NewVerdict)) :
			repalloc(new_verdicts, (num_new_verdicts + 64) * sizeof(NewVerdict));
	new_verdicts[num_new_verdicts].key = *key;
	new_verdicts[num_new_verdicts++].verdict = *verdict;
}

/*
 * Publish the verdicts of a pass, but for those by which somebody is refused
 * who was not, if that is too early.  False if there are such.
 */
static bool
publish_verdicts(void)
{
	int			held = 0;

	for (int i = 0; i < num_new_verdicts; i++)
	{
		const SessionKey *key = &new_verdicts[i].key;
		const Verdict *verdict = &new_verdicts[i].verdict;
		bool		refused = pgtls_verify_refused(verdict);

		if (!refused)
			pgtls_crldir_accept(key->number);
		if (!refused || pgtls_verify_refused(&key->verdict) ||
			pgtls_crldir_may_refuse(key->number, key->start))
			pgtls_session_judge(key, verdict);
		else
			held++;
	}
	if (held == 0)
		return true;
	elog(DEBUG1, "pg_tls waits before it refuses %d session(s)", held);
	pgtls_crldir_hold();
	return false;
}

/*
 * The server reloads something that nobody lets us see: no verdict is known
 * any more.
 */
static void
forget_verdicts(void)
{
	SessionKey *keys;
	int			n = pgtls_session_list(&keys);
	Verdict		unknown;

	memset(&unknown, 0, sizeof(unknown));
	unknown.recheck_at = DT_NOEND;
	for (int i = 0; i < n; i++)
		pgtls_session_judge(&keys[i], &unknown);
}

/*
 * End the sessions whose certificates are refused.  These are not only those
 * that have just been judged: the setting may be new.  But it has to be a
 * verification by the present configuration and CRLs that refused them: what
 * only the clock says is for the next pass.
 */
static void
terminate_refused(void)
{
	SessionKey *keys;
	int			n = pgtls_session_list(&keys);

	for (int i = 0; i < n; i++)
	{
		const Verdict *verdict = &keys[i].verdict;
		char	   *certificate;

		if (!pgtls_verify_refused(verdict) ||
			verdict->generation != pgtls_reload_generation() ||
			verdict->crl_changes != pgtls_reload_crl_changes())
			continue;
		certificate = pgtls_session_describe(&keys[i]);
		if (certificate == NULL || !pgtls_session_terminate(&keys[i], verdict))
			continue;
		ereport(LOG,
				(errmsg("terminating connection with PID %d, since its client certificate is no longer acceptable",
						keys[i].pid),
				 errdetail("Certificate %s: %s.", certificate, pgtls_session_error(verdict))));
	}
}

/*
 * Wait until no other verifier runs: the one of a monitor that has ended may be
 * stuck, until the present monitor ends it.  False if this one is to end.
 */
static bool
claim_turn(void)
{
	uint32		nobody = 0;

	while (!pg_atomic_compare_exchange_u32(&shared->verifier_pid, &nobody, MyProcPid))
	{
		if (pgtls_judge_stop || !PostmasterIsAlive())
			return false;
		pg_usleep(100000L);
		nobody = 0;
	}
	shared->verifier_start = GetCurrentTimestamp();
	return true;
}

/* Let another verifier have its turn, if this one has it. */
static void
end_turn(int code, Datum arg)
{
	if (pg_atomic_read_u32(&shared->verifier_pid) != (uint32) MyProcPid)
		return;
	shared->verifier_start = 0;
	pg_memory_barrier();
	pg_atomic_write_u32(&shared->verifier_pid, 0);
}

/*
 * Each signal gets the verifier out of one file that it waits for.  A stop of the
 * server sends but one, so have others follow.
 */
static void
stop_verifier(int signo)
{
	pgtls_judge_stop = true;
	(void) alarm(1);
}

/*
 * Judge the sessions that are due, or all of them: when the clock has changed
 * something in the store since the last pass, or may have, as it is not known
 * when it does.
 */
static void
make_pass(void)
{
	int64		generation = pgtls_reload_generation();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next_change = (TimestampTz) pg_atomic_read_u64(&shared->next_change);
	bool		all = next_change <= now ||
		pg_atomic_read_u64(&shared->next_change_generation) != (uint64) generation;
	bool		complete = true;
	SSL_CTX    *context;

	/*
	 * Until this pass has done all of its work, none has: one that fails, or is
	 * cut short, has another follow.
	 */
	pg_atomic_write_u64(&shared->next_change_generation, NO_GENERATION);
	if (pgtls_reload_context(&context))
	{
		int			n;

		/* reckoned from the beginning, so it is past if it has come since */
		next_change = context == NULL ? DT_NOEND :
			pgtls_verify_next_change(SSL_CTX_get_cert_store(context), now);
		/* who is not in the list of sessions yet will see that as it joins */
		if (all)
			pg_atomic_write_u64(&shared->judged_all_at, (uint64) now);
		pg_memory_barrier();
		pgtls_crldir_begin_pass();
		n = pgtls_judge_sessions(context, generation, pgtls_reload_crl_changes(),
								 all ? JUDGE_ALL : JUDGE_DUE, take_verdict, NULL);
		elog(DEBUG1, "pg_tls judged %d sessions in %.3f ms", n,
			 (GetCurrentTimestamp() - now) / 1000.0);
		complete = pgtls_crldir_end_pass();
		if (!complete)
		{
			elog(DEBUG1, "pg_tls discards what it judged: ssl_crl_dir is being changed");
			return;
		}
		complete = publish_verdicts();
	}
	else
		forget_verdicts();
	if (invalid_sessions == INVALID_TERMINATE)
		terminate_refused();

	if (pgtls_judge_stop || !complete)
		return;
	pg_atomic_write_u64(&shared->next_change, (uint64) next_change);
	pg_atomic_write_u64(&shared->next_change_generation, (uint64) generation);
	pg_atomic_fetch_add_u64(&shared->passes, 1);
}

/* Be the verifier, in a process of its own or in the monitor's stead. */
static void
verify_sessions(void)
{
	MemoryContextSwitchTo(TopMemoryContext);
	on_shmem_exit(end_turn, (Datum) 0);
	if (claim_turn())
		make_pass();
	end_turn(0, (Datum) 0);
}

/* Main function of the verifier. */
void
pgtls_verifier_main(Datum arg)
{
	pgtls_monitor_catch(SIGTERM, stop_verifier);
	pgtls_monitor_catch(SIGALRM, stop_verifier);
	BackgroundWorkerUnblockSignals();
	if (shared != NULL)			/* else another library than the one preloaded */
		verify_sessions();
	proc_exit(0);
}


/* ----------------------------------------------------------------
 *		The monitor
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

/* Whether a worker runs; it is ended if it takes too long. */
static bool
is_running(Task *task)
{
	pid_t		pid;

	if (task->handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(task->handle, &pid) != BGWH_STOPPED)
	{
		if (pgtls_uptime() - task->start > WORKER_LIMIT)
			TerminateBackgroundWorker(task->handle);
		return true;
	}
	pfree(task->handle);
	task->handle = NULL;
	return false;
}

/* Start a worker; false if there is no free slot. */
static bool
start_task(Task *task, Datum arg)
{
	BackgroundWorker worker;

	pgtls_monitor_worker(&worker, task->name, task->function);
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

/*
 * End a verifier that takes too long, whoever has started it.  Each signal gets
 * it out of one file that it waits for, and the postmaster sends but one.
 */
static void
end_stuck_verifier(TimestampTz now)
{
	int			pid = (int) pg_atomic_read_u32(&shared->verifier_pid);
	TimestampTz start;

	pg_read_barrier();
	start = *(volatile TimestampTz *) &shared->verifier_start;

	/* the clock may have been set back */
	if (pid != 0 && start != 0 &&
		(now > start + WORKER_LIMIT || now < start - USECS_PER_MINUTE))
		(void) kill(pid, SIGTERM);
}

/* Start what is wanted; false if something runs, or has to wait. */
static bool
start_workers(long *timeout)
{
	bool		idle = true;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = DT_NOEND;

	end_stuck_verifier(now);
	if (is_running(&verifier))
		idle = false;
	else if (verifier_wanted)
	{
		idle = false;
		/* one that has failed, or was never forked, would fail again at once */
		if (pg_atomic_read_u64(&shared->passes) != verifier_passes ||
			pgtls_uptime() - verifier.start >= RETRY_INTERVAL * INT64CONST(1000))
		{
			uint64		passes = pg_atomic_read_u64(&shared->passes);

			if (start_task(&verifier, (Datum) 0))
			{
				verifier_wanted = false;
				verifier_passes = passes;
			}
			else if (lacks_slot(&verifier) &&
					 pg_atomic_read_u32(&shared->verifier_pid) == 0)
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
		else if (lacks_slot(&watch) && shared->stand_in == STAND_IN_FOR_NOBODY &&
				 !verifier_wanted && !pgtls_watch_is_running())
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
 * (reload.c).
 */
static void
look_for_due_verdicts(bool reloading, long *timeout)
{
	int64		generation = pgtls_reload_current_generation();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	DueVerdicts due;

	pgtls_session_due_verdicts(&due);
	if (reloading && (due.sessions > 0 || (EnableSSL && generation == 0)))
		verifier_wanted = true;
	if (!pgtls_reload_is_seen() || due.sessions == 0)
		return;					/* there is nothing to judge by, or nobody */
	if (is_running(&verifier))
		return;					/* its end will have us look again */
	if (pgtls_crldir_has_to_wait(timeout))
		return;
	if (due.outdated > 0 ||
		pg_atomic_read_u64(&shared->next_change_generation) != (uint64) generation)
	{
		verifier_wanted = true;
		return;
	}

	/* what the clock brings is judged together */
	next = Min(due.next, (TimestampTz) pg_atomic_read_u64(&shared->next_change));
	if (next == DT_NOEND)
		return;
	if (verifier.start != 0)
		next = Max(next, now + verifier.start + CLOCK_INTERVAL - pgtls_uptime());
	if (next <= now)
		verifier_wanted = true;
	else
		*timeout = Min(*timeout, (next - now) / 1000 + 1);
}

static void
monitor_exit(int code, Datum arg)
{
	if (shared->pid != MyProcPid)
		return;
	shared->pgproc = -1;
	/* to those who ask, a change of roles is none */
	if (shared->stand_in == STAND_IN_FOR_NOBODY && !standing_in)
		shared->pid = 0;
}

/*
 * Do, in the standing worker, what a worker was wanted for that found no slot.
 * There is nobody to end it if it takes too long, so it has itself interrupted.
 */
static void
stand_in(StandIn role)
{
	void		(*stop) (int signo) = role == STAND_IN_FOR_VERIFIER ?
		stop_verifier : pgtls_answer_terminate;

	pgtls_answer_exit_code = 1;
	pgtls_monitor_catch(SIGTERM, stop);
	pgtls_monitor_catch(SIGALRM, stop);
	(void) alarm(WORKER_LIMIT / USECS_PER_SEC);
	BackgroundWorkerUnblockSignals();

	if (role == STAND_IN_FOR_VERIFIER)
		verify_sessions();
	else
		pgtls_watch_run(shared->watch_task, true);
}

/* Read the save file, unless that has been done, or it was reset since. */
static void
load_saved(void)
{
	if (shared->save_soon)
		shared->loaded = true;	/* what is in the file is not to come back */
	if (!shared->loaded)
		pgtls_save_load(&shared->loaded);
}

/* Main function of the standing worker: the monitor, but for a time. */
void
pgtls_monitor_main(Datum arg)
{
	TimestampTz next_save;
	StandIn		role;

	if (shared == NULL)
		proc_exit(1);			/* another library than the one preloaded */

	role = shared->stand_in;
	shared->stand_in = STAND_IN_FOR_NOBODY;
	standing_in = role != STAND_IN_FOR_NOBODY;
	shared->pid = MyProcPid;
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
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "pg_tls monitor",
												ALLOCSET_DEFAULT_SIZES));
	shared->pgproc = pgtls_pgproc_number();

	load_saved();
	next_save = GetCurrentTimestamp() + SAVE_INTERVAL;

	while (!ShutdownRequestPending)
	{
		long		timeout = Min(watch_interval, SAVE_INTERVAL / 1000);
		bool		reloading = ConfigReloadPending;

		if (reloading)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			timeout = Min(watch_interval, RETRY_INTERVAL);	/* see what comes of it */
			pgtls_watch_reloading();
		}
		pgtls_crldir_look(&timeout);
		look_for_due_verdicts(reloading, &timeout);

		if (reloading || shared->save_soon || GetCurrentTimestamp() >= next_save)
			load_saved();
		if (shared->save_soon || GetCurrentTimestamp() >= next_save)
		{
			shared->save_soon = false;
			if (shared->loaded)
				pgtls_save_store();
			next_save = GetCurrentTimestamp() + SAVE_INTERVAL;
		}
		if (!start_workers(&timeout))
			timeout = Min(timeout, RETRY_INTERVAL);
		if (shared->stand_in != STAND_IN_FOR_NOBODY)
			break;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	if (shared->loaded)
		pgtls_save_store();

	/* if the server does not stop, it has to come back: not with 0 */
	proc_exit(1);
}

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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

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

#include "compat.h"
#include "crldir.h"
#include "judge.h"
#include "monitor.h"
#include "ossl.h"
#include "pg_tls.h"
#include "reload.h"
#include "save.h"
#include "session.h"
#include "watch.h"

/* While something is to be done that cannot be done yet, try so often. */
#define RETRY_INTERVAL	1000	/* milliseconds */

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

typedef struct MonitorShared
{
	int			pid;			/* of the monitor, 0 if it does not run */
	int			pgproc;			/* number of its PGPROC */

	/*
	 * Held by the verifier while it runs.  The monitor starts one at a time;
	 * but if the monitor itself is started again, another one may still run.
	 */
	LWLock	   *verifier_lock;
	int			verifier_pid;	/* of who holds it, 0 for nobody */
	TimestampTz verifier_start;

	bool		loaded;			/* the save file was read, if it is of use */
	bool		save_soon;		/* the save file is to be written at once */

	/*
	 * When a certificate or CRL of the server's store next begins or ends, so
	 * that any verdict may change; a TimestampTz.  Written by the verifier.
	 */
	pg_atomic_uint64 next_change;

	/* Generation of that store, NO_GENERATION before a pass has come to its end. */
	pg_atomic_uint64 next_change_generation;
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
		pg_atomic_init_u64(&shared->next_change, (uint64) DT_NOEND);
		pg_atomic_init_u64(&shared->next_change_generation, NO_GENERATION);
		shared->verifier_lock = &(GetNamedLWLockTranche("pg_tls"))[PGTLS_LOCK_VERIFIER].lock;
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
	if (pgtls_monitor_pid() != 0)
		SetLatch(&GetPGProcByNumber(*(volatile int *) &shared->pgproc)->procLatch);
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
 * Have a worker's SIGTERM call a handler, and interrupt what waits: a file that
 * is opened may be a FIFO.  (pqsignal() has system calls begun again.)
 */
void
pgtls_monitor_catch_sigterm(void (*handler) (int signo))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	sigemptyset(&action.sa_mask);
	(void) sigaction(SIGTERM, &action, NULL);
}

/* Have the monitor started with the server.  From _PG_init() only. */
void
pgtls_monitor_register(void)
{
	BackgroundWorker worker;

	pgtls_monitor_worker(&worker, "pg_tls monitor", "pgtls_monitor_main");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
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
 * who was not, if that is too early.  Returns how many these are.
 */
static int
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
	return held;
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
 * stuck, until the present monitor ends it.
 */
static void
lock_verifier(void)
{
	while (!LWLockConditionalAcquire(shared->verifier_lock, LW_EXCLUSIVE))
	{
		if (pgtls_judge_stop || !PostmasterIsAlive())
			proc_exit(0);
		pg_usleep(100000L);
	}
	shared->verifier_start = GetCurrentTimestamp();
	pg_write_barrier();
	shared->verifier_pid = MyProcPid;
}

static void
verifier_exit(int code, Datum arg)
{
	if (shared->verifier_pid == MyProcPid)
		shared->verifier_pid = 0;
}

static void
stop_verifier(int signo)
{
	pgtls_judge_stop = true;
}

/* Main function of the verifier; the argument is a JudgeScope. */
void
pgtls_verifier_main(Datum arg)
{
	JudgeScope	scope = DatumGetInt32(arg);
	SSL_CTX    *context;
	TimestampTz now;
	TimestampTz next_change;
	bool		counts = true;
	int			n;
	int			held = 0;

	pgtls_monitor_catch_sigterm(stop_verifier);
	BackgroundWorkerUnblockSignals();
	if (shared == NULL)
		proc_exit(0);			/* another library than the one preloaded */

	MemoryContextSwitchTo(TopMemoryContext);
	on_shmem_exit(verifier_exit, (Datum) 0);
	lock_verifier();
	now = GetCurrentTimestamp();
	next_change = (TimestampTz) pg_atomic_read_u64(&shared->next_change);

	/*
	 * Until this pass has done all of its work, none has: one that fails, or is
	 * cut short, has another follow.
	 */
	pg_atomic_write_u64(&shared->next_change_generation, NO_GENERATION);
	if (pgtls_reload_context(&context))
	{
		next_change = DT_NOEND;
		if (context != NULL)
			next_change = pgtls_verify_next_change(SSL_CTX_get_cert_store(context), now);
		pgtls_crldir_begin_pass();
		n = pgtls_judge_sessions(context, pgtls_reload_generation(), pgtls_reload_crl_changes(),
								 scope, take_verdict, NULL);
		elog(DEBUG1, "pg_tls judged %d sessions in %.3f ms", n,
			 (GetCurrentTimestamp() - now) / 1000.0);
		counts = pgtls_crldir_end_pass();
		if (counts)
			held = publish_verdicts();
		else
			elog(DEBUG1, "pg_tls discards what it judged: ssl_crl_dir is being changed");
		if (held > 0)
		{
			elog(DEBUG1, "pg_tls waits before it refuses %d session(s)", held);
			pgtls_crldir_hold();
		}
	}
	else
		forget_verdicts();
	if (invalid_sessions == INVALID_TERMINATE && counts)
		terminate_refused();

	/* reckoned from the beginning, so it is past if it has come since */
	if (!pgtls_judge_stop && counts && held == 0)
	{
		pg_atomic_write_u64(&shared->next_change, (uint64) next_change);
		pg_atomic_write_u64(&shared->next_change_generation, (uint64) pgtls_reload_generation());
	}
	verifier_exit(0, (Datum) 0);
	LWLockRelease(shared->verifier_lock);
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
	TimestampTz start;
} Task;

static Task verifier = {"pg_tls verifier", "pgtls_verifier_main", NULL, 0};
static Task watch = {"pg_tls watch", "pgtls_watch_main", NULL, 0};
static bool verifier_wanted = false;
static JudgeScope verifier_scope = JUDGE_DUE;

static void
want_verifier(JudgeScope scope)
{
	verifier_wanted = true;
	verifier_scope = Max(verifier_scope, scope);
}

/* Whether a worker runs; it is ended if it takes too long. */
static bool
is_running(Task *task)
{
	pid_t		pid;

	if (task->handle == NULL)
		return false;
	if (GetBackgroundWorkerPid(task->handle, &pid) != BGWH_STOPPED)
	{
		if (GetCurrentTimestamp() > task->start + WORKER_LIMIT)
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
		return false;
	}
	task->start = GetCurrentTimestamp();
	return true;
}

/*
 * End a verifier that takes too long, whoever has started it.  Each signal gets
 * it out of one file that it waits for, and the postmaster sends but one.
 */
static void
end_stuck_verifier(TimestampTz now)
{
	int			pid = *(volatile int *) &shared->verifier_pid;
	TimestampTz start;

	pg_read_barrier();
	start = *(volatile TimestampTz *) &shared->verifier_start;

	/* the clock may have been set back */
	if (pid != 0 && (now > start + WORKER_LIMIT || now < start - USECS_PER_MINUTE))
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
		if (pg_atomic_read_u64(&shared->next_change_generation) != NO_GENERATION ||
			now >= verifier.start + RETRY_INTERVAL * INT64CONST(1000) || now < verifier.start)
		{
			pg_atomic_write_u64(&shared->next_change_generation, NO_GENERATION);
			if (start_task(&verifier, Int32GetDatum(verifier_scope)))
			{
				verifier_wanted = false;
				verifier_scope = JUDGE_DUE;
			}
		}
	}

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
	}
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
	int			judged;
	int			pending;
	int64		generation = pgtls_reload_current_generation();
	TimestampTz next = pgtls_session_next_check(generation,
												pgtls_reload_current_crl_changes(),
												&judged, &pending);
	TimestampTz next_change = (TimestampTz) pg_atomic_read_u64(&shared->next_change);
	TimestampTz now = GetCurrentTimestamp();

	if (reloading && (judged > 0 || (EnableSSL && generation == 0)))
		want_verifier(JUDGE_DUE);
	if (!pgtls_reload_is_seen() || judged == 0)
		return;					/* there is nothing to judge by, or nobody */
	if (is_running(&verifier))
		return;					/* its end will have us look again */
	if (pgtls_crldir_has_to_wait(timeout))
		return;
	if (next_change <= now)
		want_verifier(JUDGE_ALL);
	else if (next <= now ||
			 pg_atomic_read_u64(&shared->next_change_generation) != (uint64) generation)
		want_verifier(JUDGE_DUE);
	next = Min(next, next_change);
	if (next > now && next != DT_NOEND)
		*timeout = Min(*timeout, (next - now) / 1000 + 1);
}

static void
monitor_exit(int code, Datum arg)
{
	if (shared->pid == MyProcPid)
		shared->pid = 0;
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

/* Main function of the monitor. */
void
pgtls_monitor_main(Datum arg)
{
	TimestampTz next_save;

	if (shared == NULL)
		proc_exit(1);			/* another library than the one preloaded */

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);	/* a worker has ended */
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "pg_tls monitor",
												ALLOCSET_DEFAULT_SIZES));

	shared->pgproc = pgtls_pgproc_number();
	pg_write_barrier();
	shared->pid = MyProcPid;
	on_shmem_exit(monitor_exit, (Datum) 0);

	/*
	 * While no monitor ran, anything may have happened.  (Sessions whose CRLs
	 * are not from a directory are judged in vain then.)
	 */
	want_verifier(JUDGE_DUE);
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

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	if (shared->loaded)
		pgtls_save_store();

	/* if the server does not stop, the monitor has to come back: not with 0 */
	proc_exit(1);
}

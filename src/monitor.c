/*-------------------------------------------------------------------------
 *
 * monitor.c
 *	  Background workers.
 *
 * The monitor is a standing worker, connected to no database, that does what
 * has to be done in time without anybody asking.  The verifier is a process
 * that it has started after each reload: forked from the postmaster when the
 * reload is over, it inherits what the postmaster has loaded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "compat.h"
#include "monitor.h"

typedef struct MonitorShared
{
	int			pid;			/* of the monitor, 0 if it does not run */
} MonitorShared;

static MonitorShared *shared = NULL;

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

/* Process ID of the monitor, 0 if it does not run. */
int
pgtls_monitor_pid(void)
{
	return shared != NULL ? *(volatile int *) &shared->pid : 0;
}

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

/* Have the monitor started with the server.  From _PG_init() only. */
void
pgtls_monitor_register(void)
{
	BackgroundWorker worker;

	pgtls_monitor_worker(&worker, "pg_tls monitor", "pgtls_monitor_main");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

/*
 * Main function of the verifier.  It judges nothing yet; but that it was
 * forked tells the postmaster that its load is over (reload.c).
 */
void
pgtls_verifier_main(Datum arg)
{
	proc_exit(0);
}

/* Start the verifier; false if there is no worker slot for it. */
static bool
start_verifier(void)
{
	BackgroundWorker worker;

	pgtls_monitor_worker(&worker, "pg_tls verifier", "pgtls_verifier_main");
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

static void
monitor_exit(int code, Datum arg)
{
	if (shared->pid == MyProcPid)
		shared->pid = 0;
}

/* Main function of the monitor. */
void
pgtls_monitor_main(Datum arg)
{
	bool		verify = false;

	if (shared == NULL)
		proc_exit(1);			/* another library than the one preloaded */

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	shared->pid = MyProcPid;
	on_shmem_exit(monitor_exit, (Datum) 0);

	while (!ShutdownRequestPending)
	{
		if (ConfigReloadPending)
		{
			/*
			 * The postmaster passes the signal on before it loads the TLS
			 * files, and starts workers only after that.
			 */
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			verify = true;
		}
		if (verify && start_verifier())
			verify = false;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (verify ? WL_TIMEOUT : 0),
						 1000L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	/* if the server does not stop, the monitor has to come back: not with 0 */
	proc_exit(1);
}

/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the monitor, pg_tls's standing worker (work/monitor.c).
 *
 * In shared memory: where the monitor is, which it writes itself, and whether
 * it is to save at once, which anybody sets and it resets.  There are no locks:
 * a wake-up that comes too early or too late finds a latch of another process,
 * for which that is no news, or has the monitor look at its next turn.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "storage/latch.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/wake.h"

typedef struct WakeShared
{
	int			pid;			/* of the monitor, 0 if it does not run */
	int			pgproc;			/* number of its PGPROC, -1 while it exits to
								 * give way, or to come back */
	bool		save_soon;		/* the save file is to be written at once */
} WakeShared;

static WakeShared *shared = NULL;	/* NULL without preloading */

Size
pgtls_wake_shmem_size(void)
{
	return sizeof(WakeShared);
}

void
pgtls_wake_shmem_init(void *area, bool found)
{
	shared = area;
	if (!found)
	{
		memset(shared, 0, sizeof(WakeShared));
		shared->pgproc = -1;
	}
}

/* Process ID of the monitor, 0 if it does not run. */
int
pgtls_wake_monitor_pid(void)
{
	return shared != NULL ? *(volatile int *) &shared->pid : 0;
}

/* Have the monitor look at once.  Any backend may call this. */
void
pgtls_wake_monitor(void)
{
	int			pgproc = *(volatile int *) &shared->pgproc;

	if (pgproc >= 0)
		SetLatch(&GetPGProcByNumber(pgproc)->procLatch);
}

/* What is in the save file is not to come back.  Any backend may call this. */
void
pgtls_wake_to_save(void)
{
	shared->save_soon = true;
	pgtls_wake_monitor();
}

/* The monitor runs, by this process ID; 0 for no more. */
void
pgtls_wake_set_monitor(int pid)
{
	shared->pid = pid;
}

/* Number of the monitor's PGPROC, by which it is woken; -1 for none. */
void
pgtls_wake_set_latch(int pgproc)
{
	shared->pgproc = pgproc;
}

/* Is the save file to be written at once? */
bool
pgtls_wake_wants_save(void)
{
	return shared->save_soon;
}

/* It will be. */
void
pgtls_wake_saves(void)
{
	shared->save_soon = false;
}

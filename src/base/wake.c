/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the monitor, pg_tls's standing worker (work/monitor.c).
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/wake.h"

/*
 * WakeShared: where the monitor is, which it writes itself, and what is wanted
 * of it.  There are no locks.
 *
 * The protocol is that of latches (latch.h): who wants something writes that,
 * here or elsewhere, and then wakes the monitor; the monitor resets its
 * latch, and then looks what is wanted.  But where the latch is has to be
 * read, too.  So who wakes reads "pgproc" after it has written, and a monitor
 * that starts looks after it has written "pgproc".  Between the two, either
 * has a full barrier (those of SetLatch() and ResetLatch() are elsewhere): so
 * the one finds the latch, or the other what is wanted.
 *
 * A latch that the monitor has left is another process's by then, or nobody's,
 * and to wake either in vain does no harm.
 *
 * "save_soon" is claimed before what is to be saved is read, by an exchange,
 * which is a full barrier.  What is set later is claimed the next time.
 */
typedef struct WakeShared
{
	int			pid;			/* of the monitor, 0 if it does not run */
	int			pgproc;			/* number of its PGPROC, -1 while it exits to
								 * give way, or to come back */
	pg_atomic_uint32 save_soon; /* the save file is to be written at once */
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
		pg_atomic_init_u32(&shared->save_soon, 0);
	}
}

/* Process ID of the monitor, 0 if it does not run. */
int
pgtls_wake_monitor_pid(void)
{
	return shared != NULL ? *(volatile int *) &shared->pid : 0;
}

/*
 * Have the monitor look at once at what was written before.  Any backend may
 * call this.
 */
void
pgtls_wake_monitor(void)
{
	int			pgproc;

	pg_memory_barrier();
	pgproc = *(volatile int *) &shared->pgproc;
	if (pgproc >= 0)
		SetLatch(&GetPGProcByNumber(pgproc)->procLatch);
}

/* What is in the save file is not to come back.  Any backend may call this. */
void
pgtls_wake_to_save(void)
{
	pg_atomic_write_u32(&shared->save_soon, 1);
	pgtls_wake_monitor();
}

/* The monitor runs, by this process ID; 0 for no more. */
void
pgtls_wake_set_monitor(int pid)
{
	shared->pid = pid;
}

/*
 * Number of the monitor's PGPROC, by which it is woken; -1 for none.  It looks
 * what is wanted after this.
 */
void
pgtls_wake_set_latch(int pgproc)
{
	*(volatile int *) &shared->pgproc = pgproc;
	pg_memory_barrier();
}

/* Is the save file to be written at once? */
bool
pgtls_wake_wants_save(void)
{
	return pg_atomic_read_u32(&shared->save_soon) != 0;
}

/* The same, and it will be, with all that is there by now. */
bool
pgtls_wake_claim_save(void)
{
	return pg_atomic_exchange_u32(&shared->save_soon, 0) != 0;
}

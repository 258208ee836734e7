/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Tests the protocol of src/base/wake.c: somebody wants something of the
 *	  monitor in the moment in which that starts.  Either it is woken, or it
 *	  sees what is wanted.
 *
 *	  wake ROUNDS
 *
 * Two threads meet that often, or until a wish is lost; tells whether one was.
 * With UNPROTECTED defined, there are no barriers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#undef Assert
#define Assert(condition) ((void) true)

#include <pthread.h>
#include <sched.h>

#include "storage/latch.h"
#include "storage/proc.h"

#ifdef UNPROTECTED
#undef pg_memory_barrier
#define pg_memory_barrier() pg_compiler_barrier()
#define SetLatch(latch) (woken = true)
#else
/* as the server's, which has a barrier of its own */
#define SetLatch(latch) do { pg_memory_barrier(); woken = true; } while (0)
#endif
#undef GetPGProcByNumber
#define GetPGProcByNumber(n) ((PGPROC *) NULL)

static volatile bool woken;

#include "base/wake.c"

static long round_begun = 0;
static long round_ended = 0;
static long rounds;

/* Wait for the other thread, which may have no processor. */
static void
wait_for(long *number, long i)
{
	for (long spins = 1; __atomic_load_n(number, __ATOMIC_SEQ_CST) < i; spins++)
	{
		if (spins % 1000 == 0)
			sched_yield();
	}
}

static void *
waker(void *arg)
{
	for (long i = 1; i <= rounds; i++)
	{
		wait_for(&round_begun, i);
		pgtls_wake_to_save();
		__atomic_store_n(&round_ended, i, __ATOMIC_SEQ_CST);
	}
	return arg;
}

int
main(int argc, char **argv)
{
	static char area[sizeof(WakeShared)] pg_attribute_aligned(64);
	pthread_t	thread;
	bool		lost = false;

	rounds = argc == 2 ? atol(argv[1]) : 0;
	pgtls_wake_shmem_init(area, false);
	if (pgtls_wake_shmem_size() != sizeof(area) ||
		pgtls_wake_monitor_pid() != 0 ||
		pthread_create(&thread, NULL, waker, NULL) != 0)
		return 2;
	pgtls_wake_set_monitor(1);
	for (long i = 1; i <= rounds && !lost; i++)
	{
		bool		seen;

		/* nobody runs, and nobody wants anything */
		shared->pgproc = -1;
		woken = false;
		pgtls_wake_claim_save();
		__atomic_store_n(&round_begun, i, __ATOMIC_SEQ_CST);
		for (long spin = i % 64; spin > 0; spin--)
			pg_compiler_barrier();

		pgtls_wake_set_latch(0);
		seen = pgtls_wake_wants_save();
		wait_for(&round_ended, i);
		lost = !seen && !woken;
	}
	puts(lost ? "lost" : "none lost");
	return 0;
}

/*-------------------------------------------------------------------------
 *
 * cell.h
 *	  Cells of shared memory that have one writer and any number of readers.
 *
 * The protocol is that of PgBackendStatus (backend_status.h): the writer
 * prepares the value elsewhere, increments the cell's change count, copies,
 * and increments it again; so the count is odd while the cell is being
 * written.  A reader copies the cell, and tries again if the count was odd or
 * has changed.  Neither waits for the other, neither can fail, and the writer
 * may be the postmaster.
 *
 * A writer must not be interrupted in between: its process handles signals by
 * setting flags.
 *
 * A reader that does not succeed soon gives the processor away between its
 * tries: the writer was preempted in the middle.  It gives up after about a
 * second, which happens only where the writer died there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CELL_H
#define PGTLS_CELL_H

#include "port/atomics.h"

#define PGTLS_CELL_ATTEMPTS	1000
#define PGTLS_CELL_SPINS	100

/* Copy a value into a cell; only its one writer may call this. */
static inline void
pgtls_cell_write(uint32 *changecount, void *cell, const void *value, Size size)
{
	volatile uint32 *count = changecount;
	uint32		writing = *count | 1;	/* even if a writer died there */

	*count = writing;
	pg_write_barrier();
	memcpy(cell, value, size);
	pg_write_barrier();
	*count = writing + 1;
}

/* Between two tries to copy a cell. */
static inline void
pgtls_cell_pause(int attempt)
{
	if (attempt >= PGTLS_CELL_SPINS)
		pg_usleep(1000L);
}

/*
 * Copy a cell; false if it stays in the middle of a change.  Not for the
 * postmaster.
 */
static inline bool
pgtls_cell_read(const uint32 *changecount, const void *cell, void *value,
				Size size)
{
	const volatile uint32 *count = changecount;

	for (int i = 0; i < PGTLS_CELL_ATTEMPTS; i++)
	{
		uint32		before = *count;

		pg_read_barrier();
		memcpy(value, cell, size);
		pg_read_barrier();
		if ((before & 1) == 0 && *count == before)
			return true;
		pgtls_cell_pause(i);
	}
	return false;
}

#endif							/* PGTLS_CELL_H */

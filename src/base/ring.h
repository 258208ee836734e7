/*-------------------------------------------------------------------------
 *
 * ring.h
 *	  The last of many values, in slots of shared memory.
 *
 * Any number of processes write and read, without locks.  Each value has a
 * ticket, its number; its slot is that modulo the number of slots.  Only who
 * took a ticket writes the value, perhaps again as more is known.
 *
 * The stamp of a slot tells the ticket of the value in it, how often that was
 * written, and whether it is being written:
 *
 *	(ticket + 1) << 8 | times written << 1 | being written
 *
 * It is 0 for a slot that was never used.  A writer claims the slot by a
 * compare-and-exchange, copies the value, and then counts.  If the slot is
 * being written, or holds a later value, the writer gives up: the ring has
 * gone around.
 *
 * So a stamp never comes back.  A reader copies, and has a whole value if the
 * stamp was even before and is the same afterwards; else it tries again, as
 * readers of cells do (cell.h).  Without the count, a value that was written
 * again meanwhile would be torn.
 *
 * A writer must not end in between: it blocks signals whose handlers may exit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_RING_H
#define PGTLS_RING_H

#include "port/atomics.h"

#include "base/cell.h"

#define PGTLS_RING_TICKET(stamp)	((stamp) >> 8)	/* and 1 */
#define PGTLS_RING_COUNT(stamp)		((stamp) >> 1 & 0x7f)
#define PGTLS_RING_WRITING			UINT64CONST(1)
#define PGTLS_RING_MAX_COUNT		0x7f

/*
 * Copy the value of a ticket into its slot.  One that was written too often to
 * be counted stays as it is.
 */
static inline void
pgtls_ring_write(pg_atomic_uint64 *stamp, void *slot, const void *value,
				 Size size, uint64 ticket)
{
	uint64		old = pg_atomic_read_u64(stamp);
	uint64		writing;

	if ((old & PGTLS_RING_WRITING) != 0 || PGTLS_RING_TICKET(old) > ticket + 1)
		return;
	if (PGTLS_RING_TICKET(old) < ticket + 1)
		writing = (ticket + 1) << 8 | PGTLS_RING_WRITING;
	else if (PGTLS_RING_COUNT(old) < PGTLS_RING_MAX_COUNT)
		writing = old | PGTLS_RING_WRITING;
	else
		return;

	if (pg_atomic_compare_exchange_u64(stamp, &old, writing))
	{
		memcpy(slot, value, size);
		pg_write_barrier();
		pg_atomic_write_u64(stamp, writing + 1);
	}
}

/* Copy the value of a ticket; false if it is not there. */
static inline bool
pgtls_ring_read(pg_atomic_uint64 *stamp, const void *slot, void *value,
				Size size, uint64 ticket)
{
	for (int i = 0; i < PGTLS_CELL_ATTEMPTS; i++)
	{
		uint64		before = pg_atomic_read_u64(stamp);

		if (PGTLS_RING_TICKET(before) != ticket + 1)
			return false;
		pg_read_barrier();
		memcpy(value, slot, size);
		pg_read_barrier();
		if ((before & PGTLS_RING_WRITING) == 0 &&
			pg_atomic_read_u64(stamp) == before)
			return true;
		pgtls_cell_pause(i);
	}
	return false;
}

#endif							/* PGTLS_RING_H */

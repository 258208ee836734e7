/*-------------------------------------------------------------------------
 *
 * changes.h
 *	  When the last of many changes were, in shared memory.
 *
 * Changes are numbered.  Their one writer notes each, readers ask for the first
 * one after a number that they know.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CHANGES_H
#define PGTLS_CHANGES_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

/* Of how many changes it is remembered when they were. */
#define PGTLS_NUM_CHANGES	64

/* Each at its number modulo PGTLS_NUM_CHANGES; a TimestampTz. */
typedef struct Changes
{
	pg_atomic_uint64 at[PGTLS_NUM_CHANGES];
} Changes;

static inline void
pgtls_changes_init(Changes *changes, TimestampTz at)
{
	for (int i = 0; i < PGTLS_NUM_CHANGES; i++)
		pg_atomic_init_u64(&changes->at[i], (uint64) at);
}

static inline void
pgtls_changes_note(Changes *changes, uint64 number, TimestampTz at)
{
	pg_atomic_write_u64(&changes->at[number % PGTLS_NUM_CHANGES], (uint64) at);
}

/*
 * The first change after the one that is known; of many, one of the last that
 * are remembered.
 */
static inline TimestampTz
pgtls_changes_after(Changes *changes, uint64 known, uint64 current)
{
	uint64		next = known < current ? known + 1 : current;

	if (current - next >= PGTLS_NUM_CHANGES)
		next = current - PGTLS_NUM_CHANGES + 1;
	next %= PGTLS_NUM_CHANGES;
	return (TimestampTz) pg_atomic_read_u64(&changes->at[next]);
}

#endif							/* PGTLS_CHANGES_H */

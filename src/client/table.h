/*-------------------------------------------------------------------------
 *
 * table.h
 *	  Bounded tables in shared memory: what was seen longest ago makes room.
 *
 * For backends and workers that may take locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_TABLE_H
#define PGTLS_TABLE_H

#include "base/preload.h"

/*
 * Table: entries of one size, found by a hash of their keys, and linked from
 * the one seen last to the one seen longest ago.  Numbers of entries are used
 * in place of pointers.
 */
typedef struct Table
{
	LWLock	   *lock;
	int32		size;			/* entries and buckets that there are */
	int32		used;			/* entries used; those come first */
	int32		newest;
	int32		oldest;
	int64		evictions;
	int64		made;			/* entries, since the server's start */
	uint64		changes;		/* likewise, but for those by loading */
	Size		key_size;		/* the key comes first in an entry */
	Size		entry_size;
} Table;

/*
 * TableScan: all entries that a table has at one moment, the newest first,
 * each as it is when the scan comes to it.  Those that were made later, or
 * have made room by then, are left out; so no key comes twice.
 *
 * It takes memory for one entry, and for the numbers of all.
 */
typedef struct TableScan
{
	Table	   *table;
	int32	   *numbers;
	int32		count;
	int32		next;
	int64		made;
} TableScan;

extern Size pgtls_table_size(int size, Size entry_size);
extern void pgtls_table_init(Table *table, int size, Size key_size,
							 Size entry_size, PgTlsLock lock);
extern void pgtls_table_reset(Table *table);
extern int64 pgtls_table_evictions(Table *table);
extern uint64 pgtls_table_changes(Table *table);

/* The caller holds the table's lock exclusively. */
extern void *pgtls_table_find(Table *table, const void *key, bool *found);
extern void *pgtls_table_load(Table *table, const void *saved, bool *found);

extern void pgtls_table_begin_scan(TableScan *scan, Table *table);
extern bool pgtls_table_scan_next(TableScan *scan, void *copy);

#endif							/* PGTLS_TABLE_H */

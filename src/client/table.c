/*-------------------------------------------------------------------------
 *
 * table.c
 *	  Bounded tables in shared memory: what was seen longest ago makes room.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/shmem.h"

#include "client/table.h"

/* Ends a list. */
#define NONE	(-1)

typedef struct Link
{
	int32		next_in_bucket;
	int32		newer;
	int32		older;
	int64		made;			/* which of all entries of the table it is */
} Link;

Size
pgtls_table_size(int size, Size entry_size)
{
	Size		result = MAXALIGN(sizeof(Table));

	result = add_size(result, MAXALIGN(mul_size(size, sizeof(int32))));
	result = add_size(result, MAXALIGN(mul_size(size, sizeof(Link))));
	return add_size(result, mul_size(size, MAXALIGN(entry_size)));
}

static int32 *
bucket(Table *table, uint32 hash)
{
	int32	   *buckets = (int32 *) ((char *) table + MAXALIGN(sizeof(Table)));

	return &buckets[hash % table->size];
}

static Link *
link_of(Table *table, int32 number)
{
	char	   *links = (char *) table + MAXALIGN(sizeof(Table)) +
		MAXALIGN(table->size * sizeof(int32));

	return (Link *) links + number;
}

static void *
entry(Table *table, int32 number)
{
	char	   *entries = (char *) table + MAXALIGN(sizeof(Table)) +
		MAXALIGN(table->size * sizeof(int32)) +
		MAXALIGN(table->size * sizeof(Link));

	return entries + number * MAXALIGN(table->entry_size);
}

static void
empty_table(Table *table)
{
	table->used = 0;
	table->newest = table->oldest = NONE;
	for (int32 i = 0; i < table->size; i++)
		*bucket(table, i) = NONE;
}

void
pgtls_table_init(Table *table, int size, Size key_size, Size entry_size,
				 PgTlsLock lock)
{
	memset(table, 0, pgtls_table_size(size, entry_size));
	table->lock = pgtls_preload_lock(lock);
	table->size = size;
	table->key_size = key_size;
	table->entry_size = entry_size;
	empty_table(table);
}

static uint32
hash_key(Table *table, const void *key)
{
	return hash_bytes(key, (int) table->key_size);
}

static void
unlink_entry(Table *table, int32 number)
{
	Link	   *link = link_of(table, number);

	if (link->newer != NONE)
		link_of(table, link->newer)->older = link->older;
	else
		table->newest = link->older;
	if (link->older != NONE)
		link_of(table, link->older)->newer = link->newer;
	else
		table->oldest = link->newer;
}

static void
make_newest(Table *table, int32 number)
{
	Link	   *link = link_of(table, number);

	link->newer = NONE;
	link->older = table->newest;
	if (table->newest != NONE)
		link_of(table, table->newest)->newer = number;
	else
		table->oldest = number;
	table->newest = number;
}

static void
make_oldest(Table *table, int32 number)
{
	Link	   *link = link_of(table, number);

	link->newer = table->oldest;
	link->older = NONE;
	if (table->oldest != NONE)
		link_of(table, table->oldest)->older = number;
	else
		table->newest = number;
	table->oldest = number;
}

/* Take the entry seen longest ago out of the table. */
static int32
evict(Table *table)
{
	int32		number = table->oldest;
	int32	   *from = bucket(table, hash_key(table, entry(table, number)));

	unlink_entry(table, number);
	while (*from != number)
		from = &link_of(table, *from)->next_in_bucket;
	*from = link_of(table, number)->next_in_bucket;
	table->evictions++;
	return number;
}

/* The number of the entry of a key, NONE if there is none. */
static int32
look_up(Table *table, const void *key)
{
	int32		number = *bucket(table, hash_key(table, key));

	while (number != NONE &&
		   memcmp(entry(table, number), key, table->key_size) != 0)
		number = link_of(table, number)->next_in_bucket;
	return number;
}

/* Have a new entry found by its key. */
static void
put_in_bucket(Table *table, int32 number)
{
	int32	   *first = bucket(table, hash_key(table, entry(table, number)));

	link_of(table, number)->made = ++table->made;
	link_of(table, number)->next_in_bucket = *first;
	*first = number;
}

/*
 * Find the entry of a key, or make one, zero but for its key; it becomes the
 * newest.  The caller holds the lock exclusively.
 */
void *
pgtls_table_find(Table *table, const void *key, bool *found)
{
	int32		number = look_up(table, key);

	*found = number != NONE;
	if (*found)
		unlink_entry(table, number);
	else
	{
		number = table->used < table->size ? table->used++ : evict(table);
		memset(entry(table, number), 0, table->entry_size);
		memcpy(entry(table, number), key, table->key_size);
		put_in_bucket(table, number);
	}
	make_newest(table, number);
	return entry(table, number);
}

/*
 * Find the entry of one that was saved, or make it, as the one seen longest
 * ago; NULL if there is no room.  The caller holds the lock exclusively.
 */
void *
pgtls_table_load(Table *table, const void *saved, bool *found)
{
	int32		number = look_up(table, saved);

	*found = number != NONE;
	if (*found)
		return entry(table, number);
	if (table->used >= table->size)
	{
		table->evictions++;
		return NULL;
	}
	number = table->used++;
	memcpy(entry(table, number), saved, table->entry_size);
	put_in_bucket(table, number);
	make_oldest(table, number);
	return entry(table, number);
}

/* Empty the table, and count anew. */
void
pgtls_table_reset(Table *table)
{
	LWLockAcquire(table->lock, LW_EXCLUSIVE);
	empty_table(table);
	table->evictions = 0;
	table->changes++;
	LWLockRelease(table->lock);
}

/* How many entries of a table had to make room. */
int64
pgtls_table_evictions(Table *table)
{
	int64		result;

	LWLockAcquire(table->lock, LW_SHARED);
	result = table->evictions;
	LWLockRelease(table->lock);
	return result;
}

/* How many changes there were, but for those by loading. */
uint64
pgtls_table_changes(Table *table)
{
	uint64		changes;

	LWLockAcquire(table->lock, LW_SHARED);
	changes = table->changes;
	LWLockRelease(table->lock);
	return changes;
}

void
pgtls_table_begin_scan(TableScan *scan, Table *table)
{
	scan->table = table;
	scan->numbers = palloc(table->size * sizeof(int32));
	scan->count = scan->next = 0;
	LWLockAcquire(table->lock, LW_SHARED);
	for (int32 number = table->newest; number != NONE;
		 number = link_of(table, number)->older)
		scan->numbers[scan->count++] = number;
	scan->made = table->made;
	LWLockRelease(table->lock);
}

/* Copy the next entry; false if there is none, and the scan is over. */
bool
pgtls_table_scan_next(TableScan *scan, void *copy)
{
	Table	   *table = scan->table;
	bool		found = false;

	CHECK_FOR_INTERRUPTS();
	while (!found && scan->next < scan->count)
	{
		int32		number = scan->numbers[scan->next++];

		LWLockAcquire(table->lock, LW_SHARED);
		if (number < table->used && link_of(table, number)->made <= scan->made)
		{
			memcpy(copy, entry(table, number), table->entry_size);
			found = true;
		}
		LWLockRelease(table->lock);
	}
	if (!found)
		pfree(scan->numbers);
	return found;
}

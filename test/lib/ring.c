/*-------------------------------------------------------------------------
 *
 * ring.c
 *	  Tests base/ring.h: a copy that is interrupted in the middle, by whatever
 *	  may come then, is whole or is refused.
 *
 * What interrupts a copy runs inside it, so that nothing depends on time.  With
 * ABA defined, stamps do not count how often a value was written; the test has
 * to notice that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

/* there is no server that could handle a failure */
#undef Assert
#define Assert(condition) ((void) true)

#include "port/atomics.h"

typedef struct Value
{
	uint64		words[16];
} Value;

static void (*interruption) (void) = NULL;

/* Copy one half, let somebody else run, and copy the other. */
static void *
copy_slowly(void *to, const void *from, size_t size)
{
	void		(*run) (void) = interruption;

	interruption = NULL;
	for (size_t i = 0; i < size; i++)
	{
		if (i == size / 2 && run != NULL)
			run();
		((volatile char *) to)[i] = ((const volatile char *) from)[i];
	}
	return to;
}

#undef memcpy
#define memcpy(to, from, size) copy_slowly(to, from, size)

#ifdef ABA
static void
write_without_count(pg_atomic_uint64 *stamp, uint64 new)
{
	pg_atomic_write_u64(stamp, (new & ~UINT64CONST(0xff)) | 2);
}

#define pg_atomic_write_u64(stamp, new) write_without_count(stamp, new)
#endif

#include "base/ring.h"

#define SLOTS	2

static struct Slot
{
	pg_atomic_uint64 stamp;
	Value		value;
}			slots[SLOTS];

static int	failures = 0;

/* cell.h pauses by it */
void
pg_usleep(long microsec)
{
	(void) microsec;
}

static void
check(bool ok, const char *what)
{
	fputs(ok ? "ok - " : "not ok - ", stdout);
	puts(what);
	failures += !ok;
}

static void
put(uint64 ticket, uint64 content)
{
	struct Slot *slot = &slots[ticket % SLOTS];
	Value		value;

	for (int i = 0; i < (int) lengthof(value.words); i++)
		value.words[i] = content;
	pgtls_ring_write(&slot->stamp, &slot->value, &value, sizeof(value),
					 ticket);
}

/* What a ticket holds: 0 for nothing, -1 for a mixture. */
static int
get(uint64 ticket)
{
	struct Slot *slot = &slots[ticket % SLOTS];
	Value		value;

	if (!pgtls_ring_read(&slot->stamp, &slot->value, &value, sizeof(value),
						 ticket))
		return 0;
	for (int i = 1; i < (int) lengthof(value.words); i++)
	{
		if (value.words[i] != value.words[0])
			return -1;
	}
	return (int) value.words[0];
}

static void
write_again(void)
{
	put(0, 2);
}
static void
write_twice(void)
{
	put(0, 2);
	put(0, 1);
}
static void
overtake(void)
{
	put(SLOTS, 3);
}

static int	seen;
static void
read_meanwhile(void)
{
	seen = get(0);
}

static void
empty(void)
{
	for (int i = 0; i < SLOTS; i++)
		pg_atomic_init_u64(&slots[i].stamp, 0);
	memset(&slots[0].value, 0, sizeof(Value));
}

int
main(void)
{
	empty();
	check(get(0) == 0, "an empty slot has nothing");
	put(0, 1);
	check(get(0) == 1, "what was written is read");
	check(get(SLOTS) == 0, "the next in the same slot is not there");
	check(get(1) == 0, "nor is that of another slot");

	interruption = write_again;
	check(get(0) == 2, "a value that is written again meanwhile is whole");
	interruption = write_twice;
	check(get(0) == 1, "and one that is written twice");
	interruption = overtake;
	check(get(0) == 0, "one that is overtaken while it is read is gone");
	check(get(SLOTS) == 3, "and the later one is there");
	put(0, 4);
	check(get(0) == 0 && get(SLOTS) == 3, "who comes late leaves it alone");

	empty();
	interruption = read_meanwhile;
	put(0, 1);
	check(seen == 0 && get(0) == 1, "what is being written is not read");
	interruption = overtake;
	put(0, 2);
	check(get(0) == 2 && get(SLOTS) == 0, "nor overtaken");
	interruption = overtake;
	put(SLOTS, 1);
	check(get(SLOTS) == 1, "a slot that is being written is left alone");

	empty();
	for (int i = 1; i <= 1000; i++)
		put(0, i);
	check(get(0) > 0 && get(SLOTS) == 0, "a value written too often stays");
	put(SLOTS, 7);
	check(get(SLOTS) == 7, "and makes room");
	return failures == 0 ? 0 : 1;
}

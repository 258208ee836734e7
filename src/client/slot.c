/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  Client sessions in shared memory: a slot for each possible backend.
 *
 * The postmaster only initializes the slots.  Without preloading there are
 * none.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include <signal.h>

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "base/cell.h"
#include "base/text.h"
#include "client/slot.h"

#define SLOT_SIZE		CACHELINEALIGN(sizeof(SessionSlot))
#define READ_ATTEMPTS	1000

#define TEXT_BOUND(name, bound) bound,
static const uint16 text_bound[SESSION_TEXT_COUNT] = {
SESSION_TEXTS(TEXT_BOUND)};

static char *slots = NULL;		/* NULL without preloading */
static int	nslots = 0;


/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

Size
pgtls_slot_shmem_size(void)
{
	return mul_size(pgtls_max_backends(), SLOT_SIZE);
}

void
pgtls_slot_shmem_init(void *area, bool found)
{
	slots = area;
	nslots = pgtls_max_backends();
	if (!found)
		memset(slots, 0, pgtls_slot_shmem_size());
}

static SessionSlot *
get_slot(int number)
{
	Assert(number >= 0 && number < nslots);
	return (SessionSlot *) (slots + (Size) number * SLOT_SIZE);
}

/* This process's own, NULL if it has none. */
SessionSlot *
pgtls_slot_mine(void)
{
	if (slots == NULL || MyProcNumber < 0 || MyProcNumber >= nslots)
		return NULL;
	return get_slot(MyProcNumber);
}

int
pgtls_slot_count(void)
{
	return nslots;
}

/* Bytes of a SessionInfo that mean something. */
static size_t
info_size(const SessionInfo *info)
{
	return offsetof(SessionInfo, space) + Min(info->used, TEXT_SPACE);
}

/* Write this backend's own slot; info NULL empties it. */
void
pgtls_slot_write(SessionSlot *slot, const SessionInfo *info)
{
	volatile uint32 *changecount = &slot->changecount;

	(*changecount)++;
	pg_write_barrier();
	if (info != NULL)
		memcpy(&slot->info, info, info_size(info));
	else
		slot->info.pid = 0;
	pg_write_barrier();
	(*changecount)++;
}

/*
 * Copy a slot.  False if it is empty, or stays in the middle of a change; of
 * a later verdict that is being written, the earlier one stands.
 */
bool
pgtls_slot_read(int number, SessionInfo *info)
{
	SessionSlot *slot = get_slot(number);
	volatile uint32 *changecount = &slot->changecount;

	for (int i = 0; i < READ_ATTEMPTS; i++)
	{
		uint32		before = *changecount;

		pg_read_barrier();
		if (((volatile SessionInfo *) &slot->info)->pid == 0)
			return false;
		memcpy(info, &slot->info, offsetof(SessionInfo, space));
		memcpy(info->space, slot->info.space, Min(info->used, TEXT_SPACE));
		pg_read_barrier();
		if ((before & 1) == 0 && *changecount == before)
		{
			info->used = Min(info->used, TEXT_SPACE);
			return info->pid != 0;
		}
		pgtls_cell_pause(i);
	}
	return false;
}

/* Replace the handshake's verdict by a later one, if there is one. */
void
pgtls_slot_apply_later_verdict(int number, SessionInfo *info)
{
	SessionSlot *slot = get_slot(number);
	LaterVerdict later;

	if (pgtls_cell_read(&slot->later_changecount, &slot->later, &later,
						sizeof(later)) &&
		later.pid == info->pid && later.start == info->start)
		info->verdict = later.verdict;
}


/* ----------------------------------------------------------------
 *		Texts
 * ----------------------------------------------------------------
 */

/* Keep a text, cut to its bound at a character. */
void
pgtls_slot_put_text(SessionInfo *info, SessionText field, const char *utf8)
{
	text	   *to = (text *) (info->space + info->used);
	size_t		len;

	if (utf8 == NULL)
		return;
	info->text_at[field] = info->used + 1;
	pgtls_text_cut(VARDATA(to), text_bound[field] + 1, utf8);
	len = VARHDRSZ + strlen(VARDATA(to));
	SET_VARSIZE(to, len);
	info->used += INTALIGN(len + 1);
}

/*
 * Keep a number in digits, unless it is longer than any real one: it must not
 * be cut.
 */
void
pgtls_slot_put_number(SessionInfo *info, SessionText field, const char *digits)
{
	if (digits != NULL && strlen(digits) <= text_bound[field])
		pgtls_slot_put_text(info, field, digits);
}

/* A text, NULL for none; also for one that does not lie in what was copied. */
const text *
pgtls_slot_value(const SessionInfo *info, SessionText field)
{
	int			offset = (int) info->text_at[field] - 1;
	int			room = (int) info->used - offset;
	const text *value = (const text *) (info->space + offset);

	if (offset < 0 || offset % sizeof(int32) != 0 || room <= VARHDRSZ ||
		VARSIZE(value) < VARHDRSZ || VARSIZE(value) >= (Size) room ||
		((const char *) value)[VARSIZE(value)] != '\0')
		return NULL;
	return value;
}

const char *
pgtls_slot_text(const SessionInfo *info, SessionText field)
{
	const text *value = pgtls_slot_value(info, field);

	return value != NULL ? VARDATA(value) : NULL;
}


/* ----------------------------------------------------------------
 *		For those who judge sessions
 * ----------------------------------------------------------------
 */

/*
 * The sessions whose client has a certificate, with their verdicts.  Returns
 * their number, and an array of them that is allocated.
 */
int
pgtls_slot_list(SessionKey **keys)
{
	SessionInfo *info = palloc(sizeof(SessionInfo));
	int			n = 0;

	*keys = palloc(Max(nslots, 1) * sizeof(SessionKey));
	for (int i = 0; i < nslots; i++)
	{
		SessionKey *key = &(*keys)[n];

		if (!pgtls_slot_read(i, info) || !info->has_certificate)
			continue;
		pgtls_slot_apply_later_verdict(i, info);
		key->number = i;
		key->pid = info->pid;
		key->start = info->start;
		key->chain = info->chain;
		key->not_after = info->not_after;
		key->verdict = info->verdict;
		n++;
	}
	pfree(info);
	return n;
}

static bool
is_current(const SessionKey *key)
{
	const volatile SessionInfo *info = &get_slot(key->number)->info;

	return info->pid == key->pid && info->start == key->start;
}

/*
 * The certificates that the client sent; the caller frees them.  False if
 * the session has ended, or they were not kept.
 */
bool
pgtls_slot_read_chain(const SessionKey *key, X509 **leaf, X509Stack **sent)
{
	ChainCopy  *copy = NULL;
	bool		ok;

	if (key->chain == PGTLS_NO_CHAIN)
		return false;

	/* a session gives its chain back after it has emptied its slot */
	pgtls_chain_lock();
	if (is_current(key))
		copy = pgtls_chain_copy(key->chain);
	pgtls_chain_unlock();
	if (copy == NULL)
		return false;
	ok = pgtls_chain_parse(copy, leaf, sent);
	pfree(copy);
	return ok;
}

/* Give a session a new verdict.  For the verifier alone. */
void
pgtls_slot_judge(const SessionKey *key, const Verdict *verdict)
{
	SessionSlot *slot = get_slot(key->number);
	LaterVerdict later;

	memset(&later, 0, sizeof(later));
	later.pid = key->pid;
	later.start = key->start;
	later.verdict = *verdict;
	pgtls_cell_write(&slot->later_changecount, &slot->later, &later,
					 sizeof(later));
}

/*
 * End a session, by a verdict that refuses it.  False if it has been told to
 * already, or has ended by itself.  For the verifier alone.
 */
bool
pgtls_slot_terminate(const SessionKey *key, const Verdict *verdict)
{
	SessionSlot *slot = get_slot(key->number);
	LaterVerdict later = slot->later;	/* which only we write */
	bool		killed = false;

	if (later.pid == key->pid && later.start == key->start && later.terminate)
		return false;

	later.pid = key->pid;
	later.start = key->start;
	later.verdict = *verdict;
	later.terminate = true;
	pgtls_cell_write(&slot->later_changecount, &slot->later, &later,
					 sizeof(later));

	/*
	 * The slot is emptied before the process leaves the ProcArray, for which
	 * it needs this lock.  So while the slot names it the process is there,
	 * and nobody else has its number.
	 */
	LWLockAcquire(ProcArrayLock, LW_SHARED);
	if (is_current(key))
		killed = kill(key->pid, SIGTERM) == 0;
	LWLockRelease(ProcArrayLock);
	return killed;
}

/* What the log says of a session: its certificate.  Allocated, valid UTF-8. */
char *
pgtls_slot_describe(const SessionKey *key)
{
	SessionInfo *info = palloc(sizeof(SessionInfo));
	char	   *result = NULL;

	if (pgtls_slot_read(key->number, info) && info->pid == key->pid &&
		info->start == key->start)
	{
		const char *dn = pgtls_slot_text(info, TEXT_CLIENT_DN);
		const char *serial = pgtls_slot_text(info, TEXT_SERIAL);

		result = psprintf("\"%s\", serial number %s", dn != NULL ? dn : "",
						  serial != NULL ? serial : "unknown");
	}
	pfree(info);
	return result;
}

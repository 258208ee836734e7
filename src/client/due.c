/*-------------------------------------------------------------------------
 *
 * due.c
 *	  Which verdicts on connected sessions have to be reached again, and when.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"
#include "utils/timestamp.h"

#include "client/due.h"
#include "server/crlchange.h"
#include "server/history.h"

typedef struct DueShared
{
	/*
	 * When the last pass of the verifier began that judged all sessions,
	 * since the clock had changed something in the server's store; a
	 * TimestampTz.  A verdict from before it is due.  Written by the verifier
	 * whose turn it is.
	 */
	pg_atomic_uint64 judged_all_at;
} DueShared;

static DueShared *shared = NULL;	/* NULL without preloading */

Size
pgtls_due_shmem_size(void)
{
	return sizeof(DueShared);
}

void
pgtls_due_shmem_init(void *area, bool found)
{
	shared = area;
	if (!found)
		pg_atomic_init_u64(&shared->judged_all_at, (uint64) DT_NOBEGIN);
}

void
pgtls_due_judged_all(TimestampTz now)
{
	pg_atomic_write_u64(&shared->judged_all_at, (uint64) now);
}

/*
 * When the verifier last began to judge all sessions, whatever was known of
 * them: a verdict from before that is due.  Any backend may call this.
 */
TimestampTz
pgtls_due_judged_all_at(void)
{
	return (TimestampTz) pg_atomic_read_u64(&shared->judged_all_at);
}

/*
 * When a verdict may have to be reached again by the clock alone, DT_NOEND for
 * never: at its own time; since the last pass over all sessions, which came too
 * early for it; or at once, if the clock was set back.
 */
TimestampTz
pgtls_due_at(const SessionKey *key, TimestampTz now)
{
	TimestampTz judged_all_at = pgtls_due_judged_all_at();
	TimestampTz checked_at = key->verdict.checked_at;

	if (key->chain == PGTLS_NO_CHAIN)
		return key->verdict.recheck_at; /* it had better keep what it has */
	if (checked_at > now)
		return now;
	if (checked_at < judged_all_at && judged_all_at <= now)
		return Min(judged_all_at, key->verdict.recheck_at);
	return key->verdict.recheck_at;
}

/* Count the verdicts that are due.  For any process. */
void
pgtls_due_count(DueVerdicts *due)
{
	int64		generation = pgtls_history_generation();
	uint32		crl_changes = pgtls_crlchange_current();
	bool		seen = pgtls_history_is_seen();
	SessionKey *keys;
	TimestampTz now;

	memset(due, 0, sizeof(*due));
	due->since = DT_NOEND;
	due->next = DT_NOEND;
	due->sessions = pgtls_slot_list(&keys);
	now = GetCurrentTimestamp();
	for (int i = 0; i < due->sessions; i++)
	{
		const Verdict *verdict = &keys[i].verdict;
		TimestampTz since;

		due->unkept += keys[i].chain == PGTLS_NO_CHAIN;
		if (!seen)
			continue;			/* nobody will judge it */
		if (verdict->generation != generation ||
			verdict->crl_changes != crl_changes)
		{
			due->outdated++;
			since = Min(pgtls_history_changed_after(verdict->generation),
						pgtls_crlchange_changed_after(verdict->crl_changes));
		}
		else
		{
			since = pgtls_due_at(&keys[i], now);
			due->next = Min(due->next, since);
			if (since > now)
				continue;
			due->overdue++;
		}
		due->since = Min(due->since, Max(since, keys[i].start));
	}
	pfree(keys);
}

/*-------------------------------------------------------------------------
 *
 * judge.c
 *	  Judges connected sessions by a TLS configuration.
 *
 * What is judged is what the clients sent, by a trust store that is in the
 * memory of this process: the one that it inherited from the postmaster, or
 * that of a dry run.  Sessions that sent the same are judged once.
 *
 * Runs in workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/worker.h"
#include "client/due.h"
#include "client/judge.h"
#include "x509/verify.h"

/* Where memory ran out, try again after this time. */
#define RETRY_INTERVAL	(5 * USECS_PER_SEC)

static int
compare_chains(const void *a, const void *b)
{
	const SessionKey *ka = a;
	const SessionKey *kb = b;

	if (ka->chain != kb->chain)
		return ka->chain < kb->chain ? -1 : 1;
	return ka->number - kb->number;
}

/*
 * Judge sessions that sent the same.  Where what they sent was not kept,
 * or memory ran out, the verdict is not known.
 */
static void
judge_chain(SSL_CTX *context, const SessionKey *keys, int n, TimestampTz now,
			Verdict *verdict)
{
	X509	   *leaf;
	X509Stack  *sent;
	bool		found = false;

	memset(verdict, 0, sizeof(*verdict));
	verdict->recheck_at = DT_NOEND;
	if (context == NULL)
	{
		pgtls_verdict_not_checked(now, verdict);
		return;
	}
	for (int i = 0; i < n && !found; i++)
		found = pgtls_slot_read_chain(&keys[i], &leaf, &sent);
	if (!found)
	{
		if (keys[0].chain != PGTLS_NO_CHAIN)
			verdict->recheck_at = now + RETRY_INTERVAL;
		return;
	}
	if (!pgtls_verify_chain(context, leaf, sent, now, verdict))
		verdict->recheck_at = now + RETRY_INTERVAL;
	X509_free(leaf);
	sk_X509_pop_free(sent, X509_free);
}

/*
 * What is left of a verdict for one of the sessions that sent the same.  Where
 * what it sent is lost, the end of the client's own certificate is certain
 * even so.
 */
static void
settle_verdict(const SessionKey *key, TimestampTz now, Verdict *verdict)
{
	TimestampTz retry_at = verdict->recheck_at;
	TimestampTz end = pgtls_ossl_past(key->not_after);

	if (verdict->known || verdict->chain_status == CHAIN_NOT_CHECKED)
		return;

	if (key->verdict.known && key->verdict.acceptable && end <= now &&
		end != PGTLS_NO_TIME)
	{
		*verdict = key->verdict;
		pgtls_verdict_at(verdict, now);
	}
	else
		memset(verdict, 0, sizeof(*verdict));
	verdict->recheck_at = Min(retry_at, end > now ? end : DT_NOEND);
}

/*
 * Judge sessions by a configuration (NULL for one that judges no clients),
 * which has this generation, and CRLs of this state.  Returns how many.
 */
int
pgtls_judge_sessions(SSL_CTX *context, int64 generation, uint32 crl_changes,
					 JudgeScope scope, JudgeCallback callback, void *arg)
{
	SessionKey *keys;
	int			n = pgtls_slot_list(&keys);
	int			due = 0;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		const Verdict *verdict = &keys[i].verdict;

		/* what cannot be judged again had better keep the verdict it has */
		if ((scope == JUDGE_ALL && keys[i].chain != PGTLS_NO_CHAIN) ||
			verdict->generation != generation ||
			verdict->crl_changes != crl_changes ||
			pgtls_due_at(&keys[i], now) <= now)
			keys[due++] = keys[i];
	}
	qsort(keys, due, sizeof(SessionKey), compare_chains);

	for (int first = 0, last; first < due && !pgtls_worker_stop; first = last)
	{
		Verdict		verdict;

		CHECK_FOR_INTERRUPTS();
		now = GetCurrentTimestamp();
		last = first + 1;
		while (last < due && keys[first].chain != PGTLS_NO_CHAIN &&
			   keys[last].chain == keys[first].chain)
			last++;
		judge_chain(context, &keys[first], last - first, now, &verdict);
		for (int i = first; i < last && !pgtls_worker_stop; i++)
		{
			Verdict		settled = verdict;

			settle_verdict(&keys[i], now, &settled);
			settled.generation = generation;
			settled.crl_changes = crl_changes;
			settled.checked_at = now;
			callback(&keys[i], &settled, arg);
		}
	}
	pfree(keys);
	return due;
}

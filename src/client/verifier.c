/*-------------------------------------------------------------------------
 *
 * verifier.c
 *	  The verifier: a worker that judges the connected sessions.
 *
 * The monitor (work/monitor.c) has it started when the verdicts on connected
 * sessions may have changed: after a reload, when the clock brings a change,
 * or when ssl_crl_dir has changed; and where there are such sessions.  It is
 * forked from the postmaster, after a load that was under way, and so
 * inherits the trust store that the server uses; it judges the sessions by
 * that, ends those that have to end, and exits.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/worker.h"
#include "client/due.h"
#include "client/judge.h"
#include "client/slot.h"
#include "client/verifier.h"
#include "server/crlchange.h"
#include "server/load.h"
#include "x509/verify.h"

#define NO_GENERATION	PG_UINT64_MAX

typedef enum InvalidSessions
{
	INVALID_REPORT,
	INVALID_TERMINATE
} InvalidSessions;

static const struct config_enum_entry invalid_sessions_options[] = {
	{"report", INVALID_REPORT, false},
	{"terminate", INVALID_TERMINATE, false},
	{NULL, 0, false}
};

static int	invalid_sessions;	/* pg_tls.invalid_sessions */

typedef struct VerifierShared
{
	/*
	 * Process ID of the verifier whose turn it is, 0 for none; each claims
	 * its turn.  The monitor starts one at a time; but if the monitor itself
	 * is started again, another one may still run.
	 */
	pg_atomic_uint32 pid;

	/* The rest is written by the verifier whose turn it is. */

	/* How many passes have come to their end. */
	pg_atomic_uint64 passes;

	/*
	 * When a certificate or CRL of the server's store next begins or ends, so
	 * that any verdict may change; a TimestampTz.
	 */
	pg_atomic_uint64 next_change;

	/* Generation of that store, NO_GENERATION if the time is not known. */
	pg_atomic_uint64 next_change_generation;
} VerifierShared;

static VerifierShared *shared = NULL;	/* NULL without preloading */

void
pgtls_verifier_define_settings(void)
{
	DefineCustomEnumVariable("pg_tls.invalid_sessions",
							 "Sets what happens to sessions whose client certificate the server would no longer accept.",
							 "\"report\" shows them in pg_stat_tls, \"terminate\" ends them.",
							 &invalid_sessions,
							 INVALID_REPORT,
							 invalid_sessions_options,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
}


/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

Size
pgtls_verifier_shmem_size(void)
{
	return sizeof(VerifierShared);
}

void
pgtls_verifier_shmem_init(void *area, bool found)
{
	shared = area;
	if (!found)
	{
		memset(shared, 0, sizeof(VerifierShared));
		pg_atomic_init_u32(&shared->pid, 0);
		pg_atomic_init_u64(&shared->passes, 0);
		pg_atomic_init_u64(&shared->next_change, (uint64) DT_NOEND);
		pg_atomic_init_u64(&shared->next_change_generation, NO_GENERATION);
	}
}



/* ----------------------------------------------------------------
 *		For the monitor
 * ----------------------------------------------------------------
 */

/* How many passes have come to their end. */
uint64
pgtls_verifier_passes(void)
{
	return pg_atomic_read_u64(&shared->passes);
}

/*
 * When the clock next changes something in the store of this generation;
 * DT_NOBEGIN if that is not known, as no pass by it has come to its end.
 */
TimestampTz
pgtls_verifier_next_change(int64 generation)
{
	if (pg_atomic_read_u64(&shared->next_change_generation) !=
		(uint64) generation)
		return DT_NOBEGIN;
	return (TimestampTz) pg_atomic_read_u64(&shared->next_change);
}

/* Does any verifier run, be it one that a former monitor has started? */
bool
pgtls_verifier_is_running(void)
{
	return pg_atomic_read_u32(&shared->pid) != 0;
}



/* ----------------------------------------------------------------
 *		A pass
 * ----------------------------------------------------------------
 */

/* The verdicts of a pass, until it is known what it is worth. */
typedef struct NewVerdict
{
	SessionKey	key;
	Verdict		verdict;
} NewVerdict;

typedef struct NewVerdicts
{
	NewVerdict *verdicts;
	int			count;
} NewVerdicts;

static void
take_verdict(const SessionKey *key, const Verdict *verdict, void *arg)
{
	NewVerdicts *new = arg;

	if (new->count % 64 == 0)
		new->verdicts = new->count == 0 ?
			palloc(64 * sizeof(NewVerdict)) :
			repalloc(new->verdicts, (new->count + 64) * sizeof(NewVerdict));
	new->verdicts[new->count].key = *key;
	new->verdicts[new->count++].verdict = *verdict;
}

/*
 * Publish the verdicts of a pass, but for those by which somebody is refused
 * who was not, if that is too early.  False if there are such.
 */
static bool
publish_verdicts(const NewVerdicts *new)
{
	int			held = 0;

	for (int i = 0; i < new->count; i++)
	{
		const SessionKey *key = &new->verdicts[i].key;
		const Verdict *verdict = &new->verdicts[i].verdict;
		bool		refused = pgtls_verdict_refused(verdict);

		if (!refused)
			pgtls_crlchange_accept(key->number);
		if (!refused || pgtls_verdict_refused(&key->verdict) ||
			pgtls_crlchange_may_refuse(key->number, key->start))
			pgtls_slot_judge(key, verdict);
		else
			held++;
	}
	if (held == 0)
		return true;
	elog(DEBUG1, "pg_tls waits before it refuses %d session(s)", held);
	pgtls_crlchange_hold();
	return false;
}

/*
 * The server reloads something that nobody lets us see: no verdict is known
 * any more.
 */
static void
forget_verdicts(void)
{
	SessionKey *keys;
	int			n = pgtls_slot_list(&keys);
	Verdict		unknown;

	memset(&unknown, 0, sizeof(unknown));
	unknown.recheck_at = DT_NOEND;
	for (int i = 0; i < n; i++)
		pgtls_slot_judge(&keys[i], &unknown);
}

/*
 * End the sessions whose certificates are refused.  These are not only those
 * that have just been judged: the setting may be new.  But it has to be a
 * verification by the present configuration and CRLs that refused them: what
 * only the clock says is for the next pass.
 */
static void
terminate_refused(void)
{
	SessionKey *keys;
	int			n = pgtls_slot_list(&keys);

	for (int i = 0; i < n; i++)
	{
		const Verdict *verdict = &keys[i].verdict;
		char	   *certificate;

		if (!pgtls_verdict_refused(verdict) ||
			verdict->generation != pgtls_load_generation() ||
			verdict->crl_changes != pgtls_crlchange_inherited())
			continue;
		certificate = pgtls_slot_describe(&keys[i]);
		if (certificate == NULL || !pgtls_slot_terminate(&keys[i], verdict))
			continue;
		ereport(LOG,
				(errmsg("terminating connection with PID %d, since its client certificate is no longer acceptable",
						keys[i].pid),
				 errdetail("Certificate %s: %s.", certificate,
						   pgtls_verdict_error(verdict))));
	}
}

/*
 * Wait until no other verifier runs: the one of a monitor that has ended may
 * do.  False if this one is to end.
 */
static bool
claim_turn(void)
{
	uint32		nobody = 0;

	while (!pg_atomic_compare_exchange_u32(&shared->pid, &nobody, MyProcPid))
	{
		if (pgtls_worker_stop || !PostmasterIsAlive())
			return false;
		pg_usleep(100000L);
		nobody = 0;
	}
	return true;
}

/* Let another verifier have its turn, if this one has it. */
static void
end_turn(int code, Datum arg)
{
	if (pg_atomic_read_u32(&shared->pid) != (uint32) MyProcPid)
		return;
	pg_atomic_write_u32(&shared->pid, 0);
}

/*
 * Judge the sessions that are due, or all of them: when the clock has changed
 * something in the store since the last pass, or may have, as it is not known
 * when it does.
 */
static void
make_pass(void)
{
	int64		generation = pgtls_load_generation();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next_change =
		(TimestampTz) pg_atomic_read_u64(&shared->next_change);
	bool		all = next_change <= now ||
		pg_atomic_read_u64(&shared->next_change_generation) !=
		(uint64) generation;
	bool		complete = true;
	SSL_CTX    *context;
	NewVerdicts new = {NULL, 0};

	/*
	 * Until this pass has done all of its work, none has: one that fails, or
	 * is cut short, has another follow.
	 */
	pg_atomic_write_u64(&shared->next_change_generation, NO_GENERATION);
	if (pgtls_load_client_context(&context))
	{
		int			n;

		/* reckoned from the beginning, so it is past if it has come since */
		next_change = context == NULL ? DT_NOEND :
			pgtls_verify_next_change(SSL_CTX_get_cert_store(context), now);
		/* who is not in the list of sessions yet will see that as it joins */
		if (all)
			pgtls_due_judged_all(now);
		pg_memory_barrier();
		pgtls_crlchange_begin_pass();
		n = pgtls_judge_sessions(context, generation,
								 pgtls_crlchange_inherited(),
								 all ? JUDGE_ALL : JUDGE_DUE, take_verdict,
								 &new);
		elog(DEBUG1, "pg_tls judged %d sessions in %.3f ms", n,
			 (GetCurrentTimestamp() - now) / 1000.0);
		complete = pgtls_crlchange_end_pass();
		if (!complete)
		{
			elog(DEBUG1,
				 "pg_tls discards what it judged: ssl_crl_dir is being changed");
			return;
		}
		complete = publish_verdicts(&new);
	}
	else
		forget_verdicts();
	if (invalid_sessions == INVALID_TERMINATE)
		terminate_refused();

	if (pgtls_worker_stop || !complete)
		return;
	pg_atomic_write_u64(&shared->next_change, (uint64) next_change);
	pg_atomic_write_u64(&shared->next_change_generation, (uint64) generation);
	pg_atomic_fetch_add_u64(&shared->passes, 1);
}

/* Be the verifier, in a process of its own or in the monitor's stead. */
void
pgtls_verifier_run(void)
{
	MemoryContextSwitchTo(TopMemoryContext);
	on_shmem_exit(end_turn, (Datum) 0);
	if (claim_turn())
		make_pass();
	end_turn(0, (Datum) 0);
}

/* Main function of the verifier. */
void
pgtls_verifier_main(Datum arg)
{
	pgtls_worker_begin_limited();
	if (shared != NULL)			/* else another library was preloaded */
		pgtls_verifier_run();
	proc_exit(0);
}

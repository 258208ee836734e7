/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Loads of the server's TLS files: what shared memory has of them.
 *
 * Cells (base/cell.h) that the postmaster alone writes, and counters of
 * requests.  Shared memory may be lost in a crash of a backend, and is then
 * filled again from the postmaster's own.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "base/cell.h"
#include "base/changes.h"
#include "base/compat.h"
#include "base/preload.h"
#include "server/history.h"

/* The copy in shared memory. */
typedef struct HistoryShared
{
	/*
	 * Incremented by whoever asks for a reload and wants to know what came of
	 * it.  Requests coalesce, as signals do: an attempt serves all requests
	 * that were made before it began.
	 */
	pg_atomic_uint32 requests;
	pg_atomic_uint32 watch_requests;	/* those of the watch among them */

	/* When the last generations were loaded; the postmaster writes. */
	Changes		generations;

	/* Cells that the postmaster writes. */
	uint32		state_changecount;
	LoadState	state;
	struct
	{
		uint32		changecount;
		LoadAttempt attempt;
	}			history[PGTLS_HISTORY_SIZE];
} HistoryShared;

static HistoryShared *shared = NULL;	/* NULL without preloading */


/* ----------------------------------------------------------------
 *		The postmaster
 * ----------------------------------------------------------------
 */

/* Where an attempt stands in an array of the last ones. */
int
pgtls_history_index(int64 attempt)
{
	return (attempt - 1) % PGTLS_HISTORY_SIZE;
}

/* Copy the state and one attempt to shared memory, if there is any yet. */
void
pgtls_history_publish(const LoadState *state, const LoadAttempt *attempt)
{
	int			i = pgtls_history_index(attempt->attempt);

	if (shared == NULL)
		return;
	if (attempt->generation != 0 && attempt->generation == state->generation)
		pgtls_changes_note(&shared->generations, state->generation,
						   state->loaded_at);
	pgtls_cell_write(&shared->history[i].changecount,
					 &shared->history[i].attempt, attempt,
					 sizeof(LoadAttempt));
	pgtls_cell_write(&shared->state_changecount, &shared->state, state,
					 sizeof(LoadState));
}

/* Which requests for a reload there are. */
void
pgtls_history_read_requests(uint32 *requests, uint32 *watch_requests)
{
	*requests = shared != NULL ? pg_atomic_read_u32(&shared->requests) : 0;
	*watch_requests =
		shared != NULL ? pg_atomic_read_u32(&shared->watch_requests) : 0;
}

Size
pgtls_history_shmem_size(void)
{
	return sizeof(HistoryShared);
}

static void
forget_shmem(int code, Datum arg)
{
	shared = NULL;
}

/*
 * Fill shared memory with what the postmaster has: the state, and an array of
 * the last attempts, each at its index.
 */
void
pgtls_history_shmem_init(void *area, bool found, const LoadState *state,
						 const LoadAttempt *history)
{
	HistoryShared *s = area;

	if (!found)
	{
		const LoadAttempt *last = state->attempts == 0 ? NULL :
			&history[pgtls_history_index(state->attempts)];

		memset(s, 0, sizeof(HistoryShared));
		pgtls_changes_init(&s->generations, state->loaded_at);
		pg_atomic_init_u32(&s->requests, last != NULL ? last->request : 0);
		pg_atomic_init_u32(&s->watch_requests,
						   last != NULL ? last->watch_request : 0);
		s->state = *state;
		for (int i = 0; i < PGTLS_HISTORY_SIZE; i++)
			s->history[i].attempt = history[i];
	}
	shared = s;
	on_shmem_exit(forget_shmem, (Datum) 0);
}


/* ----------------------------------------------------------------
 *		Readers
 * ----------------------------------------------------------------
 */

/*
 * Whether the hook is called at all: a server with "ssl" on has loaded
 * something, or tried to.
 */
bool
pgtls_history_is_hook_called(const LoadState *s)
{
	return !EnableSSL || (s->attempts > 0 && !pgtls_sni_is_on());
}

/* Whether it is known what is in force. */
bool
pgtls_history_sees_loads(const LoadState *s)
{
	return pgtls_history_is_hook_called(s) && !(EnableSSL && s->unseen);
}

/* Copy the state.  Raises an error without preloading. */
void
pgtls_history_read_state(LoadState *copy)
{
	pgtls_preload_require();
	if (!pgtls_cell_read(&shared->state_changecount, &shared->state, copy,
						 sizeof(*copy)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the state of the TLS configuration is being changed"),
				 errhint("Try again.")));
}

/* Copy an attempt; false if it is forgotten, or was never made. */
bool
pgtls_history_read_attempt(int64 number, LoadAttempt *copy)
{
	int			i = pgtls_history_index(number);

	return number > 0 &&
		pgtls_cell_read(&shared->history[i].changecount,
						&shared->history[i].attempt, copy, sizeof(*copy)) &&
		copy->attempt == number;
}

/*
 * The generation of the configuration in force, as the postmaster has it now:
 * 0 if none is loaded, or it cannot be known.
 */
int64
pgtls_history_generation(void)
{
	LoadState	s;

	/* each login asks for it: leave out the settings */
	if (shared == NULL || pgtls_sni_is_on() ||
		!pgtls_cell_read(&shared->state_changecount, &shared->state, &s,
						 offsetof(LoadState, settings)))
		return 0;
	return s.loaded != 0 && !s.unseen ? s.generation : 0;
}

/*
 * When what is in force changed first after this generation; DT_NOEND for not
 * at all.  For any process.
 */
TimestampTz
pgtls_history_changed_after(int64 generation)
{
	LoadState	s;

	if (shared == NULL ||
		!pgtls_cell_read(&shared->state_changecount, &shared->state, &s,
						 offsetof(LoadState, settings)))
		return DT_NOEND;
	if (s.loaded == 0 || generation > s.generation)
		return s.loaded_at;		/* TLS was turned off */
	if (generation == s.generation)
		return DT_NOEND;
	return pgtls_changes_after(&shared->generations, generation, s.generation);
}

/* The ssl_crl_dir of the configuration in force, an empty string for none. */
void
pgtls_history_crl_dir(char *dir, Size size)
{
	LoadState	s;

	dir[0] = '\0';
	if (pgtls_cell_read(&shared->state_changecount, &shared->state, &s,
						sizeof(s)) &&
		s.loaded != 0)
		strlcpy(dir, s.settings.crl_dir, size);
}

/* Whether generations mean anything.  For any process. */
bool
pgtls_history_is_seen(void)
{
	LoadState	s;

	return shared != NULL &&
		pgtls_cell_read(&shared->state_changecount, &shared->state, &s,
						sizeof(s)) &&
		pgtls_history_sees_loads(&s);
}

/*
 * Count a request, which the next load that begins will have seen; to be
 * followed by a SIGHUP for the postmaster.  Returns its number.
 */
uint32
pgtls_history_request(bool watch)
{
	if (watch)
		pg_atomic_fetch_add_u32(&shared->watch_requests, 1);
	return pg_atomic_add_fetch_u32(&shared->requests, 1);
}

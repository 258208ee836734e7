/*-------------------------------------------------------------------------
 *
 * crlchange.c
 *	  Notices when what is in ssl_crl_dir has changed.
 *
 * The server reads these directories at each connection, so that a file there
 * needs no reload.  The monitor looks at them with stat() alone.  When they
 * have changed, and then stayed the same for a moment, it counts a change and
 * has the verdicts on connected sessions reached again.
 *
 * Whoever writes a file takes time for it, and may pause in the middle.  Then
 * connections find half a CRL, or none.  Their clients may try again, but a
 * session that was ended for it is lost.  So
 *
 * - the verifier looks, too, before and after it judges.  What it found counts
 *	 only if both looks saw the same, if possible for a while; and
 * - a session that was acceptable is not refused until nothing has changed for
 *	 a longer time, or all passes in such a time have refused it.  The reason
 *	 makes no difference: where a CRL is missing, an older one may count.
 *
 * A directory that the server may search but not list is looked at as far as
 * that goes: its own times tell of files that come and go.  For what changes in
 * place, all sessions are judged now and then.
 *
 * In shared memory: what the monitor has seen and counted, which only it
 * writes; and who was refused, and until when that is to wait, which only the
 * verifier writes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/hashfn.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "base/cell.h"
#include "base/changes.h"
#include "base/compat.h"
#include "base/uptime.h"
#include "base/worker.h"
#include "server/crlchange.h"
#include "server/crldir.h"
#include "server/history.h"
#include "server/load.h"

/* So long the files have to stay as they are before a change counts. */
#define SETTLE_TIME		(500 * INT64CONST(1000))

/* ... and before somebody is refused by it who was accepted. */
#define REFUSAL_TIME	(10 * USECS_PER_SEC)

/* So often the verifier looks before it takes what there is. */
#define MAX_LOOKS		10

/* Where they never rest for so long, verdicts are reached all the same. */
#define MAX_WAIT		USECS_PER_MINUTE

/* How often all are judged if a directory cannot be listed. */
#define UNLISTED_INTERVAL	(30 * USECS_PER_SEC)

/* What the monitor has seen.  Times are those of pgtls_uptime(). */
typedef struct CrlDirView
{
	uint64		state;			/* 0 for no directory */
	bool		settled;		/* it was counted */
	int64		unsettled_since;	/* if not */
	int64		still_since;	/* when it was first seen */
	int64		counted_at;		/* when the last change was counted, or the
								 * first one since then was seen */
} CrlDirView;

/* Refusals that wait. */
typedef struct CrlDirHold
{
	int64		still_since;	/* of the view that they are by */
	int64		until;
} CrlDirHold;

typedef struct CrlDirShared
{
	/*
	 * How often a change was found, and when the last ones were.  Connections
	 * read the directories anew, so this is no matter of loads; but it is for
	 * children to know what they might have read.  The monitor's.
	 */
	pg_atomic_uint32 count;
	Changes		changes;

	uint32		view_changecount;
	CrlDirView	view;			/* the monitor's */
	uint32		hold_changecount;
	CrlDirHold	hold;			/* the verifier's */

	/*
	 * For each slot of a session, since when all passes have refused that;
	 * the verifier's alone.  "start" tells sessions apart.
	 */
	struct
	{
		TimestampTz start;
		int64		since;
	}			refused[FLEXIBLE_ARRAY_MEMBER];
} CrlDirShared;

static CrlDirShared *shared = NULL; /* NULL without preloading */

/* The verifier's, of its pass. */
static char pass_list[PGTLS_CRL_DIR_SIZE];
static CrlDirView pass_view;
static CrlDirHold hold;

/* The count that this process inherited. */
static uint32 inherited = 0;

Size
pgtls_crlchange_shmem_size(void)
{
	return add_size(offsetof(CrlDirShared, refused),
					mul_size(pgtls_max_backends(), sizeof(shared->refused[0])));
}

void
pgtls_crlchange_shmem_init(void *area, bool found)
{
	shared = area;
	if (!found)
	{
		memset(shared, 0, pgtls_crlchange_shmem_size());
		pg_atomic_init_u32(&shared->count, inherited + 1);
		pgtls_changes_init(&shared->changes, GetCurrentTimestamp());
		shared->view.settled = true;
	}
}


/* ----------------------------------------------------------------
 *		Looking
 * ----------------------------------------------------------------
 */

/*
 * Add what tells whether a file is the same, with the same contents, and can
 * still be read.  A change within the tick of the file system's clock in which
 * the file was looked at is not seen; but nothing counts before SETTLE_TIME.
 */
static uint64
add_file(uint64 hash, const struct stat *st)
{
	uint64		parts[10] = {
		st->st_dev, st->st_ino, st->st_size, st->st_mtim.tv_sec,
		st->st_mtim.tv_nsec,
		st->st_ctim.tv_sec, st->st_ctim.tv_nsec, st->st_mode, st->st_uid,
		st->st_gid
	};

	return hash_bytes_extended((unsigned char *) parts, sizeof(parts), hash);
}

/* The same of a name, for the link and for what it leads to. */
static uint64
add_name(uint64 hash, int dir, const char *name)
{
	struct stat st;
	int			flags = AT_SYMLINK_NOFOLLOW;
	int			error = 0;

	for (;;)
	{
		if (fstatat(dir, name, &st, flags) != 0)
		{
			error = errno;
			return hash_bytes_extended((unsigned char *) &error, sizeof(error),
									   hash);
		}
		hash = add_file(hash, &st);
		if (flags == 0 || !S_ISLNK(st.st_mode))
			return hash;
		flags = 0;
	}
}

/*
 * The state of a directory, as a number; *unlisted is set if it cannot be
 * listed, and so its files are not part of that.
 */
static uint64
add_directory(uint64 hash, const char *path, bool *unlisted)
{
	DIR		   *dir;
	struct dirent *entry;
	uint64		files = 0;

	hash =
		hash_bytes_extended((const unsigned char *) path, strlen(path), hash);
	dir = opendir(path);
	if (dir == NULL)
	{
		*unlisted = *unlisted || (errno != ENOENT && errno != ENOTDIR);
		return add_name(hash, AT_FDCWD, path);
	}
	while (errno = 0, (entry = readdir(dir)) != NULL)
	{
		const char *name = entry->d_name;

		/* the order of the entries does not matter */
		if (pgtls_crldir_is_hash_name(name))
			files += add_name(hash_bytes_extended((const unsigned char *) name,
												  strlen(name), 0),
							  dirfd(dir), name);
	}
	*unlisted = *unlisted || errno != 0;
	closedir(dir);
	return hash_bytes_extended((unsigned char *) &files, sizeof(files), hash);
}

/* The state of all directories; 0 if there are none. */
static uint64
look(const char *list, bool *unlisted)
{
	char		dir[MAXPGPATH];
	const char *rest = NULL;
	uint64		state = 0;

	*unlisted = false;
	while (pgtls_crldir_next(list, &rest, dir, sizeof(dir)))
		state = add_directory(state, dir, unlisted);
	return state;
}


/* ----------------------------------------------------------------
 *		Counting
 * ----------------------------------------------------------------
 */

void
pgtls_crlchange_before_fork(void)
{
	if (shared != NULL)
		inherited = pg_atomic_read_u32(&shared->count);
}

uint32
pgtls_crlchange_inherited(void)
{
	return inherited;
}

uint32
pgtls_crlchange_current(void)
{
	return shared != NULL ? pg_atomic_read_u32(&shared->count) : 0;
}

/*
 * When the first change after this one was found; DT_NOEND for none.  For any
 * process.
 */
TimestampTz
pgtls_crlchange_changed_after(uint32 changes)
{
	uint32		current = pgtls_crlchange_current();

	if (shared == NULL || changes == current)
		return DT_NOEND;
	return pgtls_changes_after(&shared->changes, changes, current);
}

static void
count_change(void)
{
	/* only we add */
	uint32		next = pg_atomic_read_u32(&shared->count) + 1;

	pgtls_changes_note(&shared->changes, next, GetCurrentTimestamp());
	pg_atomic_fetch_add_u32(&shared->count, 1);
}


/* ----------------------------------------------------------------
 *		The monitor
 * ----------------------------------------------------------------
 */

/*
 * Look at the directories of the ssl_crl_dir in force, and count their changes.
 * The timeout, in milliseconds, is lowered to when the next look is due.
 */
void
pgtls_crlchange_look(long *timeout)
{
	CrlDirView	view = shared->view;	/* which only we write */
	char		list[PGTLS_CRL_DIR_SIZE];
	int64		now = pgtls_uptime();
	bool		unlisted;
	bool		count = false;
	uint64		state;

	pgtls_history_crl_dir(list, sizeof(list));
	state = look(list, &unlisted);
	if (state != view.state)
	{
		if (view.settled)
			view.unsettled_since = view.counted_at = now;
		view.settled = false;
		view.state = state;
		view.still_since = now;
	}

	if (!view.settled && (state == 0 || now - view.still_since >= SETTLE_TIME))
		view.settled = count = true;
	else if (view.settled && unlisted &&
			 now - view.counted_at >= UNLISTED_INTERVAL)
	{
		/* for all we know, it has just changed */
		view.still_since = now;
		count = true;
	}
	else if (!view.settled && now - view.counted_at >= MAX_WAIT)
		count = true;
	if (count)
		view.counted_at = now;
	pgtls_cell_write(&shared->view_changecount, &shared->view, &view,
					 sizeof(view));
	if (count)
		count_change();

	if (!view.settled)
		*timeout = Min(*timeout, (long) (SETTLE_TIME / 1000 / 2));
	else if (unlisted)
		*timeout =
			Min(*timeout,
				(long) ((UNLISTED_INTERVAL - (now - view.counted_at)) / 1000 +
						1));
}

/* Does a pass of the verifier have to wait?  Lowers the timeout. */
bool
pgtls_crlchange_has_to_wait(long *timeout)
{
	CrlDirHold	held;
	int64		now = pgtls_uptime();

	/* where files never rest, the verifier looks for a moment by itself */
	if (!shared->view.settled)
		return now - shared->view.unsettled_since < MAX_WAIT;
	/* what has changed since may end the wait */
	if (!pgtls_cell_read(&shared->hold_changecount, &shared->hold, &held,
						 sizeof(held)) ||
		held.until <= now || held.still_since != shared->view.still_since)
		return false;
	*timeout = Min(*timeout, (long) ((held.until - now) / 1000 + 1));
	return true;
}


/* ----------------------------------------------------------------
 *		The verifier
 * ----------------------------------------------------------------
 */

/*
 * Before the first session is judged.  What the monitor saw is compared with
 * what there is.  If that has changed since, perhaps as the monitor has given
 * way, wait until it has settled, but not for ever.
 */
void
pgtls_crlchange_begin_pass(void)
{
	bool		unlisted;
	uint64		state;

	strlcpy(pass_list, pgtls_load_crl_dir(), sizeof(pass_list));
	state = look(pass_list, &unlisted);
	if (!pgtls_cell_read(&shared->view_changecount, &shared->view, &pass_view,
						 sizeof(pass_view)))
		memset(&pass_view, 0, sizeof(pass_view));
	for (int i = 0; i < MAX_LOOKS && !pgtls_worker_stop && state != 0; i++)
	{
		if (state != pass_view.state)
		{
			pass_view.state = state;
			pass_view.still_since = pgtls_uptime();
		}
		else if (pgtls_uptime() - pass_view.still_since >= SETTLE_TIME)
			break;
		pg_usleep(SETTLE_TIME);
		state = look(pass_list, &unlisted);
	}
	pass_view.state = state;
	hold.still_since = pass_view.still_since;
	hold.until = pass_view.still_since + REFUSAL_TIME;
}

/*
 * After the last one.  False if the pass is worth nothing, since files have
 * changed meanwhile, or shortly before.
 */
bool
pgtls_crlchange_end_pass(void)
{
	bool		unlisted;

	return look(pass_list, &unlisted) == pass_view.state;
}

/*
 * May this session, which was not refused before, be refused by the pass that
 * has ended?
 */
bool
pgtls_crlchange_may_refuse(int slot, TimestampTz start)
{
	int64		now = pgtls_uptime();

	if (shared->refused[slot].start != start)
	{
		shared->refused[slot].start = start;
		shared->refused[slot].since = now;
	}
	if (pass_view.state == 0 || now - pass_view.still_since >= REFUSAL_TIME ||
		now - shared->refused[slot].since >= REFUSAL_TIME)
		return true;
	hold.until = Min(hold.until, shared->refused[slot].since + REFUSAL_TIME);
	return false;
}

/* This session is not refused. */
void
pgtls_crlchange_accept(int slot)
{
	shared->refused[slot].start = 0;
}

/*
 * Somebody may not be refused yet.  Have the next pass wait for that; a reload,
 * or another change, has it made earlier.
 */
void
pgtls_crlchange_hold(void)
{
	pgtls_cell_write(&shared->hold_changecount, &shared->hold, &hold,
					 sizeof(hold));
}

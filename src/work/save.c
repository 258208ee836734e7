/*-------------------------------------------------------------------------
 *
 * save.c
 *	  Keeps what was seen of clients across restarts of the server.
 *
 * The monitor alone reads and writes the file: at its start, every minute if
 * anything has changed, and at its end.  So a crash loses a minute at most, or
 * as long as the monitor has stood in for another worker.  A file that is
 * damaged, or of another version, is ignored with a message in the log.
 *
 * It lies in pg_stat_tmp, where pg_stat_statements keeps its texts, too, since
 * base backups and pg_rewind leave out what is there: a standby or a clone is
 * not to take its origin's clients for its own.  (pg_stat_statements has a file
 * in pg_stat, but only while the server is down.)  The server itself removes
 * nothing from there but what it wrote.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/stream.h"
#include "base/uptime.h"
#include "client/failure.h"
#include "client/inventory.h"
#include "work/save.h"

#define SAVE_FILE		PG_STAT_TMP_DIR "/pg_tls.stat"
#define SAVE_TEMP_FILE	SAVE_FILE ".tmp"

/* Changes with the layout of what follows. */
#define SAVE_MAGIC		0x70674c32

/* How often it is written. */
#define SAVE_INTERVAL	USECS_PER_MINUTE

/* More than this is no file of ours. */
#define SAVE_MAX_SIZE	(512 * 1024 * 1024)

typedef struct SaveHeader
{
	uint32		magic;
	uint32		length;			/* of the rest */
	pg_crc32c	crc;			/* of the rest */
} SaveHeader;

static bool save;				/* pg_tls.save */

void
pgtls_save_define_settings(void)
{
	DefineCustomBoolVariable("pg_tls.save",
							 "Keeps what was seen of clients across restarts of the server.",
							 NULL,
							 &save,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
}

/* What there is to save: how often it has changed since the server's start. */
static uint64
count_changes(void)
{
	return pgtls_failure_changes() + pgtls_inventory_changes();
}

/* Check the file, which is left where the contents begin. */
static const char *
find_problem(FILE *file, SaveHeader *header)
{
	struct stat st;
	pg_crc32c	crc;
	char		buf[BLCKSZ];

	if (fread(header, sizeof(*header), 1, file) != 1)
		return "it is too short";
	if (header->magic != SAVE_MAGIC)
		return "it is of another version, or another program's";
	if (header->length > SAVE_MAX_SIZE || fstat(fileno(file), &st) != 0)
		return "its length is not valid";
	if (st.st_size < (off_t) (sizeof(*header) + header->length))
		return "it is too short";

	INIT_CRC32C(crc);
	for (size_t left = header->length; left > 0;)
	{
		size_t		len = Min(left, sizeof(buf));

		if (fread(buf, len, 1, file) != 1)
			return "it is too short";
		COMP_CRC32C(crc, buf, len);
		left -= len;
		CHECK_FOR_INTERRUPTS();
	}
	FIN_CRC32C(crc);
	if (!EQ_CRC32C(crc, header->crc) ||
		fseek(file, sizeof(*header), SEEK_SET) != 0)
		return "its checksum is wrong";
	return NULL;
}

/*
 * Add what the file holds to what has been seen already.  A problem is logged.
 * "loaded" becomes true before that, or where there is nothing to add, so that
 * it is never done twice, whatever happens next; while it is false, the file is
 * not to be overwritten.
 */
void
pgtls_save_load(SaveState *state)
{
	FILE	   *file;
	SaveHeader	header;
	Stream		stream;
	const char *problem;

	if (state->due == 0)
		state->due = pgtls_uptime() + SAVE_INTERVAL;
	file = save ? AllocateFile(SAVE_FILE, PG_BINARY_R) : NULL;
	if (file == NULL)
	{
		bool		later = save &&
			(errno == ENOMEM || errno == EMFILE || errno == ENFILE);

		if (save && errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", SAVE_FILE),
					 later ?
					 errdetail("It is left as it is, and read later.") :
					 0));
		state->loaded = !later;
		return;
	}

	/* nobody else writes the file, so it is the same when it is read again */
	problem = find_problem(file, &header);
	state->loaded = true;
	if (problem != NULL)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring file \"%s\"", SAVE_FILE),
				 errdetail("The file is not used, since %s.", problem)));
	else
	{
		pgtls_stream_begin_read(&stream, file, header.length);
		if (pgtls_failure_load(&stream) && pgtls_inventory_load(&stream))
		{
			/* it lacks what was seen since the start, and nothing else */
			state->stored = true;
			state->stored_changes = 0;
		}
		else
			ereport(LOG,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("ignoring a part of file \"%s\"", SAVE_FILE),
					 errdetail("It was written by another version.")));
	}
	FreeFile(file);
}

/*
 * Write the file anew if anything has changed; "reset" if that was a reset.
 * Problems are logged.
 */
void
pgtls_save_store(SaveState *state, bool reset)
{
	uint64		changes = count_changes();	/* before they are copied */
	struct stat st;
	SaveHeader	header = {0, 0, 0};
	Stream		stream;
	FILE	   *file;

	state->due = pgtls_uptime() + SAVE_INTERVAL;
	if (!save && reset)
		unlink(SAVE_FILE);		/* what was reset is not to come back */
	if (!save || !state->loaded ||
		(state->stored && state->stored_changes == changes &&
		 stat(SAVE_FILE, &st) == 0))
		return;

	file = AllocateFile(SAVE_TEMP_FILE, PG_BINARY_W);
	pgtls_stream_begin_write(&stream, file);
	if (file == NULL || fwrite(&header, sizeof(header), 1, file) != 1)
	{
		stream.ok = false;
		stream.error = errno;
	}
	pgtls_failure_save(&stream);
	pgtls_inventory_save(&stream);

	/* the header tells what has become known only now */
	header.magic = SAVE_MAGIC;
	header.length = (uint32) stream.length;
	header.crc = stream.crc;
	FIN_CRC32C(header.crc);
	if (stream.ok && (fseek(file, 0, SEEK_SET) != 0 ||
					  fwrite(&header, sizeof(header), 1, file) != 1))
	{
		stream.ok = false;
		stream.error = errno;
	}
	if (file != NULL && FreeFile(file) != 0 && stream.ok)
	{
		stream.ok = false;
		stream.error = errno;
	}

	if (!stream.ok)
	{
		errno = stream.error;
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SAVE_TEMP_FILE)));
		unlink(SAVE_TEMP_FILE);
	}
	else if (durable_rename(SAVE_TEMP_FILE, SAVE_FILE, LOG) == 0)
	{
		state->stored = true;
		state->stored_changes = changes;
	}
}

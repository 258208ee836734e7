/*-------------------------------------------------------------------------
 *
 * save.c
 *	  Keeps what was seen of clients across restarts of the server.
 *
 * The monitor alone reads and writes the file: at its start, every minute, and
 * at its end; so a crash loses a minute at most.  A file that is damaged, or of
 * another version, is ignored with a message in the log.
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

#include "lib/stringinfo.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "client/failure.h"
#include "client/inventory.h"
#include "work/save.h"

#define SAVE_FILE		PG_STAT_TMP_DIR "/pg_tls.stat"
#define SAVE_TEMP_FILE	SAVE_FILE ".tmp"

/* Changes with the layout of what follows. */
#define SAVE_MAGIC		0x70674c32

/* More than this is no file of ours. */
#define SAVE_MAX_SIZE	(512 * 1024 * 1024)

typedef enum ReadResult
{
	READ_OK,
	READ_USELESS,				/* there is none, or it cannot be used */
	READ_LATER					/* something is short now */
} ReadResult;

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

/* Read the file into memory; a problem is logged. */
static ReadResult
read_file(StringInfo buf)
{
	FILE	   *file = AllocateFile(SAVE_FILE, PG_BINARY_R);
	struct stat st;
	SaveHeader	header;
	pg_crc32c	crc;
	const char *problem = NULL;
	ReadResult	result = READ_USELESS;

	if (file == NULL)
	{
		if (errno == ENOMEM || errno == EMFILE || errno == ENFILE)
			result = READ_LATER;
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", SAVE_FILE)));
		return result;
	}

	if (fread(&header, sizeof(header), 1, file) != 1)
		problem = "it is too short";
	else if (header.magic != SAVE_MAGIC)
		problem = "it is of another version, or another program's";
	else if (header.length > SAVE_MAX_SIZE || fstat(fileno(file), &st) != 0)
		problem = "its length is not valid";
	else if (st.st_size < (off_t) (sizeof(header) + header.length))
		problem = "it is too short";
	else if ((buf->data = MemoryContextAllocExtended(CurrentMemoryContext,
													 (Size) header.length + 1,
													 MCXT_ALLOC_HUGE |
													 MCXT_ALLOC_NO_OOM)) ==
			 NULL)
		result = READ_LATER;
	else
	{
		buf->maxlen = header.length + 1;
		buf->len = (int) fread(buf->data, 1, header.length, file);
		buf->cursor = 0;
		buf->data[buf->len] = '\0';
		INIT_CRC32C(crc);
		COMP_CRC32C(crc, buf->data, buf->len);
		FIN_CRC32C(crc);
		if (buf->len != (int) header.length)
			problem = "it is too short";
		else if (!EQ_CRC32C(crc, header.crc))
			problem = "its checksum is wrong";
		else
			result = READ_OK;
	}
	FreeFile(file);

	if (problem != NULL)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("ignoring file \"%s\"", SAVE_FILE),
				 errdetail("The file is not used, since %s.", problem)));
	else if (result == READ_LATER)
		ereport(LOG,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not read file \"%s\": out of memory", SAVE_FILE),
				 errdetail("It is left as it is, and read later.")));
	return result;
}

/*
 * Add what the file holds to what has been seen already.  "done" becomes true
 * with that, or where there is nothing to add, so that it is never done twice,
 * whatever happens next; while it is false, the file is not to be overwritten.
 */
void
pgtls_save_load(bool *done)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_tls save",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	StringInfoData buf;
	ReadResult	result = save ? read_file(&buf) : READ_USELESS;

	if (result == READ_OK)
	{
		bool		whole =
			pgtls_failure_load(&buf) && pgtls_inventory_load(&buf);

		*done = true;
		if (!whole)
			ereport(LOG,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("ignoring a part of file \"%s\"", SAVE_FILE),
					 errdetail("It was written by another version.")));
	}
	else if (result == READ_USELESS)
		*done = true;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/* Write the file anew.  Problems are logged. */
void
pgtls_save_store(void)
{
	MemoryContext context;
	MemoryContext oldcontext;
	StringInfoData buf;
	SaveHeader	header;
	FILE	   *file;
	bool		ok;

	if (!save)
		return;

	context = AllocSetContextCreate(CurrentMemoryContext, "pg_tls save",
									ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(context);
	initStringInfo(&buf);
	pgtls_failure_save(&buf);
	pgtls_inventory_save(&buf);
	header.magic = SAVE_MAGIC;
	header.length = buf.len;
	INIT_CRC32C(header.crc);
	COMP_CRC32C(header.crc, buf.data, buf.len);
	FIN_CRC32C(header.crc);

	file = AllocateFile(SAVE_TEMP_FILE, PG_BINARY_W);
	ok = file != NULL &&
		fwrite(&header, sizeof(header), 1, file) == 1 &&
		fwrite(buf.data, buf.len, 1, file) == 1;
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (!ok)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SAVE_TEMP_FILE)));
		unlink(SAVE_TEMP_FILE);
	}
	else
		(void) durable_rename(SAVE_TEMP_FILE, SAVE_FILE, LOG);

	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

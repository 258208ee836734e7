/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  A file of records that is written and read piece by piece.
 *
 * A list of records does not say beforehand how many there are, which may not
 * be known: a byte that is not 0 comes before each, and a 0 after the last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/stream.h"

void
pgtls_stream_begin_write(Stream *stream, FILE *file)
{
	stream->file = file;
	stream->length = 0;
	stream->ok = true;
	stream->error = 0;
	INIT_CRC32C(stream->crc);
}

void
pgtls_stream_put(Stream *stream, const void *data, size_t len)
{
	if (!stream->ok || len == 0)
		return;
	COMP_CRC32C(stream->crc, data, len);
	stream->length += len;
	if (fwrite(data, len, 1, stream->file) != 1)
	{
		stream->ok = false;
		stream->error = errno;
	}
}

/* Add a record to a list.  There may be many. */
void
pgtls_stream_put_record(Stream *stream, const void *record, size_t len)
{
	CHECK_FOR_INTERRUPTS();
	pgtls_stream_put(stream, "\1", 1);
	pgtls_stream_put(stream, record, len);
}

void
pgtls_stream_end_records(Stream *stream)
{
	pgtls_stream_put(stream, "", 1);
}

/* Read so many bytes at most. */
void
pgtls_stream_begin_read(Stream *stream, FILE *file, uint64 length)
{
	stream->file = file;
	stream->length = length;
	stream->ok = true;
	stream->error = 0;
}

/* Fill the memory, or return false. */
bool
pgtls_stream_get(Stream *stream, void *data, size_t len)
{
	if (!stream->ok)
		return false;
	errno = 0;
	if (len > stream->length || fread(data, len, 1, stream->file) != 1)
	{
		stream->ok = false;
		stream->error = errno;
		return false;
	}
	stream->length -= len;
	return true;
}

/* The next record of a list; false at its end, and where it has none. */
bool
pgtls_stream_get_record(Stream *stream, void *record, size_t len)
{
	char		more;

	CHECK_FOR_INTERRUPTS();
	return pgtls_stream_get(stream, &more, 1) && more != '\0' &&
		pgtls_stream_get(stream, record, len);
}

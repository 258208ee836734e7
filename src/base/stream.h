/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  A file of records that is written and read piece by piece.
 *
 * Whatever its length, it takes no memory.  A problem is kept until the end,
 * and what follows it does nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_STREAM_H
#define PGTLS_STREAM_H

#include <stdio.h>

#include "port/pg_crc32c.h"

typedef struct Stream
{
	FILE	   *file;
	uint64		length;			/* written so far, or left to read */
	pg_crc32c	crc;			/* of what was written */
	bool		ok;
	int			error;			/* errno, of what went wrong; 0 for none */
} Stream;

extern void pgtls_stream_begin_write(Stream *stream, FILE *file);
extern void pgtls_stream_put(Stream *stream, const void *data, size_t len);
extern void pgtls_stream_put_record(Stream *stream, const void *record,
									size_t len);
extern void pgtls_stream_end_records(Stream *stream);

extern void pgtls_stream_begin_read(Stream *stream, FILE *file, uint64 length);
extern bool pgtls_stream_get(Stream *stream, void *data, size_t len);
extern bool pgtls_stream_get_record(Stream *stream, void *record, size_t len);

#endif							/* PGTLS_STREAM_H */

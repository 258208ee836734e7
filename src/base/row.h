/*-------------------------------------------------------------------------
 *
 * row.h
 *	  Rows for SQL, built column by column in the order of their declaration.
 *
 * May be called in a backend that is connected to a database, in a
 * transaction, and in a worker without a database; there, text stays UTF-8.
 * Raises an error if memory runs out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_ROW_H
#define PGTLS_ROW_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"

/* The most columns that one of our rows has. */
#define PGTLS_MAX_COLUMNS	64

typedef struct Row
{
	int			natts;			/* columns filled so far */
	Datum		values[PGTLS_MAX_COLUMNS];
	bool		nulls[PGTLS_MAX_COLUMNS];
	Oid			types[PGTLS_MAX_COLUMNS];	/* InvalidOid for a NULL */
} Row;

extern MemoryContext pgtls_row_begin_rows(void);
extern void pgtls_row_end_rows(MemoryContext context);
extern void pgtls_row_begin(Row *row);
extern void pgtls_row_null(Row *row);
extern void pgtls_row_copy(Row *row, const Row *from, int column);
extern void pgtls_row_bool(Row *row, bool value);
extern void pgtls_row_int(Row *row, int32 value);
extern void pgtls_row_bigint(Row *row, int64 value);
extern void pgtls_row_float(Row *row, float8 value);
extern void pgtls_row_numeric(Row *row, const char *decimal);
extern void pgtls_row_small_numeric(Row *row, int64 value);
extern void pgtls_row_time(Row *row, TimestampTz value);
extern void pgtls_row_text(Row *row, const char *utf8);
extern void pgtls_row_text_in_place(Row *row, const text *utf8);
extern void pgtls_row_inet(Row *row, const char *address);
extern char *pgtls_row_adopt(char *string);
extern char *pgtls_row_clean(const char *message);
extern void pgtls_row_message(Row *row, const char *message);
extern void pgtls_row_name(Row *row, const char *name);
extern void pgtls_row_messages(Row *row, const List *messages);
extern void pgtls_row_list(Row *row, const char *utf8);
extern void pgtls_row_bytes(Row *row, bytea *value);
extern void pgtls_row_hex(Row *row, const unsigned char *bytes, int len);
extern void pgtls_row_signed_hex(Row *row, bool negative,
								 const unsigned char *bytes, int len);

/* From one process to another, which need not have a database. */
extern void pgtls_row_write(const Row *row, StringInfo out);
extern void pgtls_row_read(Row *row, char *data, Size len);
extern char *pgtls_row_get_text(const Row *row, int column);
extern bool pgtls_row_get_bool(const Row *row, int column);
extern bytea *pgtls_row_get_bytes(const Row *row, int column);

extern void pgtls_row_convert(Row *row);
extern void pgtls_row_store(Row *row, ReturnSetInfo *rsinfo);
extern Datum pgtls_row_return(Row *row, FunctionCallInfo fcinfo);

#endif							/* PGTLS_ROW_H */

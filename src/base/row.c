/*-------------------------------------------------------------------------
 *
 * row.c
 *	  Rows for SQL, built column by column.
 *
 * Inside pg_tls, text is UTF-8: it is written before the session has a
 * database, and read from databases of any encoding.  Here it becomes valid
 * text of the current one.
 *
 * A worker that has no database fills rows by the same calls, and writes them
 * into a message: each value with its type.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/row.h"
#include "base/text.h"

/*
 * Have memory for many rows, which the caller resets after each.  It is the
 * current context until pgtls_row_end_rows().
 */
MemoryContext
pgtls_row_begin_rows(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_tls row",
												  ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(context);
	return context;
}

void
pgtls_row_end_rows(MemoryContext context)
{
	MemoryContextSwitchTo(MemoryContextGetParent(context));
	MemoryContextDelete(context);
}

void
pgtls_row_begin(Row *row)
{
	row->natts = 0;
}

/*
 * Raise an error unless the row has the columns that SQL was told of: the
 * library is new, and the extension's objects are of another version.  An
 * integer taken for a text would crash the server.
 */
static void
check(const Row *row, TupleDesc tupdesc)
{
	bool		same_number = tupdesc->natts == row->natts;
	int			fitting = 0;

	while (same_number && fitting < row->natts &&
		   (row->nulls[fitting] ||
			row->types[fitting] == TupleDescAttr(tupdesc, fitting)->atttypid))
		fitting++;
	if (!same_number || fitting < row->natts)
		ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("objects of extension \"pg_tls\" do not fit the loaded library"),
				 same_number ?
				 errdetail("The library has type %s in column %d where SQL expects %s.",
						   format_type_be(row->types[fitting]),
						   fitting + 1,
						   format_type_be(
										  TupleDescAttr(tupdesc, fitting)
										  ->atttypid)) :
				 errdetail("The library has %d columns where SQL expects %d.",
						   row->natts, tupdesc->natts),
				 errhint("Run ALTER EXTENSION pg_tls UPDATE, or restart the server if the library was replaced.")));
}

/* Add the row to the result of a set-returning function. */
void
pgtls_row_store(Row *row, ReturnSetInfo *rsinfo)
{
	check(row, rsinfo->setDesc);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
						 row->values, row->nulls);
}

/* Make the row the result of a function that returns a single one. */
Datum
pgtls_row_return(Row *row, FunctionCallInfo fcinfo)
{
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	check(row, tupdesc);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
											 row->values, row->nulls));
}

static void
add(Row *row, Oid type, Datum value, bool isnull)
{
	Assert(row->natts < PGTLS_MAX_COLUMNS);
	row->types[row->natts] = type;
	row->values[row->natts] = value;
	row->nulls[row->natts] = isnull;
	row->natts++;
}

void
pgtls_row_null(Row *row)
{
	add(row, InvalidOid, (Datum) 0, true);
}

/* A column of another row, whose value lives as long as this one. */
void
pgtls_row_copy(Row *row, const Row *from, int column)
{
	add(row, from->types[column], from->values[column], from->nulls[column]);
}

void
pgtls_row_bool(Row *row, bool value)
{
	add(row, BOOLOID, BoolGetDatum(value), false);
}

void
pgtls_row_int(Row *row, int32 value)
{
	add(row, INT4OID, Int32GetDatum(value), false);
}

void
pgtls_row_bigint(Row *row, int64 value)
{
	add(row, INT8OID, Int64GetDatum(value), false);
}

void
pgtls_row_float(Row *row, float8 value)
{
	add(row, FLOAT8OID, Float8GetDatum(value), false);
}

/* A numeric of what fits into 64 bits. */
void
pgtls_row_small_numeric(Row *row, int64 value)
{
	add(row, NUMERICOID,
		DirectFunctionCall1(int8_numeric, Int64GetDatum(value)), false);
}

/*
 * An integer of any size in decimal digits; NULL for none.  Few digits need
 * not be parsed as a numeric, which takes several times as long.
 */
void
pgtls_row_numeric(Row *row, const char *decimal)
{
	if (decimal == NULL)
		pgtls_row_null(row);
	else if (strlen(decimal) <= 18)
		pgtls_row_small_numeric(row, strtoll(decimal, NULL, 10));
	else
		add(row, NUMERICOID,
			DirectFunctionCall3(numeric_in, CStringGetDatum(decimal),
								ObjectIdGetDatum(InvalidOid),
								Int32GetDatum(-1)),
			false);
}

/* A moment; NULL where it is not known (DT_NOBEGIN). */
void
pgtls_row_time(Row *row, TimestampTz value)
{
	add(row, TIMESTAMPTZOID, TimestampTzGetDatum(value), value == DT_NOBEGIN);
}

/*
 * Convert UTF-8 character by character.  What the database's encoding lacks
 * is written as x509/certificate.c writes what UTF-8 lacks.
 */
static text *
convert_text(const char *utf8, size_t len)
{
	Oid			proc =
		FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	const unsigned char *s = (const unsigned char *) utf8;
	const unsigned char *end = s + len;
	StringInfoData buf;
	text	   *result;

	initStringInfo(&buf);
	while (s < end)
	{
		int			n =
			Min(pg_encoding_mblen(PG_UTF8, (const char *) s), end - s);
		unsigned char converted[MAX_CONVERSION_GROWTH * 4 + 1];

		if (!IS_HIGHBIT_SET(*s))
			appendStringInfoChar(&buf, *s);
		else if (OidIsValid(proc) &&
				 pgtls_convert_char(proc, GetDatabaseEncoding(), s, n,
									converted, sizeof(converted)))
			appendStringInfoString(&buf, (char *) converted);
		else
		{
			for (int i = 0; i < n; i++)
				appendStringInfo(&buf, "\\%02X", s[i]);
		}
		s += n;
	}
	result = cstring_to_text_with_len(buf.data, buf.len);
	pfree(buf.data);
	return result;
}

/* Whether all UTF-8 is valid text of the database; so it is without one. */
static bool
takes_utf8(void)
{
	return GetDatabaseEncoding() == PG_UTF8 ||
		GetDatabaseEncoding() == PG_SQL_ASCII;
}

/* Whether UTF-8 is valid text of the database as it is. */
static bool
is_text(const char *utf8, size_t len)
{
	if (takes_utf8())
		return true;
	for (size_t i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(utf8[i]))
			return false;
	}
	return true;
}

static Datum
text_datum(const char *utf8, size_t len)
{
	return PointerGetDatum(is_text(utf8, len) ?
						   cstring_to_text_with_len(utf8, len) :
						   convert_text(utf8, len));
}

/* Text; NULL for none. */
void
pgtls_row_text(Row *row, const char *utf8)
{
	if (utf8 == NULL)
		pgtls_row_null(row);
	else
		add(row, TEXTOID, text_datum(utf8, strlen(utf8)), false);
}

/* The same of a value that lives as long as the row. */
void
pgtls_row_text_in_place(Row *row, const text *utf8)
{
	const char *data;
	size_t		len;

	if (utf8 == NULL)
	{
		pgtls_row_null(row);
		return;
	}
	data = VARDATA_ANY(utf8);
	len = VARSIZE_ANY_EXHDR(utf8);
	add(row, TEXTOID,
		PointerGetDatum(is_text(data, len) ? utf8 : convert_text(data, len)),
		false);
}

/*
 * A string of OpenSSL's, which is freed, as one of our own, which an error
 * frees, too; NULL for NULL.
 */
char *
pgtls_row_adopt(char *string)
{
	char	   *copy;

	if (string == NULL)
		return NULL;
	copy = palloc_extended(strlen(string) + 1, MCXT_ALLOC_NO_OOM);
	if (copy != NULL)
		strcpy(copy, string);
	OPENSSL_free(string);
	if (copy == NULL)
		pgtls_error_out_of_memory();
	return copy;
}

/*
 * A text of the server, whose encoding is not known: it holds names of files,
 * and was written before there was a database.  What is not valid UTF-8, and
 * hidden characters, appear as in x509/certificate.h.
 */
static Datum
message_datum(const char *message)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	Datum		result = (Datum) 0;
	char	   *data;
	long		len;

	PG_TRY();
	{
		if (bio == NULL ||
			!pgtls_text_escape(bio, message, strlen(message), false))
			pgtls_error_out_of_memory();
		len = BIO_get_mem_data(bio, &data);
		result = text_datum(data, len);
	}
	PG_FINALLY();
	{
		BIO_free(bio);
		ERR_clear_error();
	}
	PG_END_TRY();
	return result;
}

/* The same for a message of our own; allocated. */
char *
pgtls_row_clean(const char *message)
{
	return TextDatumGetCString(message_datum(message));
}

/* The same in a column; NULL for none. */
void
pgtls_row_message(Row *row, const char *message)
{
	if (message == NULL)
		pgtls_row_null(row);
	else
		add(row, TEXTOID, message_datum(message), false);
}

/*
 * The name of a role or database, as pgtls_row_message() has it; NULL for none
 * or an empty one.  What does not fit into a name ends in an ellipsis (U+2026).
 */
void
pgtls_row_name(Row *row, const char *name)
{
	static const char ellipsis[] = "\xe2\x80\xa6";
	text	   *value;
	char	   *result;
	int			len;

	if (name == NULL || name[0] == '\0')
	{
		pgtls_row_null(row);
		return;
	}
	value = DatumGetTextPP(message_datum(name));
	len = VARSIZE_ANY_EXHDR(value);
	result = palloc0(NAMEDATALEN);
	if (len >= NAMEDATALEN)
	{
		Datum		cut = text_datum(ellipsis, strlen(ellipsis));
		text	   *mark = DatumGetTextPP(cut);
		int			mark_len = VARSIZE_ANY_EXHDR(mark);

		len = pg_mbcliplen(VARDATA_ANY(value), len,
						   NAMEDATALEN - 1 - mark_len);
		memcpy(result + len, VARDATA_ANY(mark), mark_len);
	}
	memcpy(result, VARDATA_ANY(value), len);
	add(row, NAMEOID, CStringGetDatum(result), false);
}

static void
add_array(Row *row, Datum *texts, int n)
{
	add(row, TEXTARRAYOID,
		PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false,
										TYPALIGN_INT)),
		false);
}

/* A text[] of messages (List of char *); an empty array for none. */
void
pgtls_row_messages(Row *row, const List *messages)
{
	Datum	   *texts = palloc(sizeof(Datum) * (list_length(messages) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, messages)
		texts[n++] = message_datum(lfirst(lc));
	add_array(row, texts, n);
}

/*
 * A text[] of a list that PGTLS_LIST_SEPARATOR separates: NULL for none, and
 * an empty array for an empty one.
 */
void
pgtls_row_list(Row *row, const char *utf8)
{
	static const char separator[] = {PGTLS_LIST_SEPARATOR, '\0'};
	Datum	   *texts;
	int			n = 1;

	if (utf8 == NULL)
	{
		pgtls_row_null(row);
		return;
	}
	for (const char *p = utf8; *p != '\0'; p++)
		n += *p == PGTLS_LIST_SEPARATOR;
	texts = palloc(sizeof(Datum) * n);

	n = 0;
	while (*utf8 != '\0' || n > 0)
	{
		size_t		len = strcspn(utf8, separator);

		texts[n++] = text_datum(utf8, len);
		if (utf8[len] == '\0')
			break;
		utf8 += len + 1;
	}
	add_array(row, texts, n);
}

/* An address in digits; NULL for none. */
void
pgtls_row_inet(Row *row, const char *address)
{
	if (address == NULL)
		pgtls_row_null(row);
	else
		add(row, INETOID,
			DirectFunctionCall1(inet_in, CStringGetDatum(address)), false);
}

void
pgtls_row_bytes(Row *row, bytea *value)
{
	add(row, BYTEAOID, PointerGetDatum(value), false);
}

/* Bytes in lower-case hexadecimal, perhaps a negative number; NULL for none. */
void
pgtls_row_signed_hex(Row *row, bool negative, const unsigned char *bytes,
					 int len)
{
	size_t		size = VARHDRSZ + negative + 2 * (size_t) len;
	text	   *result;

	if (bytes == NULL)
	{
		pgtls_row_null(row);
		return;
	}
	result = palloc(size);
	SET_VARSIZE(result, size);
	if (negative)
		*VARDATA(result) = '-';
	(void) hex_encode((const char *) bytes, len, VARDATA(result) + negative);
	add(row, TEXTOID, PointerGetDatum(result), false);
}

/* The same without. */
void
pgtls_row_hex(Row *row, const unsigned char *bytes, int len)
{
	pgtls_row_signed_hex(row, false, bytes, len);
}


/* ----------------------------------------------------------------
 *		In messages
 * ----------------------------------------------------------------
 *
 * A row is its columns, and each of these the OID of its type, InvalidOid for
 * a NULL, and its value: eight bytes, or a varlena.  All are multiples of
 * MESSAGE_ALIGN, so that a varlena can be used where it is.
 */
#define MESSAGE_ALIGN	sizeof(uint32)

/* Whether values of a type are of fixed length. */
static bool
is_fixed(Oid type)
{
	return type == BOOLOID || type == INT4OID || type == INT8OID ||
		type == FLOAT8OID || type == TIMESTAMPTZOID;
}

/* The room that a column takes, at most. */
static size_t
column_size(Oid type, Datum value)
{
	if (is_fixed(type))
		return sizeof(type) + sizeof(int64);
	if (!OidIsValid(type))
		return sizeof(type);
	return sizeof(type) + VARSIZE(DatumGetPointer(value)) + MESSAGE_ALIGN;
}

static inline void
write_bytes(StringInfo out, const void *bytes, size_t len)
{
	memcpy(out->data + out->len, bytes, len);
	out->len += (int) len;
}

static void
write_column(StringInfo out, Oid type, Datum value)
{
	enlargeStringInfo(out, (int) column_size(type, value));
	write_bytes(out, &type, sizeof(type));
	if (is_fixed(type))
	{
		int64		bits = type == BOOLOID ? DatumGetBool(value) :
			type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);

		write_bytes(out, &bits, sizeof(bits));
	}
	else if (OidIsValid(type))
	{
		write_bytes(out, DatumGetPointer(value),
					VARSIZE(DatumGetPointer(value)));
		while (out->len % MESSAGE_ALIGN != 0)
			out->data[out->len++] = '\0';
	}
}

/* Append a row to a message. */
void
pgtls_row_write(const Row *row, StringInfo out)
{
	for (int i = 0; i < row->natts; i++)
		write_column(out, row->nulls[i] ? InvalidOid : row->types[i],
					 row->values[i]);
}

/* Move on in a message. */
static char *
skip(char *data, const char *end, size_t len)
{
	if ((size_t) (end - data) < len)
		elog(ERROR, "row of a worker is cut");
	return data + len;
}

/* Read a row of a message, of which it uses the memory. */
void
pgtls_row_read(Row *row, char *data, Size len)
{
	char	   *end = data + len;

	pgtls_row_begin(row);
	while (data < end)
	{
		char	   *value = skip(data, end, sizeof(Oid));
		Oid			type;
		int64		bits;

		memcpy(&type, data, sizeof(type));
		data = value;
		if (!OidIsValid(type))
			pgtls_row_null(row);
		else if (is_fixed(type))
		{
			data = skip(value, end, sizeof(bits));
			memcpy(&bits, value, sizeof(bits));
			add(row, type, type == BOOLOID ? BoolGetDatum(bits != 0) :
				type == INT4OID ? Int32GetDatum((int32) bits) :
				Int64GetDatum(bits), false);
		}
		else
		{
			(void) skip(value, end, VARHDRSZ);
			data = skip(value, end,
						TYPEALIGN(MESSAGE_ALIGN, VARSIZE(value)));
			add(row, type, PointerGetDatum(value), false);
		}
	}
}

/* A column, whose type has to be that; NULL for a NULL. */
static const Datum *
get(const Row *row, int column, Oid type)
{
	if (column >= row->natts)
		elog(ERROR, "row of a worker has no column %d", column);
	if (row->nulls[column])
		return NULL;
	if (row->types[column] != type)
		elog(ERROR, "column %d of a worker's row has type %u instead of %u",
			 column, row->types[column], type);
	return &row->values[column];
}

/* A copy of a text, as it was written; NULL for a NULL. */
char *
pgtls_row_get_text(const Row *row, int column)
{
	const Datum *value = get(row, column, TEXTOID);

	return value != NULL ? TextDatumGetCString(*value) : NULL;
}

/* False also for a NULL. */
bool
pgtls_row_get_bool(const Row *row, int column)
{
	const Datum *value = get(row, column, BOOLOID);

	return value != NULL && DatumGetBool(*value);
}

/* A copy of bytes; NULL for a NULL. */
bytea *
pgtls_row_get_bytes(const Row *row, int column)
{
	const Datum *value = get(row, column, BYTEAOID);

	return value != NULL ? DatumGetByteaPCopy(*value) : NULL;
}

static Datum
convert_array(Datum array)
{
	Datum	   *texts;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false,
					  TYPALIGN_INT, &texts, NULL, &n);
	for (int i = 0; i < n; i++)
		texts[i] = text_datum(VARDATA_ANY(DatumGetPointer(texts[i])),
							  VARSIZE_ANY_EXHDR(DatumGetPointer(texts[i])));
	return PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* Make the text in a row that was read text of the current database. */
void
pgtls_row_convert(Row *row)
{
	if (takes_utf8())
		return;
	for (int i = 0; i < row->natts; i++)
	{
		Datum		value = row->values[i];

		if (row->nulls[i])
			continue;
		if (row->types[i] == TEXTOID)
			row->values[i] =
				text_datum(VARDATA_ANY(DatumGetPointer(value)),
						   VARSIZE_ANY_EXHDR(DatumGetPointer(value)));
		else if (row->types[i] == TEXTARRAYOID)
			row->values[i] = convert_array(value);
	}
}

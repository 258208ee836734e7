/*-------------------------------------------------------------------------
 *
 * certificate_sql.c
 *	  What certificates say: those that one's own client sent, and any other.
 *
 * Runs in backends, for their own client or on the arguments alone; needs no
 * shared memory, and so no preloading.  Nothing of OpenSSL's is allocated
 * while an error can be raised, but within PG_TRY().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/ossl.h"
#include "base/row.h"
#include "base/text.h"
#include "x509/certificate.h"
#include "x509/extension.h"
#include "x509/name.h"
#include "x509/pem.h"

/*
 * Bounds in bytes: of a text or list that comes out of a certificate, of an
 * extension's value.
 */
#define MAX_TEXT			(1024 * 1024)
#define MAX_VALUE			(64 * 1024)

/*
 * Serial numbers of more digits are not shown in decimal
 * (x509/certificate.c).
 */
#define MAX_SERIAL_DIGITS	2467

/* Attribute types of a DN have names or numbers shorter than this. */
#define MAX_FIELD_NAME		128

PG_FUNCTION_INFO_V1(pg_tls_client_chain_1_0);
PG_FUNCTION_INFO_V1(pg_tls_client_extensions_1_0);
PG_FUNCTION_INFO_V1(pg_tls_serial_hex_1_0);
PG_FUNCTION_INFO_V1(pg_tls_client_dn_field_1_0);
PG_FUNCTION_INFO_V1(pg_tls_issuer_dn_field_1_0);
PG_FUNCTION_INFO_V1(pg_tls_certificate_text_1_0);
PG_FUNCTION_INFO_V1(pg_tls_certificate_bytea_1_0);

/* The certificate of one's own client; NULL without one, and without client. */
static X509 *
client_certificate(void)
{
	return MyProcPort != NULL && MyProcPort->ssl_in_use ? MyProcPort->peer :
		NULL;
}

/* A text that is cut, and marked so, where it is longer than a bound. */
static const char *
bounded(const char *utf8, size_t max)
{
	char	   *cut;

	if (utf8 == NULL || strlen(utf8) <= max)
		return utf8;
	cut = palloc(max + 1);
	pgtls_text_cut(cut, max + 1, utf8);
	return cut;
}

/* Columns that the functions have in common, up to the validity. */
static void
add_names(Row *row, const CertInfo *info, const CertDetails *details)
{
	pgtls_row_text(row, bounded(info->subject, MAX_TEXT));
	pgtls_row_text(row, bounded(info->subject_rfc2253, MAX_TEXT));
	pgtls_row_text(row, bounded(info->issuer, MAX_TEXT));
	pgtls_row_text(row, bounded(details->issuer_rfc2253, MAX_TEXT));
	pgtls_row_numeric(row, info->serial);
	pgtls_row_text(row, bounded(details->serial_hex, MAX_TEXT));
	pgtls_row_time(row, info->not_before);
	pgtls_row_time(row, info->not_after);
	pgtls_row_list(row, bounded(info->san, MAX_TEXT));
	pgtls_row_text(row, bounded(info->key, MAX_TEXT));
	pgtls_row_list(row, bounded(info->eku, MAX_TEXT));
}

static bytea *
get_der(X509 *cert)
{
	int			len = i2d_X509(cert, NULL);
	bytea	   *result = palloc(VARHDRSZ + Max(len, 0));
	unsigned char *p = (unsigned char *) VARDATA(result);

	if (len <= 0 || i2d_X509(cert, &p) != len)
		pgtls_error_out_of_memory();
	SET_VARSIZE(result, VARHDRSZ + len);
	return result;
}

static void
add_sent_certificate(Row *row, X509 *cert, int position,
					 const CertInfo *info, const CertDetails *details)
{
	pgtls_row_int(row, position);
	add_names(row, info, details);
	pgtls_row_text(row, bounded(details->signature_algorithm, MAX_TEXT));
	pgtls_row_bool(row, details->is_ca);
	pgtls_row_bool(row, details->self_signed);
	pgtls_row_hex(row, info->fingerprint, sizeof(info->fingerprint));
	pgtls_row_bytes(row, get_der(cert));
}

static void
add_any_certificate(Row *row, const CertInfo *info, const CertDetails *details)
{
	add_names(row, info, details);
	pgtls_row_list(row, bounded(details->key_usage, MAX_TEXT));
	pgtls_row_text(row, bounded(details->signature_algorithm, MAX_TEXT));
	pgtls_row_bool(row, details->is_ca);
	pgtls_row_bool(row, details->self_signed);
	pgtls_row_hex(row, info->fingerprint, sizeof(info->fingerprint));
	if (details->version > 0)
		pgtls_row_int(row, details->version);
	else
		pgtls_row_null(row);
}

/*
 * Add the row of a certificate to the result: of one that the client sent, or,
 * with a position of -1, of any other.
 */
static void
store_certificate(ReturnSetInfo *rsinfo, X509 *cert, int position)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_tls certificate",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	CertInfo   *info = palloc0(sizeof(CertInfo));
	CertDetails *details = palloc0(sizeof(CertDetails));
	Row		   *row = palloc(sizeof(Row));

	PG_TRY();
	{
		if (!pgtls_certificate_read(cert, info) ||
			!pgtls_certificate_read_details(cert, details))
			pgtls_error_out_of_memory();
		pgtls_row_begin(row);
		if (position >= 0)
			add_sent_certificate(row, cert, position, info, details);
		else
			add_any_certificate(row, info, details);
		pgtls_row_store(row, rsinfo);
	}
	PG_FINALLY();
	{
		pgtls_certificate_free(info);
		pgtls_certificate_free_details(details);
		ERR_clear_error();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/*
 * pg_tls_client_chain() returns SETOF record
 *
 * The certificates that the client sent, its own first: what is not in the
 * server's files included, what the server completed the chain with not.
 */
Datum
pg_tls_client_chain_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	X509	   *leaf = client_certificate();
	X509Stack  *sent;

	InitMaterializedSRF(fcinfo, 0);
	if (leaf == NULL)
		return (Datum) 0;
	store_certificate(rsinfo, leaf, 0);

	/* on a server, this leaves out the leaf */
	sent = SSL_get_peer_cert_chain(MyProcPort->ssl);
	for (int i = 0; i < sk_X509_num(sent); i++)
	{
		CHECK_FOR_INTERRUPTS();
		store_certificate(rsinfo, sk_X509_value(sent, i), i + 1);
	}
	return (Datum) 0;
}

static bytea *
copy_bytes(const ASN1_OCTET_STRING *string)
{
	size_t		len = ASN1_STRING_length(string);
	bytea	   *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), ASN1_STRING_get0_data(string), len);
	return result;
}

static void
store_extension(ReturnSetInfo *rsinfo, X509 *cert, int index)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_tls extension",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	CertExtension *extension = palloc0(sizeof(CertExtension));
	Row		   *row = palloc(sizeof(Row));

	PG_TRY();
	{
		if (!pgtls_extension_read(cert, index, extension))
			pgtls_error_out_of_memory();
		pgtls_row_begin(row);
		pgtls_row_int(row, index);
		pgtls_row_text(row, bounded(extension->oid, MAX_TEXT));
		pgtls_row_text(row, extension->name);
		pgtls_row_bool(row, extension->critical);
		pgtls_row_text(row, extension->value != NULL ?
					   bounded(extension->value, MAX_VALUE) : "");
		pgtls_row_bytes(row, copy_bytes(extension->der));
		pgtls_row_store(row, rsinfo);
	}
	PG_FINALLY();
	{
		pgtls_extension_free(extension);
		ERR_clear_error();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(context);
}

/*
 * pg_tls_client_extensions() returns SETOF record
 *
 * The extensions of the client's certificate, in their order.
 */
Datum
pg_tls_client_extensions_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	X509	   *cert = client_certificate();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; cert != NULL && i < X509_get_ext_count(cert); i++)
	{
		CHECK_FOR_INTERRUPTS();
		store_extension(rsinfo, cert, i);
	}
	return (Datum) 0;
}

/*
 * The type of attribute that a field's name stands for, as OpenSSL knows it,
 * or in numbers.  The length is bounded, since a long number takes long.
 */
static ASN1_OBJECT *
get_field_type(const text *field)
{
	char	   *name = text_to_cstring(field);
	ASN1_OBJECT *type = NULL;

	pgtls_ossl_watch_memory();
	if (strlen(name) < MAX_FIELD_NAME)
		type = OBJ_txt2obj(name, 0);
	if (type == NULL)
	{
		(void) pgtls_error_reason();
		if (strlen(name) >= MAX_FIELD_NAME)
			name[pg_mbcliplen(name, strlen(name), MAX_FIELD_NAME - 1)] = '\0';
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid field of a distinguished name: \"%s\"", name),
				 errdetail("OpenSSL knows no attribute of that name."),
				 errhint("Use a name such as \"CN\" or \"commonName\", or an object identifier such as \"2.5.4.3\".")));
	}
	ERR_clear_error();
	pfree(name);
	return type;
}

/* A field of the client's subject, or of its issuer; see the two below. */
static Datum
dn_field(FunctionCallInfo fcinfo, bool issuer)
{
	ASN1_OBJECT *volatile type = get_field_type(PG_GETARG_TEXT_PP(0));
	X509	   *cert = client_certificate();
	char	   *volatile value = NULL;
	Row		   *row = NULL;

	PG_TRY();
	{
		char	   *found = NULL;

		if (cert != NULL &&
			!pgtls_name_field(issuer ? X509_get_issuer_name(cert) :
							  X509_get_subject_name(cert),
							  type, &found))
			pgtls_error_out_of_memory();
		value = found;
		row = palloc(sizeof(Row));
		pgtls_row_begin(row);
		pgtls_row_text(row, bounded(value, MAX_TEXT));
	}
	PG_FINALLY();
	{
		ASN1_OBJECT_free(type);
		OPENSSL_free(value);
		ERR_clear_error();
	}
	PG_END_TRY();

	if (row->nulls[0])
		PG_RETURN_NULL();
	PG_RETURN_DATUM(row->values[0]);
}

/*
 * pg_tls_client_dn_field(field text) returns text
 *
 * The first value of an attribute of the client's subject DN; NULL where it
 * has none.  An unknown name is an error, with or without a certificate.
 */
Datum
pg_tls_client_dn_field_1_0(PG_FUNCTION_ARGS)
{
	return dn_field(fcinfo, false);
}

/* pg_tls_issuer_dn_field(field text) returns text: likewise, of the issuer. */
Datum
pg_tls_issuer_dn_field_1_0(PG_FUNCTION_ARGS)
{
	return dn_field(fcinfo, true);
}

/*
 * pg_tls_serial_hex(serial numeric) returns text
 *
 * A serial number in hexadecimal, as serial_hex elsewhere and openssl have it:
 * its bytes, a hyphen before a negative one.  Raises an error for what is not
 * whole, and for numbers of more digits than any serial number is shown with.
 */
Datum
pg_tls_serial_hex_1_0(PG_FUNCTION_ARGS)
{
	char	   *decimal =
		DatumGetCString(DirectFunctionCall1(numeric_out, PG_GETARG_DATUM(0)));
	const char *digits = decimal + (decimal[0] == '-');
	size_t		n = strlen(digits);
	unsigned char *bytes;
	char	   *hex;
	char	   *p;
	BIGNUM	   *bn = NULL;
	int			len;

	if (strspn(digits, "0123456789") != n || n > MAX_SERIAL_DIGITS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid serial number"),
				 n > MAX_SERIAL_DIGITS ?
				 errdetail("It has more than %d digits.",
						   MAX_SERIAL_DIGITS) :
				 errdetail("\"%s\" is not written as a whole number.",
						   decimal)));

	/* two digits of the one need less than a byte */
	bytes = palloc0(n / 2 + 1);
	hex = palloc(n + 4);
	if (BN_dec2bn(&bn, digits) == 0)
		pgtls_error_out_of_memory();
	len = Max(BN_bn2bin(bn, bytes), 1);
	BN_free(bn);

	p = hex;
	if (digits != decimal)
		*p++ = '-';
	p += hex_encode((char *) bytes, len, p);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(hex, p - hex));
}

/*
 * pg_tls_certificate(certificate text) returns SETOF record
 *
 * A row for each certificate in a text in PEM.
 */
Datum
pg_tls_certificate_text_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *value = PG_GETARG_TEXT_PP(0);
	const char *hex_mark = "\\x";
	PemInput	input;
	X509	   *volatile cert = NULL;

	InitMaterializedSRF(fcinfo, 0);

	/* a literal without a type is text, also where it means a bytea */
	pgtls_pem_begin(&input, value, "pg_tls_certificate", "certificate",
					"certificates",
					VARSIZE_ANY_EXHDR(value) >= strlen(hex_mark) &&
					memcmp(VARDATA_ANY(value), hex_mark,
						   strlen(hex_mark)) == 0 ?
					"If this is one in DER, cast it to bytea." :
					"");
	PG_TRY();
	{
		while ((cert = pgtls_pem_next_certificate(&input, true)) != NULL)
		{
			store_certificate(rsinfo, cert, -1);
			X509_free(cert);
			cert = NULL;
		}
	}
	PG_FINALLY();
	{
		X509_free(cert);
		ERR_clear_error();
	}
	PG_END_TRY();
	return (Datum) 0;
}

pg_noreturn static void invalid_der(const bytea *value, const char *detail);

static void
invalid_der(const bytea *value, const char *detail)
{
	const char *begin = "-----BEGIN";
	bool		pem = VARSIZE_ANY_EXHDR(value) >= strlen(begin) &&
		memcmp(VARDATA_ANY(value), begin, strlen(begin)) == 0;

	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("argument \"certificate\" of pg_tls_certificate is not a certificate in DER"),
			 errdetail("%s", detail),
			 pem ?
			 errhint("This looks like PEM, which has to be of type text.") :
			 errhint(
					 "It has to be one whole certificate in DER, and nothing else.")));
}

/*
 * pg_tls_certificate(certificate bytea) returns SETOF record
 *
 * The row of a certificate in DER.
 */
Datum
pg_tls_certificate_bytea_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bytea	   *value = PG_GETARG_BYTEA_PP(0);
	const unsigned char *start = (const unsigned char *) VARDATA_ANY(value);
	const unsigned char *p = start;
	long		len = VARSIZE_ANY_EXHDR(value);
	X509	   *cert;

	if (len > PGTLS_MAX_CERTIFICATE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("certificate is too large for pg_tls_certificate"),
				 errdetail("It has %ld bytes, and at most %d are read.",
						   len, PGTLS_MAX_CERTIFICATE),
				 errhint("TLS libraries take none that is so large.")));
	InitMaterializedSRF(fcinfo, 0);
	pgtls_ossl_watch_memory();
	cert = d2i_X509(NULL, &p, len);
	if (cert == NULL)
		invalid_der(value, psprintf("OpenSSL cannot read it: %s.",
									pgtls_error_reason()));
	PG_TRY();
	{
		if (p != start + len)
			invalid_der(value,
						psprintf("The certificate has %ld bytes, and the argument %ld.",
								 (long) (p - start), len));
		store_certificate(rsinfo, cert, -1);
	}
	PG_FINALLY();
	{
		X509_free(cert);
		ERR_clear_error();
	}
	PG_END_TRY();
	return (Datum) 0;
}

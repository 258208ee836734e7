/*-------------------------------------------------------------------------
 *
 * path.c
 *	  pg_tls_verify(): is there a valid path from a certificate to a CA?
 *
 * Certificates and CRLs come as text in PEM, and the verdict is that of
 * verify.c.  Runs in any backend; looks at nothing but its arguments, and at
 * the settings that decide how strong a key has to be.
 *
 * OpenSSL's own reader passes over what it does not understand, so that a
 * block that was damaged is lost without a word.  Here the text is taken apart
 * line by line, and OpenSSL gets one block at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/pem.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ossl.h"
#include "row.h"
#include "verify.h"

#define BEGIN_MARK		"-----BEGIN "
#define END_MARK		"-----END "
#define END_OF_MARK		"-----"

/* What the arguments hold, certificates and CRLs as OpenSSL has them. */
typedef struct Path
{
	STACK_OF(X509) *certificate;	/* the first is judged, others were sent */
	STACK_OF(X509) *intermediates;
	STACK_OF(X509) *trusted;
	STACK_OF(X509_CRL) *crls;
	STACK_OF(X509) *sent;		/* borrowed from the first two */
	SSL_CTX    *context;
	TimestampTz at;
	bool		as_server;
} Path;

/* One argument while it is read. */
typedef struct Input
{
	const char *name;			/* as SQL has it */
	const char *what;			/* what it consists of, for messages */
	bool		required;
	const char *next;			/* the rest of the text */
	const char *end;
	int			line;			/* of "next", from 1 */
} Input;

/* A block: from the first character of BEGIN to the last of END. */
typedef struct Block
{
	const char *start;
	size_t		len;
	char		label[32];		/* CERTIFICATE, ... */
	int			line;
} Block;

PG_FUNCTION_INFO_V1(pg_tls_verify);

pg_noreturn static void invalid_input(const Input *input, int line, const char *fmt,...)
			pg_attribute_printf(3, 4);

/* "fmt" is a sentence, as a detail. */
static void
invalid_input(const Input *input, int line, const char *fmt,...)
{
	char		detail[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(detail, sizeof(detail), fmt, args);
	va_end(args);
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("argument \"%s\" of pg_tls_verify is not valid PEM", input->name),
			 errdetail("Line %d: %s", line, detail),
			 errhint("It has to consist of whole %s in PEM, each from its BEGIN line to its END line.",
					 input->what)));
}

pg_noreturn static void out_of_memory(void);

static void
out_of_memory(void)
{
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory")));
}

/* Why OpenSSL failed just now; a constant. */
static const char *
openssl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return reason != NULL ? reason : "no reason given";
}

/* A stretch of text, of which the end may not be a terminator. */
static bool
begins_with(const char *s, size_t len, const char *prefix)
{
	return len >= strlen(prefix) && memcmp(s, prefix, strlen(prefix)) == 0;
}

static bool
contains(const char *s, size_t len, const char *part)
{
	for (; len >= strlen(part); s++, len--)
	{
		if (memcmp(s, part, strlen(part)) == 0)
			return true;
	}
	return false;
}

/* The next line without what ends it; false if there is none. */
static bool
next_line(Input *input, const char **line, size_t *len)
{
	const char *end;

	if (input->next >= input->end)
		return false;
	*line = input->next;
	end = memchr(*line, '\n', input->end - *line);
	input->next = end != NULL ? end + 1 : input->end;
	input->line++;
	*len = (end != NULL ? end : input->end) - *line;
	while (*len > 0 && isspace((unsigned char) (*line)[*len - 1]))
		(*len)--;
	return true;
}

/* Take the label out of a line that a mark begins; false if it is no such. */
static bool
read_label(const char *line, size_t len, const char *mark, char *label, size_t size)
{
	size_t		label_len;

	if (!begins_with(line, len, mark) ||
		len < strlen(mark) + strlen(END_OF_MARK) + 1 ||
		memcmp(line + len - strlen(END_OF_MARK), END_OF_MARK, strlen(END_OF_MARK)) != 0)
		return false;
	line += strlen(mark);
	label_len = len - strlen(mark) - strlen(END_OF_MARK);
	if (label_len >= size)
		return false;
	for (size_t i = 0; i < label_len; i++)
	{
		if ((line[i] < 'A' || line[i] > 'Z') && (line[i] < '0' || line[i] > '9') &&
			line[i] != ' ')
			return false;
	}
	memcpy(label, line, label_len);
	label[label_len] = '\0';
	return true;
}

/*
 * Find the next block; false if there is none.  Text between blocks is
 * explanation (RFC 7468, 5.2), unless it looks like a part of a block.
 */
static bool
next_block(Input *input, Block *block)
{
	const char *line;
	size_t		len;
	char		label[sizeof(block->label)];

	for (;;)
	{
		if (!next_line(input, &line, &len))
			return false;
		if (read_label(line, len, BEGIN_MARK, block->label, sizeof(block->label)))
			break;
		if (contains(line, len, END_MARK) && !contains(line, len, BEGIN_MARK))
			invalid_input(input, input->line, "There is an END line without a BEGIN line.");
		if (contains(line, len, "--BEGIN") || contains(line, len, "--END"))
			invalid_input(input, input->line, "A BEGIN line has to be \"-----BEGIN (type)-----\" and nothing else.");
	}
	block->start = line;
	block->line = input->line;

	while (next_line(input, &line, &len))
	{
		if (read_label(line, len, END_MARK, label, sizeof(label)))
		{
			if (strcmp(label, block->label) != 0)
				invalid_input(input, input->line, "A block of type %s ends as one of type %s.",
							  block->label, label);
			block->len = line + len - block->start;
			return true;
		}
		if (contains(line, len, "--"))
			break;
	}
	invalid_input(input, block->line, "The block of type %s that begins here has no END line.",
				  block->label);
}

/*
 * Decode a block; DER to be freed with OPENSSL_free().  Raises no error; false
 * if OpenSSL does not understand it.
 */
static bool
decode_block(const Block *block, unsigned char **der, long *len)
{
	BIO		   *bio = BIO_new_mem_buf(block->start, block->len);
	char	   *name = NULL;
	char	   *header = NULL;
	bool		ok;

	*der = NULL;
	ok = bio != NULL && PEM_read_bio(bio, &name, &header, der, len) == 1;
	if (ok && header[0] != '\0')
	{
		/* encryption, which neither a certificate nor a CRL has */
		OPENSSL_free(*der);
		*der = NULL;
		ok = false;
	}
	OPENSSL_free(name);
	OPENSSL_free(header);
	BIO_free(bio);
	return ok;
}

static bool
is_certificate(const Block *block)
{
	return strcmp(block->label, PEM_STRING_X509) == 0 ||
		strcmp(block->label, PEM_STRING_X509_OLD) == 0;
}

static bool
is_trusted_certificate(const Block *block)
{
	return strcmp(block->label, PEM_STRING_X509_TRUSTED) == 0;
}

static bool
is_crl(const Block *block)
{
	return strcmp(block->label, PEM_STRING_X509_CRL) == 0;
}

/*
 * Read all of an argument into a stack of its own, certificates or CRLs.
 *
 * Everything is on a stack before the next error can be raised.
 */
static void
read_input(Input *input, STACK_OF(X509) *certs, bool trusted, STACK_OF(X509_CRL) *crls)
{
	Block		block;
	int			n = 0;

	while (next_block(input, &block))
	{
		unsigned char *der;
		const unsigned char *p;
		long		len;
		bool		ok = false;
		bool		whole = false;

		CHECK_FOR_INTERRUPTS();
		if (crls != NULL ? !is_crl(&block) :
			!is_certificate(&block) && !(trusted && is_trusted_certificate(&block)))
			invalid_input(input, block.line, "This is a block of type %s.", block.label);
		if (!decode_block(&block, &der, &len))
			invalid_input(input, block.line, "OpenSSL cannot decode the block: %s.",
						  openssl_reason());

		p = der;
		if (crls != NULL)
		{
			X509_CRL   *crl = d2i_X509_CRL(NULL, &p, len);

			ok = crl != NULL && sk_X509_CRL_push(crls, crl) > 0;
			if (!ok)
				X509_CRL_free(crl);
		}
		else
		{
			X509	   *cert = is_trusted_certificate(&block) ?
				d2i_X509_AUX(NULL, &p, len) : d2i_X509(NULL, &p, len);

			ok = cert != NULL && sk_X509_push(certs, cert) > 0;
			if (!ok)
				X509_free(cert);
		}
		whole = ok && p == der + len;
		OPENSSL_free(der);
		if (!ok)
			invalid_input(input, block.line, "OpenSSL cannot read the block of type %s: %s.",
						  block.label, openssl_reason());
		if (!whole)
			invalid_input(input, block.line, "There is more in the block than one %s.",
						  crls != NULL ? "CRL" : "certificate");
		n++;
	}
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("argument \"%s\" of pg_tls_verify contains no %s", input->name, input->what),
				 errdetail("There is no BEGIN line in it."),
				 errhint("It has to consist of whole %s in PEM, each from its BEGIN line to its END line.%s",
						 input->what,
						 input->required ? "" : " For none, leave it out or pass NULL.")));
	ERR_clear_error();
}

static Input
make_input(FunctionCallInfo fcinfo, int arg, const char *name, const char *what)
{
	text	   *t = PG_GETARG_TEXT_PP(arg);
	Input		input;

	input.name = name;
	input.what = what;
	input.required = arg == 0;
	input.next = VARDATA_ANY(t);
	input.end = input.next + VARSIZE_ANY_EXHDR(t);
	input.line = 0;
	return input;
}

static void
read_certificates(FunctionCallInfo fcinfo, int arg, const char *name,
				  STACK_OF(X509) *certs, bool trusted)
{
	Input		input;

	if (PG_ARGISNULL(arg))
		return;
	input = make_input(fcinfo, arg, name, "certificates");
	read_input(&input, certs, trusted, NULL);
}

static void
read_crls(FunctionCallInfo fcinfo, int arg, const char *name, STACK_OF(X509_CRL) *crls)
{
	Input		input;

	if (PG_ARGISNULL(arg))
		return;
	input = make_input(fcinfo, arg, name, "CRLs");
	read_input(&input, NULL, false, crls);
}

/* Everything that may raise an error; the caller frees what is in "path". */
static void
verify_path(FunctionCallInfo fcinfo, Path *path, Verdict *verdict)
{
	X509	   *leaf;
	bool		known;

	path->certificate = sk_X509_new_null();
	path->intermediates = sk_X509_new_null();
	path->trusted = sk_X509_new_null();
	path->crls = sk_X509_CRL_new_null();
	path->sent = sk_X509_new_null();
	if (path->certificate == NULL || path->intermediates == NULL ||
		path->trusted == NULL || path->crls == NULL || path->sent == NULL)
		out_of_memory();

	read_certificates(fcinfo, 0, "certificate", path->certificate, false);
	read_certificates(fcinfo, 1, "intermediates", path->intermediates, false);
	read_certificates(fcinfo, 2, "trusted", path->trusted, true);
	read_crls(fcinfo, 3, "crls", path->crls);

	leaf = sk_X509_value(path->certificate, 0);
	for (int i = 1; i < sk_X509_num(path->certificate); i++)
	{
		if (sk_X509_push(path->sent, sk_X509_value(path->certificate, i)) == 0)
			out_of_memory();
	}
	for (int i = 0; i < sk_X509_num(path->intermediates); i++)
	{
		if (sk_X509_push(path->sent, sk_X509_value(path->intermediates, i)) == 0)
			out_of_memory();
	}

	if (path->as_server)
	{
		path->context = pgtls_verify_make_context(path->trusted, path->crls);
		known = path->context != NULL &&
			pgtls_verify_chain(path->context, leaf, path->sent, path->at, verdict);
	}
	else
		known = pgtls_verify_rfc5280(leaf, path->sent, path->trusted, path->crls,
									 path->at, verdict);
	if (!known)
		out_of_memory();
}

static void
free_path(Path *path)
{
	SSL_CTX_free(path->context);
	sk_X509_free(path->sent);
	sk_X509_pop_free(path->certificate, X509_free);
	sk_X509_pop_free(path->intermediates, X509_free);
	sk_X509_pop_free(path->trusted, X509_free);
	sk_X509_CRL_pop_free(path->crls, X509_CRL_free);
}

/* Which of the modes it is that is asked for: the server's, or RFC 5280's. */
static bool
is_server_mode(FunctionCallInfo fcinfo)
{
	char	   *mode = PG_ARGISNULL(5) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(5));

	if (mode != NULL && strcmp(mode, "server") == 0)
		return true;
	if (mode != NULL && strcmp(mode, "rfc5280") == 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 mode != NULL ? errmsg("invalid mode of pg_tls_verify: \"%s\"", mode) :
			 errmsg("mode of pg_tls_verify must not be null"),
			 errhint("Use \"server\" or \"rfc5280\".")));
}

/* The moment asked for: now, where none is. */
static TimestampTz
get_moment(FunctionCallInfo fcinfo)
{
	/* the years 0 to 9999, which certificates know */
	const TimestampTz first = -INT64CONST(1999) * 365 * USECS_PER_DAY;
	const TimestampTz last = INT64CONST(7999) * 365 * USECS_PER_DAY;
	TimestampTz at;

	if (PG_ARGISNULL(4))
		return GetCurrentStatementStartTimestamp();
	at = PG_GETARG_TIMESTAMPTZ(4);
	if (at < first || at > last)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("argument \"at\" of pg_tls_verify is out of range"),
				 errhint("Certificates know the years up to 9999.")));
	return at;
}

/*
 * pg_tls_verify(certificate text, intermediates text, trusted text, crls text,
 *				 at timestamptz, mode text)
 * returns record (ok boolean, chain_status text, crl_status text, error text,
 *				   error_code integer, depth integer)
 *
 * Raises an error if the arguments are not what they should be.  NULL for
 * "certificate" gives NULL.
 */
Datum
pg_tls_verify(PG_FUNCTION_ARGS)
{
	Path	   *path;
	Verdict		verdict;
	Row			row;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	path = palloc0(sizeof(Path));
	path->as_server = is_server_mode(fcinfo);
	path->at = get_moment(fcinfo);
	PG_TRY();
	{
		verify_path(fcinfo, path, &verdict);
	}
	PG_FINALLY();
	{
		free_path(path);
		ERR_clear_error();
	}
	PG_END_TRY();

	pgtls_row_begin(&row);
	pgtls_row_bool(&row, verdict.acceptable);
	pgtls_row_text(&row, pgtls_verify_chain_status(&verdict));
	pgtls_row_text(&row, pgtls_verify_crl_status(&verdict));
	if (verdict.acceptable)
	{
		pgtls_row_null(&row);
		pgtls_row_null(&row);
		pgtls_row_null(&row);
	}
	else
	{
		pgtls_row_text(&row, X509_verify_cert_error_string(verdict.error));
		pgtls_row_int(&row, verdict.error);
		pgtls_row_int(&row, verdict.depth);
	}
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

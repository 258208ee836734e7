/*-------------------------------------------------------------------------
 *
 * pem.c
 *	  Certificates and CRLs out of text in PEM that is an argument in SQL.
 *
 * OpenSSL's own reader passes over what it does not understand, so that a
 * block that was damaged is lost without a word.  Here the text is taken apart
 * line by line, and OpenSSL gets one block at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/pem.h>

#include "miscadmin.h"

#include "base/compat.h"
#include "base/ossl.h"
#include "x509/pem.h"
#include "base/error.h"

#define BEGIN_MARK		"-----BEGIN "
#define END_MARK		"-----END "
#define END_OF_MARK		"-----"

/*
 * Bounds in bytes, of what is decoded and parsed without a chance to be
 * cancelled: a block with a certificate, in PEM with room for short lines; and
 * all the text of an argument with certificates.  CRLs may be large.
 */
#define MAX_CERTIFICATE_BLOCK	(PGTLS_MAX_CERTIFICATE / 2 * 3)
#define MAX_CERTIFICATES_TEXT	(16 * 1024 * 1024)

/* A block: from the first character of BEGIN to the last of END. */
typedef struct Block
{
	const char *start;
	size_t		len;
	char		label[32];		/* CERTIFICATE, ... */
	int			line;
} Block;

pg_noreturn static void invalid_input(const PemInput *input, int line,
									  const char *fmt,...)
			pg_attribute_printf(3, 4);
pg_noreturn static void certificate_too_large(const PemInput *input,
											  const Block *block);

/* "fmt" is a sentence, as a detail. */
static void
invalid_input(const PemInput *input, int line, const char *fmt,...)
{
	char		detail[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(detail, sizeof(detail), fmt, args);
	va_end(args);
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("argument \"%s\" of %s is not valid PEM", input->argument,
					input->function),
			 errdetail("Line %d: %s", line, detail),
			 errhint("It has to consist of whole %s in PEM, each from its BEGIN line to its END line.",
					 input->what)));
}

static void
certificate_too_large(const PemInput *input, const Block *block)
{
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("certificate is too large for %s", input->function),
			 errdetail("The block that begins in line %d of argument \"%s\" has %zu bytes; a certificate may have %d in DER.",
					   block->line, input->argument, block->len,
					   PGTLS_MAX_CERTIFICATE),
			 errhint("Leave it out: TLS libraries take none that is so large.")));
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
	return memmem(s, len, part, strlen(part)) != NULL;
}

/* The next line without what ends it; false if there is none. */
static bool
next_line(PemInput *input, const char **line, size_t *len)
{
	const char *end;

	CHECK_FOR_INTERRUPTS();
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
read_label(const char *line, size_t len, const char *mark, char *label,
		   size_t size)
{
	size_t		label_len;

	if (!begins_with(line, len, mark) ||
		len < strlen(mark) + strlen(END_OF_MARK) + 1 ||
		memcmp(line + len - strlen(END_OF_MARK), END_OF_MARK,
			   strlen(END_OF_MARK)) != 0)
		return false;
	line += strlen(mark);
	label_len = len - strlen(mark) - strlen(END_OF_MARK);
	if (label_len >= size)
		return false;
	for (size_t i = 0; i < label_len; i++)
	{
		if ((line[i] < 'A' || line[i] > 'Z') &&
			(line[i] < '0' || line[i] > '9') && line[i] != ' ')
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
next_block(PemInput *input, Block *block)
{
	const char *line;
	size_t		len;
	char		label[sizeof(block->label)];

	for (;;)
	{
		if (!next_line(input, &line, &len))
			return false;
		if (read_label(line, len, BEGIN_MARK, block->label,
					   sizeof(block->label)))
			break;
		if (contains(line, len, END_MARK) && !contains(line, len, BEGIN_MARK))
			invalid_input(input, input->line,
						  "There is an END line without a BEGIN line.");
		if (contains(line, len, "--BEGIN") || contains(line, len, "--END"))
			invalid_input(input, input->line,
						  "A BEGIN line has to be \"-----BEGIN (type)-----\" and nothing else.");
	}
	block->start = line;
	block->line = input->line;

	while (next_line(input, &line, &len))
	{
		if (read_label(line, len, END_MARK, label, sizeof(label)))
		{
			if (strcmp(label, block->label) != 0)
				invalid_input(input, input->line,
							  "A block of type %s ends as one of type %s.",
							  block->label, label);
			block->len = line + len - block->start;
			return true;
		}
		if (contains(line, len, "--"))
			break;
	}
	invalid_input(input, block->line,
				  "The block of type %s that begins here has no END line.",
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
 * Begin to read an argument.  "function" and "argument" are names, as SQL has
 * them, "what" the things that it consists of, and "advice" a sentence for who
 * passes none of them, or empty; all for messages.
 */
void
pgtls_pem_begin(PemInput *input, const text *t, const char *function,
				const char *argument, const char *what, const char *advice)
{
	input->function = function;
	input->argument = argument;
	input->what = what;
	input->advice = advice;
	input->next = VARDATA_ANY(t);
	input->end = input->next + VARSIZE_ANY_EXHDR(t);
	input->line = 0;
	input->found = 0;
}

/* What follows the last block; an error if there was none. */
static void
finish(const PemInput *input)
{
	ERR_clear_error();
	if (input->found == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("argument \"%s\" of %s contains no %s", input->argument,
						input->function, input->what),
				 errdetail("There is no BEGIN line in it."),
				 errhint("It has to consist of whole %s in PEM, each from its BEGIN line to its END line.%s%s",
						 input->what, input->advice[0] != '\0' ? " " : "",
						 input->advice)));
}

/*
 * Find the next block and decode it: a CRL, or a certificate, also in the
 * format of trusted ones if "trusted".  False if there is no other.  DER to be
 * freed with OPENSSL_free(), before the next error can be raised.
 */
static bool
next_der(PemInput *input, bool crl, bool trusted, Block *block,
		 unsigned char **der, long *len)
{
	size_t		text_len = input->end - input->next;

	if (!crl && input->line == 0 && text_len > MAX_CERTIFICATES_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument \"%s\" of %s is too large", input->argument,
						input->function),
				 errdetail("It has %zu bytes, and at most %d are read.",
						   text_len, MAX_CERTIFICATES_TEXT),
				 errhint("Pass fewer certificates.")));
	pgtls_ossl_watch_memory();
	if (!next_block(input, block))
	{
		finish(input);
		return false;
	}
	if (crl ? !is_crl(block) :
		!is_certificate(block) && !(trusted && is_trusted_certificate(block)))
		invalid_input(input, block->line, "This is a block of type %s.",
					  block->label);
	if (!crl && block->len > MAX_CERTIFICATE_BLOCK)
		certificate_too_large(input, block);
	if (!decode_block(block, der, len))
		invalid_input(input, block->line,
					  "OpenSSL cannot decode the block: %s.",
					  pgtls_error_reason());
	if (!crl && *len > PGTLS_MAX_CERTIFICATE)
	{
		OPENSSL_free(*der);
		certificate_too_large(input, block);
	}
	input->found++;
	return true;
}

pg_noreturn static void unreadable(const PemInput *input, const Block *block,
								   bool readable);

/*
 * A block was decoded, and OpenSSL made nothing of it; or it is "readable",
 * but not to its end.
 */
static void
unreadable(const PemInput *input, const Block *block, bool readable)
{
	if (readable)
		invalid_input(input, block->line,
					  "There is more in the block than one %s.",
					  is_crl(block) ? "CRL" : "certificate");
	invalid_input(input, block->line,
				  "OpenSSL cannot read the block of type %s: %s.", block->label,
				  pgtls_error_reason());
}

/*
 * The next certificate of an argument, also in the format of trusted ones if
 * "trusted"; NULL if there is no other.  To be freed with X509_free().
 */
X509 *
pgtls_pem_next_certificate(PemInput *input, bool trusted)
{
	Block		block;
	unsigned char *der;
	const unsigned char *p;
	long		len;
	X509	   *cert;
	bool		readable;
	bool		whole;

	if (!next_der(input, false, trusted, &block, &der, &len))
		return NULL;
	p = der;
	cert = is_trusted_certificate(&block) ? d2i_X509_AUX(NULL, &p, len) :
		d2i_X509(NULL, &p, len);
	readable = cert != NULL;
	whole = p == der + len;
	OPENSSL_free(der);
	if (!readable || !whole)
	{
		X509_free(cert);
		unreadable(input, &block, readable);
	}
	if (pgtls_ossl_out_of_memory())
	{
		X509_free(cert);
		pgtls_error_out_of_memory();
	}
	return cert;
}

/*
 * The next CRL of an argument; NULL if there is no other.  To be freed with
 * X509_CRL_free().
 */
X509_CRL *
pgtls_pem_next_crl(PemInput *input)
{
	Block		block;
	unsigned char *der;
	const unsigned char *p;
	long		len;
	X509_CRL   *crl;
	bool		readable;
	bool		whole;

	if (!next_der(input, true, false, &block, &der, &len))
		return NULL;
	p = der;
	crl = d2i_X509_CRL(NULL, &p, len);
	readable = crl != NULL;
	whole = p == der + len;
	OPENSSL_free(der);
	if (!readable || !whole)
	{
		X509_CRL_free(crl);
		unreadable(input, &block, readable);
	}
	if (pgtls_ossl_out_of_memory())
	{
		X509_CRL_free(crl);
		pgtls_error_out_of_memory();
	}
	return crl;
}

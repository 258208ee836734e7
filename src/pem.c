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

#include "compat.h"
#include "ossl.h"
#include "pem.h"

#define BEGIN_MARK		"-----BEGIN "
#define END_MARK		"-----END "
#define END_OF_MARK		"-----"

/* A block: from the first character of BEGIN to the last of END. */
typedef struct Block
{
	const char *start;
	size_t		len;
	char		label[32];		/* CERTIFICATE, ... */
	int			line;
} Block;

pg_noreturn static void invalid_input(const PemInput *input, int line, const char *fmt,...)
			pg_attribute_printf(3, 4);

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
next_line(PemInput *input, const char **line, size_t *len)
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
next_block(PemInput *input, Block *block)
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
 * Begin to read an argument.  "function" and "argument" are names, as SQL has
 * them, and "what" the things that it consists of, for messages.
 */
void
pgtls_pem_begin(PemInput *input, const text *t, const char *function,
				const char *argument, const char *what, bool required)
{
	input->function = function;
	input->argument = argument;
	input->what = what;
	input->required = required;
	input->next = VARDATA_ANY(t);
	input->end = input->next + VARSIZE_ANY_EXHDR(t);
	input->line = 0;
}

/*
 * Read all of an argument into a stack of its own, certificates or CRLs.
 *
 * Everything is on a stack before the next error can be raised.
 */
void
pgtls_pem_read(PemInput *input, STACK_OF(X509) *certs, bool trusted,
			   STACK_OF(X509_CRL) *crls)
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
				 errmsg("argument \"%s\" of %s contains no %s", input->argument,
						input->function, input->what),
				 errdetail("There is no BEGIN line in it."),
				 errhint("It has to consist of whole %s in PEM, each from its BEGIN line to its END line.%s",
						 input->what,
						 input->required ? "" : " For none, leave it out or pass NULL.")));
	ERR_clear_error();
}

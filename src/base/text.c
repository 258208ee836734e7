/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Text of unknown origin: what becomes of it is valid UTF-8, bounded, and
 *	  cannot be mistaken for something else.
 *
 * Runs in backends before authentication: nothing here raises an error,
 * takes a lock or reads a setting.
 *
 *-------------------------------------------------------------------------
 */

#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include "base/text.h"

/*
 * Length of the valid UTF-8 character at s, or 0 where there is none.
 *
 * UTF8_getc() knows overlong forms; by version it lets surrogates and what
 * lies beyond Unicode pass.
 */
static int
character_length(const unsigned char *s, int len)
{
	unsigned long c;
	int			n = UTF8_getc(s, len, &c);

	if (n <= 0 || n > 4 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		return 0;
	return n;
}

/*
 * Whether a character of n bytes is hidden: one that nobody sees, but that may
 * make a name look like another.  These are the control characters, those that
 * separate lines, set the direction of writing or carry tags, and all others
 * that Unicode has displayed as nothing (Default_Ignorable_Code_Point).
 */
static bool
is_hidden(const unsigned char *s, int n)
{
	static const struct
	{
		uint32		first;
		uint32		last;
	}			hidden[] = {
		{0x80, 0x9f}, {0xad, 0xad}, {0x34f, 0x34f}, {0x61c, 0x61c},
		{0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180f},
		{0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
		{0x3164, 0x3164}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff},
		{0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x1bca0, 0x1bca3},
		{0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
	};
	unsigned long c;

	if (n == 1)
		return *s < 0x20 || *s == 0x7f;
	(void) UTF8_getc(s, n, &c);
	for (int i = 0; i < (int) lengthof(hidden); i++)
	{
		if (c >= hidden[i].first && c <= hidden[i].last)
			return true;
	}
	return false;
}

/*
 * Print text of unknown contents as valid UTF-8 without hidden characters.
 * What cannot stand there is written as a backslash and two hexadecimal
 * digits for each byte.  To tell that from the same characters in the
 * original, the caller has backslashes doubled, unless the text has gone
 * through an escaping of its own that took care of them.
 */
bool
pgtls_text_escape(BIO *out, const char *text, int len,
				  bool double_backslash)
{
	const unsigned char *s = (const unsigned char *) text;
	const unsigned char *end = s + len;
	const unsigned char *plain = s; /* not yet written, needs no escape */

	while (s < end)
	{
		int			n = character_length(s, end - s);

		if (n > 0 && !is_hidden(s, n) &&
			!(*s == '\\' && double_backslash))
		{
			s += n;
			continue;
		}

		if (s > plain && BIO_write(out, plain, s - plain) <= 0)
			return false;
		if (*s == '\\')
		{
			if (BIO_puts(out, "\\\\") <= 0)
				return false;
			s++;
		}
		else
		{
			/* a byte that starts no character, or a whole hidden character */
			for (int i = Max(n, 1); i > 0; i--)
			{
				if (BIO_printf(out, "\\%02X", *s++) <= 0)
					return false;
			}
		}
		plain = s;
	}
	return s == plain || BIO_write(out, plain, s - plain) > 0;
}

/* Print bytes in hexadecimal, by these digits. */
bool
pgtls_text_print_digits(BIO *out, const unsigned char *bytes, int len,
						const char *digits)
{
	char		buf[256];

	for (int i = 0; i < len;)
	{
		int			n = 0;

		while (i < len && n < (int) sizeof(buf))
		{
			buf[n++] = digits[bytes[i] >> 4];
			buf[n++] = digits[bytes[i] & 0x0f];
			i++;
		}
		if (BIO_write(out, buf, n) <= 0)
			return false;
	}
	return true;
}

/* Bytes that have no better form: a hash sign and hexadecimal digits. */
bool
pgtls_text_print_hex(BIO *out, const unsigned char *bytes, int len)
{
	return BIO_puts(out, "#") > 0 &&
		pgtls_text_print_digits(out, bytes, len, "0123456789ABCDEF");
}

/* Whether text can stand as it is, but for the line feeds of lists. */
static bool
is_clean(const char *utf8, long len)
{
	for (long i = 0; i < len;)
	{
		const unsigned char *s = (const unsigned char *) utf8 + i;
		int			n = character_length(s, len - i);

		if (n <= 0 || *s == '\0' || (n > 1 && is_hidden(s, n)))
			return false;
		i += n;
	}
	return true;
}

/* Make a string of the contents of a memory BIO: NULL for nothing in it. */
static bool
copy_text(BIO *bio, char **text)
{
	char	   *data;
	long		len = BIO_get_mem_data(bio, &data);

	*text = NULL;
	if (len <= 0)
		return true;
	*text = OPENSSL_malloc(len + 1);
	if (*text == NULL)
		return false;
	memcpy(*text, data, len);
	(*text)[len] = '\0';
	return true;
}

/*
 * Empty a memory BIO into a string of its own: NULL for nothing printed.
 *
 * OpenSSL's own printing leaves some invalid sequences alone in some of its
 * versions, and hidden characters beyond ASCII in all; here is the place
 * through which all text passes.
 */
bool
pgtls_text_take(BIO *bio, char **text)
{
	char	   *data;
	long		len = BIO_get_mem_data(bio, &data);
	bool		ok;

	if (len <= 0 || is_clean(data, len))
		ok = copy_text(bio, text);
	else
	{
		BIO		   *clean = BIO_new(BIO_s_mem());

		*text = NULL;
		ok = clean != NULL &&
			pgtls_text_escape(clean, data, len, false) &&
			copy_text(clean, text);
		BIO_free(clean);
	}
	(void) BIO_reset(bio);
	return ok;
}

/*
 * Copy a text to a buffer of this size, an empty one for NULL.  If it has to
 * be cut that is at a character, and an ellipsis (U+2026) stands at the end.
 */
void
pgtls_text_cut(char *to, size_t size, const char *utf8)
{
	static const char ellipsis[] = "\xe2\x80\xa6";
	size_t		len = utf8 != NULL ? strlen(utf8) : 0;

	if (len < size)
		memcpy(to, utf8 != NULL ? utf8 : "", len + 1);
	else
	{
		size_t		cut = size - sizeof(ellipsis);

		while (cut > 0 && (utf8[cut] & 0xC0) == 0x80)
			cut--;
		memcpy(to, utf8, cut);
		memcpy(to + cut, ellipsis, sizeof(ellipsis));
	}
}

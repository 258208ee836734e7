/*-------------------------------------------------------------------------
 *
 * text.h
 *	  Text of unknown origin: what becomes of it is valid UTF-8, bounded, and
 *	  cannot be mistaken for something else.
 *
 * Pure: no settings, no shared memory, no PostgreSQL error.  It may be called
 * in any process, before authentication included, and builds outside the
 * server.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_TEXT_H
#define PGTLS_TEXT_H

#include "base/ossl.h"

/*
 * Between the elements of a list.  No element contains it: hidden characters,
 * controls among them, are escaped.
 */
#define PGTLS_LIST_SEPARATOR	'\n'

extern bool pgtls_text_escape(BIO *out, const char *text, int len,
							  bool double_backslash);
extern bool pgtls_text_print_digits(BIO *out, const unsigned char *bytes,
									int len, const char *digits);
extern bool pgtls_text_print_hex(BIO *out, const unsigned char *bytes, int len);
extern bool pgtls_text_take(BIO *bio, char **text);
extern void pgtls_text_cut(char *to, size_t size, const char *utf8);

#endif							/* PGTLS_TEXT_H */

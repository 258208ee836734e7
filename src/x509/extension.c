/*-------------------------------------------------------------------------
 *
 * extension.c
 *	  Extensions of certificates as text.
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

#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "base/text.h"
#include "x509/extension.h"
#include "x509/name.h"

/* as those of base/ossl.h */
typedef struct stack_st_POLICYQUALINFO QualifierStack;
typedef struct stack_st_GENERAL_SUBTREE SubtreeStack;

/* A longer key usage, of which nine bits have names, is not taken apart. */
#define MAX_KEY_USAGE_BYTES	8

/* Free what X509V3_EXT_d2i() made of this extension. */
static void
free_decoded(X509_EXTENSION *extension, void *decoded)
{
	const X509V3_EXT_METHOD *method = X509V3_EXT_get(extension);

	if (method->it != NULL)
		ASN1_item_free(decoded, ASN1_ITEM_ptr(method->it));
	else
		method->ext_free(decoded);
}

/*
 * Decode the value of an extension; to be freed with free_decoded().  NULL
 * unless the same bytes come out when it is encoded again: OpenSSL passes over
 * what follows the value, and takes more than one encoding of the same.
 */
static void *
decode_whole(X509_EXTENSION *extension)
{
	int			nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
	void	   *decoded = X509V3_EXT_d2i(extension);
	X509_EXTENSION *again;

	if (decoded == NULL)
		return NULL;
	again = X509V3_EXT_i2d(nid, 0, decoded);
	if (again == NULL ||
		ASN1_STRING_cmp(X509_EXTENSION_get_data(again),
						X509_EXTENSION_get_data(extension)) != 0)
	{
		free_decoded(extension, decoded);
		decoded = NULL;
	}
	X509_EXTENSION_free(again);
	return decoded;
}

/*
 * Print all occurrences of an extension that holds a list, all elements of
 * each by print_all.  An extension of which something would be lost so, or that
 * would become much longer, is one element, its bytes.
 */
static bool
print_list_extension(BIO *out, X509 *cert, int nid,
					 bool (*print_all) (BIO *out, void *decoded, bool *first))
{
	bool		first = true;

	for (int i = X509_get_ext_by_NID(cert, nid, -1); i >= 0;
		 i = X509_get_ext_by_NID(cert, nid, i))
	{
		/* of an extension, which only OpenSSL 4.0 declares const */
		X509_EXTENSION *extension = (X509_EXTENSION *) X509_get_ext(cert, i);
		void	   *decoded = decode_whole(extension);
		bool		ok;

		if (decoded != NULL &&
			!(nid == NID_key_usage &&
			  ASN1_STRING_length(decoded) > MAX_KEY_USAGE_BYTES))
			ok = print_all(out, decoded, &first);
		else
		{
			const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(extension);

			ok = (first || BIO_printf(out, "%c", PGTLS_LIST_SEPARATOR) > 0) &&
				pgtls_text_print_hex(out, ASN1_STRING_get0_data(data),
									 ASN1_STRING_length(data));
			first = false;
		}
		if (decoded != NULL)
			free_decoded(extension, decoded);
		if (!ok)
			return false;
	}
	return true;
}

static bool
print_all_names(BIO *out, void *decoded, bool *first)
{
	GENERAL_NAMES *names = decoded;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
	{
		if (!*first && BIO_printf(out, "%c", PGTLS_LIST_SEPARATOR) <= 0)
			return false;
		*first = false;
		if (!pgtls_name_print_general(out, sk_GENERAL_NAME_value(names, i)))
			return false;
	}
	return true;
}

static bool
print_all_usages(BIO *out, void *decoded, bool *first)
{
	EXTENDED_KEY_USAGE *usages = decoded;

	for (int i = 0; i < sk_ASN1_OBJECT_num(usages); i++)
	{
		if (!*first && BIO_printf(out, "%c", PGTLS_LIST_SEPARATOR) <= 0)
			return false;
		*first = false;
		if (!pgtls_ossl_object_name(sk_ASN1_OBJECT_value(usages, i), out))
			return false;
	}
	return true;
}

static bool
print_all_key_usages(BIO *out, void *decoded, bool *first)
{
	static const char *const names[] = {
		"digitalSignature", "nonRepudiation", "keyEncipherment",
		"dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign",
		"encipherOnly", "decipherOnly"
	};
	const ASN1_BIT_STRING *bits = decoded;

	for (int i = 0; i < 8 * ASN1_STRING_length(bits); i++)
	{
		if (!ASN1_BIT_STRING_get_bit(bits, i))
			continue;
		if (!*first && BIO_printf(out, "%c", PGTLS_LIST_SEPARATOR) <= 0)
			return false;
		*first = false;
		if ((i < (int) lengthof(names) ? BIO_puts(out, names[i]) :
			 BIO_printf(out, "bit %d", i)) <= 0)
			return false;
	}
	return true;
}

bool
pgtls_extension_print_san(BIO *out, X509 *cert)
{
	return print_list_extension(out, cert, NID_subject_alt_name,
								print_all_names);
}

bool
pgtls_extension_print_eku(BIO *out, X509 *cert)
{
	return print_list_extension(out, cert, NID_ext_key_usage, print_all_usages);
}

bool
pgtls_extension_print_key_usage(BIO *out, X509 *cert)
{
	return print_list_extension(out, cert, NID_key_usage, print_all_key_usages);
}

/* Print text of OpenSSL's, of which the line feeds alone stay as they are. */
static bool
print_lines(BIO *out, const char *lines, long len)
{
	/* some versions begin or end with empty lines */
	for (; len > 0 && *lines == '\n'; len--)
		lines++;
	while (len > 0 && lines[len - 1] == '\n')
		len--;
	while (len > 0)
	{
		const char *end = memchr(lines, '\n', len);
		int			line = end != NULL ? end - lines : len;

		if (!pgtls_text_escape(out, lines, line, false) ||
			(end != NULL && BIO_puts(out, "\n") <= 0))
			return false;
		line += end != NULL;
		lines += line;
		len -= line;
	}
	return true;
}

/* False also where the text would look like bytes. */
static bool
print_by_openssl(BIO *out, X509_EXTENSION *extension)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	bool		ok = bio != NULL && X509V3_EXT_print(bio, extension, 0, 0) == 1;

	if (ok)
	{
		char	   *data;
		long		len = BIO_get_mem_data(bio, &data);

		ok = !(len > 0 && data[0] == '#') && print_lines(out, data, len);
	}
	BIO_free(bio);
	return ok;
}

/*
 * Print alternative names as the lists do, since OpenSSL's own printing lets
 * one name look like several.
 */
static bool
print_names(BIO *out, X509_EXTENSION *extension)
{
	void	   *names = decode_whole(extension);
	bool		first = true;
	bool		ok = names != NULL && print_all_names(out, names, &first);

	if (names != NULL)
		free_decoded(extension, names);
	return ok;
}

/* Print the value of an extension for people to read, else its bytes. */
static bool
print_value(BIO *out, X509_EXTENSION *extension)
{
	const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
	int			nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

	if (nid == NID_subject_alt_name || nid == NID_issuer_alt_name ?
		print_names(out, extension) : print_by_openssl(out, extension))
		return true;
	(void) BIO_reset(out);
	return pgtls_text_print_hex(out, ASN1_STRING_get0_data(value),
								ASN1_STRING_length(value));
}

/*
 * Read an extension, of which there are X509_get_ext_count().  False if memory
 * ran out; then nothing is kept.
 */
bool
pgtls_extension_read(X509 *cert, int index, CertExtension *extension)
{
	/* of an extension, which only OpenSSL 4.0 declares const */
	X509_EXTENSION *ext = (X509_EXTENSION *) X509_get_ext(cert, index);
	const ASN1_OBJECT *object = X509_EXTENSION_get_object(ext);
	int			nid = OBJ_obj2nid(object);
	BIO		   *bio = BIO_new(BIO_s_mem());
	bool		ok;

	memset(extension, 0, sizeof(*extension));
	extension->critical = X509_EXTENSION_get_critical(ext) != 0;
	extension->der = X509_EXTENSION_get_data(ext);
	if (nid != NID_undef)
		extension->name = OBJ_nid2sn(nid);
	ok = bio != NULL &&
		pgtls_ossl_object_dotted(object, bio) &&
		pgtls_text_take(bio, &extension->oid) &&
		print_value(bio, ext) &&
		pgtls_text_take(bio, &extension->value);
	BIO_free(bio);
	if (!ok)
		pgtls_extension_free(extension);
	ERR_clear_error();
	return ok;
}

/* Give back what pgtls_extension_read() took. */
void
pgtls_extension_free(CertExtension *extension)
{
	OPENSSL_free(extension->oid);
	OPENSSL_free(extension->value);
	memset(extension, 0, sizeof(*extension));
}

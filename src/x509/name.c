/*-------------------------------------------------------------------------
 *
 * name.c
 *	  Distinguished names, and the other names in certificates, as text.
 *
 * They come from strangers: with NULs in them, text that is not what its type
 * says, and of any size.  Nothing here raises an error, takes a lock or reads a
 * setting.
 *
 *-------------------------------------------------------------------------
 */

#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include <arpa/inet.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "base/text.h"
#include "x509/name.h"

/*
 * How pg_stat_ssl prints an attribute's value (X509_NAME_to_cstring in
 * be-secure-openssl.c).
 */
#define SLASH_FORM_FLAGS \
	((ASN1_STRFLGS_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) | ASN1_STRFLGS_UTF8_CONVERT)

/* OpenSSL cuts the object identifiers in some extensions to this. */
#define OPENSSL_OBJECT_SIZE	80

/*
 * Print a string of any ASN.1 type.  Where it does not hold what its type
 * says, the bytes themselves are printed, escaped; so it is with an
 * IA5String, which is not Latin-1, although OpenSSL would read it so.
 */
static bool
print_string(BIO *out, const ASN1_STRING *string)
{
	unsigned char *utf8 = NULL;
	int			len = -1;
	bool		ok;

	if (ASN1_STRING_type(string) != V_ASN1_IA5STRING)
		len = ASN1_STRING_to_UTF8(&utf8, string);
	if (len < 0)
		return pgtls_text_escape(out,
								 (const char *) ASN1_STRING_get0_data(string),
								 ASN1_STRING_length(string), true);
	ok = pgtls_text_escape(out, (const char *) utf8, len, true);
	OPENSSL_free(utf8);
	return ok;
}

/*
 * Print a name in the slash form of pg_stat_ssl.  There, an attribute whose
 * type OpenSSL does not know makes the connection fail; here it stands under
 * its number.
 */
bool
pgtls_name_print_slashes(BIO *out, const X509_NAME *name)
{
	for (int i = 0; i < X509_NAME_entry_count(name); i++)
	{
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);

		if (BIO_puts(out, "/") <= 0 ||
			!pgtls_ossl_object_name(X509_NAME_ENTRY_get_object(entry), out) ||
			BIO_puts(out, "=") <= 0)
			return false;

		/* core ignores what cannot be printed, and so does this */
		(void) ASN1_STRING_print_ex(out, X509_NAME_ENTRY_get_data(entry),
									SLASH_FORM_FLAGS);
	}
	return true;
}

/*
 * Whether OpenSSL cuts the type of an attribute, a number of more than 80
 * characters, in the form of RFC 2253.
 */
static bool
has_long_type(const X509_NAME *name)
{
	for (int i = 0; i < X509_NAME_entry_count(name); i++)
	{
		const ASN1_OBJECT *type =
			X509_NAME_ENTRY_get_object(X509_NAME_get_entry(name, i));
		int			len;

		if (OBJ_obj2nid(type) != NID_undef)
			continue;
		len = OBJ_obj2txt(NULL, 0, type, 1);
		if (len <= 0 || len >= OPENSSL_OBJECT_SIZE)
			return true;
	}
	return false;
}

/*
 * Whether a name is what its attributes make: OpenSSL keeps the bytes that it
 * has decoded a name from, and encodes it as those, although the attributes
 * have lost an empty RDN, a string in parts, or the unused bits of another.
 */
static bool
is_sum_of_entries(const X509_NAME *name)
{
	X509_NAME  *sum = X509_NAME_new();
	unsigned char *der = NULL;
	unsigned char *sum_der = NULL;
	bool		ok = sum != NULL;
	int			rdn = -1;

	for (int i = 0; ok && i < X509_NAME_entry_count(name); i++)
	{
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
		bool		same_rdn = X509_NAME_ENTRY_set(entry) == rdn;

		rdn = X509_NAME_ENTRY_set(entry);
		ok = X509_NAME_add_entry(sum, entry, -1, same_rdn ? -1 : 0) == 1;
	}
	if (ok)
	{
		int			len = i2d_X509_NAME(unconstify(X509_NAME *, name), &der);

		ok = len > 0 && i2d_X509_NAME(sum, &sum_der) == len &&
			memcmp(der, sum_der, len) == 0;
	}
	OPENSSL_free(der);
	OPENSSL_free(sum_der);
	X509_NAME_free(sum);
	return ok;
}

/*
 * Print a name in the form of RFC 2253, as core does for clientname=DN.  A
 * name that OpenSSL cannot print so (core refuses such a client) appears as
 * its DER; and if "whole", one of which something would be lost.
 */
bool
pgtls_name_print_rfc2253(BIO *out, const X509_NAME *name, bool whole)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	bool		ok = bio != NULL;

	if (ok && !(whole && (has_long_type(name) || !is_sum_of_entries(name))) &&
		X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
	{
		char	   *data;
		long		len = BIO_get_mem_data(bio, &data);

		ok = len <= 0 || BIO_write(out, data, len) > 0;
	}
	else if (ok)
	{
		unsigned char *der = NULL;
		int			len = i2d_X509_NAME(unconstify(X509_NAME *, name), &der);

		ok = len > 0 && pgtls_text_print_hex(out, der, len);
		OPENSSL_free(der);
	}
	BIO_free(bio);
	return ok;
}

bool
pgtls_name_print_cn(BIO *out, const X509_NAME *name)
{
	int			i = X509_NAME_get_index_by_NID(unconstify(X509_NAME *, name),
											   NID_commonName, -1);
	const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);

	return entry == NULL || print_string(out, X509_NAME_ENTRY_get_data(entry));
}

/* Whether the characters of a string, of several bytes each, are such. */
static bool
is_convertible(const ASN1_STRING *string)
{
	unsigned char *utf8 = NULL;
	int			len = ASN1_STRING_to_UTF8(&utf8, string);

	OPENSSL_free(utf8);
	return len >= 0;
}

/*
 * Print an otherName as openssl.cnf(5) writes it, 1.2.3;UTF8:text, or with
 * the DER of a value that is no text.  The type of the string is part of it:
 * otherwise two different names could look the same.
 */
static bool
print_other_name(BIO *out, const OTHERNAME *other)
{
	static const struct
	{
		int			type;
		const char *name;
	}			strings[] = {
		{V_ASN1_UTF8STRING, "UTF8"},
		{V_ASN1_IA5STRING, "IA5"},
		{V_ASN1_PRINTABLESTRING, "PRINTABLE"},
		{V_ASN1_VISIBLESTRING, "VISIBLE"},
		{V_ASN1_T61STRING, "T61"},
		{V_ASN1_BMPSTRING, "BMP"},
		{V_ASN1_UNIVERSALSTRING, "UNIV"},
	};
	int			type = other->value != NULL ? ASN1_TYPE_get(other->value) : 0;
	unsigned char *der = NULL;
	int			len;
	bool		ok;

	if (!pgtls_ossl_object_name(other->type_id, out))
		return false;
	for (int i = 0; i < (int) lengthof(strings); i++)
	{
		if (strings[i].type != type)
			continue;
		if ((type != V_ASN1_BMPSTRING && type != V_ASN1_UNIVERSALSTRING) ||
			is_convertible(other->value->value.asn1_string))
			return BIO_printf(out, ";%s:", strings[i].name) > 0 &&
				print_string(out, other->value->value.asn1_string);
	}
	len = i2d_ASN1_TYPE(other->value, &der);
	ok = BIO_puts(out, ";") > 0 && pgtls_text_print_hex(out, der, Max(len, 0));
	OPENSSL_free(der);
	return ok;
}

/*
 * Print one alternative name under the prefix that openssl.cnf(5) has for its
 * type.
 */
bool
pgtls_name_print_general(BIO *out, GENERAL_NAME *name)
{
	switch (name->type)
	{
		case GEN_EMAIL:
			return BIO_puts(out, "email:") > 0 &&
				print_string(out, name->d.rfc822Name);
		case GEN_DNS:
			return BIO_puts(out, "DNS:") > 0 &&
				print_string(out, name->d.dNSName);
		case GEN_URI:
			return BIO_puts(out, "URI:") > 0 &&
				print_string(out, name->d.uniformResourceIdentifier);
		case GEN_DIRNAME:
			return BIO_puts(out, "dirName:") > 0 &&
				pgtls_name_print_rfc2253(out, name->d.directoryName, true);
		case GEN_RID:
			return BIO_puts(out, "RID:") > 0 &&
				pgtls_ossl_object_name(name->d.registeredID, out);
		case GEN_OTHERNAME:
			return BIO_puts(out, "otherName:") > 0 &&
				print_other_name(out, name->d.otherName);
		case GEN_IPADD:
			{
				const unsigned char *bytes =
					ASN1_STRING_get0_data(name->d.iPAddress);
				int			len = ASN1_STRING_length(name->d.iPAddress);
				char		address[INET6_ADDRSTRLEN];

				if (BIO_puts(out, "IP:") <= 0)
					return false;
				if ((len == 4 || len == 16) &&
					inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes,
							  address, sizeof(address)) != NULL)
					return BIO_puts(out, address) > 0;
				return pgtls_text_print_hex(out, bytes, len);
			}
		default:
			{
				/* X.400 addresses and EDI party names, which nobody uses */
				unsigned char *der = NULL;
				int			len = i2d_GENERAL_NAME(name, &der);
				bool		ok;

				ok = BIO_puts(out, name->type == GEN_X400 ?
							  "x400Name:" :
							  "ediPartyName:") > 0 &&
					len > 0 && pgtls_text_print_hex(out, der, len);
				OPENSSL_free(der);
				return ok;
			}
	}
}

/*
 * The value of the first attribute of this type in a name, as it stands in
 * the slash form of pg_stat_ssl; where it is not what its type says, its
 * bytes.  NULL if the name has no such attribute.  False if memory ran out.
 * To be freed with OPENSSL_free().
 */
bool
pgtls_name_field(const X509_NAME *name, const ASN1_OBJECT *type,
				 char **value)
{
	int			i =
		X509_NAME_get_index_by_OBJ(unconstify(X509_NAME *, name), type, -1);
	BIO		   *bio;
	bool		ok;

	*value = NULL;
	if (i < 0)
		return true;
	bio = BIO_new(BIO_s_mem());
	ok = bio != NULL;
	if (ok)
	{
		const ASN1_STRING *string =
			X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i));

		if (ASN1_STRING_print_ex(bio, string, SLASH_FORM_FLAGS) < 0)
		{
			/* a part of it may stand there */
			(void) BIO_reset(bio);
			ok = print_string(bio, string);
		}
		ok = ok && pgtls_text_take(bio, value);
		/* an empty value is one */
		if (ok && *value == NULL)
			ok = (*value = OPENSSL_zalloc(1)) != NULL;
	}
	BIO_free(bio);
	ERR_clear_error();
	return ok;
}

/*
 * A name in the slash form of pg_stat_ssl; NULL if memory ran out.  To be
 * freed with OPENSSL_free().
 */
char *
pgtls_name_text(const X509_NAME *name)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *result = NULL;

	if (bio != NULL && (!pgtls_name_print_slashes(bio, name) ||
						!pgtls_text_take(bio, &result)))
		result = NULL;
	BIO_free(bio);
	ERR_clear_error();
	return result;
}

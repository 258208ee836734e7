/*-------------------------------------------------------------------------
 *
 * certificate.c
 *	  X.509 certificates as plain C.
 *
 * Everything in a certificate comes from a stranger: names with NULs in
 * them, text that is not what its type says, extensions of any size.  What
 * leaves this file is valid UTF-8 and cannot be mistaken for something else.
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

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "certificate.h"

/*
 * How pg_stat_ssl prints an attribute's value (X509_NAME_to_cstring in
 * be-secure-openssl.c).
 */
#define SLASH_FORM_FLAGS \
	((ASN1_STRFLGS_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) | ASN1_STRFLGS_UTF8_CONVERT)


/* Numbers of more bytes are not written in decimal digits. */
#define MAX_DECIMAL_BYTES	1024

/* A longer key usage, of which nine bits have names, is not taken apart. */
#define MAX_KEY_USAGE_BYTES	8

/* How deep an extension's value may be nested, to be printed by OpenSSL. */
#define MAX_DEPTH			16

/* OpenSSL cuts the object identifiers in some extensions to this. */
#define OPENSSL_OBJECT_SIZE	80

/*
 * Length of the valid UTF-8 character at s, or 0 where there is none.
 *
 * UTF8_getc() knows overlong forms; by version it lets surrogates and what
 * lies beyond Unicode pass.
 */
static int
utf8_length(const unsigned char *s, int len)
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
pgtls_certificate_escape(BIO *out, const char *text, int len,
						 bool double_backslash)
{
	const unsigned char *s = (const unsigned char *) text;
	const unsigned char *end = s + len;
	const unsigned char *plain = s; /* not yet written, needs no escape */

	while (s < end)
	{
		int			n = utf8_length(s, end - s);

		if (n > 0 && !is_hidden(s, n) && !(*s == '\\' && double_backslash))
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
static bool
print_digits(BIO *out, const unsigned char *bytes, int len, const char *digits)
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
static bool
print_hex(BIO *out, const unsigned char *bytes, int len)
{
	return BIO_puts(out, "#") > 0 &&
		print_digits(out, bytes, len, "0123456789ABCDEF");
}

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
		return pgtls_certificate_escape(out,
										(const char *) ASN1_STRING_get0_data(string),
										ASN1_STRING_length(string), true);
	ok = pgtls_certificate_escape(out, (const char *) utf8, len, true);
	OPENSSL_free(utf8);
	return ok;
}

/*
 * Print a name in the slash form of pg_stat_ssl.  There, an attribute whose
 * type OpenSSL does not know makes the connection fail; here it stands under
 * its number.
 */
static bool
print_name_slashes(BIO *out, const X509_NAME *name)
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
		const ASN1_OBJECT *type = X509_NAME_ENTRY_get_object(X509_NAME_get_entry(name, i));
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
static bool
print_name_rfc2253(BIO *out, const X509_NAME *name, bool whole)
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

		ok = len > 0 && print_hex(out, der, len);
		OPENSSL_free(der);
	}
	BIO_free(bio);
	return ok;
}

static bool
print_common_name(BIO *out, const X509_NAME *name)
{
	int			i = X509_NAME_get_index_by_NID(unconstify(X509_NAME *, name),
											   NID_commonName, -1);

	return i < 0 ||
		print_string(out, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)));
}

/*
 * Print the serial number.  To compute its decimal digits takes time in
 * proportion to the square of their number, and one that is so long has none.
 */
static bool
print_serial(BIO *out, X509 *cert)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	BIGNUM	   *number = NULL;
	char	   *decimal = NULL;
	bool		ok;

	if (ASN1_STRING_length(serial) <= MAX_DECIMAL_BYTES)
		number = ASN1_INTEGER_to_BN(serial, NULL);
	if (number != NULL)
		decimal = BN_bn2dec(number);
	ok = decimal != NULL && BIO_puts(out, decimal) > 0;
	OPENSSL_free(decimal);
	BN_free(number);
	return ok;
}

static bool
print_key(BIO *out, X509 *cert)
{
	return pgtls_ossl_key_name(cert, out);
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
	ok = BIO_puts(out, ";") > 0 && print_hex(out, der, Max(len, 0));
	OPENSSL_free(der);
	return ok;
}

/*
 * Print one alternative name under the prefix that openssl.cnf(5) has for its
 * type.
 */
static bool
print_general_name(BIO *out, GENERAL_NAME *name)
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
				print_name_rfc2253(out, name->d.directoryName, true);
		case GEN_RID:
			return BIO_puts(out, "RID:") > 0 &&
				pgtls_ossl_object_name(name->d.registeredID, out);
		case GEN_OTHERNAME:
			return BIO_puts(out, "otherName:") > 0 &&
				print_other_name(out, name->d.otherName);
		case GEN_IPADD:
			{
				const unsigned char *bytes = ASN1_STRING_get0_data(name->d.iPAddress);
				int			len = ASN1_STRING_length(name->d.iPAddress);
				char		address[INET6_ADDRSTRLEN];

				if (BIO_puts(out, "IP:") <= 0)
					return false;
				if ((len == 4 || len == 16) &&
					inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes,
							  address, sizeof(address)) != NULL)
					return BIO_puts(out, address) > 0;
				return print_hex(out, bytes, len);
			}
		default:
			{
				/* X.400 addresses and EDI party names, which nobody uses */
				unsigned char *der = NULL;
				int			len = i2d_GENERAL_NAME(name, &der);
				bool		ok;

				ok = BIO_puts(out, name->type == GEN_X400 ? "x400Name:" : "ediPartyName:") > 0 &&
					len > 0 && print_hex(out, der, len);
				OPENSSL_free(der);
				return ok;
			}
	}
}

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
			!(nid == NID_key_usage && ASN1_STRING_length(decoded) > MAX_KEY_USAGE_BYTES))
			ok = print_all(out, decoded, &first);
		else
		{
			const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(extension);

			ok = (first || BIO_printf(out, "%c", PGTLS_LIST_SEPARATOR) > 0) &&
				print_hex(out, ASN1_STRING_get0_data(data),
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
		if (!print_general_name(out, sk_GENERAL_NAME_value(names, i)))
			return false;
	}
	return true;
}

static bool
print_all_usages(BIO *out, void *decoded, bool *first)
{
	STACK_OF(ASN1_OBJECT) *usages = decoded;

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

static bool
print_san(BIO *out, X509 *cert)
{
	return print_list_extension(out, cert, NID_subject_alt_name, print_all_names);
}

static bool
print_eku(BIO *out, X509 *cert)
{
	return print_list_extension(out, cert, NID_ext_key_usage, print_all_usages);
}

static bool
print_key_usage(BIO *out, X509 *cert)
{
	return print_list_extension(out, cert, NID_key_usage, print_all_key_usages);
}

/* Print bytes, and a hyphen before a negative number, as openssl does. */
static bool
print_serial_hex(BIO *out, X509 *cert)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	int			len = ASN1_STRING_length(serial);

	if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER && BIO_puts(out, "-") <= 0)
		return false;
	if (len == 0)
		return BIO_puts(out, "00") > 0;
	return print_digits(out, bytes, len, "0123456789abcdef");
}

static bool
print_signature_algorithm(BIO *out, X509 *cert)
{
	const X509_ALGOR *algorithm;
	const ASN1_OBJECT *object;

	X509_get0_signature(NULL, &algorithm, cert);
	X509_ALGOR_get0(&object, NULL, NULL, algorithm);
	if (OBJ_obj2nid(object) != NID_undef)
		return BIO_puts(out, OBJ_nid2ln(OBJ_obj2nid(object))) > 0;
	return pgtls_ossl_object_name(object, out);
}

/*
 * Whether a bit string is as short as it can be, and of at most n bits, which
 * all have names.  "value" is its DER.
 */
static bool
has_named_bits_only(const ASN1_OCTET_STRING *value, int n)
{
	const unsigned char *der = ASN1_STRING_get0_data(value);
	int			len = ASN1_STRING_length(value);

	/* type, length and the number of unused bits come first */
	return len > 3 && len <= 3 + (n + 7) / 8 &&
		8 * (len - 3) - der[2] <= n && (der[len - 1] >> der[2] & 1) != 0;
}

static bool
has_uris_only(const GENERAL_NAMES *names)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
	{
		if (sk_GENERAL_NAME_value(names, i)->type != GEN_URI)
			return false;
	}
	return sk_GENERAL_NAME_num(names) > 0;
}

/* Distribution points that say where, and nothing else. */
static bool
has_plain_points_only(const CRL_DIST_POINTS *points)
{
	for (int i = 0; i < sk_DIST_POINT_num(points); i++)
	{
		const DIST_POINT *point = sk_DIST_POINT_value(points, i);

		if (point->distpoint == NULL || point->distpoint->type != 0 ||
			!has_uris_only(point->distpoint->name.fullname) ||
			point->reasons != NULL || point->CRLissuer != NULL)
			return false;
	}
	return sk_DIST_POINT_num(points) > 0;
}

static bool
has_uris_of_access_only(const AUTHORITY_INFO_ACCESS *access)
{
	for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(access); i++)
	{
		if (sk_ACCESS_DESCRIPTION_value(access, i)->location->type != GEN_URI)
			return false;
	}
	return true;
}

static bool
has_known_qualifiers_only(const CERTIFICATEPOLICIES *policies)
{
	for (int i = 0; i < sk_POLICYINFO_num(policies); i++)
	{
		const STACK_OF(POLICYQUALINFO) *qualifiers =
			sk_POLICYINFO_value(policies, i)->qualifiers;

		/* none look like an empty list */
		if (qualifiers != NULL && sk_POLICYQUALINFO_num(qualifiers) == 0)
			return false;
		for (int j = 0; j < sk_POLICYQUALINFO_num(qualifiers); j++)
		{
			int			nid = OBJ_obj2nid(sk_POLICYQUALINFO_value(qualifiers, j)->pqualid);

			if (nid != NID_id_qt_cps && nid != NID_id_qt_unotice)
				return false;
		}
	}
	return true;
}

/* One of the two lists of name constraints; NULL where it is left out. */
static bool
has_plain_subtrees_only(const STACK_OF(GENERAL_SUBTREE) *trees)
{
	if (trees != NULL && sk_GENERAL_SUBTREE_num(trees) == 0)
		return false;
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); i++)
	{
		const GENERAL_SUBTREE *tree = sk_GENERAL_SUBTREE_value(trees, i);
		int			len;

		if (tree->minimum != NULL || tree->maximum != NULL)
			return false;
		switch (tree->base->type)
		{
			case GEN_DNS:
			case GEN_EMAIL:
			case GEN_URI:
				break;
			case GEN_IPADD:
				len = ASN1_STRING_length(tree->base->d.iPAddress);
				if (len != 8 && len != 32)
					return false;
				break;
			default:
				return false;
		}
	}
	return true;
}

/*
 * Whether OpenSSL's own printing of an extension tells all that is in it.  For
 * most, it does not: so this lists those that were looked at, and what must
 * not be in them.  Text is the business of is_plain().
 */
static bool
is_printed_whole(int nid, const void *decoded, const ASN1_OCTET_STRING *value)
{
	switch (nid)
	{
		case NID_subject_key_identifier:
		case NID_ext_key_usage:
		case NID_policy_constraints:
		case NID_policy_mappings:
		case NID_inhibit_any_policy:
		case NID_id_pkix_OCSP_noCheck:
		case NID_tlsfeature:
		case NID_netscape_base_url:
		case NID_netscape_revocation_url:
		case NID_netscape_ca_revocation_url:
		case NID_netscape_renewal_url:
		case NID_netscape_ca_policy_url:
		case NID_netscape_ssl_server_name:
		case NID_netscape_comment:
			return true;
		case NID_basic_constraints:
			{
				/* other bytes than 0xff are taken for "true", and kept */
				int			ca = ((const BASIC_CONSTRAINTS *) decoded)->ca;

				return ca == 0 || ca == 0xff;
			}
		case NID_key_usage:
			return has_named_bits_only(value, 9);
		case NID_netscape_cert_type:
			return has_named_bits_only(value, 8);
		case NID_authority_key_identifier:
			{
				const AUTHORITY_KEYID *id = decoded;

				return id->keyid != NULL && id->issuer == NULL && id->serial == NULL;
			}
		case NID_crl_distribution_points:
		case NID_freshest_crl:
			return has_plain_points_only(decoded);
		case NID_info_access:
		case NID_sinfo_access:
			return has_uris_of_access_only(decoded);
		case NID_certificate_policies:
			return has_known_qualifiers_only(decoded);
		case NID_name_constraints:
			{
				const NAME_CONSTRAINTS *constraints = decoded;

				return has_plain_subtrees_only(constraints->permittedSubtrees) &&
					has_plain_subtrees_only(constraints->excludedSubtrees);
			}
		default:
			return false;
	}
}

/* Whether an object identifier, in DER, is short enough to be printed whole. */
static bool
is_short_object(const unsigned char *der, long len)
{
	ASN1_OBJECT *object = d2i_ASN1_OBJECT(NULL, &der, len);
	int			text_len = object != NULL ? OBJ_obj2txt(NULL, 0, object, 0) : 0;

	ASN1_OBJECT_free(object);
	return text_len > 0 && text_len < OPENSSL_OBJECT_SIZE;
}

/*
 * Whether what is text in the value of an extension can stand as it is: no
 * hidden characters, which may be line feeds; nothing that is not what its
 * type says; no long object identifier.
 *
 * p is the DER of an extension that is_printed_whole() has passed.  Within a
 * GeneralName, [1], [2] and [6] are text; nothing of the first level is one.
 */
static bool
is_plain(const unsigned char *p, long len, int depth)
{
	while (len > 0)
	{
		const unsigned char *start = p;
		long		content;
		int			tag,
					class;
		int			ret = ASN1_get_object(&p, &content, &tag, &class, len);
		bool		text = false;

		if ((ret & 0x80) != 0 || (ret & 0x01) != 0)
			return false;		/* not valid, or of indefinite length */
		if ((ret & V_ASN1_CONSTRUCTED) != 0)
		{
			if (depth >= MAX_DEPTH || !is_plain(p, content, depth + 1))
				return false;
		}
		else if (class == V_ASN1_UNIVERSAL)
		{
			if (tag == V_ASN1_BMPSTRING || tag == V_ASN1_UNIVERSALSTRING ||
				(tag == V_ASN1_OBJECT &&
				 !is_short_object(start, p + content - start)))
				return false;
			text = tag == V_ASN1_UTF8STRING || tag == V_ASN1_GENERALSTRING ||
				tag == V_ASN1_VISIBLESTRING || tag == V_ASN1_GRAPHICSTRING ||
				(tag >= V_ASN1_NUMERICSTRING && tag <= V_ASN1_IA5STRING);
		}
		else
			text = depth > 1 && (tag == 1 || tag == 2 || tag == 6);

		for (long i = 0; text && i < content;)
		{
			int			n = utf8_length(p + i, content - i);

			if (n == 0 || is_hidden(p + i, n) ||
				(n > 1 && !(class == V_ASN1_UNIVERSAL && tag == V_ASN1_UTF8STRING)))
				return false;
			i += n;
		}
		p += content;
		len -= p - start;
	}
	return true;
}

/*
 * Print what OpenSSL has printed, without the line feeds that it begins and
 * ends with in some versions.
 */
static bool
print_lines(BIO *out, const char *text, long len)
{
	for (; len > 0 && *text == '\n'; len--)
		text++;
	while (len > 0 && text[len - 1] == '\n')
		len--;
	while (len > 0)
	{
		const char *end = memchr(text, '\n', len);
		int			line = end != NULL ? end - text : len;

		if (!pgtls_certificate_escape(out, text, line, false) ||
			(end != NULL && BIO_puts(out, "\n") <= 0))
			return false;
		line += end != NULL;
		text += line;
		len -= line;
	}
	return true;
}

/* False also where the text would look like bytes. */
static bool
print_extension_by_openssl(BIO *out, X509_EXTENSION *extension)
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

/* As text; false where that would not tell all, or could mean another. */
static bool
print_extension_text(BIO *out, X509_EXTENSION *extension)
{
	const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
	int			nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
	void	   *decoded = nid != NID_undef ? decode_whole(extension) : NULL;
	bool		first = true;
	bool		ok;

	if (decoded == NULL)
		return false;
	if (nid == NID_subject_alt_name || nid == NID_issuer_alt_name)
		ok = print_all_names(out, decoded, &first);
	else
		ok = is_printed_whole(nid, decoded, value) &&
			is_plain(ASN1_STRING_get0_data(value), ASN1_STRING_length(value), 0) &&
			print_extension_by_openssl(out, extension);
	free_decoded(extension, decoded);
	return ok;
}

static bool
print_extension(BIO *out, X509_EXTENSION *extension)
{
	const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);

	if (print_extension_text(out, extension))
		return true;
	(void) BIO_reset(out);
	return print_hex(out, ASN1_STRING_get0_data(value), ASN1_STRING_length(value));
}

/* Whether text can stand as it is, but for the line feeds of lists. */
static bool
is_clean(const char *text, long len)
{
	for (long i = 0; i < len;)
	{
		int			n = utf8_length((const unsigned char *) text + i, len - i);

		if (n <= 0 || text[i] == '\0' ||
			(n > 1 && is_hidden((const unsigned char *) text + i, n)))
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
static bool
take_text(BIO *bio, char **text)
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
			pgtls_certificate_escape(clean, data, len, false) &&
			copy_text(clean, text);
		BIO_free(clean);
	}
	(void) BIO_reset(bio);
	return ok;
}

static bool
print_subject(BIO *out, X509 *cert)
{
	return print_name_slashes(out, X509_get_subject_name(cert));
}

static bool
print_issuer(BIO *out, X509 *cert)
{
	return print_name_slashes(out, X509_get_issuer_name(cert));
}

static bool
print_subject_rfc2253(BIO *out, X509 *cert)
{
	return print_name_rfc2253(out, X509_get_subject_name(cert), false);
}

static bool
print_subject_cn(BIO *out, X509 *cert)
{
	return print_common_name(out, X509_get_subject_name(cert));
}

static bool
print_issuer_rfc2253(BIO *out, X509 *cert)
{
	return print_name_rfc2253(out, X509_get_issuer_name(cert), false);
}

/*
 * A part of a certificate: what prints it, where the text goes, and of which
 * extension it is a list; NID_undef if it is none.
 */
typedef struct Part
{
	bool		(*print) (BIO *out, X509 *cert);
	char	  **text;
	int			list;
} Part;

/*
 * Read parts, by way of a BIO.  One that cannot be printed stays NULL; a list
 * without elements is an empty text.
 */
static void
read_parts(BIO *bio, X509 *cert, const Part *parts, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!parts[i].print(bio, cert))
			(void) BIO_reset(bio);
		else if (take_text(bio, parts[i].text) && *parts[i].text == NULL &&
				 parts[i].list != NID_undef &&
				 X509_get_ext_by_NID(cert, parts[i].list, -1) >= 0)
			*parts[i].text = OPENSSL_zalloc(1);
	}
}

/*
 * Read a certificate.  False means that not even its digest could be
 * computed; then nothing is kept.  A part that cannot be printed is NULL, and
 * hides no other.
 */
bool
pgtls_certificate_read(X509 *cert, CertInfo *info)
{
	const Part	parts[] = {
		{print_subject, &info->subject, NID_undef},
		{print_issuer, &info->issuer, NID_undef},
		{print_subject_rfc2253, &info->subject_rfc2253, NID_undef},
		{print_subject_cn, &info->common_name, NID_undef},
		{print_serial, &info->serial, NID_undef},
		{print_san, &info->san, NID_subject_alt_name},
		{print_eku, &info->eku, NID_ext_key_usage},
		{print_key, &info->key, NID_undef},
	};
	BIO		   *bio;
	bool		ok;

	memset(info, 0, sizeof(*info));
	info->not_before = pgtls_ossl_time(X509_get0_notBefore(cert));
	info->not_after = pgtls_ossl_time(X509_get0_notAfter(cert));

	bio = BIO_new(BIO_s_mem());
	ok = bio != NULL &&
		X509_digest(cert, EVP_sha256(), info->fingerprint, NULL);
	if (ok)
		read_parts(bio, cert, parts, lengthof(parts));

	BIO_free(bio);
	if (!ok)
		pgtls_certificate_free(info);
	ERR_clear_error();
	return ok;
}

/* Whether a certificate's own key has signed it. */
bool
pgtls_certificate_self_signed(X509 *cert)
{
	EVP_PKEY   *key;
	bool		result;

	if (X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) != 0)
		return false;
	key = X509_get0_pubkey(cert);
	result = key != NULL && X509_verify(cert, key) == 1;
	ERR_clear_error();
	return result;
}

/*
 * Read the details of a certificate.  False if memory ran out; then nothing
 * is kept.  A part that cannot be printed is NULL.
 */
bool
pgtls_certificate_read_details(X509 *cert, CertDetails *details)
{
	const Part	parts[] = {
		{print_issuer_rfc2253, &details->issuer_rfc2253, NID_undef},
		{print_serial_hex, &details->serial_hex, NID_undef},
		{print_key_usage, &details->key_usage, NID_key_usage},
		{print_signature_algorithm, &details->signature_algorithm, NID_undef},
	};
	BIO		   *bio = BIO_new(BIO_s_mem());
	long		version = X509_get_version(cert);

	memset(details, 0, sizeof(*details));
	if (bio == NULL)
	{
		ERR_clear_error();
		return false;
	}
	details->version = version >= 0 && version < PG_INT32_MAX ? version + 1 : 0;
	details->is_ca = X509_check_ca(cert) != 0;
	details->self_signed = pgtls_certificate_self_signed(cert);
	read_parts(bio, cert, parts, lengthof(parts));
	BIO_free(bio);
	ERR_clear_error();
	return true;
}

/* Give back what pgtls_certificate_read_details() took. */
void
pgtls_certificate_free_details(CertDetails *details)
{
	OPENSSL_free(details->issuer_rfc2253);
	OPENSSL_free(details->serial_hex);
	OPENSSL_free(details->key_usage);
	OPENSSL_free(details->signature_algorithm);
	memset(details, 0, sizeof(*details));
}

/*
 * Read an extension, of which there are X509_get_ext_count().  False if memory
 * ran out; then nothing is kept.
 */
bool
pgtls_certificate_read_extension(X509 *cert, int index, CertExtension *extension)
{
	/* of an extension, which only OpenSSL 4.0 declares const */
	X509_EXTENSION *ext = (X509_EXTENSION *) X509_get_ext(cert, index);
	const ASN1_OBJECT *object = X509_EXTENSION_get_object(ext);
	int			nid = OBJ_obj2nid(object);
	BIO		   *bio = BIO_new(BIO_s_mem());
	bool		ok;

	memset(extension, 0, sizeof(*extension));
	extension->critical = X509_EXTENSION_get_critical(ext) != 0;
	if (nid != NID_undef)
		extension->name = OBJ_nid2sn(nid);
	ok = bio != NULL &&
		pgtls_ossl_object_dotted(object, bio) &&
		take_text(bio, &extension->oid) &&
		print_extension(bio, ext) &&
		take_text(bio, &extension->value);
	BIO_free(bio);
	if (!ok)
		pgtls_certificate_free_extension(extension);
	ERR_clear_error();
	return ok;
}

/* Give back what pgtls_certificate_read_extension() took. */
void
pgtls_certificate_free_extension(CertExtension *extension)
{
	OPENSSL_free(extension->oid);
	OPENSSL_free(extension->value);
	memset(extension, 0, sizeof(*extension));
}

/*
 * The value of the first attribute of this type in a name, as it stands in
 * the slash form of pg_stat_ssl; where it is not what its type says, its
 * bytes.  NULL if the name has no such attribute.  False if memory ran out.
 * To be freed with OPENSSL_free().
 */
bool
pgtls_certificate_name_field(const X509_NAME *name, const ASN1_OBJECT *type,
							 char **value)
{
	int			i = X509_NAME_get_index_by_OBJ(unconstify(X509_NAME *, name), type, -1);
	BIO		   *bio;
	bool		ok;

	*value = NULL;
	if (i < 0)
		return true;
	bio = BIO_new(BIO_s_mem());
	ok = bio != NULL;
	if (ok)
	{
		const ASN1_STRING *string = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i));

		if (ASN1_STRING_print_ex(bio, string, SLASH_FORM_FLAGS) < 0)
		{
			/* a part of it may stand there */
			(void) BIO_reset(bio);
			ok = print_string(bio, string);
		}
		ok = ok && take_text(bio, value);
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
pgtls_certificate_name(const X509_NAME *name)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *text = NULL;

	if (bio != NULL && (!print_name_slashes(bio, name) || !take_text(bio, &text)))
		text = NULL;
	BIO_free(bio);
	ERR_clear_error();
	return text;
}

/*
 * Copy a text to a buffer of this size, an empty one for NULL.  If it has to
 * be cut that is at a character, and an ellipsis (U+2026) stands at the end.
 */
void
pgtls_certificate_cut(char *to, size_t size, const char *utf8)
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

/* Give back what pgtls_certificate_read() took. */
void
pgtls_certificate_free(CertInfo *info)
{
	OPENSSL_free(info->subject);
	OPENSSL_free(info->issuer);
	OPENSSL_free(info->subject_rfc2253);
	OPENSSL_free(info->common_name);
	OPENSSL_free(info->serial);
	OPENSSL_free(info->san);
	OPENSSL_free(info->eku);
	OPENSSL_free(info->key);
	memset(info, 0, sizeof(*info));
}


/* ----------------------------------------------------------------
 *		Host names
 * ----------------------------------------------------------------
 */

/*
 * Whether a wildcard covers a host: it stands for the whole first label, and
 * for no more (wildcard_certificate_match() in libpq's fe-secure-common.c).
 */
static bool
wildcard_matches(const char *pattern, const char *host)
{
	const char *dot = strchr(host, '.');

	return pattern[0] == '*' && pattern[1] == '.' && pattern[2] != '\0' &&
		dot != NULL && dot > host && pg_strcasecmp(dot, pattern + 1) == 0;
}

typedef enum NameMatch
{
	NAME_DIFFERS,
	NAME_MATCHES,
	NAME_REFUSED				/* libpq gives up */
} NameMatch;

static NameMatch
match_name(const ASN1_STRING *name, const char *host)
{
	int			len = ASN1_STRING_length(name);
	char	   *copy = len > 0 ? OPENSSL_malloc(len + 1) : NULL;
	NameMatch	result;

	if (copy == NULL)
		return len > 0 ? NAME_REFUSED : NAME_DIFFERS;
	memcpy(copy, ASN1_STRING_get0_data(name), len);
	copy[len] = '\0';
	if (strlen(copy) != (size_t) len)
		result = NAME_REFUSED;	/* an embedded NUL */
	else if (pg_strcasecmp(copy, host) == 0 || wildcard_matches(copy, host))
		result = NAME_MATCHES;
	else
		result = NAME_DIFFERS;
	OPENSSL_free(copy);
	return result;
}

/*
 * Whether a client that connects to a host with sslmode=verify-full takes the
 * certificate for that host's: by the rules of libpq 15 and later
 * (pgtls_verify_peer_name_matches_certificate_guts() in its
 * fe-secure-openssl.c).  The common name counts only where no alternative
 * name is of the host's kind, name or address.
 */
bool
pgtls_certificate_matches_host(X509 *cert, const char *host)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	unsigned char v4[4];
	unsigned char v6[16];
	bool		is_v4 = inet_aton(host, (struct in_addr *) v4) != 0;
	bool		is_v6 = !is_v4 && inet_pton(AF_INET6, host, v6) == 1;
	bool		check_cn = true;
	NameMatch	match = NAME_DIFFERS;

	for (int i = 0; match == NAME_DIFFERS && i < sk_GENERAL_NAME_num(names); i++)
	{
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == (is_v4 || is_v6 ? GEN_IPADD : GEN_DNS))
			check_cn = false;
		if (name->type == GEN_DNS)
			match = match_name(name->d.dNSName, host);
		else if (name->type == GEN_IPADD)
		{
			const unsigned char *address = ASN1_STRING_get0_data(name->d.iPAddress);
			int			len = ASN1_STRING_length(name->d.iPAddress);

			if ((is_v4 && len == 4 && memcmp(address, v4, 4) == 0) ||
				(is_v6 && len == 16 && memcmp(address, v6, 16) == 0))
				match = NAME_MATCHES;
		}
	}
	GENERAL_NAMES_free(names);

	if (match == NAME_DIFFERS && check_cn)
	{
		const X509_NAME *subject = X509_get_subject_name(cert);
		int			index = X509_NAME_get_index_by_NID(unconstify(X509_NAME *, subject),
													   NID_commonName, -1);

		if (index >= 0)
			match = match_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(unconstify(X509_NAME *, subject), index)),
							   host);
	}
	ERR_clear_error();
	return match == NAME_MATCHES;
}

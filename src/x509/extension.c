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

/* How deep an extension's value may be nested, to be printed by OpenSSL. */
#define MAX_DEPTH			16

/* OpenSSL cuts the object identifiers in some extensions to this. */
#define OPENSSL_OBJECT_SIZE	80

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
		const QualifierStack *qualifiers =
			sk_POLICYINFO_value(policies, i)->qualifiers;

		/* none look like an empty list */
		if (qualifiers != NULL && sk_POLICYQUALINFO_num(qualifiers) == 0)
			return false;
		for (int j = 0; j < sk_POLICYQUALINFO_num(qualifiers); j++)
		{
			int			nid =
				OBJ_obj2nid(sk_POLICYQUALINFO_value(qualifiers, j)->pqualid);

			if (nid != NID_id_qt_cps && nid != NID_id_qt_unotice)
				return false;
		}
	}
	return true;
}

/* One of the two lists of name constraints; NULL where it is left out. */
static bool
has_plain_subtrees_only(const SubtreeStack *trees)
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

				return id->keyid != NULL && id->issuer == NULL &&
					id->serial == NULL;
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
				const NAME_CONSTRAINTS *names = decoded;

				return has_plain_subtrees_only(names->permittedSubtrees) &&
					has_plain_subtrees_only(names->excludedSubtrees);
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
		bool		is_text = false;

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
			is_text = tag == V_ASN1_UTF8STRING || tag == V_ASN1_GENERALSTRING ||
				tag == V_ASN1_VISIBLESTRING || tag == V_ASN1_GRAPHICSTRING ||
				(tag >= V_ASN1_NUMERICSTRING && tag <= V_ASN1_IA5STRING);
		}
		else
			is_text = depth > 1 && (tag == 1 || tag == 2 || tag == 6);

		for (long i = 0; is_text && i < content;)
		{
			int			n = pgtls_text_character(p + i, content - i);

			if (n == 0 || pgtls_text_is_hidden(p + i, n) ||
				(n > 1 &&
				 !(class == V_ASN1_UNIVERSAL && tag == V_ASN1_UTF8STRING)))
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
print_lines(BIO *out, const char *lines, long len)
{
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
			is_plain(ASN1_STRING_get0_data(value), ASN1_STRING_length(value),
					 0) &&
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
	if (nid != NID_undef)
		extension->name = OBJ_nid2sn(nid);
	ok = bio != NULL &&
		pgtls_ossl_object_dotted(object, bio) &&
		pgtls_text_take(bio, &extension->oid) &&
		print_extension(bio, ext) &&
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

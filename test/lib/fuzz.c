/*-------------------------------------------------------------------------
 *
 * fuzz.c
 *	  What certificate.c, crl.c and ossl.c make of any bytes, for libFuzzer.
 *
 * The input is a certificate, a CRL, a name or a list of alternative names in
 * DER, whichever OpenSSL takes it for.  All text has to be valid UTF-8 without
 * control characters, and bounded; alternative names have to lead back to their
 * bytes; what is not shown as bytes has to be all that there is; and no error
 * may be left in OpenSSL's queue.  Sanitizers see the rest.
 *
 * A mutator of its own keeps the structure of DER, since few other mutations
 * would get past OpenSSL's parser.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include "base/text.h"
#include "x509/certificate.h"
#include "x509/crl.h"
#include "x509/extension.h"
#include "x509/hostname.h"
#include "x509/name.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t		LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t		LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
									unsigned int seed);

static size_t input_size;

static void
require(bool condition, const char *what, const char *shown)
{
	if (condition)
		return;
	fprintf(stderr, "not so: %s: \"%s\"\n", what, shown != NULL ? shown : "");
	abort();
}

/* Independent of the code that is tested. */
static bool
is_utf8(const unsigned char *s)
{
	while (*s != '\0')
	{
		uint32		c;
		int			n;

		if (*s < 0x80)
			n = 1;
		else if (*s >= 0xc2 && *s <= 0xdf)
			n = 2;
		else if ((*s & 0xf0) == 0xe0)
			n = 3;
		else if (*s >= 0xf0 && *s <= 0xf4)
			n = 4;
		else
			return false;
		c = n == 1 ? *s : *s & (0xff >> (n + 1));
		for (int i = 1; i < n; i++)
		{
			if ((s[i] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (s[i] & 0x3f);
		}
		if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) ||
			c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
		s += n;
	}
	return true;
}

static void
check_text(const char *shown, bool lines)
{
	require(ERR_peek_error() == 0, "the error queue is empty", shown);
	if (shown == NULL)
		return;
	require(is_utf8((const unsigned char *) shown), "valid UTF-8", shown);
	require(strlen(shown) <= 16 * input_size + 4096, "bounded", shown);
	for (const unsigned char *s = (const unsigned char *) shown; *s != '\0';
		 s++)
	{
		require((*s >= 0x20 && *s != 0x7f) ||
				(lines && *s == PGTLS_LIST_SEPARATOR),
				"no control character", shown);
		require(!(s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0),
				"no control character of Latin-1", shown);
	}

	/* as texts are cut to fit */
	for (size_t size = 8; size <= 64; size++)
	{
		char		cut[64];

		pgtls_text_cut(cut, size, shown);
		require(strlen(cut) < size && is_utf8((unsigned char *) cut),
				"cut well", cut);
	}
}

/* Whether a text of len bytes is that, once what is escaped is undone. */
static bool
is_escaped(const char *shown, size_t len, const unsigned char *bytes, size_t n)
{
	const char *end = shown + len;
	size_t		i = 0;

	for (; shown < end; i++)
	{
		unsigned int c = (unsigned char) *shown++;

		if (c == '\\' && shown < end && *shown == '\\')
			shown++;
		else if (c == '\\')
		{
			static const char digits[] = "0123456789ABCDEF";
			const char *high = shown < end ? memchr(digits, shown[0], 16) :
				NULL;
			const char *low = shown + 1 < end ? memchr(digits, shown[1], 16) :
				NULL;

			if (high == NULL || low == NULL)
				return false;
			c = (high - digits) << 4 | (low - digits);
			shown += 2;
		}
		if (i >= n || bytes[i] != c)
			return false;
	}
	return i == n;
}

static void
check_escape(const uint8_t *data, size_t size)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *shown;
	long		len;

	require(pgtls_text_escape(bio, (const char *) data, size, true), "escaped",
			NULL);
	len = BIO_get_mem_data(bio, &shown);
	require(is_escaped(shown, len, data, size), "can be undone", NULL);
	BIO_write(bio, "", 1);
	(void) BIO_get_mem_data(bio, &shown);
	check_text(shown, false);
	BIO_free(bio);
}

/* Whether a text of len bytes is a hash sign and those, in hexadecimal. */
static bool
is_hex(const char *shown, size_t len, const unsigned char *bytes, size_t n)
{
	if (len != 2 * n + 1 || shown[0] != '#')
		return false;
	for (size_t i = 0; i < n; i++)
	{
		char		digits[3];

		snprintf(digits, sizeof(digits), "%02X", bytes[i]);
		if (memcmp(shown + 1 + 2 * i, digits, 2) != 0)
			return false;
	}
	return true;
}

/* Whether an extension's bytes are those that OpenSSL would make of it. */
static bool
is_der(X509_EXTENSION *extension)
{
	const X509V3_EXT_METHOD *method = X509V3_EXT_get(extension);
	void	   *decoded = X509V3_EXT_d2i(extension);
	X509_EXTENSION *again = NULL;
	bool		result;

	if (decoded != NULL)
	{
		again =
			X509V3_EXT_i2d(OBJ_obj2nid(X509_EXTENSION_get_object(extension)),
						   0, decoded);
		if (method->it != NULL)
			ASN1_item_free(decoded, ASN1_ITEM_ptr(method->it));
		else
			method->ext_free(decoded);
	}
	result = again != NULL &&
		ASN1_STRING_cmp(X509_EXTENSION_get_data(extension),
						X509_EXTENSION_get_data(again)) == 0;
	X509_EXTENSION_free(again);
	ERR_clear_error();
	return result;
}

/* Whether the text behind the prefix leads back to the name. */
static bool
tells_name(const char *shown, size_t len, const GENERAL_NAME *name)
{
	const ASN1_STRING *string = name->d.ia5;
	char	   *copy;
	ASN1_OBJECT *object;
	unsigned char address[16];
	unsigned char *der = NULL;
	int			n;
	bool		result;

	switch (name->type)
	{
		case GEN_DNS:
		case GEN_EMAIL:
		case GEN_URI:
			return is_escaped(shown, len, ASN1_STRING_get0_data(string),
							  ASN1_STRING_length(string));
		case GEN_IPADD:
			n = ASN1_STRING_length(string);
			if (n != 4 && n != 16)
				return is_hex(shown, len, ASN1_STRING_get0_data(string), n);
			copy = strndup(shown, len);
			result = inet_pton(n == 4 ? AF_INET : AF_INET6, copy, address) ==
				1 &&
				memcmp(address, ASN1_STRING_get0_data(string), n) == 0;
			free(copy);
			return result;
		case GEN_RID:
			/* one that OpenSSL does not print, being too long */
			if (is_hex(shown, len, OBJ_get0_data(name->d.registeredID),
					   OBJ_length(name->d.registeredID)))
				return true;
			copy = strndup(shown, len);
			object = OBJ_txt2obj(copy, 0);
			result = object != NULL &&
				OBJ_cmp(object, name->d.registeredID) == 0;
			ASN1_OBJECT_free(object);
			free(copy);
			ERR_clear_error();
			return result;
		case GEN_DIRNAME:
			n = i2d_X509_NAME(name->d.directoryName, &der);

			/*
			 * "CN=" is the least of a name that is not empty, and its DER is
			 * 30 00
			 */
			result = is_hex(shown, len, der, n) ||
				(n == 2 ? len == 0 :
				 len >= 3 && memchr(shown, '=', len) != NULL);
			OPENSSL_free(der);
			return result;
		case GEN_OTHERNAME:
			return len > 2 && memchr(shown, ';', len) != NULL;
		default:
			n = i2d_GENERAL_NAME(unconstify(GENERAL_NAME *, name), &der);
			result = is_hex(shown, len, der, n);
			OPENSSL_free(der);
			return result;
	}
}

/* Each name has a line of its own, and tells the bytes. */
static void
check_names(X509 *cert, const char *san)
{
	static const char *const prefixes[] =
	{"otherName:", "email:", "DNS:", "x400Name:", "dirName:",
	"ediPartyName:", "URI:", "IP:", "RID:"};
	int			index = X509_get_ext_by_NID(cert, NID_subject_alt_name, -1);
	X509_EXTENSION *extension;
	GENERAL_NAMES *names;
	const char *line = san;

	require((index < 0) == (san == NULL), "a list where there is one", san);
	if (index < 0 ||
		X509_get_ext_by_NID(cert, NID_subject_alt_name, index) >= 0)
		return;
	extension = (X509_EXTENSION *) X509_get_ext(cert, index);
	if (!is_der(extension))
	{
		const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);

		require(is_hex(san, strlen(san), ASN1_STRING_get0_data(value),
					   ASN1_STRING_length(value)), "the bytes", san);
		return;
	}
	names = X509V3_EXT_d2i(extension);
	require(san[0] != '\0' || sk_GENERAL_NAME_num(names) == 0, "names", san);
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
	{
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const char *prefix = prefixes[name->type];
		const char *end;

		require(line != NULL, "a line for each name", san);
		end = strchr(line, PGTLS_LIST_SEPARATOR);
		if (end == NULL)
			end = line + strlen(line);
		require(strncmp(line, prefix, strlen(prefix)) == 0 &&
				tells_name(line + strlen(prefix),
						   end - line - strlen(prefix), name),
				"the name itself", san);
		line = *end != '\0' ? end + 1 : NULL;
	}
	require(line == NULL || *line == '\0', "no other line", san);
	GENERAL_NAMES_free(names);
}

/*
 * Bytes are the bytes, and alternative names are not told of what is not DER.
 */
static void
check_value(X509_EXTENSION *extension, const char *shown)
{
	const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
	int			nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

	if (shown != NULL && shown[0] == '#')
		require(is_hex(shown, strlen(shown), ASN1_STRING_get0_data(value),
					   ASN1_STRING_length(value)),
				"the bytes", shown);
	else if (nid == NID_subject_alt_name || nid == NID_issuer_alt_name)
		require(is_der(extension), "names that are told whole", shown);
}

static void
check_name(const X509_NAME *name)
{
	char	   *shown = pgtls_name_text(name);

	check_text(shown, false);
	OPENSSL_free(shown);
	for (int i = 0; i < X509_NAME_entry_count(name) && i < 20; i++)
	{
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);

		require(pgtls_name_field(name, X509_NAME_ENTRY_get_object(entry),
								 &shown) &&
				shown != NULL,
				"a value", NULL);
		check_text(shown, false);
		OPENSSL_free(shown);
	}
}

static void
check_certificate(X509 *cert)
{
	CertInfo	info;
	CertDetails details;

	require(pgtls_certificate_read(cert, &info), "can be read", NULL);
	check_text(info.subject, false);
	check_text(info.issuer, false);
	check_text(info.subject_rfc2253, false);
	check_text(info.common_name, false);
	check_text(info.serial, false);
	check_text(info.san, true);
	check_text(info.eku, true);
	check_text(info.key, false);
	require(info.key != NULL, "a key", NULL);
	check_names(cert, info.san);
	pgtls_certificate_free(&info);

	require(pgtls_certificate_read_details(cert, &details), "has details",
			NULL);
	check_text(details.issuer_rfc2253, false);
	check_text(details.serial_hex, false);
	check_text(details.key_usage, true);
	check_text(details.signature_algorithm, false);
	require(details.serial_hex != NULL && details.signature_algorithm != NULL,
			"all details", NULL);
	pgtls_certificate_free_details(&details);

	for (int i = 0; i < X509_get_ext_count(cert); i++)
	{
		CertExtension extension;
		X509_EXTENSION *part;

		require(pgtls_extension_read(cert, i, &extension), "an extension",
				NULL);
		check_text(extension.oid, false);
		check_text(extension.name, false);
		check_text(extension.value, true);
		part = (X509_EXTENSION *) X509_get_ext(cert, i);
		check_value(part, extension.value);
		require(extension.der == X509_EXTENSION_get_data(part), "its bytes",
				NULL);
		pgtls_extension_free(&extension);
	}
	check_name(X509_get_subject_name(cert));

	(void) pgtls_hostname_matches(cert, "localhost");
	(void) pgtls_hostname_matches(cert, "127.0.0.1");
	require(!pgtls_hostname_matches(cert, "no such host"), "another host",
			NULL);
	check_text(NULL, false);
}

static bool
check_entry(const CrlEntry *entry, void *arg)
{
	check_text(entry->issuer, false);
	check_text(entry->serial, false);
	check_text(entry->reason, false);
	require(entry->serial_fits || entry->serial != NULL ||
			entry->serial_len > 1024,
			"a serial number", NULL);
	(*(int *) arg)++;
	return true;
}

static void
check_crl(X509_CRL *crl)
{
	CrlInfo		info;
	int			entries = 0;

	check_name(X509_CRL_get_issuer(crl));
	require(pgtls_crl_read(crl, &info), "can be read", NULL);
	check_text(info.issuer, false);
	check_text(info.number, false);
	require(pgtls_crl_entries(crl, check_entry, &entries), "has entries", NULL);
	require(entries == info.revoked, "as many entries", NULL);
	check_text(NULL, false);
	pgtls_crl_free(&info);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned char *p = data;
	X509	   *cert;
	X509_CRL   *crl;
	X509_NAME  *name;

	if (size == 0)
		return 0;
	input_size = size;
	check_escape(data, size);
	if ((cert = d2i_X509(NULL, &p, size)) != NULL)
	{
		ERR_clear_error();
		check_certificate(cert);
	}
	p = data;
	if ((crl = d2i_X509_CRL(NULL, &p, size)) != NULL)
	{
		ERR_clear_error();
		check_crl(crl);
	}
	p = data;
	if ((name = d2i_X509_NAME(NULL, &p, size)) != NULL)
	{
		ERR_clear_error();
		check_name(name);
	}
	X509_free(cert);
	X509_CRL_free(crl);
	X509_NAME_free(name);
	ERR_clear_error();
	return 0;
}


/*
 * Mutation
 */

static uint32 random_state;

static uint32
pick(uint32 n)
{
	random_state = random_state * 1664525 + 1013904223;
	return n > 0 ? (random_state >> 8) % n : 0;
}

/* The value at p: its head and contents; false if it is no DER. */
static bool
get_value(const uint8_t *p, size_t size, size_t *head, size_t *content)
{
	size_t		n;

	if (size < 2)
		return false;
	n = p[1];
	*head = 2;
	if (n & 0x80)
	{
		int			bytes = n & 0x7f;

		if (bytes == 0 || bytes > 3 || (size_t) bytes + 2 > size)
			return false;
		for (n = 0; bytes > 0; bytes--)
			n = n << 8 | p[(*head)++];
	}
	*content = n;
	return n <= size - *head;
}

static size_t
put_head(uint8_t *to, uint8_t tag, size_t content)
{
	size_t		n = 0;

	to[n++] = tag;
	if (content >= 0x10000)
		to[n++] = 0x83, to[n++] = content >> 16;
	else if (content >= 0x100)
		to[n++] = 0x82;
	else if (content >= 0x80)
		to[n++] = 0x81;
	if (content >= 0x100)
		to[n++] = content >> 8;
	to[n++] = content;
	return n;
}

/*
 * Change one of the values that stand one after the other here, or one within
 * it.  Gives the new size; "to" has room for "max".
 */
static size_t
mutate(const uint8_t *from, size_t size, uint8_t *to, size_t max, int depth)
{
	static const uint8_t tags[] = {0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e, 0x02,
		0x03, 0x04, 0x05, 0x06, 0x17, 0x18, 0x30,
		0x31, 0x80, 0x81, 0x82, 0x86, 0x87, 0x88,
	0xa0, 0xa1, 0xa3, 0xa4, 0xa5};
	size_t		starts[64];
	size_t		head,
				content,
				at,
				end;
	int			n = 0;
	uint8_t    *inner;
	size_t		inner_size;
	uint8_t		tag;

	for (at = 0; at < size && n < 64 &&
		 get_value(from + at, size - at, &head, &content);
		 at += head + content)
		starts[n++] = at;
	if (n == 0 || max < size + 16)
	{
		memcpy(to, from, size);
		return LLVMFuzzerMutate(to, size, max);
	}
	at = starts[pick(n)];
	(void) get_value(from + at, size - at, &head, &content);
	end = at + head + content;
	tag = from[at];

	switch (depth > 0 ? pick(16) : 15)
	{
		case 0:					/* leave it out */
			memcpy(to, from, at);
			memcpy(to + at, from + end, size - end);
			return size - (end - at);
		case 1:					/* have it twice */
			if (size + (end - at) > max)
				break;
			memcpy(to, from, end);
			memcpy(to + end, from + at, size - at);
			return size + (end - at);
		case 2:					/* another type */
			tag = tags[pick(sizeof(tags))];
			break;
		default:
			break;
	}

	/* its contents, within which there may be others */
	inner = malloc(max);
	if ((tag & 0x20) != 0 || (tag == 0x04 && pick(4) != 0))
		inner_size = mutate(from + at + head, content, inner,
							max - size + content - 8, depth + 1);
	else
	{
		memcpy(inner, from + at + head, content);
		inner_size = LLVMFuzzerMutate(inner, content, max - size + content - 8);
	}
	memcpy(to, from, at);
	at += put_head(to + at, tag, inner_size);
	memcpy(to + at, inner, inner_size);
	at += inner_size;
	memcpy(to + at, from + end, size - end);
	free(inner);
	return at + size - end;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
						unsigned int seed)
{
	uint8_t    *copy;

	random_state = seed;
	if (pick(20) == 0 || max_size < size + 16)
		return LLVMFuzzerMutate(data, size, max_size);
	copy = malloc(size + 1);
	memcpy(copy, data, size);
	size = mutate(copy, size, data, max_size, 0);
	free(copy);
	return size;
}

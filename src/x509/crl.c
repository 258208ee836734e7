/*-------------------------------------------------------------------------
 *
 * crl.c
 *	  Certificate revocation lists as plain C.
 *
 * Pure: may be called in any process, and builds outside the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include <openssl/x509v3.h>

#include "x509/crl.h"
#include "x509/name.h"

/*
 * Numbers of more bytes have no decimal digits: to compute them takes time in
 * proportion to the square of the length.  RFC 5280 allows 20.
 */
#define MAX_DECIMAL_BYTES	1024

/* So many have them computed fast, and this is room for their digits. */
#define FAST_DECIMAL_BYTES	20
#define DECIMAL_SIZE		72

/* An entry of a CRL, and what it is to be sorted by. */
typedef struct KeyedEntry
{
	uint64		key;
	X509_REVOKED *entry;
} KeyedEntry;

/* A number in decimal digits, to be freed with OPENSSL_free(). */
static char *
decimal(const ASN1_INTEGER *number)
{
	BIGNUM	   *bn = ASN1_INTEGER_to_BN(number, NULL);
	char	   *result = bn != NULL ? BN_bn2dec(bn) : NULL;

	BN_free(bn);
	return result;
}

static bool
is_indirect(X509_CRL *crl)
{
	ISSUING_DIST_POINT *point =
		X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, NULL, NULL);
	bool		result = point != NULL && point->indirectCRL > 0;

	ISSUING_DIST_POINT_free(point);
	return result;
}

/* The issuer, NULL if its name is empty; false if memory ran out. */
static bool
read_issuer(X509_CRL *crl, char **issuer)
{
	*issuer = pgtls_name_text(X509_CRL_get_issuer(crl));
	return *issuer != NULL ||
		X509_NAME_entry_count(X509_CRL_get_issuer(crl)) == 0;
}

/*
 * Whether a CRL is one of a CA: it has the CA's name and, where both tell, is
 * by the CA's key.  OpenSSL does not look at others (crl_akid_check()), so that
 * a CA that was renewed with another key needs another CRL.
 */
bool
pgtls_crl_is_of(X509_CRL *crl, X509 *ca)
{
	const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(ca);
	AUTHORITY_KEYID *authority;
	bool		result;

	if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(ca)) != 0)
		return false;
	authority =
		X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
	result = key_id == NULL || authority == NULL || authority->keyid == NULL ||
		ASN1_OCTET_STRING_cmp(key_id, authority->keyid) == 0;
	AUTHORITY_KEYID_free(authority);
	ERR_clear_error();
	return result;
}

/* Read what a CRL says of itself; false if memory ran out. */
bool
pgtls_crl_read(X509_CRL *crl, CrlInfo *info)
{
	ASN1_INTEGER *number =
		X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
	bool		ok;

	memset(info, 0, sizeof(*info));
	ok = read_issuer(crl, &info->issuer);
	if (number != NULL && ASN1_STRING_length(number) <= MAX_DECIMAL_BYTES)
		info->number = decimal(number);
	ASN1_INTEGER_free(number);
	info->this_update = pgtls_ossl_time(X509_CRL_get0_lastUpdate(crl));
	info->next_update = pgtls_ossl_time(X509_CRL_get0_nextUpdate(crl));
	info->revoked = Max(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), 0);
	info->delta = X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
	info->indirect = is_indirect(crl);
	ERR_clear_error();
	if (!ok)
		pgtls_crl_free(info);
	return ok;
}

void
pgtls_crl_free(CrlInfo *info)
{
	OPENSSL_free(info->issuer);
	OPENSSL_free(info->number);
	memset(info, 0, sizeof(*info));
}

/*
 * The order of serial numbers, as far as that many bits tell: by length
 * first.
 */
static uint64
key_of_serial(const X509_REVOKED *entry)
{
	const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(entry);
	const unsigned char *data = ASN1_STRING_get0_data(serial);
	int			len = ASN1_STRING_length(serial);
	uint64		key = Min(len, 255);

	for (int i = 0; i < 7; i++)
		key = key << 8 | (i < len ? data[i] : 0);
	return key;
}

/*
 * Sort by the keys, from their last digit to the first, and keep the order of
 * equal ones.  Returns which of the two arrays has the result.
 */
static KeyedEntry *
radix_sort(KeyedEntry *entries, KeyedEntry *other, int n)
{
	const int	digit_bits = 11;
	const uint64 digit_mask = (1 << 11) - 1;

	for (int shift = 0; shift < 64; shift += digit_bits)
	{
		int			place[1 << 11] = {0};
		int			sum = 0;
		KeyedEntry *result = other;

		for (int i = 0; i < n; i++)
			place[(entries[i].key >> shift) & digit_mask]++;
		if (place[(entries[0].key >> shift) & digit_mask] == n)
			continue;
		for (int digit = 0; digit <= (int) digit_mask; digit++)
		{
			int			count = place[digit];

			place[digit] = sum;
			sum += count;
		}
		for (int i = 0; i < n; i++)
			result[place[(entries[i].key >> shift) & digit_mask]++] =
				entries[i];
		other = entries;
		entries = result;
	}
	return entries;
}

/*
 * Reorder the entries of a CRL in memory; leaves them as they are if there is
 * too little of that.  Its encoding stays the same.
 */
void
pgtls_crl_order(X509_CRL *crl, CrlOrder order)
{
	RevokedStack *entries = X509_CRL_get_REVOKED(crl);
	int			n = sk_X509_REVOKED_num(entries);
	KeyedEntry *keyed;
	KeyedEntry *ordered;

	if (n <= 1 || (keyed = malloc(2 * n * sizeof(KeyedEntry))) == NULL)
		return;
	for (int i = 0; i < n; i++)
	{
		keyed[i].entry = sk_X509_REVOKED_value(entries, i);
		keyed[i].key = order == CRL_BY_SERIAL ? key_of_serial(keyed[i].entry) :
			(uint64) (uintptr_t) keyed[i].entry;
	}
	ordered = radix_sort(keyed, keyed + n, n);
	for (int i = 0; i < n; i++)
		(void) sk_X509_REVOKED_set(entries, i, ordered[i].entry);
	free(keyed);
}

/* The reason of an entry (RFC 5280, 5.3.1), NULL for none. */
static const char *
entry_reason(const X509_REVOKED *revoked)
{
	static const char *const names[] = {
		"unspecified", "keyCompromise", "cACompromise", "affiliationChanged",
		"superseded", "cessationOfOperation", "certificateHold", NULL,
		"removeFromCRL", "privilegeWithdrawn", "aACompromise"
	};
	int			pos = X509_REVOKED_get_ext_by_NID(revoked, NID_crl_reason, -1);
	const ASN1_OCTET_STRING *data;
	const unsigned char *der;
	long		value;

	/* as X509_REVOKED_get_ext_d2i() has it, one that is there twice is none */
	if (pos < 0 ||
		X509_REVOKED_get_ext_by_NID(revoked, NID_crl_reason, pos) >= 0)
		return NULL;
	data = X509_EXTENSION_get_data(X509_REVOKED_get_ext(revoked, pos));
	der = ASN1_STRING_get0_data(data);
	if (ASN1_STRING_length(data) == 3 && der[0] == V_ASN1_ENUMERATED &&
		der[1] == 1)
		value = der[2];
	else
	{
		ASN1_ENUMERATED *reason =
			d2i_ASN1_ENUMERATED(NULL, &der, ASN1_STRING_length(data));

		if (reason == NULL)
		{
			ERR_clear_error();
			return NULL;
		}
		value = ASN1_ENUMERATED_get(reason);
		ASN1_ENUMERATED_free(reason);
	}
	if (value < 0 || value >= (long) lengthof(names) || names[value] == NULL)
		return "unknown";
	return names[value];
}

/*
 * The issuer that an entry of an indirect CRL names (RFC 5280, 5.3.3), NULL
 * where it names none; to be freed with OPENSSL_free().
 */
static char *
entry_issuer(const X509_REVOKED *revoked)
{
	GENERAL_NAMES *names =
		X509_REVOKED_get_ext_d2i(revoked, NID_certificate_issuer, NULL, NULL);
	char	   *result = NULL;

	for (int i = 0; result == NULL && i < sk_GENERAL_NAME_num(names); i++)
	{
		GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DIRNAME)
			result = pgtls_name_text(name->d.directoryName);
	}
	GENERAL_NAMES_free(names);
	ERR_clear_error();			/* the extension may not be what it should be */
	return result;
}

/*
 * Set the serial number of an entry; false if memory ran out.  What it is in
 * decimal is written into "buf", of DECIMAL_SIZE bytes, or to be freed with
 * OPENSSL_free().  Of a million entries, OpenSSL's way takes half a second.
 */
static bool
set_serial(CrlEntry *entry, const ASN1_INTEGER *serial, char *buf)
{
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	int			len = ASN1_STRING_length(serial);
	uint32		parts[FAST_DECIMAL_BYTES / 4] = {0};	/* the least is last */
	char	   *p = buf + DECIMAL_SIZE;
	int			first = 0;

	entry->serial_bytes = bytes;
	entry->serial_len = len;
	entry->serial_negative = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
	entry->serial = NULL;
	entry->serial_fits = len < (int) sizeof(entry->serial_value);
	if (entry->serial_fits)
	{
		entry->serial_value = 0;
		for (int i = 0; i < len; i++)
			entry->serial_value = entry->serial_value << 8 | bytes[i];
		if (entry->serial_negative)
			entry->serial_value = -entry->serial_value;
		return true;
	}
	if (len > FAST_DECIMAL_BYTES)
	{
		if (len <= MAX_DECIMAL_BYTES)
			entry->serial = decimal(serial);
		return entry->serial != NULL || len > MAX_DECIMAL_BYTES;
	}

	for (int i = 0; i < len; i++)
		parts[lengthof(parts) - 1 - i / 4] |= (uint32) bytes[len - 1 - i]
			<< 8 * (i % 4);

	*--p = '\0';
	do
	{
		uint64		rest = 0;

		while (first < (int) lengthof(parts) && parts[first] == 0)
			first++;
		for (int i = first; i < (int) lengthof(parts); i++)
		{
			rest = rest << 32 | parts[i];
			parts[i] = (uint32) (rest / 1000000000);
			rest %= 1000000000;
		}
		for (int i = 0; i < 9; i++, rest /= 10)
			*--p = '0' + rest % 10;
	} while (first < (int) lengthof(parts));

	while (*p == '0' && p[1] != '\0')
		p++;
	if (entry->serial_negative)
		*--p = '-';
	entry->serial = p;
	return true;
}

/*
 * Call back for each entry of a CRL; false if memory ran out, or the callback
 * returned false.
 */
bool
pgtls_crl_entries(X509_CRL *crl, CrlEntryCallback callback, void *arg)
{
	char	   *issuer;
	bool		indirect = is_indirect(crl);
	X509_CRL   *copy = NULL;
	RevokedStack *entries;
	bool		ok = read_issuer(crl, &issuer);

	/*
	 * In an indirect CRL an entry's issuer is that of the one before it,
	 * which the first look-up by a serial number has sorted.  A copy is as it
	 * was.
	 */
	if (indirect)
	{
		copy = X509_CRL_dup(crl);
		ok = ok && copy != NULL;
	}
	entries = X509_CRL_get_REVOKED(copy != NULL ? copy : crl);

	/* a million of them, sorted, take several times as long to read */
	if (!indirect && sk_X509_REVOKED_is_sorted(entries))
		pgtls_crl_order(crl, CRL_BY_ADDRESS);
	ERR_clear_error();

	for (int i = 0; ok && i < sk_X509_REVOKED_num(entries); i++)
	{
		const X509_REVOKED *revoked = sk_X509_REVOKED_value(entries, i);
		CrlEntry	entry;
		char		buf[DECIMAL_SIZE];

		if (indirect)
		{
			char	   *named = entry_issuer(revoked);

			if (named != NULL)
			{
				OPENSSL_free(issuer);
				issuer = named;
			}
		}
		entry.issuer = issuer;
		entry.revoked_at =
			pgtls_ossl_time(X509_REVOKED_get0_revocationDate(revoked));
		entry.reason = entry_reason(revoked);
		ok = set_serial(&entry, X509_REVOKED_get0_serialNumber(revoked), buf) &&
			callback(&entry, arg);
		if (entry.serial_len > FAST_DECIMAL_BYTES)
			OPENSSL_free(unconstify(char *, entry.serial));
	}
	X509_CRL_free(copy);
	OPENSSL_free(issuer);
	ERR_clear_error();
	return ok;
}

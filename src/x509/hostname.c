/*-------------------------------------------------------------------------
 *
 * hostname.c
 *	  Whether a certificate is for a host.
 *
 *-------------------------------------------------------------------------
 */

#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include "x509/hostname.h"

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
pgtls_hostname_matches(X509 *cert, const char *host)
{
	GENERAL_NAMES *names =
		X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	unsigned char v4[4];
	unsigned char v6[16];
	bool		is_v4 = inet_aton(host, (struct in_addr *) v4) != 0;
	bool		is_v6 = !is_v4 && inet_pton(AF_INET6, host, v6) == 1;
	bool		check_cn = true;
	NameMatch	match = NAME_DIFFERS;

	for (int i = 0; match == NAME_DIFFERS && i < sk_GENERAL_NAME_num(names);
		 i++)
	{
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == (is_v4 || is_v6 ? GEN_IPADD : GEN_DNS))
			check_cn = false;
		if (name->type == GEN_DNS)
			match = match_name(name->d.dNSName, host);
		else if (name->type == GEN_IPADD)
		{
			const unsigned char *address =
				ASN1_STRING_get0_data(name->d.iPAddress);
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
		int			index =
			X509_NAME_get_index_by_NID(unconstify(X509_NAME *, subject),
									   NID_commonName, -1);
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, index);

		if (entry != NULL)
			match = match_name(X509_NAME_ENTRY_get_data(entry), host);
	}
	ERR_clear_error();
	return match == NAME_MATCHES;
}

/*-------------------------------------------------------------------------
 *
 * ossl.c
 *	  What pg_tls needs of OpenSSL, in one shape for all its versions.
 *
 * Runs in whatever process calls it; takes no lock, and holds no state but what
 * it has learned of OpenSSL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include <dlfcn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/objects.h>

#include "base/ossl.h"

/*
 * Seconds between the Unix epoch and 2000-01-01, where PostgreSQL's
 * timestamps begin.
 */
#define POSTGRES_EPOCH_SECONDS	INT64CONST(946684800)

/* The last second of the year 9999, in microseconds since 2000-01-01. */
#define NO_END		INT64CONST(252455615999000000)

/* Days between March of the year 0 and the Unix epoch. */
#define DAYS_BEFORE_UNIX_EPOCH	719468

/*
 * Whether the OpenSSL that this process uses is of the major version that we
 * were built for.  If not, there are two in one process, whose structs differ,
 * and nobody says a word: each finds its own symbols by their versions.  What
 * is found without a version is that of the server.
 *
 * Gives the version number that was found (as OpenSSL_version_num()).
 */
bool
pgtls_ossl_same_library(unsigned long *loaded)
{
	unsigned long (*version_num) (void);

	*(void **) &version_num = dlsym(RTLD_DEFAULT, "OpenSSL_version_num");
	*loaded = version_num != NULL ? version_num() : OPENSSL_VERSION_NUMBER;
	return *loaded >> 28 == OPENSSL_VERSION_NUMBER >> 28;
}

/*
 * Read a time in the forms that RFC 5280 allows, YYMMDDHHMMSSZ and
 * YYYYMMDDHHMMSSZ, as seconds since the Unix epoch.  False for any other, and
 * for what may be no date.
 */
static bool
read_usual_time(const ASN1_TIME *time, int64 *result)
{
	static const int days_of_month[] = {31, 28, 31, 30, 31, 30,
	31, 31, 30, 31, 30, 31};
	const unsigned char *s = ASN1_STRING_get0_data(time);
	int			len = ASN1_STRING_length(time);
	int			pairs[7];		/* century, year, month, day, hour, minute,
								 * second */
	int			first;
	int			year;
	int			month;
	int64		days;

	if (ASN1_STRING_type(time) == V_ASN1_GENERALIZEDTIME && len == 15)
		first = 0;
	else if (ASN1_STRING_type(time) == V_ASN1_UTCTIME && len == 13)
		first = 1;
	else
		return false;
	if (s[len - 1] != 'Z')
		return false;
	for (int i = first; i < 7; i++, s += 2)
	{
		if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9')
			return false;
		pairs[i] = (s[0] - '0') * 10 + s[1] - '0';
	}
	if (first == 1)
		pairs[0] = pairs[1] < 50 ? 20 : 19;
	if (pairs[0] == 0 || pairs[2] < 1 || pairs[2] > 12 || pairs[3] < 1 ||
		pairs[3] > days_of_month[pairs[2] - 1] ||
		pairs[4] > 23 || pairs[5] > 59 || pairs[6] > 59)
		return false;

	/* count years from March, so that a leap day is the last of its year */
	year = pairs[0] * 100 + pairs[1] - (pairs[2] < 3 ? 1 : 0);
	month = (pairs[2] + 9) % 12;
	days = year * 365 + year / 4 - year / 100 + year / 400 +
		(153 * month + 2) / 5 + pairs[3] - 1 - DAYS_BEFORE_UNIX_EPOCH;
	*result = days * 86400 + pairs[4] * 3600 + pairs[5] * 60 + pairs[6];
	return true;
}

/*
 * Microseconds since 2000-01-01 UTC (what a TimestampTz holds) of an
 * ASN1_TIME, or PGTLS_NO_TIME where there is none or it cannot be read.
 */
int64
pgtls_ossl_time(const ASN1_TIME *time)
{
	ASN1_TIME  *epoch;
	int			days,
				seconds;
	int64		unix_time;
	int64		result = PGTLS_NO_TIME;

	if (time == NULL)
		return PGTLS_NO_TIME;

	/* a CRL may have millions, and OpenSSL takes a microsecond for each */
	if (read_usual_time(time, &unix_time))
		return (unix_time - POSTGRES_EPOCH_SECONDS) * INT64CONST(1000000);

	/* let OpenSSL do the calendar; ASN1_TIME spans the years 0 to 9999 */
	epoch = ASN1_TIME_set(NULL, 0);
	if (epoch != NULL && ASN1_TIME_diff(&days, &seconds, epoch, time))
		result = ((int64) days * 86400 + seconds - POSTGRES_EPOCH_SECONDS) *
			INT64CONST(1000000);
	ASN1_TIME_free(epoch);
	ERR_clear_error();
	return result;
}

/*
 * Whether a certificate is still valid in the very second of its notAfter, and
 * a CRL in that of its nextUpdate.  RFC 5280 says so, OpenSSL since 4.0.  Ask,
 * rather than reckon by version numbers.  -1 if memory ran out.
 */
static int
learn_last_second(void)
{
	time_t		moment = 1;
	ASN1_TIME  *end = ASN1_TIME_set(NULL, moment);
	int			result = -1;

	if (end != NULL)
	{
#ifdef HAVE_X509_CHECK_CERTIFICATE_TIMES
		X509	   *cert = X509_new();
		X509_VERIFY_PARAM *param = X509_VERIFY_PARAM_new();
		int			error;

		if (cert != NULL && param != NULL &&
			X509_set1_notBefore(cert, end) && X509_set1_notAfter(cert, end))
		{
			X509_VERIFY_PARAM_set_time(param, moment);
			result = X509_check_certificate_times(param, cert, &error) == 1;
		}
		X509_VERIFY_PARAM_free(param);
		X509_free(cert);
#else
		int			order = X509_cmp_time(end, &moment);

		if (order != 0)
			result = order > 0;
#endif
	}
	ASN1_TIME_free(end);
	ERR_clear_error();
	return result;
}

/*
 * The first moment at which something is no longer valid that ends at "end"
 * (pgtls_ossl_time() of a notAfter or nextUpdate).
 */
int64
pgtls_ossl_past(int64 end)
{
	static int	last_second = -1;

	/* the last second of 9999 stands for no end (RFC 5280, 4.1.2.5) */
	if (end == PGTLS_NO_TIME || end >= NO_END)
		return end;
	if (last_second < 0)
		last_second = learn_last_second();
	return last_second > 0 ? end + INT64CONST(1000000) : end;
}

#ifndef HAVE_SSL_GROUP_TO_NAME
/* The name of an elliptic curve as TLS has it (RFC 8422, 5.1.1). */
static const char *
curve_name(int nid)
{
	switch (nid)
	{
		case NID_undef:
			return NULL;
		case NID_X9_62_prime256v1:
			return "secp256r1";
		case NID_X25519:
			return "x25519";
		case NID_X448:
			return "x448";
		default:
			return OBJ_nid2sn(nid);
	}
}

/*
 * Before 3.0, a server forgets the keys of TLS 1.2 as soon as it has used
 * them.  But it has chosen the first of the groups that both sides support.
 */
static const char *
first_shared_group(SSL *ssl)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	int			nid;

	if (cipher == NULL || SSL_CIPHER_get_kx_nid(cipher) != NID_kx_ecdhe)
		return NULL;
	nid = (int) SSL_get_shared_group(ssl, 0);
	return (nid & TLSEXT_nid_unknown) != 0 ? NULL : curve_name(nid);
}
#endif

/*
 * The client's or our own ephemeral key of this handshake says what was
 * agreed where OpenSSL does not name the group: before 3.0, and for finite
 * field Diffie-Hellman in TLS 1.2, which knows no groups.
 */
static const char *
group_of_ephemeral_key(SSL *ssl, char *buf, size_t size)
{
	EVP_PKEY   *key = NULL;
	const char *name = NULL;

	if (!SSL_get_peer_tmp_key(ssl, &key))
		return NULL;

	switch (EVP_PKEY_base_id(key))
	{
		case EVP_PKEY_X25519:
			name = "x25519";
			break;
		case EVP_PKEY_X448:
			name = "x448";
			break;
		case EVP_PKEY_DH:
			snprintf(buf, size, "DH-%d", EVP_PKEY_bits(key));
			name = buf;
			break;
#ifndef HAVE_SSL_GROUP_TO_NAME
		case EVP_PKEY_EC:
			{
				EC_KEY	   *ec = EVP_PKEY_get0_EC_KEY(key);
				int			nid = NID_undef;

				if (ec != NULL)
					nid = EC_GROUP_get_curve_name(EC_KEY_get0_group(ec));
				name = curve_name(nid);
				break;
			}
#endif
		default:
			break;
	}
	EVP_PKEY_free(key);
	return name;
}

/*
 * In TLS 1.2 and before, the server forgets its finite field key as soon as it
 * has used it, and with it how many bits it had.
 */
static bool
is_finite_field(SSL *ssl)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	int			nid = cipher != NULL ? SSL_CIPHER_get_kx_nid(cipher) :
		NID_undef;

	return nid == NID_kx_dhe || nid == NID_kx_dhe_psk;
}

/*
 * Name of the group that the handshake agreed on, as TLS names it, or NULL
 * where there was none (key transport by RSA).  The result is constant, or in
 * the caller's buffer.
 */
const char *
pgtls_ossl_group(SSL *ssl, char *buf, size_t size)
{
	const char *name = NULL;

#ifdef HAVE_SSL_GROUP_TO_NAME
	int			id = SSL_get_negotiated_group(ssl);

	if (id != NID_undef)
		name = SSL_group_to_name(ssl, id);
#endif
	if (name == NULL)
		name = group_of_ephemeral_key(ssl, buf, size);
#ifndef HAVE_SSL_GROUP_TO_NAME
	if (name == NULL)
		name = first_shared_group(ssl);
#endif
	if (name == NULL && is_finite_field(ssl))
		name = "DH";
	ERR_clear_error();
	return name;
}

/*
 * Whether a group withstands a quantum computer, by itself or as one half of
 * a hybrid.  OpenSSL has no such attribute, hence the names of the key
 * encapsulation mechanisms that it and its providers offer.
 *
 * A handshake without a group (group NULL) was not post-quantum if its cipher
 * suite says how keys were exchanged, as those of TLS 1.2 do.
 */
PgTlsPostQuantum
pgtls_ossl_post_quantum(SSL *ssl, const char *group)
{
	static const char *const mechanisms[] = {
		"mlkem", "kyber", "frodo", "bike", "hqc", "sntrup", "mceliece"
	};
	char		lower[80];
	size_t		len = 0;

	if (group == NULL)
		return SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(ssl)) ==
			NID_kx_any ?
			PGTLS_PQ_UNKNOWN :
			PGTLS_PQ_NO;

	for (; group[len] != '\0' && len < sizeof(lower) - 1; len++)
		lower[len] = pg_ascii_tolower((unsigned char) group[len]);
	lower[len] = '\0';

	for (int i = 0; i < (int) lengthof(mechanisms); i++)
	{
		if (strstr(lower, mechanisms[i]) != NULL)
			return PGTLS_PQ_YES;
	}
	return PGTLS_PQ_NO;
}

#ifndef HAVE_SSL_SIGNATURE_NAME
/*
 * Before 3.5, OpenSSL tells the parts of a signature scheme.  This names the
 * schemes as the TLS registry of IANA does (RFC 8446, 4.2.3).
 */
static const char *
signature_scheme(int type, int digest, bool pss_key)
{
	static const struct
	{
		int			type;
		int			digest;
		bool		pss_key;
		const char *name;
	}			schemes[] = {
		{EVP_PKEY_RSA_PSS, NID_sha256, false, "rsa_pss_rsae_sha256"},
		{EVP_PKEY_RSA_PSS, NID_sha384, false, "rsa_pss_rsae_sha384"},
		{EVP_PKEY_RSA_PSS, NID_sha512, false, "rsa_pss_rsae_sha512"},
		{EVP_PKEY_RSA_PSS, NID_sha256, true, "rsa_pss_pss_sha256"},
		{EVP_PKEY_RSA_PSS, NID_sha384, true, "rsa_pss_pss_sha384"},
		{EVP_PKEY_RSA_PSS, NID_sha512, true, "rsa_pss_pss_sha512"},
		{EVP_PKEY_EC, NID_sha256, false, "ecdsa_secp256r1_sha256"},
		{EVP_PKEY_EC, NID_sha384, false, "ecdsa_secp384r1_sha384"},
		{EVP_PKEY_EC, NID_sha512, false, "ecdsa_secp521r1_sha512"},
		{EVP_PKEY_EC, NID_sha224, false, "ecdsa_sha224"},
		{EVP_PKEY_EC, NID_sha1, false, "ecdsa_sha1"},
		{EVP_PKEY_ED25519, NID_undef, false, "ed25519"},
		{EVP_PKEY_ED448, NID_undef, false, "ed448"},
		{EVP_PKEY_RSA, NID_sha256, false, "rsa_pkcs1_sha256"},
		{EVP_PKEY_RSA, NID_sha384, false, "rsa_pkcs1_sha384"},
		{EVP_PKEY_RSA, NID_sha512, false, "rsa_pkcs1_sha512"},
		{EVP_PKEY_RSA, NID_sha224, false, "rsa_pkcs1_sha224"},
		{EVP_PKEY_RSA, NID_sha1, false, "rsa_pkcs1_sha1"},
		{EVP_PKEY_RSA, NID_md5_sha1, false, "rsa_pkcs1_md5_sha1"},
		{EVP_PKEY_DSA, NID_sha512, false, "dsa_sha512"},
		{EVP_PKEY_DSA, NID_sha384, false, "dsa_sha384"},
		{EVP_PKEY_DSA, NID_sha256, false, "dsa_sha256"},
		{EVP_PKEY_DSA, NID_sha224, false, "dsa_sha224"},
		{EVP_PKEY_DSA, NID_sha1, false, "dsa_sha1"},
	};

	for (int i = 0; i < (int) lengthof(schemes); i++)
	{
		if (schemes[i].type == type && schemes[i].digest == digest &&
			schemes[i].pss_key == pss_key)
			return schemes[i].name;
	}
	return NULL;
}
#endif

/*
 * The scheme of the server's (peer: the client's) signature in the handshake,
 * NULL where there was none.  The result is constant.
 */
const char *
pgtls_ossl_signature(SSL *ssl, bool peer)
{
	const char *name = NULL;

	/*
	 * A key exchange by RSA transport signs nothing, although OpenSSL has
	 * chosen a scheme by then.
	 */
	if (!peer &&
		SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(ssl)) == NID_kx_rsa)
		return NULL;

#ifdef HAVE_SSL_SIGNATURE_NAME
	if ((peer ? SSL_get0_peer_signature_name(ssl, &name) :
		 SSL_get0_signature_name(ssl, &name)) != 1)
		name = NULL;
#else
	{
		int			type,
					digest = NID_undef;
		X509	   *cert = peer ? SSL_get_peer_certificate(ssl) :
			SSL_get_certificate(ssl);
		EVP_PKEY   *key = cert ? X509_get0_pubkey(cert) : NULL;

		if (peer ? SSL_get_peer_signature_type_nid(ssl, &type) :
			SSL_get_signature_type_nid(ssl, &type))
		{
			if (!(peer ? SSL_get_peer_signature_nid(ssl, &digest) :
				  SSL_get_signature_nid(ssl, &digest)))
				digest = NID_undef;
			name = signature_scheme(type, digest,
									type == EVP_PKEY_RSA_PSS && key != NULL &&
									EVP_PKEY_base_id(key) == EVP_PKEY_RSA_PSS);
		}
		if (peer)
			X509_free(cert);	/* it came with a reference of our own */
	}
#endif
	ERR_clear_error();
	return name;
}

/*
 * Print the type and strength of a certificate's key: RSA-2048, EC-P-256,
 * ED25519, ML-DSA-65.  Where OpenSSL cannot load the key, or it has no
 * parameters of its own, the name or number of its algorithm stands alone.
 */
bool
pgtls_ossl_key_name(X509 *cert, BIO *out)
{
	EVP_PKEY   *key = X509_get0_pubkey(cert);
	bool		ok;

	/* before 3.0, to ask for the strength of such a key is a crash */
	if (key != NULL &&
		(EVP_PKEY_base_id(key) == EVP_PKEY_DSA ||
		 EVP_PKEY_base_id(key) == EVP_PKEY_EC) &&
		EVP_PKEY_missing_parameters(key))
		key = NULL;

	switch (key != NULL ? EVP_PKEY_base_id(key) : NID_undef)
	{
		case EVP_PKEY_RSA:
			ok = BIO_printf(out, "RSA-%d", EVP_PKEY_bits(key)) > 0;
			break;
		case EVP_PKEY_RSA_PSS:
			ok = BIO_printf(out, "RSA-PSS-%d", EVP_PKEY_bits(key)) > 0;
			break;
		case EVP_PKEY_DSA:
			ok = BIO_printf(out, "DSA-%d", EVP_PKEY_bits(key)) > 0;
			break;
		case EVP_PKEY_DH:
			ok = BIO_printf(out, "DH-%d", EVP_PKEY_bits(key)) > 0;
			break;
		case EVP_PKEY_EC:
			{
				int			nid = NID_undef;
				const char *curve = NULL;

#ifdef HAVE_EVP_PKEY_TYPE_NAME
				char		group[80];

				if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL))
					nid = OBJ_txt2nid(group);
#else
				const EC_KEY *ec = EVP_PKEY_get0_EC_KEY(key);

				nid = EC_GROUP_get_curve_name(EC_KEY_get0_group(ec));
#endif
				if (nid != NID_undef)
				{
					curve = EC_curve_nid2nist(nid);
					if (curve == NULL)
						curve = OBJ_nid2sn(nid);
				}
				ok = curve != NULL ? BIO_printf(out, "EC-%s", curve) > 0 :
					BIO_printf(out, "EC-%d", EVP_PKEY_bits(key)) > 0;
				break;
			}
		default:
			{
				ASN1_OBJECT *algorithm = NULL;

#ifdef HAVE_EVP_PKEY_TYPE_NAME
				if (key != NULL && EVP_PKEY_get0_type_name(key) != NULL)
				{
					ok = BIO_puts(out, EVP_PKEY_get0_type_name(key)) > 0;
					break;
				}
#endif
				ok = X509_PUBKEY_get0_param(&algorithm, NULL, NULL, NULL,
											X509_get_X509_PUBKEY(cert)) &&
					pgtls_ossl_object_name(algorithm, out);
				break;
			}
	}
	ERR_clear_error();
	return ok;
}

/*
 * Print an object identifier in dotted form; or its encoding after a #, in
 * hexadecimal, if it is longer than OpenSSL cares to print.
 */
bool
pgtls_ossl_object_dotted(const ASN1_OBJECT *object, BIO *out)
{
	char		buf[80];
	char	   *dotted = buf;
	int			len;
	bool		ok;

	len = OBJ_obj2txt(buf, sizeof(buf), object, 1);
	if (len <= 0)
	{
		const unsigned char *bytes = OBJ_get0_data(object);

		ERR_clear_error();
		ok = BIO_puts(out, "#") > 0;
		for (size_t i = 0; ok && i < OBJ_length(object); i++)
			ok = BIO_printf(out, "%02X", bytes[i]) > 0;
		return ok;
	}
	if (len >= (int) sizeof(buf))
	{
		/* longer than any real one, but a stranger may send it */
		dotted = OPENSSL_malloc(len + 1);
		if (dotted == NULL)
			return false;
		OBJ_obj2txt(dotted, len + 1, object, 1);
	}
	ok = BIO_puts(out, dotted) > 0;
	if (dotted != buf)
		OPENSSL_free(dotted);
	ERR_clear_error();
	return ok;
}

/* Print an object identifier by OpenSSL's short name, where it has one. */
bool
pgtls_ossl_object_name(const ASN1_OBJECT *object, BIO *out)
{
	int			nid = OBJ_obj2nid(object);

	if (nid != NID_undef && OBJ_nid2sn(nid) != NULL)
		return BIO_puts(out, OBJ_nid2sn(nid)) > 0;
	return pgtls_ossl_object_dotted(object, out);
}

/*
 * Why OpenSSL failed just now; a constant.  The first error in the queue is the
 * cause, those that follow tell where it was met.  Leaves the queue as it is.
 */
const char *
pgtls_ossl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	return reason != NULL ? reason : "no reason given";
}

/* From now on, remember if memory runs out; for the next one. */
void
pgtls_ossl_watch_memory(void)
{
	ERR_clear_error();
	errno = 0;
}

/*
 * Whether OpenSSL had too little memory since the last
 * pgtls_ossl_watch_memory().  Empties the error queue.
 *
 * In many places OpenSSL says nothing of that, and takes a certificate whose
 * key it had no memory to decode for one with a weak key, say.  But malloc()
 * leaves a trace in errno, which a call that succeeds does not touch.
 */
bool
pgtls_ossl_out_of_memory(void)
{
	unsigned long error;
	bool		result = errno == ENOMEM;

	while ((error = ERR_get_error()) != 0)
		result = result || ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE;
	return result;
}

/* Whether OpenSSL keeps to its FIPS provider or module by default. */
bool
pgtls_ossl_fips(void)
{
#ifdef HAVE_SSL_GROUP_TO_NAME
	return EVP_default_properties_is_fips_enabled(NULL) != 0;
#else
	return FIPS_mode() != 0;
#endif
}

/*
 * Set on a context what a cipher list says of certificates: the security level,
 * and Suite B.  If memory ran out, what refuses nobody.
 */
void
pgtls_ossl_adopt_ciphers(SSL_CTX *to, const char *cipher_list)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_server_method());
	int			level = 0;
	long		suite_b = 0;

	if (ctx != NULL)
	{
		(void) SSL_CTX_set_cipher_list(ctx, cipher_list);
		level = SSL_CTX_get_security_level(ctx);
		/* to set none is to read all */
		suite_b = SSL_CTX_set_cert_flags(ctx, 0) & SSL_CERT_FLAG_SUITEB_128_LOS;
	}
	SSL_CTX_set_security_level(to, level);
	(void) SSL_CTX_clear_cert_flags(to, SSL_CERT_FLAG_SUITEB_128_LOS);
	(void) SSL_CTX_set_cert_flags(to, suite_b);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

/*
 * The cipher suites that a server with these settings offers, in its order of
 * preference, with colons between.  "list" is for TLS 1.2 and before,
 * "suites" for TLS 1.3 (empty for OpenSSL's default), a version of 0 is no
 * limit.  NULL if the settings are not valid, or memory ran out; to be freed
 * with OPENSSL_free().
 */
char *
pgtls_ossl_ciphers(const char *list, const char *suites,
				   int min_version, int max_version)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_server_method());
	SSL		   *ssl = NULL;
	CipherStack *ciphers = NULL;
	char	   *result = NULL;
	size_t		size = 1;

	if (ctx == NULL ||
		!SSL_CTX_set_min_proto_version(ctx, min_version) ||
		!SSL_CTX_set_max_proto_version(ctx, max_version) ||
		!SSL_CTX_set_cipher_list(ctx, list) ||
		(suites[0] != '\0' && !SSL_CTX_set_ciphersuites(ctx, suites)))
		goto done;
	ssl = SSL_new(ctx);
	if (ssl == NULL)
		goto done;
	ciphers = SSL_get1_supported_ciphers(ssl);
	for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++)
		size += strlen(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(ciphers, i))) +
			1;
	result = OPENSSL_malloc(size);
	if (result == NULL)
		goto done;
	result[0] = '\0';
	for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++)
	{
		if (i > 0)
			strlcat(result, ":", size);
		strlcat(result, SSL_CIPHER_get_name(sk_SSL_CIPHER_value(ciphers, i)),
				size);
	}

done:
	sk_SSL_CIPHER_free(ciphers);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return result;
}

/* The certificates and CRLs of a store; pgtls_ossl_store_objects_free(). */
ObjectStack *
pgtls_ossl_store_objects(X509_STORE *store)
{
#ifdef HAVE_X509_STORE_GET1_OBJECTS
	return X509_STORE_get1_objects(store);
#else
	return X509_STORE_get0_objects(store);
#endif
}

void
pgtls_ossl_store_objects_free(ObjectStack *objects)
{
#ifdef HAVE_X509_STORE_GET1_OBJECTS
	sk_X509_OBJECT_pop_free(objects, X509_OBJECT_free);
#endif
}

/*
 * Replace a CRL of a store, which is freed, by another.  False where OpenSSL
 * has no way.  Not while somebody else uses the store.
 */
bool
pgtls_ossl_store_replace_crl(X509_STORE *store, const X509_CRL *crl,
							 X509_CRL *by)
{
#ifdef HAVE_X509_STORE_GET0_OBJECTS
	ObjectStack *objects = X509_STORE_get0_objects(store);

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);

		if (X509_OBJECT_get0_X509_CRL(object) == crl)
			return X509_OBJECT_set1_X509_CRL(object, by);
	}
#endif
	return false;
}

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

#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "base/text.h"
#include "x509/certificate.h"
#include "x509/extension.h"
#include "x509/name.h"

/* Numbers of more bytes are not written in decimal digits. */
#define MAX_DECIMAL_BYTES	1024

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

/* Print bytes, and a hyphen before a negative number, as openssl does. */
static bool
print_serial_hex(BIO *out, X509 *cert)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	int			len = ASN1_STRING_length(serial);

	if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER &&
		BIO_puts(out, "-") <= 0)
		return false;
	if (len == 0)
		return BIO_puts(out, "00") > 0;
	return pgtls_text_print_digits(out, bytes, len, "0123456789abcdef");
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

static bool
print_subject(BIO *out, X509 *cert)
{
	return pgtls_name_print_slashes(out, X509_get_subject_name(cert));
}

static bool
print_issuer(BIO *out, X509 *cert)
{
	return pgtls_name_print_slashes(out, X509_get_issuer_name(cert));
}

static bool
print_subject_rfc2253(BIO *out, X509 *cert)
{
	return pgtls_name_print_rfc2253(out, X509_get_subject_name(cert), false);
}

static bool
print_subject_cn(BIO *out, X509 *cert)
{
	return pgtls_name_print_cn(out, X509_get_subject_name(cert));
}

static bool
print_issuer_rfc2253(BIO *out, X509 *cert)
{
	return pgtls_name_print_rfc2253(out, X509_get_issuer_name(cert), false);
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
		else if (pgtls_text_take(bio, parts[i].text) &&
				 *parts[i].text == NULL && parts[i].list != NID_undef &&
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
		{pgtls_extension_print_san, &info->san, NID_subject_alt_name},
		{pgtls_extension_print_eku, &info->eku, NID_ext_key_usage},
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

	if (X509_NAME_cmp(X509_get_subject_name(cert),
					  X509_get_issuer_name(cert)) != 0)
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
		{pgtls_extension_print_key_usage, &details->key_usage, NID_key_usage},
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

/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  Remembers which CRLs have a good signature.
 *
 * OpenSSL verifies the signature of a CRL each time that it consults it, which
 * for a large one is most of what a connection costs.  With
 * pg_tls.crl_signature_cache, the CRLs that the server loads get an
 * X509_CRL_METHOD of ours.  After a load that has succeeded, the postmaster
 * verifies each CRL once with the keys of its issuer that were
 * loaded, and keeps the key that has signed it.  Connections inherit that, and
 * compare keys.  For any other key the signature is verified as ever.
 *
 * What is remembered belongs to the X509_CRL, is reached through nothing else,
 * and goes with it: another CRL, though it be at the same address, has none.
 *
 * A method also has to look entries up, by OpenSSL's rules (def_crl_lookup() in
 * its x_crl.c).  For a CRL in which no entry names an issuer of its own, these
 * are: the serial number is listed, the issuer is the CRL's, and the reason is
 * not removeFromCRL.  A CRL in which some entry does has a twin with OpenSSL's
 * own method, which is asked instead.
 *
 * The method is OpenSSL's default only while the postmaster loads its files:
 * dry runs, files in ssl_crl_dir and CRLs that come as arguments have nothing
 * of this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/x509v3.h>

#include "x509/nameindex.h"
#include "x509/signature.h"

/* Of more CAs of one name, the others are asked by the connections. */
#define MAX_SIGNERS	16

/* What belongs to a CRL. */
typedef struct CrlData
{
	EVP_PKEY   *signer;			/* whose signature is good, or NULL */
	X509_CRL   *twin;			/* with OpenSSL's own method, or NULL */
} CrlData;

static X509_CRL_METHOD *method = NULL;

/* Whether an entry of a CRL is for a certificate of another issuer. */
static bool
has_other_issuers(X509_CRL *crl)
{
	RevokedStack *entries = X509_CRL_get_REVOKED(crl);

	for (int i = 0; i < sk_X509_REVOKED_num(entries); i++)
	{
		const X509_REVOKED *entry = sk_X509_REVOKED_value(entries, i);

		if (X509_REVOKED_get_ext_count(entry) > 0 &&
			X509_REVOKED_get_ext_by_NID(entry, NID_certificate_issuer, -1) >= 0)
			return true;
	}
	return false;
}

static void
free_data(CrlData *data)
{
	if (data == NULL)
		return;
	EVP_PKEY_free(data->signer);
	X509_CRL_free(data->twin);
	OPENSSL_free(data);
}

/* A CRL was read.  If this fails, so does the load, and nothing has changed. */
static int
crl_init(X509_CRL *crl)
{
	CrlData    *data = OPENSSL_zalloc(sizeof(CrlData));

	if (data == NULL)
		return 0;
	if (has_other_issuers(crl))
	{
		X509_CRL_set_default_method(NULL);
		data->twin = X509_CRL_dup(crl);
		X509_CRL_set_default_method(method);
		if (data->twin == NULL)
		{
			free_data(data);
			return 0;
		}
	}
	X509_CRL_set_meth_data(crl, data);
	return 1;
}

static int
crl_free(X509_CRL *crl)
{
	free_data(X509_CRL_get_meth_data(crl));
	X509_CRL_set_meth_data(crl, NULL);
	return 1;
}

/* Ask a CRL with OpenSSL's own method. */
static int
lookup_in_twin(X509_CRL *twin, X509_REVOKED **revoked,
			   PGTLS_CRL_METHOD_CONST ASN1_INTEGER *serial,
			   PGTLS_CRL_METHOD_CONST X509_NAME *issuer)
{
	X509	   *cert;
	int			result;

	if (issuer == NULL)
		return X509_CRL_get0_by_serial(twin, revoked, serial);

	/* it takes both from a certificate */
	cert = X509_new();
	if (cert == NULL ||
		!X509_set_serialNumber(cert, (ASN1_INTEGER *) serial) ||
		!X509_set_issuer_name(cert, (X509_NAME *) issuer))
		result = 1;				/* no memory: let nobody in */
	else
		result = X509_CRL_get0_by_cert(twin, revoked, cert);
	X509_free(cert);
	return result;
}

static bool
is_removed(const X509_REVOKED *entry)
{
	ASN1_ENUMERATED *reason =
		X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
	bool		result = reason != NULL &&
		ASN1_ENUMERATED_get(reason) == CRL_REASON_REMOVE_FROM_CRL;

	ASN1_ENUMERATED_free(reason);
	return result;
}

/* In the order in which OpenSSL sorts entries. */
static int
compare_serial(RevokedStack *entries, int index,
			   const ASN1_INTEGER *serial)
{
	const X509_REVOKED *entry = sk_X509_REVOKED_value(entries, index);

	return ASN1_STRING_cmp(X509_REVOKED_get0_serialNumber(entry), serial);
}

/*
 * The first of the sorted entries with a serial number, -1 if there is none: as
 * sk_X509_REVOKED_find(), which takes an entry to compare with, that is memory.
 */
static int
find_serial(RevokedStack *entries, const ASN1_INTEGER *serial)
{
	int			low = 0;
	int			high = sk_X509_REVOKED_num(entries);

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (compare_serial(entries, middle, serial) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sk_X509_REVOKED_num(entries) &&
		compare_serial(entries, low, serial) == 0 ?
		low :
		-1;
}

/*
 * Look a serial number up, of a certificate of an issuer, NULL for any.
 * Returns 0 if it is not revoked, 1 if it is, 2 for removeFromCRL.
 */
static int
crl_lookup(X509_CRL *crl, X509_REVOKED **revoked,
		   PGTLS_CRL_METHOD_CONST ASN1_INTEGER *serial,
		   PGTLS_CRL_METHOD_CONST X509_NAME *issuer)
{
	const CrlData *data = X509_CRL_get_meth_data(crl);
	RevokedStack *entries = X509_CRL_get_REVOKED(crl);
	X509_REVOKED *entry;
	int			index;

	if (data == NULL)
		return 1;				/* cannot be: let nobody in */
	if (data->twin != NULL)
		return lookup_in_twin(data->twin, revoked, serial, issuer);
	if (entries == NULL)
		return 0;

	if (!sk_X509_REVOKED_is_sorted(entries))
		sk_X509_REVOKED_sort(entries);
	index = find_serial(entries, serial);
	if (index < 0 || (issuer != NULL &&
					  X509_NAME_cmp(issuer, X509_CRL_get_issuer(crl)) != 0))
		return 0;

	entry = sk_X509_REVOKED_value(entries, index);
	if (revoked != NULL)
		*revoked = entry;
	return is_removed(entry) ? 2 : 1;
}

/*
 * Verify the signature of a CRL, as OpenSSL's own method does: what is signed,
 * as it was read, by the algorithm that stands beside the signature.
 */
static int
verify_signature(X509_CRL *crl, EVP_PKEY *key)
{
	const ASN1_BIT_STRING *signature;
	const X509_ALGOR *algorithm;
	unsigned char *der = NULL;
	const unsigned char *p;
	const unsigned char *tbs;
	int			der_len = i2d_X509_CRL(crl, &der);
	long		len;
	int			tag;
	int			class;
	ASN1_TYPE  *type = NULL;
	ASN1_STRING *string = NULL;
	int			result = 0;

	if (der_len <= 0)
		return 0;
	p = der;
	if (ASN1_get_object(&p, &len, &tag, &class, der_len) & 0x80)
		goto done;
	tbs = p;
	if (ASN1_get_object(&p, &len, &tag, &class, len) & 0x80)
		goto done;
	type = ASN1_TYPE_new();
	string = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
	if (type == NULL || string == NULL ||
		!ASN1_STRING_set(string, tbs, p + len - tbs))
		goto done;
	OPENSSL_free(der);
	der = NULL;
	ASN1_TYPE_set(type, V_ASN1_SEQUENCE, string);
	string = NULL;

	X509_CRL_get0_signature(crl, &signature, &algorithm);
	result = ASN1_item_verify(ASN1_ITEM_rptr(ASN1_ANY),
							  unconstify(X509_ALGOR *, algorithm),
							  unconstify(ASN1_BIT_STRING *, signature), type,
							  key);

done:
	ASN1_STRING_free(string);
	ASN1_TYPE_free(type);
	OPENSSL_free(der);
	return result;
}

/*
 * Whether what one key has signed is signed for the other, too.  OpenSSL does
 * not compare to which hashes an RSA-PSS key is bound.
 */
static bool
is_same_signer(EVP_PKEY *a, EVP_PKEY *b)
{
	return a == b ||
		(EVP_PKEY_base_id(a) != EVP_PKEY_RSA_PSS && pgtls_ossl_same_key(a, b));
}

static int
crl_verify(X509_CRL *crl, EVP_PKEY *key)
{
	const CrlData *data = X509_CRL_get_meth_data(crl);

	if (data == NULL || key == NULL)
		return 0;
	if (data->signer != NULL && is_same_signer(data->signer, key))
		return 1;
	return data->twin != NULL ? X509_CRL_verify(data->twin, key) :
		verify_signature(crl, key);
}

/* Have the CRLs that are read now use our method. */
void
pgtls_signature_begin(void)
{
	if (method == NULL)
		method =
			X509_CRL_METHOD_new(crl_init, crl_free, crl_lookup, crl_verify);
	if (method != NULL)
		X509_CRL_set_default_method(method);
}

/* Whatever is read from now on is as ever. */
void
pgtls_signature_end(void)
{
	if (method != NULL)
		X509_CRL_set_default_method(NULL);
}

/* Look for the one that has signed a CRL among those of its issuer's name. */
static bool
find_signer(X509_CRL *crl, CrlData *data, const NameIndex *cas)
{
	const NamedObject *named;
	int			n = pgtls_nameindex_find(cas, X509_CRL_get_issuer(crl), &named);

	for (int i = 0; i < Min(n, MAX_SIGNERS); i++)
	{
		EVP_PKEY   *key = X509_get0_pubkey(named[i].cert);

		/* one of the load before (server/prepare.c) was verified then */
		if (key == NULL || crl_verify(crl, key) != 1 || !EVP_PKEY_up_ref(key))
			continue;
		EVP_PKEY_free(data->signer);
		data->signer = key;
		return true;
	}
	return false;
}

/*
 * Verify the CRLs of a store that have our method.  Returns how many signatures
 * are good.
 */
int
pgtls_signature_verify(X509_STORE *store)
{
	ObjectStack *objects;
	NameIndex	cas;
	int			good = 0;

	if (method == NULL || store == NULL ||
		(objects = pgtls_ossl_store_objects(store)) == NULL)
		return 0;
	(void) pgtls_nameindex_make(&cas, objects, INDEX_CERTIFICATES);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_CRL   *crl =
			X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
		CrlData    *data = crl != NULL ? X509_CRL_get_meth_data(crl) : NULL;

		if (data != NULL && find_signer(crl, data, &cas))
			good++;
	}
	pgtls_nameindex_free(&cas);
	pgtls_ossl_store_objects_free(objects);
	ERR_clear_error();
	return good;
}

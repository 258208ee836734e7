/*-------------------------------------------------------------------------
 *
 * advice.c
 *	  What the server loads without a word, and clients or auditors mind.
 *
 * Looks at a TLS configuration in the memory of this process: the one that
 * it inherited from the postmaster, or that of a dry run.  Nothing that the
 * server's own loader checks is checked again.
 *
 * Runs in workers.  Memory of OpenSSL's is not freed in case of an error,
 * since the process ends then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/x509v3.h>

#include "libpq/libpq.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/lookup.h"
#include "base/worker.h"
#include "rehearsal/advice.h"
#include "server/crldir.h"
#include "server/load.h"
#include "server/prepare.h"
#include "x509/certificate.h"
#include "x509/crl.h"
#include "x509/name.h"
#include "x509/verify.h"

/* Longer chains are not followed: there may be circles. */
#define MAX_CHAIN	20

int			pgtls_expiry_warning;

void
pgtls_advice_define_settings(void)
{
	DefineCustomIntVariable("pg_tls.expiry_warning",
							"Sets how long before its end a certificate or CRL is warned of.",
							"A CRL is warned of in the last third of its life at the earliest.",
							&pgtls_expiry_warning,
							30 * MINS_PER_HOUR * HOURS_PER_DAY,
							0,
							INT_MAX / SECS_PER_MINUTE,
							PGC_SIGHUP,
							GUC_UNIT_MIN,
							NULL, NULL, NULL);
}

/* A name for messages; valid UTF-8 without control characters. */
char *
pgtls_advice_name(const X509_NAME *name)
{
	char	   *printed = pgtls_name_text(name);
	char	   *result = pstrdup(printed != NULL && printed[0] != '\0' ?
								 printed :
								 "(empty name)");

	OPENSSL_free(printed);
	return result;
}

/*
 * Where something stands at a moment.  "until" is the end that it states, which
 * may be PGTLS_NO_TIME, since a CRL need not have one.
 */
Validity
pgtls_advice_validity(TimestampTz from, TimestampTz until, TimestampTz now,
					  bool is_crl)
{
	TimestampTz notice = (TimestampTz) pgtls_expiry_warning * USECS_PER_MINUTE;

	if (until == PGTLS_NO_TIME)
		until = DT_NOEND;
	if (is_crl && until != DT_NOEND && from != PGTLS_NO_TIME)
		notice = Min(notice, (until - from) / 3);
	if (pgtls_ossl_past(until) <= now)
		return ENDED;
	if (from > now)
		return NOT_YET;
	return until - now < notice ? ENDS_SOON : VALID;
}

static List *
advise(List *list, FindingCode code, const void *about, const char *object,
	   char *sentence)
{
	Advice	   *advice = palloc(sizeof(Advice));

	advice->code = code;
	advice->about = about;
	advice->object = pstrdup(object);
	advice->text = sentence;
	return lappend(list, advice);
}

/* The codes of what is valid from and until given moments. */
typedef struct ValidityCodes
{
	FindingCode expiring;
	FindingCode expired;
	FindingCode not_yet_valid;
} ValidityCodes;

#define VALIDITY_CODES(prefix) \
	{prefix##_EXPIRING, prefix##_EXPIRED, prefix##_NOT_YET_VALID}

static const ValidityCodes server_certificate_codes =
VALIDITY_CODES(FINDING_SERVER_CERTIFICATE);
static const ValidityCodes server_chain_codes =
VALIDITY_CODES(FINDING_SERVER_CHAIN);
static const ValidityCodes ca_codes = VALIDITY_CODES(FINDING_CA);
static const ValidityCodes crl_codes = VALIDITY_CODES(FINDING_CRL);

/*
 * Look at a validity.  "what" is a noun phrase, "consequence" completes the
 * sentence for an end.
 */
static List *
advise_on_validity(List *list, const ValidityCodes *codes, const void *about,
				   const char *object, const char *what, TimestampTz from,
				   TimestampTz until, TimestampTz now, bool is_crl,
				   const char *consequence)
{
	switch (pgtls_advice_validity(from, until, now, is_crl))
	{
		case VALID:
			break;
		case ENDS_SOON:
			list = advise(list, codes->expiring, about, object,
						  psprintf("%s ends at %s", what,
								   timestamptz_to_str(until)));
			break;
		case ENDED:
			list = advise(list, codes->expired, about, object,
						  psprintf("%s ended at %s: %s", what,
								   timestamptz_to_str(until), consequence));
			break;
		case NOT_YET:
			list = advise(list, codes->not_yet_valid, about, object,
						  psprintf("%s is not valid before %s: %s", what,
								   timestamptz_to_str(from), consequence));
			break;
	}
	return list;
}

static List *
advise_on_end(List *list, const ValidityCodes *codes, const char *what,
			  X509 *cert, TimestampTz now, const char *consequence)
{
	char	   *name = pgtls_advice_name(X509_get_subject_name(cert));

	return advise_on_validity(list, codes, cert, name,
							  psprintf("%s \"%s\"", what, name),
							  pgtls_ossl_time(X509_get0_notBefore(cert)),
							  pgtls_ossl_time(X509_get0_notAfter(cert)), now,
							  false, consequence);
}

/* Make it possible to find CAs by their subjects, and CRLs by their issuers. */
static void
index_names(ObjectStack *objects, Lookup **cas, Lookup **crls)
{
	*cas = pgtls_lookup_create(sizeof(uint32));
	*crls = pgtls_lookup_create(sizeof(uint32));
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		X509	   *ca = X509_OBJECT_get0_X509(object);
		X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(object);
		uint32		key;

		if (ca != NULL)
		{
			key = pgtls_lookup_name_key(X509_get_subject_name(ca));
			pgtls_lookup_add(*cas, &key, ca);
		}
		else if (crl != NULL)
		{
			key = pgtls_lookup_name_key(X509_CRL_get_issuer(crl));
			pgtls_lookup_add(*crls, &key, crl);
		}
	}
}

/* A certificate of the store that has issued another, NULL if there is none. */
static X509 *
find_issuer(const Lookup *cas, X509 *cert)
{
	uint32		key = pgtls_lookup_name_key(X509_get_issuer_name(cert));
	ListCell   *lc;

	foreach(lc, pgtls_lookup_find(cas, &key))
	{
		if (X509_check_issued(lfirst(lc), cert) == X509_V_OK)
			return lfirst(lc);
	}
	return NULL;
}

/* Whether the store has the same certificate. */
static bool
is_ca(const Lookup *cas, X509 *cert)
{
	uint32		key = pgtls_lookup_name_key(X509_get_subject_name(cert));
	ListCell   *lc;

	foreach(lc, pgtls_lookup_find(cas, &key))
	{
		if (X509_cmp(lfirst(lc), cert) == 0)
			return true;
	}
	return false;
}

/*
 * The certificates that the server sends.  "complete": what the file lacks
 * was added to the chain already.
 */
static List *
advise_on_server_chain(List *list, SSL_CTX *context, const Lookup *cas,
					   TimestampTz now, bool complete)
{
	X509	   *cert = SSL_CTX_get0_certificate(context);
	X509Stack  *chain = NULL;
	int			n;

	if (cert == NULL)
		return list;
	list = advise_on_end(list, &server_certificate_codes,
						 "server certificate", cert, now,
						 "clients that verify it cannot connect");
	if (X509_check_purpose(cert, X509_PURPOSE_SSL_SERVER, 0) != 1)
	{
		char	   *name = pgtls_advice_name(X509_get_subject_name(cert));

		list = advise(list, FINDING_SERVER_CERTIFICATE_PURPOSE, cert, name,
					  psprintf("server certificate \"%s\" is not meant for servers: clients that verify it cannot connect",
							   name));
	}

	SSL_CTX_get0_chain_certs(context, &chain);
	n = chain != NULL && !complete ? sk_X509_num(chain) : 0;
	for (int i = 0; i < n; i++)
	{
		X509	   *issuer = sk_X509_value(chain, i);

		if (X509_check_issued(issuer, cert) != X509_V_OK)
			return advise(list, FINDING_SERVER_CHAIN_DISORDERED, issuer,
						  "ssl_cert_file",
						  psprintf("certificate %d in \"%s\" is not the issuer of the one before it",
								   i + 2, ssl_cert_file));
		list = advise_on_end(list, &server_chain_codes,
							 "intermediate certificate", issuer, now,
							 "clients that verify the server cannot connect");
		cert = issuer;
	}

	/*
	 * The root may be left out, as clients have it.  Whether the issuer that
	 * is left out is a root is known where it is in ssl_ca_file.  A file with
	 * one certificate is completed from there by OpenSSL.
	 */
	if (n > 0 && !pgtls_certificate_self_signed(cert))
	{
		X509	   *issuer = find_issuer(cas, cert);

		if (issuer != NULL && !pgtls_certificate_self_signed(issuer))
		{
			char	   *name = pgtls_advice_name(X509_get_subject_name(issuer));

			list = advise(list, FINDING_SERVER_CHAIN_INCOMPLETE, cert,
						  "ssl_cert_file",
						  psprintf("the chain in \"%s\" is not complete: it lacks \"%s\", which is no root",
								   ssl_cert_file, name));
		}
	}
	return list;
}

/* "crl_dir" is NULL where no CRLs are used, and empty for none. */
static List *
advise_on_ca(List *list, X509 *ca, const Lookup *crls, const char *crl_dir,
			 TimestampTz now)
{
	uint32		key = pgtls_lookup_name_key(X509_get_subject_name(ca));
	ListCell   *lc;
	char	   *name;

	list = advise_on_end(list, &ca_codes, "CA certificate", ca, now,
						 "clients with certificates of this CA cannot connect");
	if (crl_dir == NULL)
		return list;
	foreach(lc, pgtls_lookup_find(crls, &key))
	{
		if (pgtls_crl_is_of(lfirst(lc), ca))
			return list;
	}
	if (crl_dir[0] != '\0' &&
		pgtls_crldir_has_crl(crl_dir, ca, pgtls_lookup_find(crls, &key)))
		return list;
	name = pgtls_advice_name(X509_get_subject_name(ca));
	return advise(list, FINDING_CA_WITHOUT_CRL, ca, name,
				  psprintf("CRLs are configured, but none of CA \"%s\": clients with certificates of this CA cannot connect",
						   name));
}

static List *
advise_on_crl(List *list, X509_CRL *crl, TimestampTz now)
{
	char	   *issuer = pgtls_advice_name(X509_CRL_get_issuer(crl));

	list = advise_on_validity(list, &crl_codes, crl, issuer,
							  psprintf("CRL of \"%s\"", issuer),
							  pgtls_ossl_time(X509_CRL_get0_lastUpdate(crl)),
							  pgtls_ossl_time(X509_CRL_get0_nextUpdate(crl)),
							  now, true,
							  "clients with certificates of this CA cannot connect");
	if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
		list = advise(list, FINDING_CRL_DELTA, crl, issuer,
					  psprintf("CRL of \"%s\" is a delta CRL, which the server does not support",
							   issuer));
	return list;
}

/* What is wrong with a CRL by itself: a List of Advice *. */
List *
pgtls_advice_on_crl(X509_CRL *crl)
{
	return advise_on_crl(NIL, crl, GetCurrentTimestamp());
}

/*
 * What keeps clients out, or soon will: a List of Advice *.  "complete" if the
 * chain that the server sends was completed after the load (server/prepare.c);
 * "crl_dir" is the ssl_crl_dir of that configuration, empty for none.
 */
List *
pgtls_advice_on_loaded(SSL_CTX *context, bool complete, const char *crl_dir)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	ObjectStack *objects = pgtls_ossl_store_objects(store);
	TimestampTz now = GetCurrentTimestamp();
	Lookup	   *cas;
	Lookup	   *crls;
	List	   *list = NIL;

	if (objects == NULL)
		return NIL;
	index_names(objects, &cas, &crls);
	list = advise_on_server_chain(list, context, cas, now, complete);

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		X509	   *ca = X509_OBJECT_get0_X509(object);
		X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(object);

		pgtls_worker_check();
		if (ca != NULL)
			list =
				advise_on_ca(list, ca, crls,
							 pgtls_verify_checks_crls(store) ? crl_dir : NULL,
							 now);
		else if (crl != NULL)
			list = advise_on_crl(list, crl, now);
	}
	pgtls_ossl_store_objects_free(objects);
	ERR_clear_error();
	return list;
}

/* ----------------------------------------------------------------
 *		What is weak
 * ----------------------------------------------------------------
 */

/*
 * NIST SP 800-57 part 1: 112 bits of security, which are 2048 of RSA, 224 of a
 * curve, and SHA-224.  Self-signed signatures prove nothing and count for
 * nothing.
 */
static List *
advise_on_key(List *list, X509 *cert, const char *what)
{
	EVP_PKEY   *key = X509_get0_pubkey(cert);
	char	   *name = pgtls_advice_name(X509_get_subject_name(cert));
	int			digest = NID_undef;

	if (key != NULL && EVP_PKEY_security_bits(key) > 0 &&
		EVP_PKEY_security_bits(key) < 112)
	{
		BIO		   *bio = BIO_new(BIO_s_mem());
		char	   *data = NULL;
		long		len = 0;

		if (bio != NULL && pgtls_ossl_key_name(cert, bio))
			len = BIO_get_mem_data(bio, &data);
		list = advise(list, FINDING_WEAK_KEY, cert, name,
					  psprintf("%s \"%s\" has a weak key, %.*s", what, name,
							   (int) len, data));
		BIO_free(bio);
	}
	if (!pgtls_certificate_self_signed(cert) &&
		OBJ_find_sigid_algs(X509_get_signature_nid(cert), &digest, NULL) &&
		(digest == NID_sha1 || digest == NID_md5 || digest == NID_md4 ||
		 digest == NID_md2))
		list = advise(list, FINDING_WEAK_SIGNATURE, cert, name,
					  psprintf("%s \"%s\" is signed by means of %s", what, name,
							   OBJ_nid2ln(digest)));
	return list;
}

/* Whether an alternative name is one that clients can compare a host with. */
static bool
has_host_name(X509 *cert)
{
	GENERAL_NAMES *names;
	bool		result = false;

	pgtls_ossl_watch_memory();
	names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	if (names == NULL)
		(void) pgtls_error_reason();
	for (int i = 0; !result && i < sk_GENERAL_NAME_num(names); i++)
	{
		int			type = sk_GENERAL_NAME_value(names, i)->type;

		result = type == GEN_DNS || type == GEN_IPADD;
	}
	GENERAL_NAMES_free(names);
	return result;
}

/*
 * A certificate alone in its file, of which OpenSSL finds no root: perhaps
 * clients have its issuer, and perhaps the intermediate ones were forgotten.
 */
static List *
advise_on_lone_certificate(List *list, X509 *cert, const Lookup *cas)
{
	X509	   *last = cert;

	for (int i = 0; i < MAX_CHAIN; i++)
	{
		X509	   *issuer = find_issuer(cas, last);

		if (pgtls_certificate_self_signed(last))
			return list;
		if (issuer == NULL)
		{
			char	   *name = pgtls_advice_name(X509_get_issuer_name(last));

			return advise(list, FINDING_SERVER_CHAIN_ALONE, cert,
						  "ssl_cert_file",
						  psprintf("\"%s\" holds one certificate, and its issuer \"%s\" is not in \"ssl_ca_file\" either: clients that do not have it cannot verify the server",
								   ssl_cert_file, name));
		}
		last = issuer;
	}
	return list;
}

/*
 * What keeps nobody out, or perhaps somebody, and should be better: a List of
 * Advice *.  "complete" as above.
 */
List *
pgtls_advice_on_strength(SSL_CTX *context, bool complete)
{
	X509	   *cert = SSL_CTX_get0_certificate(context);
	X509Stack  *chain = NULL;
	ObjectStack *objects =
		pgtls_ossl_store_objects(SSL_CTX_get_cert_store(context));
	Lookup	   *cas;
	Lookup	   *crls;
	List	   *list = NIL;

	if (objects == NULL)
		return NIL;
	index_names(objects, &cas, &crls);
	if (cert != NULL)
	{
		char	   *name = pgtls_advice_name(X509_get_subject_name(cert));

		list = advise_on_key(list, cert, "server certificate");
		if (pgtls_certificate_self_signed(cert))
			list = advise(list, FINDING_SERVER_CERTIFICATE_SELF_SIGNED, cert,
						  name,
						  psprintf("server certificate \"%s\" is self-signed",
								   name));
		if (!has_host_name(cert))
			list = advise(list, FINDING_SERVER_CERTIFICATE_NO_SAN, cert, name,
						  psprintf("server certificate \"%s\" has no DNS name or IP address in its subject alternative names",
								   name));
		SSL_CTX_get0_chain_certs(context, &chain);
		if (complete || chain == NULL || sk_X509_num(chain) == 0)
			list = advise_on_lone_certificate(list, cert, cas);
		for (int i = 0; chain != NULL && i < sk_X509_num(chain); i++)
		{
			X509	   *issuer = sk_X509_value(chain, i);

			if (!is_ca(cas, issuer))
				list = advise_on_key(list, issuer, "intermediate certificate");
		}
	}
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509	   *ca =
			X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (ca != NULL)
			list = advise_on_key(list, ca, "CA certificate");
	}
	pgtls_ossl_store_objects_free(objects);
	ERR_clear_error();
	return list;
}


/* ----------------------------------------------------------------
 *		On what this process inherited
 * ----------------------------------------------------------------
 */

/* What keeps clients out, or soon will, but for the CRLs in ssl_crl_dir. */
List *
pgtls_advice_on_inspection(const Inspection *in)
{
	return in->context != NULL ?
		pgtls_advice_on_loaded(in->context, pgtls_prepare_built_chain(),
							   pgtls_load_crl_dir()) : NIL;
}

/* The same with them. */
List *
pgtls_advice_on_all(const Inspection *in)
{
	List	   *advice = pgtls_advice_on_inspection(in);
	ListCell   *lc;

	foreach(lc, pgtls_inspect_crls_on_demand(in))
	{
		FileItem   *item = lfirst(lc);

		advice = list_concat(advice, pgtls_advice_on_crl(item->crl));
	}
	return advice;
}

/* What is weak. */
List *
pgtls_advice_on_inherited_strength(const Inspection *in)
{
	return in->context != NULL ?
		pgtls_advice_on_strength(in->context,
								 pgtls_prepare_built_chain()) :
		NIL;
}

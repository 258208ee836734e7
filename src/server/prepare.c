/*-------------------------------------------------------------------------
 *
 * prepare.c
 *	  Work on a loaded TLS configuration that connections need not repeat.
 *
 * OpenSSL leaves two things for the first time that they are needed.  In a
 * server that forks, that is in each connection, and each does them for
 * itself:
 *
 *	- A CRL's entries are sorted at the first look-up in it.  A large CRL
 *	  that is the same as one before the load is not sorted again: that one
 *	  takes its place, where OpenSSL lets it.
 *	- Where ssl_cert_file has one certificate and no chain, the chain that goes
 *	  to the client is built at each handshake, from ssl_ca_file, and in doing
 *	  so verified, with all CRL checks, although nothing depends on the outcome.
 *
 * Done once in the postmaster, children inherit the result.  Neither changes
 * what the server sends or whom it lets in.
 *
 * A large CRL also makes each fork and exit slow, TLS or not: a million
 * entries take a quarter of a gigabyte in small pages, of which each child
 * gets a page table.  In huge pages it is next to nothing.
 *
 * Runs in the postmaster, before the first fork after a load that has succeeded
 * (server/load.c); takes time in proportion to that load, and cannot fail: what
 * is not prepared is done by the connections, as without us.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "server/prepare.h"
#include "x509/crl.h"
#include "x509/nameindex.h"
#include "x509/signature.h"

/* A CRL of so many entries takes several huge pages. */
#define LARGE_CRL	50000

/* Longer chains are not followed: there may be circles. */
#define MAX_CHAIN	20

static bool prepare_context;	/* pg_tls.prepare_context */
static bool crl_signature_cache;	/* pg_tls.crl_signature_cache */

/*
 * The chain of the configuration that was prepared last is not from its file.
 */
static bool chain_is_built = false;

/* The trust store of that configuration, NULL for none. */
static X509_STORE *prepared_store = NULL;

/* The chain that was built last, and of what; also for the load after it. */
static struct
{
	X509	   *cert;
	X509Stack  *issuers;
	X509Stack  *chain;			/* NULL if memory ran out */
}			built;

typedef enum HugePagesSetting
{
	HUGE_PAGES_AUTO,
	HUGE_PAGES_NEVER
} HugePagesSetting;

static const struct config_enum_entry huge_pages_options[] = {
	{"auto", HUGE_PAGES_AUTO, false},
	{"off", HUGE_PAGES_NEVER, false},
	{NULL, 0, false}
};

static int	huge_pages_setting; /* pg_tls.huge_pages */

void
pgtls_prepare_define_settings(void)
{
	DefineCustomBoolVariable("pg_tls.prepare_context",
							 "Does work once after each load of the TLS files that each connection would do again.",
							 "Sorts the CRLs, gives large ones huge pages, and builds the chain of the server's certificate.",
							 &prepare_context,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomEnumVariable("pg_tls.huge_pages",
							 "Sets whether large CRLs in the postmaster's memory get transparent huge pages.",
							 "\"auto\" gives them some unless the system's own setting is \"never\".",
							 &huge_pages_setting,
							 HUGE_PAGES_AUTO,
							 huge_pages_options,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pg_tls.crl_signature_cache",
							 "Verifies the signatures of CRLs once for each load, instead of in each connection.",
							 NULL,
							 &crl_signature_cache,
							 false,
							 PGC_POSTMASTER,
							 0,
							 NULL, NULL, NULL);
}

/* A load begins. */
void
pgtls_prepare_load_begins(void)
{
	if (crl_signature_cache)
		pgtls_signature_begin();
}

/* A load is over, whatever came of it. */
void
pgtls_prepare_load_ends(void)
{
	if (crl_signature_cache)
		pgtls_signature_end();
}

/*
 * Whether the system lets programs have huge pages.  Asked anew each time, as
 * that may change while the server runs.
 */
static bool
are_huge_pages_allowed(void)
{
	char		setting[64];
	ssize_t		len = -1;
	int			fd = open("/sys/kernel/mm/transparent_hugepage/enabled",
						  O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
	{
		len = read(fd, setting, sizeof(setting) - 1);
		close(fd);
	}
	setting[Max(len, 0)] = '\0';
	return strstr(setting, "[always]") != NULL ||
		strstr(setting, "[madvise]") != NULL;
}

/*
 * Let the heap be of huge pages, where the kernel can do that (Linux 6.1) and
 * is allowed to.  It is all between the first allocation and the break.
 * Errors do not matter.
 */
static void
use_huge_pages(void)
{
#if defined(__linux__) && defined(__GLIBC__)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
	const uintptr_t huge_page = 2 * 1024 * 1024;
	uintptr_t	program = (uintptr_t) &MyProcPid;	/* whose data the heap
													 * follows */
	uintptr_t	first = (uintptr_t) TopMemoryContext;
	uintptr_t	end = (uintptr_t) sbrk(0);

	if (huge_pages_setting == HUGE_PAGES_NEVER || !are_huge_pages_allowed())
		return;
	if (first < program || first > end)
		return;					/* another allocator, or another layout */
	first = TYPEALIGN(huge_page, first);
	end = TYPEALIGN_DOWN(huge_page, end);
	if (first < end)
		(void) madvise((void *) first, end - first, MADV_COLLAPSE);
#endif
}

static bool
is_large(X509_CRL *crl)
{
	return sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)) >= LARGE_CRL;
}

/*
 * Sort a CRL's entries, by a look-up of any serial number.  What is in order
 * already takes OpenSSL half as long.
 */
static void
sort_entries(X509_CRL *crl, ASN1_INTEGER *serial)
{
	X509_REVOKED *revoked;

	if (is_large(crl) && !sk_X509_REVOKED_is_sorted(X509_CRL_get_REVOKED(crl)))
		pgtls_crl_order(crl, CRL_BY_SERIAL);
	(void) X509_CRL_get0_by_serial(crl, &revoked, serial);
}

/* Whether two encodings are the same; frees them. */
static bool
is_same_der(unsigned char *a, int a_len, unsigned char *b, int b_len)
{
	bool		same = a_len > 0 && a_len == b_len && memcmp(a, b, a_len) == 0;

	OPENSSL_free(a);
	OPENSSL_free(b);
	return same;
}

static bool
is_same_crl(X509_CRL *a, X509_CRL *b)
{
	unsigned char *a_der = NULL;
	unsigned char *b_der = NULL;
	int			a_len;
	int			b_len;

	if (X509_CRL_match(a, b) != 0)
		return false;			/* by their hashes */
	a_len = i2d_X509_CRL(a, &a_der);
	b_len = i2d_X509_CRL(b, &b_der);
	return is_same_der(a_der, a_len, b_der, b_len);
}

static bool
is_same_cert(X509 *a, X509 *b)
{
	unsigned char *a_der = NULL;
	unsigned char *b_der = NULL;
	int			a_len = i2d_X509(a, &a_der);
	int			b_len = i2d_X509(b, &b_der);

	return is_same_der(a_der, a_len, b_der, b_len);
}

/* A CRL of an index that is the same, or NULL. */
static X509_CRL *
find_same_crl(const NameIndex *crls, X509_CRL *wanted)
{
	const NamedObject *named;
	int			n = pgtls_nameindex_find(crls, X509_CRL_get_issuer(wanted),
										 &named);

	for (int i = 0; i < n; i++)
	{
		if (is_same_crl(named[i].crl, wanted))
			return named[i].crl;
	}
	return NULL;
}

/*
 * Have the CRLs of a store sorted.  Where the last one prepared has the same,
 * the store gets that, and what was read is freed.
 */
static void
prepare_crls(X509_STORE *store)
{
	ObjectStack *objects = pgtls_ossl_store_objects(store);
	ObjectStack *last_objects = prepared_store != NULL ?
		pgtls_ossl_store_objects(prepared_store) : NULL;
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	NameIndex	last;
	bool		large = false;

	(void) pgtls_nameindex_make(&last, last_objects, INDEX_CRLS);
	for (int i = 0; serial != NULL && i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_CRL   *crl =
			X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
		X509_CRL   *same;

		if (crl == NULL)
			continue;
		if (is_large(crl) && (same = find_same_crl(&last, crl)) != NULL &&
			pgtls_ossl_store_replace_crl(store, crl, same))
			continue;
		sort_entries(crl, serial);
		if (is_large(crl))
			large = true;
	}
	ASN1_INTEGER_free(serial);
	pgtls_nameindex_free(&last);
	pgtls_ossl_store_objects_free(last_objects);
	pgtls_ossl_store_objects_free(objects);
	if (large)
		use_huge_pages();
}

static bool
has_crl(const NameIndex *crls, X509_CRL *crl)
{
	const NamedObject *named;
	int			n =
		pgtls_nameindex_find(crls, X509_CRL_get_issuer(crl), &named);

	for (int i = 0; i < n; i++)
	{
		if (named[i].crl == crl)
			return true;
	}
	return false;
}

/*
 * Forget the store that was prepared last, which may go with that.  To free a
 * million entries takes several times as long in the order of their serial
 * numbers as in the order in which they lie in memory; so those that the
 * successor (or NULL) does not have are put into that.
 */
static void
forget_prepared_store(X509_STORE *successor)
{
	ObjectStack *objects;
	ObjectStack *next_objects;
	NameIndex	next;

	if (prepared_store == NULL)
		return;
	objects = pgtls_ossl_store_objects(prepared_store);
	next_objects = successor != NULL ? pgtls_ossl_store_objects(successor) :
		NULL;

	/* without memory for that, nothing is put into another order */
	if (pgtls_nameindex_make(&next, next_objects, INDEX_CRLS))
	{
		for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
		{
			X509_CRL   *crl =
				X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

			if (crl != NULL && is_large(crl) && !has_crl(&next, crl))
				pgtls_crl_order(crl, CRL_BY_ADDRESS);
		}
	}
	pgtls_nameindex_free(&next);
	pgtls_ossl_store_objects_free(next_objects);
	pgtls_ossl_store_objects_free(objects);
	X509_STORE_free(prepared_store);
	prepared_store = NULL;
}

/*
 * What a store has to build the chain of a certificate of, from its issuer
 * on.  NULL if memory ran out, and where what is to come may not be what
 * OpenSSL finds in a handshake: where there is a choice between several of a
 * name, which the clock may change, and where one says what it is trusted
 * for, which copies do not.
 */
static X509Stack *
find_issuers(X509_STORE *store, X509 *cert)
{
	ObjectStack *objects = pgtls_ossl_store_objects(store);
	X509Stack  *issuers = sk_X509_new_null();
	NameIndex	cas;
	bool		ok = pgtls_nameindex_make(&cas, objects, INDEX_CERTIFICATES) &&
		objects != NULL && issuers != NULL && !X509_trusted(cert);

	for (int depth = 0; ok; depth++)
	{
		const NamedObject *named;
		int			n = pgtls_nameindex_find(&cas, X509_get_issuer_name(cert),
											 &named);
		X509	   *issuer = NULL;

		/* a root is its own issuer */
		for (int i = 0; ok && i < n; i++)
		{
			if (named[i].cert == cert)
				continue;
			ok = issuer == NULL;
			issuer = named[i].cert;
		}
		if (issuer == NULL)
			break;
		ok = ok && depth < MAX_CHAIN && !X509_trusted(issuer) &&
			sk_X509_push(issuers, issuer) > 0;
		if (ok)
			X509_up_ref(issuer);
		cert = issuer;
	}
	pgtls_nameindex_free(&cas);
	pgtls_ossl_store_objects_free(objects);
	if (ok)
		return issuers;
	sk_X509_pop_free(issuers, X509_free);
	return NULL;
}

static bool
add_copies(X509_STORE *store, X509Stack *certs)
{
	bool		ok = true;

	for (int i = 0; ok && i < sk_X509_num(certs); i++)
	{
		X509	   *copy = X509_dup(sk_X509_value(certs, i));

		ok = copy != NULL && X509_STORE_add_cert(store, copy);
		X509_free(copy);
	}
	return ok;
}

/* In the place of OpenSSL's verification of the signatures in a chain. */
static int
verify_nothing(X509_STORE_CTX *ctx)
{
	return 1;
}

/*
 * The chain of a certificate as OpenSSL finds it in a store that has these
 * issuers, without the certificate; NULL if memory ran out.
 *
 * OpenSSL verifies it, and ignores the outcome.  CRLs and signatures have no
 * influence on which chain is found, so they are left out.
 *
 * All of this is done to copies.  What OpenSSL finds out of a certificate it
 * keeps there, even that it could not find it out for lack of memory; from then
 * on the certificate is invalid, and nobody who needs it could connect.
 */
static X509Stack *
find_chain(X509_STORE *store, X509 *cert, X509Stack *issuers)
{
	X509	   *copy;
	X509_STORE *copies;
	X509_STORE_CTX *ctx;
	X509Stack  *chain = NULL;

	pgtls_ossl_watch_memory();
	copy = X509_dup(cert);
	copies = X509_STORE_new();
	ctx = X509_STORE_CTX_new();
	if (copies != NULL)
		X509_STORE_set_verify(copies, verify_nothing);
	if (copy != NULL && copies != NULL && ctx != NULL &&
		X509_STORE_set1_param(copies, X509_STORE_get0_param(store)) &&
		X509_VERIFY_PARAM_clear_flags(X509_STORE_get0_param(copies),
									  X509_V_FLAG_CRL_CHECK |
									  X509_V_FLAG_CRL_CHECK_ALL) &&
		add_copies(copies, issuers) &&
		X509_STORE_CTX_init(ctx, copies, copy, NULL))
	{
		(void) X509_verify_cert(ctx);
		chain = X509_STORE_CTX_get1_chain(ctx);
		if (chain != NULL)
			X509_free(sk_X509_shift(chain));
	}
	if (pgtls_ossl_out_of_memory())
	{
		sk_X509_pop_free(chain, X509_free);
		chain = NULL;
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(copies);
	X509_free(copy);
	return chain;
}

/*
 * Whether the chain that was built last is that of a certificate with these
 * issuers.
 */
static bool
is_chain_of(X509 *cert, X509Stack *issuers)
{
	bool		same = built.chain != NULL && is_same_cert(built.cert, cert) &&
		sk_X509_num(built.issuers) == sk_X509_num(issuers);

	for (int i = 0; same && i < sk_X509_num(issuers); i++)
		same = is_same_cert(sk_X509_value(built.issuers, i),
							sk_X509_value(issuers, i));
	return same;
}

static void
forget_chain(void)
{
	X509_free(built.cert);
	sk_X509_pop_free(built.issuers, X509_free);
	sk_X509_pop_free(built.chain, X509_free);
	memset(&built, 0, sizeof(built));
}

/*
 * Build the chain to send, where OpenSSL would do that in the handshake
 * (ssl_add_cert_chain() in its statem_lib.c).
 */
static void
build_chain(SSL_CTX *context, X509_STORE *store, bool has_crl_dir)
{
	X509	   *cert = SSL_CTX_get0_certificate(context);
	X509Stack  *chain = NULL;
	X509Stack  *issuers;

	if (cert == NULL ||
		(SSL_CTX_get_mode(context) & SSL_MODE_NO_AUTO_CHAIN) != 0)
		return;
	(void) SSL_CTX_get0_chain_certs(context, &chain);
	if (chain == NULL)
		(void) SSL_CTX_get_extra_chain_certs_only(context, &chain);
	if (chain != NULL)
		return;

	/*
	 * What a look-up in a directory finds stays in the store, and would keep
	 * connections from seeing that the file has changed.
	 */
	if (has_crl_dir)
		return;

	issuers = find_issuers(store, cert);
	if (issuers == NULL)
		return;
	if (is_chain_of(cert, issuers))
		sk_X509_pop_free(issuers, X509_free);
	else
	{
		forget_chain();
		X509_up_ref(cert);
		built.cert = cert;
		built.issuers = issuers;
		built.chain = find_chain(store, cert, issuers);
	}
	if (built.chain != NULL)
		chain_is_built = SSL_CTX_set1_chain(context, built.chain);
}

/* TLS was turned off, or what is loaded is not for us to see. */
void
pgtls_prepare_forget(void)
{
	chain_is_built = false;
	forget_prepared_store(NULL);
	forget_chain();
}

/*
 * Prepare what was loaded, if pg_tls.prepare_context says so.  has_crl_dir:
 * with ssl_crl_dir.  Returns how many signatures of CRLs connections need not
 * verify.
 */
int
pgtls_prepare_context(SSL_CTX *context, bool has_crl_dir)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);

	chain_is_built = false;
	if (prepare_context && store != NULL)
	{
		prepare_crls(store);
		forget_prepared_store(store);
		if (X509_STORE_up_ref(store))
			prepared_store = store;
		build_chain(context, store, has_crl_dir);
		ERR_clear_error();
	}
	else
		forget_prepared_store(store);
	return crl_signature_cache ? pgtls_signature_verify(store) : 0;
}

/*
 * Whether the server's chain was built here: ssl_cert_file has the certificate
 * alone.  For the postmaster and its children.
 */
bool
pgtls_prepare_built_chain(void)
{
	return chain_is_built;
}

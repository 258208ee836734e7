/*-------------------------------------------------------------------------
 *
 * prepare.c
 *	  Work on a loaded TLS configuration that connections need not repeat.
 *
 * OpenSSL leaves two things for the first time that they are needed.  In a
 * server that forks, that is in each connection, and each does them for
 * itself:
 *
 *	- A CRL's entries are sorted at the first look-up in it.
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
 * Runs in the postmaster, at the end of a load that has succeeded; takes time
 * in proportion to that load, and cannot fail: what is not prepared is done
 * by the connections, as without us.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "prepare.h"

/* A CRL of so many entries takes several huge pages. */
#define LARGE_CRL	50000

/* Longer chains are not followed: there may be circles. */
#define MAX_CHAIN	20

static bool prepare_context;	/* pg_tls.prepare_context */

/* The chain of the configuration that was prepared last is not from its file. */
static bool chain_is_built = false;

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
}

/*
 * Let the heap be of huge pages, where the kernel can do that (Linux 6.1).  It
 * is all between the first allocation and the break.  Errors do not matter.
 */
static void
use_huge_pages(void)
{
#if defined(__linux__) && defined(__GLIBC__)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
	const uintptr_t huge_page = 2 * 1024 * 1024;
	uintptr_t	program = (uintptr_t) &MyProcPid;	/* whose data the heap follows */
	uintptr_t	first = (uintptr_t) TopMemoryContext;
	uintptr_t	end = (uintptr_t) sbrk(0);

	if (first < program || first > end)
		return;					/* another allocator, or another layout */
	first = TYPEALIGN(huge_page, first);
	end = TYPEALIGN_DOWN(huge_page, end);
	if (first < end)
		(void) madvise((void *) first, end - first, MADV_COLLAPSE);
#endif
}

/*
 * Look something up in each CRL of the store, which sorts it, and let large ones
 * lie in memory as they should.
 */
static void
prepare_crls(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = pgtls_ossl_store_objects(store);
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	bool		large = false;

	if (objects != NULL && serial != NULL)
	{
		for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
		{
			X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
			X509_REVOKED *revoked;

			if (crl == NULL)
				continue;
			(void) X509_CRL_get0_by_serial(crl, &revoked, serial);
			if (sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)) >= LARGE_CRL)
				large = true;
		}
	}
	ASN1_INTEGER_free(serial);
	if (objects != NULL)
		pgtls_ossl_store_objects_free(objects);
	if (large)
		use_huge_pages();
}

/*
 * Copy to another store what a chain can be built of, from a certificate on.
 * False where there is a choice between several of a name, which the clock may
 * change, and if memory ran out.
 */
static bool
copy_issuers(X509_STORE *from, X509_STORE *to, X509 *cert)
{
	STACK_OF(X509_OBJECT) *objects = pgtls_ossl_store_objects(from);
	X509	   *last = NULL;
	bool		ok = objects != NULL;

	for (int n = 0; ok && cert != last; n++)
	{
		const X509_NAME *name = X509_get_issuer_name(cert);
		X509	   *copy;

		last = cert;
		for (int i = 0; ok && i < sk_X509_OBJECT_num(objects); i++)
		{
			X509	   *issuer = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

			if (issuer == NULL || issuer == last ||
				X509_NAME_cmp(X509_get_subject_name(issuer), name) != 0)
				continue;
			ok = cert == last && n < MAX_CHAIN;
			cert = issuer;
		}
		if (!ok || cert == last)
			break;
		copy = X509_dup(cert);
		ok = copy != NULL && X509_STORE_add_cert(to, copy);
		X509_free(copy);
	}
	if (objects != NULL)
		pgtls_ossl_store_objects_free(objects);
	return ok;
}

/*
 * The chain of a certificate as OpenSSL finds it in a store, without the
 * certificate; NULL if there is a choice, or memory ran out.
 *
 * OpenSSL verifies it, and ignores the outcome.  The CRLs have no influence on
 * which chain is found, so they are left out.
 *
 * All of this is done to copies.  What OpenSSL finds out of a certificate it
 * keeps there, even that it could not find it out for lack of memory; from then
 * on the certificate is invalid, and nobody who needs it could connect.
 */
static STACK_OF(X509) *
find_chain(X509_STORE *store, X509 *cert)
{
	X509	   *copy;
	X509_STORE *issuers;
	X509_STORE_CTX *ctx;
	STACK_OF(X509) *chain = NULL;

	pgtls_ossl_watch_memory();
	copy = X509_dup(cert);
	issuers = X509_STORE_new();
	ctx = X509_STORE_CTX_new();
	if (copy != NULL && issuers != NULL && ctx != NULL &&
		X509_STORE_set1_param(issuers, X509_STORE_get0_param(store)) &&
		X509_VERIFY_PARAM_clear_flags(X509_STORE_get0_param(issuers),
									  X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) &&
		copy_issuers(store, issuers, cert) &&
		X509_STORE_CTX_init(ctx, issuers, copy, NULL))
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
	X509_STORE_free(issuers);
	X509_free(copy);
	return chain;
}

/*
 * Build the chain to send, where OpenSSL would do that in the handshake
 * (ssl_add_cert_chain() in its statem_lib.c).
 */
static void
build_chain(SSL_CTX *context, X509_STORE *store, bool has_crl_dir)
{
	X509	   *cert = SSL_CTX_get0_certificate(context);
	STACK_OF(X509) *chain = NULL;

	if (cert == NULL || (SSL_CTX_get_mode(context) & SSL_MODE_NO_AUTO_CHAIN) != 0)
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

	chain = find_chain(store, cert);
	if (chain != NULL && SSL_CTX_set0_chain(context, chain))
		chain_is_built = true;
	else
		sk_X509_pop_free(chain, X509_free);
}

/*
 * Prepare what was loaded, if pg_tls.prepare_context says so.  has_crl_dir:
 * with ssl_crl_dir.
 */
void
pgtls_prepare_context(SSL_CTX *context, bool has_crl_dir)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context);

	chain_is_built = false;
	if (!prepare_context || store == NULL)
		return;
	prepare_crls(store);
	build_chain(context, store, has_crl_dir);
	ERR_clear_error();
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

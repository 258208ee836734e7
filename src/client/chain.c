/*-------------------------------------------------------------------------
 *
 * chain.c
 *	  The certificates that connected clients sent, in shared memory.
 *
 * A session's verdict has to be reached again long after its handshake, in
 * another process, from what the client sent.  The arena keeps that for as
 * long as some session needs it: a fixed piece of shared memory
 * (pg_tls.chain_memory), in which each certificate stands once, however many
 * sessions sent it.  Thousands of pooled sessions share one certificate, and
 * all clients share their intermediates.
 *
 * The arena holds two kinds of objects, both found by the SHA-256 of their
 * contents and counted: certificates (DER), and chains (the numbers of the
 * certificates that one client sent).  A session holds a reference to its
 * chain, a chain holds references to its certificates.
 *
 * Contents lie in blocks of a fixed size, linked by number, so that nothing
 * fragments: as long as there are enough free blocks, an object fits.
 *
 * Written by backends as they log in and exit.  One LWLock protects it all:
 * exclusive to change anything, shared to read.  Nothing is held while
 * anything that can fail or wait is done.  The postmaster only initializes
 * it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "base/preload.h"
#include "client/chain.h"
#include "x509/certificate.h"

/* With its link, a block fills four cache lines. */
#define BLOCK_DATA		252

/* On average, an object is expected to fill this many blocks. */
#define BLOCKS_PER_OBJECT	3

#define NONE			(-1)

/*
 * Certificates kept for a session: its own, those that it was verified by, of
 * which libssl takes no more than 100, and so many others, of so many bytes.
 */
#define MAX_OTHERS			16
#define MAX_OTHERS_SIZE		(24 * 1024)
#define MAX_CERTIFICATES	128

/* Certificates looked at; the 100 kB that libssl takes hold no more. */
#define MAX_SENT			1024

typedef enum ObjectKind
{
	OBJECT_CERTIFICATE,
	OBJECT_CHAIN
} ObjectKind;

typedef struct Block
{
	int32		next;			/* next block of the object or free one */
	unsigned char data[BLOCK_DATA];
} Block;

typedef struct Object
{
	unsigned char sha256[PGTLS_SHA256_LEN];
	int32		kind;			/* an ObjectKind */
	int32		references;		/* 0: on the free list */
	int32		length;			/* bytes of contents */
	int32		first_block;
	int32		next;			/* next object in the bucket or free one */
} Object;

typedef struct Arena
{
	LWLock	   *lock;
	int32		nobjects;
	int32		nblocks;
	int32		nbuckets;
	int32		free_object;	/* heads of the free lists */
	int32		free_block;
	int32		blocks_free;
	uint64		refused;		/* chains that found no room */
	/* buckets, objects and blocks follow */
} Arena;

int			pgtls_chain_memory = 4096;

static Arena *arena = NULL;
static int32 *buckets;
static Object *objects;
static Block *blocks;


void
pgtls_chain_define_settings(void)
{
	DefineCustomIntVariable("pg_tls.chain_memory",
							"Sets the shared memory in which pg_tls keeps the certificates that connected clients sent.",
							"Certificates that several sessions sent are kept once. "
							"A session whose certificates find no room cannot be judged again after a reload.",
							&pgtls_chain_memory,
							4096,
							64,
							1024 * 1024,
							PGC_POSTMASTER,
							GUC_UNIT_KB,
							NULL, NULL, NULL);
}

static int32
object_count(void)
{
	Size		bytes = (Size) pgtls_chain_memory * 1024;

	return bytes / (sizeof(Object) + sizeof(int32) +
					BLOCKS_PER_OBJECT * sizeof(Block));
}

static Size
header_size(void)
{
	return CACHELINEALIGN(sizeof(Arena)) +
		CACHELINEALIGN(object_count() * sizeof(int32)) +
		CACHELINEALIGN(object_count() * sizeof(Object));
}

Size
pgtls_chain_shmem_size(void)
{
	return CACHELINEALIGN((Size) pgtls_chain_memory * 1024);
}

/*
 * Attach to the arena, and make it empty if it is new.  Runs in the
 * postmaster, at start and after a crash.
 */
void
pgtls_chain_shmem_init(void *area, bool found)
{
	int32		n = object_count();
	char	   *base = area;

	arena = (Arena *) base;
	buckets = (int32 *) (base + CACHELINEALIGN(sizeof(Arena)));
	objects = (Object *) ((char *) buckets + CACHELINEALIGN(n * sizeof(int32)));
	blocks = (Block *) (base + header_size());
	if (found)
		return;

	memset(arena, 0, sizeof(Arena));
	arena->lock = pgtls_preload_lock(PGTLS_LOCK_CHAIN);
	arena->nobjects = n;
	arena->nbuckets = n;
	arena->nblocks = (pgtls_chain_shmem_size() - header_size()) / sizeof(Block);
	arena->blocks_free = arena->nblocks;
	for (int32 i = 0; i < arena->nbuckets; i++)
		buckets[i] = NONE;
	for (int32 i = 0; i < arena->nobjects; i++)
	{
		objects[i].references = 0;
		objects[i].next = i + 1 < arena->nobjects ? i + 1 : NONE;
	}
	for (int32 i = 0; i < arena->nblocks; i++)
		blocks[i].next = i + 1 < arena->nblocks ? i + 1 : NONE;
}

static int32 *
bucket_of(const unsigned char *sha256)
{
	uint32		hash;

	memcpy(&hash, sha256, sizeof(hash));
	return &buckets[hash % arena->nbuckets];
}

/* Copy the contents of an object out of its blocks. */
static void
read_object(const Object *object, unsigned char *to)
{
	int32		left = object->length;

	for (int32 b = object->first_block; left > 0; b = blocks[b].next)
	{
		int32		n = Min(left, BLOCK_DATA);

		memcpy(to, blocks[b].data, n);
		to += n;
		left -= n;
	}
}

/*
 * Find or make an object, and count one more reference to it.  Returns its
 * number, or NONE for no room.  The caller holds the lock exclusively.
 */
static int32
intern(ObjectKind kind, const unsigned char *sha256,
	   const unsigned char *data, int32 length, bool *is_new)
{
	int32	   *bucket = bucket_of(sha256);
	int32		needed = (length + BLOCK_DATA - 1) / BLOCK_DATA;
	int32		number;
	int32	   *link;
	Object	   *object;

	*is_new = false;
	for (number = *bucket; number != NONE; number = objects[number].next)
	{
		object = &objects[number];
		if (object->kind == (int32) kind && object->length == length &&
			memcmp(object->sha256, sha256, PGTLS_SHA256_LEN) == 0)
		{
			object->references++;
			return number;
		}
	}

	number = arena->free_object;
	if (number == NONE || arena->blocks_free < needed)
		return NONE;
	object = &objects[number];
	arena->free_object = object->next;

	object->kind = kind;
	object->references = 1;
	object->length = length;
	memcpy(object->sha256, sha256, PGTLS_SHA256_LEN);
	object->next = *bucket;
	*bucket = number;

	link = &object->first_block;
	for (int32 left = length; left > 0; left -= BLOCK_DATA)
	{
		Block	   *block = &blocks[arena->free_block];

		*link = arena->free_block;
		arena->free_block = block->next;
		memcpy(block->data, data + (length - left), Min(left, BLOCK_DATA));
		link = &block->next;
	}
	*link = NONE;
	arena->blocks_free -= needed;
	*is_new = true;
	return number;
}

/* Give back one reference, and the object with the last one. */
static void
forget(int32 number)
{
	Object	   *object = &objects[number];
	int32	   *link = bucket_of(object->sha256);

	Assert(object->references > 0);
	if (--object->references > 0)
		return;

	while (*link != number)
		link = &objects[*link].next;
	*link = object->next;

	for (int32 b = object->first_block; b != NONE;)
	{
		int32		next = blocks[b].next;

		blocks[b].next = arena->free_block;
		arena->free_block = b;
		arena->blocks_free++;
		b = next;
	}
	object->first_block = NONE;
	object->next = arena->free_object;
	arena->free_object = number;
}

static bool
is_member(X509Stack *certs, X509 *cert)
{
	for (int i = 0; i < sk_X509_num(certs); i++)
	{
		if (X509_cmp(sk_X509_value(certs, i), cert) == 0)
			return true;
	}
	return false;
}

static bool
is_among(X509 *const *certs, int n, X509 *cert)
{
	for (int i = 0; i < n; i++)
	{
		if (X509_cmp(certs[i], cert) == 0)
			return true;
	}
	return false;
}

/*
 * Whether OpenSSL may take one certificate for the issuer of another, as it
 * builds a chain: by names and key identifiers.  What else may be wrong with
 * it, the key usage and the signature, OpenSSL finds once it has chosen.
 */
static bool
may_be_issuer(X509 *issuer, X509 *subject)
{
	int			error = X509_check_issued(issuer, subject);

	return error != X509_V_ERR_SUBJECT_ISSUER_MISMATCH &&
		error != X509_V_ERR_AKID_SKID_MISMATCH &&
		error != X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH;
}

/*
 * Choose what to keep of what a client sent.  Its chain may be another one
 * when the server's CAs have changed; but all that can ever stand in it are
 * its own certificate, certificates that may be the issuer of that, issuers of
 * those, and so on.  Whatever else the client sends makes no difference, and
 * neither do duplicates.
 *
 * What its chain was verified by is kept in any case.  The client decides how
 * much more there is, and must not fill the arena: of that, so much is kept as
 * no client has reason to send.  Whoever sends more is judged without the rest.
 *
 * The order stays that in which they came, as OpenSSL takes the first that
 * fits.
 */
static int
choose_certificates(X509 *leaf, X509Stack *sent, X509Stack *verified,
					X509 **chosen)
{
	bool		keep[MAX_SENT] = {false};
	X509	   *kept[MAX_CERTIFICATES];
	int			nsent = Min(sk_X509_num(sent), MAX_SENT);	/* -1 for NULL */
	int			nkept = 0;
	int			others = 0;
	int			size = 0;
	int			n = 0;

	kept[nkept++] = leaf;
	for (int i = 0; i < nsent && nkept < MAX_CERTIFICATES - MAX_OTHERS; i++)
	{
		X509	   *cert = sk_X509_value(sent, i);

		if (is_member(verified, cert) && !is_among(kept, nkept, cert))
		{
			keep[i] = true;
			kept[nkept++] = cert;
		}
	}

	/* the array grows by what may be issuers of what is in it */
	for (int k = 0; k < nkept; k++)
	{
		for (int i = 0; i < nsent && others < MAX_OTHERS; i++)
		{
			X509	   *cert = sk_X509_value(sent, i);
			int			length;

			if (keep[i] || !may_be_issuer(cert, kept[k]) ||
				is_among(kept, nkept, cert))
				continue;
			length = Max(i2d_X509(cert, NULL), 0);
			if (length > MAX_OTHERS_SIZE - size)
				continue;
			keep[i] = true;
			kept[nkept++] = cert;
			others++;
			size += length;
		}
	}

	chosen[n++] = leaf;
	for (int i = 0; i < nsent; i++)
	{
		if (keep[i])
			chosen[n++] = sk_X509_value(sent, i);
	}
	return n;
}

/*
 * Keep what a client sent: its certificate, and the certificates that came
 * with it (SSL_get_peer_cert_chain(), which on a server leaves the leaf out),
 * given what its chain was verified by.  Returns PGTLS_NO_CHAIN where there is
 * no room.
 *
 * Runs in a backend as it logs in; raises no error.
 */
ChainRef
pgtls_chain_acquire(X509 *leaf, X509Stack *sent, X509Stack *verified)
{
	X509	   *certs[MAX_CERTIFICATES];
	int			n = choose_certificates(leaf, sent, verified, certs);
	unsigned char *der[MAX_CERTIFICATES];
	int			length[MAX_CERTIFICATES];
	unsigned char digest[MAX_CERTIFICATES][PGTLS_SHA256_LEN];
	unsigned char chain_digest[PGTLS_SHA256_LEN];
	int32		members[MAX_CERTIFICATES];
	int			encoded = 0;
	int			interned = 0;
	ChainRef	chain = PGTLS_NO_CHAIN;
	bool		is_new;

	/* All that needs OpenSSL or memory comes before the lock. */
	for (encoded = 0; encoded < n; encoded++)
	{
		der[encoded] = NULL;
		length[encoded] = i2d_X509(certs[encoded], &der[encoded]);
		if (length[encoded] <= 0 ||
			!EVP_Digest(der[encoded], length[encoded], digest[encoded], NULL,
						EVP_sha256(), NULL))
		{
			OPENSSL_free(der[encoded]);
			break;
		}
	}
	if (encoded < n ||
		!EVP_Digest(digest, (size_t) n * PGTLS_SHA256_LEN, chain_digest, NULL,
					EVP_sha256(), NULL))
		n = 0;

	LWLockAcquire(arena->lock, LW_EXCLUSIVE);
	for (interned = 0; interned < n; interned++)
	{
		members[interned] = intern(OBJECT_CERTIFICATE, digest[interned],
								   der[interned], length[interned], &is_new);
		if (members[interned] == NONE)
			break;
	}
	if (n > 0 && interned == n)
		chain = intern(OBJECT_CHAIN, chain_digest, (unsigned char *) members,
					   n * sizeof(int32), &is_new);

	/* A chain that is new owns these references; otherwise give them back. */
	if (chain == PGTLS_NO_CHAIN || !is_new)
	{
		while (interned > 0)
			forget(members[--interned]);
	}
	if (chain == PGTLS_NO_CHAIN)
		arena->refused++;
	LWLockRelease(arena->lock);

	while (encoded > 0)
		OPENSSL_free(der[--encoded]);
	ERR_clear_error();
	return chain;
}

/* Give back a session's reference to its chain.  Runs in a backend at exit. */
void
pgtls_chain_release(ChainRef chain)
{
	int32		members[MAX_CERTIFICATES];
	int			n = 0;

	if (chain == PGTLS_NO_CHAIN)
		return;

	LWLockAcquire(arena->lock, LW_EXCLUSIVE);
	if (objects[chain].references == 1)
	{
		n = objects[chain].length / sizeof(int32);
		read_object(&objects[chain], (unsigned char *) members);
	}
	forget(chain);
	while (n > 0)
		forget(members[--n]);
	LWLockRelease(arena->lock);
}

/* Keep everybody from changing the arena. */
void
pgtls_chain_lock(void)
{
	LWLockAcquire(arena->lock, LW_SHARED);
}

void
pgtls_chain_unlock(void)
{
	LWLockRelease(arena->lock);
}

/*
 * Copy a chain to memory of the caller.  The caller holds the lock, and knows
 * that a session still refers to the chain.
 */
ChainCopy *
pgtls_chain_copy(ChainRef chain)
{
	int32		members[MAX_CERTIFICATES];
	int			n = objects[chain].length / sizeof(int32);
	Size		size = offsetof(ChainCopy, length) + n * sizeof(int);
	ChainCopy  *copy;
	unsigned char *to;

	read_object(&objects[chain], (unsigned char *) members);
	for (int i = 0; i < n; i++)
		size += objects[members[i]].length;
	copy = palloc(size);
	copy->count = n;
	to = (unsigned char *) &copy->length[n];
	for (int i = 0; i < n; i++)
	{
		copy->length[i] = objects[members[i]].length;
		read_object(&objects[members[i]], to);
		to += copy->length[i];
	}
	return copy;
}

/*
 * Make certificates of a copy again, for the caller to free.  False if memory
 * ran out.
 */
bool
pgtls_chain_parse(const ChainCopy *copy, X509 **leaf, X509Stack **sent)
{
	const unsigned char *from =
		(const unsigned char *) &copy->length[copy->count];
	bool		ok;

	*leaf = NULL;
	pgtls_ossl_watch_memory();
	*sent = sk_X509_new_null();
	ok = *sent != NULL;
	for (int i = 0; ok && i < copy->count; i++)
	{
		const unsigned char *der = from;
		X509	   *cert = d2i_X509(NULL, &der, copy->length[i]);

		from += copy->length[i];
		if (cert == NULL)
			ok = false;
		else if (i == 0)
			*leaf = cert;
		else if (!sk_X509_push(*sent, cert))
		{
			X509_free(cert);
			ok = false;
		}
	}
	/* of a certificate that was read, the key may be missing */
	if (pgtls_ossl_out_of_memory())
		ok = false;
	if (!ok)
	{
		X509_free(*leaf);
		sk_X509_pop_free(*sent, X509_free);
	}
	return ok;
}

/* How many sessions' certificates have found no room. */
uint64
pgtls_chain_refused(void)
{
	uint64		refused;

	LWLockAcquire(arena->lock, LW_SHARED);
	refused = arena->refused;
	LWLockRelease(arena->lock);
	return refused;
}

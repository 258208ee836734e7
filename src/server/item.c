/*-------------------------------------------------------------------------
 *
 * item.c
 *	  What is in the server's TLS files: certificates and CRLs.
 *
 * They are compared by contents: a file is what the SHA-256 of the
 * certificates and CRLs in it is, and nothing else.  A CRL that is loaded is
 * known by its digest and not parsed again.
 *
 * Files may be anything by then: directories, FIFOs, half-written.  They are
 * opened without waiting, and what is wrong with one is a problem to be told.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/worker.h"
#include "server/item.h"

/* A file that is larger is not read. */
#define MAX_FILE_SIZE	((off_t) 1024 * 1024 * 1024)

Sha256
pgtls_item_digest(const unsigned char *data, size_t len)
{
	Sha256		result;

	if (!EVP_Digest(data, len, result.bytes, NULL, EVP_sha256(), NULL))
		pgtls_error_out_of_memory();
	return result;
}

int
pgtls_item_compare_digests(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(Sha256));
}

/*
 * The digest of several items: of their digests.  Where their order means
 * nothing, neither do duplicates.
 */
Sha256
pgtls_item_digest_of_list(List *items, bool ordered)
{
	Sha256	   *digests = palloc(sizeof(Sha256) * Max(list_length(items), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, items)
		digests[n++] = ((FileItem *) lfirst(lc))->digest;
	if (!ordered)
	{
		int			distinct = 0;

		qsort(digests, n, sizeof(Sha256), pgtls_item_compare_digests);
		for (int i = 0; i < n; i++)
		{
			if (i == 0 ||
				pgtls_item_compare_digests(&digests[i], &digests[i - 1]) != 0)
				digests[distinct++] = digests[i];
		}
		n = distinct;
	}
	return pgtls_item_digest((unsigned char *) digests, n * sizeof(Sha256));
}

/* Make it possible to find items by their digests. */
Lookup *
pgtls_item_index(List *items)
{
	Lookup	   *lookup = pgtls_lookup_create(sizeof(Sha256));
	ListCell   *lc;

	foreach(lc, items)
		pgtls_lookup_add(lookup, &((FileItem *) lfirst(lc))->digest,
						 lfirst(lc));
	return lookup;
}

/* The first item of a digest, NULL if there is none. */
FileItem *
pgtls_item_find(const Lookup *lookup, const Sha256 *digest)
{
	List	   *items = pgtls_lookup_find(lookup, digest);

	return items != NIL ? linitial(items) : NULL;
}

/* The digest of a public key. */
Sha256
pgtls_item_digest_of_key(EVP_PKEY *key)
{
	unsigned char *der = NULL;
	int			len = i2d_PUBKEY(key, &der);
	Sha256		result;

	if (len <= 0)
		pgtls_error_out_of_memory();
	result = pgtls_item_digest(der, len);
	OPENSSL_free(der);
	return result;
}

FileItem *
pgtls_item_make(X509 *cert, X509_CRL *crl)
{
	FileItem   *item = palloc0(sizeof(FileItem));
	unsigned char *der = NULL;
	int			len;

	/* what a TRUSTED CERTIFICATE says of trust is part of it */
	if (cert != NULL)
		len = X509_trusted(cert) ? i2d_X509_AUX(cert, &der) :
			i2d_X509(cert, &der);
	else
		len = i2d_X509_CRL(crl, &der);

	if (len <= 0)
		pgtls_error_out_of_memory();
	item->cert = cert;
	item->crl = crl;
	item->size = len;
	item->digest = pgtls_item_digest(der, len);
	OPENSSL_free(der);
	return item;
}

/* The path that a setting means: relative ones are in the data directory. */
char *
pgtls_item_absolute_path(const char *value)
{
	return is_absolute_path(value) ? pstrdup(value) :
		psprintf("%s/%s", DataDir, value);
}

/*
 * Open a file if it is a regular one; NULL, and the problem, otherwise.  Never
 * waits.
 */
BIO *
pgtls_item_open_file(const char *path, struct stat *st, char **problem)
{
	int			fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	FILE	   *stream;
	BIO		   *bio;

	if (fd < 0)
	{
		*problem = psprintf("could not be opened: %s", strerror(errno));
		return NULL;
	}
	if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))
		*problem = S_ISDIR(st->st_mode) ? "is a directory" :
			"is not a regular file";
	else if (st->st_size > MAX_FILE_SIZE)
		*problem = "is larger than 1 GB, and was not read";
	else
	{
		stream = fdopen(fd, "r");
		bio = stream != NULL ? BIO_new_fp(stream, BIO_CLOSE) : NULL;
		if (bio == NULL)
			pgtls_error_out_of_memory();
		return bio;
	}
	close(fd);
	return NULL;
}

/*
 * What is in a block of PEM; NULL if it is nothing for us, or cannot be read.
 */
static FileItem *
read_block(const char *name, const unsigned char *data, long len, bool crls,
		   const Lookup *known, char **problem)
{
	const unsigned char *p = data;
	bool		trusted = strcmp(name, PEM_STRING_X509_TRUSTED) == 0;
	bool		is_cert = strcmp(name, PEM_STRING_X509) == 0 ||
		strcmp(name, PEM_STRING_X509_OLD) == 0 || trusted;

	if (!is_cert && !(crls && strcmp(name, PEM_STRING_X509_CRL) == 0))
		return NULL;
	if (known != NULL)
	{
		Sha256		digest = pgtls_item_digest(data, len);
		FileItem   *loaded = pgtls_item_find(known, &digest);

		/* what is parsed already needs no more memory */
		if (loaded != NULL)
		{
			FileItem   *item = palloc(sizeof(FileItem));

			*item = *loaded;
			return item;
		}
	}
	if (is_cert)
	{
		X509	   *cert = trusted ? d2i_X509_AUX(NULL, &p, len) :
			d2i_X509(NULL, &p, len);

		if (cert != NULL)
			return pgtls_item_make(cert, NULL);
		*problem = psprintf("holds a certificate that cannot be read: %s",
							pgtls_error_reason());
	}
	else
	{
		X509_CRL   *crl = d2i_X509_CRL(NULL, &p, len);

		if (crl != NULL)
			return pgtls_item_make(NULL, crl);
		*problem = psprintf("holds a CRL that cannot be read: %s",
							pgtls_error_reason());
	}
	return NULL;
}

/*
 * Read certificates and CRLs: a List of FileItem *.  "known" has those that are
 * parsed already, by their digests; NULL for none.  At the first fault the rest
 * is left, as the server refuses all of such a file.
 */
List *
pgtls_item_read_file(const char *path, struct stat *st, bool crls,
					 const Lookup *known, char **problem)
{
	BIO		   *bio = pgtls_item_open_file(path, st, problem);
	List	   *items = NIL;
	int			blocks = 0;

	if (bio == NULL)
		return NIL;
	while (*problem == NULL)
	{
		char	   *name = NULL;
		char	   *header = NULL;
		unsigned char *data = NULL;
		long		len;
		FileItem   *item = NULL;

		pgtls_worker_check();
		pgtls_ossl_watch_memory();
		if (!PEM_read_bio(bio, &name, &header, &data, &len))
		{
			if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
				*problem = psprintf("block %d in it cannot be read: %s",
									blocks + 1, pgtls_error_reason());
			break;
		}
		blocks++;
		/* of a chain, the server takes such a block in the first place only */
		if (crls || items == NIL || strcmp(name, PEM_STRING_X509_TRUSTED) != 0)
			item = read_block(name, data, len, crls, known, problem);
		if (item != NULL)
		{
			item->loaded = false;
			item->on_disk = true;
			item->path = path;
			item->position = list_length(items) + 1;
			items = lappend(items, item);
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	if (blocks == 0 && *problem == NULL)
	{
		char		first = '\0';

		(void) BIO_seek(bio, 0);
		*problem = BIO_read(bio, &first, 1) == 1 && first == 0x30 ?
			"is in DER, and the server reads PEM only" :
			"holds nothing in PEM";
	}
	BIO_free(bio);
	ERR_clear_error();
	return items;
}

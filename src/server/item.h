/*-------------------------------------------------------------------------
 *
 * item.h
 *	  What is in the server's TLS files: certificates and CRLs.
 *
 * For workers.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_ITEM_H
#define PGTLS_ITEM_H

#include <sys/stat.h>

#include "nodes/pg_list.h"

#include "base/lookup.h"
#include "base/ossl.h"

typedef struct Sha256
{
	unsigned char bytes[PGTLS_SHA256_LEN];
} Sha256;

/* A certificate or CRL, loaded, on disk, or both. */
typedef struct FileItem
{
	X509	   *cert;
	X509_CRL   *crl;
	Sha256		digest;			/* of its DER */
	long		size;			/* of its DER, in bytes */
	int			position;		/* in its file, from 1; else in the chain */
	bool		loaded;
	bool		on_disk;
	const char *path;			/* of the file, NULL for loaded only */
	const char *dir;			/* for one of ssl_crl_dir: in which of them, */
	const char *name;			/* and its name there */
	bool		misnamed;
	char	   *problem;
} FileItem;

/* What kind of problem a file has, which findings have codes for. */
typedef enum ProblemKind
{
	PROBLEM_WITH_FILE,			/* of any other kind */
	PROBLEM_WITH_PASSPHRASE,
	PROBLEM_WITH_PERMISSIONS
} ProblemKind;

/*
 * A file, or ssl_crl_dir: what a setting names, what it holds, and what is
 * loaded.
 */
typedef struct TlsFile
{
	const char *value;			/* of the setting */
	char	   *path;			/* absolute; NULL where it is unset; of
								 * several directories a list */
	bool		exists;
	struct stat st;
	const char *state;			/* NULL where it cannot be known */
	char	   *problem;
	ProblemKind problem_kind;
	bool		several;		/* ssl_crl_dir names several directories */
	List	   *dirs;			/* those that exist: char *, as configured */
	List	   *dir_problems;	/* what is wrong with directories: sentences */
	bool		encrypted;		/* a private key that needs a passphrase */
	List	   *disk;			/* of FileItem *, in their order */
	List	   *loaded;			/* likewise, of those from this file */
	bool		has_loaded_digest;
	bool		has_disk_digest;
	Sha256		loaded_digest;
	Sha256		disk_digest;
} TlsFile;

extern Sha256 pgtls_item_digest(const unsigned char *data, size_t len);
extern Sha256 pgtls_item_digest_of_key(EVP_PKEY *key);
extern Sha256 pgtls_item_digest_of_list(List *items, bool ordered);
extern int	pgtls_item_compare_digests(const void *a, const void *b);
extern FileItem *pgtls_item_make(X509 *cert, X509_CRL *crl);
extern Lookup *pgtls_item_index(List *items);
extern FileItem *pgtls_item_find(const Lookup *lookup, const Sha256 *digest);
extern char *pgtls_item_absolute_path(const char *value);
extern BIO *pgtls_item_open_file(const char *path, struct stat *st,
								 char **problem);
extern List *pgtls_item_read_file(const char *path, struct stat *st, bool crls,
								  const Lookup *known, char **problem);

#endif							/* PGTLS_ITEM_H */

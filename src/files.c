/*-------------------------------------------------------------------------
 *
 * files.c
 *	  The server's TLS files: configured, loaded, and on disk.
 *
 * A worker answers (answer.c).  It is forked from the postmaster, and so
 * inherits what the server has loaded, parsed; it reads the files, and
 * compares by contents: a file is what the SHA-256 of the certificates and
 * CRLs in it is, and nothing else.  A CRL that is loaded is known by its
 * digest and not parsed again.
 *
 * Files may be anything by then: directories, FIFOs, half-written.  They are
 * opened without waiting, and what is wrong with one is said in its row.
 *
 * Of the private key, nothing but its public key's digest leaves the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "advice.h"
#include "answer.h"
#include "certificate.h"
#include "check.h"
#include "compat.h"
#include "crl.h"
#include "crldir.h"
#include "files.h"
#include "lookup.h"
#include "pg_tls.h"
#include "prepare.h"
#include "reload.h"
#include "verify.h"

/* A file that is larger is not read. */
#define MAX_FILE_SIZE	((off_t) 1024 * 1024 * 1024)

/*
 * A CRL in ssl_crl_dir is read and parsed by each connection that needs it.
 * From this size on, in bytes of DER, that takes milliseconds.
 */
#define LARGE_CRL		(128 * 1024)

/*
 * Findings include a dry run.  With CRLs of more than this in memory it loads
 * the files only if something has changed.
 */
#define MAX_DRY_RUN		(2 * 1024 * 1024)

/* Kinds of questions. */
#define ASK_FILES			'f'
#define ASK_CERTIFICATES	'c'
#define ASK_CRLS			'r'
#define ASK_ENTRIES			'e'
#define ASK_SERVER			's'
#define ASK_FINDINGS		'w'

/* The settings that name files. */
typedef enum FileKind
{
	CERT_FILE,
	KEY_FILE,
	CA_FILE,
	CRL_FILE,
	CRL_DIR,
	DH_FILE,
	NUM_FILES
} FileKind;

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
	const char *dir;			/* for one of ssl_crl_dir: in which directory, */
	const char *name;			/* and its name there */
	bool		misnamed;
	char	   *problem;
} FileItem;

typedef struct TlsFile
{
	const char *value;			/* of the setting */
	char	   *path;			/* absolute; NULL where it is unset; of several
								 * directories a list */
	bool		exists;
	struct stat st;
	const char *state;			/* NULL where it cannot be known */
	char	   *problem;
	const char *code;			/* of that in pg_tls_findings */
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

static const struct
{
	const char *setting;
	const char *contents;
	const char *effect;
}			file_kinds[NUM_FILES] = {
	{"ssl_cert_file", "server certificate, and the intermediate ones up to its root",
	"sent to clients, so that they know whom they talk to"},
	{"ssl_key_file", "private key of the server certificate",
	"proves that the server owns its certificate"},
	{"ssl_ca_file", "certificates of trusted certificate authorities",
	"client certificates must come from one of them"},
	{"ssl_crl_file", "revocation lists of certificate authorities",
	"client certificates must not be on them"},
	{"ssl_crl_dir", "revocation lists, in files named by a hash of the issuer",
	"the same, looked up by each connection"},
	{"ssl_dh_params_file", "parameters for Diffie-Hellman",
	"used by ephemeral DH ciphers of TLS 1.2 and before"}
};

/* State of the worker. */
static TlsFile files[NUM_FILES];
static bool is_known;			/* whether anything is loaded can be known */
static SSL_CTX *context;		/* NULL if nothing is */
static List *loaded_items = NIL;	/* of FileItem *: the store's */
static Lookup *loaded_by_digest = NULL; /* the same */
static Lookup *cas_by_subject;	/* of FileItem *, loaded or on disk */
static Lookup *crls_by_issuer;	/* likewise, of those in ssl_crl_dir, too */
static bool crls_in_use;

PG_FUNCTION_INFO_V1(pg_tls_files);
PG_FUNCTION_INFO_V1(pg_tls_certificates);
PG_FUNCTION_INFO_V1(pg_tls_crls);
PG_FUNCTION_INFO_V1(pg_tls_crl_entries);
PG_FUNCTION_INFO_V1(pg_tls_server_matches);
PG_FUNCTION_INFO_V1(pg_tls_file_findings);


/* ----------------------------------------------------------------
 *		Worker: digests
 * ----------------------------------------------------------------
 */

static Sha256
digest_of(const unsigned char *data, size_t len)
{
	Sha256		result;

	if (!EVP_Digest(data, len, result.bytes, NULL, EVP_sha256(), NULL))
		pgtls_out_of_memory();
	return result;
}

static int
compare_digests(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(Sha256));
}

/*
 * The digest of several items: of their digests.  Where their order means
 * nothing, neither do duplicates.
 */
static Sha256
digest_of_items(List *items, bool ordered)
{
	Sha256	   *digests = palloc(sizeof(Sha256) * Max(list_length(items), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, items)
		digests[n++] = ((FileItem *) lfirst(lc))->digest;
	if (!ordered)
	{
		int			distinct = 0;

		qsort(digests, n, sizeof(Sha256), compare_digests);
		for (int i = 0; i < n; i++)
		{
			if (i == 0 || compare_digests(&digests[i], &digests[i - 1]) != 0)
				digests[distinct++] = digests[i];
		}
		n = distinct;
	}
	return digest_of((unsigned char *) digests, n * sizeof(Sha256));
}

/* Make it possible to find items by their digests. */
static Lookup *
index_items(List *items)
{
	Lookup	   *lookup = pgtls_lookup_create(sizeof(Sha256));
	ListCell   *lc;

	foreach(lc, items)
		pgtls_lookup_add(lookup, &((FileItem *) lfirst(lc))->digest, lfirst(lc));
	return lookup;
}

/* The first item of a digest, NULL if there is none. */
static FileItem *
find_item(const Lookup *lookup, const Sha256 *digest)
{
	List	   *items = pgtls_lookup_find(lookup, digest);

	return items != NIL ? linitial(items) : NULL;
}

/* The digest of a public key. */
static Sha256
digest_of_key(EVP_PKEY *key)
{
	unsigned char *der = NULL;
	int			len = i2d_PUBKEY(key, &der);
	Sha256		result;

	if (len <= 0)
		pgtls_out_of_memory();
	result = digest_of(der, len);
	OPENSSL_free(der);
	return result;
}

static FileItem *
make_item(X509 *cert, X509_CRL *crl)
{
	FileItem   *item = palloc0(sizeof(FileItem));
	unsigned char *der = NULL;
	int			len;

	/* what a TRUSTED CERTIFICATE says of trust is part of it */
	if (cert != NULL)
		len = X509_trusted(cert) ? i2d_X509_AUX(cert, &der) : i2d_X509(cert, &der);
	else
		len = i2d_X509_CRL(crl, &der);

	if (len <= 0)
		pgtls_out_of_memory();
	item->cert = cert;
	item->crl = crl;
	item->size = len;
	item->digest = digest_of(der, len);
	OPENSSL_free(der);
	return item;
}


/* ----------------------------------------------------------------
 *		Worker: what is loaded
 * ----------------------------------------------------------------
 */

static void
collect_loaded(void)
{
	STACK_OF(X509_OBJECT) *objects;
	STACK_OF(X509) *chain = NULL;
	TlsFile    *file = &files[CERT_FILE];
	EVP_PKEY   *key;

	is_known = pgtls_reload_loaded(&context);
	if (context == NULL)
		return;

	if (SSL_CTX_get0_certificate(context) != NULL)
	{
		if (!pgtls_prepare_built_chain())
			SSL_CTX_get0_chain_certs(context, &chain);
		for (int i = -1; i < (chain != NULL ? sk_X509_num(chain) : 0); i++)
		{
			FileItem   *item = make_item(i < 0 ? SSL_CTX_get0_certificate(context) :
										 sk_X509_value(chain, i), NULL);

			item->loaded = true;
			item->position = i + 2;
			file->loaded = lappend(file->loaded, item);
		}
	}
	key = SSL_CTX_get0_privatekey(context);
	if (key != NULL)
	{
		files[KEY_FILE].loaded_digest = digest_of_key(key);
		files[KEY_FILE].has_loaded_digest = true;
	}

	objects = pgtls_ossl_store_objects(SSL_CTX_get_cert_store(context));
	if (objects == NULL)
		pgtls_out_of_memory();
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		FileItem   *item;

		if (X509_OBJECT_get0_X509(object) == NULL && X509_OBJECT_get0_X509_CRL(object) == NULL)
			continue;
		pgtls_answer_check();
		item = make_item(X509_OBJECT_get0_X509(object), X509_OBJECT_get0_X509_CRL(object));
		item->loaded = true;
		loaded_items = lappend(loaded_items, item);
	}
	/* the objects stay, as the items point to them */
	loaded_by_digest = index_items(loaded_items);
	crls_in_use = pgtls_verify_checks_crls(SSL_CTX_get_cert_store(context));
}

/*
 * Tell which file what is in the store came from.  OpenSSL takes certificates
 * and CRLs from either; but where a thing is not on disk any more, it came
 * from where it belongs.
 */
static void
attribute_loaded(void)
{
	Lookup	   *in_ca_file = index_items(files[CA_FILE].disk);
	Lookup	   *in_crl_file = index_items(files[CRL_FILE].disk);
	ListCell   *lc;

	foreach(lc, loaded_items)
	{
		FileItem   *item = lfirst(lc);
		bool		in_ca = find_item(in_ca_file, &item->digest) != NULL;
		bool		in_crl = find_item(in_crl_file, &item->digest) != NULL;

		/* it may be in both, and they may be the same file */
		if (in_ca || (item->cert != NULL && !in_crl))
			files[CA_FILE].loaded = lappend(files[CA_FILE].loaded, item);
		if (in_crl || (item->crl != NULL && !in_ca))
			files[CRL_FILE].loaded = lappend(files[CRL_FILE].loaded, item);
	}
}


/* ----------------------------------------------------------------
 *		Worker: what is on disk
 * ----------------------------------------------------------------
 */

/*
 * Open a file if it is a regular one; NULL, and the problem, otherwise.  Never
 * waits.
 */
static BIO *
open_file(const char *path, struct stat *st, char **problem)
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
		*problem = S_ISDIR(st->st_mode) ? "is a directory" : "is not a regular file";
	else if (st->st_size > MAX_FILE_SIZE)
		*problem = "is larger than 1 GB, and was not read";
	else
	{
		stream = fdopen(fd, "r");
		bio = stream != NULL ? BIO_new_fp(stream, BIO_CLOSE) : NULL;
		if (bio == NULL)
			pgtls_out_of_memory();
		return bio;
	}
	close(fd);
	return NULL;
}

/* What is in a block of PEM; NULL if it is nothing for us, or cannot be read. */
static FileItem *
read_block(const char *name, const unsigned char *data, long len, bool crls, char **problem)
{
	const unsigned char *p = data;
	bool		trusted = strcmp(name, PEM_STRING_X509_TRUSTED) == 0;
	bool		is_cert = strcmp(name, PEM_STRING_X509) == 0 ||
		strcmp(name, PEM_STRING_X509_OLD) == 0 || trusted;

	if (!is_cert && !(crls && strcmp(name, PEM_STRING_X509_CRL) == 0))
		return NULL;
	if (loaded_by_digest != NULL)
	{
		Sha256		digest = digest_of(data, len);
		FileItem   *loaded = find_item(loaded_by_digest, &digest);

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
			return make_item(cert, NULL);
		*problem = psprintf("holds a certificate that cannot be read: %s", pgtls_failure_reason());
	}
	else
	{
		X509_CRL   *crl = d2i_X509_CRL(NULL, &p, len);

		if (crl != NULL)
			return make_item(NULL, crl);
		*problem = psprintf("holds a CRL that cannot be read: %s", pgtls_failure_reason());
	}
	return NULL;
}

/*
 * Read certificates and CRLs: a List of FileItem *.  At the first fault the rest
 * is left, as the server refuses all of such a file.
 */
static List *
read_items(const char *path, struct stat *st, bool crls, char **problem)
{
	BIO		   *bio = open_file(path, st, problem);
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

		pgtls_answer_check();
		pgtls_ossl_watch_memory();
		if (!PEM_read_bio(bio, &name, &header, &data, &len))
		{
			if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
				*problem = psprintf("block %d in it cannot be read: %s", blocks + 1,
									pgtls_failure_reason());
			break;
		}
		blocks++;
		/* of a chain, the server takes such a block in the first place only */
		if (crls || items == NIL || strcmp(name, PEM_STRING_X509_TRUSTED) != 0)
			item = read_block(name, data, len, crls, problem);
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

static bool
has_certificate(List *items)
{
	ListCell   *lc;

	foreach(lc, items)
	{
		if (((FileItem *) lfirst(lc))->cert != NULL)
			return true;
	}
	return false;
}

static void
read_file(FileKind kind)
{
	TlsFile    *file = &files[kind];

	file->disk = read_items(file->path, &file->st, kind != CERT_FILE, &file->problem);
	if (file->problem == NULL && kind != CRL_FILE && !has_certificate(file->disk))
		file->problem = "holds no certificate";
	if (file->problem == NULL && kind == CRL_FILE && file->disk == NIL)
		file->problem = "holds no CRL";
}

/* Of a private key: whether there is one, and the digest of its public key. */
static int
refuse_passphrase(char *buf, int size, int rwflag, void *asked)
{
	*(bool *) asked = true;
	return -1;
}

static void
read_key(void)
{
	TlsFile    *file = &files[KEY_FILE];
	bool		asked = false;
	BIO		   *bio = open_file(file->path, &file->st, &file->problem);
	EVP_PKEY   *key;

	if (bio == NULL)
		return;
	pgtls_ossl_watch_memory();
	key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
	if (key != NULL)
	{
		file->disk_digest = digest_of_key(key);
		file->has_disk_digest = true;
		EVP_PKEY_free(key);
	}
	else if (!asked)
	{
		(void) pgtls_failure_reason();
		file->problem = "holds no private key in PEM";
	}
	else
	{
		file->encrypted = true;
		if (ssl_passphrase_command[0] == '\0' || !ssl_passphrase_command_supports_reload)
		{
			file->problem = "needs a passphrase, so that a reload cannot load it";
			file->code = "key_passphrase";
		}
	}
	BIO_free(bio);
	ERR_clear_error();
}

/*
 * The server's rule for private keys at its start and at reloads
 * (check_ssl_key_file_permissions() in be-secure-common.c).
 */
static void
check_key_permissions(void)
{
	TlsFile    *file = &files[KEY_FILE];
	const struct stat *st = &file->st;

	if (!S_ISREG(st->st_mode))
		return;
	if (st->st_uid != geteuid() && st->st_uid != 0)
		file->problem = "is owned by neither the server's user nor root, which the server refuses";
	else if (st->st_uid == geteuid() && (st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		file->problem = "can be used by group or world, which the server refuses: it has to have mode 0600 or less";
	else if (st->st_uid == 0 && (st->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0)
		file->problem = "can be used by world or written by its group, which the server refuses: as root's it has to have mode 0640 or less";
	else
		return;
	file->code = "key_permissions";
}

static void
read_dh_params(void)
{
	TlsFile    *file = &files[DH_FILE];
	BIO		   *bio = open_file(file->path, &file->st, &file->problem);
	char	   *name;
	char	   *header;
	unsigned char *data;
	long		len;

	if (bio == NULL)
		return;
	pgtls_ossl_watch_memory();
	while (!file->has_disk_digest && PEM_read_bio(bio, &name, &header, &data, &len))
	{
		if (strcmp(name, PEM_STRING_DHPARAMS) == 0 || strcmp(name, PEM_STRING_DHXPARAMS) == 0)
		{
			file->disk_digest = digest_of(data, len);
			file->has_disk_digest = true;
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	if (!file->has_disk_digest)
	{
		(void) pgtls_failure_reason();
		file->problem = "holds no parameters in PEM";
	}
	BIO_free(bio);
	ERR_clear_error();
}


/* ----------------------------------------------------------------
 *		Worker: ssl_crl_dir
 * ----------------------------------------------------------------
 */

/* The name of a file as OpenSSL makes it, "01234567.r0". */
typedef struct CrlName
{
	uint32		hash;
	uint32		number;
} CrlName;

static bool
parse_crl_name(const char *name, CrlName *parsed)
{
	int			end = 0;

	return strspn(name, "0123456789abcdef") == 8 && strncmp(name + 8, ".r", 2) == 0 &&
		strspn(name + 10, "0123456789") == strlen(name + 10) && strlen(name + 10) < 10 &&
		(name[10] != '0' || name[11] == '\0') &&
		sscanf(name, "%8x.r%u%n", &parsed->hash, &parsed->number, &end) == 2 && name[end] == '\0';
}

/*
 * Find the files of a directory that hold CRLs and nothing that cannot be read, as
 * those before them do from "01234567.r0" on: a lookup by CrlName.
 */
static Lookup *
find_sound_series(List *found, const char *dir)
{
	Lookup	   *sound = pgtls_lookup_create(sizeof(CrlName));
	Lookup	   *series = pgtls_lookup_create(sizeof(CrlName));
	ListCell   *lc;

	foreach(lc, found)
	{
		FileItem   *item = lfirst(lc);
		CrlName		name;

		if (item->dir == dir && item->crl != NULL && item->problem == NULL &&
			parse_crl_name(item->name, &name) &&
			pgtls_lookup_find(sound, &name) == NIL)
			pgtls_lookup_add(sound, &name, item);
	}
	foreach(lc, found)
	{
		CrlName		name;

		if (!parse_crl_name(((FileItem *) lfirst(lc))->name, &name) || name.number != 0)
			continue;
		for (; pgtls_lookup_find(sound, &name) != NIL &&
			 pgtls_lookup_find(series, &name) == NIL; name.number++)
			pgtls_lookup_add(series, &name, linitial(pgtls_lookup_find(sound, &name)));
	}
	return series;
}

/* The CRLs that the server has loaded of an issuer, and perhaps of others. */
static List *
find_loaded_crls(const X509_NAME *issuer)
{
	static Lookup *loaded = NULL;
	uint32		key;

	if (loaded == NULL)
	{
		STACK_OF(X509_OBJECT) *objects = context != NULL ?
			pgtls_ossl_store_objects(SSL_CTX_get_cert_store(context)) : NULL;

		loaded = pgtls_lookup_create(sizeof(uint32));
		for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
		{
			X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

			if (crl == NULL)
				continue;
			key = pgtls_lookup_name_key(X509_CRL_get_issuer(crl));
			pgtls_lookup_add(loaded, &key, crl);
		}
		if (objects != NULL)
			pgtls_ossl_store_objects_free(objects);
	}
	key = pgtls_lookup_name_key(issuer);
	return pgtls_lookup_find(loaded, &key);
}

/* Ask OpenSSL whether connections find a CRL. */
static bool
is_found(const FileItem *item)
{
	static const X509_NAME *last_issuer = NULL;
	static const char *last_list = NULL;
	static STACK_OF(X509_CRL) *crls = NULL;
	const char *list = files[CRL_DIR].value;
	const X509_NAME *issuer = X509_CRL_get_issuer(item->crl);
	bool		result = false;

	/* that reads all of them: keep them for the next one */
	if (last_issuer == NULL || list != last_list || X509_NAME_cmp(issuer, last_issuer) != 0)
	{
		sk_X509_CRL_pop_free(crls, X509_CRL_free);
		crls = pgtls_advice_crls_in_dir(list, issuer, find_loaded_crls(issuer));
		last_issuer = issuer;
		last_list = list;
	}

	for (int i = 0; !result && i < sk_X509_CRL_num(crls); i++)
		result = X509_CRL_match(sk_X509_CRL_value(crls, i), item->crl) == 0;
	return result;
}

/* Whether the name of a CRL's file is one of those for its issuer. */
static bool
has_hash_name(const FileItem *item)
{
	CrlName		name;

	return item->crl != NULL && parse_crl_name(item->name, &name) &&
		name.hash == pgtls_lookup_name_key(X509_CRL_get_issuer(item->crl));
}

/* Whether a CRL is where connections look for it. */
static bool
is_well_named(const FileItem *item, const Lookup *series)
{
	CrlName		name;

	if (!has_hash_name(item) || !parse_crl_name(item->name, &name))
		return false;

	/* what is found in one directory may hide another */
	if (item->dir != linitial(files[CRL_DIR].dirs))
		return is_found(item);

	/* OpenSSL counts, and some versions stop at one that cannot be read */
	if (name.number == 0)
		return true;
	name.number--;
	return pgtls_lookup_find(series, &name) != NIL || is_found(item);
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	const FileItem *item1 = lfirst(a);
	const FileItem *item2 = lfirst(b);
	int			result = strcmp(item1->path, item2->path);

	return result != 0 ? result : item1->position - item2->position;
}

/* The path that a setting means: relative ones are in the data directory. */
static char *
absolute_path(const char *value)
{
	return is_absolute_path(value) ? pstrdup(value) : psprintf("%s/%s", DataDir, value);
}

static void
add_dir_problem(const char *path, const char *problem)
{
	TlsFile    *file = &files[CRL_DIR];

	file->dir_problems = lappend(file->dir_problems,
								 psprintf("directory \"%s\" %s", path, problem));
	/* where there is one directory, its row names it */
	if (!file->several)
		file->problem = pstrdup(problem);
	else if (file->problem == NULL)
		file->problem = llast(file->dir_problems);
	else
		file->problem = psprintf("%s; %s", file->problem, (char *) llast(file->dir_problems));
}

/* Add what is in a file of a directory. */
static List *
read_dir_entry(List *found, const char *dir, const char *entry_name)
{
	char	   *name = pstrdup(entry_name);
	char	   *path = psprintf("%s/%s", absolute_path(dir), name);
	struct stat st;
	CrlName		parsed;
	char	   *problem = NULL;
	List	   *items = read_items(path, &st, true, &problem);
	bool		any = false;
	ListCell   *lc;

	foreach(lc, items)
	{
		FileItem   *item = lfirst(lc);

		if (item->crl == NULL)
			continue;
		any = true;
		item->dir = dir;
		item->name = name;
		item->problem = problem;
		found = lappend(found, item);
	}
	if (!any && parse_crl_name(name, &parsed))
	{
		FileItem   *item = palloc0(sizeof(FileItem));

		item->on_disk = true;
		item->path = path;
		item->dir = dir;
		item->name = name;
		item->problem = problem != NULL ? problem : "holds no CRL";
		found = lappend(found, item);
	}
	return found;
}

/*
 * A directory that cannot be listed.  Connections open files there by name all
 * the same: look for those of the CAs that are loaded.
 */
static List *
read_unlisted_dir(List *found, const char *dir)
{
	Lookup	   *seen = pgtls_lookup_create(sizeof(uint32));
	STACK_OF(X509_OBJECT) *objects;

	if (context == NULL)
		return found;
	objects = pgtls_ossl_store_objects(SSL_CTX_get_cert_store(context));
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509	   *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
		uint32		hash;

		if (ca == NULL)
			continue;
		hash = pgtls_lookup_name_key(X509_get_subject_name(ca));
		if (pgtls_lookup_find(seen, &hash) != NIL)
			continue;
		pgtls_lookup_add(seen, &hash, ca);
		for (int number = 0;; number++)
		{
			char	   *name = psprintf("%08x.r%d", hash, number);
			struct stat st;

			pgtls_answer_check();
			if (lstat(psprintf("%s/%s", dir, name), &st) != 0)
				break;
			found = read_dir_entry(found, dir, name);
		}
	}
	if (objects != NULL)
		pgtls_ossl_store_objects_free(objects);
	return found;
}

static List *
read_dir(List *found, const char *dir)
{
	DIR		   *stream = opendir(dir);
	struct dirent *entry;

	if (stream == NULL)
	{
		TlsFile    *file = &files[CRL_DIR];

		if (errno != EACCES || access(dir, X_OK) != 0)
			add_dir_problem(absolute_path(dir), psprintf("could not be opened: %s", strerror(errno)));
		else
		{
			/* which is no finding, if its files can be opened */
			file->problem = psprintf("%s%scannot be listed, so that only CRLs of the CAs that are loaded are known",
									 file->problem != NULL ? psprintf("%s; ", file->problem) : "",
									 !file->several ? "" :
									 psprintf("directory \"%s\" ", absolute_path(dir)));
			found = read_unlisted_dir(found, dir);
		}
		return found;
	}
	while ((entry = readdir(stream)) != NULL)
	{
		if (entry->d_name[0] != '.')
			found = read_dir_entry(found, dir, entry->d_name);
	}
	closedir(stream);
	return found;
}

static void
read_crl_dirs(void)
{
	TlsFile    *file = &files[CRL_DIR];
	List	   *found = NIL;
	Lookup	   *series;
	Lookup	   *by_digest;
	int			problems = 0;
	ListCell   *lc;

	foreach(lc, file->dirs)
		found = read_dir(found, lfirst(lc));

	/* those of an issuer follow each other, as is_found() has it */
	list_sort(found, compare_names);
	series = find_sound_series(found, file->dirs != NIL ? linitial(file->dirs) : NULL);
	by_digest = pgtls_lookup_create(sizeof(Sha256));
	foreach(lc, found)
	{
		FileItem   *item = lfirst(lc);

		pgtls_answer_check();
		if (item->crl == NULL)
			continue;
		item->misnamed = !is_well_named(item, series);
		if (!item->misnamed)
			pgtls_lookup_add(by_digest, &item->digest, item);
	}

	file->disk = NIL;
	foreach(lc, found)
	{
		FileItem   *item = lfirst(lc);

		/* what a link of the right name leads to may have any name */
		if (item->misnamed && find_item(by_digest, &item->digest) != NULL)
			continue;
		if (item->misnamed && item->problem == NULL && has_hash_name(item) &&
			item->dir != linitial(file->dirs))
			item->problem = "connections do not find it: what another directory of \"ssl_crl_dir\" has of this issuer hides it";
		else if (item->misnamed && item->problem == NULL)
			item->problem = psprintf("connections do not find it: the CRLs of this issuer have to be named %08lx.r0, %08lx.r1 and so on",
									 X509_NAME_hash(X509_CRL_get_issuer(item->crl)) & 0xffffffffUL,
									 X509_NAME_hash(X509_CRL_get_issuer(item->crl)) & 0xffffffffUL);
		if (item->problem != NULL)
			problems++;
		file->disk = lappend(file->disk, item);
	}
	if (problems > 0)
		file->problem = psprintf("%s%d of the CRLs in it %s of no use: see pg_tls_crls",
								 file->problem != NULL ? psprintf("%s; ", file->problem) : "",
								 problems, problems == 1 ? "is" : "are");
}


/* ----------------------------------------------------------------
 *		Worker: both together
 * ----------------------------------------------------------------
 */

/*
 * Look at the directories of ssl_crl_dir: OpenSSL takes it for a list.  False if
 * there is nothing to read.
 */
static bool
find_crl_dirs(void)
{
	TlsFile    *file = &files[CRL_DIR];
	char		dir[MAXPGPATH];
	const char *rest = NULL;
	StringInfoData path;
	List	   *names = NIL;
	ListCell   *lc;

	initStringInfo(&path);
	while (pgtls_crldir_next(file->value, &rest, dir, sizeof(dir)))
	{
		appendStringInfo(&path, "%s%s", names != NIL ? ":" : "", absolute_path(dir));
		names = lappend(names, pstrdup(dir));
	}
	file->several = list_length(names) > 1;
	file->path = path.len > 0 ? path.data : pstrdup(file->value);
	if (names == NIL)
	{
		file->problem = "names no directory";
		file->dir_problems = list_make1("\"ssl_crl_dir\" names no directory");
	}
	file->state = "missing";
	foreach(lc, names)
	{
		const char *name = lfirst(lc);
		struct stat st;

		if (stat(name, &st) == 0)
		{
			if (!file->several)
			{
				file->st = st;
				file->exists = true;
			}
			if (S_ISDIR(st.st_mode))
			{
				file->dirs = lappend(file->dirs, lfirst(lc));
				continue;
			}
			file->state = "unreadable";
			add_dir_problem(absolute_path(name), "is not a directory");
		}
		else if (errno == ENOENT)
			add_dir_problem(absolute_path(name), "does not exist, of which the server says nothing");
		else
		{
			file->state = "unreadable";
			add_dir_problem(absolute_path(name), psprintf("could not be accessed: %s", strerror(errno)));
		}
	}
	if (file->dirs != NIL)
		file->state = NULL;
	return file->dirs != NIL;
}

/* Look at the file itself; false if there is nothing to read. */
static bool
find_file(FileKind kind)
{
	TlsFile    *file = &files[kind];

	if (file->value[0] == '\0')
	{
		file->state = "unset";
		return false;
	}
	if (kind == CRL_DIR)
		return find_crl_dirs();
	file->path = absolute_path(file->value);
	if (stat(file->path, &file->st) == 0)
	{
		file->exists = true;
		return true;
	}
	if (errno == ENOENT)
	{
		file->state = "missing";
		file->problem = kind == DH_FILE ? "does not exist, so that the server uses parameters of its own" :
			"does not exist";
	}
	else
	{
		file->state = "unreadable";
		file->problem = psprintf("could not be accessed: %s", strerror(errno));
	}
	return false;
}

/* Mark what is on disk and loaded, and have both be the same object. */
static void
join_items(TlsFile *file)
{
	Lookup	   *by_digest = index_items(file->loaded);
	ListCell   *lc;

	foreach(lc, file->disk)
	{
		FileItem   *item = lfirst(lc);
		FileItem   *loaded = find_item(by_digest, &item->digest);

		if (loaded != NULL)
		{
			item->loaded = true;
			item->cert = loaded->cert;
			item->crl = loaded->crl;
			loaded->on_disk = true;
		}
	}
}

/* Whether connections look into the directory that is configured. */
static bool
is_crl_dir_in_force(void)
{
	return context != NULL &&
		strcmp(files[CRL_DIR].value, pgtls_reload_inherited_crl_dir()) == 0;
}

static void
compare_file(FileKind kind)
{
	TlsFile    *file = &files[kind];

	if (kind == CERT_FILE || kind == CA_FILE || kind == CRL_FILE)
	{
		join_items(file);
		if (file->loaded != NIL)
		{
			file->loaded_digest = digest_of_items(file->loaded, kind == CERT_FILE);
			file->has_loaded_digest = true;
		}
		if (file->disk != NIL && file->problem == NULL)
		{
			file->disk_digest = digest_of_items(file->disk, kind == CERT_FILE);
			file->has_disk_digest = true;
		}
	}
	else if (kind == CRL_DIR && file->disk != NIL)
	{
		file->disk_digest = digest_of_items(file->disk, false);
		file->has_disk_digest = true;
	}

	if (file->state != NULL && strcmp(file->state, "unset") != 0)
		return;
	if (file->state == NULL && !file->has_disk_digest && kind != CRL_DIR && !file->encrypted)
		file->state = "unreadable";
	else if (context == NULL)
		return;					/* nothing to compare with */
	else if (kind == CRL_DIR)
	{
		bool		same = is_crl_dir_in_force();

		if (!same || file->state == NULL)
			file->state = same ? "current" : "changed";
	}
	else if (kind == DH_FILE)
	{
		if (file->state == NULL)
			file->state = pgtls_reload_same_dh_file(&file->st) ? "current" : "changed";
	}
	else if (kind == KEY_FILE && !file->has_disk_digest)
		file->state = pgtls_reload_same_key_file(&file->st) ? "current" : "changed";
	else if (file->state == NULL || file->has_loaded_digest)
		file->state = file->has_loaded_digest &&
			compare_digests(&file->loaded_digest, &file->disk_digest) == 0 ?
			"current" : "changed";
}

/* Whether certificate and key fit together. */
static void
check_pair(void)
{
	TlsFile    *key = &files[KEY_FILE];
	Sha256		digest;
	FileItem   *item;

	if (key->problem != NULL || !key->has_disk_digest || files[CERT_FILE].disk == NIL)
		return;
	item = linitial(files[CERT_FILE].disk);
	if (X509_get0_pubkey(item->cert) == NULL)
		return;
	digest = digest_of_key(X509_get0_pubkey(item->cert));
	if (compare_digests(&digest, &key->disk_digest) != 0)
		key->problem = "does not belong to the certificate in ssl_cert_file";
}

/* Make it possible to find a CA or CRL by its name. */
static void
index_name(FileItem *item)
{
	uint32		key;

	pgtls_answer_check();
	if (item->cert != NULL)
	{
		key = pgtls_lookup_name_key(X509_get_subject_name(item->cert));
		pgtls_lookup_add(cas_by_subject, &key, item);
	}
	else if (item->crl != NULL && !item->misnamed)
	{
		key = pgtls_lookup_name_key(X509_CRL_get_issuer(item->crl));
		pgtls_lookup_add(crls_by_issuer, &key, item);
	}
}

static void
index_names(void)
{
	cas_by_subject = pgtls_lookup_create(sizeof(uint32));
	crls_by_issuer = pgtls_lookup_create(sizeof(uint32));
	for (int kind = CA_FILE; kind <= CRL_DIR; kind++)
	{
		ListCell   *lc;

		foreach(lc, files[kind].disk)
			index_name(lfirst(lc));
		/* of what is loaded and on disk, there is an item there, too */
		foreach(lc, files[kind].loaded)
		{
			if (!((FileItem *) lfirst(lc))->on_disk)
				index_name(lfirst(lc));
		}
	}
}

static void
inspect(void)
{
	const char *const values[NUM_FILES] = {
		ssl_cert_file, ssl_key_file, ssl_ca_file, ssl_crl_file, ssl_crl_dir, ssl_dh_params_file
	};

	collect_loaded();
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		files[kind].value = values[kind] != NULL ? values[kind] : "";
		if (!find_file(kind))
			continue;
		switch ((FileKind) kind)
		{
			case CERT_FILE:
			case CA_FILE:
			case CRL_FILE:
				read_file(kind);
				break;
			case KEY_FILE:
				read_key();
				check_key_permissions();
				break;
			case CRL_DIR:
				read_crl_dirs();
				break;
			case DH_FILE:
				read_dh_params();
				break;
			case NUM_FILES:
				break;
		}
	}
	attribute_loaded();
	for (int kind = 0; kind < NUM_FILES; kind++)
		compare_file(kind);
	check_pair();
	index_names();
}


/* ----------------------------------------------------------------
 *		Worker: answers
 * ----------------------------------------------------------------
 */

static const char *
owner_name(uid_t uid)
{
	struct passwd *pw = getpwuid(uid);

	return pw != NULL ? pstrdup(pw->pw_name) : psprintf("%u", (unsigned) uid);
}

static void
put_digest(StringInfo record, bool has_digest, const Sha256 *digest)
{
	pgtls_answer_put_hex(record, "", has_digest ? digest->bytes : NULL, sizeof(Sha256));
}

static void
put_time(StringInfo record, TimestampTz time)
{
	if (time == PGTLS_NO_TIME)
		pgtls_answer_put(record, NULL);
	else
		pgtls_answer_put_int(record, time);
}

static void
answer_files(void)
{
	StringInfoData record;

	initStringInfo(&record);
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		const TlsFile *file = &files[kind];

		pgtls_answer_put(&record, file_kinds[kind].setting);
		pgtls_answer_put(&record, file->path);
		pgtls_answer_put(&record, file_kinds[kind].contents);
		pgtls_answer_put(&record, file_kinds[kind].effect);
		pgtls_answer_put(&record, file->state);
		if (file->exists)
		{
			pgtls_answer_put(&record, owner_name(file->st.st_uid));
			pgtls_answer_put(&record, psprintf("%04o", file->st.st_mode & 07777));
			pgtls_answer_put_int(&record, file->st.st_size);
			pgtls_answer_put_int(&record, time_t_to_timestamptz(file->st.st_mtim.tv_sec) +
								 file->st.st_mtim.tv_nsec / 1000);
		}
		else
		{
			for (int i = 0; i < 4; i++)
				pgtls_answer_put(&record, NULL);
		}
		put_digest(&record, file->has_loaded_digest, &file->loaded_digest);
		put_digest(&record, file->has_disk_digest, &file->disk_digest);
		pgtls_answer_put(&record, file->problem);
		pgtls_answer_send(&record);
	}
}

/* Whether something is in force, as the views say it; NULL: not known. */
static const char *
item_state(FileKind kind, const FileItem *item)
{
	if (!is_known)
		return NULL;
	if (kind == CRL_DIR && is_crl_dir_in_force())
		return "on demand";
	return item->loaded ? (item->on_disk ? "loaded" : "loaded only") : "disk only";
}

/* What is wrong with a certificate or CRL, in sentences. */
static const char *
item_problem(FileKind kind, const FileItem *item, const Lookup *advice)
{
	bool		in_force = item->loaded;
	const void *about = item->cert != NULL ? (const void *) item->cert : (const void *) item->crl;
	List	   *said = pgtls_lookup_find(advice, &about);
	StringInfoData buf;
	ListCell   *lc;
	TimestampTz from;
	TimestampTz until;

	if (item->problem != NULL)
		return item->problem;
	if (kind == CRL_DIR && is_crl_dir_in_force())
	{
		in_force = true;
		said = pgtls_advice_on_crl(item->crl);
	}
	if (in_force)
	{
		initStringInfo(&buf);
		foreach(lc, said)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? "; " : "",
							 ((Advice *) lfirst(lc))->text);
		return buf.len > 0 ? buf.data : NULL;
	}

	from = pgtls_ossl_time(item->cert != NULL ? X509_get0_notBefore(item->cert) :
						   X509_CRL_get0_lastUpdate(item->crl));
	until = pgtls_ossl_time(item->cert != NULL ? X509_get0_notAfter(item->cert) :
							X509_CRL_get0_nextUpdate(item->crl));
	switch (pgtls_advice_validity(from, until, GetCurrentTimestamp(), item->crl != NULL))
	{
		case VALID:
			break;
		case ENDS_SOON:
			return psprintf("ends at %s", timestamptz_to_str(until));
		case ENDED:
			return psprintf("ended at %s", timestamptz_to_str(until));
		case NOT_YET:
			return psprintf("is not valid before %s", timestamptz_to_str(from));
	}
	return NULL;
}

/*
 * Whether there is a CRL of a CA, where it would be used: among those loaded,
 * in the directory, or on disk.
 */
static bool
find_crl(const FileItem *ca)
{
	uint32		key = pgtls_lookup_name_key(X509_get_subject_name(ca->cert));
	ListCell   *lc;

	foreach(lc, pgtls_lookup_find(crls_by_issuer, &key))
	{
		const FileItem *item = lfirst(lc);
		bool		in_dir = item->name != NULL;

		pgtls_answer_check();
		if ((in_dir || (ca->loaded ? item->loaded : item->on_disk)) &&
			pgtls_crl_is_of(item->crl, ca->cert))
			return true;
	}
	return false;
}

static void
answer_certificate(StringInfo record, FileKind kind, const FileItem *item,
				   const Lookup *advice)
{
	CertInfo	info;
	CertDetails details;
	bool		configured = files[CRL_FILE].path != NULL || files[CRL_DIR].path != NULL;

	if (!pgtls_certificate_read(item->cert, &info) ||
		!pgtls_certificate_read_details(item->cert, &details))
		pgtls_out_of_memory();
	pgtls_answer_put(record, file_kinds[kind].setting);
	if (item->position > 0)
		pgtls_answer_put_int(record, item->position);
	else
		pgtls_answer_put(record, NULL);
	pgtls_answer_put(record, item_state(kind, item));
	pgtls_answer_put(record, info.subject);
	pgtls_answer_put(record, info.subject_rfc2253);
	pgtls_answer_put(record, info.issuer);
	pgtls_answer_put(record, details.issuer_rfc2253);
	pgtls_answer_put_numeric(record, info.serial);
	pgtls_answer_put(record, details.serial_hex);
	put_time(record, info.not_before);
	put_time(record, info.not_after);
	pgtls_answer_put(record, info.san);
	pgtls_answer_put(record, info.key);
	pgtls_answer_put(record, info.eku);
	pgtls_answer_put(record, details.signature_algorithm);
	pgtls_answer_put_bool(record, details.is_ca);
	pgtls_answer_put_bool(record, details.self_signed);
	pgtls_answer_put_hex(record, "", info.fingerprint, sizeof(info.fingerprint));
	if (kind == CERT_FILE || !(item->loaded ? crls_in_use : configured))
		pgtls_answer_put(record, NULL);
	else
		pgtls_answer_put_bool(record, find_crl(item));
	pgtls_answer_put(record, item_problem(kind, item, advice));
	pgtls_answer_send(record);
	pgtls_certificate_free(&info);
	pgtls_certificate_free_details(&details);
}

static List *
make_advice(void)
{
	return context != NULL ?
		pgtls_advice_on_loaded(context, pgtls_prepare_built_chain(),
							   pgtls_reload_inherited_crl_dir()) : NIL;
}

/*
 * The CRLs that connections find in the directory in force: a List of
 * FileItem *.  Reads the directory, unless inspect() has.
 */
static List *
find_crls_on_demand(void)
{
	TlsFile    *file = &files[CRL_DIR];
	List	   *result = NIL;
	ListCell   *lc;

	if (file->disk == NIL || !is_crl_dir_in_force())
	{
		memset(file, 0, sizeof(*file));
		file->value = pgtls_reload_inherited_crl_dir();
		if (find_file(CRL_DIR))
			read_crl_dirs();
	}
	foreach(lc, file->disk)
	{
		FileItem   *item = lfirst(lc);

		if (item->crl != NULL && !item->misnamed)
			result = lappend(result, item);
	}
	return result;
}

/*
 * What is to be said of what is loaded: a List of Advice *.  This and the next
 * one are for other workers.
 */
List *
pgtls_files_advice(void)
{
	List	   *advice;
	ListCell   *lc;

	is_known = pgtls_reload_loaded(&context);
	advice = make_advice();
	foreach(lc, find_crls_on_demand())
		advice = list_concat(advice, pgtls_advice_on_crl(((FileItem *) lfirst(lc))->crl));
	return advice;
}

/* The same of what is weak. */
List *
pgtls_files_advice_on_strength(void)
{
	return context != NULL ?
		pgtls_advice_on_strength(context, pgtls_prepare_built_chain()) : NIL;
}

/*
 * The settings whose files on disk are not what is loaded, NULL for none, or
 * where that cannot be known.  "contents" becomes a hash of what is on disk.
 */
char *
pgtls_files_changed(uint64 *contents)
{
	StringInfoData buf;
	StringInfoData all;
	Sha256		digest;

	inspect();
	initStringInfo(&all);
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		const TlsFile *file = &files[kind];

		appendStringInfo(&all, "%s\n%s\n", file->value, file->problem != NULL ? file->problem : "");
		appendBinaryStringInfo(&all, (const char *) file->disk_digest.bytes, sizeof(Sha256));
	}
	digest = digest_of((unsigned char *) all.data, all.len);
	memcpy(contents, digest.bytes, sizeof(*contents));
	initStringInfo(&buf);
	for (int kind = 0; kind < NUM_FILES && is_known; kind++)
	{
		const char *state = files[kind].state;

		if (kind == CRL_DIR || (state == NULL && context != NULL) ||
			(state != NULL && (strcmp(state, "current") == 0 || strcmp(state, "unset") == 0)) ||
			(kind == DH_FILE && (state == NULL || strcmp(state, "changed") != 0)))
			continue;
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", file_kinds[kind].setting);
	}
	return buf.len > 0 ? buf.data : NULL;
}

static bool
has_same_key(X509 *a, X509 *b)
{
	unsigned char digest_a[EVP_MAX_MD_SIZE];
	unsigned char digest_b[EVP_MAX_MD_SIZE];
	unsigned int len;

	return X509_pubkey_digest(a, EVP_sha256(), digest_a, &len) &&
		X509_pubkey_digest(b, EVP_sha256(), digest_b, &len) &&
		memcmp(digest_a, digest_b, len) == 0;
}

/*
 * Whether a file on disk has something that may take the place of an item: a CA of
 * the same name and key, or a CRL of the same CA.
 */
static bool
has_counterpart(const TlsFile *file, const FileItem *item)
{
	const X509_NAME *name = item->cert != NULL ? X509_get_subject_name(item->cert) :
		X509_CRL_get_issuer(item->crl);
	uint32		key = pgtls_lookup_name_key(name);
	ListCell   *lc;

	foreach(lc, pgtls_lookup_find(item->cert != NULL ? cas_by_subject : crls_by_issuer, &key))
	{
		const FileItem *other = lfirst(lc);

		if (other->on_disk && other->path == file->path &&
			X509_NAME_cmp(item->cert != NULL ? X509_get_subject_name(other->cert) :
						  X509_CRL_get_issuer(other->crl), name) == 0 &&
			(item->cert == NULL || has_same_key(item->cert, other->cert)))
			return true;
	}
	return false;
}

/*
 * Whether a file holds less than what is loaded of it: perhaps somebody is about
 * to write the rest.  After pgtls_files_changed().
 */
bool
pgtls_files_hold_less(void)
{
	static const FileKind kinds[] = {CERT_FILE, CA_FILE, CRL_FILE};

	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		const TlsFile *file = &files[kinds[i]];
		int			certs = 0;
		int			crls = 0;
		ListCell   *lc;

		foreach(lc, file->loaded)
		{
			const FileItem *item = lfirst(lc);

			certs += item->cert != NULL;
			crls += item->crl != NULL;
			/* a server's certificate may be renewed under another name */
			if (!item->on_disk && kinds[i] != CERT_FILE && !has_counterpart(file, item))
				return true;
		}
		foreach(lc, file->disk)
		{
			const FileItem *item = lfirst(lc);

			certs -= item->cert != NULL;
			crls -= item->crl != NULL;
		}
		if (certs > 0 || crls > 0)
			return true;
	}
	return false;
}

/* Whether there is an issuer of a CRL, and whether its key has signed it. */
static void
find_crl_issuer(X509_CRL *crl, bool *has_issuer, bool *verified)
{
	uint32		name = pgtls_lookup_name_key(X509_CRL_get_issuer(crl));
	ListCell   *lc;

	*has_issuer = false;
	*verified = false;
	foreach(lc, pgtls_lookup_find(cas_by_subject, &name))
	{
		const FileItem *item = lfirst(lc);
		EVP_PKEY   *key;

		pgtls_answer_check();
		if (X509_NAME_cmp(X509_get_subject_name(item->cert), X509_CRL_get_issuer(crl)) != 0)
			continue;
		*has_issuer = true;
		pgtls_ossl_watch_memory();
		key = X509_get0_pubkey(item->cert);
		*verified = key != NULL && X509_CRL_verify(crl, key) == 1;
		if (!*verified)
			(void) pgtls_failure_reason();
		ERR_clear_error();
		if (*verified)
			return;
	}
}

/* Whether a CRL is of a CA that has not signed it. */
static bool
is_badly_signed(X509_CRL *crl)
{
	bool		has_issuer;
	bool		verified;

	find_crl_issuer(crl, &has_issuer, &verified);
	return has_issuer && !verified;
}

static const char *
crl_status(const FileItem *item, const CrlInfo *info)
{
	bool		has_issuer;
	bool		verified;

	if (item->misnamed)
		return "misnamed";
	find_crl_issuer(item->crl, &has_issuer, &verified);
	if (has_issuer && !verified)
		return "bad_signature";
	switch (pgtls_advice_validity(info->this_update, info->next_update,
								  GetCurrentTimestamp(), true))
	{
		case ENDED:
			return "expired";
		case NOT_YET:
			return "not_yet_valid";
		default:
			/* clients may send its issuer, so that the dates matter more */
			return has_issuer ? "current" : "no_issuer";
	}
}

static void
answer_crl(StringInfo record, FileKind kind, const FileItem *item,
		   const Lookup *advice)
{
	CrlInfo		info;
	const char *status;
	const char *problem;

	pgtls_answer_put(record, file_kinds[kind].setting);
	pgtls_answer_put(record, item->path != NULL ? item->path : files[kind].path);
	pgtls_answer_put(record, item_state(kind, item));
	if (item->crl == NULL)
	{
		for (int i = 0; i < 6; i++)
			pgtls_answer_put(record, NULL);
		pgtls_answer_put(record, "unreadable");
		pgtls_answer_put(record, NULL);
		pgtls_answer_put(record, item->problem);
		pgtls_answer_send(record);
		return;
	}
	if (!pgtls_crl_read(item->crl, &info))
		pgtls_out_of_memory();
	pgtls_answer_put(record, info.issuer);
	pgtls_answer_put_numeric(record, info.number);
	put_time(record, info.this_update);
	put_time(record, info.next_update);
	pgtls_answer_put_int(record, info.revoked);
	pgtls_answer_put_bool(record, info.delta);
	status = crl_status(item, &info);
	pgtls_answer_put(record, status);
	put_digest(record, true, &item->digest);
	problem = item_problem(kind, item, advice);
	if (problem == NULL && strcmp(status, "bad_signature") == 0)
		problem = "is not signed by the CA that it names";
	pgtls_answer_put(record, problem);
	pgtls_answer_send(record);
	pgtls_crl_free(&info);
}

/* A function that sends a record about an item. */
typedef void (*AnswerItem) (StringInfo record, FileKind kind, const FileItem *item,
							const Lookup *advice);

/* Send what is said of each of these items, with memory for one at a time. */
static void
answer_list(FileKind kind, List *items, bool certificates, bool loaded_only,
			const Lookup *advice)
{
	AnswerItem	answer = certificates ? answer_certificate : answer_crl;
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "pg_tls row",
											  ALLOCSET_DEFAULT_SIZES);
	StringInfoData record;
	ListCell   *lc;

	initStringInfo(&record);
	foreach(lc, items)
	{
		const FileItem *item = lfirst(lc);
		MemoryContext oldcontext;

		if ((item->cert != NULL) != certificates || (loaded_only && item->on_disk))
			continue;
		pgtls_answer_check();
		oldcontext = MemoryContextSwitchTo(row);
		answer(&record, kind, item, advice);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(row);
	}
	MemoryContextDelete(row);
	pfree(record.data);
}

/* The certificates, or the CRLs: those on disk, and those that were. */
static void
answer_items(bool certificates)
{
	Lookup	   *advice = pgtls_lookup_create(sizeof(const void *));
	ListCell   *lc;

	foreach(lc, make_advice())
		pgtls_lookup_add(advice, &((Advice *) lfirst(lc))->about, lfirst(lc));
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		answer_list(kind, files[kind].disk, certificates, false, advice);
		answer_list(kind, files[kind].loaded, certificates, true, advice);
	}
}

static bool
answer_entry(const CrlEntry *entry, void *arg)
{
	StringInfo	record = arg;

	pgtls_answer_put(record, entry->issuer);
	if (entry->serial_fits)
		pgtls_answer_put_small_numeric(record, entry->serial_value);
	else
		pgtls_answer_put_numeric(record, entry->serial);
	pgtls_answer_put_hex(record, entry->serial_negative ? "-" : "",
						 entry->serial_bytes, entry->serial_len);
	put_time(record, entry->revoked_at);
	pgtls_answer_put(record, entry->reason);
	pgtls_answer_send(record);
	return true;
}

static void
answer_entries_of(X509_CRL *crl, StringInfo record)
{
	if (!pgtls_crl_entries(crl, answer_entry, record))
		pgtls_out_of_memory();
}

/* The entries of the CRLs in force: those loaded, and those of the directory. */
static void
answer_entries(void)
{
	StringInfoData record;
	STACK_OF(X509_OBJECT) *objects;
	ListCell   *lc;

	if (!pgtls_reload_loaded(&context) || context == NULL)
		return;
	initStringInfo(&record);
	objects = pgtls_ossl_store_objects(SSL_CTX_get_cert_store(context));
	if (objects == NULL)
		pgtls_out_of_memory();
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

		if (crl != NULL)
			answer_entries_of(crl, &record);
	}
	foreach(lc, find_crls_on_demand())
		answer_entries_of(((FileItem *) lfirst(lc))->crl, &record);
}

/* The server certificate in force, in hexadecimal. */
static void
answer_server(void)
{
	SSL_CTX    *loaded;
	StringInfoData record;
	unsigned char *der = NULL;
	int			len;

	if (!pgtls_reload_loaded(&loaded) || loaded == NULL ||
		SSL_CTX_get0_certificate(loaded) == NULL)
		return;
	len = i2d_X509(SSL_CTX_get0_certificate(loaded), &der);
	if (len <= 0)
		pgtls_out_of_memory();
	initStringInfo(&record);
	pgtls_answer_put_hex(&record, "", der, len);
	pgtls_answer_send(&record);
}


/* ----------------------------------------------------------------
 *		Worker: findings
 * ----------------------------------------------------------------
 */

static void
answer_finding(const char *code, const char *object, const char *text)
{
	StringInfoData record;

	initStringInfo(&record);
	pgtls_answer_put(&record, code);
	pgtls_answer_put(&record, object);
	pgtls_answer_put(&record, text);
	pgtls_answer_send(&record);
	pfree(record.data);
}

static void
answer_advice(List *advice)
{
	ListCell   *lc;

	foreach(lc, advice)
	{
		const Advice *a = lfirst(lc);

		answer_finding(a->code, a->object, a->text);
	}
}

/* What is wrong with a file in the directory. */
static void
answer_file_in_dir(const FileItem *item)
{
	if (item->problem != NULL)
		answer_finding("crl_dir_entry", "ssl_crl_dir",
					   psprintf("file \"%s\": %s", item->path, item->problem));
	else if (item->size > LARGE_CRL)
		answer_finding("crl_dir_large", "ssl_crl_dir",
					   psprintf("file \"%s\" holds a CRL of %ld kB, which each connection with a client certificate parses anew",
								item->path, item->size / 1024));
	if (item->crl == NULL || item->misnamed)
		return;
	answer_advice(pgtls_advice_on_crl(item->crl));
	if (is_badly_signed(item->crl))
		answer_finding("crl_bad_signature", "ssl_crl_dir",
					   psprintf("the CRL in \"%s\" is not signed by the CA that it names: clients with certificates of this CA cannot connect",
								item->path));
}

/* What is wrong with a CRL that is loaded, advice apart. */
static void
answer_loaded_crl(const FileItem *item)
{
	char	   *issuer;

	if (!is_badly_signed(item->crl))
		return;
	issuer = pgtls_advice_name(X509_CRL_get_issuer(item->crl));
	answer_finding("crl_bad_signature", issuer,
				   psprintf("the CRL of \"%s\" is not signed by it: clients with certificates of this CA cannot connect",
							issuer));
}

/*
 * What is wrong with the files, and with what is loaded of them.  A dry run is
 * made last, since it replaces the configuration of this process.
 */
static void
answer_findings(void)
{
	bool		changed = false;
	long		crl_size = 0;
	CheckResult result;
	MemoryContext row;
	MemoryContext oldcontext;
	ListCell   *lc;

	if (!EnableSSL)
		return;
	answer_advice(make_advice());
	answer_advice(pgtls_files_advice_on_strength());

	if ((files[CRL_FILE].path != NULL || files[CRL_DIR].path != NULL) &&
		files[CA_FILE].path == NULL)
		answer_finding("crl_without_ca", "ssl_ca_file",
					   "CRLs are configured, but no CA: no client certificate is asked for");

	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		const TlsFile *file = &files[kind];
		const char *setting = file_kinds[kind].setting;

		/* of files in the directories, each is told of below */
		if (file->problem != NULL && kind != CRL_DIR)
			answer_finding(file->code != NULL ? file->code :
						   kind == DH_FILE ? "dh_params_problem" : "file_problem",
						   setting, psprintf("file \"%s\" %s", file->path, file->problem));
		foreach(lc, file->dir_problems)
			answer_finding("file_problem", setting, lfirst(lc));
		if (file->state != NULL && strcmp(file->state, "changed") == 0)
		{
			changed = true;
			answer_finding("file_changed", setting,
						   file->path == NULL ? psprintf("what was loaded is no longer configured") :
						   psprintf("\"%s\" holds something else than what the server has loaded",
									file->path));
		}
	}

	row = AllocSetContextCreate(CurrentMemoryContext, "pg_tls row",
								ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(row);
	foreach(lc, files[CRL_DIR].disk)
	{
		pgtls_answer_check();
		answer_file_in_dir(lfirst(lc));
		MemoryContextReset(row);
	}
	foreach(lc, loaded_items)
	{
		const FileItem *item = lfirst(lc);

		if (item->crl == NULL)
			continue;
		pgtls_answer_check();
		crl_size += item->size;
		answer_loaded_crl(item);
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(row);

	pgtls_check_without_passphrase = true;
	pgtls_check_make(changed || crl_size <= MAX_DRY_RUN ? CHECK_FILES : CHECK_SETTINGS,
					 &result);
	foreach(lc, result.config_errors)
		answer_finding("configuration_error", "postgresql.conf",
					   psprintf("what a reload ignores, and a restart may fail for: %s",
								(char *) lfirst(lc)));
	if (!result.ssl)
		answer_finding("ssl_off_pending", "ssl",
					   "a reload would turn TLS off, as the configuration file says now");
	if (!result.ok && !pgtls_check_needs_passphrase)
		answer_finding("reload_would_fail", "ssl",
					   psprintf("a reload would fail, and so would a restart: %s", result.error));
}

/* Main function of the worker. */
void
pgtls_files_main(Datum arg)
{
	char		kind = pgtls_answer_begin(arg);

	if (kind == ASK_ENTRIES)
		answer_entries();
	else if (kind == ASK_SERVER)
		answer_server();
	else
	{
		inspect();
		switch (kind)
		{
			case ASK_FILES:
				answer_files();
				break;
			case ASK_CERTIFICATES:
				answer_items(true);
				break;
			case ASK_CRLS:
				answer_items(false);
				break;
			case ASK_FINDINGS:
				answer_findings();
				break;
		}
	}
	pgtls_answer_end();
}


/* ----------------------------------------------------------------
 *		Caller
 * ----------------------------------------------------------------
 */

/* A caller that makes each record a row. */
typedef struct RowCaller
{
	const char *types;			/* pgtls_answer_add_row() */
	ReturnSetInfo *rsinfo;
	MemoryContext context;		/* for the values of one row */
} RowCaller;

static void
take_row(StringInfo record, void *arg)
{
	RowCaller  *caller = arg;
	MemoryContext oldcontext = MemoryContextSwitchTo(caller->context);
	Row			row;

	pgtls_row_begin(&row);
	pgtls_answer_add_row(&row, record, caller->types);
	pgtls_row_store(&row, caller->rsinfo);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(caller->context);
}

static bool
ask(char kind, AnswerCallback callback, void *arg)
{
	Question	question = {
		.name = "pg_tls files",
		.function = "pgtls_files_main",
		.what = "a look at the TLS files",
		.kind = kind,
		.deadline = DT_NOEND,
		.optional = kind == ASK_FINDINGS
	};

	pgtls_require_preload();
	return pgtls_answer_ask(&question, callback, arg);
}

static Datum
ask_rows(FunctionCallInfo fcinfo, char kind, const char *types)
{
	RowCaller	caller = {
		.types = types,
		.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo
	};

	InitMaterializedSRF(fcinfo, 0);
	caller.context = AllocSetContextCreate(CurrentMemoryContext, "pg_tls row",
										   ALLOCSET_DEFAULT_SIZES);
	if (!ask(kind, take_row, &caller))
	{
		Row			row;

		/* other findings are not to be lost for this */
		pgtls_row_begin(&row);
		pgtls_row_text(&row, "files_not_checked");
		pgtls_row_text(&row, "max_worker_processes");
		pgtls_row_text(&row, "the TLS files could not be looked at: all worker slots are in use");
		pgtls_row_store(&row, caller.rsinfo);
	}
	MemoryContextDelete(caller.context);
	return (Datum) 0;
}

/*
 * pg_tls_files() returns SETOF record
 *
 * The view's rows.  This and those that follow raise an error without
 * preloading, or if no worker can be started.
 */
Datum
pg_tls_files(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_FILES, "tmtttttITttm");
}

/* pg_tls_certificates() returns SETOF record: the view's rows */
Datum
pg_tls_certificates(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_CERTIFICATES, "titttttntTTltltbbtbm");
}

/* pg_tls_crls() returns SETOF record: the view's rows */
Datum
pg_tls_crls(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_CRLS, "tmttnTTIbttm");
}

/*
 * pg_tls_crl_entries() returns SETOF record
 *
 * The entries of all CRLs in force.
 */
Datum
pg_tls_crl_entries(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_ENTRIES, "tntTt");
}

/* pg_tls_file_findings() returns SETOF record: a part of pg_tls_findings */
Datum
pg_tls_file_findings(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_FINDINGS, "tmm");
}

/* Take the server certificate: DER in hexadecimal. */
static void
take_server(StringInfo record, void *arg)
{
	*(char **) arg = pstrdup(pgtls_answer_get(record));
}

/*
 * pg_tls_server_matches(host text) returns boolean
 *
 * Whether the server certificate in force is for that host, by libpq's rules.
 * NULL if none is loaded, or it cannot be known.  Raises an error for an empty
 * name, without preloading, or if no worker can be started.
 */
Datum
pg_tls_server_matches(PG_FUNCTION_ARGS)
{
	char	   *host = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *hex = NULL;
	unsigned char *der;
	const unsigned char *p;
	size_t		len;
	X509	   *cert;
	bool		result;

	if (host[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("host name must not be empty")));
	(void) ask(ASK_SERVER, take_server, &hex);
	if (hex == NULL)
		PG_RETURN_NULL();
	len = strlen(hex) / 2;
	der = palloc(len);
	(void) hex_decode(hex, 2 * len, (char *) der);
	p = der;
	cert = d2i_X509(NULL, &p, len);
	if (cert == NULL)
		pgtls_out_of_memory();
	result = pgtls_certificate_matches_host(cert, host);
	X509_free(cert);
	ERR_clear_error();
	PG_RETURN_BOOL(result);
}

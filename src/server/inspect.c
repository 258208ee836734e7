/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  The server's TLS files: configured, loaded, and on disk.
 *
 * A worker is forked from the postmaster, and so
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

#include <sys/stat.h>
#include <unistd.h>

#include "libpq/libpq.h"
#include "postmaster/postmaster.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/worker.h"
#include "server/crldir.h"
#include "server/inspect.h"
#include "server/load.h"
#include "server/prepare.h"
#include "x509/crl.h"
#include "x509/verify.h"


const FileKindInfo pgtls_inspect_kinds[NUM_FILES] = {
	{
		"ssl_cert_file",
		"server certificate, and the intermediate ones up to its root",
		"sent to clients, so that they know whom they talk to"
	},
	{
		"ssl_key_file",
		"private key of the server certificate",
		"proves that the server owns its certificate"
	},
	{
		"ssl_ca_file",
		"certificates of trusted certificate authorities",
		"client certificates must come from one of them"
	},
	{
		"ssl_crl_file",
		"revocation lists of certificate authorities",
		"client certificates must not be on them"
	},
	{
		"ssl_crl_dir",
		"revocation lists, in files named by a hash of the issuer",
		"the same, looked up by each connection"
	},
	{
		"ssl_dh_params_file",
		"parameters for Diffie-Hellman",
		"used by ephemeral DH ciphers of TLS 1.2 and before"
	}
};


/* ----------------------------------------------------------------
 *		What is loaded
 * ----------------------------------------------------------------
 */

static void
collect_loaded(Inspection *in)
{
	ObjectStack *objects;
	X509Stack  *chain = NULL;
	TlsFile    *file = &in->files[CERT_FILE];
	EVP_PKEY   *key;

	if (in->context == NULL)
		return;

	if (SSL_CTX_get0_certificate(in->context) != NULL)
	{
		if (!pgtls_prepare_built_chain())
			SSL_CTX_get0_chain_certs(in->context, &chain);
		for (int i = -1; i < (chain != NULL ? sk_X509_num(chain) : 0); i++)
		{
			FileItem   *item =
				pgtls_item_make(i < 0 ? SSL_CTX_get0_certificate(in->context) :
								sk_X509_value(chain, i),
								NULL);

			item->loaded = true;
			item->position = i + 2;
			file->loaded = lappend(file->loaded, item);
		}
	}
	key = SSL_CTX_get0_privatekey(in->context);
	if (key != NULL)
	{
		in->files[KEY_FILE].loaded_digest = pgtls_item_digest_of_key(key);
		in->files[KEY_FILE].has_loaded_digest = true;
	}

	objects = pgtls_ossl_store_objects(SSL_CTX_get_cert_store(in->context));
	if (objects == NULL)
		pgtls_error_out_of_memory();
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		FileItem   *item;

		if (X509_OBJECT_get0_X509(object) == NULL &&
			X509_OBJECT_get0_X509_CRL(object) == NULL)
			continue;
		pgtls_worker_check();
		item = pgtls_item_make(X509_OBJECT_get0_X509(object),
							   X509_OBJECT_get0_X509_CRL(object));
		item->loaded = true;
		in->loaded_items = lappend(in->loaded_items, item);
	}
	/* the objects stay, as the items point to them */
	in->loaded_by_digest = pgtls_item_index(in->loaded_items);
	in->crls_in_use =
		pgtls_verify_checks_crls(SSL_CTX_get_cert_store(in->context));
}

/*
 * Tell which file what is in the store came from.  OpenSSL takes certificates
 * and CRLs from either; but where a thing is not on disk any more, it came
 * from where it belongs.
 */
static void
attribute_loaded(Inspection *in)
{
	Lookup	   *in_ca_file = pgtls_item_index(in->files[CA_FILE].disk);
	Lookup	   *in_crl_file = pgtls_item_index(in->files[CRL_FILE].disk);
	ListCell   *lc;

	foreach(lc, in->loaded_items)
	{
		FileItem   *item = lfirst(lc);
		bool		in_ca = pgtls_item_find(in_ca_file, &item->digest) != NULL;
		bool		in_crl =
			pgtls_item_find(in_crl_file, &item->digest) != NULL;

		/* it may be in both, and they may be the same file */
		if (in_ca || (item->cert != NULL && !in_crl))
			in->files[CA_FILE].loaded =
				lappend(in->files[CA_FILE].loaded, item);
		if (in_crl || (item->crl != NULL && !in_ca))
			in->files[CRL_FILE].loaded =
				lappend(in->files[CRL_FILE].loaded, item);
	}
}


/* ----------------------------------------------------------------
 *		What is on disk
 * ----------------------------------------------------------------
 */

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
read_file(Inspection *in, FileKind kind)
{
	TlsFile    *file = &in->files[kind];

	file->disk = pgtls_item_read_file(file->path, &file->st, kind != CERT_FILE,
									  in->loaded_by_digest, &file->problem);
	if (file->problem == NULL && kind != CRL_FILE &&
		!has_certificate(file->disk))
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
read_key(Inspection *in)
{
	TlsFile    *file = &in->files[KEY_FILE];
	bool		asked = false;
	BIO		   *bio =
		pgtls_item_open_file(file->path, &file->st, &file->problem);
	EVP_PKEY   *key;

	if (bio == NULL)
		return;
	pgtls_ossl_watch_memory();
	key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
	if (key != NULL)
	{
		file->disk_digest = pgtls_item_digest_of_key(key);
		file->has_disk_digest = true;
		EVP_PKEY_free(key);
	}
	else if (!asked)
	{
		(void) pgtls_error_reason();
		file->problem = "holds no private key in PEM";
	}
	else
	{
		file->encrypted = true;
		if (ssl_passphrase_command[0] == '\0' ||
			!ssl_passphrase_command_supports_reload)
		{
			file->problem =
				"needs a passphrase, so that a reload cannot load it";
			file->problem_kind = PROBLEM_WITH_PASSPHRASE;
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
check_key_permissions(Inspection *in)
{
	TlsFile    *file = &in->files[KEY_FILE];
	const struct stat *st = &file->st;

	if (!S_ISREG(st->st_mode))
		return;
	if (st->st_uid != geteuid() && st->st_uid != 0)
		file->problem =
			"is owned by neither the server's user nor root, which the server refuses";
	else if (st->st_uid == geteuid() &&
			 (st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		file->problem =
			"can be used by group or world, which the server refuses: it has to have mode 0600 or less";
	else if (st->st_uid == 0 &&
			 (st->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0)
		file->problem =
			"can be used by world or written by its group, which the server refuses: as root's it has to have mode 0640 or less";
	else
		return;
	file->problem_kind = PROBLEM_WITH_PERMISSIONS;
}

static void
read_dh_params(Inspection *in)
{
	TlsFile    *file = &in->files[DH_FILE];
	BIO		   *bio =
		pgtls_item_open_file(file->path, &file->st, &file->problem);
	char	   *name;
	char	   *header;
	unsigned char *data;
	long		len;

	if (bio == NULL)
		return;
	pgtls_ossl_watch_memory();
	while (!file->has_disk_digest &&
		   PEM_read_bio(bio, &name, &header, &data, &len))
	{
		if (strcmp(name, PEM_STRING_DHPARAMS) == 0 ||
			strcmp(name, PEM_STRING_DHXPARAMS) == 0)
		{
			file->disk_digest = pgtls_item_digest(data, len);
			file->has_disk_digest = true;
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
	}
	if (!file->has_disk_digest)
	{
		(void) pgtls_error_reason();
		file->problem = "holds no parameters in PEM";
	}
	BIO_free(bio);
	ERR_clear_error();
}

/* Look at the file itself; false if there is nothing to read. */
static bool
find_file(Inspection *in, FileKind kind)
{
	TlsFile    *file = &in->files[kind];

	if (file->value[0] == '\0')
	{
		file->state = "unset";
		return false;
	}
	if (kind == CRL_DIR)
		return pgtls_crldir_find(file);
	file->path = pgtls_item_absolute_path(file->value);
	if (stat(file->path, &file->st) == 0)
	{
		file->exists = true;
		return true;
	}
	if (errno == ENOENT)
	{
		file->state = "missing";
		file->problem = kind == DH_FILE ?
			"does not exist, so that the server uses parameters of its own" :
			"does not exist";
	}
	else
	{
		file->state = "unreadable";
		file->problem = psprintf("could not be accessed: %s", strerror(errno));
	}
	return false;
}


/* ----------------------------------------------------------------
 *		Both together
 * ----------------------------------------------------------------
 */

/* Mark what is on disk and loaded, and have both be the same object. */
static void
join_items(TlsFile *file)
{
	Lookup	   *by_digest = pgtls_item_index(file->loaded);
	ListCell   *lc;

	foreach(lc, file->disk)
	{
		FileItem   *item = lfirst(lc);
		FileItem   *loaded = pgtls_item_find(by_digest, &item->digest);

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
bool
pgtls_inspect_crl_dir_is_in_force(const Inspection *in)
{
	return in->context != NULL &&
		strcmp(in->files[CRL_DIR].value, pgtls_load_crl_dir()) == 0;
}

static void
compare_file(Inspection *in, FileKind kind)
{
	TlsFile    *file = &in->files[kind];

	if (kind == CERT_FILE || kind == CA_FILE || kind == CRL_FILE)
	{
		join_items(file);
		if (file->loaded != NIL)
		{
			file->loaded_digest =
				pgtls_item_digest_of_list(file->loaded, kind == CERT_FILE);
			file->has_loaded_digest = true;
		}
		if (file->disk != NIL && file->problem == NULL)
		{
			file->disk_digest =
				pgtls_item_digest_of_list(file->disk, kind == CERT_FILE);
			file->has_disk_digest = true;
		}
	}
	else if (kind == CRL_DIR && file->disk != NIL)
	{
		file->disk_digest = pgtls_item_digest_of_list(file->disk, false);
		file->has_disk_digest = true;
	}

	if (file->state != NULL && strcmp(file->state, "unset") != 0)
		return;
	if (file->state == NULL && !file->has_disk_digest && kind != CRL_DIR &&
		!file->encrypted)
		file->state = "unreadable";
	else if (in->context == NULL)
		return;					/* nothing to compare with */
	else if (kind == CRL_DIR)
	{
		bool		same = pgtls_inspect_crl_dir_is_in_force(in);

		if (!same || file->state == NULL)
			file->state = same ? "current" : "changed";
	}
	else if (kind == DH_FILE)
	{
		if (file->state == NULL)
			file->state = pgtls_load_same_dh_file(&file->st) ? "current" :
				"changed";
	}
	else if (kind == KEY_FILE && !file->has_disk_digest)
		file->state = pgtls_load_same_key_file(&file->st) ? "current" :
			"changed";
	else if (file->state == NULL || file->has_loaded_digest)
		file->state = file->has_loaded_digest &&
			pgtls_item_compare_digests(&file->loaded_digest,
									   &file->disk_digest) ==
			0 ?
			"current" :
			"changed";
}

/* Whether certificate and key fit together. */
static void
check_pair(Inspection *in)
{
	TlsFile    *key = &in->files[KEY_FILE];
	Sha256		digest;
	FileItem   *item;

	if (key->problem != NULL || !key->has_disk_digest ||
		in->files[CERT_FILE].disk == NIL)
		return;
	item = linitial(in->files[CERT_FILE].disk);
	if (X509_get0_pubkey(item->cert) == NULL)
		return;
	digest = pgtls_item_digest_of_key(X509_get0_pubkey(item->cert));
	if (pgtls_item_compare_digests(&digest, &key->disk_digest) != 0)
		key->problem = "does not belong to the certificate in ssl_cert_file";
}

/* Make it possible to find a CA or CRL by its name. */
static void
index_name(Inspection *in, FileItem *item)
{
	uint32		key;

	pgtls_worker_check();
	if (item->cert != NULL)
	{
		key = pgtls_lookup_name_key(X509_get_subject_name(item->cert));
		pgtls_lookup_add(in->cas_by_subject, &key, item);
	}
	else if (item->crl != NULL && !item->misnamed)
	{
		key = pgtls_lookup_name_key(X509_CRL_get_issuer(item->crl));
		pgtls_lookup_add(in->crls_by_issuer, &key, item);
	}
}

static void
index_names(Inspection *in)
{
	in->cas_by_subject = pgtls_lookup_create(sizeof(uint32));
	in->crls_by_issuer = pgtls_lookup_create(sizeof(uint32));
	for (int kind = CA_FILE; kind <= CRL_DIR; kind++)
	{
		ListCell   *lc;

		foreach(lc, in->files[kind].disk)
			index_name(in, lfirst(lc));
		/* of what is loaded and on disk, there is an item there, too */
		foreach(lc, in->files[kind].loaded)
		{
			if (!((FileItem *) lfirst(lc))->on_disk)
				index_name(in, lfirst(lc));
		}
	}
}

/* What is loaded, and nothing else. */
Inspection *
pgtls_inspect_loaded(void)
{
	Inspection *in = palloc0(sizeof(Inspection));

	in->is_known = pgtls_load_context(&in->context);
	return in;
}

/* Look at all of the files, and compare them with what is loaded. */
Inspection *
pgtls_inspect_files(void)
{
	Inspection *in = pgtls_inspect_loaded();
	const char *const values[NUM_FILES] = {
		ssl_cert_file, ssl_key_file, ssl_ca_file, ssl_crl_file, ssl_crl_dir,
		ssl_dh_params_file
	};

	collect_loaded(in);
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		in->files[kind].value = values[kind] != NULL ? values[kind] : "";
		if (!find_file(in, kind))
			continue;
		switch ((FileKind) kind)
		{
			case CERT_FILE:
			case CA_FILE:
			case CRL_FILE:
				read_file(in, kind);
				break;
			case KEY_FILE:
				read_key(in);
				check_key_permissions(in);
				break;
			case CRL_DIR:
				pgtls_crldir_read(&in->files[CRL_DIR],
								  in->context != NULL ?
								  SSL_CTX_get_cert_store(in->context) :
								  NULL,
								  in->loaded_by_digest);
				break;
			case DH_FILE:
				read_dh_params(in);
				break;
			case NUM_FILES:
				break;
		}
	}
	attribute_loaded(in);
	for (int kind = 0; kind < NUM_FILES; kind++)
		compare_file(in, kind);
	check_pair(in);
	index_names(in);
	return in;
}


/* ----------------------------------------------------------------
 *		Questions
 * ----------------------------------------------------------------
 */

/*
 * Whether there is a CRL of a CA, where it would be used: among those loaded,
 * in the directory, or on disk.
 */
bool
pgtls_inspect_has_crl(const Inspection *in, const FileItem *ca)
{
	uint32		key = pgtls_lookup_name_key(X509_get_subject_name(ca->cert));
	ListCell   *lc;

	foreach(lc, pgtls_lookup_find(in->crls_by_issuer, &key))
	{
		const FileItem *item = lfirst(lc);
		bool		in_dir = item->name != NULL;

		pgtls_worker_check();
		if ((in_dir || (ca->loaded ? item->loaded : item->on_disk)) &&
			pgtls_crl_is_of(item->crl, ca->cert))
			return true;
	}
	return false;
}

/*
 * The CRLs that connections find in the directory in force: a List of
 * FileItem *.  Reads the directory, unless that was done.
 */
List *
pgtls_inspect_crls_on_demand(const Inspection *in)
{
	TlsFile		dir = in->files[CRL_DIR];
	List	   *result = NIL;
	ListCell   *lc;

	if (dir.disk == NIL || !pgtls_inspect_crl_dir_is_in_force(in))
	{
		memset(&dir, 0, sizeof(dir));
		dir.value = pgtls_load_crl_dir();
		if (dir.value[0] != '\0' && pgtls_crldir_find(&dir))
			pgtls_crldir_read(&dir, SSL_CTX_get_cert_store(in->context),
							  in->loaded_by_digest);
	}
	foreach(lc, dir.disk)
	{
		FileItem   *item = lfirst(lc);

		if (item->crl != NULL && !item->misnamed)
			result = lappend(result, item);
	}
	return result;
}

/* Whether there is an issuer of a CRL, and whether its key has signed it. */
void
pgtls_inspect_find_crl_issuer(const Inspection *in, X509_CRL *crl,
							  bool *has_issuer, bool *verified)
{
	uint32		name = pgtls_lookup_name_key(X509_CRL_get_issuer(crl));
	ListCell   *lc;

	*has_issuer = false;
	*verified = false;
	foreach(lc, pgtls_lookup_find(in->cas_by_subject, &name))
	{
		const FileItem *item = lfirst(lc);
		EVP_PKEY   *key;

		pgtls_worker_check();
		if (X509_NAME_cmp(X509_get_subject_name(item->cert),
						  X509_CRL_get_issuer(crl)) != 0)
			continue;
		*has_issuer = true;
		pgtls_ossl_watch_memory();
		key = X509_get0_pubkey(item->cert);
		*verified = key != NULL && X509_CRL_verify(crl, key) == 1;
		if (!*verified)
			(void) pgtls_error_reason();
		ERR_clear_error();
		if (*verified)
			return;
	}
}

/* Whether a CRL is of a CA that has not signed it. */
bool
pgtls_inspect_is_badly_signed(const Inspection *in, X509_CRL *crl)
{
	bool		has_issuer;
	bool		verified;

	pgtls_inspect_find_crl_issuer(in, crl, &has_issuer, &verified);
	return has_issuer && !verified;
}

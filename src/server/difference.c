/*-------------------------------------------------------------------------
 *
 * difference.c
 *	  What has changed in the TLS files since they were loaded.
 *
 * For the watch (work/watch.c), in its worker: it reloads files that are not
 * what is loaded, and waits with those that hold less.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/compat.h"
#include "server/difference.h"

/*
 * The settings whose files on disk are not what is loaded, NULL for none, or
 * where that cannot be known.  "contents" becomes a hash of what is on disk.
 */
char *
pgtls_difference_find(const Inspection *in, uint64 *contents)
{
	StringInfoData buf;
	StringInfoData all;
	Sha256		digest;

	initStringInfo(&all);
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		const TlsFile *file = &in->files[kind];

		appendStringInfo(&all, "%s\n%s\n", file->value,
						 file->problem != NULL ? file->problem : "");
		appendBinaryStringInfo(&all, (const char *) file->disk_digest.bytes,
							   sizeof(Sha256));
	}
	digest = pgtls_item_digest((unsigned char *) all.data, all.len);
	memcpy(contents, digest.bytes, sizeof(*contents));
	initStringInfo(&buf);
	for (int kind = 0; kind < NUM_FILES && in->is_known; kind++)
	{
		const char *state = in->files[kind].state;

		if (kind == CRL_DIR || (state == NULL && in->context != NULL) ||
			(state != NULL &&
			 (strcmp(state, "current") == 0 || strcmp(state, "unset") == 0)) ||
			(kind == DH_FILE &&
			 (state == NULL || strcmp(state, "changed") != 0)))
			continue;
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "",
						 pgtls_inspect_kinds[kind].setting);
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
 * Whether a file on disk has something that may take the place of an item: a
 * CA of the same name and key, or a CRL of the same CA.
 */
static bool
has_counterpart(const Inspection *in, const TlsFile *file,
				const FileItem *item)
{
	const X509_NAME *name = item->cert != NULL ?
		X509_get_subject_name(item->cert) :
		X509_CRL_get_issuer(item->crl);
	uint32		key = pgtls_lookup_name_key(name);
	ListCell   *lc;

	foreach(lc, pgtls_lookup_find(item->cert != NULL ? in->cas_by_subject :
								  in->crls_by_issuer,
								  &key))
	{
		const FileItem *other = lfirst(lc);

		if (other->on_disk && other->path == file->path &&
			X509_NAME_cmp(item->cert != NULL ?
						  X509_get_subject_name(other->cert) :
						  X509_CRL_get_issuer(other->crl),
						  name) == 0 &&
			(item->cert == NULL || has_same_key(item->cert, other->cert)))
			return true;
	}
	return false;
}

/*
 * Whether a file holds less than what is loaded of it: perhaps somebody is
 * about to write the rest.
 */
bool
pgtls_difference_holds_less(const Inspection *in)
{
	static const FileKind kinds[] = {CERT_FILE, CA_FILE, CRL_FILE};

	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		const TlsFile *file = &in->files[kinds[i]];
		int			certs = 0;
		int			crls = 0;
		ListCell   *lc;

		foreach(lc, file->loaded)
		{
			const FileItem *item = lfirst(lc);

			certs += item->cert != NULL;
			crls += item->crl != NULL;
			/* a server's certificate may be renewed under another name */
			if (!item->on_disk && kinds[i] != CERT_FILE &&
				!has_counterpart(in, file, item))
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

/*-------------------------------------------------------------------------
 *
 * crldir.c
 *	  ssl_crl_dir: its directories, and the CRLs that connections find there.
 *
 * OpenSSL takes the setting for a list of directories, and looks in each for
 * files named by a hash of the issuer.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include <dirent.h>
#include <unistd.h>

#include "utils/builtins.h"

#include "base/error.h"
#include "base/lookup.h"
#include "base/worker.h"
#include "server/crldir.h"
#include "x509/crl.h"

/* OpenSSL's LIST_SEPARATOR_CHAR */
#define LIST_SEPARATOR	":"

/* A file in ssl_crl_dir that is larger is not read. */
#define MAX_CRL_FILE_SIZE	((off_t) 1024 * 1024 * 1024)

/*
 * Copy the next directory of a list, as OpenSSL takes it: empty parts, and
 * those that occurred before, are left out.  "rest" is NULL at first.  False
 * if there are no more.
 */
bool
pgtls_crldir_next(const char *list, const char **rest, char *dir, Size size)
{
	const char *start = *rest != NULL ? *rest : list;

	while (*start != '\0')
	{
		const char *end = start + strcspn(start, LIST_SEPARATOR);
		Size		len = end - start;
		const char *earlier = list;
		bool		known = len == 0;

		while (!known && earlier < start)
		{
			const char *earlier_end = earlier +
				strcspn(earlier, LIST_SEPARATOR);

			known = (Size) (earlier_end - earlier) == len &&
				memcmp(earlier, start, len) == 0;
			earlier = earlier_end + 1;
		}
		if (!known)
			strlcpy(dir, start, Min(len + 1, size));
		start = *end != '\0' ? end + 1 : end;
		if (!known)
		{
			*rest = start;
			return true;
		}
	}
	return false;
}

/* Can a file of this name be one that OpenSSL looks for, "01234567.r0"? */
bool
pgtls_crldir_is_hash_name(const char *name)
{
	return strspn(name, "0123456789abcdef") == 8 && name[8] == '.';
}


/* ----------------------------------------------------------------
 *		OpenSSL's look-up
 * ----------------------------------------------------------------
 */

/*
 * Whether OpenSSL would wait, or read for very long, if it looked up the CRLs
 * of an issuer in a directory.
 */
static bool
would_wait(const char *dir, unsigned long hash)
{
	struct stat st;

	for (int i = 0;; i++)
	{
		char	   *path = psprintf("%s/%08lx.r%d", dir, hash, i);

		if (lstat(path, &st) != 0)
			return false;
		if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode) &&
			(!S_ISREG(st.st_mode) || st.st_size > MAX_CRL_FILE_SIZE))
			return true;
	}
}

/*
 * The CRLs of an issuer that connections find in ssl_crl_dir, to be freed; NULL
 * for none.  OpenSSL says which: what it does about files that it cannot read
 * depends on its version, and so does which of several directories it reads.
 * But where it would wait, it is not asked, and connections find nothing,
 * either.
 *
 * "loaded" are those of the issuer that the server's store has already, and
 * perhaps others: they may keep OpenSSL from reading more.
 */
CrlStack *
pgtls_crldir_lookup(const char *list, const X509_NAME *issuer, List *loaded)
{
	X509_NAME  *name = unconstify(X509_NAME *, issuer);
	unsigned long hash = X509_NAME_hash(name) & 0xffffffffUL;
	X509_STORE *store;
	X509_STORE_CTX *lookup;
	CrlStack   *result = NULL;
	char		dir[MAXPGPATH];
	const char *rest = NULL;
	StringInfoData readable;
	ListCell   *lc;

	initStringInfo(&readable);
	while (pgtls_crldir_next(list, &rest, dir, sizeof(dir)) &&
		   !would_wait(dir, hash))
		appendStringInfo(&readable, "%s:", dir);
	if (readable.len == 0)
		return NULL;

	pgtls_ossl_watch_memory();
	store = X509_STORE_new();
	lookup = X509_STORE_CTX_new();
	foreach(lc, store != NULL ? loaded : NIL)
	{
		if (X509_NAME_cmp(X509_CRL_get_issuer(lfirst(lc)), issuer) == 0)
			(void) X509_STORE_add_crl(store, lfirst(lc));
	}
	if (store != NULL && lookup != NULL &&
		X509_STORE_load_locations(store, NULL, readable.data) &&
		X509_STORE_CTX_init(lookup, store, NULL, NULL))
		result = X509_STORE_CTX_get1_crls(lookup, name);
	X509_STORE_CTX_free(lookup);
	X509_STORE_free(store);
	if (pgtls_ossl_out_of_memory() && result == NULL)
		pgtls_error_out_of_memory();
	return result;
}

bool
pgtls_crldir_has_crl(const char *list, X509 *ca, List *loaded)
{
	CrlStack   *crls =
		pgtls_crldir_lookup(list, X509_get_subject_name(ca), loaded);
	bool		found = false;

	for (int i = 0; !found && i < sk_X509_CRL_num(crls); i++)
		found = pgtls_crl_is_of(sk_X509_CRL_value(crls, i), ca);
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return found;
}


/* ----------------------------------------------------------------
 *		All that is in the directories
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

	return strspn(name, "0123456789abcdef") == 8 &&
		strncmp(name + 8, ".r", 2) == 0 &&
		strspn(name + 10, "0123456789") == strlen(name + 10) &&
		strlen(name + 10) < 10 && (name[10] != '0' || name[11] == '\0') &&
		sscanf(name, "%8x.r%u%n", &parsed->hash, &parsed->number, &end) ==
		2 &&
		name[end] == '\0';
}

/*
 * Find the files of a directory that hold CRLs and nothing that cannot be
 * read, as those before them do from "01234567.r0" on: a lookup by CrlName.
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

		if (!parse_crl_name(((FileItem *) lfirst(lc))->name, &name) ||
			name.number != 0)
			continue;
		for (; pgtls_lookup_find(sound, &name) != NIL &&
			 pgtls_lookup_find(series, &name) == NIL; name.number++)
			pgtls_lookup_add(series, &name,
							 linitial(pgtls_lookup_find(sound, &name)));
	}
	return series;
}

/* What is known while directories are read. */
typedef struct Reader
{
	TlsFile    *file;
	X509_STORE *store;			/* of the server, NULL if nothing is loaded */
	const Lookup *known;		/* pgtls_item_read_file() */
	Lookup	   *loaded;			/* CRLs of the store by the names of issuers */

	/* the CRLs that connections find of the last issuer that was asked for */
	const X509_NAME *issuer;
	CrlStack   *crls;
} Reader;

/*
 * Make it possible to find CRLs that are loaded by the names of their
 * issuers.
 */
static void
index_loaded_crls(Reader *reader)
{
	ObjectStack *objects = reader->store != NULL ?
		pgtls_ossl_store_objects(reader->store) : NULL;

	reader->loaded = pgtls_lookup_create(sizeof(uint32));
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_CRL   *crl =
			X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
		uint32		key;

		if (crl == NULL)
			continue;
		key = pgtls_lookup_name_key(X509_CRL_get_issuer(crl));
		pgtls_lookup_add(reader->loaded, &key, crl);
	}
	if (objects != NULL)
		pgtls_ossl_store_objects_free(objects);
}

/* Ask OpenSSL whether connections find a CRL. */
static bool
is_found(Reader *reader, const FileItem *item)
{
	const X509_NAME *issuer = X509_CRL_get_issuer(item->crl);
	bool		result = false;

	/* that reads all of them: keep them for the next one */
	if (reader->issuer == NULL || X509_NAME_cmp(issuer, reader->issuer) != 0)
	{
		uint32		key = pgtls_lookup_name_key(issuer);

		sk_X509_CRL_pop_free(reader->crls, X509_CRL_free);
		reader->crls =
			pgtls_crldir_lookup(reader->file->value, issuer,
								pgtls_lookup_find(reader->loaded, &key));
		reader->issuer = issuer;
	}

	for (int i = 0; !result && i < sk_X509_CRL_num(reader->crls); i++)
		result =
			X509_CRL_match(sk_X509_CRL_value(reader->crls, i), item->crl) == 0;
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
is_well_named(Reader *reader, const FileItem *item, const Lookup *series)
{
	CrlName		name;

	if (!has_hash_name(item) || !parse_crl_name(item->name, &name))
		return false;

	/* what is found in one directory may hide another */
	if (item->dir != linitial(reader->file->dirs))
		return is_found(reader, item);

	/* OpenSSL counts, and some versions stop at one that cannot be read */
	if (name.number == 0)
		return true;
	name.number--;
	return pgtls_lookup_find(series, &name) != NIL || is_found(reader, item);
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	const FileItem *item1 = lfirst(a);
	const FileItem *item2 = lfirst(b);
	int			result = strcmp(item1->path, item2->path);

	return result != 0 ? result : item1->position - item2->position;
}

static void
add_dir_problem(TlsFile *file, const char *path, const char *problem)
{
	file->dir_problems =
		lappend(file->dir_problems,
				psprintf("directory \"%s\" %s", path, problem));
	/* where there is one directory, its row names it */
	if (!file->several)
		file->problem = pstrdup(problem);
	else if (file->problem == NULL)
		file->problem = llast(file->dir_problems);
	else
		file->problem = psprintf("%s; %s", file->problem,
								 (char *) llast(file->dir_problems));
}

/* Add what is in a file of a directory. */
static List *
read_dir_entry(Reader *reader, List *found, const char *dir,
			   const char *entry_name)
{
	char	   *name = pstrdup(entry_name);
	char	   *path = psprintf("%s/%s", pgtls_item_absolute_path(dir), name);
	struct stat st;
	CrlName		parsed;
	char	   *problem = NULL;
	List	   *items =
		pgtls_item_read_file(path, &st, true, reader->known, &problem);
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
read_unlisted_dir(Reader *reader, List *found, const char *dir)
{
	Lookup	   *seen = pgtls_lookup_create(sizeof(uint32));
	ObjectStack *objects;

	if (reader->store == NULL)
		return found;
	objects = pgtls_ossl_store_objects(reader->store);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509	   *ca =
			X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
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

			pgtls_worker_check();
			if (lstat(psprintf("%s/%s", dir, name), &st) != 0)
				break;
			found = read_dir_entry(reader, found, dir, name);
		}
	}
	if (objects != NULL)
		pgtls_ossl_store_objects_free(objects);
	return found;
}

static List *
read_dir(Reader *reader, List *found, const char *dir)
{
	DIR		   *stream = opendir(dir);
	struct dirent *entry;

	if (stream == NULL)
	{
		TlsFile    *file = reader->file;

		if (errno != EACCES || access(dir, X_OK) != 0)
			add_dir_problem(file, pgtls_item_absolute_path(dir),
							psprintf("could not be opened: %s",
									 strerror(errno)));
		else
		{
			/* which is no finding, if its files can be opened */
			file->problem =
				psprintf("%s%scannot be listed, so that only CRLs of the CAs that are loaded are known",
						 file->problem != NULL ?
						 psprintf("%s; ", file->problem) :
						 "",
						 !file->several ?
						 "" :
						 psprintf("directory \"%s\" ",
								  pgtls_item_absolute_path(dir)));
			found = read_unlisted_dir(reader, found, dir);
		}
		return found;
	}
	while ((entry = readdir(stream)) != NULL)
	{
		if (entry->d_name[0] != '.')
			found = read_dir_entry(reader, found, dir, entry->d_name);
	}
	closedir(stream);
	return found;
}

/*
 * Read the directories that pgtls_crldir_find() has found.  "store" is that of
 * the server, NULL if nothing is loaded; "known" is for pgtls_item_read_file().
 */
void
pgtls_crldir_read(TlsFile *file, X509_STORE *store, const Lookup *known)
{
	Reader		reader = {
		.file = file,
		.store = store,
		.known = known
	};
	List	   *found = NIL;
	Lookup	   *series;
	Lookup	   *by_digest;
	int			problems = 0;
	ListCell   *lc;

	index_loaded_crls(&reader);
	foreach(lc, file->dirs)
		found = read_dir(&reader, found, lfirst(lc));

	/* those of an issuer follow each other, as is_found() has it */
	list_sort(found, compare_names);
	series = find_sound_series(found, file->dirs != NIL ?
							   linitial(file->dirs) :
							   NULL);
	by_digest = pgtls_lookup_create(sizeof(Sha256));
	foreach(lc, found)
	{
		FileItem   *item = lfirst(lc);

		pgtls_worker_check();
		if (item->crl == NULL)
			continue;
		item->misnamed = !is_well_named(&reader, item, series);
		if (!item->misnamed)
			pgtls_lookup_add(by_digest, &item->digest, item);
	}

	file->disk = NIL;
	foreach(lc, found)
	{
		FileItem   *item = lfirst(lc);

		/* what a link of the right name leads to may have any name */
		if (item->misnamed && pgtls_item_find(by_digest, &item->digest) != NULL)
			continue;
		if (item->misnamed && item->problem == NULL && has_hash_name(item) &&
			item->dir != linitial(file->dirs))
			item->problem =
				"connections do not find it: what another directory of \"ssl_crl_dir\" has of this issuer hides it";
		else if (item->misnamed && item->problem == NULL)
			item->problem =
				psprintf("connections do not find it: the CRLs of this issuer have to be named %08lx.r0, %08lx.r1 and so on",
						 X509_NAME_hash(X509_CRL_get_issuer(item->crl)) &
						 0xffffffffUL,
						 X509_NAME_hash(X509_CRL_get_issuer(item->crl)) &
						 0xffffffffUL);
		if (item->problem != NULL)
			problems++;
		file->disk = lappend(file->disk, item);
	}
	if (problems > 0)
		file->problem =
			psprintf("%s%d of the CRLs in it %s of no use: see pg_tls_crls",
					 file->problem != NULL ? psprintf("%s; ", file->problem) :
					 "",
					 problems, problems == 1 ? "is" : "are");
	sk_X509_CRL_pop_free(reader.crls, X509_CRL_free);
}

/*
 * Look at the directories of ssl_crl_dir: OpenSSL takes it for a list.  False
 * if there is nothing to read.
 */
bool
pgtls_crldir_find(TlsFile *file)
{
	char		dir[MAXPGPATH];
	const char *rest = NULL;
	StringInfoData path;
	List	   *names = NIL;
	ListCell   *lc;

	initStringInfo(&path);
	while (pgtls_crldir_next(file->value, &rest, dir, sizeof(dir)))
	{
		appendStringInfo(&path, "%s%s", names != NIL ? ":" : "",
						 pgtls_item_absolute_path(dir));
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
			add_dir_problem(file, pgtls_item_absolute_path(name),
							"is not a directory");
		}
		else if (errno == ENOENT)
			add_dir_problem(file, pgtls_item_absolute_path(name),
							"does not exist, which the server does not report");
		else
		{
			file->state = "unreadable";
			add_dir_problem(file, pgtls_item_absolute_path(name),
							psprintf("could not be accessed: %s",
									 strerror(errno)));
		}
	}
	if (file->dirs != NIL)
		file->state = NULL;
	return file->dirs != NIL;
}

/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Things by key, of which several may have the same.
 *
 * For workers that compare many things with many: PostgreSQL's hash table,
 * with a List in each entry.  It lives in the memory context that is current
 * when it is made and filled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "base/lookup.h"
#include "base/error.h"

struct Lookup
{
	HTAB	   *table;
	Size		list_offset;	/* of the List *, in an entry after its key */
};

/* Make one.  All bytes of a key count, so that it must have no padding. */
Lookup *
pgtls_lookup_create(Size key_size)
{
	Lookup	   *lookup = palloc(sizeof(Lookup));
	HASHCTL		ctl;

	lookup->list_offset = MAXALIGN(key_size);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = key_size;
	ctl.entrysize = lookup->list_offset + sizeof(List *);
	ctl.hcxt = CurrentMemoryContext;
	lookup->table = hash_create("pg_tls lookup", 64, &ctl,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return lookup;
}

void
pgtls_lookup_add(Lookup *lookup, const void *key, void *thing)
{
	bool		found;
	char	   *entry = hash_search(lookup->table, key, HASH_ENTER, &found);
	List	  **things = (List **) (entry + lookup->list_offset);

	*things = lappend(found ? *things : NIL, thing);
}

/* The things of a key, in the order in which they were added. */
List *
pgtls_lookup_find(const Lookup *lookup, const void *key)
{
	char	   *entry = hash_search(lookup->table, key, HASH_FIND, NULL);

	return entry != NULL ? *(List **) (entry + lookup->list_offset) : NIL;
}

/*
 * A number to look a name up by: names that are equal by X509_NAME_cmp() have
 * the same, and others may.  Raises an error if memory ran out.
 */
uint32
pgtls_lookup_name_key(const X509_NAME *name)
{
	uint32		key;

	pgtls_ossl_watch_memory();
	key = (uint32) X509_NAME_hash(unconstify(X509_NAME *, name));
	/* OpenSSL has no other sign of a failure */
	if (key == 0 && pgtls_ossl_out_of_memory())
		pgtls_error_out_of_memory();
	return key;
}

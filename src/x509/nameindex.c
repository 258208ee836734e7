/*-------------------------------------------------------------------------
 *
 * nameindex.c
 *	  The certificates or CRLs among the objects of a store, by name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "x509/nameindex.h"

static int
compare_names(const void *a, const void *b)
{
	return X509_NAME_cmp(((const NamedObject *) a)->name,
						 ((const NamedObject *) b)->name);
}

/*
 * Make an index.  False if memory ran out; then it is empty.  Either way it is
 * to be freed.
 */
bool
pgtls_nameindex_make(NameIndex *index, ObjectStack *objects,
					 NameIndexKind kind)
{
	int			n = objects != NULL ? sk_X509_OBJECT_num(objects) : 0;

	index->n = 0;
	index->objects = n > 0 ? OPENSSL_malloc(n * sizeof(NamedObject)) : NULL;
	if (index->objects == NULL)
		return n == 0;
	for (int i = 0; i < n; i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		NamedObject *named = &index->objects[index->n];

		named->cert = X509_OBJECT_get0_X509(object);
		named->crl = X509_OBJECT_get0_X509_CRL(object);
		if (named->cert != NULL && kind == INDEX_CERTIFICATES)
			named->name = X509_get_subject_name(named->cert);
		else if (named->crl != NULL && kind == INDEX_CRLS)
			named->name = X509_CRL_get_issuer(named->crl);
		else
			continue;
		index->n++;
	}
	qsort(index->objects, index->n, sizeof(NamedObject), compare_names);
	return true;
}

/* The objects of this name, which follow each other.  Returns their number. */
int
pgtls_nameindex_find(const NameIndex *index, const X509_NAME *name,
					 const NamedObject **first)
{
	int			low = 0;
	int			high = index->n;
	int			end;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (X509_NAME_cmp(index->objects[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (end = low; end < index->n; end++)
	{
		if (X509_NAME_cmp(index->objects[end].name, name) != 0)
			break;
	}
	*first = &index->objects[low];
	return end - low;
}

void
pgtls_nameindex_free(NameIndex *index)
{
	OPENSSL_free(index->objects);
	index->objects = NULL;
	index->n = 0;
}

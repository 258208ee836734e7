/*-------------------------------------------------------------------------
 *
 * nameindex.h
 *	  The certificates or CRLs among the objects of a store, by name.
 *
 * Pure, and for the postmaster, too: an index that finds no memory is empty.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_NAMEINDEX_H
#define PGTLS_NAMEINDEX_H

#include "base/ossl.h"

/* One of the objects: certificates by their subject, CRLs by their issuer. */
typedef struct NamedObject
{
	const X509_NAME *name;
	X509	   *cert;			/* one of the two is NULL */
	X509_CRL   *crl;
} NamedObject;

/* Sorted by name.  It is valid as long as the objects are. */
typedef struct NameIndex
{
	NamedObject *objects;
	int			n;
} NameIndex;

/* Which objects are in an index. */
typedef enum NameIndexKind
{
	INDEX_CERTIFICATES,
	INDEX_CRLS
} NameIndexKind;

extern bool pgtls_nameindex_make(NameIndex *index, ObjectStack *objects,
								 NameIndexKind kind);
extern int	pgtls_nameindex_find(const NameIndex *index, const X509_NAME *name,
								 const NamedObject **first);
extern void pgtls_nameindex_free(NameIndex *index);

#endif							/* PGTLS_NAMEINDEX_H */

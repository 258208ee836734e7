/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  Things by key, of which several may have the same.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_LOOKUP_H
#define PGTLS_LOOKUP_H

#include "nodes/pg_list.h"

#include "base/ossl.h"

typedef struct Lookup Lookup;

extern Lookup *pgtls_lookup_create(Size key_size);
extern void pgtls_lookup_add(Lookup *lookup, const void *key, void *thing);
extern List *pgtls_lookup_find(const Lookup *lookup, const void *key);
extern uint32 pgtls_lookup_name_key(const X509_NAME *name);

#endif							/* PGTLS_LOOKUP_H */

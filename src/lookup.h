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

typedef struct Lookup Lookup;

extern Lookup *pgtls_lookup_create(Size key_size);
extern void pgtls_lookup_add(Lookup *lookup, const void *key, void *thing);
extern List *pgtls_lookup_find(const Lookup *lookup, const void *key);

#endif							/* PGTLS_LOOKUP_H */

/*-------------------------------------------------------------------------
 *
 * difference.h
 *	  What has changed in the TLS files since they were loaded.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_DIFFERENCE_H
#define PGTLS_DIFFERENCE_H

#include "server/inspect.h"

extern char *pgtls_difference_find(const Inspection *in, uint64 *contents);
extern bool pgtls_difference_holds_less(const Inspection *in);

#endif							/* PGTLS_DIFFERENCE_H */

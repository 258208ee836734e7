/*-------------------------------------------------------------------------
 *
 * child.h
 *	  Work that can be killed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CHILD_H
#define PGTLS_CHILD_H

typedef void (*ChildWork) (void *arg);

extern void pgtls_child_run(const char *what, ChildWork work, void *arg,
							void *result, size_t size);

#endif							/* PGTLS_CHILD_H */

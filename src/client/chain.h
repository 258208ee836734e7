/*-------------------------------------------------------------------------
 *
 * chain.h
 *	  The certificates that connected clients sent, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CHAIN_H
#define PGTLS_CHAIN_H

#include "base/ossl.h"

/*
 * What a client sent: its certificate, the intermediates that came with it
 * and were of use, and those that could come to be, up to a bound; in the order
 * in which they came.  Sessions that sent the same share one ChainRef, so that
 * whoever judges them judges it once.
 */
typedef int32 ChainRef;

#define PGTLS_NO_CHAIN	(-1)

/* pg_tls.chain_memory, in kB */
extern int	pgtls_chain_memory;

extern void pgtls_chain_define_settings(void);
extern Size pgtls_chain_shmem_size(void);
extern void pgtls_chain_shmem_init(void *area, bool found);
extern ChainRef pgtls_chain_acquire(X509 *leaf, X509Stack *sent,
									X509Stack *verified);
extern void pgtls_chain_release(ChainRef chain);

/* The certificates of a chain, one after the other in DER. */
typedef struct ChainCopy
{
	int			count;
	int			length[FLEXIBLE_ARRAY_MEMBER];	/* then the certificates */
} ChainCopy;

extern void pgtls_chain_lock(void);
extern void pgtls_chain_unlock(void);
extern ChainCopy *pgtls_chain_copy(ChainRef chain);
extern bool pgtls_chain_parse(const ChainCopy *copy, X509 **leaf,
							  X509Stack **sent);
extern uint64 pgtls_chain_refused(void);

#endif							/* PGTLS_CHAIN_H */

/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Client sessions and their TLS: per-backend slots, and pg_stat_tls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_SESSION_H
#define PGTLS_SESSION_H

#include "chain.h"
#include "verify.h"

/*
 * A session whose client has a certificate, and its last verdict.  pid and
 * start tell whether the slot still is that session's.
 */
typedef struct SessionKey
{
	int			number;			/* of the slot */
	int			pid;
	TimestampTz start;
	ChainRef	chain;
	TimestampTz not_after;		/* of the client's certificate */
	Verdict		verdict;
} SessionKey;

extern void pgtls_session_install_hooks(void);
extern Size pgtls_session_shmem_size(void);
extern void pgtls_session_shmem_init(void *area, bool found);

extern int	pgtls_session_list(SessionKey **keys);
extern bool pgtls_session_read_chain(const SessionKey *key, X509 **leaf,
									 STACK_OF(X509) **sent);
extern void pgtls_session_judge(const SessionKey *key, const Verdict *verdict);
extern bool pgtls_session_terminate(const SessionKey *key, const Verdict *verdict);
extern char *pgtls_session_error(const Verdict *verdict);
extern char *pgtls_session_describe(const SessionKey *key);
extern TimestampTz pgtls_session_next_check(int64 generation, uint32 crl_changes,
											int *judged, int *pending);
extern int	pgtls_session_count_unkept(void);

#endif							/* PGTLS_SESSION_H */

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

/*
 * The verdicts that have to be reached again, as pgtls_session_due_verdicts()
 * counts them.
 */
typedef struct DueVerdicts
{
	int			sessions;		/* with a client certificate, all of them */
	int			unkept;			/* whose certificates found no room, so that
								 * they cannot be judged again */
	int			outdated;		/* verdicts by another configuration, or other
								 * CRLs of ssl_crl_dir, than those in force */
	int			overdue;		/* others that the clock may have changed */
	TimestampTz since;			/* when the first of these was due; DT_NOEND
								 * for none */
	TimestampTz next;			/* when the clock may next change one, or has;
								 * DT_NOEND for never */
} DueVerdicts;

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
extern TimestampTz pgtls_session_due_at(const SessionKey *key, TimestampTz now);
extern void pgtls_session_due_verdicts(DueVerdicts *due);

#endif							/* PGTLS_SESSION_H */

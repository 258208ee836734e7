/*-------------------------------------------------------------------------
 *
 * due.h
 *	  Which verdicts on connected sessions have to be reached again, and when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_DUE_H
#define PGTLS_DUE_H

#include "datatype/timestamp.h"

#include "client/slot.h"

/*
 * The verdicts that have to be reached again, as pgtls_due_count() counts
 * them.
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

extern Size pgtls_due_shmem_size(void);
extern void pgtls_due_shmem_init(void *area, bool found);

/*
 * For the verifier: it begins to judge all sessions, whatever is known of
 * them.
 */
extern void pgtls_due_judged_all(TimestampTz now);

/* For any process. */
extern TimestampTz pgtls_due_judged_all_at(void);
extern TimestampTz pgtls_due_at(const SessionKey *key, TimestampTz now);
extern void pgtls_due_count(DueVerdicts *due);

#endif							/* PGTLS_DUE_H */

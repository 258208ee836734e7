/*-------------------------------------------------------------------------
 *
 * judge.h
 *	  Judges connected sessions by a TLS configuration.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_JUDGE_H
#define PGTLS_JUDGE_H

#include "client/slot.h"

/* What is done with each verdict. */
typedef void (*JudgeCallback) (const SessionKey *key, const Verdict *verdict,
							   void *arg);

/*
 * Which sessions: those that are due, that is, were judged by another
 * configuration or other CRLs or may change by the clock, or all.
 */
typedef enum JudgeScope
{
	JUDGE_DUE,
	JUDGE_ALL
} JudgeScope;

extern int	pgtls_judge_sessions(SSL_CTX *context, int64 generation,
								 uint32 crl_changes, JudgeScope scope,
								 JudgeCallback callback, void *arg);

#endif							/* PGTLS_JUDGE_H */

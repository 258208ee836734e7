/*-------------------------------------------------------------------------
 *
 * answer.h
 *	  Questions to background workers that are started to answer them.
 *
 * What only a fresh child of the postmaster knows, or should do, is asked of
 * one: it inherits the TLS configuration in force, and what it reads and
 * allocates goes away with it.  The answer is a number of records of strings,
 * each a string or NULL, which come through a queue in dynamic shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_ANSWER_H
#define PGTLS_ANSWER_H

#include <signal.h>

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "compat.h"
#include "row.h"

/* A question. */
typedef struct Question
{
	const char *name;			/* of the worker, for pg_stat_activity */
	const char *function;		/* its main function */
	const char *what;			/* what it does, for messages: "the dry run" */
	char		kind;			/* for pgtls_answer_begin() */
	TimestampTz deadline;		/* DT_NOEND for none */
	bool		optional;		/* no free worker slot is no error */
} Question;

/* Called for each record of an answer, in the caller's memory context. */
typedef void (*AnswerCallback) (StringInfo record, void *arg);

/* For the caller, who may be cancelled. */
extern bool pgtls_answer_ask(const Question *question, AnswerCallback callback,
							 void *arg);
extern void pgtls_answer_wait(long milliseconds);
extern char *pgtls_answer_get(StringInfo record);
extern void pgtls_answer_add_row(Row *row, StringInfo record, const char *types);

/* For the worker. */
extern volatile sig_atomic_t pgtls_answer_unwanted;
extern int	pgtls_answer_exit_code; /* then; 1 for to be started again */
extern volatile sig_atomic_t pgtls_answer_in_command;
extern void pgtls_answer_terminate(int signo);
extern void pgtls_answer_end_commands(void);
extern char pgtls_answer_begin(Datum arg);
extern void pgtls_answer_check(void);
extern void pgtls_answer_put(StringInfo record, const char *string);
extern void pgtls_answer_put_int(StringInfo record, int64 value);
extern void pgtls_answer_put_numeric(StringInfo record, const char *decimal);
extern void pgtls_answer_put_small_numeric(StringInfo record, int64 value);
extern void pgtls_answer_put_bool(StringInfo record, bool value);
extern void pgtls_answer_put_hex(StringInfo record, const char *sign,
								 const unsigned char *bytes, int len);
extern void pgtls_answer_send(StringInfo record);
pg_noreturn extern void pgtls_answer_end(void);

#endif							/* PGTLS_ANSWER_H */

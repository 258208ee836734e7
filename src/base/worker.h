/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Background workers: starting them, stopping them, and asking them.
 *
 * What only a fresh child of the postmaster knows, or should do, is asked of
 * one: it inherits the TLS configuration in force, and what it reads and
 * allocates goes away with it.  The answer is a number of rows, which come
 * through a queue in dynamic shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_WORKER_H
#define PGTLS_WORKER_H

#include <signal.h>

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"
#include "base/compat.h"
#include "base/row.h"

/* A question. */
typedef struct Question
{
	const char *name;			/* of the worker, for pg_stat_activity */
	const char *function;		/* its main function */
	const char *what;			/* what it does, for messages: "the dry run" */
	char		kind;			/* for pgtls_worker_begin() */
	TimestampTz deadline;		/* DT_NOEND for none */
	bool		optional;		/* no free worker slot is no error */
} Question;

/*
 * Called for each row of an answer, in the caller's memory context.  Its values
 * live as long as the call, and its text is UTF-8.
 */
typedef void (*AnswerCallback) (Row *row, void *arg);

/* For the caller, who may be cancelled. */
extern bool pgtls_worker_ask(const Question *question, AnswerCallback callback,
							 void *arg);
extern bool pgtls_worker_ask_rows(FunctionCallInfo fcinfo,
								  const Question *question);
extern void pgtls_worker_wait(long milliseconds);

/* For those who start workers. */
extern void pgtls_worker_fill(BackgroundWorker *worker, const char *name,
							  const char *function);

/* What the library is called for the processes that load it. */
#define PGTLS_LIBRARY	"pg_tls"

/* For any worker: set by a signal's handler, leave the rest. */
extern volatile sig_atomic_t pgtls_worker_stop;
extern volatile sig_atomic_t pgtls_worker_in_command;
extern void pgtls_worker_catch(int signo, void (*handler) (int signo));
extern void pgtls_worker_terminate(int signo);
extern void pgtls_worker_end_commands(void);
extern void pgtls_worker_kill_commands(void);
extern void pgtls_worker_begin_limited(void);

/* For a worker that answers. */
extern int	pgtls_worker_exit_code; /* then; 1 for to be started again */
extern char pgtls_worker_begin(Datum arg);
extern void pgtls_worker_check(void);
extern void pgtls_worker_send(const Row *row);
pg_noreturn extern void pgtls_worker_end(void);

#endif							/* PGTLS_WORKER_H */

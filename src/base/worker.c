/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Background workers: starting them, stopping them, and asking them.
 *
 * A worker that answers is forked from the postmaster, connects to no
 * database, sends its rows, and exits with 0, so that neither the postmaster
 * nor the log needs to hear of it.  Small rows are sent several at a time.
 * The last message is a single byte: without it the answer is not whole.
 *
 * The caller ends the worker if it gives up, for whatever reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "pgstat.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/shm_mq.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/ossl.h"
#include "base/worker.h"

#define QUEUE_SIZE	((Size) 1024 * 1024)

/* Rows are collected until they are this long together. */
#define MESSAGE_SIZE	(16 * 1024)

/* So long a caller waits for a free worker slot. */
#define START_LIMIT	(5 * USECS_PER_SEC)

/*
 * A worker that is limited and takes longer than this ends itself: a FIFO in
 * ssl_crl_dir, say, would hold the verifier up for ever, and with it all
 * verdicts.
 */
#define WORKER_LIMIT	(10 * USECS_PER_MINUTE)

/* So long a command may take to end, in seconds. */
#define COMMAND_GRACE	5

/* Before each row in a message. */
typedef uint32 RowLength;

/* Set by a signal's handler: nobody wants to know any more; leave the rest. */
volatile sig_atomic_t pgtls_worker_stop = false;

/* This process waits for a command that it has started. */
volatile sig_atomic_t pgtls_worker_in_command = false;

/* State of a worker that answers. */
int			pgtls_worker_exit_code = 0;
static shm_mq_handle *out_queue = NULL;
static StringInfoData out_message;


/* ----------------------------------------------------------------
 *		Any worker
 * ----------------------------------------------------------------
 */

/* Fill in a worker that runs once. */
void
pgtls_worker_fill(BackgroundWorker *worker, const char *name,
				  const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker->bgw_start_time = BgWorkerStart_PostmasterStart;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, PGTLS_LIBRARY,
			sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function,
			sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, name, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, name, sizeof(worker->bgw_type));
}

/*
 * Have a worker's signal call a handler, and interrupt what waits: a file that
 * is opened may be a FIFO.  (pqsignal() has system calls begun again.)
 */
void
pgtls_worker_catch(int signo, void (*handler) (int signo))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	sigemptyset(&action.sa_mask);
	(void) sigaction(signo, &action, NULL);
}

/*
 * Kill the commands that this process has started, as far as the kernel tells
 * which they are (Linux does); false if there are none.
 */
static bool
kill_children(void)
{
	char		list[1024];
	char	   *end = list;
	bool		found = false;
	int			fd = open("/proc/thread-self/children", O_RDONLY);
	ssize_t		len = fd < 0 ? 0 : read(fd, list, sizeof(list) - 1);
	long		pid;

	list[Max(len, 0)] = '\0';
	while ((pid = strtol(end, &end, 10)) > 0)
		found = kill((pid_t) pid, SIGKILL) == 0 || found;
	if (fd >= 0)
		close(fd);
	return found;
}

pg_noreturn static void end_for_command(void);

static void
end_for_command(void)
{
	ereport(FATAL,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("terminating background worker \"%s\", since a command that it runs ignores SIGTERM",
					MyBgworkerEntry->bgw_name),
			 errhint("Mend the command of \"ssl_passphrase_command\".")));
}

/*
 * SIGALRM: a command that was told to end has not.  The worker waits for what
 * that holds open, or for its end, perhaps in its own exit.  So the command is
 * killed, and the worker ends here, as core's own workers do at SIGTERM.  What
 * the command has started is in the process group of the worker, and killed
 * after it, by a child that is in another: to kill the worker, too, would have
 * the whole server restart.
 */
static void
abandon_command(SIGNAL_ARGS)
{
	pid_t		worker = MyProcPid;

	if (!pgtls_worker_in_command || !kill_children())
		return;
	if (fork() == 0)
	{
		(void) setsid();
		for (int i = 0; i < 100 && getppid() == worker; i++)
			pg_usleep(100000L);
		if (getppid() != worker)
			(void) kill(-worker, SIGKILL);
		_exit(0);
	}
	end_for_command();
}

/*
 * The worker is the leader of its process group.  Have the others in it end:
 * the commands that it started.  For signal handlers.
 */
void
pgtls_worker_end_commands(void)
{
	pgtls_worker_catch(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	pgtls_worker_catch(SIGTERM, pgtls_worker_terminate);
	if (pgtls_worker_in_command)
	{
		pqsignal(SIGALRM, abandon_command);
		alarm(COMMAND_GRACE);
	}
}

/*
 * Send a signal to all others in the process group, or none for 0; false if
 * there are no others.
 */
static bool
signal_others(int signo)
{
	DIR		   *proc = getpgrp() == MyProcPid ? opendir("/proc") : NULL;
	struct dirent *entry;
	bool		found = false;

	if (proc == NULL)
		return false;
	while ((entry = readdir(proc)) != NULL)
	{
		pid_t		pid = (pid_t) strtol(entry->d_name, NULL, 10);

		if (pid > 0 && pid != MyProcPid && getpgid(pid) == MyProcPid)
			found = kill(pid, signo) == 0 || found;
	}
	closedir(proc);
	return found;
}

/*
 * A command that was told to end has, or is no longer waited for.  But it, or
 * what it has started, may ignore SIGTERM and go on: that is killed (on Linux),
 * and the worker ends.
 */
void
pgtls_worker_kill_commands(void)
{
	alarm(0);
	for (int i = 0; i < COMMAND_GRACE * 10; i++)
	{
		if (!signal_others(0))
			return;
		pg_usleep(100000L);
	}
	if (signal_others(SIGKILL))
		end_for_command();
}

/*
 * SIGTERM, or SIGALRM: nobody wants to know any more, or the worker takes too
 * long.  It may be waiting for a command, which is told to end; or for a file,
 * which the signal gets it out of.  Others follow, for other files.
 */
void
pgtls_worker_terminate(int signo)
{
	int			save_errno = errno;

	if (!pgtls_worker_stop)
	{
		pgtls_worker_stop = true;
		pgtls_worker_end_commands();
	}
	if (!pgtls_worker_in_command)
		(void) alarm(1);
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
catch_signals(void)
{
	pgtls_worker_catch(SIGTERM, pgtls_worker_terminate);
	pgtls_worker_catch(SIGALRM, pgtls_worker_terminate);
}

/* Begin a worker that is ended when it takes too long. */
void
pgtls_worker_begin_limited(void)
{
	catch_signals();
	(void) alarm(WORKER_LIMIT / USECS_PER_SEC);
	BackgroundWorkerUnblockSignals();
}


/* ----------------------------------------------------------------
 *		A worker that answers
 * ----------------------------------------------------------------
 */

/*
 * Begin to answer; the argument is that of the worker's main function.
 * Returns what kind of question it is.
 */
char
pgtls_worker_begin(Datum arg)
{
	dsm_segment *segment;
	shm_mq	   *queue;

	catch_signals();
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(TopMemoryContext);

	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the caller has gone */
	queue = dsm_segment_address(segment);
	shm_mq_set_sender(queue, MyProc);
	out_queue = shm_mq_attach(queue, segment, NULL);
	initStringInfo(&out_message);
	return MyBgworkerEntry->bgw_extra[0];
}

/* End the worker if nobody wants the answer any more.  For long loops. */
void
pgtls_worker_check(void)
{
	if (pgtls_worker_stop)
		proc_exit(pgtls_worker_exit_code);
}

/*
 * Send what was collected.  If nobody is there to take it, that was all.  The
 * caller need not wake up for each message, but for the last.
 */
static void
flush_message(bool last)
{
	if (pgtls_worker_stop ||
		shm_mq_send(out_queue, out_message.len, out_message.data, false,
					last) != SHM_MQ_SUCCESS)
		proc_exit(0);
	resetStringInfo(&out_message);
}

/* Send a row; its text has to be UTF-8. */
void
pgtls_worker_send(const Row *row)
{
	int			start = out_message.len;
	RowLength	len = 0;

	appendBinaryStringInfo(&out_message, (char *) &len, sizeof(len));
	pgtls_row_write(row, &out_message);
	len = out_message.len - start - sizeof(len);
	memcpy(out_message.data + start, &len, sizeof(len));
	if (out_message.len >= MESSAGE_SIZE)
		flush_message(false);
}

/* The answer is whole: end the worker. */
void
pgtls_worker_end(void)
{
	if (out_message.len > 0)
		flush_message(false);
	appendStringInfoChar(&out_message, '\0');
	flush_message(true);
	proc_exit(0);
}


/* ----------------------------------------------------------------
 *		Who asks
 * ----------------------------------------------------------------
 */

/* Wait until something may have happened, and no longer than that. */
void
pgtls_worker_wait(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Start the worker.  If others have all the slots, wait a while: they may be
 * such workers, too.  NULL if that was in vain, and the answer is optional.
 */
static BackgroundWorkerHandle *
start_worker(const Question *question, dsm_handle segment)
{
	TimestampTz deadline =
		Min(question->deadline, GetCurrentTimestamp() + START_LIMIT);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	pgtls_worker_fill(&worker, question->name, question->function);
	worker.bgw_main_arg = UInt32GetDatum(segment);
	worker.bgw_extra[0] = question->kind;
	worker.bgw_notify_pid = MyProcPid;
	while (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		if (GetCurrentTimestamp() >= deadline && question->optional)
			return NULL;
		if (GetCurrentTimestamp() >= deadline)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not start a background worker for %s",
							question->what),
					 errhint("All worker slots are in use. Try again, or increase \"max_worker_processes\".")));
		pgtls_worker_wait(50);
	}
	return handle;
}

/* Hand on the rows of a message. */
static void
take_message(char *data, Size size, AnswerCallback callback, void *arg)
{
	char	   *end = data + size;

	while (data < end)
	{
		RowLength	len;
		Row			row;

		memcpy(&len, data, sizeof(len));
		data += sizeof(len);
		pgtls_row_read(&row, data, len);
		callback(&row, arg);
		data += len;
	}
}

static void
receive(const Question *question, shm_mq_handle *queue, AnswerCallback callback,
		void *arg)
{
	for (;;)
	{
		Size		size;
		void	   *data;
		shm_mq_result status = shm_mq_receive(queue, &size, &data, true);

		CHECK_FOR_INTERRUPTS();
		if (status == SHM_MQ_SUCCESS && size == 1)
			return;
		if (status == SHM_MQ_SUCCESS)
		{
			take_message(data, size, callback, arg);
			continue;
		}
		if (status == SHM_MQ_DETACHED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("%s ended without a result", question->what),
					 errhint("Try again.")));
		if (GetCurrentTimestamp() >= question->deadline)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("timed out in %s", question->what),
					 errdetail("Nothing was changed.")));
		pgtls_worker_wait(100);
	}
}

static void
abandon_worker(int code, Datum arg)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(arg));
}

/*
 * Ask, and wait for the whole answer.  Raises an error without a free worker
 * slot, at the deadline, and if the worker ends too early.  Where the answer
 * is optional, no free slot is no error, but false.
 */
bool
pgtls_worker_ask(const Question *question, AnswerCallback callback, void *arg)
{
	dsm_segment *segment = dsm_create(QUEUE_SIZE, 0);
	shm_mq	   *queue = shm_mq_create(dsm_segment_address(segment), QUEUE_SIZE);
	BackgroundWorkerHandle *worker;

	shm_mq_set_receiver(queue, MyProc);
	worker = start_worker(question, dsm_segment_handle(segment));
	if (worker == NULL)
	{
		dsm_detach(segment);
		return false;
	}

	/* a session that is ended has to clean up, too, hence no PG_CATCH */
	PG_ENSURE_ERROR_CLEANUP(abandon_worker, PointerGetDatum(worker));
	{
		receive(question, shm_mq_attach(queue, segment, worker), callback, arg);
		/* so that its slot is free when the next one is wanted */
		(void) WaitForBackgroundWorkerShutdown(worker);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_worker, PointerGetDatum(worker));
	dsm_detach(segment);
	return true;
}

/* A caller that stores each row. */
typedef struct RowCaller
{
	ReturnSetInfo *rsinfo;
	MemoryContext context;		/* for the values of one row */
} RowCaller;

static void
take_row(Row *row, void *arg)
{
	RowCaller  *caller = arg;
	MemoryContext oldcontext = MemoryContextSwitchTo(caller->context);

	pgtls_row_convert(row);
	pgtls_row_store(row, caller->rsinfo);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(caller->context);
}

/*
 * Ask, and have each row of the answer be one of a set-returning function.
 * Otherwise as pgtls_worker_ask().
 */
bool
pgtls_worker_ask_rows(FunctionCallInfo fcinfo, const Question *question)
{
	RowCaller	caller = {
		.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo
	};
	bool		answered;

	InitMaterializedSRF(fcinfo, 0);
	caller.context = AllocSetContextCreate(CurrentMemoryContext, "pg_tls row",
										   ALLOCSET_DEFAULT_SIZES);
	answered = pgtls_worker_ask(question, take_row, &caller);
	MemoryContextDelete(caller.context);
	return answered;
}

/*-------------------------------------------------------------------------
 *
 * child.c
 *	  Work that can be killed.
 *
 * OpenSSL looks for no interrupts.  Some of its loops are quadratic in what a
 * caller of ours may pass, and take minutes.  So a backend forks a child for
 * such work, waits for the outcome, and kills the child as soon as it is
 * interrupted itself.  Memory that the work needs goes with the child, and if
 * OpenSSL crashes, the child is all that does.
 *
 * The child is no process of the server's: it detaches the main shared memory,
 * uses nothing else that it shares with the backend but a pipe, takes no signal
 * but SIGKILL, and leaves by _exit().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/wait.h>
#include <unistd.h>

#include "pgstat.h"
#include "storage/latch.h"
#include "storage/pg_shmem.h"
#include "tcop/tcopprot.h"

#include "base/compat.h"
#include "base/child.h"

/* An error that the work raised, as it goes through the pipe. */
typedef struct ChildError
{
	int			sqlstate;		/* 0: none was raised */
	char		message[512];
	char		detail[1024];
	char		hint[512];
} ChildError;

typedef struct Child
{
	pid_t		pid;
	int			pipe;			/* the end to read from */
} Child;

static void
copy_text(char *to, size_t size, const char *from)
{
	strlcpy(to, from != NULL ? from : "", size);
}

/* Run the work, and catch the error that it may raise. */
static void
run_work(ChildWork work, void *arg, ChildError *error)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		work(arg);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		error->sqlstate = edata->sqlerrcode;
		copy_text(error->message, sizeof(error->message), edata->message);
		copy_text(error->detail, sizeof(error->detail), edata->detail);
		copy_text(error->hint, sizeof(error->hint), edata->hint);
	}
	PG_END_TRY();
}

pg_noreturn static void child_main(int out, ChildWork work, void *arg,
								   const void *result, size_t size);

/* The child.  All signals are blocked. */
static void
child_main(int out, ChildWork work, void *arg, const void *result, size_t size)
{
	ChildError	error = {0};

	/* nothing here is to end as a backend would */
	HOLD_INTERRUPTS();
	on_exit_reset();
	error_context_stack = NULL;
	whereToSendOutput = DestNone;	/* the backend tells the client */
	PGSharedMemoryDetach();

	run_work(work, arg, &error);
	if (write(out, &error, sizeof(error)) == (ssize_t) sizeof(error) &&
		write(out, result, size) == (ssize_t) size)
		_exit(0);
	_exit(1);
}

/* Fork with all signals blocked in the child; its end of the pipe is "out". */
static pid_t
fork_child(const int *ends)
{
	pid_t		parent = getpid();
	pid_t		pid;
	sigset_t	all;
	sigset_t	before;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid != 0)
	{
		sigprocmask(SIG_SETMASK, &before, NULL);
		return pid;
	}
	close(ends[0]);
#ifdef __linux__
	/* a backend that is killed can kill nobody any more */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
#else
	(void) parent;
#endif
	return 0;
}

/* Kill the child if it still runs, and forget it.  Returns how it ended. */
static int
end_child(Child *child)
{
	int			status = 0;

	(void) kill(child->pid, SIGKILL);
	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(child->pipe);
	return status;
}

static void
abandon_child(int code, Datum arg)
{
	(void) end_child((Child *) DatumGetPointer(arg));
}

/* Wait until the child writes, or ends. */
static void
wait_for_child(const Child *child)
{
	int			events;

	do
	{
		events = WaitLatchOrSocket(MyLatch,
								   WL_LATCH_SET | WL_SOCKET_READABLE |
								   WL_EXIT_ON_PM_DEATH,
								   child->pipe, -1, PG_WAIT_EXTENSION);
		if ((events & WL_LATCH_SET) != 0)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	} while ((events & WL_SOCKET_READABLE) == 0);
}

/* Read what the child writes at once; false if it does not write so much. */
static bool
read_all(int fd, void *to, size_t size)
{
	for (size_t done = 0; done < size;)
	{
		ssize_t		n = read(fd, (char *) to + done, size - done);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		if (n > 0)
			done += n;
	}
	return true;
}

/*
 * Run work(arg) in a child of this backend.  It fills in "result", of "size"
 * bytes, which is copied back; nothing else that it changes is seen here.
 *
 * It may use OpenSSL and memory, and raise errors, of which message, detail and
 * hint are raised here.  It may not touch anything that backends share: no
 * tables, no TOAST, no locks, no statistics.  "what" is for messages.
 */
void
pgtls_child_run(const char *what, ChildWork work, void *arg, void *result,
				size_t size)
{
	ChildError	error;
	Child		child;
	int			ends[2];
	int			status;
	bool		whole = false;

	if (pipe(ends) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create a pipe: %m")));
	child.pid = fork_child(ends);
	if (child.pid == 0)
		child_main(ends[1], work, arg, result, size);
	close(ends[1]);
	if (child.pid < 0)
	{
		close(ends[0]);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not fork a process for %s: %m", what)));
	}
	child.pipe = ends[0];

	/* a session that is terminated has to clean up, too, hence no PG_CATCH */
	PG_ENSURE_ERROR_CLEANUP(abandon_child, PointerGetDatum(&child));
	{
		wait_for_child(&child);
		whole = read_all(child.pipe, &error, sizeof(error)) &&
			read_all(child.pipe, result, size);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_child, PointerGetDatum(&child));
	status = end_child(&child);

	if (!whole)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the process that ran %s ended without a result", what),
				 errdetail_internal("%s", wait_result_to_str(status))));
	if (error.sqlstate != 0)
		ereport(ERROR,
				(errcode(error.sqlstate), errmsg_internal("%s", error.message),
				 error.detail[0] != '\0' ?
				 errdetail_internal("%s", error.detail) :
				 0,
				 error.hint[0] != '\0' ? errhint("%s", error.hint) : 0));
}

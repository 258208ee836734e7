/*-------------------------------------------------------------------------
 *
 * inject.c
 *	  Makes memory, shared memory or processes run out, for tests.
 *
 * A library for LD_PRELOAD of a server.  It stands before malloc() and its
 * like, shm_open(), posix_fallocate() and fork(), and has those calls fail that
 * a test asks for in a file that all processes map (Control below;
 * test/lib/TlsInject.pm writes it).
 *
 * An allocation counts only where pg_tls asked for it: the innermost function
 * on the stack that is neither of libc nor of OpenSSL has to be one of
 * pg_tls.so; or, if SCOPE_ALL is set, some function on the stack.  So what core
 * does for itself never fails.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_FRAMES	64

/* How many calls fail. */
enum
{
	MODE_OFF,
	MODE_COUNT,					/* none */
	MODE_ONE,					/* the one of that number */
	MODE_FROM,					/* from that number on */
	MODE_EVERY					/* each that the number divides */
};

/* Which calls. */
enum
{
	SCOPE_OPENSSL,				/* memory, asked for by pg_tls or by OpenSSL
								 * for it */
	SCOPE_ALL,					/* memory, asked for while pg_tls runs */
	SCOPE_SHM,					/* shm_open(), posix_fallocate() */
	SCOPE_FORK					/* fork() by the postmaster */
};

typedef struct Control
{
	volatile int32_t mode;
	volatile int32_t number;
	volatile int32_t scope;
	volatile int32_t calls;		/* seen so far */
	volatile int32_t failed;
	char		who[64];		/* kind of process, empty for any */
} Control;

typedef struct Range
{
	uintptr_t	start;
	uintptr_t	end;
} Range;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static Control *control = NULL;
static __thread int busy __attribute__((tls_model("initial-exec"))) = 0;

static Range ours,
			libs[4];			/* this, libc, libcrypto, libssl */
static Range pg_tls;

/* Variables of the server, NULL elsewhere. */
static int *postmaster_pid;
static char **bgworker;			/* MyBgworkerEntry: it begins with its name */
static char *in_authentication; /* ClientAuthInProgress */
static void **client_port;		/* MyProcPort */

static int
ends_with(const char *s, const char *end)
{
	size_t		len = strlen(s);

	return len >= strlen(end) && strcmp(s + len - strlen(end), end) == 0;
}

static int
look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	Range		range = {UINTPTR_MAX, 0};
	const char *name = info->dlpi_name;
	Range	   *to;

	(void) size;
	(void) arg;
	if (ends_with(name, "/pg_tls.so"))
		to = &pg_tls;
	else if (strstr(name, "/libc.so") != NULL ||
			 strstr(name, "/libc-2") != NULL)
		to = &libs[0];
	else if (strstr(name, "/libcrypto.so") != NULL)
		to = &libs[1];
	else if (strstr(name, "/libssl.so") != NULL)
		to = &libs[2];
	else if (ends_with(name, "/inject.so"))
		to = &ours;
	else
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		uintptr_t	start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		if (start < range.start)
			range.start = start;
		if (start + info->dlpi_phdr[i].p_memsz > range.end)
			range.end = start + info->dlpi_phdr[i].p_memsz;
	}
	*to = range;
	return 0;
}

static int
is_in(const Range *range, void *address)
{
	return (uintptr_t) address >= range->start &&
		(uintptr_t) address < range->end;
}

/* Whether pg_tls asks for memory, as the scope has it. */
static int
asked_by_pg_tls(void)
{
	void	   *frames[MAX_FRAMES];
	int			n;

	if (pg_tls.end == 0)
		dl_iterate_phdr(look_at_object, NULL);
	if (pg_tls.end == 0)
		return 0;
	n = backtrace(frames, MAX_FRAMES);
	for (int i = 0; i < n; i++)
	{
		int			between = is_in(&ours, frames[i]);

		if (is_in(&pg_tls, frames[i]))
			return 1;
		for (int k = 0; k < 3; k++)
			between = between || is_in(&libs[k], frames[i]);
		if (!between && control->scope == SCOPE_OPENSSL)
			return 0;
	}
	return 0;
}

/* Whether this is a process that the test means. */
static int
is_meant(void)
{
	const char *who = control->who;
	int			is_postmaster = postmaster_pid != NULL &&
		*postmaster_pid == getpid();

	if (who[0] == '\0')
		return 1;
	if (strcmp(who, "postmaster") == 0)
		return is_postmaster;
	if (is_postmaster)
		return 0;
	if (bgworker != NULL && *bgworker != NULL)
		return strcmp(who, *bgworker) == 0;
	if (client_port == NULL || *client_port == NULL ||
		in_authentication == NULL)
		return 0;
	return strcmp(who, *in_authentication ? "login" : "backend") == 0;
}

/* Count a call, and tell whether it has to fail. */
static int
is_chosen(void)
{
	int32_t		call = __sync_add_and_fetch(&control->calls, 1);
	int32_t		number = control->number;
	int			chosen = 0;

	switch (control->mode)
	{
		case MODE_ONE:
			chosen = call == number;
			break;
		case MODE_FROM:
			chosen = call >= number;
			break;
		case MODE_EVERY:
			chosen = number > 0 && call % number == 0;
			break;
	}
	if (chosen)
		__sync_add_and_fetch(&control->failed, 1);
	return chosen;
}

static int
memory_fails(void)
{
	int			result;

	if (control == NULL || control->mode == MODE_OFF ||
		control->scope > SCOPE_ALL || busy)
		return 0;
	busy = 1;
	result = is_meant() && asked_by_pg_tls() && is_chosen();
	busy = 0;
	if (result)
		errno = ENOMEM;
	return result;
}

static int
other_fails(int scope)
{
	return control != NULL && control->mode != MODE_OFF &&
		control->scope == scope && is_meant() && is_chosen();
}

void *
malloc(size_t size)
{
	return memory_fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return memory_fails() ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t size)
{
	return memory_fails() ? NULL : __libc_realloc(p, size);
}

int
shm_open(const char *name, int flags, mode_t mode)
{
	static int	(*next) (const char *, int, mode_t) = NULL;

	if ((flags & O_CREAT) != 0 && other_fails(SCOPE_SHM))
	{
		errno = ENOSPC;
		return -1;
	}
	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "shm_open");
	return next(name, flags, mode);
}

int
posix_fallocate(int fd, off_t offset, off_t len)
{
	static int	(*next) (int, off_t, off_t) = NULL;

	if (other_fails(SCOPE_SHM))
		return ENOSPC;
	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "posix_fallocate");
	return next(fd, offset, len);
}

pid_t
fork(void)
{
	static pid_t (*next) (void) = NULL;

	if (other_fails(SCOPE_FORK))
	{
		errno = EAGAIN;
		return -1;
	}
	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "fork");
	return next();
}

__attribute__((constructor))
static void
begin(void)
{
	const char *file = getenv("PG_TLS_INJECT");
	int			fd;
	void	   *frames[4];
	void	   *map;

	if (file == NULL || (fd = open(file, O_RDWR)) < 0)
		return;
	(void) backtrace(frames, 4);	/* the first call loads a library */
	dl_iterate_phdr(look_at_object, NULL);
	postmaster_pid = dlsym(RTLD_DEFAULT, "PostmasterPid");
	bgworker = dlsym(RTLD_DEFAULT, "MyBgworkerEntry");
	in_authentication = dlsym(RTLD_DEFAULT, "ClientAuthInProgress");
	client_port = dlsym(RTLD_DEFAULT, "MyProcPort");
	map =
		mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		control = map;
}

/*-------------------------------------------------------------------------
 *
 * shim.c
 *	  Shows a server another system than there is, for tests.
 *
 * A library for LD_PRELOAD of a server.  It stands before
 *
 * - open(): who opens the system's setting of transparent huge pages gets the
 *	 file that PG_TLS_SHIM_THP names;
 * - pthread_atfork(): with PG_TLS_SHIM_ATFORK set, that of pg_tls finds no
 *	 memory.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define THP_SETTING "/sys/kernel/mm/transparent_hugepage/enabled"

typedef int (*Open) (const char *path, int flags,...);

static int
open_other(const char *name, const char *path, int flags, mode_t mode)
{
	Open		next = (Open) dlsym(RTLD_NEXT, name);
	const char *other = getenv("PG_TLS_SHIM_THP");

	if (other != NULL && strcmp(path, THP_SETTING) == 0)
		path = other;
	return next(path, flags, mode);
}

static mode_t
mode_of(int flags, va_list args)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

int
open(const char *path, int flags,...)
{
	va_list		args;
	mode_t		mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_other("open", path, flags, mode);
}

int
open64(const char *path, int flags,...)
{
	va_list		args;
	mode_t		mode;

	va_start(args, flags);
	mode = mode_of(flags, args);
	va_end(args);
	return open_other("open64", path, flags, mode);
}

typedef void (*Handler) (void);
typedef int (*RegisterAtfork) (Handler prepare, Handler parent, Handler child,
							   void *dso_handle);

/* What pthread_atfork() calls, which is in no shared library. */
extern int	__register_atfork(Handler prepare, Handler parent, Handler child,
							  void *dso_handle);

int
__register_atfork(Handler prepare, Handler parent, Handler child,
				  void *dso_handle)
{
	RegisterAtfork next =
		(RegisterAtfork) dlsym(RTLD_NEXT, "__register_atfork");
	Dl_info		info;

	if (getenv("PG_TLS_SHIM_ATFORK") != NULL &&
		dladdr((void *) prepare, &info) != 0 &&
		strstr(info.dli_fname, "pg_tls") != NULL)
		return ENOMEM;
	return next(prepare, parent, child, dso_handle);
}

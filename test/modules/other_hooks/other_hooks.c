/*-------------------------------------------------------------------------
 *
 * other_hooks.c
 *	  Another user of all the hooks that pg_tls uses, for tests: it counts how
 *	  often each is called, in shared memory of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/auth.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/pg_shmem.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

#define COUNTERS_NAME	"other_hooks"
#define COUNTERS_MAGIC	0x6f746872

typedef struct Counters
{
	uint32		magic;			/* that nobody else wrote here */
	LWLock	   *lock;
	pg_atomic_uint32 loads;		/* in the postmaster */
	pg_atomic_uint32 logins;
	pg_atomic_uint32 refused;
	pg_atomic_uint32 messages;
} Counters;

static Counters *counters = NULL;
static uint32 early_loads = 0;	/* the postmaster's own count */

#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type prev_shmem_request = NULL;
#endif
static shmem_startup_hook_type prev_shmem_startup = NULL;
static openssl_tls_init_hook_typ prev_tls_init = NULL;
static ClientAuthentication_hook_type prev_client_authentication = NULL;
static emit_log_hook_type prev_emit_log = NULL;

PG_FUNCTION_INFO_V1(other_hooks_count);

static void
shmem_request(void)
{
#if PG_VERSION_NUM >= 150000
	if (prev_shmem_request)
		prev_shmem_request();
#endif
	RequestAddinShmemSpace(sizeof(Counters));
	RequestNamedLWLockTranche(COUNTERS_NAME, 1);
}

/* The postmaster logs one more message after it has detached shared memory. */
static void
forget_counters(int code, Datum arg)
{
	counters = NULL;
}

static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup)
		prev_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	counters = ShmemInitStruct(COUNTERS_NAME, sizeof(Counters), &found);
	if (!found)
	{
		counters->magic = COUNTERS_MAGIC;
		counters->lock = &(GetNamedLWLockTranche(COUNTERS_NAME))[0].lock;
		pg_atomic_init_u32(&counters->loads, early_loads);
		pg_atomic_init_u32(&counters->logins, 0);
		pg_atomic_init_u32(&counters->refused, 0);
		pg_atomic_init_u32(&counters->messages, 0);
	}
	LWLockRelease(AddinShmemInitLock);
	on_shmem_exit(forget_counters, (Datum) 0);
}

static void
tls_init(SSL_CTX *context, bool isServerStart)
{
	prev_tls_init(context, isServerStart);
	if (MyProcPid != PostmasterPid)
		return;
	early_loads++;
	if (counters != NULL)
		pg_atomic_write_u32(&counters->loads, early_loads);
}

static void
client_authentication(Port *port, int status)
{
	if (prev_client_authentication)
		prev_client_authentication(port, status);
	pg_atomic_fetch_add_u32(status == STATUS_OK ? &counters->logins :
							&counters->refused,
							1);
}

static void
emit_log(ErrorData *edata)
{
	if (prev_emit_log)
		prev_emit_log(edata);
#ifdef SILENT
	if (edata->elevel == FATAL)
		edata->output_to_server = false;
#endif
	/* the logger, for one, has detached shared memory, too */
	if (counters != NULL && UsedShmemSegAddr != NULL)
		pg_atomic_fetch_add_u32(&counters->messages, 1);
}

/* other_hooks_count(text) returns integer */
Datum
other_hooks_count(PG_FUNCTION_ARGS)
{
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(0));
	pg_atomic_uint32 *counter =
		strcmp(what, "loads") == 0 ? &counters->loads :
		strcmp(what, "logins") == 0 ? &counters->logins :
		strcmp(what, "refused") == 0 ? &counters->refused :
		strcmp(what, "messages") == 0 ? &counters->messages : NULL;
	uint32		result;

	if (counters->magic != COUNTERS_MAGIC || counter == NULL)
		elog(ERROR, "other_hooks: no such counter, or somebody wrote over it");
	LWLockAcquire(counters->lock, LW_EXCLUSIVE);
	result = pg_atomic_read_u32(counter);
	LWLockRelease(counters->lock);
	PG_RETURN_INT32((int32) result);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
#if PG_VERSION_NUM >= 150000
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
#else
	shmem_request();
#endif
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	prev_tls_init = openssl_tls_init_hook;
	openssl_tls_init_hook = tls_init;
	prev_client_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authentication;
	prev_emit_log = emit_log_hook;
	emit_log_hook = emit_log;
}

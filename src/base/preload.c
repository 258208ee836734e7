/*-------------------------------------------------------------------------
 *
 * preload.c
 *	  What pg_tls has only where it was preloaded: shared memory and locks.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "base/compat.h"
#include "base/preload.h"

#define TRANCHE	"pg_tls"

static bool preloaded = false;

void
pgtls_preload_succeeded(void)
{
	preloaded = true;
}

void
pgtls_preload_request_locks(void)
{
	RequestNamedLWLockTranche(TRANCHE, PGTLS_NUM_LOCKS);
}

LWLock *
pgtls_preload_lock(PgTlsLock lock)
{
	return &(GetNamedLWLockTranche(TRANCHE))[lock].lock;
}

void
pgtls_preload_require(void)
{
	if (!preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_tls must be loaded via \"shared_preload_libraries\""),
				 errhint("Add pg_tls to the setting \"shared_preload_libraries\" and restart the server.")));
}

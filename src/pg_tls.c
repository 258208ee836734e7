/*-------------------------------------------------------------------------
 *
 * pg_tls.c
 *	  Sees, checks and reloads the TLS of a PostgreSQL server.
 *
 * Module initialization: settings, hooks, and the sum of the shared memory.
 * What they are for is said in the files that they belong to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/compat.h"
#include "base/ossl.h"
#include "base/preload.h"
#include "base/wake.h"
#include "client/chain.h"
#include "client/due.h"
#include "client/failure.h"
#include "client/inventory.h"
#include "client/slot.h"
#include "client/verifier.h"
#include "hooks.h"
#include "rehearsal/advice.h"
#include "server/crlchange.h"
#include "server/load.h"
#include "server/prepare.h"
#include "work/monitor.h"
#include "work/save.h"
#include "work/watch.h"

PG_MODULE_MAGIC_EXT(
					.name = "pg_tls",
					.version = PGTLS_VERSION
);

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

/* Each area in turn, large ones last. */
static const struct
{
	const char *name;
	Size		(*size) (void);
	void		(*init) (void *area, bool found);
}			areas[] = {
	{"pg_tls loads", pgtls_load_shmem_size, pgtls_load_shmem_init},
	{"pg_tls ssl_crl_dir", pgtls_crlchange_shmem_size,
	pgtls_crlchange_shmem_init},
	{"pg_tls wake", pgtls_wake_shmem_size, pgtls_wake_shmem_init},
	{"pg_tls monitor", pgtls_monitor_shmem_size, pgtls_monitor_shmem_init},
	{"pg_tls due", pgtls_due_shmem_size, pgtls_due_shmem_init},
	{"pg_tls verifier", pgtls_verifier_shmem_size, pgtls_verifier_shmem_init},
	{"pg_tls watch", pgtls_watch_shmem_size, pgtls_watch_shmem_init},
	{"pg_tls failures", pgtls_failure_shmem_size, pgtls_failure_shmem_init},
	{"pg_tls inventory", pgtls_inventory_shmem_size,
	pgtls_inventory_shmem_init},
	{"pg_tls sessions", pgtls_slot_shmem_size, pgtls_slot_shmem_init},
	{"pg_tls chains", pgtls_chain_shmem_size, pgtls_chain_shmem_init},
};

static void
shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();

	for (int i = 0; i < (int) lengthof(areas); i++)
		RequestAddinShmemSpace(areas[i].size());
	pgtls_preload_request_locks();
}

/* Runs in the postmaster, at start and after a crash of a backend. */
static void
shmem_startup(void)
{
	if (prev_shmem_startup)
		prev_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < (int) lengthof(areas); i++)
	{
		bool		found;
		void	   *area =
			ShmemInitStruct(areas[i].name, areas[i].size(), &found);

		areas[i].init(area, found);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Refuse to work with another libssl than the one we were built with. */
static void
check_openssl(void)
{
	unsigned long loaded;

	if (!pgtls_ossl_same_library(&loaded))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_tls was built for another major version of OpenSSL than the server's"),
				 errdetail("The server uses OpenSSL %lu.%lu, and pg_tls was built with the headers of %s.",
						   loaded >> 28, (loaded >> 20) & 0xff,
						   OPENSSL_VERSION_TEXT),
				 errhint("Build pg_tls with the OpenSSL that the server uses.")));
}

void
_PG_init(void)
{
	check_openssl();

	/*
	 * Without preloading there is no shared memory, and no hook would see all
	 * connections.  What only looks at one's own session works even so.
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;

	pgtls_prepare_define_settings();
	pgtls_chain_define_settings();
	pgtls_failure_define_settings();
	pgtls_inventory_define_settings();
	pgtls_verifier_define_settings();
	pgtls_advice_define_settings();
	pgtls_monitor_define_settings();
	pgtls_watch_define_settings();
	pgtls_save_define_settings();
	MarkGUCPrefixReserved("pg_tls");

	pgtls_install_shmem_request(shmem_request, prev_shmem_request);
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;

	pgtls_hooks_install();
	pgtls_monitor_register();
	pgtls_preload_succeeded();
}

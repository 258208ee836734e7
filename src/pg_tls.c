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

#include "advice.h"
#include "chain.h"
#include "compat.h"
#include "crldir.h"
#include "handshake.h"
#include "inventory.h"
#include "monitor.h"
#include "ossl.h"
#include "pg_tls.h"
#include "prepare.h"
#include "reload.h"
#include "save.h"
#include "session.h"
#include "signature.h"
#include "watch.h"

PG_MODULE_MAGIC_EXT(.name = "pg_tls", .version = PGTLS_VERSION);

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;
static bool preloaded = false;

/* Each area in turn, large ones last. */
static const struct
{
	const char *name;
	Size		(*size) (void);
	void		(*init) (void *area, bool found);
}			areas[] = {
	{"pg_tls reloads", pgtls_reload_shmem_size, pgtls_reload_shmem_init},
	{"pg_tls ssl_crl_dir", pgtls_crldir_shmem_size, pgtls_crldir_shmem_init},
	{"pg_tls monitor", pgtls_monitor_shmem_size, pgtls_monitor_shmem_init},
	{"pg_tls watch", pgtls_watch_shmem_size, pgtls_watch_shmem_init},
	{"pg_tls handshakes", pgtls_handshake_shmem_size, pgtls_handshake_shmem_init},
	{"pg_tls inventory", pgtls_inventory_shmem_size, pgtls_inventory_shmem_init},
	{"pg_tls sessions", pgtls_session_shmem_size, pgtls_session_shmem_init},
	{"pg_tls chains", pgtls_chain_shmem_size, pgtls_chain_shmem_init},
};

static void
shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();

	for (int i = 0; i < (int) lengthof(areas); i++)
		RequestAddinShmemSpace(areas[i].size());
	RequestNamedLWLockTranche("pg_tls", PGTLS_NUM_LOCKS);
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
		void	   *area = ShmemInitStruct(areas[i].name, areas[i].size(), &found);

		areas[i].init(area, found);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
pgtls_require_preload(void)
{
	if (!preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_tls must be loaded via \"shared_preload_libraries\""),
				 errhint("Add pg_tls to the setting \"shared_preload_libraries\" and restart the server.")));
}

void
pgtls_out_of_memory(void)
{
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory")));
}

/*
 * Why OpenSSL failed just now; a constant.  Raises an error if it was for lack
 * of memory, for which nobody's input is to be blamed.  Empties the queue.
 */
const char *
pgtls_failure_reason(void)
{
	const char *reason = pgtls_ossl_reason();

	if (pgtls_ossl_out_of_memory())
		pgtls_out_of_memory();
	return reason;
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
						   loaded >> 28, (loaded >> 20) & 0xff, OPENSSL_VERSION_TEXT),
				 errhint("Build pg_tls with the OpenSSL that the server uses.")));
}

void
_PG_init(void)
{
	check_openssl();

	/*
	 * Without preloading there is no shared memory, and no hook would see
	 * all connections.  What only looks at one's own session works even so.
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;

	pgtls_chain_define_settings();
	pgtls_advice_define_settings();
	pgtls_handshake_define_settings();
	pgtls_inventory_define_settings();
	pgtls_save_define_settings();
	pgtls_monitor_define_settings();
	pgtls_prepare_define_settings();
	pgtls_signature_define_settings();
	pgtls_watch_define_settings();
	MarkGUCPrefixReserved("pg_tls");

	pgtls_install_shmem_request(shmem_request, prev_shmem_request);
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;

	pgtls_reload_install_hooks();
	pgtls_session_install_hooks();
	pgtls_handshake_install_hooks();
	pgtls_monitor_register();
	preloaded = true;
}

/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between the supported major versions of PostgreSQL.
 *
 * This is the only file that tests PG_VERSION_NUM.  The rest of pg_tls is
 * written against the newest interface; what is here gives the older
 * versions the same shape.  Each entry names the version that brought the
 * change.
 *
 * Include it after postgres.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_COMPAT_H
#define PGTLS_COMPAT_H

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/hba.h"
#include "libpq/libpq-be.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "postmaster/bgworker_internals.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "nodes/memnodes.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#if PG_VERSION_NUM < 130000
#error "pg_tls needs PostgreSQL 13 or later"
#endif

#ifndef USE_OPENSSL
#error "pg_tls needs a PostgreSQL server that was built with OpenSSL"
#endif

/*
 * Children must inherit the postmaster's memory: the loaded SSL_CTX and the
 * generation of the configuration are handed on that way.
 */
#ifdef EXEC_BACKEND
#error "pg_tls needs a server that starts its processes by fork (no EXEC_BACKEND)"
#endif

/*
 * 19: ssl_sni.  While it is on, core calls no TLS init hook, and warns of one
 * that is installed.
 */
#if PG_VERSION_NUM >= 190000
#include "libpq/libpq.h"
#define pgtls_sni_is_on()		(ssl_sni)
#else
#define pgtls_sni_is_on()		(false)
#endif

/*
 * 19: what a load of the TLS files makes belongs to a memory context below
 * PostmasterContext.  Every child deletes it, and is left with pointers into
 * it.  Let it hang where children keep it; core still deletes it itself at the
 * next load.  For the postmaster, before it forks.
 */
static inline void
pgtls_keep_loaded_tls(void)
{
#if PG_VERSION_NUM >= 190000
	if (PostmasterContext != NULL)
	{
		MemoryContext next;

		for (MemoryContext context = PostmasterContext->firstchild;
			 context != NULL; context = next)
		{
			next = context->nextchild;
			if (strcmp(context->name, "hosts file parser context") == 0)
				MemoryContextSetParent(context, TopMemoryContext);
		}
	}
#endif
}

/*
 * 19: the ciphers, and with them the security level and Suite B, are set on
 * another context than that which the init hook sees.  For a child that
 * verifies by the latter.
 */
#if PG_VERSION_NUM >= 190000
#define pgtls_adopt_ciphers(context, cipher_list) \
	pgtls_ossl_adopt_ciphers(context, cipher_list)
#else
#define pgtls_adopt_ciphers(context, cipher_list) ((void) 0)
#endif

/* 18: pg_noreturn, which comes first */
#if PG_VERSION_NUM < 180000
#define pg_noreturn				pg_attribute_noreturn()
#endif

/* 18: PG_MODULE_MAGIC_EXT */
#if PG_VERSION_NUM < 180000
#define PG_MODULE_MAGIC_EXT(...) PG_MODULE_MAGIC
#endif

/*
 * 17: processes are numbered from zero by their PGPROC.  Before, the dense
 * number that core itself uses to index per-backend arrays is the backend
 * ID, which counts from one.
 */
#if PG_VERSION_NUM < 170000
#define MyProcNumber			(MyBackendId - 1)
#define pgtls_pgproc_number()	(MyProc->pgprocno)
#else
#define pgtls_pgproc_number()	(MyProcNumber)
#endif

/* 16: the identity moved out of Port; 14 brought it, 13 has none */
#if PG_VERSION_NUM >= 160000
#define pgtls_authn_id(port)	(MyClientConnectionInfo.authn_id)
#elif PG_VERSION_NUM >= 140000
#define pgtls_authn_id(port)	((port)->authn_id)
#else
#define pgtls_authn_id(port)	((const char *) NULL)
#endif

/*
 * 16: the method is kept for the whole session, where it established an
 * identity (trust does not).  Before, it is known during authentication only.
 */
#if PG_VERSION_NUM >= 160000
#define pgtls_auth_method() \
	(MyClientConnectionInfo.authn_id != NULL ? \
	 hba_authname(MyClientConnectionInfo.auth_method) : NULL)
#else
#define pgtls_auth_method()		((const char *) NULL)
#endif

/* 15: shared memory is asked for in a hook, and MaxBackends is known there */
#if PG_VERSION_NUM < 150000
typedef void (*shmem_request_hook_type) (void);

#define pgtls_install_shmem_request(request, prev) (request) ()

#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)

static inline int
pgtls_max_backends(void)
{
	/* as InitializeMaxBackends() will compute it, after our _PG_init() */
	return MaxConnections + autovacuum_max_workers + 1 +
		max_worker_processes + max_wal_senders;
}

/* 15: InitMaterializedSRF() */
static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, int flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext oldcontext;
	TupleDesc	tupdesc;

	Assert(flags == 0);
	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		!(rsinfo->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	oldcontext = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = tuplestore_begin_heap((rsinfo->allowedModes &
											   SFRM_Materialize_Random) != 0,
											  false, work_mem);
	rsinfo->setDesc = tupdesc;
	MemoryContextSwitchTo(oldcontext);
}
#else
#define pgtls_install_shmem_request(request, prev) \
	((prev) = shmem_request_hook, shmem_request_hook = (request))
#define pgtls_max_backends()	MaxBackends
#endif

/* 17: event triggers that fire on login; whether the database has any */
#if PG_VERSION_NUM >= 170000
#define pgtls_has_login_triggers()	(MyDatabaseHasLoginEventTriggers)
#else
#define pgtls_has_login_triggers()	(false)
#endif

/* 16: fmgr.h declares _PG_init() */
#if PG_VERSION_NUM < 160000
extern PGDLLEXPORT void _PG_init(void);
#endif

/*
 * 15: privileges of pg_read_all_stats follow inheritance; before, plain
 * membership was enough (HAS_PGSTAT_PERMISSIONS in pgstatfuncs.c).  14 also
 * renamed the role's macro.
 */
#if PG_VERSION_NUM >= 150000
#define pgtls_reads_all_stats() \
	has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS)
#elif PG_VERSION_NUM >= 140000
#define pgtls_reads_all_stats() \
	is_member_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS)
#else
#define pgtls_reads_all_stats() \
	is_member_of_role(GetUserId(), DEFAULT_ROLE_READ_ALL_STATS)
#endif

/*
 * 14: pg_do_encoding_conversion_buf(), which can report a character that has
 * no equivalent without raising an error.  In 13 none is tried, and the
 * caller escapes what is not ASCII.
 */
static inline bool
pgtls_convert_char(Oid proc, int dest_encoding, const unsigned char *src,
				   int len, unsigned char *dest, int destlen)
{
#if PG_VERSION_NUM >= 140000
	dest[0] = '\0';
	return pg_do_encoding_conversion_buf(proc, PG_UTF8, dest_encoding,
										 unconstify(unsigned char *, src), len,
										 dest, destlen, true) == len;
#else
	return false;
#endif
}

/* 18: ssl_tls13_ciphers, and ssl_ciphers has another variable */
#if PG_VERSION_NUM >= 180000
#define pgtls_cipher_list		SSLCipherList
#define pgtls_cipher_suites		SSLCipherSuites
#else
#define pgtls_cipher_list		SSLCipherSuites
#define pgtls_cipher_suites		""
#endif

/*
 * 15: shm_mq_send() may hold messages back, until a quarter of the queue is
 * full
 */
#if PG_VERSION_NUM < 150000
#define shm_mq_send(queue, size, data, nowait, flush) \
	shm_mq_send(queue, size, data, nowait)
#endif

/* 18: the list of registered background workers became a doubly linked one */
#if PG_VERSION_NUM >= 180000
#define pgtls_worker_iter		dlist_iter
#define pgtls_worker_foreach	dlist_foreach
#define pgtls_worker_container	dlist_container
#else
#define pgtls_worker_iter		slist_iter
#define pgtls_worker_foreach	slist_foreach
#define pgtls_worker_container	slist_container
#endif

/* RegisterBackgroundWorker() does not tell whether there was room. */
static inline bool
pgtls_is_worker_registered(const char *name)
{
	pgtls_worker_iter iter;

	pgtls_worker_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker =
			pgtls_worker_container(RegisteredBgWorker, rw_lnode, iter.cur);

		if (strcmp(worker->rw_worker.bgw_name, name) == 0)
			return true;
	}
	return false;
}

/* 14: ssl_crl_dir */
#if PG_VERSION_NUM < 140000
#define ssl_crl_dir				""
#endif

/* 14: hba_authname() */
#if PG_VERSION_NUM < 140000
static inline const char *
hba_authname(UserAuth method)
{
	switch (method)
	{
		case uaReject:
		case uaImplicitReject:
			return "reject";
		case uaTrust:
			return "trust";
		case uaIdent:
			return "ident";
		case uaPassword:
			return "password";
		case uaMD5:
			return "md5";
		case uaSCRAM:
			return "scram-sha-256";
		case uaGSS:
			return "gss";
		case uaSSPI:
			return "sspi";
		case uaPAM:
			return "pam";
		case uaBSD:
			return "bsd";
		case uaLDAP:
			return "ldap";
		case uaCert:
			return "cert";
		case uaRADIUS:
			return "radius";
		case uaPeer:
			return "peer";
	}
	return NULL;
}
#endif

#endif							/* PGTLS_COMPAT_H */

/*-------------------------------------------------------------------------
 *
 * fileviews.c
 *	  The view pg_tls_files, and what else a worker tells of what is loaded.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include <pwd.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/preload.h"
#include "base/row.h"
#include "base/worker.h"
#include "server/fileviews.h"
#include "server/inspect.h"
#include "x509/crl.h"
#include "x509/hostname.h"

/* Kinds of questions. */
#define ASK_FILES			'f'
#define ASK_ENTRIES			'e'
#define ASK_SERVER			's'

PG_FUNCTION_INFO_V1(pg_tls_files_1_0);
PG_FUNCTION_INFO_V1(pg_tls_crl_entries_1_0);
PG_FUNCTION_INFO_V1(pg_tls_server_matches_1_0);


/* ----------------------------------------------------------------
 *		Worker
 * ----------------------------------------------------------------
 */

static const char *
owner_name(uid_t uid)
{
	struct passwd *pw = getpwuid(uid);

	return pw != NULL ? pstrdup(pw->pw_name) : psprintf("%u", (unsigned) uid);
}

static void
put_digest(StringInfo record, bool has_digest, const Sha256 *digest)
{
	pgtls_worker_put_hex(record, "", has_digest ? digest->bytes : NULL,
						 sizeof(Sha256));
}

static void
answer_files(const Inspection *in)
{
	StringInfoData record;

	initStringInfo(&record);
	for (int kind = 0; kind < NUM_FILES; kind++)
	{
		const TlsFile *file = &in->files[kind];

		pgtls_worker_put(&record, pgtls_inspect_kinds[kind].setting);
		pgtls_worker_put(&record, file->path);
		pgtls_worker_put(&record, pgtls_inspect_kinds[kind].contents);
		pgtls_worker_put(&record, pgtls_inspect_kinds[kind].effect);
		pgtls_worker_put(&record, file->state);
		if (file->exists)
		{
			pgtls_worker_put(&record, owner_name(file->st.st_uid));
			pgtls_worker_put(&record,
							 psprintf("%04o", file->st.st_mode & 07777));
			pgtls_worker_put_int(&record, file->st.st_size);
			pgtls_worker_put_int(&record,
								 time_t_to_timestamptz(file->st.st_mtime) +
								 file->st.st_mtim.tv_nsec / 1000);
		}
		else
		{
			for (int i = 0; i < 4; i++)
				pgtls_worker_put(&record, NULL);
		}
		put_digest(&record, file->has_loaded_digest, &file->loaded_digest);
		put_digest(&record, file->has_disk_digest, &file->disk_digest);
		pgtls_worker_put(&record, file->problem);
		pgtls_worker_send(&record);
	}
}

static bool
answer_entry(const CrlEntry *entry, void *arg)
{
	StringInfo	record = arg;

	pgtls_worker_put(record, entry->issuer);
	if (entry->serial_fits)
		pgtls_worker_put_small_numeric(record, entry->serial_value);
	else
		pgtls_worker_put_numeric(record, entry->serial);
	pgtls_worker_put_hex(record, entry->serial_negative ? "-" : "",
						 entry->serial_bytes, entry->serial_len);
	pgtls_worker_put_time(record, entry->revoked_at);
	pgtls_worker_put(record, entry->reason);
	pgtls_worker_send(record);
	return true;
}

static void
answer_entries_of(X509_CRL *crl, StringInfo record)
{
	if (!pgtls_crl_entries(crl, answer_entry, record))
		pgtls_error_out_of_memory();
}

/*
 * The entries of the CRLs in force: those loaded, and those of the directory.
 */
static void
answer_entries(const Inspection *in)
{
	StringInfoData record;
	ObjectStack *objects;
	ListCell   *lc;

	if (in->context == NULL)
		return;
	initStringInfo(&record);
	objects = pgtls_ossl_store_objects(SSL_CTX_get_cert_store(in->context));
	if (objects == NULL)
		pgtls_error_out_of_memory();
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_CRL   *crl =
			X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

		if (crl != NULL)
			answer_entries_of(crl, &record);
	}
	foreach(lc, pgtls_inspect_crls_on_demand(in))
		answer_entries_of(((FileItem *) lfirst(lc))->crl, &record);
}

/* The server certificate in force, in hexadecimal. */
static void
answer_server(const Inspection *in)
{
	StringInfoData record;
	unsigned char *der = NULL;
	int			len;

	if (in->context == NULL || SSL_CTX_get0_certificate(in->context) == NULL)
		return;
	len = i2d_X509(SSL_CTX_get0_certificate(in->context), &der);
	if (len <= 0)
		pgtls_error_out_of_memory();
	initStringInfo(&record);
	pgtls_worker_put_hex(&record, "", der, len);
	pgtls_worker_send(&record);
}

/* Main function of the worker. */
void
pgtls_fileviews_main(Datum arg)
{
	char		kind = pgtls_worker_begin(arg);

	switch (kind)
	{
		case ASK_FILES:
			answer_files(pgtls_inspect_files());
			break;
		case ASK_ENTRIES:
			answer_entries(pgtls_inspect_loaded());
			break;
		case ASK_SERVER:
			answer_server(pgtls_inspect_loaded());
			break;
	}
	pgtls_worker_end();
}


/* ----------------------------------------------------------------
 *		Who asks
 * ----------------------------------------------------------------
 */

static Question
question(char kind)
{
	Question	result = {
		.name = "pg_tls files",
		.function = "pgtls_fileviews_main",
		.what = "a look at the TLS files",
		.kind = kind,
		.deadline = DT_NOEND
	};

	pgtls_preload_require();
	return result;
}

static Datum
ask_rows(FunctionCallInfo fcinfo, char kind, const char *types)
{
	Question	asked = question(kind);

	(void) pgtls_worker_ask_rows(fcinfo, &asked, types);
	return (Datum) 0;
}

/*
 * pg_tls_files() returns SETOF record
 *
 * The view's rows.  This and those that follow raise an error without
 * preloading, or if no worker can be started.
 */
Datum
pg_tls_files_1_0(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_FILES, "tmtttttITttm");
}

/*
 * pg_tls_crl_entries() returns SETOF record
 *
 * The entries of all CRLs in force.
 */
Datum
pg_tls_crl_entries_1_0(PG_FUNCTION_ARGS)
{
	return ask_rows(fcinfo, ASK_ENTRIES, "tntTt");
}

/* Take the server certificate: DER in hexadecimal. */
static void
take_server(StringInfo record, void *arg)
{
	*(char **) arg = pstrdup(pgtls_worker_get(record));
}

/*
 * pg_tls_server_matches(host text) returns boolean
 *
 * Whether the server certificate in force is for that host, by libpq's rules.
 * NULL if none is loaded, or it cannot be known.  Raises an error for an empty
 * name, without preloading, or if no worker can be started.
 */
Datum
pg_tls_server_matches_1_0(PG_FUNCTION_ARGS)
{
	char	   *host = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *hex = NULL;
	Question	asked;
	unsigned char *der;
	const unsigned char *p;
	size_t		len;
	X509	   *cert;
	bool		result;

	if (host[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("host name must not be empty")));
	asked = question(ASK_SERVER);
	(void) pgtls_worker_ask(&asked, take_server, &hex);
	if (hex == NULL)
		PG_RETURN_NULL();
	len = strlen(hex) / 2;
	der = palloc(len);
	(void) hex_decode(hex, 2 * len, (char *) der);
	p = der;
	cert = d2i_X509(NULL, &p, len);
	if (cert == NULL)
		pgtls_error_out_of_memory();
	result = pgtls_hostname_matches(cert, host);
	X509_free(cert);
	ERR_clear_error();
	PG_RETURN_BOOL(result);
}

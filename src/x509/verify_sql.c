/*-------------------------------------------------------------------------
 *
 * verify_sql.c
 *	  pg_tls_verify(): is there a valid path from a certificate to a CA?
 *
 * Certificates and CRLs come as text in PEM, and the verdict is that of
 * x509/verify.c.  Looks at nothing but its arguments, and at the settings that
 * decide how strong a key has to be.  Runs in a child of any backend, since
 * everybody may call it and OpenSSL cannot be interrupted (base/child.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/child.h"
#include "base/compat.h"
#include "base/ossl.h"
#include "x509/pem.h"
#include "base/error.h"
#include "base/row.h"
#include "x509/verify.h"

/* OpenSSL takes time in the square of their number, in each argument. */
#define MAX_OBJECTS		5000

/*
 * The arguments (NULL where none was given), what they hold, certificates and
 * CRLs as OpenSSL has them, and the outcome.
 */
typedef struct Path
{
	text	   *arguments[4];
	X509Stack  *certificate;	/* the first is judged, others were sent */
	X509Stack  *intermediates;
	X509Stack  *trusted;
	CrlStack   *crls;
	X509Stack  *sent;			/* borrowed from the first two */
	SSL_CTX    *context;
	TimestampTz at;
	bool		as_server;
	Verdict		verdict;
} Path;

PG_FUNCTION_INFO_V1(pg_tls_verify_1_0);

/* For an argument that contains nothing; the first has to. */
#define ADVICE_ON_NONE	"For none, leave it out or pass NULL."

static void
limit_objects(const PemInput *input)
{
	if (input->found > MAX_OBJECTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many %s in argument \"%s\" of pg_tls_verify",
						input->what, input->argument),
				 errdetail("At most %d are read.", MAX_OBJECTS),
				 errhint("Pass those that the certificate needs.")));
}

static void
read_certificates(const Path *path, int arg, const char *name,
				  X509Stack *certs, bool trusted)
{
	PemInput	input;
	X509	   *cert;

	if (path->arguments[arg] == NULL)
		return;
	pgtls_pem_begin(&input, path->arguments[arg], "pg_tls_verify", name,
					"certificates", arg == 0 ? "" : ADVICE_ON_NONE);
	while ((cert = pgtls_pem_next_certificate(&input, trusted)) != NULL)
	{
		limit_objects(&input);
		if (sk_X509_push(certs, cert) <= 0)
			pgtls_error_out_of_memory();
	}
}

static void
read_crls(const Path *path, int arg, const char *name, CrlStack *crls)
{
	PemInput	input;
	X509_CRL   *crl;

	if (path->arguments[arg] == NULL)
		return;
	pgtls_pem_begin(&input, path->arguments[arg], "pg_tls_verify", name,
					"CRLs", ADVICE_ON_NONE);
	while ((crl = pgtls_pem_next_crl(&input)) != NULL)
	{
		limit_objects(&input);
		if (sk_X509_CRL_push(crls, crl) <= 0)
			pgtls_error_out_of_memory();
	}
}

/* In the child, whose end frees what is allocated here. */
static void
verify_path(void *arg)
{
	Path	   *path = arg;
	X509	   *leaf;
	bool		known;

	path->certificate = sk_X509_new_null();
	path->intermediates = sk_X509_new_null();
	path->trusted = sk_X509_new_null();
	path->crls = sk_X509_CRL_new_null();
	path->sent = sk_X509_new_null();
	if (path->certificate == NULL || path->intermediates == NULL ||
		path->trusted == NULL || path->crls == NULL || path->sent == NULL)
		pgtls_error_out_of_memory();

	read_certificates(path, 0, "certificate", path->certificate, false);
	read_certificates(path, 1, "intermediates", path->intermediates, false);
	read_certificates(path, 2, "trusted", path->trusted, true);
	read_crls(path, 3, "crls", path->crls);

	leaf = sk_X509_value(path->certificate, 0);
	for (int i = 1; i < sk_X509_num(path->certificate); i++)
	{
		if (sk_X509_push(path->sent, sk_X509_value(path->certificate, i)) == 0)
			pgtls_error_out_of_memory();
	}
	for (int i = 0; i < sk_X509_num(path->intermediates); i++)
	{
		if (sk_X509_push(path->sent, sk_X509_value(path->intermediates, i)) ==
			0)
			pgtls_error_out_of_memory();
	}

	if (path->as_server)
	{
		path->context = pgtls_verify_make_context(path->trusted, path->crls);
		known = path->context != NULL &&
			pgtls_verify_chain(path->context, leaf, path->sent, path->at,
							   &path->verdict);
	}
	else
		known = pgtls_verify_rfc5280(leaf, path->sent, path->trusted,
									 path->crls, path->at, &path->verdict);
	if (!known)
		pgtls_error_out_of_memory();
}

/* Which of the modes it is that is asked for: the server's, or RFC 5280's. */
static bool
is_server_mode(FunctionCallInfo fcinfo)
{
	char	   *mode = PG_ARGISNULL(5) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(5));

	if (mode != NULL && strcmp(mode, "server") == 0)
		return true;
	if (mode != NULL && strcmp(mode, "rfc5280") == 0)
		return false;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					mode != NULL ?
					errmsg("invalid mode of pg_tls_verify: \"%s\"", mode) :
					errmsg("mode of pg_tls_verify must not be null"),
					errhint("Use \"server\" or \"rfc5280\".")));
}

/* The moment asked for: now, where none is. */
static TimestampTz
get_moment(FunctionCallInfo fcinfo)
{
	/* the years 0 to 9999, which certificates know */
	const TimestampTz first = -INT64CONST(1999) * 365 * USECS_PER_DAY;
	const TimestampTz last = INT64CONST(7999) * 365 * USECS_PER_DAY;
	TimestampTz at;

	if (PG_ARGISNULL(4))
		return GetCurrentStatementStartTimestamp();
	at = PG_GETARG_TIMESTAMPTZ(4);
	if (at < first || at > last)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("argument \"at\" of pg_tls_verify is out of range"),
				 errhint("Certificates know the years up to 9999.")));
	return at;
}

/*
 * pg_tls_verify(certificate text, intermediates text, trusted text, crls text,
 *				 at timestamptz, mode text)
 * returns record (ok boolean, chain_status text, crl_status text,
 *				   verify_error text, error_code integer, verify_depth integer)
 *
 * Raises an error if the arguments are not what they should be.  NULL for
 * "certificate" gives NULL.
 */
Datum
pg_tls_verify_1_0(PG_FUNCTION_ARGS)
{
	Path		path = {0};
	const Verdict *verdict = &path.verdict;
	Row			row;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	path.as_server = is_server_mode(fcinfo);
	path.at = get_moment(fcinfo);
	/* copied: what comes from a table may lie in shared memory */
	for (int i = 0; i < (int) lengthof(path.arguments); i++)
		path.arguments[i] = PG_ARGISNULL(i) ? NULL : PG_GETARG_TEXT_P_COPY(i);
	pgtls_child_run("pg_tls_verify", verify_path, &path, &path.verdict,
					sizeof(path.verdict));

	pgtls_row_begin(&row);
	pgtls_row_bool(&row, verdict->acceptable);
	pgtls_row_text(&row, pgtls_verdict_chain_status(verdict));
	pgtls_row_text(&row, pgtls_verdict_crl_status(verdict));
	if (verdict->acceptable)
	{
		pgtls_row_null(&row);
		pgtls_row_null(&row);
		pgtls_row_null(&row);
	}
	else
	{
		pgtls_row_text(&row, X509_verify_cert_error_string(verdict->error));
		pgtls_row_int(&row, verdict->error);
		pgtls_row_int(&row, verdict->depth);
	}
	PG_RETURN_DATUM(pgtls_row_return(&row, fcinfo));
}

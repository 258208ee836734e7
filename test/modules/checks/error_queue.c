/*
 * For tests: pg_tls_test_error_queue() reads the client's certificate, and
 * tells the first error that is left in OpenSSL's queue; NULL for none.
 *
 * It stands behind client/session.c in a build for tests (TlsBuild.pm).
 */
#include "client/session.c"

PG_FUNCTION_INFO_V1(pg_tls_test_error_queue);

Datum
pg_tls_test_error_queue(PG_FUNCTION_ARGS)
{
	CertInfo	c;
	unsigned long error;
	char	   *result;

	if (MyProcPort == NULL || MyProcPort->peer == NULL)
		PG_RETURN_NULL();
	ERR_clear_error();
	if (pgtls_certificate_read(MyProcPort->peer, &c))
		pgtls_certificate_free(&c);
	error = ERR_get_error();
	ERR_clear_error();
	if (error == 0)
		PG_RETURN_NULL();
	result = psprintf("%08lX %s", error, ERR_reason_error_string(error));
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/*-------------------------------------------------------------------------
 *
 * error.c
 *	  Errors that OpenSSL is the cause of.
 *
 *-------------------------------------------------------------------------
 */

#include "postgres.h"

#include "base/error.h"
#include "base/ossl.h"

void
pgtls_error_out_of_memory(void)
{
	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory")));
}

const char *
pgtls_error_reason(void)
{
	const char *reason = pgtls_ossl_reason();

	if (pgtls_ossl_out_of_memory())
		pgtls_error_out_of_memory();
	return reason;
}

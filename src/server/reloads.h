/*-------------------------------------------------------------------------
 *
 * reloads.h
 *	  The view pg_tls_reloads.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_RELOADS_H
#define PGTLS_RELOADS_H

#include "base/row.h"
#include "server/history.h"

extern const char *pgtls_reloads_error(const LoadAttempt *attempt);
extern void pgtls_reloads_add_certificate(Row *row,
										  const ServerCertificate *certificate);
extern void pgtls_reloads_make_row(Row *row, const LoadAttempt *attempt);

#endif							/* PGTLS_RELOADS_H */

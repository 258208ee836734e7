/*-------------------------------------------------------------------------
 *
 * session.h
 *	  A client's session describes itself; pg_stat_tls.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_SESSION_H
#define PGTLS_SESSION_H

#include "libpq/libpq-be.h"

#include "client/slot.h"

/* For hooks: a client is authenticated. */
extern void pgtls_session_register(void);
extern void pgtls_session_describe(Port *port, SessionInfo *info);
extern bool pgtls_session_is_outdated(const SessionInfo *info);

/* For hooks: something is logged. */
extern void pgtls_session_explain_end(ErrorData *edata);

#endif							/* PGTLS_SESSION_H */

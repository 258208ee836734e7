/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  Handshakes and authentications: how many, and why they fail.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_FAILURE_H
#define PGTLS_FAILURE_H

#include "libpq/libpq-be.h"

#include "base/ossl.h"
#include "base/stream.h"

extern void pgtls_failure_define_settings(void);
extern Size pgtls_failure_shmem_size(void);
extern void pgtls_failure_shmem_init(void *area, bool found);

extern TimestampTz pgtls_failure_stats_reset(void);
extern void pgtls_failure_reset(void);

extern uint64 pgtls_failure_changes(void);
extern void pgtls_failure_save(Stream *stream);
extern bool pgtls_failure_load(Stream *stream);

/* For hooks: a client was authenticated. */
extern void pgtls_failure_require_encryption(Port *port);
extern void pgtls_failure_count_accepted(const Port *port);

/* For hooks: something is logged, or a handshake's verification is over. */
extern void pgtls_failure_note_message(const ErrorData *edata);
extern void pgtls_failure_note_verification(X509_STORE_CTX *ctx);

#endif							/* PGTLS_FAILURE_H */

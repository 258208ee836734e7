/*-------------------------------------------------------------------------
 *
 * load.h
 *	  Loads of the server's TLS files, as the postmaster makes them.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_LOAD_H
#define PGTLS_LOAD_H

#include <sys/stat.h>

#include "base/ossl.h"

/* The files that a load reads, by the settings; empty or NULL where unset. */
#define PGTLS_LOADED_FILES	5
extern void pgtls_load_get_files(const char **files);

/* For hooks. */
extern void pgtls_load_begins(SSL_CTX *context, bool isServerStart);
extern void pgtls_load_note_message(const ErrorData *edata);
extern void pgtls_load_before_fork(void);

extern Size pgtls_load_shmem_size(void);
extern void pgtls_load_shmem_init(void *area, bool found);

/* What a child of the postmaster inherited. */
extern int64 pgtls_load_generation(void);
extern bool pgtls_load_context(SSL_CTX **context);
extern bool pgtls_load_client_context(SSL_CTX **context);
extern bool pgtls_load_same_key_file(const struct stat *st);
extern bool pgtls_load_same_dh_file(const struct stat *st);
extern const char *pgtls_load_crl_dir(void);

#endif							/* PGTLS_LOAD_H */

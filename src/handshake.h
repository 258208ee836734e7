/*-------------------------------------------------------------------------
 *
 * handshake.h
 *	  Handshakes and authentications: how many, and why they fail.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_HANDSHAKE_H
#define PGTLS_HANDSHAKE_H

#include "lib/stringinfo.h"
#include "libpq/libpq-be.h"

extern void pgtls_handshake_define_settings(void);
extern void pgtls_handshake_install_hooks(void);
extern Size pgtls_handshake_shmem_size(void);
extern void pgtls_handshake_shmem_init(void *area, bool found);

extern void pgtls_handshake_save(StringInfo buf);
extern bool pgtls_handshake_load(StringInfo buf);

/* A client was authenticated; raises FATAL if it has to use encryption. */
extern void pgtls_handshake_accepted(Port *port);

#endif							/* PGTLS_HANDSHAKE_H */

/*-------------------------------------------------------------------------
 *
 * inventory.h
 *	  What clients used, over time: bounded tables in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_INVENTORY_H
#define PGTLS_INVENTORY_H

#include "datatype/timestamp.h"
#include "libpq/pqcomm.h"

#include "base/stream.h"
#include "x509/certificate.h"

/* A session that has begun, as far as the tables go; UTF-8, NULL for none. */
typedef struct InventorySession
{
	const char *usename;
	const SockAddr *addr;
	const char *encryption;
	const char *version;
	const char *cipher;
	const char *key_exchange;

	/* the client's certificate */
	bool		has_certificate;
	const unsigned char *fingerprint;
	const char *subject;
	const char *issuer;
	const char *serial;
	const char *san;
	const char *key;
	TimestampTz not_before;
	TimestampTz not_after;
} InventorySession;

extern void pgtls_inventory_define_settings(void);
extern Size pgtls_inventory_shmem_size(void);
extern void pgtls_inventory_shmem_init(void *area, bool found);
extern void pgtls_inventory_note(const InventorySession *session);
extern uint64 pgtls_inventory_changes(void);
extern void pgtls_inventory_save(Stream *stream);
extern bool pgtls_inventory_load(Stream *stream);

#endif							/* PGTLS_INVENTORY_H */

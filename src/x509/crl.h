/*-------------------------------------------------------------------------
 *
 * crl.h
 *	  Certificate revocation lists as plain C.
 *
 * Pure, as x509/certificate.h is, and with the same rules for text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_CRL_H
#define PGTLS_CRL_H

#include "base/ossl.h"

/* What a CRL says of itself; pgtls_crl_free(). */
typedef struct CrlInfo
{
	char	   *issuer;			/* as pg_stat_ssl writes names; NULL: empty */
	char	   *number;			/* CRL number, decimal; NULL for none */
	int64		this_update;	/* as TimestampTz */
	int64		next_update;	/* likewise; PGTLS_NO_TIME for none */
	int			revoked;		/* how many entries */
	bool		delta;
	bool		indirect;
} CrlInfo;

/* An entry.  Everything belongs to the reader, and ends with the call. */
typedef struct CrlEntry
{
	const char *issuer;			/* of the revoked certificate, or NULL */
	bool		serial_fits;	/* it is serial_value, or else ... */
	int64		serial_value;
	const char *serial;			/* decimal; NULL for one of over 1024 bytes */
	const unsigned char *serial_bytes;	/* its magnitude */
	int			serial_len;
	bool		serial_negative;
	int64		revoked_at;		/* as TimestampTz */
	const char *reason;			/* RFC 5280's name, NULL for none */
} CrlEntry;

/*
 * What entries are ordered by: as OpenSSL sorts them, or as they lie in
 * memory.
 */
typedef enum CrlOrder
{
	CRL_BY_SERIAL,
	CRL_BY_ADDRESS
} CrlOrder;

/* Called for each entry; false to stop. */
typedef bool (*CrlEntryCallback) (const CrlEntry *entry, void *arg);

extern bool pgtls_crl_is_of(X509_CRL *crl, X509 *ca);
extern bool pgtls_crl_read(X509_CRL *crl, CrlInfo *info);
extern void pgtls_crl_free(CrlInfo *info);
extern void pgtls_crl_order(X509_CRL *crl, CrlOrder order);
extern bool pgtls_crl_entries(X509_CRL *crl, CrlEntryCallback callback,
							  void *arg);

#endif							/* PGTLS_CRL_H */

/*-------------------------------------------------------------------------
 *
 * inspect.h
 *	  The server's TLS files: configured, loaded, and on disk.
 *
 * For workers.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_INSPECT_H
#define PGTLS_INSPECT_H

#include "server/item.h"

/* The settings that name files. */
typedef enum FileKind
{
	CERT_FILE,
	KEY_FILE,
	CA_FILE,
	CRL_FILE,
	CRL_DIR,
	DH_FILE,
	NUM_FILES
} FileKind;

/* What is said of each of them. */
typedef struct FileKindInfo
{
	const char *setting;
	const char *contents;
	const char *effect;
} FileKindInfo;

extern const FileKindInfo pgtls_inspect_kinds[NUM_FILES];

/*
 * What there is at one moment, in memory of the caller's context and
 * OpenSSL's; a worker keeps it until its end.
 */
typedef struct Inspection
{
	bool		is_known;		/* whether anything is loaded can be known */
	SSL_CTX    *context;		/* NULL if nothing is */

	/* the rest by pgtls_inspect_files() only */
	TlsFile		files[NUM_FILES];
	List	   *loaded_items;	/* of FileItem *: the store's */
	Lookup	   *loaded_by_digest;	/* the same */
	Lookup	   *cas_by_subject; /* of FileItem *, loaded or on disk */
	Lookup	   *crls_by_issuer; /* likewise, of those in ssl_crl_dir, too */
	bool		crls_in_use;
} Inspection;

extern Inspection *pgtls_inspect_loaded(void);
extern Inspection *pgtls_inspect_files(void);

extern bool pgtls_inspect_crl_dir_is_in_force(const Inspection *in);
extern List *pgtls_inspect_crls_on_demand(const Inspection *in);
extern bool pgtls_inspect_has_crl(const Inspection *in, const FileItem *ca);
extern void pgtls_inspect_find_crl_issuer(const Inspection *in, X509_CRL *crl,
										  bool *has_issuer, bool *verified);
extern bool pgtls_inspect_is_badly_signed(const Inspection *in, X509_CRL *crl);

#endif							/* PGTLS_INSPECT_H */

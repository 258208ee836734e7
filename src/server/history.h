/*-------------------------------------------------------------------------
 *
 * history.h
 *	  Loads of the server's TLS files: what shared memory has of them.
 *
 * The postmaster writes (load.c), any process reads.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_HISTORY_H
#define PGTLS_HISTORY_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "base/ossl.h"

/* How many attempts are remembered. */
#define PGTLS_HISTORY_SIZE	128

/* Size of the ssl_crl_dir that is remembered; what is longer is cut. */
#define PGTLS_CRL_DIR_SIZE	8192

/* Bound of the server's message, in bytes. */
#define PGTLS_LOAD_ERROR_SIZE		1024

typedef enum LoadOutcome
{
	LOAD_PENDING,
	LOAD_FAILED,
	LOAD_SUCCEEDED
} LoadOutcome;

typedef enum LoadTrigger
{
	TRIGGER_STARTUP,
	TRIGGER_RELOAD,
	TRIGGER_FUNCTION,
	TRIGGER_WATCH
} LoadTrigger;

/* Who gave the passphrase of the private key. */
typedef enum Passphrase
{
	PASSPHRASE_NONE,			/* none was asked for */
	PASSPHRASE_TERMINAL,		/* OpenSSL's prompt, at the start only */
	PASSPHRASE_COMMAND,			/* ssl_passphrase_command */
	PASSPHRASE_OTHER			/* a callback of another module */
} Passphrase;

/* What is kept of the server's certificate. */
typedef struct ServerCertificate
{
	bool		known;
	TimestampTz not_after;
	unsigned char fingerprint[PGTLS_SHA256_LEN];
} ServerCertificate;

/* One load of the TLS files.  Attempts and generations count from one. */
typedef struct LoadAttempt
{
	int64		attempt;
	int64		generation;		/* 0 unless it succeeded */
	uint32		request;		/* requests that it saw */
	uint32		watch_request;	/* those of the watch among them */
	LoadOutcome outcome;
	LoadTrigger trigger;
	TimestampTz time;
	int64		duration;		/* microseconds, -1 if its end was not seen */
	ServerCertificate certificate;	/* that was loaded */
	char		error[PGTLS_LOAD_ERROR_SIZE];	/* the server's message if it
												 * failed */
} LoadAttempt;

/* The settings of a load that no file holds. */
typedef struct LoadSettings
{
	Passphrase	passphrase;
	bool		has_ca;			/* client certificates are asked for */
	char		crl_dir[PGTLS_CRL_DIR_SIZE];	/* ssl_crl_dir, or empty */
	int			min_version;	/* as ssl_min_protocol_version */
	int			max_version;
	char		cipher_list[2048];	/* TLS 1.2 and before */
	char		cipher_suites[256]; /* TLS 1.3, empty for OpenSSL's default */
	char		groups[256];
} LoadSettings;

/*
 * LoadState: where the postmaster stands.
 *
 * The generation is the number of successful loads: every connection knows
 * by it which configuration its handshake used.
 */
typedef struct LoadState
{
	int64		attempts;		/* loads begun */
	int64		failures;		/* loads that failed */
	int64		generation;		/* loads that succeeded */
	int64		pending;		/* the attempt under way, 0 for none */
	int64		loaded;			/* the attempt that is in force, 0 for none */
	TimestampTz loaded_at;		/* or when it was unloaded */
	ServerCertificate certificate;	/* in force */
	int			crl_signatures; /* that connections need not verify; -1 until
								 * that is known */
	bool		unseen;			/* a load whose end could not be seen: what is
								 * in force is not known until the next */
	LoadSettings settings;		/* of the load in force */
} LoadState;

/* For the postmaster. */
extern Size pgtls_history_shmem_size(void);
extern void pgtls_history_shmem_init(void *area, bool found,
									 const LoadState *state,
									 const LoadAttempt *history);
extern void pgtls_history_publish(const LoadState *state,
								  const LoadAttempt *attempt);
extern void pgtls_history_read_requests(uint32 *requests,
										uint32 *watch_requests);

/* For any process. */
extern int	pgtls_history_index(int64 attempt);
extern int64 pgtls_history_generation(void);
extern bool pgtls_history_is_seen(void);
extern bool pgtls_history_is_hook_called(const LoadState *state);
extern bool pgtls_history_sees_loads(const LoadState *state);
extern void pgtls_history_crl_dir(char *dir, Size size);
extern TimestampTz pgtls_history_changed_after(int64 generation);
extern uint32 pgtls_history_request(bool watch);

/* For backends; the first raises an error without preloading. */
extern void pgtls_history_read_state(LoadState *copy);
extern bool pgtls_history_read_attempt(int64 number, LoadAttempt *copy);

#endif							/* PGTLS_HISTORY_H */

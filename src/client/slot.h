/*-------------------------------------------------------------------------
 *
 * slot.h
 *	  Client sessions in shared memory: a slot for each possible backend.
 *
 * A session's own backend writes what it knows of itself (client/session.c),
 * and the verifier what it judged.  Any process reads.  No locks: see
 * SessionSlot.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_SLOT_H
#define PGTLS_SLOT_H

#include "base/compat.h"
#include "client/chain.h"
#include "x509/verdict.h"

typedef enum Encryption
{
	ENCRYPTION_NONE,			/* TCP in clear text */
	ENCRYPTION_LOCAL,			/* Unix-domain socket */
	ENCRYPTION_GSS,
	ENCRYPTION_TLS
} Encryption;

/* The texts of a session, each with its bound in bytes. */
#define SESSION_TEXTS(X) \
	X(VERSION, 16) \
	X(CIPHER, 64) \
	X(KEY_EXCHANGE, 64) \
	X(SIGNATURE, 64) \
	X(CLIENT_SIGNATURE, 64) \
	X(SERVER_NAME, 255) \
	X(ALPN, 64) \
	X(AUTH_METHOD, 32) \
	X(AUTH_IDENTITY, 256) \
	X(CLIENT_DN, 1024) \
	X(CLIENT_DN_RFC2253, 1024) \
	X(ISSUER_DN, 1024) \
	X(SERIAL, 128) \
	X(CLIENT_CN, 256) \
	X(CLIENT_SAN, 1024) \
	X(CLIENT_KEY, 48) \
	X(CLIENT_EKU, 192)

#define TEXT_ENUM(name, bound) TEXT_##name,
typedef enum SessionText
{
	SESSION_TEXTS(TEXT_ENUM)
	SESSION_TEXT_COUNT
} SessionText;


/* All texts at their bounds, each aligned, with its length and a terminator. */
#define TEXT_SUM(name, bound) + INTALIGN(VARHDRSZ + (bound) + 1)
#define TEXT_SPACE	(0 SESSION_TEXTS(TEXT_SUM))

/*
 * SessionInfo: what is known of a session.
 *
 * Texts are UTF-8, since the session has no database yet when they are
 * written, and lie one after the other in space[], so that only what is used
 * needs to be copied; text_at[] holds where each begins, plus one, and zero for
 * NULL.  Each is a varlena value, which a row can use where it is, and a
 * terminator.  Lists are as in CertInfo.
 */
typedef struct SessionInfo
{
	int			pid;			/* 0: the slot is empty */
	int			pgproc;			/* number of the backend's PGPROC */
	TimestampTz start;			/* with pid, tells sessions apart */
	int64		generation;		/* of the TLS configuration, 0 without TLS */
	ChainRef	chain;			/* what the client sent, for later verdicts */
	Encryption	encryption;
	int			bits;
	PgTlsPostQuantum post_quantum;
	bool		has_certificate;	/* the client presented one */
	bool		certificate_read;	/* and the following fields are known */
	unsigned char fingerprint[PGTLS_SHA256_LEN];
	TimestampTz not_before;
	TimestampTz not_after;
	Verdict		verdict;		/* the handshake's */
	uint16		text_at[SESSION_TEXT_COUNT];
	uint16		used;			/* bytes of space[] in use */
	char		space[TEXT_SPACE];
} SessionInfo;

StaticAssertDecl(offsetof(SessionInfo, space) % sizeof(int32) == 0,
				 "texts are not aligned");

/*
 * LaterVerdict: the verdict that was reached last after the handshake.
 *
 * Written by whoever judges sessions, never by the session itself, and hence
 * a cell of its own.  It counts for a session only if it names it: a slot may
 * be reused while a verdict is on its way.
 */
typedef struct LaterVerdict
{
	int			pid;
	TimestampTz start;
	bool		terminate;		/* the session has to end for it */
	Verdict		verdict;
} LaterVerdict;

/*
 * SessionSlot: one for each possible backend, at the index MyProcNumber.
 *
 * Each cell has one writer: "info" is written by the backend that owns the
 * slot, "later" by the verifier, of which there is at most one at a time.
 * The protocol is that of PgBackendStatus (backend_status.h): the writer
 * prepares a local copy, increments changecount, copies, and increments it
 * again, with write barriers between; so it is odd while the cell is being
 * written.  A reader copies the cell and must try again if changecount was
 * odd or has changed.  Nothing can fail or be interrupted between the two
 * increments, so a reader that pauses between its tries (base/cell.h) gives
 * up only where the writer died.  It then takes the slot for empty.
 */
typedef struct SessionSlot
{
	uint32		changecount;	/* of info */
	SessionInfo info;
	uint32		later_changecount;
	LaterVerdict later;
} SessionSlot;

/* Budget for each possible backend. */
StaticAssertDecl(sizeof(SessionSlot) <= 6 * 1024, "session slot is too large");
StaticAssertDecl(TEXT_SPACE <= PG_UINT16_MAX, "texts are too large");


/*
 * A session whose client has a certificate, and its last verdict.  pid and
 * start tell whether the slot still is that session's.
 */
typedef struct SessionKey
{
	int			number;			/* of the slot */
	int			pid;
	TimestampTz start;
	ChainRef	chain;
	TimestampTz not_after;		/* of the client's certificate */
	Verdict		verdict;
} SessionKey;

extern Size pgtls_slot_shmem_size(void);
extern void pgtls_slot_shmem_init(void *area, bool found);

/* For a session's own backend. */
extern SessionSlot *pgtls_slot_mine(void);
extern void pgtls_slot_write(SessionSlot *slot, const SessionInfo *info);
extern void pgtls_slot_put_text(SessionInfo *info, SessionText field,
								const char *utf8);
extern void pgtls_slot_put_number(SessionInfo *info, SessionText field,
								  const char *digits);

/* For any process. */
extern int	pgtls_slot_count(void);
extern bool pgtls_slot_read(int number, SessionInfo *info);
extern void pgtls_slot_apply_later_verdict(int number, SessionInfo *info);
extern const text *pgtls_slot_value(const SessionInfo *info, SessionText field);
extern const char *pgtls_slot_text(const SessionInfo *info, SessionText field);

/* For those who judge sessions. */
extern int	pgtls_slot_list(SessionKey **keys);
extern bool pgtls_slot_read_chain(const SessionKey *key, X509 **leaf,
								  X509Stack **sent);
extern void pgtls_slot_judge(const SessionKey *key, const Verdict *verdict);
extern bool pgtls_slot_terminate(const SessionKey *key, const Verdict *verdict);
extern char *pgtls_slot_describe(const SessionKey *key);

#endif							/* PGTLS_SLOT_H */

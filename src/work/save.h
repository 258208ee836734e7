/*-------------------------------------------------------------------------
 *
 * save.h
 *	  Keeps what was seen of clients across restarts of the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_SAVE_H
#define PGTLS_SAVE_H

/* How the file and what is in shared memory compare; there, too. */
typedef struct SaveState
{
	bool		loaded;			/* the file was read, if it is of use */
	bool		stored;			/* it has all but for later changes */
	uint64		stored_changes; /* and was written when there were these */
	int64		due;			/* pgtls_uptime() when it is written next */
} SaveState;

extern void pgtls_save_define_settings(void);

/* For the monitor alone. */
extern void pgtls_save_load(SaveState *state);
extern void pgtls_save_store(SaveState *state, bool reset);

#endif							/* PGTLS_SAVE_H */

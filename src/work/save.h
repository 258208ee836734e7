/*-------------------------------------------------------------------------
 *
 * save.h
 *	  Keeps what was seen of clients across restarts of the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_SAVE_H
#define PGTLS_SAVE_H

extern void pgtls_save_define_settings(void);

/* For the monitor alone. */
extern void pgtls_save_load(bool *done);
extern void pgtls_save_store(void);

#endif							/* PGTLS_SAVE_H */

/*-------------------------------------------------------------------------
 *
 * hooks.h
 *	  The hooks of PostgreSQL that pg_tls uses.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_HOOKS_H
#define PGTLS_HOOKS_H

extern void pgtls_hooks_install(void);

#endif							/* PGTLS_HOOKS_H */

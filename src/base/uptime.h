/*-------------------------------------------------------------------------
 *
 * uptime.h
 *	  A clock that nobody can set, for how long something lasts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_UPTIME_H
#define PGTLS_UPTIME_H

#include <time.h>

/* Microseconds, greater than 0, the same for all processes of the machine. */
static inline int64
pgtls_uptime(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return 1 + now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

#endif							/* PGTLS_UPTIME_H */

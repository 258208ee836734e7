/*-------------------------------------------------------------------------
 *
 * hostname.h
 *	  Whether a certificate is for a host.
 *
 * Pure, as text.h is.
 *
 *-------------------------------------------------------------------------
 */

#ifndef PGTLS_HOSTNAME_H
#define PGTLS_HOSTNAME_H

#include "base/ossl.h"

extern bool pgtls_hostname_matches(X509 *cert, const char *host);

#endif							/* PGTLS_HOSTNAME_H */

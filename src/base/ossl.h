/*-------------------------------------------------------------------------
 *
 * ossl.h
 *	  What pg_tls needs of OpenSSL, in one shape for all its versions.
 *
 * This file and base/ossl.c are the only ones that test for features of
 * OpenSSL.  All functions here are pure C: they touch no server state, never
 * raise an error, and leave OpenSSL's error queue empty, but for
 * pgtls_ossl_reason().
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGTLS_OSSL_H
#define PGTLS_OSSL_H

#include <openssl/opensslv.h>
#ifdef LIBRESSL_VERSION_NUMBER
#error "pg_tls needs OpenSSL; LibreSSL is not supported"
#endif
#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error "pg_tls needs OpenSSL 1.1.1 or later"
#endif

#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

/* STACK_OF(X509) and so on, as pgindent takes them for types */
typedef struct stack_st_X509 X509Stack;
typedef struct stack_st_X509_CRL CrlStack;
typedef struct stack_st_X509_OBJECT ObjectStack;
typedef struct stack_st_X509_REVOKED RevokedStack;
typedef struct stack_st_SSL_CIPHER CipherStack;

/* SSL_get_negotiated_group(), SSL_group_to_name(), EVP_PKEY_get0_type_name() */
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#define HAVE_SSL_GROUP_TO_NAME 1
#define HAVE_EVP_PKEY_TYPE_NAME 1
#endif

/* SSL_get0_signature_name(), which knows the schemes of providers */
#if OPENSSL_VERSION_NUMBER >= 0x30500000L
#define HAVE_SSL_SIGNATURE_NAME 1
#endif

/* X509_STORE_get1_objects(), which deprecates X509_STORE_get0_objects() */
#if OPENSSL_VERSION_NUMBER >= 0x30600000L
#define HAVE_X509_STORE_GET1_OBJECTS 1
#endif

/* A store's objects are for changing: X509_STORE_get0_objects() */
#if OPENSSL_VERSION_NUMBER < 0x40000000L
#define HAVE_X509_STORE_GET0_OBJECTS 1
#endif

/* X509_check_certificate_times(), which deprecates X509_cmp_time() */
#if OPENSSL_VERSION_NUMBER >= 0x40000000L
#define HAVE_X509_CHECK_CERTIFICATE_TIMES 1
#endif

/* 3.0: the functions of an X509_CRL_METHOD take pointers to constants */
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#define PGTLS_CRL_METHOD_CONST	const
#else
#define PGTLS_CRL_METHOD_CONST
#endif

/* 3.0: EVP_PKEY_eq() */
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#define pgtls_ossl_same_key(a, b)	(EVP_PKEY_eq(a, b) == 1)
#else
#define pgtls_ossl_same_key(a, b)	(EVP_PKEY_cmp(a, b) == 1)
#endif

/* 3.0: what X509_V_FLAG_X509_STRICT finds.  Before, these do not occur. */
#ifndef X509_V_ERR_CA_BCONS_NOT_CRITICAL
#define X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER		85
#define X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER		86
#define X509_V_ERR_EMPTY_SUBJECT_SAN_NOT_CRITICAL		88
#define X509_V_ERR_CA_BCONS_NOT_CRITICAL				89
#define X509_V_ERR_CA_CERT_MISSING_KEY_USAGE			92
#define X509_V_ERR_EXTENSIONS_REQUIRE_VERSION_3			93
#endif

/* A moment that is not known, or that could not be read. */
#define PGTLS_NO_TIME	PG_INT64_MIN

#define PGTLS_SHA256_LEN	32

/* What is known of the group that a handshake agreed on. */
typedef enum PgTlsPostQuantum
{
	PGTLS_PQ_UNKNOWN,
	PGTLS_PQ_NO,
	PGTLS_PQ_YES
} PgTlsPostQuantum;

extern bool pgtls_ossl_same_library(unsigned long *loaded);
extern int64 pgtls_ossl_time(const ASN1_TIME *time);
extern int64 pgtls_ossl_past(int64 end);
extern const char *pgtls_ossl_group(SSL *ssl, char *buf, size_t size);
extern PgTlsPostQuantum pgtls_ossl_post_quantum(SSL *ssl, const char *group);
extern const char *pgtls_ossl_signature(SSL *ssl, bool peer);
extern bool pgtls_ossl_key_name(X509 *cert, BIO *out);
extern bool pgtls_ossl_object_dotted(const ASN1_OBJECT *object, BIO *out);
extern bool pgtls_ossl_object_name(const ASN1_OBJECT *object, BIO *out);
extern const char *pgtls_ossl_reason(void);
extern void pgtls_ossl_watch_memory(void);
extern bool pgtls_ossl_out_of_memory(void);
extern bool pgtls_ossl_fips(void);
extern void pgtls_ossl_adopt_ciphers(SSL_CTX *to, const char *cipher_list);
extern char *pgtls_ossl_ciphers(const char *list, const char *suites,
								int min_version, int max_version);
extern ObjectStack *pgtls_ossl_store_objects(X509_STORE *store);
extern void pgtls_ossl_store_objects_free(ObjectStack *objects);
extern bool pgtls_ossl_store_replace_crl(X509_STORE *store,
										 const X509_CRL *crl, X509_CRL *by);

#endif							/* PGTLS_OSSL_H */

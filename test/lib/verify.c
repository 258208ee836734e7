/*
 * What verdicts cost by themselves: verify CA.pem CRL.pem LEAVES.pem
 *
 * Parses and sorts everything first, and then verifies each certificate, as
 * the server verifies its clients.  Prints how many are valid, and the
 * milliseconds that this took.
 */
#include <stdio.h>
#include <time.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

/* pgindent does not take its own name for a type */
typedef struct stack_st_X509 X509Stack;

int
main(int argc, char **argv)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_server_method());
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509Stack  *leaves = sk_X509_new_null();
	BIO		   *bio;
	X509	   *leaf;
	X509_CRL   *crl;
	X509_REVOKED *revoked;
	struct timespec start,
				end;
	int			valid = 0;

	if (argc != 4 || !SSL_CTX_load_verify_locations(ctx, argv[1], NULL) ||
		(bio = BIO_new_file(argv[2], "r")) == NULL ||
		(crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) == NULL ||
		!X509_STORE_add_crl(store, crl))
		return 1;
	X509_STORE_set_flags(store,
						 X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	BIO_free(bio);
	bio = BIO_new_file(argv[3], "r");
	while (bio != NULL &&
		   (leaf = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		sk_X509_push(leaves, leaf);
	X509_CRL_get0_by_serial(crl, &revoked,
							X509_get_serialNumber(sk_X509_value(leaves, 0)));

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < sk_X509_num(leaves); i++)
	{
		X509_STORE_CTX *verify = X509_STORE_CTX_new();

		X509_STORE_CTX_init(verify, store, sk_X509_value(leaves, i), NULL);
		X509_STORE_CTX_set_default(verify, "ssl_client");
		valid += X509_verify_cert(verify) == 1;
		X509_STORE_CTX_free(verify);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%d %.1f\n", valid,
		   (end.tv_sec - start.tv_sec) * 1e3 +
		   (end.tv_nsec - start.tv_nsec) / 1e6);
	return 0;
}

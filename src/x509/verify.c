/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Verdicts: would the server accept this certificate?
 *
 * Runs in backends, during their handshake and later, and in workers.  The
 * part that the handshake runs (note_crl) is called by OpenSSL before
 * authentication; nothing in this file raises an error or takes a lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/x509v3.h>

#include "libpq/libpq.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "x509/verify.h"

/*
 * Rules: by what a certificate is judged.
 *
 * Those of the server are in its context.  Without one (server NULL) they are
 * those of RFC 5280, for these CRLs, which may be empty: they are no part of
 * the store since OpenSSL looks there for CRLs of a certificate's own issuer
 * only.
 */
typedef struct Rules
{
	X509_STORE *store;			/* what is trusted, and flags */
	SSL_CTX    *server;
	CrlStack   *crls;
} Rules;

/*
 * Which CRLs the verification that runs now, or ran last, consulted.
 * OpenSSL tells that to nobody once it is done, hence note_crl().
 */
static TimestampTz noted_until = DT_NOEND;
static int	noted_depth;

/* When the next of the candidates begins or ends; see note_candidates(). */
static TimestampTz noted_change = DT_NOEND;

/* When the handshake's verification was over. */
static TimestampTz handshake_time = DT_NOBEGIN;

/* true while pgtls_verify_chain() runs */
static bool own_verification = false;

/*
 * A store by which a verification ran out of memory.  OpenSSL may hold some of
 * its certificates for invalid from then on, in this process.
 */
static const X509_STORE *damaged_store = NULL;

/* What note_crl() passes on to: OpenSSL's own check, or another module's. */
static X509_STORE_CTX_cert_crl_fn next_cert_crl = NULL;

/* What note_end() passes on to, if another module has one. */
static X509_STORE_CTX_cleanup_fn next_cleanup = NULL;

static VerifyCallback handshake_callback = NULL;

/*
 * Whether a verification is that of this process's handshake.  A server also
 * verifies its own chain, to send it: that has no SSL attached.
 */
static bool
is_handshake(X509_STORE_CTX *ctx)
{
	return X509_STORE_CTX_get_ex_data(ctx,
									  SSL_get_ex_data_X509_STORE_CTX_idx()) !=
		NULL;
}

void
pgtls_verify_on_handshake(VerifyCallback callback)
{
	handshake_callback = callback;
}

/*
 * The first moment still to come at which something begins to be valid, or no
 * longer is, and that is before another.
 */
static TimestampTz
first_to_come(TimestampTz so_far, const ASN1_TIME *begin, const ASN1_TIME *end,
			  TimestampTz now)
{
	const TimestampTz times[] = {
		pgtls_ossl_time(begin), pgtls_ossl_past(pgtls_ossl_time(end))
	};

	for (int i = 0; i < (int) lengthof(times); i++)
	{
		if (times[i] > now && times[i] < so_far)
			so_far = times[i];
	}
	return so_far;
}

/*
 * Note when the clock may change the outcome of a verification: at the first
 * beginning or end, still to come, of a certificate or CRL that OpenSSL had to
 * choose from.  By now all of them are in the store, those in files of
 * ssl_crl_dir, too.
 */
static void
note_candidates(X509_STORE_CTX *ctx, TimestampTz now)
{
	X509Stack  *chain = X509_STORE_CTX_get0_chain(ctx);

	noted_change = DT_NOEND;
	ERR_set_mark();
	for (int i = 0; i < sk_X509_num(chain); i++)
	{
		X509	   *cert = sk_X509_value(chain, i);
		X509Stack  *certs =
			X509_STORE_CTX_get1_certs(ctx, X509_get_issuer_name(cert));
		CrlStack   *crls = NULL;

		if (pgtls_verify_checks_crls(X509_STORE_CTX_get0_store(ctx)))
			crls = X509_STORE_CTX_get1_crls(ctx, X509_get_issuer_name(cert));
		for (int k = 0; k < sk_X509_num(certs); k++)
			noted_change =
				first_to_come(noted_change,
							  X509_get0_notBefore(sk_X509_value(certs, k)),
							  X509_get0_notAfter(sk_X509_value(certs, k)),
							  now);
		for (int k = 0; k < sk_X509_CRL_num(crls); k++)
		{
			X509_CRL   *crl = sk_X509_CRL_value(crls, k);

			noted_change = first_to_come(noted_change,
										 X509_CRL_get0_lastUpdate(crl),
										 X509_CRL_get0_nextUpdate(crl), now);
		}
		sk_X509_pop_free(certs, X509_free);
		sk_X509_CRL_pop_free(crls, X509_CRL_free);
	}
	ERR_pop_to_mark();
}

/* OpenSSL calls this at the end of a verification. */
static int
note_end(X509_STORE_CTX *ctx)
{
	if (is_handshake(ctx))
	{
		handshake_time = GetCurrentTimestamp();
		if (X509_STORE_CTX_get_error(ctx) == X509_V_OK)
			note_candidates(ctx, handshake_time);
		if (handshake_callback != NULL)
			handshake_callback(ctx);
	}
	return next_cleanup != NULL ? next_cleanup(ctx) : 1;
}

/*
 * OpenSSL calls this to look a certificate up in the CRL that it has chosen
 * for it.  Note when that CRL ends, and let the real check decide.
 */
static int
note_crl(X509_STORE_CTX *ctx, X509_CRL *crl, X509 *cert)
{
	int			result = next_cert_crl(ctx, crl, cert);

	if (own_verification || is_handshake(ctx))
	{
		const ASN1_TIME *end = X509_CRL_get0_nextUpdate(crl);
		TimestampTz until =
			end != NULL ? pgtls_ossl_past(pgtls_ossl_time(end)) : DT_NOEND;

		if (until < noted_until)
		{
			noted_until = until;
			noted_depth = X509_STORE_CTX_get_error_depth(ctx);
		}
	}
	return result;
}

/*
 * Have note_crl() and note_end() called for all verifications by this store.
 * What is put on the store of the context that the postmaster loads reaches
 * the handshakes of its children.
 *
 * Runs in the postmaster at each load of the TLS files; cannot fail.  Where
 * OpenSSL's own check cannot be learned the store is left alone, and verdicts
 * with CRLs have no end.
 */
void
pgtls_verify_watch_store(X509_STORE *store)
{
	X509_STORE_CTX_cert_crl_fn current;

	if (store == NULL)
		return;
	if (X509_STORE_get_cleanup(store) != note_end)
	{
		next_cleanup = X509_STORE_get_cleanup(store);
		X509_STORE_set_cleanup(store, note_end);
	}
	current = X509_STORE_get_cert_crl(store);
	if (current == note_crl)
		return;
	if (current != NULL)
		next_cert_crl = current;
	else if (next_cert_crl == NULL)
	{
		/* a store without one leaves OpenSSL's default to the context */
		X509_STORE_CTX *ctx = X509_STORE_CTX_new();

		if (ctx != NULL && X509_STORE_CTX_init(ctx, NULL, NULL, NULL))
			next_cert_crl = X509_STORE_CTX_get_cert_crl(ctx);
		X509_STORE_CTX_free(ctx);
		ERR_clear_error();
	}
	if (next_cert_crl != NULL)
		X509_STORE_set_cert_crl(store, note_crl);
}

/* Does this store check CRLs? */
bool
pgtls_verify_checks_crls(X509_STORE *store)
{
	X509_VERIFY_PARAM *param = X509_STORE_get0_param(store);

	return (X509_VERIFY_PARAM_get_flags(param) & X509_V_FLAG_CRL_CHECK) != 0;
}

/* Fill in what an accepted chain says of its length and its end. */
static void
read_accepted_chain(X509Stack *chain, X509_STORE *store, Verdict *verdict)
{
	verdict->known = true;
	verdict->acceptable = true;
	verdict->error = X509_V_OK;
	verdict->chain_status = CHAIN_VALID;
	verdict->chain_until = DT_NOEND;
	verdict->chain_length = sk_X509_num(chain);

	/* of equal ends OpenSSL would complain about that nearest to the root */
	for (int i = sk_X509_num(chain) - 1; i >= 0; i--)
	{
		X509	   *cert = sk_X509_value(chain, i);
		TimestampTz until =
			pgtls_ossl_past(pgtls_ossl_time(X509_get0_notAfter(cert)));

		/* PGTLS_NO_TIME is DT_NOBEGIN */
		if (until < verdict->chain_until)
		{
			verdict->chain_until = until;
			verdict->chain_until_depth = i;
		}
	}

	verdict->recheck_at = DT_NOEND;
	if (!pgtls_verify_checks_crls(store))
	{
		verdict->crl_status = CRL_NOT_CHECKED;
		verdict->crl_until = DT_NOEND;
	}
	else
	{
		verdict->crl_status = CRL_GOOD;
		verdict->crl_until = DT_NOBEGIN;
		if (X509_STORE_get_cert_crl(store) == note_crl)
		{
			verdict->crl_until = noted_until;
			verdict->crl_until_depth = noted_depth;
		}
	}
	if (pgtls_verdict_valid_until(verdict) != DT_NOBEGIN)
		verdict->recheck_at = pgtls_verdict_valid_until(verdict);
}

/*
 * Any certificate that came may begin or cease to matter as its validity
 * begins or ends.
 */
static void
recheck_for_sent(X509Stack *sent, TimestampTz now, Verdict *verdict)
{
	for (int i = 0; i < sk_X509_num(sent); i++)
	{
		X509	   *cert = sk_X509_value(sent, i);

		verdict->recheck_at = first_to_come(verdict->recheck_at,
											X509_get0_notBefore(cert),
											X509_get0_notAfter(cert), now);
	}
}

/*
 * When the clock may next change any verdict by what is in this store: at the
 * first beginning or end, still to come, of a certificate or CRL.  DT_NOEND for
 * never.  Not after a verification, which adds to the store what it needed of
 * ssl_crl_dir: of that, each verdict knows by itself (note_candidates).
 */
TimestampTz
pgtls_verify_next_change(X509_STORE *store, TimestampTz now)
{
	ObjectStack *objects = pgtls_ossl_store_objects(store);
	TimestampTz next = DT_NOEND;

	if (objects == NULL)
		return DT_NOEND;
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
	{
		X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		X509	   *cert = X509_OBJECT_get0_X509(object);
		X509_CRL   *crl = X509_OBJECT_get0_X509_CRL(object);

		if (cert != NULL)
			next = first_to_come(next, X509_get0_notBefore(cert),
								 X509_get0_notAfter(cert), now);
		else if (crl != NULL)
			next = first_to_come(next, X509_CRL_get0_lastUpdate(crl),
								 X509_CRL_get0_nextUpdate(crl), now);
	}
	pgtls_ossl_store_objects_free(objects);
	ERR_clear_error();
	return next;
}

/*
 * The verdict that this process's handshake established.  Costs no
 * cryptography.  Not known without a client certificate.
 */
void
pgtls_verify_handshake(SSL *ssl, Verdict *verdict)
{
	X509Stack  *chain = SSL_get0_verified_chain(ssl);

	memset(verdict, 0, sizeof(*verdict));
	verdict->recheck_at = DT_NOEND;
	if (chain == NULL || sk_X509_num(chain) == 0 ||
		SSL_get_verify_result(ssl) != X509_V_OK)
		return;
	read_accepted_chain(chain, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)),
						verdict);
	verdict->checked_at = handshake_time != DT_NOBEGIN ? handshake_time :
		GetCurrentTimestamp();
	verdict->recheck_at = Min(verdict->recheck_at, noted_change);
	recheck_for_sent(SSL_get_peer_cert_chain(ssl), verdict->checked_at,
					 verdict);
}

/*
 * Verify the certificate of this process's client once more, by the context
 * of its handshake.  False if there is none, or memory ran out.
 */
bool
pgtls_verify_again(SSL *ssl, TimestampTz now, Verdict *verdict)
{
	X509	   *leaf = SSL_get_peer_certificate(ssl);
	SSL_CTX    *ctx = SSL_get_SSL_CTX(ssl);
	bool		ok;

	if (leaf == NULL)
	{
		memset(verdict, 0, sizeof(*verdict));
		return false;
	}
	pgtls_verify_watch_store(SSL_CTX_get_cert_store(ctx));
	ok = pgtls_verify_chain(ctx, leaf, SSL_get_peer_cert_chain(ssl), now,
							verdict);
	X509_free(leaf);
	return ok;
}

/*
 * Where the third pass collects what is wrong with CRLs, and when the first
 * of the things begins to be valid that are not yet.
 */
static CrlStatus worst_crl_status;
static TimestampTz first_beginning;

static void
collect_error(X509_STORE_CTX *ctx)
{
	int			error = X509_STORE_CTX_get_error(ctx);
	const ASN1_TIME *beginning = NULL;

	worst_crl_status =
		Min(worst_crl_status, pgtls_verdict_crl_status_of(error));
	if (error == X509_V_ERR_CERT_NOT_YET_VALID)
		beginning = X509_get0_notBefore(X509_STORE_CTX_get_current_cert(ctx));
	else if (error == X509_V_ERR_CRL_NOT_YET_VALID)
		beginning =
			X509_CRL_get0_lastUpdate(X509_STORE_CTX_get0_current_crl(ctx));
	if (beginning != NULL)
		first_beginning = Min(first_beginning, pgtls_ossl_time(beginning));
}

/*
 * Whether an error that X509_V_FLAG_X509_STRICT finds is none by RFC 5280.
 *
 * OpenSSL counts with that flag whatever CAs are told in section 4 of the RFC.
 * Not all of it concerns who validates a path (section 6):
 * - the certificate of the trust anchor is no part of the path (6.1).  Only its
 *   name and key count, and whether it is a CA at all and has not ended, which
 *   OpenSSL checks anyway.  Nor is a CRL needed that covers it, which OpenSSL
 *   wants for a root up to 3.5, and for any other anchor;
 * - whether an extension that is understood is marked as critical makes no
 *   difference (4.2).
 */
static bool
is_none_of_rfc5280(X509_STORE_CTX *ctx)
{
	int			error = X509_STORE_CTX_get_error(ctx);
	int			depth = X509_STORE_CTX_get_error_depth(ctx);
	X509Stack  *chain = X509_STORE_CTX_get0_chain(ctx);
	bool		is_anchor;

	/* only while the chain is complete do these errors arise */
	is_anchor = chain != NULL && depth > 0 && depth == sk_X509_num(chain) - 1;
	switch (error)
	{
		case X509_V_ERR_CA_BCONS_NOT_CRITICAL:
		case X509_V_ERR_EMPTY_SUBJECT_SAN_NOT_CRITICAL:
			return true;
		case X509_V_ERR_CA_CERT_MISSING_KEY_USAGE:
		case X509_V_ERR_MISSING_AUTHORITY_KEY_IDENTIFIER:
		case X509_V_ERR_MISSING_SUBJECT_KEY_IDENTIFIER:
		case X509_V_ERR_EXTENSIONS_REQUIRE_VERSION_3:
			return is_anchor;
		case X509_V_ERR_INVALID_CA:
			return is_anchor && X509_check_ca(sk_X509_value(chain, depth)) != 0;
		case X509_V_ERR_UNABLE_TO_GET_CRL:
			return is_anchor;
		default:
			return false;
	}
}

static int
collect_errors(int ok, X509_STORE_CTX *ctx)
{
	if (!ok)
		collect_error(ctx);
	return 1;
}

static int
judge_by_rfc5280(int ok, X509_STORE_CTX *ctx)
{
	return ok || is_none_of_rfc5280(ctx);
}

static int
collect_errors_by_rfc5280(int ok, X509_STORE_CTX *ctx)
{
	if (!ok && !is_none_of_rfc5280(ctx))
		collect_error(ctx);
	return 1;
}

/* What a pass looks at, and how. */
typedef enum Pass
{
	PASS_DECIDE,				/* all, until the first error */
	PASS_WITHOUT_CRLS,			/* what the chain is worth by itself */
	PASS_COLLECT				/* all, to collect the errors */
} Pass;

/* As ssl_verify_cert_chain() in libssl sets up that of a server's handshake. */
static bool
set_up_as_server(X509_STORE_CTX *ctx, SSL_CTX *server, Pass pass)
{
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);

	X509_VERIFY_PARAM_set_auth_level(param, SSL_CTX_get_security_level(server));

	/* X509_V_FLAG_SUITEB_... has the same bits; to set none is to read all */
	X509_STORE_CTX_set_flags(ctx, SSL_CTX_set_cert_flags(server, 0) &
							 SSL_CERT_FLAG_SUITEB_128_LOS);
	if (pass == PASS_COLLECT)
		X509_STORE_CTX_set_verify_cb(ctx, collect_errors);
	return X509_STORE_CTX_set_default(ctx, "ssl_client") &&
		X509_VERIFY_PARAM_set1(param, SSL_CTX_get0_param(server));
}

/*
 * For any purpose and any policy, and without a limit to weak keys and digests,
 * which are no subject of the RFC.
 */
static bool
set_up_by_rfc5280(X509_STORE_CTX *ctx, CrlStack *crls, Pass pass)
{
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
	ASN1_OBJECT *any_policy = OBJ_nid2obj(NID_any_policy);

	X509_VERIFY_PARAM_set_auth_level(param, 0);
	X509_STORE_CTX_set0_crls(ctx, crls);
	X509_STORE_CTX_set_verify_cb(ctx, pass == PASS_COLLECT ?
								 collect_errors_by_rfc5280 : judge_by_rfc5280);

	/* user-initial-policy-set; without it OpenSSL takes the empty set */
	return any_policy != NULL &&
		X509_VERIFY_PARAM_add0_policy(param, any_policy) &&
		X509_VERIFY_PARAM_set_flags(param,
									X509_V_FLAG_X509_STRICT |
									X509_V_FLAG_POLICY_CHECK |
									X509_V_FLAG_EXTENDED_CRL_SUPPORT |
									X509_V_FLAG_USE_DELTAS |
									X509_V_FLAG_PARTIAL_CHAIN);
}

/*
 * One run of OpenSSL's verification.  Returns the error, X509_V_OK for none, or
 * -1 if memory ran out: that is no refusal, for which a session may be ended,
 * whatever error OpenSSL made of it.
 */
static int
run_verification(const Rules *rules, X509 *leaf, X509Stack *sent,
				 TimestampTz now, Pass pass, int *depth, X509Stack **chain)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	int			error = -1;

	if (ctx == NULL ||
		!X509_STORE_CTX_init(ctx, rules->store, leaf, sent) ||
		!(rules->server != NULL ? set_up_as_server(ctx, rules->server, pass) :
		  set_up_by_rfc5280(ctx, rules->crls, pass)))
		goto done;

	param = X509_STORE_CTX_get0_param(ctx);
	if (pass == PASS_WITHOUT_CRLS)
		X509_VERIFY_PARAM_clear_flags(param, X509_V_FLAG_CRL_CHECK |
									  X509_V_FLAG_CRL_CHECK_ALL);
	X509_VERIFY_PARAM_set_time(param, (time_t) (timestamptz_to_time_t(now)));

	pgtls_ossl_watch_memory();
	own_verification = true;
	if (X509_verify_cert(ctx) > 0)
		error = X509_V_OK;
	else
	{
		error = X509_STORE_CTX_get_error(ctx);
		if (error == X509_V_OK) /* failed to run, not to verify */
			error = X509_V_ERR_UNSPECIFIED;
		if (error == X509_V_ERR_OUT_OF_MEM || pgtls_ossl_out_of_memory())
			damaged_store = rules->store;
		if (damaged_store == rules->store)
			error = -1;
	}
	own_verification = false;
	if (pass == PASS_DECIDE)
		note_candidates(ctx, now);

	*depth = X509_STORE_CTX_get_error_depth(ctx);
	if (chain != NULL)
	{
		*chain = X509_STORE_CTX_get1_chain(ctx);
		if (*chain == NULL && error == X509_V_OK)
			error = -1;
	}

done:
	X509_STORE_CTX_free(ctx);
	ERR_clear_error();
	return error;
}

/*
 * Reach a verdict.  False if memory ran out; it is then not known.
 *
 * The first pass decides.  Only where it refuses, a second one says what the
 * chain is worth without CRLs, and a third one what is wrong with all of the
 * CRLs that are needed.
 */
static bool
reach_verdict(const Rules *rules, X509 *leaf, X509Stack *sent,
			  TimestampTz now, Verdict *verdict)
{
	X509Stack  *chain = NULL;
	int			error,
				depth;

	memset(verdict, 0, sizeof(*verdict));
	verdict->recheck_at = DT_NOEND;
	noted_until = DT_NOEND;
	noted_depth = 0;

	error =
		run_verification(rules, leaf, sent, now, PASS_DECIDE, &depth, &chain);
	if (error < 0)
		goto done;
	if (error == X509_V_OK)
		read_accepted_chain(chain, rules->store, verdict);
	else
	{
		int			ignored_depth;
		int			bare_error;

		bare_error = run_verification(rules, leaf, sent, now, PASS_WITHOUT_CRLS,
									  &ignored_depth, NULL);
		if (bare_error < 0)
			goto done;

		worst_crl_status = CRL_GOOD;
		first_beginning = DT_NOEND;
		if (run_verification(rules, leaf, sent, now, PASS_COLLECT,
							 &ignored_depth, NULL) < 0)
			goto done;
		if (!pgtls_verify_checks_crls(rules->store))
			worst_crl_status = CRL_NOT_CHECKED;

		verdict->known = true;
		verdict->error = error;
		verdict->depth = depth;
		verdict->chain_length = chain != NULL ? sk_X509_num(chain) : 0;
		verdict->chain_status = error == X509_V_ERR_CERT_REVOKED ?
			CHAIN_REVOKED : pgtls_verdict_chain_status_of(bare_error);
		verdict->crl_status = worst_crl_status;
		verdict->chain_until = DT_NOBEGIN;
		verdict->crl_until = DT_NOBEGIN;
		verdict->recheck_at = first_beginning != DT_NOBEGIN ? first_beginning :
			DT_NOEND;
	}
	/* a moment that has not come for OpenSSL, whatever we reckon, will soon */
	if (verdict->recheck_at <= now)
		verdict->recheck_at = now + USECS_PER_SEC;
	verdict->checked_at = now;

done:
	sk_X509_pop_free(chain, X509_free);
	return verdict->known;
}

/*
 * Reach a verdict on a certificate as the server would, were it sent with
 * these intermediates to a server that has this context loaded.  False if
 * memory ran out; the verdict is then not known.
 */
bool
pgtls_verify_chain(SSL_CTX *ctx, X509 *leaf, X509Stack *sent,
				   TimestampTz now, Verdict *verdict)
{
	Rules		rules = {
		.store = SSL_CTX_get_cert_store(ctx),
		.server = ctx
	};

	if (!reach_verdict(&rules, leaf, sent, now, verdict))
		return false;
	verdict->recheck_at = Min(verdict->recheck_at, noted_change);
	verdict->recheck_at = first_to_come(verdict->recheck_at,
										X509_get0_notBefore(leaf),
										X509_get0_notAfter(leaf), now);
	recheck_for_sent(sent, now, verdict);
	return true;
}

/* Have a store check the CRLs of all certificates, as core's loader does. */
static bool
check_all_crls(X509_STORE *store)
{
	return X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK |
								X509_V_FLAG_CRL_CHECK_ALL);
}

static bool
add_trusted(X509_STORE *store, X509Stack *trusted)
{
	for (int i = 0; i < sk_X509_num(trusted); i++)
	{
		if (!X509_STORE_add_cert(store, sk_X509_value(trusted, i)))
			return false;
	}
	return true;
}

/*
 * Reach a verdict by the path validation of RFC 5280: with constraints and
 * mappings of policies, delta CRLs, indirect CRLs, and the profile of
 * certificates.  False if memory ran out; the verdict is then not known.
 *
 * CRLs are checked if there are any.
 */
bool
pgtls_verify_rfc5280(X509 *leaf, X509Stack *sent, X509Stack *trusted,
					 CrlStack *crls, TimestampTz at, Verdict *verdict)
{
	Rules		rules = {
		.store = X509_STORE_new(),
		.crls = crls
	};

	if (rules.store == damaged_store)
		damaged_store = NULL;	/* that was another */
	memset(verdict, 0, sizeof(*verdict));
	if (rules.store != NULL && add_trusted(rules.store, trusted) &&
		(sk_X509_CRL_num(crls) == 0 || check_all_crls(rules.store)))
		(void) reach_verdict(&rules, leaf, sent, at, verdict);
	X509_STORE_free(rules.store);
	ERR_clear_error();
	return verdict->known;
}

/*
 * A context as a server has it that loaded these CAs and CRLs; NULL if memory
 * ran out.  CRLs are checked if there are any.
 *
 * What the settings and OpenSSL's own configuration say of the security level
 * is in force here as it is in be_tls_init().
 */
SSL_CTX *
pgtls_verify_make_context(X509Stack *trusted, CrlStack *crls)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_method());
	X509_STORE *store;

	if (ctx == NULL)
		goto fail;
	if (pgtls_cipher_list != NULL)
		(void) SSL_CTX_set_cipher_list(ctx, pgtls_cipher_list);

	store = SSL_CTX_get_cert_store(ctx);
	if (store == damaged_store)
		damaged_store = NULL;	/* that was another */
	if (!add_trusted(store, trusted) ||
		(sk_X509_CRL_num(crls) > 0 && !check_all_crls(store)))
		goto fail;
	for (int i = 0; i < sk_X509_CRL_num(crls); i++)
	{
		if (!X509_STORE_add_crl(store, sk_X509_CRL_value(crls, i)))
			goto fail;
	}
	ERR_clear_error();
	return ctx;

fail:
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * codes.c
 *	  The kinds of findings.
 *
 * All that pg_tls_findings says of a kind stands here, and here alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/compat.h"
#include "base/row.h"
#include "rehearsal/codes.h"

PG_FUNCTION_INFO_V1(pg_tls_finding_codes_1_0);

const FindingKind pgtls_codes[] = {
	[FINDING_TLS_NOT_ACTIVE] = {
		.code = "tls_not_active",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"See last_error in pg_tls_status, mend the file that it names, and run: SELECT * FROM pg_tls_reload(); Until then clients with sslmode=prefer connect in clear text.",
		.reference = "STIG V-233579, CIS 6.8"
	},
	[FINDING_SSL_OFF] = {
		.code = "ssl_off",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Put certificate and key in place (see pg_tls_files), and run: ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf();",
		.reference = "STIG V-233579, CIS 6.8"
	},
	[FINDING_RELOAD_FAILED] = {
		.code = "reload_failed",
		.severity = "critical",
		.hint =
		"Mend what the message names, and run: SELECT * FROM pg_tls_reload(); What was loaded before is still in force.",
		.reference = "CIS 6.8"
	},
	[FINDING_RELOAD_WOULD_FAIL] = {
		.code = "reload_would_fail",
		.severity = "critical",
		.hint =
		"Mend what the message names before the server is restarted; SELECT * FROM pg_tls_check(); tells whether it is.",
		.reference = "CIS 6.8"
	},
	[FINDING_CONFIGURATION_ERROR] = {
		.code = "configuration_error",
		.severity = "critical",
		.hint =
		"Mend the line in the file; SELECT * FROM pg_file_settings WHERE error IS NOT NULL; shows which."
	},
	[FINDING_SSL_OFF_PENDING] = {
		.code = "ssl_off_pending",
		.severity = "critical",
		.hint = "If that is not meant, run: ALTER SYSTEM SET ssl = on;",
		.reference = "STIG V-233579, CIS 6.8"
	},
	[FINDING_FILES_NOT_CHECKED] = {
		.code = "files_not_checked",
		.severity = "warning",
		.hint =
		"Run it again, or raise max_worker_processes and restart the server."
	},
	[FINDING_WORKER_NOT_RUNNING] = {
		.code = "worker_not_running",
		.severity = "critical",
		.hint =
		"If it has no worker slot, increase max_worker_processes and restart the server; else see the server's log."
	},
	[FINDING_VERDICTS_PENDING] = {
		.code = "verdicts_pending",
		.severity = "critical",
		.hint =
		"If worker slots are in use all the time, increase max_worker_processes and restart the server, or decrease max_parallel_workers: SELECT backend_type, count(*) FROM pg_stat_activity GROUP BY 1;",
		.reference = "STIG V-233577"
	},
	[FINDING_FILE_PROBLEM] = {
		.code = "file_problem",
		.severity = "critical",
		.hint =
		"Put the right file there, then run: SELECT * FROM pg_tls_check(); SELECT * FROM pg_tls_reload();",
		.reference = "CIS 6.8"
	},
	[FINDING_DH_PARAMS_PROBLEM] = {
		.code = "dh_params_problem",
		.severity = "info",
		.hint =
		"Put parameters in PEM there, or unset ssl_dh_params_file: the server has good ones of its own."
	},
	[FINDING_FILE_CHANGED] = {
		.code = "file_changed",
		.severity = "warning",
		.hint =
		"Run: SELECT * FROM pg_tls_check_sessions(); SELECT * FROM pg_tls_reload(); To have it done in future: ALTER SYSTEM SET pg_tls.watch_files = 'reload';"
	},
	[FINDING_KEY_PERMISSIONS] = {
		.code = "key_permissions",
		.severity = "critical",
		.hint =
		"Run chmod 0600 on the file, or give it to root with mode 0640 and a group of the server's user.",
		.reference = "STIG V-233602"
	},
	[FINDING_KEY_PASSPHRASE] = {
		.code = "key_passphrase",
		.severity = "info",
		.hint =
		"Set ssl_passphrase_command, and ssl_passphrase_command_supports_reload = on; or renewals need a restart.",
		.reference = "STIG V-233602"
	},
	[FINDING_SERVER_CERTIFICATE_EXPIRED] = {
		.code = "server_certificate_expired",
		.severity = "critical",
		.keeps_out = true,
		.is_end = true,
		.hint =
		"Renew the certificate, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577, CIS 6.8"
	},
	[FINDING_SERVER_CERTIFICATE_EXPIRING] = {
		.code = "server_certificate_expiring",
		.severity = "warning",
		.is_end = true,
		.hint =
		"Renew the certificate, and run: SELECT * FROM pg_tls_reload(); pg_tls.expiry_warning says how early this is told.",
		.reference = "CIS 6.8"
	},
	[FINDING_SERVER_CERTIFICATE_NOT_YET_VALID] = {
		.code = "server_certificate_not_yet_valid",
		.severity = "critical",
		.keeps_out = true,
		.hint = "Check the clock, or wait until it is valid.",
		.reference = "CIS 6.8"
	},
	[FINDING_SERVER_CERTIFICATE_PURPOSE] = {
		.code = "server_certificate_purpose",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Have a certificate issued with the extended key usage serverAuth.",
		.reference = "STIG V-233577, CIS 6.8"
	},
	[FINDING_SERVER_CERTIFICATE_SELF_SIGNED] = {
		.code = "server_certificate_self_signed",
		.severity = "warning",
		.hint =
		"Have a certificate issued by a CA that the clients trust, so that sslmode=verify-full works.",
		.reference = "STIG V-233603, CIS 6.8"
	},
	[FINDING_SERVER_CERTIFICATE_NO_SAN] = {
		.code = "server_certificate_no_san",
		.severity = "warning",
		.hint =
		"Have a certificate issued with the host names that clients use as subject alternative names.",
		.reference = "STIG V-233611, CIS 6.8"
	},
	[FINDING_SERVER_CHAIN_ALONE] = {
		.code = "server_chain_alone",
		.severity = "warning",
		.keeps_out = true,
		.hint =
		"Append the intermediate certificates to the file, and if its issuer is a root, that; then run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577, CIS 6.8"
	},
	[FINDING_SERVER_CHAIN_DISORDERED] = {
		.code = "server_chain_disordered",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Put the certificates into ssl_cert_file in order: the server's, its issuer's, and so on.",
		.reference = "STIG V-233577, CIS 6.8"
	},
	[FINDING_SERVER_CHAIN_INCOMPLETE] = {
		.code = "server_chain_incomplete",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Add the intermediate certificates to ssl_cert_file, the server's own first.",
		.reference = "STIG V-233577, CIS 6.8"
	},
	[FINDING_SERVER_CHAIN_EXPIRED] = {
		.code = "server_chain_expired",
		.severity = "critical",
		.keeps_out = true,
		.is_end = true,
		.hint =
		"Replace the intermediate certificate in ssl_cert_file, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577, CIS 6.8"
	},
	[FINDING_SERVER_CHAIN_EXPIRING] = {
		.code = "server_chain_expiring",
		.severity = "warning",
		.is_end = true,
		.hint =
		"Replace the intermediate certificate in ssl_cert_file, and run: SELECT * FROM pg_tls_reload();",
		.reference = "CIS 6.8"
	},
	[FINDING_SERVER_CHAIN_NOT_YET_VALID] = {
		.code = "server_chain_not_yet_valid",
		.severity = "critical",
		.keeps_out = true,
		.hint = "Check the clock, or wait until it is valid.",
		.reference = "CIS 6.8"
	},
	[FINDING_CA_EXPIRED] = {
		.code = "ca_expired",
		.severity = "critical",
		.keeps_out = true,
		.is_end = true,
		.hint =
		"Remove the CA from ssl_ca_file, or add its renewed certificate, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577"
	},
	[FINDING_CA_EXPIRING] = {
		.code = "ca_expiring",
		.severity = "warning",
		.is_end = true,
		.hint =
		"Add the CA's renewed certificate to ssl_ca_file beside the old one, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577"
	},
	[FINDING_CA_NOT_YET_VALID] = {
		.code = "ca_not_yet_valid",
		.severity = "critical",
		.keeps_out = true,
		.hint = "Check the clock, or wait until it is valid.",
		.reference = "STIG V-233577"
	},
	[FINDING_CA_WITHOUT_CRL] = {
		.code = "ca_without_crl",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Append a CRL of this CA to ssl_crl_file (each CA in a chain needs one), and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_WITHOUT_CA] = {
		.code = "crl_without_ca",
		.severity = "warning",
		.hint =
		"Set ssl_ca_file to the file with the CAs of the clients, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_EXPIRED] = {
		.code = "crl_expired",
		.severity = "critical",
		.keeps_out = true,
		.is_end = true,
		.hint =
		"Put the new CRL of this CA into ssl_crl_file, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_EXPIRING] = {
		.code = "crl_expiring",
		.severity = "warning",
		.is_end = true,
		.hint =
		"Put the new CRL of this CA into ssl_crl_file, and run: SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_NOT_YET_VALID] = {
		.code = "crl_not_yet_valid",
		.severity = "critical",
		.keeps_out = true,
		.hint = "Check the clock, or use the previous CRL.",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_BAD_SIGNATURE] = {
		.code = "crl_bad_signature",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Fetch the CRL again, from the CA that signed the certificates.",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_DELTA] = {
		.code = "crl_delta",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"Use the complete CRL: the server would take it for that, or refuse all clients of this CA.",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_DIR_ENTRY] = {
		.code = "crl_dir_entry",
		.severity = "warning",
		.hint =
		"Run openssl rehash on the directory, and remove what is of no use.",
		.reference = "STIG V-233577"
	},
	[FINDING_CRL_DIR_LARGE] = {
		.code = "crl_dir_large",
		.severity = "info",
		.hint =
		"Put this CRL into ssl_crl_file: there it is parsed once for each reload."
	},
	[FINDING_WEAK_KEY] = {
		.code = "weak_key",
		.severity = "warning",
		.hint =
		"Have a certificate issued for a key of at least 2048 bits of RSA, or 256 of an elliptic curve.",
		.reference = "STIG V-233619, CIS 6.10"
	},
	[FINDING_WEAK_SIGNATURE] = {
		.code = "weak_signature",
		.severity = "warning",
		.hint =
		"Have the certificate issued again, signed by means of SHA-256 or better.",
		.reference = "STIG V-233619, CIS 6.10"
	},
	[FINDING_WEAK_CIPHER_ALLOWED] = {
		.code = "weak_cipher_allowed",
		.severity = "warning",
		.hint =
		"Run: ALTER SYSTEM SET ssl_ciphers = 'HIGH:!aNULL:!3DES'; SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233619, CIS 6.10"
	},
	[FINDING_TLS_VERSION_ALLOWED] = {
		.code = "tls_version_allowed",
		.severity = "warning",
		.hint =
		"Run: ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1.2'; SELECT * FROM pg_tls_reload();",
		.reference = "STIG V-233619, CIS 6.9"
	},
	[FINDING_TLS_VERSION_SEEN] = {
		.code = "tls_version_seen",
		.severity = "warning",
		.hint =
		"Bring these clients up to date: SELECT * FROM pg_stat_tls_clients; SELECT pg_stat_tls_reset(); forgets the past.",
		.reference = "STIG V-233619, CIS 6.9"
	},
	[FINDING_NO_POST_QUANTUM] = {
		.code = "no_post_quantum",
		.severity = "info",
		.hint =
		"Run: ALTER SYSTEM SET ssl_groups = 'X25519MLKEM768:X25519:prime256v1'; SELECT * FROM pg_tls_reload();"
	},
	[FINDING_HBA_CLEAR_TEXT] = {
		.code = "hba_clear_text",
		.severity = "warning",
		.hint =
		"Make it hostssl in the file, and run: SELECT pg_reload_conf(); Or: ALTER SYSTEM SET pg_tls.require_encryption = on; SELECT pg_reload_conf();",
		.reference = "STIG V-233579, CIS 6.8"
	},
	[FINDING_HBA_CLEAR_TEXT_PASSWORD] = {
		.code = "hba_clear_text_password",
		.severity = "critical",
		.hint =
		"Make it hostssl in the file, or scram-sha-256, and run: SELECT pg_reload_conf(); pg_tls.require_encryption refuses only once the password has been sent.",
		.reference = "STIG V-233519, CIS 6.8"
	},
	[FINDING_HBA_TRUST] = {
		.code = "hba_trust",
		.severity = "critical",
		.hint =
		"Put scram-sha-256 or cert in place of trust, and run: SELECT pg_reload_conf();",
		.reference = "STIG V-233612"
	},
	[FINDING_HBA_ERROR] = {
		.code = "hba_error",
		.severity = "critical",
		.hint =
		"Mend the file: a reload ignores all of it, and a restart fails. A superuser sees more: SELECT * FROM pg_hba_file_rules WHERE type IS NULL;"
	},
	[FINDING_HBA_CHANGED] = {
		.code = "hba_changed",
		.severity = "info",
		.hint =
		"Run: SELECT pg_reload_conf(); Until then the older lines are in force, and may be other than what is told here."
	},
	[FINDING_CLEAR_TEXT_SESSION] = {
		.code = "clear_text_session",
		.severity = "warning",
		.hint =
		"Have these clients connect with sslmode=verify-full: SELECT * FROM pg_stat_tls WHERE encryption = 'none';",
		.reference = "STIG V-233579, CIS 6.8"
	},
	[FINDING_CLEAR_TEXT_SEEN] = {
		.code = "clear_text_seen",
		.severity = "warning",
		.hint =
		"Have these clients connect with sslmode=verify-full: SELECT * FROM pg_stat_tls_clients WHERE encryption = 'none'; SELECT pg_stat_tls_reset(); forgets the past.",
		.reference = "STIG V-233579, CIS 6.8"
	},
	[FINDING_SESSION_NOT_ACCEPTABLE] = {
		.code = "session_not_acceptable",
		.severity = "critical",
		.keeps_out = true,
		.hint =
		"See them: SELECT * FROM pg_stat_tls WHERE NOT acceptable; End them, now and in future: ALTER SYSTEM SET pg_tls.invalid_sessions = 'terminate'; SELECT pg_reload_conf();",
		.reference = "STIG V-233577, V-233613"
	},
	[FINDING_SESSION_NOT_JUDGED] = {
		.code = "session_not_judged",
		.severity = "warning",
		.hint =
		"Look at such sessions by hand: SELECT * FROM pg_stat_tls WHERE client_certificate AND chain_status IS NULL; Where it is for want of room, raise pg_tls.chain_memory to 150 kB for each of max_connections and max_wal_senders, and restart the server.",
		.reference = "STIG V-233577, V-233613"
	},
	[FINDING_CLIENT_CERTIFICATE_EXPIRED] = {
		.code = "client_certificate_expired",
		.severity = "warning",
		.keeps_out = true,
		.is_end = true,
		.hint =
		"Have the client use a renewed certificate: it cannot connect again with this one.",
		.reference = "STIG V-233577"
	},
	[FINDING_CLIENT_CERTIFICATE_EXPIRING] = {
		.code = "client_certificate_expiring",
		.severity = "warning",
		.is_end = true,
		.hint =
		"Have the certificate renewed: from its end on the client cannot connect.",
		.reference = "STIG V-233577"
	},
	[FINDING_CLIENT_CERTIFICATE_SHARED] = {
		.code = "client_certificate_shared",
		.severity = "info",
		.hint =
		"Give each role a certificate of its own, so that it can be revoked by itself.",
		.reference = "STIG V-233612, V-233615"
	}
};

StaticAssertDecl(lengthof(pgtls_codes) == NUM_FINDING_CODES,
				 "each code has its kind");

static void
store_kind(ReturnSetInfo *rsinfo, const FindingKind *kind)
{
	Row			row;

	pgtls_row_begin(&row);
	pgtls_row_text(&row, kind->code);
	pgtls_row_text(&row, kind->severity);
	pgtls_row_text(&row, kind->hint);
	pgtls_row_text(&row, kind->reference);
	pgtls_row_bool(&row, kind->keeps_out);
	pgtls_row_store(&row, rsinfo);
}

/*
 * pg_tls_finding_codes(wanted text) returns SETOF record
 *
 * The kinds of findings, or that of one code, which has to be known: the view
 * pg_tls_findings would else be silent on what its own branches tell.
 */
Datum
pg_tls_finding_codes_1_0(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *wanted =
		PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		found = wanted == NULL;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < NUM_FINDING_CODES; i++)
	{
		if (wanted == NULL || strcmp(pgtls_codes[i].code, wanted) == 0)
		{
			store_kind(rsinfo, &pgtls_codes[i]);
			found = true;
		}
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized code of a finding: \"%s\"", wanted),
				 errhint("SELECT code FROM pg_tls_finding_codes(); shows all.")));
	return (Datum) 0;
}

/* pg_tls--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_tls" to load this file. \quit

--
-- Client sessions
--

CREATE FUNCTION pg_stat_tls(
    OUT pid integer,
    OUT ssl boolean,
    OUT version text,
    OUT cipher text,
    OUT bits integer,
    OUT client_dn text,
    OUT client_serial numeric,
    OUT issuer_dn text,
    OUT encryption text,
    OUT key_exchange text,
    OUT post_quantum boolean,
    OUT signature_algorithm text,
    OUT client_signature_algorithm text,
    OUT server_name text,
    OUT alpn text,
    OUT auth_method text,
    OUT auth_identity text,
    OUT client_certificate boolean,
    OUT client_cn text,
    OUT client_dn_rfc2253 text,
    OUT client_san text[],
    OUT client_fingerprint text,
    OUT client_key text,
    OUT client_eku text[],
    OUT client_not_before timestamptz,
    OUT client_not_after timestamptz,
    OUT chain_length integer,
    OUT acceptable boolean,
    OUT chain_status text,
    OUT verify_error text,
    OUT verify_depth integer,
    OUT crl_status text,
    OUT valid_until timestamptz,
    OUT checked_at timestamptz,
    OUT config_generation bigint
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_stat_tls_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 100;

COMMENT ON FUNCTION pg_stat_tls() IS
'rows of the view pg_stat_tls';

CREATE VIEW pg_stat_tls AS
    SELECT * FROM pg_stat_tls();

GRANT SELECT ON pg_stat_tls TO PUBLIC;

COMMENT ON VIEW pg_stat_tls IS
'client sessions: encryption, certificate, and whether that certificate is acceptable now; its first columns are those of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls.pid IS
'process ID of the backend or WAL sender';
COMMENT ON COLUMN pg_stat_tls.ssl IS
'TLS is in use';
COMMENT ON COLUMN pg_stat_tls.version IS
'TLS version; like all that is of TLS and of certificates NULL without TLS';
COMMENT ON COLUMN pg_stat_tls.cipher IS
'cipher suite, by OpenSSL''s name';
COMMENT ON COLUMN pg_stat_tls.bits IS
'bits of the cipher''s key';
COMMENT ON COLUMN pg_stat_tls.client_dn IS
'subject of the client''s certificate, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls.client_serial IS
'serial number of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.issuer_dn IS
'issuer of the client''s certificate, in the same form';
COMMENT ON COLUMN pg_stat_tls.encryption IS
'tls, gss, none (TCP in clear text) or local (Unix-domain socket)';
COMMENT ON COLUMN pg_stat_tls.key_exchange IS
'group that the key exchange negotiated, DH for finite fields in TLS 1.2, NULL for key transport by RSA';
COMMENT ON COLUMN pg_stat_tls.post_quantum IS
'the key exchange was post-quantum or hybrid';
COMMENT ON COLUMN pg_stat_tls.signature_algorithm IS
'scheme by which the server signed the handshake';
COMMENT ON COLUMN pg_stat_tls.client_signature_algorithm IS
'scheme by which the client signed the handshake';
COMMENT ON COLUMN pg_stat_tls.server_name IS
'server name that the client asked for (SNI)';
COMMENT ON COLUMN pg_stat_tls.alpn IS
'application protocol that was negotiated (ALPN)';
COMMENT ON COLUMN pg_stat_tls.auth_method IS
'authentication method of the pg_hba.conf line that let the session in';
COMMENT ON COLUMN pg_stat_tls.auth_identity IS
'identity that was authenticated, before it was mapped to a role; NULL in PostgreSQL 13, and for trust';
COMMENT ON COLUMN pg_stat_tls.client_certificate IS
'the client presented a certificate';
COMMENT ON COLUMN pg_stat_tls.client_cn IS
'common name of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.client_dn_rfc2253 IS
'subject as clientname=DN in pg_hba.conf compares it with pg_ident.conf';
COMMENT ON COLUMN pg_stat_tls.client_san IS
'subject alternative names, each with its type';
COMMENT ON COLUMN pg_stat_tls.client_fingerprint IS
'SHA-256 of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.client_key IS
'type and strength of the client''s key';
COMMENT ON COLUMN pg_stat_tls.client_eku IS
'extended key usages of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.client_not_before IS
'beginning of the validity of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.client_not_after IS
'end of the validity of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.chain_length IS
'certificates in the verified chain, root included';
COMMENT ON COLUMN pg_stat_tls.acceptable IS
'the server would accept the client''s certificate now; NULL without a certificate, or where it is not known';
COMMENT ON COLUMN pg_stat_tls.chain_status IS
'the chain by itself: valid, expired, not_yet_valid, revoked, untrusted, invalid or not_checked';
COMMENT ON COLUMN pg_stat_tls.verify_error IS
'why the certificate is not acceptable, by OpenSSL';
COMMENT ON COLUMN pg_stat_tls.verify_depth IS
'how far the certificate at fault is from the client''s in the chain';
COMMENT ON COLUMN pg_stat_tls.crl_status IS
'the CRLs: good, revoked, invalid, expired, missing or not_checked';
COMMENT ON COLUMN pg_stat_tls.valid_until IS
'when the certificate stops being acceptable if no file changes: the first end in its chain and the CRLs it was checked against; NULL where it was found not acceptable';
COMMENT ON COLUMN pg_stat_tls.checked_at IS
'when the certificate was last verified; the clock is applied to the outcome at each reading';
COMMENT ON COLUMN pg_stat_tls.config_generation IS
'how often the server had loaded its TLS files when the session began';

--
-- One's own session
--

CREATE FUNCTION pg_tls_session(
    OUT pid integer,
    OUT ssl boolean,
    OUT version text,
    OUT cipher text,
    OUT bits integer,
    OUT client_dn text,
    OUT client_serial numeric,
    OUT issuer_dn text,
    OUT encryption text,
    OUT key_exchange text,
    OUT post_quantum boolean,
    OUT signature_algorithm text,
    OUT client_signature_algorithm text,
    OUT server_name text,
    OUT alpn text,
    OUT auth_method text,
    OUT auth_identity text,
    OUT client_certificate boolean,
    OUT client_cn text,
    OUT client_dn_rfc2253 text,
    OUT client_san text[],
    OUT client_fingerprint text,
    OUT client_key text,
    OUT client_eku text[],
    OUT client_not_before timestamptz,
    OUT client_not_after timestamptz,
    OUT chain_length integer,
    OUT acceptable boolean,
    OUT chain_status text,
    OUT verify_error text,
    OUT verify_depth integer,
    OUT crl_status text,
    OUT valid_until timestamptz,
    OUT checked_at timestamptz,
    OUT config_generation bigint
)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_tls_session_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pg_tls_session() IS
'the row of pg_stat_tls for one''s own session, with the same columns; works without preloading';

CREATE FUNCTION pg_tls_client_chain(
    OUT "position" integer,
    OUT subject_dn text,
    OUT subject_dn_rfc2253 text,
    OUT issuer_dn text,
    OUT issuer_dn_rfc2253 text,
    OUT serial numeric,
    OUT serial_hex text,
    OUT not_before timestamptz,
    OUT not_after timestamptz,
    OUT san text[],
    OUT key text,
    OUT eku text[],
    OUT signature_algorithm text,
    OUT is_ca boolean,
    OUT self_signed boolean,
    OUT fingerprint text,
    OUT certificate bytea
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_client_chain_1_0'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED COST 1000 ROWS 2;

COMMENT ON FUNCTION pg_tls_client_chain() IS
'the certificates that one''s own client sent, each whole, its own (position 0) first, and others as they came, unverified; no rows without one; works without preloading';

CREATE FUNCTION pg_tls_client_extensions(
    OUT "position" integer,
    OUT oid text,
    OUT name text,
    OUT critical boolean,
    OUT value text,
    OUT der bytea
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_client_extensions_1_0'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED COST 100 ROWS 6;

COMMENT ON FUNCTION pg_tls_client_extensions() IS
'the extensions of the certificate of one''s own client, in their order, from position 0; each value as text for people to read, and in DER; works without preloading';

CREATE FUNCTION pg_tls_serial_hex(serial numeric)
RETURNS text
AS 'MODULE_PATHNAME', 'pg_tls_serial_hex_1_0'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;

COMMENT ON FUNCTION pg_tls_serial_hex(numeric) IS
'a serial number in hexadecimal, as openssl and most CAs want it; works without preloading';

CREATE FUNCTION pg_tls_client_dn_field(field text)
RETURNS text
AS 'MODULE_PATHNAME', 'pg_tls_client_dn_field_1_0'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pg_tls_client_dn_field(text) IS
'the first value of a field (CN, commonName, 2.5.4.3) in the subject of the certificate of one''s own client; works without preloading';

CREATE FUNCTION pg_tls_issuer_dn_field(field text)
RETURNS text
AS 'MODULE_PATHNAME', 'pg_tls_issuer_dn_field_1_0'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pg_tls_issuer_dn_field(text) IS
'the first value of a field (CN, commonName, 2.5.4.3) in the issuer of the certificate of one''s own client; works without preloading';

--
-- The server's own TLS
--

CREATE FUNCTION pg_tls_status(
    OUT ssl_setting boolean,
    OUT active boolean,
    OUT generation bigint,
    OUT loaded_at timestamptz,
    OUT attempts bigint,
    OUT failures bigint,
    OUT last_attempt_at timestamptz,
    OUT last_attempt_ok boolean,
    OUT last_error text,
    OUT reloadable boolean,
    OUT server_fingerprint text,
    OUT server_not_after timestamptz,
    OUT min_version text,
    OUT max_version text,
    OUT ciphers text,
    OUT groups text,
    OUT openssl_version text,
    OUT openssl_conf text,
    OUT fips boolean,
    OUT monitor_pid integer,
    OUT verdicts_pending bigint,
    OUT verdicts_pending_since timestamptz,
    OUT crl_signatures bigint,
    OUT chains_refused bigint,
    OUT chains_missing bigint
)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_tls_status_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pg_tls_status() IS
'row of the view pg_tls_status';

CREATE VIEW pg_tls_status AS
    SELECT * FROM pg_tls_status();

COMMENT ON VIEW pg_tls_status IS
'whether the server offers TLS, what it has loaded, and what came of the last attempt to load';
COMMENT ON COLUMN pg_tls_status.ssl_setting IS
'the setting ssl, which proves nothing: see active';
COMMENT ON COLUMN pg_tls_status.active IS
'a TLS configuration is loaded, so that clients may connect with TLS; NULL where another module keeps pg_tls from knowing, and for the moment that it takes to know';
COMMENT ON COLUMN pg_tls_status.generation IS
'number of the load in force: how many have succeeded since the server started; NULL while not active';
COMMENT ON COLUMN pg_tls_status.loaded_at IS
'when what is in force was loaded';
COMMENT ON COLUMN pg_tls_status.attempts IS
'attempts to load the TLS files since the server started';
COMMENT ON COLUMN pg_tls_status.failures IS
'those of them that failed';
COMMENT ON COLUMN pg_tls_status.last_attempt_at IS
'when the last attempt began';
COMMENT ON COLUMN pg_tls_status.last_attempt_ok IS
'the last attempt succeeded; NULL while it goes on';
COMMENT ON COLUMN pg_tls_status.last_error IS
'the server''s message if the last attempt failed';
COMMENT ON COLUMN pg_tls_status.reloadable IS
'the private key can be reloaded without anybody typing a passphrase; NULL where another module supplies it and was not yet seen to do so in a reload';
COMMENT ON COLUMN pg_tls_status.server_fingerprint IS
'SHA-256 of the server certificate in force';
COMMENT ON COLUMN pg_tls_status.server_not_after IS
'end of the validity of the server certificate in force';
COMMENT ON COLUMN pg_tls_status.min_version IS
'lowest TLS version of the load in force; NULL for no limit of PostgreSQL''s own';
COMMENT ON COLUMN pg_tls_status.max_version IS
'highest TLS version of the load in force; NULL for no limit of PostgreSQL''s own';
COMMENT ON COLUMN pg_tls_status.ciphers IS
'cipher suites that the load in force offers, in order';
COMMENT ON COLUMN pg_tls_status.groups IS
'groups for the key exchange, as set for the load in force';
COMMENT ON COLUMN pg_tls_status.openssl_version IS
'version of the OpenSSL library that the server runs with';
COMMENT ON COLUMN pg_tls_status.openssl_conf IS
'OpenSSL''s own configuration file';
COMMENT ON COLUMN pg_tls_status.fips IS
'OpenSSL uses its FIPS module by default';
COMMENT ON COLUMN pg_tls_status.monitor_pid IS
'process ID of pg_tls''s standing worker; NULL if it does not run';

COMMENT ON COLUMN pg_tls_status.verdicts_pending IS
'sessions whose client certificate was not judged yet by the configuration in force, or has to be judged again since the clock may have changed its verdict';
COMMENT ON COLUMN pg_tls_status.verdicts_pending_since IS
'when the first of these verdicts was due; NULL for none';
COMMENT ON COLUMN pg_tls_status.crl_signatures IS
'CRLs of the load in force whose signatures were verified once for all (pg_tls.crl_signature_cache), which is done before the next process starts; NULL until then';
COMMENT ON COLUMN pg_tls_status.chains_refused IS
'sessions since the server started whose certificates found no room in pg_tls.chain_memory, so that they cannot be judged after a reload';
COMMENT ON COLUMN pg_tls_status.chains_missing IS
'those of them that are connected';

CREATE FUNCTION pg_tls_reloads(
    OUT attempt bigint,
    OUT generation bigint,
    OUT attempted_at timestamptz,
    OUT trigger text,
    OUT ok boolean,
    OUT error text,
    OUT duration double precision,
    OUT server_fingerprint text,
    OUT server_not_after timestamptz
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_reloads_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 128;

COMMENT ON FUNCTION pg_tls_reloads() IS
'rows of the view pg_tls_reloads';

CREATE VIEW pg_tls_reloads AS
    SELECT * FROM pg_tls_reloads();

COMMENT ON VIEW pg_tls_reloads IS
'the last 128 attempts of the server to load its TLS files, and what came of them';
COMMENT ON COLUMN pg_tls_reloads.attempt IS
'number of the attempt since the server started';
COMMENT ON COLUMN pg_tls_reloads.generation IS
'number of the load, NULL unless it succeeded';
COMMENT ON COLUMN pg_tls_reloads.attempted_at IS
'when the attempt began';
COMMENT ON COLUMN pg_tls_reloads.trigger IS
'startup, reload (of the configuration), function (pg_tls_reload), or watch (pg_tls.watch_files)';
COMMENT ON COLUMN pg_tls_reloads.ok IS
'it succeeded, and took effect for new connections; NULL while it goes on';
COMMENT ON COLUMN pg_tls_reloads.error IS
'the server''s message if it failed; nothing was changed then';
COMMENT ON COLUMN pg_tls_reloads.duration IS
'how long it took, in milliseconds; NULL where TLS was not active before, as its end cannot be told exactly then';
COMMENT ON COLUMN pg_tls_reloads.server_fingerprint IS
'SHA-256 of the server certificate that was loaded; NULL where it failed';
COMMENT ON COLUMN pg_tls_reloads.server_not_after IS
'end of the validity of that certificate';

CREATE FUNCTION pg_tls_check(
    OUT ok boolean,
    OUT error text,
    OUT warnings text[]
)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_tls_check_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION pg_tls_check() IS
'dry run of a reload: would the server load its TLS files now, why not, and what would a success hide? Changes nothing; may run ssl_passphrase_command';

CREATE FUNCTION pg_tls_check_sessions(
    OUT pid integer,
    OUT client_dn text,
    OUT client_serial numeric,
    OUT client_fingerprint text,
    OUT chain_status text,
    OUT verify_error text,
    OUT verify_depth integer,
    OUT crl_status text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_check_sessions_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION pg_tls_check_sessions() IS
'sessions whose certificates the server would no longer accept if it reloaded its files now, and why; an error if it could not load them';

CREATE FUNCTION pg_tls_reload(
    timeout interval DEFAULT '10s',
    OUT attempt bigint,
    OUT generation bigint,
    OUT attempted_at timestamptz,
    OUT trigger text,
    OUT ok boolean,
    OUT error text,
    OUT duration double precision,
    OUT server_fingerprint text,
    OUT server_not_after timestamptz
)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_tls_reload_1_0'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION pg_tls_reload(interval) IS
'try the TLS files, reload the configuration, and return what came of it, as in pg_tls_reloads; an error if it fails, with the old TLS configuration still in force';

--
-- The server's TLS files
--

CREATE FUNCTION pg_tls_files(
    OUT setting text,
    OUT path text,
    OUT contents text,
    OUT effect text,
    OUT state text,
    OUT owner text,
    OUT mode text,
    OUT size bigint,
    OUT modified_at timestamptz,
    OUT loaded_fingerprint text,
    OUT disk_fingerprint text,
    OUT problem text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_files_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 100000 ROWS 6;

COMMENT ON FUNCTION pg_tls_files() IS
'rows of the view pg_tls_files';

CREATE VIEW pg_tls_files AS
    SELECT * FROM pg_tls_files();

COMMENT ON VIEW pg_tls_files IS
'the server''s TLS files: what is configured, and whether what lies on disk is what the server has loaded';
COMMENT ON COLUMN pg_tls_files.setting IS
'name of the setting';
COMMENT ON COLUMN pg_tls_files.path IS
'the file or directory that it names, absolute, or for ssl_crl_dir a list of directories, separated by colons; NULL where it is unset';
COMMENT ON COLUMN pg_tls_files.contents IS
'what it should hold';
COMMENT ON COLUMN pg_tls_files.effect IS
'what that does';
COMMENT ON COLUMN pg_tls_files.state IS
'current (what is on disk is what is loaded), changed, missing, unreadable or unset; NULL where nothing is loaded to compare with, or it cannot be known';
COMMENT ON COLUMN pg_tls_files.owner IS
'user that owns the file; NULL, as mode, size and modified_at, for several directories';
COMMENT ON COLUMN pg_tls_files.mode IS
'permissions, octal';
COMMENT ON COLUMN pg_tls_files.size IS
'size in bytes';
COMMENT ON COLUMN pg_tls_files.modified_at IS
'when it was last modified';
COMMENT ON COLUMN pg_tls_files.loaded_fingerprint IS
'SHA-256 over the digests of the certificates and CRLs that are loaded from it; of a private key, that of its public key';
COMMENT ON COLUMN pg_tls_files.disk_fingerprint IS
'the same of what lies on disk';
COMMENT ON COLUMN pg_tls_files.problem IS
'what is wrong with the file; NULL where nothing is';

CREATE FUNCTION pg_tls_certificates(
    OUT setting text,
    OUT "position" integer,
    OUT state text,
    OUT subject_dn text,
    OUT subject_dn_rfc2253 text,
    OUT issuer_dn text,
    OUT issuer_dn_rfc2253 text,
    OUT serial numeric,
    OUT serial_hex text,
    OUT not_before timestamptz,
    OUT not_after timestamptz,
    OUT san text[],
    OUT key text,
    OUT eku text[],
    OUT signature_algorithm text,
    OUT is_ca boolean,
    OUT self_signed boolean,
    OUT fingerprint text,
    OUT has_crl boolean,
    OUT problem text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_certificates_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 100000 ROWS 5;

COMMENT ON FUNCTION pg_tls_certificates() IS
'rows of the view pg_tls_certificates';

CREATE VIEW pg_tls_certificates AS
    SELECT * FROM pg_tls_certificates();

COMMENT ON VIEW pg_tls_certificates IS
'the certificates that the server has loaded, or would load: its own chain, and the CAs of clients';
COMMENT ON COLUMN pg_tls_certificates.setting IS
'setting whose file it is from';
COMMENT ON COLUMN pg_tls_certificates."position" IS
'position in that file, from 1; NULL where it is not there any more and had none in the chain';
COMMENT ON COLUMN pg_tls_certificates.state IS
'loaded, loaded only (not on disk any more) or disk only; NULL where it cannot be known what is loaded';
COMMENT ON COLUMN pg_tls_certificates.subject_dn IS
'subject, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_tls_certificates.subject_dn_rfc2253 IS
'subject by RFC 2253';
COMMENT ON COLUMN pg_tls_certificates.issuer_dn IS
'issuer, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_tls_certificates.issuer_dn_rfc2253 IS
'issuer by RFC 2253';
COMMENT ON COLUMN pg_tls_certificates.serial IS
'serial number';
COMMENT ON COLUMN pg_tls_certificates.serial_hex IS
'serial number, hexadecimal';
COMMENT ON COLUMN pg_tls_certificates.not_before IS
'beginning of its validity';
COMMENT ON COLUMN pg_tls_certificates.not_after IS
'end of its validity';
COMMENT ON COLUMN pg_tls_certificates.san IS
'subject alternative names, each with its type';
COMMENT ON COLUMN pg_tls_certificates.key IS
'type and strength of the key';
COMMENT ON COLUMN pg_tls_certificates.eku IS
'extended key usages';
COMMENT ON COLUMN pg_tls_certificates.signature_algorithm IS
'algorithm that signed the certificate';
COMMENT ON COLUMN pg_tls_certificates.is_ca IS
'it is a certificate of a CA';
COMMENT ON COLUMN pg_tls_certificates.self_signed IS
'its own key has signed it';
COMMENT ON COLUMN pg_tls_certificates.fingerprint IS
'SHA-256 of the certificate';
COMMENT ON COLUMN pg_tls_certificates.has_crl IS
'there is a CRL of this CA, by its key; NULL where no CRLs are used, and for the server''s own chain';
COMMENT ON COLUMN pg_tls_certificates.problem IS
'what is wrong with it; NULL where nothing is';

CREATE FUNCTION pg_tls_crls(
    OUT setting text,
    OUT path text,
    OUT state text,
    OUT issuer_dn text,
    OUT crl_number numeric,
    OUT this_update timestamptz,
    OUT next_update timestamptz,
    OUT revoked bigint,
    OUT delta boolean,
    OUT status text,
    OUT fingerprint text,
    OUT problem text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_crls_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 100000 ROWS 5;

COMMENT ON FUNCTION pg_tls_crls() IS
'rows of the view pg_tls_crls';

CREATE VIEW pg_tls_crls AS
    SELECT * FROM pg_tls_crls();

COMMENT ON VIEW pg_tls_crls IS
'the certificate revocation lists (CRLs) that the server has loaded, would load, or looks up in ssl_crl_dir';
COMMENT ON COLUMN pg_tls_crls.setting IS
'setting whose file it is from';
COMMENT ON COLUMN pg_tls_crls.path IS
'path of the file, absolute';
COMMENT ON COLUMN pg_tls_crls.state IS
'loaded, loaded only (not on disk any more), disk only (also of a directory that is not in force), or on demand (connections look it up in ssl_crl_dir); NULL where it cannot be known what is loaded';
COMMENT ON COLUMN pg_tls_crls.issuer_dn IS
'issuer, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_tls_crls.crl_number IS
'CRL number';
COMMENT ON COLUMN pg_tls_crls.this_update IS
'when it was issued';
COMMENT ON COLUMN pg_tls_crls.next_update IS
'its end: from then on it keeps all clients of its issuer out';
COMMENT ON COLUMN pg_tls_crls.revoked IS
'number of its entries';
COMMENT ON COLUMN pg_tls_crls.delta IS
'it is a delta CRL, which the server does not support';
COMMENT ON COLUMN pg_tls_crls.status IS
'current, expired, not_yet_valid, bad_signature, no_issuer (dates are good, but no CA of that name is in ssl_ca_file: clients may send it), misnamed or unreadable (in ssl_crl_dir)';
COMMENT ON COLUMN pg_tls_crls.fingerprint IS
'SHA-256 of the CRL';
COMMENT ON COLUMN pg_tls_crls.problem IS
'what is wrong with it; NULL where nothing is';

CREATE FUNCTION pg_tls_crl_entries(
    OUT issuer_dn text,
    OUT serial numeric,
    OUT serial_hex text,
    OUT revoked_at timestamptz,
    OUT reason text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_crl_entries_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10000;

COMMENT ON FUNCTION pg_tls_crl_entries() IS
'all entries of the CRLs in force: issuer and serial number of the certificate, when and why it was revoked (RFC 5280''s name of the reason)';

CREATE FUNCTION pg_tls_server_matches(host text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pg_tls_server_matches_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 10000;

COMMENT ON FUNCTION pg_tls_server_matches(text) IS
'would a client that connects to this host with sslmode=verify-full accept the name in the server certificate that is loaded? NULL where none is loaded';

--
-- Clients that failed
--

CREATE FUNCTION pg_stat_tls_failures(
    OUT failed_at timestamptz,
    OUT pid integer,
    OUT client_addr inet,
    OUT client_port integer,
    OUT usename name,
    OUT datname name,
    OUT reason text,
    OUT error text,
    OUT verify_error text,
    OUT verify_depth integer,
    OUT subject_dn text,
    OUT issuer_dn text,
    OUT serial numeric,
    OUT fingerprint text,
    OUT not_before timestamptz,
    OUT not_after timestamptz,
    OUT stats_reset timestamptz
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_stat_tls_failures_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 256;

COMMENT ON FUNCTION pg_stat_tls_failures() IS
'rows of the view pg_stat_tls_failures';

CREATE VIEW pg_stat_tls_failures AS
    SELECT * FROM pg_stat_tls_failures();

COMMENT ON VIEW pg_stat_tls_failures IS
'the last handshakes and authentications that failed because of TLS or a certificate, and why; pg_tls.failure_log_size says how many';
COMMENT ON COLUMN pg_stat_tls_failures.failed_at IS
'when it failed';
COMMENT ON COLUMN pg_stat_tls_failures.pid IS
'process ID, as in the server log';
COMMENT ON COLUMN pg_stat_tls_failures.client_addr IS
'the client''s address; NULL for the Unix-domain socket';
COMMENT ON COLUMN pg_stat_tls_failures.client_port IS
'the client''s TCP port';
COMMENT ON COLUMN pg_stat_tls_failures.usename IS
'role that the client asked for; NULL if it failed before it could say';
COMMENT ON COLUMN pg_stat_tls_failures.datname IS
'database that the client asked for, likewise';
COMMENT ON COLUMN pg_stat_tls_failures.reason IS
'cause, one of those in pg_stat_tls_handshakes';
COMMENT ON COLUMN pg_stat_tls_failures.error IS
'the server''s message';
COMMENT ON COLUMN pg_stat_tls_failures.verify_error IS
'what OpenSSL found wrong with a certificate or CRL';
COMMENT ON COLUMN pg_stat_tls_failures.verify_depth IS
'how far the certificate at fault is from the client''s in the chain';
COMMENT ON COLUMN pg_stat_tls_failures.subject_dn IS
'subject of the certificate at fault, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls_failures.issuer_dn IS
'its issuer';
COMMENT ON COLUMN pg_stat_tls_failures.serial IS
'its serial number';
COMMENT ON COLUMN pg_stat_tls_failures.fingerprint IS
'its SHA-256';
COMMENT ON COLUMN pg_stat_tls_failures.not_before IS
'beginning of its validity';
COMMENT ON COLUMN pg_stat_tls_failures.not_after IS
'end of its validity';
COMMENT ON COLUMN pg_stat_tls_failures.stats_reset IS
'when counting began: the last pg_stat_tls_reset(), or the start of a server that found nothing saved';

CREATE FUNCTION pg_stat_tls_handshakes(
    OUT result text,
    OUT reason text,
    OUT count bigint,
    OUT last_at timestamptz,
    OUT stats_reset timestamptz
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_stat_tls_handshakes_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 20;

COMMENT ON FUNCTION pg_stat_tls_handshakes() IS
'rows of the view pg_stat_tls_handshakes';

CREATE VIEW pg_stat_tls_handshakes AS
    SELECT * FROM pg_stat_tls_handshakes();

COMMENT ON VIEW pg_stat_tls_handshakes IS
'how many clients were accepted over TLS, and how many failed because of TLS or a certificate, by reason';
COMMENT ON COLUMN pg_stat_tls_handshakes.result IS
'accepted (TLS established, and authenticated) or failed';
COMMENT ON COLUMN pg_stat_tls_handshakes.reason IS
'why they failed; NULL for accepted';
COMMENT ON COLUMN pg_stat_tls_handshakes.count IS
'how many, since stats_reset; kept across restarts';
COMMENT ON COLUMN pg_stat_tls_handshakes.last_at IS
'when the last one was; NULL if there was none';
COMMENT ON COLUMN pg_stat_tls_handshakes.stats_reset IS
'when counting began: the last pg_stat_tls_reset(), or the start of a server that found nothing saved';

CREATE FUNCTION pg_stat_tls_clients(
    OUT usename name,
    OUT client_addr inet,
    OUT encryption text,
    OUT version text,
    OUT cipher text,
    OUT key_exchange text,
    OUT sessions bigint,
    OUT first_seen_at timestamptz,
    OUT last_seen_at timestamptz,
    OUT stats_reset timestamptz
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_stat_tls_clients_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1000;

COMMENT ON FUNCTION pg_stat_tls_clients() IS
'rows of the view pg_stat_tls_clients';

CREATE VIEW pg_stat_tls_clients AS
    SELECT * FROM pg_stat_tls_clients();

COMMENT ON VIEW pg_stat_tls_clients IS
'who has connected from where, by which encryption; kept across restarts, at most pg_tls.max_clients rows, of which the one seen longest ago makes room';
COMMENT ON COLUMN pg_stat_tls_clients.usename IS
'role';
COMMENT ON COLUMN pg_stat_tls_clients.client_addr IS
'address; NULL for the Unix-domain socket';
COMMENT ON COLUMN pg_stat_tls_clients.encryption IS
'tls, gss, none (TCP in clear text) or local (Unix-domain socket)';
COMMENT ON COLUMN pg_stat_tls_clients.version IS
'TLS version; like cipher and key_exchange NULL without TLS';
COMMENT ON COLUMN pg_stat_tls_clients.cipher IS
'cipher suite';
COMMENT ON COLUMN pg_stat_tls_clients.key_exchange IS
'group of the key exchange';
COMMENT ON COLUMN pg_stat_tls_clients.sessions IS
'how many sessions';
COMMENT ON COLUMN pg_stat_tls_clients.first_seen_at IS
'beginning of the first one';
COMMENT ON COLUMN pg_stat_tls_clients.last_seen_at IS
'beginning of the last one';
COMMENT ON COLUMN pg_stat_tls_clients.stats_reset IS
'when counting began: the last pg_stat_tls_reset(), or the start of a server that found nothing saved';

CREATE FUNCTION pg_stat_tls_client_certificates(
    OUT fingerprint text,
    OUT usename name,
    OUT subject_dn text,
    OUT issuer_dn text,
    OUT serial numeric,
    OUT san text[],
    OUT key text,
    OUT not_before timestamptz,
    OUT not_after timestamptz,
    OUT sessions bigint,
    OUT first_seen_at timestamptz,
    OUT last_seen_at timestamptz,
    OUT last_client_addr inet,
    OUT stats_reset timestamptz
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_stat_tls_client_certificates_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1000;

COMMENT ON FUNCTION pg_stat_tls_client_certificates() IS
'rows of the view pg_stat_tls_client_certificates';

CREATE VIEW pg_stat_tls_client_certificates AS
    SELECT * FROM pg_stat_tls_client_certificates();

COMMENT ON VIEW pg_stat_tls_client_certificates IS
'client certificates in use, and by whom; kept across restarts, at most pg_tls.max_certificates rows, of which the one seen longest ago makes room';
COMMENT ON COLUMN pg_stat_tls_client_certificates.fingerprint IS
'SHA-256 of the certificate';
COMMENT ON COLUMN pg_stat_tls_client_certificates.usename IS
'role';
COMMENT ON COLUMN pg_stat_tls_client_certificates.subject_dn IS
'subject, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls_client_certificates.issuer_dn IS
'issuer, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls_client_certificates.serial IS
'serial number';
COMMENT ON COLUMN pg_stat_tls_client_certificates.san IS
'subject alternative names, each with its type';
COMMENT ON COLUMN pg_stat_tls_client_certificates.key IS
'type and strength of the key';
COMMENT ON COLUMN pg_stat_tls_client_certificates.not_before IS
'beginning of its validity';
COMMENT ON COLUMN pg_stat_tls_client_certificates.not_after IS
'end of its validity';
COMMENT ON COLUMN pg_stat_tls_client_certificates.sessions IS
'how many sessions';
COMMENT ON COLUMN pg_stat_tls_client_certificates.first_seen_at IS
'beginning of the first one';
COMMENT ON COLUMN pg_stat_tls_client_certificates.last_seen_at IS
'beginning of the last one';
COMMENT ON COLUMN pg_stat_tls_client_certificates.last_client_addr IS
'address that the last one came from';
COMMENT ON COLUMN pg_stat_tls_client_certificates.stats_reset IS
'when counting began: the last pg_stat_tls_reset(), or the start of a server that found nothing saved';

CREATE FUNCTION pg_stat_tls_info(
    OUT client_evictions bigint,
    OUT certificate_evictions bigint,
    OUT stats_reset timestamptz
)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_stat_tls_info_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pg_stat_tls_info() IS
'row of the view pg_stat_tls_info';

CREATE VIEW pg_stat_tls_info AS
    SELECT * FROM pg_stat_tls_info();

COMMENT ON VIEW pg_stat_tls_info IS
'how many rows of the statistics of clients had to make room for others, and when counting began';
COMMENT ON COLUMN pg_stat_tls_info.client_evictions IS
'rows of pg_stat_tls_clients that had to make room, since stats_reset';
COMMENT ON COLUMN pg_stat_tls_info.certificate_evictions IS
'rows of pg_stat_tls_client_certificates that had to make room, since stats_reset';
COMMENT ON COLUMN pg_stat_tls_info.stats_reset IS
'when counting began: the last pg_stat_tls_reset(), or the start of a server that found nothing saved';

CREATE FUNCTION pg_stat_tls_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'pg_stat_tls_reset_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION pg_stat_tls_reset() IS
'forget what was counted and remembered of clients';

--
-- What is wrong
--

CREATE FUNCTION pg_tls_finding_codes(
    wanted text DEFAULT NULL,
    OUT code text,
    OUT severity text,
    OUT hint text,
    OUT reference text,
    OUT keeps_clients_out boolean
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_finding_codes_1_0'
LANGUAGE C STABLE PARALLEL SAFE ROWS 1;

COMMENT ON FUNCTION pg_tls_finding_codes(text) IS
'the codes of pg_tls_findings, or the one that is asked for, which has to be known, and what is the same of all findings of a code; works without preloading';

CREATE FUNCTION pg_tls_file_findings(
    OUT code text,
    OUT object text,
    OUT problem text
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_file_findings_1_0'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 100000 ROWS 5;

COMMENT ON FUNCTION pg_tls_file_findings() IS
'the part of pg_tls_findings that concerns the server''s TLS files; includes a dry run of a reload, which asks for no passphrase';

-- pg_hba_file_rules() is for superusers, since options hold passwords.  This
-- lets through what the findings need, and nothing else; with the extension's
-- owner's rights, the only such function here.  A file that cannot be read is
-- a row with an error.
CREATE FUNCTION pg_tls_hba_rules(
    OUT rule_number integer,
    OUT file_name text,
    OUT modified_at timestamptz,
    OUT line_number integer,
    OUT type text,
    OUT database text[],
    OUT user_name text[],
    OUT address text,
    OUT netmask text,
    OUT auth_method text,
    OUT clientcert text,
    OUT error text
)
RETURNS SETOF record
LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE ROWS 20
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT CASE WHEN r.type IS NOT NULL THEN (count(r.type) OVER (ROWS UNBOUNDED PRECEDING))::integer END,
           -- a column since PostgreSQL 16, which can include other files
           coalesce(to_jsonb(r) ->> 'file_name', current_setting('hba_file')),
           (pg_stat_file(coalesce(to_jsonb(r) ->> 'file_name', current_setting('hba_file')), true)).modification,
           r.line_number, r.type, r.database, r.user_name, r.address, r.netmask, r.auth_method,
           (SELECT substr(o, 12) FROM unnest(r.options) o WHERE o LIKE 'clientcert=%'),
           -- The server's message may quote a password, or the rest of one.  It
           -- also has messages on lines that it can read, which are no errors.
           CASE WHEN r.type IS NULL THEN format('line %s cannot be read', r.line_number) END
    FROM pg_hba_file_rules() r;
EXCEPTION
    WHEN OTHERS THEN
        -- what is wrong with the file, not with something in it
        error := CASE WHEN SQLSTATE ~ '^(58|42501)' THEN SQLERRM ELSE 'the file cannot be read: SQLSTATE ' || SQLSTATE END;
        BEGIN
            file_name := current_setting('hba_file');
        EXCEPTION
            -- the owner is not, or no longer, a superuser
            WHEN insufficient_privilege THEN
                file_name := 'pg_hba.conf';
        END;
        RETURN NEXT;
END
$$;

COMMENT ON FUNCTION pg_tls_hba_rules() IS
'the lines of pg_hba.conf as the file is now, not as it was loaded; without their options';

-- What a view calls is looked up when it is created.  With the extension's
-- schema in search_path that could be functions and operators which others
-- have made there, and which suit the arguments better than the server's.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE VIEW @extschema@.pg_tls_findings AS
WITH status AS MATERIALIZED (
    SELECT * FROM @extschema@.pg_tls_status()
),
sessions AS MATERIALIZED (
    SELECT t.*, a.client_addr
    FROM @extschema@.pg_stat_tls() t JOIN pg_catalog.pg_stat_get_activity(NULL) a USING (pid)
),
clients AS MATERIALIZED (
    SELECT *,
           client_addr IS NOT NULL AND NOT client_addr <<= '127.0.0.0/8' AND client_addr <> '::1' AS remote
    FROM @extschema@.pg_stat_tls_clients()
),
certificates AS MATERIALIZED (
    SELECT * FROM @extschema@.pg_stat_tls_client_certificates()
),
-- Of the lines that admit TCP connections: does one admit them in clear text,
-- and from elsewhere, before lines that refuse that?
lines AS MATERIALIZED (
    SELECT *,
           type IN ('host', 'hostnossl', 'hostnogssenc') AS clear_text,
           address = 'all' OR (lo = '0.0.0.0' AND hi = '255.255.255.255') AS any_ipv4,
           address = 'all' OR (lo = '::' AND hi = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff') AS any_ipv6,
           coalesce((lo <<= '127.0.0.0/8' AND hi <<= '127.0.0.0/8') OR (lo = '::1' AND hi = '::1'),
                    lower(address) IN ('localhost', 'samehost'), false) AS is_local,
           'replication' = ANY (database) AS replication,
           database <> '{replication}' AS databases,
           address || coalesce('/' || netmask, '') AS range,
           coalesce('line ' || line_number::text || ' of ', '') || regexp_replace(file_name, '.*/', '') AS object
    FROM (SELECT *,
                 CASE WHEN netmask IS NOT NULL THEN address::inet & netmask::inet END AS lo,
                 CASE WHEN netmask IS NOT NULL THEN address::inet | ~ netmask::inet END AS hi
          FROM @extschema@.pg_tls_hba_rules()) h
),
refusals AS MATERIALIZED (
    SELECT *, 'all' = ANY (database) AS all_databases
    FROM lines
    WHERE clear_text AND auth_method = 'reject' AND 'all' = ANY (user_name)
),
open_lines AS (
    SELECT *
    FROM lines l
    WHERE clear_text AND auth_method <> 'reject' AND NOT is_local
      AND NOT (
          -- databases, and replication, are refused from all of its addresses
          (NOT databases
           OR (CASE WHEN lo IS NOT NULL THEN
                   EXISTS (SELECT FROM refusals r
                           WHERE r.rule_number < l.rule_number AND all_databases AND (r.address = 'all' OR (r.lo <= l.lo AND r.hi >= l.hi)))
               ELSE
                   EXISTS (SELECT FROM refusals r WHERE r.rule_number < l.rule_number AND all_databases AND r.any_ipv4)
                   AND EXISTS (SELECT FROM refusals r WHERE r.rule_number < l.rule_number AND all_databases AND r.any_ipv6)
               END))
          AND (NOT replication
               OR (CASE WHEN lo IS NOT NULL THEN
                       EXISTS (SELECT FROM refusals r
                               WHERE r.rule_number < l.rule_number AND r.replication AND (r.address = 'all' OR (r.lo <= l.lo AND r.hi >= l.hi)))
                   ELSE
                       EXISTS (SELECT FROM refusals r WHERE r.rule_number < l.rule_number AND r.replication AND r.any_ipv4)
                       AND EXISTS (SELECT FROM refusals r WHERE r.rule_number < l.rule_number AND r.replication AND r.any_ipv6)
                   END)))
),
listening (reachable, tcp) AS (
    SELECT coalesce(bool_or(a NOT LIKE '127.%' AND a NOT IN ('::1', 'localhost')), false), count(*) > 0
    FROM (SELECT lower(trim(BOTH ' "' FROM a)) AS a
          FROM regexp_split_to_table(current_setting('listen_addresses'), ',') a) s
    WHERE a <> ''
),
notice (expiry) AS (
    SELECT current_setting('pg_tls.expiry_warning', true)::interval
),
found (code, object, problem) AS (
    SELECT code, object, problem FROM @extschema@.pg_tls_file_findings()
    UNION ALL
    SELECT 'tls_not_active', 'ssl',
           'the setting "ssl" is on, but the server has no TLS configuration loaded, and offers no TLS'
    FROM status WHERE ssl_setting AND NOT active
    UNION ALL
    SELECT 'ssl_off', 'ssl', 'the server offers no TLS' FROM status WHERE NOT ssl_setting
    UNION ALL
    SELECT 'reload_failed', 'ssl',
           format('the last attempt to load the TLS files, at %s, failed: %s',
                  last_attempt_at::timestamptz(0), last_error)
    FROM status WHERE NOT last_attempt_ok
    UNION ALL
    SELECT 'worker_not_running', 'pg_tls monitor',
           format('the background worker of pg_tls does not run: verdicts on connected sessions follow neither reloads nor revocations nor the clock, TLS files are not watched, and statistics are not saved (max_worker_processes: %s)',
                  current_setting('max_worker_processes'))
    FROM status WHERE monitor_pid IS NULL
    UNION ALL
    SELECT 'verdicts_pending', 'pg_tls verifier',
           format('sessions whose client certificate waits to be judged again: %s, the first since %s; some may be revoked',
                  verdicts_pending, verdicts_pending_since::timestamptz(0))
    FROM status WHERE verdicts_pending_since < now() - interval '1 minute'
    UNION ALL
    SELECT 'weak_cipher_allowed', 'ssl_ciphers', format('the server offers %s', string_agg(cipher, ', '))
    FROM status, regexp_split_to_table(ciphers, ':') cipher
    WHERE cipher ~ '(^|-)(NULL|RC4|DES-CBC3?)-|^(EXP|ADH|AECDH)'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'tls_version_allowed', 'ssl_min_protocol_version',
           format('the server offers %s', coalesce(min_version, 'any version of TLS'))
    FROM status WHERE active AND coalesce(min_version, '') NOT IN ('TLSv1.2', 'TLSv1.3')
    UNION ALL
    SELECT 'tls_version_seen', usename,
           format('role "%s" has connected with %s (sessions: %s), the last time at %s',
                  usename, version, sum(sessions), max(last_seen_at)::timestamptz(0))
    FROM clients WHERE version IN ('SSLv3', 'TLSv1', 'TLSv1.1') GROUP BY usename, version
    UNION ALL
    SELECT 'no_post_quantum', 'ssl_groups',
           format('the server offers no post-quantum key exchange, though %s has it', openssl_version)
    FROM status
    WHERE active AND openssl_version ~ '^OpenSSL (3\.[5-9]|3\.[1-9][0-9]|[4-9]|[1-9][0-9])'
      AND current_setting('server_version_num')::integer >= 180000 AND groups !~* 'MLKEM'
    UNION ALL
    SELECT 'hba_clear_text', object,
           format('line %s (%s) admits connections in clear text from %s', line_number, type, range)
    FROM open_lines, listening
    WHERE reachable AND NOT current_setting('pg_tls.require_encryption', true)::boolean
    UNION ALL
    SELECT 'hba_clear_text_password', object,
           format('line %s (%s) lets clients from %s send passwords in clear text, by %s',
                  line_number, type, range, auth_method)
    FROM open_lines, listening
    WHERE reachable AND auth_method IN ('password', 'ldap', 'radius', 'pam', 'bsd')
    UNION ALL
    SELECT 'hba_trust', object,
           format('line %s (%s) lets anybody%s from %s in as any role, without authentication', line_number, type,
                  CASE WHEN clientcert IS NOT NULL THEN ' with a certificate' ELSE '' END, range)
    FROM lines, listening
    WHERE tcp AND type <> 'local' AND auth_method = 'trust' AND clientcert IS DISTINCT FROM 'verify-full'
    UNION ALL
    SELECT 'hba_error', object, error FROM lines WHERE error IS NOT NULL
    UNION ALL
    SELECT 'hba_changed', regexp_replace(file_name, '.*/', ''),
           format('"%s" was changed at %s, and the server''s configuration was loaded at %s',
                  file_name, max(modified_at), pg_conf_load_time()::timestamptz(0))
    FROM lines
    GROUP BY file_name
    HAVING max(modified_at) > pg_conf_load_time()
    UNION ALL
    SELECT 'clear_text_session', 'sessions',
           format('sessions connected over the network in clear text: %s', count(*))
    FROM sessions
    WHERE encryption = 'none' AND NOT client_addr <<= '127.0.0.0/8' AND client_addr <> '::1'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'clear_text_seen', usename,
           format('role "%s" has connected in clear text (sessions: %s, addresses: %s), the last time at %s',
                  usename, sum(sessions), count(DISTINCT client_addr), max(last_seen_at)::timestamptz(0))
    FROM clients WHERE encryption = 'none' AND remote GROUP BY usename
    UNION ALL
    SELECT 'session_not_acceptable', client_dn,
           format('certificate %s would not be let in again (sessions connected with it: %s): %s',
                  client_fingerprint, count(*), min(verify_error))
    FROM sessions WHERE NOT acceptable GROUP BY client_fingerprint, client_dn
    UNION ALL
    SELECT 'session_not_judged', 'pg_tls.chain_memory',
           format('certificates of connected sessions found no room in pg_tls.chain_memory, so that no reload has them judged again: %s',
                  chains_missing)
    FROM status WHERE chains_missing > 0
    UNION ALL
    SELECT 'session_not_judged', 'sessions',
           format('memory ran out while sessions were judged, which is tried again every five seconds: %s', count(*))
    FROM sessions WHERE client_certificate AND chain_status IS NULL
      AND EXISTS (SELECT FROM status WHERE chains_missing = 0 AND generation IS NOT NULL)
    HAVING count(*) > 0
    UNION ALL
    SELECT 'session_not_judged', 'ssl',
           format('the server reloaded, and lets nobody see what (ssl_sni, or another module), so that sessions are not judged again: %s', count(*))
    FROM sessions WHERE client_certificate AND chain_status IS NULL
      AND EXISTS (SELECT FROM status WHERE chains_missing = 0 AND ssl_setting AND active IS NULL)
    HAVING count(*) > 0
    UNION ALL
    SELECT 'client_certificate_expired', client_dn,
           format('certificate %s has ended at %s (sessions connected with it: %s)',
                  client_fingerprint, client_not_after, count(*))
    -- in the very second of its end OpenSSL 4.0 accepts it
    FROM sessions WHERE client_not_after <= clock_timestamp() AND acceptable IS NOT TRUE
    GROUP BY client_fingerprint, client_dn, client_not_after
    UNION ALL
    SELECT 'client_certificate_expiring', subject_dn,
           format('certificate %s, used by role "%s" at %s, ends at %s',
                  fingerprint, usename, last_seen_at::timestamptz(0), not_after)
    FROM certificates c, notice
    WHERE not_after > clock_timestamp() AND not_after < clock_timestamp() + expiry
      -- and was not renewed
      AND NOT EXISTS (SELECT FROM certificates n
                      WHERE n.usename = c.usename AND n.subject_dn = c.subject_dn
                        AND n.not_after > c.not_after AND n.last_seen_at > c.last_seen_at)
    UNION ALL
    SELECT 'weak_key', subject_dn,
           format('client certificate %s, used by role "%s", has a weak key, %s', fingerprint, usename, key)
    FROM certificates
    WHERE key ~ '^(RSA|RSA-PSS|DSA)-([0-9]{1,3}|1[0-9]{3})$' OR key ~ '^EC-.*(1[0-9]{2})'
    UNION ALL
    SELECT 'client_certificate_shared', min(subject_dn),
           format('certificate %s is used by the roles %s', fingerprint, string_agg(format('"%s"', usename), ', ' ORDER BY usename))
    FROM certificates GROUP BY fingerprint HAVING count(DISTINCT usename) > 1
)
SELECT severity, found.code, object, problem, hint, reference
FROM found, @extschema@.pg_tls_finding_codes(found.code)
ORDER BY array_position(ARRAY['critical', 'warning', 'info'], severity), found.code, object, problem;

SET LOCAL search_path = @extschema@, pg_temp;

COMMENT ON VIEW pg_tls_findings IS
'what is wrong with the TLS of this server and its clients, or soon will be, worst first; no rows where all is well';
COMMENT ON COLUMN pg_tls_findings.severity IS
'critical (somebody is kept out or unprotected, or the next restart fails), warning or info';
COMMENT ON COLUMN pg_tls_findings.code IS
'what kind of finding it is; stays the same in all versions';
COMMENT ON COLUMN pg_tls_findings.object IS
'the setting, certificate, CRL, role or line that it is about';
COMMENT ON COLUMN pg_tls_findings.problem IS
'the fact';
COMMENT ON COLUMN pg_tls_findings.hint IS
'what to do';
COMMENT ON COLUMN pg_tls_findings.reference IS
'items of the Crunchy Data PostgreSQL STIG (V3R1) and the CIS PostgreSQL Benchmarks (13 to 16) that it bears on';

--
-- Any certificate
--

CREATE FUNCTION pg_tls_verify(
    certificate text,
    intermediates text DEFAULT NULL,
    trusted text DEFAULT NULL,
    crls text DEFAULT NULL,
    at timestamptz DEFAULT NULL,
    mode text DEFAULT 'server',
    OUT ok boolean,
    OUT chain_status text,
    OUT crl_status text,
    OUT verify_error text,
    OUT error_code integer,
    OUT verify_depth integer
)
RETURNS record
AS 'MODULE_PATHNAME', 'pg_tls_verify_1_0'
LANGUAGE C STABLE PARALLEL SAFE COST 10000;

COMMENT ON FUNCTION pg_tls_verify(text, text, text, text, timestamptz, text) IS
'would a server that has these CAs and CRLs accept this certificate (mode server), or would RFC 5280 (mode rfc5280)? All in PEM; works without preloading';

CREATE FUNCTION pg_tls_certificate(
    certificate text,
    OUT subject_dn text,
    OUT subject_dn_rfc2253 text,
    OUT issuer_dn text,
    OUT issuer_dn_rfc2253 text,
    OUT serial numeric,
    OUT serial_hex text,
    OUT not_before timestamptz,
    OUT not_after timestamptz,
    OUT san text[],
    OUT key text,
    OUT eku text[],
    OUT key_usage text[],
    OUT signature_algorithm text,
    OUT is_ca boolean,
    OUT self_signed boolean,
    OUT fingerprint text,
    OUT version integer
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_certificate_text_1_0'
LANGUAGE C STRICT STABLE PARALLEL SAFE COST 1000 ROWS 1;

COMMENT ON FUNCTION pg_tls_certificate(text) IS
'what each of the certificates in a text in PEM says; works without preloading';

CREATE FUNCTION pg_tls_certificate(
    certificate bytea,
    OUT subject_dn text,
    OUT subject_dn_rfc2253 text,
    OUT issuer_dn text,
    OUT issuer_dn_rfc2253 text,
    OUT serial numeric,
    OUT serial_hex text,
    OUT not_before timestamptz,
    OUT not_after timestamptz,
    OUT san text[],
    OUT key text,
    OUT eku text[],
    OUT key_usage text[],
    OUT signature_algorithm text,
    OUT is_ca boolean,
    OUT self_signed boolean,
    OUT fingerprint text,
    OUT version integer
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_tls_certificate_bytea_1_0'
LANGUAGE C STRICT STABLE PARALLEL SAFE COST 1000 ROWS 1;

COMMENT ON FUNCTION pg_tls_certificate(bytea) IS
'what a certificate in DER says; works without preloading';

--
-- Privileges: what shows paths is for monitoring, what acts is for nobody
-- but superusers until it is granted
--

REVOKE ALL ON FUNCTION pg_tls_status() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_reloads() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_check() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_check_sessions() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_reload(interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_stat_tls_failures() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_stat_tls_handshakes() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_stat_tls_reset() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_stat_tls_clients() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_stat_tls_client_certificates() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_stat_tls_info() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_stat_tls_info() TO pg_monitor;
GRANT SELECT ON pg_stat_tls_info TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_stat_tls_clients() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_stat_tls_client_certificates() TO pg_monitor;
GRANT SELECT ON pg_stat_tls_clients TO pg_monitor;
GRANT SELECT ON pg_stat_tls_client_certificates TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_stat_tls_failures() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_stat_tls_handshakes() TO pg_monitor;
GRANT SELECT ON pg_stat_tls_failures TO pg_monitor;
GRANT SELECT ON pg_stat_tls_handshakes TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_status() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_reloads() TO pg_monitor;
GRANT SELECT ON pg_tls_status TO pg_monitor;
GRANT SELECT ON pg_tls_reloads TO pg_monitor;
REVOKE ALL ON FUNCTION pg_tls_files() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_certificates() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_crls() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_crl_entries() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_server_matches(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_tls_files() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_certificates() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_crls() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_crl_entries() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_server_matches(text) TO pg_monitor;
GRANT SELECT ON pg_tls_files TO pg_monitor;
GRANT SELECT ON pg_tls_certificates TO pg_monitor;
GRANT SELECT ON pg_tls_crls TO pg_monitor;
REVOKE ALL ON FUNCTION pg_tls_file_findings() FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_tls_hba_rules() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_tls_file_findings() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pg_tls_hba_rules() TO pg_monitor;
GRANT SELECT ON pg_tls_findings TO pg_monitor;

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
    OUT chain_error text,
    OUT crl_status text,
    OUT valid_until timestamptz,
    OUT checked_at timestamptz,
    OUT config_generation bigint
)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pg_stat_tls'
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
'TLS version';
COMMENT ON COLUMN pg_stat_tls.cipher IS
'cipher suite, by OpenSSL''s name';
COMMENT ON COLUMN pg_stat_tls.bits IS
'bits of the cipher''s key';
COMMENT ON COLUMN pg_stat_tls.client_dn IS
'subject of the client''s certificate, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls.client_serial IS
'serial number of the client''s certificate';
COMMENT ON COLUMN pg_stat_tls.issuer_dn IS
'issuer of the client''s certificate, in the form of pg_stat_ssl';
COMMENT ON COLUMN pg_stat_tls.encryption IS
'tls, gss, none (TCP in clear text) or local (Unix-domain socket)';
COMMENT ON COLUMN pg_stat_tls.key_exchange IS
'group that the key exchange negotiated, DH-bits for finite field groups of TLS 1.2, NULL for key transport by RSA';
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
COMMENT ON COLUMN pg_stat_tls.chain_error IS
'why the certificate is not acceptable, and how far from it in the chain';
COMMENT ON COLUMN pg_stat_tls.crl_status IS
'the CRLs: good, revoked, invalid, expired, missing or not_checked';
COMMENT ON COLUMN pg_stat_tls.valid_until IS
'when the certificate stops being acceptable if no file changes: the first end in its chain and the CRLs it was checked against';
COMMENT ON COLUMN pg_stat_tls.checked_at IS
'when the certificate was last verified; the clock is applied to the outcome at each reading';
COMMENT ON COLUMN pg_stat_tls.config_generation IS
'how often the server had loaded its TLS files when the session began';

--
-- One's own session
--

CREATE FUNCTION pg_tls_session()
RETURNS pg_stat_tls
AS 'MODULE_PATHNAME', 'pg_tls_session'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;

COMMENT ON FUNCTION pg_tls_session() IS
'the row of pg_stat_tls for one''s own session; works without preloading';

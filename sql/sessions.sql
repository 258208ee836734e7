--
-- Sessions, as far as those of a regression test go; test/t has the rest
--
CREATE EXTENSION pg_tls;

-- every session has its row, with the values of pg_stat_ssl, and there is no other
CREATE TEMP VIEW core AS
SELECT pid, ssl, version, cipher, bits, client_dn, client_serial, issuer_dn FROM pg_stat_ssl;
CREATE TEMP VIEW ours AS
SELECT pid, ssl, version, cipher, bits, client_dn, client_serial, issuer_dn FROM pg_stat_tls;
(SELECT 'not in pg_stat_tls' AS problem, * FROM (TABLE core EXCEPT ALL TABLE ours) missing)
UNION ALL
(SELECT 'not in pg_stat_ssl', * FROM (TABLE ours EXCEPT ALL TABLE core) surplus);
SELECT count(*) FROM core JOIN ours USING (pid) WHERE pid = pg_backend_pid();
DROP VIEW core, ours;

-- one's own row is the same by either way
SELECT count(*)
FROM pg_stat_tls t, pg_tls_session() s
WHERE t.pid = pg_backend_pid() AND t IS NOT DISTINCT FROM s;

SELECT s.encryption = CASE WHEN a.client_addr IS NULL THEN 'local'
                           WHEN s.ssl THEN 'tls' ELSE 'none' END AS encryption,
       s.ssl = (s.version IS NOT NULL) AS version,
       s.ssl = (s.config_generation IS NOT NULL) AS generation,
       s.auth_method IS NOT NULL AS auth_method,
       s.client_certificate = (s.client_fingerprint IS NOT NULL) AS certificate,
       s.client_certificate = (s.acceptable IS NOT NULL) AS verdict
FROM pg_tls_session() s JOIN pg_stat_activity a USING (pid);

-- a background process has no client, and so no row
SELECT count(*)
FROM pg_stat_tls JOIN pg_stat_activity USING (pid)
WHERE backend_type NOT IN ('client backend', 'walsender');

-- objects of another version: an error, and no row of other columns
\set VERBOSITY terse
CREATE FUNCTION few_columns(OUT pid integer, OUT ssl boolean) RETURNS SETOF record
AS '$libdir/pg_tls', 'pg_stat_tls_1_0' LANGUAGE C;
SELECT * FROM few_columns();
CREATE FUNCTION few_columns_of_mine(OUT pid integer, OUT ssl boolean) RETURNS record
AS '$libdir/pg_tls', 'pg_tls_session_1_0' LANGUAGE C;
SELECT * FROM few_columns_of_mine();
DROP FUNCTION few_columns(), few_columns_of_mine();
\set VERBOSITY default

-- a role sees the sessions of roles that it is a member of
CREATE ROLE regress_tls_nobody;
CREATE ROLE regress_tls_monitor IN ROLE pg_monitor;
SET ROLE regress_tls_nobody;
SELECT count(*) FROM pg_stat_tls;
SELECT pid = pg_backend_pid() AS mine FROM pg_tls_session();
RESET ROLE;
SET ROLE regress_tls_monitor;
SELECT count(*) FROM pg_stat_tls WHERE pid = pg_backend_pid();
RESET ROLE;
DROP ROLE regress_tls_nobody, regress_tls_monitor;
DROP EXTENSION pg_tls;

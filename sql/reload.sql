--
-- The server's TLS configuration, as far as a regression test goes
--
CREATE EXTENSION pg_tls;

SELECT ssl_setting = current_setting('ssl')::boolean AS setting,
       active = ssl_setting AS active,
       active = (generation IS NOT NULL) AS generation,
       attempts >= failures + active::integer AS counters,
       monitor_pid > 0 AS monitor,
       openssl_version LIKE 'OpenSSL %' AS openssl,
       verdicts_pending, chains_refused
FROM pg_tls_status;

SELECT count(*) <= 128 AS bounded, count(*) = least(128, (SELECT attempts FROM pg_tls_status)) AS complete
FROM pg_tls_reloads;

SELECT ok, error FROM pg_tls_check();

SELECT * FROM pg_tls_check_sessions();

-- bad timeouts
SELECT pg_tls_reload('0');
SELECT pg_tls_reload('-1 day');
SELECT pg_tls_reload(NULL);

-- who may see and do it
CREATE ROLE regress_tls_nobody;
CREATE ROLE regress_tls_monitor IN ROLE pg_monitor;
SET ROLE regress_tls_nobody;
SELECT * FROM pg_tls_status;
SELECT * FROM pg_tls_reloads;
SELECT pg_tls_check();
SELECT pg_tls_reload();
RESET ROLE;
SET ROLE regress_tls_monitor;
SELECT count(*) FROM pg_tls_status;
SELECT count(*) = least(128, (SELECT attempts FROM pg_tls_status)) AS complete FROM pg_tls_reloads;
SELECT pg_tls_check();
SELECT pg_tls_reload();
RESET ROLE;
GRANT EXECUTE ON FUNCTION pg_tls_check() TO regress_tls_nobody;
SET ROLE regress_tls_nobody;
SELECT ok FROM pg_tls_check();
RESET ROLE;
REVOKE ALL ON FUNCTION pg_tls_check() FROM regress_tls_nobody;
DROP ROLE regress_tls_nobody, regress_tls_monitor;
DROP EXTENSION pg_tls;

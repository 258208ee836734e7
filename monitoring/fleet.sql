-- The views of pg_tls over many servers, each with a column more that names
-- the server:
--
--   createdb fleet
--   psql -d fleet -f fleet.sql
--   psql -d fleet -c "SELECT fleet.add('db1', host => 'db1.example.org')"
--   psql -d fleet -c "SELECT * FROM fleet_tls_findings"
--
-- Run it as a superuser, in a database of its own, on the server that is to
-- ask the others.  doc/fleet.md tells what the others and pg_hba.conf need.
--
-- Each query opens a connection from this server to itself for each server
-- that it asks, and there reads a foreign table.  So the servers are asked
-- at the same time, one that is down is a row and not an error, and one that
-- hangs costs no more than the timeout: postgres_fdw alone has no such limit,
-- and from PostgreSQL 16 on does not heed connect_timeout.
--
-- Variables of psql, with their defaults:
--
--   timeout   5s   how long to wait for a server
--   at_once   20   how many servers to ask at the same time; each takes one of
--                  this server's max_connections
--   self           connection string by which this server connects to itself
--                  as the role fleet; by default over its Unix-domain socket

\set ON_ERROR_STOP on
\if :{?timeout}
\else
	\set timeout 5s
\endif
\if :{?at_once}
\else
	\set at_once 20
\endif
\if :{?self}
\else
	SELECT 'host=' || split_part(current_setting('unix_socket_directories'), ',', 1) AS self \gset
\endif

BEGIN;

-- Of pg_tls only the shape of its views is used: it need not be preloaded.
CREATE EXTENSION IF NOT EXISTS pg_tls;
CREATE EXTENSION IF NOT EXISTS postgres_fdw;

SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fleet') AS no_role \gset
\if :no_role
	CREATE ROLE fleet LOGIN;
\endif

-- For the role fleet alone: whoever could use an open connection of dblink
-- would have the rights of fleet.
CREATE SCHEMA fleet;
GRANT USAGE ON SCHEMA fleet TO fleet;
CREATE EXTENSION dblink SCHEMA fleet;
GRANT EXECUTE ON FUNCTION fleet.dblink_connect_u(text, text) TO fleet;

SELECT format('CREATE FUNCTION fleet.self() RETURNS text LANGUAGE sql STABLE AS %L',
              format('SELECT %L || current_setting(''port'')',
                     format('dbname=''%s'' user=fleet application_name=fleet %s port=',
                            replace(replace(current_database(), '\', '\\'), '''', '\'''), :'self')))
\gexec

COMMENT ON FUNCTION fleet.self() IS
'connection string by which this server connects to itself';

CREATE FUNCTION fleet.ask(
    view text,
    timeout interval,
    at_once integer,
    OUT server text,
    OUT server_error text,
    OUT data jsonb
)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, fleet, pg_temp
AS $$
DECLARE
    -- this server ends what nobody waits for any more, too
    self text := format('%s options=''-c statement_timeout=%s''', self(),
                        (extract(epoch FROM timeout) * 1000)::bigint);
    deadline timestamptz;
    servers text[];
    tables text[];
    detail text;
    c text;
BEGIN
    SELECT array_agg(s.srvname ORDER BY s.srvname), array_agg(format('fleet.%I', r.relname) ORDER BY s.srvname)
    INTO servers, tables
    FROM pg_foreign_table t
    JOIN pg_foreign_server s ON s.oid = t.ftserver
    JOIN pg_class r ON r.oid = t.ftrelid
    WHERE r.relnamespace = 'fleet'::regnamespace AND 'table_name=' || view = ANY (t.ftoptions);

    FOR start IN 1 .. coalesce(cardinality(servers), 0) BY at_once LOOP
        deadline := clock_timestamp() + timeout;
        FOR i IN start .. least(start + at_once - 1, cardinality(servers)) LOOP
            PERFORM dblink_connect_u('fleet ' || i, self);
            PERFORM dblink_send_query('fleet ' || i, format('SELECT to_jsonb(t) FROM %s t', tables[i]));
        END LOOP;
        FOR i IN start .. least(start + at_once - 1, cardinality(servers)) LOOP
            c := 'fleet ' || i;
            server := servers[i];
            data := NULL;
            WHILE dblink_is_busy(c) = 1 AND clock_timestamp() < deadline LOOP
                PERFORM pg_sleep(0.005);
            END LOOP;
            BEGIN
                IF dblink_is_busy(c) = 1 THEN
                    RAISE query_canceled;
                END IF;
                RETURN QUERY SELECT servers[i], NULL::text, r.d FROM dblink_get_result(c) r (d jsonb);
            EXCEPTION
                -- query_canceled is the other side's: none of ours can come here
                WHEN query_canceled THEN
                    server_error := format('no answer within %s', timeout);
                    RETURN NEXT;
                WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS server_error = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
                    -- on one line, and without libpq's advice
                    server_error := regexp_replace(trim(server_error || ': ' || detail, ': '), '\n\t[^\n]*', '', 'g');
                    server_error := regexp_replace(server_error, '\s*\n\s*', '; ', 'g');
                    RETURN NEXT;
            END;
            PERFORM dblink_disconnect(c);
        END LOOP;
    END LOOP;
EXCEPTION
    WHEN query_canceled OR OTHERS THEN
        -- no connection stays open
        PERFORM dblink_disconnect(n) FROM unnest(dblink_get_connections()) n WHERE n LIKE 'fleet %';
        RAISE;
END
$$;

-- The rights with which it connects.
ALTER FUNCTION fleet.ask(text, interval, integer) OWNER TO fleet;
REVOKE ALL ON FUNCTION fleet.ask(text, interval, integer) FROM PUBLIC;
-- Who may use the views; only in them, as the schema is closed to others.
GRANT EXECUTE ON FUNCTION fleet.ask(text, interval, integer) TO pg_monitor;

COMMENT ON FUNCTION fleet.ask(text, interval, integer) IS
'the rows of that view of pg_tls on all servers, or a row with an error for a server that does not answer';

CREATE TABLE fleet.views AS
    SELECT view, 'fleet_' || substr(view, 4) AS name
    FROM unnest(ARRAY[
        'pg_stat_tls', 'pg_stat_tls_clients', 'pg_stat_tls_client_certificates', 'pg_stat_tls_handshakes',
        'pg_stat_tls_failures', 'pg_stat_tls_info', 'pg_tls_status', 'pg_tls_reloads', 'pg_tls_files',
        'pg_tls_certificates', 'pg_tls_crls', 'pg_tls_findings']) view;

SELECT format('CREATE VIEW %I AS
                   SELECT a.server, a.server_error, r.*
                   FROM fleet.ask(%L, %L, %s) a, jsonb_populate_record(NULL::%s, a.data) r',
              name, view, :'timeout', :'at_once', view::regclass),
       format('COMMENT ON VIEW %I IS %L', name,
              'the view ' || view || ' on all servers; server_error tells why there is nothing of a server')
FROM fleet.views
WHERE view <> 'pg_tls_findings'
\gexec

-- A server that does not answer is a finding.
SELECT format('CREATE VIEW fleet_tls_findings AS
                   SELECT a.server,
                          CASE WHEN a.server_error IS NULL THEN r.severity ELSE ''critical'' END AS severity,
                          CASE WHEN a.server_error IS NULL THEN r.code ELSE ''no_answer'' END AS code,
                          r.object,
                          CASE WHEN a.server_error IS NULL THEN r.problem ELSE a.server_error END AS problem,
                          CASE WHEN a.server_error IS NULL THEN r.hint
                               ELSE ''See whether it is up, lets the role fleet in, and has pg_tls in that database.'' END AS hint,
                          r.reference
                   FROM fleet.ask(%L, %L, %s) a, jsonb_populate_record(NULL::%s, a.data) r
                   ORDER BY array_position(ARRAY[''critical'', ''warning'', ''info''], r.severity) NULLS FIRST,
                            a.server, r.code, r.object, r.problem',
              view, :'timeout', :'at_once', view::regclass)
FROM fleet.views
WHERE view = 'pg_tls_findings'
\gexec

COMMENT ON VIEW fleet_tls_findings IS
'what is wrong with the TLS of all servers, worst first, and which of them do not answer';

SELECT format('GRANT SELECT ON %I TO pg_monitor', name) FROM fleet.views
\gexec

CREATE FUNCTION fleet.add(
    server text,
    host text,
    port integer DEFAULT 5432,
    dbname text DEFAULT 'postgres',
    directory text DEFAULT '/etc/postgresql/fleet',
    schema text DEFAULT 'public'
)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, fleet, pg_temp
AS $$
DECLARE
    v record;
BEGIN
    IF octet_length(server) > 30 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('server name "%s" is longer than 30 bytes', server);
    END IF;
    EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER postgres_fdw
                    OPTIONS (host %L, port %L, dbname %L, sslmode ''verify-full'', sslrootcert %L,
                             connect_timeout ''5'', gssencmode ''disable'', fetch_size ''10000'')',
                   server, host, port, dbname, directory || '/ca.crt');
    -- The certificate takes the place of the password that postgres_fdw asks
    -- of everybody but superusers.
    EXECUTE format('CREATE USER MAPPING FOR fleet SERVER %I
                    OPTIONS (user ''fleet'', password_required ''false'', sslcert %L, sslkey %L)',
                   server, directory || '/fleet.crt', directory || '/fleet.key');
    FOR v IN
        SELECT view, server || '_' || view AS name,
               (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
                FROM pg_attribute
                WHERE attrelid = to_regclass(e.extnamespace::regnamespace || '.' || view)
                  AND attnum > 0 AND NOT attisdropped) AS columns
        FROM views, pg_extension e
        WHERE e.extname = 'pg_tls'
    LOOP
        EXECUTE format('CREATE FOREIGN TABLE fleet.%I (%s) SERVER %I OPTIONS (schema_name %L, table_name %L, updatable ''false'')',
                       v.name, v.columns, server, schema, v.view);
        EXECUTE format('GRANT SELECT ON fleet.%I TO fleet', v.name);
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION fleet.add(text, text, integer, text, text, text) FROM PUBLIC;

COMMENT ON FUNCTION fleet.add(text, text, integer, text, text, text) IS
'from now on ask that server, too, by the certificate fleet.crt and the key fleet.key in the directory, trusting ca.crt there; pg_tls is in that database and schema of it.  DROP SERVER ... CASCADE takes it away again';

COMMIT;

--
-- What the extension consists of
--
CREATE EXTENSION pg_tls;

-- every object says what it is for, and every column of every view
SELECT classid::regclass, objid, pg_describe_object(classid, objid, 0) AS object
FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
  AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
  AND obj_description(objid, classid::regclass::name) IS NULL;

SELECT attrelid::regclass, attname
FROM pg_attribute a
     JOIN pg_depend d ON d.objid = a.attrelid AND d.classid = 'pg_class'::regclass
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
  AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;

SELECT attrelid::regclass AS view, attnum, attname, format_type(atttypid, atttypmod) AS type
FROM pg_attribute a
     JOIN pg_depend d ON d.objid = a.attrelid AND d.classid = 'pg_class'::regclass
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
  AND attnum > 0
ORDER BY attrelid::regclass::text COLLATE "C", attnum;

-- the first columns are those of pg_stat_ssl (13 has one that 14 dropped)
SELECT count(*) AS columns,
       bool_and(t.attname = s.attname AND t.atttypid = s.atttypid) AS same
FROM (SELECT *, row_number() OVER (ORDER BY attnum) AS number
      FROM pg_attribute
      WHERE attrelid = 'pg_stat_ssl'::regclass AND attnum > 0 AND attname <> 'compression') s
     LEFT JOIN pg_attribute t ON t.attrelid = 'pg_stat_tls'::regclass AND t.attnum = s.number;

-- who may do what
SELECT relname AS view, has_table_privilege('public', c.oid, 'SELECT') AS public,
       has_table_privilege('pg_monitor', c.oid, 'SELECT') AS pg_monitor
FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
ORDER BY relname COLLATE "C";

SELECT p.oid::regprocedure AS function, has_function_privilege('public', p.oid, 'EXECUTE') AS public,
       has_function_privilege('pg_monitor', p.oid, 'EXECUTE') AS pg_monitor, prosecdef
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
ORDER BY proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";

-- settings, whatever this server has set
SELECT name, boot_val AS setting, unit, context, vartype
FROM pg_settings
WHERE name LIKE 'pg_tls.%'
ORDER BY name;

-- it may live in any schema, and stays there
CREATE SCHEMA "Tls schema";
ALTER EXTENSION pg_tls SET SCHEMA "Tls schema";
DROP EXTENSION pg_tls;
CREATE EXTENSION pg_tls SCHEMA "Tls schema";
SELECT count(*) > 0 AS rows FROM "Tls schema".pg_stat_tls;
SELECT pid = pg_backend_pid() AS mine FROM "Tls schema".pg_tls_session();
DROP SCHEMA "Tls schema" CASCADE;

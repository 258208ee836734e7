# Every object of the extension, by the catalog: what it is, who may use it, and what
# those see who may.  An object that is new fails here until somebody has thought of that.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $members = q(FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'pg_tls' AND d.deptype = 'e');

# signature | who but the owner may | volatility, parallel safety | strict | language | settings
my $functions = <<'END';
pg_stat_tls() | PUBLIC | v r | strict | c
pg_stat_tls_client_certificates() | pg_monitor | v r | strict | c
pg_stat_tls_clients() | pg_monitor | v r | strict | c
pg_stat_tls_failures() | pg_monitor | v r | strict | c
pg_stat_tls_handshakes() | pg_monitor | v r | strict | c
pg_stat_tls_info() | pg_monitor | v r | strict | c
pg_stat_tls_reset() | nobody | v u | strict | c
pg_tls_certificate(certificate bytea) | PUBLIC | s s | strict | c
pg_tls_certificate(certificate text) | PUBLIC | s s | strict | c
pg_tls_certificates() | pg_monitor | v u | strict | c
pg_tls_check() | nobody | v u | strict | c
pg_tls_check_sessions() | nobody | v u | strict | c
pg_tls_client_chain() | PUBLIC | s r | strict | c
pg_tls_client_dn_field(field text) | PUBLIC | s r | strict | c
pg_tls_client_extensions() | PUBLIC | s r | strict | c
pg_tls_crl_entries() | pg_monitor | v u | strict | c
pg_tls_crls() | pg_monitor | v u | strict | c
pg_tls_file_findings() | pg_monitor | v u | strict | c
pg_tls_files() | pg_monitor | v u | strict | c
pg_tls_finding_codes(wanted text) | PUBLIC | s s | not strict | c
pg_tls_hba_rules() | pg_monitor | v u | strict | plpgsql | SECURITY DEFINER search_path=pg_catalog, pg_temp
pg_tls_issuer_dn_field(field text) | PUBLIC | s r | strict | c
pg_tls_reload(timeout interval) | nobody | v u | not strict | c
pg_tls_reloads() | pg_monitor | v r | strict | c
pg_tls_serial_hex(serial numeric) | PUBLIC | i s | strict | c
pg_tls_server_matches(host text) | pg_monitor | v u | strict | c
pg_tls_session() | PUBLIC | v r | strict | c
pg_tls_status() | pg_monitor | v r | strict | c
pg_tls_verify(certificate text, intermediates text, trusted text, crls text, at timestamp with time zone, mode text) | PUBLIC | s s | not strict | c
END

# view | who but the owner may | columns
my $views = <<'END';
pg_stat_tls | PUBLIC | pid ssl version cipher bits client_dn client_serial issuer_dn encryption key_exchange post_quantum signature_algorithm client_signature_algorithm server_name alpn auth_method auth_identity client_certificate client_cn client_dn_rfc2253 client_san client_fingerprint client_key client_eku client_not_before client_not_after chain_length acceptable chain_status verify_error verify_depth crl_status valid_until checked_at config_generation
pg_stat_tls_client_certificates | pg_monitor | fingerprint usename subject_dn issuer_dn serial san key not_before not_after sessions first_seen_at last_seen_at last_client_addr stats_reset
pg_stat_tls_clients | pg_monitor | usename client_addr encryption version cipher key_exchange sessions first_seen_at last_seen_at stats_reset
pg_stat_tls_failures | pg_monitor | failed_at pid client_addr client_port usename datname reason error verify_error verify_depth subject_dn issuer_dn serial fingerprint not_before not_after stats_reset
pg_stat_tls_handshakes | pg_monitor | result reason count last_at stats_reset
pg_stat_tls_info | pg_monitor | client_evictions certificate_evictions stats_reset
pg_tls_certificates | pg_monitor | setting position state subject_dn subject_dn_rfc2253 issuer_dn issuer_dn_rfc2253 serial serial_hex not_before not_after san key eku signature_algorithm is_ca self_signed fingerprint has_crl problem
pg_tls_crls | pg_monitor | setting path state issuer_dn crl_number this_update next_update revoked delta status fingerprint problem
pg_tls_files | pg_monitor | setting path contents effect state owner mode size modified_at loaded_fingerprint disk_fingerprint problem
pg_tls_findings | pg_monitor | severity code object problem hint reference
pg_tls_reloads | pg_monitor | attempt generation attempted_at trigger ok error duration server_fingerprint server_not_after
pg_tls_status | pg_monitor | ssl_setting active generation loaded_at attempts failures last_attempt_at last_attempt_ok last_error reloadable server_fingerprint server_not_after min_version max_version ciphers groups openssl_version openssl_conf fips monitor_pid verdicts_pending verdicts_pending_since crl_signatures chains_refused chains_missing
END

# setting | context | type
my $settings = <<'END';
pg_tls.chain_memory | postmaster | integer
pg_tls.crl_signature_cache | postmaster | bool
pg_tls.expiry_warning | sighup | integer
pg_tls.failure_log_size | postmaster | integer
pg_tls.huge_pages | sighup | enum
pg_tls.invalid_sessions | sighup | enum
pg_tls.max_certificates | postmaster | integer
pg_tls.max_clients | postmaster | integer
pg_tls.prepare_context | sighup | bool
pg_tls.require_encryption | sighup | bool
pg_tls.save | sighup | bool
pg_tls.watch_files | sighup | enum
pg_tls.watch_interval | sighup | integer
END

# Of each function: who may use it.
my %may = map { /^(\S.*?) \| (\w+)/ ? ($1 => $2) : () } split /\n/, $functions . $views;

# What a role without rights must never see has one of these words in it.
$pki->cert('victim', issuer => 'int', subject => '/O=Example/CN=classified victim', san => ['DNS:classified.example']);
$pki->ca('strangers', subject => '/CN=classified CA');
$pki->cert('stranger', issuer => 'strangers', subject => '/CN=classified stranger');

my @hba = (
	'local all,replication all trust',
	'hostssl all classified_role all cert map=any',
	'host all in_clear all scram-sha-256',
	'hostssl all all all trust');
my %conf = (password_encryption => 'scram-sha-256');
my $c = TlsCluster->new(ssl => 1, pki => $pki, hba => \@hba, ident => ['any /.* classified_role'], conf => \%conf);
my $plain = TlsCluster->new(name => 'plain', ssl => 1, pki => $pki, hba => \@hba, ident => ['any /.* classified_role'],
	conf => \%conf, preload => '');
my $secret = join '|', 'classified', quotemeta($c->datadir), 'server\.(crt|key)', 'ca\.crt', 'crl\.pem';

$c->start;
my $admin = $c->session(unix => 1);
$admin->query(<<'END');
CREATE EXTENSION pg_tls;
CREATE ROLE alone LOGIN;
CREATE ROLE stats LOGIN IN ROLE pg_read_all_stats;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
CREATE ROLE classified_role LOGIN;
CREATE ROLE operator LOGIN;
CREATE ROLE in_clear LOGIN PASSWORD 'right';
END

# ------------------------------------------------------------------ the catalog

sub lines
{
	my ($text) = @_;

	return [ sort split /\n/, $text ];
}

is($admin->query("SELECT DISTINCT classid::regclass $members AND classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass)"), '',
	'the extension is made of functions, relations and types');
# Members themselves only since PostgreSQL 17.
is($admin->query(<<"END"), '', '... of which types are those of the relations\' rows, with no rights of their own');
SELECT t.typname FROM pg_type t
WHERE (oid IN (SELECT objid $members AND classid = 'pg_type'::regclass)
       AND NOT EXISTS (SELECT FROM pg_class c WHERE c.reltype IN (t.oid, t.typelem) AND c.oid IN (SELECT objid $members AND classid = 'pg_class'::regclass)))
   OR (typrelid IN (SELECT objid $members AND classid = 'pg_class'::regclass) AND typacl IS NOT NULL)
END
is($admin->query("SELECT DISTINCT relkind, relowner::regrole FROM pg_class WHERE oid IN (SELECT objid $members AND classid = 'pg_class'::regclass)"),
	'v|postgres', '... which are views, and its creator\'s');

my $who = sub { "coalesce((SELECT string_agg(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END"
	  . " || CASE WHEN privilege_type = '$_[2]' AND NOT is_grantable THEN '' ELSE ' ' || privilege_type END, ', ' ORDER BY 1)"
	  . " FROM aclexplode(coalesce($_[0]acl, acldefault('$_[1]', $_[0]owner))) WHERE grantee <> $_[0]owner), 'nobody')" };

is_deeply(
	lines($admin->query(
			"SELECT concat_ws(' | ', proname || '(' || (SELECT coalesce(string_agg(ltrim(coalesce(proargnames[n], '') || ' ')"
			  . " || format_type(t, NULL), ', ' ORDER BY n), '') FROM unnest(proargtypes) WITH ORDINALITY a (t, n)) || ')', "
			  . $who->('pro', 'f', 'EXECUTE')
			  . ", concat(provolatile, ' ', proparallel), CASE WHEN proisstrict THEN 'strict' ELSE 'not strict' END, lanname,"
			  . " NULLIF(concat_ws(' ', CASE WHEN prosecdef THEN 'SECURITY DEFINER' END, array_to_string(proconfig, '; '),"
			  . " CASE WHEN proleakproof THEN 'LEAKPROOF' END, CASE WHEN prosupport <> 0 THEN 'SUPPORT' END,"
			  . " CASE WHEN prokind <> 'f' THEN concat('kind ', prokind) END, CASE WHEN proowner <> 'postgres'::regrole THEN 'OWNER' END), ''))"
			  . " FROM pg_proc p JOIN pg_language l ON l.oid = prolang"
			  . " WHERE p.oid IN (SELECT objid $members AND classid = 'pg_proc'::regclass)")),
	lines($functions),
	'functions are those that are known here');
is_deeply(
	lines($admin->query(
			"SELECT concat_ws(' | ', relname, " . $who->('rel', 'r', 'SELECT')
			  . ", (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0), reloptions::text)"
			  . " FROM pg_class c WHERE oid IN (SELECT objid $members AND classid = 'pg_class'::regclass)")),
	lines($views),
	'so are views and their columns');
is($admin->query("SELECT count(*) FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid IN (SELECT objid $members AND classid = 'pg_class'::regclass)"),
	0, 'no column has rights of its own');
is($admin->query("SELECT DISTINCT probin FROM pg_proc WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND oid IN (SELECT objid $members)"),
	'$libdir/pg_tls', 'all in C are in one library');
is_deeply(
	lines($admin->query("SELECT concat_ws(' | ', name, context, vartype) FROM pg_settings WHERE name LIKE 'pg\\_tls.%'")),
	lines($settings),
	'settings: none is for sessions to change, none is a path or any other text');

is($admin->query(<<"END"), '', 'each object has a comment');
SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
WHERE oid IN (SELECT objid $members AND classid = 'pg_proc'::regclass) AND obj_description(oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'view ' || relname FROM pg_class
WHERE oid IN (SELECT objid $members AND classid = 'pg_class'::regclass) AND obj_description(oid, 'pg_class') IS NULL
UNION ALL
SELECT 'column ' || attrelid::regclass || '.' || attname FROM pg_attribute
WHERE attnum > 0 AND attrelid IN (SELECT objid $members AND classid = 'pg_class'::regclass) AND col_description(attrelid, attnum) IS NULL
UNION ALL
SELECT 'extension' FROM pg_extension WHERE extname = 'pg_tls' AND obj_description(oid, 'pg_extension') IS NULL
END

# ------------------------------------------------------------------ the names

# The rules of doc/reference.md, over all columns of views and all results of
# functions.  Each is a condition that no column meets.
my $columns = <<"END";
SELECT relname AS object, attname::text AS column, atttypid::regtype::text AS type,
       lead(attname::text) OVER (PARTITION BY attrelid ORDER BY attnum) AS next
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE attnum > 0 AND attrelid IN (SELECT objid $members AND classid = 'pg_class'::regclass)
UNION ALL
SELECT proname || '()', name, type::regtype::text, lead(name) OVER (PARTITION BY p.oid ORDER BY n)
FROM pg_proc p, unnest(proargnames, proallargtypes, proargmodes) WITH ORDINALITY a (name, type, mode, n)
WHERE mode IN ('o', 'b', 't') AND p.oid IN (SELECT objid $members AND classid = 'pg_proc'::regclass)
END
my $is_moment = q(("column" ~ '_(at|since|until)$' OR "column" ~ '(^|_)(not_(before|after)|(this|next)_update)$' OR "column" = 'stats_reset'));
my @rules = (
	[ 'moments, and nothing else, are named as such', "(type = 'timestamp with time zone') <> $is_moment", q('x', 'loaded_time', 'timestamp with time zone', ''), q('x', 'loaded_at', 'text', '') ],
	[ 'moments know their time zone', "type ~ '^(timestamp without|date\$|time )'", q('x', 'day', 'date', '') ],
	[ 'digests are fingerprints, in hexadecimal', q("column" ~ 'sha|md5|digest|hash|thumbprint' OR "column" ~ 'fingerprint' AND ("column" !~ '(^|_)fingerprint$' OR type <> 'text')),
		q('x', 'sha256', 'text', ''), q('x', 'fingerprint', 'bytea', '') ],
	[ 'files are paths, and settings are settings', q("column" ~ '^(source|file|filename|file_path|directory|guc|parameter)$' OR "column" = 'file_name' AND object <> 'pg_tls_hba_rules()'),
		q('x', 'source', 'text', ''), q('x', 'file_name', 'text', '') ],
	[ 'what is wrong is an error or a problem', q("column" ~ 'error|message|finding' AND "column" !~ '^((last|verify)_)?error(_code)?$'), q('x', 'chain_error', 'text', '') ],
	[ 'verify_error has verify_depth beside it, which stands nowhere else', q("column" ~ 'depth' AND "column" <> 'verify_depth'
		OR "column" = 'verify_error' AND coalesce(next, '') NOT IN ('verify_depth', 'error_code')),
		q('x', 'depth', 'integer', ''), q('x', 'verify_error', 'text', 'reason') ],
	[ 'roles are usename name, databases datname name', q("column" IN ('usename', 'datname') AND type <> 'name'
		OR ("column" ~ '^(role|rolname|user|username|user_name|usesysid|database|dbname)$' OR type = 'name') AND "column" NOT IN ('usename', 'datname') AND object <> 'pg_tls_hba_rules()'),
		q('x', 'usename', 'text', ''), q('x', 'database', 'text', ''), q('x', 'owner', 'name', '') ],
	[ 'addresses are addr, of type inet', q("column" ~ 'addr' AND ("column" !~ '(^|_)client_addr$' OR type <> 'inet') AND object <> 'pg_tls_hba_rules()'), q('x', 'last_addr', 'inet', '') ],
	[ 'only statistics have stats_reset', q("column" = 'stats_reset' AND object !~ '^pg_stat_tls_'), q('pg_tls_status', 'stats_reset', 'timestamp with time zone', '') ]);

foreach my $rule (@rules)
{
	my ($name, $wrong, @examples) = @$rule;

	is($admin->query(qq(SELECT object || '.' || "column" FROM ($columns) c WHERE $wrong ORDER BY 1)), '', "names: $name");
	is($admin->query(qq(SELECT count(*) FROM (VALUES ($_)) c (object, "column", type, next) WHERE $wrong)), 1, "... or else: $_") for @examples;
}
cmp_ok($admin->query("SELECT count(*) FROM ($columns) c"), '>', 300, 'of so many columns');
is($admin->query("SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_type t ON t.oid = prorettype WHERE typtype = 'c' AND p.oid IN (SELECT objid $members AND classid = 'pg_proc'::regclass)"),
	'', 'no function returns the row type of a view');
is($admin->query(<<"END"), '', 'functions of the library are versioned, each its own');
SELECT p.oid::regprocedure, prosrc FROM pg_proc p JOIN pg_language l ON l.oid = prolang
WHERE lanname = 'c' AND p.oid IN (SELECT objid $members AND classid = 'pg_proc'::regclass)
  AND prosrc !~ ('^' || proname || '(_' || oidvectortypes(proargtypes) || ')?_[0-9]+_[0-9]+\$')
END
is($admin->query(<<"END"), '', 'statistics are those of pg_stat_tls_..., and say since when');
SELECT relname FROM pg_class c
WHERE oid IN (SELECT objid $members AND classid = 'pg_class'::regclass) AND relname LIKE 'pg\\_stat\\_tls\\_%'
  AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'stats_reset')
END
SKIP:
{
	my $src = $ENV{PG_TLS_SRC} or skip 'PG_TLS_SRC does not name the sources', 1;

	unlike(slurp("$_"), qr/^\s*(?:DO\b|EXECUTE\b(?! ON))/mi, "$_ is plain SQL") for glob "$src/pg_tls--*.sql";
}

# ------------------------------------------------------- who sees and does what

my $pem = slurp($pki->crt('alice'));
my $der = $admin->query("SELECT decode('" . join('', $pem =~ /^([\w+\/=]+)$/mg) . "', 'base64')");
my %call = map { /^(\w+)\(\) / ? ("$1()" => "SELECT * FROM $1()") : /^(\w+) \| / ? ($1 => "SELECT * FROM $1") : () }
  split /\n/, $functions . $views;

%call = (%call,
	'pg_tls_certificate(certificate bytea)' => "SELECT * FROM pg_tls_certificate('$der'::pg_catalog.bytea)",
	'pg_tls_certificate(certificate text)' => "SELECT * FROM pg_tls_certificate('$pem')",
	'pg_tls_client_dn_field(field text)' => q(SELECT pg_tls_client_dn_field('CN')),
	'pg_tls_issuer_dn_field(field text)' => q(SELECT pg_tls_issuer_dn_field('CN')),
	'pg_tls_serial_hex(serial numeric)' => 'SELECT pg_tls_serial_hex(1)',
	'pg_tls_server_matches(host text)' => q(SELECT pg_tls_server_matches('localhost')),
	'pg_tls_finding_codes(wanted text)' => 'SELECT * FROM pg_tls_finding_codes()',
	'pg_tls_reload(timeout interval)' => 'SELECT * FROM pg_tls_reload()',
	(grep { /^pg_tls_verify/ } keys %may)[0] => "SELECT * FROM pg_tls_verify('$pem')");
is(join(' ', grep { !$call{$_} } sort keys %may), '', 'each is called here');

# Another's session, failed handshakes, a failed reload, an error in pg_hba.conf.
my $victim = $c->session(user => 'classified_role', cert => 'victim');
ok($victim->connected, 'there is another\'s session') or diag $victim->error;
$c->psql('SELECT 1', cert => 'stranger', user => 'classified_role');
$c->psql('SELECT 1', user => 'classified_role');
my $key = slurp($c->tls('server.key'));
spew($c->tls('server.key'), "classified\n");
$c->reload;
ok($c->poll_query('SELECT last_attempt_ok FROM pg_tls_status', 'f', unix => 1), '... and a reload that failed');
spew($c->tls('server.key'), $key);
$c->poll_query("SELECT count(*) >= 2 FROM pg_stat_tls_failures WHERE usename = 'classified_role' OR subject_dn ~ 'classified'", 't', unix => 1);
my $victim_fingerprint = $admin->query(q(SELECT client_fingerprint FROM pg_stat_tls WHERE client_cn ~ 'classified'));
like($victim_fingerprint, qr/^[0-9a-f]{64}$/, '... whose fingerprint is known');
$secret .= "|$victim_fingerprint";

my %session = (postgres => $admin, map { $_ => $c->session(user => $_, cert => 'alice') } qw(alone stats monitor));
my %all;    # everything that a role was told

foreach my $role (qw(alone stats monitor postgres))
{
	foreach my $object (sort keys %call)
	{
		my ($name) = $object =~ /^(\w+)/;
		my $kind = $object =~ /\(/ ? 'function' : 'view';
		my $allowed = $role eq 'postgres' || $may{$object} eq 'PUBLIC' || ($role eq 'monitor' && $may{$object} eq 'pg_monitor');
		my ($ok, $out, $err) = $session{$role}->try_query($call{$object});

		$all{$role} .= "$out\n$err\n";
		if ($allowed)
		{
			ok($ok, "$role may: $object") or diag $err;
		}
		else
		{
			like($err, qr/^(psql:\S*\s*)?ERROR:  permission denied for $kind $name\n?\z/, "$role may not: $object");
			is($out, '', '... and is told nothing else');
		}
		next if $role ne 'alone';
		(undef, $out, $err) = $session{$role}->try_query("EXPLAIN (ANALYZE, VERBOSE) $call{$object}");
		$all{$role} .= "$out\n$err\n";
	}
}
unlike($all{alone}, qr/$secret/i, 'a role without rights is told nothing of others, of files or of failures');
like($all{stats}, qr/$victim_fingerprint/, 'pg_read_all_stats sees others\' sessions');
unlike($all{stats}, qr/classified (stranger|CA)|server\.key|ca\.crt/, '... but no failures, and no files');
like($all{monitor}, qr/$_/, "pg_monitor sees $_")
  for 'classified victim', 'classified stranger', 'server\.key', quotemeta 'could not load private key file';
is($session{alone}->query('SELECT count(*), bool_and(pid = pg_backend_pid()), min(client_cn) FROM pg_stat_tls'), '1|t|alice', 'one\'s own session is in the view');
is($session{alone}->query('SELECT count(*) FROM pg_stat_tls WHERE pid = ' . $victim->pid), 0, '... the other\'s is not');
is($session{alone}->query('SELECT pid = pg_backend_pid(), client_cn FROM pg_tls_session()'), 't|alice', '... and so is the function');

# A function that tells what it is given, and that the planner takes for cheap.
my $leak = <<'END';
CREATE OR REPLACE FUNCTION pg_temp.leak(anyelement) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql
AS 'BEGIN RAISE NOTICE ''given %'', $1; RETURN true; END';
SELECT count(*) FROM pg_stat_tls s WHERE pg_temp.leak(s) AND pg_temp.leak(s.client_dn);
END
my $leaked = ($session{alone}->try_query($leak))[2];
like($leaked, qr/given .*CN=alice/, 'a leaky condition is given one\'s own row');
unlike($leaked, qr/$secret/i, '... and no other');
like(($session{stats}->try_query($leak))[2], qr/given .*classified victim/, '... but what its role may see');

# Workers, settings, and acting.
is($session{monitor}->query(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg\\_tls%')), 0, 'workers have no session');
my %processes = $c->children;
is(scalar(grep { /pg_tls monitor/ } values %processes), 1, '... though one always runs');
foreach my $setting (map { /^(\S+)/ } @{ lines($settings) })
{
	is(($session{alone}->try_query("SHOW $setting"))[0], 1, "$setting can be seen");
	like(($session{alone}->try_query("SET $setting TO DEFAULT"))[2], qr/ERROR:  parameter "$setting" cannot be changed (now|without restarting the server)/, '... and not be set');
	like(($session{alone}->try_query("ALTER SYSTEM SET $setting TO DEFAULT"))[2], qr/ERROR:  (must be superuser|permission denied)/, '... nor in the file');
}
# Its message may be among those of a reload that failed.
is(($session{monitor}->try_query('SHOW ssl_passphrase_command'))[0], 1, 'pg_monitor may read the command for the passphrase');
like(($session{alone}->try_query("CREATE FUNCTION pg_temp.f() RETURNS record AS '\$libdir/pg_tls', 'pg_tls_check_1_0' LANGUAGE c"))[2],
	qr/permission denied for language c/, 'no role makes functions of its own of the library');

# What a DBA grants is what is got.
$admin->query('GRANT EXECUTE ON FUNCTION pg_tls_check() TO operator');
my $operator = $c->session(user => 'operator');
is($operator->query('SELECT ok FROM pg_tls_check()'), 't', 'what is granted works');
like(($operator->try_query('SELECT * FROM pg_tls_check_sessions()'))[2], qr/permission denied/, '... and nothing else');

# No function takes a path: each text is tried with that of a file that fits.
foreach my $path (map { ($_, "file://$_", "\@$_") } $c->datadir . '/tls/ca.crt')
{
	foreach my $argument (qw(certificate intermediates trusted crls mode))
	{
		my %arguments = (certificate => $pem, $argument => $path);
		my $call = 'pg_tls_verify(' . join(', ', map { "$_ => '$arguments{$_}'" } sort keys %arguments) . ')';

		like(($admin->try_query("SELECT * FROM $call"))[2], qr/ERROR:  .*(contains no (certificates|CRLs)|mode)/, "pg_tls_verify: $argument is no path");
	}
	like(($admin->try_query("SELECT * FROM pg_tls_certificate('$path')"))[2], qr/ERROR:  .*contains no certificates/, 'pg_tls_certificate: nor there');
	like(($admin->try_query("SELECT * FROM pg_tls_certificate(convert_to('$path', 'UTF8'))"))[2], qr/ERROR:  .*is not a certificate/, '... as bytes');
	like(($admin->try_query("SELECT pg_tls_${_}_dn_field('$path')"))[2], qr/ERROR:  invalid field/, "pg_tls_${_}_dn_field") for qw(client issuer);
	is($admin->query("SELECT pg_tls_server_matches('$path')"), 'f', 'pg_tls_server_matches');
}

# pg_hba.conf: what stands in an option may be a password, also where the line is
# wrong, and wherever the rest of one with spaces, commas or quotes ends up.
my $net = 'hostssl all all 192.0.2.1/32';
my @good_lines = (
	"$net ldap ldapserver=x ldapbasedn=y ldapbinddn=z ldapbindpasswd=swordfish",
	"$net ldap ldapserver=x ldapbasedn=y ldapbinddn=z ldapbindpasswd=\"the swordfish = x\"",
	"$net ldap ldapserver=x ldapbasedn=y ldapbinddn=z ldapbindpasswd=\"a, \"\"swordfish\"\"\"",
	"$net ldap ldapurl=\"ldap://swordfish\@x:389/y?swordfish?sub\"",
	"$net radius radiusservers=192.0.2.1 radiussecrets=swordfish",
	"$net radius \"radiusservers=192.0.2.1,192.0.2.2\" \"radiussecrets=\"\"a b\"\",\"\"swordfish\"\"\"");
my @bad_lines = (
	(map { "$net $_" }
		'ldap ldapserver=x ldapbasedn=y ldapbinddn=z ldapbindpasswd=the swordfish',
		'ldap ldapserver=x ldapbindpasswd=the swordfish=x',
		'ldap ldapserver=x ldapbindpasswd=the "swordfish=x"',
		'ldap ldapserver=x ldapbindpasswd=the, swordfish=x',
		'ldap ldapserver=x ldapbindpasswd="the","swordfish=x"',
		'ldap ldapserver=x ldapbindpasswd="the" swordfish= x',
		'ldap ldapserver=x ldapbindpasswd=the x"" swordfish ""y=z',
		'ldap ldapserver=x ldapbindpasswd=the "x"" swordfish ""y=z"',
		'ldap ldapserver=x ldapbindpasswd=the clientcert=swordfish',
		'ldap ldapserver=x ldapbindpasswd=the ldapport=swordfish',
		'ldap ldapserver=x ldapbindpasswd=the ldapscope=1 ldapurl=swordfish:x',
		'ldap ldapserver=x ldapbindpasswd=the @swordfish',
		'ldap ldapserver=x ldapbindpasswd=the,@swordfish',
		'ldap ldapserver=x ldapbindpasswd:swordfish',
		'ldap ldapserver=x ldapbindpasswd = swordfish',
		'ldapbindpasswd=swordfish ldap ldapserver=x',
		'"ldapbindpasswd=a""swordfish" ldap ldapserver=x',
		'ldap ldapserver=x ldapport=swordfish',
		'ldap ldapurl=swordfish://x',
		'ldap ldapurl=ldap://u:swordfish@x:y:z/',
		'ldap ldapurl=ldap://x/y swordfish=z',
		"ldap ldapserver=x ldapbindpasswd=\xe4 swordfish\xe4=\xe4",
		'radius radiusservers=192.0.2.1 radiussecrets="a","swordfish=x"',
		'radius radiusservers=192.0.2.1 radiussecrets="a", swordfish=x',
		'radius radiusservers=192.0.2.1 radiussecrets=the swordfish=x',
		'radius radiusservers=192.0.2.1 "radiussecrets=""swordfish"" x"',
		'radius radiusservers=192.0.2.1 "radiussecrets=a,swordfish,b"',
		'radius radiusservers=192.0.2.1 radiussecrets=the radiusports=swordfish',
		'swordfish=x', 'swordfish', '"x"" swordfish ""y"', 'password authentication method "swordfish"'),
	"$net ldap ldapserver=x ldapbindpasswd=\"the\nswordfish=x\"",
	"$net ldap ldapserver=x ldapbindpasswd=the \\\nswordfish=x",
	"$net ldap ldapserver=x ldapbindpasswd=the\nswordfish all all all trust",
	"hostssl all all 192.0.2.1/swordfish=x ldap", 'hostssl all all swordfish/99 ldap', 'hostssl all all 192.0.2.1 swordfish=x ldap',
	TlsCluster->pg_version < 16 ? () : 'hostssl all "/swordfish(" all ldap', 'hostssl all @swordfish all ldap');
my @hba_views = ('SELECT r::text FROM pg_tls_hba_rules() r', 'SELECT f::text FROM pg_tls_findings f');

sub keeps_secret
{
	my ($line) = @_;
	my $is_bad = $admin->query('SELECT count(*) FROM pg_hba_file_rules WHERE type IS NULL') > 0 ? 1 : 0;
	my $shown = join "\n", map { $session{monitor}->query($_) } @hba_views;

	unlike($shown, qr/sword ?fish/, "kept secret: $line");
	is($shown =~ /hba_error/ ? 1 : 0, $is_bad, $is_bad ? '... and found to be wrong' : '... which is right');
	return;
}

foreach my $line (@good_lines, @bad_lines)
{
	$c->set_hba(@hba, $line);
	keeps_secret($line);
}
if (TlsCluster->pg_version >= 16)
{
	$c->set_hba(@hba, 'include swordfish.conf');
	keeps_secret('a file to be included that is missing');
	spew($c->datadir . '/more.conf', "$_\n"), $c->set_hba(@hba, 'include more.conf'), keeps_secret("included: $_") for @bad_lines;
	spew($c->datadir . '/more', "swordfish(,\"/swordfish(\"\n");
	$c->set_hba(@hba, 'hostssl all @more all ldap ldapserver=x ldapbindpasswd=the swordfish=x');
	keeps_secret('roles from a file');
}

# What is wrong is told by the number of the line, whatever the server says of it.
# It is an error where the server does not load the file for it.
foreach my $case (
	(map { [$_] } 'hostssl all all nonsense/99 scram-sha-256', "$net trust ldapserver=x", "$net magic", $net, 'nonsense', $good_lines[0]),
	# of which the server says something, and loads it
	[ "$net ldap ldapserver=x ldapbasedn=y ldapscheme=nonsense" ],
	[ $net . ' trust', ssl => 'off' ])
{
	my ($line, %conf) = @$case;
	my $mark = $c->log_mark;

	$c->set_conf(\%conf);
	$c->set_hba(@hba, $line);
	$c->reload;
	ok($c->wait_for_log(qr/received SIGHUP/, $mark), "reloaded: $line");
	# the postmaster lets nobody in until that is over
	my $number = $c->query('SELECT max(line_number) FROM pg_hba_file_rules', unix => 1);
	my $is_bad = $c->log_since($mark) =~ /pg_hba\.conf" was not reloaded|pg_hba\.conf was not reloaded/;

	note $is_bad ? 'an error' : 'none';
	is($session{monitor}->query('SELECT error FROM pg_tls_hba_rules() WHERE error IS NOT NULL'),
		$is_bad ? "line $number cannot be read" : '', 'an error, if it is one for the server');
	is($session{monitor}->query(q(SELECT object, problem FROM pg_tls_findings WHERE code = 'hba_error')),
		$is_bad ? "line $number of pg_hba.conf|line $number cannot be read" : '', '... which is a finding');
	$c->set_conf({ map { $_ => 'on' } keys %conf });
}
cmp_ok($admin->query(q(SELECT count(rule_number), max(rule_number), count(DISTINCT rule_number) FROM pg_tls_hba_rules())),
	'eq', join('|', (scalar @hba + 1) x 3), 'lines are numbered');
$c->set_hba(@hba);
$c->reload;

# ------------------------------------------------------------ hostile search_path

# Functions and operators of all names that the views and the one function in
# PL/pgSQL use, with the same arguments as the server's, and with others that fit
# better; and types.  Whoever calls one raises an error.
my $traps = <<'SQL';
CREATE SCHEMA hostile AUTHORIZATION attacker;
SET ROLE attacker;
SET check_function_bodies = off;
DO $do$
DECLARE
    source text := (SELECT string_agg(pg_get_viewdef(oid), ' ') FROM pg_class WHERE relname ~ '^pg_(stat_)?tls' AND relkind = 'v')
        || (SELECT prosrc FROM pg_proc WHERE proname = 'pg_tls_hba_rules')
        || ' btrim( ';
    trap text := $$ LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trapped''; END'$$;
    few text[] := '{text,name,integer,bigint,timestamptz,inet,boolean,text[]}';
    fewer text[] := '{text,name,integer,timestamptz}';
    f record;
    functions integer := 0;
    operators integer := 0;
BEGIN
    FOR f IN
        WITH names AS (SELECT (regexp_matches(source, '([a-z_0-9]+)\(', 'g'))[1] AS name
                       INTERSECT SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace)
        SELECT name, a FROM names, unnest(few) a
        UNION SELECT name, a || ',' || b FROM names, unnest(few) a, unnest(few) b
        UNION SELECT name, a || ',' || b || ',' || c FROM names, unnest(fewer) a, unnest(fewer) b, unnest(fewer) c
        UNION SELECT name, 'text,' || a || ',' || b || ',' || c FROM names, unnest(fewer) a, unnest(fewer) b, unnest(fewer) c WHERE name = 'format'
        UNION SELECT name, '' FROM names
    LOOP
        EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS text', f.name, f.a) || trap;
        functions := functions + 1;
    END LOOP;
    FOR f IN SELECT a, b FROM unnest(few) a, unnest(few) b LOOP
        EXECUTE format('CREATE FUNCTION hostile.trap_op(%s, %s) RETURNS boolean', f.a, f.b) || trap;
    END LOOP;
    FOR f IN
        SELECT name, a, b FROM unnest(few) a, unnest(few) b,
            (SELECT DISTINCT oprname AS name FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace
             AND position(' ' || oprname || ' ' IN source) > 0) o
    LOOP
        EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.trap_op)', f.name, f.a, f.b);
        operators := operators + 1;
    END LOOP;
    RAISE NOTICE 'traps: % functions, % operators', functions, operators;
END
$do$;
CREATE FUNCTION hostile.trapped() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
SELECT format('CREATE DOMAIN hostile.%I AS pg_catalog.%1$I CHECK (hostile.trapped())', t)
FROM unnest('{text,name,int4,int8,bool,inet,timestamptz,interval,numeric,bytea,jsonb,float8}'::text[]) t \gexec
RESET ROLE;
RESET check_function_bodies;
SQL

$admin->query('CREATE ROLE attacker; GRANT CREATE ON DATABASE postgres TO attacker');
my $notices = ($admin->try_query($traps))[2];
my ($trap_functions, $trap_operators) = $notices =~ /traps: (\d+) functions, (\d+) operators/;
cmp_ok($trap_functions // 0, '>', 1000, 'traps are set') or diag $notices;
cmp_ok($trap_operators // 0, '>', 500, '... for operators, too');

my $trapped = sub {
	my ($s, $sql) = @_;
	my ($ok, $out, $err) = $s->try_query($sql);

	return "$out\n$err" =~ /trapped/ ? 1 : 0;
};

foreach my $role (qw(monitor postgres))
{
	my $s = $c->session(user => $role, cert => 'alice');

	$admin->query('GRANT USAGE ON SCHEMA hostile TO PUBLIC');
	$s->query('SET search_path = hostile, pg_catalog, public');
	# that they would be noticed
	ok($trapped->($s, $_), "$role is trapped by: $_")
	  for q(SELECT lower('A'::pg_catalog.text)), q(SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text),
	  q(SELECT current_setting('port')), q(SELECT '::1'::inet);
	foreach my $object (grep { $role eq 'postgres' || $may{$_} ne 'nobody' } sort keys %call)
	{
		my $sql = $call{$object} =~ s/\b(pg_(?:stat_)?tls\w*)/public.$1/r;
		my ($ok, $out, $err) = $s->try_query($sql);

		ok($ok, "$role, traps first in search_path: $object") or diag $err;
		unlike("$out$err", qr/trapped/, '... none is touched');
	}
}
{
	my $s = $c->session(user => 'monitor');

	$s->query(q(CREATE TEMP VIEW pg_hba_file_rules AS SELECT 'trapped'::text AS error;
		CREATE FUNCTION pg_temp.pg_hba_file_rules() RETURNS SETOF text LANGUAGE sql AS $$SELECT 'trapped'::text$$;
		CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (VALUE = 'trapped')));
	$s->query('SET search_path = pg_temp, pg_catalog');
	my ($ok, $out, $err) = $s->try_query('SELECT * FROM public.pg_tls_hba_rules()');
	ok($ok, 'temporary objects do not matter either') or diag $err;
	unlike("$out$err", qr/trapped/, '... to the function with its owner\'s rights');
}

# The same when the extension is made, in a schema that the attacker has filled.
$admin->query('DROP EXTENSION pg_tls');
$admin->query(<<'END');
SET ROLE attacker;
CREATE FUNCTION hostile.pg_stat_tls(VARIADIC pg_catalog.int4[]) RETURNS SETOF pg_catalog.pg_stat_ssl LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION hostile.pg_tls_status(VARIADIC pg_catalog.text[]) RETURNS SETOF pg_catalog.pg_stat_ssl LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
RESET ROLE;
SET search_path = hostile, pg_catalog;
CREATE EXTENSION pg_tls SCHEMA hostile;
RESET search_path;
END
is($admin->query("SELECT count(*) > 20 $members"), 't', 'the extension is made where an attacker has prepared everything');
# What comes with the server has smaller numbers.
my $foreign = <<"END";
SELECT r.ev_class::regclass || ' needs ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
WHERE r.ev_class IN (SELECT objid $members AND classid = 'pg_class'::regclass)
  AND d.refobjid >= 16384
  AND (d.refclassid, d.refobjid) NOT IN (SELECT d.classid, d.objid $members)
END
is($admin->query($foreign), '', '... and its views use nothing of that');
foreach my $object (sort keys %call)
{
	my $sql = $call{$object} =~ s/\b(pg_(?:stat_)?tls\w*)/hostile.$1/r;
	my ($ok, $out, $err) = $admin->try_query($sql);

	ok($ok, "made among traps: $object") or diag $err;
	unlike("$out$err", qr/trapped/, '... none is touched');
}
$admin->query('DROP EXTENSION pg_tls');

# What an attacker can do there is to be in the way.
foreach my $way (
	[ 'CREATE VIEW hostile.pg_stat_tls AS SELECT 1', 'DROP VIEW hostile.pg_stat_tls', qr/relation "pg_stat_tls" already exists/ ],
	[ 'CREATE FUNCTION hostile.pg_tls_check() RETURNS void LANGUAGE sql AS $$$$', 'DROP FUNCTION hostile.pg_tls_check()', qr/function "pg_tls_check" already exists with same argument types/ ],
	[ 'CREATE FUNCTION hostile.pg_tls_status(x pg_catalog.int4 DEFAULT 1) RETURNS void LANGUAGE sql AS $$$$', 'DROP FUNCTION hostile.pg_tls_status(pg_catalog.int4)', qr/function .*pg_tls_status\(\) is not unique/ ])
{
	my ($make, $drop, $error) = @$way;

	$admin->query("SET ROLE attacker; $make; RESET ROLE");
	like(($admin->try_query('CREATE EXTENSION pg_tls SCHEMA hostile'))[2], $error, "fails in the presence of: $make");
	is($admin->query(q(SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'pg_tls'), (SELECT count(*) FROM pg_proc WHERE proname ~ '^pg_(stat_)?tls' AND proowner = 'postgres'::regrole))),
		'0|0', '... and leaves nothing behind');
	$admin->query($drop);
}

# ------------------------------------------------------- schemas, owners, databases

foreach my $schema ('Upper', 'with "quotes"', q(it's), 'a.b', 'select', '@schema@', '$view$', '@extschema@', 'x' x 63, "\xc3\xa4\xc3\xb6", ' ', '\\')
{
	my $quoted = '"' . $schema =~ s/"/""/gr . '"';
	$admin->query("CREATE SCHEMA $quoted");
	my ($ok, undef, $err) = $admin->try_query("CREATE EXTENSION pg_tls SCHEMA $quoted");
	if ($err =~ /ERROR:  (invalid (?:character|string) in extension "pg_tls" schema)/)
	{
		like($schema, qr/["\$'\\]|\@extschema\@/, "PostgreSQL refuses $quoted: $1");
		next;
	}
	ok($ok, "made in schema $quoted") or diag $err;
	is($admin->query("SELECT count(*) FROM $quoted.pg_stat_tls WHERE pid = pg_backend_pid()"), 1, '... works');
	is(($admin->try_query("SELECT * FROM $quoted.pg_tls_findings"))[0], 1, '... with its findings');
	is($admin->query("SELECT DISTINCT nspname FROM pg_namespace n WHERE oid IN (SELECT relnamespace FROM pg_class WHERE oid IN (SELECT objid $members)"
			  . " UNION SELECT pronamespace FROM pg_proc WHERE oid IN (SELECT objid $members))"), $schema, '... and all of it is there');
	like(($admin->try_query('ALTER EXTENSION pg_tls SET SCHEMA public'))[2], qr/extension "pg_tls" does not support SET SCHEMA/, '... and stays');
	$admin->query('DROP EXTENSION pg_tls');
}

$admin->query('CREATE SCHEMA theirs AUTHORIZATION attacker; CREATE EXTENSION pg_tls SCHEMA theirs');
like(($admin->try_query("SET ROLE attacker; $_"))[2], qr/must be owner of|because extension pg_tls requires it/, "a schema's owner may not: $_")
  for 'DROP EXTENSION pg_tls', 'ALTER EXTENSION pg_tls SET SCHEMA hostile', 'DROP VIEW theirs.pg_stat_tls',
  'CREATE OR REPLACE FUNCTION theirs.pg_tls_check(OUT ok boolean, OUT error text, OUT warnings text[]) LANGUAGE sql AS $$SELECT true, NULL::text, NULL::text[]$$',
  'ALTER FUNCTION theirs.pg_tls_hba_rules() RESET ALL';
is(($admin->try_query('SET ROLE attacker; DROP SCHEMA theirs CASCADE; RESET ROLE'))[0], 1, '... but may drop the schema with all that is in it');
is($admin->query(q(RESET ROLE; SELECT count(*) FROM pg_extension WHERE extname = 'pg_tls')), 0, '... the extension, too, and whole');

# The control file: only superusers make it, and owners of databases are none.
is($admin->query(q(SELECT superuser, trusted, relocatable, requires FROM pg_available_extension_versions WHERE name = 'pg_tls')), 't|f|f|{plpgsql}', 'the control file');
$admin->query('CREATE ROLE owner LOGIN');
$admin->query('CREATE DATABASE owned OWNER owner');
like(($c->psql('CREATE EXTENSION pg_tls', user => 'owner', dbname => 'owned'))[2], qr/permission denied to create extension "pg_tls"\nHINT:  Must be superuser/, 'the owner of a database may not make it');
$c->query('CREATE EXTENSION pg_tls', unix => 1, dbname => 'owned');
like(($c->psql($_, user => 'owner', dbname => 'owned'))[2], qr/must be owner of extension pg_tls/, "... nor: $_")
  for 'DROP EXTENSION pg_tls', 'ALTER EXTENSION pg_tls SET SCHEMA pg_temp';
like(($c->psql($_, user => 'owner', dbname => 'owned'))[2], qr/permission denied/, "... nor: $_")
  for 'GRANT EXECUTE ON FUNCTION pg_tls_reload(interval) TO owner', 'SELECT * FROM pg_tls_reload()';

# Other superusers, and what becomes of their objects.
$c->query('DROP EXTENSION pg_tls; CREATE ROLE dba SUPERUSER LOGIN; CREATE ROLE next_dba SUPERUSER', unix => 1, dbname => 'owned');
$c->query('CREATE EXTENSION pg_tls; GRANT EXECUTE ON FUNCTION pg_tls_check() TO operator', unix => 1, user => 'dba', dbname => 'owned');
my $in = sub { $c->query($_[0], unix => 1, dbname => 'owned', user => $_[1] // 'postgres') };
$in->('DROP OWNED BY operator');
is($in->(q(SELECT has_function_privilege('operator', 'pg_tls_check()', 'EXECUTE'), count(*) FROM pg_extension WHERE extname = 'pg_tls')), 'f|1', 'DROP OWNED takes a grant back');
$in->('REASSIGN OWNED BY dba TO next_dba');
is($in->(q(SELECT DISTINCT proowner::regrole FROM pg_proc WHERE proname ~ '^pg_(stat_)?tls')), 'next_dba', 'REASSIGN OWNED hands all of it on');
is($in->('SELECT count(*) > 0 FROM pg_tls_hba_rules() WHERE error IS NULL', 'monitor'), 't', '... and what needs its owner\'s rights has them');
$in->('REASSIGN OWNED BY next_dba TO alone');
is($in->('SELECT error FROM pg_tls_hba_rules()', 'monitor'), 'permission denied for function pg_hba_file_rules', '... or says that it has not');
$in->('DROP OWNED BY alone');
is($in->(q(SELECT count(*) FROM pg_extension WHERE extname = 'pg_tls')), 0, 'DROP OWNED of the owner drops the extension');

# ------------------------------------------------------------------ strangers

# What those are told that do not get in is what they are told without pg_tls.
$plain->start;
$plain->query(q(CREATE ROLE classified_role LOGIN; CREATE ROLE in_clear LOGIN PASSWORD 'right'), unix => 1);
$c->set_conf({ 'pg_tls.require_encryption' => 'on' });
$c->reload;
ok($c->poll_query('SHOW pg_tls.require_encryption', 'on', unix => 1), 'pg_tls.require_encryption is on');
foreach my $client (
	{ user => 'classified_role' },
	{ user => 'classified_role', cert => 'stranger', ssl_max_protocol_version => 'TLSv1.2' },
	{ user => 'classified_role', cert => 'revoked', ssl_max_protocol_version => 'TLSv1.2' },
	{ user => 'postgres', cert => 'expired', ssl_max_protocol_version => 'TLSv1.2' },
	{ user => 'classified_role', ssl => 'disable' },
	{ user => 'nobody', ssl => 'disable' },
	{ user => 'nobody' },
	{ user => 'in_clear', password => 'wrong' },
	{ user => 'in_clear', password => 'wrong', ssl => 'disable' })
{
	my @told = map {
		my $port = $_->port;

		($_->psql('SELECT 1', %$client))[2] =~ s/\b$port\b/PORT/gr
	} $c, $plain;

	isnt($told[0], '', 'a stranger is refused: ' . join ' ', map { "$_=$client->{$_}" } sort keys %$client);
	is($told[0], $told[1], '... as without pg_tls');
}
like(($c->psql('SELECT 1', user => 'in_clear', password => 'right', ssl => 'disable'))[2], qr/FATAL:  connection is not encrypted/,
	'only who has the password is told of pg_tls.require_encryption');

$victim->close;
$_->close for values %session;
$c->stop;
is(sprintf('%04o', (stat $c->datadir . '/pg_stat_tmp/pg_tls.stat')[2] & 07777), '0600', 'what is kept across restarts is the server\'s own');

done_testing();

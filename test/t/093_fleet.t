# monitoring/fleet.sql: the views over several servers, of which some are down,
# hang, or lack the extension.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use Test::More;
use Time::HiRes qw(time);

use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'the server has no postgres_fdw'
  unless -e TlsCluster->pg_config('sharedir') . '/extension/postgres_fdw.control';

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $timeout = 15;    # seconds; those who are well have to answer within it

$pki->cert($_, issuer => 'int', subject => "/CN=$_") for qw(fleet repl);

# ------------------------------------------------------------------ the fleet

my @hba = (
	'local all,replication all trust',
	'hostssl all fleet all cert',
	'hostssl replication repl all cert',
	'hostssl all postgres all cert map=alice');
my @server = (ssl => 1, pki => $pki, hba => \@hba, ident => [ 'alice alice postgres' ]);
my $primary = TlsCluster->new(@server, name => 'primary');
my $standby = TlsCluster->new(@server, name => 'standby', conf => { hot_standby => 'on' });
my $third = TlsCluster->new(@server, name => 'third');
my %server = (primary => $primary, standby => $standby, third => $third);

sub setup
{
	my ($c) = @_;

	$c->start;
	$c->query(<<'SQL', unix => 1);
CREATE EXTENSION pg_tls;
CREATE ROLE fleet LOGIN IN ROLE pg_monitor;
CREATE ROLE repl LOGIN REPLICATION;
SQL
	return;
}

setup($_) for $primary, $third;

$standby->follow($primary, user => 'repl', cert => 'repl');
$standby->start;
ok($primary->poll_query(
		"SELECT ssl FROM pg_stat_tls JOIN pg_stat_replication USING (pid) WHERE usename = 'repl'", 't', unix => 1),
	'a standby streams over TLS');

# ------------------------------------------------------- the one that asks them

my $user = getpwuid $>;
my $central = TlsCluster->new(
	name => 'central',
	preload => '',
	hba => [ 'local fleet fleet peer map=fleet', 'local all fleet reject', 'local all all trust' ],
	ident => [ "fleet $user fleet" ]);
my $files = "$dir/fleet";

make_path($files);
spew("$files/ca.crt", slurp("$dir/pki/ca.pem"));
spew("$files/fleet.crt", slurp($pki->chain('fleet')));
spew("$files/fleet.key", slurp($pki->key('fleet')));
chmod 0600, "$files/fleet.key" or die;

sub ask
{
	my ($sql, %opts) = @_;

	return $central->query($sql, unix => 1, dbname => 'fleet', %opts);
}

$central->start;
$central->query('CREATE DATABASE fleet', unix => 1);
$central->query(slurp('monitoring/fleet.sql'), unix => 1, dbname => 'fleet', args => [ '-v', "timeout=${timeout}s" ]);
is(ask('SELECT count(*) FROM fleet_tls_status'), 0, 'no servers, no rows');
ask(sprintf q{SELECT fleet.add('%s', host => 'localhost', port => %d, directory => '%s')}, $_, $server{$_}->port, $files)
  for sort keys %server;

# ------------------------------------------------------------------- all is well

is(ask('SELECT server, server_error, ssl_setting, active FROM fleet_tls_status ORDER BY server'),
	"primary||t|t\nstandby||t|t\nthird||t|t", 'a row of each server');
is(ask('SELECT server, count(*), count(*) FILTER (WHERE state = $$current$$) FROM fleet_tls_files GROUP BY server ORDER BY server'),
	"primary|6|4\nstandby|6|4\nthird|6|4", 'several rows of each');
is(ask(q{SELECT server, version, client_cn, acceptable, client_san IS NULL FROM fleet_stat_tls WHERE client_cn = 'fleet' ORDER BY server}),
	join("\n", map { "$_|TLSv1.3|fleet|t|t" } sort keys %server),
	'they are asked over TLS, by certificate');
is(ask(q{SELECT server, encryption, auth_method FROM fleet_stat_tls WHERE client_cn = 'repl'}),
	'primary|tls|cert', 'the standby is a session of the primary');
is(ask(q{SELECT DISTINCT code FROM fleet_tls_findings WHERE problem IS NULL OR code = 'no_answer'}), '', 'all of them answer');
is(ask('SELECT count(DISTINCT server) FROM fleet_tls_certificates'), 3, 'fleet_tls_certificates');

# The whole of each row comes through: as it is on the server itself.
my @views = map { $$_[0] } $central->query_rows('SELECT view FROM fleet.views ORDER BY 1', unix => 1, dbname => 'fleet');

cmp_ok(scalar @views, '>=', 11, 'all views');
foreach my $view (grep { /certificates|crls|files|reloads/ } @views)
{
	my $row = 'md5(string_agg(v::text, $$;$$ ORDER BY v::text))';
	my $here = ask(sprintf "SELECT $row FROM (SELECT (to_jsonb(f) - 'server' - 'server_error')::text AS v FROM fleet_%s f WHERE server = 'third') x",
		substr $view, 3);

	# with the time zone, by which timestamps are written
	is($here, $third->query("SELECT $row FROM (SELECT to_jsonb(f)::text AS v FROM $view f) x", unix => 1), "$view as on the server");
}
foreach my $view (@views)
{
	my $name = 'fleet_' . substr $view, 3;

	is(ask("SELECT count(*) FROM $name WHERE " . ($view =~ /findings/ ? q{code = 'no_answer'} : 'server_error IS NOT NULL')),
		0, "$name: no errors");
}

# ------------------------------------------------------------------ one is down

# What is told of each server: its rows, or its error.
my $told = q{SELECT server, coalesce(server_error, count(setting)::text) FROM fleet_tls_files GROUP BY server, server_error ORDER BY server};

$third->stop;
like(ask($told), qr/\Aprimary\|6\nstandby\|6\nthird\|could not connect to server "third": [^\n]*Connection refused\z/,
	'one is down: a row says which and why, and the others are told of');
like(ask('SELECT server, severity, code, problem, hint FROM fleet_tls_findings LIMIT 1'),
	qr/\Athird\|critical\|no_answer\|could not connect .*\|See whether it is up/, '... which is the first finding');
$third->start;
is(ask($told), "primary|6\nstandby|6\nthird|6", 'it is up again: so are its rows');

# The primary is down: its standby is not.
$primary->stop;
like(ask($told), qr/\Aprimary\|could not connect .*\nstandby\|6\nthird\|6\z/, 'the primary is down');
$primary->start;
is(ask($told), "primary|6\nstandby|6\nthird|6", 'and up again');

# ------------------------------------------------ it answers, but has no rows

$third->query('DROP EXTENSION pg_tls', unix => 1);
like(ask($told), qr/\Aprimary\|6\nstandby\|6\nthird\|relation "public\.pg_tls_files" does not exist\z/, 'one lacks the extension');
$third->query('CREATE EXTENSION pg_tls', unix => 1);

$third->set_hba('local all all trust', 'hostssl all fleet all reject');
$third->reload;
ok($central->poll_query($told, qr/^third\|.*pg_hba\.conf rejects/m, unix => 1, dbname => 'fleet'), 'one does not let it in');
$third->set_hba(@hba);
$third->reload;
ok($central->poll_query($told, qr/^third\|6/m, unix => 1, dbname => 'fleet'), '... and now does');

# A server's own rights: pg_monitor is all that the role needs, and has.
like(($primary->psql('SELECT pg_tls_reload()', user => 'fleet', cert => 'fleet'))[2], qr/permission denied/, 'the role may not reload');

# ----------------------------------------------------------------- one hangs

sub timed
{
	my ($sql, $expected, $what) = @_;
	my $start = time;
	my $answer = ask($sql);
	my $took = time - $start;

	like($answer, $expected, $what);
	# what else the machine does must not matter
	cmp_ok($took, '<', $timeout + 100, sprintf '... and takes %.1f s', $took);
	return;
}

my $silent = qr/\Aprimary\|6\nstandby\|6\nthird\|(?:no answer within 00:00:$timeout|could not connect .*timeout expired)\z/;

kill 'STOP', $third->pid;
timed($told, $silent, 'one hangs before it lets anybody in');
kill 'CONT', $third->pid;

# Or later: a view of the same name that takes its time.
$third->query(<<'SQL', unix => 1);
CREATE SCHEMA slow;
CREATE VIEW slow.pg_tls_files AS SELECT f.* FROM public.pg_tls_files f, pg_sleep(600);
GRANT USAGE ON SCHEMA slow TO fleet;
GRANT SELECT ON slow.pg_tls_files TO fleet;
SQL
ask(q{ALTER FOREIGN TABLE fleet.third_pg_tls_files OPTIONS (SET schema_name 'slow')});
timed($told, $silent, 'one hangs while it answers');
ok($third->poll_query(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'fleet'}, 0, unix => 1),
	'... and is not left to it');

# Who does not want to wait leaves nothing open.
my $s = $central->session(unix => 1, dbname => 'fleet');

$s->query("SET statement_timeout = '1s'");
like(($s->try_query($told))[2], qr/statement timeout/, 'whoever asks may give up');
is($s->query(q{SET statement_timeout = 0; SELECT fleet.dblink_get_connections()}), '', '... and leaves no connection');
ask(q{ALTER FOREIGN TABLE fleet.third_pg_tls_files OPTIONS (SET schema_name 'public')});
is($s->query($told), "primary|6\nstandby|6\nthird|6", '... and can ask again');
ok($central->poll_query(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'fleet'}, 0, unix => 1), 'nothing is left of all this');

# ------------------------------------------------------------------- who may ask

$central->query('CREATE ROLE auditor LOGIN IN ROLE pg_monitor; CREATE ROLE somebody LOGIN', unix => 1);
is(ask($told, user => 'auditor'), "primary|6\nstandby|6\nthird|6", 'a member of pg_monitor');

sub refused
{
	my ($role, $sql) = @_;
	my ($rc, undef, $err) = $central->psql($sql, unix => 1, dbname => 'fleet', user => $role);

	return ok($rc && $err =~ /permission denied/, "$role: $sql") || diag($err);
}

refused('somebody', 'SELECT * FROM fleet_tls_status');
foreach my $role (qw(somebody auditor))
{
	refused($role, $_)
	  for q{SELECT * FROM fleet.ask('pg_tls_status', '1s', 1)}, q{SELECT * FROM fleet.third_pg_tls_status},
	  q{SELECT fleet.dblink_get_connections()}, q{SELECT fleet.add('x', 'localhost')};
	is(ask(q{SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NOT NULL}, user => $role), 0, "$role does not see how it connects");
}

# ---------------------------------------------------------------- fewer, and more

ask('DROP SERVER third CASCADE');
is(ask($told), "primary|6\nstandby|6", 'a server is taken away');
like(($central->psql(q{SELECT fleet.add(repeat('x', 31), 'localhost')}, unix => 1, dbname => 'fleet'))[2],
	qr/server name "x+" is longer than 30 bytes/, 'a name that is too long');

# More servers than are asked at once.
$central->query('CREATE DATABASE few', unix => 1);
$central->set_hba('local few fleet peer map=fleet', 'local all all trust');
$central->reload;
$central->query(slurp('monitoring/fleet.sql'), unix => 1, dbname => 'few', args => [ '-v', 'at_once=2', '-v', 'timeout=20s' ]);
$central->query(
	(sprintf q{SELECT fleet.add('Server "' || i || '"', host => 'localhost', port => %d, directory => '%s') FROM generate_series(1, 5) i},
		$third->port, $files),
	unix => 1, dbname => 'few');
is($central->query('SELECT string_agg(server, $$ $$ ORDER BY server) FROM fleet_tls_status WHERE active', unix => 1, dbname => 'few'),
	join(' ', map { qq{Server "$_"} } 1 .. 5), 'a few at a time, and odd names');

$_->stop for values %server;
done_testing();

# Servers that are each other's clients over TLS, with certificates: base
# backups, a standby and one below it, promotion, pg_rewind, logical replication,
# postgres_fdw and dblink.

use strict;
use warnings;

use File::Path qw(remove_tree);
use File::Temp ();
use IPC::Run ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $bin = TlsCluster->pg_config('bindir');
my @servers = qw(standby cascade subscriber fdw);

$pki->cert($_, issuer => 'int', subject => "/O=Example/CN=$_") for @servers;

my %crl = (good => slurp("$dir/pki/crls.pem"));

foreach my $name ('alice', 'cascade', 'subscriber')
{
	$pki->crl('int', out => "$dir/$name.crl", revoked => [ 'revoked', $name ]);
	$crl{$name} = slurp($pki->crl_path('root')) . slurp("$dir/$name.crl");
}

my %conf = (
	wal_level => 'logical',
	wal_log_hints => 'on',
	wal_receiver_status_interval => 1,
	wal_retrieve_retry_interval => '200ms',
	wal_keep_size => '64MB',
	'pg_tls.crl_signature_cache' => 'on');
my @hba = (
	'local all,replication all trust',
	'hostssl all,replication ' . join(',', @servers) . ' all cert',
	'host all all all trust');
my @views = qw(pg_stat_tls pg_tls_status pg_tls_reloads pg_tls_files pg_tls_certificates pg_tls_crls
  pg_stat_tls_failures pg_stat_tls_info pg_stat_tls_handshakes pg_stat_tls_clients pg_stat_tls_client_certificates pg_tls_findings);

sub server
{
	my ($name) = @_;

	return TlsCluster->new(name => $name, ssl => 1, pki => $pki, conf => \%conf, hba => \@hba);
}

sub runs
{
	my ($what, @cmd) = @_;
	my $out = '';

	IPC::Run::run(\@cmd, '<', \undef, '>&', \$out, IPC::Run::timeout($TlsCluster::TIMEOUT));
	return ok($? == 0, $what) || (diag($out), 0)[1];
}

# How one server connects to another: it verifies that one, too.
sub conninfo
{
	my ($to, $as, %o) = @_;

	return $to->connstr(ssl => 'verify-full', sslcrl => "$dir/pki/crls.pem", cert => $as, user => $as, %o);
}

# A copy of a server, made over TLS, which will follow it.
sub standby_of
{
	my ($from, $as) = @_;
	my $s = server($as);

	remove_tree($s->datadir);
	runs("$as: pg_basebackup", "$bin/pg_basebackup", '-D', $s->datadir, '-d', conninfo($from, $as), '-c', 'fast', '--no-sync')
	  or BAIL_OUT('no base backup');
	$s->set_conf({ primary_conninfo => conninfo($from, $as, application_name => $as) });
	spew($s->datadir . '/standby.signal', '');
	return $s;
}

sub q1 { my ($c, $sql, %o) = @_; return $c->query($sql, unix => 1, %o) }

sub load_crl
{
	my ($c, $which) = @_;

	spew($c->tls('crl.pem'), $crl{$which});
	return q1($c, 'SELECT ok FROM pg_tls_reload()');
}

# The row of a client that is a server.
sub walsender
{
	my ($c, $as) = @_;

	return q1($c, "SELECT t.client_cn, t.auth_method, t.acceptable, t.chain_status, t.version"
		  . " FROM pg_stat_tls t JOIN pg_stat_activity a USING (pid)"
		  . " WHERE a.backend_type = 'walsender' AND a.application_name = '$as'");
}

# Who was seen as a client, of those who are no servers, and who failed.
sub history
{
	my ($c) = @_;

	return q1($c, q{SELECT coalesce(string_agg(client_cn, ' ' ORDER BY client_cn), '') FROM (
		SELECT substr(subject_dn, 15) AS client_cn FROM pg_stat_tls_client_certificates
		UNION ALL SELECT 'failed ' || substr(subject_dn, 15) FROM pg_stat_tls_failures) s
		WHERE client_cn NOT IN ('standby', 'cascade', 'subscriber', 'fdw')});
}

# Until the monitor of a server that has just started has read what was saved.
sub wait_for_monitor
{
	my ($c) = @_;
	my $s = $c->session(cert => 'alice');

	is(q1($c, 'SELECT ok FROM pg_tls_reload()'), 't', $c->name . ': reload');
	ok($c->poll_query('SELECT checked_at >= loaded_at FROM pg_stat_tls, pg_tls_status WHERE pid = ' . $s->pid, 't', unix => 1),
		$c->name . ': the monitor works');
	$s->close;
}

my $primary = server('primary');

$primary->start;
q1($primary, "CREATE ROLE $_ LOGIN REPLICATION") for @servers;
q1($primary, 'CREATE EXTENSION pg_tls; GRANT pg_monitor TO fdw; CREATE TABLE t (i integer PRIMARY KEY)');
$primary->query('SELECT 1', cert => 'bob');
$primary->psql('SELECT 1', cert => 'revoked');
$primary->restart;    # which saves that
$primary->poll_until(sub { history($primary) eq 'bob failed revoked' });
is(history($primary), 'bob failed revoked', 'the primary has a history');

my $standby = standby_of($primary, 'standby');

is(join(' ', grep { -f } glob $standby->datadir . '/*/pg_tls*'), '', 'a base backup has no file of ours');
is(q1($primary, q{SELECT sessions >= 2 FROM pg_stat_tls_client_certificates WHERE usename = 'standby'}), 't',
	'pg_basebackup was seen');

subtest 'standby' => sub {
	$standby->start;
	ok($primary->poll_until(sub { walsender($primary, 'standby') eq 'standby|cert|t|valid|TLSv1.3' }), 'its WAL sender is seen')
	  or diag walsender($primary, 'standby');
	$standby->poll_query('SELECT pg_is_in_recovery()', 't', unix => 1);
	is(q1($standby, 'SELECT active, generation, attempts, monitor_pid IS NOT NULL FROM pg_tls_status'), 't|1|1|t', 'status');
	wait_for_monitor($standby);
	is(history($standby), 'alice', 'what the primary saw of clients is not shown as its own');
	is(q1($standby, 'SELECT count(*) FROM pg_stat_tls WHERE pid IN (SELECT pid FROM pg_stat_wal_receiver)'), 0,
		'the WAL receiver is no client');
	is(($standby->psql("SELECT * FROM $_", unix => 1))[2], '', $_) for @views;
	is(q1($standby, 'SELECT ok, error FROM pg_tls_check()'), 't|', 'dry run');
	is(q1($standby, 'SELECT generation FROM pg_tls_status'), 2, 'its loads are its own');
	is(q1($primary, 'SELECT generation FROM pg_tls_status'), 1, '... and the primary has others');

	my $there = $primary->session(cert => 'alice');
	my $here = $standby->session(cert => 'alice');

	is(load_crl($standby, 'alice'), 't', 'a CRL for the standby');
	ok($standby->poll_query('SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $here->pid, 'f', unix => 1), 'is heeded there');
	is(q1($primary, 'SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $there->pid), 't', '... and not on the primary');
	isnt(($standby->psql('SELECT 1', cert => 'alice'))[0], 0, 'a client fails');
	is(history($standby), 'alice failed alice', '... and is seen');
	is(q1($standby, q{SELECT count(*) FROM pg_tls_findings WHERE code = 'session_not_acceptable'}), 1, 'findings');
	is(load_crl($standby, 'good'), 't', 'the old CRL again');
	like(($standby->psql('DROP EXTENSION pg_tls', unix => 1))[2], qr/in a read-only transaction/, 'nobody drops it here');
	$_->close for $here, $there;

	$standby->restart;
	ok($standby->poll_until(sub { history($standby) eq 'alice failed alice' }), 'its own history outlives it') or diag history($standby);
	is(history($primary), 'alice bob failed revoked', 'and the primary has its own');
};

my $cascade = standby_of($standby, 'cascade');

subtest 'a standby of a standby' => sub {
	$cascade->start;
	ok($standby->poll_until(sub { walsender($standby, 'cascade') eq 'cascade|cert|t|valid|TLSv1.3' }), 'the WAL sender of a standby')
	  or diag walsender($standby, 'cascade');
	wait_for_monitor($cascade);
	is(history($cascade), 'alice', 'with a history of its own');
	q1($primary, 'INSERT INTO t VALUES (1)');
	ok($cascade->poll_query('SELECT count(*) FROM t', '1', unix => 1), 'rows arrive');
};

subtest 'promotion' => sub {
	my $session = $standby->session(cert => 'alice');
	my $row = 'SELECT client_cn, acceptable FROM pg_stat_tls WHERE pid = ' . $session->pid;
	my $before = q1($standby, 'SELECT monitor_pid, generation, attempts FROM pg_tls_status');

	is(q1($standby, 'SELECT pg_promote()'), 't', 'promoted');
	is(q1($standby, 'SELECT pg_is_in_recovery()'), 'f', 'it is a primary');
	is(q1($standby, 'SELECT monitor_pid, generation, attempts FROM pg_tls_status'), $before, 'the same monitor and loads');
	is(q1($standby, $row), 'alice|t', 'the same session');
	is(history($standby), 'alice failed alice', 'the same history');
	ok($session->alive, 'which lives');
	is(q1($standby, 'SELECT ok FROM pg_tls_reload()'), 't', 'reload');
	q1($standby, 'DROP EXTENSION pg_tls; CREATE EXTENSION pg_tls; INSERT INTO t VALUES (2)');
	ok($cascade->poll_query('SELECT count(*) FROM t', '2', unix => 1), 'the standby below follows');
	is(walsender($standby, 'cascade'), 'cascade|cert|t|valid|TLSv1.3', 'its WAL sender');
	is(($cascade->psql("SELECT * FROM $_", unix => 1))[2], '', "$_ of the new extension") for @views;
};

subtest 'a standby whose certificate is revoked' => sub {
	$standby->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
	is(load_crl($standby, 'cascade'), 't', 'revoked');
	ok($standby->poll_until(sub { walsender($standby, 'cascade') eq '' }), 'its WAL sender ends');
	ok($standby->poll_query('SELECT reason, subject_dn FROM pg_stat_tls_failures LIMIT 1',
			'certificate_revoked|/O=Example/CN=cascade', unix => 1), 'it does not come back');
	q1($standby, 'INSERT INTO t VALUES (3)');
	is(load_crl($standby, 'good'), 't', 'no longer revoked');
	ok($cascade->poll_query('SELECT count(*) FROM t', '3', unix => 1), 'then it does, and follows');
};

subtest 'pg_rewind' => sub {
	q1($standby, 'CHECKPOINT');    # tells of the new timeline
	q1($primary, 'INSERT INTO t VALUES (100)');
	$primary->stop;
	runs('pg_rewind', "$bin/pg_rewind", '-D', $primary->datadir, '--source-server', $standby->connstr(unix => 1), '--no-sync')
	  or return;
	$primary->set_conf({ primary_conninfo => conninfo($standby, 'standby', application_name => 'rewound') });
	spew($primary->datadir . '/standby.signal', '');
	$primary->start;
	ok($primary->poll_query('SELECT count(*) FROM t', '3', unix => 1), 'the old primary follows the new one');
	is(walsender($standby, 'rewound'), 'standby|cert|t|valid|TLSv1.3', 'its WAL sender');
	wait_for_monitor($primary);
	unlike(history($primary), qr/failed alice/, 'it does not show what the new one saw');
};
$_->stop for $primary, $cascade;

my $other = server('subscriber');

subtest 'logical replication' => sub {
	$other->start;
	q1($other, "CREATE ROLE $_ LOGIN" ) for @servers;
	q1($other, 'CREATE EXTENSION pg_tls; CREATE TABLE t (i integer PRIMARY KEY)');
	q1($standby, 'CREATE PUBLICATION p FOR TABLE t; GRANT SELECT ON t TO subscriber; CREATE ROLE nobody');
	my $conninfo = conninfo($standby, 'subscriber') =~ s/'/''/gr;

	q1($other, "CREATE SUBSCRIPTION s CONNECTION '$conninfo' PUBLICATION p");
	ok($other->poll_query('SELECT count(*) FROM t', '3', unix => 1), 'rows are copied');
	ok($standby->poll_until(sub { walsender($standby, 's') eq 'subscriber|cert|t|valid|TLSv1.3' }), 'its WAL sender is seen');
	is(q1($other, 'SELECT count(*) FROM pg_stat_tls WHERE pid IN (SELECT pid FROM pg_stat_subscription)'), 0, 'its workers are no clients');
	is(q1($other, 'SELECT ok FROM pg_tls_reload()'), 't', 'the subscriber reloads');
	q1($standby, 'INSERT INTO t VALUES (4)');
	ok($other->poll_query('SELECT count(*) FROM t', '4', unix => 1), 'rows arrive');

	is(load_crl($standby, 'subscriber'), 't', 'its certificate is revoked');
	ok($standby->poll_until(sub { walsender($standby, 's') eq '' }), 'its WAL sender ends');
	ok($standby->poll_query('SELECT reason, subject_dn FROM pg_stat_tls_failures LIMIT 1',
			'certificate_revoked|/O=Example/CN=subscriber', unix => 1), 'it does not come back');
	q1($standby, 'INSERT INTO t VALUES (5)');
	is(load_crl($standby, 'good'), 't', 'no longer revoked');
	ok($other->poll_query('SELECT count(*) FROM t', '5', unix => 1), 'then it does, and rows arrive');
	is(q1($other, q{SELECT coalesce(sum(count), 0) FROM pg_stat_tls_handshakes WHERE result = 'failed'}), 0,
		"the subscriber's own failures as a client are no failures of its clients");
	q1($other, 'DROP SUBSCRIPTION s');
};

# A backend that is a server to its client, and a client to another server, or
# to its own.
my $has_fdw = 2 == grep { -f TlsCluster->pg_config('pkglibdir') . "/$_.so" } 'postgres_fdw', 'dblink';

note 'there is no postgres_fdw or dblink' unless $has_fdw;
subtest 'postgres_fdw and dblink' => sub {
	my $quote = sub { return "'" . $_[0] =~ s/'/''/gr . "'" };

	q1($other, 'CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink');
	foreach my $to ($standby, $other)
	{
		my $name = $to->name;
		my $port = $to->port;
		my ($chain, $key) = ($pki->chain('fdw'), $pki->key('fdw'));
		my $s = $other->session(cert => 'bob', user => 'postgres');
		my $own = $s->query(q{SELECT to_jsonb(s) - 'checked_at' FROM pg_tls_session() s});

		$s->query("CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'localhost', port '$port', dbname 'postgres',"
			  . " sslmode 'verify-full', sslrootcert '$dir/pki/ca.pem', sslcrl '$dir/pki/crls.pem', gssencmode 'disable');"
			  . " CREATE USER MAPPING FOR postgres SERVER $name OPTIONS (user 'fdw', sslcert '$chain', sslkey '$key');"
			  . " CREATE SCHEMA $name; IMPORT FOREIGN SCHEMA public LIMIT TO (pg_stat_tls) FROM SERVER $name INTO $name");
		is($s->query("SELECT client_cn, auth_method, acceptable FROM $name.pg_stat_tls WHERE client_cn = 'fdw'"), 'fdw|cert|t',
			"$name: postgres_fdw sees itself there");
		is(q1($to, q{SELECT client_cn, auth_method, acceptable FROM pg_stat_tls WHERE client_cn = 'fdw'}), 'fdw|cert|t',
			'... and is seen');

		my $dblink = sub {
			return 'SELECT * FROM dblink(' . $quote->(conninfo($to, @_)) . ','
			  . q{'SELECT client_cn, auth_method, ssl FROM pg_tls_session()') AS t (client_cn text, auth_method text, ssl boolean)};
		};
		is($s->query($dblink->('fdw')), 'fdw|cert|t', 'dblink');

		my $failures = 'SELECT count(*) FROM pg_stat_tls_failures';
		my $here = q1($other, $failures);
		my $there = q1($to, $failures);

		isnt(($s->try_query($dblink->('revoked', user => 'fdw')))[0], 1, 'with a revoked certificate');
		ok($to->poll_query($failures, $there + 1, unix => 1), '... one failure');
		is(q1($to, 'SELECT reason, subject_dn, pid <> ' . $s->pid . ' FROM pg_stat_tls_failures LIMIT 1'),
			'certificate_revoked|/O=Example/CN=revoked|t', '... of the server that it came to');
		isnt(($s->try_query($dblink->('fdw', sslrootcert => $pki->crt('otherroot'))))[0], 1, 'with another CA');
		ok($to->poll_query($failures, $there + 2, unix => 1), '... one failure');
		is(q1($to, 'SELECT reason, subject_dn IS NULL, pid <> ' . $s->pid . ' FROM pg_stat_tls_failures LIMIT 1'),
			'client_rejected_certificate|t|t', '... of the server that it came to');
		is(q1($other, $failures), $to == $other ? $there + 2 : $here, 'and of no other');
		is($s->query(q{SELECT to_jsonb(s) - 'checked_at' FROM pg_tls_session() s}), $own, 'its own session is described as before');
		is($s->query('SELECT ok FROM pg_tls_check()'), 't', 'dry run');
		is($s->query('SELECT count(*) FROM pg_tls_client_chain()'), 2, 'what its own client sent');
	}
} if $has_fdw;

foreach my $c ($primary, $standby, $cascade, $other)
{
	$c->stop;
	unlike($c->log_text, qr/PANIC|TRAP|signal 11/, $c->name . ': nothing bad in the log');
}
done_testing();

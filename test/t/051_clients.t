# Who has connected how, and with which certificates: bounded tables, which
# outlive the server.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $c = TlsCluster->new(ssl => 1, pki => $pki, conf => { 'pg_tls.max_clients' => 10, 'pg_tls.max_certificates' => 10 });
my $file = $c->datadir . '/pg_stat_tmp/pg_tls.stat';

my $began = time;

$c->start;
$c->query('CREATE EXTENSION pg_tls; CREATE ROLE alice LOGIN', unix => 1);

sub q1 { return $c->query($_[0], unix => 1) }

# Since when, by each of the views.
sub since
{
	my @views = split /\n/, q1(q{SELECT attrelid::regclass FROM pg_attribute WHERE attname = 'stats_reset' AND attrelid::regclass::text LIKE 'pg\_stat\_tls%'});

	return q1('SELECT ' . join(', ', map { "(SELECT array_agg(DISTINCT stats_reset) FROM $_)" } @views)) =~ tr/{}//dr;
}

subtest 'since when' => sub {
	# so that each view has a row
	my $session = sub { $c->query('SELECT 1', cert => 'alice'); $c->psql('SELECT 1', cert => 'expired') };

	$session->();
	$c->poll_query('SELECT count(*) FROM pg_stat_tls_failures', 1, unix => 1);
	is(q1("SELECT stats_reset BETWEEN to_timestamp($began) AND pg_postmaster_start_time() FROM pg_stat_tls_info"), 't', 'the first start');
	my $first = (split /\|/, since())[0];
	is(since(), join('|', ($first) x 5), 'the same in all views');
	my $now = q1('SELECT now()');
	my $other = 'SELECT generation, attempts, failures, (SELECT array_agg(r) FROM pg_tls_reloads r), (SELECT array_agg(f) FROM pg_tls_files f) FROM pg_tls_status';
	my $kept = q1($other);

	q1('SELECT pg_stat_tls_reset()');
	$session->();
	$c->poll_query('SELECT count(*) FROM pg_stat_tls_failures', 1, unix => 1);
	my $second = (split /\|/, since())[0];
	is(since(), join('|', ($second) x 5), 'after a reset, too');
	is(q1("SELECT stats_reset BETWEEN '$now' AND now() FROM pg_stat_tls_info"), 't', '... which that is');
	is(q1($other), $kept, '... and views of other names are as they were');
	q1('SELECT pg_stat_tls_reset()');
};

my $clients = q{SELECT usename, client_addr, encryption, version, cipher IS NOT NULL, key_exchange IS NOT NULL, sessions
	FROM pg_stat_tls_clients WHERE encryption <> 'local' ORDER BY 1, 3, 4};

subtest 'each way has its row' => sub {
	$c->query('SELECT 1', host => '127.0.0.1') for 1 .. 3;
	$c->query('SELECT 1', host => '127.0.0.1', user => 'alice');
	$c->query('SELECT 1', host => '127.0.0.1', ssl => 'disable') for 1 .. 2;
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'alice', ssl_max_protocol_version => 'TLSv1.2');
	is(q1($clients), join("\n",
		'alice|127.0.0.1|tls|TLSv1.3|t|t|1',
		'postgres|127.0.0.1|none||f|f|2',
		'postgres|127.0.0.1|tls|TLSv1.2|t|t|1',
		'postgres|127.0.0.1|tls|TLSv1.3|t|t|3'), 'rows');
	is(q1(q{SELECT sessions > 0, client_addr IS NULL FROM pg_stat_tls_clients WHERE encryption = 'local'}), 't|t', 'the Unix socket');
	is(q1('SELECT count(*) FROM pg_stat_tls_clients WHERE first_seen_at > last_seen_at OR last_seen_at > now()'), 0, 'moments');
	is(q1('SELECT count(*) FROM pg_stat_tls_clients WHERE first_seen_at < last_seen_at') > 0, 1, 'first and last differ');
};

subtest 'certificates' => sub {
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'alice', user => 'alice') for 1 .. 2;
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'bob');
	my @rows = $c->query_rows(q{SELECT c.fingerprint, c.usename, c.subject_dn, c.issuer_dn, c.serial, c.san, c.key, c.not_before, c.not_after, c.sessions, c.last_client_addr
		FROM pg_stat_tls_client_certificates c ORDER BY c.subject_dn, c.usename}, unix => 1);
	is(scalar @rows, 3, 'rows');
	is(join(' ', map { "$_->[1]:$_->[9]" } @rows), 'alice:2 postgres:1 postgres:1', 'roles and sessions');
	my @session = $c->query_rows(q{SELECT client_fingerprint, 'postgres', client_dn, issuer_dn, client_serial, client_san, client_key,
		client_not_before, client_not_after FROM pg_tls_session()}, host => '127.0.0.1', cert => 'bob');
	is_deeply([ @{ $rows[2] }[ 0 .. 8 ] ], $session[0], 'the values of pg_stat_tls');
	is($rows[2][10], '127.0.0.1', 'address');
};

# Those who are refused once they are authenticated have had no session.
subtest 'refused after authentication' => sub {
	$c->query($_, unix => 1) for (
		'CREATE ROLE nologin', 'CREATE ROLE limited LOGIN CONNECTION LIMIT 0', 'CREATE ROLE plain LOGIN',
		'CREATE ROLE walsender LOGIN REPLICATION', 'CREATE DATABASE closed ALLOW_CONNECTIONS false',
		'CREATE DATABASE private', 'REVOKE CONNECT ON DATABASE private FROM PUBLIC', 'CREATE DATABASE full_one CONNECTION LIMIT 0');
	my @stories = (
		[ 'a role that does not exist', qr/role "nobody" does not exist/, user => 'nobody' ],
		[ 'a role that may not log in', qr/not permitted to log in/, user => 'nologin' ],
		[ 'too many connections of a role', qr/too many connections for role/, user => 'limited' ],
		[ 'a database that does not exist', qr/database "nowhere" does not exist/, user => 'plain', dbname => 'nowhere' ],
		[ 'a database that accepts nobody', qr/not currently accepting connections/, user => 'plain', dbname => 'closed' ],
		[ 'a database that is not for the role', qr/permission denied for database/, user => 'plain', dbname => 'private' ],
		[ 'too many connections of a database', qr/too many connections for database/, user => 'plain', dbname => 'full_one' ],
		[ 'a setting that does not exist', qr/unrecognized configuration parameter/, user => 'plain', options => '-c nonsense=1' ],
		[ 'replication that is not allowed', qr/replication|REPLICATION/, user => 'plain', replication => 'true' ],
		[ 'replication of a database that is not allowed', qr/replication|REPLICATION/, user => 'plain', replication => 'database' ]);
	my %way = (
		'a certificate' => [ host => '127.0.0.1', cert => 'carol' ], 'TLS' => [ host => '127.0.0.1' ],
		'clear text' => [ host => '127.0.0.1', ssl => 'disable' ], 'the socket' => [ unix => 1 ]);
	my $seen = sub {
		q1(q{SELECT (SELECT coalesce(string_agg(usename, ' ' ORDER BY usename), '') FROM pg_stat_tls_clients WHERE usename <> 'postgres') || '|' ||
			(SELECT coalesce(string_agg(usename || sessions, ' ' ORDER BY usename), '') FROM pg_stat_tls_client_certificates)}) };

	q1('SELECT pg_stat_tls_reset()');
	foreach my $story (@stories)
	{
		my ($what, $message, @conn) = @$story;

		foreach my $way (sort keys %way)
		{
			my ($rc, undef, $err) = $c->psql('SELECT 1', @conn, @{ $way{$way} });

			ok($rc != 0 && $err =~ $message, "$what, by $way: refused") or diag $err;
		}
	}
	is($seen->(), '|', 'nobody of them was seen');
	is(q1(q{SELECT count(*) FROM pg_tls_findings WHERE object IN ('nobody', 'limited', 'plain')}), 0, 'nor found');

	my %conn = (host => '127.0.0.1', cert => 'carol');
	SKIP:
	{
		skip 'login event triggers came with PostgreSQL 17', 3 if TlsCluster->pg_version < 17;
		$c->query($_, unix => 1) for (
			q{CREATE FUNCTION gate() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN IF session_user = 'plain' THEN RAISE 'not you'; END IF; END$$},
			'CREATE EVENT TRIGGER gate ON login EXECUTE FUNCTION gate()');
		like(($c->psql('SELECT 1', %conn, user => 'plain'))[2], qr/not you/, 'an event trigger refuses');
		is($seen->(), '|', '... and that is not counted');
		$c->query('ALTER EVENT TRIGGER gate DISABLE', unix => 1);
		$c->query('SELECT 1', %conn, user => 'plain');
		is($seen->(), 'plain|plain1', 'a trigger that lets in');
		$c->query($_, unix => 1) for 'DROP EVENT TRIGGER gate', 'DROP FUNCTION gate';
		q1('SELECT pg_stat_tls_reset()');
	}
	$c->query('SELECT 1; SELECT 2', %conn, user => 'plain') for 1 .. 2;
	is($seen->(), 'plain|plain2', 'a session is counted once, whatever it does');
	my $s = $c->session(%conn, user => 'plain');
	$s->query($_) for 'BEGIN', 'SELECT 1', 'COMMIT', 'SELECT 1';
	is($seen->(), 'plain|plain3', 'and at its beginning');
	undef $s;
	$c->psql('IDENTIFY_SYSTEM', %conn, user => 'walsender', replication => $_) for qw(true database);
	is($seen->(), 'plain walsender|plain3 walsender2', 'WAL senders are counted, with a database and without');
};

# What was reset does not come back, whatever happens next.
subtest 'reset, and then a crash' => sub {
	my $written = sub { return join ' ', (stat $file)[1, 9] };

	$c->query('SELECT 1', host => '127.0.0.1', user => 'alice');
	$c->restart;
	is(q1(q{SELECT count(*) > 0 FROM pg_stat_tls_clients WHERE usename = 'alice'}), 't', 'saved');
	my $before = $written->();
	q1('SELECT pg_stat_tls_reset()');
	ok($c->poll_until(sub { $written->() ne $before }), 'the file is written at once');
	$c->stop('immediate');
	$c->start;
	is(q1(q{SELECT count(*) FROM pg_stat_tls_clients WHERE usename = 'alice'}), 0, 'forgotten for good');
};

sub everything
{
	return join "\n--\n", q1($clients),
	  q1('SELECT * FROM pg_stat_tls_client_certificates ORDER BY fingerprint, usename'),
	  q1('SELECT * FROM pg_stat_tls_handshakes ORDER BY 1, 2'),
	  q1('SELECT * FROM pg_stat_tls_failures ORDER BY failed_at'),
	  q1('SELECT * FROM pg_stat_tls_info');
}

$c->psql('SELECT 1', host => '127.0.0.1', cert => $_) for qw(revoked expired);
my $before = everything();
like($before, qr/certificate_revoked/, 'there are failures');

subtest 'restart' => sub {
	ok($c->restart, 'restarted');
	ok($c->poll_query('SELECT monitor_pid IS NOT NULL FROM pg_tls_status', 't', unix => 1), 'the monitor runs');
	ok($c->poll_until(sub { everything() eq $before }), 'everything is there again') or is(everything(), $before);
	is((stat $file)[2] & 0777, 0600, 'nobody else can read the file');
};

subtest 'immediate shutdown, and kill -9 of the postmaster' => sub {
	$c->stop('immediate');
	$c->start;
	ok($c->poll_until(sub { everything() eq $before }), 'everything is there again');
	my %children = $c->children;
	$c->kill_backend($c->pid);
	$c->poll_until(sub { !$c->postmaster_alive });
	$c->poll_until(sub { !grep { kill 0, $_ } keys %children });
	$c->start;
	ok($c->poll_until(sub { everything() eq $before }), 'and again');
};

subtest 'crash of a backend' => sub {
	my $s = $c->session(unix => 1);
	my $mark = $c->log_mark;

	$c->kill_backend($s->pid);
	ok($c->wait_for_log(qr/ready to accept connections/, $mark), 'restarted');
	ok($c->poll_until(sub { my ($rc) = $c->psql('SELECT 1', unix => 1); !$rc && everything() eq $before }), 'everything is there again');
};

subtest 'bad files' => sub {
	my $good = slurp($file);
	my %bad = (
		'truncated' => [ substr($good, 0, length($good) - 7), qr/too short/ ],
		'cut in the header' => [ substr($good, 0, 5), qr/too short/ ],
		'empty' => [ '', qr/too short/ ],
		'with a flipped bit' => [ do { my $x = $good; substr($x, 200, 1) = chr(ord(substr $x, 200, 1) ^ 4); $x }, qr/checksum/ ],
		'foreign' => [ "#!/bin/sh\n" x 100, qr/another/ ],
		'longer than it can be' => [ substr($good, 0, 4) . "\xff\xff\xff\xff" . substr($good, 8), qr/length/ ]);

	foreach my $what (sort keys %bad)
	{
		$c->stop;
		spew($file, $bad{$what}[0]);
		my $mark = $c->log_mark;
		ok($c->start, "$what: starts");
		ok($c->wait_for_log(qr/LOG:  ignoring file "pg_stat_tmp\/pg_tls.stat"\n.*DETAIL:  .*$bad{$what}[1]/, $mark), "$what: logged");
		is(q1(q{SELECT count(*) FROM pg_stat_tls_client_certificates}), 0, "$what: ignored");
	}
	# A directory in its place: it can be neither read nor written.
	$c->stop;
	unlink $file;
	mkdir $file;
	ok($c->start, 'directory: starts');
	is($c->query('SELECT 1', cert => 'alice'), 1, 'directory: works');
	ok($c->stop, 'directory: stops');
	rmdir $file or die "$file: $!";
	spew($file, $good);
	$c->start;
	ok($c->poll_until(sub { everything() eq $before }), 'the good file is read');
};

subtest 'pg_tls.save = off' => sub {
	my $since = q1('SELECT stats_reset FROM pg_stat_tls_info');

	$c->stop;
	$c->set_conf({ 'pg_tls.save' => 'off' });
	$c->start;
	$c->poll_query('SELECT monitor_pid IS NOT NULL FROM pg_tls_status', 't', unix => 1);
	is(q1(q{SELECT count(*) FROM pg_stat_tls_client_certificates}), 0, 'not read');
	is(q1("SELECT stats_reset > '$since' FROM pg_stat_tls_info"), 't', '... so that counting begins');
	$c->set_conf({ 'pg_tls.save' => undef });
	$c->restart;
	ok($c->poll_until(sub { everything() eq $before }), 'and not overwritten');
};

subtest 'at the bound' => sub {
	q1('SELECT pg_stat_tls_reset()');
	# One hundred roles; each is a client, and each has its own row for bob.
	q1("DO \$\$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE ROLE r%s LOGIN', i); END LOOP; END \$\$");
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'bob', user => "r$_") for 1 .. 100;
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'bob', user => 'r95') for 1 .. 2;
	is(q1(q{SELECT string_agg(usename || ':' || sessions, ' ' ORDER BY substr(usename, 2)::int) FROM pg_stat_tls_client_certificates}),
		join(' ', map { "r$_:" . ($_ == 95 ? 3 : 1) } 91 .. 100), 'certificates: exact for those kept');
	is(q1('SELECT certificate_evictions FROM pg_stat_tls_info'), 90, 'evictions are counted');
	is(q1('SELECT count(*) FROM pg_stat_tls_clients'), 10, 'clients: as many as are kept');
	is(q1(q{SELECT string_agg(usename || ':' || sessions, ' ' ORDER BY substr(usename, 2)::int) FROM pg_stat_tls_clients WHERE encryption = 'tls'}),
		join(' ', map { "r$_:" . ($_ == 95 ? 3 : 1) } 92 .. 100), 'clients: exact for those kept (and the Unix socket)');
	cmp_ok(q1('SELECT client_evictions FROM pg_stat_tls_info'), '>=', 90, 'evictions are counted');
	$before = everything();
	$c->restart;
	ok($c->poll_until(sub { everything() eq $before }), 'a restart keeps the full tables');
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'bob', user => 'r1');
	is(q1(q{SELECT count(*) FILTER (WHERE usename = 'r91'), count(*) FILTER (WHERE usename = 'r1'), count(*) FROM pg_stat_tls_client_certificates}),
		'0|1|10', 'and who was seen longest ago');
};

subtest 'smaller tables than the file' => sub {
	$c->stop;
	$c->set_conf({ 'pg_tls.max_certificates' => 20, 'pg_tls.max_clients' => 20 });
	$c->start;
	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls_client_certificates', '10', unix => 1), 'larger ones');
	$c->query('SELECT 1', host => '127.0.0.1', cert => 'bob', user => "r$_") for 1 .. 9;
	$c->stop;
	$c->set_conf({ 'pg_tls.max_certificates' => 10, 'pg_tls.max_clients' => 10 });
	$c->start;
	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls_client_certificates', '10', unix => 1), 'smaller ones');
	is(q1(q{SELECT count(*) FROM pg_stat_tls_client_certificates WHERE usename IN ('r1', 'r5', 'r9')}), 3, 'keep the last ones');
};

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

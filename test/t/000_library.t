# The test library itself: certificates, the server, and all kinds of clients.
# Needs no extension.

use strict;
use warnings;

use File::Temp ();
use Test::More;
use Time::HiRes qw(time);

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $begin = time;
my $pki = TlsPKI->default_set("$dir/pki");

note sprintf 'the default set took %.1f s', time - $begin;

# What `openssl x509 -subject -nameopt RFC2253` must print for a subject.
sub rfc2253
{
	my @rdns;

	foreach my $pair (@_)
	{
		my ($type, $value) = @$pair;
		my $join = $value =~ s/^\+//;

		$value =~ s/^\\\+/+/;
		$value =~ s/([,+"\\<>;])/\\$1/g;
		$value =~ s/^([# ])|( )\z/'\\' . ($1 || $2)/ge;
		push @rdns, [] unless $join;
		push @{ $rdns[-1] }, "$type=$value";
	}
	# The members of a multi-valued RDN are ordered by their encoding.
	return join ',', map { join '+', sort @$_ } reverse @rdns;
}

sub subject
{
	my ($name) = @_;
	my $text = $pki->show($name, '-subject', '-nameopt', 'RFC2253,utf8,-esc_msb');

	chomp $text;
	$text =~ s/^subject=\s*//;
	return join ',', map { join '+', sort split /(?<!\\)\+/, $_ } split /(?<!\\),/, $text;
}

subtest 'certificates' => sub {
	$pki->cert('strange',
		issuer => 'int',
		subject => [
			[ CN => 'a/b "c\d, e=f #$x `;\'<>' ],
			[ DC => 'org' ],
			[ OU => '\+plus' ],
			[ emailAddress => '+a@example.org' ],
			[ CN => "\x{416} twice " ],
			[ O => '#last' ] ]);
	$pki->cert('slashes', issuer => 'int', subject => '/O=A\/B/CN=x=y');
	$pki->cert('flat', issuer => 'int', subject => [ O => 'a', CN => 'b', O => 'c' ]);
	$pki->cert('nobody', issuer => 'int', subject => [], san => ['email:nobody@example.org']);
	foreach my $name ($pki->names)
	{
		is(subject($name), rfc2253(@{ $pki->asked($name) }), "subject of $name");
	}
	is(subject('slashes'), 'CN=x=y,O=A/B', 'a slash in a value');
	like(subject('multi'), qr/UID=u1234/, 'a multi-valued RDN');
	cmp_ok(length subject('longdn'), '>', 300, 'a long subject');

	my %keys = (
		'ec:secp384r1' => qr/384 bit/,
		'rsa:3072' => qr/3072 bit/,
		'rsa-pss' => qr/rsassaPss/i,
		'ed448' => qr/ED448/i);

	foreach my $key (sort keys %keys)
	{
		$pki->cert('key', issuer => 'int', key => $key);
		like($pki->show('key', '-text'), $keys{$key}, "a key of type $key");
	}
	is((stat $pki->key('key'))[2] & 0777, 0600, 'the mode of a key');

	$pki->cert('big', issuer => 'int', serial => '0x7' . 'f' x 39);
	like($pki->show('big', '-serial'), qr/=7F{39}$/, 'a serial of 20 bytes');
	$pki->cert('small', issuer => 'int', serial => '0x1');
	like($pki->show('small', '-serial'), qr/=01$/, 'the serial 1');

	my $names = $pki->show('manysan', '-text');

	is(() = $names =~ /DNS:/g, 50, '50 alternative names');
	$pki->cert('san',
		issuer => 'int',
		san => [
			'otherName:1.3.6.1.4.1.311.20.2.3;UTF8:u@example.org',
			'URI:http://example.org/?a,b=c',
			'dirName:/O=A, B/CN=c' ]);
	$names = $pki->show('san', '-text');
	like($names, qr{URI:http://example.org/\?a,b=c}, 'a URI with a comma');
	like($names, qr{DirName:\s*/?O ?= ?A, B}, 'a directory name');

	my $key_before = $pki->show('small', '-pubkey');

	$pki->sign_again('small', not_after => 5 * 86400);
	is($pki->show('small', '-pubkey'), $key_before, 'renewal keeps the key');
	unlike($pki->show('small', '-serial'), qr/=01$/, 'renewal has a new serial');

	ok(!eval { $pki->cert('x', subject => '/NoSuchType=1'); 1 }, 'openssl fails');
	like($@, qr/openssl req .*NoSuchType/s, '... with command and reason');
};

my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => '', conf => { work_mem => '1234kB' });

$begin = time;
$c->start;
note sprintf 'the start took %.1f s', time - $begin;

# (version, cipher present, client's subject)
my $tls = q{SELECT version, cipher IS NOT NULL, client_dn
	FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl};

subtest 'server' => sub {
	ok($c->postmaster_alive, 'is running');
	is($c->query('SHOW work_mem'), '1234kB', 'setting of new');
	is($c->query('SHOW server_version_num') =~ s/....$//r, $c->pg_version, 'major number');
	is($c->query("SELECT E'a\\nb', NULL, 1"), "a\nb||1", 'query');
	is_deeply(
		[ $c->query_rows(q{VALUES (E'a|b\n', NULL, ''), ('c', '1', 'x')}) ],
		[ [ "a|b\n", undef, '' ], [ 'c', 1, 'x' ] ],
		'query_rows');
	is_deeply([ $c->query_rows('SELECT 1 WHERE false') ], [], 'no rows');
	is_deeply([ $c->query_rows(q{SELECT ''}) ], [ [''] ], 'an empty row');
	is_deeply($c->row_hash('SELECT 1 AS a, NULL AS "b c"'), { a => 1, 'b c' => undef }, 'row_hash');
	is($c->row_hash('SELECT 1 WHERE false'), undef, 'row_hash of no row');

	my ($rc, $out, $err) = $c->psql('SELECT 1; SELECT 1/0; SELECT 2');

	is("$rc $out", '3 1', 'psql stops at an error');
	like($err, qr/division by zero/, '... and tells it');
	ok(!eval { $c->query('SELECT 1/0'); 1 }, 'query dies of it');

	my $mark = $c->log_mark;

	$c->set_conf({ work_mem => '4321kB' });
	$c->reload;
	ok($c->poll_query('SHOW work_mem', '4321kB'), 'reload');
	ok($c->wait_for_log(qr/parameter "work_mem" changed/, $mark), 'the log tells it');

	my $backend = $c->session;

	cmp_ok($c->memory_kb($backend->pid), '>', 100, 'memory of a backend');
	ok($c->restart, 'restart');
	ok(!$backend->alive, '... ends a session');
	ok(!defined $c->memory_kb($backend->pid), '... and its process');
};

subtest 'clients' => sub {
	my %max = (ssl_max_protocol_version => 'TLSv1.2');

	is_deeply([ $c->query_rows($tls) ], [ [ 'TLSv1.3', 't', undef ] ], 'TLS 1.3');
	is_deeply([ $c->query_rows($tls, %max) ], [ [ 'TLSv1.2', 't', undef ] ], 'TLS 1.2');
	is_deeply([ $c->query_rows($tls, ssl => 'disable') ], [], 'TCP');
	is_deeply([ $c->query_rows($tls, unix => 1) ], [], 'Unix-domain socket');
	is($c->row_hash($tls, ssl => 'verify-full')->{version}, 'TLSv1.3', "server's name verified");
	foreach my $name (qw(alice bob carol longdn utf8 multi manysan noeku))
	{
		foreach my $version (qw(1.2 1.3))
		{
			my $row = $c->row_hash($tls, cert => $name, ssl_max_protocol_version => "TLSv$version");

			is($row->{version}, "TLSv$version", "$name with TLS $version");
			like($row->{client_dn}, qr{^/O=}, '... and its certificate');
		}
	}
	foreach my $name (qw(expired future revoked selfsigned other wrongpurpose))
	{
		my $mark = $c->log_mark;
		my ($rc) = $c->psql('SELECT 1', cert => $name);

		is($rc, 2, "$name is refused");
		ok($c->wait_for_log(qr/could not accept SSL connection: .*verify failed/, $mark),
			'... for its certificate');
	}

	$c->pki->revoke('carol');
	$c->pki->crl('int');
	$c->pki->crl_file($c->tls('crl.pem'), 'root', 'int');
	$c->reload;
	ok( $c->poll_until(
			sub { ($c->psql('SELECT 1', cert => 'carol'))[0] == 2 },
			what => 'the new CRL'),
		'carol is refused with a new CRL');
	is($c->query('SELECT 1', cert => 'alice'), '1', 'alice is not');
};

subtest 'sessions' => sub {
	my $s = $c->session(cert => 'alice');

	ok($s->connected, 'connected');
	is($s->query('SELECT pg_backend_pid()'), $s->pid, 'pid');
	is($s->query("SELECT 1;\nSELECT 2"), "1\n2", 'query');
	is_deeply([ ($s->try_query('SELECT 1/0'))[ 0, 1 ] ], [ '', '' ], 'an error');
	like($s->stderr, qr/division by zero/, '... is told');
	ok(!eval { $s->query('SELECT 1/0'); 1 }, '... and query dies of it');
	ok($s->alive, '... but not the session');

	$s->send('SELECT pg_sleep(600)');
	ok( $c->poll_query(
			'SELECT pg_cancel_backend(pid) FROM pg_stat_activity'
			  . " WHERE state = 'active' AND pid = " . $s->pid, 't'),
		'a query in the background');
	like(($s->wait)[2], qr/canceling statement/, '... is cancelled');

	my $one = $c->session(unix => 1);
	my $two = $c->session(ssl => 'disable');

	isnt($one->pid, $two->pid, 'two sessions');
	$c->query('SELECT pg_terminate_backend(' . $two->pid . ')');
	ok($c->poll_until(sub { !defined $c->memory_kb($two->pid) }), 'one terminated');
	ok(!$two->alive, '... not alive');
	ok(!$two->alive, '... still not');
	ok($one->alive, 'the other is alive');

	my $refused = $c->session(cert => 'expired');

	ok(!$refused->connected, 'a refused session');
	like($refused->error, qr/SSL error|closed the connection|could not (send|receive)/, '... its error');
	ok(!$refused->alive, '... is not alive');
	ok(!$c->session(dbname => 'nothing')->connected, 'no such database');

	my $pid = $s->pid;

	$s->close;
	ok($c->poll_until(sub { !defined $c->memory_kb($pid) }), 'close ends the backend');

	foreach my $replication (1, 'database')
	{
		my $w = $c->walsender(replication => $replication, cert => 'bob');

		ok($w->connected, "walsender, replication=$replication") or diag $w->error;
		like($w->query('IDENTIFY_SYSTEM'), qr/^\d+\|\d+\|/, '... answers');
		is($w->query('IDENTIFY_SYSTEM;'), $w->query('IDENTIFY_SYSTEM'), '... also with a semicolon');
		is($w->stderr, '', '... without an error');
		like(
			$c->query('SELECT client_dn FROM pg_stat_ssl WHERE pid = ' . $w->pid),
			qr/bob/, '... with a certificate');
		ok($w->alive, '... alive');
	}
};

subtest 's_client' => sub {
	like($c->s_client, qr/TLSv1\.3/, 'TLS 1.3');
	like($c->s_client(tls1_2 => 1), qr/TLSv1\.2/, 'TLS 1.2');
	like($c->s_client(tls1_3 => 1, groups => 'P-256', cert => 'alice'),
		qr/prime256v1|P-256|secp256r1/, 'a group');
	like($c->s_client(servername => 'localhost'), qr/Verify return code: 0/, 'verified');

	my ($rc, $output) = $c->s_client(tls1_2 => 1, cert => 'expired');

	isnt($rc, 0, 'expired is refused');
	like($output, qr/alert/, '... with an alert');
};

subtest 'a crash' => sub {
	my $s = $c->session;
	my $mark = $c->log_mark;
	my $postmaster = $c->pid;

	$c->kill_backend($s->pid);
	ok($c->wait_for_log(qr/database system is ready to accept connections/, $mark), 'restarted');
	ok(!$s->alive, 'the session is gone');
	is($c->pid, $postmaster, 'the same postmaster');
	ok($c->poll_query('SELECT 1', '1'), 'the server works');
};

subtest 'failures' => sub {
	my $broken = TlsCluster->new(name => 'broken', preload => 'no_such_library');

	ok(!$broken->start(fail_ok => 1), 'a start that fails');
	like($broken->log_text, qr/no_such_library/, '... its log');
	ok(!eval { $broken->start; 1 }, 'it dies');
	like($@, qr/no_such_library/, '... with the log');
	$broken->set_conf({ shared_preload_libraries => undef });
	ok($broken->start, 'a second server');
	is($broken->query('SHOW ssl', ssl => 'disable'), 'off', '... without TLS');

	my $pid = $broken->pid;

	undef $broken;
	ok(!kill(0, $pid), '... which goes with its object');
};

# A test that dies, is interrupted, or forks: what becomes of the server?
subtest 'ends' => sub {
	my $err;
	my $child = sub {
		my ($end) = @_;
		my $out = '';
		my $perl = <<'END' . $end;
			BEGIN { delete $SIG{INT} }    # which a shell's background job ignores
			use Test::More;
			use TlsCluster;
			my $c = TlsCluster->new(name => 'child', preload => '');
			my $query = sub { $c->query($_[0], ssl => 'disable') };
			my $crash = sub {
				my ($kill, $pid, $is_over) = @_;
				my $s = $c->session(ssl => 'disable');
				my $ended = $s->pid;
				$kill->($pid // $ended);
				$c->poll_until($is_over // sub { !kill(0, $ended) && eval { $query->('SELECT 1') } });
				ok(1);
				done_testing;
			};
			$c->start;
			$| = 1;
			print $c->pid, ' ', $c->datadir, "\n";
END

		IPC::Run::run([ $^X, (map { "-I$_" } @INC), '-e', $perl ],
			'<', \undef, '>', \$out, '2>', \$err);

		my $status = $?;
		my ($pid, $data) = split ' ', $out;

		ok($pid && !kill(0, $pid), "stopped by: $end");
		ok($data && !-e $data, '... and removed');
		return $status >> 8;
	};

	is($child->('die'), 255, 'exit status of die');
	is($child->('exit 7'), 7, 'exit status');
	is($child->('kill INT => $$; sleep 60'), 1, 'exit status of a signal');
	is($child->('kill TERM => $$; sleep 60'), 1, 'exit status of a signal');
	is( $child->(
			'my $f = fork; exit 0 if !$f; waitpid $f, 0; exit($c->query("SELECT 5", ssl => "disable"))'),
		5, 'a fork does not stop the server');

	# All tests pass, and a server crashed.
	my $segv = 'sub { kill SEGV => $_[0] }';

	is($child->("\$crash->($segv)"), 1, 'a session that crashes');
	like($err, qr/^# not a success: a process of server child \(PID \d+\) was ended by SIGSEGV, which the test did not send$/m, '... is told of');
	is($child->("\$crash->($segv, \$c->pid, sub { !\$c->postmaster_alive })"), 1, 'a postmaster that crashes');
	like($err, qr/^# not a success: the postmaster of server child \(PID \d+\) was ended by SIGSEGV, /m, '... is told of');
	is($child->("\$query->(q(ALTER SYSTEM SET log_min_messages = panic)); \$query->('SELECT pg_reload_conf()');"
				. ' $c->poll_until(sub { $query->("SHOW log_min_messages") eq "panic" });'
				. " \$crash->($segv); \$c->stop; undef \$c"), 1, 'a crash that the log does not tell of');
	like($err, qr/^# not a success: server child has restarted after a crash$/m, '... is told of');
	is($child->('$crash->(sub { $c->kill_backend($_[0]) })'), 0, 'a session that the test kills');
};

ok($c->stop, 'stop');
ok(!$c->postmaster_alive, 'stopped');

my $pid_file = $c->datadir . '/postmaster.pid';

ok(!-e $pid_file, 'without a trace');

done_testing();

# What came of every load of the TLS files: for each way in which one can
# fail, on each transition; told before by the dry run, and afterwards by the
# views.

use strict;
use warnings;

use File::Temp ();
use POSIX qw(mkfifo);
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $c = TlsCluster->new(ssl => 1, pki => $pki);

$c->start;
my $admin = $c->session(unix => 1);
$admin->query('CREATE EXTENSION pg_tls');

my ($crt, $key, $ca, $crl) = map { $c->tls($_) } qw(server.crt server.key ca.crt crl.pem);
my %good = map { $_ => slurp($_) } $crt, $key, $ca, $crl;

# Of the server certificate in that file.
sub fingerprint
{
	my ($file) = @_;

	my $out = `openssl x509 -in $file -noout -fingerprint -sha256`;

	return lc($out =~ s/.*=|[:\n]//gr);
}

# The certificate that a new connection is served.
sub served
{
	my $out = $c->s_client();

	spew("$dir/served.crt", $out =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/s);
	return fingerprint("$dir/served.crt");
}

sub status
{
	my ($what) = @_;

	return $admin->query("SELECT $what FROM pg_tls_status");
}

# Send the signal, and wait until an attempt is over.
sub reload
{
	my $before = status('attempts');

	$admin->query('SELECT pg_reload_conf()');
	return $c->poll_until(
		sub {
			return status('attempts > ' . $before . ' AND last_attempt_ok IS NOT NULL') eq 't';
		},
		what => 'the end of a reload');
}

sub repair
{
	foreach my $file (keys %good)
	{
		if (-d $file) { rmdir $file or die "$file: $!" }
		else { unlink $file }
		spew($file, $good{$file});
	}
	chmod 0600, $key or die "chmod: $!";
	$c->set_conf({ ssl_ciphers => undef, ssl_passphrase_command => undef });
}

sub instead
{
	my ($file, @contents) = @_;

	unlink $file or die "$file: $!";
	spew($file, @contents);
	chmod 0600, $file if $file eq $key;
}

# Name of the fault, how it is made, and what core says of it.
my @faults = (
	[ 'broken certificate', sub { instead($crt, "rubbish\n") },
		qr/could not load server certificate file "tls\/server.crt": \w/ ],
	[ 'key that does not fit', sub { instead($key, slurp($pki->key('alice'))) },
		qr/could not load private key file "tls\/server.key": .*key.* mismatch/ ],
	[ 'key that others can read', sub { chmod 0644, $key },
		qr/private key file "tls\/server.key" has group or world access/ ],
	[ 'missing CA file', sub { unlink $ca },
		qr/could not load root certificate file "tls\/ca.crt": \w/ ],
	[ 'garbage CRL', sub { instead($crl, "rubbish\n") },
		qr/could not load SSL certificate revocation list file "tls\/crl.pem": \w/ ],
	[ 'DER CRL',
		sub {
			instead($crl, '');
			system("openssl crl -in '" . $pki->crl_path('root') . "' -outform DER -out '$crl'") == 0 or die;
		},
		qr/could not load SSL certificate revocation list file "tls\/crl.pem": \w/ ],
	[ 'bad cipher list', sub { $c->set_conf({ ssl_ciphers => 'NONSENSE' }) },
		qr/could not set the (TLSv1\.2 )?cipher list/ ],
	[ 'passphrase', sub {
			unlink $key;
			system("openssl pkey -in '" . $pki->key('server') . "' -aes128 -passout pass:secret -out '$key'") == 0 or die;
			chmod 0600, $key;
			$c->set_conf({ ssl_passphrase_command => 'echo secret' });
		},
		qr/private key file "tls\/server.key" cannot be reloaded because it requires a passphrase/ ],
	[ 'missing certificate', sub { unlink $crt },
		qr/could not load server certificate file "tls\/server.crt": / ],
	[ 'missing key', sub { unlink $key },
		qr/could not access private key file "tls\/server.key": / ],
	[ 'missing CRL', sub { unlink $crl },
		qr/could not load SSL certificate revocation list file "tls\/crl.pem": / ],
	[ 'directory in place of the certificate', sub { unlink $crt; mkdir $crt },
		qr/could not load server certificate file "tls\/server.crt": / ],
	[ 'directory in place of the key', sub { unlink $key; mkdir $key },
		qr/private key file "tls\/server.key" is not a regular file/ ],
);

my $live = $c->session(cert => 'alice');

subtest 'first load' => sub {
	my $row = $c->row_hash('SELECT * FROM pg_tls_reloads', unix => 1);

	is(status('attempts || $$ $$ || failures || $$ $$ || generation || $$ $$ || active || $$ $$ || last_attempt_ok'),
		'1 0 1 true true', 'status');
	is($row->{trigger}, 'startup', 'trigger');
	is($row->{ok}, 't', 'ok');
	is($row->{error}, undef, 'no error');
	is($row->{server_fingerprint}, fingerprint($crt), 'fingerprint');
	is($row->{server_not_after},
		$c->query("SELECT '" . ($pki->show('server', '-enddate') =~ s/^\w+=|\n//gr) . "'::timestamptz", unix => 1),
		'end of the certificate');
	is(served(), $row->{server_fingerprint}, 'that is what is served');
};

subtest 'on to on, with other certificates' => sub {
	$pki->cert('renewed', issuer => 'int', kind => 'server', san => ['DNS:localhost']);
	my $old = served();

	instead($crt, slurp($pki->chain('renewed')));
	instead($key, slurp($pki->key('renewed')));
	is($admin->query('SELECT ok, error FROM pg_tls_check()'), 't|', 'dry run');
	is(served(), $old, 'the dry run changed nothing');
	is(status('attempts'), 1, 'and was no attempt');

	my $row = $admin->query('SELECT attempt, generation, trigger, ok, error IS NULL, duration > 0 FROM pg_tls_reload()');

	is($row, '2|2|function|t|t|t', 'pg_tls_reload');
	is(served(), fingerprint($crt), 'the new certificate is served');
	is(status('server_fingerprint'), fingerprint($crt), 'and shown');
	isnt(served(), $old, 'it is another one');
	is($live->query('SELECT config_generation FROM pg_tls_session()'), 1, 'a session that was there has the old one');
	is($c->query('SELECT config_generation FROM pg_tls_session()'), 2, 'a new session has the new one');

	repair();
	ok(reload(), 'reload by signal');
	is($admin->query('SELECT trigger, ok FROM pg_tls_reloads LIMIT 1'), 'reload|t', 'trigger');
	is(served(), $old, 'the old certificate is back');
};

foreach my $fault (@faults)
{
	my ($name, $break, $sentence) = @$fault;
	my $message = qr/^$sentence/;

	subtest $name => sub {
		my $generation = status('generation');
		my $failures = status('failures');
		my $attempts = status('attempts');
		my $served = served();
		my ($ok, undef, $err);

		# on to on
		$break->();
		my $mark = $c->log_mark;
		is($admin->query('SELECT ok, array_length(warnings, 1) IS NULL FROM pg_tls_check()'), 'f|t', 'dry run fails');
		like($admin->query('SELECT error FROM pg_tls_check()'), $message, 'with the message of the server');
		unlike($c->log_since($mark), qr/could not|private key|WARNING|LOG:  (?!connection)/,
			'the log knows nothing of it');
		($ok, undef, $err) = $admin->try_query('SELECT pg_tls_reload()');
		ok(!$ok, 'pg_tls_reload raises it');
		like($err, qr/ERROR:  TLS configuration was not reloaded\n/, 'error');
		like($err =~ s/\A.*DETAIL:  //sr, $message, 'detail');
		like($err, qr/^HINT:  Mend this/m, 'hint');
		is(status('attempts'), $attempts, 'there was no attempt yet');

		ok(reload(), 'reload');
		is(status('active, generation, last_attempt_ok'), "t|$generation|f", 'status');
		is(status('failures'), $failures + 1, 'counted');
		like(status('last_error'), $message, 'the message of the server');
		like($c->log_since($mark), qr/LOG:  $sentence/, 'which the log has, too');
		is($admin->query('SELECT attempt, generation, ok FROM pg_tls_reloads LIMIT 1'),
			$attempts + 1 . '||f', 'history');
		like($admin->query('SELECT error FROM pg_tls_reloads LIMIT 1'), $message, 'history has the message');
		ok($live->alive, 'a session goes on');
		is(served(), $served, 'new connections go on');
		is($c->query('SELECT config_generation FROM pg_tls_session()', cert => 'bob'), $generation,
			'with the old files');

		# on to off
		$c->set_conf({ ssl => 'off' });
		like($admin->query('SELECT ok, warnings FROM pg_tls_check()'), qr/^t\|.*"ssl\\" is off/, 'dry run of ssl = off');
		($ok, undef, $err) = $admin->try_query('SELECT pg_tls_reload()');
		like($err, qr/"ssl" is off/, 'pg_tls_reload with ssl = off');
		$admin->query('SELECT pg_reload_conf()');
		ok($c->poll_until(sub { status('active') eq 'f' }), 'TLS turned off');
		is(status('attempts'), $attempts + 1, 'that is no attempt');
		is($c->query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', ssl => 'prefer'), 'f',
			'clients connect in clear text');

		# off to on
		$c->set_conf({ ssl => 'on' });
		like($admin->query('SELECT error FROM pg_tls_check()'), $message, 'dry run');
		ok(reload(), 'reload');
		is(status('active, generation IS NULL, last_attempt_ok'), 'f|t|f', 'not active');
		is($c->query('SHOW ssl', unix => 1), 'on', 'whatever the setting says');
		like(status('last_error'), $message, 'the message of the server');
		is($c->query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', ssl => 'prefer'), 'f',
			'clients still connect in clear text');

		# and a repair
		repair();
		is($admin->query('SELECT ok, error FROM pg_tls_check()'), 't|', 'dry run after the repair');
		is($admin->query('SELECT ok, generation, duration FROM pg_tls_reload()'), 't|' . ($generation + 1) . '|',
			'pg_tls_reload');
		is(status('active, generation, last_attempt_ok, last_error'), 't|' . ($generation + 1) . '|t|', 'active');
		is(served(), $served, 'all is well');
		is($c->query('SELECT config_generation FROM pg_tls_session()', cert => 'alice'), $generation + 1,
			'new generation');
		ok($live->alive, 'the old session is still there');
	};
}

subtest 'FIFO' => sub {
	my $generation = status('generation');
	my ($ok, $err);

	unlink $crt;
	mkfifo($crt, 0600) or die "mkfifo: $!";
	like($admin->query('SELECT ok, error FROM pg_tls_check()'), qr/^f\|file "tls\/server.crt" is not a regular file/,
		'the dry run does not wait for it');
	($ok, undef, $err) = $admin->try_query('SELECT pg_tls_reload()');
	like($err, qr/is not a regular file/, 'pg_tls_reload refuses');

	# The postmaster itself waits, as it would without us.
	my $attempts = status('attempts');
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_until(sub { status('attempts') == $attempts + 1 }), 'an attempt has begun');
	is(status('last_attempt_ok IS NULL'), 't', 'and goes on');
	open my $fifo, '>', $crt or die "$crt: $!";
	close $fifo;
	ok($c->poll_until(sub { status('last_attempt_ok') eq 'f' }), 'it failed');
	like(status('last_error'), qr/^could not load server certificate file/, 'message');
	repair();
	is($admin->query('SELECT ok, generation FROM pg_tls_reload()'), 't|' . ($generation + 1), 'repaired');
};

subtest 'log_min_messages = panic' => sub {
	my $generation = status('generation');

	$c->set_conf({ log_min_messages => 'panic' });
	instead($crt, "rubbish\n");
	like($admin->query('SELECT error FROM pg_tls_check()'), qr/^could not load server certificate file/,
		'the dry run has the message');
	ok(reload(), 'reload');
	is(status('active, generation, last_attempt_ok'), "t|$generation|f", 'the outcome is right');
	like(status('last_error'), qr/"log_min_messages"/, 'and the missing message explained');
	repair();
	$c->set_conf({ log_min_messages => undef });
	ok(reload(), 'reload');
	is(status('active, generation, last_attempt_ok'), 't|' . ($generation + 1) . '|t', 'repaired');
};

subtest 'more failed attempts than are remembered' => sub {
	my $certificate = status('generation, server_fingerprint, server_not_after');

	like($certificate, qr/^\d+\|[0-9a-f]{64}\|\d/, 'the certificate in force');
	instead($crt, "rubbish\n");
	for (1 .. 130) { reload() or last }
	is(status('active, failures >= 130'), 't|t', 'each failed');
	is(status('generation, server_fingerprint, server_not_after'), $certificate, 'it is still told of');
	is($admin->query('SELECT count(*), count(*) FILTER (WHERE ok) FROM pg_tls_reloads'), '128|0', 'its load is not');
	repair();
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'repaired');
};

subtest 'a reload without a load before one that is not logged' => sub {
	# the postmaster logs the first signal only
	$c->set_conf({ ssl => 'off', log_min_messages => 'panic' });
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_until(sub { status('active') eq 'f' }), 'TLS is off');
	$c->set_conf({ ssl => 'on' });
	my ($ok, $row, $error) = $admin->try_query("SELECT ok, trigger FROM pg_tls_reload('60s')");

	is($row, 't|function', 'the load is the one asked for') or diag $error;
	$c->set_conf({ log_min_messages => undef });
	ok(reload(), 'reload');
};

subtest 'crash restart' => sub {
	my $history = $admin->query('SELECT * FROM pg_tls_reloads');
	my $state = status('active, generation, attempts, failures, loaded_at, server_fingerprint');
	my $mark = $c->log_mark;

	$c->kill_backend($live->pid);
	ok($c->wait_for_log(qr/ready to accept connections/, $mark), 'restarted');
	$c->poll_query('SELECT 1', '1', unix => 1);
	$admin = $c->session(unix => 1);
	is($admin->query('SELECT * FROM pg_tls_reloads'), $history, 'the history survives');
	is(status('active, generation, attempts, failures, loaded_at, server_fingerprint'), $state, 'and the counters');
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
	is($admin->query('SELECT trigger FROM pg_tls_reloads LIMIT 1'), 'function', 'trigger');
	ok($c->poll_until(sub { status('monitor_pid IS NOT NULL') eq 't' }), 'the monitor is back');
};

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');

subtest 'first load fails' => sub {
	foreach my $fault (grep { $_->[0] !~ /passphrase/ } @faults)
	{
		my ($name, $break, $sentence) = @$fault;
		my $mark = $c->log_mark;

		repair();
		$break->();
		ok(!$c->start(fail_ok => 1), "$name: no start");
		like($c->log_since($mark), qr/FATAL:  $sentence/, "$name: message");
	}
	repair();
	ok($c->start, 'repaired');
	is($c->query('SELECT attempts, failures, generation, active FROM pg_tls_status', unix => 1), '1|0|1|t', 'status');
};

subtest 'passphrase command' => sub {
	$c->stop;
	$faults[7][1]->();
	$c->start;
	is($c->query('SELECT active, reloadable FROM pg_tls_status', unix => 1), 't|f', 'asked for at the start');
	$c->set_conf({ ssl_passphrase_command_supports_reload => 'on' });
	is($c->query('SELECT ok, error FROM pg_tls_check()', unix => 1), 't|', 'dry run runs the command');
	is($c->query('SELECT ok, trigger FROM pg_tls_reload()', unix => 1), 't|function', 'reload runs the command');
	is($c->query('SELECT active, reloadable, generation FROM pg_tls_status', unix => 1), 't|t|2', 'reloadable');

	# It forks in the middle of a load that is the first one since TLS was off.
	$c->set_conf({ ssl => 'off' });
	$c->query('SELECT pg_reload_conf()', unix => 1);
	ok($c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1), 'off');
	$c->set_conf({ ssl => 'on', ssl_passphrase_command => 'exit 1' });
	$c->query('SELECT pg_reload_conf()', unix => 1);
	ok($c->poll_query('SELECT active, last_attempt_ok FROM pg_tls_status', 'f|f', unix => 1), 'the command fails');
	like($c->query('SELECT last_error FROM pg_tls_status', unix => 1),
		qr/^command "exit 1" failed; could not load private key file/, 'messages');
	$c->set_conf({ ssl_passphrase_command => 'sleep 0.2; echo secret' });
	$c->query('SELECT pg_reload_conf()', unix => 1);
	ok($c->poll_query('SELECT active, generation, reloadable FROM pg_tls_status', 't|3|t', unix => 1), 'it is slow');

	# A dry run can be cancelled while the command hangs, and leaves nothing.
	$c->set_conf({ ssl_passphrase_command => "sleep 1234567$$; echo secret" });
	my $s = $c->session(unix => 1);
	my $pid = $s->pid;

	$s->send('SELECT * FROM pg_tls_check()');
	ok($c->poll_until(sub { my %children = $c->children; grep { /pg_tls check/ } values %children }),
		'a dry run waits for it');
	$c->query("SELECT pg_cancel_backend($pid)", unix => 1);
	like(($s->wait)[2], qr/canceling statement due to user request/, 'cancelled');

	my ($ok, undef, $err) = $s->try_query(q{SET statement_timeout = '300ms'; SELECT * FROM pg_tls_check()});

	like($err, qr/canceling statement due to statement timeout/, 'timed out');
	($ok, undef, $err) = $s->try_query(q{RESET statement_timeout; SELECT * FROM pg_tls_reload('300ms')});
	like($err, qr/timed out in the dry run/, 'timeout of pg_tls_reload');
	ok($c->poll_until(sub { my %children = $c->children; !grep { /pg_tls check/ } values %children }),
		'no worker is left');
	ok($c->poll_until(sub { !$c->processes(qr/sleep 1234567$$/) }), 'nor the command');
	ok($s->alive, 'the session goes on');
	is($c->query('SELECT active, generation, attempts, failures FROM pg_tls_status', unix => 1), 't|3|4|1', 'status');
	$c->stop;
};

subtest 'the first load is asked for by the function' => sub {
	repair();
	$c->set_conf({ ssl => 'off' });
	$c->start;
	$c->set_conf({ ssl => 'on' });
	is($c->query('SELECT attempt, ok, trigger FROM pg_tls_reload()', unix => 1), '1|t|function', 'trigger');
	$c->stop;
};

done_testing();

# Faults around the server: a full disk, no shared memory, no worker slots,
# workers that are stopped or killed, storms of signals, an immediate shutdown.
# Clients connect all the while, and the postmaster lives.

use strict;
use warnings;

use File::Temp ();
use POSIX ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $files = 'SELECT setting, state FROM pg_tls_files';

chmod 0755, $dir;

my $c = TlsCluster->new(ssl => 1, pki => $pki,
	conf => {
		restart_after_crash => 'on',
		dynamic_shared_memory_type => 'mmap',    # files, in pg_dynshmem
		'pg_tls.expiry_warning' => '1min',
		'pg_tls.watch_interval' => '200ms',
	});

sub q1 { return $c->query($_[0], unix => 1) }

sub worker
{
	my ($name) = @_;
	my %children = $c->children;
	my ($pid) = grep { $children{$_} =~ /\Q$name\E/ } keys %children;

	return $pid;
}

# Clients with and without a certificate, and one that is to be refused.
sub clients_connect
{
	my ($what) = @_;
	my @errors;

	foreach my $conn ({ cert => 'alice' }, { ssl => 'verify-full' }, { unix => 1 })
	{
		my ($rc, undef, $err) = $c->psql('SELECT 1', %$conn);

		push @errors, $err if $rc;
	}
	push @errors, 'a revoked certificate' if !($c->psql('SELECT 1', cert => 'revoked'))[0];
	return is("@errors", '', "$what: clients connect");
}

sub monitor_is_back
{
	my ($old) = @_;

	return $c->poll_query("SELECT monitor_pid <> $old FROM pg_tls_status", 't', unix => 1);
}

$c->start;
q1('CREATE EXTENSION pg_tls');
clients_connect('at first');
$c->restart;
ok($c->poll_query(q{SELECT count(*) > 0 FROM pg_stat_tls_client_certificates}, 't', unix => 1), 'what was seen is kept');
my $postmaster = $c->pid;

subtest 'full disk' => sub {
	my $save = $c->datadir . '/pg_stat_tmp/pg_tls.stat';
	my $before = slurp($save);
	my $monitor = q1('SELECT monitor_pid FROM pg_tls_status');

	foreach my $way ('no space', 'no permission')
	{
		my $mark = $c->log_mark;

		if ($way eq 'no space')
		{
			symlink '/dev/full', "$save.tmp" or die $!;
		}
		else
		{
			chmod 0500, $c->datadir . '/pg_stat_tmp' or die $!;
		}
		q1('SELECT pg_stat_tls_reset()');    # saves at once
		ok($c->wait_for_log(
				$way eq 'no space' ? qr/LOG:  could not write file "pg_stat_tmp\/pg_tls.stat.tmp": No space left on device/ :
				  qr/LOG:  could not write file "pg_stat_tmp\/pg_tls.stat.tmp": Permission denied/, $mark),
			"$way: the log says so");
		clients_connect($way);
		is(slurp($save), $before, '... the file is as it was');
		chmod 0700, $c->datadir . '/pg_stat_tmp' or die $!;
		ok(!-l "$save.tmp", '... and nothing is left beside it');
	}
	is(q1('SELECT monitor_pid FROM pg_tls_status'), $monitor, 'the monitor lives');
	q1('SELECT pg_stat_tls_reset()');
	ok($c->poll_until(sub { slurp($save) ne $before }), 'with space, it is written');

	clients_connect('then');
	$c->restart;
	$postmaster = $c->pid;
	$before = slurp($save);
	clients_connect('more');
	symlink '/dev/full', "$save.tmp" or die $!;
	ok($c->restart, 'a restart while the disk is full');
	$postmaster = $c->pid;
	is(slurp($save), $before, 'leaves the last good file');
	ok($c->poll_query(q{SELECT count(*) > 0 FROM pg_stat_tls_client_certificates}, 't', unix => 1), '... which is read');
};

subtest 'no shared memory' => sub {
	my $good = q1($files);

	chmod 0500, $c->datadir . '/pg_dynshmem' or die $!;
	foreach my $query ($files, 'SELECT * FROM pg_tls_check()', 'SELECT pg_tls_reload()')
	{
		my ($rc, undef, $err) = $c->psql($query, unix => 1);

		like($err, qr/ERROR:  could not open shared memory segment .*: Permission denied/, "$query: an error");
	}
	clients_connect('no shared memory');
	is(q1('SELECT active FROM pg_tls_status'), 't', 'what needs none is there');
	chmod 0700, $c->datadir . '/pg_dynshmem' or die $!;
	is(q1($files), $good, 'and then all is');
};

subtest 'the monitor' => sub {
	foreach my $signal (qw(TERM STOP KILL))
	{
		my $mark = $c->log_mark;
		my $pid = q1('SELECT monitor_pid FROM pg_tls_status');

		$c->kill_backend($pid, $signal) or die $!;
		if ($signal eq 'STOP')
		{
			clients_connect($signal);
			is(q1('SELECT ok FROM pg_tls_reload()'), 't', 'STOP: a reload works');
			is(q1('SELECT count(*) > 0 FROM pg_stat_tls_clients'), 't', '... and views');
			kill 'CONT', $pid;
			ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'CONT: it goes on');
			next;
		}
		if ($signal eq 'TERM')
		{
			clients_connect($signal);
			ok(monitor_is_back($pid), 'TERM: it comes back');
			unlike($c->log_since($mark), qr/reinitializing/, '... without a restart');
			next;
		}
		ok($c->wait_for_log(qr/ready to accept connections/, $mark), "$signal: the server restarts itself");
		ok(monitor_is_back($pid), '... with a monitor');
		clients_connect($signal);
		is(q1('SELECT count(*) > 0 FROM pg_stat_tls_client_certificates'), 't', '... and what was saved');
	}
	is($c->pid, $postmaster, 'all by the same postmaster');
};

# A dry run that waits for the passphrase as long as there is a file.
subtest 'a worker in the middle of its work' => sub {
	my $command = "test ! -e '$dir/hold' || sleep 1234571$$; echo secret";
	my $sleeps = qr/^sleep 1234571$$/;

	unlink $c->tls('server.key');
	system("openssl pkey -in '" . $pki->key('server') . "' -aes128 -passout pass:secret -out '" . $c->tls('server.key') . "'") == 0 or die;
	chmod 0600, $c->tls('server.key');
	$c->set_conf({ ssl_passphrase_command => $command, ssl_passphrase_command_supports_reload => 'on',
			'pg_tls.watch_files' => 'off' });
	is(q1('SELECT ok FROM pg_tls_reload()'), 't', 'the key needs a passphrase');
	spew("$dir/hold", '');

	my $s = $c->session(unix => 1);

	$s->pid;
	foreach my $signal (qw(TERM INT USR1 HUP STOP))
	{
		$s->send('SELECT ok FROM pg_tls_check()');
		ok($c->poll_until(sub { $c->processes($sleeps) && worker('pg_tls check') }), "$signal: it waits");
		my $worker = worker('pg_tls check');
		kill $signal, $worker or die $!;
		clients_connect($signal);
		kill 'TERM', $c->processes($sleeps) if $signal ne 'TERM' && $signal ne 'STOP';
		q1('SELECT pg_cancel_backend(' . $s->pid . ')') if $signal eq 'STOP';
		my ($ok, $out, $err) = $s->wait;

		if ($signal eq 'TERM')
		{
			like($err, qr/ERROR:  the dry run of the TLS configuration ended without a result\n.*HINT:  Try again/, '... an error');
		}
		elsif ($signal eq 'STOP')
		{
			like($err, qr/canceling statement due to user request/, '... who waits can be cancelled');
			kill 'CONT', $worker;
		}
		else
		{
			is("$out$err", 't', '... and goes on');
		}
		ok($c->poll_until(sub { !worker('pg_tls check') && !$c->processes($sleeps) }), '... and nothing is left of it');
	}
	unlink "$dir/hold";
	is($s->query('SELECT ok FROM pg_tls_check()'), 't', 'the next one answers');
	$c->set_conf({ 'pg_tls.watch_files' => 'report' });
	is($c->pid, $postmaster, 'the postmaster lives');
};

subtest 'a storm of signals' => sub {
	my @sessions = map { $c->session(cert => $_) } qw(alice bob);
	my $reader = $c->session(unix => 1);
	my $mark = $c->log_mark;
	my ($connected, $refused, $killed) = (0, 0, 0);

	foreach my $n (1 .. 20)
	{
		$c->reload for 1 .. 5;
		foreach my $name ($n % 10 == 0 ? 'pg_tls monitor' : (), 'pg_tls verifier', 'pg_tls watch')
		{
			my $pid = worker($name);

			$killed += kill((qw(TERM HUP USR1))[ $n % 3 ], $pid) if $pid;
		}
		next if $n % 4;
		$connected++ if !($c->psql('SELECT 1', cert => 'alice'))[0];
		$refused++ if ($c->psql('SELECT 1', cert => 'revoked'))[0];
		$reader->query($_) for 'SELECT * FROM pg_stat_tls', 'SELECT * FROM pg_tls_status', 'SELECT * FROM pg_tls_reloads';
	}
	note "$killed workers got a signal";
	is($connected, 5, 'clients connect');
	is($refused, 5, 'and are refused');
	is(q1('SELECT ok FROM pg_tls_reload()'), 't', 'then a reload');
	ok($c->poll_query('SELECT verdicts_pending, monitor_pid IS NOT NULL FROM pg_tls_status', '0|t', unix => 1), 'all is judged');
	is(q1('SELECT count(*) FROM pg_stat_tls WHERE acceptable'), 2, 'rightly');
	ok($_->alive, 'a session lives') for @sessions, $reader;
	unlike($c->log_since($mark), qr/reinitializing|terminated by signal|PANIC|TRAP/, 'nothing crashed');
	is($c->pid, $postmaster, 'the postmaster lives');
};

subtest 'immediate shutdown in the middle of everything' => sub {
	my @sessions = map { $c->session(cert => $_) } qw(alice bob carol);

	$c->restart;    # saves
	my $rows = q1('SELECT count(*) FROM pg_stat_tls_client_certificates');
	cmp_ok($rows, '>=', 3, 'there is a history');

	{
		my $mark = $c->log_mark;
		my @asking = map { $c->session(unix => 1) } 1 .. 4;
		my $pid = fork // die "fork: $!";

		if ($pid == 0)
		{
			# reloads from another process, until the server is gone; each runs the
			# command for the passphrase, and if they came faster, the postmaster
			# would do nothing else
			local $SIG{TERM} = 'DEFAULT';
			1 while $c->reload && select(undef, undef, undef, 0.2) == 0;
			POSIX::_exit(0);
		}
		@sessions = map { $c->session(cert => $_) } qw(alice bob carol);
		$asking[0]->send('SELECT count(*) FROM pg_tls_findings');
		$asking[1]->send('SELECT * FROM pg_tls_check()');
		$asking[2]->send('SELECT * FROM pg_tls_certificates');
		$asking[3]->send('SELECT pg_tls_reload()');
		ok($c->stop('immediate'), 'stops at once');
		kill 'TERM', $pid;
		waitpid $pid, 0;
		unlike($c->log_since($mark), qr/PANIC|TRAP|signal (?:6|7|8|11)\b|issuing SIGKILL/, 'without a crash');
		ok($c->start, 'starts');
		ok($c->poll_query("SELECT count(*) >= $rows FROM pg_stat_tls_client_certificates", 't', unix => 1), 'with its history');
		clients_connect('then');
		is(q1('SELECT ok FROM pg_tls_reload()'), 't', 'and reloads');
	}
};

subtest 'no worker slots at all' => sub {
	$c->set_conf({ max_worker_processes => 0 });
	ok($c->restart, 'starts');
	clients_connect('no slots');
	is(q1('SELECT active, monitor_pid IS NULL FROM pg_tls_status'), 't|t', 'status');
	is($c->query('SELECT acceptable FROM pg_tls_session()', cert => 'alice'), 't', 'session');
	my ($rc, undef, $err) = $c->psql('SELECT * FROM pg_tls_check()', unix => 1);
	like($err, qr/ERROR:  could not start a background worker.*\nHINT:  .*max_worker_processes/, 'the dry run says what it lacks');
	is(q1(q{SELECT count(*) FROM pg_tls_findings WHERE code = 'files_not_checked'}), 1, 'and so do the findings');
	q1('SELECT pg_reload_conf()');
	ok($c->poll_query('SELECT generation FROM pg_tls_status', '2', unix => 1), 'reloads are seen');
	clients_connect('after it');
	ok($c->stop, 'stops');
};

unlike($c->log_text, qr/PANIC|TRAP|signal (?:6|7|8|11)\b/, 'nothing bad in the log');
done_testing();

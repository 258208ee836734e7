# The verifier in trouble: killed, without a slot, with a full arena, with
# sessions that come and go while it works, and with many of them.

use strict;
use warnings;

use File::Temp ();
use POSIX qw(mkfifo);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'there are no sources to build from' unless TlsBuild->available;

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

chmod 0755, $dir;
$pki->ca('root', not_after => 800 * $DAY);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert($_, issuer => 'root') for qw(victim good);
my @many = map { "many$_" } 1 .. 6;
$pki->cert($_, issuer => 'root') for @many;
$pki->crl('root');
$pki->revoke('victim');
$pki->crl('root', out => "$dir/revoked.crl");

my %crl = (good => slurp($pki->crl_path('root')), revoked => slurp("$dir/revoked.crl"));

sub cluster
{
	my ($variant, %o) = @_;
	my $c = TlsCluster->new(ssl => 1, pki => $pki, crl => $pki->crl_path('root'), preload => $variant->library, %o);

	$c->start;
	$variant->create($c);
	return $c;
}

sub load_crl
{
	my ($c, $which, $admin) = @_;

	spew($c->tls('crl.pem'), $crl{$which});
	return ($admin // $c)->query('SELECT ok FROM pg_tls_reload()', unix => 1);
}

sub verdict
{
	my ($c, $session, $admin) = @_;

	return ($admin // $c)->query('SELECT acceptable, chain_status FROM pg_stat_tls WHERE pid = ' . $session->pid, unix => 1);
}

sub verifiers
{
	my ($c) = @_;
	my %children = $c->children;

	return grep { $children{$_} =~ /pg_tls verifier/ } keys %children;
}

my $slow = TlsBuild->new("$dir/slow", 'slow_judge');

subtest 'killed in the middle' => sub {
	my $c = cluster($slow);
	my @sessions = map { $c->session(cert => $_) } 'victim', @many;
	my $mark = $c->log_mark;
	my ($pid) = (0);

	load_crl($c, 'revoked');
	ok($c->poll_until(sub { ($pid) = verifiers($c); $pid }), 'the verifier is at work');
	$c->kill_backend($pid);
	ok($c->wait_for_log(qr/ready to accept connections/, $mark), 'restarted');
	ok($c->poll_query('SELECT monitor_pid IS NOT NULL, generation FROM pg_tls_status', 't|2', unix => 1),
		'the monitor is back');
	ok($c->refused(undef, cert => 'victim'), 'the new CRL is in force');
	my $good = $c->session(cert => 'good');
	is(verdict($c, $good), 't|valid', 'a new session');
	load_crl($c, 'good');
	my $victim = $c->session(cert => 'victim');
	load_crl($c, 'revoked');
	ok($c->poll_until(sub { verdict($c, $victim) eq 'f|revoked' }), 'the verifier works again');
	$c->stop;
};

subtest 'slots that are reused in between' => sub {
	# So many sessions that another has to take the slot of the one that ends.
	my $c = cluster($slow, conf => { 'pg_tls.invalid_sessions' => 'terminate',
			max_connections => @many + 2, superuser_reserved_connections => 0,
			(TlsCluster->pg_version >= 16 ? (reserved_connections => 0) : ()) });
	my $admin = $c->session(unix => 1);
	my @others = map { $c->session(cert => $_) } @many;
	my $wrong = 0;

	foreach my $round (1 .. 4)
	{
		my $next = sub {
			my ($cert) = @_;
			my $session;

			$c->poll_until(sub { $session = $c->session(cert => $cert); $session->connected }, what => 'a free slot');
			return $session;
		};

		load_crl($c, 'good', $admin);
		ok($c->poll_until(sub { $admin->query('SELECT verdicts_pending FROM pg_tls_status') eq '0' }), 'judged');
		my $victim = $next->('victim');

		load_crl($c, 'revoked', $admin);
		$c->poll_until(sub { verifiers($c) });
		# The slot is given to another, while the verifier has yet to come to it.
		$victim->close;
		my $good = $next->('good');

		ok(verifiers($c) > 0, 'the verifier still works when another has the slot');
		$c->poll_until(sub {
			$wrong++ if verdict($c, $good, $admin) ne 't|valid';
			return !verifiers($c);
		});
		ok($good->alive, 'the session that has the slot now lives');
		$good->close;
	}
	is($wrong, 0, 'and never had the verdict of another');
	ok($_->alive, 'others live, too') for @others;
	unlike($c->log_text, qr/terminating connection with PID/, 'nobody was ended');
	$c->stop;
};

# A file that is no file holds it up, one after the other, and whoever has
# started it has gone.
subtest 'stuck' => sub {
	plan skip_all => 'ssl_crl_dir came with PostgreSQL 14' if TlsCluster->pg_version < 14;
	my $c = cluster(TlsBuild->new("$dir/impatient", WORKER_LIMIT => 2000000));
	my $crls = $c->datadir . '/crls';
	my ($hash) = `openssl crl -hash -noout -in '@{[ $pki->crl_path('root') ]}'` =~ /^(\w+)$/;

	mkdir $crls;
	spew("$crls/$hash.r0", $crl{good});
	$c->set_conf({ ssl_crl_file => '', ssl_crl_dir => 'crls', 'pg_tls.watch_interval' => '200ms' });
	is($c->query('SELECT ok FROM pg_tls_reload()', unix => 1), 't', 'with ssl_crl_dir');
	my $s = $c->session(cert => 'good');
	is(verdict($c, $s), 't|valid', 'a session');

	unlink "$crls/$hash.r0";
	mkfifo("$crls/$hash.r$_", 0600) or die "mkfifo: $!" for 0 .. 2;
	my ($stuck, $monitor);
	ok($c->poll_until(sub { ($stuck) = verifiers($c); $stuck }), 'the verifier waits for a FIFO');
	$monitor = $c->query('SELECT monitor_pid FROM pg_tls_status', unix => 1);
	kill 'TERM', $monitor;
	ok($c->poll_query("SELECT monitor_pid <> $monitor FROM pg_tls_status", 't', unix => 1), 'its monitor is another');
	ok($c->poll_until(sub { !grep { $_ == $stuck } verifiers($c) }), 'the verifier is ended all the same');

	# nor is a shutdown held up
	ok($c->poll_until(sub { verifiers($c) }), 'another one waits');
	ok($c->stop, 'the server stops');
	unlink map { "$crls/$hash.r$_" } 0 .. 2;
	spew("$crls/$hash.r0", $crl{good});
	$c->start;
	$s = $c->session(cert => 'good');
	unlink "$crls/$hash.r0";
	spew("$crls/$hash.r0", $crl{revoked});
	ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'and sessions are judged again');
	is(verdict($c, $s), 't|valid', '... rightly');
	$s->close;
	$c->stop;
};

# With the terminating verifier and clients that come and go, as fast as they
# can; those whose certificate is good never notice anything.
my $plain = TlsBuild->new("$dir/plain");

subtest 'clients that come and go' => sub {
	my $c = cluster($plain, conf => { 'pg_tls.invalid_sessions' => 'terminate' });
	my @children;

	foreach my $n (1 .. 4)
	{
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			my $stop = 0;
			local $SIG{TERM} = sub { $stop = 1 };
			my ($rounds, $error) = (0, '');

			until ($stop || $error)
			{
				my ($rc, undef, $err) = $c->psql('SELECT pg_sleep(0.02)', cert => 'good');

				$error = $err if $rc;
				$rounds++;
			}
			spew("$dir/child.$n", "$rounds $error");
			POSIX::_exit(0);
		}
		push @children, $pid;
	}
	my $ended = 0;
	foreach (1 .. 15)
	{
		load_crl($c, 'good');
		my $victim = $c->session(cert => 'victim');
		my $pid = $victim->pid;
		load_crl($c, 'revoked');
		$ended++ if $c->poll_query("SELECT count(*) FROM pg_stat_tls WHERE pid = $pid", '0', unix => 1);
	}
	kill 'TERM', @children;
	waitpid $_, 0 for @children;
	is($ended, 15, 'the revoked one was ended each time');
	like(slurp("$dir/child.$_"), qr/^[1-9]\d* $/, 'no good one was') for 1 .. 4;
	my $count = () = $c->log_text =~ /terminating connection with PID/g;
	is($count, 15, 'each was logged once');
	$c->stop;
};

# Anybody may take all worker slots, for parallel queries.  Returns the sessions
# that hold them.
sub take_slots
{
	my ($c, $free) = @_;
	my @sessions;

	$c->query('CREATE ROLE mallory LOGIN', unix => 1)
	  if $c->query(q{SELECT count(*) FROM pg_roles WHERE rolname = 'mallory'}, unix => 1) eq '0';
	for (my $taken = 0; $taken < $free;)
	{
		my $s = $c->session(unix => 1, user => 'mallory');

		$s->query("SET $_") for 'max_parallel_workers = 100', 'max_parallel_workers_per_gather = 100',
		  'parallel_setup_cost = 0', 'parallel_tuple_cost = 0', 'min_parallel_table_scan_size = 0';
		$s->send('SELECT count(pg_sleep(1000)) FROM pg_proc');
		push @sessions, $s;
		$c->poll_until(
			sub {
				my $before = $taken;
				$taken = $c->query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, unix => 1);
				return $taken > $before || $taken >= $free;
			}) or die 'no parallel query took a slot';
	}
	return @sessions;
}

sub give_slots_back
{
	my ($c) = @_;

	$c->query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mallory'}, unix => 1);
	return $c->poll_query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, '0', unix => 1);
}

subtest 'slots that others have taken' => sub {
	# the launcher of logical replication and the monitor have two of the default
	my $c = cluster($plain, conf => { max_worker_processes => 8 });
	my $victim = $c->session(cert => 'victim');
	my $good = $c->session(cert => 'good');

	ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'judged');
	my @thieves = take_slots($c, 6);
	my $mark = $c->log_mark;

	$c->query(q{CREATE TABLE pids AS SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, unix => 1);
	like(($c->psql('SELECT * FROM pg_tls_check()', unix => 1))[2], qr/could not start a background worker/, 'no slot is free');
	spew($c->tls('crl.pem'), $crl{revoked});
	$c->reload;
	ok($c->poll_until(sub { verdict($c, $victim) eq 'f|revoked' }), 'all the same, the new CRL is heeded');
	is($c->query('SELECT count(*) FROM pids JOIN pg_stat_activity USING (pid)', unix => 1), 6, '... with no slot free');
	is(verdict($c, $good), 't|valid', '... and nobody wronged');
	ok($c->wait_for_log(qr/LOG:  no worker slot is free for the pg_tls verifier, so the pg_tls monitor gives way to it/, $mark),
		'the log says so');
	ok($c->poll_query('SELECT verdicts_pending, verdicts_pending_since IS NULL, monitor_pid IS NOT NULL FROM pg_tls_status', '0|t|t', unix => 1),
		'no verdict is pending, and the worker is there');

	$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
	$c->reload;
	ok($c->poll_until(sub { !$victim->alive }), 'the revoked one is ended');
	ok($good->alive, '... and no other');

	ok(give_slots_back($c), 'the slots are free again');
	$_->close for @thieves;
	my $monitor;
	foreach my $round (1, 2)
	{
		load_crl($c, 'good');
		my $next = $c->session(cert => 'victim');
		load_crl($c, 'revoked');
		ok($c->poll_until(sub { !$next->alive }), 'with free slots');
		$monitor //= $c->query('SELECT monitor_pid FROM pg_tls_status', unix => 1);
	}
	is($c->query('SELECT monitor_pid FROM pg_tls_status', unix => 1), $monitor, '... the monitor stays');
	$c->stop;
};

# A CRL that is to be loaded by itself.
subtest 'slots that others have taken, and the watch' => sub {
	my $c = cluster($plain, conf => {
			max_worker_processes => 4, 'pg_tls.watch_files' => 'reload', 'pg_tls.watch_interval' => '200ms',
			'pg_tls.invalid_sessions' => 'terminate' });
	my $victim = $c->session(cert => 'victim');
	my $good = $c->session(cert => 'good');
	my @thieves = take_slots($c, 2);
	my $mark = $c->log_mark;

	spew($c->tls('crl.pem'), $crl{revoked});
	ok($c->poll_query('SELECT generation FROM pg_tls_status', 2, unix => 1), 'the CRL is loaded all the same');
	ok($c->poll_until(sub { !$victim->alive }), '... and the revoked session ended');
	ok($good->alive, '... and no other');
	ok($c->wait_for_log(qr/no worker slot is free for the pg_tls $_, so/, $mark), "the monitor gave way to the $_") for qw(watch verifier);

	# It comes to rest: nothing is done again for having been done by another.
	my ($pid, $since) = ('', 0);
	ok($c->poll_until(sub {
		my $now = $c->query('SELECT monitor_pid FROM pg_tls_status', unix => 1);
		($pid, $since) = ($now, time) if $now ne $pid;
		return time - $since > 8;
	}, timeout => 60), 'in the end the monitor stays');
	$_->close for @thieves;
	$c->stop;
};

# The launcher of logical replication and the monitor, and no more for ever.
subtest 'no slot but its own' => sub {
	my $c = cluster($plain, conf => { max_worker_processes => 2, 'pg_tls.invalid_sessions' => 'terminate' });
	my $good = $c->session(cert => 'good');

	foreach my $round (1, 2)
	{
		my $victim = $c->session(cert => 'victim');

		spew($c->tls('crl.pem'), $crl{revoked});
		$c->reload;
		ok($c->poll_until(sub { !$victim->alive }), "round $round: the revoked one is ended");
		spew($c->tls('crl.pem'), $crl{good});
		$c->reload;
		ok($c->poll_query('SELECT generation, verdicts_pending FROM pg_tls_status', 1 + 2 * $round . '|0', unix => 1), '... and all judged');
		is(verdict($c, $good), 't|valid', '... rightly');
	}
	ok($good->alive, 'others live');
	is($c->query(q{SELECT severity FROM pg_tls_findings WHERE code = 'files_not_checked'}, unix => 1), 'warning',
		'that no other worker can be started is a finding');
	$c->stop;
};

subtest 'no worker at all' => sub {
	foreach my $max (0, 1)
	{
		my $c = cluster($plain, conf => { max_worker_processes => $max });

		like($c->log_text, qr/WARNING:  pg_tls has no background worker, since "max_worker_processes" is too low\n.*DETAIL: .*\n.*HINT: .*which is $max,/,
			"max_worker_processes = $max: a warning");
		is($c->query('SELECT monitor_pid FROM pg_tls_status', unix => 1), '', 'no process');
		is($c->query(q{SELECT severity FROM pg_tls_findings WHERE code = 'worker_not_running'}, unix => 1), 'critical', 'a finding');
		next if $max;

		my $victim = $c->session(cert => 'victim');

		spew($c->tls('crl.pem'), $crl{revoked});
		$c->reload;
		ok($c->poll_query('SELECT generation, verdicts_pending, verdicts_pending_since = loaded_at FROM pg_tls_status', '2|1|t', unix => 1),
			'the verdict is pending');
		$c->reload;
		ok($c->poll_query('SELECT generation, verdicts_pending, verdicts_pending_since < loaded_at FROM pg_tls_status', '3|1|t', unix => 1),
			'... since the first change, not the last');
		is(verdict($c, $victim), 't|valid', '... and as it was');
		ok($c->poll_query(q{SELECT severity FROM pg_tls_findings WHERE code = 'verdicts_pending'}, 'critical', unix => 1, timeout => 180),
			'after a minute this is a finding');
	}
};

subtest 'full arena' => sub {
	my $c = cluster($plain, conf => { 'pg_tls.chain_memory' => '64kB', 'pg_tls.invalid_sessions' => 'terminate' });
	my @names = map { "large$_" } 1 .. 12;
	my @sessions;

	foreach my $name (@names)
	{
		$pki->cert($name, issuer => 'root', san => [ map { "DNS:host$_.$name.example.org" } 1 .. 300 ]);
		push @sessions, $c->session(cert => $name);
	}
	$pki->crl('root', out => "$dir/all.crl", revoked => \@names);
	is($c->query('SELECT count(*) FILTER (WHERE acceptable), count(*) FROM pg_stat_tls WHERE client_certificate', unix => 1),
		'12|12', 'all are acceptable');
	my $refused = $c->query('SELECT chains_refused FROM pg_tls_status', unix => 1);
	cmp_ok($refused, '>', 0, 'not all found room');
	cmp_ok($refused, '<', 12, 'but some');
	spew($c->tls('crl.pem'), slurp("$dir/all.crl"));
	is($c->query('SELECT ok FROM pg_tls_reload()', unix => 1), 't', 'loaded');
	ok($c->poll_query('SELECT count(*), count(acceptable) FROM pg_stat_tls WHERE client_certificate', "$refused|0", unix => 1),
		'those that can be judged are ended, the others are not, and not known');
	is($c->query('SELECT verdicts_pending FROM pg_tls_status', unix => 1), 0, 'no verdict is pending');
	is(scalar(grep { $_->alive } @sessions), $refused, 'and live');
	$_->close for @sessions;
	ok($c->poll_query('SELECT pg_tls_test_chains()', qr/^0 certificates, 0 chains of 0 sessions/, unix => 1), 'nothing is left in the arena')
	  if $c->query(q{SELECT count(*) FROM pg_proc WHERE proname = 'pg_tls_test_chains'}, unix => 1);
	$c->stop;
};

# As many as PG_TLS_SESSIONS says, from one process of another driver.
SKIP:
{
	skip 'there is no psycopg2', 1 if system('python3 -c "import psycopg2" 2>/dev/null') != 0;

	subtest 'many sessions with many certificates' => sub {
		my $n = $ENV{PG_TLS_SESSIONS} // 200;
		my $c = cluster($plain, conf => { max_connections => $n + 20 });

		mkdir "$dir/many";
		spew("$dir/many/key", slurp($pki->key('good')));
		chmod 0600, "$dir/many/key";
		system("openssl req -new -key '$dir/many/key' -subj /CN=x -out '$dir/many/csr'") == 0 or die;
		foreach my $i (1 .. $n)
		{
			system('openssl', 'x509', '-req', '-in', "$dir/many/csr", '-CA', $pki->crt('root'), '-CAkey', $pki->key('root'),
				'-set_serial', 1000 + $i, '-days', 30, '-out', "$dir/many/$i.crt") == 0 or die
			  if open STDERR, '>', '/dev/null';
		}
		$pki->crl('root', out => "$dir/odd.crl", revoked => [ map { sprintf '0x%x', 1000 + 2 * $_ - 1 } 1 .. $n / 2 ]);
		spew("$dir/client.py", <<'END');
import sys, psycopg2
port, n, d = sys.argv[1], int(sys.argv[2]), sys.argv[3]
connections = []
for i in range(1, n + 1):
    connections.append(psycopg2.connect(
        host='localhost', port=port, user='postgres', dbname='postgres', sslmode='require',
        gssencmode='disable', sslcert='%s/%d.crt' % (d, i), sslkey=d + '/key'))
print('ready', flush=True)
sys.stdin.readline()
END
		open my $client, '|-', "python3 '$dir/client.py' " . $c->port . " $n '$dir/many' > '$dir/client.out' 2>&1" or die;
		ok($c->poll_until(sub { -s "$dir/client.out" }, timeout => 240), "$n sessions");
		is(slurp("$dir/client.out"), "ready\n", 'are connected');
		is($c->query('SELECT count(*), count(DISTINCT client_fingerprint) FROM pg_stat_tls WHERE acceptable', unix => 1), "$n|$n", 'all acceptable');
		$crl{odd} = slurp("$dir/odd.crl");
		my $start = time;
		is(load_crl($c, 'odd'), 't', 'loaded');
		ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'judged');
		note sprintf '%d sessions judged %.0f ms after the call of pg_tls_reload()', $n, 1000 * (time - $start);
		is($c->query(q{SELECT count(*) FROM pg_stat_tls WHERE client_certificate AND acceptable = (client_serial % 2 = 0)}, unix => 1),
			$n, 'each of them rightly');
		is($c->query('SELECT count(*) FROM pg_tls_check_sessions()', unix => 1), $n / 2, 'pg_tls_check_sessions finds the same');
		print $client "\n";
		close $client;
		$c->stop;
	};
}

done_testing();

# Many reloads, while clients come and go and the views are read.

use strict;
use warnings;

use File::Temp ();
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use TlsCluster;
use TlsPKI qw(slurp spew);

my $RELOADS = 1000;
my $CLIENTS = 8;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $c = TlsCluster->new(ssl => 1, pki => $pki, conf => { max_connections => 40 });

$c->start;
my $admin = $c->session(unix => 1, timeout => 300);
$admin->query('CREATE EXTENSION pg_tls');
my $mark = $c->log_mark;
my $good = slurp($c->tls('server.crt'));

# Clients, each a process that connects again and again, and one that reads.
# They write what went wrong.
sub child
{
	my ($n, $code) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	my $rounds = 0;
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	my $err = '';

	while (!$stop && $err eq '')
	{
		$err = $code->() // '';
		$rounds++;
	}
	spew("$dir/child.$n", "$rounds $err");
	POSIX::_exit(0);
}

my @children;
foreach my $n (1 .. $CLIENTS)
{
	push @children, child($n,
		sub {
			my ($rc, $out, $err) = $c->psql('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
				$n % 2 ? (cert => 'alice') : ());

			return $rc ? $err : $out eq 't' ? '' : "not over TLS: $out";
		});
}
push @children, child('reader',
	sub {
		# The rows are those of attempts that there were, newest first, and a
		# success has a certificate.
		my ($rc, $out, $err) = $c->psql(q{
			SELECT count(*) FROM (
				SELECT r.attempt, lag(r.attempt) OVER (), r.ok, r.error, r.generation, r.server_fingerprint
				FROM pg_tls_reloads r, pg_tls_status) r(attempt, newer, ok, error, generation, fingerprint)
			WHERE attempt >= newer OR ok <> (generation IS NOT NULL) OR ok <> (fingerprint IS NOT NULL)
				OR ok = (error IS NOT NULL) OR ok <> (attempt % 3 <> 0)
			}, unix => 1);

		return $rc ? $err : $out eq '0' ? '' : "wrong rows: $out";
	});

my %memory;
my ($wrong, $attempt) = (0, 1);
my $start = time;

foreach my $n (1 .. $RELOADS)
{
	my $bad = ++$attempt % 3 == 0;
	my ($ok, $out, $err);

	if ($bad)
	{
		spew($c->tls('server.crt'), "rubbish\n");
		$admin->query('SELECT pg_reload_conf()');
		while (1)
		{
			$out = $admin->query("SELECT last_attempt_ok, last_error, active FROM pg_tls_status WHERE attempts = $attempt AND last_attempt_ok IS NOT NULL");
			last if $out ne '' || time > $start + 280;
		}
		$ok = $out =~ /^f\|could not load server certificate file .*\|t$/;
		spew($c->tls('server.crt'), $good);
	}
	else
	{
		(undef, $out, $err) = $admin->try_query("SELECT attempt, ok, trigger FROM pg_tls_reload('60s')");
		$ok = $out eq "$attempt|t|function";
	}
	if (!$ok)
	{
		diag "attempt $attempt: $out", $err // '';
		last if ++$wrong > 5;
	}
	$memory{$n} = $c->memory_kb($c->pid) if $n == 100 || $n == $RELOADS;
}
note sprintf '%d reloads in %.1f s', $RELOADS, time - $start;

kill 'TERM', @children;
waitpid $_, 0 foreach @children;

is($wrong, 0, 'every outcome is right');
is($admin->query('SELECT attempts, failures, generation FROM pg_tls_status'),
	join('|', $RELOADS + 1, int(($RELOADS + 1) / 3), $RELOADS + 1 - int(($RELOADS + 1) / 3)), 'counters');
is($admin->query('SELECT count(*), min(attempt), max(attempt) FROM pg_tls_reloads'),
	join('|', 128, $RELOADS - 126, $RELOADS + 1), 'history');
foreach my $n (1 .. $CLIENTS, 'reader')
{
	like(slurp("$dir/child.$n"), qr/^[1-9]\d+ $/, "no error in child $n");
}
note "VmRSS of the postmaster: $memory{100} kB after 100 reloads, $memory{$RELOADS} kB after $RELOADS";
cmp_ok($memory{$RELOADS} - $memory{100}, '<', 1024, 'the memory of the postmaster does not grow');

# What is logged is the server's own, and what we were asked to raise.
my @lines = grep {
	!/LOG:  (connection (received|authorized|authenticated)|received SIGHUP|could not load server certificate|SSL configuration was not reloaded|parameter)/
	  && !/FATAL:  canceling|^\t/
	  && !/DETAIL:  Client certificate|checkpoint|could not (accept|receive)/
} split /\n/, $c->log_since($mark);

is("@lines", '', 'nothing else is logged');

# Signals as fast as they go coalesce; the last state is right.
foreach my $n (1 .. 300)
{
	spew($c->tls('server.crt'), $n % 2 ? "rubbish\n" : $good);
	$c->reload;
}
$c->psql('SELECT 1') for 1 .. 3;
$pki->cert('last', issuer => 'int', kind => 'server', san => ['DNS:localhost']);
spew($c->tls('server.key'), slurp($pki->key('last')));
spew($c->tls('server.crt'), slurp($pki->chain('last')));
is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'after a storm of signals');
chomp(my $fingerprint = lc($pki->show('last', '-fingerprint', '-sha256') =~ s/.*=|://gr));
is($admin->query('SELECT active, last_attempt_ok, server_fingerprint FROM pg_tls_status'), "t|t|$fingerprint",
	'the last state is right');
is($c->query('SELECT config_generation FROM pg_tls_session()'), $admin->query('SELECT generation FROM pg_tls_status'),
	'and what new connections use');

# Several at once: each gets an attempt that began after it asked.
my @sessions = map { $c->session(unix => 1) } 1 .. 5;
my $before = $admin->query('SELECT attempts FROM pg_tls_status');
$_->send('SELECT attempt, ok FROM pg_tls_reload()') for @sessions;
foreach my $s (@sessions)
{
	my ($ok, $out) = $s->wait;

	like($out, qr/^\d+\|t$/, 'one of several at once');
	cmp_ok(0 + $out =~ s/\|.*//r, '>', $before, 'has an attempt of its own time');
}

# Killing the worker of a dry run is a crash like another.
$c->set_conf({ ssl_passphrase_command => "sleep 1234568$$; echo secret", ssl_passphrase_command_supports_reload => 'on' });
unlink $c->tls('server.key');
system("openssl pkey -in '" . $pki->key('last') . "' -aes128 -passout pass:secret -out '" . $c->tls('server.key') . "'") == 0 or die;
chmod 0600, $c->tls('server.key');
my $generation = $admin->query('SELECT generation FROM pg_tls_status');
my ($worker) = (0);
$mark = $c->log_mark;
$sessions[0]->send('SELECT * FROM pg_tls_check()');
ok($c->poll_until(sub {
	my %children = $c->children;

	($worker) = grep { $children{$_} =~ /pg_tls check/ } keys %children;
	return $worker;
}), 'the dry run waits for the passphrase');
$c->kill_backend($worker);
ok($c->wait_for_log(qr/ready to accept connections/, $mark), 'restarted');
kill 'TERM', $c->processes(qr/sleep 1234568$$/);
ok($c->poll_query('SELECT active, generation FROM pg_tls_status', "t|$generation", unix => 1), 'the state is right');
$c->set_conf({ ssl_passphrase_command => 'echo secret' });
is($c->query('SELECT ok, generation FROM pg_tls_reload()', unix => 1), 't|' . ($generation + 1), 'and reloads work');

# All worker slots taken.
# (One is the launcher of logical replication.)
$c->set_conf({ max_worker_processes => 2 });
$c->restart;
my ($rc, undef, $err) = $c->psql('SELECT * FROM pg_tls_check()', unix => 1);
like($err, qr/ERROR:  could not start a background worker.*\nHINT:  .*max_worker_processes/, 'no slot for the dry run');
is($c->query('SELECT active, monitor_pid IS NOT NULL FROM pg_tls_status', unix => 1), 't|t', 'the rest works');

$c->stop;
unlike($c->log_since($mark) =~ s/.*?ready to accept connections//sr, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

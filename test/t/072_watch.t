# pg_tls.watch_files: files that change by themselves; and warnings of ends.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root', not_after => 800 * $DAY);
$pki->cert($_, issuer => 'root', kind => 'server', subject => "/CN=$_", san => ['DNS:localhost'], not_after => 100 * $DAY)
  for qw(one two);
$pki->cert('soon', issuer => 'root', kind => 'server', san => ['DNS:localhost'], not_after => 20 * $DAY);
$pki->bundle("$dir/ca.pem", 'root');

my $c = TlsCluster->new(ssl => 1, pki => $pki, server_cert => 'one', ca => "$dir/ca.pem",
	conf => { 'pg_tls.watch_interval' => '100ms' });

$c->start;
my $s = $c->session(unix => 1);
$s->query('CREATE EXTENSION pg_tls');

my $changed = qr/LOG: +TLS files have changed, and the server still uses what it has loaded\n.*DETAIL: +Changed: (.*)\.\n.*HINT: +Call pg_tls_reload/;

sub replace
{
	my ($from, $to) = @_;

	spew("$to.new", slurp($from));
	chmod 0600, "$to.new";
	rename "$to.new", $to or die "$to: $!";
	return;
}

sub fingerprint { return lc $pki->show($_[0], qw(-fingerprint -sha256)) =~ s/^.*=|:|\s+$//gr }

subtest 'report, the default' => sub {
	my $mark = $c->log_mark;

	is($s->query('SHOW pg_tls.watch_files'), 'report', 'setting');
	replace($pki->chain('two'), $c->tls('server.crt'));
	replace($pki->key('two'), $c->tls('server.key'));
	$c->wait_for_log($changed, $mark);
	like($c->log_since($mark), qr/$changed/, 'told');
	$c->log_since($mark) =~ $changed;
	is($1, 'ssl_cert_file, ssl_key_file', 'which');
	is($s->query('SELECT server_fingerprint FROM pg_tls_status'), fingerprint('one'), 'nothing was loaded');

	# other bytes, the same contents
	spew($c->tls('server.crt'), "renewed\n" . slurp($pki->chain('one')));
	replace($pki->key('one'), $c->tls('server.key'));
	$c->poll_query(q{SELECT count(*) FROM pg_tls_files WHERE state = 'changed'}, 0, unix => 1);
	replace($pki->chain('two'), $c->tls('server.crt'));
	$c->wait_for_log(qr/TLS files have changed, but the server could not load them: .*key values mismatch\n.*DETAIL: +Changed: ssl_cert_file\./, $mark);
	my @told = $c->log_since($mark) =~ /TLS files have changed/g;
	is(scalar @told, 2, 'each once: what fits, and what does not');
};

subtest 'reload' => sub {
	my $mark = $c->log_mark;

	$c->set_conf({ 'pg_tls.watch_files' => 'reload' });
	$c->reload;    # fails
	$c->poll_query(q{SELECT last_attempt_ok FROM pg_tls_status}, 'f', unix => 1);
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');
	replace($pki->key('two'), $c->tls('server.key'));
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1);
	is($s->query('SELECT attempts FROM pg_tls_status') - $attempts, 1, 'one attempt');
	is($s->query('SELECT trigger, ok FROM pg_tls_reloads LIMIT 1'), 'watch|t', 'by the watch');
	like($c->log_since($mark), qr/LOG: +TLS files have changed, reloading the configuration\n.*DETAIL: +Changed: ssl_cert_file, ssl_key_file\./, 'told');

	spew($c->tls('ca.crt'), slurp($pki->crt('root')) x 2);
	$c->reload;
	$c->poll_query(q{SELECT trigger FROM pg_tls_reloads LIMIT 1}, 'reload', unix => 1);
	$s->query('SELECT pg_tls_reload()');
	is($s->query('SELECT trigger FROM pg_tls_reloads LIMIT 1'), 'function', 'reloads of others are theirs');
};

# What a renewal may look like.  Each puts certificate and key of a name there.
my $swap = $c->datadir . '/swap';
my %ways = (
	rename => sub {
		replace($pki->chain($_[0]), $c->tls('server.crt'));
		replace($pki->key($_[0]), $c->tls('server.key'));
	},
	'in place' => sub {
		spew($c->tls('server.crt'), slurp($pki->chain($_[0])));
		spew($c->tls('server.key'), slurp($pki->key($_[0])));
	},
	'symbolic link' => sub {
		# as Kubernetes does it: the link is to a directory
		my $new = "$swap/..$_[1]";

		make_path($new);
		spew("$new/server.crt", slurp($pki->chain($_[0])));
		spew("$new/server.key", slurp($pki->key($_[0])));
		chmod 0600, "$new/server.key";
		symlink "..$_[1]", "$swap/..data_tmp" or die $!;
		rename "$swap/..data_tmp", "$swap/..data" or die $!;
	});
my $n = 0;

foreach my $way ('rename', 'in place', 'symbolic link')
{
	subtest "renewals: $way" => sub {
		if ($way eq 'symbolic link')
		{
			$ways{$way}->('two', 'first');
			symlink "..data/server.$_", "$swap/server.$_" or die $! for qw(crt key);
			$c->set_conf({ ssl_cert_file => 'swap/server.crt', ssl_key_file => 'swap/server.key' });
			$c->reload;
			$c->poll_query('SHOW ssl_cert_file', 'swap/server.crt', unix => 1);
		}
		my ($attempts, $failures) = split /\|/, $s->query('SELECT attempts, failures FROM pg_tls_status');
		my $failed = 0;

		for my $name (qw(one two) x ($ENV{PG_TLS_RENEWALS} // 2))
		{
			$ways{$way}->($name, ++$n);
			my $fp = fingerprint($name);
			my $deadline = time + 60;

			# a client loop, until the new certificate is served
			while (time < $deadline)
			{
				$failed++ if ($c->psql('SELECT 1', host => '127.0.0.1'))[0] != 0;
				last if $s->query('SELECT server_fingerprint FROM pg_tls_status') eq $fp;
			}
			is($s->query('SELECT server_fingerprint FROM pg_tls_status'), $fp, "renewal $n is served");
		}
		is($failed, 0, 'no connection failed');
		is($s->query('SELECT failures FROM pg_tls_status'), $failures, 'no attempt failed');
		is($s->query("SELECT count(*) FROM pg_tls_reloads WHERE attempt > $attempts AND trigger <> 'watch'"), 0, 'all by the watch');
	};
}

subtest 'a key that comes later' => sub {
	my $mark = $c->log_mark;
	my $failures = $s->query('SELECT failures FROM pg_tls_status');

	$c->set_conf({ ssl_cert_file => undef, ssl_key_file => undef });
	$c->set_conf({ ssl_cert_file => 'tls/server.crt', ssl_key_file => 'tls/server.key' });
	$c->reload;
	$c->poll_query('SHOW ssl_cert_file', 'tls/server.crt', unix => 1);
	replace($pki->chain('one'), $c->tls('server.crt'));
	$c->wait_for_log(qr/could not load them: .*key values mismatch/, $mark);
	is($s->query('SELECT failures FROM pg_tls_status'), $failures, 'no attempt while they do not fit');
	replace($pki->key('one'), $c->tls('server.key'));
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('one'), unix => 1);
	is($s->query('SELECT failures FROM pg_tls_status'), $failures, 'no attempt failed');
};

subtest 'off' => sub {
	my $mark = $c->log_mark;

	$c->set_conf({ 'pg_tls.watch_files' => 'off' });
	$c->reload;
	$c->poll_query('SHOW pg_tls.watch_files', 'off', unix => 1);
	replace($pki->chain('two'), $c->tls('server.crt'));
	replace($pki->key('two'), $c->tls('server.key'));
	sleep 3;    # longer than the monitor waits for a change to settle
	unlike($c->log_since($mark), qr/TLS files have changed/, 'not told');
	is($s->query('SELECT server_fingerprint FROM pg_tls_status'), fingerprint('one'), 'not loaded');
	$c->set_conf({ 'pg_tls.watch_files' => 'reload' });
	$c->reload;
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1);
};

subtest 'TLS that is not active becomes so' => sub {
	$c->set_conf({ ssl => 'off' });
	$c->reload;
	$c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1);
	spew($c->tls('server.crt'), 'nothing');
	$c->set_conf({ ssl => 'on' });
	$c->reload;
	$c->poll_query('SELECT ssl_setting, active, last_attempt_ok FROM pg_tls_status', 't|f|f', unix => 1);
	replace($pki->chain('two'), $c->tls('server.crt'));
	$c->poll_query('SELECT active FROM pg_tls_status', 't', unix => 1);
	is($s->query('SELECT trigger FROM pg_tls_reloads LIMIT 1'), 'watch', 'by the watch');
};

subtest 'expiry_warning' => sub {
	my $mark = $c->log_mark;
	my $warning = qr/WARNING: +server certificate "\/CN=soon" ends at [0-9: +-]+\n/;

	unlike($c->log_text, qr/WARNING: +server certificate/, 'nothing ends');
	replace($pki->chain('soon'), $c->tls('server.crt'));
	replace($pki->key('soon'), $c->tls('server.key'));
	$c->wait_for_log($warning, $mark);
	for (1 .. 3)
	{
		$s->query('SELECT pg_tls_reload()');
		$c->poll_query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tls watch'}, 0, unix => 1);
	}
	sleep 2;
	my @told = $c->log_since($mark) =~ /$warning/g;
	is(scalar @told, 1, 'told once');
	$c->set_conf({ 'pg_tls.expiry_warning' => '10d' });
	$s->query('SELECT pg_tls_reload()');
	$c->set_conf({ 'pg_tls.expiry_warning' => '25d' });
	$s->query('SELECT pg_tls_reload()');
	sleep 2;
	@told = $c->log_since($mark) =~ /$warning/g;
	is(scalar @told, 1, 'still once');
};

is($c->postmaster_alive, 1, 'the server lives');
unlike($c->log_text, qr/PANIC|terminated by signal|exited with exit code [^01]/, 'and so did the workers');
$c->stop;
done_testing();

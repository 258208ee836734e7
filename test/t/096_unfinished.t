# Work of the workers that is cut short, by a signal or for lack of memory, is
# done in the end, and once; and the cache of signatures refuses nobody for lack
# of memory.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsInject;
use TlsPKI qw(slurp spew);

plan skip_all => 'needs the sources and glibc' unless TlsInject->available;

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

chmod 0755, $dir;
$pki->ca('root', not_after => 800 * $DAY);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert($_, issuer => 'root') for qw(victim good);
my $good_crl = slurp($pki->crl('root'));
$pki->revoke('victim');
my $revoked_crl = slurp($pki->crl('root', out => "$dir/revoked.crl"));

my $inject = TlsInject->new("$dir/inject");
my $c = TlsCluster->new(
	ssl => 1, pki => $pki, crl => $pki->crl_path('root'),
	conf => {
		'pg_tls.watch_files' => 'off',
		'pg_tls.watch_interval' => '1h',
		'pg_tls.expiry_warning' => 0,
		'pg_tls.invalid_sessions' => 'terminate',
		'pg_tls.crl_signature_cache' => 'on',
	});

spew($c->tls('crl.pem'), $good_crl);
$c->start(env => $inject->env);

my $admin = $c->session(unix => 1);
$admin->query('CREATE EXTENSION pg_tls');

sub load_crl
{
	spew($c->tls('crl.pem'), $_[0]);
	return is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'reloaded');
}

sub pending_is_judged
{
	return $c->poll_until(sub { $admin->query('SELECT verdicts_pending FROM pg_tls_status') eq '0' });
}

subtest 'a login with the cache of signatures' => sub {
	my %wrong;

	load_crl($revoked_crl);
	# they are verified before the next process starts
	is($c->query('SELECT crl_signatures FROM pg_tls_status', unix => 1), 1, 'a signature is remembered');
	foreach my $name (qw(good victim))
	{
		$inject->fail(count => 0, who => 'login');
		$c->psql('SELECT 1', cert => $name);
		$inject->off;
		my $n = $inject->calls;

		note "$name: $n allocations";
		foreach my $i ($name eq 'good' ? 1 .. $n : 1 .. ($n < 10 ? $n : 10), 0)
		{
			$inject->fail($i > 0 ? (one => $i) : (from => 1), who => 'login');
			my ($rc, undef, $err) = $c->psql('SELECT 1', cert => $name);

			$inject->off;
			$wrong{"$name, allocation $i"} = $err if ($rc == 0) != ($name eq 'good');
		}
	}
	is_deeply(\%wrong, {}, 'who is let in does not depend on memory of ours');
	load_crl($good_crl);
};

subtest 'a verifier that fails while it ends sessions' => sub {
	my $good = $c->session(cert => 'good');
	my $n;
	my $failures = 0;

	# the list of those who are to end is among the last that it asks memory for;
	# how many follow depends on the server
	foreach my $from_end (undef, 0 .. 30)
	{
		last if $failures > 1;
		my $victim = $c->session(cert => 'victim');
		my $mark = $c->log_mark;
		my $what = defined $from_end ? 'allocation ' . ($n - $from_end) . " of $n" : 'nothing fails';

		$inject->fail(defined $from_end ? (one => $n - $from_end) : (count => 0), who => 'pg_tls verifier', scope => 'all');
		load_crl($revoked_crl);
		ok($c->poll_until(sub { !$victim->alive }), "$what: the session is ended");
		$inject->off;
		$n //= $inject->calls;
		$failures++ if $c->log_since($mark) =~ /ERROR:  out of memory/;
		load_crl($good_crl);
		pending_is_judged();
	}
	cmp_ok($failures, '>', 0, 'there was a verifier that failed');
	ok($good->alive, 'the other session lives');
};

# Each start costs the postmaster a fork.
subtest 'a verifier that fails each time' => sub {
	my $s = $c->session(cert => 'good');
	my $mark = $c->log_mark;
	my @times;

	$inject->fail(from => 1, who => 'pg_tls verifier', scope => 'all');
	load_crl($good_crl);
	ok($c->poll_until(sub {
		@times = map { $_->[0] * 3600 + $_->[1] * 60 + $_->[2] } map { [ split /:/ ] }
		  $c->log_since($mark) =~ / ([\d:]+\.\d+) UTC \[\d+\] pg_tls verifier: ERROR:  out of memory/g;
		@times >= 3;
	}), 'fails again and again') or diag $c->log_since($mark);
	$inject->off;
	cmp_ok(($times[2] - $times[0] + 86400) % 86400, '>=', 1, '... not all the time');
	ok(pending_is_judged(), 'and succeeds in the end');
	is($admin->query('SELECT bool_and(acceptable) FROM pg_stat_tls WHERE client_certificate'), 't', '... rightly');
};

# What was seen before the restart is there in the end, and no more.
subtest 'a monitor that fails as it starts' => sub {
	my $seen = sub {
		return $c->query(q{SELECT reason, count FROM pg_stat_tls_handshakes WHERE result <> 'accepted' AND count > 0 ORDER BY 1}, unix => 1) . "\n" .
		  $c->query('SELECT fingerprint, usename, sessions FROM pg_stat_tls_client_certificates ORDER BY 1, 2', unix => 1);
	};
	my $n;

	$admin->close;
	$c->stop;
	$c->start(env => $inject->env);
	my $before = $seen->();
	like($before, qr/certificate_revoked\|\d+\n.*\|postgres\|\d/s, 'there is a history');
	for (my $i = 0; $i <= ($n // 0); $i++)
	{
		$c->stop;
		$inject->fail($i > 0 ? (one => $i) : (count => 0), who => 'pg_tls monitor', scope => 'all');
		$c->start(env => $inject->env);
		# memory is there again with the second allocation; a reload has it looked for
		ok($c->poll_until(sub { $c->reload; $seen->() ne "\n" }), "allocation $i: it is read");
		$n //= $inject->calls;
		$n = 6 if $n > 6;    # of its beginning
		$inject->off;
		is($seen->(), $before, '... once');
	}
	note "$n allocations";
	cmp_ok($n, '>', 2, 'there are some');
};

ok($c->stop, 'stops');
unlike($c->log_text, qr/PANIC|TRAP|terminated by signal|reinitializing/, 'nothing crashed');
done_testing();

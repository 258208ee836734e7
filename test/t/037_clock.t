# What the clock changes: for a client that logs in at that moment, and for one
# that brings many certificates, which end one after the other.

use strict;
use warnings;

use File::Temp ();
use Test::More;
use Time::HiRes qw(time);

use TlsCluster;
use TlsLogin;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);

$pki->ca('root', @years);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert($_, issuer => 'root', @years) for qw(v0 v1 v2 bystander);
$pki->crl('root', next_update => 100 * $DAY);

my $empty = slurp($pki->crl_path('root'));
my $c = TlsCluster->new(
	ssl => 1, pki => $pki, ca => $pki->crt('root'), crl => $pki->crl_path('root'),
	hba => [ 'local all all trust', 'hostssl all slow all password clientcert=verify-ca', 'hostssl all all all trust' ]);

$c->start;
my $admin = $c->session(unix => 1, timeout => 90);
$admin->query('CREATE EXTENSION pg_tls');
$admin->query(q{CREATE ROLE slow LOGIN PASSWORD 'x'});

# Its CRL begins while the client is asked for its password.
SKIP:
{
	skip 'OpenSSL 1.1.1 cannot make such CRLs', 1 if `openssl version` =~ /^OpenSSL 1\./;

	subtest 'a login over the moment when a CRL begins' => sub {
		foreach my $others (0, 1, 2)
		{
			my $what = (
				'nobody else is connected, so that nobody is judged at that moment',
				'somebody else is judged at that moment',
				'somebody else was judged before, by the same load')[$others];
			my $begin = 8;
			my $cert = "v$others";
			my $bystander = $others == 2 ? $c->session(cert => 'bystander') : undef;

			# not later than that, as a second may pass meanwhile
			my $time = time + $begin;
			spew($c->tls('crl.pem'), $empty,
				slurp($pki->crl('root', out => "$dir/begins.crl", revoked => [$cert], last_update => $begin, next_update => 100 * $DAY)));
			is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', "$what: loaded");
			if ($bystander)
			{
				ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'judged');
			}
			my $login = TlsLogin->new($c, user => 'slow', cert => $cert);

			$bystander = $c->session(cert => 'bystander') if $others == 1;
			cmp_ok(time, '<', $time, 'asked for its password before') or next;
			ok($c->poll_until(sub { ($c->psql('SELECT 1', cert => $cert))[0] != 0 }), 'the CRL has begun');
			if ($bystander)
			{
				ok($c->poll_query('SELECT min(checked_at) >= to_timestamp(' . int($time) . q{) FROM pg_stat_tls WHERE client_cn = 'bystander'},
						't', unix => 1), 'the bystander was judged');
			}
			ok($login->answer('x'), 'logged in after it');
			ok($c->poll_query("SELECT acceptable, crl_status FROM pg_stat_tls WHERE client_cn = '$cert'", 'f|revoked', unix => 1),
				'and is known to be revoked');
			$login->close;
			$bystander->close if $bystander;
			ok($c->poll_query('SELECT count(*) FROM pg_stat_tls WHERE client_certificate', '0', unix => 1), 'both are gone');
		}
	};
}

# All of them are certificates of one CA that the server does not have, any of
# which could be the one that counts.
subtest 'certificates that end second by second' => sub {
	my $n = 15;
	my $end = time + 15;
	my @ints;

	$pki->ca('int', issuer => 'root', not_after => int($end - time));
	push @ints, slurp($pki->crt('int'));
	foreach my $i (1 .. $n)
	{
		$pki->sign_again('int', issuer => 'root', not_after => $i < $n ? int($end + $i - time) : 100 * $DAY);
		push @ints, slurp($pki->crt('int'));
	}
	$pki->cert('deep', issuer => 'int', @years);
	spew("$dir/chain.crt", slurp($pki->crt('deep')), @ints);
	$c->set_conf({ ssl_crl_file => '', log_min_messages => 'debug1' });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	my $s = $c->session(cert => 'deep', sslcert => "$dir/chain.crt");

	is($admin->query(q{SELECT acceptable FROM pg_stat_tls WHERE client_cn = 'deep'}), 't', 'connected');
	my $mark = $c->log_mark;
	my $begin = time;
	my $passes = sub { return scalar(() = $c->log_since($mark) =~ /pg_tls judged \d+ sessions/g) };

	ok($c->poll_query('SELECT now() > to_timestamp(' . int($end + $n + 1) . ')', 't', unix => 1, timeout => 120), 'all but one have ended');
	my $took = time - $begin;
	my $count = $passes->();
	note "$count passes in $took s";
	cmp_ok($count, '>', 1, 'it was judged again');
	cmp_ok($count, '<=', 2 + $took / 5, 'but not for each of them');
	ok($c->poll_query(
			q{SELECT verdicts_pending, acceptable, valid_until > now() + interval '90 days' FROM pg_tls_status, pg_stat_tls WHERE client_cn = 'deep'},
			'0|t|t', unix => 1), 'the last one counts in the end');
	$s->close;
};

done_testing();

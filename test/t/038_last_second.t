# The second in which a certificate or CRL ends.  Whether that still counts as
# valid depends on OpenSSL (it does since 4.0).  What pg_tls says in that second,
# before it and after it is what a reconnect meets in the same second.

use strict;
use warnings;

use File::Temp ();
use Test::More;
use Time::HiRes qw(sleep time);

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);

$pki->ca($_, @years) for qw(root briefroot);
$pki->ca($_, issuer => 'root', @years) for qw(int briefint);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('leaf', issuer => 'int', @years);
$pki->cert('brief', issuer => 'int', @years);
$pki->cert('underint', issuer => 'briefint', @years);
$pki->cert('underroot', issuer => 'briefroot', @years);
my @cas = qw(root briefroot int briefint);
$pki->raw_crl($_, next_update => 100 * $DAY) for @cas;
$pki->bundle("$dir/ca.pem", 'root', 'briefroot');
$pki->crl_file("$dir/crl.pem", @cas);

my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crl.pem",
	conf => { 'pg_tls.watch_interval' => '200ms' });

$c->start;
my $admin = $c->session(unix => 1, timeout => 60);
$admin->query('CREATE EXTENSION pg_tls');

sub verdict
{
	my ($s, $what) = @_;

	return $admin->query("SELECT $what FROM pg_stat_tls WHERE pid = " . $s->pid);
}

# What is seen in a second, in which all of it begins and ends; nothing if the
# machine was too slow for that.
sub look
{
	my ($second, $s, $cert, $says) = @_;
	my %seen;

	# time() may come to a second some milliseconds late
	sleep 0.01 while time < $second + 0.02;
	$seen{before} = verdict($s, 'acceptable');
	$seen{session} = $c->session(cert => $cert);
	$seen{reconnect} = $seen{session}->connected ? 't' : 'f';
	$seen{after} = verdict($s, 'acceptable');
	$seen{says} = $admin->query($says) if $says;
	$seen{alive} = $s->alive ? 't' : 'f';
	return if time >= $second + 1;
	return \%seen;
}

# Sees the end of something, which $make has end in that many seconds: the
# session, its end, and what was seen in the seconds before, at and after that.
# $says is what else is to be true in SQL as long as a reconnect is let in.
sub story
{
	my ($cert, $make, $says) = @_;

	# A busy machine may be too slow for what it takes in one second.
	foreach my $try (1 .. 10)
	{
		my (%at, $s, $end);

		$make->(4 + $try);
		$admin->query('SELECT ok FROM pg_tls_reload()') eq 't' or die 'not loaded';
		$s = $c->session(cert => $cert);
		$end = $s->connected && verdict($s, 'extract(epoch FROM valid_until)::bigint');
		if ($end && time < $end - 1)
		{
			$at{ $_ - $end } = look($_, $s, $cert, $says) foreach $end - 1 .. $end + 1;
			return ($s, $end, \%at) unless grep { !$_ } values %at;
		}
		diag "$cert: not in time";
	}
	die 'this machine is too slow';
}

sub agrees
{
	my ($cert, $make, $status, $says) = @_;
	my ($s, $end, $at) = story($cert, $make, $says);
	my @sessions = ($s, $at->{-1}{session});    # which came in the last second

	foreach my $after (-1 .. 1)
	{
		my $seen = $at->{$after};
		my $expected = $seen->{reconnect};
		my @seen = map { $seen->{$_} } 'before', 'after', $says ? 'says' : ();

		is_deeply(\@seen, [ ($expected) x @seen ], "as a reconnect, $after s after valid_until: $expected");
		is($expected, $after < 0 ? 't' : 'f', '... which is let in before that alone');
	}
	ok($c->poll_until(sub { verdict($_, "checked_at >= to_timestamp($end)") eq 't' }), 'judged again, when it has come')
	  foreach @sessions;
	is(verdict($_, 'acceptable, chain_status, crl_status'), $status, 'with this verdict') foreach @sessions;
	ok($_->alive, 'and the session goes on') foreach @sessions;
	return;
}

sub crl_ends
{
	my ($life) = @_;

	$pki->raw_crl('int', next_update => $life);
	$pki->crl_file($c->tls('crl.pem'), @cas);
	return;
}

subtest 'of the client certificate' => sub {
	agrees('brief', sub { $pki->sign_again('brief', not_after => $_[0]) }, 'f|expired|good',
		q{SELECT count(*) = 0 FROM pg_tls_findings WHERE code = 'client_certificate_expired' AND object ~ 'brief'
			AND problem ~ (SELECT client_fingerprint FROM pg_stat_tls WHERE client_not_after <= now() + interval '1 min'
				ORDER BY client_not_after DESC LIMIT 1)});
};

subtest 'of an intermediate CA' => sub {
	agrees('underint', sub { $pki->sign_again('briefint', issuer => 'root', not_after => $_[0]) }, 'f|expired|good');
};

subtest 'of a root' => sub {
	agrees('underroot', sub {
			$pki->sign_again('briefroot', not_after => $_[0]);
			$pki->bundle($c->tls('ca.crt'), 'root', 'briefroot');
		}, 'f|expired|good',
		q{SELECT bool_and(problem IS DISTINCT FROM '' AND coalesce(problem, '') !~ 'ended') FROM pg_tls_certificates
			WHERE setting = 'ssl_ca_file' AND subject_dn ~ 'briefroot'});
};

subtest 'of a CRL' => sub {
	agrees('leaf', \&crl_ends, 'f|valid|expired',
		q{SELECT status <> 'expired' FROM pg_tls_crls WHERE issuer_dn = '/CN=int'});
};

# Nobody is ended who could come back in that second.
subtest 'and the session ends' => sub {
	my %stories = (brief => sub { $pki->sign_again('brief', not_after => $_[0]) }, leaf => \&crl_ends);

	$pki->raw_crl('int', next_update => 100 * $DAY);
	$pki->crl_file($c->tls('crl.pem'), @cas);
	$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
	foreach my $cert (qw(brief leaf))
	{
		my ($s, $end, $at) = story($cert, $stories{$cert});

		foreach my $after (grep { $at->{$_}{reconnect} eq 't' } -1 .. 1)
		{
			is($at->{$after}{alive}, 't', "$cert: alive as long as a reconnect is let in, $after s after valid_until");
		}
		ok($c->poll_until(sub { !$s->alive }), "$cert: ended after that");
	}
};

$c->stop;
done_testing;

# What everybody may call with certificates holds nobody up: a statement can be
# cancelled, a session terminated and the server stopped while OpenSSL is in one
# of its loops, which take minutes with what is passed here.  Nothing stays
# behind.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(der der_entry der_extension der_oid slurp);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");

sub names { return der(0x30, join '', map { der($_[0], $_) } @_[ 1 .. $#_ ]) }
sub full_name { return der(0xa0, der(0xa0, $_[0] x $_[1])) }
sub leaf { my ($name, @extensions) = @_; return $pki->raw_cert($name, issuer => 'root', subject => dn($name), extensions => \@extensions) }
sub dn { return der(0x30, der(0x31, der(0x30, der_oid('2.5.4.3') . der(0x0c, $_[0])))) }

# Each name of a certificate's distribution point is compared with each of a CRL's.
leaf('points', der_extension('2.5.29.31', der(0x30, der(0x30, full_name(der(0x86, 'a'), 200_000)))));
$pki->raw_crl('root', out => "$dir/points.crl",
	extensions => [ der_extension('2.5.29.28', der(0x30, full_name(der(0x86, ''), 200_000)), 1) ]);

leaf('plain');

# Each name is compared with each of the constraints of all CAs above.
my $basic = der_extension('2.5.29.19', der(0x30, der(0x01, "\xff")), 1);
my $constraints = der_extension('2.5.29.30',
	der(0x30, der(0xa1, join '', map { der(0x30, der(0x82, "e$_.test")) } 1 .. 1000)), 1);

foreach my $i (1 .. 40)
{
	$pki->raw_cert("ca$i", issuer => $i == 1 ? 'root' : 'ca' . ($i - 1), subject => dn("ca$i"),
		extensions => [ $basic, $constraints, der_extension('2.5.29.17', names(0x82, map { "h$_" } 1 .. 1000)) ]);
}
$pki->raw_cert('constrained', issuer => 'ca40', subject => dn('constrained'), extensions => []);

# A CRL of which each entry takes long to read.
$pki->raw_crl('root', out => "$dir/entries.crl",
	entries => [ (der_entry("\1", -60, der_extension('2.5.29.29', names(0x86, ('') x 16), 1))) x 800_000 ]);

my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => '');

$c->start;
$c->query('CREATE EXTENSION pg_tls', unix => 1);
$c->query('CREATE TABLE pem (name text, contents text)', unix => 1);
my %file = (
	leaf => $pki->crt('points'), root => $pki->crt('root'), points => "$dir/points.crl", plain => $pki->crt('plain'),
	constrained => $pki->crt('constrained'), cas => $pki->bundle("$dir/cas", map { "ca$_" } 1 .. 40), entries => "$dir/entries.crl");

$c->query(join('', map { "INSERT INTO pem VALUES ('$_', pg_read_file('$file{$_}'));\n" } sort keys %file), unix => 1);
$c->query(<<'END', unix => 1);
CREATE FUNCTION pem(text) RETURNS text LANGUAGE sql AS 'SELECT contents FROM pem WHERE name = $1';
END

my %slow = (
	'names of distribution points' => q{pem('leaf'), NULL, pem('root'), pem('points')},
	'name constraints' => q{pem('constrained'), pem('cas'), pem('root')},
	'entries of a CRL' => q{pem('plain'), NULL, pem('root'), pem('entries')});

# Processes that a backend has started.
sub helpers
{
	my ($pid) = @_;

	return map { m{(\d+)/stat$} } grep { (eval { slurp($_) } // '') =~ /\A\d+ \(.*\) [^Z] $pid /s } glob '/proc/[0-9]*/stat';
}

sub call { return "SELECT * FROM pg_tls_verify($slow{$_[0]}, mode => '$_[1]')" }

# A session in which a call runs, and its process in OpenSSL.
sub busy_session
{
	my $s = $c->session(unix => 1, timeout => 120);
	my $pid = $s->pid;

	$s->send(call('names of distribution points', 'server'));
	my $helper = $c->poll_until(sub { (helpers($pid))[0] }, what => 'the process that verifies') or return;
	return ($s, $pid, $helper);
}

sub is_gone
{
	my ($pid, $what) = @_;

	return ok($c->poll_until(sub { !-e "/proc/$pid" || slurp("/proc/$pid/stat") =~ /\) Z / }, what => "the end of $what"), "$what is gone");
}

foreach my $mode (qw(server rfc5280))
{
	foreach my $slow (sort keys %slow)
	{
		my $s = $c->session(unix => 1, timeout => 60);
		my $pid = $s->pid;

		$s->query("SET statement_timeout = '500ms'");
		my ($ok, undef, $err) = $s->try_query(call($slow, $mode));
		ok(!$ok, "mode $mode, $slow: cancelled");
		like($err, qr/canceling statement due to statement timeout/, '... as any statement');
		is_deeply([ helpers($pid) ], [], '... and nothing of it still runs');
		is($s->query('SELECT 1'), 1, '... and the session goes on') if !$ok && $s->alive;
	}
}

# Other ways to end it.
{
	my ($s, $pid, $helper) = busy_session();

	ok($c->query("SELECT pg_cancel_backend($pid)", unix => 1), 'pg_cancel_backend()');
	like(($s->wait)[2], qr/canceling statement due to user request/, '... cancels');
	is_gone($helper, 'its process');
	is($s->query('SELECT 1'), 1, 'and the session goes on');
}
{
	my ($s, $pid, $helper) = busy_session();

	ok($c->query("SELECT pg_terminate_backend($pid)", unix => 1), 'pg_terminate_backend()');
	like(($s->wait)[2], qr/terminating connection due to administrator command/, '... terminates');
	is_gone($_->[0], $_->[1]) foreach [ $pid, 'the backend' ], [ $helper, 'its process' ];
}
{
	my ($s, $pid, $helper) = busy_session();

	kill 'KILL', $helper;
	my $err = ($s->wait)[2];

	like($err, qr/ERROR:  the process that ran pg_tls_verify ended without a result\nDETAIL:  .*signal 9/, 'a process that is killed is an error');
	is($s->query('SELECT 1'), 1, '... and no more');
}
foreach my $mode (qw(fast immediate))
{
	my ($s, $pid, $helper) = busy_session();

	ok($c->stop($mode), "stop in mode $mode");
	is_gone($helper, 'the process');
	$s->close;
	$c->start;
}
SKIP:
{
	skip 'only Linux tells a process of the end of its parent', 2 if $^O ne 'linux';
	my ($s, $pid, $helper) = busy_session();

	$c->kill_backend($pid);
	is_gone($helper, 'the process of a backend that was killed');
	$s->close;
	ok($c->poll_query('SELECT 1', '1', unix => 1), 'the server comes back');
}

# Errors come through as they are, and their number is bounded.
{
	my $s = $c->session(unix => 1);
	my $many = sub { my ($ok, undef, $err) = $s->try_query("\\set VERBOSITY verbose\nSELECT * FROM pg_tls_verify($_[0])"); $err };
	my $ca = q{repeat(pem('root'), 5001)};

	like($many->("pem('plain'), $_"), qr/ERROR:  54000: too many certificates in argument "\w+" of pg_tls_verify\nDETAIL:  .*\nHINT:  /, "5,001 of them: $_")
	  foreach $ca, "NULL, $ca";
	$pki->raw_crl('root', out => "$dir/one.crl");
	$s->query("INSERT INTO pem VALUES ('one', pg_read_file('$dir/one.crl'))");
	like($many->("pem('plain'), NULL, pem('root'), repeat(pem('one'), 5001)"), qr/ERROR:  54000: too many CRLs in argument "crls" of pg_tls_verify\n/, '5,001 CRLs');
	is($s->query("SELECT ok FROM pg_tls_verify(pem('plain'), NULL, pem('root'), repeat(pem('one'), 5000))"), 't', 'and not one more');
	like($many->("pem('plain') || 'x--END'"), qr/ERROR:  22P02: .*\nDETAIL:  Line \d+: .*\nHINT:  /, 'errors of others');
}

$c->stop;
done_testing();

# Odd CRLs that are large, which are kept over reloads, sorted, and freed in
# ways of our own (prepare.c): the verdicts are those of OpenSSL alone.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(der der_entry der_extension der_oid slurp spew);

my $N = 50_000;    # from so many on a CRL is large
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root');
$pki->ca('other', issuer => 'root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert('alice', issuer => 'root');
$pki->cert('long', issuer => 'root', serial => '0x' . '7b' x 60);
# Their serial numbers have the same bytes.
$pki->raw_cert('plus', issuer => 'root', serial => der(0x02, "\0\x80"), subject => subject('plus'));
$pki->raw_cert('minus', issuer => 'root', serial => der(0x02, "\x80"), subject => subject('minus'));
$pki->crl('other');
$pki->bundle("$dir/ca.pem", qw(root other));

my @certs = qw(alice long plus minus);
my ($alice, $long) = map { pack 'H*', $pki->serial($_) } qw(alice long);
my $more = join '', map { der_entry(pack('CNn', 0x7f, rand 2**32, rand 2**16), -3600) } 1 .. $N;
my $number = 0;

sub subject { return der(0x30, der(0x31, der(0x30, der_oid('2.5.4.3') . der(0x0c, $_[0])))) }
sub reason { return der_extension('2.5.29.21', der(0x0a, chr $_[0])) }
sub issuer { return der_extension('2.5.29.29', der(0x30, der(0xa4, subject($_[0]))), 1) }
sub entry { return der_entry($_[0], -3600, @_[ 1 .. $#_ ]) }

# A large CRL, with some entries before all others, some after them.
sub crl
{
	my ($before, $after, %opts) = @_;

	return slurp($pki->raw_crl($opts{ca} // 'root', out => "$dir/out.crl", %opts,
		entries => [ @$before, $opts{more} // $more, @$after ],
		extensions => [ der_extension('2.5.29.20', der(0x02, chr ++$number)), @{ $opts{extensions} // [] } ]));
}

my $delta = der_extension('2.5.29.27', der(0x02, "\1"), 1);
my @removed = map { entry($alice, reason($_)) } 8, 1;

my @cases = (
	[ 'nobody is listed', crl([], []) ],
	[ 'alice is listed first', crl([ entry($alice) ], []) ],
	[ 'removeFromCRL', crl([ $removed[0] ], []) ],
	[ 'removeFromCRL, then listed', crl([ $removed[0] ], [ $removed[1] ]) ],
	[ 'listed, then removeFromCRL', crl([ $removed[1] ], [ $removed[0] ]) ],
	[ 'nothing but the same entry, removeFromCRL last', crl([], [ $removed[0] ], more => entry($alice) x $N) ],
	[ 'nothing but the same entry, removeFromCRL first', crl([ $removed[0] ], [], more => entry($alice) x $N) ],
	[ 'a negative serial number', crl([], [ entry("\x80") ]) ],
	[ 'both', crl([ entry("\0\x80"), entry("\x80") ], [ entry("\x80"), entry("\0\x80") ]) ],
	[ 'a long serial number among its like', crl([ entry("$long\0") ], [ entry($long), entry(substr $long, 1) ]) ],
	[ 'alice of another issuer, inherited', crl([ entry("\1", issuer('other')) ], [ entry($alice) ]) ],
	[ 'alice of two issuers', crl([ entry($alice, issuer('other')) ], [ entry($alice, issuer('root')) ]) ],
	[ 'the newer CRL lists', crl([], [], last_update => -7200) . crl([], [ entry($alice) ]) ],
	[ 'the older CRL lists', crl([], [ entry($alice) ], last_update => -7200) . crl([], []) ],
	[ 'forged', crl([], [], signer => 'other') ],
	[ 'a delta CRL beside a complete one', crl([], [ entry($alice) ], extensions => [$delta]) . crl([], [], last_update => -7200) ]);

my ($plain, @servers) = map {
	my ($name, %opts) = @$_;
	my $c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => undef, %opts,
		conf => { ssl_crl_file => 'tls/crl.pem', %{ $opts{conf} // {} } });

	spew($c->tls('crl.pem'), $cases[0][1]);
	$c->start;
	$c;
} [ 'plain', preload => '' ], ['prepared'], [ 'cache', conf => { 'pg_tls.crl_signature_cache' => 'on' } ];

sub load
{
	my ($c) = @_;
	my $mark = $c->log_mark;

	$c->reload;
	$c->wait_for_log(qr/received SIGHUP/, $mark);
	return $c->query('SELECT 1', unix => 1);    # once that is over
}

sub let_in
{
	my ($c) = @_;

	return join ' ', map { ($c->psql('SELECT 1', cert => $_, sslmode => 'require', host => '127.0.0.1'))[0] == 0 ? $_ : "-$_" } @certs;
}

my %verdicts;

foreach my $case (@cases)
{
	my ($name, $crls) = @$case;

	spew($_->tls('crl.pem'), $crls) for $plain, @servers;
	load($plain);
	my $expected = let_in($plain);

	$verdicts{$expected}++;
	foreach my $c (@servers)
	{
		# What was read first takes the place of what is read next.
		load($c) for 0, 1;
		is(let_in($c), $expected, "$name, " . $c->name . ": $expected");
	}
}
cmp_ok(scalar keys %verdicts, '>', 5, 'verdicts of many kinds');
note join "\n", sort keys %verdicts;

$_->stop for $plain, @servers;
unlike($_->log_text, qr/PANIC|signal \d+|TRAP/, 'nothing bad in the log') for @servers;
done_testing;

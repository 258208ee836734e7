# What clients sent is kept once, for as long as a session needs it, and in a
# bounded space.

use strict;
use warnings;

use File::Temp ();
use MIME::Base64 qw(decode_base64 encode_base64);
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'PG_TLS_SRC does not name the sources' unless TlsBuild->available;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");

chmod 0755, $dir;

my $variant = TlsBuild->new("$dir/build", 'chains');
my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => $variant->library,
	conf => { 'pg_tls.chain_memory' => '64kB' });

$c->start;
$variant->create($c);
$c->query("CREATE FUNCTION test_chains() RETURNS text AS '@{[ $variant->library ]}', 'pg_tls_test_chains' LANGUAGE C");

sub chains { return $c->query('SELECT test_chains()', unix => 1) }

sub becomes
{
	my ($expected, $what) = @_;

	return ok($c->poll_until(sub { chains() eq $expected }), "$what: $expected") || diag 'but: ' . chains();
}

is(chains(), '0 certificates, 0 chains of 0 sessions, 0 refused', 'nothing at first');

# Each client sends its certificate and the intermediate.
my @alices = map { $c->session(cert => 'alice') } 1 .. 3;

becomes('2 certificates, 1 chains of 3 sessions, 0 refused', 'the same thrice');

my @others = map { $c->session(cert => $_) } qw(bob carol);

becomes('4 certificates, 3 chains of 5 sessions, 0 refused', 'the intermediate is shared');
@alices = ();
becomes('3 certificates, 2 chains of 2 sessions, 0 refused', 'a chain goes with its last session');

my @without = map { $c->session(%$_) } {}, { ssl => 'disable' }, { unix => 1 };

becomes('3 certificates, 2 chains of 2 sessions, 0 refused', 'sessions without a certificate have none');
@without = @others = ();
becomes('0 certificates, 0 chains of 0 sessions, 0 refused', 'nothing at last');

# The leaf alone, and the leaf with the intermediate, are different.
my $bare = $c->session(cert => 'alice', sslcert => $pki->crt('alice'));

SKIP:
{
	skip 'the server does not know the intermediate', 1 unless $bare->connected;
	becomes('1 certificates, 1 chains of 1 sessions, 0 refused', 'the leaf alone');
}
undef $bare;

# A client that sends much more than its chain, more than there is room for.
# What is of use to it is kept, though it comes last, and nothing else.
my @junk = map { $pki->cert("junk$_", issuer => 'otherroot', key_of => 'alice',
	san => [ map { "DNS:host-$_.example.org" } 1 .. 70 ]); "junk$_" } 1 .. 30;
my $junk_size = length(slurp($pki->crt('junk30'))) * 3 / 4;
my $wordy = $c->session(cert => 'alice', sslcert => $pki->bundle("$dir/wordy.crt", 'alice', @junk, 'int'));

ok($wordy->connected, 'a client sends 30 certificates for nothing') or diag $wordy->error;
cmp_ok(30 * $junk_size, '>', 50 * 1024, '... of ' . int($junk_size) . ' bytes each');
is($wordy->query('SELECT acceptable, chain_length FROM pg_tls_session()'), 't|3', '... and is judged by the others');
becomes('2 certificates, 1 chains of 1 sessions, 0 refused', 'nothing else is kept');
my $bob = $c->session(cert => 'bob');

becomes('3 certificates, 2 chains of 2 sessions, 0 refused', 'the intermediate was kept');
undef $_ for $wordy, $bob;
becomes('0 certificates, 0 chains of 0 sessions, 0 refused', 'nothing is left over');

# What could be of use is kept, once, and within bounds: these have the name of
# the intermediate.
sub similar
{
	my ($name, %opts) = @_;

	$pki->ca($name, issuer => 'otherroot', subject => '/O=Example/CN=Example Intermediate CA', key_of => 'int', %opts);
	return $name;
}

my @small = map { similar("small$_") } 1 .. 30;
my $similar = $c->session(cert => 'alice', sslcert => $pki->bundle("$dir/similar.crt", 'alice', 'int', (@small) x 2));

becomes('18 certificates, 1 chains of 1 sessions, 0 refused', '16 others');
my @large = map { similar("large$_", san => [ map { "DNS:host-$_.example.org" } 1 .. 450 ]) } 1 .. 6;
$similar = $c->session(cert => 'alice', sslcert => $pki->bundle("$dir/similar.crt", 'alice', 'int', @large, 'small1'));
ok($similar->connected, 'connected') or diag $similar->error;
my $large_size = length(slurp($pki->crt('large6'))) * 3 / 4;

cmp_ok($large_size, '>', 8 * 1024, 'others, of ' . int($large_size) . ' bytes each');
becomes(int(24 * 1024 / $large_size) + 3 . ' certificates, 1 chains of 1 sessions, 0 refused', '... as far as they fit into 24 kB, then a small one');
undef $similar;
becomes('0 certificates, 0 chains of 0 sessions, 0 refused', 'nothing is left over');

# More than there is room for: connections succeed all the same.
my @many = map {
	$pki->cert("client$_", issuer => 'int', san => [ map { "DNS:$_.example.org" } 1 .. 150 ]);
	$c->session(cert => "client$_");
} 1 .. 40;

is(scalar(grep { $_->connected } @many), 40, 'a full arena lets everybody in');
is($c->query('SELECT count(*) FROM pg_stat_tls WHERE acceptable', unix => 1), 40, '... and their rows are whole');
my ($kept, $refused) = chains() =~ /of (\d+) sessions, (\d+) refused/;

cmp_ok($refused, '>', 0, "$refused were refused");
is($kept + $refused, 40, '... and the others kept');
@many = ();
becomes("0 certificates, 0 chains of 0 sessions, $refused refused", 'nothing is left over');

# The holders of ordinary certificates cannot fill the default, 4 MB, with the
# default of 100 connections, nor a tenth of both; each sends other ones.
sub altered
{
	my ($name, $session) = @_;

	my $der = decode_base64(slurp($pki->crt($name)) =~ s/^-.*$//mgr);

	# the end of the signature, which nobody verifies
	substr $der, -4, 4, sprintf '%04d', $session;
	return "-----BEGIN CERTIFICATE-----\n" . encode_base64($der) . "-----END CERTIFICATE-----\n";
}

my @sent = (map { $pki->cert("ordinary$_", issuer => 'int', key => 'rsa:4096'); "ordinary$_" } 1 .. 3);
$c->stop;
$c->set_conf({ 'pg_tls.chain_memory' => '409kB' });
$c->start;
foreach my $story ([ 'large ones', 'large1', 'large2', 'small1' ], [ 'small ones', map { "medium$_" } 1 .. 16 ])
{
	my ($what, @names) = @$story;

	/medium/ && similar($_, san => [ map { "DNS:host-$_.example.org" } 1 .. 40 ]) for @names;
	my @sessions = map {
		my $session = $_;
		my $own = $sent[ $session % 3 ];

		spew("$dir/full.crt", slurp($pki->chain($own)), map { altered($_, $session) } @names);
		$c->session(cert => $own, sslcert => "$dir/full.crt");
	} 0 .. 9;
	is(chains(), 10 * @names + 4 . ' certificates, 10 chains of 10 sessions, 0 refused', "much of what could be of use from everybody: $what");
}
becomes('0 certificates, 0 chains of 0 sessions, 0 refused', 'nothing is left over');
$refused = 0;

my $again = $c->session(cert => 'client40');

becomes("2 certificates, 1 chains of 1 sessions, $refused refused", 'and there is room again');

done_testing();

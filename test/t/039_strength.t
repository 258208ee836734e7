# How strong a certificate has to be: for security levels and Suite B, what the
# view says of a session is what the server does when that client connects again.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);

# CAs and clients by key and digest, of which each CA signs each client.
my @cas = (
	[ p256 => 'ec' ], [ p384 => 'ec:P-384', 'sha384' ], [ p384_sha256 => 'ec:P-384', 'sha256' ], [ p521 => 'ec:P-521', 'sha512' ],
	[ rsa1024 => 'rsa:1024' ], [ rsa2048 => 'rsa:2048' ], [ rsa2048_sha1 => 'rsa:2048', 'sha1' ], [ rsa4096 => 'rsa:4096', 'sha512' ],
	[ ed25519 => 'ed25519' ], [ ed448 => 'ed448' ]);
my @keys = ([ p256 => 'ec' ], [ p384 => 'ec:P-384' ], [ p521 => 'ec:P-521' ], [ rsa1024 => 'rsa:1024' ], [ rsa2048 => 'rsa:2048' ],
	[ rsa3072 => 'rsa:3072' ], [ ed25519 => 'ed25519' ], [ ed448 => 'ed448' ]);
my @lists = (
	'DEFAULT', (map { "DEFAULT:\@SECLEVEL=$_" } 0 .. 5), qw(SUITEB128 SUITEB128ONLY SUITEB128C2 SUITEB192), 'HIGH:MEDIUM:+3DES:!aNULL');

# The server has a certificate that is strong enough, and a curve.
$pki->ca('server_ca', key => 'ec:P-384', md => 'sha384', @years);
$pki->cert("server_$_->[0]", issuer => 'server_ca', kind => 'server', key => $_->[1], md => 'sha384', san => ['DNS:localhost'], @years)
  foreach [ p256 => 'ec' ], [ p384 => 'ec:P-384' ];
$pki->ca('server_ca256', key => 'ec', md => 'sha256', @years);
$pki->cert('server_b', issuer => 'server_ca256', kind => 'server', key => 'ec', md => 'sha256', san => ['DNS:localhost'], @years);
$pki->ca('server_ca521', key => 'ec:P-521', md => 'sha512', @years);
$pki->cert('server_p521', issuer => 'server_ca521', kind => 'server', key => 'ec:P-521', md => 'sha512', san => ['DNS:localhost'], @years);

# Of the table, so many clients are tried with each list; all with PG_TLS_ALL.
my %client = map { my $ca = $_; map { ("$_->[0]_by_$ca->[0]" => [ $_, $ca ]) } @keys } @cas;
my @all = sort keys %client;
my %chosen = map { $_ => 1 } $ENV{PG_TLS_ALL} ? @all : qw(p384_by_p256 p384_by_p384 p256_by_p256 ed448_by_ed448 p521_by_p521);

$chosen{ $all[ rand @all ] } = 1 while keys %chosen < 20;

# Some systems make no keys or signatures that are weak.
sub made
{
	my ($what, $make) = @_;

	return 1 if eval { $make->(); 1 };
	note "no $what: $@";
	return 0;
}

my @made_cas = grep {
	my ($name, $key, $md) = @$_;

	made($name, sub { $pki->ca("ca_$name", key => $key, ($md ? (md => $md) : ()), @years) });
} @cas;
my @clients = grep {
	my $name = $_;
	my ($key, $ca) = @{ $client{$name} };
	my $md = $ca->[2];

	made($name, sub { $pki->cert($name, issuer => "ca_$ca->[0]", key => $key->[1], ($md ? (md => $md) : ()), @years) });
} sort keys %chosen;

spew("$dir/ca.pem", map { slurp($pki->crt("ca_$_->[0]")) } @made_cas);
my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", server_cert => 'server_b',
	conf => { max_connections => 200, ssl_ciphers => 'DEFAULT:@SECLEVEL=0' });

$c->start;
$c->query('CREATE EXTENSION pg_tls', unix => 1);

# Clients, unlike the server, take whatever they have.
spew("$dir/openssl.cnf", <<'END');
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = all
[all]
CipherString = ALL:@SECLEVEL=0
END
$ENV{OPENSSL_CONF} = "$dir/openssl.cnf";

# In TLS 1.2 the server wants a key on its own curve.
my %version = map { $_ => /^p(384|521)/ || rand() < 0.5 ? 'TLSv1.3' : 'TLSv1.2' } @clients;

sub way
{
	my ($name) = @_;

	return (cert => $name, map { $_ => $version{$name} } qw(ssl_min_protocol_version ssl_max_protocol_version));
}

my %sessions;

foreach my $name (@clients)
{
	my $s = $c->session(way($name));

	$s->connected ? ($sessions{$name} = $s) : note "$name: not even at security level 0: ", $s->error;
}
cmp_ok(scalar keys %sessions, '>=', 0.7 * @clients, 'most of them are connected');

my $cells = 0;
my %refused;

foreach my $list (@lists)
{
	my $strong = $list =~ /SUITEB192|SECLEVEL=4/ ? 'p384' : $list =~ /SECLEVEL=5/ ? 'p521' : 'b';
	my @differ;

	spew($c->tls('server.key'), slurp($pki->key("server_$strong")));
	spew($c->tls('server.crt'), slurp($pki->crt("server_$strong")));
	$c->set_conf({ ssl_ciphers => $list, ssl_ecdh_curve => $strong =~ /p(\d+)/ ? "secp$1r1" : undef });
	my ($rc, undef, $err) = $c->psql('SELECT pg_tls_reload()', unix => 1);

	if ($rc)
	{
		note "$list: cannot be loaded: $err";
		next;
	}
	$c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1) or last;
	my %says = map { @$_ } $c->query_rows('SELECT pid, acceptable FROM pg_stat_tls WHERE client_certificate', unix => 1);

	foreach my $name (sort keys %sessions)
	{
		my $says = $says{ $sessions{$name}->pid } // 'unknown';
		my ($failed, $with, $error) = $c->psql('SELECT client_serial IS NOT NULL FROM pg_stat_ssl WHERE pid = pg_backend_pid()', way($name));

		# A client whose signature the server does not want may leave out its
		# certificate, and be let in without.
		my $does = $failed ? 'f' : $with;

		# There, the cipher suite decides about the curve of the key.
		next if $list =~ /SUITEB/ && $version{$name} eq 'TLSv1.2' && $says eq 't' && $error =~ /illegal parameter|wrong curve/;

		$cells++;
		$refused{$list}++ if $does eq 'f';
		push @differ, "$name ($version{$name}): the view says $says, the server $does " . $error =~ s/\s+/ /gr if $says ne $does;
	}
	is(join("\n", @differ), '', "$list: the view and the server agree");
	note "$list: ", $refused{$list} // 0, ' of ', scalar(keys %sessions), ' refused';
}
note "$cells cells";
cmp_ok($cells, '>=', 6 * keys %sessions, 'many cells');
cmp_ok(scalar keys %refused, '>=', 4, '... of which some refuse');

$c->stop;
done_testing();

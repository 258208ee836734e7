# Key exchange and signature of every kind that TLS 1.2 has.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my ($major, $minor) = `openssl version` =~ /^\S+ (\d+)\.(\d+)/ or die 'no version';
# Since it knows groups for finite fields in TLS 1.2, OpenSSL may name one.
my $dh = $major >= 4 ? qr/^(DH|ffdhe\d+)$/ : qr/^DH$/;

# RSA transports keys and signs, hence a server with such a key.
$pki->ca('root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], key => 'rsa');
$pki->cert('client', issuer => 'root');
$pki->cert('rsaclient', issuer => 'root', key => 'rsa');

# From then on it takes finite fields from the groups that the server allows.
my $by_group = $major >= 4;
my $has_groups = TlsCluster->pg_version >= 18;
my $c = TlsCluster->new(ssl => 1, pki => $pki, conf => { ssl_ciphers => 'ALL:COMPLEMENTOFALL:!eNULL:@SECLEVEL=0',
		$by_group && $has_groups ? (ssl_groups => 'X25519:prime256v1:ffdhe2048') : () });

$c->start;
$c->query('CREATE EXTENSION pg_tls');

# cipher suite => how keys are exchanged, and whether the server signs
my @cases = (
	[ 'ECDHE-RSA-AES128-GCM-SHA256', qr/^(x25519|secp256r1)$/, 1 ],
	[ 'DHE-RSA-AES128-GCM-SHA256', $dh, 1 ],
	[ 'AES128-GCM-SHA256', undef, 0 ],
	[ 'ADH-AES128-GCM-SHA256', $dh, 0 ],
	[ 'AECDH-AES128-SHA', qr/^(x25519|secp256r1)$/, 0 ],
);
my ($known) = `openssl ciphers 'ALL:COMPLEMENTOFALL:\@SECLEVEL=0'`;

foreach my $case (@cases)
{
	my ($cipher, $group, $signed) = @$case;

	# A client that offers no curves may have no key on one, either.
	foreach my $cert (undef, $by_group && $cipher =~ /^DHE-/ ? 'rsaclient' : 'client')
	{
		# Who does not say who he is cannot ask others.
		next if $cert && $cipher =~ /^A(EC)?DH/;

		my $what = $cipher . ($cert ? ', client with a certificate' : '');

	  SKIP:
		{
			skip "$what: OpenSSL does not have it", 1 unless ":$known:" =~ /:\Q$cipher\E\s*:/;
			skip "$what: PostgreSQL cannot allow a finite field", 1 if $cipher =~ /^A?DHE?-/ && $by_group && !$has_groups;
			my $row = $c->s_client_row(tls1_2 => 1, cert => $cert, extra => [ '-cipher', "$cipher:\@SECLEVEL=0" ]);

			ok($row, "$what: has a row") or next;
			is($row->{cipher}, $cipher, "$what: cipher suite");
			$group
			  ? like($row->{key_exchange}, $group, "$what: group")
			  : is($row->{key_exchange}, undef, "$what: no group");
			ok(defined $row->{post_quantum} && !$row->{post_quantum}, "$what: not post-quantum");
			$signed
			  ? like($row->{signature_algorithm}, qr/^rsa_/, "$what: the server signs")
			  : is($row->{signature_algorithm}, undef, "$what: the server signs nothing");
			$cert
			  ? like($row->{client_signature_algorithm}, $cert eq 'client' ? qr/^ecdsa_/ : qr/^rsa_/, "$what: the client signs")
			  : is($row->{client_signature_algorithm}, undef, "$what: the client signs nothing");
		}
	}
}

done_testing();

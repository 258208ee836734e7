# What mode rfc5280 of pg_tls_verify makes of certificates that no CA should
# have issued as they are: the profile counts along the path, but neither for
# the trust anchor nor for marks that change nothing.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $c = TlsCluster->new(preload => '');
my $serial = 0;
my $is_1_1 = `openssl version` =~ /^OpenSSL 1\.1/;

# From 3.2 on, OpenSSL adds the identifier of the issuer unless told not to, which
# 1.1.1 does not understand.
my $without = $is_1_1 ? '' : 'authorityKeyIdentifier = none';

spew("$dir/conf", <<"END");
[req]
distinguished_name = dn
[dn]
[lone]
$without
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[marks]
basicConstraints = CA:TRUE
keyUsage = keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[no_key_usage]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[no_ca]
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[leaf]
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[no_issuer_key]
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
$without
END

sub openssl
{
	my ($command) = @_;

	system("cd $dir && openssl $command >>log 2>&1") == 0 or die "openssl $command: " . slurp("$dir/log");
	return;
}

# A certificate of that section, by an issuer, or by itself.
sub certificate
{
	my ($name, $section, $issuer) = @_;
	my $by = $issuer ? "-CA $issuer.crt -CAkey $issuer.key -set_serial " . ++$serial : "-signkey $name.key";

	openssl("ecparam -name prime256v1 -genkey -noout -out $name.key");
	openssl("req -new -config conf -key $name.key -subj /CN=$name -out $name.csr");
	openssl("x509 -req -in $name.csr $by -days 100 -extfile conf -extensions $section -out $name.crt");
	return;
}

sub verify
{
	my ($mode, @names) = @_;

	return $c->query(
		'SELECT ok, error_code, verify_depth FROM pg_tls_verify(' .
		  join(', ', map { $_ ? "'" . slurp("$dir/$_.crt") . "'" : 'NULL' } @names) . ", mode => '$mode')",
		ssl => 'disable');
}

$c->start;
$c->query('CREATE EXTENSION pg_tls', ssl => 'disable');
certificate('root', 'lone');
foreach my $section (qw(marks no_key_usage no_ca))
{
	certificate("ca_$section", $section, 'root');
	certificate("leaf_$section", 'leaf', "ca_$section");
}
certificate('leaf_no_issuer_key', 'no_issuer_key', 'root');
certificate('root_no_key_usage', 'no_key_usage');
certificate('leaf_of_root_no_key_usage', 'leaf', 'root_no_key_usage');
certificate('ca_lone', 'lone', 'root');
certificate('leaf_lone', 'leaf', 'ca_lone');

SKIP:
{
	skip 'OpenSSL 1.1.1 knows no more of the profile', 3 if $is_1_1;
	is(verify('rfc5280', 'leaf_no_key_usage', 'ca_no_key_usage', 'root'), 'f|92|1', 'an intermediate without keyUsage');
	is(verify('rfc5280', 'leaf_lone', 'ca_lone', 'root'), 'f|85|1', 'an intermediate without the identifier of its issuer');
	is(verify('rfc5280', 'leaf_no_issuer_key', undef, 'root'), 'f|85|0', 'a certificate without it');
}
is(verify('rfc5280', 'leaf_marks', 'ca_marks', 'root'), 't||', 'extensions with the wrong marks');
is(verify('rfc5280', 'leaf_lone', undef, 'ca_lone'), 't||', 'a trust anchor without the identifier of its issuer');
is(verify('rfc5280', 'leaf_no_key_usage', undef, 'ca_no_key_usage'), 't||', 'a trust anchor without keyUsage');
is(verify('rfc5280', 'leaf_of_root_no_key_usage', undef, 'root_no_key_usage'), 't||', '... which is a root');
like(verify('rfc5280', 'leaf_no_ca', 'ca_no_ca', 'root'), qr/^f\|(79|24)\|1$/, 'an intermediate that is not said to be a CA');
foreach my $leaf (qw(leaf_lone leaf_marks leaf_no_key_usage))
{
	is(verify('server', $leaf, $leaf =~ s/leaf/ca/r, 'root'), 't||', "the server lets $leaf in");
}

$c->stop;
done_testing();

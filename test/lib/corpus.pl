# Writes what the fuzzer begins with: certificates, CRLs and names in DER, each a
# file in the directory that is the argument.

use strict;
use warnings;

use File::Temp ();
use MIME::Base64 qw(decode_base64);

use TlsPKI qw(der der_oid slurp spew);

my ($to) = @ARGV;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set($dir);
my @attributes = (
	(map { der(0x30, der_oid('2.5.4.3') . der($_, 'abcd')) } 0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e),
	der(0x30, der_oid('1.2.3.4.5') . der(0x0c, "\xce\xb1\xc2\x85")), der(0x30, der_oid('2.5.4.6') . der(0x13, 'NL')));
my $name = der(0x30, join '', map { der(0x31, $_) } @attributes);
my @names = (
	der(0x81, 'a@b'), der(0x82, "a,b\n\\\"\0"), der(0x86, 'http://a'), der(0x87, "\x7f\0\0\1"), der(0x87, "\0" x 16),
	der(0x88, "\x2a\3"), der(0xa4, $name), der(0xa5, der(0xa1, der(0x0c, 'e'))),
	(map { der(0xa0, der_oid('1.2.3') . der(0xa0, der($_, "\0\0\0a"))) } 0x02, 0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e));

sub extension { return der(0x30, der_oid($_[0]) . der(0x04, $_[1])) }

$pki->cert('printed', issuer => 'int', eku => 'clientAuth,1.2.3.4', ext => [
	'authorityInfoAccess = OCSP;URI:http://a', 'crlDistributionPoints = URI:http://a', 'freshestCRL = URI:http://b',
	'certificatePolicies = 1.2.3.4,@policy', 'issuerAltName = DNS:a', 'noCheck = ignored', 'tlsfeature = status_request',
	'nsComment = a', 'nsCertType = client', 'nameConstraints = permitted;DNS:a,excluded;IP:10.0.0.0/255.0.0.0',
	'policyConstraints = requireExplicitPolicy:3', 'inhibitAnyPolicy = 2', 'policyMappings = 1.2.3:1.2.4',
	'authorityKeyIdentifier = keyid,issuer:always', '1.2.3.4.5 = DER:0500',
	"[policy]\npolicyIdentifier = 1.2.3.5\nCPS.1 = http://a\nuserNotice.1 = \@notice",
	"[notice]\nexplicitText = UTF8:text\norganization = Org\nnoticeNumbers = 1,2" ]);
$pki->raw_cert('odd', issuer => 'root', subject => $name, serial => der(0x02, "\xff"),
	not_before => der(0x18, '16010101000000Z'), extensions => [ extension('2.5.29.17', der(0x30, join '', @names)),
		extension('2.5.29.15', "\3\3\7\xff\x80"), extension('2.5.29.19', "\x30\0") ]);
$pki->cert('rsa-pss', issuer => 'int', key => 'rsa-pss');
$pki->cert('p384', issuer => 'int', key => 'ec:P-384');
$pki->cert('ed448', issuer => 'int', key => 'ed448');

my $n = 0;

sub seed { return spew(sprintf('%s/%05d', $to, ++$n), $_[0]) }

sub blocks
{
	my ($text) = @_;

	seed(decode_base64($1)) while $text =~ /^-----BEGIN (?:CERTIFICATE|X509 CRL)-----\r?\n(.*?)^-----END/msg;
	return;
}

blocks(slurp($_)) for map({ $pki->crt($_) } $pki->names), map { $pki->crl_path($_) } qw(root int);
seed($name);

# what was found once: a CRL of an issuer without a name, and one of issuers that are none
seed(decode_base64($_)) for <<'END1', <<'END2';
MIIBYDBKAgEBMA0GCSqGSIb3DQEBCwUAMAIxABcNMTgxMDI4MTM1NDExWhcNMTgxMTI3MTM1NDEx
WqAUMBIwEAYDVR0cAQH/BAYwBIMCBkAwDQYJKoZIhvcNAQELBQADggEBAIoctyg3JtXqi6IFKPpi
52O2/P6JuyR3+5/Er3cRQs6hFR0yzTF39XRxnkxVsyaeH4Yuthv7VnK2QkEn9f/3tpB+577Gmslg
A3kkRbQ2DmonLYjFlJLUMVFLUgxBT5prjTjTbpikdNm+2d8Zc1+Ze8soQPAix2Z0oE727VhiSyIm
F9swOOsVHv7h0wlUm9h68b46NJgSsl9eqYogi0g+mPI0BxjYyvDgzJ/ZPK+OFfR51OOH2wh6TUAE
en67g9Ze5Hr7DMrg8y4tl6J4lsgqXeM5c1NsBnsFbucLa9lpS5YHmC3FBLA8Leve1wIxY0FYJGus
scS/q0yZuOdXmwbkV4g=
END1
MIIC8jCCAuYwBQYDSAELMAAXBDAwMFowggFSMBQCAQEXDTEwMDEwMTA4MzAwMFowADAgAgEDFw0x
MDAxMDEwODMwMDBaMAwwCgYDVR0VBAMKAQEwegIBBRcNMTAwMTAxMDgzMDAwWjBmMAoGA1UdFQQD
CgEBMFgGA1UdHQEB/wROMEykSjBIMQswCQYDVQQGEwJVUzEfMB0GA1UEChMWVGVzdCBDZXJ0aWZp
Y2F0ZXMgMjAxMTAYMRYGA1UEAxMPaW5kaXJlY3RDUkwgQ0E3MBQCAQYXDTEwMDEwMTA4MzAwMFow
ADAgAgEHFw0xMDAxMDEwODMwMDBaMAwwCgYDVR0VBAMKAQEwIAIBBxcNMTAwMTAxMDgzMDAwWjAM
MAoGA1UdFQQDCgEBMCACAQkXDTEwMDEwMTA4MzAwMFowDDAKBgNVHRUEAwoBATAgAgELFw0xMDAx
MDEwODMwMDBaMAwwCgYDVR0VBAMKAQGgggF9MIIBeTCCAXUGA1UdHASCAWwwggFooIIBYaCCAV2k
dTBzMQswCQYDVQQGEwJVUzEfMB0GA1UEChMWVGVzdCBDZXJ0aWZpY2F0ZXMgMjAxMTEYMBYGA1UE
CxMPaW5kaXJlY3RDUkwgQ0E1MSkwJwYDVQQDEyBpbmRpcmVjdCBDUkwgZm9yIGluZGlyZWN0Q1JM
IENBNqR1MHMxCzAJBgNVBAYTAlVTMR8wHQYDVQQKExZUZXN0IENlcnRpZmljYXRlcyAyMDExMRgw
FgYDVQQLEw9pbmRpcmVjdENSTCBDQTUxKTAnBgNVBAMTIGluZGlyZWN0IENSTCBmb3IgaW5kaXJl
Y3RDUkwgQ0E3pG0wazELMAkGA1UEBhMCVVMxHzAdBgNVBAoTFlRlc3QgQ2VydGlmaWNhdGVzIDIw
MTExGDAWBgNVBAsTD2luZGlyZWN0Q1JMIENBNTEhMB8GA1UEAxMYQ1JMMSBmb3IgaW5kaXJlY3RD
UkwgQ0E1hAH/MAMGASsDAQE=
END2

# those of others, where they are installed
foreach my $file (glob '/usr/lib/python3/dist-packages/cryptography_vectors/x509/{,*/,*/*/}*.{pem,der,crt,crl}')
{
	next if -s $file > 20_000;
	my $text = slurp($file);

	$text =~ /\A\x30/ ? seed($text) : blocks($text);
}
print "$n seeds\n";

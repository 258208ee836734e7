# What strangers write into certificates: a row wherever OpenSSL reads them at all,
# of valid, bounded and unambiguous text, in databases of any encoding; otherwise an
# error that says why.  What a TLS library sends comes through real handshakes, too.

use strict;
use warnings;

use File::Temp ();
use MIME::Base64 qw(decode_base64);
use Test::More;

use TlsCluster;
use TlsPKI qw(der der_oid slurp);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);

my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => '');
my @encodings = qw(utf8 latin1 sql_ascii);

$c->start;
foreach my $encoding (@encodings)
{
	$c->query("CREATE DATABASE $encoding ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$c->query('CREATE EXTENSION pg_tls', dbname => $encoding);
}

# ASN.1
use constant { UTF8 => 0x0c, PRINTABLE => 0x13, T61 => 0x14, IA5 => 0x16, UNIV => 0x1c, BMP => 0x1e };
use constant { EMAIL => 0x81, DNS => 0x82, X400 => 0xa3, DIRNAME => 0xa4, EDI => 0xa5, URI => 0x86, IP => 0x87, RID => 0x88 };

my %oid = (CN => '2.5.4.3', C => '2.5.4.6', O => '2.5.4.10', OU => '2.5.4.11');

sub attribute { return der(0x30, der_oid($oid{ $_[0] } // $_[0]) . der($_[1], $_[2])) }
sub name { return der(0x30, join '', map { der(0x31, $_) } @_) }
sub cn { return name(attribute(CN => UTF8, $_[0])) }
sub extension { return der(0x30, der_oid($_[0]) . ($_[2] ? "\1\1\xff" : '') . der(0x04, $_[1])) }
sub san { return extension('2.5.29.17', der(0x30, join '', @_), 0) }
sub other_name { return der(0xa0, der_oid($_[0]) . der(0xa0, $_[1])) }
sub int_der { return der(0x02, $_[0]) }

my %crt;    # PEM by name
my $count = 0;

sub describe
{
	my ($name, $columns, $database) = @_;
	my $hex = unpack 'H*', decode_base64($crt{$name} =~ s/^-.*$//mgr);
	my ($rc, $out, $err) = $c->psql("\\set VERBOSITY verbose\n"
		  . "SELECT $columns FROM pg_tls_certificate(decode('$hex', 'hex'))",
		dbname => $database // 'utf8', unix => 1,
		env => { PGCLIENTENCODING => ($database // '') eq 'sql_ascii' ? 'SQL_ASCII' : 'UTF8' });

	return $rc ? $err : $out;
}

# A certificate, whether a client can connect with it, and what is said of it.
sub certificate
{
	my ($title, $live, $opts, %expected) = @_;
	my $name = 'c' . ++$count;

	$pki->raw_cert($name, issuer => 'root', subject => cn('x'), %$opts);
	$crt{$name} = slurp($pki->crt($name));
	is(describe($name, $_), $expected{$_}, "$title: $_") for sort keys %expected;
	foreach my $encoding (@encodings)
	{
		# a row that has been through everything that makes text of it
		my $text = describe($name, "octet_length(concat_ws(' ', subject_dn, subject_dn_rfc2253, issuer_dn, san, key, eku,"
			  . ' key_usage, signature_algorithm))', $encoding);

		like($text, qr/^\d+$/, "$title: a row in $encoding");
	}
	return $name unless $live;

	my $s = $c->session(cert => $name, dbname => 'utf8');

	ok($s->connected, "$title: connects") or diag $s->error;
	is($s->query(<<'END'), 't', "$title: the same of the session") if $s->connected;
SELECT ROW(c.subject_dn, c.subject_dn_rfc2253, c.issuer_dn, c.serial, c.serial_hex, c.not_before, c.not_after,
           c.san, c.key, c.eku, c.signature_algorithm, c.is_ca, c.self_signed, c.fingerprint)
       IS NOT DISTINCT FROM
       ROW(t.subject_dn, t.subject_dn_rfc2253, t.issuer_dn, t.serial, t.serial_hex, t.not_before, t.not_after,
           t.san, t.key, t.eku, t.signature_algorithm, t.is_ca, t.self_signed, t.fingerprint)
FROM pg_tls_client_chain() c, pg_tls_certificate(c.certificate) t WHERE position = 0
END
	is($s->query("SELECT count(*) FROM pg_tls_client_extensions() WHERE octet_length(value) > 65536"), 0,
		"$title: its extensions") if $s->connected;
	return $name;
}

sub refused
{
	my ($title, $opts) = @_;
	my $name = 'c' . ++$count;

	$pki->raw_cert($name, issuer => 'root', subject => cn('x'), %$opts);
	$crt{$name} = slurp($pki->crt($name));
	like(describe($name, 'subject_dn'), qr/ERROR:  22P03: .*not a certificate in DER\nDETAIL:  OpenSSL cannot read it: .*\nHINT:/,
		"$title: an error that says so");
	return;
}

my $san = "array_to_string(san, E'\\n')";
my $alpha = "\xce\xb1";

subtest 'names' => sub {
	certificate('NUL', 1, { subject => name(attribute(OU => UTF8, "a\0b"), attribute(CN => UTF8, 'n')) },
		subject_dn => '/OU=a\00b/CN=n', subject_dn_rfc2253 => 'CN=n,OU=a\00b');
	certificate('NUL in the CN', 0, { subject => cn("root\0x") }, subject_dn => '/CN=root\00x');
	certificate('BMPString', 1, { subject => name(attribute(OU => BMP, "\x03\xb1\0b")) },
		subject_dn => "/OU=${alpha}b", subject_dn_rfc2253 => 'OU=\CE\B1b');
	certificate('T61String', 1, { subject => name(attribute(CN => T61, "M\xfcller")) },
		subject_dn => "/CN=M\xc3\xbcller");
	certificate('UniversalString', 1, { subject => name(attribute(OU => UNIV, "\0\0\x03\xb1\0\1\xf6\0")) },
		subject_dn => "/OU=$alpha\xf0\x9f\x98\x80");
	certificate('multi-valued RDN', 1, { subject => der(0x30, der(0x31, attribute(O => UTF8, 'a') . attribute(CN => UTF8, 'b'))) },
		subject_dn => '/O=a/CN=b', subject_dn_rfc2253 => 'CN=b+O=a');
	certificate('CN of 65 kB', 1, { subject => cn('y' x 65000) }, 'md5(subject_dn), md5(subject_dn_rfc2253)' =>
		  $c->query("SELECT md5('/CN=' || repeat('y', 65000)), md5('CN=' || repeat('y', 65000))"));
	certificate('empty', 1, { subject => name() }, 'subject_dn IS NULL, subject_dn_rfc2253 IS NULL, issuer_dn' => 't|t|/CN=root');
	certificate('special characters', 1, { subject => cn(qq(a,b+"c"\\<d>;#=\n/e)) },
		subject_dn_rfc2253 => 'CN=a\,b\+\"c\"\\\\\<d\>\;#=\0A/e');
	certificate('unknown attribute', 0, { subject => name(attribute('1.2.3.4.5', UTF8, 'z')) },
		subject_dn => '/1.2.3.4.5=z', subject_dn_rfc2253 => '1.2.3.4.5=#0C017A');
	certificate('no string', 0, { subject => name(attribute('1.2.3.4.5', 0x30, int_der("\1"))) });
	certificate('IA5String that is none', 0, { subject => name(attribute(CN => IA5, "M\xfcller")) },
		subject_dn => "/CN=M\xc3\xbcller");
	certificate('what Latin-1 lacks', 0, { subject => cn("\xe6\x9d\x8e") }, subject_dn => "/CN=\xe6\x9d\x8e");
	is(describe("c$count", 'subject_dn', 'latin1'), '/CN=\E6\9D\8E', '... is escaped in a database of Latin-1');
	is(describe("c$count", 'subject_dn', 'sql_ascii'), "/CN=\xe6\x9d\x8e", '... and the same bytes without an encoding');
	refused('UTF8String that is none', { subject => cn("\xc0\xaf") });
	refused('BMPString of three bytes', { subject => name(attribute(CN => BMP, "\0a\0")) });
};

subtest 'alternative names' => sub {
	certificate('80 kB', 1, { extensions => [ san(map { der(DNS, sprintf 'h%06d.example', $_) } 1 .. 5000) ] },
		'cardinality(san), san[1], san[5000]' => '5000|DNS:h000001.example|DNS:h005000.example');
	certificate('commas, quotes and line feeds', 1, { extensions => [ san(der(DNS, qq(a, DNS:b")), der(DNS, "c\nDNS:d"), der(DNS, '{},NULL')) ] },
		'cardinality(san)' => 3, $san => qq(DNS:a, DNS:b"\nDNS:c\\0ADNS:d\nDNS:{},NULL));
	certificate('all types', 1, { extensions => [ san(
		der(EMAIL, 'a@b'), der(URI, 'http://a/?b,c'), der(IP, "\x7f\0\0\1"), der(IP, ("\0" x 15) . "\1"),
		der(RID, "\x2a\x03"), der(DIRNAME, cn('d,e')), other_name('1.2.3', der(UTF8, $alpha)), other_name('1.2.3', int_der("\7")),
		der(EDI, der(0xa1, der(UTF8, 'e')))) ] },
		$san => join "\n", 'email:a@b', 'URI:http://a/?b,c', 'IP:127.0.0.1', 'IP:::1', 'RID:1.2.3', 'dirName:CN=d\,e',
		"otherName:1.2.3;UTF8:$alpha", 'otherName:1.2.3;#020107', 'ediPartyName:#A505A1030C0165');
	certificate('senseless', 1, { extensions => [ san(der(IP, "\1\2\3"), der(DNS, ''), der(DNS, "\0"), der(DNS, "\xff\xce\xb1\x80"), der(IP, '')) ] },
		$san => "IP:#010203\nDNS:\nDNS:\\00\nDNS:\\FF$alpha\\80\nIP:#");
	certificate('no extension', 1, {}, 'san IS NULL, eku IS NULL, key_usage IS NULL' => 't|t|t');
	my $empty = certificate('no names', 1, { extensions => [ san() ] }, san => '{}', key_usage => '');

	is($c->query('SELECT client_san, client_eku IS NULL FROM pg_tls_session()', cert => $empty, dbname => 'utf8'), '{}|t',
		'... which is not the same as no extension, also for the session');
	certificate('no usages', 0, { extensions => [ extension('2.5.29.37', der(0x30, '')) ] }, eku => '{}');
	certificate('no list', 0, { extensions => [ extension('2.5.29.17', "\x04\x01\x41") ] }, $san => '#040141');

	# what OpenSSL drops when it decodes
	certificate('more behind the list', 1, { extensions => [ extension('2.5.29.17', der(0x30, der(DNS, 'a')) . der(0x30, der(DNS, 'b'))) ] },
		$san => '#30038201613003820162');
	certificate('junk behind the list', 1, { extensions => [ extension('2.5.29.17', der(0x30, der(DNS, 'a')) . 'junk') ] }, $san => '#30038201616A756E6B');
	certificate('a string in parts', 1, { extensions => [ san(der(0xa2, der(IA5, 'a') . der(IA5, 'b'))) ] }, $san => '#3008A206160161160162');
	certificate('a length of two bytes', 1, { extensions => [ extension('2.5.29.17', "\x30\x81\3" . der(DNS, 'a')) ] }, $san => '#308103820161');
	certificate('unused bits', 1, { extensions => [ san(other_name('1.2.3', "\3\2\7\xff")) ] }, $san => '#300CA00A06022A03A004030207FF');
	certificate('an empty RDN', 1, { extensions => [ san(der(DIRNAME, der(0x30, der(0x31, '') . der(0x31, attribute(CN => UTF8, 'a'))))) ] },
		$san => 'dirName:#300E3100310A300806035504030C0161');
	certificate('a string of a name in parts', 1, { extensions => [ san(der(DIRNAME, name(attribute(CN => 0x2c, der(UTF8, 'a'))))) ] },
		$san => 'dirName:#300E310C300A06035504032C030C0161');
	certificate('junk behind usages', 1, { extensions => [ extension('2.5.29.37', der(0x30, der_oid('1.3.6.1.5.5.7.3.2')) . 'x') ] },
		eku => '{#300A06082B0601050507030278}');
	certificate('junk behind key usages', 1, { extensions => [ extension('2.5.29.15', "\3\2\7\x80\0") ] }, key_usage => '{#0302078000}');

	# whatever is not the same does not look so
	my $long = '1.2.' . join '.', (2**28 - 1) x 9;
	my @names = (
		(map { der($_, 'a') } EMAIL, DNS, URI), der(DNS, 'a,DNS:b'), der(DNS, 'a') . der(DNS, 'b'), der(DNS, "a\nDNS:b"),
		der(DNS, 'a\0ADNS:b'), der(DNS, 'a\\\\0ADNS:b'), der(DNS, "a\0"), der(DNS, 'a\00'), der(DNS, 'b') . der(DNS, 'a'),
		der(DNS, "a\xc2\x85"), der(DNS, 'a\C2\85'), der(DNS, "\xc2"), der(DNS, '\C2'), der(DNS, ' a'), der(DNS, 'a '),
		der(IP, "\x7f\0\0\1"), der(IP, ("\0" x 10) . "\xff\xff\x7f\0\0\1"), der(IP, ("\0" x 12) . "\x7f\0\0\1"), der(IP, "\x7f\0\0"),
		der(IP, '#7F0000'), der(DNS, '127.0.0.1'),
		(map { other_name('1.2.3', der($_, 'ab')) } UTF8, PRINTABLE, T61, IA5, BMP, 0x1a, 0x04), other_name('1.2.4', der(UTF8, 'ab')),
		other_name('1.2.3', der(BMP, 'a')), other_name('1.2.3', der(BMP, "\0a")), other_name('1.2.3', der(UNIV, "\0\0\0a")),
		other_name('1.2.3', der(UNIV, "\0\0a")), other_name('1.2.3', der(BMP, "\xd8\0")), other_name('1.2.3', der(BMP, "\0\\\0D\0\\\0A")),
		other_name('1.2.3', der(UTF8, ';UTF8:ab')), other_name('1.2.3', int_der("\1")), other_name('1.2.3', int_der("\2")),
		der(DIRNAME, cn('a,CN=b')), der(DIRNAME, name(attribute(CN => UTF8, 'b'), attribute(CN => UTF8, 'a'))),
		der(DIRNAME, name(attribute(CN => UTF8, 'a'), attribute(CN => UTF8, 'b'))), der(DIRNAME, cn("a\0")), der(DIRNAME, cn('a\00')),
		der(DIRNAME, name()), der(DIRNAME, name(attribute("$long.1", UTF8, 'a'))), der(DIRNAME, name(attribute("$long.2", UTF8, 'a'))),
		der(DIRNAME, cn("a\nDNS:b")), der(RID, "\x2a\x03"), der(RID, "\x2a\x04"), der(DNS, '#0101'), der(RID, "\x55\4\3"),
		der(EDI, der(0xa1, der(UTF8, 'e'))), der(EDI, der(0xa1, der(IA5, 'e'))),
		(map { other_name('1.2.3', "\3\2\7$_") } "\x80", "\xc0", "\xff"), other_name('1.2.3', "\3\2\6\x80"), der(0xa2, der(IA5, 'a')),
		(map { der(DIRNAME, der(0x30, $_)) } der(0x31, ''), (map { der(0x31, attribute(CN => UTF8, 'a')) . $_, $_ . der(0x31, attribute(CN => UTF8, 'a')) } der(0x31, ''))),
		der(DIRNAME, name(attribute(CN => UTF8, 'a'))), der(DIRNAME, name(attribute(CN => 0x2c, der(UTF8, 'a')))),
		der(DIRNAME, name(attribute(CN => UTF8, 'a') . attribute(O => UTF8, 'b'))), der(DIRNAME, name(attribute(CN => UTF8, 'a'), attribute(O => UTF8, 'b'))));
	my (%seen, @twice);

	foreach my $names (@names)
	{
		my $name = 'c' . ++$count;

		$pki->raw_cert($name, issuer => 'root', subject => cn('x'), spki => spki('1.2.3'), extensions => [ san($names) ]);
		$crt{$name} = slurp($pki->crt($name));
		my $shown = describe($name, 'cardinality(san), san');

		push @twice, $shown if $seen{$shown}++;
	}
	is_deeply(\@twice, [], @names . ' lists of names, and no two look the same');
};

subtest 'serial numbers' => sub {
	my $f = 'f' x 40;

	certificate('zero', 1, { serial => int_der("\0") }, 'serial, serial_hex' => '0|00');
	certificate('negative', 1, { serial => int_der("\xff") }, 'serial, serial_hex' => '-1|-01');
	certificate('more negative', 1, { serial => int_der("\x80\0") }, 'serial, serial_hex' => '-32768|-8000');
	certificate('20 bytes', 1, { serial => int_der("\0" . "\xff" x 20) },
		'serial, serial_hex' => "1461501637330902918203684832716283019655932542975|$f");
	certificate('1024 bytes', 1, { serial => int_der("\1" . "\0" x 1023) }, 'length(serial::text), length(serial_hex)' => '2464|2048');
	certificate('1025 bytes', 1, { serial => int_der("\1" . "\0" x 1024) }, 'serial IS NULL, length(serial_hex)' => 't|2050');
	refused('none', { serial => int_der('') });
};

subtest 'dates' => sub {
	certificate('1950', 1, { not_before => der(0x17, '500101000000Z') }, not_before => '1950-01-01 00:00:00+00');
	certificate('1969', 1, { not_before => der(0x17, '691231235959Z') }, not_before => '1969-12-31 23:59:59+00');
	certificate('1601', 1, { not_before => der(0x18, '16010101000000Z') }, not_before => '1601-01-01 00:00:00+00');
	certificate('year 0', 1, { not_before => der(0x18, '00000101000000Z') }, not_before => '0001-01-01 00:00:00+00 BC');
	certificate('year 9999', 1, { not_after => der(0x18, '99991231235959Z') }, not_after => '9999-12-31 23:59:59+00');

	# From 3.6 on, OpenSSL does not read it.
	$pki->raw_cert('no_date', issuer => 'root', subject => cn('x'), not_after => der(0x17, 'tomorrow'));
	$crt{no_date} = slurp($pki->crt('no_date'));
	like(describe('no_date', 'not_after IS NULL, not_before IS NULL'),
		qr/^t\|f$|ERROR:  22P03: .* is not a certificate in DER/, 'no date');
};

sub spki
{
	my ($oid, $parameters, $bits) = @_;

	return der(0x30, der(0x30, der_oid($oid) . ($parameters // '')) . der(0x03, "\0" . ($bits // 'key')));
}

subtest 'keys' => sub {
	my $ec = '1.2.840.10045.2.1';

	certificate('unknown type', 0, { spki => spki('1.2.3.4.5') }, key => '1.2.3.4.5');
	certificate('unknown curve', 0, { spki => spki($ec, der_oid('1.2.3.4.5')) }, key => 'id-ecPublicKey');
	certificate('no point of the curve', 0, { spki => spki($ec, der_oid('1.2.840.10045.3.1.7')) }, key => 'id-ecPublicKey');
	certificate('no RSA key', 0, { spki => spki('1.2.840.113549.1.1.1', "\5\0") }, key => 'rsaEncryption');
	# which has crashed OpenSSL 1.1.1
	certificate('DSA without parameters', 0, { spki => spki('1.2.840.10040.4.1', '', int_der("\x12\x34")) }, key => 'DSA');
	certificate('DSA with others', 0, { spki => spki('1.2.840.10040.4.1', "\5\0", int_der("\x12\x34")) }, key => 'DSA');
	certificate('a tiny RSA key', 0, { spki => spki('1.2.840.113549.1.1.1', "\5\0", der(0x30, int_der("\0\xc1") . int_der("\3"))) }, key => 'RSA-8');
	certificate('RSA with a modulus of zero', 0, { spki => spki('1.2.840.113549.1.1.1', "\5\0", der(0x30, int_der("\0") . int_der("\3"))) });
};

subtest 'extensions' => sub {
	my $own = sub {
		my ($name, $columns, $where) = @_;

		return $c->query("SELECT $columns FROM pg_tls_client_extensions() WHERE $where", cert => $name, dbname => 'utf8');
	};
	my $comment = '2.16.840.1.113730.1.13';
	my $points = sub { der(0x30, join '', map { der(0x30, der(0xa0, der(0xa0, $_))) } @_) };

	certificate('critical and unknown', 0, { extensions => [ extension('1.2.3.4', 'x', 1) ] });
	certificate('key usage of no use', 0, { extensions => [ extension('2.5.29.15', "\3\1\0") ] }, key_usage => '{}');
	certificate('bits without a name', 0, { extensions => [ extension('2.5.29.15', "\3\3\3\x80\x08") ] }, key_usage => '{digitalSignature,"bit 12"}');
	certificate('far too many bits', 0, { extensions => [ extension('2.5.29.15', der(0x03, "\0" . "\xff" x 100_000)) ] },
		'cardinality(key_usage), left(key_usage[1], 11), length(key_usage[1])' => '1|#03830186A1|200013');
	certificate('all key usages', 0, { extensions => [ extension('2.5.29.15', "\3\3\7\xff\x80") ] }, key_usage =>
		  '{digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment,keyAgreement,keyCertSign,cRLSign,encipherOnly,decipherOnly}');
	certificate('key usage that is none', 0, { extensions => [ extension('2.5.29.15', "\4\1x") ] }, key_usage => '{#040178}');
	certificate('twice', 0, { extensions => [ (san(der(DNS, 'a'))) x 2 ] }, san => '{DNS:a,DNS:a}');
	certificate('long', 0, { extensions => [ extension('1.2.3.4', 'x' x 1_000_000) ] });
	refused('no extensions where they should be', { extensions => ['x'] });

	my $name = certificate('80 kB, unknown', 1, { extensions => [ extension('1.2.3.4', "\xaa" x 80000) ] });

	is($own->($name, 'octet_length(value), left(value, 5), right(value, 1)', "oid = '1.2.3.4'"), "65536|#AAAA|\xe2\x80\xa6", '... is cut and marked');
	is($own->($name, "der = decode(repeat('aa', 80000), 'hex')", "oid = '1.2.3.4'"), 't', '... and whole in DER');

	is($own->(certificate('issuer alternative names', 1, { extensions => [ extension('2.5.29.18', der(0x30, der(DNS, "a\nb") . der(DNS, 'c'))) ] }),
		'value', "oid = '2.5.29.18'"), "DNS:a\\0Ab\nDNS:c", '... are as those of the subject');

	# values, and the text that is to be shown of each; where none is given, what
	# is shown is OpenSSL's business, as long as it is text
	my $long = '1.2.' . join '.', (2**28 - 1) x 9;
	my $uri = der(URI, 'http://a');
	my $dirname = sub { der(DIRNAME, cn($_[0])) };
	my $access = sub { der(0x30, der(0x30, der_oid($_[0]) . $_[1])) };
	my $policy = sub { der(0x30, der(0x30, join '', der_oid($_[0]), @_[1 .. $#_])) };
	my $notice = sub { $policy->('1.2.3', der(0x30, der(0x30, der_oid('1.3.6.1.5.5.7.2.2') . der(0x30, $_[0])))) };
	my $constraint = sub { der(0x30, der(0xa0, der(0x30, join '', @_))) };
	my $cps = sub { $policy->('1.2.3', der(0x30, der(0x30, der_oid('1.3.6.1.5.5.7.2.1') . $_[0]))) };
	my $issued = '1.3.6.1.5.5.7.48.2';
	my %values = (
		'2.5.29.19' => [ [ der(0x30, ''), 'CA:FALSE' ], ["\x30\0\5\0"], ["\x30\3\1\1\0"], [ "\x30\3\1\1\xff", 'CA:TRUE' ], ["\x30\3\1\1\1"] ],
		'2.5.29.15' => [ [ "\3\2\7\x80", 'Digital Signature' ], ["\3\2\0\x80"], ["\3\2\6\x80"], ["\3\3\6\x80\x40"], ["\3\2\7\xc0"] ],
		'2.16.840.1.113730.1.1' => [ [ "\3\2\7\x80", 'SSL Client' ], ["\3\2\0\x80"], ["\3\3\7\x80\x80"] ],
		'2.5.29.14' => [ [ "\4\2\xab\xcd", 'AB:CD' ], ["\4\2\xab\xcdx"], ["\x24\4\4\2\xab\xcd"] ],
		'2.5.29.37' => [ [ der(0x30, der_oid('1.3.6.1.5.5.7.3.2')), 'TLS Web Client Authentication' ],
			map { [ der(0x30, der_oid('1.3.6.1.5.5.7.3.2') . der_oid("$long.$_")) ] } 1, 2 ],
		'2.5.29.31' => [ [ $points->($uri), qr{^Full Name:\s+URI:http://a$} ], [ $points->(der(URI, "http://a\nURI:http://b")) ],
			[ $points->(der(URI, "http://\xff")) ], [ $points->($dirname->('a')) ],
			[ der(0x30, der(0x30, der(0xa0, der(0xa0, $uri)) . "\x81\2\6\x40")) ], [ der(0x30, der(0x30, der(0xa0, der(0xa0, $uri)) . der(0xa2, $dirname->('a')))) ] ],
		'2.5.29.46' => [ [ $points->($uri, der(URI, 'http://b')), qr{^Full Name:\s+URI:http://a\s+Full Name:\s+URI:http://b$} ],
			[ $points->($uri . der(URI, 'http://b')), qr{^Full Name:\s+URI:http://a\s+URI:http://b$} ] ],
		'1.3.6.1.5.5.7.1.1' => [ [ $access->($issued, $uri), 'CA Issuers - URI:http://a' ], [ $access->($issued, der(URI, 'a<unsupported>')), 'CA Issuers - URI:a<unsupported>' ],
			[ $access->($issued, $dirname->('y' x 300)) ], [ $access->($issued, $dirname->('y')) ], (map { [ $access->("$long.$_", $uri) ] } 1, 2),
			[ $access->($issued, other_name('1.2.3', int_der("\1"))) ] ],
		'1.3.6.1.5.5.7.1.11' => [ [ $access->('1.3.6.1.5.5.7.48.5', $uri), 'CA Repository - URI:http://a' ], [ $access->('1.3.6.1.5.5.7.48.5', der(EMAIL, 'a')) ] ],
		'2.5.29.32' => [ [ $policy->('1.2.3'), 'Policy: 1.2.3' ], [ $policy->('1.2.3', der(0x30, '')) ],
			[ $cps->(der(IA5, 'http://a')), qr{^Policy: 1\.2\.3\n\s+CPS: http://a$} ], [ $cps->(der(IA5, "http://a\nPolicy: 1.2.4")) ],
			(map { [ $policy->('1.2.3', der(0x30, der(0x30, der_oid('1.2.4') . der(UTF8, $_)))) ] } 'a', 'b'), (map { [ $policy->("$long.$_") ] } 1, 2),
			[ $notice->(der(0x1a, 'read')), qr/^Policy: 1\.2\.3\n\s+User Notice:\n\s+Explicit Text: read$/ ], [ $notice->(der(0x1a, "r\xc3\xa9ad")) ],
			[ $notice->(der(UTF8, "r\xc3\xa9ad")), qr/Explicit Text: r\xc3\xa9ad$/ ], [ $notice->(der(BMP, 'read')) ], [ $notice->(der(BMP, "\0r")) ] ],
		'2.5.29.36' => [ [ der(0x30, "\x80\1\3"), 'Require Explicit Policy:3' ], [ der(0x30, "\x80\1\3") . 'x' ] ],
		'2.5.29.54' => [ [ int_der("\2"), '2' ], [ int_der("\2") x 2 ] ],
		'2.5.29.33' => [ [ der(0x30, der(0x30, der_oid('1.2.3') . der_oid('1.2.4'))), '1.2.3:1.2.4' ],
			map { [ der(0x30, der(0x30, der_oid('1.2.3') . der_oid("$long.$_"))) ] } 1, 2 ],
		'2.5.29.30' => [ [ $constraint->(der(DNS, 'a')), qr/^Permitted:\n\s+DNS:a$/ ], [ $constraint->(der(DNS, 'a') . "\x80\1\1") ],
			[ $constraint->(der(DNS, 'a') . "\x81\1\1") ], [ $constraint->(der(IP, "\x7f\0\0\1\xff\xff\xff\0")), qr{^Permitted:\n\s+IP:127\.0\.0\.1/255\.255\.255\.0$} ],
			[ $constraint->(der(IP, "\1\2\3")) ], [ $constraint->(der(IP, "\1\2\4")) ], [ $constraint->($dirname->('a')) ],
			[ der(0x30, der(0xa0, der(0x30, der(DNS, 'a'))) . der(0xa1, '')) ] ],
		$comment => [ [ der(IA5, 'plain'), 'plain' ], [ der(IA5, 'plain') . der(IA5, 'b') ], [ der(IA5, '#0500'), '#16052330353030' ], [ "\5\0" ], [ der(IA5, "a\nb") ],
			[ der(IA5, "a\x1b[1mb"), 'a\1B[1mb' ], [ der(UTF8, "\xe2\x80\xaea") ], [ 'no DER', '#6E6F20444552' ] ],
		'2.5.29.18' => [ [ der(0x30, der(DNS, 'a, DNS:b')), 'DNS:a, DNS:b' ], [ der(0x30, der(DNS, "a\nDNS:b")), 'DNS:a\0ADNS:b' ],
			[ der(0x30, der(DNS, 'a')) . 'x', '#300382016178' ] ],
		'1.3.6.1.5.5.7.48.1.5' => [ [ "\5\0", '' ], ["\5\0\5\0"] ],
		'1.3.6.1.5.5.7.1.24' => [ [ der(0x30, int_der("\5")), 'status_request' ], [ der(0x30, int_der("\5")) . 'x' ] ],
		# of which OpenSSL prints what is not to be trusted
		'1.3.101.1.4.1' => [ map { [ der(0x30, int_der("\0") . der(0x30, der(0x30, int_der("\1") . der(0x04, $_)))) ] } 'a', "a\n  Zone: 2, User: b" ],
		'2.5.29.16' => [ [ der(0x30, "\x80\x0fx0200101000000Z") ], [ der(0x30, "\x80\x0fy0200101000000Z") ] ],
		'2.5.29.28' => [ [ der(0x30, "\x83\1\x40") ], [ der(0x30, "\x84\1\xff") ] ]);
	my $rounds = 0;

	# An extension may be in a certificate once.
	for (my $round = 0; my @oids = sort grep { $values{$_}[$round] } keys %values; $round++)
	{
		my $several = certificate("extensions $round", 1, { extensions => [ map { extension($_, $values{$_}[$round][0]) } @oids ] });
		my $session = $c->session(cert => $several, dbname => 'utf8');

		foreach my $oid (@oids)
		{
			my ($bytes, $expected) = @{ $values{$oid}[$round] };
			my ($shown, $der) = map { $session->query("SELECT $_ FROM pg_tls_client_extensions() WHERE oid = '$oid'") } "value", "encode(der, 'hex')";

			is($der, unpack('H*', $bytes), "$oid: $round: DER");
			if (ref $expected) { like($shown, $expected, "$oid: $round: text") }
			elsif (defined $expected) { is($shown, $expected, "$oid: $round: text") }
			else { ok(utf8::decode($shown) && $shown !~ /[^\n\P{Cc}]|\x{202e}/, "$oid: $round: some text") or diag $shown }
		}
		$rounds++;
	}
	cmp_ok($rounds, '>', 10, 'certificates');
};

subtest 'self-signed' => sub {
	certificate('its own issuer by name, signed by another key', 0, { subject => cn('root') },
		'subject_dn, issuer_dn, issuer_dn_rfc2253, self_signed' => '/CN=root|/CN=root|CN=root|f');
	$crt{root} = slurp($pki->crt('root'));
	is(describe('root', 'subject_dn, issuer_dn, self_signed'), '/CN=root|/CN=root|t', 'and by its own');
};

subtest 'arguments' => sub {
	my $at = sub { my ($rc, undef, $err) = $c->psql("\\set VERBOSITY verbose\nSELECT * FROM pg_tls_certificate($_[0])", unix => 1, dbname => 'utf8'); $err };
	my $der = unpack 'H*', decode_base64($crt{c1} =~ s/^-.*$//mgr);

	like($at->("'\\x$_'::bytea"), qr/ERROR:  22P03: .*\nDETAIL: .*\nHINT: /, "bytea: '" . substr($_, 0, 20) . q(')) for '', '30', '3000', '30ff', "00$der", "${der}00", substr $der, 0, -2;
	unlike($at->("'\\x30ff'::bytea"), qr/nested/, 'the cause, not where it was noticed');
	unlike($at->("'" . ($crt{c1} =~ s/\nMII/\nMAI/r) . "'"), qr/nested/, '... in text, too');
	like($at->("'\\x$der'"), qr/ERROR:  22P02: .*\n.*\nHINT:  .* cast it to bytea/, 'DER that is not marked as such');
	like($at->("convert_to('$crt{c1}', 'UTF8')"), qr/22P03: .*\n.*\nHINT:  This looks like PEM, which has to be of type text/, 'PEM as bytea');
	like($at->("'" . ($_ =~ s/'/''/gr) . "'"), qr/ERROR:  22P02: .*\nDETAIL: .*\nHINT: /, "text: '" . (substr $_, 0, 30) =~ s/\n/ /gr . q('))
	  for '', 'x', "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	  $crt{c1} . "-----BEGIN CERTIFICATE-----\n", $crt{c1} =~ s/\nM/\n!/r;
};

# Bounds are checked before OpenSSL is asked, which does not look for interrupts.
subtest 'large arguments' => sub {
	my $error = sub {
		my ($rc, undef, $err) = $c->psql("\\set VERBOSITY verbose\n$_[0]", unix => 1, dbname => 'utf8', timeout => 120);
		return $err;
	};
	my $block = sub { "E'-----BEGIN $_[0]-----\\n' || repeat(repeat('A', 64) || E'\\n', $_[1]) || E'-----END $_[0]-----\\n'" };
	my $whole = "'" . slurp($pki->crt('root')) . "'";
	my @functions = (
		[ 'pg_tls_certificate', sub { $_[0] } ], [ 'pg_tls_verify', sub { $_[0] } ], [ 'pg_tls_verify', sub { "$whole, $_[0]" } ],
		[ 'pg_tls_verify', sub { "$whole, NULL, $_[0]" } ]);

	# whole certificates: one that is just small enough, one just not
	foreach my $case ([ 1_048_000, 0 ], [ 1_049_000, 1 ])
	{
		my ($size, $large) = @$case;

		$pki->raw_cert("large$large", issuer => 'root', subject => cn('x'), extensions => [ extension('1.2.3.4', 'x' x $size) ]);
		$c->query("CREATE TABLE large$large (pem text)", dbname => 'utf8');
		my $file = $pki->crt("large$large");

		$c->query("INSERT INTO large$large VALUES (pg_read_file('$file'))", dbname => 'utf8');
	}
	foreach my $function (@functions)
	{
		my ($name, $arguments) = @$function;
		my $title = "$name(" . $arguments->('...') =~ s/'-.*'/.../sr . ')';
		my $call = sub { $error->("SELECT count(*) FROM $name(" . $arguments->($_[0]) . ')') };

		is($call->('(SELECT pem FROM large0)'), '', "$title: a certificate of almost 1 MB");
		like($call->('(SELECT pem FROM large1)'), qr/ERROR:  54000: certificate is too large for $name\nDETAIL:  .*\nHINT:  /, '... of more');
		like($call->($block->('CERTIFICATE', 25_000)), qr/ERROR:  54000: certificate is too large for $name\nDETAIL:  The block that begins in line 1 .*\nHINT:  /,
			'... of so much more that it is not even decoded');
		like($call->("repeat('x', 16 * 1024 * 1024 + 1)"), qr/ERROR:  54000: argument "\w+" of $name is too large\nDETAIL:  .*\nHINT:  /, '... more than 16 MB of text');
		like($call->("repeat('x', 16 * 1024 * 1024)"), qr/ERROR:  22P02: argument "\w+" of $name contains no certificates\n/, '... and not more');
	}
	like($error->("SELECT * FROM pg_tls_verify($whole, crls => repeat('x', 17 * 1024 * 1024))"), qr/ERROR:  22P02: argument "crls" of pg_tls_verify contains no CRLs\n/,
		'text with CRLs may be longer');
	like($error->("SELECT * FROM pg_tls_verify($whole, crls => " . $block->('X509 CRL', 30_000) . ')'), qr/ERROR:  22P02: .* is not valid PEM\n/, '... and a block in it');

	my $started = time;

	like($error->(<<"END"), qr/ERROR:  57014: canceling statement due to statement timeout/, 'a long text can be cancelled');
BEGIN;
CREATE TEMP TABLE long AS SELECT repeat(E'\\n', 100000000) AS lines;
SET LOCAL statement_timeout = '500ms';
SELECT * FROM pg_tls_verify($whole, crls => (SELECT lines FROM long));
END
	like($error->("SELECT * FROM pg_tls_verify($whole, crls => repeat('-', 100000000))"), qr/22P02/, 'one long line');
	note 'took ', time - $started, ' s';
};

done_testing();

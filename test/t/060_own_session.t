# One's own session: what contrib's sslinfo tells, and more.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Temp ();
use MIME::Base64 qw(decode_base64);
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my @everything = (
	'authorityInfoAccess = OCSP;URI:http://ocsp.example.org/,caIssuers;URI:http://ca.example.org/ca.crt',
	'crlDistributionPoints = URI:http://ca.example.org/a.crl,URI:http://ca.example.org/b.crl',
	'certificatePolicies = 1.2.3.4,@policy',
	'issuerAltName = email:ca@example.org,URI:http://ca.example.org/',
	'noCheck = ignored',
	'tlsfeature = status_request',
	'nsComment = "a comment"',
	"[policy]\npolicyIdentifier = 1.2.3.5\nCPS.1 = http://ca.example.org/cps\nuserNotice.1 = \@notice",
	"[notice]\nexplicitText = UTF8:read it");

$pki->cert('everything', issuer => 'int', subject => '/C=NL/O=Example/OU=one/OU=two/CN=everything',
	san => [ 'DNS:a.example', 'IP:192.0.2.1', 'IP:2001:db8::1', 'email:a@b.example', 'URI:http://c.example/',
		'RID:1.2.3.4', [ dirName => '/O=Example/CN=d' ] ],
	eku => 'clientAuth,1.2.3.4.5', ext => \@everything);
$pki->cert('unknown', issuer => 'int',
	ext => [ '1.2.3.4.5.6 = ASN1:UTF8String:hello', '1.2.3.4.5.7 = DER:0500' ]);
$pki->cert('specials', issuer => 'int',
	subject => [ [ O => 'a, "b" + c; <d>' ], [ OU => ' x ' ], [ OU => '#1\\2' ], [ CN => 'x/y=z' ] ]);
$pki->cert('nosubject', issuer => 'int', subject => [], san => ['DNS:somebody']);

my $preloaded = TlsCluster->new(name => 'preloaded', ssl => 1, pki => $pki);
my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => '');

$_->start, $_->query('CREATE EXTENSION pg_tls') for $preloaded, $c;

my @fields = qw(C O OU CN UID emailAddress commonName organizationName 2.5.4.3 2.5.4.11 serialNumber);
my %kinds = (
	(map { $_ => { cert => $_ } }
		  qw(alice bob carol utf8 multi longdn manysan noeku everything specials nosubject)),
	'alice over TLS 1.2' => { cert => 'alice', ssl_max_protocol_version => 'TLSv1.2' },
	'no certificate' => {},
	'clear text' => { ssl => 'disable' },
	'the Unix socket' => { unix => 1 });

SKIP:
{
	my ($rc, undef, $err) = $c->psql('CREATE EXTENSION sslinfo', unix => 1);

	skip "no sslinfo: $err", 1 if $rc;
	subtest "the same as contrib's sslinfo" => sub { compare($_, %{ $kinds{$_} }) for sort keys %kinds };
}

sub compare
{
	my ($kind, %opts) = @_;
	my $s = $c->session(%opts);

	ok($s->connected, "$kind: connected") or return;

	# sslinfo cuts the names at 63 bytes; before 14, an empty one is an empty text
	is($s->query(<<'END'), '', "$kind: session");
SELECT column1 FROM pg_tls_session() t, LATERAL (VALUES
	('ssl', ssl_is_used()::text, t.ssl::text),
	('version', ssl_version(), t.version),
	('cipher', ssl_cipher(), t.cipher),
	('certificate', ssl_client_cert_present()::text, (t.client_certificate AND t.ssl)::text),
	('serial', ssl_client_serial()::text, t.client_serial::text),
	('subject', nullif(ssl_client_dn(), ''), left(t.client_dn, length(ssl_client_dn()))),
	('issuer', ssl_issuer_dn(), left(t.issuer_dn, length(ssl_issuer_dn()))),
	('chain: serial', ssl_client_serial()::text, (SELECT serial FROM pg_tls_client_chain() WHERE position = 0)::text),
	('chain: subject', nullif(ssl_client_dn(), ''), (SELECT left(subject_dn, length(ssl_client_dn())) FROM pg_tls_client_chain() WHERE position = 0)),
	('chain: issuer', ssl_issuer_dn(), (SELECT left(issuer_dn, length(ssl_issuer_dn())) FROM pg_tls_client_chain() WHERE position = 0))) v
WHERE column2 IS DISTINCT FROM column3
END
	foreach my $field (@fields)
	{
		is($s->query("SELECT pg_tls_client_dn_field('$field') IS NOT DISTINCT FROM ssl_client_dn_field('$field'),"
				  . " pg_tls_issuer_dn_field('$field') IS NOT DISTINCT FROM ssl_issuer_field('$field')"),
			't|t', "$kind: $field");
	}
	# sslinfo's alternative names could be others, and are written by other names
	is($s->query(<<'END'), '', "$kind: extensions");
SELECT coalesce(s.name, t.name), s.value, t.value
FROM ssl_extension_info() s FULL JOIN pg_tls_client_extensions() t USING (name)
WHERE s.critical IS DISTINCT FROM t.critical
   OR CASE WHEN name IN ('subjectAltName', 'issuerAltName')
           THEN replace(replace(replace(replace(replace(s.value, ', ', E'\n'), 'IP Address:', 'IP:'),
                                'DirName:/', 'dirName:'), 'DirName:O = Example' || E'\n' || 'CN = d', 'dirName:O=Example/CN=d'), 'Registered ID', 'RID')
                IS DISTINCT FROM
                replace(replace(t.value, '2001:db8::1', '2001:DB8:0:0:0:0:0:1'), 'CN=d,O=Example', 'O=Example/CN=d')
           ELSE btrim(s.value, E'\n') IS DISTINCT FROM t.value END
END
	is($s->query('SELECT count(*) FROM ssl_extension_info()'), $s->query('SELECT count(*) FROM pg_tls_client_extensions()'),
		"$kind: as many extensions");
	return;
}

subtest 'what sslinfo does not tell' => sub {
	my $s = $c->session(cert => 'unknown');

	is($s->query('SELECT position, oid, name, critical, value FROM pg_tls_client_extensions() WHERE position > 4'),
		"5|1.2.3.4.5.6||f|#0C0568656C6C6F\n6|1.2.3.4.5.7||f|#0500", 'extensions that OpenSSL does not know');
	is($s->query(q{SELECT bool_and('#' || upper(encode(der, 'hex')) = value) FROM pg_tls_client_extensions() WHERE position > 4}), 't', '... in DER');
	is($s->query(q{SELECT value, der FROM pg_tls_client_extensions() WHERE name = 'basicConstraints'}), 'CA:FALSE|\x3000', 'one that it knows');
	is($s->query("SELECT name FROM pg_tls_client_extensions() WHERE position < 5 ORDER BY position") =~ tr/\n/ /r,
		'basicConstraints subjectKeyIdentifier authorityKeyIdentifier keyUsage extendedKeyUsage', '... among others, in their order');

	my $special = $c->session(cert => 'specials');

	is($special->query("SELECT pg_tls_client_dn_field('1.2.3.4') IS NULL"), 't', 'a number that no name stands for is no error');
	is($special->query("SELECT pg_tls_client_dn_field('OU')"), '\\ x\\ ', 'the first of several');
	is($special->query("SELECT pg_tls_client_dn_field('L') IS NULL"), 't', 'none is NULL');
	is($special->query('SELECT subject_dn_rfc2253 = client_dn_rfc2253 FROM pg_tls_client_chain(), pg_tls_session()'
			  . ' WHERE position = 0'), 't', 'the DN of RFC 2253');
};

subtest 'each certificate that was sent' => sub {
	foreach my $cluster ($c, $preloaded)
	{
		my $s = $cluster->session(cert => 'alice');
		my $name = $cluster->name;

		is($s->query('SELECT position, subject_dn, issuer_dn, is_ca, self_signed FROM pg_tls_client_chain()'),
			"0|/O=Example/CN=alice|/O=Example/CN=Example Intermediate CA|f|f\n"
			  . '1|/O=Example/CN=Example Intermediate CA|/O=Example/CN=Example Root CA|t|f', "$name: names");
		foreach my $position (0, 1)
		{
			my $file = $pki->crt($position == 0 ? 'alice' : 'int');
			my $der = decode_base64(slurp($file) =~ s/^-.*$//mgr);

			is($s->query("SELECT encode(certificate, 'hex') FROM pg_tls_client_chain() WHERE position = $position"),
				unpack('H*', $der), "$name: $position: DER");
			is($s->query("SELECT fingerprint FROM pg_tls_client_chain() WHERE position = $position"),
				sha256_hex($der), "$name: $position: fingerprint");
		}
		is($s->query(<<'END'), "0|t\n1|t", "$name: the same as pg_tls_certificate()");
SELECT position, ROW(c.subject_dn, c.subject_dn_rfc2253, c.issuer_dn, c.issuer_dn_rfc2253, c.serial, c.serial_hex, c.not_before, c.not_after,
                     c.san, c.key, c.eku, c.signature_algorithm, c.is_ca, c.self_signed, c.fingerprint)
       IS NOT DISTINCT FROM
       ROW(t.subject_dn, t.subject_dn_rfc2253, t.issuer_dn, t.issuer_dn_rfc2253, t.serial, t.serial_hex, t.not_before, t.not_after,
           t.san, t.key, t.eku, t.signature_algorithm, t.is_ca, t.self_signed, t.fingerprint)
FROM pg_tls_client_chain() c, pg_tls_certificate(c.certificate) t
END
		is($s->query('SELECT issuer_dn_rfc2253 FROM pg_tls_client_chain() WHERE position = 0'), 'CN=Example Intermediate CA,O=Example',
			"$name: issuer by RFC 2253");
		is($s->query('SELECT (SELECT serial_hex FROM pg_tls_client_chain() WHERE position = 0)'),
			lc $pki->serial('alice'), "$name: serial number in hexadecimal");
	}
};

subtest 'names are whole' => sub {
	$pki->cert('huge', issuer => 'int', subject => [ map { [ OU => "$_" . 'x' x 60 ] } 10 .. 99 ],
		san => [ map { "DNS:host$_.example.org" } 1000 .. 1999 ]);
	my $s = $c->session(cert => 'huge');

	is($s->query('SELECT subject_dn FROM pg_tls_client_chain() WHERE position = 0'),
		join('', map { "/OU=$_" . 'x' x 60 } 10 .. 99), 'the subject');
	is($s->query("SELECT array_to_string(san, ' ') FROM pg_tls_client_chain() WHERE position = 0"),
		join(' ', map { "DNS:host$_.example.org" } 1000 .. 1999), 'alternative names');
	is($s->query("SELECT value FROM pg_tls_client_extensions() WHERE name = 'subjectAltName'"),
		join("\n", map { "DNS:host$_.example.org" } 1000 .. 1999), '... a line each in the extension');
};

subtest 'without a client' => sub {
	# a worker has none, and may not be asked in a parallel query
	is($c->query("SELECT string_agg(proparallel::text, '' ORDER BY proname) FROM pg_proc WHERE proname LIKE 'pg\\_tls\\_client\\_%'"
			  . " OR proname = 'pg_tls_issuer_dn_field'"), 'rrrr', 'parallel-restricted');
	is($c->query('SELECT count(*) FROM pg_tls_client_chain() FULL JOIN pg_tls_client_extensions() USING (position)', %$_), 0, 'no rows')
	  for @kinds{ 'no certificate', 'clear text', 'the Unix socket' };
	my $parallel = TlsCluster->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';

	$c->query(<<'END');
CREATE FUNCTION in_worker() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
BEGIN
	RETURN format('%s %s %s %s', pg_backend_pid(), (SELECT count(*) FROM pg_tls_client_chain()),
		(SELECT count(*) FROM pg_tls_client_extensions()), pg_tls_client_dn_field('CN') IS NULL);
END $$
END
	is($c->query("SELECT in_worker() = pg_backend_pid() || ' 2 5 f'", cert => 'alice'), 't', 'a session with a certificate');
	like($c->query("SET $parallel = on; SELECT in_worker()", cert => 'alice'), qr/^\d+ 0 0 t$/, '... and its parallel worker');
	my ($rc, undef, $err) = $c->psql("\\set VERBOSITY verbose\nSELECT pg_tls_client_dn_field('nonsense')", unix => 1);

	like($err, qr/ERROR:  22023: .*"nonsense"\nDETAIL:  .*\nHINT:  Use a name/, 'an unknown field is an error even so');
};

subtest 'PUBLIC may ask' => sub {
	$c->query('CREATE ROLE nobody LOGIN');
	is($c->query(q{SELECT (SELECT count(*) FROM pg_tls_client_chain()), pg_tls_client_dn_field('CN'), count(*)}
			  . q{ FROM pg_tls_client_extensions(), pg_tls_certificate((SELECT certificate FROM pg_tls_client_chain() LIMIT 1))},
			user => 'nobody', cert => 'alice'), '2|alice|5', 'an ordinary role');
};

done_testing();

# pg_stat_tls tells the truth about every kind of session.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Temp ();
use Math::BigInt;
use MIME::Base64 qw(decode_base64);
use Test::More;

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $DAY = 86400;

# One certificate of each kind of key and name that may matter.
my %client = (issuer => 'int');
$pki->cert('rsapss', %client, key => 'rsa-pss');
$pki->cert('p384', %client, key => 'ec:secp384r1');
$pki->cert('ed448', %client, key => 'ed448');
$pki->cert('nameless', %client, subject => []);
$pki->cert('bigserial', %client, serial => '0x7f' . 'ab' x 19);
$pki->cert('smallserial', %client, serial => '0x1');
$pki->cert('names', %client,
	san => [ 'DNS:a.example', 'IP:192.0.2.1', 'IP:2001:db8::1', 'email:a@example.org',
		'URI:spiffe://example.org/a', 'otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a@corp',
		'RID:1.2.3.4', [ dirName => '/O=Example/CN=inner' ] ],
	eku => 'clientAuth, emailProtection, 1.3.6.1.5.5.7.3.99');
$pki->cert('odd', %client,
	subject => [ [ O => 'a, "b" + c; <d> #e\\f' ], [ CN => 'odd/CN=alice' ] ]);
$pki->cert('hugedn', %client,
	subject => [ (map { [ OU => sprintf('%02d', $_) . "\xc3\xa9" x 60 ] } 1 .. 30), [ CN => 'hugedn' ] ]);

my $c = TlsCluster->new(
	ssl => 1, pki => $pki,
	hba => [
		'local all all trust',
		'host all scram all scram-sha-256',
		'hostssl all alice all cert',
		'host all all all trust',
		'local replication all trust',
		'host replication all all trust' ]);
$c->start;
$c->query('CREATE EXTENSION pg_tls');
# The default of 13 is md5.
$c->query("SET password_encryption = 'scram-sha-256'; "
	  . "CREATE ROLE alice LOGIN; CREATE ROLE scram LOGIN PASSWORD 'secret'");

sub row
{
	my ($session) = @_;

	return $c->row_hash('SELECT * FROM pg_stat_tls WHERE pid = ' . $session->pid, unix => 1);
}

# All of them are open at the same time.
my %open = (
	tls13 => $c->session,
	tls12 => $c->session(ssl_max_protocol_version => 'TLSv1.2'),
	clear => $c->session(ssl => 'disable'),
	unix => $c->session(unix => 1),
	'walsender with a certificate' => $c->walsender(cert => 'alice'),
	'logical walsender' => $c->walsender(replication => 'database', cert => 'bob'),
	'walsender in clear text' => $c->walsender(ssl => 'disable'),
	cert_auth => $c->session(user => 'alice', cert => 'alice'),
	password => $c->session(user => 'scram', password => 'secret'),
	alice12 => $c->session(cert => 'alice', ssl_max_protocol_version => 'TLSv1.2'),
	bob12 => $c->session(cert => 'bob', ssl_max_protocol_version => 'TLSv1.2'),
	map { $_ => $c->session(cert => $_) }
	  qw(alice bob carol longdn utf8 multi manysan noeku rsapss p384 ed448 nameless
	  bigserial smallserial names odd hugedn));

foreach my $name (sort keys %open)
{
	ok($open{$name}->connected, "$name is connected") or diag $open{$name}->error;
}

subtest 'the first eight columns are those of pg_stat_ssl' => sub {
	my $differ = $c->query(<<'SQL', unix => 1);
SELECT pid, s, t
FROM pg_stat_ssl s FULL JOIN pg_stat_tls t USING (pid)
WHERE (s.ssl, s.version, s.cipher, s.bits, s.client_serial,
       -- cut after 63 bytes, in the middle of a character if need be
       textsend(s.client_dn), textsend(s.issuer_dn))
   IS DISTINCT FROM
      (t.ssl, t.version, t.cipher, t.bits, t.client_serial,
       substr(textsend(t.client_dn), 1, 63),
       substr(textsend(t.issuer_dn), 1, 63))
SQL
	is($differ, '', 'in every row');
	is($c->query('SELECT count(*) FROM pg_stat_tls', unix => 1),
		1 + keys %open, 'and there is a row for each session');
	is($c->query(
			'SELECT count(*) FROM pg_stat_tls JOIN pg_stat_activity USING (pid)'
			  . " WHERE backend_type = 'walsender'", unix => 1),
		3, 'walsenders included');
};

subtest 'how a session is encrypted' => sub {
	my %expected = (tls13 => 'tls', clear => 'none', unix => 'local',
		'walsender with a certificate' => 'tls', 'walsender in clear text' => 'none');

	is(row($open{$_})->{encryption}, $expected{$_}, $_) for sort keys %expected;

	my $row = row($open{unix});
	my @set = grep { defined $row->{$_} } sort keys %$row;

	is_deeply(\@set, [qw(auth_method client_certificate encryption pid ssl)],
		'nothing is told about TLS where there is none');
	is($row->{client_certificate}, 'f', 'and no certificate');
};

subtest 'the handshake' => sub {
	my $tls13 = row($open{alice});
	my $tls12 = row($open{bob12});

	is($tls13->{version}, 'TLSv1.3', 'TLS 1.3');
	is($tls13->{post_quantum}, 'f', 'not post-quantum') if $tls13->{key_exchange} !~ /MLKEM/;
	is($tls13->{signature_algorithm}, 'ecdsa_secp256r1_sha256', 'signed by an EC key');
	is($tls13->{client_signature_algorithm}, 'ecdsa_secp256r1_sha256', '... and on the other side');
	is($tls12->{version}, 'TLSv1.2', 'TLS 1.2');
	is($tls12->{client_signature_algorithm}, 'rsa_pss_rsae_sha256', 'an RSA client');
	is(row($open{carol})->{client_signature_algorithm}, 'ed25519', 'an Ed25519 client');
	is(row($open{ed448})->{client_signature_algorithm}, 'ed448', 'an Ed448 client');
	is(row($open{p384})->{client_signature_algorithm}, 'ecdsa_secp384r1_sha384', 'a P-384 client');
	like(row($open{rsapss})->{client_signature_algorithm}, qr/^rsa_pss_pss_sha/, 'an RSA-PSS client');
	is(row($open{tls13})->{client_signature_algorithm}, undef, 'no signature without certificate');
	# Before 14, libpq asks for none.
	is($tls13->{server_name}, TlsCluster->pg_version >= 14 ? 'localhost' : undef,
		'the name that the client asked for');
	is($tls13->{config_generation}, 1, 'by the configuration loaded first');
	if (TlsCluster->pg_version >= 17)
	{
		is($tls13->{alpn}, 'postgresql', 'ALPN');
	}
	else
	{
		is($tls13->{alpn}, undef, 'the server knows no ALPN');
	}
};

# What the client says of its connection, against what the row says.
subtest 'as openssl s_client sees it' => sub {
	my @cases = (
		{ tls1_3 => 1, groups => 'X25519:P-256' },
		{ tls1_3 => 1, groups => 'P-256' },
		{ tls1_2 => 1, groups => 'P-256' },
		{ tls1_3 => 1, cert => 'alice', servername => 'db.example.org' },
		{ tls1_3 => 1, cert => 'bob', extra => [ '-sigalgs', 'rsa_pss_rsae_sha512:ecdsa_secp256r1_sha256' ] },
		{ tls1_2 => 1, extra => [ '-cipher', 'ECDHE-ECDSA-CHACHA20-POLY1305' ] },
		{ tls1_2 => 1, cert => 'carol', extra => [ '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256' ] },
	);

	foreach my $case (@cases)
	{
		my $what = join ' ', map { ref $case->{$_} ? @{ $case->{$_} } : "$_=$case->{$_}" } sort keys %$case;
		my ($row, $said) = $c->s_client_row(%$case);

		ok($row, "$what: has a row") or next;
		my ($cipher) = $said =~ /Cipher is (\S+)/;

		is($row->{cipher}, $cipher, "$what: cipher");
		my ($temp) = $said =~ /^(?:Server Temp Key|Peer Temp Key|Negotiated TLS1.3 group): (.*)$/m;
		my %group = (X25519 => 'x25519',
			map { ("ECDH, $_" => 'secp256r1') } qw(prime256v1 secp256r1 P-256));
		my ($known) = grep { $temp =~ /^\Q$_\E/ } keys %group;

		is($row->{key_exchange}, $known ? $group{$known} : $temp, "$what: key exchange");
		my ($digest) = $said =~ /^Peer signing digest: (\S+)/m;

		$digest = lc($digest // '');
		like($row->{signature_algorithm}, qr/_\Q$digest\E\z/, "$what: signature") if $digest;
		is($row->{server_name}, $case->{servername}, "$what: SNI") if $case->{servername};
		is($row->{client_cn}, $case->{cert}, "$what: certificate");
	}
};

subtest 'certificates, as openssl x509 shows them' => sub {
	foreach my $name (qw(alice bob carol longdn utf8 multi manysan noeku rsapss p384 ed448
		nameless bigserial smallserial names odd))
	{
		my $row = row($open{$name});
		my $text = sub {
			my $out = $pki->show($name, @_);

			chomp $out;
			$out =~ s/^\w+\s*=\s*//;
			return $out;
		};
		open my $fh, '<', $pki->crt($name) or die $!;
		my $der = decode_base64((join '', <$fh>) =~ s/-----[^-]*-----//gr);
		my $dn = $text->('-subject', '-nameopt', 'RFC2253');

		is($row->{client_fingerprint}, sha256_hex($der), "$name: fingerprint");
		is($row->{client_serial}, Math::BigInt->from_hex($text->('-serial'))->bstr, "$name: serial");
		is($row->{client_dn_rfc2253}, $dn eq '' ? undef : $dn, "$name: DN");
		is($c->query("SELECT to_char('$row->{client_not_before}'::timestamptz AT TIME ZONE 'UTC', 'Mon FMDD HH24:MI:SS YYYY')"),
			$text->('-startdate') =~ s/  / /r =~ s/ GMT//r, "$name: notBefore");
		is($c->query("SELECT to_char('$row->{client_not_after}'::timestamptz AT TIME ZONE 'UTC', 'Mon FMDD HH24:MI:SS YYYY')"),
			$text->('-enddate') =~ s/  / /r =~ s/ GMT//r, "$name: notAfter");
		is($row->{client_certificate}, 't', "$name: presented a certificate");
		is($row->{chain_length}, 3, "$name: leaf, intermediate and root");
		is_deeply([ @$row{qw(acceptable chain_status verify_error verify_depth crl_status)} ],
			[ 't', 'valid', undef, undef, 'good' ], "$name: acceptable");
	}
};

subtest 'names' => sub {
	is(row($open{alice})->{client_dn}, '/O=Example/CN=alice', 'slash form');
	is(row($open{alice})->{client_cn}, 'alice', 'common name');
	is(row($open{alice})->{issuer_dn}, '/O=Example/CN=Example Intermediate CA', 'issuer');
	cmp_ok(length row($open{longdn})->{client_dn}, '>', 300, 'a long DN');
	is(row($open{longdn})->{client_dn},
		join('', '/O=Example', (map { "/OU=unit $_ " . 'x' x 50 } 1 .. 5), '/CN=longdn'), '... is whole');
	is(row($open{utf8})->{client_dn},
		"/O=B\xc3\xbccher & S\xc3\xb6hne GmbH/OU=\xce\x91\xce\xb8\xce\xae\xce\xbd\xce\xb1/CN=\xe6\x9d\x8e\xe5\xb0\x8f\xe9\xbe\x99",
		'letters of other alphabets');
	is(row($open{utf8})->{client_cn}, "\xe6\x9d\x8e\xe5\xb0\x8f\xe9\xbe\x99", '... in the common name');
	is(row($open{nameless})->{client_dn}, undef, 'an empty subject');
	is(row($open{nameless})->{client_cn}, undef, '... has no common name');
	is(row($open{odd})->{client_cn}, 'odd/CN=alice', 'a common name that looks like two');

	my $huge = row($open{hugedn});
	my $whole = join '', map { sprintf '/OU=%02d%s', $_, "\xc3\xa9" x 60 } 1 .. 30;

	cmp_ok(length $huge->{client_dn}, '<=', 1024, 'a huge DN is cut');
	cmp_ok(length $huge->{client_dn}, '>=', 1020, '... where the bound is');
	like($huge->{client_dn}, qr/\xe2\x80\xa6\z/, '... and marked');
	is($huge->{client_dn} =~ s/\xe2\x80\xa6\z//r,
		substr($whole, 0, length($huge->{client_dn}) - 3), '... at a character');
	is($huge->{client_cn}, 'hugedn', '... and its end is known all the same');
};

subtest 'alternative names, keys, usages' => sub {
	my $row = row($open{names});

	is_deeply(
		[ map { $_->[0] } $c->query_rows('SELECT unnest(client_san) FROM pg_stat_tls WHERE pid = ' . $open{names}->pid) ],
		[ 'DNS:a.example', 'IP:192.0.2.1', 'IP:2001:db8::1', 'email:a@example.org',
			'URI:spiffe://example.org/a', 'otherName:msUPN;UTF8:a@corp', 'RID:1.2.3.4',
			'dirName:CN=inner,O=Example' ],
		'SAN of every type');
	is($row->{client_eku}, '{clientAuth,emailProtection,1.3.6.1.5.5.7.3.99}', 'extended key usages');
	is(row($open{noeku})->{client_eku}, undef, '... none');
	is(row($open{alice})->{client_san}, undef, 'no SAN');

	my @many = map { $_->[0] } $c->query_rows('SELECT unnest(client_san) FROM pg_stat_tls WHERE pid = ' . $open{manysan}->pid);
	my $last = pop @many;

	like($last, qr/\xe2\x80\xa6\z/, 'a long list of names is cut and marked');
	is_deeply(\@many, [ map { sprintf 'DNS:host-%03d.department.example.org', $_ } 1 .. @many ],
		'... and right up to there');
	cmp_ok(length join("\n", @many, $last), '>', 1000, '... where the bound is');

	my %key = (alice => 'EC-P-256', bob => 'RSA-2048', carol => 'ED25519', p384 => 'EC-P-384',
		rsapss => 'RSA-PSS-2048', ed448 => 'ED448');

	is(row($open{$_})->{client_key}, $key{$_}, "key of $_") for sort keys %key;
};

subtest 'authentication' => sub {
	my %method = (unix => 'trust', clear => 'trust', cert_auth => 'cert', password => 'scram-sha-256');

	is(row($open{$_})->{auth_method}, $method{$_}, "$_: method") for sort keys %method;
	if (TlsCluster->pg_version >= 14)
	{
		is(row($open{cert_auth})->{auth_identity}, 'CN=alice,O=Example', 'identity of a certificate');
		is(row($open{password})->{auth_identity}, 'scram', 'identity of a password');
	}
	is(row($open{clear})->{auth_identity}, undef, 'trust has no identity');
};

subtest 'sessions end' => sub {
	my $pid = $open{alice}->pid;

	(delete $open{alice})->close;
	ok($c->poll_query("SELECT count(*) FROM pg_stat_tls WHERE pid = $pid", 0, unix => 1), 'and so do their rows');
	%open = ();
	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls', 1, unix => 1), 'all of them');
};

subtest 'who was not let in has no row' => sub {
	foreach my $cert (qw(revoked expired future other selfsigned wrongpurpose))
	{
		my $s = $c->session(cert => $cert);

		ok(!$s->connected, "$cert is refused");
	}
	ok($c->refused(qr/password authentication failed for user "scram"/, user => 'scram', password => 'wrong'),
		'a wrong password is refused');
	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls', 1, unix => 1), 'no row is left');
};

done_testing();

# pg_tls.crl_signature_cache changes no verdict: handshakes with it agree with
# pg_tls_verify(), which leaves everything to OpenSSL, and with handshakes
# without it.

use strict;
use warnings;

use File::Temp ();
use MIME::Base64 qw(encode_base64);
use POSIX qw(strftime);
use Test::More;

use TlsCluster;
use TlsPKI qw(der der_oid slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root');
$pki->ca('int', issuer => 'root');
$pki->ca('other', issuer => 'root');
$pki->ca('newint', issuer => 'root', subject => '/CN=int');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert('alice', issuer => 'int', subject => '/CN=alice');
$pki->cert('rsa', issuer => 'int', key => 'rsa');
$pki->cert('bynew', issuer => 'newint');
$pki->crl($_) for qw(root int other newint);
$pki->bundle("$dir/ca.pem", qw(root int other));
$pki->bundle("$dir/new.pem", qw(root int newint));

# A CRL of any entries, signed: [serial in hexadecimal, extensions...].
sub crl
{
	my ($ca, %opts) = @_;
	my $algorithm = der(0x30, der_oid('1.2.840.10045.4.3.2'));
	my $name = `openssl x509 -in @{[$pki->crt($ca)]} -outform DER`;
	my $utc = sub { der(0x17, strftime('%y%m%d%H%M%SZ', gmtime(time + $_[0]))) };
	my $entries = join '', map {
		my ($serial, @extensions) = @$_;

		der(0x30, der(0x02, pack 'H*', $serial) . $utc->(-3600) . (@extensions ? der(0x30, join '', @extensions) : ''));
	} @{ $opts{entries} // [] };
	my $tbs = der(0x30, join '',
		der(0x02, "\1"), $algorithm, subject($opts{name} // $ca), $utc->($opts{from} // -3600), $utc->(30 * $DAY),
		length $entries ? der(0x30, $entries) : (),
		der(0xa0, der(0x30, join '', extension('2.5.29.20', der(0x02, chr($opts{number} // 1))), @{ $opts{extensions} // [] })));

	spew("$dir/tbs", $tbs);
	my $signature = `openssl dgst -sha256 -sign @{[$pki->key($opts{key} // $ca)]} $dir/tbs`;
	substr($signature, -1) ^= "\1" if $opts{forged};
	return "-----BEGIN X509 CRL-----\n" . encode_base64(der(0x30, $tbs . ($opts{algorithm} // $algorithm) . der(0x03, "\0$signature"))) . "-----END X509 CRL-----\n";
}

sub subject { return der(0x30, der(0x31, der(0x30, der_oid('2.5.4.3') . der(0x0c, $_[0] =~ s/^newint/int/r)))) }

sub extension
{
	my ($oid, $value, $critical) = @_;

	return der(0x30, der_oid($oid) . ($critical ? der(0x01, "\xff") : '') . der(0x04, $value));
}

sub reason { return extension('2.5.29.21', der(0x0a, chr $_[0])) }
sub issuer { return extension('2.5.29.29', der(0x30, der(0xa4, subject($_[0]))), 1) }

my $root = slurp($pki->crl_path('root'));
my $int = slurp($pki->crl_path('int'));
my $serial = lc $pki->serial('alice');
my $idp = extension('2.5.29.28', der(0x30, der(0x84, "\xff")), 1);

my @cases = (
	[ 'not listed', crl('int', entries => [ ['01'], ['02'] ]) ],
	[ 'an empty CRL', crl('int') ],
	[ 'listed', crl('int', entries => [ ['01'], [$serial], ['7f'] ]) ],
	[ 'listed, with a reason', crl('int', entries => [ ['01'], [ $serial, reason(1) ] ]) ],
	[ 'removeFromCRL', crl('int', entries => [ ['01'], [ $serial, reason(8) ] ]) ],
	[ 'a reason that is none', crl('int', entries => [ [ $serial, extension('2.5.29.21', der(0x05, '')) ] ]) ],
	[ 'a reason that is none, elsewhere', crl('int', entries => [ ['01', extension('2.5.29.21', der(0x05, ''))], [$serial] ]) ],
	[ 'listed twice', crl('int', entries => [ [ $serial, reason(1) ], [ $serial, reason(4) ] ]) ],
	[ 'listed twice, removeFromCRL first', crl('int', entries => [ [ $serial, reason(8) ], [ $serial, reason(1) ] ]) ],
	[ 'listed twice, removeFromCRL last', crl('int', entries => [ [ $serial, reason(1) ], [ $serial, reason(8) ] ]) ],
	[ 'of another issuer', crl('int', entries => [ [ $serial, issuer('other') ] ]) ],
	[ 'of its own issuer, named', crl('int', entries => [ [ $serial, issuer('int') ] ]) ],
	[ 'of another issuer, inherited', crl('int', entries => [ [ '01', issuer('other') ], [$serial] ]) ],
	[ 'of its own issuer, inherited', crl('int', entries => [ [ '01', issuer('other') ], [ '02', issuer('int') ], [$serial] ]) ],
	[ 'before another issuer', crl('int', entries => [ [$serial], [ '01', issuer('other') ] ]) ],
	[ 'twice, of two issuers', crl('int', entries => [ [ $serial, issuer('other') ], [ $serial, issuer('int') ] ]) ],
	[ 'twice, of two issuers, removed for one', crl('int', entries => [ [ $serial, issuer('other') ], [ $serial, issuer('int'), reason(8) ] ]) ],
	[ 'indirect CRL of its own issuer', crl('int', extensions => [$idp], entries => [ [$serial] ]) ],
	[ 'indirect CRL of another', crl('other', extensions => [$idp], entries => [ [ $serial, issuer('int') ] ]) ],
	[ 'indirect CRL of another, and its own', crl('other', extensions => [$idp], entries => [ [ $serial, issuer('int') ] ]) . crl('int') ],
	[ 'a critical extension of an entry', crl('int', entries => [ [ '01', extension('1.2.3.4', "\5\0", 1) ] ]) ],
	[ 'a critical extension', crl('int', extensions => [ extension('1.2.3.4', "\5\0", 1) ]) ],
	[ 'forged', crl('int', forged => 1) ],
	[ 'forged, and it lists', crl('int', forged => 1, entries => [ [$serial] ]) ],
	[ 'signed by another CA', crl('int', key => 'other') ],
	[ 'another algorithm beside the signature', crl('int', algorithm => der(0x30, der_oid('1.2.840.10045.4.3.3'))) ],
	[ 'two CRLs, the newer lists', crl('int', number => 1, from => -7200) . crl('int', number => 2, entries => [ [$serial] ]) ],
	[ 'two CRLs, the older lists', crl('int', number => 1, from => -7200, entries => [ [$serial] ]) . crl('int', number => 2) ],
	[ 'two CRLs, the newer forged', crl('int', number => 1, from => -7200) . crl('int', number => 2, forged => 1) ],
	[ 'two CRLs, the older forged', crl('int', number => 1, from => -7200, forged => 1) . crl('int', number => 2) ],
	[ 'the same CRL twice', $int . $int ],
	[ 'no CRL of the issuer', '' ],
	[ 'a CRL of the future', crl('int', from => 3600) ],
	[ 'the issuer has another key, CRL by the old', crl('int'), 'bynew' ],
	[ 'the issuer has another key, CRL by the new', crl('newint'), 'bynew' ],
	[ 'the issuer has another key, CRLs by both', crl('int') . crl('newint'), 'bynew' ],
	[ 'the issuer has another key, certificate by the old, CRL by the new', crl('newint'), 'alice', 'new' ],
	[ 'the issuer has another key, certificate by the old, CRLs by both', crl('newint') . crl('int'), 'alice', 'new' ]);

my @servers = map {
	my $c = TlsCluster->new(name => "cache-$_", ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => undef,
		conf => { 'pg_tls.crl_signature_cache' => $_, ssl_crl_file => 'tls/crl.pem' });

	spew($c->tls('crl.pem'), $root, $int);
	$c->start;
	$c->query('CREATE EXTENSION pg_tls', unix => 1);
	$c;
} 'on', 'off';
my ($on, $off) = @servers;

is($on->query('SELECT crl_signatures FROM pg_tls_status', unix => 1), 2, 'two signatures are remembered');
is($off->query('SELECT crl_signatures FROM pg_tls_status', unix => 1), 0, '... or none');

# "accepted", or the error and its depth.
sub handshake
{
	my ($c, $cert) = @_;

	$c->query('SELECT pg_stat_tls_reset()', unix => 1);
	my ($rc, $out, $err) = $c->psql('SELECT acceptable FROM pg_stat_tls WHERE pid = pg_backend_pid()', cert => $cert, host => '127.0.0.1');

	return $out eq 't' ? 'accepted' : "let in, not acceptable: $out" unless $rc;
	$c->poll_query('SELECT count(*) FROM pg_stat_tls_failures', 1, unix => 1);
	return $c->query('SELECT verify_error, verify_depth FROM pg_stat_tls_failures', unix => 1);
}

# Whether OpenSSL reads a CRL at all.
sub is_read
{
	spew("$dir/one.crl", $_[0]);
	return system("openssl crl -noout -in $dir/one.crl 2>$dir/one.err") == 0;
}

my %outcomes;

foreach my $case (@cases)
{
	my ($name, $crls, $cert, $ca) = @$case;
	my $cas = $cert && $cert eq 'bynew' || $ca ? "$dir/new.pem" : "$dir/ca.pem";
	my $text = slurp($cas);

	# OpenSSL 4.0 reads no CRL that names issuers and does not say that it is indirect
	if (grep { !is_read($_) } $crls =~ /(-----BEGIN.*?-----END[^\n]*\n)/sg)
	{
		foreach my $c (@servers)
		{
			spew($c->tls('crl.pem'), $root, $crls);
			like(($c->psql('SELECT pg_tls_reload()', unix => 1))[2], qr/could not load SSL certificate revocation list/,
				"$name: not loaded, " . $c->name);
		}
		next;
	}
	$cert //= 'alice';
	my $leaf = slurp($pki->crt($cert));
	my $expected = $on->query("SELECT CASE WHEN ok THEN 'accepted' ELSE verify_error || '|' || verify_depth END
		FROM pg_tls_verify('$leaf', NULL, '$text', '$root$crls')", unix => 1);
	my @got = map {
		spew($_->tls('ca.crt'), $text);
		spew($_->tls('crl.pem'), $root, $crls);
		$_->query('SELECT pg_tls_reload()', unix => 1);
		handshake($_, $cert);
	} @servers;

	is($got[1], $expected, "$name: $expected");
	is($got[0], $expected, "$name: the same with the cache");
	$outcomes{$expected}++;
}
cmp_ok(scalar keys %outcomes, '>', 5, 'outcomes of many kinds');
note join "\n", map { "$outcomes{$_} $_" } sort keys %outcomes;

# What was good is not taken for good when it is replaced, wherever that lies
# in memory: sizes are the same.
my @kinds = ([ crl('int', number => 9), 'accepted' ], [ crl('int', number => 9, forged => 1), 'CRL signature failure|0' ],
	[ crl('int', number => 9, entries => [ [$serial] ]), 'certificate revoked|0' ]);

spew($on->tls('ca.crt'), slurp("$dir/ca.pem"));
for my $i (1 .. $ENV{PG_TLS_FORGERIES} // 30)
{
	my ($crl, $expected) = @{ $kinds[ int rand @kinds ] };

	spew($on->tls('crl.pem'), $root, $crl);
	$on->query('SELECT pg_tls_reload()', unix => 1);
	is(handshake($on, 'alice'), $expected, "replacement $i: $expected") or last;
}

# One key in the certificates of two issuers of the same name, that bind it to
# different hashes: what one has signed is not signed for the other.
{
	my %hash = (sha256 => '2.16.840.1.101.3.4.2.1', sha512 => '2.16.840.1.101.3.4.2.3');
	my $pss = sub {
		my $hash = der(0x30, der_oid($hash{ $_[0] }));
		my $mgf = der(0x30, der_oid('1.2.840.113549.1.1.8') . $hash);

		return der(0x30, der_oid('1.2.840.113549.1.1.10')
			  . der(0x30, der(0xa0, $hash) . der(0xa1, $mgf) . der(0xa2, der(0x02, "\x20"))));
	};
	my $sign = sub {
		my ($type, $hash, $tbs) = @_;

		spew("$dir/tbs", $tbs);
		my $signature = `openssl dgst -$hash -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sign @{[ $pki->key('rsa') ]} $dir/tbs`;
		return "-----BEGIN $type-----\n" . encode_base64(der(0x30, $tbs . $pss->($hash) . der(0x03, "\0$signature"))) . "-----END $type-----\n";
	};
	my $date = sub { der(0x17, strftime('%y%m%d%H%M%SZ', gmtime(time + $_[0]))) };
	my $public = `openssl pkey -in @{[ $pki->key('rsa') ]} -pubout -outform DER`;
	my $bits = substr $public, index($public, "\x05\0") + 2;
	my $spki = `openssl pkey -in @{[ $pki->key('alice') ]} -pubout -outform DER`;

	foreach my $name (sort keys %hash)
	{
		$pki->raw_cert($name, issuer => 'root', subject => subject('pss'), spki => der(0x30, $pss->($name) . $bits),
			extensions => [ extension('2.5.29.19', der(0x30, der(0x01, "\xff")), 1), extension('2.5.29.14', der(0x04, $name)) ]);
	}
	spew($pki->chain('bypss'), $sign->('CERTIFICATE', 'sha512', der(0x30, der(0xa0, der(0x02, "\2")) . der(0x02, "\x55") . $pss->('sha512')
		  . subject('pss') . der(0x30, $date->(-3600) . $date->(30 * $DAY)) . subject('bypss') . $spki
		  . der(0xa3, der(0x30, extension('2.5.29.35', der(0x30, der(0x80, 'sha512'))))))));
	spew($pki->key('bypss'), slurp($pki->key('alice')));
	chmod 0600, $pki->key('bypss') or die;

	foreach my $hash (sort keys %hash)
	{
		my $crl = $sign->('X509 CRL', $hash, der(0x30, der(0x02, "\1") . $pss->($hash) . subject('pss') . $date->(-3600) . $date->(30 * $DAY)));
		my @got = map {
			spew($_->tls('ca.crt'), map { slurp($pki->crt($_)) } 'root', sort keys %hash);
			spew($_->tls('crl.pem'), $root, $crl);
			$_->query('SELECT pg_tls_reload()', unix => 1);
			handshake($_, 'bypss');
		} @servers;

		is($got[1], $hash eq 'sha512' ? 'accepted' : 'CRL signature failure|0', "a key bound to SHA-512, a CRL signed with $hash");
		is($got[0], $got[1], '... the same with the cache');
	}
	spew($on->tls('ca.crt'), slurp("$dir/ca.pem"));
}

# Sessions are judged by the same.
{
	spew($on->tls('crl.pem'), $root, $int);
	$on->query('SELECT pg_tls_reload()', unix => 1);
	my $alice = $on->session(cert => 'alice', host => '127.0.0.1');

	for my $kind (@kinds, @kinds)
	{
		my ($crl, $expected) = @$kind;

		spew($on->tls('crl.pem'), $root, $crl);
		$on->query('SELECT pg_tls_reload()', unix => 1);
		ok($on->poll_query('SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $alice->pid, $expected eq 'accepted' ? 't' : 'f', unix => 1),
			"a session: $expected");
	}
}

# A CRL with a fault ends the load, as without.
spew($on->tls('crl.pem'), $root, substr($int, 0, 200));
like(($on->psql('SELECT pg_tls_reload()', unix => 1))[2], qr/was not reloaded/, 'a damaged CRL');
$on->reload;
$on->poll_query('SELECT last_attempt_ok FROM pg_tls_status', 'f', unix => 1);
spew($on->tls('crl.pem'), $root, $int);
$on->query('SELECT pg_tls_reload()', unix => 1);
is(handshake($on, 'alice'), 'accepted', 'and then a good one');

# A backend's own CRLs are not touched: a child's default is OpenSSL's.
is($on->query(q{SELECT crl_signatures FROM pg_tls_status}, unix => 1), 2, 'remembered');

my $memory = $on->memory_kb($on->pid);
for (1 .. 200)
{
	$on->query('SELECT pg_tls_reload()', unix => 1);
	$memory = $on->memory_kb($on->pid) if $_ == 50;
}
cmp_ok($on->memory_kb($on->pid) - $memory, '<', 1024, 'the postmaster does not grow by reloads');

$_->stop for @servers;
unlike($_->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log') for @servers;
done_testing();

# Certificates as no sensible CA makes them: each is shown as far as possible,
# and none of them spoils the view for others.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Temp ();
use Math::BigInt;
use MIME::Base64 qw(decode_base64);
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my $ellipsis = "\xe2\x80\xa6";
my $alpha = "\xce\xb1";

$pki->ca('root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);

my $c = TlsCluster->new(ssl => 1, pki => $pki);

$c->start;
$c->query('CREATE EXTENSION pg_tls');

# A client with a new certificate, and its row.
my %open;

sub row
{
	my ($name, %opts) = @_;

	$pki->cert($name, issuer => 'root', %opts);
	$open{$name} = $c->session(cert => $name);
	ok($open{$name}->connected, "$name is connected") or diag $open{$name}->error;
	return $c->row_hash('SELECT * FROM pg_stat_tls WHERE pid = ' . $open{$name}->pid, unix => 1);
}

sub fingerprint
{
	my ($name) = @_;

	return sha256_hex(decode_base64(slurp($pki->crt($name)) =~ s/^-.*$//mgr));
}

subtest 'long serial numbers' => sub {
	foreach my $bytes (20, 53, 54, 60)
	{
		my $serial = '7f' . 'ab' x ($bytes - 1);
		my $decimal = Math::BigInt->from_hex($serial)->bstr;
		my $row = row("serial$bytes", serial => "0x$serial");

		# Up to 128 digits; a number that is cut would be another one.
		is($row->{client_serial}, length $decimal > 128 ? undef : $decimal,
			"$bytes bytes, " . length($decimal) . ' digits');
		is($row->{client_cn}, "serial$bytes", '... and the rest is there');
		is($c->query('SELECT client_cn FROM pg_tls_session()', cert => "serial$bytes"), "serial$bytes",
			'... also in its own session');
	}
	is($c->query('SELECT count(*), count(client_serial) FROM pg_stat_tls WHERE client_certificate', unix => 1),
		'4|2', 'the view has them all');
};

subtest 'an extended key usage that OpenSSL does not print' => sub {
	# clientAuth, and an OID with 200 numbers of 2^28 - 1.
	my $oid = "\x2a" . "\xff\xff\xff\x7f" x 200;
	my $usages = "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02" . pack 'n n/a', 0x0682, $oid;
	my $der = pack 'n n/a', 0x3082, $usages;
	my $row = row('longoid', eku => undef, ext => [ '2.5.29.37 = DER:' . unpack 'H*', $der ]);
	my $list = "clientAuth\n#" . uc unpack 'H*', $oid;

	is($c->query("SELECT array_to_string(client_eku, E'\n') FROM pg_stat_tls WHERE pid = " . $open{longoid}->pid),
		substr($list, 0, 192 - 3) . $ellipsis, 'is shown by its bytes, up to the bound of 192');
	is($row->{client_dn}, '/CN=longoid', '... the subject');
	is($row->{client_cn}, 'longoid', '... the common name');
	is($row->{issuer_dn}, '/CN=root', '... the issuer');
	is($row->{client_fingerprint}, fingerprint('longoid'), '... the fingerprint');
	is($c->query("SELECT date_trunc('hour', client_not_after - client_not_before) FROM pg_stat_tls WHERE pid = "
			  . $open{longoid}->pid), '31 days', '... and the dates are, too');
};

subtest 'control characters of Latin-1' => sub {
	# U+0085 begins a new line on some terminals.
	my $row = row('c1', subject => [ [ O => "x\xc2\x9by" ], [ CN => "a\xc2\x85b" ] ], san => ["DNS:c\xc2\x85d"]);

	is($row->{client_dn}, '/O=x\C2\9By/CN=a\C2\85b', 'in the DN');
	is($row->{client_dn_rfc2253}, 'CN=a\C2\85b,O=x\C2\9By', 'in the DN of RFC 2253');
	is($row->{client_cn}, 'a\C2\85b', 'in the common name');
	is($row->{client_san}, '{"DNS:c\\\\C2\\\\85d"}', 'in an alternative name');
	is(row('nbsp', subject => [ [ CN => "a\xc2\xa0b" ] ])->{client_cn}, "a\xc2\xa0b",
		'the first that is none stays');
};

# OpenSSL itself accepts none of these in a subject.
subtest 'bytes that are not what their type says' => sub {
	my %text = (
		surrogate => [ "\xed\xa0\x80", '\ED\A0\80' ],
		beyond => [ "\xf4\x90\x80\x80", '\F4\90\80\80' ],
		overlong => [ "\xc0\xaf", '\C0\AF' ],
		latin => [ "M\xfcller", 'M\FCller' ],
		truncated => [ "x\xce", 'x\CE' ],
		nul => [ "a\0b", 'a\00b' ]);

	foreach my $name (sort keys %text)
	{
		my ($bytes, $shown) = @{ $text{$name} };
		my $place = '_' x length $bytes;
		my $row = row($name, san => [ "DNS:$place", "otherName:1.2.3.4;UTF8:$place" ], patch => [ $place => $bytes ]);

		is($c->query("SELECT array_to_string(client_san, ' ') FROM pg_stat_tls WHERE pid = " . $open{$name}->pid),
			"DNS:$shown otherName:1.2.3.4;UTF8:$shown", "$name: alternative names");
		is($row->{client_fingerprint}, fingerprint($name), "$name: fingerprint");
	}

	my $row = row('zero', subject => [ [ OU => 'a_b' ], [ CN => 'ok' ] ], patch => [ a_b => "a\0b" ]);

	is($row->{client_dn}, '/OU=a\00b/CN=ok', 'a zero byte in the DN');
	is($row->{client_dn_rfc2253}, 'CN=ok,OU=a\00b', '... and in that of RFC 2253');
};

subtest 'two names never look the same' => sub {
	my @same = (
		[ "a\nb", 'a\0Ab' ],
		[ "a\xc2\x85b", 'a\C2\85b' ],
		[ 'a\\\\b', 'a\\b' ]);
	my $n = 0;

	foreach my $pair (@same)
	{
		my %seen;

		foreach my $name (@$pair)
		{
			my $row = row('name' . ++$n, subject => [ [ CN => $name ] ], san => ["DNS:$name"]);

			foreach my $column (qw(client_dn client_dn_rfc2253 client_cn client_san))
			{
				push @{ $seen{$column} }, $row->{$column};
			}
		}
		isnt($seen{$_}[0], $seen{$_}[1], "$_: $seen{$_}[0]") for sort keys %seen;
	}
	is($c->query('SELECT client_cn, client_san[1] FROM pg_stat_tls WHERE pid = ' . $open{name2}->pid),
		'a\\\\0Ab|DNS:a\\\\0Ab', 'backslashes are doubled');
};

subtest 'texts are cut between characters' => sub {
	foreach my $first ('a', 'ab')
	{
		row("greek-$first", subject => [ [ O => $first ], (map { [ OU => $alpha x 60 ] } 1 .. 9) ]);
		my $whole = "/O=$first" . "/OU=@{[ $alpha x 60 ]}" x 9;
		# psql leaves out what is no valid text.
		my $dn = pack 'H*', $c->query("SELECT encode(textsend(client_dn), 'hex') FROM pg_stat_tls"
			  . ' WHERE pid = ' . $open{"greek-$first"}->pid, unix => 1);

		cmp_ok(length $whole, '>', 1024, "$first: a DN that is too long");
		ok(utf8::decode(my $copy = $dn), "$first: ... is valid text when cut") or diag unpack 'H*', $dn;
		is(substr($dn, -3), $ellipsis, "$first: ... and marked");
		is(substr($whole, 0, length($dn) - 3), substr($dn, 0, -3), "$first: ... at its end");
		cmp_ok(length $dn, '>=', 1023, "$first: ... at the bound");
		cmp_ok(length $dn, '<=', 1024, "$first: ... and not beyond");
	}

	# The bounds themselves, and one byte more.
	foreach my $bytes (1023 .. 1025)
	{
		my @ou = map { [ OU => 'x' x 60 ] } 1 .. 15;
		my $rest = $bytes - 15 * 64 - 4;
		my $row = row("dn$bytes", subject => [ @ou, [ OU => 'y' x $rest ] ]);
		my $whole = join '', map { "/OU=$_->[1]" } @ou, [ OU => 'y' x $rest ];

		is($row->{client_dn}, $bytes <= 1024 ? $whole : substr($whole, 0, 1021) . $ellipsis, "a DN of $bytes bytes");
	}
};

subtest "the issuer's DN is as long" => sub {
	my @subject = map { [ OU => 'x' x 60 ] } 1 .. 14;

	$pki->ca('longca', issuer => 'root', subject => \@subject);

	my $row = row('below', issuer => 'longca');

	is($row->{issuer_dn}, ('/OU=' . 'x' x 60) x 14, '896 bytes are whole');
};

# What OpenSSL had to say of all that must not be taken for an error of the
# connection.  Without preloading, each call reads the certificate anew.
subtest 'the connection goes on' => sub {
	my $unloaded = TlsCluster->new(name => 'unloaded', ssl => 1, pki => $pki, preload => '');
	my $variant = TlsBuild->available ? TlsBuild->new("$dir/build", 'error_queue') : undef;
	my $big = 'SELECT (SELECT client_fingerprint FROM pg_tls_session()),'
	  . " repeat('x', 1000000) FROM generate_series(1, 2)";

	$unloaded->start;
	$variant ? $variant->create($unloaded) : $unloaded->query('CREATE EXTENSION pg_tls');
	$unloaded->query("CREATE FUNCTION test_errors() RETURNS text AS '@{[ $variant->library ]}',"
		  . " 'pg_tls_test_error_queue' LANGUAGE C") if $variant;
	foreach my $name (grep { !/^dn/ } sort keys %open)
	{
		my $expected = join "\n", (fingerprint($name) . '|' . 'x' x 1e6) x 2;
		my $s = $unloaded->session(cert => $name);

		ok($open{$name}->query($big) eq $expected, "$name: a large result");
		ok($s->query($big) eq $expected, "$name: ... and without preloading");
		is($s->query('SELECT test_errors()'), '', "$name: no error is left in the queue") if $variant;
	}
};

%open = ();
done_testing();

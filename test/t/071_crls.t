# pg_tls_crls, pg_tls_crl_entries(), and what pg_tls_files and
# pg_tls_certificates tell of CRLs: for each status and state real files, and
# where it matters what the server does with them.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp ();
use IPC::Run ();
use POSIX ();
use Test::More;

use TlsCluster;
use TlsPKI qw(der der_entry der_extension der_oid slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @many = map { sprintf 'ca%02d', $_ } 1 .. 20;

$pki->ca($_, not_after => 800 * $DAY) for qw(root ended future forged bare stranger endedstranger), @many;
$pki->ca('newroot', subject => '/CN=root', not_after => 800 * $DAY);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], not_after => 800 * $DAY);
$pki->cert("of$_", issuer => $_) for qw(root bare newroot), @many[ 0 .. 5 ];
$pki->cert("gone$_", issuer => 'root') for 1 .. 3;
$pki->revoke("gone$_", reason => 'keyCompromise') for 1 .. 3;
$pki->crl($_) for qw(root newroot);
$pki->raw_crl($_, last_update => -5 * $DAY, next_update => -$DAY) for qw(ended endedstranger);
$pki->raw_crl('future', last_update => $DAY);
$pki->raw_crl('forged', signer => 'root');
$pki->raw_crl($_) for 'stranger', @many;
$pki->bundle("$dir/ca.pem", qw(root ended future forged bare), @many);
$pki->crl_file("$dir/crls.pem", qw(root ended future forged stranger endedstranger));

my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crls.pem");

$c->start;
my $s = $c->session(unix => 1);
$s->query('CREATE EXTENSION pg_tls; SET timezone = UTC');

# Another way to decimal than ours: PostgreSQL's arithmetic.
$s->query(<<'END');
CREATE FUNCTION from_hex(hex text) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE result numeric := 0;
BEGIN
	FOR i IN 1 .. length(ltrim(hex, '-')) LOOP
		result := result * 16 + strpos('0123456789abcdef', substr(ltrim(hex, '-'), i, 1)) - 1;
	END LOOP;
	RETURN CASE WHEN hex LIKE '-%' THEN -result ELSE result END;
END $$
END

my $when = qr/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00/;
my $path = $c->tls('crl.pem');
my $lockout = 'clients with certificates of this CA cannot connect';

# What openssl says of a CRL.
sub openssl_crl
{
	my ($file, @args) = @_;
	my $out = `openssl crl -in $file -noout @args`;

	chomp $out;
	return $out =~ s/^\w+=//r;
}

# What the server would load, and its reload.
sub load
{
	my (%conf) = @_;

	$c->set_conf(\%conf) if %conf;
	my ($ok, $out, $err) = $s->try_query('SELECT ok FROM pg_tls_reload()');

	is("$out$err", 't', 'loaded');
	return;
}

sub load_crls { spew($path, map { slurp($_) } @_); return load() }
sub lets_in { return ($c->psql('SELECT 1', cert => $_[0]))[0] == 0 ? 1 : 0 }

subtest 'status' => sub {
	my @rows = map { [ split /\|/, $_, -1 ] }
	  split /\n/, $s->query('SELECT issuer_dn, status, problem, setting, path, state FROM pg_tls_crls');
	my @expected = (
		[ '/CN=root', 'current', qr/^$/ ],
		[ '/CN=ended', 'expired', qr/^CRL of "\/CN=ended" ended at $when: $lockout$/ ],
		[ '/CN=future', 'not_yet_valid', qr/^CRL of "\/CN=future" is not valid before $when: $lockout$/ ],
		[ '/CN=forged', 'bad_signature', qr/^is not signed by the CA that it names$/ ],
		[ '/CN=stranger', 'no_issuer', qr/^$/ ],
		# clients may send the CA's certificate, and it keeps them out all the same
		[ '/CN=endedstranger', 'expired', qr/^CRL of "\/CN=endedstranger" ended at $when: $lockout$/ ]);

	is(scalar @rows, scalar @expected, 'a row for each CRL');
	for my $i (0 .. $#expected)
	{
		is("@{$rows[$i]}[0, 1]", "@{$expected[$i]}[0, 1]", "$expected[$i][0]: $expected[$i][1]");
		like($rows[$i][2], $expected[$i][2], '... problem');
		is("@{$rows[$i]}[3, 4, 5]", "ssl_crl_file $path loaded", '... where it is');
	}
};

subtest 'what a CRL says of itself' => sub {
	# large, and with the leading zero that keeps it from being negative
	my $number = "\0\xff" . "\x01" x 18;

	$pki->crl('root');    # another number
	$pki->raw_crl('ca01', out => "$dir/number.crl", extensions => [ der_extension('2.5.29.20', der(0x02, $number)) ]);
	$pki->raw_crl('ca02', out => "$dir/plain.crl", next_update => undef,
		entries => [ map { der_entry(chr, -60) } 1 .. 5 ]);
	$pki->raw_crl('ca03', out => "$dir/delta.crl",
		extensions => [ der_extension('2.5.29.20', der(0x02, "\7")), der_extension('2.5.29.27', der(0x02, "\3"), 1) ]);
	my %file = (root => $pki->crl_path('root'), ca01 => "$dir/number.crl", ca02 => "$dir/plain.crl", ca03 => "$dir/delta.crl");

	load_crls(map { $file{$_} } sort keys %file);
	for my $ca (sort keys %file)
	{
		my $text = `openssl crl -in $file{$ca} -noout -text`;
		my $sha = `openssl crl -in $file{$ca} -outform DER | openssl dgst -sha256 -r` =~ s/ .*//sr;
		my $revoked = () = $text =~ /Serial Number:/g;
		my $row = $c->row_hash("SELECT * FROM pg_tls_crls WHERE issuer_dn = '/CN=$ca'", unix => 1);
		my $at = sub { $s->query("SELECT '$_[0]'::timestamptz") };
		my $next = openssl_crl($file{$ca}, '-nextupdate');

		is($row->{this_update}, $at->(openssl_crl($file{$ca}, '-lastupdate')), "$ca: this_update");
		is($row->{next_update}, $next eq 'NONE' ? undef : $at->($next), "$ca: next_update");
		is($row->{revoked}, $revoked, "$ca: $revoked entries");
		is($row->{fingerprint}, $sha, "$ca: SHA-256");
		is($row->{status}, 'current', "$ca: current");
	}
	is($s->query('SELECT issuer_dn, crl_number, delta FROM pg_tls_crls ORDER BY 1'),
		'/CN=ca01|' . $s->query("SELECT from_hex('ff" . '01' x 18 . "')") . "|f\n/CN=ca02||f\n/CN=ca03|7|t\n/CN=root|2|f",
		'numbers, and what is a delta CRL');
	is(openssl_crl("$dir/number.crl", '-crlnumber') =~ s/^0x//r, 'FF' . '01' x 18, '... as openssl reads the large one');
	is(hex(openssl_crl($file{root}, '-crlnumber')), 2, '... and the other one');
	is($s->query('SELECT issuer_dn, problem FROM pg_tls_crls WHERE problem IS NOT NULL'),
		'/CN=ca03|CRL of "/CN=ca03" is a delta CRL, which the server does not support', 'problem of a delta CRL');
	is($s->query('SELECT revoked FROM pg_tls_crls WHERE issuer_dn = $$/CN=root$$'), 3, 'three were revoked');
};

subtest 'the end is near' => sub {
	$pki->raw_crl('ca01', out => "$dir/x.crl", last_update => -9 * $DAY, next_update => $DAY);
	load_crls("$dir/x.crl");
	like($s->query('SELECT status, problem FROM pg_tls_crls'), qr/^current\|CRL of "\/CN=ca01" ends at $when$/, 'loaded');
	$pki->raw_crl('ca02', out => "$dir/x.crl", last_update => -9 * $DAY, next_update => $DAY);
	copy("$dir/x.crl", $path) or die $!;
	like($s->query('SELECT status, problem FROM pg_tls_crls WHERE state = $$disk only$$'), qr/^current\|ends at $when$/, 'on disk');
	$pki->raw_crl('ca02', out => $path, last_update => -9 * $DAY, next_update => -1);
	like($s->query('SELECT status, problem FROM pg_tls_crls WHERE state = $$disk only$$'), qr/^expired\|ended at $when$/, 'ended');
	$pki->raw_crl('ca02', out => $path, last_update => $DAY);
	like($s->query('SELECT status, problem FROM pg_tls_crls WHERE state = $$disk only$$'),
		qr/^not_yet_valid\|is not valid before $when$/, 'not begun');
};

subtest 'state' => sub {
	load_crls(map { $pki->crl_path($_) } qw(root ca01));
	spew($path, map { slurp($pki->crl_path($_)) } qw(ca01 ca02));
	is($s->query('SELECT issuer_dn, state FROM pg_tls_crls'),
		"/CN=ca01|loaded\n/CN=ca02|disk only\n/CN=root|loaded only", 'loaded, on disk, and both');
	is($s->query('SELECT issuer_dn FROM pg_tls_crl_entries() GROUP BY 1'), '/CN=root', 'entries are those loaded');
	unlink $path or die $!;
	is($s->query('SELECT issuer_dn, state, path FROM pg_tls_crls ORDER BY 1'),
		"/CN=ca01|loaded only|$path\n/CN=root|loaded only|$path", 'no file any more');
	is($s->query('SELECT state, problem FROM pg_tls_files WHERE setting = $$ssl_crl_file$$'), 'missing|does not exist', '... which is told');
};

subtest 'many CRLs of many CAs in one file' => sub {
	load_crls(map { $pki->crl_path($_) } @many);
	is($s->query('SELECT count(*), count(DISTINCT fingerprint), count(DISTINCT issuer_dn) FROM pg_tls_crls'
			  . ' WHERE status = $$current$$ AND state = $$loaded$$ AND problem IS NULL'), '20|20|20', 'all of them');
	is($s->query('SELECT string_agg(subject_dn, $$ $$ ORDER BY subject_dn) FROM pg_tls_certificates WHERE has_crl'),
		join(' ', map { "/CN=$_" } @many), 'CAs that have a CRL');
	is($s->query('SELECT string_agg(subject_dn || problem, $$ $$ ORDER BY subject_dn) FROM pg_tls_certificates WHERE NOT has_crl'),
		join(' ', map { qq(/CN=${_}CRLs are configured, but none of CA "/CN=$_": $lockout) } qw(bare ended forged future root)),
		'CAs that have none, and what that means');
	is(lets_in('ofca01'), 1, '... a client of the former is let in');
	is(lets_in('ofbare'), 0, '... none of the latter');
	is($s->query('SELECT has_crl IS NULL FROM pg_tls_certificates WHERE setting = $$ssl_cert_file$$'), 't',
		'nothing of the kind is said of the server\'s own certificate');
	is($s->query('SELECT state FROM pg_tls_files WHERE setting = $$ssl_crl_file$$'), 'current', 'the file is what is loaded');
	spew($path, map { slurp($pki->crl_path($_)) } reverse @many);
	is($s->query('SELECT state FROM pg_tls_files WHERE setting = $$ssl_crl_file$$'), 'current', '... in any order');
	spew($path, map { slurp($pki->crl_path($_)) } @many[ 1 .. $#many ]);
	is($s->query('SELECT state FROM pg_tls_files WHERE setting = $$ssl_crl_file$$'), 'changed', '... but not without one');
};

subtest 'two CRLs of one issuer' => sub {
	my @number = map { der_extension('2.5.29.20', der(0x02, chr)) } 1, 2;

	$pki->raw_crl('ca01', out => "$dir/one.crl", last_update => -7200, extensions => [ $number[0] ], entries => [ der_entry("\1", -60) ]);
	$pki->raw_crl('ca01', out => "$dir/two.crl", extensions => [ $number[1] ],
		entries => [ der_entry("\1", -60), der_entry("\2", -60) ]);
	load_crls("$dir/one.crl", "$dir/two.crl");
	is($s->query('SELECT issuer_dn, crl_number, revoked, state FROM pg_tls_crls'), "/CN=ca01|1|1|loaded\n/CN=ca01|2|2|loaded", 'both are shown');
	is($s->query('SELECT serial, count(*) FROM pg_tls_crl_entries() GROUP BY 1 ORDER BY 1'), "1|2\n2|1", 'and so are the entries of both');
};

subtest 'a CA renewed with the same name and another key' => sub {
	my $ca = slurp($c->tls('ca.crt'));

	spew($c->tls('ca.crt'), map { slurp($pki->crt($_)) } qw(root newroot));
	load_crls($pki->crl_path('root'));
	is($s->query('SELECT status FROM pg_tls_crls'), 'current', 'the CRL of the old key');
	is($s->query('SELECT position, has_crl FROM pg_tls_certificates WHERE setting = $$ssl_ca_file$$'), "1|t\n2|f", '... is none of the new one');
	is(lets_in('ofroot') . lets_in('ofnewroot'), '10', '... for the server, too');
	load_crls($pki->crl_path('newroot'));
	is($s->query('SELECT status FROM pg_tls_crls'), 'current', 'the CRL of the new key');
	is($s->query('SELECT position, has_crl FROM pg_tls_certificates WHERE setting = $$ssl_ca_file$$'), "1|f\n2|t", '... is none of the old one');
	is(lets_in('ofroot') . lets_in('ofnewroot'), '01', '... for the server, too');
	load_crls(map { $pki->crl_path($_) } qw(root newroot));
	is($s->query('SELECT string_agg(has_crl::text, $$ $$) FROM pg_tls_certificates WHERE setting = $$ssl_ca_file$$'), 'true true', 'both');
	is(lets_in('ofroot') . lets_in('ofnewroot'), '11', '... for the server, too');
	spew($c->tls('ca.crt'), $ca);
};

subtest 'no CRLs' => sub {
	load(ssl_crl_file => undef);
	is($s->query('SELECT count(*) FROM pg_tls_crls'), 0, 'none');
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), 0, 'no entries');
	is($s->query('SELECT count(*) FROM pg_tls_certificates WHERE has_crl IS NOT NULL OR problem IS NOT NULL'), 0, 'and no CA needs one');
	is(lets_in('ofbare'), 1, '... for the server, too');
	spew($path, slurp($pki->crl_path('root')));
	load(ssl_crl_file => 'tls/crl.pem');
};

subtest 'entries' => sub {
	my @reasons = qw(unspecified keyCompromise cACompromise affiliationChanged superseded cessationOfOperation
	  certificateHold unknown removeFromCRL privilegeWithdrawn aACompromise unknown);
	my $reason = sub { der_extension('2.5.29.21', der(0x0a, chr $_[0])) };
	my @serials = ("\0", "\1", "\x7f", "\0\x80", "\0\xff\xff\xff\xff", "\1\0\0\0\0", "\x0d\xe0\xb6\xb3\xa7\x63\xff\xff", "\x0d\xe0\xb6\xb3\xa7\x64\0\0",
		"\x7f" . "\xff" x 7, "\0\x80" . "\0" x 7, "\0" . "\xff" x 8, "\1" . "\0" x 8, "\0" . "\xff" x 16, "\x7f" . "\xff" x 19,
		"\x0a" . "\0" x 19, "\0" . "\xfe" x 20, "\0" . "\xfd" x 21, "\x55" x 60, "\xff", "\x80\0", "\xf0" . "\0" x 15, "\x80" . "\0" x 24);
	my @entries = map { der_entry("\x10\0" . chr, -3600 - 86400 * $_, $reason->($_)) } 0 .. 11;

	push @entries, map { der_entry($_, -7200) } @serials;
	push @entries, der_entry("\x11", 40 * 366 * $DAY), der_entry("\x12", -60, $reason->(1), $reason->(2)),
	  der_entry("\x13", -60, der_extension('2.5.29.24', der(0x18, '20200101000000Z')), $reason->(4)),
	  der_entry("\x14", -60, der_extension('2.5.29.21', der(0x0a, "\1\0"))), der_entry("\x15", -60, der_extension('2.5.29.21', 'x'));
	# dates of every month, leap years and their absence, and both forms
	my @dates = ((map { sprintf '23%02d01000000Z', $_ } 1 .. 12), (map { sprintf '23%02d28235959Z', $_ } 1 .. 12),
		qw(000101000000Z 000228000000Z 000229235959Z 000301000000Z 491231235959Z 500101000000Z 991231235959Z 240229120000Z 230228120000Z),
		qw(19500101000000Z 20500101000000Z 20991231235959Z 21000228235959Z 21000301000000Z 24000229000000Z 99991231235959Z 16010101000000Z));

	push @entries, map { der(0x30, der(0x02, "\x20\0" . chr $_) . der(length $dates[$_] == 13 ? 0x17 : 0x18, $dates[$_])) } 0 .. $#dates;
	$pki->raw_crl('ca01', out => "$dir/x.crl", entries => \@entries);
	load_crls("$dir/x.crl");

	# what openssl makes of it, in the order of serial numbers in hexadecimal
	my $text = `openssl crl -in $dir/x.crl -noout -text` =~ s/\\\n//gr;
	my @openssl = map { [ /^\s*(-?[0-9A-F]+)/, /Revocation Date: (.*?) GMT/ ] } $text =~ /Serial Number:(.*?)(?=Serial Number:|Signature Algorithm:\s\S+\s+Signature|\z)/gs;
	is(scalar @openssl, scalar @entries, 'openssl lists them all');
	my $values = join ',', map { "('" . lc($_->[0]) . "', '$_->[1] GMT'::timestamptz)" } @openssl;
	is($s->query("SELECT count(*) FROM (SELECT * FROM (VALUES $values) v UNION ALL SELECT serial_hex, revoked_at FROM pg_tls_crl_entries()) x"),
		2 * @entries, 'as many');
	is($s->query("SELECT * FROM (VALUES $values) v (hex, at) EXCEPT ALL SELECT serial_hex, revoked_at FROM pg_tls_crl_entries()"),
		'', 'serial numbers in hexadecimal, and dates, as openssl prints them');

	is($s->query('SELECT serial, serial_hex, from_hex(serial_hex) FROM pg_tls_crl_entries() WHERE serial IS DISTINCT FROM from_hex(serial_hex)'),
		'', 'serial numbers in decimal');
	is($s->query('SELECT count(*), min(serial), max(serial) FROM pg_tls_crl_entries() WHERE length(serial_hex) BETWEEN 20 AND 42'),
		'6|-' . '21267647932558653966460912964485513216|' . $s->query("SELECT from_hex('" . 'fd' x 21 . "')"), '... large and negative ones');
	is($s->query(q{SELECT string_agg(reason, ' ' ORDER BY serial) FROM pg_tls_crl_entries() WHERE serial_hex LIKE '1000__'}),
		"@reasons", 'reasons by the names of RFC 5280');
	is($s->query(q{SELECT serial_hex, reason FROM pg_tls_crl_entries() WHERE serial_hex IN ('11', '12', '13', '14', '15') ORDER BY 1}),
		"11|\n12|\n13|superseded\n14|unknown\n15|", 'no reason, two of them, another extension before it, and other contents');
	is($s->query('SELECT DISTINCT issuer_dn FROM pg_tls_crl_entries()'), '/CN=ca01', 'issuer');

	# openssl's reasons, by the words of its own
	$pki->crl('root');
	load_crls($pki->crl_path('root'));
	my @words = `openssl crl -in @{[ $pki->crl_path('root') ]} -noout -text` =~ /CRL Reason Code:\s*(.*?)\s*$/mg;
	is("@words", 'Key Compromise Key Compromise Key Compromise', 'revoked by openssl');
	is($s->query(q{SELECT string_agg(reason, ' ') FROM pg_tls_crl_entries()}), join(' ', ('keyCompromise') x 3), '... and read');
	is($s->query('SELECT serial_hex FROM pg_tls_crl_entries() ORDER BY 1'), join("\n", sort map { lc $pki->serial("gone$_") } 1 .. 3), '... those three');
};

subtest 'an indirect CRL' => sub {
	my $name = sub { der(0x30, der(0x31, der(0x30, der_oid('2.5.4.3') . der(0x0c, $_[0])))) };
	my $of = sub { der_extension('2.5.29.29', der(0x30, der(0xa4, $name->($_[0]))), 1) };
	my $indirect = der_extension('2.5.29.28', der(0x30, der(0x84, "\xff")), 1);
	my @entries = (
		der_entry("\x50", -60), der_entry("\x40", -60, $of->('first')), der_entry("\x30", -60),
		der_entry("\x20", -60, $of->('second')), der_entry("\x10", -60, der_extension('2.5.29.21', der(0x0a, "\x08"))));

	# Entries without an issuer have that of the one before, and the server has
	# sorted them by their numbers.
	$pki->raw_crl('ca01', out => "$dir/x.crl", entries => \@entries, extensions => [$indirect]);
	load_crls("$dir/x.crl");
	is($s->query('SELECT serial_hex, issuer_dn, reason FROM pg_tls_crl_entries() ORDER BY 1'),
		"10|/CN=second|removeFromCRL\n20|/CN=second|\n30|/CN=first|\n40|/CN=first|\n50|/CN=ca01|", 'each entry has its issuer');
	$pki->raw_crl('ca01', out => "$dir/x.crl", entries => \@entries);
	if (system("openssl crl -in $dir/x.crl -noout 2>$dir/crl.err") == 0)
	{
		load_crls("$dir/x.crl");
		is($s->query('SELECT DISTINCT issuer_dn FROM pg_tls_crl_entries()'), '/CN=ca01', 'unless it does not say that it is indirect');
	}
	else
	{
		# OpenSSL 4.0 takes no such CRL, nor does the server
		spew($path, slurp("$dir/x.crl"));
		my (undef, undef, $err) = $s->try_query('SELECT * FROM pg_tls_reload()');

		like($err, qr/could not load SSL certificate revocation list file/, 'one that does not say so is not loaded');
		like($s->query("SELECT problem FROM pg_tls_files WHERE setting = 'ssl_crl_file'"), qr/^holds a CRL that cannot be read: /,
			'... and is told of');
	}

	# no name at all
	$pki->raw_crl('ca01', out => "$dir/x.crl", issuer => der(0x30, ''), entries => [ der_entry("\1", -60) ]);
	load_crls("$dir/x.crl");
	is($s->query('SELECT issuer_dn IS NULL, status FROM pg_tls_crls'), 't|no_issuer', 'a CRL without a name');
	is($s->query('SELECT issuer_dn IS NULL, serial FROM pg_tls_crl_entries()'), 't|1', '... and its entry');
};

SKIP:
{
	skip 'PostgreSQL 13 has no ssl_crl_dir', 1 if $c->pg_version < 14;

	subtest 'ssl_crl_dir' => \&test_directory;
}

sub test_directory
{
	my $crls = $c->tls('crls.d');
	my $of_dir = q{setting = 'ssl_crl_dir'};
	my %hash = map { $_ => openssl_crl($pki->crl_path($_), '-hash') } qw(root ended future forged stranger), @many;
	my $put = sub { my ($ca, $name) = @_; copy($pki->crl_path($ca), "$crls/$name") or die "$name: $!" };
	my $row = sub { $s->query("SELECT status, problem FROM pg_tls_crls WHERE path = '$crls/$_[0]'") };
	my $misnamed = sub { 'misnamed|connections do not find it: the CRLs of this issuer have to be named ' . join(' and so on', "$hash{$_[0]}.r0, $hash{$_[0]}.r1", '') };
	my $has_crl = sub { $s->query("SELECT has_crl FROM pg_tls_certificates WHERE subject_dn = '/CN=$_[0]' AND setting = 'ssl_ca_file'") };

	make_path($crls);
	$put->('root', 'root.crl');
	system('openssl', 'rehash', $crls) == 0 or die 'openssl rehash';
	is(readlink "$crls/$hash{root}.r0", 'root.crl', 'openssl rehash makes a link');
	load(ssl_crl_file => undef, ssl_crl_dir => 'tls/crls.d');
	is($s->query("SELECT path, state, status, issuer_dn, revoked, problem FROM pg_tls_crls WHERE $of_dir"),
		"$crls/$hash{root}.r0|on demand|current|/CN=root|3|", 'what it leads to is not shown twice');
	is($s->query('SELECT count(*) FROM pg_tls_crls'), 1, 'and nothing else is shown');
	is($s->query(q{SELECT path, state, problem, loaded_fingerprint IS NULL, disk_fingerprint IS NULL FROM pg_tls_files WHERE setting = 'ssl_crl_dir'}),
		"$crls|current||t|f", 'the directory');
	is($has_crl->('root') . $has_crl->('bare') . $has_crl->('ca01'), 'tff', 'CAs with and without a CRL');
	is(lets_in('ofroot') . lets_in('ofca01'), '10', '... for the server, too');
	is($s->query('SELECT string_agg(serial_hex, $$,$$ ORDER BY serial_hex) FROM pg_tls_crl_entries()'),
		join(',', sort map { lc $pki->serial("gone$_") } 1 .. 3), 'entries');

	# It comes and goes without a reload.
	my $digest = $s->query(q{SELECT disk_fingerprint FROM pg_tls_files WHERE setting = 'ssl_crl_dir'});

	$pki->raw_crl('ca01', out => "$crls/$hash{ca01}.r0", entries => [ der_entry("\5", -60) ]);
	is($row->("$hash{ca01}.r0"), 'current|', 'a CRL appears');
	isnt($s->query(q{SELECT disk_fingerprint FROM pg_tls_files WHERE setting = 'ssl_crl_dir'}), $digest, '... another directory');
	is($has_crl->('ca01') . lets_in('ofca01'), 't1', '... its CA has one, and its clients are let in');
	is($s->query('SELECT problem IS NULL FROM pg_tls_certificates WHERE subject_dn = $$/CN=ca01$$'), 't', '... without a problem');
	is($s->query('SELECT serial FROM pg_tls_crl_entries() WHERE issuer_dn = $$/CN=ca01$$'), 5, '... its entry is there');
	unlink "$crls/$hash{ca01}.r0" or die $!;
	is($row->("$hash{ca01}.r0"), '', 'and goes');
	is($has_crl->('ca01') . lets_in('ofca01'), 'f0', '... and its clients are locked out');
	like($s->query('SELECT problem FROM pg_tls_certificates WHERE subject_dn = $$/CN=ca01$$'), qr/but none of CA "\/CN=ca01": $lockout/, '... which is told');

	# Numbers.
	$put->('ca01', "$hash{ca01}.r1");
	is($row->("$hash{ca01}.r1"), $misnamed->('ca01'), 'a gap');
	is($has_crl->('ca01') . lets_in('ofca01'), 'f0', '... hides it from the server');
	spew("$crls/$hash{ca01}.r0", "garbage\n");
	is($row->("$hash{ca01}.r0"), 'unreadable|holds nothing in PEM', 'garbage');
	# newer patch levels of OpenSSL go on behind it, others stop
	my $goes_on = lets_in('ofca01');
	is($row->("$hash{ca01}.r1"), $goes_on ? 'current|' : $misnamed->('ca01'), '... and what is behind it, as the server has it');
	is($has_crl->('ca01'), $goes_on ? 't' : 'f', '... and its CA');
	unlink "$crls/$hash{ca01}.r0" or die $!;
	POSIX::mkfifo("$crls/$hash{ca01}.r0", 0600) or die $!;
	is($row->("$hash{ca01}.r1"), $misnamed->('ca01'), '... or a FIFO, where connections wait for ever');
	unlink "$crls/$hash{ca01}.r0" or die $!;
	$put->('ca02', "$hash{ca01}.r0");
	is($row->("$hash{ca01}.r1"), 'current|', 'another CRL before it');
	is($has_crl->('ca01') . lets_in('ofca01'), 't1', '... is none');
	is($row->("$hash{ca01}.r0"), $misnamed->('ca02'), '... but misnamed itself');
	$put->('ca03', "$hash{ca03}.r00");
	is($row->("$hash{ca03}.r00"), $misnamed->('ca03'), 'a zero too many');
	is($has_crl->('ca03') . lets_in('ofca03'), 'f0', '... for the server, too');
	$put->('ca04', uc("$hash{ca04}") . '.r0') if $hash{ca04} =~ /[a-f]/;
	is($row->(uc("$hash{ca04}") . '.r0'), $hash{ca04} =~ /[a-f]/ ? $misnamed->('ca04') : '', 'upper case');
	$pki->raw_crl('ca05', out => "$crls/ca05.crl", entries => [ der_entry("\7", -60) ]);
	is($row->('ca05.crl'), $misnamed->('ca05'), 'no hash');
	is($has_crl->('ca05') . lets_in('ofca05'), 'f0', '... for the server, too');
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries() WHERE issuer_dn <> $$/CN=root$$'), 0, 'no entries of what connections do not find');

	# One good block and a bad one: the server uses the former.
	spew("$crls/$hash{ca06}.r0", slurp($pki->crl_path('ca06')), "-----BEGIN X509 CRL-----\nMIIB\n");
	$pki->raw_crl('ca06', out => "$crls/$hash{ca06}.r1", entries => [ der_entry("\6", -60) ]);
	like($row->("$hash{ca06}.r0"), qr/^current\|block 2 in it cannot be read: /, 'a block that is cut');
	is($row->("$hash{ca06}.r1"), $goes_on ? 'current|' : $misnamed->('ca06'), '... and what is behind it');
	is($has_crl->('ca06'), 't', '... the one before it counts');
	# 3.5.7 lets nobody in by such a file
	is(lets_in('ofca06'), 1, '... for the server, too') unless $s->query('SELECT openssl_version FROM pg_tls_status') =~ /^OpenSSL 3\.5\./;

	# Each status.
	$put->($_, "$hash{$_}.r0") for qw(ended future forged stranger);
	like($row->("$hash{ended}.r0"), qr/^expired\|CRL of "\/CN=ended" ended at $when: $lockout$/, 'expired');
	like($row->("$hash{future}.r0"), qr/^not_yet_valid\|CRL of "\/CN=future" is not valid before $when: $lockout$/, 'not yet valid');
	is($row->("$hash{forged}.r0"), 'bad_signature|is not signed by the CA that it names', 'bad signature');
	is($row->("$hash{stranger}.r0"), 'no_issuer|', 'of an unknown issuer');

	# Things that are no files, one of them where the server would look.
	POSIX::mkfifo("$crls/$hash{ca10}.r0", 0600) or die $!;
	POSIX::mkfifo("$crls/fifo", 0600) or die $!;
	symlink 'nowhere', "$crls/$hash{ca11}.r0" or die $!;
	symlink '/dev/zero', "$crls/$hash{ca12}.r0" or die $!;
	make_path("$crls/$hash{ca13}.r0", "$crls/subdirectory");
	`openssl crl -in @{[ $pki->crl_path('ca14') ]} -outform DER -out $crls/$hash{ca14}.r0`;
	spew("$crls/$hash{ca15}.r0", slurp($pki->crt('root')));
	spew("$crls/$hash{ca16}.r0", '');
	truncate "$crls/$hash{ca16}.r0", 2 * 2**30 or die $!;
	spew("$crls/README", "nothing\n");
	spew("$crls/.hidden.r0", slurp($pki->crl_path('ca17')));
	my $others = sub { join '', map { $_->[1] . "\n" } sort { $a->[0] cmp $b->[0] } map { [ "$hash{$_->[0]}.r0", "$hash{$_->[0]}.r0|unreadable|$_->[1]" ] } @_ };
	is($s->query("SELECT substr(path, length('$crls/') + 1), status, problem FROM pg_tls_crls WHERE status = 'unreadable'") . "\n",
		$others->([ ca10 => 'is not a regular file' ], [ ca11 => 'could not be opened: No such file or directory' ],
			[ ca12 => 'is not a regular file' ], [ ca13 => 'is a directory' ], [ ca14 => 'is in DER, and the server reads PEM only' ],
			[ ca15 => 'holds no CRL' ], [ ca16 => 'is larger than 1 GB, and was not read' ]), 'what cannot be read, and has the name of a CRL');
	is($s->query("SELECT count(*) FROM pg_tls_crls WHERE path ~ 'README|hidden|subdirectory|fifo'"), 0, 'other names are no matter');
	is(join('', map { $has_crl->("ca$_") } 10 .. 16), 'f' x 7, 'no CRLs of these CAs');
	is($s->query('SELECT count(*) FROM pg_tls_crls WHERE state <> $$on demand$$'), 0, 'all of it on demand');
	{
		my $n = $s->query('SELECT count(*) FROM pg_tls_crls WHERE problem IS NOT NULL AND status IN ($$misnamed$$, $$unreadable$$)') + 1;

		is($s->query(q{SELECT state, problem FROM pg_tls_files WHERE setting = 'ssl_crl_dir'}),
			"current|$n of the CRLs in it are of no use: see pg_tls_crls", 'the directory tells how many');
	}
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries() WHERE issuer_dn = $$/CN=root$$'), 3, 'entries are there all the same');
	is($s->query('SELECT ok FROM pg_tls_check()'), 't', 'and a dry run ends');

	# Both settings.
	spew($path, slurp($pki->crl_path('root')));
	load(ssl_crl_file => 'tls/crl.pem');
	is($s->query("SELECT setting, state FROM pg_tls_crls WHERE issuer_dn = '/CN=root' ORDER BY 1"),
		"ssl_crl_dir|on demand\nssl_crl_file|loaded", 'the same CRL in both');

	# The directory is none, or another one than that in force.
	my $files = q{SELECT state, problem FROM pg_tls_files WHERE setting = 'ssl_crl_dir'};

	load(ssl_crl_dir => 'tls/nowhere');
	is($s->query($files), 'missing|does not exist, which the server does not report', 'no directory');
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), 3, '... and the entries of the file');
	load(ssl_crl_dir => 'tls/crl.pem');
	is($s->query($files), 'unreadable|is not a directory', 'a file');
	is($s->query("SELECT count(*) FROM pg_tls_crls WHERE $of_dir"), 0, '... shows nothing');
	$c->set_conf({ ssl_crl_dir => 'tls/crls.d', ssl_cert_file => 'tls/nowhere.crt' });
	$c->reload;
	$c->poll_query('SELECT last_attempt_ok FROM pg_tls_status', 'f', unix => 1);
	is($s->query($files =~ s/, problem//r), 'changed', 'a directory that was not loaded');
	is($s->query("SELECT DISTINCT state FROM pg_tls_crls WHERE $of_dir"), 'disk only', '... holds what connections do not look up');
	load(ssl_crl_dir => undef, ssl_cert_file => 'tls/server.crt');
	is($s->query($files), 'unset|', 'unset');
	return;
}

subtest 'without TLS' => sub {
	load_crls($pki->crl_path('root'));
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), 3, 'entries before');
	$c->set_conf({ ssl => 'off' });
	$c->reload;
	$c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1);
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), 0, 'no entries are in force');
	is($s->query('SELECT issuer_dn, state, status, revoked FROM pg_tls_crls'), '/CN=root|disk only|current|3', 'the CRL on disk');
	is($s->query('SELECT has_crl FROM pg_tls_certificates WHERE subject_dn = $$/CN=bare$$'), 'f', 'CAs would need one');
	load(ssl => 'on');
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), 3, 'and after');
};

# The worker that answers; it may be gone by the next moment.
sub workers
{
	my %children = $c->children;

	return grep { $children{$_} =~ /pg_tls files/ } keys %children;
}

subtest 'a large CRL' => sub {
	my $n = 100_000;
	my $large = $pki->large_crl('root', $n, out => "$dir/large.crl");

	load_crls($large);
	is($s->query('SELECT revoked, status, state FROM pg_tls_crls'), $n + 3 . '|current|loaded', 'shown');
	is($s->query('SELECT count(*), count(DISTINCT serial), count(DISTINCT serial_hex), count(*) FILTER (WHERE reason = $$keyCompromise$$), min(issuer_dn) FROM pg_tls_crl_entries()'),
		join('|', ($n + 3) x 3, 3, '/CN=root'), 'all entries');
	is($s->query('SELECT sum(serial % (1 << 20)) FROM pg_tls_crl_entries() WHERE reason IS NULL'),
		$n * ($n + 1) / 2, '... and each with its own number');

	# Replaced while it is read: by rename, it is one or the other.
	my $small = $pki->crl_path('root');
	my %digest = map {
		copy($_, "$path.new");
		rename "$path.new", $path or die $!;
		$s->query(q{SELECT disk_fingerprint FROM pg_tls_files WHERE setting = 'ssl_crl_file'}) => $_
	} $small, $large;
	my %seen;
	my $run = IPC::Run::start([ 'sh', '-c', "while :; do cp $small $path.new; mv $path.new $path; cp $large $path.new; mv $path.new $path; done" ]);

	is(scalar keys %digest, 2, 'two files');
	for (1 .. 20)
	{
		my ($ok, $out, $err) = $s->try_query(q{SELECT disk_fingerprint, problem FROM pg_tls_files WHERE setting = 'ssl_crl_file'});

		$seen{"$out$err"}++;
	}
	$run->kill_kill;
	is_deeply([ grep { !/^(\w+)\|$/ || !$digest{$1} } keys %seen ], [], 'replaced by rename: it is one or the other');

	# In place, it may be cut anywhere: there is no error, and what is loaded stays.
	$run = IPC::Run::start([ 'sh', '-c', "while :; do cat $small > $path; cat $large > $path; done" ]);
	%seen = ();
	for (1 .. 20)
	{
		my ($ok, $out, $err) = $s->try_query(q{SELECT count(*) FROM pg_tls_crls WHERE state LIKE 'loaded%'});

		$seen{"$out$err"}++;
	}
	$run->kill_kill;
	is_deeply([ keys %seen ], ['1'], 'written in place: what is loaded is shown');
	load_crls($large);

	# Whatever ends the query ends the worker, however stuck it is: here stopped.
	my $loop = 'DO $$ BEGIN LOOP PERFORM count(*) FROM pg_tls_crl_entries(); END LOOP; END $$';
	my $stop_worker = sub {
		my ($deadline) = @_;

		$c->poll_until(
			sub {
				my ($pid) = workers();

				return 'late' if time >= $deadline;
				# not of a loop that has gone on to the next one
				return unless $pid && kill('STOP', $pid);
				# On a busy machine it has to wait for a processor to stop.
				my $state;
				$c->poll_until(
					sub {
						($state) = (eval { slurp("/proc/$pid/stat") } // '') =~ /\) (\w) /;
						return !$state || $state !~ /[RSD]/;
					}, what => 'its stop');
				return ($state // '') eq 'T' ? $pid : undef;
			}, what => 'a worker');
	};
	my %ways = (
		'pg_cancel_backend' => [ sub { $c->query('SELECT pg_cancel_backend(' . $_[0]->pid . ')', unix => 1) }, qr/ERROR: +canceling statement due to user request/ ],
		'statement_timeout' => [ sub { }, qr/ERROR: +canceling statement due to statement timeout/ ],
		'pg_terminate_backend' => [ sub { $c->query('SELECT pg_terminate_backend(' . $_[0]->pid . ')', unix => 1) }, qr/FATAL: +terminating connection/ ]);

	for my $way (sort keys %ways)
	{
		my ($do, $error) = @{ $ways{$way} };
		my ($other, $worker);
		my $begin = sub {
			my ($seconds) = @_;
			my $deadline = time + $seconds;

			if ($other)
			{
				kill 'CONT', $worker if $worker ne 'late';
				$other->wait;
			}
			$other = $c->session(unix => 1);
			$other->pid;
			$other->query("SET statement_timeout = '${seconds}s'") if $way eq 'statement_timeout';
			$other->send($loop);
			$worker = $stop_worker->($deadline);
		};

		# Nothing but the timeout is to come before it does.
		if ($way eq 'statement_timeout') { $c->in_time(3, $begin) }
		else { $begin->($TlsCluster::TIMEOUT) }
		like($worker, qr/^\d+$/, "$way: the worker is stopped");
		$do->($other);
		like(($other->wait)[2], $error, "$way: ends the query while its worker is stuck");
		kill 'CONT', $worker;
		ok($c->poll_until(sub { !workers() }, what => 'the end of the worker'), "$way: and the worker");
		is($other->query('SET statement_timeout = 0; SELECT count(*) FROM pg_tls_crl_entries()'), $n + 3, "$way: the next call works")
		  if $other->alive;
	}
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), $n + 3, 'and so does one of another session');

	# A cursor or LIMIT that does not want all of it.
	is($s->query('SELECT count(*) FROM (SELECT * FROM pg_tls_crl_entries() LIMIT 10) x'), 10, 'LIMIT');
	ok($c->poll_until(sub { !workers() }, what => 'the end of the worker'), '... leaves no worker');

	# Nothing is kept of a call.
	my $call = sub { $s->query("DO \$\$ BEGIN FOR i IN 1 .. $_[0] LOOP PERFORM count(*) FROM pg_tls_crl_entries(); PERFORM count(*) FROM pg_tls_crls; END LOOP; END \$\$") };

	$call->(3);
	my $before = $c->memory_kb($s->pid);
	$call->(30);
	cmp_ok($c->memory_kb($s->pid) - $before, '<', 2048, 'calls leave no memory behind');
};

subtest 'on a standby' => sub {
	my $standby = TlsCluster->new(name => 'standby', ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crls.pem", conf => { hot_standby => 'on' });

	spew($path, map { slurp($pki->crl_path($_)) } qw(root ended forged));
	load();
	$standby->follow($c, unix => 1);
	$standby->start;

	my $there = $standby->session(unix => 1);

	is($there->query('SELECT pg_is_in_recovery()'), 't', 'it is one');
	$there->query('SET timezone = UTC');
	for my $view (
		q{SELECT setting, state, issuer_dn, crl_number, this_update, next_update, revoked, delta, status, fingerprint, problem FROM pg_tls_crls},
		q{SELECT * FROM pg_tls_crl_entries() ORDER BY serial},
		q{SELECT * FROM pg_tls_certificates},
		q{SELECT setting, contents, effect, state, owner, mode, size, loaded_fingerprint, disk_fingerprint, problem FROM pg_tls_files})
	{
		my $here = $s->query($view);

		cmp_ok(length $here, '>', 100, 'something here');
		is($there->query($view), $here, 'and the same there: ' . ($view =~ /FROM (\w+)/)[0]);
	}
	# each has files of its own
	spew($standby->tls('crl.pem'), slurp($pki->crl_path('root')));
	is($there->query('SELECT issuer_dn, state FROM pg_tls_crls ORDER BY 1'), "/CN=ended|loaded only\n/CN=forged|loaded only\n/CN=root|loaded", 'its own files');
	is($there->query('SELECT ok FROM pg_tls_reload()'), 't', '... which it loads');
	is($there->query('SELECT issuer_dn, state FROM pg_tls_crls'), '/CN=root|loaded', '... by itself');
	is($s->query('SELECT count(*) FROM pg_tls_crls WHERE state = $$loaded$$'), 3, '... and not here');
	$standby->stop;
};

$s->close;
$c->stop;
done_testing();

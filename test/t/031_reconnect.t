# What the view says of a session is what the server does when that client
# connects again: sessions of many kinds against many changes of the files.
# And pg_tls.prepare_context changes nothing of it, nor a byte of what is sent.

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
my @crl = (next_update => 100 * $DAY);
my $old_openssl = `openssl version` =~ /^OpenSSL 1\./;

# CAs: two roots, intermediates of two depths, one with a path length of zero,
# one that two roots have signed, and a root with a name and a key of before.
$pki->ca($_, @years) for qw(root root2);
$pki->ca($_, issuer => 'root', @years) for qw(int int2 cross);
$pki->ca('deep', issuer => 'int', @years);
$pki->ca('cross_root2', issuer => 'root2', subject => '/CN=cross', key_of => 'cross', @years);
$pki->ca('renewed', subject => '/CN=root', key_of => 'root', @years);
$pki->ca('rekeyed', subject => '/CN=root', @years);

# Clients: name, issuer, and what they send beside their certificate.
my @clients = (
	[ direct => 'root' ],
	[ direct2 => 'root2' ],
	[ chain => 'int', 'int' ],
	[ alone => 'int' ],
	[ revoked => 'int', 'int' ],
	[ bystander => 'int2', 'int2' ],
	[ deep_chain => 'deep', 'deep', 'int' ],
	[ deep_part => 'deep', 'deep' ],
	[ crossed => 'cross', 'cross' ],
	[ crossed_both => 'cross', 'cross', 'cross_root2' ],
	[ noeku => 'int', 'int' ],
	[ wrong_order => 'deep', 'int', 'deep' ],
	[ more => 'int', 'int', 'int2', 'root2' ]);
my %extra = (noeku => [ eku => undef ]);

foreach my $client (@clients)
{
	my ($name, $issuer, @sent) = @$client;

	$pki->cert($name, issuer => $issuer, @years, @{ $extra{$name} // [] });
	spew("$dir/$name.pem", map { slurp($pki->crt($_)) } $name, @sent);
}
$pki->cert('server', issuer => 'int', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('server_root', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('server_foreign', issuer => 'root2', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('server_self', kind => 'server', san => ['DNS:localhost'], @years);
my @issuers = qw(root root2 int int2 cross deep);
$pki->crl($_, @crl) for @issuers;
# Both have the same key.
$pki->crl('cross_root2', @crl, out => "$dir/cross_root2.crl");

sub certs { return join '', map { slurp($pki->crt($_)) } @_ }
sub crls { return join '', map { -e "$dir/$_.crl" ? slurp("$dir/$_.crl") : slurp($pki->crl_path($_)) } @_ }

sub all_but
{
	my %out = map { $_ => 1 } @_;

	return grep { !$out{$_} } @issuers;
}

$pki->revoke('revoked');
$pki->crl('int', @crl, out => "$dir/revoked.crl");
$pki->crl('int', @crl, out => "$dir/revoked_all.crl", revoked => [ map { $_->[0] } grep { $_->[1] eq 'int' } @clients ]);
$pki->crl('root', @crl, out => "$dir/revoked_int.crl", revoked => ['int']);
$pki->crl('root', @crl, out => "$dir/revoked_cross.crl", revoked => ['cross']);
$pki->crl('int', @crl, out => "$dir/revoked_deep.crl", revoked => ['deep']);
$pki->crl('rekeyed', @crl, out => "$dir/rekeyed.crl");
if (!$old_openssl)
{
	$pki->crl('int', out => "$dir/ended.crl", last_update => -2 * $DAY, next_update => -$DAY);
	$pki->crl('int', out => "$dir/future.crl", last_update => $DAY, next_update => 2 * $DAY);
	$pki->crl('root', out => "$dir/ended_root.crl", last_update => -2 * $DAY, next_update => -$DAY);
}

# With all of them trusted, and the CRLs of all, everybody is let in.
my @base_ca = qw(root root2 int);
my %base = (ca => certs(@base_ca), crl => crls(@issuers));
my @changes = (
	[ 'no change' ],
	[ 'without CRLs', crl => undef ],
	[ 'one revoked', crl => crls(all_but('int'), 'revoked') ],
	[ 'many revoked', crl => crls(all_but('int'), 'revoked_all') ],
	[ 'intermediate revoked', crl => crls(all_but('root'), 'revoked_int') ],
	[ 'cross-signed CA revoked', crl => crls(all_but('root'), 'revoked_cross') ],
	[ 'deep intermediate revoked', crl => crls(all_but('int'), 'revoked_deep') ],
	[ 'two CRLs, the newer one revokes', crl => crls(@issuers, 'revoked') ],
	[ 'intermediate not in the CA file', ca => certs(qw(root root2)) ],
	[ 'one root only', ca => certs('root', 'int') ],
	[ 'the other root only', ca => certs('root2') ],
	[ 'intermediate only', ca => certs('int') ],
	[ 'CRL of a root missing', crl => crls(all_but('root')) ],
	[ 'CRL of an intermediate missing', crl => crls(all_but('int')) ],
	[ 'CRL of a deep intermediate missing', crl => crls(all_but('deep')) ],
	[ 'no CRL but one', crl => crls('root2') ],
	[ 'root renewed with its key', ca => certs(qw(renewed root2 int)) ],
	[ 'root with another key', ca => certs(qw(rekeyed root2)), crl => crls(all_but('root'), 'rekeyed') ],
	[ 'old and new root', ca => certs(qw(rekeyed root root2 int)), crl => crls(@issuers, 'rekeyed') ],
	$old_openssl ? () : (
		[ 'CRL ended', crl => crls(all_but('int'), 'ended') ],
		[ 'CRL of the root ended', crl => crls(all_but('root'), 'ended_root') ],
		[ 'CRL of the future', crl => crls(all_but('int'), 'future') ],
		[ 'CRL of the future beside a current one', crl => crls(@issuers, 'future') ]),
	[ 'a stricter security level', ciphers => 'HIGH:@SECLEVEL=4' ],
	[ 'all well again' ]);

spew("$dir/ca.pem", $base{ca});
spew("$dir/crl.pem", $base{crl});
my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crl.pem",
	conf => { max_connections => 60 });

$c->start;
my $admin = $c->session(unix => 1);
$admin->query('CREATE EXTENSION pg_tls');

sub load
{
	my (%files) = (%base, @_);

	spew($c->tls('ca.crt'), $files{ca});
	spew($c->tls('crl.pem'), $files{crl} // '');
	$c->set_conf({ ssl_crl_file => defined $files{crl} ? 'tls/crl.pem' : '', ssl_ciphers => $files{ciphers} });
	my ($ok, undef, $err) = $admin->try_query('SELECT ok FROM pg_tls_reload()');

	$ok or diag $err;
	return $ok && $c->poll_until(sub { $admin->query('SELECT verdicts_pending FROM pg_tls_status') eq '0' });
}

sub way
{
	my ($name) = @_;

	# TLS 1.2: the client learns of a refusal in the handshake.
	return (cert => $name, sslcert => "$dir/$name.pem", ssl_max_protocol_version => 'TLSv1.2');
}

ok(load(), 'loaded');
my %sessions = map { $_->[0] => $c->session(way($_->[0])) } @clients;
foreach my $name (sort keys %sessions)
{
	ok($sessions{$name}->connected, "$name is connected") or diag $sessions{$name}->error;
}

# Who is let in after each change, with and without preparation.
my %let_in;
my $cases = 0;
my %refused;

foreach my $prepare ('on', 'off')
{
	$c->set_conf({ 'pg_tls.prepare_context' => $prepare });
	foreach my $change (@changes)
	{
		my ($what, %files) = @$change;

		# All have to be connected since before.
		next unless ok(load(%files), "$what: loaded");
		my %says = map { @$_ } $c->query_rows(
			'SELECT pid, acceptable FROM pg_stat_tls WHERE client_certificate', unix => 1);
		my @wrong;

		foreach my $name (sort keys %sessions)
		{
			my $says = $says{ $sessions{$name}->pid } // 'unknown';
			my ($rc) = $c->psql('SELECT 1', way($name));
			my $does = $rc ? 'f' : 't';

			$let_in{$prepare} .= "$what, $name: $does\n";
			$refused{$what}++ if $rc;
			$cases++;
			push @wrong, "$name: the view says $says, the server $does" if $says ne $does;
		}
		is(join("\n", @wrong), '', "$what (prepare_context = $prepare)");
	}
}
is($let_in{off}, $let_in{on}, 'the same clients are let in with and without preparation');
note "$cases cases";
cmp_ok($cases, '>=', 120, 'many cases');
cmp_ok(scalar keys %refused, '>=', 15, 'of many kinds');
ok(!$refused{'no change'} && !$refused{'all well again'}, 'and all is well that ends well');
ok($_->alive, 'a session outlived it') for values %sessions;

# What the server sends, by its file and the CA file.
sub sent
{
	my $out = $c->s_client(extra => ['-showcerts']);

	return join '', $out =~ /(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n)/sg;
}

# In OpenSSL's own format, which has what the certificate is trusted for.
sub with_trust
{
	my ($name, @settings) = @_;
	my $file = $pki->crt($name);

	return scalar `openssl x509 -in '$file' -trustout @settings`;
}

# A root, and a certificate by it, whose validity is over or still to come.
my @ended = (not_before => -2 * $DAY, not_after => -$DAY);
my @to_come = (not_before => $DAY, not_after => 2 * $DAY);
$pki->ca('root_ended', @ended);
$pki->ca('int_ended', issuer => 'root', subject => '/CN=int', key_of => 'int', @ended);
$pki->ca('int_to_come', issuer => 'root', subject => '/CN=int', key_of => 'int', @to_come);
$pki->cert("server_$_->[0]", issuer => $_->[1], kind => 'server', san => ['DNS:localhost'], @{ $_->[2] })
  foreach [ ended => 'int', \@ended ], [ to_come => 'int', \@to_come ], [ of_ended => 'root_ended', \@years ],
  [ cross => 'cross', \@years ], [ deep => 'deep', \@years ];
$pki->cert('server_client', issuer => 'int', eku => 'clientAuth', @years);
$pki->ca('weak', issuer => 'root', key => 'rsa:1024', @years);
$pki->cert('server_weak', issuer => 'weak', kind => 'server', key => 'rsa:2048', san => ['DNS:localhost'], @years);

my @trust = map { my $use = $_; map { "-add$_ $use" } qw(trust reject) } qw(serverAuth clientAuth anyExtendedKeyUsage emailProtection);
my %chains;

foreach my $case (
	(map { [ "intermediate with $_", 'server', certs('server'), ca => certs(qw(root root2)) . with_trust('int', $_) ] }
		@trust, '-setalias i', '-addtrust serverAuth -addreject clientAuth'),
	(map { [ "root with $_", 'server', certs('server'), ca => certs('int') . with_trust('root', $_) ] } @trust, '-setalias r'),
	(map { [ "certificate with $_", 'server', with_trust('server', $_) ] } @trust, '-setalias s'),
	[ 'all with trust', 'server', with_trust('server', '-addtrust serverAuth'),
		ca => with_trust('int', '-addtrust clientAuth') . with_trust('root', '-addreject serverAuth') . certs('root2') ],
	[ 'intermediate plainly and with trust', 'server', certs('server'), ca => certs(qw(root int)) . with_trust('int', '-addtrust serverAuth') ],
	[ 'self-signed with trust', 'server_self', with_trust('server_self', '-addtrust serverAuth'), ca => with_trust('server_self', '-addreject serverAuth') . certs('root2'), crl => undef ],
	[ 'an ended certificate', 'server_ended', certs('server_ended') ],
	[ 'a certificate of the future', 'server_to_come', certs('server_to_come') ],
	[ 'an ended root', 'server_of_ended', certs('server_of_ended'), ca => certs('root', 'root_ended') ],
	[ 'an ended intermediate', 'server', certs('server'), ca => certs('root', 'int_ended') ],
	[ '... and a good one', 'server', certs('server'), ca => certs('root', 'int_ended', 'int') ],
	[ 'an intermediate of the future', 'server', certs('server'), ca => certs('root', 'int_to_come') ],
	[ '... beside one of now', 'server', certs('server'), ca => certs('root', 'int_to_come', 'int') ],
	[ 'signed by two', 'server_cross', certs('server_cross'), ca => certs(qw(root root2 cross cross_root2)) ],
	[ '... of which one is known', 'server_cross', certs('server_cross'), ca => certs(qw(root root2 cross_root2)) ],
	[ 'a long chain', 'server_deep', certs('server_deep'), ca => certs(qw(root int deep)) ],
	[ '... without its middle', 'server_deep', certs('server_deep'), ca => certs(qw(root deep)) ],
	[ '... without its root', 'server_deep', certs('server_deep'), ca => certs(qw(int deep)) ],
	[ 'a certificate for clients', 'server_client', certs('server_client') ],
	[ 'a weak intermediate', 'server_weak', certs('server_weak'), ca => certs(qw(root weak)), ciphers => 'HIGH:@SECLEVEL=0' ],
	[ '... refused', 'server_weak', certs('server_weak'), ca => certs(qw(root weak)), ciphers => 'HIGH:@SECLEVEL=2' ],
	[ 'a higher security level', 'server', certs('server'), ciphers => 'HIGH:@SECLEVEL=3' ],
	[ 'a chain in the file', 'server', slurp($pki->chain('server')) ],
	[ 'the certificate alone', 'server', certs('server') ],
	[ 'the certificate alone, its issuer not known', 'server', certs('server'), ca => certs('root2'), crl => crls('root2') ],
	[ 'the certificate alone, by the root', 'server_root', certs('server_root') ],
	[ '... which is revoked', 'server_root', certs('server_root'), crl => crls(all_but('root')) . slurp($pki->crl('root', @crl, revoked => ['server_root'], out => "$dir/rs.crl")) ],
	[ '... without CRLs', 'server_root', certs('server_root'), crl => undef ],
	[ 'an unknown issuer', 'server_foreign', certs('server_foreign'), ca => certs('root') ],
	[ 'two roots of one name', 'server_root', certs('server_root'), ca => certs(qw(rekeyed root)), crl => crls(@issuers, 'rekeyed') ],
	[ '... and a renewed one', 'server_root', certs('server_root'), ca => certs(qw(renewed root)) ],
	[ 'self-signed', 'server_self', certs('server_self') ],
	[ 'self-signed, and trusted', 'server_self', certs('server_self'), ca => certs('root', 'server_self'), crl => undef ],
	[ 'the chain with the root', 'server', certs(qw(server int root)) ])
{
	my ($what, $cert, $chain, %files) = @$case;
	my %sent;

	spew($c->tls('server.key'), slurp($pki->key($cert)));
	spew($c->tls('server.crt'), $chain);
	foreach my $prepare ('on', 'off')
	{
		$c->set_conf({ 'pg_tls.prepare_context' => $prepare });
		ok(load(%files), "$what: loaded");
		$sent{$prepare} = sent();
	}
	is($sent{on}, $sent{off}, "$what: the same is sent with and without preparation");
	my $n = () = $sent{off} =~ /BEGIN/g;
	note "$what: $n certificates";
	$chains{$n}++;
	cmp_ok($n, '>', 0, "$what: something is sent") unless $what eq '... refused';
}
note 'chains of a length: ', join ', ', map { "$_: $chains{$_}" } sort keys %chains;
cmp_ok(scalar keys %chains, '>=', 4, 'chains of many lengths');

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

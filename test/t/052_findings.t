# pg_tls_findings: each finding appears when its cause does, goes with it, and
# a server that is set up as the README recommends has none.

use strict;
use warnings;

use File::Temp ();
use IO::Socket::INET;
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);
my @server = (kind => 'server', san => ['DNS:localhost'], @years);
my $old_openssl = `openssl version` =~ /^OpenSSL 1\./;

$pki->ca('root', @years);
$pki->ca('int', issuer => 'root', @years);
$pki->ca('int2', issuer => 'int', @years);
$pki->ca('endedca', not_before => -20 * $DAY, not_after => -10 * $DAY);
$pki->ca('soonca', not_after => 10 * $DAY);
$pki->ca('futureca', not_before => 10 * $DAY, not_after => 90 * $DAY);
$pki->ca('rsaca', key => 'rsa:1024', @years);
$pki->ca('shaca', issuer => 'root', md => 'sha1', @years);
$pki->ca('otherint', subject => '/CN=int', @years);
$pki->ca("${_}int", issuer => 'root', subject => "/CN=$_ int") for qw(ended soon future);
$pki->sign_again('endedint', not_before => -20 * $DAY, not_after => -10 * $DAY);
$pki->sign_again('soonint', not_after => 10 * $DAY);
$pki->sign_again('futureint', not_before => 10 * $DAY, not_after => 90 * $DAY);
$pki->cert('server', issuer => 'int', @server);
$pki->cert('new', issuer => 'int', @server);
$pki->cert('ended', issuer => 'int', @server, not_before => -10 * $DAY, not_after => -3 * $DAY);
$pki->cert('soon', issuer => 'int', @server, not_after => 20 * $DAY);
$pki->cert('future', issuer => 'int', @server, not_before => 2 * $DAY);
$pki->cert('wrong', issuer => 'int', @server, kind => 'client');
$pki->cert('self', @server);
$pki->cert('nosan', issuer => 'int', kind => 'server', @years);
$pki->cert('deep', issuer => 'int2', @server);
$pki->cert("by$_", issuer => "${_}int", @server) for qw(ended soon future);
$pki->cert('alice', issuer => 'int', @years);
$pki->cert('bob', issuer => 'int', not_after => 5 * $DAY);
$pki->crl($_, next_update => 100 * $DAY) for qw(root int int2 endedca soonca futureca rsaca shaca);
$pki->bundle("$dir/ca.pem", 'root');
$pki->crl_file("$dir/crls.pem", qw(root int));

my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crls.pem",
	conf => { listen_addresses => '*', 'pg_tls.watch_interval' => '100ms', 'pg_tls.watch_files' => 'off' });
my @hba = ('local all,replication all trust', 'hostssl all all all cert map=all');

$c->set_hba(@hba);
$c->set_ident('all /^.* postgres', 'all /^.* alice', 'all /^.* bob');
$c->set_conf({ ssl_groups => 'X25519MLKEM768:X25519:prime256v1' })
  if $c->pg_version >= 18 && !$old_openssl && `openssl list -kem-algorithms 2>/dev/null` =~ /MLKEM768/;
$c->start;
my $s = $c->session(unix => 1);
$s->query('CREATE EXTENSION pg_tls; CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher');

my $configured = TlsCluster->pg_config('configure');
my %seen;

# The codes are these, and no others: [code, severity, object, what is said].
sub finds
{
	my ($name, @expected) = @_;
	my @rows = map { [ split /\|/ ] } split /\n/,
	  $s->query('SELECT code, severity, object, problem, hint IS NOT NULL FROM pg_tls_findings ORDER BY 1, 3');
	my $codes = join ' ', map { $_->[0] } @rows;

	is($codes, join(' ', map { $_->[0] } @expected), $name) or return;
	for my $i (0 .. $#expected)
	{
		is("$rows[$i][1]|$rows[$i][2]", "$expected[$i][1]|$expected[$i][2]", "$name: $expected[$i][0]");
		like($rows[$i][3], $expected[$i][3], "$name: finding");
		is($rows[$i][4], 't', "$name: has a hint");
		$seen{ $expected[$i][0] } = 1;
	}
	return;
}

sub clean { return finds("$_[0]: gone") }

# Files for the server, loaded.
sub files
{
	my (%files) = @_;
	my $cert = $files{cert} // 'server';

	spew($c->tls('server.crt'), $files{chain} // slurp($pki->chain($cert)));
	spew($c->tls('server.key'), slurp($pki->key($cert)));
	spew($c->tls('ca.crt'), slurp("$dir/ca.pem"), map { slurp($pki->crt($_)) } @{ $files{cas} // [] });
	spew($c->tls('crl.pem'), $files{crl} // slurp("$dir/crls.pem"), map { slurp($pki->crl_path($_)) } @{ $files{crls} // [] });
	$s->query('SELECT pg_tls_reload()');
	return;
}

sub conf
{
	my ($conf) = @_;
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');

	$c->set_conf($conf);
	$c->reload;
	if (($conf->{ssl} // 'on') eq 'on')
	{
		$c->poll_query("SELECT attempts > $attempts AND last_attempt_ok IS NOT NULL FROM pg_tls_status", 't', unix => 1);
	}
	else
	{
		$c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1);
	}
	$s->query('SELECT 1');
	return;
}

# Lines of pg_hba.conf, loaded.
sub hba
{
	my (@lines) = @_;
	my $loaded = $s->query('SELECT pg_conf_load_time()');

	$c->set_hba(@lines);
	$c->reload;
	$c->poll_until(sub { $s->query("SELECT pg_conf_load_time() > '$loaded'") eq 't' }) or die 'not reloaded';
	return;
}

finds('a server as it should be');

# The server's certificate.
my @chain = (slurp($pki->crt('server')), slurp($pki->crt('int')));

for (
	[ { cert => 'ended' }, ['server_certificate_expired', 'critical', '/CN=ended', qr/ended at .*: clients that verify it cannot connect/] ],
	[ { cert => 'soon' }, ['server_certificate_expiring', 'warning', '/CN=soon', qr/ends at/] ],
	[ { cert => 'future' }, ['server_certificate_not_yet_valid', 'critical', '/CN=future', qr/is not valid before/] ],
	[ { cert => 'wrong' }, ['server_certificate_purpose', 'critical', '/CN=wrong', qr/is not meant for servers/] ],
	[ { cert => 'self' }, ['server_certificate_self_signed', 'warning', '/CN=self', qr/is self-signed/] ],
	[ { cert => 'nosan' }, ['server_certificate_no_san', 'warning', '/CN=nosan', qr/has no DNS name or IP address/] ],
	[ { chain => $chain[0] . slurp($pki->crt('root')) }, ['server_chain_disordered', 'critical', 'ssl_cert_file', qr/certificate 2 .* is not the issuer/] ],
	[ { chain => $chain[0] }, ['server_chain_alone', 'warning', 'ssl_cert_file', qr/holds one certificate, and its issuer "\/CN=int" is not in "ssl_ca_file" either/] ],
	[ { chain => $chain[0], cas => ['int'] } ],
	[ { cert => 'deep', chain => slurp($pki->crt('deep')) . slurp($pki->crt('int2')), cas => ['int'] },
		['server_chain_incomplete', 'critical', 'ssl_cert_file', qr/it lacks "\/CN=int", which is no root/] ],
	[ { cert => 'byended' }, ['server_chain_expired', 'critical', '/CN=ended int', qr/intermediate certificate .* ended at/] ],
	[ { cert => 'bysoon' }, ['server_chain_expiring', 'warning', '/CN=soon int', qr/intermediate certificate .* ends at/] ],
	[ { cert => 'byfuture' }, ['server_chain_not_yet_valid', 'critical', '/CN=future int', qr/intermediate certificate .* is not valid before/] ],

	# CAs and CRLs
	[ { cas => ['endedca'], crls => ['endedca'] }, ['ca_expired', 'critical', '/CN=endedca', qr/CA certificate .* ended at/] ],
	[ { cas => ['soonca'], crls => ['soonca'] }, ['ca_expiring', 'warning', '/CN=soonca', qr/CA certificate .* ends at/] ],
	[ { cas => ['futureca'], crls => ['futureca'] }, ['ca_not_yet_valid', 'critical', '/CN=futureca', qr/CA certificate .* is not valid before/] ],
	[ { cas => ['rsaca'], crls => ['rsaca'] }, ['weak_key', 'warning', '/CN=rsaca', qr/CA certificate .* has a weak key, RSA-1024/] ],
	[ { cas => ['shaca'], crls => ['shaca'] }, ['weak_signature', 'warning', '/CN=shaca', qr/CA certificate .* is signed by means of sha1/] ],
	[ { cas => ['int2'] }, ['ca_without_crl', 'critical', '/CN=int2', qr/CRLs are configured, but none of CA/] ],
	[ { crl => slurp($pki->crl_path('root')) . slurp($pki->crl('otherint', out => "$dir/x", next_update => 90 * $DAY)), cas => ['int'] },
		['ca_without_crl', 'critical', '/CN=int', qr/none of CA/], ['crl_bad_signature', 'critical', '/CN=int', qr/is not signed by it/] ],
	[ { crl => slurp($pki->crl_path('root')) . slurp($pki->crl('int', out => "$dir/x", next_update => 90 * $DAY, ext => ['2.5.29.27 = critical,DER:02:01:01'])) },
		['crl_delta', 'critical', '/CN=int', qr/is a delta CRL/] ],
	$old_openssl ? () : (
		[ { crl => slurp($pki->crl_path('root')) . slurp($pki->crl('int', out => "$dir/x", last_update => -10 * $DAY, next_update => -$DAY)) },
			['crl_expired', 'critical', '/CN=int', qr/CRL of .* ended at .*: clients/] ],
		[ { crl => slurp($pki->crl_path('root')) . slurp($pki->crl('int', out => "$dir/x", last_update => -6 * $DAY, next_update => $DAY)) },
			['crl_expiring', 'warning', '/CN=int', qr/CRL of .* ends at/] ],
		[ { crl => slurp($pki->crl_path('root')) . slurp($pki->crl('int', out => "$dir/x", last_update => $DAY, next_update => 90 * $DAY)) },
			['crl_not_yet_valid', 'critical', '/CN=int', qr/CRL of .* is not valid before/] ]))
{
	my ($files, @findings) = @$_;
	my $name = @findings ? $findings[-1][0] : 'nothing wrong';

	files(%$files);
	finds($name, @findings);
	files();
	clean($name) if @findings;
}

# Files on disk.
rename $c->tls('crl.pem'), $c->tls('crl.kept') or die $!;
finds('a file is gone', ['file_problem', 'critical', 'ssl_crl_file', qr/crl\.pem" does not exist/],
	['reload_would_fail', 'critical', 'ssl', qr/a reload would fail, and so would a restart: could not load SSL certificate revocation list/]);
rename $c->tls('crl.kept'), $c->tls('crl.pem') or die $!;
clean('a file is gone');

spew($c->tls('server.crt'), slurp($pki->chain('new')));
spew($c->tls('server.key'), slurp($pki->key('new')));
finds('files have changed', ['file_changed', 'warning', 'ssl_cert_file', qr/holds something else than what the server has loaded/],
	['file_changed', 'warning', 'ssl_key_file', qr/holds something else/]);
files();
clean('files have changed');

chmod 0644, $c->tls('server.key');
finds('permissions', ['key_permissions', 'critical', 'ssl_key_file', qr/can be used by group or world/],
	['reload_would_fail', 'critical', 'ssl', qr/private key file .* has group or world access/]);
chmod 0600, $c->tls('server.key');
clean('permissions');

{
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');

	system "openssl pkey -in @{[$pki->key('server')]} -aes128 -passout pass:x -out @{[$c->tls('enc.key')]} && chmod 0600 @{[$c->tls('enc.key')]}";
	conf({ ssl_key_file => 'tls/enc.key', ssl_passphrase_command => 'echo x', ssl_passphrase_command_supports_reload => 'on' });
	is($s->query('SELECT last_attempt_ok FROM pg_tls_status'), 't', 'key with passphrase');
	clean('key with passphrase and a command for it');
	conf({ ssl_passphrase_command_supports_reload => 'off' });
	finds('passphrase', ['key_passphrase', 'info', 'ssl_key_file', qr/needs a passphrase/],
		['reload_failed', 'critical', 'ssl', qr/the last attempt to load the TLS files, at .*, failed: private key file .* cannot be reloaded because it requires a passphrase/]);
	conf({ ssl_key_file => 'tls/server.key', ssl_passphrase_command => undef, ssl_passphrase_command_supports_reload => undef });
	clean('passphrase');
}

conf({ ssl_dh_params_file => 'nowhere' });
finds('DH parameters', ['dh_params_problem', 'info', 'ssl_dh_params_file', qr/does not exist, so that the server uses parameters of its own/]);
conf({ ssl_dh_params_file => undef });
clean('DH parameters');

spew($c->tls('server.crt'), 'nothing');
conf({ ssl => 'on' });
finds('a reload failed', ['file_problem', 'critical', 'ssl_cert_file', qr/holds nothing in PEM/],
	['reload_failed', 'critical', 'ssl', qr/could not load server certificate file/],
	['reload_would_fail', 'critical', 'ssl', qr/could not load server certificate file/]);
conf({ ssl => 'off' });
finds('ssl off', ['reload_failed', 'critical', 'ssl', qr/could not load/], ['ssl_off', 'critical', 'ssl', qr/the server offers no TLS/]);
conf({ ssl => 'on' });
finds('ssl on with a broken file', ['file_problem', 'critical', 'ssl_cert_file', qr/holds nothing in PEM/],
	['reload_failed', 'critical', 'ssl', qr/could not load server certificate file/],
	['reload_would_fail', 'critical', 'ssl', qr/could not load server certificate file/],
	['tls_not_active', 'critical', 'ssl', qr/is on, but the server has no TLS configuration loaded/]);
files();
clean('ssl on with a broken file');

SKIP:
{
	skip 'PostgreSQL 13 has no ssl_crl_dir', 2 if $c->pg_version < 14;

	my $path = $c->tls('crls');
	my $hash = `openssl crl -hash -noout -in @{[$pki->crl_path('int')]}` =~ s/\n//r;

	mkdir $path;
	conf({ ssl_crl_dir => 'tls/crls' });
	clean('an empty directory');
	spew("$path/int.crl", slurp($pki->crl_path('int')));
	finds('misnamed', ['crl_dir_entry', 'warning', 'ssl_crl_dir', qr/int\.crl": connections do not find it: the CRLs of this issuer have to be named $hash\.r0/]);
	rename "$path/int.crl", "$path/$hash.r0";
	clean('misnamed');
	$pki->large_crl('int', 10000, out => "$path/$hash.r0", next_update => 90 * $DAY);
	finds('large', ['crl_dir_large', 'info', 'ssl_crl_dir', qr/holds a CRL of \d+ kB/]);
	unlink "$path/$hash.r0";
	conf({ ssl_crl_dir => undef });
	clean('large');
	conf({ ssl_crl_dir => 'nowhere' });
	finds('no directory', ['file_problem', 'critical', 'ssl_crl_dir', qr/nowhere" does not exist/]);
	conf({ ssl_crl_dir => undef });
	clean('no directory');
}

# The configuration file.
$c->append_conf('nonsense here');
finds('a line of nonsense', ['configuration_error', 'critical', 'postgresql.conf', qr/unrecognized configuration parameter "nonsense" in file/]);
spew($c->datadir . '/postgresql.conf', slurp($c->datadir . '/postgresql.conf') =~ s/nonsense here\n//r);
clean('a line of nonsense');
$c->set_conf({ ssl => 'off' });
finds('ssl off in the file', ['ssl_off_pending', 'critical', 'ssl', qr/a reload would turn TLS off/]);
$c->set_conf({ ssl => 'on' });
clean('ssl off in the file');
conf({ ssl_ca_file => undef });
finds('CRLs without CA', ['crl_without_ca', 'warning', 'ssl_ca_file', qr/no client certificate is asked for/]);
conf({ ssl_ca_file => 'tls/ca.crt' });
clean('CRLs without CA');
conf({ max_prepared_transactions => 7 });
clean('a setting that waits for a restart');
$c->set_conf({ max_prepared_transactions => undef });

# Settings.
conf({ ssl_ciphers => 'ALL:COMPLEMENTOFALL:@SECLEVEL=0' });
finds('weak ciphers', ['weak_cipher_allowed', 'warning', 'ssl_ciphers', qr/the server offers .*\bADH-AES256-SHA\b.*NULL-SHA/]);
conf({ ssl_ciphers => undef });
clean('weak ciphers');

conf({ ssl_min_protocol_version => 'TLSv1' });
finds('old versions', ['tls_version_allowed', 'warning', 'ssl_min_protocol_version', qr/the server offers TLSv1$/]);
conf({ ssl_min_protocol_version => 'TLSv1.3' });
clean('old versions');
conf({ ssl_min_protocol_version => undef });

SKIP:
{
	skip 'no post-quantum groups', 1 if $c->pg_version < 18 || $s->query('SELECT groups FROM pg_tls_status') !~ /MLKEM/;

	my $groups = $s->query('SHOW ssl_groups');

	conf({ ssl_groups => undef });
	finds('post-quantum', ['no_post_quantum', 'info', 'ssl_groups', qr/no post-quantum key exchange, though OpenSSL/]);
	conf({ ssl_groups => $groups });
	clean('post-quantum');
}

# pg_hba.conf.
my $clear = sub { [ 'hba_clear_text', 'warning', "line $_[0] of pg_hba.conf", qr/line $_[0] \($_[1]\) admits connections in clear text from / ] };
my $password = sub { [ 'hba_clear_text_password', 'critical', "line $_[0] of pg_hba.conf", qr/line $_[0] \(host\) lets clients from .* send passwords in clear text, by $_[1]/ ] };

for (
	[ 'host', ['host all all 192.0.2.0/24 scram-sha-256'], $clear->(3, 'host') ],
	[ 'host for all', ['host all all all scram-sha-256'], $clear->(3, 'host') ],
	[ 'host for IPv6', ['host all all 2001:db8::/32 scram-sha-256'], $clear->(3, 'host') ],
	[ 'host by name', ['host all all example.org scram-sha-256'], $clear->(3, 'host') ],
	[ 'hostnossl', ['hostnossl all all samenet scram-sha-256'], $clear->(3, 'hostnossl') ],
	[ 'hostnogssenc', ['hostnogssenc all all all scram-sha-256'], $clear->(3, 'hostnogssenc') ],
	[ 'host for this machine', ['host all all 127.0.0.1/32 scram-sha-256', 'host all all ::1/128 scram-sha-256', 'host all all localhost scram-sha-256', 'host all all samehost scram-sha-256'] ],
	[ 'hostgssenc', ['hostgssenc all all all scram-sha-256'] ],
	[ 'a line that refuses', ['host all all all reject'] ],
	[ 'refused before', ['hostnossl all all all reject', 'host all all all scram-sha-256'] ],
	[ 'refused before, both families', ['hostnossl all all 0.0.0.0/0 reject', 'hostnossl all all ::/0 reject', 'host all all all scram-sha-256'] ],
	[ 'refused before, one family', ['hostnossl all all 0.0.0.0/0 reject', 'host all all 192.0.2.1/32 scram-sha-256', 'host all all ::/0 scram-sha-256'], $clear->(5, 'host') ],
	[ 'refused after', ['host all all all scram-sha-256', 'hostnossl all all all reject'], $clear->(3, 'host') ],
	[ 'refused for some', ['hostnossl postgres all all reject', 'hostnossl all alice all reject', 'host all all all scram-sha-256'], $clear->(5, 'host') ],
	[ 'masks that cover more than this machine', ['host all all 127.0.0.1/0 scram-sha-256', 'host all all ::1/0 scram-sha-256', 'host all all 127.0.0.0/1 scram-sha-256', 'host all all 127.1.2.3 255.0.0.0 scram-sha-256'],
		$clear->(3, 'host'), $clear->(4, 'host'), $clear->(5, 'host') ],
	[ 'refused by a network', ['hostnossl all all 10.0.0.0/8 reject', 'host all all 10.1.0.0/16 scram-sha-256', 'host all all 10.0.0.0/7 scram-sha-256'], $clear->(5, 'host') ],
	[ 'refused with TLS and without', ['host all all all reject', 'host all all all scram-sha-256'] ],
	[ 'replication refused', ['hostnossl replication all all reject', 'host replication all all scram-sha-256'] ],
	[ 'both refused', ['hostnossl all all all reject', 'hostnossl replication all all reject', 'host all,replication all all scram-sha-256'] ],
	[ 'replication is not all', ['hostnossl all all all reject', 'host replication all all scram-sha-256'], $clear->(4, 'host') ],
	[ 'passwords', ['host all all all password'], $clear->(3, 'host'), $password->(3, 'password') ],
	$c->pg_version < 19 ? [ 'radius', ['host all all all radius radiusservers=127.0.0.1 radiussecrets=x'], $clear->(3, 'host'), $password->(3, 'radius') ] : (),
	$configured =~ /--with-pam/ ? [ 'pam', ['host all all all pam'], $clear->(3, 'host'), $password->(3, 'pam') ] : (),
	$configured =~ /--with-ldap/ ? [ 'ldap', ['host all all all ldap ldapserver=x ldapprefix=y'], $clear->(3, 'host'), $password->(3, 'ldap') ] : (),
	[ 'passwords over TLS', ['hostssl all all all password'] ],
	[ 'trust', ['hostssl all all all trust'], [ 'hba_trust', 'critical', 'line 3 of pg_hba.conf', qr/lets anybody from all in as any role, without authentication/ ] ],
	[ 'trust and a certificate that proves nothing', ['hostssl all all all trust clientcert=verify-ca'], [ 'hba_trust', 'critical', 'line 3 of pg_hba.conf', qr/lets anybody with a certificate from all in/ ] ],
	[ 'trust without TLS', ['host all all 192.0.2.0/24 trust'], $clear->(3, 'host'), [ 'hba_trust', 'critical', 'line 3 of pg_hba.conf', qr/lets anybody from 192.0.2.0\/255.255.255.0 in as any role/ ] ],
	[ 'trust and a certificate', ['hostssl all all all trust clientcert=verify-full'] ],
	[ 'an error', ['host all all nonsense/99 scram-sha-256'], [ 'hba_error', 'critical', 'line 3 of pg_hba.conf', qr/^line 3 cannot be read$/ ] ])
{
	my ($name, $lines, @expected) = @$_;

	hba(@hba, @$lines);
	finds("pg_hba.conf: $name", @expected);
}
$c->set_conf({ 'pg_tls.require_encryption' => 'on' });
hba(@hba, 'host all all all password');
finds('require_encryption is too late for passwords', $password->(3, 'password'));
$c->set_conf({ 'pg_tls.require_encryption' => undef, listen_addresses => '127.0.0.1' });
$c->set_hba(@hba, 'host all all all scram-sha-256');
$c->restart;
$s = $c->session(unix => 1);
clean('nobody listens for other machines');
$c->set_conf({ listen_addresses => '*' });
$c->set_hba(@hba);
$c->restart;
$s = $c->session(unix => 1);
clean('pg_hba.conf');
utime time, time + 3600, $c->datadir . '/pg_hba.conf';
finds('pg_hba.conf was changed', ['hba_changed', 'info', 'pg_hba.conf', qr/pg_hba.conf" was changed at .*, and the server's configuration was loaded at /]);
hba(@hba);
clean('pg_hba.conf was changed');
rename $c->datadir . '/pg_hba.conf', $c->datadir . '/kept';
finds('no pg_hba.conf', ['hba_error', 'critical', 'pg_hba.conf', qr/could not open (?:configuration )?file ".*pg_hba.conf"/]);
rename $c->datadir . '/kept', $c->datadir . '/pg_hba.conf';
clean('no pg_hba.conf');

# Clients.
my $address = eval { IO::Socket::INET->new(Proto => 'udp', PeerAddr => '192.0.2.1', PeerPort => 9)->sockhost };

SKIP:
{
	skip 'this machine has no address but 127.0.0.1', 3 if !$address || $address =~ /^127/;

	hba($hba[0], 'hostnossl all alice all trust', $hba[1]);
	my $alice = $c->session(user => 'alice', ssl => 'disable', host => '127.0.0.1');
	ok($alice->connected, 'clear text from this machine');
	$alice->close;
	hba(@hba);
	clean('clear text from this machine');
	hba($hba[0], 'hostnossl all alice all trust', $hba[1]);
	my @sessions = map { $c->session(user => 'alice', ssl => 'disable', host => $address) } 1 .. 2;
	hba(@hba);
	finds('clear text', [ 'clear_text_seen', 'warning', 'alice', qr/^role "alice" has connected in clear text \(sessions: 2, addresses: 1\), the last time at / ],
		[ 'clear_text_session', 'warning', 'sessions', qr/^sessions connected over the network in clear text: 2$/ ]);
	$_->close for @sessions;
	$c->poll_query(q{SELECT count(*) FROM pg_stat_tls WHERE encryption = 'none'}, 0, unix => 1);
	finds('clear text in the past', [ 'clear_text_seen', 'warning', 'alice', qr/\(sessions: 2, / ]);
	$s->query('SELECT pg_stat_tls_reset()');
	clean('clear text');
}

{
	my $alice = $c->session(cert => 'alice', user => 'alice', host => '127.0.0.1');

	ok($alice->connected, 'alice');
	clean('a client with a certificate');
	$pki->revoke('alice');
	files(crl => slurp($pki->crl_path('root')) . slurp($pki->crl('int', out => "$dir/x", next_update => 90 * $DAY)));
	$c->poll_query('SELECT count(*) FROM pg_stat_tls WHERE NOT acceptable', 1, unix => 1);
	finds('revoked', [ 'session_not_acceptable', 'critical', '/CN=alice', qr/^certificate [0-9a-f]{64} would not be let in again \(sessions connected with it: 1\): certificate revoked$/ ]);
	files();
	$c->poll_query('SELECT count(*) FROM pg_stat_tls WHERE acceptable', 1, unix => 1);
	clean('revoked');

	is(($c->psql('SELECT 1', cert => 'alice', user => 'postgres', host => '127.0.0.1'))[0], 0, 'the same certificate for another role');
	finds('shared', [ 'client_certificate_shared', 'info', '/CN=alice', qr/^certificate [0-9a-f]{64} is used by the roles "alice", "postgres"$/ ]);
	$s->query('SELECT pg_stat_tls_reset()');
	clean('shared');
}
{
	is(($c->psql('SELECT 1', cert => 'bob', user => 'bob', host => '127.0.0.1'))[0], 0, 'bob');
	finds('expiring', [ 'client_certificate_expiring', 'warning', '/CN=bob', qr/^certificate [0-9a-f]{64}, used by role "bob" at .*, ends at / ]);
	$c->set_conf({ 'pg_tls.expiry_warning' => '1d' });
	$c->reload;
	$c->poll_query('SHOW pg_tls.expiry_warning', '1d', unix => 1);
	$s->query('SELECT 1');
	clean('expiring');

	$c->set_conf({ 'pg_tls.expiry_warning' => '30d' });
	$c->reload;
	$c->poll_query('SHOW pg_tls.expiry_warning', '30d', unix => 1);
	$pki->sign_again('bob', not_after => 500 * $DAY);
	is(($c->psql('SELECT 1', cert => 'bob', user => 'bob', host => '127.0.0.1'))[0], 0, 'bob with a renewed certificate');
	$s->query('SELECT 1');
	clean('renewed');
	$s->query('SELECT pg_stat_tls_reset()');
	$c->set_conf({ 'pg_tls.expiry_warning' => '1d' });
	$c->reload;
	$c->poll_query('SHOW pg_tls.expiry_warning', '1d', unix => 1);

	my $bob = $c->in_time(10, sub {
		$pki->sign_again('bob', not_after => $_[0]);
		return $c->session(cert => 'bob', user => 'bob', host => '127.0.0.1');
	});
	ok($bob->connected, 'bob for a while');
	$c->poll_query(q{SELECT count(*) FROM pg_stat_tls WHERE client_not_after < clock_timestamp() AND NOT acceptable}, 1, unix => 1);
	finds('expired', [ 'client_certificate_expired', 'warning', '/CN=bob', qr/^certificate [0-9a-f]{64} has ended at .* \(sessions connected with it: 1\)$/ ],
		[ 'session_not_acceptable', 'critical', '/CN=bob', qr/certificate has expired/ ]);
	$bob->close;
	$c->poll_query(q{SELECT count(*) FROM pg_stat_tls WHERE client_certificate}, 0, unix => 1);
	clean('expired');
}
{
	conf({ ssl_min_protocol_version => 'TLSv1', ssl_ciphers => 'ALL:@SECLEVEL=0' });
	hba($hba[0], 'hostssl all all all trust');
	my $row = $c->s_client_row(extra => [ '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0' ]);
	hba(@hba);
	conf({ ssl_min_protocol_version => undef, ssl_ciphers => undef });
  SKIP:
	{
		skip 'this OpenSSL does no TLS 1.1', 1 if !$row && `openssl version` !~ /^OpenSSL (?:1|3\.0)\./;

		finds('an old version', [ 'tls_version_seen', 'warning', 'postgres', qr/^role "postgres" has connected with TLSv1.1 \(sessions: 1\), the last time at / ]);
		$s->query('SELECT pg_stat_tls_reset()');
		clean('an old version');
	}
}

{
	$pki->cert('weak', issuer => 'int', key => 'rsa:1024', @years);
	conf({ ssl_ciphers => 'HIGH:!aNULL:!3DES:@SECLEVEL=0' });
	spew("$dir/openssl.cnf", "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nCipherString = DEFAULT:\@SECLEVEL=0\n");
	my ($rc) = $c->psql('SELECT 1', cert => 'weak', user => 'bob', host => '127.0.0.1', env => { OPENSSL_CONF => "$dir/openssl.cnf" });
  SKIP:
	{
		skip 'this OpenSSL has no client with so short a key', 1 if $rc && `openssl version` !~ /^OpenSSL (?:1|3\.0)\./;

		finds('a weak client', ['weak_key', 'warning', '/CN=weak', qr/client certificate .*, used by role "bob", has a weak key, RSA-1024/]);
		$s->query('SELECT pg_stat_tls_reset()');
	}
	conf({ ssl_ciphers => undef });
	clean('a weak client');
}

# Hints can be run as they are.
foreach my $case (
	[ { ssl_ciphers => 'ALL:@SECLEVEL=0' }, 'weak_cipher_allowed', 'ssl_ciphers' ],
	[ { ssl_min_protocol_version => 'TLSv1' }, 'tls_version_allowed', 'ssl_min_protocol_version' ])
{
	my ($conf, $code, $setting) = @$case;

	conf($conf);
	my $hint = $s->query("SELECT hint FROM pg_tls_findings WHERE code = '$code'");
	my @statements = $hint =~ /((?:ALTER|SELECT) [^;]*;)/g;

	is(scalar @statements, 2, "hint of $code: statements");
	$s->query($_) for @statements;
	finds("hint of $code: obeyed");
	$s->query("ALTER SYSTEM RESET $setting");
	conf({ $setting => undef });
}
foreach my $row ($c->query_rows(q{SELECT DISTINCT m[1] FROM pg_tls_finding_codes(), regexp_matches(hint, '(?:ALTER|SELECT) [^;]*;', 'g') m}, unix => 1))
{
	my $sql = $row->[0];

	next if $sql =~ /pg_tls_reload|ssl_groups/;    # run above; not everywhere
	is(($c->psql($sql, unix => 1))[0], 0, "can be run: $sql");
}
$s->query('ALTER SYSTEM RESET ALL');
hba(@hba);
$s->query('SELECT pg_stat_tls_reset()');

# Codes that are known.
my %known = map { $_->[0] => 1 } $c->query_rows('SELECT code FROM pg_tls_finding_codes()', unix => 1);

cmp_ok(scalar keys %known, '>', 40, 'codes are known');
is(join(' ', grep { !$known{$_} } sort keys %seen), '', 'no finding is of an unknown kind');
# What the watch does not load by itself.
is($c->query(q{SELECT string_agg(code, ' ' ORDER BY code COLLATE "C") FROM pg_tls_finding_codes() WHERE keeps_clients_out}, unix => 1),
	'ca_expired ca_not_yet_valid ca_without_crl client_certificate_expired crl_bad_signature crl_delta crl_expired crl_not_yet_valid server_certificate_expired server_certificate_not_yet_valid server_certificate_purpose server_chain_alone server_chain_disordered server_chain_expired server_chain_incomplete server_chain_not_yet_valid session_not_acceptable ssl_off tls_not_active', 'codes of what keeps clients out');
is($s->query(q{SELECT count(*) FROM pg_tls_finding_codes() k, pg_tls_finding_codes(k.code) one WHERE one = k}), scalar keys %known, 'each is found by its code');
like(($c->psql("\\set VERBOSITY verbose\nSELECT * FROM pg_tls_finding_codes('$_')", unix => 1))[2],
	qr/ERROR:  22023: unrecognized code of a finding: "\Q$_\E"\nHINT:  SELECT/, "no code: '$_'") for '', 'ssl', 'ssl_off ', 'SSL_OFF';

# A view whose branches tell of another code.
is($s->query('SELECT string_agg(code, $$ $$) FROM pg_tls_findings'), '', 'nothing to tell of');
$s->query('CREATE FUNCTION misspell(good text, bad text) RETURNS void LANGUAGE plpgsql AS $$BEGIN'
	  . q{ EXECUTE 'CREATE VIEW misspelled AS ' || replace(pg_get_viewdef('pg_tls_findings'::regclass), quote_literal(good), quote_literal(bad)); END$$});
$s->query(q{SELECT misspell('hba_clear_text', 'hba_cleartext')});
is($s->query('SELECT count(*) FROM misspelled'), 0, 'an unknown code that nothing tells of');
hba(@hba, 'host all all all scram-sha-256');
is($s->query('SELECT code FROM pg_tls_findings'), 'hba_clear_text', 'a known code');
like(($c->psql('SELECT count(*) FROM misspelled', unix => 1))[2], qr/ERROR:  unrecognized code of a finding: "hba_cleartext"/, 'an unknown code is an error');
hba(@hba);
$s->query('DROP VIEW misspelled; DROP FUNCTION misspell');
my @unseen = grep { !$seen{$_} } sort keys %known;
note "not tried here: @unseen";
cmp_ok(scalar @unseen, '<=', 15, 'nearly all codes were tried');
is(join(' ', grep { !/^(crl_(expired|expiring|not_yet_valid|dir_.*)|no_post_quantum|tls_version_seen|clear_text_.*|files_not_checked|session_not_judged|worker_not_running|verdicts_pending)$/ } @unseen), '',
	'but for what this machine cannot do, and what other tests have');

# Who may look.
is(($c->psql('SELECT count(*) FROM pg_tls_findings', unix => 1, user => 'watcher'))[1], 0, 'pg_monitor looks');
like(($c->psql('SELECT count(*) FROM pg_tls_findings', unix => 1, user => 'alice'))[2], qr/permission denied/, 'nobody else does');
is($s->query(q{SELECT proname FROM pg_proc p, pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e' AND prosecdef AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')}),
	'pg_tls_hba_rules', 'the one function with rights of its owner');
is($s->query(q{SELECT proconfig FROM pg_proc WHERE proname = 'pg_tls_hba_rules'}), '{"search_path=pg_catalog, pg_temp"}', 'has its search_path');
$c->set_hba(@hba, 'hostssl all all all ldap ldapserver=x ldapbasedn=y ldapbinddn=z ldapbindpasswd=secret');
unlike($c->query('SELECT r::text FROM pg_tls_hba_rules() r', unix => 1, user => 'watcher'), qr/secret/, 'and keeps passwords to itself');

# Another role's functions and operators in the extension's schema, which would be
# called for such a finding.
$c->set_hba(@hba, 'host all all all scram-sha-256');
$c->query(<<'END', unix => 1, dbname => 'template1');
CREATE TABLE public.trap (who text);
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.array_position(text[], text) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.trap VALUES (current_user); RETURN 1; END$$;
CREATE FUNCTION hostile.format(text, integer, text, text) RETURNS text LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.trap VALUES (current_user); RETURN 'all is well'; END$$;
CREATE FUNCTION hostile.format(text, text, text) RETURNS text LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.trap VALUES (current_user); RETURN 'all is well'; END$$;
CREATE FUNCTION hostile.replace(text, text, name) RETURNS text LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.trap VALUES (current_user); RETURN 'SELECT 1'; END$$;
CREATE FUNCTION hostile.gt(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.trap VALUES (current_user); RETURN true; END$$;
CREATE OPERATOR hostile.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, PROCEDURE = hostile.gt);
SET search_path = hostile, pg_catalog;
CREATE EXTENSION pg_tls SCHEMA hostile;
SELECT * FROM hostile.pg_tls_findings;
END
is($c->query('SELECT count(*) FROM public.trap', unix => 1, dbname => 'template1'), 0, 'are not called');
is($c->query(q{SELECT count(*) FROM hostile.pg_tls_findings WHERE code = 'hba_clear_text'}, unix => 1, dbname => 'template1'), 1, '... though there is a finding');
is($c->query(q{SELECT count(*) FROM hostile.pg_tls_findings WHERE problem = 'all is well'}, unix => 1, dbname => 'template1'), 0, 'nor believed');

# Without a free worker slot.
$c->set_conf({ max_worker_processes => 2 });
$c->set_hba(@hba, 'host all all all scram-sha-256');
$c->restart;
$s = $c->session(unix => 1);
finds('no worker slot', ['files_not_checked', 'warning', 'max_worker_processes', qr/could not be looked at/], $clear->(3, 'host'));

$c->stop;
done_testing();

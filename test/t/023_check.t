# What pg_tls_check() warns of: what the server loads without a word.

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
my @server = (kind => 'server', san => ['DNS:localhost'], @years);

$pki->ca('root', @years);
$pki->ca('int', issuer => 'root', @years);
$pki->ca('oldca', not_before => -20 * $DAY, not_after => -10 * $DAY);
$pki->cert('server', issuer => 'int', @server);
$pki->cert('ended', issuer => 'int', @server, not_before => -10 * $DAY, not_after => -3 * $DAY);
$pki->cert('soon', issuer => 'int', @server, not_after => 20 * $DAY);
$pki->cert('future', issuer => 'int', @server, not_before => 2 * $DAY);
$pki->cert('client', issuer => 'int', @years, subject => "/CN=client one");
$pki->cert('direct', issuer => 'root', @server);
$pki->crl('root', next_update => 100 * $DAY);
$pki->crl('int', next_update => 100 * $DAY);
$pki->bundle("$dir/ca.pem", 'root');
$pki->bundle("$dir/both.pem", 'root', 'int');
$pki->bundle("$dir/old.pem", 'root', 'oldca');
$pki->crl_file("$dir/crls.pem", 'root', 'int');

my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crls.pem");

$c->start;
my $s = $c->session(unix => 1);
$s->query('CREATE EXTENSION pg_tls');

# Files for the server: certificate (and the contents of its file), CA, CRLs.
sub files
{
	my (%files) = @_;

	spew($c->tls('server.crt'), $files{chain} // slurp($pki->chain($files{cert} // 'server')));
	spew($c->tls('server.key'), slurp($pki->key($files{cert} // 'server')));
	spew($c->tls('ca.crt'), slurp($files{ca} // "$dir/ca.pem"));
	spew($c->tls('crl.pem'), slurp($files{crl} // "$dir/crls.pem"));
}

# A list of regular expressions, one for each warning in turn.
sub warns
{
	my ($name, @expected) = @_;
	my $out = $s->query(q{SELECT ok, error IS NULL, array_to_string(warnings, E'\n') FROM pg_tls_check()});
	my ($ok, @warnings) = split /\n/, $out =~ s/^(.\|.)\|/$1\n/r;

	is($ok, 't|t', "$name: succeeds");
	is(scalar @warnings, scalar @expected, "$name: as many warnings") or diag $out;
	like($warnings[$_] // '', $expected[$_], "$name: warning") for 0 .. $#expected;
}

my $when = qr/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00/;

warns('all is well');

files(cert => 'ended');
warns('server certificate has ended', qr/^server certificate "\/CN=ended" ended at $when: clients that verify it cannot/);
files(cert => 'soon');
warns('server certificate ends soon', qr/^server certificate "\/CN=soon" ends at $when$/);
$c->set_conf({ 'pg_tls.expiry_warning' => '19d' });
warns('pg_tls.expiry_warning of the file');
$c->set_conf({ 'pg_tls.expiry_warning' => undef });
files(cert => 'future');
warns('server certificate of the future', qr/^server certificate "\/CN=future" is not valid before $when: clients/);
files(cert => 'client');
warns('server certificate for clients',
	qr/^server certificate "\/CN=client one" is not meant for servers: clients/);

files(chain => slurp($pki->crt('server')) . slurp($pki->crt('root')));
warns('chain with a gap', qr/^certificate 2 in "tls\/server.crt" is not the issuer of the one before it$/);
$pki->ca('int2', issuer => 'int', @years);
$pki->cert('deep', issuer => 'int2', @server);
files(cert => 'deep', chain => slurp($pki->crt('deep')) . slurp($pki->crt('int2')), ca => "$dir/both.pem");
warns('chain that ends too early',
	qr/^the chain in "tls\/server.crt" is not complete: it lacks "\/CN=int", which is no root$/);
files(cert => 'direct', chain => slurp($pki->crt('direct')));
warns('certificate of the root, alone');

files(ca => "$dir/old.pem");
warns('CA has ended, and has no CRL', qr/^CA certificate "\/CN=oldca" ended at $when: clients/,
	qr/^CRLs are configured, but none of CA "\/CN=oldca": clients/);

SKIP:
{
	skip 'OpenSSL 1.1.1 cannot make such CRLs', 1 if `openssl version` =~ /^OpenSSL 1\./;

	spew("$dir/crl.pem", slurp($pki->crl_path('root')),
		slurp($pki->crl('int', out => "$dir/x.crl", last_update => -10 * $DAY, next_update => -$DAY)));
	files(crl => "$dir/crl.pem");
	warns('CRL has ended', qr/^CRL of "\/CN=int" ended at $when: clients/);
	spew("$dir/crl.pem", slurp($pki->crl_path('root')),
		slurp($pki->crl('int', out => "$dir/x.crl", last_update => 10 * $DAY, next_update => 90 * $DAY)));
	files(crl => "$dir/crl.pem");
	warns('CRL of the future', qr/^CRL of "\/CN=int" is not valid before $when: clients/);
	spew("$dir/crl.pem", slurp($pki->crl_path('root')),
		slurp($pki->crl('int', out => "$dir/x.crl", last_update => -6 * $DAY, next_update => $DAY)));
	files(crl => "$dir/crl.pem");
	warns('CRL in the last third of its life', qr/^CRL of "\/CN=int" ends at $when$/);
	spew("$dir/crl.pem", slurp($pki->crl_path('root')),
		slurp($pki->crl('int', out => "$dir/x.crl", last_update => -3600, next_update => 7 * $DAY)));
	files(crl => "$dir/crl.pem");
	warns('CRL that never lives long');
}

files();
$c->set_conf({ ssl_crl_dir => 'nowhere' });
warns('directory that is missing', qr/^could not access directory "nowhere" of "ssl_crl_dir": No such file/)
  if $c->pg_version >= 14;
$c->set_conf({ ssl_crl_dir => undef, ssl_ca_file => undef });
warns('CRL without CA', qr/^CRLs are configured, but no "ssl_ca_file"/);
$c->set_conf({ ssl_ca_file => 'tls/ca.crt', ssl_dh_params_file => 'nowhere.pem' });
warns('what the loader logs', qr/^could not open DH parameters file "nowhere.pem": No such file/);

# The file would not be read, and the settings stay.
$c->set_conf({ ssl_dh_params_file => undef });
my $conf = $c->datadir . '/postgresql.conf';
my $text = slurp($conf);
$c->append_conf("ssl_ciphers = 'foo");
warns('configuration with a syntax error', qr/^syntax error in file ".*" line/, qr/./, qr/contains errors; no changes/);
spew($conf, $text);
$c->append_conf('ssl_min_protocol_version = TLSv9');
warns('configuration with a bad value', qr/^invalid value for parameter "ssl_min_protocol_version": "TLSv9"/, qr/contains errors/);
spew($conf, $text);
warns('all is well again');

$c->stop;
done_testing();

# pg_tls_files, pg_tls_certificates and pg_tls_server_matches(): what is
# configured, loaded and on disk, for each state and each problem of a file.

use strict;
use warnings;

use File::Temp ();
use POSIX ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root', not_after => 800 * $DAY);
$pki->ca('int', issuer => 'root', not_after => 800 * $DAY);
$pki->cert('server', issuer => 'int', kind => 'server',
	san => [qw(DNS:localhost DNS:*.example.com IP:127.0.0.1 IP:::1)], not_after => 100 * $DAY);
$pki->cert('renewed', issuer => 'int', kind => 'server', san => ['DNS:localhost'], not_after => 200 * $DAY);
$pki->cert('cn', issuer => 'int', kind => 'server', subject => '/CN=db.example.org', not_after => 200 * $DAY);
$pki->cert('ended', issuer => 'int', kind => 'server', not_before => -10 * $DAY, not_after => -3600);
$pki->cert('alice', issuer => 'int');
$pki->crl('root');
$pki->crl('int');
$pki->crl_file("$dir/crls.pem", 'root', 'int');
$pki->bundle("$dir/ca.pem", 'root');

my $c = TlsCluster->new(ssl => 1, pki => $pki, server_cert => 'server', ca => "$dir/ca.pem", crl => "$dir/crls.pem");

$c->start;
my $s = $c->session(unix => 1);
$s->query('CREATE EXTENSION pg_tls; SET timezone = UTC');
$s->query('CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE nobody LOGIN');

my %setting = (
	cert => ['ssl_cert_file', 'server.crt'], key => ['ssl_key_file', 'server.key'],
	ca => ['ssl_ca_file', 'ca.crt'], crl => ['ssl_crl_file', 'crl.pem'], dh => ['ssl_dh_params_file', 'dh.pem']);

sub file_is
{
	my ($file, $expected, $name) = @_;

	is($s->query("SELECT concat_ws('|', state, problem) FROM pg_tls_files WHERE setting = '$setting{$file}[0]'"),
		$expected, "$name");
	return;
}

# Put something in the place of a file, look, and put the file back.
sub try_file
{
	my ($file, $make, $expected, $name) = @_;
	my $path = $c->tls($setting{$file}[1]);

	rename $path, "$path.kept" or die "$path: $!" if -e $path;
	$make->($path);
	chmod 0600, $path if -f $path && !-l $path && $name !~ /permission|group/;
	file_is($file, $expected, $name);
	-d $path && !-l $path ? rmdir $path : unlink $path;
	rename "$path.kept", $path or die "$path: $!" if -e "$path.kept";
	return;
}

# All is well.

is($s->query('SELECT string_agg(setting || $$ $$ || state, $$,$$) FROM pg_tls_files WHERE problem IS NULL'),
	'ssl_cert_file current,ssl_key_file current,ssl_ca_file current,ssl_crl_file current,ssl_crl_dir unset,ssl_dh_params_file unset',
	'a row for each setting, in order');
is($s->query(q{SELECT count(*) FROM pg_tls_files WHERE loaded_fingerprint = disk_fingerprint AND loaded_fingerprint ~ '^[0-9a-f]{64}$'}),
	4, 'digests of what is loaded and on disk');
is($s->query(q{SELECT count(DISTINCT loaded_fingerprint) FROM pg_tls_files}), 4, 'each of its own');
{
	my @st = stat $c->tls('server.key');
	my $owner = getpwuid $st[4];

	is($s->query(q{SELECT path, owner, mode, size, floor(extract(epoch FROM modified_at))::bigint FROM pg_tls_files WHERE setting = 'ssl_key_file'}),
		join('|', $c->tls('server.key'), $owner, '0600', $st[7], $st[9]), 'path, owner, mode, size, time');
}
{
	my $public = `openssl pkey -in @{[$pki->key('server')]} -pubout -outform DER | openssl dgst -sha256 -r`;

	is($s->query(q{SELECT disk_fingerprint FROM pg_tls_files WHERE setting = 'ssl_key_file'}),
		(split / /, $public)[0], 'of the key, its public key alone');
}

is($s->query(q{SELECT setting, position, state, subject_dn, is_ca, self_signed, has_crl, problem FROM pg_tls_certificates}),
	"ssl_cert_file|1|loaded|/CN=server|f|f||\n" . "ssl_cert_file|2|loaded|/CN=int|t|f||\n" . "ssl_ca_file|1|loaded|/CN=root|t|t|t|",
	'certificates');
for my $name (qw(server int))
{
	my $fp = lc $pki->show($name, qw(-fingerprint -sha256)) =~ s/^.*=|:|\s+$//gr;
	my $serial = lc $pki->serial($name);

	is($s->query("SELECT issuer_dn_rfc2253 = 'CN=' || substr(issuer_dn, 5) FROM pg_tls_certificates WHERE subject_dn = '/CN=$name'"), 't', "$name: issuer by RFC 2253");
	is($s->query("SELECT fingerprint, serial_hex FROM pg_tls_certificates WHERE subject_dn = '/CN=$name'"),
		"$fp|$serial", "fingerprint and serial number of $name");
}
is($s->query(q{SELECT array_to_string(san, ',') || ' ' || key || ' ' || array_to_string(eku, ',') || ' ' || signature_algorithm FROM pg_tls_certificates WHERE position = 1 AND setting = 'ssl_cert_file'}),
	'DNS:localhost,DNS:*.example.com,IP:127.0.0.1,IP:::1 EC-P-256 serverAuth ecdsa-with-SHA256', 'details');

# Host names, as libpq compares them.

for ([qw(localhost t)], [qw(LOCALHOST t)], [qw(db.example.com t)], [qw(a.db.example.com f)], [qw(example.com f)],
	[qw(127.0.0.1 t)], [qw(127.0.0.2 f)], [qw(::1 t)], [qw(0:0:0:0:0:0:0:1 t)], [qw(::2 f)], [qw(server f)], [qw(localhost. f)])
{
	is($s->query("SELECT pg_tls_server_matches('$_->[0]')"), $_->[1], "server matches $_->[0]: $_->[1]");
}
like(($c->psql(q{SELECT pg_tls_server_matches('')}, unix => 1))[2], qr/ERROR: +host name must not be empty/, 'no host name');
is($s->query('SELECT pg_tls_server_matches(NULL) IS NULL'), 't', 'NULL');

# What a TRUSTED CERTIFICATE says is a difference, though the certificate be the same.

{
	my $ca = slurp($c->tls('ca.crt'));
	my $trusted = sub { return scalar `openssl x509 -in '@{[ $pki->crt('root') ]}' -trustout @_` };

	spew($c->tls('ca.crt'), $trusted->('-addreject', 'clientAuth'));
	file_is('ca', 'changed', 'a CA that is not to be trusted for clients');
	spew($c->tls('ca.crt'), $ca);
	file_is('ca', 'current', 'the CA again');
}

# Other contents: certificate first, then its key.

my %old = map { $_ => slurp($c->tls($setting{$_}[1])) } qw(cert key ca crl);
my $loaded = $s->query(q{SELECT loaded_fingerprint FROM pg_tls_files WHERE setting = 'ssl_cert_file'});

spew($c->tls('server.crt'), slurp($pki->chain('renewed')));
file_is('cert', 'changed', 'certificate on disk is another');
file_is('key', 'current|does not belong to the certificate in ssl_cert_file', 'key does not fit');
is($s->query(q{SELECT loaded_fingerprint FROM pg_tls_files WHERE setting = 'ssl_cert_file'}), $loaded, 'what is loaded stays');
is($s->query(q{SELECT position, state, subject_dn FROM pg_tls_certificates WHERE setting = 'ssl_cert_file'}),
	"1|disk only|/CN=renewed\n2|loaded|/CN=int\n1|loaded only|/CN=server", 'certificates loaded, and on disk');
spew($c->tls('server.key'), slurp($pki->key('renewed')));
file_is('key', 'changed', 'key on disk is another');
$c->reload;
$c->poll_query(q{SELECT generation FROM pg_tls_status}, 2);
file_is('cert', 'current', 'loaded');
file_is('key', 'current', 'and the key');
is($s->query(q{SELECT pg_tls_server_matches('db.example.com')}), 'f', 'another name now');

spew($c->tls('server.crt'), slurp($pki->chain('cn')));
spew($c->tls('server.key'), slurp($pki->key('cn')));
is($s->query(q{SELECT (pg_tls_reload()).ok}), 't', 'certificate without names');
is($s->query(q{SELECT pg_tls_server_matches('db.example.org'), pg_tls_server_matches('localhost')}), 't|f', 'common name');

# The same contents in other bytes are the same contents.
spew($c->tls('server.crt'), "a comment\n" . slurp($pki->chain('cn')) =~ s/\n/\r\n/gr);
file_is('cert', 'current', 'comments and line ends do not matter');
spew($c->tls('ca.crt'), slurp($pki->crt('int')), slurp($pki->crt('root')), slurp($pki->crt('int')));
file_is('ca', 'changed', 'a CA more');
is($s->query(q{SELECT position, state, subject_dn, has_crl FROM pg_tls_certificates WHERE setting = 'ssl_ca_file'}),
	"1|disk only|/CN=int|t\n2|loaded|/CN=root|t\n3|disk only|/CN=int|t", 'CAs loaded, and on disk');
$s->query('SELECT pg_tls_reload()');
file_is('ca', 'current', 'CAs loaded: their order and duplicates do not matter');
spew($c->tls('ca.crt'), slurp($pki->crt('root')), slurp($pki->crt('int')));
file_is('ca', 'current', 'CAs in another order');
spew($c->tls('server.crt'), slurp($pki->crt('cn')));
file_is('cert', 'changed', 'chain without its intermediate certificate');
$s->query('SELECT pg_tls_reload()');
file_is('cert', 'current', 'certificate alone, while pg_tls builds the chain to send');
is($s->query(q{SELECT count(*) FROM pg_tls_certificates WHERE setting = 'ssl_cert_file'}), 1, 'which is not in the file');

# CRLs among CAs, and CAs among CRLs: OpenSSL takes both from either.
spew($c->tls('ca.crt'), slurp($pki->crt('root')), slurp($pki->crl_path('root')));
spew($c->tls('crl.pem'), slurp($pki->crl_path('int')), slurp($pki->crt('int')));
$s->query('SELECT pg_tls_reload()');
file_is('ca', 'current', 'CA file with a CRL');
file_is('crl', 'current', 'CRL file with a CA');
is($s->query('SELECT setting, subject_dn FROM pg_tls_certificates WHERE setting <> $$ssl_cert_file$$'),
	"ssl_ca_file|/CN=root\nssl_crl_file|/CN=int", 'certificates are where they are');
is($s->query('SELECT setting, state, issuer_dn FROM pg_tls_crls'),
	"ssl_ca_file|loaded|/CN=root\nssl_crl_file|loaded|/CN=int", 'and CRLs');

for (keys %old)
{
	spew($c->tls($setting{$_}[1]), $old{$_});
}
$s->query('SELECT pg_tls_reload()');
is($s->query(q{SELECT count(*) FROM pg_tls_files WHERE state = 'current' AND problem IS NULL}), 4, 'as it was');

# Files that are not as they should be.

my $all = q{SELECT count(*) FROM pg_tls_files};

for my $file (qw(cert key ca crl))
{
	my $thing = { cert => 'certificate', key => 'private key in PEM', ca => 'certificate', crl => 'CRL' }->{$file};
	my $nothing = $file eq 'key' ? "holds no $thing" : 'holds nothing in PEM';

	try_file($file, sub { }, 'missing|does not exist', "$file is missing");
	try_file($file, sub { symlink 'nowhere', $_[0] }, 'missing|does not exist', "$file is a dangling link");
	try_file($file, sub { symlink $_[0], $_[0] }, 'unreadable|could not be accessed: Too many levels of symbolic links', "$file is a link to itself");
	try_file($file, sub { mkdir $_[0] }, 'unreadable|is a directory', "$file is a directory");
	try_file($file, sub { POSIX::mkfifo($_[0], 0600) }, 'unreadable|is not a regular file', "$file is a FIFO");
	try_file($file, sub { symlink '/dev/zero', $_[0] }, 'unreadable|is not a regular file', "$file is a device");
	try_file($file, sub { spew($_[0], '') }, "unreadable|$nothing", "$file is empty");
	try_file($file, sub { spew($_[0], "nothing\n" x 10) }, "unreadable|$nothing", "$file is some text");
	try_file($file, sub { spew($_[0], ''); truncate $_[0], 2 * 2**30 },
		'unreadable|is larger than 1 GB, and was not read', "$file is huge");
	try_file($file, sub { spew($_[0], slurp($pki->crl_path('int'))) }, "unreadable|holds no $thing", "$file holds something else")
	  if $file ne 'crl';
	# which the server takes from there, too
	try_file($file, sub { spew($_[0], slurp($pki->crt('int'))) }, 'changed', "$file holds a certificate")
	  if $file eq 'crl';
  SKIP:
	{
		skip 'the key is read by OpenSSL alone', 2 if $file eq 'key';

		try_file($file, sub { spew($_[0], substr($old{$file}, 0, length($old{$file}) - 40)) },
			'unreadable|block ' . (() = $old{$file} =~ /BEGIN/g) . ' in it cannot be read: bad end line', "$file is cut");
		try_file($file, sub { spew($_[0], $old{$file} =~ s/\nM/\nN/r) },
			"unreadable|holds a $thing that cannot be read: wrong tag", "$file is garbled");
	}
	SKIP:
	{
		skip 'root reads everything', 1 if $> == 0;

		chmod 0, $c->tls($setting{$file}[1]);
		file_is($file, 'unreadable|could not be opened: Permission denied', "$file without permission to read");
		chmod 0600, $c->tls($setting{$file}[1]);
	}
}
try_file('cert', sub { spew($_[0], `openssl x509 -in @{[$pki->crt('server')]} -outform DER`) },
	'unreadable|is in DER, and the server reads PEM only', 'certificate in DER');
try_file('key', sub { spew($_[0], $old{key}); chmod 0640, $_[0] },
	'current|can be used by group or world, which the server refuses: it has to have mode 0600 or less',
	'key with permissions of its group');
try_file('key', sub { system "openssl pkey -in @{[$pki->key('server')]} -aes128 -passout pass:x -out $_[0]" },
	'changed|needs a passphrase, so that a reload cannot load it', 'key with passphrase');
$c->set_conf({ ssl_passphrase_command => 'echo x', ssl_passphrase_command_supports_reload => 'on' });
$c->reload;
$c->poll_query('SHOW ssl_passphrase_command', 'echo x');
{
	my $path = $c->tls('server.key');

	system "openssl pkey -in @{[$pki->key('server')]} -aes128 -passout pass:x -out $path.new";
	chmod 0600, "$path.new";
	rename "$path.new", $path;
	file_is('key', 'changed', 'key with passphrase, not loaded yet');
	$s->query('SELECT pg_tls_reload()');
	file_is('key', 'current', 'key with passphrase, loaded');
	is($s->query(q{SELECT loaded_fingerprint IS NOT NULL, disk_fingerprint IS NULL FROM pg_tls_files WHERE setting = 'ssl_key_file'}),
		't|t', 'what it holds on disk is not known');
	system "openssl pkey -in @{[$pki->key('server')]} -aes128 -passout pass:x -out $path.new";
	chmod 0600, "$path.new";
	rename "$path.new", $path;
	file_is('key', 'changed', 'key with passphrase, replaced');
	spew($path, $old{key});
	$c->set_conf({ ssl_passphrase_command => undef, ssl_passphrase_command_supports_reload => undef });
	$s->query('SELECT pg_tls_reload()');
}

# Diffie-Hellman parameters: what is loaded of them cannot be read back.
spew($c->tls('dh.pem'), `openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 2>/dev/null || openssl dhparam -dsaparam 2048 2>/dev/null`);
$c->set_conf({ ssl_dh_params_file => 'tls/dh.pem' });
$c->reload;
$c->poll_query(q{SELECT state FROM pg_tls_files WHERE setting = 'ssl_dh_params_file'}, 'current');
try_file('dh', sub { spew($_[0], slurp("$_[0].kept")) }, 'changed', 'DH parameters replaced');
try_file('dh', sub { spew($_[0], 'x') }, 'unreadable|holds no parameters in PEM', 'no DH parameters');
try_file('dh', sub { }, 'missing|does not exist, so that the server uses parameters of its own', 'DH parameters missing');
$c->set_conf({ ssl_dh_params_file => undef });

# A setting that was changed, and what was loaded by the old one.
$c->set_conf({ ssl_ca_file => undef, ssl_cert_file => 'tls/nowhere.crt' });
$c->reload;
$c->poll_query('SHOW ssl_cert_file', 'tls/nowhere.crt');
$c->poll_query('SELECT last_attempt_ok FROM pg_tls_status', 'f');
file_is('ca', 'changed', 'no longer configured, but loaded');
file_is('cert', 'missing|does not exist', 'configured, and not there');
is($s->query(q{SELECT setting, position, state, subject_dn FROM pg_tls_certificates}),
	"ssl_cert_file|1|loaded only|/CN=server\nssl_cert_file|2|loaded only|/CN=int\nssl_ca_file||loaded only|/CN=root",
	'what is loaded is known without files');
$c->set_conf({ ssl_ca_file => 'tls/ca.crt', ssl_cert_file => 'tls/server.crt' });
$s->query('SELECT pg_tls_reload()');

# Problems of certificates.
spew($c->tls('server.crt'), slurp($pki->chain('ended')));
like($s->query(q{SELECT problem FROM pg_tls_certificates WHERE subject_dn = '/CN=ended'}),
	qr/^ended at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00$/, 'certificate on disk has ended');
spew($c->tls('server.key'), slurp($pki->key('ended')));
$s->query('SELECT pg_tls_reload()');
like($s->query(q{SELECT problem FROM pg_tls_certificates WHERE subject_dn = '/CN=ended'}),
	qr/^server certificate "\/CN=ended" ended at .*: clients that verify it cannot connect$/, 'certificate loaded has ended');

# TLS off.
$c->set_conf({ ssl => 'off' });
$c->reload;
$c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1);
is($s->query(q{SELECT string_agg(setting, ',') FROM pg_tls_files WHERE state IS NULL AND disk_fingerprint IS NOT NULL AND loaded_fingerprint IS NULL}),
	'ssl_cert_file,ssl_key_file,ssl_ca_file,ssl_crl_file', 'ssl off: nothing to compare with');
is($s->query(q{SELECT DISTINCT state FROM pg_tls_certificates}), 'disk only', 'certificates on disk');
is($s->query(q{SELECT pg_tls_server_matches('localhost') IS NULL}), 't', 'no server certificate');
$c->set_conf({ ssl => 'on' });
$c->reload;
$c->poll_query('SELECT active FROM pg_tls_status', 't', unix => 1);

# Who may look.
my @views = qw(pg_tls_files pg_tls_certificates pg_tls_crls pg_tls_crl_entries());

for my $view (@views, q{pg_tls_server_matches('localhost')})
{
	is(($c->psql("SELECT count(*) FROM $view", user => 'watcher', unix => 1))[0], 0, "pg_monitor looks at $view");
	like(($c->psql("SELECT count(*) FROM $view", user => 'nobody', unix => 1))[2], qr/permission denied/, "nobody else does at $view");
}

# All workers in use: one is pg_tls's own, one the server's for logical replication.
$c->set_conf({ max_worker_processes => 3 });
$c->restart;
is(($c->psql('SELECT count(*) FROM pg_tls_files', unix => 1))[1], '6', 'one free slot is enough');
$c->set_conf({ max_worker_processes => 2 });
$c->restart;
like(($c->psql('SELECT count(*) FROM pg_tls_files', unix => 1))[2],
	qr/ERROR: +could not start a background worker for a look at the TLS files\nHINT: .*max_worker_processes/, 'no free slot');
$c->stop;
done_testing();

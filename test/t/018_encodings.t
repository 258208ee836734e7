# What clients sent is text in databases of any encoding.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $buecher = "B\xc3\xbccher & S\xc3\xb6hne GmbH";
my $greek = "\xce\x91\xce\xb8\xce\xae\xce\xbd\xce\xb1";
my $chinese = "\xe6\x9d\x8e\xe5\xb0\x8f\xe9\xbe\x99";

# The same names as Latin-1, in the older string types.
$pki->cert('latin', issuer => 'int', subject => [ [ O => "B\xfccher" ], [ CN => "J\xfcrgen" ] ],
	utf8 => 0, string_mask => 'MASK:0x0004');
$pki->cert('bmp', issuer => 'int', subject => [ [ O => 'Example' ], [ OU => $greek ], [ CN => 'bmp' ] ],
	string_mask => 'MASK:0x0800');

my $c = TlsCluster->new(ssl => 1, pki => $pki);

$c->start;
foreach my $encoding (qw(UTF8 LATIN1 SQL_ASCII EUC_JP))
{
	$c->query("CREATE DATABASE \L$encoding\E ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$c->query('CREATE EXTENSION pg_tls', dbname => lc $encoding);
}

my $utf8 = $c->session(cert => 'utf8');
my $latin = $c->session(cert => 'latin');

ok($_->connected, 'connected') or diag $_->error for $utf8, $latin;

# As a client that speaks UTF-8 sees it; of SQL_ASCII nothing is converted.
sub dn
{
	my ($session, $database, $column) = @_;

	return $c->query('SELECT ' . ($column // 'client_dn') . ' FROM pg_stat_tls WHERE pid = ' . $session->pid,
		dbname => $database, unix => 1,
		env => { PGCLIENTENCODING => $database eq 'sql_ascii' ? 'SQL_ASCII' : 'UTF8' });
}

sub escaped { return join '', map { sprintf '\\%02X', ord } split //, $_[0] }

my $whole = "/O=$buecher/OU=$greek/CN=$chinese";

is(dn($utf8, 'utf8'), $whole, 'UTF8: as it is');
is(dn($utf8, 'sql_ascii'), $whole, 'SQL_ASCII: the same bytes');

SKIP:
{
	skip 'PostgreSQL 13 can only convert or fail', 4 if TlsCluster->pg_version < 14;
	is(dn($utf8, 'latin1'), "/O=$buecher/OU=" . escaped($greek) . '/CN=' . escaped($chinese),
		'LATIN1: what it lacks is escaped');
	is(dn($latin, 'latin1'), "/O=B\xc3\xbccher/CN=J\xc3\xbcrgen", 'LATIN1 in a certificate is converted');
	is($c->query('SELECT octet_length(client_cn), client_cn = chr(74) || chr(252) || $$rgen$$ FROM pg_stat_tls WHERE pid = '
			  . $latin->pid, dbname => 'latin1', unix => 1),
		'6|t', '... to valid text of the database');
	like(dn($utf8, 'euc_jp'), qr/\Q$greek\E.*\Q$chinese\E|\Q$greek\E/, 'EUC_JP has Greek letters');
}
is(dn($latin, 'utf8'), "/O=B\xc3\xbccher/CN=J\xc3\xbcrgen", 'UTF8: Latin-1 in a certificate is converted');
is(dn($utf8, $_, 'client_dn_rfc2253'), 'CN=' . escaped($chinese) . ',OU=' . escaped($greek) . ',O='
	  . $buecher =~ s/([^\0-\x7f])/escaped($1)/ger, "$_: the form of RFC 2253 is ASCII")
  for qw(utf8 latin1 sql_ascii euc_jp);

# What cannot be seen, or changes the order of what can, is shown as its bytes,
# wherever it comes from and whatever the database's encoding has.
my @hidden = map { chr } 0x7f, 0x85, 0x9f, 0xad, 0x34f, 0x61c, 0x115f, 0x17b4, 0x180e, 0x200b, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029,
	0x202a, 0x202e, 0x2060, 0x2066, 0x2069, 0x206f, 0x3164, 0xfe0f, 0xfeff, 0xffa0, 0xfff9, 0x1bca0, 0x1d173, 0xe0001, 0xe0041, 0xe007f, 0xe01ef;
my @shown = map { chr } 0xa1, 0xae, 0x5d0, 0x627, 0x200a, 0x2010, 0x2030, 0x3163, 0xfffd, 0x1f512;
my $bytes = sub { my ($s) = @_; utf8::encode($s); $s };
my $hidden = $bytes->(join 'x', @hidden);
my $escaped = join 'x', map { escaped($bytes->($_)) } @hidden;
my $shown = $bytes->(join '', @shown);

# a name's value may have 64 characters, a role's name 63 bytes
$pki->cert('hidden', issuer => 'int', subject => [ [ OU => $shown ], [ CN => $hidden ] ], san => [ "otherName:1.2.3;FORMAT:UTF8,UTF8:$hidden" ]);
my $s = $c->session(cert => 'hidden');
ok($s->connected, 'a certificate with what cannot be seen') or diag $s->error;
is(dn($s, 'utf8'), "/OU=$shown/CN=$escaped", 'client_dn');
is(dn($s, 'utf8', 'client_cn') =~ s/\xe2\x80\xa6\z//r, substr($escaped, 0, 253), 'client_cn, which is cut');
is(dn($s, 'utf8', 'client_san[1]'), "otherName:1.2.3;UTF8:$escaped", 'client_san');
is(dn($s, $_, q{split_part(client_dn, '/CN=', 2)}), $escaped, "client_dn in $_") for qw(sql_ascii euc_jp), TlsCluster->pg_version < 14 ? () : 'latin1';
is($c->query('SELECT client_dn = (SELECT client_dn FROM pg_stat_ssl s WHERE s.pid = t.pid) FROM pg_stat_tls t WHERE pid = ' . $_->pid,
	dbname => 'utf8', unix => 1), 't', 'other names are as in pg_stat_ssl') for $utf8, $latin;

my @roles = map { $bytes->(join('x', "r$_", @hidden[ 5 * $_ .. 5 * $_ + 4 ])) } 0 .. 5;
foreach my $role (@roles)
{
	$c->query(qq{CREATE ROLE "$role" LOGIN}, dbname => 'utf8', unix => 1, env => { PGCLIENTENCODING => 'UTF8' });
	$c->query('SELECT 1', user => $role, cert => 'hidden', dbname => 'utf8');
	$c->query('SELECT 1', user => $role, ssl => 'disable', dbname => 'utf8');
}
my $names = join "\n", map { my $r = $_; join 'x', map { /^r\d$/ ? $_ : escaped($_) } split /x/, $r } @roles;
# A name has 63 bytes, and says when they were not enough.
$names =~ s/^(.{60}).{4,}$/$1\xe2\x80\xa6/mg;
like($names, qr/\xe2\x80\xa6$/, 'one is too long as it is shown');
is($c->query(qq{SELECT DISTINCT usename FROM $_ WHERE usename ~ '^r[0-9]' ORDER BY 1}, dbname => 'utf8', unix => 1), $names, "roles in $_")
  for qw(pg_stat_tls_clients pg_stat_tls_client_certificates);
foreach my $database (qw(utf8 sql_ascii euc_jp), TlsCluster->pg_version < 14 ? () : 'latin1')
{
	is($c->query(q{SELECT count(DISTINCT usename), max(octet_length(usename::text)) FROM pg_stat_tls_clients WHERE usename ~ '^r[0-9]'},
			dbname => $database, unix => 1), '6|63', "$database: each is a name");
}
my $name3 = (split /\n/, $names)[3];
like($c->query(q{SELECT problem FROM pg_tls_findings WHERE code = 'client_certificate_shared'}, dbname => 'utf8', unix => 1),
	qr/"\Q$name3\E"/, 'roles in a finding');

# What workers answer, who have no database: names, lists, paths and messages.
my $umlaut = "\xc3\xbc";
$pki->cert('words', issuer => 'int', kind => 'server', subject => [ [ O => "B${umlaut}cher" ], [ CN => $greek ] ],
	san => [ 'DNS:localhost', map { "otherName:1.2.3;FORMAT:UTF8,UTF8:$_" } "f${umlaut}r", $greek ]);
spew($c->tls("k$umlaut.pem"), slurp($pki->chain('words')));
spew($c->tls('server.key'), slurp($pki->key('words')));
$c->set_conf({ ssl_cert_file => $c->tls("k$umlaut.pem") });
$c->query('SELECT pg_tls_reload()', dbname => 'utf8', unix => 1);
$c->set_conf({ ssl_ca_file => $c->tls("none$umlaut$greek.pem") });
foreach my $database ('utf8', 'sql_ascii', 'euc_jp', TlsCluster->pg_version < 14 ? () : 'latin1')
{
	my $ask = sub { $c->query("SELECT $_[0]", dbname => $database, unix => 1, env => { PGCLIENTENCODING => $database eq 'sql_ascii' ? 'SQL_ASCII' : 'UTF8' }) };
	# PostgreSQL 13 cannot tell what a character has no equivalent for
	my $plain = $database eq 'euc_jp' && TlsCluster->pg_version < 14;
	my ($u, $g) = ($plain ? escaped($umlaut) : $umlaut, $plain || $database eq 'latin1' ? escaped($greek) : $greek);

	is($ask->(q{subject_dn, san[2], san[3], cardinality(san) FROM pg_tls_certificates WHERE setting = 'ssl_cert_file' AND position = 1}),
		"/O=B${u}cher/CN=$g|otherName:1.2.3;UTF8:f${u}r|otherName:1.2.3;UTF8:$g|3", "$database: names and lists of workers");
	like($ask->(q{path FROM pg_tls_files WHERE setting = 'ssl_cert_file'}), qr{/tls/k\Q$u\E\.pem\z}, "$database: a path");
	like($ask->('error FROM pg_tls_check()'), qr{/tls/none\Q$u$g\E\.pem}, "$database: a message");
	like($ask->(q{problem FROM pg_tls_findings WHERE code = 'reload_would_fail'}), qr{/tls/none\Q$u$g\E\.pem}, "$database: a finding");
}
$c->set_conf({ ssl_ca_file => $c->tls('ca.crt') });

$c->set_hba('local all all trust', 'hostssl all all all cert');
$c->reload;
$c->psql('SELECT 1', user => $roles[3], cert => 'hidden', dbname => "d$roles[3]");
is($c->query(q{SELECT usename || ' ' || datname FROM pg_stat_tls_failures ORDER BY failed_at DESC LIMIT 1}, dbname => 'utf8', unix => 1),
	"$name3 d$name3", 'roles and databases in a failure');
my $raw = join '|', map { quotemeta $bytes->($_) } @hidden;
unlike($c->query('SELECT f::text FROM pg_stat_tls_failures f', dbname => 'utf8', unix => 1, env => { PGCLIENTENCODING => 'UTF8' }),
	qr/$raw/, 'and nothing raw in it');

done_testing();

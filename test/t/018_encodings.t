# What clients sent is text in databases of any encoding.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

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

done_testing();

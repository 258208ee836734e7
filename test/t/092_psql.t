# The queries of doc/psql.md, as psql runs them from its startup file.

use strict;
use warnings;

use File::Temp ();
use IPC::Run ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");

# the first to end
$pki->crl('int', next_update => 7 * 86400);
$pki->crl_file("$dir/pki/crls.pem", 'root', 'int');
$pki->sign_again('alice', not_after => 14 * 86400);

my $c = TlsCluster->new(ssl => 1, pki => $pki);
my ($rc) = slurp('doc/psql.md') =~ /^```\n(\\x auto\n.*?)^```\n/ms;
my %shown;

ok($rc, 'there is a startup file') or BAIL_OUT('doc/psql.md');
spew("$dir/psqlrc", $rc);
$c->start;
$c->query('CREATE EXTENSION pg_tls; CREATE ROLE plain LOGIN');

# What psql prints for one of its variables.
sub typed
{
	my ($name) = @_;
	my ($out, $err) = ('', '');

	local %ENV = (%ENV, PSQLRC => "$dir/psqlrc", PAGER => 'cat');
	IPC::Run::run([ $c->pg_config('bindir') . '/psql', '-qw', '-v', 'ON_ERROR_STOP=1', '-d', $c->connstr(cert => 'alice') ],
		'<', \":$name\n", '>', \$out, '2>', \$err, IPC::Run::timeout($TlsCluster::TIMEOUT));
	is($err, '', "$name: no error");
	$shown{$name} = 1;
	return $out;
}

# Clients of the past, more of them than lines are shown.
foreach (1 .. 5)
{
	my $subject = "/CN=past$_";
	my ($rc) = $c->in_time(4, sub {
		$pki->cert('past', issuer => 'int', subject => $subject, not_after => $_[0]);
		return $c->psql('SELECT 1', cert => 'past');
	});

	is($rc, 0, "past client $subject");
}

my $revoked = $c->session(cert => 'bob');
my $plain = $c->session(ssl => 'disable', user => 'plain');

unlike(typed($_), qr/[1-9]\d* rows?\)|RECORD/, "$_: nothing") for qw(tls_failed tls_lost tls_cut_off);
like(typed('tls_clear'), qr/\bplain\b/, 'tls_clear: a session in clear text');
like(typed('tls_wrong'), qr/hba_trust/, 'tls_wrong: a finding');
like(typed('tls_me'), qr/TLSv1\.3.*\/CN=alice/s, 'tls_me: the own session');
ok($c->poll_query("SELECT bool_and(not_after < now()) FROM pg_stat_tls_client_certificates WHERE subject_dn LIKE '/CN=past_'", 't'), 'the past is past');
like(typed('tls_ends'), qr/ssl_crl_file.*role postgres/s, 'tls_ends: CRLs and clients');

$c->psql('SELECT 1', cert => 'expired');
like(typed('tls_failed'), qr/certificate_expired.*\/CN=expired/, 'tls_failed: a failure');

$pki->revoke('bob');
$pki->crl('int');
$pki->crl_file($c->tls('crl.pem'), 'root', 'int');
like(typed('tls_cut_off'), qr/\/CN=bob.*revoked/, 'tls_cut_off: whom a reload would lose');
$c->query('SELECT FROM pg_tls_reload()');
ok($c->poll_query('SELECT count(*) FROM pg_stat_tls WHERE NOT acceptable', 1), 'reloaded');
like(typed('tls_lost'), qr/\/CN=bob.*revoked/, 'tls_lost: who would not be let in again');

is_deeply([ sort keys %shown ], [ sort $rc =~ /^\\set (\w+)/mg ], 'all of them');

$c->stop;
done_testing();

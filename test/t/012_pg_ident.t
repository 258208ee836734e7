# client_dn_rfc2253 is what clientname=DN compares: put into pg_ident.conf, it
# lets that very client in.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

plan skip_all => 'clientname=DN came with PostgreSQL 14' if TlsCluster->pg_version < 14;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");

$pki->cert('odd',
	issuer => 'int',
	subject => [ [ O => 'a, "b" + c; <d> #e\\f' ], [ CN => ' odd/CN=alice' ] ]);
$pki->cert('control', issuer => 'int', subject => [ [ CN => "tab\tcontrol" ] ]);

my @certs = qw(alice longdn utf8 multi odd control);
my @hba = ('local all all trust', 'hostssl all dn_user all cert clientname=DN map=dn', 'hostssl all postgres all trust');
my $c = TlsCluster->new(ssl => 1, pki => $pki, hba => \@hba);

$c->start;
$c->query('CREATE EXTENSION pg_tls; CREATE ROLE dn_user LOGIN');

foreach my $cert (@certs)
{
	my $dn = $c->query('SELECT client_dn_rfc2253 FROM pg_tls_session()', cert => $cert);

	$c->set_ident('dn "CN=nobody" dn_user');
	$c->reload;
	ok($c->poll_until(sub { ($c->psql('SELECT 1', cert => $cert, user => 'dn_user'))[0] }),
		"$cert: not let in yet");

	# in a quoted token, a quote is doubled
	$c->set_ident('dn "' . $dn =~ s/"/""/gr . '" dn_user');
	$c->reload;
	ok($c->poll_until(sub { !($c->psql('SELECT 1', cert => $cert, user => 'dn_user'))[0] }),
		"$cert: let in by $dn");
	is($c->query('SELECT auth_identity FROM pg_tls_session()', cert => $cert, user => 'dn_user'), $dn,
		"$cert: which is its identity");
	ok($c->refused(qr/certificate authentication failed for user "dn_user"/, cert => 'bob', user => 'dn_user'),
		'... and lets nobody else in');
}

done_testing();

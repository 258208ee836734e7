# Another module that uses the hook of client authentication, before and after
# us: auth_delay of contrib, which holds whoever gave a wrong password.

use strict;
use warnings;

use File::Temp ();
use IPC::Run ();
use Test::More;
use Time::HiRes qw(sleep time);

use TlsCluster;
use TlsPKI;

plan skip_all => 'auth_delay is not installed' unless -f TlsCluster->pg_config('pkglibdir') . '/auth_delay.so';

my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my $DELAY = 2;    # seconds

$pki->ca('root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert('client', issuer => 'root');

my $c = TlsCluster->new(
	ssl => 1, pki => $pki,
	conf => { 'auth_delay.milliseconds' => 1000 * $DELAY },
	hba => [ 'local all all trust', 'host all scram all scram-sha-256', 'host all all all trust' ]);

foreach my $preload ('auth_delay, pg_tls', 'pg_tls, auth_delay')
{
	subtest $preload => sub {
		$c->set_conf({ shared_preload_libraries => $preload });
		$c->start;
		$c->query('CREATE EXTENSION IF NOT EXISTS pg_tls', unix => 1);
		$c->query("SET password_encryption = 'scram-sha-256'; DROP ROLE IF EXISTS scram;"
			  . " CREATE ROLE scram LOGIN PASSWORD 'secret'", unix => 1);
		is($c->query('SELECT auth_method, client_cn FROM pg_tls_session()',
				user => 'scram', password => 'secret', cert => 'client'),
			'scram-sha-256|client', 'who is let in has a row');

		my $reader = $c->session(unix => 1);
		my $begin = time;
		my ($out, $readings, $most) = ('', 0, 0);
		my $is_held = sub {
			my %children = $c->children;

			return grep { /\bscram\b.* authentication$/ } values %children;
		};
		my $run = IPC::Run::start(
			[ TlsCluster->pg_config('bindir') . '/psql', '-Xc', 'SELECT 1',
				$c->connstr(user => 'scram', password => 'wrong', cert => 'client') ],
			'<', \undef, '>&', \$out, IPC::Run::timeout($TlsCluster::TIMEOUT));

		while ($run->pumpable)
		{
			my $was_held = $is_held->();
			my $rows = $reader->query('SELECT count(*) FROM pg_stat_tls');

			$most = $rows if $rows > $most;
			$readings++ if $was_held && $is_held->();
			sleep 0.01;
			$run->pump_nb;
		}
		$run->finish;
		like($out, qr/password authentication failed/, 'a wrong password');
		cmp_ok(time - $begin, '>=', $DELAY, '... is held');
		is($most, 1, "... and has no row meanwhile, in $readings readings");
		cmp_ok($readings, '>', 0, '... of which there are some');
		undef $reader;
		$c->stop;
	};
}

done_testing();

# A backend is killed, the server restarts from the crash: the view is right.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"),
	conf => { restart_after_crash => 'on' });

$c->start;
$c->query('CREATE EXTENSION pg_tls');
$c->reload;
ok($c->poll_until(sub { $c->query('SELECT config_generation FROM pg_tls_session()') == 2 }), 'two loads');

foreach my $round (1 .. 3)
{
	my @sessions = map { $c->session(cert => $_) } qw(alice bob longdn);
	my $victim = $sessions[0];
	my $pids = join ', ', map { $_->pid } @sessions;
	my $mark = $c->log_mark;

	# sessions that ended may still be about to
	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls', 4, unix => 1), "round $round: all are seen");
	$c->kill_backend($victim->pid, 'KILL');
	ok($c->wait_for_log(qr/database system is ready to accept connections/, $mark), 'the server has restarted');
	ok($c->poll_until(sub { !($c->psql('SELECT 1', unix => 1))[0] }), '... and takes connections');
	ok(!$_->alive, 'a session is gone') for @sessions;
	is($c->query("SELECT count(*) FROM pg_stat_tls WHERE pid IN ($pids)", unix => 1), 0, 'and its row');

	my $after = $c->session(cert => 'longdn');

	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls', 2, unix => 1), 'nothing is left over');
	is($c->query('SELECT client_cn, acceptable, config_generation FROM pg_stat_tls WHERE pid = ' . $after->pid, unix => 1),
		'longdn|t|2', 'a new session is seen, with the configuration that is still loaded');
}

done_testing();

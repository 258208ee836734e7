# Who sees which sessions: as in pg_stat_ssl.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"));

$c->start;
$c->query(<<'SQL');
CREATE EXTENSION pg_tls;
CREATE ROLE alone LOGIN;
CREATE ROLE team;
CREATE ROLE member LOGIN IN ROLE team;
CREATE ROLE other LOGIN IN ROLE team;
CREATE ROLE lead LOGIN IN ROLE member;
CREATE ROLE bare LOGIN NOINHERIT IN ROLE member;
CREATE ROLE stats LOGIN IN ROLE pg_read_all_stats;
CREATE ROLE lazy_stats LOGIN NOINHERIT IN ROLE pg_read_all_stats;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
SQL

my @roles = qw(alone member other lead bare stats lazy_stats monitor postgres);
my %session = map { $_ => $c->session(user => $_, cert => 'alice') } @roles;
my $walsender = $c->walsender(cert => 'bob');

foreach my $role (@roles)
{
	my $see = sub { $session{$role}->query("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM $_[0]") };

	is($see->('pg_stat_tls'), $see->('pg_stat_ssl'), "$role sees the same sessions in both views");
}
is($session{alone}->query('SELECT count(*) FROM pg_stat_tls'), 1, 'a role sees its own session');
is($session{lead}->query('SELECT count(*) FROM pg_stat_tls'), 2, '... and those of roles it is a member of');
is($session{stats}->query('SELECT count(*) FROM pg_stat_tls'), 1 + @roles, 'pg_read_all_stats sees all');

# As the view's reader, not as whoever logged in.
is($session{postgres}->query('SET ROLE alone; SELECT count(*) FROM pg_stat_tls; RESET ROLE'), 1,
	'SET ROLE gives up what one could see');
is($session{postgres}->query('SET ROLE alone; SELECT pid = pg_backend_pid() FROM pg_tls_session(); RESET ROLE'), 't',
	'... but one\'s own session');

done_testing();

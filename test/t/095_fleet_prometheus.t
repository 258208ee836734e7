# doc/fleet.md's recipe with Prometheus: an exporter for each of three servers,
# the files that it shows, and one server down.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $bin = ($ENV{PG_TLS_MONITORING} // '/var/cache/pg_tls/monitoring') . '/usr/bin';

foreach ("$bin/prometheus", "$bin/promtool", "$bin/prometheus-postgres-exporter",
	'monitoring/postgres_exporter.yaml', 'monitoring/alerts.yml')
{
	plan skip_all => "there is no $_" unless -e;
}

my $dir = File::Temp->newdir;
my $http = HTTP::Tiny->new(timeout => $TlsCluster::TIMEOUT);
my @running;

END
{
	local $?;
	$_->kill_kill(grace => 5) for @running;
}

# ---------------------------------------------------------------- the servers

my $pki = TlsPKI->default_set("$dir/pki");

$pki->cert($_, issuer => 'int', subject => "/CN=$_") for qw(fleet repl);

my @server = (
	ssl => 1,
	pki => $pki,
	hba => [ 'local all,replication all trust', 'hostssl all fleet all cert', 'hostssl replication repl all cert' ]);
my $primary = TlsCluster->new(@server, name => 'primary');
my $standby = TlsCluster->new(@server, name => 'standby', conf => { hot_standby => 'on' });
my $third = TlsCluster->new(@server, name => 'third');
my @all = ($primary, $standby, $third);

foreach my $c ($primary, $third)
{
	$c->start;
	$c->query('CREATE EXTENSION pg_tls; CREATE ROLE fleet LOGIN IN ROLE pg_monitor; CREATE ROLE repl LOGIN REPLICATION', unix => 1);
}

my $out = '';

$standby->follow($primary, user => 'repl', cert => 'repl');
$standby->start;

# -------------------------------------------------------- the recipe's own files

my $recipe = slurp('doc/fleet.md');
my ($variables) = $recipe =~ /^```\n(DATA_SOURCE_NAME=.*?)^```/ms;
my ($prometheus, $servers) = $recipe =~ /^```yaml\n(.*?)^```/msg;
my ($source) = $variables =~ /^DATA_SOURCE_NAME="(.*)"$/m;
my ($args) = $variables =~ /^ARGS="(.*)"$/m;
my %port = map { $_ => TlsCluster::_free_port('127.0.0.1', '::1') } qw(prometheus db1 db2 db3);    ## no critic (ProtectPrivateSubs)

make_path("$dir/postgres");
# The exporter takes 3 s to find that a server is down.
spew("$dir/prometheus.yml", $prometheus . "global: {scrape_interval: 5s, scrape_timeout: 5s, evaluation_interval: 1s}\n");
spew("$dir/alerts.yml", slurp('monitoring/alerts.yml'));
spew("$dir/postgres_exporter.yaml", slurp('monitoring/postgres_exporter.yaml') =~ s/^ *cache_seconds: \d+\n//gmr);
spew("$dir/$$_[0]", slurp($$_[1])) for [ 'ca.crt', "$dir/pki/ca.pem" ], [ 'fleet.crt', $pki->chain('fleet') ], [ 'fleet.key', $pki->key('fleet') ];
chmod 0600, "$dir/fleet.key" or die;
is($servers =~ s/(db\d)\.example\.org:9187/localhost:$port{$1}/g, 3, 'three servers');
s{/etc/postgresql/fleet}{$dir}g for $source, $args;

sub start_program
{
	my ($name, $env, @cmd) = @_;

	local %ENV = (%ENV, %$env);
	push @running, IPC::Run::start([ 'setpriv', '--pdeathsig', 'KILL', @cmd ],
		'<', \undef, '>&', ($ENV{PG_TLS_LOGDIR} // $dir) . "/095_fleet_prometheus-$name.log");
	return;
}

foreach my $i (1 .. 3)
{
	my $port = $all[ $i - 1 ]->port;

	start_program("db$i", { DATA_SOURCE_NAME => $source =~ s/db1\.example\.org:5432/localhost:$port/r },
		"$bin/prometheus-postgres-exporter", split(' ', $args), '--web.listen-address=localhost:' . $port{"db$i"});
}

ok(IPC::Run::run([ "$bin/promtool", 'check', 'config', "$dir/prometheus.yml" ], '>&', \$out), 'promtool takes prometheus.yml') or diag($out);
start_program('prometheus', {}, "$bin/prometheus", "--config.file=$dir/prometheus.yml",
	"--web.listen-address=127.0.0.1:$port{prometheus}", "--storage.tsdb.path=$dir/tsdb");

# Prometheus's answer, undef for none.
sub ask
{
	my ($path, %args) = @_;
	my $answer = $http->get("http://127.0.0.1:$port{prometheus}/api/v1/$path?" . $http->www_form_urlencode(\%args));
	my $data = eval { JSON::PP->new->utf8->decode($answer->{content}) };

	return $data && $data->{status} eq 'success' ? $data->{data} : undef;
}

# The values of a query, by cluster and number of the server.
sub values_of
{
	my ($query) = @_;
	my $data = ask('query', query => $query) // return 'no answer';
	my %name = map { ('localhost:' . $all[ $_ - 1 ]->port => "db$_", 'localhost:' . $port{"db$_"} => "db$_") } 1 .. 3;

	# the exporter's own metrics do not name the server
	return join ' ', sort map {
		my $of = $_->{metric};

		"$of->{cluster}/" . ($name{ $of->{server} // $of->{instance} } // '?') . "=$_->{value}[1]"
	} @{ $data->{result} };
}

sub becomes
{
	my ($query, $expected, $what) = @_;
	my $last = '';

	return ok(TlsCluster->poll_until(sub { ($last = values_of($query)) eq $expected }, what => $query), $what) || !diag($last);
}

# A file of servers that comes later is noticed.
ok(TlsCluster->poll_until(sub { ask('targets') }, what => 'Prometheus'), 'Prometheus runs') or die;
spew("$dir/postgres/servers.yml", $servers);

# ------------------------------------------------------------------- the metrics

becomes('pg_tls_context_active', 'orders/db1=1 orders/db2=1 web/db3=1', 'all three tell, by cluster') or die;
becomes('count by (cluster, server) (pg_tls_certificate_not_after_timestamp_seconds)', 'orders/db1=3 orders/db2=3 web/db3=3', 'of their certificates');
becomes('pg_up', 'orders/db1=1 orders/db2=1 web/db3=1', 'and are up');

$third->stop;
becomes('pg_up == 0', 'web/db3=0', 'one is down');
becomes('pg_tls_context_active', 'orders/db1=1 orders/db2=1', 'the others go on to tell');

my $alert = sub {
	my @alerts = grep { $_->{labels}{alertname} eq 'PgTlsNotMonitored' } @{ (ask('alerts') // {})->{alerts} // [] };

	return join ' ', map { "$_->{state} " . ($_->{labels}{instance} // '') } @alerts;
};

ok(TlsCluster->poll_until(sub { $alert->() eq "pending localhost:$port{db3}" }, what => 'the alert'), 'an alert is on its way') or diag($alert->());

$third->start;
becomes('pg_tls_context_active', 'orders/db1=1 orders/db2=1 web/db3=1', 'it is up again');
ok(TlsCluster->poll_until(sub { $alert->() eq '' }, what => 'the end of the alert'), 'and the alert is gone');

spew($third->tls('server.key'), slurp($pki->key('fleet')));
$third->reload;
becomes('pg_tls_last_load_success == 0', 'web/db3=0', 'a failed reload is told of the right one');
becomes('max by (cluster, server) (pg_tls_findings_open{code="reload_failed"})', 'web/db3=1', '... and as a finding');

# What else the recipe asks.
my ($table) = $recipe =~ /^\| question \| PromQL \|\n(.*?)\n\n/ms;

foreach (map { /`([^`]+)`/g } split /\n/, $table)
{
	ok(ask('query', query => $_), $_);
}
is(scalar @{ ask('query', query => 'sort(pg_tls_certificate_not_after_timestamp_seconds - time() < 30 * 86400)')->{result} }, 9,
	'what ends within 30 days');

$_->stop for @all;
done_testing();

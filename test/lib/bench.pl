# Called by test/bench: bench.pl ROUNDS [PART...]

use strict;
use warnings;

use File::Temp ();
use List::Util qw(max min);
use Time::HiRes qw(time);

use TlsCluster;
use TlsPKI qw(slurp spew);

my ($rounds, @parts) = @ARGV;
my %known = map { $_ => 1 } qw(connect crl view);

@parts = sort keys %known unless @parts;
foreach my $part (@parts) { die "there is no part $part\n" unless $known{$part} }
$| = 1;

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root', not_after => 800 * $DAY);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert('client', issuer => 'root');
$pki->crl('root');
spew("$dir/select.sql", "SELECT 1;\n");

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ @sorted / 2 ];
}

# Servers that differ in what they preload and how they are set.
sub server
{
	my ($name, %opts) = @_;
	my $c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, crl => undef, conf => { max_connections => 30, log_connections => 'off' }, %opts);

	$c->start;
	return $c;
}

# Milliseconds of a connection and a query, one after the other.
sub connection_time
{
	my ($c, $cert, $n) = @_;
	my $connstr = $c->connstr($cert ? (cert => 'client') : ());
	my $pgbench = TlsCluster->pg_config('bindir') . '/pgbench';
	my $out = `$pgbench -n -C -c 1 -t $n -f '$dir/select.sql' "$connstr" 2>&1`;
	my ($tps) = $out =~ /^tps = ([\d.]+) \((?:including connections establishing|including reconnection times)/m
	  or die "pgbench: $out";

	return 1000 / $tps;
}

# Alternates between servers; returns their median times.
sub compare
{
	my ($cert, $n, @servers) = @_;
	my @times;

	connection_time($_, $cert, 2) for @servers;
	foreach (1 .. $rounds)
	{
		push @{ $times[$_] }, connection_time($servers[$_], $cert, $n) for 0 .. $#servers;
	}
	return map { median(@$_) } @times;
}

sub row { return printf "| %s |\n", join ' | ', @_ }

sub verdict
{
	my ($value, $budget) = @_;

	return sprintf '%s%s', $budget, $value >= $budget ? '' : ' **missed**';
}

my ($cpu) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)/m;
chomp(my $openssl = `openssl version`);
printf "%s; %s; %s; %d rounds, medians\n\n", $cpu // 'unknown processor', TlsCluster->pg_config('version'), $openssl, $rounds;

my %part = (
	connect => sub {
		my @servers = (server('without', preload => ''), server('with'));

		print "Connections without CRL: milliseconds, and the rate against a server without pg_tls\n\n";
		row('client certificate', 'without pg_tls', 'with', 'rate', 'budget');
		row(('---') x 5);
		foreach my $cert (1, 0)
		{
			my ($without, $with) = compare($cert, 150, @servers);

			row($cert ? 'yes' : 'no', (map { sprintf '%.2f', $_ } $without, $with),
				sprintf('%.3f', $without / $with), $cert ? verdict($without / $with, 0.98) : '');
		}
		$_->stop for @servers;
		print "\n";
	},

	crl => sub {
		my %budget = ('100000 0' => 8, '1000000 0' => 60, '100000 1' => 3, '1000000 1' => 6);
		my %bare = ('100000' => 1.5, '1000000' => 2);
		my $none = server('none', preload => '');

		print "Connections with a CRL: milliseconds, and how many times the rate of a server without pg_tls\n\n";
		row('entries', 'client certificate', 'without pg_tls', 'with', 'times', 'budget', 'no CRL at all', 'time against that');
		row(('---') x 8);
		foreach my $entries (10_000, 100_000, 1_000_000)
		{
			my $crl = $pki->large_crl('root', $entries, out => "$dir/large.crl");
			my @servers = (
				server('without', preload => '', crl => $crl, conf => { log_connections => 'off' }),
				server('with', crl => $crl, conf => { log_connections => 'off' }), $none);

			foreach my $cert (0, 1)
			{
				my ($without, $with, $bare) = compare($cert, $entries > 100_000 ? 5 : 25, @servers);
				my $budget = $budget{"$entries $cert"};

				row($entries, $cert ? 'yes' : 'no', (map { sprintf '%.1f', $_ } $without, $with),
					sprintf('%.1f', $without / $with), $budget ? verdict($without / $with, $budget) : '',
					sprintf('%.1f', $bare), sprintf('%.1f', $with / $bare));
			}
			$servers[0]->stop;
			$servers[1]->stop;
		}
		$none->stop;
		print "\n";
	},

	view => sub {
		my $n = 300;
		my $c = server('view', conf => { max_connections => $n + 20, log_connections => 'off' });

		$c->query('CREATE EXTENSION pg_tls', unix => 1);
		spew("$dir/client.py", <<'END');
import sys, psycopg2
connections = [psycopg2.connect(sys.argv[1]) for i in range(int(sys.argv[2]))]
print('ready', flush=True)
sys.stdin.readline()
END
		my $connstr = $c->connstr(cert => 'client');
		open my $client, '|-', "python3 '$dir/client.py' \"$connstr\" $n > '$dir/client.out'" or die;
		$c->poll_until(sub { -s "$dir/client.out" }, timeout => 240) or die "no clients\n";
		my %times;
		foreach (1 .. $rounds)
		{
			foreach my $view ('pg_stat_ssl', 'pg_stat_tls')
			{
				spew("$dir/view.sql", "SELECT * FROM $view;\n");
				my $out = `@{[ TlsCluster->pg_config('bindir') ]}/pgbench -n -c 1 -t 200 -f '$dir/view.sql' "@{[ $c->connstr(unix => 1) ]}" 2>&1`;
				$out =~ /latency average = ([\d.]+) ms/ or die "pgbench: $out";
				push @{ $times{$view} }, $1;
			}
		}
		my ($ssl, $tls) = map { median(@{ $times{$_} }) } 'pg_stat_ssl', 'pg_stat_tls';
		print "Reading the view with $n sessions: milliseconds\n\n";
		row('pg_stat_ssl', 'pg_stat_tls', 'ratio', 'budget');
		row(('---') x 4);
		row((map { sprintf '%.2f', $_ } $ssl, $tls), sprintf('%.2f', $tls / $ssl), $tls <= $ssl ? '1' : '1 **missed**');
		print $client "\n";
		close $client;
		$c->stop;
		print "\n";
	});

$part{$_}->() for @parts;

# Called by test/bench: bench.pl ROUNDS OUTPUT [PART...]

use strict;
use warnings;

use File::Temp ();
use List::Util qw(max min sum);
use POSIX qw(strftime);
use Time::HiRes qw(sleep time);

use TlsCluster;
use TlsPKI qw(slurp spew);

my ($rounds, $output, @parts) = @ARGV;
my @known = qw(connect crl view judge entries reload memory);
my $report = '';

@parts = @known unless @parts;
foreach my $part (@parts) { die "there is no part $part\n" unless grep { $_ eq $part } @known }
$| = 1;

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);
my $bin = TlsCluster->pg_config('bindir');
my @summary;    # rows of the table against the budgets

$pki->ca('root', @years);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('client', issuer => 'root', @years);
$pki->crl('root');
spew("$dir/select.sql", "SELECT 1;\n");

# ---------------------------------------------------------------- numbers

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ $#sorted / 2 ];
}

# "median (least to most)"
sub spread
{
	my ($format, @values) = @_;

	return sprintf "$format ($format to $format)", median(@values), min(@values), max(@values);
}

# Calls each of some subs in turn, round by round; returns their figures.
sub alternate
{
	my ($n, @subs) = @_;
	my @values;

	foreach (1 .. $n)
	{
		push @{ $values[$_] }, $subs[$_]->() for 0 .. $#subs;
	}
	return @values;
}

# ---------------------------------------------------------------- report

sub say_line
{
	my $line = join '', @_, "\n";

	print $line;
	$report .= $line;
	return;
}

sub row { return say_line('| ', join(' | ', @_), ' |') }

sub table
{
	my ($title, @columns) = @_;

	say_line($title, "\n");
	row(@columns);
	row(('---') x @columns);
	return;
}

# Whether a ratio keeps to its budget: "at least" or "at most" so much.
sub check_budget
{
	my ($what, $value, $relation, $budget, $format) = @_;
	my $ok = $relation eq 'at least' ? $value >= $budget : $value <= $budget;

	$format //= '%.2f';
	push @summary, [ $what, sprintf($format, $value), "$relation $budget", $ok ? 'met' : '**missed**' ];
	return;
}

# ---------------------------------------------------------------- servers

sub server
{
	my ($name, %opts) = @_;
	my $conf = delete $opts{conf} // {};
	my $c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, crl => undef, %opts,
		conf => { max_connections => 30, log_connections => 'off', fsync => 'off', %$conf });

	$c->start;
	return $c;
}

# Milliseconds of a connection and a query, one after the other.
sub connection_time
{
	my ($c, $cert, $n) = @_;
	my $connstr = $c->connstr($cert ? (cert => 'client') : ());
	my $out = `$bin/pgbench -n -C -c 1 -t $n -f '$dir/select.sql' "$connstr" 2>&1`;
	my ($tps) = $out =~ /^tps = ([\d.]+) \((?:including connections establishing|including reconnection times)/m
	  or die "pgbench: $out";

	return 1000 / $tps;
}

sub connection_times
{
	my ($cert, $n, $alternations, @servers) = @_;

	connection_time($_, $cert, 2) for @servers;
	return alternate($alternations, map { my $c = $_; sub { connection_time($c, $cert, $n) } } @servers);
}

# CPU time that a process has used, in milliseconds.
sub cpu_time { return (split ' ', slurp("/proc/$_[0]/schedstat"))[0] / 1e6 }

# Memory that a process has for itself, in kB; 0 if it has gone.
sub private_memory
{
	my ($pid) = @_;
	my $rollup = eval { slurp("/proc/$pid/smaps_rollup") } // '';

	return sum(0, $rollup =~ /^Private_\w+:\s+(\d+)/mg);
}

# Clients that stay, in one process: [connstr, number]...
sub many_clients
{
	my ($c, @kinds) = @_;

	spew("$dir/client.py", <<'END');
import sys, psycopg2
connections = []
for i in range(1, len(sys.argv), 2):
    for k in range(int(sys.argv[i + 1])):
        connections.append(psycopg2.connect(sys.argv[i] % {'n': k} if '%(n)' in sys.argv[i] else sys.argv[i]))
print('ready', flush=True)
sys.stdin.readline()
END
	unlink "$dir/client.out";
	my $args = join ' ', map { "\"$_->[0]\" $_->[1]" } @kinds;
	open my $client, '|-', "python3 '$dir/client.py' $args > '$dir/client.out'" or die;
	$c->poll_until(sub { -s "$dir/client.out" }, timeout => 600) or die "no clients\n";
	return $client;
}

sub send_away
{
	my ($client) = @_;

	print $client "\n";
	close $client;
	return;
}

# Milliseconds of reading pg_stat_ssl, and pg_stat_tls, with so many sessions.
sub view_times
{
	my ($c, $n) = @_;
	my $times = 10000 / $n > 250 ? 250 : 10000 / $n;

	return alternate(4 * $rounds, map {
		my $view = $_;
		sub {
			spew("$dir/view.sql", "SELECT * FROM $view;\n");
			my $out = `$bin/pgbench -n -c 1 -t $times -f '$dir/view.sql' "@{[ $c->connstr(unix => 1) ]}" 2>&1`;
			$out =~ /latency average = ([\d.]+) ms/ or die "pgbench: $out";
			return $1;
		}
	} 'pg_stat_ssl', 'pg_stat_tls');
}

# ---------------------------------------------------------------- parts

my %part = (
	connect => sub {
		my @servers = (server('without', preload => ''), server('with'));

		table('Connections without CRL: milliseconds, and the rate against a server without pg_tls',
			'client certificate', 'without pg_tls', 'with', 'rate');
		foreach my $cert (1, 0)
		{
			my @times = connection_times($cert, 40, 4 * $rounds, @servers);
			my $rate = median(@{ $times[0] }) / median(@{ $times[1] });

			row($cert ? 'yes' : 'no', (map { spread('%.2f', @$_) } @times), sprintf('%.3f', $rate));
			check_budget('connect with a client certificate, no CRL: rate against the server without pg_tls', $rate, 'at least', 0.98, '%.3f')
			  if $cert;
		}
		$_->stop for @servers;
	},

	crl => sub {
		my %budget = (
			'100000 0' => [ 8, undef ], '1000000 0' => [ 60, undef ],
			'100000 1' => [ 3, 8 ], '1000000 1' => [ 6, 50 ]);
		my %bare = (100_000 => 1.5, 1_000_000 => 2);
		my $none = server('none', preload => '');

		table('Connections with a CRL of the CA of all: milliseconds, and how many times the rate of a server without pg_tls',
			'entries', 'client certificate', 'without pg_tls', 'with', 'times', 'and crl_signature_cache', 'times', 'no pg_tls, no CRL', 'time against that');
		foreach my $entries (10_000, 100_000, 1_000_000)
		{
			my $crl = $pki->large_crl('root', $entries, out => "$dir/large.crl");
			my @servers = (
				server('without', preload => '', crl => $crl),
				server('with', crl => $crl),
				server('cache', crl => $crl, conf => { 'pg_tls.crl_signature_cache' => 'on' }),
				$none);

			foreach my $cert (0, 1)
			{
				my @times = connection_times($cert, $entries > 100_000 ? 5 : 25, $rounds, @servers);
				my ($without, $with, $cache, $bare) = map { median(@$_) } @times;
				my $which = sprintf '%s a client certificate, CRL of %d entries', $cert ? 'with' : 'without', $entries;
				my ($budget, $budget_cache) = @{ $budget{"$entries $cert"} // [] };

				row($entries, $cert ? 'yes' : 'no', spread('%.1f', @{ $times[0] }), spread('%.1f', @{ $times[1] }),
					sprintf('%.1f', $without / $with), spread('%.1f', @{ $times[2] }), sprintf('%.1f', $without / $cache),
					spread('%.1f', @{ $times[3] }), sprintf('%.2f', $cache / $bare));
				check_budget("connect $which: times the rate without pg_tls", $without / $with, 'at least', $budget, '%.1f') if $budget;
				check_budget("the same with crl_signature_cache", $without / $cache, 'at least', $budget_cache, '%.1f') if $budget_cache;
				check_budget("connect $which, crl_signature_cache: time against no pg_tls and no CRL", $cache / $bare, 'at most', $bare{$entries})
				  if $bare{$entries};
			}
			$_->stop for @servers[ 0 .. 2 ];
		}
		$none->stop;
	},

	view => sub {
		my $c = server('view', conf => { max_connections => 1040 });

		$c->query('CREATE EXTENSION pg_tls', unix => 1);
		$pki->cert("c$_", issuer => 'root', @years) for 0 .. 899;
		table('Reading the view: milliseconds', 'sessions', 'with certificate', 'certificates', 'pg_stat_ssl', 'pg_stat_tls', 'ratio');
		foreach my $n (10, 100, 1000)
		{
			my $certs = $n * 9 / 10;

			# Pools share one certificate; users have each their own.
			foreach my $own (0, 1)
			{
				my $connstr = $c->connstr(cert => 'client');

				$connstr =~ s/client/c%(n)d/g if $own;
				my $client = many_clients($c, [ $connstr, $certs ], [ $c->connstr, $n / 10 ]);
				my @times = view_times($c, $n);
				my $ratio = median(@{ $times[1] }) / median(@{ $times[0] });

				row($n, $certs, $own ? $certs : 1, (map { spread('%.2f', @$_) } @times), sprintf('%.2f', $ratio));
				check_budget('SELECT * FROM pg_stat_tls, 1,000 sessions' . ($own ? ' with 900 certificates' : ' that share a certificate') . ': time against pg_stat_ssl',
					$ratio, 'at most', 1) if $n == 1000;
				send_away($client);
				$c->poll_query('SELECT count(*) < 3 FROM pg_stat_tls', 't', unix => 1, timeout => 60);
			}
		}
		$c->stop;
	},

	judge => sub {
		my $n = 1000;
		my $crl = $pki->large_crl('root', 100_000, out => "$dir/large.crl");
		my $c = server('judge', crl => $crl, conf => { max_connections => $n + 30, 'pg_tls.chain_memory' => '16MB', log_min_messages => 'debug1' });

		$pki->cert("c$_", issuer => 'root', @years) for 0 .. $n - 1;
		$c->query('CREATE EXTENSION pg_tls', unix => 1);
		my $connstr = $c->connstr(cert => 'client') =~ s/client/c%(n)d/gr;
		my $client = many_clients($c, [ $connstr, $n ]);
		my (@judged, @private);

		foreach (1 .. $rounds)
		{
			my $mark = $c->log_mark;

			$c->query('SELECT pg_tls_reload()', unix => 1);
			my $peak = 0;
			my $deadline = time + 120;
			while ($c->log_since($mark) !~ /judged $n sessions in ([\d.]+) ms/ && time < $deadline)
			{
				foreach my $line ($c->processes(qr/pg_tls verifier/))
				{
					$peak = max($peak, private_memory($1)) if $line =~ /^\s*(\d+)/;
				}
			}
			$c->log_since($mark) =~ /judged $n sessions in ([\d.]+) ms/ or die "not judged:\n", $c->log_since($mark);
			push @judged, $1;
			$peak or die "the verifier's memory was not seen\n";
			push @private, $peak / 1024;
		}
		send_away($client);
		$c->stop;

		# the same by nothing but OpenSSL
		spew("$dir/verify.c", slurp("$ENV{PG_TLS_SRC}/test/lib/verify.c"));
		system("cc -O2 -o '$dir/verify' '$dir/verify.c' -lssl -lcrypto") == 0 or die;
		$pki->bundle("$dir/leaves.pem", map { "c$_" } 0 .. $n - 1);
		my @bare = map { my $out = `'$dir/verify' '@{[ $pki->crt('root') ]}' '$crl' '$dir/leaves.pem'`; $out =~ /^$n ([\d.]+)/ or die $out; $1 } 1 .. $rounds;

		table("Verdicts on $n sessions with $n certificates after a reload, CRL of 100,000 entries: milliseconds",
			'X509_verify_cert() alone', 'verifier', 'ratio', 'private memory, MiB');
		row(spread('%.0f', @bare), spread('%.0f', @judged), sprintf('%.2f', median(@judged) / median(@bare)), sprintf('%.1f', max(@private)));
		check_budget('verdicts on 1,000 sessions, CRL of 100,000 entries: time against the bare calls', median(@judged) / median(@bare), 'at most', 1.5);
		check_budget('private memory of the verifier, MiB', max(@private), 'at most', 16, '%.1f');
	},

	entries => sub {
		table('All entries of a CRL of 1,000,000: milliseconds', 'entries', 'openssl crl -text', 'pg_tls_crl_entries()', 'times faster', 'the file, MiB', 'private memory of the backend, MiB');
		foreach my $long (0, 1)
		{
			my $crl = $pki->large_crl('root', 1_000_000, out => "$dir/large.crl", long => $long);
			my $c = server('entries', crl => $crl);

			$c->query('CREATE EXTENSION pg_tls', unix => 1);
			my $s = $c->session(unix => 1);
			my @times = alternate($rounds,
				sub {
					my $start = time;
					system("openssl crl -in '$crl' -noout -text > /dev/null") == 0 or die;
					return (time - $start) * 1000;
				},
				sub {
					my $start = time;
					$s->query('SELECT count(*) FROM pg_tls_crl_entries()') == 1_000_000 or die;
					return (time - $start) * 1000;
				});
			my $private = private_memory($s->pid) / 1024;
			my $size = (-s $crl) / 2**20;
			my $ratio = median(@{ $times[0] }) / median(@{ $times[1] });

			row($long ? 'serial numbers of 16 bytes, and reasons' : 'serial numbers of 7 bytes', (map { spread('%.0f', @$_) } @times), sprintf('%.1f', $ratio), sprintf('%.0f', $size), sprintf('%.1f', $private));
			check_budget('all entries of a CRL of 1,000,000, ' . ($long ? 'with reasons' : 'without reasons') . ': times faster than openssl crl -text', $ratio, 'at least', 5, '%.1f');
			$s->close;
			$c->stop;
		}
	},

	reload => sub {
		table('Reload, CPU time of the postmaster: milliseconds', 'CRL entries', 'CRL', 'without pg_tls', 'with', 'ratio', 'and crl_signature_cache', 'ratio');
		foreach my $entries (0, 1_000_000)
		{
			my @crls = map { $pki->large_crl('root', $entries, out => "$dir/large$_.crl") } $entries ? (0, 1) : ();
			my $n = $entries ? 1 : 40;
			my @servers = (
				server('without', preload => '', crl => $crls[0]),
				server('with', crl => $crls[0]),
				server('cache', crl => $crls[0], conf => { 'pg_tls.crl_signature_cache' => 'on' }));

			# Most reloads find the CRL that they know; but it is there to be renewed.
			foreach my $renewed ($entries ? (0, 1) : 0)
			{
				my @loaded = (0) x @servers;
				my @reloads = map {
					my $k = $_;
					my $c = $servers[$k];
					sub {
						if ($renewed)
						{
							$loaded[$k] = 1 - $loaded[$k];
							spew($c->tls('crl.pem'), slurp($crls[ $loaded[$k] ]));
						}
						my $before = cpu_time($c->pid);
						foreach (1 .. $n)
						{
							my $mark = $c->log_mark;

							$c->reload;
							$c->wait_for_log(qr/received SIGHUP/, $mark);
						}
						# the load follows; whoever connects waits for it
						$c->query('SELECT 1', unix => 1);
						return (cpu_time($c->pid) - $before) / $n;
					}
				} 0 .. $#servers;

				# at first, pages that children share are copied
				alternate(2, @reloads);
				my @times = alternate($rounds, @reloads);
				my ($without, $with, $cache) = map { median(@$_) } @times;
				my $what = $entries ? "CRL of $entries entries, " . ($renewed ? 'renewed' : 'the same') : 'no CRL';

				row($entries, $renewed ? 'renewed' : $entries ? 'the same' : 'none', spread('%.2f', @{ $times[0] }), spread('%.2f', @{ $times[1] }),
					sprintf('%.2f', $with / $without), spread('%.2f', @{ $times[2] }), sprintf('%.2f', $cache / $without));
				check_budget("reload in the postmaster, $what: CPU time against without pg_tls",
					$with / $without, 'at most', $entries ? 1.35 : 1.05);
			}
			$_->stop for @servers;
		}
	},

	memory => sub {
		table('Shared memory, and reading the view with no session but the reader: milliseconds', 'max_connections', 'possible backends',
			'pg_tls without the chains, kB', 'KiB each', 'pg_stat_ssl', 'pg_stat_tls', 'connection, no certificate');
		foreach my $n (100, 1000, 10_000)
		{
			my $c = server('memory', conf => { max_connections => $n });

			$c->query('CREATE EXTENSION pg_tls', unix => 1);
			my ($bytes, $backends) = split /\|/, $c->query(q{
				SELECT sum(allocated_size), (SELECT sum(setting::int) + 1 FROM pg_settings
					WHERE name IN ('max_connections', 'autovacuum_max_workers', 'max_worker_processes', 'max_wal_senders'))
				FROM pg_shmem_allocations WHERE name LIKE 'pg_tls%' AND name <> 'pg_tls chains'}, unix => 1);
			my $fixed = $c->query(q{SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'pg_tls%' AND name NOT IN ('pg_tls chains', 'pg_tls sessions')}, unix => 1);

			my @times = view_times($c, 1);
			my ($connection) = connection_times(0, 50, $rounds, $c);

			row($n, $backends, sprintf('%.0f', $bytes / 1024), sprintf('%.2f, of which %.2f for its session', $bytes / 1024 / $backends, ($bytes - $fixed) / 1024 / $backends),
				(map { spread('%.2f', @$_) } @times), spread('%.1f', @$connection));
			check_budget("shared memory for each possible backend, max_connections = $n, tables of fixed size apart, KiB", ($bytes - $fixed) / 1024 / $backends, 'at most', 6)
			  if $n != 1000;
			$c->stop;
		}
	});

my ($cpu) = slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)/m;
chomp(my $openssl = `openssl version`);
say_line(sprintf "%s, %d processors; %s; %s; %d rounds, medians (least to most)\n",
	$cpu // 'unknown processor', scalar(() = slurp('/proc/cpuinfo') =~ /^processor\s*:/mg), TlsCluster->pg_config('version'), $openssl, $rounds);
foreach my $part (@parts)
{
	$part{$part}->();
	say_line('');
}
if (@summary)
{
	table('Against the budgets', 'what', 'measured', 'budget', '');
	row(@$_) for @summary;
}
spew($output, $report) if $output;

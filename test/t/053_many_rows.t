# A hundred thousand failures, clients and certificates: to read, save and load them
# takes memory for one, whoever does it can be cancelled, and others may connect
# meanwhile.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp);

plan skip_all => 'PG_TLS_SRC does not name the sources' unless defined $ENV{PG_TLS_SRC};

my $N = 100_000;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $c = TlsCluster->new(
	ssl => 1, pki => $pki,
	conf => {
		'pg_tls.failure_log_size' => $N, 'pg_tls.max_clients' => $N, 'pg_tls.max_certificates' => $N,
		log_temp_files => 0 });
my $file = $c->datadir . '/pg_stat_tmp/pg_tls.stat';
my $out = `cc -Wall -Wextra -Werror -O2 -o $dir/multiply $ENV{PG_TLS_SRC}/test/lib/multiply.c 2>&1`;

is($?, 0, 'the helper is built') or BAIL_OUT($out);

# What a process has allocated so far, in kB; memory that it shares with others
# counts once, before it does anything.
sub peak { return slurp("/proc/$_[0]/status") =~ /^VmPeak:\s*(\d+)/m ? $1 : die "no VmPeak of $_[0]" }
sub monitor { return $c->query('SELECT monitor_pid FROM pg_tls_status', unix => 1) }

# None of the tables has less than 20 MB of rows.
my $limit = 12 * 1024;
my @views = qw(pg_stat_tls_failures pg_stat_tls_clients pg_stat_tls_client_certificates);
my %order = (
	pg_stat_tls_failures => 'failed_at', pg_stat_tls_clients => 'last_seen_at', pg_stat_tls_client_certificates => 'last_seen_at');

$c->start;
$c->query('CREATE EXTENSION pg_tls', unix => 1);
$c->query('SELECT 1', host => '127.0.0.1', cert => 'alice');
$c->psql('SELECT 1', host => '127.0.0.1', cert => 'revoked');
$c->stop;
$out = `$dir/multiply $file $file.many $N 2>&1`;
is($?, 0, 'the file is multiplied') or diag $out;
rename "$file.many", $file or die "$file: $!";
$c->start;
ok($c->poll_query("SELECT count(*) FROM $_", $N, unix => 1), "$_: $N rows") foreach @views;

my $m = monitor();
my $plain = $c->session(unix => 1);
my $empty = peak($plain->pid);

cmp_ok(peak($m) - $empty, '<', $limit, 'loading takes little memory');

foreach my $view (@views)
{
	my $s = $c->session(unix => 1);

	$s->query("SET work_mem = '64kB'");
	$s->query("SELECT count(*) FROM $view LIMIT 0");
	my $before = peak($s->pid);
	is($s->query("SELECT count(*) FROM $view"), $N, "$view: all rows");
	cmp_ok(peak($s->pid) - $before, '<', $limit, "$view: with little memory");
	is($s->query("SELECT count(DISTINCT r) FROM (SELECT $order{$view} = max($order{$view}) OVER () AS r FROM $view LIMIT 1) s WHERE r"),
		1, "$view: the latest comes first");

	# Rows go to a temporary file, whose size the log tells: how far it came.
	my $size = sub {
		my ($mark) = @_;

		$s->query('SELECT 1');
		return $c->log_since($mark) =~ /temporary file: path .*, size (\d+)/ ? $1 : 0;
	};
	my $mark = $c->log_mark;

	$s->query("SELECT count(*) FROM $view");
	my $full = $size->($mark);
	cmp_ok($full, '>', 1_000_000, "$view: they are in a temporary file");

	my $part = 0;
	for (my $timeout = 2; !$part; $timeout *= 1.3)
	{
		my $ms = int $timeout;

		$mark = $c->log_mark;
		my (undef, undef, $err) = $s->try_query("SET statement_timeout = $ms; SELECT count(*) FROM $view");
		$s->query('SET statement_timeout = 0');
		last if $err !~ /canceling statement due to statement timeout/;
		$part = $size->($mark);
	}
	cmp_ok($part, '>', 0, "$view: cancelled in the middle");
	cmp_ok($part, '<', 0.9 * $full, "$view: ... at once");
}

# Each new one takes the place of another, perhaps of one that was read already.
subtest 'while others connect' => sub {
	my $s = $c->session(unix => 1, timeout => 600);

	foreach my $name (qw(bob carol longdn))
	{
		$s->send('SELECT count(*), count(DISTINCT (fingerprint, usename)) FROM pg_stat_tls_client_certificates');
		is($c->query('SELECT 1', host => '127.0.0.1', cert => $name), 1, "$name connects");
		my ($all, $different) = split /\|/, ($s->wait)[1];
		is($different, $all, '... and no row comes twice');
		cmp_ok($all, '>=', $N - 1, '... nor is missing, but for the oldest');
		cmp_ok($all, '<=', $N, '... nor added');
	}
};

subtest 'saving' => sub {
	my $written = sub { return join ' ', (stat $file)[1, 9] };
	my $old = $written->();
	my $fingerprint = lc($pki->show('utf8', '-fingerprint', '-sha256') =~ s/.*=|[:\n]//gr);
	my $size = slurp("/proc/$m/status") =~ /^VmSize:\s*(\d+)/m ? $1 : die 'no VmSize';

	$c->query('SELECT 1', host => '127.0.0.1', cert => 'utf8');
	is(monitor(), $m, 'the monitor lives');
	is(system('prlimit', '--pid', $m, '--as=' . 1024 * ($size + $limit)), 0, 'it can have little memory');
	kill 'TERM', $m;    # it saves at its end
	ok($c->poll_query("SELECT monitor_pid <> $m FROM pg_tls_status", 't', unix => 1), 'it ends, and comes back');
	isnt($written->(), $old, 'the file is written');
	unlike($c->log_text, qr/out of memory|invalid memory alloc/, 'with the memory that there is');
	$c->stop('immediate');
	$c->start;
	ok($c->poll_query("SELECT count(*) FROM pg_stat_tls_client_certificates WHERE fingerprint = '$fingerprint'", '1', unix => 1),
		'what was seen last is kept');
	ok($c->poll_query("SELECT count(*) FROM $_", $N, unix => 1), "$_: $N rows") foreach @views;
};

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

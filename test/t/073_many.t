# Thousands of CAs and CRLs: memory of the workers, and lines in the log.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use IPC::Run ();
use POSIX ();
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $N = 2000;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root', not_after => 800 * $DAY);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], not_after => 800 * $DAY);
$pki->crl('root', next_update => 800 * $DAY);

# How much memory a process has, in kB, as RLIMIT_DATA counts it.
sub data_kb { return slurp("/proc/$_[0]/status") =~ /^VmData:\s*(\d+)/m ? $1 : undef }

# Seconds of the processor that the server's processes used, of those that have ended.
sub cpu
{
	my ($c) = @_;
	my @stat = split ' ', slurp('/proc/' . $c->pid . '/stat') =~ s/^.*\) //r;

	return ($stat[13] + $stat[14]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# From here on the server's new processes have so much more than it has itself.
sub limit_memory
{
	my ($c, $kb) = @_;
	my $bytes = $kb ? 1024 * (data_kb($c->pid) + $kb) : 'unlimited';

	return IPC::Run::run([ 'prlimit', '--pid', $c->pid, "--data=$bytes:" ], '2>', \my $err);
}

sub memory_for_each
{
	my @many = $pki->many_cas($N, not_after => 800 * $DAY, next_update => 800 * $DAY);

	spew("$dir/many.crt", slurp($pki->crt('root')), map { $_->{crt} } @many);
	spew("$dir/many.crl", slurp($pki->crl_path('root')), map { $_->{crl} } @many);

	# a CRL by another's key, and a CA without any
	my ($stranger) = TlsPKI->new("$dir/other")->many_cas(1, next_update => 800 * $DAY);
	my ($bare) = $pki->many_cas(1, subject => 'bare', not_after => 800 * $DAY);

	spew("$dir/many.crt", slurp("$dir/many.crt"), $bare->{crt});
	spew("$dir/many.crl", slurp("$dir/many.crl") =~ s/\Q$many[0]{crl}\E/$stranger->{crl}/r);

	my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/many.crt", crl => "$dir/many.crl",
		conf => { 'pg_tls.watch_files' => 'off' });

	$c->start;
	my $s = $c->session(unix => 1, timeout => 300);
	$s->query('CREATE EXTENSION pg_tls');

	limit_memory($c, 64 * 1024) or plan skip_all => 'no prlimit';
	is($s->query(q{SELECT status, count(*) FROM pg_tls_crls GROUP BY 1 ORDER BY 1}),
		"bad_signature|1\ncurrent|$N", 'CRLs');
	is($s->query(q{SELECT coalesce(has_crl::text, 'null'), count(*) FROM pg_tls_certificates GROUP BY 1 ORDER BY 1}),
		'false|1
null|1
true|' . ($N + 1), 'CAs');
	is($s->query(q{SELECT state, count(*) FROM pg_tls_files GROUP BY 1 ORDER BY 1}), "current|4\nunset|2", 'files');
	is($s->query(q{SELECT code, object FROM pg_tls_findings WHERE code LIKE 'c%crl%' OR code LIKE 'crl%'}) =~ tr/\n/ /r,
		'ca_without_crl|/CN=bare 00001 crl_bad_signature|/CN=many 00001', 'findings');
	is($s->query(q{SELECT ok, cardinality(warnings) FROM pg_tls_check()}), 't|1', 'a dry run');
	is($s->query('SELECT count(*) FROM pg_tls_crl_entries()'), 0, 'entries');
	is($s->query('SELECT count(*) FROM pg_tls_check_sessions()'), 0, 'sessions');

	# One that is far too small, to see that it is heeded
	limit_memory($c, 1);
	like(($s->try_query('SELECT count(*) FROM pg_tls_crls'))[2], qr{ERROR: }, 'a limit is heeded');
	limit_memory($c, 0);
	$c->stop;
	return;
}

# All CRLs of one issuer, which OpenSSL counts.
sub time_for_each
{
	my $n = 3000;
	my ($one) = $pki->many_cas(1, not_after => 800 * $DAY);

	spew("$dir/one.crt", slurp($pki->crt('root')), $one->{crt});

	my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/one.crt", crl => undef,
		conf => { ssl_crl_dir => 'tls/crls.d', 'pg_tls.watch_files' => 'off' });
	my $prefix = $c->tls('crls.d/') . $one->{crl_name} =~ s/0\z//r;

	make_path($c->tls('crls.d'));
	for my $i (0 .. $n - 1) { spew("$prefix$i", $one->{crl}) }
	spew($c->tls("crls.d/copy$_"), $one->{crl}) for 1 .. 3;
	$c->start;
	my $s = $c->session(unix => 1, timeout => 300);
	$s->query('CREATE EXTENSION pg_tls');

	my $before = cpu($c);
	is($s->query(q{SELECT status, state, count(*) FROM pg_tls_crls GROUP BY 1, 2}), "current|on demand|$n", 'one name');
	my $used = cpu($c) - $before;

	cmp_ok($used, '<', 10, 'each is looked at once');
	note "$used seconds";
	unlink "${prefix}1000";
	is($s->query(q{SELECT status, state, count(*) FROM pg_tls_crls GROUP BY 1, 2}),
		"current|on demand|" . ($n - 1), 'one that is missing, the same CRL before');
	$c->stop;
	return;
}

my $changed = qr/TLS files have changed, and the server still uses what it has loaded/;

# The warnings in the log since the mark.
sub warnings_since
{
	my ($c, $mark) = @_;

	return [ $c->log_since($mark) =~ /WARNING: +(CA certificate "\/CN=.*)\n/g ];
}

# Have the server load these CAs, and wait until the watch has looked at the ends.  It
# looks before it compares what changes later.
my $fences = 0;

sub load_cas
{
	my ($c, $s, @pem) = @_;
	my $mark = $c->log_mark;

	spew($c->tls('new.crt'), slurp($pki->crt('root')), @pem);
	rename $c->tls('new.crt'), $c->tls('ca.crt');
	is($s->query('SELECT (pg_tls_reload()).ok'), 't', 'reload');
	my ($fence) = $pki->many_cas(1, subject => 'fence ' . ++$fences, not_after => 800 * $DAY);

	spew($c->tls('new.crt'), slurp($pki->crt('root')), $fence->{crt});
	rename $c->tls('new.crt'), $c->tls('ca.crt');
	ok($c->wait_for_log($changed, $mark), 'the watch has looked');
	return;
}

sub lines_in_the_log
{
	my @soon = map { $_->{crt} } $pki->many_cas(300, subject => 'soon', not_after => 20 * $DAY);
	my @later = map { $_->{crt} } $pki->many_cas(30, subject => 'later', not_after => 10 * $DAY);
	my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => $pki->crt('root'), crl => undef,
		conf => { 'pg_tls.watch_interval' => '100ms' });
	my $mark = 0;

	$c->start;
	my $s = $c->session(unix => 1, timeout => 120);
	$s->query('CREATE EXTENSION pg_tls');

	load_cas($c, $s, @soon[ 0 .. 2 ]);
	# in the order that OpenSSL has them in
	is_deeply([ sort map { s/ ends at.*//r } @{ warnings_since($c, 0) } ],
		[ map { qq{CA certificate "/CN=soon 0000$_"} } 1 .. 3 ], 'a few: a line each');
	load_cas($c, $s, @soon[ 0 .. 3 ]);
	is(scalar @{ warnings_since($c, 0) }, 4, 'one more: a line more');
	load_cas($c, $s, @soon);
	my $told = warnings_since($c, 0);

	is(scalar @$told, 11, 'many: ten lines, and one more');
	like($told->[10], qr/^CA certificate "\/CN=soon \d{5}" ends at [0-9: +-]+ \(and 289 more\)$/, 'which counts the others');
	like($c->log_text, qr/\(and 289 more\)\n.*HINT: +The view pg_tls_findings shows all of them/, 'and says where to look');
	is($s->query(q{SELECT count(*) FROM pg_tls_findings WHERE code = 'ca_expiring'}), 300, 'and there they are');

	load_cas($c, $s, $_) for join('', @soon), join('', reverse @soon), join '', @soon[ 5 .. 299 ];
	is(scalar @{ warnings_since($c, 0) }, 11, 'nothing is repeated after a reload');
	load_cas($c, $s, @soon, $_) for @later[ 0 .. 2 ];
	is(scalar @{ warnings_since($c, 0) }, 11, 'and others wait for an hour');
	$c->stop;
	return;
}

# The same with hours of a second.
sub lines_in_a_day
{
	my @soon = map { $_->{crt} } $pki->many_cas(300, subject => 'soon', not_after => 20 * $DAY);
	my @later = map { $_->{crt} } $pki->many_cas(300, subject => 'later', not_after => 10 * $DAY);
	my $variant = TlsBuild->new("$dir/hours", 'short_hours');
	my $c = TlsCluster->new(name => 'hours', preload => $variant->library, ssl => 1, pki => $pki,
		ca => $pki->crt('root'), crl => undef, conf => { 'pg_tls.watch_interval' => '100ms', 'pg_tls.watch_files' => 'off' });
	# each day has one line for nearly all, after ten
	my $nearly_all = qr/\(and 2\d\d more\)$/;
	my $days = sub { scalar grep { $_ =~ $nearly_all } @{ warnings_since($c, 0) } };
	my $n = 0;

	$c->start;
	my $s = $c->session(unix => 1, timeout => 120);
	$variant->create($c);
	spew($c->tls('ca.crt'), slurp($pki->crt('root')), @soon);
	$s->query('SELECT pg_tls_reload()');
	ok($c->wait_for_log(qr/\(and 289 more\)/), 'the first day begins');

	# other names in every reload
	ok($c->poll_until(sub {
		spew($c->tls('ca.crt'), slurp($pki->crt('root')), @soon, $later[ $n++ % 300 ]);
		$s->query('SELECT pg_tls_reload()');
		return $days->() >= 3 && $n >= 40;
	}, timeout => 180), 'many reloads, and a third day');

	my @lines = @{ warnings_since($c, 0) };
	my @begins = map { $_ - 10 } grep { $lines[$_] =~ $nearly_all } 0 .. $#lines;

	for my $day (0, 1)
	{
		my @told = @lines[ $begins[$day] .. $begins[ $day + 1 ] - 1 ];

		cmp_ok(scalar @told, '<=', 10 + 29, 'lines of a day');
		like($told[10], qr/\(and \d+ more\)$/, 'the eleventh counts the others');
		cmp_ok(scalar(grep { /later/ } @told), '>=', 2, 'news are told on the same day');
		unlike(join("\n", @told[ 11 .. $#told ]), qr/soon/, 'and nothing twice');
	}
	$c->stop;
	return;
}

SKIP: {
	skip 'no /proc', 1 if !-e "/proc/$$/status";
	subtest 'memory for each' => \&memory_for_each;
}
SKIP: {
	skip 'no /proc, or no ssl_crl_dir', 1 if !-e "/proc/$$/stat" || TlsCluster->pg_version < 14;
	subtest 'time for each' => \&time_for_each;
}
subtest 'lines in the log' => \&lines_in_the_log;
SKIP: {
	skip 'no sources', 1 if !TlsBuild->available;
	subtest 'lines in a day' => \&lines_in_a_day;
}

done_testing();

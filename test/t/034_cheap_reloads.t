# Reloads that leave out what has been done before: large CRLs that have not
# changed, the server's chain, and workers where there is nothing to do.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $N = 60_000;    # from 50,000 on a CRL is large
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root', subject => '/CN=root');
$pki->ca('twin', subject => '/CN=root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert($_, issuer => 'root') for qw(alice bob);
$pki->cert('carol', issuer => 'twin');
$pki->revoke('bob');
my $first = $pki->large_crl('root', $N, out => "$dir/first.crl");
$pki->revoke('alice');
my $second = $pki->large_crl('root', $N, out => "$dir/second.crl");

my ($c, $admin);

sub start
{
	my ($name, %opts) = @_;

	$c->stop if $c;
	$c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, crl => $first, %opts);
	$c->start;
	$c->query('CREATE EXTENSION pg_tls', unix => 1);
	$admin = $c->session(unix => 1);
	return;
}

sub load { return $admin->query('SELECT ok FROM pg_tls_reload()') }

# Overwritten, as the file of another owner.
sub configure
{
	my ($file, $from) = @_;

	spew($c->tls($file), slurp($from));
	return load();
}

# Who gets in: alice bob carol.
sub let_in { return join ' ', map { ($c->psql('SELECT 1', cert => $_, sslmode => 'require'))[0] == 0 ? 1 : 0 } qw(alice bob carol) }

foreach my $cache ('off', 'on')
{
	subtest "a large CRL, crl_signature_cache $cache" => sub {
		my $signatures = sub { return $c->query('SELECT crl_signatures FROM pg_tls_status', unix => 1) };
		my $good = $cache eq 'on' ? 1 : 0;

		start("crl_$cache", conf => { 'pg_tls.crl_signature_cache' => $cache });
		is(let_in(), '1 0 0', 'at the start');
		my $alice = $c->session(cert => 'alice');
		my $judged = "SELECT acceptable FROM pg_stat_tls WHERE pid = " . $alice->pid;
		foreach my $n (1 .. 3)
		{
			is(load(), 't', 'the same again');
			is(let_in(), '1 0 0', '... changes nothing');
			is($signatures->(), $good, '... its signature is known');
		}
		is(configure('crl.pem', $second), 't', 'another');
		is(let_in(), '0 0 0', '... is in force');
		ok($c->poll_query($judged, 'f', unix => 1), '... for sessions, too');
		is($signatures->(), $good, '... and verified');
		is(load(), 't', 'that again');
		is(let_in(), '0 0 0', '... changes nothing');
		is(configure('crl.pem', $first), 't', 'the first again');
		is(let_in(), '1 0 0', '... is in force');
		ok($c->poll_query($judged, 't', unix => 1), '... for sessions, too');

		# The same name, another key: the CRL is not signed by it.
		is(configure('ca.crt', $pki->crt('twin')), 't', 'a CA of the same name');
		is(let_in(), '0 0 0', 'whose certificates the CRL does not fit');
		is($signatures->(), 0, '... and its signature is not taken as good');
		is(configure('ca.crt', $pki->crt('root')), 't', 'the CA again');
		is(let_in(), '1 0 0', '... which it does fit');
		is($signatures->(), $good, '... and its signature is known');

		spew($c->tls('server.crt'), "broken\n");
		is($admin->query('SELECT ok FROM pg_tls_check()'), 'f', 'a file that cannot be loaded');
		$c->reload;
		ok($c->poll_query('SELECT last_attempt_ok FROM pg_tls_status', 'f', unix => 1), '... is refused');
		is(let_in(), '1 0 0', 'the CRL is as before');
		is(configure('server.crt', $pki->crt('server')), 't', 'mended');
		is(let_in(), '1 0 0', '... and again');

		$c->set_conf({ 'pg_tls.prepare_context' => 'off' });
		is(load(), 't', 'without prepare_context');
		is(let_in(), '1 0 0', '... the same');
		$c->set_conf({ 'pg_tls.prepare_context' => undef });
		is(load(), 't', 'with it again');
		is(let_in(), '1 0 0', '... the same');
		$alice->close;
	};
}

subtest 'memory' => sub {
	my $before = $c->memory_kb($c->pid);

	load() for 1 .. 5;
	configure('crl.pem', $_ % 2 ? $second : $first) for 1 .. 5;
	cmp_ok($c->memory_kb($c->pid), '<', $before * 1.5, 'not more with each load');
	$c->set_conf({ ssl => 'off' });
	$c->reload;
	ok($c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1), 'without TLS');
	$c->set_conf({ ssl => 'on' });
	$c->reload;
	ok($c->poll_query('SELECT active FROM pg_tls_status', 't', unix => 1), 'and with it again');
	is(let_in(), '0 0 0', '... the CRL is loaded');
	cmp_ok($c->memory_kb($c->pid), '<', $before * 1.5, '... where it was');
};

subtest 'the chain' => sub {
	$pki->ca('int', issuer => 'root', subject => '/CN=int');
	$pki->ca('other', issuer => 'root', subject => '/CN=int');
	$pki->cert('below', issuer => 'int', kind => 'server', san => ['DNS:localhost']);
	$pki->cert('another', issuer => 'other', kind => 'server', san => ['DNS:localhost']);
	start('chain', crl => undef);
	my %name = map {
		my ($base64) = slurp($pki->crt($_)) =~ /-----BEGIN CERTIFICATE-----(.*?)-----END/s;
		($base64 =~ s/\s//gr => $_);
	} qw(root int other below another);
	my $use = sub {
		my ($cert, @cas) = @_;

		$pki->bundle("$dir/cas", @cas);
		spew($c->tls('ca.crt'), slurp("$dir/cas"));
		spew($c->tls('server.crt'), slurp($pki->crt($cert)));
		spew($c->tls('server.key'), slurp($pki->key($cert)));
		is(load(), 't', "$cert, with @cas");
		my $out = $c->s_client(extra => ['-showcerts']);

		return join ' ', map { $name{ s/\s//gr } // 'unknown' } $out =~ /-----BEGIN CERTIFICATE-----(.*?)-----END/sg;
	};

	is($use->('below', 'root', 'int'), 'below int root', 'is sent');
	is($use->('below', 'root', 'int'), 'below int root', '... after another load of the same');
	is($use->('another', 'root', 'other'), 'another other root', 'another certificate, another issuer');
	is($use->('another', 'root', 'int'), 'another', '... or one of the same name that is none');
	is($use->('below', 'root', 'int'), 'below int root', 'the first again');
};

# What DEBUG1 tells of workers that are started.
subtest 'workers' => sub {
	start('workers', crl => undef, conf => { log_min_messages => 'debug1', 'pg_tls.watch_interval' => '300ms' });
	my $started = sub {
		my ($mark) = @_;
		my $log = $c->log_since($mark);
		my %n;

		$n{$1}++ while $log =~ /starting background worker process "pg_tls (\w+)"/g;
		return join ' ', map { "$_ $n{$_}" } sort keys %n;
	};
	my $at_work = sub {
		my %children = $c->children;

		return grep { /pg_tls (?:watch|verifier)/ } values %children;
	};

	# the looks at the start: for ends, for files
	ok($c->poll_until(sub { $started->(0) =~ /watch [2-9]/ && !$at_work->() }), 'the looks at the start are over');
	my $mark = $c->log_mark;
	foreach my $n (1 .. 5)
	{
		$c->reload;
		ok($c->poll_query('SELECT generation FROM pg_tls_status', 1 + $n, unix => 1), 'a reload');
	}
	# The monitor does one thing after the other: what it starts now tells that
	# the reloads before, where nobody is to be judged and nothing has changed,
	# had none started.
	my $alice = $c->session(cert => 'alice');
	ok($c->poll_until(sub { $started->($mark) && !$at_work->() }), 'a session that comes later');
	is($started->($mark), 'verifier 1', '... has one started, for the store it was accepted by');

	$c->reload;
	ok($c->poll_query('SELECT verdicts_pending, generation FROM pg_tls_status', '0|7', unix => 1), 'a reload while it is there');
	ok($c->poll_until(sub { $started->($mark) ne 'verifier 1' && !$at_work->() }), '... has it judged');
	is($started->($mark), 'verifier 2', '... once');

	$c->set_conf({ 'pg_tls.expiry_warning' => '4000d' });
	$c->reload;
	ok($c->poll_until(sub { $started->($mark) =~ /verifier [3-9] watch/ && !$at_work->() }),
		'another setting for warnings has them looked for');
	is($started->($mark), 'verifier 3 watch 1', '... once');
	$alice->close;

	$mark = $c->log_mark;
	spew($c->tls('server.crt'), slurp($pki->crt('server')) . "# changed\n");
	$c->reload;
	ok($c->poll_until(sub { $started->($mark) =~ /watch/ }), 'and so do files that have changed');
};

$c->stop;
done_testing;

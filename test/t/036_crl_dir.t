# ssl_crl_dir, which the server reads at each connection: whatever happens in it,
# the view comes to say what a reconnect meets, and nobody is ended for a file
# that somebody is about to write.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'ssl_crl_dir came with PostgreSQL 14' if TlsCluster->pg_version < 14;
plan skip_all => 'OpenSSL 1.1.1 cannot make such CRLs' if `openssl version` =~ /^OpenSSL 1\./;
plan skip_all => 'root may read any file' if $> == 0;

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);

$pki->ca($_, @years) for qw(root other third);
$pki->ca('int', issuer => 'root', @years);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('good', issuer => 'root', @years);
$pki->cert('deep', issuer => 'int', @years);
$pki->cert('stranger', issuer => 'other', @years);
my %hash;
foreach my $ca (qw(root int other third))
{
	chomp($hash{$ca} = `openssl x509 -noout -hash -in @{[ $pki->crt($ca) ]}`);
}

my ($c, $admin, $crls);

sub crl
{
	my ($ca, @opts) = @_;

	return slurp($pki->crl($ca, out => "$dir/one.crl", next_update => 100 * $DAY, @opts));
}
my %empty = map { $_ => crl($_) } qw(root int other third);
my %revoked = (root => crl('root', revoked => ['good']), int => crl('int', revoked => ['deep']));

sub start
{
	my ($name, $variant, %o) = @_;

	$c->stop if $c;
	$o{preload} = $variant->library if $variant;
	$c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => undef, %o,
		conf => { 'pg_tls.watch_interval' => '200ms', log_min_messages => 'debug1', %{ $o{conf} // {} } });
	$crls = $c->datadir . '/crls';
	make_path($crls, "$crls.b");
	spew("$crls/$hash{$_}.r0", $empty{$_}) for qw(root int third);
	$c->set_conf({ ssl_crl_dir => 'crls' });
	$c->start;
	$admin = $c->session(unix => 1, timeout => 90);
	$variant ? $variant->create($c) : $admin->query('CREATE EXTENSION pg_tls');
	return;
}

sub acceptable
{
	my ($s) = @_;

	return $admin->query('SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $s->pid);
}

sub let_in
{
	my (%conn) = @_;

	return ($c->psql('SELECT 1', %conn))[0] ? 'f' : 't';
}

# A reconnect meets that, and the view comes to say it.
sub agrees
{
	my ($s, $expected, $what, %conn) = @_;
	my $last = '';
	my $met = '';

	ok($c->poll_until(sub { ($met = let_in(%conn)) eq $expected }, what => $what), "$what: a reconnect");
	ok($c->poll_until(sub { ($last = acceptable($s)) eq $expected }, what => $what, timeout => 60), "$what: the view says $expected") or diag "view: $last";
	is(let_in(%conn), $expected, "$what: a reconnect still");
	return;
}

sub replace
{
	my ($file, @text) = @_;

	spew("$dir/new", @text);
	system('cp', "$dir/new", "$file.new") == 0 or die;
	rename "$file.new", $file or die "$file: $!";
	return;
}

my @deep = (cert => 'deep');
my @good = (cert => 'good');

spew("$dir/ca.pem", slurp($pki->crt('root')), slurp($pki->crt('third')));
# One that is not as patient, so that the table takes less time; and one that is
# slow, and so patient that it waits for whatever the test does.
my ($quick, $slow);
if (TlsBuild->available)
{
	$quick = TlsBuild->new("$dir/quick", REFUSAL_TIME => 1000000, UNLISTED_INTERVAL => 2000000);
	$slow = TlsBuild->new("$dir/slow", 'slow_judge', REFUSAL_TIME => 300000000);
}
start('table', $quick);

subtest 'the clock' => sub {
	# The session is there before the file, and comes after it.
	foreach my $order ('before', 'after')
	{
		my $s = $c->session(@good) if $order eq 'before';

		spew("$crls/$hash{root}.r1", crl('root', revoked => ['good'], last_update => 6));
		$s //= $c->session(@good);
		agrees($s, 't', "a CRL that begins later, $order", @good);
		agrees($s, 'f', "... and begins, $order", @good);
		unlink "$crls/$hash{root}.r1" or die;
		agrees($s, 't', "... and is gone, $order", @good);
	}

	my $s = $c->session(@good);
	spew("$crls/$hash{root}.r1", crl('root', revoked => ['good'], last_update => -60, next_update => 25));
	agrees($s, 'f', 'a newer CRL that ends', @good);
	agrees($s, 't', '... and ends', @good);
	unlink "$crls/$hash{root}.r1" or die;
};

subtest 'a pass over others does not forget it' => sub {
	my $s = $c->session(@good);

	$pki->cert('brief', issuer => 'third', not_after => 12);
	my $brief = $c->session(cert => 'brief');

	spew("$crls/$hash{root}.r1", crl('root', revoked => ['good'], last_update => 14));
	agrees($s, 't', 'before', @good);
	ok($c->poll_query('SELECT checked_at > valid_until OR NOT acceptable FROM pg_stat_tls WHERE pid = ' . $brief->pid, 't', unix => 1), 'the brief one is judged');
	agrees($s, 'f', 'after', @good);
	unlink "$crls/$hash{root}.r1" or die;
	agrees($s, 't', 'again', @good);
};

subtest 'rights' => sub {
	my $s = $c->session(@good);
	my $file = "$crls/$hash{root}.r0";
	my @changes = (
		[ 'an unreadable CRL', 'f', sub { chmod 0, $file } ],
		[ 'a readable one', 't', sub { chmod 0600, $file } ],
		[ 'a directory that cannot be searched', 'f', sub { chmod 0600, $crls } ],
		[ 'one that can', 't', sub { chmod 0700, $crls } ],
		[ 'no directory', 'f', sub { rename $crls, "$crls.away" } ],
		[ 'a directory', 't', sub { rename "$crls.away", $crls } ],
		[ 'a link to nothing', 'f', sub { rename $file, "$crls/kept"; symlink 'nothing', $file } ],
		[ 'a link to something', 't', sub { rename "$crls/kept", "$crls/nothing" } ],
		[ 'a file again', 't', sub { rename "$crls/nothing", $file } ]);

	foreach my $change (@changes)
	{
		my ($what, $expected, $code) = @$change;

		$code->() or die "$what: $!";
		agrees($s, $expected, $what, @good);
	}
};

subtest 'size and mtime as before' => sub {
	my $s = $c->session(@good);
	my $file = "$crls/$hash{root}.r0";
	my $other = crl('root', revoked => ['deep']);

	for (1 .. 20)
	{
		last if length $other == length $revoked{root};
		$other = crl('root', revoked => ['deep']);
		$revoked{root} = crl('root', revoked => ['good']);
	}
	is(length $other, length $revoked{root}, 'two CRLs of one size');
	spew($file, $other);
	utime 1_000_000_000, 1_000_000_000, $file;
	agrees($s, 't', 'one', @good);
	spew($file, $revoked{root});
	utime 1_000_000_000, 1_000_000_000, $file;
	agrees($s, 'f', 'the other', @good);
	replace($file, $empty{root});
	agrees($s, 't', 'again', @good);
};

subtest 'a directory that cannot be listed' => sub {
	my $s = $c->session(@good);
	my $file = "$crls/$hash{root}.r0";

	chmod 0311, $crls or die;
	agrees($s, 't', 'at first', @good);
	replace($file, $revoked{root});
	agrees($s, 'f', 'another file', @good);
	spew($file, $empty{root});
	agrees($s, 't', 'another contents', @good);
	chmod 0, $file;
	agrees($s, 'f', 'an unreadable file', @good);
	chmod 0600, $file;
	agrees($s, 't', 'a readable one', @good);
	chmod 0700, $crls or die;
};

subtest 'a CA that is there' => sub {
	my $file = "$crls/$hash{other}.0";

	spew($file, slurp($pki->crt('other')));
	spew("$crls/$hash{other}.r0", $empty{other});
	my @conn = (cert => 'stranger', sslcert => $pki->crt('stranger'));
	my $s = $c->session(@conn);

	agrees($s, 't', 'it is trusted', @conn);
	chmod 0, $file or die;
	agrees($s, 'f', 'it cannot be read', @conn);
	chmod 0600, $file or die;
	agrees($s, 't', 'it can', @conn);
	rename $file, "$file.away" or die;
	agrees($s, 'f', 'it is gone', @conn);
	unlink "$file.away", "$crls/$hash{other}.r0";
};

subtest 'a list' => sub {
	my $s = $c->session(@deep);
	my $files = q{SELECT path, state, problem FROM pg_tls_files WHERE setting = 'ssl_crl_dir'};
	my $data = $c->datadir;
	my $findings = sub { $admin->query(q{SELECT code, object FROM pg_tls_findings WHERE code ~ 'crl|file_problem|reload' AND object <> 'ssl_crl_file' ORDER BY 1, 2}) };
	my $warnings = sub { $admin->query(q{SELECT array_to_string(warnings, ' ') FROM pg_tls_check()}) };

	rename "$crls/$hash{int}.r0", "$crls.b/$hash{int}.r0" or die;
	$c->set_conf({ ssl_crl_dir => ':crls::crls.b:crls:' });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	agrees($s, 't', 'a CRL in the second', @deep);
	is($admin->query($files), "$data/crls:$data/crls.b|current|", 'pg_tls_files');
	is($admin->query(q{SELECT string_agg(path || ' ' || state || ' ' || status, ', ' ORDER BY path COLLATE "C") FROM pg_tls_crls}),
		join(', ', "$data/crls.b/$hash{int}.r0 on demand no_issuer", map { "$data/$_ on demand current" } sort map { "crls/$hash{$_}.r0" } qw(root third)), 'pg_tls_crls');
	is($findings->(), '', 'no findings');
	is($warnings->(), '', 'no warnings');

	spew("$crls.b/$hash{int}.r0", $revoked{int});
	agrees($s, 'f', 'another contents in the second', @deep);
	is($admin->query('SELECT count(*) FROM pg_tls_crl_entries()'), 1, 'its entry');

	# what the first directory has of an issuer hides the second
	spew("$crls/$hash{int}.r0", $empty{int});
	agrees($s, 't', 'a CRL in the first hides it', @deep);
	is($admin->query("SELECT status, problem FROM pg_tls_crls WHERE path LIKE '%crls.b/$hash{int}.r0'"),
		'misnamed|connections do not find it: what another directory of "ssl_crl_dir" has of this issuer hides it', 'which pg_tls_crls says');
	is($admin->query('SELECT count(*) FROM pg_tls_crl_entries()'), 0, '... and there are no entries of it');
	unlink "$crls/$hash{int}.r0";
	agrees($s, 'f', 'and no more', @deep);
	spew("$crls.b/$hash{int}.r0", $empty{int});
	agrees($s, 't', 'again', @deep);

	$c->set_conf({ ssl_crl_dir => 'crls:nowhere:crls.b' });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	agrees($s, 't', 'one of them is missing', @deep);
	like($admin->query($files), qr/\|current\|directory "\Q$data\E\/nowhere" does not exist/, 'which pg_tls_files says');
	like($findings->(), qr/^file_problem\|ssl_crl_dir$/, '... the findings, too');
	like($warnings->(), qr/^could not access directory "nowhere" of "ssl_crl_dir": No such file or directory$/, '... and pg_tls_check');
	$c->set_conf({ ssl_crl_dir => join ':', (map { 'nowhere' . ('x' x 90) . $_ } 1 .. 15), 'crls', 'crls.b' });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	spew("$crls.b/$hash{int}.r0", $revoked{int});
	agrees($s, 'f', 'at the end of a long list', @deep);
	spew("$crls.b/$hash{int}.r0", $empty{int});
	agrees($s, 't', '... and again', @deep);
	$c->set_conf({ ssl_crl_dir => ':' });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	agrees($s, 'f', 'a list of nothing', @deep);
	$c->set_conf({ ssl_crl_dir => 'crls' });
	rename "$crls.b/$hash{int}.r0", "$crls/$hash{int}.r0" or die;
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
};

subtest 'what stays is in force' => sub {
	my $s = $c->session(@good);
	my $pid = $s->pid;

	$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
	$c->reload;
	ok($c->poll_query('SHOW "pg_tls.invalid_sessions"', 'terminate', unix => 1), 'terminate');
	spew("$crls/$hash{root}.r0", $revoked{root});
	ok($c->poll_query("SELECT count(*) FROM pg_stat_tls WHERE pid = $pid", '0', unix => 1, timeout => 60), 'a CRL that revokes it ends it');
};

subtest 'copies one after the other' => sub {
	start('copies', undef, conf => { 'pg_tls.invalid_sessions' => 'terminate' });
	my @sessions = map { $c->session(@good) } 1 .. 3;
	my $file = "$crls/$hash{root}.r0";

	my $writer = fork // die;
	if ($writer == 0)
	{
		my $stop = 0;
		local $SIG{TERM} = sub { $stop = 1 };
		until ($stop)
		{
			spew($file, substr $empty{root}, 0, 200);
			select undef, undef, undef, rand 0.3;
			spew($file, $empty{root});
			select undef, undef, undef, rand 1.5;
		}
		require POSIX;
		POSIX::_exit(0);
	}
	my $mark = $c->log_mark;
	$c->poll_until(sub { (() = $c->log_since($mark) =~ /pg_tls judged [1-9]/g) >= 8 }, timeout => 60, what => 'eight looks');
	kill 'TERM', $writer;
	waitpid $writer, 0;
	is(scalar(grep { $_->alive } @sessions), 3, 'nobody was ended');
};

# Other files come and go all the time, and the CRL of another CA is renewed
# again and again: who is revoked is ended even so, also without a worker slot.
foreach my $slots (8, 2)
{
	subtest "a directory that never rests, max_worker_processes = $slots" => sub {
		start("restless$slots", undef, conf => { 'pg_tls.invalid_sessions' => 'terminate', max_worker_processes => $slots });
		my $victim = $c->session(@good);
		my $other = $c->session(@deep);
		my $writer = fork // die;

		if ($writer == 0)
		{
			my $stop = 0;
			local $SIG{TERM} = sub { $stop = 1 };
			for (my $n = 1; !$stop; $n++)
			{
				spew("$crls/new", $empty{third});
				$n % 10 ? unlink "$crls/new" : rename "$crls/new", "$crls/$hash{third}.r0";
				select undef, undef, undef, 0.15;
			}
			require POSIX;
			POSIX::_exit(0);
		}
		spew("$crls/root.new", $revoked{root});
		rename "$crls/root.new", "$crls/$hash{root}.r0" or die;
		ok($c->poll_until(sub { !$victim->alive }), 'the revoked one is ended');
		ok($other->alive, 'no other is');
		kill 'TERM', $writer;
		waitpid $writer, 0;
	};
}

# A writer that takes its time: nobody is ended, whose certificate is good.
my $held = qr/pg_tls waits before it refuses \d+ session/;

subtest 'half a file' => sub {
	start('half', $slow, conf => { 'pg_tls.invalid_sessions' => 'terminate' });
	my $file = "$crls/$hash{root}.r0";
	my $text = $empty{root};
	my $middle = length($text) / 2;
	my @ways = (
		[ 'half a file', sub { spew($file, substr $text, 0, $middle) } ],
		[ 'an empty file', sub { spew($file, '') } ],
		[ 'no file', sub { unlink $file } ],
		[ 'old and new bytes mixed', sub { spew($file, substr($text, 0, $middle), substr $revoked{root}, $middle) } ],
		[ 'an unreadable file', sub { chmod 0, $file } ],
		[ 'no directory', sub { rename $crls, "$crls.away" }, sub { rename "$crls.away", $crls } ],
		[ 'an older CRL alone', sub { spew($file, crl('root', revoked => ['good'], last_update => -5000)) } ]);

	foreach my $way (@ways)
	{
		my ($what, $begin, $finish) = @$way;
		my $s = $c->session(@good);
		my $mark = $c->log_mark;

		$begin->();
		ok($c->poll_until(sub { !$s->alive || $c->log_since($mark) =~ $held }, what => $what), "$what: the worker has looked");
		ok($s->alive, "$what: the session lives");
		$finish->() if $finish;
		chmod 0600, $file;
		spew($file, $text);
		$mark = $c->log_mark;
		ok($c->wait_for_log(qr/pg_tls judged [1-9]/, $mark), "$what: the file is whole, and looked at");
		ok($s->alive, "$what: the session still lives");
		is(acceptable($s), 't', "$what: and is acceptable");
	}

	# a reload in the middle of it
	my $s = $c->session(@good);
	my $mark = $c->log_mark;
	spew($file, substr $text, 0, $middle);
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'a reload meanwhile');
	ok($c->poll_until(sub { !$s->alive || $c->log_since($mark) =~ $held }, what => 'a reload'), 'the worker has looked');
	ok($s->alive, 'the session lives');
	spew($file, $text);
	ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'and is judged');
	ok($s->alive, 'and lives');
};

# The change comes while sessions are judged.
subtest 'half a file while sessions are judged' => sub {
	plan skip_all => 'there are no sources to build from' unless $slow;
	$pki->cert("many$_", issuer => 'root') for 1 .. 6;
	my @sessions = map { $c->session(cert => "many$_") } 1 .. 6;
	my $file = "$crls/$hash{root}.r0";
	my $verifiers = sub { my %x = $c->children; return scalar grep { /pg_tls verifier/ } values %x };
	my $judged = sub { return $admin->query('SELECT verdicts_pending FROM pg_tls_status') eq '0' && !$verifiers->() };

	ok($c->poll_until($judged, timeout => 60), 'judged');
	# whoever is judged later finds nothing
	my $mark = $c->log_mark;
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	ok($c->poll_until($verifiers), 'sessions are being judged');
	spew($file, '');
	ok($c->wait_for_log(qr/pg_tls judged [1-9]/, $mark), 'the pass is over');
	ok($c->wait_for_log(qr/pg_tls discards what it judged/, $mark), '... and counts for nothing');
	spew($file, $empty{root});
	ok($c->poll_until($judged, timeout => 60), 'judged again');
	is(scalar(grep { $_->alive } @sessions), 6, 'nobody was ended');
	is($admin->query('SELECT count(*) FROM pg_stat_tls WHERE NOT acceptable'), 0, 'nor refused');
};

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

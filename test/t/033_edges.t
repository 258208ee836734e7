# Where a verdict is easily wrong: the order and the rest of what was sent, the
# clock, ssl_crl_dir while nobody looks; and where a dry run is easily left.

use strict;
use warnings;

use File::Temp ();
use POSIX qw(mkfifo);
use Test::More;
use Time::HiRes qw(sleep time);

use TlsCluster;
use TlsLogin;
use TlsPKI qw(slurp spew);

plan skip_all => 'OpenSSL 1.1.1 cannot make such CRLs' if `openssl version` =~ /^OpenSSL 1\./;

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);

$pki->ca($_, @years) for qw(root root2);
$pki->ca('int', issuer => 'root', @years);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('deep', issuer => 'int', @years);
$pki->cert($_, issuer => 'root', @years) for qw(good v1 v2 v3 v4);
$pki->cert("large$_", issuer => 'root', san => [ map { "DNS:host$_.example.org" } 1 .. 900 ], @years) for 1 .. 4;
my $int1 = slurp($pki->crt('int'));
$pki->sign_again('int', issuer => 'root2', @years);
my $int2 = slurp($pki->crt('int'));
$pki->crl('root', next_update => 100 * $DAY);
my $empty = slurp($pki->crl_path('root'));
chomp(my $hash = `openssl x509 -noout -hash -in @{[ $pki->crt('root') ]}`);

my ($c, $admin);

sub start
{
	my ($name, %o) = @_;

	$c->stop if $c;
	$c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, ca => $pki->crt('root'), crl => undef, %o,
		conf => { 'pg_tls.watch_interval' => '200ms', %{ $o{conf} // {} } });
	$c->start;
	$admin = $c->session(unix => 1);
	$admin->query('CREATE EXTENSION pg_tls');
}

sub load { return is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded') }

sub acceptable
{
	my ($s) = @_;

	return $admin->query('SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $s->pid);
}

# The view comes to say what a reconnect meets, which is this.
sub agrees
{
	my ($s, $expected, $what, %conn) = @_;
	my $last;
	my $does = '';

	ok($c->poll_until(sub { my ($rc) = $c->psql('SELECT 1', %conn); $does = $rc ? 'f' : 't'; $does eq $expected }, what => $what),
		"$what: a reconnect");
	ok($c->poll_until(sub { ($last = acceptable($s)) eq $expected }, what => $what), "$what: the view says $expected") or diag "view: $last";
}

sub crl
{
	my ($name, @opts) = @_;

	return slurp($pki->crl('root', out => "$dir/$name.crl", @opts));
}

foreach my $to ('root2', 'root')
{
	subtest "what was sent keeps its order (to $to)" => sub {
		spew("$dir/ca.pem", slurp($pki->crt('root')), $int1);
		start("order_$to", ca => "$dir/ca.pem", conf => { 'pg_tls.invalid_sessions' => 'terminate' });
		spew("$dir/chain.crt", slurp($pki->crt('deep')), $int2, $int1);
		my @conn = (cert => 'deep', sslcert => "$dir/chain.crt");
		my $s = $c->session(@conn);
		my $pid = $s->pid;

		is(acceptable($s), 't', 'before');
		spew($c->tls('ca.crt'), slurp($pki->crt($to)));
		my $refused = $admin->query('SELECT count(*) FROM pg_tls_check_sessions()');
		load();
		ok($c->poll_query('SELECT verdicts_pending FROM pg_tls_status', '0', unix => 1), 'judged');
		my ($rc) = $c->psql('SELECT 1', @conn);
		is($refused, $rc ? 1 : 0, 'pg_tls_check_sessions says what a reconnect meets');
		ok($c->poll_query("SELECT count(*) FROM pg_stat_tls WHERE pid = $pid", $rc ? '0' : '1', unix => 1),
			$rc ? 'the session was ended' : 'the session was not ended');
		is($rc ? 0 : 1, $s->alive, 'as a reconnect would be') if !$rc;
	};
}

# However much else comes along, what could lead to a CA is kept.  More of that
# than any client needs is not, and so of no use to it.  Each story ends as a
# reconnect would.
subtest 'much is sent' => sub {
	my @ended = (not_before => -30 * $DAY, not_after => -$DAY);
	my @wordy = (@years, san => [ map { "DNS:host$_.example.org" } 1 .. 150 ]);
	my $crts = sub { map { slurp($pki->crt($_)) } @_ };

	# of the intermediate's name, with other keys, and no key identifiers
	$pki->ca("forged$_", subject => '/CN=int', ext => [ 'subjectKeyIdentifier = none', 'authorityKeyIdentifier = none' ], @wordy) for 1 .. 20;
	$pki->cert("junk$_", issuer => 'root', @wordy) for 1 .. 16;
	$pki->ca("old$_", issuer => 'root2', subject => '/CN=int', key_of => 'int', @wordy, @ended) for 1 .. 4;
	# of the intermediate's name and key identifier, with another key
	chomp(my $id = (split /\n/, `openssl x509 -noout -ext subjectKeyIdentifier -in @{[ $pki->crt('int') ]}`)[1] =~ s/ //gr);
	$pki->ca('imitated', subject => '/CN=int', ext => ["subjectKeyIdentifier = $id"], @years);
	# two steps to the other root
	$pki->ca('upper', issuer => 'root2', @years);
	$pki->sign_again('int', issuer => 'upper', @years);
	my $int3 = slurp($pki->crt('int'));
	my $size = int(length(slurp($pki->crt('junk1'))) * 3 / 4);
	ok($size > 3500, "each of $size bytes");

	my @stories = (
		[ 'five useless ones of 4 kB', 'f', $crts->(map { "junk$_" } 1 .. 5) ],
		[ 'sixteen of them', 'f', $crts->(map { "junk$_" } 1 .. 16) ],
		[ 'sixteen of them, then another intermediate', 't', $crts->(map { "junk$_" } 1 .. 16), $int2 ],
		[ 'sixteen of them, then two steps', 't', $crts->((map { "junk$_" } 1 .. 16), 'upper'), $int3 ],
		[ 'the same in the other order', 't', $int3, $crts->((map { "junk$_" } 1 .. 16), 'upper') ],
		[ 'one with the same name and key identifier, then another intermediate', 'f', $crts->('imitated'), $int2 ],
		[ 'the same in the other order', 't', $int2, $crts->('imitated') ],
		[ 'the leaf a hundred times', 'f', ($crts->('deep')) x 100 ],
		[ 'the same intermediate a hundred times, then another', 'f', ($int1) x 100, $int2 ],
		[ 'the other one a hundred times', 't', ($int2) x 100 ],
		[ 'its expired predecessors, then another', 't', $crts->(map { "old$_" } 1 .. 4), $int2 ],
		[ 'many of the same name with other keys', 'f', $crts->(map { "forged$_" } 1 .. 20) ],
		[ 'those, then another intermediate', 'f', $crts->(map { "forged$_" } 1 .. 20), $int2 ]);

	spew("$dir/ca.pem", slurp($pki->crt('root')), $int1);
	start('much', ca => "$dir/ca.pem");
	foreach my $story (@stories)
	{
		my ($what, $after, @sent) = @$story;
		my @conn = (cert => 'deep', sslcert => "$dir/much.crt");

		spew($c->tls('ca.crt'), slurp($pki->crt('root')), $int1);
		load();
		spew("$dir/much.crt", slurp($pki->crt('deep')), @sent);
		my $s = $c->session(@conn);
		is(acceptable($s), 't', "$what: before");
		spew($c->tls('ca.crt'), slurp($pki->crt('root2')));
		load();
		agrees($s, $after, $what, @conn);
	}

	# A client that keeps 16 expired intermediates for nothing before one that the
	# server comes to need.
	$pki->ca("older$_", issuer => 'root2', subject => '/CN=int', key_of => 'int', @ended) for 1 .. 16;
	spew($c->tls('ca.crt'), slurp($pki->crt('root')), $int1);
	load();
	spew("$dir/much.crt", slurp($pki->crt('deep')), $crts->(map { "older$_" } 1 .. 16), $int2);
	my $s = $c->session(cert => 'deep', sslcert => "$dir/much.crt");
	spew($c->tls('ca.crt'), slurp($pki->crt('root2')));
	load();
	ok($c->poll_until(sub { acceptable($s) eq 'f' }), 'more possible issuers than are kept: judged without the rest');
	is($admin->query('SELECT chains_missing FROM pg_tls_status'), 0, 'everything found room');
	is($admin->query(q{SELECT count(*) FROM pg_tls_findings WHERE code = 'session_not_judged'}), 0, '... so there is no such finding');
	undef $s;

	$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
	spew($c->tls('ca.crt'), slurp($pki->crt('root')), $int1);
	load();
	spew("$dir/much.crt", slurp($pki->crt('deep')), $crts->(map { "junk$_" } 1 .. 5));
	$s = $c->session(cert => 'deep', sslcert => "$dir/much.crt");
	my $pid = $s->pid;
	spew($c->tls('ca.crt'), slurp($pki->crt('root2')));
	load();
	ok($c->poll_query("SELECT count(*) FROM pg_stat_tls WHERE pid = $pid", '0', unix => 1), 'such a session is ended');
};

subtest 'a full arena, and a CRL that is replaced' => sub {
	start('arena', conf => { 'pg_tls.invalid_sessions' => 'terminate', 'pg_tls.chain_memory' => '64kB' });
	my $crls = $c->datadir . '/crls';

	mkdir $crls or die;
	spew("$crls/$hash.r0", $empty);
	$c->set_conf({ ssl_crl_dir => 'crls' });
	load();
	my @sessions;
	my $replace = sub {
		spew("$crls/new", @_);
		rename "$crls/new", "$crls/$hash.r0" or die;
	};
	my ($refused, $missing, $finding, $acceptable, $end) = $c->in_time(12, sub {
		$_->close for splice @sessions;
		$c->poll_query('SELECT chains_missing FROM pg_tls_status', '0', unix => 1);
		my $before = $admin->query('SELECT chains_refused FROM pg_tls_status');
		$replace->(crl('a', next_update => $_[0]));
		@sessions = map { $c->session(cert => "large$_") } 1 .. 4;
		my @state = map { $admin->query("SELECT $_") } "chains_refused - $before FROM pg_tls_status", 'chains_missing FROM pg_tls_status',
		  q{object, problem LIKE '%: ' || chains_missing FROM pg_tls_findings, pg_tls_status WHERE code = 'session_not_judged'},
		  map { "$_ FROM pg_stat_tls" } 'count(*) FILTER (WHERE acceptable)', 'max(valid_until)';

		$replace->(crl('b', next_update => 30 * $DAY));
		return @state;
	});
	cmp_ok($refused, '>', 0, 'not all found room');
	is($missing, $refused, '... and are connected');
	is($finding, 'pg_tls.chain_memory|t', '... which is a finding');
	is($acceptable, 4, 'all acceptable');
	ok($c->poll_query("SELECT now() > '$end'::timestamptz + interval '1 s'", 't', unix => 1), 'the old CRL has ended');
	my $now = $admin->query('SELECT clock_timestamp()');
	spew("$crls/00000000.r0", 'x');    # and something makes the verifier run
	ok($c->poll_query("SELECT count(*) > 0 FROM pg_stat_tls WHERE checked_at > '$now'", 't', unix => 1), 'all are looked at again');
	is(scalar(grep { $_->alive } @sessions), 4, 'nobody was ended');
	is($admin->query('SELECT count(*) FROM pg_stat_tls WHERE NOT acceptable'), 0, 'nor said to be refused');
	@sessions = ();
	ok($c->poll_query('SELECT chains_missing FROM pg_tls_status', '0', unix => 1), 'all have gone');
	is($admin->query(q{SELECT count(*) FROM pg_tls_findings WHERE code = 'session_not_judged'}), 0, '... and there is no such finding');
};

# The clock brings another CRL to bear than the one that was consulted.
subtest 'the clock changes which CRL counts' => sub {
	start('clock', crl => $pki->crl_path('root'));
	my @stories = (
		[ 'a newer one that revokes begins', 'v1', 't', 'f', sub { ($empty, crl('c1', revoked => ['v1'], last_update => $_[0], next_update => 100 * $DAY)) } ],
		[ 'a newer one that does not revoke begins', 'v2', 'f', 't',
			sub { (crl('c2', revoked => ['v2'], last_update => -60), crl('c3', revoked => [], last_update => $_[0], next_update => 100 * $DAY)) } ],
		[ 'a newer one that revokes ends', 'v3', 'f', 't',
			sub { (crl('c4', revoked => [], last_update => -3600), crl('c5', revoked => ['v3'], last_update => -60, next_update => $_[0])) } ]);

	foreach my $story (@stories)
	{
		my ($what, $cert, $before, $after, $files) = @$story;

		spew($c->tls('crl.pem'), $empty);
		load();
		my $s = $c->session(cert => $cert);

		my @before = $c->in_time(5, sub {
			my ($seconds) = @_;
			my $end = time + $seconds;

			spew($c->tls('crl.pem'), $files->($seconds));
			$admin->query('SELECT pg_tls_reload()');
			my ($rc) = $c->psql('SELECT 1', cert => $cert);
			my $last;
			$c->poll_until(sub { ($last = acceptable($s)) eq $before || time > $end });
			return ($rc ? 'f' : 't', $last);
		});
		is("@before", "$before $before", "$what: before");
		agrees($s, $after, "$what: after", cert => $cert);
	}
};

subtest 'ssl_crl_dir changes while nobody looks' => sub {
	start('dir', hba => [ 'local all all trust', 'hostssl all slow all password clientcert=verify-ca', 'hostssl all all all trust' ]);
	my $crls = $c->datadir . '/crls';

	mkdir $_ or die for $crls, "$crls.other";
	spew("$_/$hash.r0", $empty) for $crls, "$crls.other";
	$c->set_conf({ ssl_crl_dir => 'crls' });
	load();
	my $replace = sub {
		spew("$crls/new", @_);
		rename "$crls/new", "$crls/$hash.r0" or die;
	};

	# The configuration that names another directory could not be loaded.
	my $s = $c->session(cert => 'v1');
	my $crt = slurp($c->tls('server.crt'));
	spew($c->tls('server.crt'), "rubbish\n");
	$c->set_conf({ ssl_crl_dir => 'crls.other' });
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_query('SELECT last_attempt_ok FROM pg_tls_status', 'f', unix => 1), 'a reload failed');
	$replace->(crl('d1', revoked => ['v1']));
	agrees($s, 'f', 'the directory in force', cert => 'v1');
	spew($c->tls('server.crt'), $crt);
	$c->set_conf({ ssl_crl_dir => 'crls' });
	load();

	# The monitor is away.
	$replace->($empty);
	$s = $c->session(cert => 'v2');
	my $pid = $admin->query('SELECT monitor_pid FROM pg_tls_status');
	kill 'TERM', $pid;
	ok($c->poll_until(sub { !-e "/proc/$pid/exe" }), 'the monitor is away');
	$replace->(crl('d2', revoked => ['v2']));
	agrees($s, 'f', 'the monitor was away', cert => 'v2');

	# A client takes its time between the handshake and its password.
	$replace->($empty);
	$admin->query(q{CREATE ROLE slow LOGIN PASSWORD 'x'});
	my $login = TlsLogin->new($c, user => 'slow', cert => 'v3');

	$s = $c->session(cert => 'v3');
	$replace->(crl('d3', revoked => ['v3']));
	agrees($s, 'f', 'who is there is judged', cert => 'v3');
	ok($login->answer('x'), 'logged in');
	ok($c->poll_query(q{SELECT count(*) FROM pg_stat_tls WHERE client_cn = 'v3' AND NOT acceptable}, '2', unix => 1), 'a slow login');
	$login->close;

	# The verifier is ended before it has come to all.
	$replace->($empty);
	$s = $c->session(cert => 'v4');
	agrees($s, 't', 'again', cert => 'v4');
	$replace->(crl('d4', revoked => ['v4']));
	my $end = time + 2;
	while (time < $end)
	{
		my %children = $c->children;

		kill 'TERM', grep { $children{$_} =~ /pg_tls verifier/ } keys %children;
	}
	agrees($s, 'f', 'verifiers that are ended', cert => 'v4');
	unlike($c->log_text, qr/terminating background worker/, 'which the log need not know');
};

subtest 'prepare_context leaves a choice to the handshakes' => sub {
	my $p2 = TlsPKI->new("$dir/pki2");

	$p2->ca('root', @years);
	$p2->ca('int', issuer => 'root', @years);
	my $new = slurp($p2->crt('int'));
	$p2->cert('server', issuer => 'int', kind => 'server', san => ['DNS:localhost'], @years);
	my @clusters = map {
		my $x = TlsCluster->new(name => "prepare_$_", ssl => 1, pki => $p2, ca => $p2->crt('root'), crl => undef,
			conf => { 'pg_tls.prepare_context' => $_ });

		spew($x->tls('server.crt'), slurp($p2->crt('server')));
		$x;
	} 'on', 'off';
	my @verify = (sslmode => 'verify-full', sslrootcert => $p2->crt('root'));
	my ($end, @before) = $c->in_time(12, sub {
		my ($seconds) = @_;

		$_->stop for @clusters;
		$p2->sign_again('int', issuer => 'root', not_after => $seconds);
		my $over = time + $seconds + 1;
		foreach my $x (@clusters)
		{
			spew($x->tls('ca.crt'), slurp($p2->crt('root')), slurp($p2->crt('int')), $new);
			$x->start;
		}
		return ($over, map { ($_->psql('SELECT 1', @verify))[0] } @clusters);
	});

	is($before[$_], 0, $clusters[$_]->name . ': before the end') for 0, 1;
	$c->poll_until(sub { time > $end });
	is(($_->psql('SELECT 1', @verify))[0], 0, $_->name . ': after the end of the old intermediate') for @clusters;
	$_->stop for @clusters;
};

subtest 'a large CRL lies in huge pages' => sub {
	my ($major, $minor) = `uname -r` =~ /^(\d+)\.(\d+)/ or die;

	plan skip_all => 'needs Linux 6.1' if $major < 6 || ($major == 6 && $minor < 1);
	plan skip_all => 'no transparent huge pages' unless -d '/sys/kernel/mm/transparent_hugepage';
	my $crl = $pki->large_crl('root', 200_000, out => "$dir/huge.crl");
	my $huge = sub { return slurp('/proc/' . $c->pid . '/smaps_rollup') =~ /^AnonHugePages:\s+(\d+)/m ? $1 : die };

	start('huge', crl => $crl);
	cmp_ok($huge->(), '>', 10_000, 'as soon as the server runs');
	load() for 1 .. 2;
	cmp_ok($huge->(), '>', 10_000, 'and after reloads');
	is($c->query('SELECT 1', cert => 'good'), 1, 'a client connects');
	start('small', crl => $crl, conf => { 'pg_tls.prepare_context' => 'off' });
	cmp_ok($huge->(), '<', 10_000, 'without prepare_context it does not');
};

subtest 'dry runs do not outlive their callers' => sub {
	# the watch makes dry runs, too
	start('dry', crl => $pki->crl_path('root'), conf => { 'pg_tls.watch_files' => 'off' });
	unlink $c->tls('server.key');
	system("openssl pkey -in '" . $pki->key('server') . "' -aes128 -passout pass:secret -out '" . $c->tls('server.key') . "'") == 0 or die;
	chmod 0600, $c->tls('server.key');
	$c->set_conf({ ssl_passphrase_command => "sleep 7654321$$; echo secret", ssl_passphrase_command_supports_reload => 'on' });
	my $gone = sub {
		my %children = $c->children;

		return !$c->processes(qr/sleep 7654321$$/) && !grep { /pg_tls check/ } values %children;
	};
	foreach my $how ('cancel', 'terminate')
	{
		my $s = $c->session(unix => 1);
		my $pid = $s->pid;

		$s->send('SELECT ok FROM pg_tls_check()');
		ok($c->poll_until(sub { $c->processes(qr/sleep 7654321$$/) }), 'it waits for the passphrase');
		$admin->query("SELECT pg_${how}_backend($pid)");
		ok($c->poll_until($gone), "$how: nothing is left");
		$s->wait;
	}

	# What the command's shell has started ignores SIGTERM, though the shell does not.
	spew("$dir/stubborn", "#!/bin/sh\ntrap '' TERM\nsleep 7654321$$ &\nwait\nsleep 7654321$$\n");
	chmod 0755, "$dir/stubborn", $dir;
	foreach my $command ("$dir/stubborn", "$dir/stubborn; echo secret", "$dir/stubborn | cat")
	{
		$c->set_conf({ ssl_passphrase_command => $command });
		my $s = $c->session(unix => 1);
		my $pid = $s->pid;

		$s->send('SELECT ok FROM pg_tls_check()');
		ok($c->poll_until(sub { $c->processes(qr/sleep 7654321$$/) }), "$command: it waits for the passphrase");
		$admin->query("SELECT pg_cancel_backend($pid)");
		ok($c->poll_until($gone), "$command: nothing is left");
		$s->wait;
	}
	$c->set_conf({ ssl_passphrase_command => '', ssl_crl_file => '', ssl_crl_dir => 'fifos' });
	unlink $c->tls('server.key');
	spew($c->tls('server.key'), slurp($pki->key('server')));
	chmod 0600, $c->tls('server.key');
	mkdir $c->datadir . '/fifos';
	mkfifo($c->datadir . "/fifos/$hash.r0", 0600) or die;
	is($admin->query('SELECT ok FROM pg_tls_check()'), 't', 'a FIFO does not hold it up');
	ok($c->poll_until($gone), 'nothing is left');

	# More of them than there are slots wait for each other.
	$c->set_conf({ ssl_crl_dir => undef, ssl_crl_file => 'tls/crl.pem' });
	my @sessions = map { $c->session(unix => 1) } 1 .. 10;
	$_->send('SELECT ok FROM pg_tls_check()') for @sessions;
	is(join(' ', map { ($_->wait)[1] } @sessions), join(' ', ('t') x 10), 'ten at once');
	ok($c->stop, 'stops');
};

subtest 'a message of any bytes' => sub {
	start('bytes');
	my $file = "b\xff\xfe'x.crt";

	spew($c->datadir . "/$file", "rubbish\n");
	$c->set_conf({ ssl_cert_file => $file });
	my (undef, undef, $err) = $admin->try_query('SELECT pg_tls_reload()');
	like($err, qr/DETAIL:  could not load server certificate file "b\\FF\\FE'x.crt"/, 'is valid text');
	my $long = join '/', 'sub', ('d' x 200) x 3;
	system('mkdir', '-p', $c->datadir . "/$long") == 0 or die;
	spew($c->datadir . "/$long/s.crt", "rubbish\n");
	$c->set_conf({ ssl_cert_file => "$long/s.crt" });
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_query('SELECT last_error FROM pg_tls_status', qr/^could not load server certificate file "sub\/.*\/s\.crt": \w/, unix => 1),
		'and whole');
};

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

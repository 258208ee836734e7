# pg_tls.watch_files: files that change by themselves; and warnings of ends.

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root', not_after => 800 * $DAY);
$pki->cert($_, issuer => 'root', kind => 'server', subject => "/CN=$_", san => ['DNS:localhost'], not_after => 100 * $DAY)
  for qw(one two);
$pki->cert('soon', issuer => 'root', kind => 'server', san => ['DNS:localhost'], not_after => 20 * $DAY);
$pki->ca('second', not_after => 800 * $DAY);
$pki->ca($_, subject => "/CN=$_", not_after => 20 * $DAY) for qw(soon_ca soon_too);
$pki->ca('int', issuer => 'root', not_after => 800 * $DAY);
$pki->cert('ended', issuer => 'root', kind => 'server', not_before => -10 * $DAY, not_after => -3600);
$pki->cert('deep', issuer => 'int', kind => 'server', san => ['DNS:localhost'], not_after => 100 * $DAY);
$pki->crl($_, next_update => 90 * $DAY) for qw(root second);
$pki->bundle("$dir/ca.pem", 'root');

my $c = TlsCluster->new(ssl => 1, pki => $pki, server_cert => 'one', ca => "$dir/ca.pem", crl => undef,
	conf => { 'pg_tls.watch_interval' => '100ms' });

$c->start;
my $s = $c->session(unix => 1);
$s->query('CREATE EXTENSION pg_tls');

my $changed = qr/LOG: +TLS files have changed, and the server still uses what it has loaded\n.*DETAIL: +Changed: (.*)\.\n.*HINT: +Call pg_tls_reload/;

sub replace
{
	my ($from, $to) = @_;

	spew("$to.new", slurp($from));
	chmod 0600, "$to.new";
	rename "$to.new", $to or die "$to: $!";
	return;
}

# Two renewals, which the server loads.  That takes the watch longer than it would
# take to load something a second time.
sub renew_twice
{
	foreach my $name (qw(two one))
	{
		replace($pki->chain($name), $c->tls('server.crt'));
		replace($pki->key($name), $c->tls('server.key'));
		$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint($name), unix => 1);
	}
	return;
}

sub fingerprint { return lc $pki->show($_[0], qw(-fingerprint -sha256)) =~ s/^.*=|:|\s+$//gr }

subtest 'report, the default' => sub {
	my $mark = $c->log_mark;

	is($s->query('SHOW pg_tls.watch_files'), 'report', 'setting');
	replace($pki->chain('two'), $c->tls('server.crt'));
	replace($pki->key('two'), $c->tls('server.key'));
	$c->wait_for_log($changed, $mark);
	like($c->log_since($mark), qr/$changed/, 'told');
	$c->log_since($mark) =~ $changed;
	is($1, 'ssl_cert_file, ssl_key_file', 'which');
	is($s->query('SELECT server_fingerprint FROM pg_tls_status'), fingerprint('one'), 'nothing was loaded');

	# other bytes, the same contents
	spew($c->tls('server.crt'), "renewed\n" . slurp($pki->chain('one')));
	replace($pki->key('one'), $c->tls('server.key'));
	$c->poll_query(q{SELECT count(*) FROM pg_tls_files WHERE state = 'changed'}, 0, unix => 1);
	replace($pki->chain('two'), $c->tls('server.crt'));
	$c->wait_for_log(qr/TLS files have changed, but the server could not load them: .*key values mismatch\n.*DETAIL: +Changed: ssl_cert_file\./, $mark);
	my @told = $c->log_since($mark) =~ /TLS files have changed/g;
	is(scalar @told, 2, 'each once: what fits, and what does not');
};

subtest 'reload' => sub {
	my $mark = $c->log_mark;

	$c->set_conf({ 'pg_tls.watch_files' => 'reload' });
	$c->reload;    # fails
	$c->poll_query(q{SELECT last_attempt_ok FROM pg_tls_status}, 'f', unix => 1);
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');
	replace($pki->key('two'), $c->tls('server.key'));
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1);
	is($s->query('SELECT attempts FROM pg_tls_status') - $attempts, 1, 'one attempt');
	is($s->query('SELECT trigger, ok FROM pg_tls_reloads LIMIT 1'), 'watch|t', 'by the watch');
	like($c->log_since($mark), qr/LOG: +TLS files have changed, reloading the configuration\n.*DETAIL: +Changed: ssl_cert_file, ssl_key_file\./, 'told');

	spew($c->tls('ca.crt'), slurp($pki->crt('root')) x 2);
	$c->reload;
	$c->poll_query(q{SELECT trigger FROM pg_tls_reloads LIMIT 1}, 'reload', unix => 1);
	$s->query('SELECT pg_tls_reload()');
	is($s->query('SELECT trigger FROM pg_tls_reloads LIMIT 1'), 'function', 'reloads of others are theirs');
};

# What a renewal may look like.  Each puts certificate and key of a name there.
my $swap = $c->datadir . '/swap';
my %ways = (
	rename => sub {
		replace($pki->chain($_[0]), $c->tls('server.crt'));
		replace($pki->key($_[0]), $c->tls('server.key'));
	},
	'in place' => sub {
		spew($c->tls('server.crt'), slurp($pki->chain($_[0])));
		spew($c->tls('server.key'), slurp($pki->key($_[0])));
	},
	'symbolic link' => sub {
		# as Kubernetes does it: the link is to a directory
		my $new = "$swap/..$_[1]";

		make_path($new);
		spew("$new/server.crt", slurp($pki->chain($_[0])));
		spew("$new/server.key", slurp($pki->key($_[0])));
		chmod 0600, "$new/server.key";
		symlink "..$_[1]", "$swap/..data_tmp" or die $!;
		rename "$swap/..data_tmp", "$swap/..data" or die $!;
	});
my $n = 0;

foreach my $way ('rename', 'in place', 'symbolic link')
{
	subtest "renewals: $way" => sub {
		if ($way eq 'symbolic link')
		{
			$ways{$way}->('two', 'first');
			symlink "..data/server.$_", "$swap/server.$_" or die $! for qw(crt key);
			$c->set_conf({ ssl_cert_file => 'swap/server.crt', ssl_key_file => 'swap/server.key' });
			$c->reload;
			$c->poll_query('SHOW ssl_cert_file', 'swap/server.crt', unix => 1);
		}
		my ($attempts, $failures) = split /\|/, $s->query('SELECT attempts, failures FROM pg_tls_status');
		my $failed = 0;

		for my $name (qw(one two) x ($ENV{PG_TLS_RENEWALS} // 2))
		{
			$ways{$way}->($name, ++$n);
			my $fp = fingerprint($name);
			my $deadline = time + $TlsCluster::TIMEOUT;

			# a client loop, until the new certificate is served
			while (time < $deadline)
			{
				$failed++ if ($c->psql('SELECT 1', host => '127.0.0.1'))[0] != 0;
				last if $s->query('SELECT server_fingerprint FROM pg_tls_status') eq $fp;
			}
			is($s->query('SELECT server_fingerprint FROM pg_tls_status'), $fp, "renewal $n is served");
		}
		is($failed, 0, 'no connection failed');
		is($s->query('SELECT failures FROM pg_tls_status'), $failures, 'no attempt failed');
		is($s->query("SELECT count(*) FROM pg_tls_reloads WHERE attempt > $attempts AND trigger <> 'watch'"), 0, 'all by the watch');
	};
}

subtest 'a key that comes later' => sub {
	my $mark = $c->log_mark;
	my $failures = $s->query('SELECT failures FROM pg_tls_status');

	$c->set_conf({ ssl_cert_file => undef, ssl_key_file => undef });
	$c->set_conf({ ssl_cert_file => 'tls/server.crt', ssl_key_file => 'tls/server.key' });
	$c->reload;
	$c->poll_query('SHOW ssl_cert_file', 'tls/server.crt', unix => 1);
	replace($pki->chain('one'), $c->tls('server.crt'));
	$c->wait_for_log(qr/could not load them: .*key values mismatch/, $mark);
	is($s->query('SELECT failures FROM pg_tls_status'), $failures, 'no attempt while they do not fit');
	replace($pki->key('one'), $c->tls('server.key'));
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('one'), unix => 1);
	is($s->query('SELECT failures FROM pg_tls_status'), $failures, 'no attempt failed');
};

subtest 'each of the files' => sub {
	# and what OpenSSL takes from any of them: nothing here is loaded twice
	my @kinds = (
		[ 'ca.crt', slurp($pki->crt('root')) . slurp($pki->crt('second')) ],
		[ 'crl.pem', slurp($pki->crl('root', next_update => 90 * $DAY)) . slurp($pki->crl_path('second')) ],
		[ 'crl.pem', slurp($pki->crl('root', next_update => 90 * $DAY)) . slurp($pki->crl_path('second')) . slurp($pki->crt('root')) ],
		[ 'ca.crt', slurp($pki->crt('root')) . slurp($pki->crt('second')) . slurp($pki->crl_path('second')) ],
		[ 'server.crt', slurp($pki->crt('one')) . (slurp($pki->crt('second')) =~ s/CERTIFICATE/TRUSTED CERTIFICATE/gr) ]);

	spew($c->tls('crl.pem'), slurp($pki->crl_path('root')), slurp($pki->crl_path('second')));
	$c->set_conf({ ssl_crl_file => 'tls/crl.pem' });
	$c->reload;
	$c->poll_query('SHOW ssl_crl_file', 'tls/crl.pem', unix => 1);
	$s->query('SELECT pg_tls_reload()');
	foreach my $kind (@kinds)
	{
		my ($file, $text) = @$kind;
		my $attempts = $s->query('SELECT attempts FROM pg_tls_status');

		spew("$dir/new", $text);
		replace("$dir/new", $c->tls($file));
		ok($c->poll_query("SELECT count(*) FROM pg_tls_files WHERE state = 'changed'", 0, unix => 1), "$file: current");
		renew_twice();
		cmp_ok($s->query('SELECT attempts FROM pg_tls_status') - $attempts - 2, '<=', 1, "$file: one reload at most");
	}

	# one file for all
	my $renew = sub {
		spew("$dir/new", slurp($pki->crt($_[0])), slurp($pki->crt('root')), slurp($pki->key($_[0])), slurp($pki->crl_path('root')));
		replace("$dir/new", $c->tls('all.pem'));
	};
	$renew->('one');
	$c->set_conf({ map { $_ => 'tls/all.pem' } qw(ssl_cert_file ssl_key_file ssl_ca_file ssl_crl_file) });
	is($s->query('SELECT (pg_tls_reload()).ok'), 't', 'all in one file');
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');
	is($s->query(q{SELECT string_agg(state, ',') FROM pg_tls_files}), 'current,current,current,current,unset,unset', 'all in one file: current');
	my $mark = $c->log_mark;
	$renew->('two');
	# ... which is a CA, too, so that the watch only tells of it.
	$c->wait_for_log(qr/TLS files have changed, but are not reloaded without being asked to/, $mark);
	is($s->query('SELECT attempts FROM pg_tls_status'), $attempts, 'all in one file: not loaded again');
	$c->set_conf({ ssl_cert_file => 'tls/server.crt', ssl_key_file => 'tls/server.key', ssl_ca_file => 'tls/ca.crt', ssl_crl_file => undef });
	replace($pki->chain('one'), $c->tls('server.crt'));
	replace($pki->key('one'), $c->tls('server.key'));
	is($s->query('SELECT (pg_tls_reload()).ok'), 't', 'as before');
};

subtest 'what is worse than what is served' => sub {
	my $mark = $c->log_mark;
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');

	replace($pki->chain('ended'), $c->tls('server.crt'));
	replace($pki->key('ended'), $c->tls('server.key'));
	$c->wait_for_log(qr/TLS files have changed, but are not reloaded without being asked to\n.*DETAIL: .*After a reload: server certificate "\/CN=ended" ended at/, $mark);
	is($s->query('SELECT attempts FROM pg_tls_status'), $attempts, 'an ended certificate is not loaded');
	replace($pki->chain('one'), $c->tls('server.crt'));
	replace($pki->key('one'), $c->tls('server.key'));
	$c->poll_query("SELECT count(*) FROM pg_tls_files WHERE state = 'changed'", 0, unix => 1);

	# the certificate first, and the intermediate one a while later
	$mark = $c->log_mark;
	replace($pki->crt('deep'), $c->tls('server.crt'));
	replace($pki->key('deep'), $c->tls('server.key'));
	$c->wait_for_log(qr/not reloaded without being asked to\n.*DETAIL: .*After a reload: .*holds one certificate/, $mark);
	is($s->query('SELECT attempts FROM pg_tls_status'), $attempts, 'a chain that has a gap is not loaded');
	replace($pki->chain('deep'), $c->tls('server.crt'));
	ok($c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('deep'), unix => 1), 'and when it is whole, it is');
};

# A writer that pauses after a whole block.
subtest 'half a bundle' => sub {
	my $less = qr/LOG: +TLS files have changed, but hold less than what is loaded\n.*DETAIL: +Changed: (.*)\.\n/;
	my ($root, $second, $int) = map { slurp($pki->crt($_)) } qw(root second int);
	my $namesakes = TlsPKI->new("$dir/namesakes");
	$namesakes->ca('root', not_after => 800 * $DAY);
	my $namesake = slurp($namesakes->crt('root'));
	my ($root_crl, $second_crl) = map { slurp($pki->crl_path($_)) } qw(root second);
	my $newer = slurp($pki->crl('root', out => "$dir/newer.crl", next_update => 90 * $DAY));
	my $load = sub {
		my ($file, @text) = @_;

		spew($c->tls($file), @text);
		$s->query('SELECT pg_tls_reload()');
		$c->poll_query("SELECT count(*) FROM pg_tls_files WHERE state = 'changed'", 0, unix => 1);
		return $s->query('SELECT attempts FROM pg_tls_status');
	};
	my @stories = (
		[ 'CAs', 'ca.crt', "$root$second", $root, "$root$second$int" ],
		[ 'another key for the name of a CA', 'ca.crt', "$root$second", "$second$namesake", "$second$namesake$root" ],
		[ 'other CAs first', 'ca.crt', "$root$second", "$root$int", "$root$int$second" ],
		[ 'a chain', 'server.crt', slurp($pki->chain('deep')), slurp($pki->crt('deep')), slurp($pki->chain('deep')) . $root ],
		[ 'CRLs', 'crl.pem', "$root_crl$second_crl$newer", "$root_crl$second_crl", "$root_crl$second_crl$newer" . slurp($pki->crl('root', out => "$dir/third.crl", next_update => 90 * $DAY)) ]);

	foreach my $story (@stories)
	{
		my ($what, $file, $before, $half, $whole) = @$story;
		$c->set_conf({ ssl_crl_file => $file eq 'crl.pem' ? 'tls/crl.pem' : undef });
		my $attempts = $load->($file, $before);
		my $mark = $c->log_mark;

		spew($c->tls($file), $half);
		ok($c->poll_until(sub { $c->log_since($mark) =~ $less || $s->query('SELECT attempts FROM pg_tls_status') > $attempts }), "$what: half of it is seen");
		is($s->query('SELECT attempts FROM pg_tls_status'), $attempts, "$what: ... and not loaded");
		spew($c->tls($file), $whole);
		ok($c->poll_query("SELECT count(*) FROM pg_tls_files WHERE state = 'changed'", 0, unix => 1), "$what: the whole is");
		cmp_ok($s->query('SELECT attempts FROM pg_tls_status') - $attempts, '<=', 1, "$what: ... by one reload at most");
	}

	# what stays so is meant so
	my $attempts = $load->('ca.crt', "$root$second$int");
	spew($c->tls('ca.crt'), "$root$second");
	ok($c->poll_query('SELECT attempts FROM pg_tls_status', $attempts + 1, unix => 1, timeout => 90), 'a CA less');
	is($s->query('SELECT trigger, ok FROM pg_tls_reloads LIMIT 1'), 'watch|t', '... by the watch');
	$c->set_conf({ ssl_crl_file => undef });
	spew($c->tls('server.crt'), slurp($pki->chain('two')));
	replace($pki->key('two'), $c->tls('server.key'));
	is($s->query('SELECT (pg_tls_reload()).ok'), 't', 'as before');
};

subtest 'settings that are not in force' => sub {
	my $mark = $c->log_mark;

	spew($c->tls('ca2.crt'), slurp($c->tls('ca.crt')));
	$c->set_conf({ ssl_ca_file => 'tls/ca2.crt' });    # and no reload
	replace($pki->chain('two'), $c->tls('server.crt'));
	replace($pki->key('two'), $c->tls('server.key'));
	ok($c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1), 'another path is pending');

	$c->set_conf({ ssl_ca_file => 'tls/ca.crt', 'pg_tls.watch_files' => 'report' });
	$c->reload;
	$c->poll_query('SHOW pg_tls.watch_files', 'report', unix => 1);
	my $attempts = $s->query('SELECT attempts FROM pg_tls_status');
	$c->set_conf({ 'pg_tls.watch_files' => 'reload' });    # and no reload
	replace($pki->chain('one'), $c->tls('server.crt'));
	replace($pki->key('one'), $c->tls('server.key'));
	$c->wait_for_log($changed, $mark);
	is($s->query('SELECT attempts FROM pg_tls_status'), $attempts, 'reload is pending: it reports');
	$c->reload;
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('one'), unix => 1);

	$mark = $c->log_mark;
	$c->set_conf({ ssl => 'off' });                        # and no reload
	replace($pki->chain('two'), $c->tls('server.crt'));
	replace($pki->key('two'), $c->tls('server.key'));
	$c->wait_for_log(qr/After a reload: the configuration file turns "ssl" off/, $mark);
	$c->set_conf({ ssl => 'on' });
	$s->query('SELECT pg_tls_reload()');
	is($s->query('SELECT server_fingerprint FROM pg_tls_status'), fingerprint('two'), 'and TLS goes on');
};

subtest 'a passphrase command that hangs, and fails' => sub {
	my $mark = $c->log_mark;

	system("openssl pkey -in '@{[$pki->key('one')]}' -aes128 -passout pass:x -out '@{[$c->tls('enc.key')]}' && chmod 0600 '@{[$c->tls('enc.key')]}'");
	spew("$dir/command", "#!/bin/sh\nexec sleep 7654322$$\n");
	chmod 0755, "$dir/command", "$dir";
	$c->set_conf({ ssl_passphrase_command => "$dir/command", ssl_passphrase_command_supports_reload => 'on' });
	$c->reload;
	$c->poll_query('SHOW ssl_passphrase_command', "$dir/command", unix => 1);
	replace($pki->chain('one'), $c->tls('server.crt'));
	replace($c->tls('enc.key'), $c->tls('server.key'));
	ok($c->poll_until(sub { $c->processes(qr/sleep 7654322$$/) }), 'it hangs');
	replace($pki->key('one'), $c->tls('server.key'));
	ok($c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('one'), unix => 1), 'other files come, and are taken');
	ok($c->poll_until(sub { !$c->processes(qr/sleep 7654322$$/) }), 'it is gone');

	spew("$dir/command", "#!/bin/sh\n[ -e '$dir/vault' ] && echo x\n");
	replace($pki->chain('one'), $c->tls('server.crt'));
	system("openssl pkey -in '@{[$pki->key('two')]}' -aes128 -passout pass:x -out '@{[$c->tls('enc.key')]}' && chmod 0600 '@{[$c->tls('enc.key')]}'");
	$mark = $c->log_mark;
	replace($pki->chain('two'), $c->tls('server.crt'));
	replace($c->tls('enc.key'), $c->tls('server.key'));
	$c->wait_for_log(qr/TLS files have changed, but the server could not load them/, $mark);
	spew("$dir/vault", '');
	ok($c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1), 'it is tried again');
	$c->set_conf({ ssl_passphrase_command => undef, ssl_passphrase_command_supports_reload => undef });
	replace($pki->key('two'), $c->tls('server.key'));
	$s->query('SELECT pg_tls_reload()');
};

subtest 'off' => sub {
	my $mark;

	replace($pki->chain('one'), $c->tls('server.crt'));
	replace($pki->key('one'), $c->tls('server.key'));
	$s->query('SELECT pg_tls_reload()');
	$mark = $c->log_mark;
	$c->set_conf({ 'pg_tls.watch_files' => 'off' });
	$c->reload;
	$c->poll_query('SHOW pg_tls.watch_files', 'off', unix => 1);
	# Another server, which watches, has the same change later.
	my $other = TlsCluster->new(name => 'watching', ssl => 1, pki => $pki, server_cert => 'one', ca => "$dir/ca.pem", crl => undef,
		conf => { 'pg_tls.watch_interval' => '100ms', 'pg_tls.watch_files' => 'reload' });
	$other->start;
	$other->query('CREATE EXTENSION pg_tls', unix => 1);
	foreach my $server ($c, $other)
	{
		replace($pki->chain('two'), $server->tls('server.crt'));
		replace($pki->key('two'), $server->tls('server.key'));
	}
	ok($other->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1), 'another server loads it');
	$other->stop;
	unlike($c->log_since($mark), qr/TLS files have changed/, 'not told');
	is($s->query('SELECT server_fingerprint FROM pg_tls_status'), fingerprint('one'), 'not loaded');
	$c->set_conf({ 'pg_tls.watch_files' => 'reload' });
	$c->reload;
	$c->poll_query('SELECT server_fingerprint FROM pg_tls_status', fingerprint('two'), unix => 1);
};

subtest 'TLS that is not active becomes so' => sub {
	$c->set_conf({ ssl => 'off' });
	$c->reload;
	$c->poll_query('SELECT active FROM pg_tls_status', 'f', unix => 1);
	spew($c->tls('server.crt'), 'nothing');
	$c->set_conf({ ssl => 'on' });
	$c->reload;
	$c->poll_query('SELECT ssl_setting, active, last_attempt_ok FROM pg_tls_status', 't|f|f', unix => 1);
	replace($pki->chain('two'), $c->tls('server.crt'));
	$c->poll_query('SELECT active FROM pg_tls_status', 't', unix => 1);
	is($s->query('SELECT trigger FROM pg_tls_reloads LIMIT 1'), 'watch', 'by the watch');
};

subtest 'expiry_warning' => sub {
	my $mark = $c->log_mark;
	my $warning = qr/WARNING: +server certificate "\/CN=soon" ends at [0-9: +-]+\n/;

	unlike($c->log_text, qr/WARNING: +server certificate/, 'nothing ends');
	replace($pki->chain('soon'), $c->tls('server.crt'));
	replace($pki->key('soon'), $c->tls('server.key'));
	$c->wait_for_log($warning, $mark);
	for (1 .. 3)
	{
		$s->query('SELECT pg_tls_reload()');
		$c->poll_query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tls watch'}, 0, unix => 1);
	}
	# What else ends soon is told by the same worker: then it is done with the rest.
	my $end_others = sub {
		my ($ca) = @_;

		$pki->bundle("$dir/new", 'root', $ca);
		# Where the monitor sees these files before they are loaded, it looks at
		# them no more: then they are replaced once more.
		$c->poll_until(sub {
			replace("$dir/new", $c->tls('ca.crt'));
			$s->query('SELECT pg_tls_reload()');
			return $c->log_since($mark) =~ qr/WARNING: .*"\/CN=$ca" ends at/;
		});
		return scalar(() = $c->log_since($mark) =~ /$warning/g);
	};

	is($end_others->('soon_ca'), 1, 'told once');
	$c->set_conf({ 'pg_tls.expiry_warning' => '10d' });
	$s->query('SELECT pg_tls_reload()');
	$c->set_conf({ 'pg_tls.expiry_warning' => '25d' });
	$s->query('SELECT pg_tls_reload()');
	is($end_others->('soon_too'), 1, 'still once');
};

# It has a deadline, and so has its end.
subtest 'a passphrase command that hangs for long' => sub {
	plan skip_all => 'there are no sources' unless TlsBuild->available;
	my $variant = TlsBuild->new("$dir/impatient", COMMAND_LIMIT => 2);
	my $h = TlsCluster->new(name => 'hangs', ssl => 1, pki => $pki, server_cert => 'one', ca => "$dir/ca.pem", crl => undef,
		preload => $variant->library, conf => { 'pg_tls.watch_interval' => '100ms', ssl_passphrase_command_supports_reload => 'on' });
	my %sleeps = (obeys => "exec sleep 7654323$$", ignores => "trap '' TERM; sleep 7654324$$; echo x");
	my $sleeps = qr/^sleep 765432[34]$$\z/;
	my $hangs = sub {
		my ($how) = @_;

		$h->set_conf({ ssl_passphrase_command => $sleeps{$how} });
		spew($h->tls('server.crt'), slurp($pki->chain('two')) . "# $how\n");
		system("openssl pkey -in '@{[$pki->key('two')]}' -aes128 -passout pass:x -out '@{[$h->tls('enc.key')]}'") == 0 or die;
		chmod 0600, $h->tls('enc.key');
		rename $h->tls('enc.key'), $h->tls('server.key') or die $!;
	};
	# The postmaster itself would wait for the command.
	my $restore = sub {
		replace($pki->chain('one'), $h->tls('server.crt'));
		replace($pki->key('one'), $h->tls('server.key'));
		return $h->poll_until(
			sub {
				my %children = $h->children;

				return !$h->processes($sleeps) && !grep { /pg_tls (?:watch|check)/ } values %children;
			});
	};
	my $mark = $h->log_mark;

	$h->start;
	$variant->create($h);
	$hangs->('obeys');
	ok($h->wait_for_log(qr/LOG:  TLS files have changed, but the server could not load them: the command of "ssl_passphrase_command" has not ended within 2 s\n/, $mark),
		'it is told of');
	ok($restore->(), '... and gone');
	unlike($h->log_since($mark), qr/ignores SIGTERM/, '... of itself');
	return if !-e '/proc/thread-self/children';

	$mark = $h->log_mark;
	$hangs->('ignores');
	ok($h->wait_for_log(qr/FATAL:  terminating background worker "pg_tls watch", since a command that it runs ignores SIGTERM\n/, $mark), 'one that ignores SIGTERM');
	ok($restore->(), '... is gone, too');
	$h->set_conf({ 'pg_tls.watch_files' => 'off' });
	$h->reload;
	ok($h->poll_query('SHOW pg_tls.watch_files', 'off', unix => 1), 'off');
	$hangs->('ignores');

	my $s = $h->session(unix => 1);

	foreach my $how ('cancel', 'stop')
	{
		$mark = $h->log_mark;
		$s->send('SELECT ok FROM pg_tls_check()');
		ok($h->poll_until(sub { $h->processes($sleeps) }), "$how: a dry run of a session waits");
		is(($h->psql('SELECT 1'))[0], 0, '... while others connect');
		if ($how eq 'cancel') { $h->query('SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ $$^SELECT ok FROM pg_tls_check$$', unix => 1) }
		else { ok($h->stop, '... and the server stops') }
		$s->wait;
		ok($h->poll_until(sub { !$h->processes($sleeps) }), '... and it is gone');
		like($h->log_since($mark), qr/FATAL:  terminating background worker "pg_tls check"/, '... which the log has');
	}
	unlike($h->log_text, qr/reinitializing/, 'nothing crashed');
};

is($c->postmaster_alive, 1, 'the server lives');
unlike($c->log_text, qr/PANIC|terminated by signal|exited with exit code [^01]/, 'and so did the workers');
$c->stop;
done_testing();

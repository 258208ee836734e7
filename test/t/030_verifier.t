# Verdicts follow the files and the clock for the whole life of a session, and
# sessions that are no longer acceptable end if that is asked for.

use strict;
use warnings;

use File::Temp ();
use Test::More;
use Time::HiRes qw(sleep time);

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");
my @years = (not_after => 800 * $DAY);
my $old_openssl = `openssl version` =~ /^OpenSSL 1\./;

$pki->ca($_, @years) for qw(root otherroot);
$pki->ca($_, issuer => 'root', @years) for qw(int int2);
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost'], @years);
$pki->cert('victim', issuer => 'int', subject => '/O=Example/CN=victim', serial => '0x0A1B', @years);
$pki->cert('same', issuer => 'int', @years);
$pki->cert('bystander', issuer => 'int2', @years);
$pki->cert('foreign', issuer => 'otherroot', @years);
$pki->crl($_, next_update => 100 * $DAY) for qw(root otherroot int int2);
my %good = (
	'ca.crt' => join('', map { slurp($pki->crt($_)) } qw(root otherroot)),
	'crl.pem' => join('', map { slurp($pki->crl_path($_)) } qw(root otherroot int int2)));

spew("$dir/ca.pem", $good{'ca.crt'});
spew("$dir/crl.pem", $good{'crl.pem'});
my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crl.pem",
	conf => { 'pg_tls.watch_interval' => '200ms' });

$c->start;
my $admin = $c->session(unix => 1);
$admin->query('CREATE EXTENSION pg_tls');

# Columns of the row of a session.
sub verdict
{
	my ($session, $what) = @_;

	$what //= 'acceptable, chain_status, crl_status';
	return $admin->query("SELECT $what FROM pg_stat_tls WHERE pid = " . $session->pid);
}

sub files
{
	my (%files) = @_;

	%files = (%good, %files);
	spew($c->tls($_), $files{$_}) foreach sort keys %files;
}

sub crls
{
	return join '', map { slurp($pki->crl_path($_)) } @_;
}

my @delays;

# The session's verdict, when it has become that.
sub becomes
{
	my ($session, $expected, $name) = @_;
	my $start = time;
	my $last;
	my $ok = $c->poll_until(sub { ($last = verdict($session)) eq $expected }, what => $name);

	push @delays, time - $start;
	ok($ok, "$name: $expected") or diag $last;
}

# As the log has it.
my $why = q{verify_error || ' (depth ' || verify_depth || ')'};

# A change of files, and what it does to a session: the whole story.
sub story
{
	my ($name, %o) = @_;

	subtest $name => sub {
		files(%{ $o{before} // {} });
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		my %conn = ref $o{victim} ? %{ $o{victim} } : (cert => $o{victim} // 'victim');
		my $victim = $c->session(%conn);
		my $other = $c->session(cert => $o{other} // 'bystander');
		my $without = $c->session;
		my $pid = $victim->pid;
		my $good = 't|valid|' . ($o{no_crl} ? 'not_checked' : 'good');

		becomes($victim, $good, 'before');
		is($admin->query('SELECT count(*) FROM pg_tls_check_sessions()'), 0, 'nobody to be refused');

		# Somebody puts files there.
		files(%{ $o{before} // {} }, %{ $o{after} });
		my ($chain, $crl) = $o{expect} =~ /^f\|(\w+)\|(\w+)$/;
		is($admin->query('SELECT pid, chain_status, crl_status FROM pg_tls_check_sessions()'), "$pid|$chain|$crl",
			'pg_tls_check_sessions names the one');
		like($admin->query("SELECT $why FROM pg_tls_check_sessions()"), $o{error}, 'and why');
		is(verdict($victim), $good, 'which changes nothing yet');

		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		becomes($victim, $o{expect}, 'after the reload');
		like(verdict($victim, $why), $o{error}, 'error');
		is(verdict($victim, 'valid_until, chain_length IS NOT NULL, checked_at >= (SELECT loaded_at FROM pg_tls_status)'),
			'|t|t', 'the rest of the verdict');
		is(verdict($other), $good, 'another session is acceptable');
		is(verdict($without), '||', 'one without certificate has no verdict');
		ok($c->refused(undef, %conn), 'a new connection is refused');
		is(($c->psql('SELECT 1', cert => $o{other} // 'bystander'))[0], 0, 'the other one is not');
		ok($victim->alive, 'the session goes on');
		is($admin->query('SELECT verdicts_pending FROM pg_tls_status'), 0, 'no verdict is pending');

		my $mark = $c->log_mark;
		$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
		$admin->query('SELECT pg_reload_conf()');
		ok($c->poll_until(sub { verdict($victim) eq '' }), 'pg_tls.invalid_sessions = terminate ends it');
		my (undef, undef, $err) = $victim->try_query('SELECT 1');
		like($err, qr/FATAL:  terminating connection due to administrator command\nDETAIL:  The client certificate is no longer acceptable: /,
			'the client is told');
		like($err =~ s/.*no longer acceptable: //sr, $o{error}, 'why');
		ok($c->wait_for_log(qr/LOG:  terminating connection with PID $pid, since its client certificate is no longer acceptable\n.*DETAIL:  Certificate "\/.*", serial number \d+: /, $mark),
			'the log has it');
		my ($logged) = $c->log_since($mark) =~ /serial number \d+: (.*)/;
		like($logged, $o{error}, 'and why');
		ok($other->alive, 'another session goes on');
		ok($without->alive, 'and so does one without certificate');

		$c->set_conf({ 'pg_tls.invalid_sessions' => undef });
		$admin->query('SELECT pg_reload_conf()');
	};
}

$pki->revoke('victim');
story('revoked',
	after => { 'crl.pem' => crls(qw(root otherroot int2)) . slurp($pki->crl('int', next_update => 100 * $DAY, out => "$dir/revoked.crl")) },
	other => 'same',
	expect => 'f|revoked|revoked',
	error => qr/^certificate revoked \(depth 0\)/);

story('CA removed',
	victim => 'foreign',
	after => { 'ca.crt' => slurp($pki->crt('root')) },
	expect => 'f|untrusted|missing',
	error => qr/^unable to get local issuer certificate \(depth 0\)|^self[- ]signed certificate in certificate chain \(depth 1\)/);

story('intermediate removed, which the client did not send',
	victim => { cert => 'victim', sslcert => $pki->crt('victim') },
	before => { 'ca.crt' => join('', map { slurp($pki->crt($_)) } qw(root int int2)) },
	after => { 'ca.crt' => join('', map { slurp($pki->crt($_)) } qw(root int2)) },
	expect => 'f|untrusted|missing',
	error => qr/^unable to get local issuer certificate \(depth 0\)/);

$pki->revoke('int');
story('intermediate revoked',
	after => { 'crl.pem' => crls(qw(otherroot int int2)) . slurp($pki->crl('root', next_update => 100 * $DAY, out => "$dir/revint.crl")) },
	expect => 'f|revoked|revoked',
	error => qr/^certificate revoked \(depth 1\)/);

story('CRL missing',
	after => { 'crl.pem' => crls(qw(root otherroot int2)) },
	expect => 'f|valid|missing',
	error => qr/^unable to get certificate CRL \(depth 0\)/);

story('CRL by a wrong key',
	after => { 'crl.pem' => crls(qw(root otherroot int2)) . do {
			my $fake = TlsPKI->new("$dir/fake");

			$fake->ca('int', subject => '/CN=int');
			slurp($fake->crl('int'));
		} },
	expect => 'f|valid|missing',
	error => qr/^unable to get certificate CRL \(depth 0\)/);

# These run out by themselves: nobody reloads anything.
subtest 'a certificate ends' => sub {
	files();
	$admin->query('SELECT ok FROM pg_tls_reload()');
	my $other = $c->session(cert => 'same');
	my ($victim, $before, $until) = $c->in_time(4, sub {
		$pki->cert('short', issuer => 'int', not_after => $_[0]);
		my $s = $c->session(cert => 'short');

		return ($s, verdict($s), verdict($s, 'valid_until'));
	});

	is($before, 't|valid|good', 'valid');
	is($until, verdict($victim, "client_not_after + @{[ $pki->last_second ]} * interval '1 s'"), 'until its end');
	becomes($victim, 'f|expired|good', 'at its end');
	like(verdict($victim, $why), qr/^certificate has expired \(depth 0\)/, 'error');
	ok($c->poll_until(sub { verdict($victim, "checked_at >= '$until'") eq 't' }), 'it was judged again');
	is(verdict($victim), 'f|expired|good', 'which gave the same');
	is(verdict($other), 't|valid|good', 'the other is still valid');
};

SKIP:
{
	skip 'OpenSSL 1.1.1 cannot make such CRLs', 3 if $old_openssl;

	subtest 'a CRL ends' => sub {
		my $other = $c->session(cert => 'bystander');
		my ($victim, $before, $until) = $c->in_time(5, sub {
			files('crl.pem' => crls(qw(root otherroot int2))
				  . slurp($pki->crl('int', revoked => [], next_update => $_[0], out => "$dir/short.crl")));
			$admin->query('SELECT pg_tls_reload()');
			my $s = $c->session(cert => 'same');

			return ($s, verdict($s), verdict($s, 'valid_until'));
		});

		is($before, 't|valid|good', 'before');
		becomes($victim, 'f|valid|expired', 'at its end');
		like(verdict($victim, $why), qr/^CRL has expired \(depth 0\)/, 'error');
		ok($c->poll_until(sub { verdict($victim, "checked_at >= '$until'") eq 't' }), 'it was judged again');
		is(verdict($victim), 'f|valid|expired', 'which gave the same');
		is(verdict($other), 't|valid|good', 'the other is still valid');
		files();
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		becomes($victim, 't|valid|good', 'with a new CRL');
	};

	subtest 'a CRL begins' => sub {
		my $victim = $c->session(cert => 'same');

		my ($early, $error) = $c->in_time(5, sub {
			my ($seconds) = @_;
			my $end = time + $seconds;
			my $last;

			files('crl.pem' => crls(qw(root otherroot int2))
				  . slurp($pki->crl('int', revoked => [], last_update => $seconds, next_update => $DAY, out => "$dir/future.crl")));
			$admin->query('SELECT pg_tls_reload()');
			$c->poll_until(sub { ($last = verdict($victim)) eq 'f|valid|invalid' || time > $end });
			return ($last, verdict($victim, $why));
		});

		is($early, 'f|valid|invalid', 'too early');
		like($error, qr/^CRL is not yet valid \(depth 0\)/, 'error');
		becomes($victim, 't|valid|good', 'by itself');
		is(($c->psql('SELECT 1', cert => 'same'))[0], 0, 'as for a new connection');
	};

	subtest 'a session ends with its certificate' => sub {
		files();
		$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		my $other = $c->session(cert => 'same');
		my $victim = $c->in_time(4, sub {
			$pki->sign_again('short', not_after => $_[0]);
			my $s = $c->session(cert => 'short');

			die $s->error unless $s->connected;
			return $s;
		});

		ok($c->poll_until(sub { verdict($victim) eq '' }), 'it ends');
		my (undef, undef, $err) = $victim->try_query('SELECT 1');
		like($err, qr/FATAL:  terminating.*\nDETAIL:  The client certificate is no longer acceptable: certificate has expired \(depth 0\)\./,
			'and is told why');
		ok($other->alive, 'another session goes on');
		$c->set_conf({ 'pg_tls.invalid_sessions' => undef });
		$admin->query('SELECT pg_reload_conf()');
	};
}

# Where the server does not judge, nobody is ended for it.
foreach my $setting ('ssl_ca_file', 'ssl')
{
	subtest "without $setting" => sub {
		files();
		$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		my $victim = $c->session(cert => 'same');

		becomes($victim, 't|valid|good', 'before');
		$c->set_conf({ $setting => $setting eq 'ssl' ? 'off' : '' });
		is($admin->query('SELECT count(*) FROM pg_tls_check_sessions()'), 0, 'nobody to be refused');
		$admin->query('SELECT pg_reload_conf()');
		becomes($victim, '|not_checked|not_checked', 'not checked');
		is(verdict($victim, 'verify_error, verify_depth, valid_until, chain_length'), '|||', 'and nothing else');
		is($admin->query('SELECT verdicts_pending FROM pg_tls_status'), 0, 'no verdict is pending');
		ok($victim->alive, 'the session goes on');
		$c->set_conf({ ssl => 'on', ssl_ca_file => 'tls/ca.crt', 'pg_tls.invalid_sessions' => undef });
		$admin->query('SELECT pg_reload_conf()');
		becomes($victim, 't|valid|good', 'and back');
	};
}

SKIP:
{
	skip 'ssl_crl_dir came with PostgreSQL 14', 1 if $c->pg_version < 14;

	subtest 'ssl_crl_dir' => sub {
		my $crls = $c->datadir . '/crls';
		my %hash;

		mkdir $crls or die "$crls: $!";
		foreach my $ca (qw(root otherroot int int2))
		{
			chomp($hash{$ca} = `openssl crl -in @{[ $pki->crl_path($ca) ]} -noout -hash`);
			spew("$crls/$hash{$ca}.r0", slurp($pki->crl_path($ca)));
		}
		files();
		$c->set_conf({ ssl_crl_file => '', ssl_crl_dir => 'crls' });
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		my $victim = $c->session(cert => 'victim');
		my $other = $c->session(cert => 'same');

		becomes($victim, 't|valid|good', 'before');
		my $attempts = $admin->query('SELECT attempts FROM pg_tls_status');
		spew("$crls/new", slurp("$dir/revoked.crl"));
		rename "$crls/new", "$crls/$hash{int}.r0" or die "rename: $!";
		ok($c->refused(undef, cert => 'victim'), 'a new connection is refused at once');
		becomes($victim, 'f|revoked|revoked', 'at the next look');
		is(verdict($other), 't|valid|good', 'the other is still valid');
		is($admin->query('SELECT attempts FROM pg_tls_status'), $attempts, 'nobody has reloaded');
		$c->set_conf({ ssl_crl_file => 'tls/crl.pem', ssl_crl_dir => undef });
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
		becomes($victim, 't|valid|good', 'with the file again');
	};
}

# Other kinds of sessions.
subtest 'walsender' => sub {
	files();
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	my $w = $c->walsender(cert => 'victim');

	becomes($w, 't|valid|good', 'before');
	files('crl.pem' => crls(qw(root otherroot int2)) . slurp("$dir/revoked.crl"));
	$c->set_conf({ 'pg_tls.invalid_sessions' => 'terminate' });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	my $pid = $w->pid;
	ok($c->poll_until(sub { $admin->query("SELECT count(*) FROM pg_stat_tls WHERE pid = $pid") eq '0' }), 'it ends');
	like(($w->try_query('IDENTIFY_SYSTEM'))[2], qr/DETAIL:  The client certificate is no longer acceptable: certificate revoked/,
		'and is told why');
	$c->set_conf({ 'pg_tls.invalid_sessions' => undef });
	files();
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
};

@delays = sort { $a <=> $b } @delays;
note sprintf 'median delay until the view shows a change: %.0f ms (of %d)', 1000 * $delays[ @delays / 2 ], scalar @delays;

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

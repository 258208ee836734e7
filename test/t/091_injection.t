# Memory runs out wherever pg_tls asks for it, one allocation at a time: that
# costs a row or a value in a view, or an SQL function fails, but never a
# connection, nor the server; and nobody is let in who should not be.
#
# PG_TLS_INJECTIONS says how many of the allocations of each kind are tried, 10
# by default and more where it matters most, evenly spread; 0 for all.

use strict;
use warnings;

use File::Temp ();
use List::Util qw(max);
use Test::More;

use TlsCluster;
use TlsInject;
use TlsPKI qw(slurp spew);

plan skip_all => 'needs the sources and glibc' unless TlsInject->available;

my $most = $ENV{PG_TLS_INJECTIONS} // 10;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");

chmod 0755, $dir;
my $inject = TlsInject->new("$dir/inject");
my $c = TlsCluster->new(
	ssl => 1, pki => $pki,
	hba => [ 'local all all trust', 'host all all all trust' ],
	conf => {
		# Workers start when they are asked for, and at no other time.
		'pg_tls.watch_files' => 'off',
		'pg_tls.watch_interval' => '1h',
		'pg_tls.expiry_warning' => 0,
		'pg_tls.invalid_sessions' => 'terminate',
		'pg_tls.crl_signature_cache' => $ENV{PG_TLS_SIGNATURE_CACHE} // 'off',
	});

# A single certificate in its file: OpenSSL finds the rest of the chain in
# ssl_ca_file, in the postmaster.
spew($c->tls('server.crt'), slurp($pki->crt('server')));
spew($c->tls('ca.crt'), slurp("$dir/pki/ca_both.pem"));
$c->start(env => $inject->env);

my $postmaster = $c->pid;
my $admin = $c->session(unix => 1);

$admin->query('CREATE EXTENSION pg_tls');
my $mark = $c->log_mark;

# The numbers of the allocations to try, of so many.
sub chosen
{
	my ($n, $limit) = @_;

	$limit //= $most;
	return 1 .. $n if $limit == 0 || $n <= $limit;
	return map { 1 + int(($_ - 1) * ($n - 1) / ($limit - 1)) } 1 .. $limit;
}

# How many allocations there are while the code runs.
sub count_calls
{
	my ($code, %opts) = @_;

	$inject->fail(count => 0, %opts);
	$code->();
	$inject->off;
	return $inject->calls;
}

sub pending_is_judged
{
	return $c->poll_until(sub { $admin->query('SELECT verdicts_pending FROM pg_tls_status') eq '0' });
}

foreach my $scope ('openssl', 'all')
{
	subtest "logins, $scope" => sub {
		my %clients = (
			alice => { cert => 'alice' },
			none => {},
			unix => { unix => 1 });

		foreach my $name (sort keys %clients)
		{
			my %conn = %{ $clients{$name} };
			my $n = count_calls(sub { $c->query('SELECT 1', %conn) }, who => 'login', scope => $scope);
			my ($tried, $hit, @errors) = (0, 0);

			note "$name: $n allocations";
			foreach my $i (chosen($n), -1)
			{
				$inject->fail($i > 0 ? (one => $i) : (from => 1), who => 'login', scope => $scope);
				my ($rc, undef, $err) = $c->psql('SELECT 1', %conn);

				$inject->off;
				$tried++;
				$hit++ if $inject->failed;
				push @errors, "allocation $i: $err" if $rc;
			}
			is("@errors", '', "$name: connects, $tried times");
			is($hit, $n > 0 ? $tried : 0, '... with something failing') if $name ne 'unix';
		}
		cmp_ok(count_calls(sub { $c->query('SELECT 1', cert => 'alice') }, who => 'login', scope => $scope),
			'>', 20, 'there are some to fail');
	};
}

subtest 'those who are refused' => sub {
	foreach my $name (qw(revoked expired selfsigned))
	{
		my $n = count_calls(sub { $c->psql('SELECT 1', cert => $name) }, who => 'login');
		my ($hit, @let_in) = (0);

		foreach my $i (chosen($n, $most && 5), -1)
		{
			$inject->fail($i > 0 ? (one => $i) : (from => 1), who => 'login');
			my ($rc) = $c->psql('SELECT 1', cert => $name);

			$inject->off;
			$hit++ if $inject->failed;
			push @let_in, $i if !$rc;
		}
		is("@let_in", '', "$name: is refused");
		cmp_ok($hit, '>', 0, '... with something failing');
	}
	is($c->pid, $postmaster, 'the postmaster lives');
};

# SQL functions in backends: what they give, or an error that says why.
my $alice = $c->session(cert => 'alice');
my $pem = slurp($pki->crt('alice'));
my $chain = slurp($pki->crt('int'));
my $root = slurp($pki->crt('root'));
my $crls = slurp("$dir/pki/crls.pem");
my %functions = (
	pg_stat_tls => 'SELECT pid, ssl, client_dn, client_san, acceptable FROM pg_stat_tls WHERE pid = pg_backend_pid()',
	pg_tls_session => 'SELECT pid, ssl, client_dn, chain_status FROM pg_tls_session()',
	pg_tls_client_chain => 'SELECT position, subject_dn, md5(certificate) FROM pg_tls_client_chain()',
	pg_tls_client_extensions => 'SELECT position, oid, name FROM pg_tls_client_extensions()',
	pg_tls_client_dn_field => q{SELECT pg_tls_client_dn_field('CN'), pg_tls_issuer_dn_field('1.2.3.4')},
	pg_tls_certificate => "SELECT fingerprint, serial_hex FROM pg_tls_certificate(\$c\$$pem\$c\$)",
	pg_tls_certificate_bytea => 'SELECT c.position, d.serial_hex FROM pg_tls_client_chain() c, pg_tls_certificate(c.certificate) d',
	pg_tls_verify => "SELECT * FROM pg_tls_verify(\$c\$$pem\$c\$, \$c\$$chain\$c\$, \$c\$$root\$c\$, \$c\$$crls\$c\$)",
	pg_tls_verify_rfc5280 => "SELECT * FROM pg_tls_verify(\$c\$$pem\$c\$, \$c\$$chain\$c\$, \$c\$$root\$c\$, \$c\$$crls\$c\$, mode => 'rfc5280')",
	pg_tls_status => 'SELECT active, generation, server_fingerprint, monitor_pid IS NOT NULL FROM pg_tls_status',
	pg_tls_reloads => 'SELECT attempt, ok FROM pg_tls_reloads',
	pg_stat_tls_failures => 'SELECT reason, pid FROM pg_stat_tls_failures LIMIT 5',
	pg_stat_tls_handshakes => 'SELECT result, reason FROM pg_stat_tls_handshakes',
	pg_stat_tls_clients => 'SELECT usename, encryption FROM pg_stat_tls_clients ORDER BY 1, 2',
	pg_stat_tls_client_certificates => 'SELECT fingerprint, usename FROM pg_stat_tls_client_certificates ORDER BY 1, 2');

sub try_function
{
	my ($name, $scope) = @_;
	my $query = $functions{$name};
	my $good = $alice->query($query);
	my $n = count_calls(sub { $alice->query($query) }, who => 'backend', scope => $scope);
	my ($errors, %wrong) = (0);

	foreach my $i (chosen($n), $n > 0 ? -1 : ())
	{
		$inject->fail($i > 0 ? (one => $i) : (from => 1), who => 'backend', scope => $scope);
		my ($ok, $out, $err) = $alice->try_query($query);

		$inject->off;
		$errors++ if !$ok;
		$wrong{$err}++ if !$ok && $err !~ /^(psql:\S*\s*)?ERROR:  out of memory/;
		# a name or list that found no memory may be missing or abridged
		$wrong{"result of $i: $out"}++ if $ok && $out ne $good && $name =~ /verify|certificate|dn_field|reloads|handshake/;
		my ($again_ok, $again) = $alice->try_query($query);
		$wrong{"afterwards: $again"}++ if !$again_ok || $again ne $good;
	}
	is_deeply(\%wrong, {}, "$name, $scope: the result, or no memory ($errors of $n)");
	return;
}

subtest 'SQL functions' => sub {
	try_function($_, 'openssl') for sort keys %functions;
	try_function($_, 'all') for sort keys %functions;
	ok($alice->alive, 'the session lives');
	is($c->pid, $postmaster, 'the postmaster lives');
};

# What workers answer.
my %views = (
	pg_tls_files => 'SELECT setting, state, problem FROM pg_tls_files',
	pg_tls_certificates => 'SELECT setting, state, fingerprint, has_crl FROM pg_tls_certificates',
	pg_tls_crls => 'SELECT setting, state, status, problem FROM pg_tls_crls',
	pg_tls_crl_entries => 'SELECT serial_hex, reason FROM pg_tls_crl_entries()',
	pg_tls_server_matches => q{SELECT pg_tls_server_matches('localhost')},
	pg_tls_findings => 'SELECT code, object, problem FROM pg_tls_findings ORDER BY 1, 2, 3',
	pg_tls_check => 'SELECT ok, error, warnings FROM pg_tls_check()',
	pg_tls_check_sessions => 'SELECT * FROM pg_tls_check_sessions()');

subtest 'views that workers answer' => sub {
	foreach my $name (sort keys %views)
	{
		my $query = $views{$name};
		my $worker = $name =~ /check/ ? 'pg_tls check' : 'pg_tls files';
		my $good = $admin->query($query);
		my $n = count_calls(sub { $admin->query($query) }, who => $worker);
		my ($errors, %wrong) = (0);

		foreach my $i (chosen($n, $most && max(5, int($most / 2))), -1)
		{
			$inject->fail($i > 0 ? (one => $i) : (from => 1), who => $worker);
			my ($ok, $out, $err) = $admin->try_query($query);

			$inject->off;
			$errors++ if !$ok;
			$wrong{"$i: $err"}++ if !$ok && $err !~ /ERROR:  (out of memory|.* ended without a result)/;
			$wrong{"result of $i: $out"}++ if $ok && $out ne $good;
		}
		is_deeply(\%wrong, {}, "$name: the result, or an error ($errors of $n)");
		is($admin->query($query), $good, '... and again as it was');
	}
	is($c->pid, $postmaster, 'the postmaster lives');
};

subtest 'the verifier' => sub {
	my @sessions = map { $c->session(cert => $_) } qw(alice bob carol);
	my $reload = sub {
		is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'reloaded') or return;
		return pending_is_judged();
	};
	my $judged = "SELECT bool_and(acceptable) FROM pg_stat_tls WHERE client_certificate";

	$inject->fail(count => 0, who => 'pg_tls verifier');
	$reload->();
	$inject->off;
	my $n = $inject->calls;
	my ($unknown, $hit, @refused) = (0, 0);

	cmp_ok($n, '>', 20, "there are allocations: $n");
	foreach my $i (chosen($n, $most && max($most, 25)), -1)
	{
		$inject->fail($i > 0 ? (one => $i) : (from => 1), who => 'pg_tls verifier');
		$admin->query('SELECT ok FROM pg_tls_reload()');
		pending_is_judged();
		$inject->off;
		$hit++ if $inject->failed;
		$unknown++ if $admin->query('SELECT count(*) FROM pg_stat_tls WHERE client_certificate AND acceptable IS NULL') > 0;
		push @refused, $i if $admin->query('SELECT count(*) FROM pg_stat_tls WHERE NOT acceptable') > 0;
		push @refused, "$i: ended" if grep { !$_->alive } @sessions;
		last if @refused;
	}
	is("@refused", '', "nobody is refused or ended ($unknown verdicts were not known)");
	cmp_ok($hit, '>', 10, '... with something failing');
	$reload->();
	is($admin->query($judged), 't', 'the next reload knows again');
	is(scalar(grep { $_->alive } @sessions), 3, 'all sessions live');
};

# The postmaster loads: whatever fails, the load is as without us.
subtest 'loads' => sub {
	my $attempts = 'SELECT attempts FROM pg_tls_status';
	my $reload = sub {
		my $before = $admin->query($attempts);

		$admin->query('SELECT pg_reload_conf()');
		return $c->poll_until(sub { $admin->query($attempts) > $before });
	};
	my $certificates = sub { return scalar(() = $c->s_client(extra => ['-showcerts']) =~ /BEGIN CERTIFICATE/g) };
	my $n = count_calls(sub { $reload->(); $c->query('SELECT 1', cert => 'alice') }, who => 'postmaster');
	my $sent = $certificates->();
	my (@errors, %inactive, %short);
	my $hit = 0;

	cmp_ok($n, '>', 5, "there are allocations: $n");
	foreach my $i (chosen($n, $most && max($most, 30)), -1)
	{
		$inject->fail($i > 0 ? (one => $i) : (from => 1), who => 'postmaster');
		$reload->() or last;
		my ($rc, undef, $err) = $c->psql('SELECT 1', cert => 'alice', ssl => 'verify-full');

		$inject->off;
		push @errors, "$i: $err" if $rc;
		$hit++ if $inject->failed;
		$inactive{$i} = 1 if $admin->query('SELECT active FROM pg_tls_status') eq 'f';
		my $now = $certificates->();
		$short{$i} = $now if $now != $sent;
	}
	is("@errors", '', 'clients connect');
	cmp_ok($hit, '>', 5, 'with something failing');
	is_deeply(\%inactive, {}, 'and TLS is never said to be off');
	is_deeply(\%short, {}, 'clients are sent the same certificates');
	is($c->pid, $postmaster, 'the postmaster lives');
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'a reload afterwards');
	is($admin->query('SELECT active, last_attempt_ok, server_fingerprint IS NOT NULL FROM pg_tls_status'), 't|t|t', '... is seen');
};

subtest 'no shared memory' => sub {
	my $good = $admin->query($views{pg_tls_files});

	foreach my $i (1, 2)
	{
		$inject->fail(one => $i, who => 'backend', scope => 'shm');
		my ($ok, undef, $err) = $admin->try_query($views{pg_tls_files});

		ok(!$ok, 'a view that needs some');
		like($err, qr/ERROR:  could not (open|resize) shared memory segment .*: No space left on device/, 'says so');
		$inject->off;
		is($admin->query($views{pg_tls_files}), $good, 'and has its rows again');
	}
	$inject->fail(from => 1, who => 'backend', scope => 'shm');
	isnt($admin->query('SELECT count(*) FROM pg_stat_tls'), 0, 'others need none');
	is(($c->psql('SELECT 1', cert => 'alice'))[0], 0, 'nor do clients');
	$inject->off;
};

subtest 'no process' => sub {
	my $good = $admin->query($views{pg_tls_files});

	foreach my $name (qw(pg_tls_files pg_tls_check))
	{
		my $since = $c->log_mark;

		$inject->fail(one => 1, who => 'postmaster', scope => 'fork');
		my ($ok, undef, $err) = $admin->try_query($views{$name});

		is($inject->failed, 1, 'the worker could not be started');
		$inject->off;
		ok(!$ok, "$name fails");
		like($err, qr/ERROR:  .* ended without a result\n.*HINT:  Try again/, 'cleanly');
		like($c->log_since($since), qr/could not fork .*worker process/, 'the log says why');
		ok(($admin->try_query($views{$name}))[0], 'and works again');
	}
	is($admin->query($views{pg_tls_files}), $good, 'the same rows');

	# the monitor tries again, too
	my $session = $c->session(cert => 'bob');
	$inject->fail(one => 2, who => 'postmaster', scope => 'fork');    # the first is for the dry run
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'a reload');
	ok($c->poll_until(sub { $inject->failed }), 'the verifier cannot be started');
	$inject->off;
	ok(pending_is_judged(), 'but is in the end');
	is($admin->query('SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $session->pid), 't', 'with the right verdict');
};

is($c->pid, $postmaster, 'the postmaster is the same as at the beginning');
unlike($c->log_since($mark), qr/PANIC|TRAP|terminated by signal|reinitializing|server process .* exit/, 'nothing crashed');
ok($c->stop, 'stops');
done_testing();

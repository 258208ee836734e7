# The extension's life in databases: dropped while it is in use, dumped and
# restored, and taken along by pg_upgrade.

use strict;
use warnings;

use Cwd ();
use File::Temp ();
use IPC::Run ();
use POSIX ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $bin = TlsCluster->pg_config('bindir');
my %crl = (good => slurp("$dir/pki/crls.pem"));

$pki->crl('int', out => "$dir/alice.crl", revoked => ['alice']);
$crl{revoked} = slurp($pki->crl_path('root')) . slurp("$dir/alice.crl");

my $c = TlsCluster->new(ssl => 1, pki => $pki);

# Runs a program; true if that worked, else it says why.
sub runs
{
	my ($what, @cmd) = @_;
	my $out = '';

	IPC::Run::run(\@cmd, '<', \undef, '>&', \$out, IPC::Run::timeout(120));
	return ok($? == 0, $what) || (diag($out), 0)[1];
}

sub q1 { my ($sql, %o) = @_; return $c->query($sql, unix => 1, %o) }

my @views = qw(pg_stat_tls pg_tls_status pg_tls_reloads pg_tls_files pg_tls_certificates pg_tls_crls
  pg_stat_tls_failures pg_stat_tls_info pg_stat_tls_handshakes pg_stat_tls_clients pg_stat_tls_client_certificates pg_tls_findings);

$c->start;
q1("CREATE DATABASE $_") for qw(one two);
q1('CREATE EXTENSION pg_tls', dbname => $_) for qw(postgres one two);

my $alice = $c->session(cert => 'alice');
my $monitor = q1('SELECT monitor_pid FROM pg_tls_status');

subtest 'dropped while a transaction has read from it' => sub {
	my $reader = $c->session(unix => 1);
	my $dropper = $c->session(unix => 1);

	$reader->query('BEGIN; DECLARE mine CURSOR FOR SELECT pid, client_cn FROM pg_stat_tls WHERE client_certificate');
	like(($dropper->try_query("SET lock_timeout = '200ms'; DROP EXTENSION pg_tls"))[2], qr/ERROR:  canceling statement due to lock timeout/,
		'the drop waits for an open cursor');
	is($reader->query('FETCH ALL FROM mine'), $alice->pid . '|alice', 'which goes on');
	$dropper->query('RESET lock_timeout');
	$dropper->send('DROP EXTENSION pg_tls');
	ok($c->poll_query(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'DROP EXTENSION pg_tls%'}, '1',
			unix => 1), 'the drop waits');
	$reader->query('COMMIT');
	ok(($dropper->wait)[0], '... until the transaction ends');
	like(($reader->try_query('SELECT * FROM pg_stat_tls'))[2], qr/relation "pg_stat_tls" does not exist/, 'then the view is gone');

	$dropper->query('CREATE EXTENSION pg_tls');
	$reader->query('PREPARE p AS SELECT client_cn FROM pg_stat_tls WHERE client_certificate');
	is($reader->query('EXECUTE p'), 'alice', 'a prepared statement');
	$reader->query('BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT client_cn FROM pg_stat_tls WHERE client_certificate; COMMIT');
	$dropper->query('DROP EXTENSION pg_tls');
	is($reader->query('FETCH ALL FROM kept'), 'alice', 'a cursor WITH HOLD outlives the drop');
	like(($reader->try_query('EXECUTE p'))[2], qr/ERROR:  relation "pg_stat_tls" does not exist/, 'the prepared statement fails');
	$dropper->query('CREATE EXTENSION pg_tls');
	is($reader->query('EXECUTE p'), 'alice', '... and works again with a new extension');
};

# One dry run waits for its passphrase in the meantime.
subtest 'dropped while its functions run' => sub {
	my $key = slurp($c->tls('server.key'));
	my $s = $c->session(unix => 1);
	my $t = $c->session(unix => 1);

	unlink $c->tls('server.key');
	system("openssl pkey -in '" . $pki->key('server') . "' -aes128 -passout pass:secret -out '" . $c->tls('server.key') . "'") == 0 or die;
	chmod 0600, $c->tls('server.key');
	$c->set_conf({ ssl_passphrase_command => "while test ! -e '$dir/go'; do sleep 0.05; done; echo secret",
			ssl_passphrase_command_supports_reload => 'on' });
	$s->send('SELECT ok, error FROM pg_tls_check()');
	$t->send('SELECT pg_tls_reload()');
	ok($c->poll_until(sub { $c->processes(qr/while test ! -e '\Q$dir\E/) }), 'a dry run is under way');
	q1('DROP EXTENSION pg_tls');
	spew("$dir/go", '');
	is(($s->wait)[1], 't|', 'which ends as if nothing were');
	my (undef, undef, $err) = $t->wait;
	unlike($err, qr/terminat|closed|ended/, 'so does a reload, with or without an error');
	ok($_->alive, 'the session is alive') for $s, $t;
	q1('CREATE EXTENSION pg_tls');
	cmp_ok(q1('SELECT generation FROM pg_tls_status'), '>=', 1, 'nothing was lost');

	spew($c->tls('server.key'), $key);
	$c->set_conf({ ssl_passphrase_command => undef, ssl_passphrase_command_supports_reload => undef });
	is(q1('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
};

subtest 'dropped and created while others read, reload and connect' => sub {
	my (@children, %errors);
	my @statements = (
		(map { "SELECT count(*) FROM $_" } qw(pg_stat_tls pg_tls_findings pg_tls_certificates pg_stat_tls_clients)),
		'SELECT ok FROM pg_tls_reload()', 'SELECT count(*) FROM pg_tls_check_sessions()');

	foreach my $n (1 .. 3)
	{
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			my $stop = 0;
			local $SIG{TERM} = sub { $stop = 1 };
			my ($log, $k) = ('', $n);

			until ($stop)
			{
				# Some of them each time in a new session, which is judged, too.
				my $session = $c->session($n == 1 ? (cert => 'bob') : (unix => 1));

				foreach (1 .. 5)
				{
					my ($ok, undef, $err) = $session->try_query($statements[ $k++ % @statements ]);

					$log .= $ok ? "ok\n" : $err =~ s/\n.*//sr . "\n";
				}
				$session->close;
				spew("$dir/reader.$n", $log);
			}
			POSIX::_exit(0);
		}
		push @children, $pid;
	}

	my $deadline = time + 6;
	my $rounds = 0;
	my $failed = '';

	# ... and on a slow machine, until there was time for some of them.
	my $worked = sub { return scalar map { slurp("$dir/reader.$_") =~ /^ok$/mg } grep { -e "$dir/reader.$_" } 1 .. 3 };

	while (time < $deadline || (($worked->() <= 5 || 3 != grep { -e "$dir/reader.$_" } 1 .. 3) && time < $deadline + $TlsCluster::TIMEOUT))
	{
		foreach my $sql ('DROP EXTENSION pg_tls', 'CREATE EXTENSION pg_tls')
		{
			my ($rc, undef, $err) = $c->psql($sql, unix => 1);

			$failed = $err if $rc;
		}
		$rounds++;
	}
	kill 'TERM', @children;
	waitpid $_, 0 for @children;
	is($failed, '', "no drop or create fails, in $rounds rounds");
	$errors{$_}++ for map { split /\n/, slurp("$dir/reader.$_") } 1 .. 3;
	my $good = delete $errors{ok} // 0;

	cmp_ok($good, '>', 5, 'statements work in between');
	# What PostgreSQL says of any object that goes away just then.
	my @odd = grep {
		!/does not exist|could not open relation with OID|cache lookup failed|tuple concurrently|is not a composite type|could not determine/
	} keys %errors;
	is("@odd", '', 'the others fail for what was dropped, and for nothing else');
	note "$good worked; " . join ', ', map { "$errors{$_}: $_" } sort keys %errors;
	is(q1('SELECT client_cn, acceptable FROM pg_stat_tls WHERE pid = ' . $alice->pid), 'alice|t', 'a session from before');
	is(q1('SELECT monitor_pid FROM pg_tls_status'), $monitor, 'the monitor is the same');
};

subtest 'in several databases' => sub {
	is(q1('SELECT client_cn FROM pg_stat_tls WHERE client_certificate', dbname => $_), 'alice', "$_: the same sessions")
	  for qw(postgres one two);
	my $s = $c->session(unix => 1, dbname => 'two');
	$s->query('SELECT count(*) FROM pg_tls_findings');
	q1('DROP EXTENSION pg_tls', dbname => 'one');
	is($s->query('SELECT count(*) FROM pg_stat_tls WHERE client_certificate'), 1, 'dropped in one database, it works in another');
	$s->close;
	is((($c->psql('DROP DATABASE two', unix => 1)))[2], '', 'and no worker keeps a database');
	is(q1('SELECT monitor_pid FROM pg_tls_status'), $monitor, 'the monitor is the same');

	# Nobody has the extension: what is seen stays.
	q1('DROP EXTENSION pg_tls');
	$c->query('SELECT 1', cert => 'carol');
	ok($c->refused(undef, cert => 'revoked'), 'a client fails meanwhile');
	my $mark = $c->log_mark;
	spew($c->tls('crl.pem'), $crl{revoked});
	$c->reload;
	ok($c->wait_for_log(qr/received SIGHUP/, $mark), 'and the server reloads');
	ok($c->poll_until(sub { ($c->psql('SELECT 1', cert => 'alice'))[0] != 0 }), '... a CRL');
	q1('CREATE EXTENSION pg_tls');
	ok($c->poll_query('SELECT acceptable, chain_status FROM pg_stat_tls WHERE pid = ' . $alice->pid, 'f|revoked', unix => 1),
		'sessions are judged all the same');
	spew($c->tls('crl.pem'), $crl{good});
	is(q1('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
	ok($c->poll_query('SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $alice->pid, 't', unix => 1), 'and judged again');
	is(q1(q{SELECT sessions FROM pg_stat_tls_client_certificates WHERE subject_dn = '/O=Example/CN=carol'}), 1, 'a client was seen');
	is(q1(q{SELECT count(*) FROM pg_stat_tls_failures WHERE subject_dn = '/O=Example/CN=revoked'}), 1, 'and a failure');
};

# What a DBA makes of it: another schema, other privileges, views of his own.
my $of_the_dba = <<'END';
CREATE SCHEMA "Monitor ing";
GRANT USAGE ON SCHEMA "Monitor ing" TO ops, auditor;
CREATE EXTENSION pg_tls SCHEMA "Monitor ing";
GRANT EXECUTE ON FUNCTION "Monitor ing".pg_tls_reload(interval) TO ops;
GRANT EXECUTE ON FUNCTION "Monitor ing".pg_tls_check() TO ops WITH GRANT OPTION;
GRANT SELECT ON "Monitor ing".pg_tls_status TO auditor;
GRANT EXECUTE ON FUNCTION "Monitor ing".pg_tls_status() TO auditor;
REVOKE SELECT ON "Monitor ing".pg_stat_tls FROM PUBLIC;
GRANT SELECT (pid, version) ON "Monitor ing".pg_stat_tls TO auditor;
CREATE VIEW who AS SELECT pid, client_cn, acceptable FROM "Monitor ing".pg_stat_tls WHERE ssl;
CREATE FUNCTION refused() RETURNS SETOF "Monitor ing".pg_stat_tls LANGUAGE sql
	AS $$ SELECT * FROM "Monitor ing".pg_stat_tls WHERE NOT acceptable $$;
CREATE TABLE kept AS SELECT now() AS at, s AS row FROM "Monitor ing".pg_stat_tls s WHERE client_certificate;
GRANT SELECT ON who TO auditor;
END

# What is to be the same afterwards.
my $acls = q{
	SELECT format('%s %s', p.oid::regprocedure, array(SELECT a::text FROM unnest(proacl) a ORDER BY 1))
	FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
	UNION ALL
	SELECT format('%s %s %s', c.oid::regclass, array(SELECT a::text FROM unnest(relacl) a ORDER BY 1),
		array(SELECT attname::text || attacl::text FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL))
	FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
	WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
	ORDER BY 1};

# Checks a database that has all of that, in a server with a session of alice.
sub same
{
	my ($cluster, $dbname, $acl, $pid) = @_;
	my $get = sub { return $cluster->query($_[0], unix => 1, dbname => $dbname) };

	is($get->($acls), $acl, 'privileges');
	is($get->("SELECT client_cn, acceptable FROM who WHERE pid = $pid"), 'alice|t', 'a view of the user');
	is($get->('SELECT count(*) FROM refused()'), 0, 'a function of the user');
	is($get->('SELECT (row).client_cn, (row).client_dn FROM kept'), 'alice|/O=Example/CN=alice', 'a table with a row of the view');
	foreach my $view (@views)
	{
		my ($rc, undef, $err) = $cluster->psql(qq{SELECT * FROM "Monitor ing".$view}, unix => 1, dbname => $dbname);

		is($err, '', $view);
	}
	my $as = sub { return ($cluster->psql($_[1], unix => 1, dbname => $dbname, user => $_[0]))[ 1, 2 ] };

	is(($as->('ops', 'SELECT ok FROM "Monitor ing".pg_tls_reload()'))[0], 't', 'whoever was granted it reloads');
	like(($as->('auditor', 'SELECT ok FROM "Monitor ing".pg_tls_reload()'))[1], qr/permission denied/, '... and nobody else');
	is(($as->('auditor', 'SELECT active FROM "Monitor ing".pg_tls_status'))[0], 't', 'a granted view');
	like(($as->('ops', 'SELECT * FROM "Monitor ing".pg_stat_tls'))[1], qr/permission denied/, 'a revoked one');
	is(($as->('auditor', qq{SELECT version FROM "Monitor ing".pg_stat_tls WHERE pid = $pid}))[1], '', 'a granted column');
}

q1('CREATE ROLE ops LOGIN; CREATE ROLE auditor LOGIN');
q1($of_the_dba, dbname => 'one');
my $acl = q1($acls, dbname => 'one');
like($acl, qr/pg_tls_reload\(interval\).*ops=X/, 'there are privileges to be kept');

subtest 'pg_dump and pg_restore' => sub {
	same($c, 'one', $acl, $alice->pid);
	foreach my $format ('plain', 'custom')
	{
		my @conn = ('-h', $c->sockdir, '-p', $c->port, '-U', 'postgres');
		my $file = "$dir/dump.$format";

		runs("pg_dump, $format", "$bin/pg_dump", @conn, "--format=$format", '-f', $file, 'one') or next;
		unlike(slurp($file), qr/CREATE VIEW "Monitor ing"/, "the extension's objects are not in it") if $format eq 'plain';
		foreach my $clean (0, 1)
		{
			# --clean: over a database that has it all
			q1('CREATE DATABASE restored') unless $clean;
			runs("$format, " . ($clean ? 'over what there is' : 'into an empty database'), $format eq 'plain'
				? do
				{
					runs('pg_dump --clean', "$bin/pg_dump", @conn, '--clean', '--if-exists', '-f', $file, 'one') if $clean;
					("$bin/psql", '-Xq', '-v', 'ON_ERROR_STOP=1', @conn, '-f', $file, 'restored');
				}
				: ("$bin/pg_restore", @conn, '--exit-on-error', $clean ? ('--clean', '--if-exists') : (), '-d', 'restored', $file));
			same($c, 'restored', $acl, $alice->pid);
		}
		q1('DROP DATABASE restored');
	}
};

# An upgrade to the same major is an upgrade to pg_upgrade.
SKIP:
{
	skip 'pg_upgrade is not installed', 2 unless -x "$bin/pg_upgrade";

	my $new = TlsCluster->new(name => 'new', ssl => 1, pki => $pki);
	my $all = "$dir/all.sql";

	subtest 'pg_dumpall, and a restore into a new cluster' => sub {
		runs('pg_dumpall', "$bin/pg_dumpall", '-h', $c->sockdir, '-p', $c->port, '-U', 'postgres', '-f', $all);

		my $other = TlsCluster->new(name => 'restored', ssl => 1, pki => $pki);
		$other->start;
		my $s = $other->session(cert => 'alice');

		# It exists, and the dump wants to make it.
		spew($all, slurp($all) =~ s/^CREATE ROLE postgres;$//mr);
		runs('restore', "$bin/psql", '-Xq', '-v', 'ON_ERROR_STOP=1', '-h', $other->sockdir, '-p', $other->port, '-U', 'postgres',
			'-f', $all, 'postgres');
		same($other, 'one', $acl, $s->pid);
		is($other->query('SELECT client_cn FROM pg_stat_tls WHERE client_certificate', unix => 1), 'alice', 'and in another database');
		$s->close;
		$other->stop;
	};

	subtest 'pg_upgrade' => sub {
		my $cwd = Cwd::getcwd();
		my @cmd = ("$bin/pg_upgrade", '-b', $bin, '-B', $bin, '-d', $c->datadir, '-D', $new->datadir, '-s', $new->sockdir,
			'-U', 'postgres', '-p', $c->port, '-P', $new->port, '--link');

		$alice->close;
		$c->stop;
		chdir $dir or die;    # where some versions write
		my $checked = runs('pg_upgrade --check', @cmd, '--check');
		runs('pg_upgrade', @cmd) if $checked;
		chdir $cwd or die;
		ok($new->start, 'the new server starts');
		my $s = $new->session(cert => 'alice');
		same($new, 'one', $acl, $s->pid);
		is($new->query('SELECT client_cn FROM pg_stat_tls WHERE client_certificate', unix => 1), 'alice', 'and in another database');
		is($new->query(q{SELECT count(*) FROM pg_stat_tls_client_certificates WHERE subject_dn LIKE '%carol'}, unix => 1), 0,
			'what was seen of clients is not taken along');
		is($new->query('SELECT extversion FROM pg_extension WHERE extname = \'pg_tls\'', unix => 1),
			slurp(TlsCluster->pg_config('sharedir') . '/extension/pg_tls.control') =~ /^default_version = '(.*)'/m ? $1 : '', 'version');
		$new->query('DROP EXTENSION pg_tls; CREATE EXTENSION pg_tls', unix => 1);
		is($new->query('SELECT client_cn FROM pg_stat_tls WHERE client_certificate', unix => 1), 'alice', 'DROP and CREATE EXTENSION');
		$s->close;
		$new->stop;
		unlike($new->log_text, qr/PANIC|TRAP|signal 11/, 'nothing bad in the log');
	};
}

$c->stop;
unlike($c->log_text, qr/PANIC|TRAP|signal 11/, 'nothing bad in the log');
done_testing();

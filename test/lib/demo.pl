# The part of test/demo that runs as the user of the server:
#
#   demo.pl DIRECTORY [--keep]
#
# The directory is removed at the end, unless the server is kept.

use strict;
use warnings;

use File::Path qw(remove_tree);
use File::Temp ();
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep);
use TlsCluster;
use TlsPKI qw(slurp spew);

my ($dir, $keep) = @ARGV;

# It is going to be removed.
die "not to be started by hand, but by test/demo\n" unless ($dir // '') =~ m{/pg_tls\.\w+\z};

my $owner = $$;    # END does nothing in other processes
my $interrupted;

# test/demo left them ignored.
$SIG{$_} = sub {
	POSIX::_exit(1) if $$ != $owner;    # a child that is no program yet
	$interrupted = 1;
	exit 130;
  }
  for qw(INT TERM HUP);
$File::Temp::KEEP_ALL = 1;    # END removes what is below $dir, and in time
$| = 1;

my $HOUR = 3600;
my $DAY = 24 * $HOUR;
my $colours = -t STDOUT && !length($ENV{NO_COLOR} // '') && ($ENV{TERM} // '') ne 'dumb';
my $service_file = "$dir/services";
my $stop_script = "$dir/stop";
my $c;          # the TlsCluster
my @clients;    # pids

END
{
	return if $$ != ($owner // 0);

	my $status = $?;

	$SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
	chdir '/';
	end_children();
	system 'sh', $stop_script if -e $stop_script;
	for (1 .. 50)
	{
		# What a program that is ending still wrote is for the next turn.
		remove_tree($dir, { error => \my $errors });
		last unless -e $dir;
		sleep 0.1;
	}
	say_step(($interrupted ? 'interrupted' : 'failed') . ', nothing is left running') if $status;
	$? = $status;
}

# Clients, and what was interrupted.
sub end_children
{
	for my $turn (0 .. 49)
	{
		open my $fh, '<', "/proc/$$/task/$$/children" or last;
		my @children = split ' ', <$fh> // '' or last;

		kill $turn < 30 ? 'TERM' : 'KILL', @children unless $turn % 10;
		sleep 0.1;
		1 while waitpid(-1, WNOHANG) > 0;
	}
	return;
}

sub say_step { return print STDERR "test/demo: @_\n" }
sub bold { return $colours ? "\e[1m$_[0]\e[0m" : $_[0] }
sub typed { return $colours ? "\e[36m$_[0]\e[0m" : $_[0] }
sub program { return TlsCluster->pg_config('bindir') . "/$_[0]" }

sub run
{
	my @command = @_;

	system @command;
	return if $? == 0;
	kill 'INT', $$ if ($? & 127) == POSIX::SIGINT;
	die "@command failed\n";
}

# ---------------------------------------------------------------- the world

my @hba = split /\n/, <<'END';
# TYPE     DATABASE     USER      ADDRESS   METHOD
local      all          postgres            peer map=admins
hostssl    replication  standby   samehost  cert
hostssl    all          carol     samehost  scram-sha-256 clientcert=verify-ca
hostssl    all          +staff    samehost  cert map=people
hostssl    all          webshop   samehost  scram-sha-256
hostnossl  all          legacy    samehost  scram-sha-256
END

sub make_pki
{
	my $pki = TlsPKI->new("$dir/pki");
	my %people = (
		anna => [ key => 'rsa' ],
		boris => [],
		carol => [ key => 'ed25519', san => [ 'email:carol@example.org', 'DNS:pc7.example.org' ] ],
		dora => [ not_after => $HOUR / 6 ],
		frida => []);

	$pki->ca('root', subject => '/CN=Root CA', not_after => 3650 * $DAY);
	$pki->ca('staffca', issuer => 'root', subject => '/CN=Staff CA', not_after => 1000 * $DAY);
	$pki->ca('serverca', issuer => 'root', subject => '/CN=Server CA', not_after => 1000 * $DAY);
	$pki->cert('server',
		issuer => 'serverca',
		kind => 'server',
		subject => '/CN=localhost',
		san => [ 'DNS:localhost', 'IP:127.0.0.1' ],
		not_after => 90 * $DAY);
	$pki->cert('standby', issuer => 'serverca', kind => 'client', not_after => 90 * $DAY);
	foreach my $name (sort keys %people)
	{
		$pki->cert($name, staff($name), not_after => 365 * $DAY, @{ $people{$name} });
	}
	$pki->revoke('frida', reason => 'keyCompromise');
	$pki->crl('root', next_update => 180 * $DAY);
	$pki->crl('staffca', next_update => 7 * $DAY);
	$pki->crl('serverca', next_update => 180 * $DAY);
	$pki->bundle("$dir/pki/ca.pem", 'root');
	$pki->crl_file("$dir/pki/crls.pem", qw(root staffca serverca));
	return $pki;
}

sub staff
{
	my ($name) = @_;

	return (issuer => 'staffca', subject => "/O=Example/CN=$name\@example.org");
}

# A server that is none of this process's children: with --keep it stays.
sub start_server
{
	my ($pki) = @_;
	my %admins = map { $_ => 1 } 'root', scalar getpwuid $>;

	$c = TlsCluster->new(
		ssl => 1,
		pki => $pki,
		conf => { password_encryption => 'scram-sha-256', log_line_prefix => '%m [%p] ' },
		hba => \@hba,
		ident => [
			(map { "admins $_ postgres" } sort keys %admins),
			'people /^(.*)@example\.org$ \1' ]);

	# Everything in one place, and what is only used once goes.
	remove_tree("$dir/template", "$dir/lib");
	spew($stop_script, <<"END");
# Stops the server of the demo, whose clients then go too, and removes it all.
pid=\$(sed -n 1p '${\ $c->datadir}/postmaster.pid' 2>/dev/null)
for signal in INT QUIT KILL; do
	i=0
	while [ "\$pid" ] && [ "\$(readlink "/proc/\$pid/cwd")" = '${\ $c->datadir}' ] && [ \$i -lt 100 ]; do
		[ \$i -gt 0 ] || kill -s \$signal "\$pid"
		i=\$((i + 1))
		sleep 0.1
	done
done
rm -rf '$dir'
END
	run(program('pg_ctl'), '-s', '-w', '-D', $c->datadir, '-l', $c->logfile, 'start');
	return;
}

# One service per client, so that a command is short: psql service=anna.
sub make_services
{
	my @lines;
	my $add = sub {
		my ($name, %opts) = @_;
		my $cert = delete $opts{cert};
		my %service = (
			host => 'localhost',
			hostaddr => '127.0.0.1',
			port => $c->port,
			dbname => 'postgres',
			user => $name,
			gssencmode => 'disable',
			sslmode => 'verify-full',
			sslrootcert => "$dir/pki/ca.pem",
			sslcert => $cert ? $c->pki->chain($cert) : "$dir/pki/none",
			sslkey => $cert ? $c->pki->key($cert) : "$dir/pki/none",
			%opts);

		push @lines, "[$name]\n",
		  (map { "$_=$service{$_}\n" } grep { defined $service{$_} } sort keys %service), "\n";
	};
	my @no_tls = map { $_ => undef } qw(sslrootcert sslcert sslkey);

	$add->('postgres',
		host => $c->sockdir, hostaddr => undef, sslmode => undef, @no_tls);
	$add->('anna', cert => 'anna', ssl_max_protocol_version => 'TLSv1.2');
	$add->($_, cert => $_) for qw(boris dora emil frida);
	$add->('standby', cert => 'standby', replication => 1);
	$add->('carol', cert => 'carol', password => 'sesame');
	$add->('webshop', password => 'sesame');
	$add->('legacy', sslmode => 'disable', password => 'sesame', @no_tls);
	spew($service_file, @lines);
	chmod 0600, $service_file;
	$ENV{PGSERVICEFILE} = $service_file;
	return;
}

# ---------------------------------------------------------------- the clients

# A client that stays until the server goes.
sub client
{
	my ($name, @command) = @_;
	my $pid = fork // die "fork: $!\n";

	if ($pid == 0)
	{
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
		POSIX::setsid();    # ^C is for us
		open STDIN, '<', '/dev/null'
		  and open STDOUT, '>', "$dir/log/$name"
		  and open STDERR, '>&', \*STDOUT
		  and exec @command;
		POSIX::_exit(127);
	}
	push @clients, $pid;
	return;
}

sub psql_client
{
	my ($name, $application) = @_;

	return client($name, program('psql'),
		'-X', "service=$name application_name=$application", '-c', 'SELECT pg_sleep(86400)');
}

# Waits until all of them are in.
sub wait_for_clients
{
	my ($n) = @_;
	my $sql = 'SELECT count(*) FROM pg_stat_tls WHERE pid <> pg_backend_pid()';
	my $ok = $c->poll_until(
		sub {
			foreach my $pid (@clients)
			{
				next if waitpid($pid, WNOHANG) == 0;
				@clients = grep { $_ != $pid } @clients;
				return 'gone';
			}
			return admin($sql) == $n ? 'in' : '';
		},
		what => 'the clients') // 'missing';

	return if $ok eq 'in';
	die "not all clients could connect:\n", client_messages();
}

sub client_messages
{
	my $text = '';

	foreach my $file (glob "$dir/log/*")
	{
		open my $fh, '<', $file or next;
		local $/ = undef;
		$text .= <$fh> // '';
	}
	return $text;
}

sub admin
{
	my ($sql) = @_;

	return $c->query($sql, conn => 'service=postgres');
}

# ---------------------------------------------------------------- the output

sub heading
{
	my ($title, @text) = @_;
	our $number;

	print "\n", bold(++$number . ". $title"), "\n";
	print "$_\n" for @text;
	print "\n";
	return;
}

sub show
{
	my ($sql, @args) = @_;

	print map({ '    ' . typed($_) . "\n" } split /\n/, $sql), "\n";
	run(program('psql'), '-X', '-q', '-P', 'pager=off', @args, '-d', 'service=postgres', '-c', $sql);
	return;
}

sub print_tables
{
	print "\nThe server has ", typed("shared_preload_libraries = 'pg_tls'"),
	  ', the database did ', typed('CREATE EXTENSION pg_tls'), ', and pg_hba.conf is:', "\n\n";
	print map({ '    ' . typed($_) . "\n" } @hba);

	heading('Who is connected, and how?', 'One row for each client session, with TLS or without.');
	show(<<'END');
SELECT usename, application_name, encryption, version, cipher, key_exchange, auth_method
FROM pg_stat_tls JOIN pg_stat_activity USING (pid)
ORDER BY encryption DESC, usename;
END

	heading('Whose certificates are these, and for how long will the server take them?',
		'Until the first end in the chain or of a CRL: for most of the staff it is the CRL that ends first.');
	show(<<'END');
SELECT client_cn, issuer_dn, client_key, chain_status AS chain, crl_status AS crl, acceptable,
       client_not_after::date AS not_after, date_trunc('second', valid_until - now()) AS remaining
FROM pg_stat_tls
WHERE client_certificate
ORDER BY valid_until, client_cn;
END

	heading('Who is still connected, but would not be let in again?',
		'Emil\'s certificate ended after he had connected.');
	show(<<'END');
SELECT pid, usename, backend_start, valid_until, verify_error
FROM pg_stat_tls JOIN pg_stat_activity USING (pid)
WHERE NOT acceptable;
END

	heading('Who works over the network in clear text?');
	show(<<'END');
SELECT pid, usename, application_name, client_addr, auth_method, auth_identity
FROM pg_stat_tls JOIN pg_stat_activity USING (pid)
WHERE encryption = 'none';
END

	heading('What is known of one session?');
	show(<<'END', '-x');
SELECT * FROM pg_stat_tls WHERE client_cn = 'carol@example.org';
END
	return;
}

sub print_refused
{
	my $mark = $c->log_mark;
	my ($rc, undef, $err) = $c->psql('SELECT 1', conn => 'service=frida');

	die "frida was let in, with a revoked certificate\n" unless $rc;
	$c->wait_for_log(qr/SSL connection.*\n/, $mark);
	heading('Who is not connected?', 'Frida, whose certificate is revoked.  She sees, and the server\'s log says:');
	print "$err\n\n", grep { !/connection received/ } split /^/, $c->log_since($mark);
	print "\nA query tells it without the log:\n\n";
	show(<<'END', '-x');
SELECT failed_at::timestamp(0), client_addr, reason, verify_error, subject_dn, serial, not_after::date
FROM pg_stat_tls_failures;
END
	return;
}

sub print_reload
{
	my ($pki) = @_;

	$pki->sign_again('server', not_after => 800 * 86400);
	$pki->cert('other', issuer => 'serverca');
	my $key = slurp($c->tls('server.key'));
	spew($c->tls('server.key'), slurp($pki->key('other')));
	spew($c->tls('server.crt'), slurp($pki->chain('server')));

	heading('The server certificate was renewed.  Would the server load the new files?',
		'No: the key is another\'s.  This was a dry run; nothing was changed, and nothing logged.');
	show('SELECT ok, error FROM pg_tls_check();');
	show('SELECT setting, state, owner, mode, problem FROM pg_tls_files;');

	heading('Somebody reloads all the same.  What is in force?', 'The old files; the setting and pg_reload_conf() both say that all is well.');
	admin('SELECT pg_reload_conf()');
	$c->poll_until(sub { admin('SELECT count(*) FROM pg_tls_reloads WHERE NOT ok') })
	  or die "the failed reload was not noticed\n";
	show(<<'END', '-x');
SELECT active, generation, last_attempt_ok, last_error, server_not_after FROM pg_tls_status;
END

	spew($c->tls('server.key'), $key);
	heading('The right key is put there.  Reload, and tell whether it worked.');
	show('SELECT ok, generation, server_not_after FROM pg_tls_reload();');
	heading('What has happened so far?');
	show('SELECT attempt, generation, attempted_at::timestamp(0), trigger, ok, error, duration FROM pg_tls_reloads;', '-x');
	heading('What is wrong with all this?', 'Worst first, each with what to do about it.');
	show('SELECT severity, code, object, problem, hint FROM pg_tls_findings;', '-x');
	return;
}

sub print_how_to
{
	my $sudo = ($ENV{SUDO_USER} // 'root') eq 'root' ? '' : 'sudo ';
	my $psql = ($sudo ? 'sudo env ' : '') . "PGSERVICEFILE=$service_file " . program('psql');
	my @ways = (
		'postgres, over the Unix-domain socket, to ask what was asked above' => 'service=postgres',
		'anna, TLS 1.2, RSA certificate' => 'service=anna',
		'boris, TLS 1.3, EC certificate' => 'service=boris',
		'carol, TLS 1.3, Ed25519 certificate and password' => 'service=carol',
		'dora, TLS 1.3, a certificate that ends 10 minutes after the start' => 'service=dora',
		'webshop, TLS 1.3, password' => 'service=webshop',
		'legacy, clear text, password' => 'service=legacy',
		'standby, a WAL sender' => 'service=standby -c IDENTIFY_SYSTEM',
		'emil, refused: expired' => 'service=emil',
		'frida, refused: revoked' => 'service=frida');

	print "\n", bold('The server and its clients stay up.'), "  More of them, any number at once:\n\n";
	while (my ($what, $how) = splice @ways, 0, 2)
	{
		print "  $what\n    ", typed("$psql $how"), "\n";
	}
	print "\nThe log is ", $c->logfile, "\n";
	print "Stop and remove all of it, but the installed packages and extension, with:\n    ",
	  typed("${sudo}sh $stop_script"), "\n";
	return;
}

# ---------------------------------------------------------------- all of it

eval {
	chdir $dir or die "$dir: $!\n";
	$ENV{PG_TLS_TEMPLATE} = "$dir/template";
	say_step('making certificates');
	my $pki = make_pki();

	say_step('starting a server');
	start_server($pki);

	make_services();
	admin(<<'END');
CREATE ROLE staff;
CREATE ROLE anna LOGIN IN ROLE staff;
CREATE ROLE boris LOGIN IN ROLE staff;
CREATE ROLE carol LOGIN PASSWORD 'sesame' IN ROLE staff;
CREATE ROLE dora LOGIN IN ROLE staff;
CREATE ROLE emil LOGIN IN ROLE staff;
CREATE ROLE frida LOGIN IN ROLE staff;
CREATE ROLE webshop LOGIN PASSWORD 'sesame';
CREATE ROLE legacy LOGIN PASSWORD 'sesame';
CREATE ROLE standby LOGIN REPLICATION;
CREATE EXTENSION pg_tls;
END

	say_step('connecting clients');
	$pki->cert('emil', staff('emil'), not_after => 4);
	psql_client('emil', 'psql');
	psql_client('anna', 'reports');
	psql_client('boris', 'psql');
	psql_client('carol', 'psql');
	psql_client('dora', 'audit');
	psql_client('webshop', 'webshop');
	psql_client('legacy', 'stocktaking');
	mkdir "$dir/wal";
	client('standby', program('pg_receivewal'), '--no-loop', '-D', "$dir/wal", '-d', 'service=standby');
	wait_for_clients(8);
	say_step('waiting for the end of a certificate');
	$c->poll_until(sub { admin('SELECT count(*) FROM pg_stat_tls WHERE NOT acceptable') })
	  or die "the end of a certificate was not noticed\n";

	print_tables();
	print_refused();
	print_reload($pki);
	if ($keep)
	{
		print_how_to();
		undef $owner;
	}
	1;
} or do {
	say_step($@ =~ s/\n\z//r);
	exit 1;
};

print "\nThe server goes now, with all its files; the extension and the packages stay installed.\n"
  unless $keep;

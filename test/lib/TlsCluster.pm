package TlsCluster;

=head1 NAME

TlsCluster - a throwaway PostgreSQL server with TLS, and clients for it

=head1 SYNOPSIS

	use TlsCluster;
	use TlsPKI;

	my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set($dir), preload => 'pg_tls');
	$c->start;
	is($c->query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'), 't');

	my $s = $c->session(cert => 'alice', ssl_max_protocol_version => 'TLSv1.2');
	$s->pid; $s->query('SELECT 1'); $s->close;

=head1 DESCRIPTION

Works with PostgreSQL 13 to 19, those of C<$ENV{PG_CONFIG}> or of the
C<pg_config> in the PATH, and needs to run as another user than root.

Nothing here waits for a fixed time; whatever waits has a deadline.  Servers
are stopped when their object goes away or the test ends, however it ends
(except by SIGKILL), and their directories removed.

A test fails at its end if one of its servers, or a process of one, was ended
by a signal that neither C<kill_backend> sent nor this module.

The environment:

=over

=item PG_CONFIG

the pg_config to use.

=item PG_TLS_CONF

more settings for all servers, C<name=value> with spaces between.

=item PG_TLS_KEEP

if set, the directories are kept and told.

=item PG_TLS_LOGDIR

where server logs go, as F<TEST-NAME.log>; else into the directory removed at
the end.

=item PG_TLS_TIMEOUT

seconds, the default of all deadlines: 180 if not set.  Only what fails takes so
long, so it is for the slowest machine.

=item PG_TLS_TEMPLATE

a directory in which the results of initdb are kept for the next test.

=back

The variables of libpq (C<PGHOST> and so on) are removed from the environment,
and locale and time zone set to C and UTC.

Perl's random numbers are seeded with C<$ENV{PG_TLS_SEED}>, or with a number of
their own; a test that fails tells which.

=cut

use strict;
use warnings;

use Carp qw(croak);
use Config ();
use Fcntl qw(SEEK_SET);
use File::Basename qw(basename);
use File::Path qw(make_path remove_tree);
use File::Temp ();
use IO::Socket::IP;
use IPC::Run ();
use JSON::PP ();
use POSIX qw(WNOHANG);
use Scalar::Util qw(weaken);
use Test::More ();
use Time::HiRes qw(sleep time);

use TlsPKI qw(spew);

our $TIMEOUT = $ENV{PG_TLS_TIMEOUT} // 180;    # seconds, default of all deadlines
our $SEED = $ENV{PG_TLS_SEED} // int rand 2**31;

my %running;          # weak references to the started clusters
my %ports;            # taken by this process
my %templates;
my %pg_config;
my @crashes;          # what ended by a signal of its own, in words
my $counter = 0;

srand $SEED;
delete @ENV{ 'LANGUAGE', grep { /^PG[A-Z]/ } keys %ENV };
@ENV{qw(LC_ALL TZ)} = qw(C UTC);

# An ordinary exit runs END and the destructors, a deadly signal would not.
$SIG{$_} //= sub { exit 1 }
  for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';    # a psql that is gone is noticed otherwise

END
{
	{
		local $?;    # the exit status of the test is not ours
		foreach my $c (values %running) { $c->_kill if $c }
	}
	# ... unless it is that of success.
	if (@crashes)
	{
		Test::More::diag("not a success: $_") for @crashes;
		$? ||= 1;    ## no critic (RequireLocalizedPunctuationVars)
	}
	Test::More::diag("seed $SEED (PG_TLS_SEED)") if $? || !Test::More->builder->is_passing;
}

=head1 THE SERVER

=head2 TlsCluster->new(%opts)

Makes the data directory; does not start.  Options:

=over

=item name

C<main> by default, part of the name of the log.

=item preload

shared_preload_libraries: C<pg_tls> by default, C<''> for none.

=item conf, hba, ident

settings (hash), lines of pg_hba.conf and pg_ident.conf (arrays).  The default
pg_hba.conf trusts everybody on every way.

=item ssl, pki

C<ssl =E<gt> 1>: with TLS, from that L<TlsPKI>.  The files are copied to F<tls/> in
the data directory, where a test may change them: F<server.crt> (chain),
F<server.key>, F<ca.crt> and F<crl.pem>.

=item server_cert, ca, crl

name of the server's certificate, C<server> by default, and paths to copy from:
by default F<ca.pem> of the pki (else its C<root>), and its F<crls.pem> if that
exists.  C<undef> for ca or crl: without.

=item initdb, encoding

more arguments of initdb (array); UTF8 by default.

=back

=cut

sub new
{
	my ($class, %opts) = @_;

	croak 'PostgreSQL does not run as root: run the tests with test/run, or as another user'
	  if $> == 0;

	my $tmp = File::Temp->newdir('pgtls.XXXXXX', TMPDIR => 1, CLEANUP => !$ENV{PG_TLS_KEEP});
	my $name = $opts{name} // 'main';
	my $self = bless {
		name => $name,
		owner => $$,
		tmp => $tmp,
		datadir => "$tmp/data",
		sockdir => "$tmp",
		logfile => "$tmp/$name.log",
		pki => $opts{pki},
		conf => {},
		sent => {},
		examined => 0,
	}, $class;

	Test::More::note("$name: $tmp is kept") if $ENV{PG_TLS_KEEP};
	if ($ENV{PG_TLS_LOGDIR})
	{
		$self->{logfile} = "$ENV{PG_TLS_LOGDIR}/" . basename($0, '.t') . "-$name.log";
		$self->{examined} = $self->log_mark;
	}

	# The path of a socket has about 100 bytes.
	if (length $tmp > 80)
	{
		$self->{short_tmp} = File::Temp->newdir('pgtls.XXXXXX', DIR => '/tmp');
		$self->{sockdir} = "$self->{short_tmp}";
	}

	my $template = _template('-E', $opts{encoding} // 'UTF8', @{ $opts{initdb} // [] });

	_run('cp', '-Rp', $template, $self->datadir);

	my @addresses = grep { _can_bind($_, 0) } '127.0.0.1', '::1';

	$self->{port} = _free_port(@addresses);
	$self->append_conf("include 'test.conf'");
	$self->set_conf({
		port => $self->port,
		listen_addresses => join(',', @addresses),
		unix_socket_directories => $self->sockdir,
		shared_preload_libraries => $opts{preload} // 'pg_tls',
		shared_buffers => '16MB',
		fsync => 'off',
		timezone => 'UTC',
		log_timezone => 'UTC',
		log_line_prefix => '%m [%p] %b: ',
		log_connections => 'on',
		$opts{ssl} ? $self->_tls_files(%opts) : (),
		%{ $opts{conf} // {} },
		map { /^([\w.]+)=(.*)$/ ? ($1 => $2) : () } split ' ', $ENV{PG_TLS_CONF} // '' });
	$self->set_hba(@{ $opts{hba}
		  // [ 'local all,replication all trust', 'host all,replication all all trust' ] });
	$self->set_ident(@{ $opts{ident} // [] });
	return $self;
}

=head2 $c->follow($primary, user => ..., cert => ...)

Makes of a server that does not run a standby of another that does, by
pg_basebackup; the options are those of C<connstr>.

=cut

sub follow
{
	my ($self, $primary, %opts) = @_;
	my $out = '';

	remove_tree($self->datadir);
	IPC::Run::run([
			$self->pg_config('bindir') . '/pg_basebackup', '-R', '-X', 'stream', '-c', 'fast', '--no-sync',
			'-D', $self->datadir, '-d', $primary->connstr(%opts, dbname => undef) ],
		'>&', \$out) or croak $out;
	$self->set_conf({});
	return;
}

=head2 $c->start(fail_ok => 1, env => {...}), stop($mode), restart($mode), reload

start waits until connections are accepted.  When it fails it dies showing the
log, or with fail_ok returns false.  stop takes C<fast> (default),
C<immediate> or C<smart>; false when that did not work and it had to be killed.
reload sends the signal and waits for nothing.

=cut

sub start
{
	my ($self, %opts) = @_;

	croak "$self->{name} is running" if $self->postmaster_alive;

	my $mark = $self->log_mark;
	my $pidfile = $self->datadir . '/postmaster.pid';
	my $pid = fork // croak "fork: $!";

	if ($pid == 0)
	{
		# Out of the terminal's process group: ^C is for the test, which stops us.
		POSIX::setsid();
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
		local %ENV = (%ENV, LC_MESSAGES => 'C', %{ $opts{env} // {} });
		open STDIN, '<', '/dev/null'
		  and open STDOUT, '>>', $self->logfile
		  and open STDERR, '>&', \*STDOUT
		  and exec _bin('postgres'), '-D', $self->datadir;
		POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$self->{sent} = {};
	weaken($running{$self} = $self);

	# The last line of the file is "ready", after "starting".
	my $up = $self->poll_until(
		sub {
			return 'exited' unless $self->postmaster_alive;
			return _slurp($pidfile) =~ /\A$pid\n.*^ready\s*\z/ms ? 'ready' : '';
		},
		timeout => 2 * $TIMEOUT,
		what => "the start of $self->{name}") // 'stuck';

	if ($up eq 'ready')
	{
		$self->{checkpointer} = $self->_checkpointer;
		return 1;
	}
	$self->_kill;
	return 0 if $opts{fail_ok};
	croak "$self->{name} did not start:\n" . $self->_log_tail($mark);
}

sub stop
{
	my ($self, $mode) = @_;
	my %signals = (smart => 'TERM', fast => 'INT', immediate => 'QUIT');

	return 1 unless $self->postmaster_alive;
	$self->_look_for_restart;
	kill $signals{ $mode // 'fast' } // croak("mode $mode"), $self->pid;

	my $done = $self->poll_until(
		sub { !$self->postmaster_alive },
		timeout => 2 * $TIMEOUT,
		what => "the stop of $self->{name}");

	$self->_kill;
	return $done ? 1 : 0;
}

sub restart
{
	my ($self, $mode) = @_;

	$self->stop($mode);
	return $self->start;
}

sub reload
{
	my ($self) = @_;

	return kill 'HUP', $self->pid;
}

=head2 $c->name, port, pid, datadir, sockdir, logfile, pki, tls($file)

pid is the postmaster's, undef when it isn't running.  tls gives the path of a
file in the directory with the server's TLS files.

=cut

sub name { return $_[0]{name} }
sub port { return $_[0]{port} }
sub pid { return $_[0]{pid} }
sub datadir { return $_[0]{datadir} }
sub sockdir { return $_[0]{sockdir} }
sub logfile { return $_[0]{logfile} }
sub pki { return $_[0]{pki} }
sub tls { return "$_[0]{datadir}/tls/$_[1]" }

=head2 $c->set_conf({ setting => value }), append_conf(@lines), set_hba(@lines), set_ident(@lines)

The settings of set_conf add to the ones set before; undef takes one away.
Lines of append_conf go to the end of postgresql.conf, and win.  A running
server needs C<reload> or C<restart>.

=cut

sub set_conf
{
	my ($self, $conf) = @_;
	my $all = $self->{conf};

	%$all = (%$all, %$conf);
	return spew(
		$self->datadir . '/test.conf',
		map { "$_ = '" . $all->{$_} =~ s/([\\'])/$1$1/gr . "'\n" }
		grep { defined $all->{$_} } sort keys %$all);
}

sub append_conf
{
	my ($self, @lines) = @_;
	my $file = $self->datadir . '/postgresql.conf';

	return spew($file, _slurp($file), map { "$_\n" } @lines);
}

sub set_hba
{
	my ($self, @lines) = @_;

	return spew($self->datadir . '/pg_hba.conf', map { "$_\n" } @lines);
}

sub set_ident
{
	my ($self, @lines) = @_;

	return spew($self->datadir . '/pg_ident.conf', map { "$_\n" } @lines);
}

=head2 $c->postmaster_alive, kill_backend($pid, $signal), memory_kb($pid), children, processes(qr/.../)

Signal is C<KILL> by default; a process of the server, the postmaster included,
that ends by a signal sent otherwise fails the test.  Memory is the resident
set, undef for a process that is gone.  children gives the titles of the server's processes (as ps shows
them), by process id.  processes finds others, by their command lines.

=cut

sub postmaster_alive
{
	my ($self) = @_;

	local $?;
	return 0 unless $self->{pid};

	my $ended = $self->{owner} != $$ ? 0 : waitpid $self->{pid}, WNOHANG;

	return 1 if $ended == 0;
	$self->_look_for_crashes(delete $self->{pid}, $ended == -1 ? 0 : $? & 127);
	return 0;
}

sub kill_backend
{
	my ($self, $pid, $signal) = @_;

	$signal //= 'KILL';
	$self->{sent}{"$pid $signal"} = 1;
	return kill $signal, $pid;
}

sub memory_kb
{
	my ($self, $pid) = @_;

	return _slurp("/proc/$pid/status") =~ /^VmRSS:\s*(\d+)/m ? $1 : undef;
}

sub _commands
{
	return map { $_ => _slurp("/proc/$_/cmdline") =~ s/[\0\s]*\z//r =~ tr/\0/ /r } @_;
}

sub _all_processes { return map { /(\d+)/ } glob '/proc/[0-9]*' }

sub children
{
	my ($self) = @_;
	my $parent = $self->pid // return;
	my $list = "/proc/$parent/task/$parent/children";

	# Not all kernels have that, which is quicker than whatever we look for.
	return _commands(split ' ', _slurp($list)) if -e $list;
	return _commands(grep { _slurp("/proc/$_/stat") =~ /\A\d+ \(.*\) \S $parent /s } _all_processes());
}

sub processes
{
	my ($self, $regex) = @_;
	my %commands = _commands(_all_processes());

	return grep { $_ != $$ && $commands{$_} =~ $regex } keys %commands;
}

=head2 TlsCluster->pg_config('bindir'), TlsCluster->pg_version

What that option of pg_config tells, and the major number.

=cut

sub pg_config
{
	my ($class, $what) = @_;

	chomp($pg_config{$what} //= _run($ENV{PG_CONFIG} // 'pg_config', "--$what"));
	return $pg_config{$what};
}

sub pg_version
{
	my ($class) = @_;

	return $class->pg_config('version') =~ /(\d+)/ ? 0 + $1 : croak 'no version';
}

=head1 CLIENTS

All of them take the options of C<connstr>.

=head2 $c->connstr(%opts)

A libpq connection string: over TLS, as postgres, without certificate, and
whatever lies in the home directory is not used.  Options are C<unix =E<gt> 1>,
C<ssl =E<gt> 'disable'> (sslmode; with a verify-* mode the CA of C<new> is
trusted), C<cert =E<gt> 'alice'> (sent with its chain; from the pki), and every
keyword of libpq; undef leaves one out.

=cut

sub connstr
{
	my ($self, %opts) = @_;
	my $none = "$self->{tmp}/none";
	my ($unix, $ssl, $cert) = delete @opts{qw(unix ssl cert)};
	my $mode = $ssl // $opts{sslmode} // 'require';
	my %c = (
		host => $unix ? $self->sockdir : 'localhost',
		port => $self->port,
		dbname => 'postgres',
		user => 'postgres',
		connect_timeout => $TIMEOUT,
		gssencmode => 'disable',
		# libpq has no word for "none", but does not mind a file that is missing.
		# With the CA, sslmode=require would verify.
		sslmode => $mode,
		sslcert => $cert ? $self->pki->chain($cert) : $none,
		sslkey => $cert ? $self->pki->key($cert) : $none,
		sslrootcert => $mode =~ /^verify/ && $self->{ca} ? $self->{ca} : $none,
		sslcrl => $none,
		%opts);

	# There is no TLS on a Unix-domain socket, whatever libpq makes of the mode.
	$c{sslmode} = 'disable' if $unix && !defined $ssl && !$opts{sslmode};
	return join ' ',
	  map { "$_='" . $c{$_} =~ s/([\\'])/\\$1/gr . "'" } grep { defined $c{$_} } sort keys %c;
}

=head2 $c->psql($sql, %opts)

Runs psql, stopping at the first error; returns (exit status, stdout, stderr),
without the last newline.  More options: C<timeout>, C<args> (array of
arguments of psql), C<conn> (a whole connection string), C<env> (hash).

=head2 $c->query($sql, %opts), $c->query_rows($sql, %opts), $c->row_hash($sql, %opts)

The output as text, a list of arrays, or the first row by column names (undef
if there is none).  NULL is undef but in the text.  Die on errors; the
last two take one statement.

=cut

sub psql
{
	my ($self, $sql, %opts) = @_;
	my ($rc, $out, $err) = $self->_psql($sql, %opts);

	s/\n\z// for $out, $err;
	return ($rc, $out, $err);
}

sub query
{
	my ($self, $sql, %opts) = @_;
	my ($rc, $out, $err) = $self->psql($sql, %opts);

	croak "psql failed ($rc): $err\non: $sql" if $rc;
	return $out;
}

sub query_rows
{
	my ($self, $sql, %opts) = @_;

	return $self->_records($sql, [ '-t' ], %opts);
}

sub row_hash
{
	my ($self, $sql, %opts) = @_;
	my ($names, $row) = $self->_records($sql, [ '-P', 'tuples_only=off', '-P', 'footer=off' ], %opts);
	my %hash;

	return unless $row;
	@hash{@$names} = @$row;
	return \%hash;
}

=head2 $c->refused($why, %opts)

Whether the server refuses a client, and says C<$why> (a regular expression; if
undefined, that it cannot verify the certificate) in its log.

=cut

sub refused
{
	my ($self, $why, %opts) = @_;
	my $mark = $self->log_mark;
	my ($rc) = $self->psql('SELECT 1', %opts);

	$why //= qr/could not accept SSL connection: .*verify failed/;
	# of psql, which has found no connection
	return $rc == 2 && $self->wait_for_log($why, $mark);
}

=head2 $c->session(%opts), $c->walsender(%opts)

A client that stays, see L</SESSIONS>.  The latter is a walsender:
C<replication =E<gt> 1> by default, or C<'database'>.

=cut

sub session
{
	my ($self, %opts) = @_;

	return TlsCluster::Session->new($self, %opts);
}

sub walsender
{
	my ($self, %opts) = @_;

	return $self->session(replication => 1, %opts);
}

=head2 $c->s_client(%opts)

Runs C<openssl s_client> until the handshake is over and returns what it printed
(stdout and stderr); in list context (exit status, that).  Options: C<cert>
(name in the pki), C<tls1_2>, C<tls1_3> (true), C<servername>, C<alpn>,
C<groups>, C<sigalgs>, C<sess_out>, C<sess_in>, C<direct> (without SSLRequest),
C<host>, C<input> (text to send over TLS), C<extra> (array), C<timeout>.

=cut

sub s_client
{
	my ($self, %opts) = @_;
	my $cert = $opts{cert};
	my $input = $opts{input} // '';
	my $output = '';
	my @cmd = (
		$ENV{OPENSSL} // 'openssl',
		's_client', '-connect', ($opts{host} // '127.0.0.1') . ':' . $self->port);

	push @cmd, '-starttls', 'postgres' unless $opts{direct};
	push @cmd, '-CAfile', $self->{ca} if $self->{ca};
	push @cmd, '-cert', $self->pki->crt($cert), '-key', $self->pki->key($cert),
	  '-cert_chain', $self->pki->chain($cert)
	  if $cert;
	push @cmd, "-$_" for grep { $opts{$_} } qw(tls1_2 tls1_3);
	push @cmd, "-$_", $opts{$_}
	  for grep { defined $opts{$_} } qw(servername alpn groups sigalgs sess_out sess_in);
	push @cmd, @{ $opts{extra} // [] };

	eval {
		IPC::Run::run(\@cmd, '<', \$input, '>&', \$output,
			IPC::Run::timeout($opts{timeout} // $TIMEOUT));
		1;
	} or croak "@cmd: $@$output";
	return wantarray ? ($? >> 8, $output) : $output;
}

=head2 $c->s_client_row(%opts)

The row of pg_tls_session() that such a client gets, by column names, and in
list context also what s_client printed; nothing if it got none.

=head2 TlsCluster->startup_and_query($query)

The bytes of a client that logs in as postgres, asks that and goes: just enough
of the protocol for a server that trusts it.

=cut

sub startup_and_query
{
	my ($class, $query) = @_;
	my $startup = pack 'N Z* Z* Z* Z* x', 196608, 'user', 'postgres', 'database', 'postgres';
	my $message = sub { pack 'a N a*', $_[0], 4 + length $_[1], $_[1] };

	return pack('N', 4 + length $startup) . $startup
	  . $message->('Q', pack 'Z*', $query) . $message->('X', '');
}

sub s_client_row
{
	my ($self, %opts) = @_;
	# -quiet would hide what s_client says of the handshake
	my $out = $self->s_client(
		%opts,
		extra => [ '-ign_eof', '-nocommands', @{ $opts{extra} // [] } ],
		input => $self->startup_and_query('SELECT to_jsonb(s) FROM pg_tls_session() s'));
	my ($json) = $out =~ /(\{"pid".*?\})(?=C\0\0)/s;

	if (!$json)
	{
		Test::More::diag($out);
		return;
	}
	my $row = JSON::PP->new->decode($json);

	return wantarray ? ($row, $out) : $row;
}

=head1 WAITING, AND THE LOG

=head2 $c->in_time($seconds, sub { my ($seconds) = @_; ... })

For what ends, or begins, so many seconds after it is made, such as a certificate:
the code makes it, and does what has to be done before.  If that took too long,
it is called again, with more seconds.  Returns what the code returned, which is
to be tested only then: it may have been too late.

=head2 $c->poll_until(sub { ... }, timeout => 180, what => 'the thing')

Calls the code until it returns something true, and returns that; undef, with a
diagnostic message, after the deadline.  Also works on the class.

=head2 $c->poll_query($sql, $expected, %opts)

Polls until the query gives that text (or matches the regular expression);
true, or false with a diagnostic message.  Errors of the query count as no
match.

Where nobody looks at what they return, these and wait_for_log die instead.

=cut

sub in_time
{
	my ($self, $seconds, $code) = @_;

	while (1)
	{
		my $end = int(time) + $seconds;
		my @result;
		my $done = eval { @result = $code->($seconds); 1 };
		my $error = $@;

		if (time < $end)
		{
			die $error unless $done;    ## no critic (RequireCarping)
			return wantarray ? @result : $result[0];
		}
		Test::More::note("too late after $seconds s, once more");
		$seconds *= 3;
		croak 'there is never time enough' if $seconds > $TIMEOUT;
	}
}

sub poll_until
{
	my ($self, $code, %opts) = @_;
	my $timeout = $opts{timeout} // $TIMEOUT;
	my $deadline = time + $timeout;
	my $interval = 0.02;

	while (1)
	{
		my $late = time >= $deadline;
		my $result = $code->();

		return $result if $result;
		last if $late;
		sleep $interval;
		$interval = 2 * $interval < 0.2 ? 2 * $interval : 0.2;
	}
	my $told = "waited $timeout s in vain for " . ($opts{what} // 'something');
	croak $told unless defined wantarray;
	Test::More::diag($told);
	return undef;    ## no critic (ProhibitExplicitReturnUndef): also in a list
}

sub poll_query
{
	my ($self, $sql, $expected, %opts) = @_;
	my $timeout = delete $opts{timeout};
	my $what = delete $opts{what} // "'$expected' from: $sql";
	my $last = '';
	my $found = $self->poll_until(
		sub {
			my ($rc, $out, $err) = $self->psql($sql, %opts);

			$last = $rc ? $err : $out;
			return !$rc && (ref $expected ? $out =~ $expected : $out eq $expected);
		},
		timeout => $timeout,
		what => $what);

	Test::More::diag("last was: $last") unless $found;
	croak "waited in vain for $what" unless $found || defined wantarray;
	return $found;
}

=head2 $c->log_mark, log_text, log_since($mark), wait_for_log(qr/.../, $mark, $timeout)

The mark is the present end of the server log.  wait_for_log returns true, or
undef after the deadline.

=cut

sub log_mark
{
	my ($self) = @_;

	return -s $self->logfile // 0;
}

sub log_text
{
	my ($self) = @_;

	return $self->log_since(0);
}

sub log_since
{
	my ($self, $mark) = @_;

	return _slurp($self->logfile, $mark);
}

sub wait_for_log
{
	my ($self, $regex, $mark, $timeout) = @_;

	return $self->poll_until(
		sub { $self->log_since($mark // 0) =~ $regex },
		timeout => $timeout,
		what => "$regex in the log of $self->{name}");
}

# ---------------------------------------------------------------------------

sub DESTROY
{
	my ($self) = @_;

	local ($?, $@, $!);
	$self->_kill if $self->{pid};
	return;
}

# Stops the server now, with as much force as it takes.
sub _kill
{
	my ($self) = @_;

	delete $running{$self} unless ${^GLOBAL_PHASE} eq 'DESTRUCT';
	return if $self->{owner} != $$;    # a forked child ends: not its server
	$self->_look_for_restart if $self->postmaster_alive;
	foreach my $signal (qw(QUIT KILL))
	{
		last unless $self->postmaster_alive;
		# One that does not obey may have children that notice nothing.
		my %children = $signal eq 'KILL' ? $self->children : ();

		$self->kill_backend($_, $signal) for $self->pid, keys %children;
		$self->poll_until(
			sub { !$self->postmaster_alive },
			timeout => $TIMEOUT,
			what => "the death of $self->{name} by SIG$signal");
	}
	return;
}

# The server has ended: by what signal, and which of its processes before?  Each
# whose end makes the server restart is told of in its log.
sub _look_for_crashes
{
	my ($self, $postmaster, $signal) = @_;
	my @names = split ' ', $Config::Config{sig_name};
	my $log = _slurp($self->logfile, $self->{examined});
	my %ends = $log =~ /\(PID (\d+)\) was terminated by signal (\d+)/g;

	$self->{examined} = $self->log_mark;
	# a child of a backend, whose process ID is not told; tests send it SIGKILL
	push @crashes, "a child of a backend of server $self->{name} was ended by SIG$names[$1]"
	  if $log =~ /DETAIL:  child process was terminated by signal (4|6|7|8|11)\b/;
	$ends{$postmaster} = $signal if $signal;
	foreach my $pid (sort { $a <=> $b } keys %ends)
	{
		my $name = $names[ $ends{$pid} ];

		push @crashes,
		  ($pid == $postmaster ? 'the postmaster' : 'a process')
		  . " of server $self->{name} (PID $pid) was ended by SIG$name, which the test did not send"
		  unless $self->{sent}{"$pid $name"};
	}
	return;
}

# The server is about to be stopped: has it restarted by itself, and only not
# said so, in English, in its log?  Every crash ends the checkpointer, too.
sub _look_for_restart
{
	my ($self) = @_;
	my $was = delete $self->{checkpointer};
	my $is = $self->_checkpointer;

	push @crashes, "server $self->{name} has restarted after a crash"
	  if $was && $is && $was != $is && !grep { / (?:KILL|QUIT|ABRT|SEGV)$/ } keys %{ $self->{sent} };
	return;
}

sub _checkpointer
{
	my ($self) = @_;
	my %children = $self->children;

	return (grep { $children{$_} =~ /^postgres: .*checkpointer/ } keys %children)[0];
}

sub _log_tail
{
	my ($self, $mark) = @_;
	my @lines = split /^/, $self->log_since($mark);

	splice @lines, 0, @lines - 30 if @lines > 30;
	return join '', @lines;
}

# Copies the files and returns the settings.
sub _tls_files
{
	my ($self, %opts) = @_;
	my $pki = $opts{pki} // croak 'ssl needs a pki';
	my $cert = $opts{server_cert} // 'server';
	my ($default_ca) = grep { -e } $pki->dir . '/ca.pem', $pki->crt('root');
	my ($default_crl) = grep { -e } $pki->dir . '/crls.pem';
	my $ca = $self->{ca} = exists $opts{ca} ? $opts{ca} : $default_ca;
	my $crl = exists $opts{crl} ? $opts{crl} : $default_crl;
	my %conf = (ssl => 'on', ssl_cert_file => 'tls/server.crt', ssl_key_file => 'tls/server.key');

	make_path($self->tls(''));
	spew($self->tls('server.crt'), _slurp($pki->chain($cert)));
	spew($self->tls('server.key'), _slurp($pki->key($cert)));
	chmod 0600, $self->tls('server.key') or croak "chmod: $!";
	if (defined $ca)
	{
		spew($self->tls('ca.crt'), _slurp($ca));
		$conf{ssl_ca_file} = 'tls/ca.crt';
	}
	if (defined $crl)
	{
		spew($self->tls('crl.pem'), _slurp($crl));
		$conf{ssl_crl_file} = 'tls/crl.pem';
	}
	return %conf;
}

sub _psql
{
	my ($self, $sql, %opts) = @_;
	my ($out, $err) = ('', '');
	my $env = $opts{env} // {};
	my $cmd = $self->_psql_command(\%opts, '-v', 'ON_ERROR_STOP=1');
	# Not through a pipe: a psql that cannot connect may be gone before it is written.
	my $file = "$self->{tmp}/sql.$$." . ++$counter;
	my $rc;

	spew($file, $sql);
	eval {
		local %ENV = (%ENV, %$env);
		IPC::Run::run($cmd, '<', $file, '>', \$out, '2>', \$err,
			IPC::Run::timeout($opts{timeout} // $TIMEOUT));
		$rc = $? >> 8;
		1;
	} or croak "psql: $@$err\non: $sql";
	unlink $file;
	return ($rc, $out, $err);
}

sub _psql_command
{
	my ($self, $opts, @args) = @_;
	my ($args, $conn) = delete @$opts{qw(args conn)};
	my %conn = %$opts;

	delete @conn{qw(timeout env)};
	return [
		_bin('psql'), '-XAtqw', @args, @{ $args // [] },
		'-d', $conn // $self->connstr(%conn), '-f', '-' ];
}

# The result of one statement as arrays.  Separators and the mark of NULL are
# control characters that no text has.
sub _records
{
	my ($self, $sql, $args, %opts) = @_;
	my ($rc, $out, $err) = $self->_psql(
		$sql, %opts,
		args => [ @$args, '-F', "\x1f", '-R', "\x1e", '-P', "null=\x1d", @{ $opts{args} // [] } ]);
	my @records;

	croak "psql failed ($rc): $err\non: $sql" if $rc;
	# No newline: no row.  (Perl splits an empty string into nothing.)
	return unless $out =~ s/\n\z//;
	foreach my $record (length $out ? split(/\x1e/, $out, -1) : '')
	{
		my @values = length $record ? split(/\x1f/, $record, -1) : '';

		push @records, [ map { $_ eq "\x1d" ? undef : $_ } @values ];
	}
	return @records;
}

# The directory with the result of initdb, which the first one needing it makes.
sub _template
{
	my (@args) = @_;
	my $key = join '_', 'pg', TlsCluster->pg_config('version') =~ /(\d[\w.]*)/, @args;

	return $templates{$key} if $templates{$key};

	our $own_dir;
	my $dir = $ENV{PG_TLS_TEMPLATE} // ($own_dir //= File::Temp->newdir('pgtls.XXXXXX', TMPDIR => 1));
	my $path = "$dir/" . $key =~ s/[^\w.-]/_/gr;

	make_path("$dir");
	if (!-d $path)
	{
		# Another test may do the same now: the first rename wins.
		my $new = "$path.$$";

		# Small WAL segments: most of what there is to copy would be an empty one.
		_run(_bin('initdb'), '-D', $new, '-A', 'trust', '-U', 'postgres',
			'--no-sync', '--locale=C', '--wal-segsize=1', @args);
		rename $new, $path or remove_tree($new);
		croak "cannot make $path" unless -d $path;
	}
	return $templates{$key} = $path;
}

# Below the ports that the system gives to others, and at random, so that two
# tests at once do not meet, not even with the same seed.
sub _free_port
{
	my @addresses = @_;

	foreach (1 .. 200)
	{
		my $port = 12000 + ($$ * 7919 + int(time * 1e6)) % 20000;

		next if $ports{$port} || grep { !_can_bind($_, $port) } @addresses;
		$ports{$port} = 1;
		return $port;
	}
	croak 'no free port';
}

sub _can_bind
{
	my ($address, $port) = @_;

	return IO::Socket::IP->new(
		LocalHost => $address,
		LocalPort => $port,
		Listen => 1,
		ReuseAddr => 1,
		V6Only => 1);
}

sub _bin
{
	my ($program) = @_;

	return TlsCluster->pg_config('bindir') . "/$program";
}

sub _run
{
	my @cmd = @_;
	my ($out, $err) = ('', '');

	eval { IPC::Run::run(\@cmd, '<', \undef, '>', \$out, '2>', \$err) }
	  or croak "@cmd failed: " . ($@ || $err);
	return $out;
}

# Of a file that is not there: nothing.
sub _slurp
{
	my ($file, $from) = @_;

	open my $fh, '<:raw', $file or return '';
	seek $fh, $from // 0, SEEK_SET;
	local $/ = undef;
	return <$fh> // '';
}

package TlsCluster::Session;    ## no critic (ProhibitMultiplePackages)

=head1 SESSIONS

=head2 $s->connected, $s->error

Whether the connection came about, and what psql said if not.

=head2 $s->pid

The server process.

=head2 $s->query($sql), $s->try_query($sql)

The output, dies on errors; the other returns (true if no error, stdout, stderr).

=head2 $s->send($sql), $s->wait

The two halves of try_query: in between the query runs.

=head2 $s->alive

Whether the session still answers.

=head2 $s->stderr, $s->close

Everything that psql wrote there, and the orderly end of the session (which
also comes when the object goes away).

=cut

use Carp qw(croak);

sub new
{
	my ($class, $cluster, %opts) = @_;
	my $timeout = delete $opts{timeout} // $TlsCluster::TIMEOUT;
	my $env = delete $opts{env} // {};
	my $self = bless {
		owner => $$,
		cluster => $cluster,
		walsender => ($opts{replication} // '') =~ /^(1|on|yes|true)$/ ? 1 : 0,
		name => $opts{application_name} // 'session ' . ++$counter,
		timeout => IPC::Run::timeout($timeout),
		in => '',
		out => '',
		err => '',
		all_err => '',
		error => '',
	}, $class;

	$opts{application_name} = $self->{name} unless $opts{conn};
	eval {
		local %ENV = (%ENV, %$env);
		$self->{run} = IPC::Run::start(
			$cluster->_psql_command(\%opts), '<', \$self->{in}, '>', \$self->{out},
			'2>', \$self->{err}, $self->{timeout});
		1;
	} or croak "psql: $@";

	my ($ok, undef, $err) = $self->try_query('');

	$self->{error} = $err unless $ok;
	return $self;
}

sub connected { return $_[0]{error} eq '' }
sub error { return $_[0]{error} }
sub stderr { return $_[0]{all_err} . $_[0]{err} }

sub pid
{
	my ($self) = @_;

	return $self->{pid} //=
	  $self->{walsender}
	  ? $self->{cluster}->query("SELECT pid FROM pg_stat_activity"
		  . " WHERE backend_type = 'walsender' AND application_name = '$self->{name}'", unix => 1)
	  : $self->query('SELECT pg_backend_pid()');
}

sub send    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self, $sql) = @_;
	my $mark = "end of query $$." . ++$counter;

	$self->{mark} = $mark;
	# A walsender does not take the empty statement: no semicolon too many.
	$sql .= "\n;" if $sql =~ /[^;\s]\s*\z/;
	$self->{in} .= "$sql\n\\echo '$mark'\n\\warn '$mark'\n";
	$self->{timeout}->start;
	eval { $self->{run}->pump_nb; 1 };
	return $self;
}

sub wait    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self) = @_;
	my $mark = delete $self->{mark} // croak 'nothing was sent';
	my $done = sub { return 2 == grep { /^\Q$mark\E\n/m } @$self{qw(out err)} };
	my $pumped = eval {
		$self->{run}->pump until $done->() || !$self->{run}->pumpable;
		1;
	};
	my $why = $pumped ? '' : "$@";
	my $complete = $done->();
	my ($out, $err) = @$self{qw(out err)};

	$self->{timeout}->reset;
	$self->{all_err} .= $err =~ s/^\Q$mark\E\n//mr;
	$self->{$_} = '' for qw(out err);
	s/^\Q$mark\E\n.*//ms for $out, $err;
	s/\n\z// for $out, $err;
	if (!$complete)
	{
		# Also ends a psql that hangs.
		$self->_finish;
		$err = join "\n", grep { length } $err, $why || 'the session has ended';
	}
	return ($complete && $err !~ /^(psql:\S*\s*)?(ERROR|FATAL|PANIC):/m, $out, $err);
}

sub try_query
{
	my ($self, $sql) = @_;

	return $self->send($sql)->wait;
}

sub query
{
	my ($self, $sql) = @_;
	my ($ok, $out, $err) = $self->try_query($sql);

	croak "$err\non: $sql" unless $ok;
	return $out;
}

sub alive
{
	my ($self) = @_;

	return 0 if $self->{finished};
	return ($self->try_query($self->{walsender} ? 'IDENTIFY_SYSTEM' : 'SELECT 1'))[0] ? 1 : 0;
}

sub close    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self) = @_;

	$self->{in} .= "\\q\n";
	$self->_finish;
	return;
}

sub _finish
{
	my ($self) = @_;

	return if $self->{finished}++;
	eval {
		$self->{timeout}->start(10);
		$self->{run}->finish;
		1;
	} or eval { $self->{run}->kill_kill(grace => 1) };
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $@, $!);
	$self->close if $self->{run} && $self->{owner} == $$;
	return;
}

1;

# Sessions of many kinds against many changes of the files (TlsTable), each cell
# on five servers that load the same: without pg_tls, and with it, with and
# without preparation and with and without the cache of signatures.
#
# What a client that connects again gets, and what the server sends it, is the
# same on all five; what the view said of that client's sessions is what the
# server does; and the dry run has foretold it.
#
# By itself this takes changes at random for a while.  test/table takes all.

use strict;
use warnings;

use File::Temp ();
use IPC::Open2 qw(open2);
use Test::More;
use Time::HiRes qw(time);

use TlsCluster;
use TlsTable;
use TlsPKI qw(slurp spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
# what test/table sets
my $all = $ENV{PG_TLS_TABLE} // '';    # whole or product
my $seconds = $ENV{PG_TLS_TABLE_SECONDS} // 100;
my $seed = $TlsCluster::SEED;
my $only = $ENV{PG_TLS_TABLE_ONLY} // '';
my $only_clients = $ENV{PG_TLS_TABLE_CLIENTS} // '';
my $AT_LEAST = 4;    # changes

diag "seed $seed";

my $dir = File::Temp->newdir;
my $files = "$dir/tls";
my $table = TlsTable->new("$dir");
my @kinds = $table->kinds;
my @changes = grep { $_->{name} =~ /$only/ } shuffle($table->changes(TlsCluster->pg_version >= 14, $all eq 'product'));
my ($first, $careful) = $table->first;

# A client keeps to one version of TLS, since the next time it may be refused for that.
$kinds[$_]{version} //= ($_ + $seed) % 2 ? '1.2' : '1.3' for 0 .. $#kinds;
@kinds = grep { $_->{name} =~ /$only_clients/ } @kinds;

sub shuffle
{
	my @list = @_;

	for (my $i = @list - 1; $i > 0; $i--)
	{
		my $j = int rand $i + 1;

		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

# ------------------------------------------------------- servers and clients

system("cc -O1 -o $dir/connect $src/test/lib/clients.c -lssl -lcrypto") == 0 or die 'cannot compile clients.c';

my %conf = $table->write_files($first, $files);
my @servers;

my @settings = ([ 'plain', '' ],
	map { my $p = $_; map { [ "prepare_$p-cache_$_", 'pg_tls', $p, $_ ] } 'on', 'off' } 'on', 'off');

foreach my $setting (@settings)
{
	my ($name, $preload, $prepare, $cache) = @$setting;
	my $c = TlsCluster->new(
		name => $name,
		preload => $preload,
		hba => [ 'local all all trust', 'hostssl all postgres all trust', 'hostssl all nobody_else all password' ],
		conf => { %conf, ssl => 'on', max_connections => 300, autovacuum => 'off', log_connections => 'off',
			log_line_prefix => '%m [%p] port %r: ', log_error_verbosity => 'default',
			$preload ? ('pg_tls.prepare_context' => $prepare, 'pg_tls.crl_signature_cache' => $cache,
				'pg_tls.chain_memory' => '16MB') : () });

	$c->start;
	my $pid = open2(my $from, my $to, "$dir/connect", $c->port);
	my %server = (name => $name, c => $c, from => $from, to => $to, kept => {}, with => $preload);

	if ($preload)
	{
		$server{admin} = $c->session(unix => 1, timeout => 120);
		$server{admin}->query('CREATE EXTENSION pg_tls');
	}
	push @servers, \%server;
}
my ($plain, @with) = @servers;

# Clients on some servers at once; their answers by name, for each server.
sub clients
{
	my ($on, $command, $clients, $version) = @_;
	my %answers;

	foreach my $server (@$on)
	{
		my $to = $server->{to};

		print {$to} map { "$command $_->{name} $_->{file} " . ($version // $_->{version}) . "\n" } @$clients;
		$to->flush;
	}
	foreach my $server (@$on)
	{
		my $from = $server->{from};

		foreach (@$clients)
		{
			chomp(my $line = <$from> // die "$server->{name}: the clients are gone");
			my ($name, $outcome, $detail, $port, $pid, $cipher, $n, $hash) = split /\t/, $line, -1;

			$answers{ $server->{name} }{$name} = {
				outcome => $outcome, detail => $detail, port => $port, pid => $pid,
				same => "$outcome, $detail, $cipher, $n certificates, $hash" };
		}
	}
	return \%answers;
}

# Have all servers load a change.  Returns 1, 0 if they all refuse it, or undef.
# One of them is asked before which sessions that will cost.
sub load
{
	my ($change, $asked) = @_;
	my %new = $table->write_files($change, $files);
	my %ok;

	$_->{c}->set_conf(\%new) for @servers;
	if ($asked)
	{
		my ($ok, $out) = $asked->{admin}->try_query('SELECT pid, verify_error || $$ (depth $$ || verify_depth || $$)$$, chain_status, crl_status FROM pg_tls_check_sessions()');

		$asked->{foretold} = $ok ? { map { /^(\d+)\|(.*)/ } split /\n/, $out } : undef;
	}
	foreach my $server (@servers)
	{
		$server->{mark} = $server->{c}->log_mark;
		$server->{attempts} = $server->{admin}->query('SELECT attempts FROM pg_tls_status') if $server->{with};
		$server->{c}->reload;
	}
	foreach my $server (@servers)
	{
		my $c = $server->{c};

		# The postmaster lets nobody in until that is over.
		return unless $c->wait_for_log(qr/received SIGHUP/, $server->{mark});
		if ($server->{with})
		{
			return unless $c->poll_until(sub {
				$server->{admin}->query("SELECT attempts > $server->{attempts} AND last_attempt_ok IS NOT NULL
					AND verdicts_pending = 0 FROM pg_tls_status") eq 't';
			}, timeout => 120, what => 'verdicts');
			$ok{ $server->{admin}->query('SELECT last_attempt_ok FROM pg_tls_status') } = 1;
		}
	}
	$plain->{c}->query('SELECT 1', unix => 1);
	$ok{ $plain->{c}->log_since($plain->{mark}) =~ /SSL configuration was not reloaded/ ? 'f' : 't' } = 1;
	return if keys %ok != 1;
	return $ok{t} // 0;
}

# ------------------------------------------------------------------ sessions

foreach my $beginning ($first, $careful)
{
	is(load($beginning), 1, "loaded: $beginning->{name}") or BAIL_OUT('nothing to begin with');
	my @who = map { { %$_, name => "$_->{name}\@$beginning->{name}" } } grep { !$_->{never} } @kinds;

	# Of the second kind those for whom it makes a difference what was needed.
	@who = grep { $_->{name} =~ /\+|heavy|light|twice/ } @who if $beginning != $first;
	my $answers = clients(\@with, 'keep', \@who);

	foreach my $server (@with)
	{
		my $got = $answers->{ $server->{name} };
		my @out = grep { $got->{$_}{outcome} ne 'in' } sort keys %$got;

		$server->{kept}{ $got->{$_}{pid} } = $_ for grep { $got->{$_}{pid} } keys %$got;
		is("@out", '', "all are let in, $server->{name}")
			or diag map { "$_: $got->{$_}{same}\n" } @out if $beginning == $first;
	}
}
my $sessions = keys %{ $with[0]{kept} };
is(keys %{ $_->{kept} }, $sessions, "$_->{name} has as many sessions: $sessions") for @with;

# ----------------------------------------------------------------- the table

my ($cells, $comparisons, $let_in, $refused, $columns) = (0, 0, 0, 0, 0);
my (%errors, %handshakes, %differences, @differences);
my $in_force = $careful;
my $start = time;

# Where no certificate would help, the view of certificates is not asked.
my $HANDSHAKE = qr/: (unsupported protocol|no shared cipher|no suitable (key share|signature algorithm)|wrong curve)$/;

# Compares, and says what differs, and where.
sub same
{
	my ($a, $b, $server, $what) = @_;

	$comparisons++;
	return 1 if $a eq $b;
	push @differences, "$what: $a <> $b" unless $differences{"$what: $a <> $b"};
	push @{ $differences{"$what: $a <> $b"} }, $server->{name};
	return 0;
}

sub query
{
	my ($server, $sql) = @_;

	return map { [ split /\|/, $_, -1 ] } split /\n/, $server->{admin}->query($sql);
}

sub column
{
	my ($change) = @_;
	my $what = $change->{name};
	my $asked = $with[ $columns % @with ];
	my $loaded = load($change, $asked);

	same(defined $loaded ? 'loaded' : 'not everywhere', 'loaded', $plain, $what) or return;
	$in_force = $change if $loaded;
	note "$what: cannot be loaded" if !$loaded;
	same($asked->{foretold} ? 'can' : 'cannot', $loaded ? 'can' : 'cannot', $asked,
		"$what: the dry run says that it can be loaded");
	my $has_ca = $table->has_ca($in_force);

	my %verdicts;

	foreach my $server (@with)
	{
		$verdicts{ $server->{name} } = { map { shift @$_ => $_ } query($server,
			'SELECT pid, acceptable, verify_error || $$ (depth $$ || verify_depth || $$)$$, chain_status, crl_status FROM pg_stat_tls WHERE client_certificate') };
		$server->{admin}->query('SELECT pg_stat_tls_reset()');
	}

	my $answers = clients(\@servers, 'try', \@kinds, $in_force->{version});
	my $plain_says = $answers->{plain};

	foreach my $server (@with)
	{
		my $mine = $answers->{ $server->{name} };
		my @refused = grep { $_->{outcome} ne 'in' } map { $mine->{ $_->{name} } } @kinds;
		my @rows;

		# They are written down after the client has got its answer.
		$server->{c}->poll_until(sub {
			@rows = query($server, "SELECT client_port, coalesce(verify_error || ' (depth ' || verify_depth || ')', error)
				FROM pg_stat_tls_failures ORDER BY failed_at");
			@rows >= @refused;
		}, what => 'failures to be remembered');

		# A port can have served twice.
		foreach my $answer (@refused)
		{
			my ($row) = grep { $rows[$_][0] eq $answer->{port} } 0 .. $#rows;

			$answer->{error} = defined $row ? (splice @rows, $row, 1)->[1] : 'nothing';
		}
	}

	foreach my $kind (@kinds)
	{
		my $name = $kind->{name};
		my $plainly = $plain_says->{$name};

		$cells++;
		$plainly->{outcome} eq 'in' ? $let_in++ : $refused++;
		foreach my $server (@with)
		{
			my $answer = $answers->{ $server->{name} }{$name};

			same($answer->{same}, $plainly->{same}, $server, "$what: $name: with and without pg_tls");
			next if $answer->{outcome} eq 'in';
			my $error = $answer->{error};

			$error =~ $HANDSHAKE ? $handshakes{$error}++ : $errors{ $error =~ s/ \(depth.*//r }++;
			same($error, $answers->{ $with[0]{name} }{$name}{error} // 'let in', $server, "$what: $name: error");
		}
	}

	# What the view said.
	foreach my $server (@with)
	{
		my $said = $verdicts{ $server->{name} };

		foreach my $pid (sort { $a <=> $b } keys %{ $server->{kept} })
		{
			my $who = $server->{kept}{$pid};
			my ($name) = $who =~ /(.*)@/;
			my $answer = $answers->{ $server->{name} }{$name};
			my ($acceptable, $error, $chain, $crl) = @{ $said->{$pid} // [ ('no row') x 4 ] };
			my $where = "$what: $who";
			my $in = $answer->{outcome} eq 'in';

			same($asked->{foretold}{$pid} // '', $acceptable eq 'f' ? "$error|$chain|$crl" : '', $server,
				"$where: the dry run and the view")
				if $server == $asked && $asked->{foretold};

			# Without its certificate: for the want of an algorithm, or of a CA file.
			if ($in && $answer->{detail})
			{
				same("$acceptable $chain $crl", ' not_checked not_checked', $server,
					"$where: the view, without a CA file") if !$has_ca;
				next;
			}
			next if !$in && $answer->{error} =~ $HANDSHAKE;
			same($acceptable, $in ? 't' : 'f', $server,
				"$where: the view and the server, " . ($answer->{error} // 'let in')) or next;
			if ($in)
			{
				same($error, '', $server, "$where: no error");
				same($chain, 'valid', $server, "$where: chain_status");
				same($crl eq 'not_checked' || $crl eq 'good' ? '' : $crl, '', $server, "$where: crl_status");
			}
			else
			{
				same($error, $answer->{error}, $server, "$where: the error of the view and of the handshake");
				same($chain eq 'valid' && ($crl eq 'good' || $crl eq 'not_checked') ? "$chain $crl" : '', '', $server, "$where: a reason");
			}
		}
	}
	$columns++;
	return;
}

foreach my $change (@changes)
{
	last if !$all && $columns >= $AT_LEAST && time - $^T > $seconds;
	my $before = @differences;

	column($change);
	my @new = @differences[ $before .. $#differences ];
	my $more = @new - 8;

	splice @new, 8;
	diag map { "$_ (on " . (@{ $differences{$_} } == 4 ? 'all with pg_tls' : "@{ $differences{$_} }") . ")\n" } @new;
	diag "... and $more more" if $more > 0;
	diag sprintf '%.0f s: %d changes, %d differences', time - $start, $columns, scalar @differences if $all && $columns % 20 == 0;
}

# So that what is found in a long run is seen.
diag sprintf '%d kinds of clients, %d sessions on each of 4 servers, %d of %d changes: '
  . '%d cells, %d connections, %d comparisons in %.0f s (and %.0f s before)',
  scalar @kinds, $sessions, $columns, scalar @changes, $cells, 5 * $cells, $comparisons, time - $start, $start - $^T;
note "let in $let_in, refused $refused";
note map { "$errors{$_} $_\n" } sort { $errors{$b} <=> $errors{$a} } keys %errors;
note map { "$handshakes{$_} handshakes that no certificate would have saved: $_\n" } sort keys %handshakes;
is(scalar @differences, 0, 'no difference');
cmp_ok($let_in, '>', 0, 'some are let in');
cmp_ok($refused, '>', 0, 'and some refused');

is(load($first), 1, 'all well again');
foreach my $server (@with)
{
	my $pids = join ',', keys %{ $server->{kept} };

	is($server->{admin}->query("SELECT count(*) FROM pg_stat_tls WHERE acceptable AND pid IN ($pids)"), $sessions,
		 "$server->{name}: all sessions are there, and acceptable");
}
close $_->{to} for @servers;
$_->{admin}->close for @with;
$_->{c}->stop for @servers;
unlike($_->{c}->log_text, qr/PANIC|signal \d+|TRAP/, "nothing bad in the log, $_->{name}") for @servers;
done_testing();

# Many reloads, with connections between: the server lives, and its log tells
# nothing that it would not tell without pg_tls.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $has_sni = TlsCluster->pg_version >= 19;

# The kinds of messages in a log, without what differs from run to run.
sub kinds
{
	my ($c) = @_;
	my %seen;

	foreach my $line (split /\n/, $c->log_text)
	{
		next unless $line =~ s/^\S+ \S+ \S+ \[\d+\] ([\w ]+): //;
		next if $line =~ /^LOG:  (?:checkpoint|connection|redo|(?:server|background) process|automatic)|^STATEMENT/;
		# how the end of WAL looks depends on what the segment held before
		next if $line =~ /^LOG:  (?:invalid (?:record|magic number)|unexpected pageaddr|record with incorrect)/;
		$line =~ s/"[^"]*"/""/g;
		$line =~ s/\d+/N/g;
		$seen{$line} = 1;
	}
	return sort keys %seen;
}

# The context in which core keeps what it loaded.
my $contexts = q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hosts file parser context'};

sub reload_and_connect
{
	my ($c, $what) = @_;
	my $mark = $c->log_mark;

	$c->reload;
	$c->wait_for_log(qr/received SIGHUP/, $mark) or return 0;
	foreach my $conn ({}, { cert => 'alice' }, { ssl => 'disable' }, { unix => 1 })
	{
		my ($rc, $out, $err) = $c->psql('SELECT 1', %$conn);

		return ok(0, "$what: $err") if $rc;
	}
	return 1;
}

sub life
{
	my ($preload, %conf) = @_;
	my $name = ($preload || 'without') . join '', map { "_${_}_$conf{$_}" } sort keys %conf;
	my $c = TlsCluster->new(name => $name, ssl => 1, pki => $pki, preload => $preload,
		conf => { %conf, $preload ? ('pg_tls.watch_files' => 'off', 'pg_tls.expiry_warning' => '1d') : () });

	ok($c->start, "$name: starts");

	my $session = $c->session(cert => 'bob');
	my $good = 0;

	foreach my $i (1 .. 20)
	{
		# Half of them with something new to load, and one with nothing that loads.
		$c->set_conf({ ssl_ciphers => $i % 4 == 1 ? 'HIGH' : 'HIGH:!aNULL' }) if $i % 2;
		rename $c->tls('ca.crt'), $c->tls('ca.away') if $i == 10;
		rename $c->tls('ca.away'), $c->tls('ca.crt') if $i == 11;
		$good += reload_and_connect($c, "$name: reload $i");
	}
	is($good, 20, "$name: reloads and serves");
	ok($session->alive, "$name: a session outlives it all");

	# All children anew, from the same postmaster.
	my $mark = $c->log_mark;

	$c->kill_backend($session->pid, 'QUIT');
	ok($c->wait_for_log(qr/ready to accept connections/, $mark), "$name: restarts after a crash");
	ok($c->poll_query('SELECT 1', '1', cert => 'alice'), "$name: serves after it");
	is(reload_and_connect($c, "$name: one more reload"), 1, "$name: ... and reloads");
	return $c;
}

foreach my $conf ({}, $has_sni ? { ssl_sni => 'on' } : ())
{
	my $without = life('', %$conf);
	my $with = life('pg_tls', %$conf);
	my $what = $conf->{ssl_sni} ? 'with ssl_sni' : 'as usual';

	$with->query('CREATE EXTENSION pg_tls');
	is($with->query('SELECT config_generation FROM pg_tls_session()'), $conf->{ssl_sni} ? '' : 21,
		"$what: the failed reload counts for nothing");
	is($with->query('SELECT active, generation FROM pg_tls_status'), $conf->{ssl_sni} ? '|' : 't|21', "$what: status");
	is($with->query('SELECT ok, error FROM pg_tls_check()'), 't|', "$what: dry run");
	if ($has_sni && !$conf->{ssl_sni})
	{
		is($with->query($contexts), 1, 'a backend has what the postmaster loaded, and nothing older');
		is($without->query($contexts), 0, '... which it would not without pg_tls');
	}
	foreach my $c ($without, $with)
	{
		ok($c->stop, $c->name . ': stops');
		unlike($c->log_text, qr/signal (?:4|6|7|8|11)\b|TRAP|PANIC/, $c->name . ': nothing crashed');
	}
	is_deeply([ kinds($with) ], [ kinds($without) ], "$what: the log is as it would be without");
}

SKIP:
{
	skip 'ssl_sni came with PostgreSQL 19', 1 unless $has_sni;
	subtest 'ssl_sni on and off again' => sub {
		my $c = TlsCluster->new(name => 'switched', ssl => 1, pki => $pki, conf => { 'pg_tls.expiry_warning' => '1d' });

		$c->start;
		$c->query('CREATE EXTENSION pg_tls');
		reload_and_connect($c, 'a reload');
		my $session = $c->session(cert => 'alice');
		my $acceptable = 'SELECT acceptable FROM pg_stat_tls WHERE pid = ' . $session->pid;

		foreach my $sni ('on', 'on', 'off', 'off', 'on', 'off')
		{
			$c->set_conf({ ssl_sni => $sni });
			ok(reload_and_connect($c, "ssl_sni $sni"), "ssl_sni $sni: serves");
			ok( $c->poll_query('SELECT config_generation IS NULL FROM pg_tls_session()',
					$sni eq 'on' ? 't' : 'f'), '... the generation is told, or not');
			ok($c->poll_query($acceptable, $sni eq 'on' ? '' : 't'), '... and the verdict is known, or not');
			is($c->query('SELECT ok, error FROM pg_tls_check()'), 't|', '... dry run');
		}
		is($c->query('SELECT config_generation FROM pg_tls_session()'), 5, 'the loads that were seen');
		ok($c->stop, 'stops');
		unlike($c->log_text, qr/WARNING|signal|TRAP/, 'without a warning');
	};
}

done_testing();

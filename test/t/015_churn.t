# 500 sessions come and go while the view is read: no torn row, no leftover.
# And the same without the protection of the change count, or without one half
# of it: there are torn rows, or this test would not see them.

use strict;
use warnings;

use File::Temp ();
use IPC::Run ();
use Test::More;
use Time::HiRes qw(time);

use TlsBuild;
use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my @certs = (qw(alice longdn utf8 manysan), undef);

chmod 0755, $dir;

# Runs the clients against a cluster, so many for each certificate at once;
# returns the number of readings, of rows read, and of rows that are not those
# of any session.
sub churn
{
	my ($c, $sessions_each, $at_once) = @_;

	# Everything of a row that depends on the certificate alone.
	my $same = 'ssl, client_dn, client_serial, issuer_dn, encryption, client_certificate, client_cn,'
	  . ' client_dn_rfc2253, client_san, client_fingerprint, client_key, client_eku,'
	  . ' client_not_before, client_not_after, acceptable, chain_status, crl_status, valid_until,'
	  . ' auth_method, version, cipher, key_exchange';

	$c->query("DROP TABLE IF EXISTS known; CREATE TABLE known AS SELECT $same FROM pg_tls_session() WITH NO DATA");
	$c->query("INSERT INTO known SELECT $same FROM pg_tls_session()", $_ ? (cert => $_) : ()) for @certs;
	$c->query("INSERT INTO known SELECT $same FROM pg_tls_session()", unix => 1);

	my $script = "$dir/script.sql";
	open my $fh, '>', $script or die $!;
	print $fh "SELECT 1;\n";
	close $fh;

	my @clients = map {
		my ($in, $out) = ('', '');
		# pgbench -C connects anew for each transaction
		{
			out => \$out,
			run => IPC::Run::start(
				[ TlsCluster->pg_config('bindir') . '/pgbench', '-n', '-C', '-c', $at_once, '-t', $sessions_each / $at_once,
					'-f', $script, $c->connstr($_ ? (cert => $_) : ()) ],
				'<', \$in, '>&', \$out) };
	} @certs;
	my $reader = $c->session(unix => 1);
	my ($readings, $rows, $torn, $example) = (0, 0, 0, '');
	my $deadline = time + 10 * $TlsCluster::TIMEOUT;

	while (grep { $_->{run}->pumpable } @clients)
	{
		my ($ok, $out, $err) = $reader->try_query(
			"SELECT count(*), count(*) FILTER (WHERE k IS NULL), min(t::text) FILTER (WHERE k IS NULL)"
			  . " FROM (SELECT $same FROM pg_stat_tls) t LEFT JOIN known k ON t::text = k::text");
		# half a row may even be one that cannot be shown
		my ($n, $bad, $one) = $ok ? split(/\|/, $out, 3) : (0, 1, $err);

		$readings++;
		$rows += $n;
		$torn += $bad;
		$example ||= $one;
		$_->{run}->pump_nb for grep { $_->{run}->pumpable } @clients;
		die 'the clients do not end' if time > $deadline;
	}
	foreach my $client (@clients)
	{
		$client->{run}->finish;
		like(${ $client->{out} }, qr{transactions actually processed: (\d+)/\1\b}, "$sessions_each sessions opened and closed");
	}
	note "$readings readings, $rows rows, $torn torn";
	return ($readings, $rows, $torn, $example, $reader);
}

sub start
{
	my ($name, $variant, %conf) = @_;
	my $c = TlsCluster->new(name => $name, ssl => 1, pki => $pki,
		preload => $variant ? $variant->library : 'pg_tls', conf => { max_connections => 60, %conf });

	$c->start;
	$variant ? $variant->create($c) : $c->query('CREATE EXTENSION pg_tls');
	return $c;
}

sub leftovers_vanish
{
	my ($c, $reader) = @_;

	return ok($c->poll_until(sub { $reader->query('SELECT count(*) FROM pg_stat_tls') == 1 }),
		'no slot is left over');
}

subtest 'as installed' => sub {
	my $c = start('installed');
	my ($readings, $rows, $torn, $example, $reader) = churn($c, 100, 4);

	cmp_ok($readings, '>', 20, "$readings readings");
	cmp_ok($rows, '>', 2 * $readings, "$rows rows, those of clients among them");
	is($torn, 0, 'no torn row') or diag $example;
	leftovers_vanish($c, $reader);
};

SKIP:
{
	skip 'PG_TLS_SRC does not name the sources', 4 unless TlsBuild->available;

	subtest 'with slow writers' => sub {
		my $variant = TlsBuild->new("$dir/slow", 'chains', 'slow_writes');
		my $c = start('slow', $variant);
		my ($readings, $rows, $torn, $example, $reader) = churn($c, 100, 4);

		cmp_ok($rows, '>', $readings, "$rows rows, those of clients among them");
		is($torn, 0, 'no torn row') or diag $example;
		leftovers_vanish($c, $reader);
		undef $reader;
		$c->query("CREATE FUNCTION test_chains() RETURNS text AS '@{[ $variant->library ]}', 'pg_tls_test_chains' LANGUAGE C");
		ok($c->poll_until(sub { $c->query('SELECT test_chains()', unix => 1) eq
			'0 certificates, 0 chains of 0 sessions, 0 refused' }), 'no certificate is left over')
		  or diag $c->query('SELECT test_chains()');
	};

	subtest 'with slow readers' => sub {
		my $c = start('reads', TlsBuild->new("$dir/reads", 'slow_reads'));
		my ($readings, $rows, $torn, $example, $reader) = churn($c, 100, 4);

		cmp_ok($rows, '>', $readings, "$rows rows, those of clients among them");
		is($torn, 0, 'no torn row') or diag $example;
		leftovers_vanish($c, $reader);
	};

	my %unprotected = (
		'with slow writers, unprotected' => [ 'slow_writes', 'unprotected' ],
		'with slow readers, half protected' => [ 'slow_reads', 'uncompared' ]);

	foreach my $name (sort keys %unprotected)
	{
		subtest $name => sub {
			# From then on a slot is given to another session much later.
			plan skip_all => 'slots are not reused soon enough'
			  if $name =~ /readers/ && TlsCluster->pg_version >= 16;

			my $changes = $unprotected{$name};
			my $variant = TlsBuild->new("$dir/$changes->[1]", @$changes);
			# The fewer slots, the sooner one is given to another session.
			my $c = start($changes->[1], $variant, max_connections => 16);
			my $torn = 0;

			# By chance: most rounds see some, and fewer do on a busy machine.
			for (my $round = 0; !$torn && $round < 40; $round++)
			{
				$torn = (churn($c, 40, 1))[2];
			}
			cmp_ok($torn, '>', 0, 'there are torn rows, and this test sees them');
		};
	}
}

done_testing();

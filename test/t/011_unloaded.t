# Without shared_preload_libraries: one's own session, and clear errors.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $loaded = TlsCluster->new(name => 'loaded', ssl => 1, pki => $pki);
my $c = TlsCluster->new(name => 'unloaded', ssl => 1, pki => $pki, preload => '');

foreach my $cluster ($loaded, $c)
{
	$cluster->start;
	is($cluster->query('CREATE EXTENSION pg_tls'), '', 'CREATE EXTENSION works');
}
is($c->query(q(LOAD 'pg_tls')), '', 'LOAD works');
is($loaded->query(q(LOAD 'pg_tls'; SELECT pid = pg_backend_pid() FROM pg_tls_session())), 't',
	'LOAD changes nothing where the library is preloaded');

my ($rc, undef, $err) = $c->psql("\\set VERBOSITY verbose\nSELECT * FROM pg_stat_tls");

isnt($rc, 0, 'the view needs preloading');
like($err, qr/ERROR:  55000: pg_tls must be loaded via "shared_preload_libraries"\nHINT:  Add pg_tls to the setting "shared_preload_libraries" and restart the server\./,
	'... and says so');

foreach my $view ($c->query_rows("SELECT relname FROM pg_class WHERE relkind = 'v' AND relname LIKE 'pg\\_%tls%'"))
{
	like(($c->psql("\\set VERBOSITY verbose\nSELECT * FROM $view->[0]"))[2], qr/ERROR:  55000: pg_tls must be loaded/, "... $view->[0] too");
}

my $root = TlsPKI::slurp($pki->crt('root'));
my $alice = TlsPKI::slurp($pki->chain('alice'));

is($c->query("SELECT ok, chain_status, crl_status FROM pg_tls_verify('$alice', trusted => '$root')"), 't|valid|not_checked',
	'a certificate is verified without preloading');

# Everything but the moment of the verdict, what only the postmaster knows, and
# the method, which core forgets once a session that it trusts has begun.
my %kinds = (
	'TLS without certificate' => {},
	'a certificate' => { cert => 'alice' },
	'a certificate over TLS 1.2' => { cert => 'bob', ssl_max_protocol_version => 'TLSv1.2' },
	'clear text' => { ssl => 'disable' },
	'the Unix socket' => { unix => 1 });

foreach my $kind (sort keys %kinds)
{
	my @rows = map { $_->row_hash('SELECT * FROM pg_tls_session()', %{ $kinds{$kind} }) } $loaded, $c;

	foreach my $row (@rows)
	{
		delete @$row{qw(pid checked_at)};
	}
	is(delete $rows[1]{config_generation}, undef, "$kind: the generation is not known");
	is(delete $rows[0]{config_generation}, $rows[0]{ssl} eq 't' ? 1 : undef, '... but with preloading');
	is(delete $rows[1]{auth_method}, undef, '... nor the method');
	is(delete $rows[0]{auth_method}, 'trust', '... but with preloading');
	is_deeply($rows[1], $rows[0], "$kind: the same row with and without preloading");
}

# The library is in use, its certificate ends, and the row knows.
my ($short, $before) = $c->in_time(5, sub {
	$pki->cert('short', issuer => 'int', not_after => $_[0]);
	my $session = $c->session(cert => 'short');

	return ($session, $session->query('SELECT acceptable, chain_status, verify_error, verify_depth FROM pg_tls_session()'));
});

is($before, 't|valid||', 'a certificate that ends soon');
ok($c->poll_until(sub { $short->query('SELECT acceptable FROM pg_tls_session()') eq 'f' }), 'has ended');
is($short->query('SELECT acceptable, chain_status, verify_error, verify_depth, crl_status FROM pg_tls_session()'),
	'f|expired|certificate has expired|0|good', 'the verdict is reached anew');

done_testing();

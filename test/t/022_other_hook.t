# Another module that uses the TLS init hook, before and after us.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $dir = File::Temp->newdir;
my $config = $ENV{PG_CONFIG} // 'pg_config';

chmod 0755, $dir;
foreach my $variant ('chains', 'forgets')
{
	my $copt = $variant eq 'forgets' ? '-DNO_CHAIN' : '';
	my $out = `cp -r $src/test/modules/other_tls $dir/$variant && make -s -C $dir/$variant with_llvm=no PG_CONFIG=$config COPT='$copt' 2>&1`;

	-f "$dir/$variant/other_tls.so" or BAIL_OUT("cannot build other_tls: $out");
}

my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"));
my $key = $c->tls('server.key');

unlink $key;
system("openssl pkey -in '" . $c->pki->key('server') . "' -aes128 -passout pass:secret -out '$key'") == 0 or die;
chmod 0600, $key;

foreach my $preload ("$dir/chains/other_tls, pg_tls", "pg_tls, $dir/chains/other_tls")
{
	subtest $preload =~ s/\Q$dir\E\///r => sub {
		my $mark = $c->log_mark;

		$c->set_conf({ shared_preload_libraries => $preload });
		$c->start;
		$c->query('CREATE EXTENSION IF NOT EXISTS pg_tls', unix => 1);
		like($c->log_since($mark), qr/passphrase asked for/, 'the other module is asked');
		# Whether it would be asked in a reload, too, shows only then.
		is($c->query('SELECT active, generation, reloadable IS DISTINCT FROM false FROM pg_tls_status', unix => 1),
			't|1|t', 'status');
		$mark = $c->log_mark;
		is($c->query('SELECT ok, error FROM pg_tls_check()', unix => 1), 't|', 'dry run');
		unlike($c->log_since($mark), qr/passphrase asked for/, 'which logs nothing');
		is($c->query('SELECT ok, generation, trigger FROM pg_tls_reload()', unix => 1), 't|2|function', 'reload');
		like($c->log_since($mark), qr/passphrase asked for/, 'the other module is asked again');
		is($c->query('SELECT active, generation, reloadable FROM pg_tls_status', unix => 1), 't|2|t', 'status');
		is($c->query('SELECT config_generation FROM pg_tls_session()'), 2, 'session');
		$c->stop;
	};
}

# Then nothing is known of loads, and nothing is claimed.
subtest 'the other module forgets us' => sub {
	$c->set_conf({ shared_preload_libraries => "pg_tls, $dir/forgets/other_tls" });
	$c->start;
	is($c->query('SELECT ssl_setting, active IS NULL, generation, attempts FROM pg_tls_status', unix => 1), 't|t||0',
		'status');
	is($c->query('SELECT count(*) FROM pg_tls_reloads', unix => 1), 0, 'no history');
	is($c->query('SELECT ssl, config_generation FROM pg_tls_session()'), 't|', 'session');
	is($c->query('SELECT acceptable, chain_status FROM pg_tls_session()', cert => 'alice'), 't|valid', 'verdict');
	is($c->query('SELECT ok FROM pg_tls_check()', unix => 1), 't', 'dry run');
	my (undef, undef, $err) = $c->psql('SELECT pg_tls_reload()', unix => 1);
	like($err, qr/ERROR:  the outcome of a reload cannot be known\nDETAIL:  Another module.*\nHINT:/, 'reload');

	# After a reload that nobody sees, a verdict is not known, and nobody waits for it.
	my $s = $c->session(cert => 'alice');
	$c->reload;
	ok($c->poll_query('SELECT count(*) FROM pg_stat_tls WHERE client_certificate AND acceptable IS NULL', 1, unix => 1), 'no verdict then');
	is($c->query('SELECT verdicts_pending, verdicts_pending_since IS NULL FROM pg_tls_status', unix => 1), '0|t', '... nor a pending one');
	is($c->query(q{SELECT object, problem ~ 'another module' FROM pg_tls_findings WHERE code = 'session_not_judged'}, unix => 1), 'ssl|t', '... which is a finding');
	$s->close;
	$c->stop;
};

done_testing();

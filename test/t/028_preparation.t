# What the postmaster does with what it has loaded, before it forks: huge pages
# as the system and the setting have them; and without a handler before forks
# the server does not start.

use strict;
use warnings;

use Config;
use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'needs the sources' unless $ENV{PG_TLS_SRC};
plan skip_all => 'needs glibc' if ($Config{gnulibc_version} // '') eq '';

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $c = TlsCluster->new(ssl => 1, pki => $pki);
my $source = "$ENV{PG_TLS_SRC}/test/modules/shim/shim.c";
my $out = `cc -Wall -Wextra -Werror -O1 -fPIC -shared -o $dir/shim.so $source -ldl 2>&1`;

is($?, 0, 'the library is built') or BAIL_OUT($out);
chmod 0755, "$dir";

sub start
{
	my (%env) = @_;

	return $c->start(fail_ok => 1, env => { LD_PRELOAD => join(' ', "$dir/shim.so", $ENV{LD_PRELOAD} // ()), %env });
}

subtest 'no handler before forks' => sub {
	my $mark = $c->log_mark;

	ok(!start(PG_TLS_SHIM_ATFORK => 1), 'the server does not start');
	like($c->log_since($mark), qr/FATAL:  out of memory/, '... and says why');
	ok(start(), 'with one it does');
	$c->query('CREATE EXTENSION pg_tls', unix => 1);
	$c->stop;
};

subtest 'huge pages' => sub {
	my ($major, $minor) = `uname -r` =~ /^(\d+)\.(\d+)/ or die;

	plan skip_all => 'needs Linux 6.1' if $major < 6 || ($major == 6 && $minor < 1);
	plan skip_all => 'no transparent huge pages' unless -d '/sys/kernel/mm/transparent_hugepage';
	spew($c->tls('crl.pem'), slurp($pki->large_crl('root', 200_000, out => "$dir/huge.crl")));
	$c->set_conf({ ssl_crl_file => $c->tls('crl.pem') });

	# in kB, with a client connected, before whose fork that was done
	my $huge = sub {
		is($c->query('SELECT active FROM pg_tls_status', unix => 1), 't', 'TLS is active');
		return slurp('/proc/' . $c->pid . '/smaps_rollup') =~ /^AnonHugePages:\s+(\d+)/m ? $1 : die;
	};
	my $is_big = sub { my ($kb, $what) = @_; cmp_ok($kb, '>', 10_000, $what) };
	my $is_small = sub { my ($kb, $what) = @_; cmp_ok($kb, '<', 10_000, $what) };

	# setting of the system, pg_tls.huge_pages, and whether there are such
	foreach my $case (
		[ 'always [madvise] never', undef, $is_big ], [ '[always] madvise never', 'auto', $is_big ],
		[ 'always madvise [never]', 'auto', $is_small ], [ 'always [madvise] never', 'off', $is_small ],
		[ '', 'auto', $is_small ])
	{
		my ($system, $setting, $check) = @$case;

		spew("$dir/thp", "$system\n");
		chmod 0644, "$dir/thp";
		$c->set_conf({ 'pg_tls.huge_pages' => $setting });
		ok(start(PG_TLS_SHIM_THP => "$dir/thp"), "the server starts ($system)");
		$check->($huge->(), "$system, " . ($setting // 'default'));
		$c->stop;
	}

	# both may change while the server runs
	spew("$dir/thp", "always madvise [never]\n");
	$c->set_conf({ 'pg_tls.huge_pages' => 'auto' });
	start(PG_TLS_SHIM_THP => "$dir/thp");
	$is_small->($huge->(), 'never');
	spew("$dir/thp", "always [madvise] never\n");
	spew($c->tls('crl.pem'), slurp($pki->large_crl('root', 200_001, out => "$dir/other.crl")));
	is($c->query('SELECT ok FROM pg_tls_reload()', unix => 1), 't', 'a reload');
	$is_big->($huge->(), 'what is loaded after never gets them');
	$c->stop;
};

subtest 'many CAs and CRLs of one name' => sub {
	# connections ask those beyond the bound: nothing changes but who verifies
	my @names = map { "same$_" } 1 .. 20;

	$pki->ca($_, subject => '/CN=Same') for @names;
	$pki->cert("client$_", issuer => "same$_") for 1, 20;
	$pki->crl($_) for @names;
	spew($c->tls('ca.crt'), map { slurp($pki->crt($_)) } @names);
	spew($c->tls('crl.pem'), map { slurp($pki->crl_path($_)) } @names);
	$c->set_conf({ ssl_crl_file => $c->tls('crl.pem'), 'pg_tls.crl_signature_cache' => 'on' });
	ok(start(), 'the server starts');
	is($c->query('SELECT crl_signatures FROM pg_tls_status', unix => 1) > 0, 1, 'signatures were verified');
	is($c->query('SELECT 1', cert => "client$_"), 1, "a client of the CA of number $_") for 1, 20;
	$c->stop;
};

unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

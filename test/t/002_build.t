# Where pg_tls cannot work it says so, when it is compiled or when it is loaded.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $config = $ENV{PG_CONFIG} // 'pg_config';
my $dir = File::Temp->newdir;

chmod 0755, $dir;
system("cp -r $src/Makefile $src/pg_tls.control $src/src $dir") == 0 or die;

# What a compilation prints, and make's exit status.
sub compile
{
	my ($object, @options) = @_;
	my $make = "make -s -C $dir with_llvm=no PG_CONFIG=$config";
	my $out = `$make clean 2>&1; $make $object @options 2>&1`;

	return ($? >> 8, $out);
}

my ($rc, $out) = compile('src/base/ossl.o');
is($rc, 0, 'compiles') or diag $out;

foreach my $case (
	[ '-DLIBRESSL_VERSION_NUMBER=0x4000000fL', 'src/base/ossl.o', 'pg_tls needs OpenSSL; LibreSSL is not supported' ],
	[ '-DEXEC_BACKEND', 'src/client/session.o', 'pg_tls needs a server that starts its processes by fork (no EXEC_BACKEND)' ])
{
	my ($option, $object, $sentence) = @$case;

	($rc, $out) = compile($object, "COPT='$option'");
	isnt($rc, 0, "$option does not compile");
	like($out, qr/\Q$sentence\E/, "$option: says why");
}

($rc, $out) = compile('src/base/ossl.o', 'with_ssl=no', 'with_openssl=no');
isnt($rc, 0, 'a server without OpenSSL');
like($out, qr/pg_tls needs a PostgreSQL server that was built with OpenSSL, and the one of \S+ was not/, 'make says why');

# A server that uses another OpenSSL, as far as it can be asked.
spew("$dir/other.c", <<'END');
unsigned long OpenSSL_version_num(void);

unsigned long
OpenSSL_version_num(void)
{
	return 0x90100000UL;
}
END
system("cc -shared -fPIC -o $dir/other.so $dir/other.c") == 0 or die;
my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"));
my %other = (LD_PRELOAD => join ' ', grep { defined } "$dir/other.so", $ENV{LD_PRELOAD});

ok(!$c->start(fail_ok => 1, env => \%other), 'does not start with another OpenSSL');
like($c->log_text, qr/FATAL:  pg_tls was built for another major version of OpenSSL than the server's\n.*DETAIL:  The server uses OpenSSL 9\.1, and pg_tls was built with the headers of OpenSSL \d.*\n.*HINT:  Build/,
	'says why');
$c->set_conf({ shared_preload_libraries => '' });
$c->start(env => \%other);
($rc, undef, $out) = $c->psql("LOAD 'pg_tls'");
like($out, qr/ERROR:  pg_tls was built for another major/, 'is not loaded later, either');
$c->stop;

done_testing();

# make installcheck, against servers that preload pg_tls

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the built sources';
my $dir = File::Temp->newdir;
# with settings such as README.md has them
my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"),
	conf => { 'pg_tls.watch_files' => 'reload', 'pg_tls.expiry_warning' => '45d', 'pg_tls.max_clients' => 2000 });
my $plain = TlsCluster->new(name => 'plain');

$_->start for $c, $plain;

local $ENV{PGUSER} = 'postgres';
local $ENV{PGSSLCERT} = $c->pki->chain('alice');
local $ENV{PGSSLKEY} = $c->pki->key('alice');
my $make = join ' ', 'make -s -C', $src, 'installcheck with_llvm=no',
  'PG_CONFIG=' . ($ENV{PG_CONFIG} // 'pg_config'), "REGRESS_OPTS=--outputdir=$dir";

foreach my $case (
	[ 'over the Unix socket', $c, $c->sockdir, 'disable' ],
	[ 'over TLS', $c, 'localhost', 'require' ],
	[ 'without TLS', $plain, 'localhost', 'disable' ])
{
	my ($name, $server, $host, $mode) = @$case;

	local $ENV{PGHOST} = $host;
	local $ENV{PGPORT} = $server->port;
	local $ENV{PGSSLMODE} = $mode;
	my $out = `$make 2>&1`;

	is($?, 0, "pg_regress $name")
	  or diag $out, -e "$dir/regression.diffs" ? `cat $dir/regression.diffs` : ();
}

done_testing();

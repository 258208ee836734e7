# pg_regress, against a server of our own that preloads pg_tls

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI;

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the built sources';
my $dir = File::Temp->newdir;
my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"));

$c->start;

local $ENV{PGPORT} = $c->port;
local $ENV{PGUSER} = 'postgres';
local $ENV{PGSSLMODE} = 'require';
local $ENV{PGSSLCERT} = $c->pki->chain('alice');
local $ENV{PGSSLKEY} = $c->pki->key('alice');
my $make = join ' ', 'make -s -C', $src, 'installcheck with_llvm=no',
  'PG_CONFIG=' . ($ENV{PG_CONFIG} // 'pg_config'), "REGRESS_OPTS=--outputdir=$dir";

foreach my $host ($c->sockdir, 'localhost')
{
	local $ENV{PGHOST} = $host;
	my $out = `$make 2>&1`;

	is($?, 0, 'pg_regress over ' . ($host eq 'localhost' ? 'TLS' : 'the Unix socket'))
	  or diag $out, -e "$dir/regression.diffs" ? `cat $dir/regression.diffs` : ();
}

done_testing();

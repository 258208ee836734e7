# The protocols of shared memory without locks that servers cannot show: each is tried
# alone, with its sources, and then with a part left out, which has to be noticed.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $dir = File::Temp->newdir;
my $include = TlsCluster->pg_config('includedir-server');

sub build
{
	my ($name, @options) = @_;
	my $file = join '', "$dir/$name", @options;
	my $out = `cc -O2 -D_GNU_SOURCE @options -I $src/src -I $include -o $file $src/test/lib/$name.c -lpthread 2>&1`;

	is($?, 0, join ' ', $name, @options, 'is built') or diag $out;
	return $file;
}

# The ring of the last failures: each case is a copy with an interruption.
my $ring = build('ring');
my $out = `$ring`;

is($?, 0, 'the ring holds') or diag $out;
cmp_ok(scalar(() = $out =~ /^ok - /mg), '>=', 14, '... in all cases');
$ring = build('ring', '-DABA');
$out = `$ring`;
like($out, qr/^not ok - a value that is written again meanwhile is whole$/m, 'without a count, a value is torn');

# Two processors have to disagree, which takes two.
SKIP:
{
	my $processors = `nproc 2>/dev/null`;

	skip 'there is one processor', 4 if ($processors || 1) < 2;

	my $wake = build('wake');
	is(`$wake 300000`, "none lost\n", 'no wish to the monitor is lost');
	$wake = build('wake', '-DUNPROTECTED');
	$out = `$wake 100000000`;
	is($out, "lost\n", 'without barriers, one is');
}

done_testing();

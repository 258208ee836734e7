# A short run of the fuzzer; test/fuzz is for long ones.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsPKI qw(spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $dir = File::Temp->newdir;
my $empty = spew("$dir/empty.c", 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p == 0 && n; }');

# clang and its libraries take some 600 MB, which test/matrix does without
plan skip_all => 'clang with libFuzzer is not installed'
  if system("clang -fsanitize=fuzzer,address,undefined -o $dir/empty $empty >$dir/log 2>&1") != 0;

my $out = `$src/test/fuzz 20 2>&1`;

is($?, 0, 'nothing is found in 20 seconds') or diag $out;
my ($units) = $out =~ /stat::number_of_executed_units:\s*(\d+)/;
cmp_ok($units // 0, '>', 1000, 'inputs were tried');
note $out;

done_testing();

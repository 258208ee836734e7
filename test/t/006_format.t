# The C files have the layout of PostgreSQL's (test/format), and what has not is
# found.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsPKI qw(spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';

plan skip_all => 'the layout is checked outside of the chroots of test/matrix' if -e '/etc/pg_tls-matrix';
if (!$ENV{PG_TLS_PGINDENT} && !$ENV{CI})
{
	diag 'The layout is NOT checked: there is no pgindent, and only root, on Debian, can get it.';
	plan skip_all => 'there is no pgindent';
}

my $dir = File::Temp->newdir;

system("cp -r $src/src $src/test $dir") == 0 or die;

# What test/format prints, and its exit status.
sub format_files
{
	my $out = `$dir/test/format @_ 2>&1`;

	return ($? >> 8, $out);
}

my ($rc, $out) = format_files();

is($rc, 0, 'the layout of all files') or diag $out;
is($out, '', 'nothing to tell');

# What only tests need is in a changed copy (TlsBuild.pm).
$out = `grep -rniE '^[[:space:]]*#.*(PGTLS_TEST|[^a-z]tests? )' $src/src --include=*.[ch]`;
is($out, '', 'the sources know nothing of tests');

# A file as it should be, and ways to spoil it.
my $good = <<'END';
#include "postgres.h"

#include "fmgr.h"

/* A struct that no list of types has. */
typedef struct NewStruct
{
	int			first;			/* of two */
	char	   *second;
} NewStruct;

extern int	layout(const NewStruct *new, int n);

int
layout(const NewStruct *new, int n)
{
	int			result = 0;

	/* count those that are wanted, and tell of the others */
	for (int i = 0; i < n; i++)
	{
		switch (new[i].first)
		{
			case 1:
				result++;
				break;
			default:
				ereport(LOG,
						(errmsg("a message that is longer than a line should be, since its string is not broken: %s",
								new[i].second)));
		}
	}
	if (result > 0)
		return result;
	return n;
}
END

my @ways = (
	[ 'spaces for a tab', sub { s/^\t\treturn result/        return result/m } ],
	[ 'white space at an end', sub { s/return n;/return n; / } ],
	[ 'a brace that does not begin its line', sub { s/\n\t\{\n\t\tswitch/ {\n\t\tswitch/ } ],
	[ 'no space behind "if"', sub { s/if \(/if(/ } ],
	[ 'a declaration in another column', sub { s/int\t\t\tresult/int result/ } ],
	[ 'a pointer to a new struct, laid out as a product', sub { s/NewStruct \*new, int n\)\n/NewStruct * new, int n)\n/ } ],
	[ 'a field of a struct in another column', sub { s/char\t   \*second/char *second/ } ],
	[ 'a comment of C99', sub { s{/\* (count .*) \*/}{// $1} } ],
	[ 'no empty line behind the declarations', sub { s/result = 0;\n\n/result = 0;\n/ } ],
	[ 'a label in another column', sub { s/^\t\t\tdefault/\t\tdefault/m } ],
	[ 'arguments in another column', sub { s/^\t{6}(?=\(errmsg)/\t\t\t\t\t/m } ],
	[ 'a long comment in a function', sub { s/of the others/of all of the others, in the log of the server/ } ],
	[ 'a long comment outside of functions', sub { s/no list of types has/$& whose names were read from the debugging information/ } ],
	[ 'a long line of code', sub { s/result > 0/result > 0 && new != NULL && new[n - 1].first != 0 \&\& n > result + new[0].first/ } ],
	[ 'an argument behind a long string', sub { s/",\n\s+/", / } ]);

spew("$dir/src/good.c", $good);
foreach my $i (0 .. $#ways)
{
	local $_ = $good;

	$ways[$i][1]->();
	isnt($_, $good, "spoilt: $ways[$i][0]");
	s/\blayout\b/layout$i/g;
	spew("$dir/src/way$i.c", $_);
}

($rc, $out) = format_files(map { "$dir/src/$_.c" } 'good', map { "way$_" } 0 .. $#ways);
is($rc, 1, 'spoilt files are found');
unlike($out, qr{src/good\.c}, '... and no other');
like($out, qr{src/way$_\.c\b}, "... $ways[$_][0]") foreach 0 .. $#ways;

# What pgindent can repair is repaired: all but the three lines that are long.
($rc, $out) = format_files('--fix', map { "$dir/src/way$_.c" } 0 .. $#ways);
is($rc, 1, '--fix leaves long lines');
is_deeply([ $out =~ m{^src/way(\d+)\.c:}mg ], [ 12, 13, 14 ], '... and tells them') or diag $out;
($rc, $out) = format_files(map { "$dir/src/way$_.c" } 0 .. 11);
is($rc, 0, '--fix repairs the rest') or diag $out;

done_testing();

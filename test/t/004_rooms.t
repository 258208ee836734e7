# The rooms of src/, as src/README has them: a file includes what stands below
# it, and no files include one another; each has a line in the map.

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;

use TlsSource;

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $s = TlsSource->new($src);
my @files = $s->files;
my %rank = %{ $s->map->{rank} };
my @rooms = sort { $rank{$a} <=> $rank{$b} } keys %rank;

is_deeply([ $s->wrong_files ], [], 'every file is in the map, with what it is for, and not too long');
is_deeply([ $s->wrong_includes ], [], 'includes point downward, and make no circle');
is_deeply([ $s->wrong_tests ], [], 'versions are tested in base/compat.h and base/ossl.[ch] alone, and hooks installed in hooks.c');

my $arrows = $s->arrows;
my ($longest) = sort { $s->lines($b) <=> $s->lines($a) } @files;

note 'rooms, from the top: ', join ' > ', map { $_ eq '' ? 'src' : $_ } @rooms;
note scalar(@files), ' files, ', scalar(keys %$arrows), ' modules, ',
  sum0(map { scalar keys %$_ } values %$arrows), ' arrows between them';
note sum0(map { $s->lines($_) } @files), ' lines; the largest file has ', $s->lines($longest), ": $longest";

# ------------------------------------------------------ what is wrong, is found

# A file of the lowest room, one of a higher one, and two neighbours, of which
# the first includes the second.
my ($low) = grep { TlsSource::room($_) eq $rooms[-1] && /\.c\z/ && $s->text(s/c\z/h/r) } @files;
my ($high) = grep { TlsSource::room($_) eq $rooms[1] && /\.h\z/ } @files;
my ($from, $to);

foreach my $module (sort keys %$arrows)
{
	last if defined $to;
	next unless defined $s->text("$module.h");
	$from = $module;
	($to) = grep { TlsSource::room($_) eq TlsSource::room($module) && defined $s->text("$_.c") }
	  sort keys %{ $arrows->{$module} };
}

sub first_line { my ($line) = @_; return sub { s/\A/$line\n/ } }
sub last_line { my ($line) = @_; return sub { $_ .= "$line\n" } }

# What is said of a changed source by one of the methods, and not of this.
sub found
{
	my ($name, $method, $file, $change, @expected) = @_;
	my %known = map { $_ => 1 } $s->$method;

	is_deeply([ grep { !$known{$_} } $s->edit($file, $change)->$method ], \@expected, "found: $name");
}

my ($low_module, $high_module) = map { TlsSource::module($_) } $low, $high;

# An include that points up often makes a circle, too.
foreach my $how ("#include \"$high\"", "#  include <$high>", "#/**/include \"../$high\"", "#\\\ninclude \"./$high\"",
	"#include /* below it */ \"$high\"")
{
	my @wrong = $s->edit($low, first_line($how))->wrong_includes;

	ok((grep { $_ eq "$low_module includes $high_module, which is above it" } @wrong), 'found: ' . $how =~ s/\n/ /gr)
	  or diag explain \@wrong;
}
my @circle = $s->edit("$to.c", first_line("#include \"$from.h\""))->wrong_includes;
is(scalar(@circle), 1, 'found: a circle in a room');
like($circle[0], qr/\b\Q$from\E\b.* include one another\z/, 'with its files');

found('what the preprocessor makes up', 'wrong_includes', $low, first_line('#include HEADER'),
	"$low includes what only the preprocessor knows: HEADER");
my $own = $low =~ s/c\z/h/r;
my $bare = $own =~ s{.*/}{}r;
found('what is no header', 'wrong_includes', $low, first_line('#include "parts.inc"'),
	"$low includes \"parts.inc\", which is no header");
found('a name that does not begin at src/', 'wrong_includes', $low, first_line("#include \"$bare\""),
	"$low includes \"$bare\", which is \"$own\"");

found('a new file', 'wrong_files', "$rooms[-1]/stranger.c", sub { $_ = "/* */\n" },
	"$rooms[-1]/stranger.c is not in the map");
found('a new room', 'wrong_files', 'cellar/stranger.c', sub { $_ = "/* */\n" },
	'cellar/stranger.c is not in the map', 'the room cellar is not in the map');
found('a file that is gone', 'wrong_files', $low, sub { undef $_ }, "$low is in the map and does not exist");
found('a file without a purpose', 'wrong_files', 'README', sub { s/^( +pg_tls\.c) .*/$1/m },
	'the map does not say what pg_tls.c is for');
found('a long file', 'wrong_files', $low, sub { $_ .= "\n" x $TlsSource::MAX_LINES },
	"$low has " . ($s->lines($low) + $TlsSource::MAX_LINES) . " lines, which are more than $TlsSource::MAX_LINES");

foreach my $line ('#if PG_VERSION_NUM >= 170000', '#elif PG_MAJORVERSION_NUM < 15', '#  if  CATALOG_VERSION_NO > 1',
	'	return PG_VERSION_NUM / 10000;')
{
	found($line, 'wrong_tests', $low, last_line($line), "$low tests PostgreSQL's version");
}
foreach my $line ('	emit_log_hook = log_message;', '	ExecutorStart_hook=start;', '	take(&ClientAuthentication_hook);')
{
	my ($hook) = $line =~ /(\w+_hook)/;

	found($line, 'wrong_tests', $low, last_line($line), "$low installs a hook: $hook");
}
foreach my $line ('#if OPENSSL_VERSION_NUMBER >= 0x30000000L', '#if OPENSSL_VERSION_PREREQ(3, 2)',
	'#ifdef LIBRESSL_VERSION_NUMBER', '	if (OpenSSL_version_num() >= 0x30000000L)', '#ifndef OPENSSL_NO_EC',
	'#ifdef SSL_OP_NO_TICKET', '#ifdef X509_V_ERR_CA_BCONS_NOT_CRITICAL')
{
	found($line, 'wrong_tests', 'pg_tls.c', last_line($line), "pg_tls.c tests OpenSSL's version");
}
found('what another file has, declared here', 'wrong_tests', $low, last_line('extern int pgtls_upstairs(void);'),
	"$low declares what is another file's: extern int pgtls_upstairs(void);");

done_testing();

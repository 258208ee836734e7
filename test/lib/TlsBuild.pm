package TlsBuild;

=head1 NAME

TlsBuild - pg_tls, changed and built beside the installed one

=head1 SYNOPSIS

	my $variant = TlsBuild->new("$dir/slow", 'slow_judge', WORKER_LIMIT => 2000000);
	my $c = TlsCluster->new(preload => $variant->library, ...);
	$c->start;
	$variant->create($c);     # instead of CREATE EXTENSION

=head1 DESCRIPTION

The sources know nothing of tests.  A copy of them is changed, and built: it
gets another value for a constant, or one of these changes.  If the sources no
longer have what is to be changed, the build fails, and the change has to be
written anew.

=over

=item chains

brings the SQL function pg_tls_test_chains(), which checks the arena of sent
certificates and tells what it holds (F<test/modules/checks/chains.c>).

=item error_queue

brings pg_tls_test_error_queue(), which reads the client's certificate and tells
the error that OpenSSL still knows of (F<test/modules/checks/error_queue.c>).

=item slow_writes, slow_reads

make a backend write its slot, or read any, in many small steps.

=item slow_judge

makes whoever judges sessions wait before each certificate.

=item short_hours

makes an hour a second where the watch looks at ends, and limits what it logs.

=item unprotected

makes readers ignore the change count of slots.

=item uncompared

makes readers look at it before they copy, but not afterwards.

=item files_twice, contents_twice, dryrun_twice

make a worker that is asked for files, for what is in them, or for a dry run, do
its work twice, and answer what has come of the second.  Between two looks at
files it makes a file C<asked_once> in the data directory, and waits for one
named C<go_on>.

=back

Needs C<$ENV{PG_TLS_SRC}>, the sources; L</available> tells.

=cut

use strict;
use warnings;

use Carp qw(croak);
use File::Path qw(make_path);

use TlsPKI qw(slurp spew);

=head2 TlsBuild->available

Whether there are sources to build.

=cut

sub available { return defined $ENV{PG_TLS_SRC} && -d "$ENV{PG_TLS_SRC}/src" }

# Each is for a file, and has to change it.
my $copy_slowly = <<'END';
/*
 * Give the other side every chance to act.  A reader needs longer pauses, in
 * which one session ends and the next begins.
 */
static void
copy_slowly(void *to, const void *from, size_t size, long pause_us)
{
	for (size_t done = 0; done < size; done += 64)
	{
		memcpy((char *) to + done, (const char *) from + done,
			   Min(64, size - done));
		pg_usleep(pause_us);
	}
}

END
my $is_whole = qr/\(before & 1\) == 0 && \*changecount == before/;
my %changes = (
	chains => [ 'client/chain.c', \&append ],
	error_queue => [ 'client/session.c', \&append ],
	slow_writes => [ 'client/slot.c',
		sub { s{^(?=/\* Write this backend's own slot)}{$copy_slowly}m && s{memcpy(\(&slot->info, info, info_size\(info\))\)}{copy_slowly$1, 100)} } ],
	slow_reads => [ 'client/slot.c',
		sub { s{^(?=/\* Write this backend's own slot)}{$copy_slowly}m && 2 == s{memcpy(\(info(?:->space)?, .*)\);}{copy_slowly$1, 1000);}g } ],
	slow_judge => [ 'client/judge.c', sub { s{(?=\t\tnow = GetCurrentTimestamp\(\);\n\t\tlast = first \+ 1;)}{\t\tpg_usleep(300000L);\n} } ],
	short_hours => [ 'work/watch.c', sub { s{\bUSECS_PER_HOUR\b}{USECS_PER_SEC}g } ],
	unprotected => [ 'client/slot.c', sub { s{$is_whole}{((void) before, true)} } ],
	files_twice => [ 'server/fileviews.c', sub { s{(?=\t\t\tanswer_files\(pgtls_inspect_files\(\)\);)}{
			(void) pgtls_inspect_files();
			fclose(fopen("asked_once", "w"));
			while (access("go_on", F_OK) != 0)
				pg_usleep(10000L);
} && s{^#include <pwd.h>}{$&\n#include <unistd.h>}m } ],
	contents_twice => [ 'rehearsal/contents.c', sub { s{(?=\tanswer_items\(pgtls_inspect_files\(\))}{\t(void) pgtls_inspect_files();\n} } ],
	dryrun_twice => [ 'rehearsal/dryrun.c', sub { s{\tpgtls_dryrun_make\(depth, &result\);\n}{$&$&} } ],
	uncompared => [ 'client/slot.c', sub { s{$is_whole}{(before & 1) == 0} } ]);

# What is in test/modules/checks, behind the file that it is for.
sub append
{
	my ($name) = @_;
	my $check = slurp("$ENV{PG_TLS_SRC}/test/modules/checks/$name.c");

	return $check =~ s/^#include "client\/\w+\.c"\n//m && ($_ .= $check);
}

=head2 TlsBuild->new($dir, @changes)

Builds in C<$dir>, with C<$ENV{PG_TLS_COPT}>.  The changes are the names of such,
and pairs of a constant and its value.

=cut

sub new
{
	my ($class, $dir, @changes) = @_;
	my $self = bless { dir => $dir }, $class;
	my $config = $ENV{PG_CONFIG} // 'pg_config';
	my $copt = $ENV{PG_TLS_COPT} // '';

	make_path($dir);
	system('cp', '-r', (map { "$ENV{PG_TLS_SRC}/$_" } qw(Makefile pg_tls.control src)), $dir) == 0
	  or croak 'cannot copy the sources';

	# Its workers are to load this library, too.
	_set_constant($dir, PGTLS_LIBRARY => qq{"$dir/pg_tls"});
	while (defined(my $change = shift @changes))
	{
		if ($change =~ /^[A-Z]/)
		{
			_set_constant($dir, $change, shift @changes);
			next;
		}
		my ($file, $code) = @{ $changes{$change} // croak "there is no change $change" };

		local $_ = slurp("$dir/src/$file");
		$code->($change) or croak "cannot change $file: $change";
		spew("$dir/src/$file", $_);
	}

	my $out = `make -s -C $dir clean with_llvm=no PG_CONFIG=$config 2>&1`
	  . `make -s -C $dir pg_tls.so with_llvm=no PG_CONFIG=$config COPT='$copt' 2>&1`;

	-f "$dir/pg_tls.so" or croak "cannot build: $out";
	return $self;
}

sub _set_constant
{
	my ($dir, $name, $value) = @_;
	my $found = 0;

	foreach my $file (glob "$dir/src/*.[ch] $dir/src/*/*.[ch]")
	{
		my $text = slurp($file);

		next unless $text =~ s/^(#define $name[ \t]+)(?:\(.*\)|"[^"]*"|\S+)/$1$value/m;
		spew($file, $text);
		$found++;
	}
	croak "there are $found constants $name" if $found != 1;
	return;
}

=head2 $variant->library

For shared_preload_libraries.

=head2 $variant->create($cluster)

Creates the extension's objects in C<$cluster>, with functions of this library.

=cut

sub library { return "$_[0]{dir}/pg_tls" }

sub create
{
	my ($self, $cluster) = @_;
	my ($version) = slurp("$ENV{PG_TLS_SRC}/pg_tls.control") =~ /^default_version = '(.+)'/m;
	my $sql = slurp("$ENV{PG_TLS_SRC}/pg_tls--$version.sql");
	my $library = $self->library;

	$sql =~ s/^\\echo.*$//m;
	$sql =~ s/MODULE_PATHNAME/$library/g;
	$sql =~ s/\@extschema\@/public/g;
	my ($rc, undef, $err) = $cluster->psql("BEGIN;\n$sql\nCOMMIT;");

	croak "pg_tls--$version.sql: $err" if $rc;
	return;
}

1;

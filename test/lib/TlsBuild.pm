package TlsBuild;

=head1 NAME

TlsBuild - pg_tls built with other options, beside the installed one

=head1 SYNOPSIS

	my $variant = TlsBuild->new("$dir/slow", '-DPGTLS_TEST', '-DPGTLS_TEST_SLOW_WRITES');
	my $c = TlsCluster->new(preload => $variant->library, ...);
	$c->start;
	$variant->create($c);     # instead of CREATE EXTENSION

=head1 DESCRIPTION

The macros for tests:

=over

=item PGTLS_TEST

brings the SQL function pg_tls_test_chains(), which checks the arena of sent
certificates and tells what it holds; and pg_tls_test_error_queue(), which reads
the client's certificate and tells the error that OpenSSL still knows of.

=item PGTLS_TEST_SLOW_WRITES, PGTLS_TEST_SLOW_READS

make a backend write its slot, or read any, in many small steps.

=item PGTLS_TEST_SLOW_JUDGE

makes whoever judges sessions wait before each certificate.

=item PGTLS_TEST_HOUR=MICROSECONDS

how long an hour is where the watch looks at ends, and limits what it logs.

=item PGTLS_TEST_UNPROTECTED

makes readers ignore the change count of slots.

=item PGTLS_TEST_UNCOMPARED

makes readers look at it before they copy, but not afterwards.

=back

Needs C<$ENV{PG_TLS_SRC}>, the sources; L</available> tells.

=cut

use strict;
use warnings;

use Carp qw(croak);
use File::Path qw(make_path);

use TlsPKI qw(slurp);

=head2 TlsBuild->available

Whether there are sources to build.

=cut

sub available { return defined $ENV{PG_TLS_SRC} && -d "$ENV{PG_TLS_SRC}/src" }

=head2 TlsBuild->new($dir, @options)

Builds in C<$dir>, with these options for the compiler, and C<$ENV{PG_TLS_COPT}>.

=cut

sub new
{
	my ($class, $dir, @options) = @_;
	my $self = bless { dir => $dir }, $class;
	my $config = $ENV{PG_CONFIG} // 'pg_config';
	# Its workers are to load this library, too.
	my @copt = (@options, $ENV{PG_TLS_COPT} // '', qq{-DPGTLS_LIBRARY=\\"$dir/pg_tls\\"});

	make_path($dir);
	system('cp', '-r', (map { "$ENV{PG_TLS_SRC}/$_" } qw(Makefile pg_tls.control src)), $dir) == 0
	  or croak 'cannot copy the sources';

	my $out = `make -s -C $dir clean with_llvm=no PG_CONFIG=$config 2>&1`
	  . `make -s -C $dir pg_tls.so with_llvm=no PG_CONFIG=$config COPT='@copt' 2>&1`;

	-f "$dir/pg_tls.so" or croak "cannot build: $out";
	return $self;
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

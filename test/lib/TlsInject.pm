package TlsInject;

=head1 NAME

TlsInject - have memory and other things run out in a server

=head1 SYNOPSIS

	my $inject = TlsInject->new($dir);
	my $c = TlsCluster->new(ssl => 1, pki => $pki);

	$c->start(env => $inject->env);
	$inject->fail(one => 3, who => 'login');    # the third allocation of pg_tls
	...
	is($inject->failed, 1);
	$inject->off;

=head1 DESCRIPTION

Builds F<test/modules/inject> with the C compiler and tells it what is to fail.
See there for which calls count.  Needs C<$ENV{PG_TLS_SRC}>, the sources, and
glibc; L</available> tells.

=cut

use strict;
use warnings;

use Carp qw(croak);
use Config;
use Fcntl qw(SEEK_SET);
use File::Path qw(make_path);

my %modes = (count => 1, one => 2, from => 3, every => 4);
my %scopes = (openssl => 0, all => 1, shm => 2, fork => 3);
my $FORMAT = 'l5 Z64';    # struct Control

=head2 TlsInject->available

Whether it can be built and used here.

=cut

sub available
{
	return defined $ENV{PG_TLS_SRC} && -d "$ENV{PG_TLS_SRC}/test/modules/inject" &&
	  ($Config{gnulibc_version} // '') ne '';
}

=head2 TlsInject->new($dir)

Builds it in C<$dir>, where the file with the orders is, too.

=cut

sub new
{
	my ($class, $dir) = @_;
	my $self = bless { library => "$dir/inject.so", file => "$dir/inject.control" }, $class;
	my $source = "$ENV{PG_TLS_SRC}/test/modules/inject/inject.c";

	make_path($dir);
	my $out = `cc -Wall -Wextra -Werror -O1 -fPIC -shared -o '$self->{library}' '$source' -ldl -lrt 2>&1`;

	croak "cannot build $source: $out" if $?;
	open my $fh, '>', $self->{file} or croak "$self->{file}: $!";
	close $fh;
	$self->off;
	return $self;
}

=head2 $inject->env

The environment for the server.

=cut

sub env
{
	my ($self) = @_;

	# Beside what the caller of the test has there.
	return { LD_PRELOAD => join(' ', grep { defined } $self->{library}, $ENV{LD_PRELOAD}), PG_TLS_INJECT => $self->{file} };
}

=head2 $inject->fail(one => 3, who => 'login', scope => 'openssl')

From now on, count calls anew, and have some of them fail: C<one>, the one of that
number; C<from>, it and those that follow; C<every>, each of which the
number is a multiple of it; C<count>, none.

C<who> is the kind of process: C<postmaster>, C<login> (a backend until its
client is authenticated), C<backend> (after that), or the name of a background
worker; any by default.

C<scope> is C<openssl> (the default: memory that pg_tls asks for, or OpenSSL for it), C<all>
(memory asked for while any of pg_tls runs, as by palloc()), C<shm> (dynamic shared
memory) or C<fork>.

=head2 $inject->off, calls, failed

Nothing fails any more; how many calls there were and how many have failed.

=cut

sub fail
{
	my ($self, %opts) = @_;
	my ($mode) = grep { exists $opts{$_} } keys %modes;

	$self->_write(0, 0, 0, 0, 0, '');
	$self->_write($modes{ $mode // croak 'what?' }, $opts{$mode},
		$scopes{ $opts{scope} // 'openssl' } // croak('scope?'), 0, 0, $opts{who} // '');
	return $self;
}

# The counts stay.
sub off
{
	my ($self) = @_;
	my @values = $self->_read;

	$values[0] = 0;
	$self->_write(map { $_ // 0 } @values[ 0 .. 4 ], $values[5] // '');
	return $self;
}

sub calls { return ($_[0]->_read)[3] }
sub failed { return ($_[0]->_read)[4] }

sub _write
{
	my ($self, @values) = @_;

	# in place: the server has the file mapped
	open my $fh, '+<:raw', $self->{file} or croak "$self->{file}: $!";
	syswrite $fh, pack($FORMAT, @values) or croak "$self->{file}: $!";
	close $fh;
	return;
}

sub _read
{
	my ($self) = @_;
	my $data;

	open my $fh, '<:raw', $self->{file} or croak "$self->{file}: $!";
	sysread $fh, $data, length pack($FORMAT, (0) x 5, '');
	close $fh;
	return unpack $FORMAT, $data;
}

1;

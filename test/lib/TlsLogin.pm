package TlsLogin;

=head1 NAME

TlsLogin - a client that takes its time between the handshake and its password

=head1 SYNOPSIS

	use TlsLogin;

	my $login = TlsLogin->new($c, user => 'slow', cert => 'alice');
	# ... the handshake is over, the server asks for a password
	ok($login->answer('secret'), 'logged in');
	$login->close;

=head1 DESCRIPTION

Needs a line of pg_hba.conf that asks for a password in clear text: C<hostssl all
slow all password>.  Ends with its object.

=cut

use strict;
use warnings;

use Carp qw(croak);
use IPC::Run ();

use TlsCluster;

=head2 TlsLogin->new($cluster, user => ..., cert => ...)

Connects with that certificate of the server's pki, as that user, and waits until
it is asked for the password.

=head2 $login->answer($password), close

answer is true if that is accepted; the session lives until close.

=cut

sub new
{
	my ($class, $c, %opts) = @_;
	my $pki = $c->pki;
	my $self = bless { in => '', out => '', err => '' }, $class;
	my $startup = pack 'N Z* Z* Z* Z* x', 196608, 'user', $opts{user}, 'database', 'postgres';

	$self->{timeout} = IPC::Run::timeout($TlsCluster::TIMEOUT);
	$self->{run} = IPC::Run::start(
		[
			$ENV{OPENSSL} // 'openssl', 's_client', '-quiet', '-starttls', 'postgres', '-connect', '127.0.0.1:' . $c->port,
			'-cert', $pki->crt($opts{cert}), '-key', $pki->key($opts{cert}), '-cert_chain', $pki->chain($opts{cert}) ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timeout});
	$self->{in} = pack('N', 4 + length $startup) . $startup;
	$self->_wait_for(pack 'a N N', 'R', 8, 3) or croak "was not asked for a password: $self->{err}$self->{out}";
	return $self;
}

# Until the server has sent that; false if it sends anything else, or nothing.
sub _wait_for
{
	my ($self, $message) = @_;

	eval {
		$self->{run}->pump until length $self->{out} >= length $message || !$self->{run}->pumpable;
		1;
	} or return 0;
	return $self->{out} =~ s/\A\Q$message\E//;
}

sub answer
{
	my ($self, $password) = @_;

	$self->{timeout}->start;
	$self->{in} .= pack 'a N Z*', 'p', 5 + length $password, $password;
	return $self->_wait_for(pack 'a N N', 'R', 8, 0);
}

sub close    ## no critic (ProhibitBuiltinHomonyms)
{
	my ($self) = @_;

	eval { $self->{run}->kill_kill(grace => 1); 1 } if $self->{run};
	delete $self->{run};
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $@, $!);
	$self->close;
	return;
}

1;

# The file that keeps what was seen of clients is written when anything has changed,
# and then soon, whatever the clock does and the monitor goes through; else it is left
# alone.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'there are no sources to build from' unless TlsBuild->available;

# A minute is a second here.
my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $variant = TlsBuild->new("$dir/build", SAVE_INTERVAL => 1000000);

# The server's clock is late by as many seconds as a file has bytes.
my $clock = spew("$dir/clock.c", <<'END');
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec now;
	struct stat st;

	(void) tz;
	clock_gettime(CLOCK_REALTIME, &now);
	tv->tv_sec = now.tv_sec - (stat(LATE, &st) == 0 ? st.st_size : 0);
	tv->tv_usec = now.tv_nsec / 1000;
	return 0;
}
END
spew("$dir/late", '');
my $out = `cc -Wall -Wextra -O1 -fPIC -shared -DLATE='"$dir/late"' -o $dir/clock.so $clock 2>&1`;

is($?, 0, 'the clock is built') or BAIL_OUT($out);
chmod 0755, "$dir";

my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => $variant->library, conf => { 'pg_tls.watch_interval' => '1h' });
my $file = $c->datadir . '/pg_stat_tmp/pg_tls.stat';
my %env = (env => { LD_PRELOAD => join ' ', grep { defined } "$dir/clock.so", $ENV{LD_PRELOAD} });

sub q1 { return $c->query($_[0], unix => 1) }
sub written { return join ' ', map { $_ // '-' } (stat $file)[ 1, 9 ] }
sub login { return $c->query('SELECT 1', host => '127.0.0.1', cert => $_[0]) }
sub sessions { return q1("SELECT coalesce(sum(sessions), 0) FROM pg_stat_tls_client_certificates WHERE subject_dn LIKE '%$_[0]%'") }

# The monitor's process, without asking the server, which would be another session.
sub monitor
{
	my %children = $c->children;
	my ($pid) = grep { $children{$_} =~ /pg_tls monitor/ } keys %children;

	return $pid;
}

# Wait until the monitor has slept so many times, each for SAVE_INTERVAL at most.
sub turns
{
	my ($n) = @_;
	my $pid;
	my $slept = sub { return slurp("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : die };

	$c->poll_until(sub { $pid = monitor() }, what => 'the monitor');
	my $before = $slept->();
	return $c->poll_until(sub { $slept->() >= $before + $n }, what => 'the monitor');
}

# Wait until it is written, and nothing is left to write.
sub settle
{
	my ($old) = @_;

	$c->poll_until(sub { written() ne $old }, what => 'the file') or return 0;
	return turns(3);
}

my $none = written();
$c->start(%env);
$variant->create($c);
login('alice');
ok(settle($none), 'the first session is saved');
my $old = written();

ok(turns(5), 'nobody connects for some minutes');
is(written(), $old, 'nothing is written');
login('alice');
ok(settle($old), 'somebody connects, and it is written');

$old = written();
$c->psql('SELECT 1', host => '127.0.0.1', cert => 'revoked');
ok(settle($old), 'somebody fails, and it is written');

$old = written();
$c->stop;
is(written(), $old, 'a stop writes nothing');
$c->start(%env);
turns(5);
is(written(), $old, '... nor does the start');
login('bob');
ok($c->poll_until(sub { written() ne $old }), 'somebody connects, and it is written');
is(sessions('alice') . sessions('bob'), '21', 'with what was read');

# Nobody knows when the clock is set.
foreach my $late (3600, 0)
{
	turns(3);
	$old = written();
	spew("$dir/late", 'x' x $late);
	login('carol');
	ok($c->poll_until(sub { written() ne $old }, what => 'the file'), 'written ' . ($late ? 'though the clock was set back' : 'when it is right again'));
}

# A monitor that is killed each time before it is due.
subtest 'a monitor that ends soon' => sub {
	my $mark = $c->log_mark;

	turns(3);
	$old = written();
	login('dave');
	$c->kill_backend(monitor());
	ok($c->wait_for_log(qr/ready to accept connections/, $mark), 'a crash');
	ok($c->poll_until(sub { my ($rc) = $c->psql('SELECT 1', unix => 1); return !$rc }), 'the server is back');
	login('dave');
	ok($c->poll_until(sub { written() ne $old }), 'what came since is written');
	ok($c->poll_until(sub { sessions('alice') eq '2' }), 'and what was read');
};

# Who removes the file gets it back.
turns(3);
unlink $file or die "$file: $!";
ok($c->poll_until(sub { -e $file }), 'a file that is gone is written anew');
$c->stop;
$c->start(%env);
ok($c->poll_until(sub { sessions('alice') eq '2' }), 'with all that it had');

# What is in the file while pg_tls.save is off is not what was seen.
$c->stop;
$c->set_conf({ 'pg_tls.save' => 'off' });
$c->start(%env);
$old = written();
login('alice');
turns(5);
is(written(), $old, 'pg_tls.save = off: nothing is written');
$c->set_conf({ 'pg_tls.save' => undef });
$c->reload;
ok($c->poll_until(sub { written() ne $old }), '... and on again, it is');
$c->stop;
$c->start(%env);
ok($c->poll_until(sub { sessions('alice') eq '1' }), 'with what was seen since');

# What was reset does not come back, though nothing is saved at that moment.
$c->set_conf({ 'pg_tls.save' => 'off' });
$c->reload;
ok($c->poll_query('SHOW pg_tls.save', 'off', unix => 1), 'pg_tls.save = off');
ok($c->poll_until(sub {
	$c->query('SELECT pg_stat_tls_reset()', unix => 1);
	return !-e $file;
}), 'a reset takes the file away');
$c->set_conf({ 'pg_tls.save' => undef });
$c->stop;
$c->start(%env);
is(sessions('alice'), '0', 'nothing comes back');

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

# What OpenSSL has allocated for a view is freed, also where memory runs out before the
# row is whole.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsInject;
use TlsPKI qw(slurp);

plan skip_all => 'there are no sources, or this is not glibc' unless TlsInject->available;

my $CALLS = 300;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $inject = TlsInject->new("$dir/inject");
my $c = TlsCluster->new(ssl => 1, pki => $pki, conf => { ssl_ciphers => 'ALL' });

chmod 0755, "$dir";
$c->start(env => $inject->env);
$c->query('CREATE EXTENSION pg_tls', unix => 1);
$c->query(<<'END', unix => 1);
CREATE FUNCTION failures(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	failed int := 0;
BEGIN
	FOR i IN 1 .. n LOOP
		BEGIN
			PERFORM * FROM pg_tls_status;
		EXCEPTION WHEN out_of_memory THEN
			failed := failed + 1;
		END;
	END LOOP;
	RETURN failed;
END $$
END

my $s = $c->session(unix => 1, timeout => 600);
my $anonymous = sub { return slurp('/proc/' . $s->pid . '/status') =~ /^RssAnon:\s*(\d+)/m ? $1 : 0 };

is($s->query('SELECT failures(100)'), 0, 'all is well');
$inject->fail(count => 1, who => 'backend');
$s->query('SELECT failures(1)');
my $last = $inject->calls;
$inject->off;
cmp_ok($last, '>', 10, 'OpenSSL asks for memory');

# The text of the ciphers has some kilobytes.  Each call that fails is the last of its
# statement, so that all fail at the same one.
my $failed = 0;

foreach my $number ($last - 8 .. $last)
{
	$inject->fail(every => $number, who => 'backend');
	$failed += $s->query("SELECT failures(10)");
	my $before = $anonymous->();

	$failed += $s->query("SELECT failures($CALLS)");
	my $grown = $anonymous->() - $before;

	$inject->off;
	cmp_ok($grown, '<', 192, "call $number of $last fails: nothing is kept");
	note "grown by $grown kB";
}
cmp_ok($failed, '>', 2 * $CALLS, 'statements failed');
is($s->query('SELECT failures(100)'), 0, 'all is well again');

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

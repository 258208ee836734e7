# Functions on certificates can be called for ever: nothing is kept of a call, nor of
# one that fails.
#
# PG_TLS_CALLS says how many calls of each, 5,000 by default.  A leak of some hundred
# bytes in each is noticed with as few as that.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(der der_oid slurp);

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $calls = $ENV{PG_TLS_CALLS} // 5_000;

# Something in each of OpenSSL's own printers
$pki->cert('many', issuer => 'int', san => [ 'DNS:a', 'URI:http://b', [ dirName => '/O=c' ] ],
	ext => [ 'crlDistributionPoints = URI:http://a', 'certificatePolicies = 1.2.3', '1.2.3.4 = DER:0500' ]);

# Long values; and a type of attribute that OpenSSL makes an object for.  Core admits
# nobody who has one.
my $type = '1.2.' . join '.', (2**28 - 1) x 12;
my $name = sub { der(0x30, join '', map { der(0x31, der(0x30, der_oid($_->[0]) . der(0x0c, $_->[1]))) } @_) };

$pki->raw_cert('long', issuer => 'int', subject => $name->([ '2.5.4.10', 'o' x 500 ], [ '2.5.4.3', 'c' x 500 ]));

my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => '');
my $pem = slurp($pki->chain('many'));
my $alice = slurp($pki->crt('alice'));
my $bad = $alice =~ s/\n.{20}/"\n" . 'A' x 20/er;

$c->start;
$c->query('CREATE EXTENSION pg_tls');
$c->query(<<'END');
CREATE FUNCTION call(query text, argument text, n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found bigint;
	state text := 'none';
BEGIN
	FOR i IN 1 .. n LOOP
		BEGIN
			EXECUTE 'SELECT count(x) FROM ' || query || ' x' INTO found USING argument;
		EXCEPTION WHEN OTHERS THEN
			state := SQLSTATE;
		END;
	END LOOP;
	RETURN format('%s rows, error %s', found, state);
END $$
END

my $der = q{decode(regexp_replace($1, '-----[A-Z ]+-----|\n', '', 'g'), 'base64')};
my @cases = (
	[ 'pg_tls_client_chain()', '', '2 rows, error none' ],
	[ 'pg_tls_client_extensions()', '', '9 rows, error none' ],
	[ 'pg_tls_serial_hex($1::numeric)', '147858430193507168255907647760208762990', '1 rows, error none', 'long' ],
	[ 'pg_tls_serial_hex($1::numeric)', 'NaN', ' rows, error 22023' ],
	[ 'pg_tls_client_dn_field($1)', 'CN', '1 rows, error none', 'long' ],
	[ 'pg_tls_client_dn_field($1)', $type, '0 rows, error none' ],
	[ 'pg_tls_client_dn_field($1)', 'nonsense', ' rows, error 22023' ],
	[ 'pg_tls_issuer_dn_field($1)', 'O', '1 rows, error none' ],
	[ 'pg_tls_issuer_dn_field($1)', $type, '0 rows, error none' ],
	[ 'pg_tls_issuer_dn_field($1)', 'nonsense', ' rows, error 22023' ],
	[ 'pg_tls_certificate($1)', $pem, '2 rows, error none' ],
	[ 'pg_tls_certificate($1)', slurp($pki->crt('long')), '1 rows, error none' ],
	[ 'pg_tls_certificate($1)', $bad, ' rows, error 22P02' ],
	[ 'pg_tls_certificate($1)', "$alice\n$bad", ' rows, error 22P02' ],
	[ "pg_tls_certificate($der)", $alice, '1 rows, error none' ],
	[ "pg_tls_certificate($der)", $bad, ' rows, error 22P03' ],
	[ "pg_tls_certificate($der || '\\x00')", $alice, ' rows, error 22P03' ]);

# In kB: what comes and goes, and less for each call than any leak would be
my $limit = 256 + int 40 * $calls / 1024;

$limit = 2048 if $limit > 2048;
foreach my $case (@cases)
{
	my ($query, $argument, $expected, $cert) = @$case;
	my $s = $c->session(cert => $cert // 'many', timeout => 600);
	my $call = sub { $s->query("SELECT call(\$q\$$query\$q\$, \$a\$$argument\$a\$, $_[0])") };

	is($call->(1000), $expected, "$query: $expected");
	my $before = $c->memory_kb($s->pid);
	$call->($calls);
	my $grown = $c->memory_kb($s->pid) - $before;

	cmp_ok($grown, '<', $limit, "... and $calls times more");
	note "grown by $grown kB";
}

done_testing();

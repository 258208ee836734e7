# NIST's Public Key Interoperability Test Suite (PKITS), 249 paths: pg_tls_verify
# in both of its modes, and what a running server makes of the same.
#
# test/data/pkits.tsv says of each path which of NIST's certificates and CRLs
# it consists of, what NIST expects of it ("default_settings" tells apart the
# tests that give certain policies, which pg_tls_verify cannot), and what
# OpenSSL 3.0 says if it is called as PostgreSQL calls it.

use strict;
use warnings;

use File::Temp ();
use MIME::Base64 qw(encode_base64);
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $data = '/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data';
my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';

plan skip_all => "NIST's certificates are not here: they come with python3-cryptography-vectors"
  unless -d "$data/certs";

# So many paths of each section are tried with a running server, half of them
# good where there are both; all of those with delta CRLs.
my $LIVE = $ENV{PG_TLS_LIVE} // 4;

# With mode rfc5280, and why.  Both are refused where NIST accepts: nobody gets
# in by them.
my %exceptions = (
	'4.1.5' => "a DSA key takes its parameters from its issuer's key (RFC 5280, 6.1.4 e), and OpenSSL "
	  . 'from 3.0 on does not read a key without parameters',
	'4.14.30' => "the certificate of a CRL's issuer is covered by that very CRL, and OpenSSL looks for no "
	  . 'CRL of another issuer while it validates the issuer of one');

# With mode server: these have delta CRLs, which some patch levels of OpenSSL
# take as complete ones unless they are told to use delta CRLs, and others pass
# over.  Such as 4.15.4, which NIST calls invalid, come out right by accident.
my @delta = qw(4.15.1 4.15.3 4.15.4 4.15.5 4.15.10);

sub table
{
	my ($head, @lines) = split /\n/, slurp("$src/test/data/pkits.tsv");
	my @names = split /\t/, $head;

	return map { my %row; @row{@names} = split /\t/, $_, -1; \%row } @lines;
}

sub pem
{
	my ($type, $file) = @_;

	return "-----BEGIN $type-----\n" . encode_base64(slurp($file)) . "-----END $type-----\n";
}

sub certificates { return join '', map { pem('CERTIFICATE', "$data/certs/$_") } split /,/, $_[0] }
sub crls { return join '', map { pem('X509 CRL', "$data/crls/$_") } split /,/, $_[0] }
sub literal { return length $_[0] ? "'$_[0]'" : 'NULL' }

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $c = TlsCluster->new(ssl => 1, pki => $pki);
my @rows = table();
my %row = map { $_->{test} => $_ } @rows;

foreach my $row (@rows)
{
	$row->{certificate} = certificates($row->{end_entity});
	$row->{sent} = certificates($row->{intermediates});
	$row->{trusted} = certificates($row->{trust_anchor});
	$row->{crl} = crls($row->{crls});
}
is(scalar keys %row, 249, 'all of the suite');

$c->start;
$c->query('CREATE EXTENSION pg_tls', unix => 1);
my $openssl = $c->query('SELECT openssl_version FROM pg_tls_status', unix => 1);
my $is_3_0 = $openssl =~ /^OpenSSL 3\.0\./;

note($openssl);
$c->query(
	join("\n",
		'CREATE TABLE pkits (test text, certificate text, intermediates text, trusted text, crls text, at timestamptz);',
		map { "INSERT INTO pkits VALUES ('$_->{test}', '$_->{certificate}', " . literal($_->{sent}) .
			", '$_->{trusted}', " . literal($_->{crl}) . ", '$_->{time}');" } @rows),
	unix => 1);

sub verify
{
	my ($mode, $at) = @_;

	return $c->query_rows(
		"SELECT test, ok, error_code, verify_depth, verify_error, chain_status, crl_status
		 FROM pkits, LATERAL pg_tls_verify(certificate, intermediates, trusted, crls, $at, '$mode')",
		unix => 1);
}

sub by_number
{
	my ($one, $other) = map { sprintf '%03d' x (() = /\d+/g), /\d+/g } @_;

	return $one cmp $other;
}

# As the server: whether, and why not.
{
	my (@differ, @codes);

	foreach my $r (verify('server', 'at'))
	{
		my ($test, $ok, $code, $depth, $error, $chain_status) = @$r;
		my ($expected, $sentence) = $row{$test}{openssl_server_flags} =~ /^(\S+) (.*)/;
		my $got = sprintf '%s:%d@%d', $ok eq 't' ? 'ok' : 'fail', $code // 0, $depth // 0;

		push @differ, $test if ($ok eq 't') != ($expected =~ /^ok/);
		push @codes, "$test: $got $error, not $expected $sentence"
		  if $ok eq 'f' && $expected =~ /^fail/ && ($got ne $expected || $error ne $sentence);
		fail("$test: status $chain_status") if ($ok eq 't') && $chain_status ne 'valid';
	}
	is_deeply([ sort { by_number($a, $b) } @differ ], @differ ? \@delta : [], 'mode server: the same, but perhaps with delta CRLs');
	if ($is_3_0)
	{
		is_deeply(\@codes, [], '... with the same error and depth');
	}
	note(sprintf 'mode server: %d of 249 paths agree with the table', 249 - @differ);
}

# By RFC 5280.
{
	my ($agree, @differ) = (0);
	my @expected = grep { $_ ne '4.1.5' || $openssl !~ /^OpenSSL 1\.1/ } keys %exceptions;

	foreach my $r (verify('rfc5280', 'at'))
	{
		my ($test, $ok) = @$r;

		next if $row{$test}{default_settings} ne 'yes';
		if (($ok eq 't') == ($row{$test}{expected} eq 'valid'))
		{
			$agree++;
		}
		else
		{
			push @differ, $test;
			diag("$test, $row{$test}{title}: ok is $ok") unless $exceptions{$test};
		}
	}
	cmp_ok($agree, '>=', 212, "mode rfc5280: $agree of 214 agree with NIST");
	is_deeply([ sort @differ ], [ sort @expected ], '... all but the known exceptions');
	note("$_, $row{$_}{title}: $exceptions{$_}") for sort @differ;
}

# A server with these CAs and CRLs, and a client with that certificate.
sub key
{
	my ($row) = @_;
	my $p12 = $row->{end_entity} =~ s/crt$/p12/r;
	my $key = "$dir/$p12.key";

	system("openssl pkcs12 -in '$data/pkcs12/$p12' -passin pass:password -nocerts -nodes 2>/dev/null | openssl pkey -out '$key'") == 0
	  or die "no key in $p12";
	chmod 0600, $key or die;
	return $key;
}

sub connects
{
	my ($row) = @_;
	my $chain = spew("$dir/chain.crt", $row->{certificate}, $row->{sent});

	return $c->psql('SELECT client_certificate, acceptable, chain_status, crl_status FROM pg_stat_tls WHERE pid = pg_backend_pid()',
		sslcert => $chain, sslkey => key($row));
}

{
	my %now = map { $_->[0] => $_ } verify('server', 'now()');
	my (%picked, %sections, @live);
	my ($accepted, $refused) = (0, 0);

	# TLS 1.3 has no DSA
	foreach my $row (grep { index(slurp("$data/certs/$_->{end_entity}"), "\x2a\x86\x48\xce\x38\x04\x01") < 0 } @rows)
	{
		my $ok = $now{ $row->{test} }[1];
		my $of_this_kind = $picked{ $row->{section} }{$ok} //= [];

		next if $row->{section} ne '4.15' && @$of_this_kind >= $LIVE / 2
		  || grep { $_->{end_entity} eq $row->{end_entity} } @$of_this_kind;
		push @$of_this_kind, $row;
		push @live, $row;
		$sections{ $row->{section} } = 1;
	}
	cmp_ok(scalar @live, '>=', 40, scalar(@live) . ' of them with a running server');
	is(scalar keys %sections, 16, '... from every section');

	foreach my $row (@live)
	{
		my $what = "$row->{test} $row->{title}";
		my (undef, $ok, undef, undef, $error, $chain_status, $crl_status) = @{ $now{ $row->{test} } };

		spew($c->tls('ca.crt'), $row->{trusted});
		spew($c->tls('crl.pem'), $row->{crl});
		$c->query('SELECT ok FROM pg_tls_reload()', unix => 1) eq 't' or die;
		my $mark = $c->log_mark;
		my ($rc, $out, $err) = connects($row);

		if ($ok eq 't')
		{
			is($out, "t|t|$chain_status|$crl_status", "$what: let in") or diag $err;
			$accepted++;
		}
		else
		{
			ok($rc && $c->wait_for_log(qr/could not accept SSL connection: /, $mark),
				"$what: refused, $error")
			  or diag "$out$err";
			my (undef, undef, undef, $depth) = @{ $now{ $row->{test} } };
			ok($c->poll_query('SELECT verify_error, verify_depth FROM pg_stat_tls_failures ORDER BY failed_at DESC LIMIT 1',
					"$error|$depth", unix => 1), "$what: by the same error");
			$refused++;
		}
	}
	note("handshakes: $accepted let in, $refused refused, as pg_tls_verify said");
}

# Nothing stays behind in the memory of the process: neither of verdicts, nor of
# errors, wherever they strike.
{
	my $s = $c->session(unix => 1);
	my $thousand_calls = sub {
		$s->query(<<'END');
DO $$
DECLARE
    r record;
    i integer := 0;
BEGIN
    WHILE i < 1000 LOOP
        FOR r IN SELECT * FROM pkits LOOP
            i := i + 1;
            EXIT WHEN i > 1000;
            BEGIN
                PERFORM pg_tls_verify(CASE WHEN i % 10 = 0 THEN left(r.certificate, -100) ELSE r.certificate END,
                                      CASE WHEN i % 10 = 1 THEN r.intermediates || '-----BEGIN' ELSE r.intermediates END,
                                      CASE WHEN i % 10 = 2 THEN r.trusted || r.crls ELSE r.trusted END,
                                      CASE WHEN i % 10 = 3 THEN regexp_replace(r.crls, '(.*)M', '\1-') ELSE r.crls END,
                                      CASE WHEN i % 10 = 4 THEN 'infinity' ELSE r.at END,
                                      CASE WHEN i % 2 = 0 THEN 'server' ELSE 'rfc5280' END);
            EXCEPTION WHEN data_exception THEN
                NULL;
            END;
        END LOOP;
    END LOOP;
END $$
END
	};

	$thousand_calls->();
	my $before = $c->memory_kb($s->pid);
	$thousand_calls->() for 2 .. 5;
	my $grown = $c->memory_kb($s->pid) - $before;

	cmp_ok($grown, '<', 2048, "5,000 calls: the process grew by $grown kB after the first 1,000");
}

$c->stop;
done_testing();

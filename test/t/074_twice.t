# A worker that did its work before, in the same process, answers as one that did not:
# nothing is left of the first time.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsBuild;
use TlsCluster;
use TlsPKI qw(slurp spew);

plan skip_all => 'there are no sources to build from' unless TlsBuild->available;

my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $twice = TlsBuild->new("$dir/twice", qw(files_twice contents_twice dryrun_twice));

chmod 0755, "$dir";
my $c = TlsCluster->new(ssl => 1, pki => $pki, preload => $twice->library);

$c->start;
$twice->create($c);

my $admin = $c->session(unix => 1);
my $once = $c->datadir . '/asked_once';
my $go_on = $c->datadir . '/go_on';
my $crl = slurp($c->tls('crl.pem'));

sub crls { return scalar(() = $_[0] =~ /-----BEGIN X509 CRL/g) }

# Something is wrong when the files are looked at first, and then no more.
spew($c->tls('crl.pem'), "nonsense\n");
$admin->send('SELECT setting, state, problem FROM pg_tls_files ORDER BY 1');
ok($c->poll_until(sub { -e $once }), 'the files are looked at');
spew($c->tls('crl.pem'), $crl);
spew($go_on, '');
my $files = ($admin->wait)[1];

like($files, qr/^ssl_crl_file\|current\|$/m, 'a problem that is gone is not told');
like($files, qr/^ssl_ca_file\|current\|$/m, 'files are current');

is($admin->query('SELECT count(*), count(DISTINCT issuer_dn) FROM pg_tls_crls'), join('|', (crls($crl)) x 2), 'no CRL comes twice');
is($admin->query('SELECT count(*) - count(DISTINCT c) FROM pg_tls_certificates c'), 0, 'nor does a certificate');

# Dry runs, with files as they are, and with what is wrong in either kind of file.
is($admin->query('SELECT ok, error, count(*) - count(DISTINCT w) FROM pg_tls_check(), unnest(warnings) w GROUP BY ok, error'),
	't||0', 'a dry run warns of nothing twice');
$c->append_conf('no_such_thing = 1');
my ($ok, $warnings) = split /\|/, $admin->query(q{SELECT ok, array_to_string(warnings, '; ') FROM pg_tls_check()});
is(scalar(() = ($warnings // '') =~ /no_such_thing/g), 1, 'what is wrong with the configuration is told once') or diag $warnings;
spew($c->tls('crl.pem'), "nonsense\n");
my $error = $admin->query(q{SELECT error FROM pg_tls_check() WHERE NOT ok});
is(scalar(() = $error =~ /could not load SSL certificate revocation list/g), 1, 'and what is wrong with a file') or diag $error;
spew($c->tls('crl.pem'), $crl);
is($admin->query('SELECT ok, error FROM pg_tls_check()'), 't|', 'all is well again');

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

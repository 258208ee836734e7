# A session that pg_tls.invalid_sessions ends: the client is told why, and so is the log,
# whatever the settings of the log, and other modules that hook into it.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $dir = File::Temp->newdir;
my $config = $ENV{PG_CONFIG} // 'pg_config';
my $version = TlsCluster->pg_version;
my $pki = TlsPKI->new("$dir/pki");

$pki->ca('root');
$pki->cert('server', issuer => 'root', kind => 'server', san => ['DNS:localhost']);
$pki->cert('alice', issuer => 'root');
$pki->crl('root');
my $good = slurp($pki->crl_path('root'));
my $revoked = slurp($pki->crl('root', out => "$dir/revoked.crl", revoked => ['alice']));

# Another module, which may keep such messages out of the log.
chmod 0755, $dir;
my %other = (chains => '', silent => '-DSILENT');
foreach my $variant (sort keys %other)
{
	my $out = `cp -r $src/test/modules/other_hooks $dir/$variant && make -s -C $dir/$variant with_llvm=no PG_CONFIG=$config COPT='$other{$variant}' 2>&1`;

	-f "$dir/$variant/other_hooks.so" or BAIL_OUT("cannot build other_hooks: $out");
}

my $c = TlsCluster->new(
	ssl => 1, pki => $pki, ca => $pki->crt('root'), crl => $pki->crl_path('root'),
	conf => { 'pg_tls.invalid_sessions' => 'terminate' });
my $client = qr/FATAL:  terminating connection due to administrator command\nDETAIL:  The client certificate is no longer acceptable: certificate revoked \(depth 0\)\.$/m;
my $reason = qr/The client certificate is no longer acceptable: certificate revoked \(depth 0\)\./;

# "after" what the session does first.  The log in stderr, csvlog and jsonlog has the
# reason, or none has.
sub ends
{
	my ($what, %o) = @_;
	my %conf = (log_destination => 'stderr', logging_collector => 'off', log_min_messages => undef,
		log_error_verbosity => undef, client_min_messages => undef, shared_preload_libraries => 'pg_tls', %{ $o{conf} // {} });

	subtest $what => sub {
		spew($c->tls('crl.pem'), $good);
		$c->set_conf(\%conf);
		$c->start;
		my $mark = $c->log_mark;
		my $s = $c->session(cert => 'alice');
		my $pid = $s->pid;

		$s->query($_) foreach @{ $o{first} // [] };
		spew($c->tls('crl.pem'), $revoked);
		$c->reload;
		ok($c->poll_until(sub { !grep { $_ == $pid } keys %{ { $c->children } } }), 'the session ends');
		my (undef, undef, $err) = $s->try_query('SELECT 1');
		like($err, qr/FATAL:  terminating connection due to administrator command$/m, 'the client is told');
		if ($o{untold}) { unlike($err, $reason, '... but not why') }
		else { like($err, $client, '... and why') }
		$c->stop;

		my @logs = $conf{logging_collector} eq 'on' ?
		  map { slurp($_) } glob $c->datadir . '/log/server.*' : $c->log_since($mark);
		is(scalar @logs, $conf{logging_collector} eq 'on' ? ($version >= 15 ? 3 : 2) : 1, 'there are logs');
		foreach my $log (@logs)
		{
			if ($o{unlogged}) { unlike($log, $reason, 'the log does not have it') }
			else { is(scalar(() = $log =~ /$reason/g), 1, 'the log has it once') }
		}
	};
}

ends('with the default settings');
foreach my $level (qw(error fatal))
{
	ends("log_min_messages = $level", conf => { log_min_messages => $level });
}
# Core asks nobody then.
ends('log_min_messages = panic', conf => { log_min_messages => 'panic' }, untold => 1, unlogged => 1);
ends('log_error_verbosity = verbose', conf => { log_error_verbosity => 'verbose' });
ends('log_error_verbosity = terse', conf => { log_error_verbosity => 'terse' }, unlogged => 1);
ends('client_min_messages = error', first => ['SET client_min_messages = error']);
ends('in a transaction that has failed', first => ['BEGIN', q{DO $$ BEGIN RAISE 'x'; EXCEPTION WHEN OTHERS THEN NULL; END $$}]);
ends('csvlog and jsonlog', conf => {
	logging_collector => 'on', log_directory => 'log', log_filename => 'server.log',
	log_destination => $version >= 15 ? 'stderr,csvlog,jsonlog' : 'stderr,csvlog' });
foreach my $order ("$dir/%s/other_hooks, pg_tls", "pg_tls, $dir/%s/other_hooks")
{
	my $what = $order =~ /^pg_tls/ ? 'after' : 'before';

	ends("another module, loaded $what us", conf => { shared_preload_libraries => sprintf $order, 'chains' });
	ends("one that keeps it out of the log, loaded $what us", conf => { shared_preload_libraries => sprintf $order, 'silent' }, unlogged => 1);
}

unlike($c->log_text, qr/PANIC:|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

# Other modules beside us in shared_preload_libraries, loaded before and after:
# those that most servers have, one that takes part in loading the TLS files,
# and one that uses all the hooks that we use.

use strict;
use warnings;

use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $dir = File::Temp->newdir;
my $config = $ENV{PG_CONFIG} // 'pg_config';
my $lib = TlsCluster->pg_config('pkglibdir');

chmod 0755, $dir;
foreach my $module ('other_tls', 'other_hooks')
{
	my $out = `cp -r $src/test/modules/$module $dir && make -s -C $dir/$module with_llvm=no PG_CONFIG=$config 2>&1`;

	-f "$dir/$module/$module.so" or BAIL_OUT("cannot build $module: $out");
}

my %path = (other_tls => "$dir/other_tls/other_tls", other_hooks => "$dir/other_hooks/other_hooks");
my @usual = grep { -f "$lib/$_.so" } 'pg_stat_statements', 'auto_explain', 'pgaudit';
my %has = map { $_ => 1 } @usual;
my $has_pgaudit = $has{pgaudit};

note 'of others there are: ' . join ', ', @usual;

my $pki = TlsPKI->default_set("$dir/pki");
my %crl = (good => slurp("$dir/pki/crls.pem"));

$pki->revoke('alice');
$pki->crl('int', out => "$dir/revoked.crl");
$crl{revoked} = slurp($pki->crl_path('root')) . slurp("$dir/revoked.crl");

my @views = qw(pg_stat_tls pg_tls_status pg_tls_reloads pg_tls_files pg_tls_certificates pg_tls_crls
  pg_stat_tls_failures pg_stat_tls_info pg_stat_tls_handshakes pg_stat_tls_clients pg_stat_tls_client_certificates pg_tls_findings);

my @orders = (
	[ 'pg_tls', @usual, 'other_tls', 'other_hooks' ],
	[ @usual, 'other_tls', 'other_hooks', 'pg_tls' ],
	[ 'other_hooks', (grep { $_ eq 'auto_explain' } @usual), 'pg_tls', (grep { $_ ne 'auto_explain' } @usual), 'other_tls' ],
	[ 'other_tls', (reverse @usual), 'pg_tls', 'other_hooks' ]);

my $n = 0;

foreach my $order (@orders)
{
	subtest join(', ', @$order) => sub {
		my $c = TlsCluster->new(
			name => 'order' . ++$n,
			ssl => 1,
			pki => $pki,
			preload => join(', ', map { $path{$_} // $_ } @$order),
			conf => {
				'pg_stat_statements.track' => 'all',
				'auto_explain.log_min_duration' => 0,
				'auto_explain.log_analyze' => 'on',
				'auto_explain.log_nested_statements' => 'on',
				$has_pgaudit ? ('pgaudit.log' => 'all', 'pgaudit.log_parameter' => 'on') : () });
		my $admin;
		my $q = sub { return $admin->query($_[0]) };
		my $count = sub { return $admin->query("SELECT other_hooks_count('$_[0]')") };
		my $connect = sub {
			$admin = $c->session(unix => 1);
			ok($admin->connected, 'an administrator is connected') or diag $admin->error;
		};

		# a key that other_tls opens
		unlink $c->tls('server.key');
		system("openssl pkey -in '" . $pki->key('server') . "' -aes128 -passout pass:secret -out '" . $c->tls('server.key') . "'") == 0 or die;
		chmod 0600, $c->tls('server.key');

		$c->start;
		$connect->();
		$q->('CREATE EXTENSION pg_stat_statements') if $has{pg_stat_statements};
		$q->('CREATE EXTENSION pgaudit') if $has_pgaudit;
		$q->("CREATE FUNCTION other_hooks_count(text) RETURNS integer STRICT LANGUAGE C AS '$path{other_hooks}'");
		my $mark = $c->log_mark;
		$q->('CREATE EXTENSION pg_tls');
		like($c->log_since($mark), qr/AUDIT: .*CREATE EXTENSION pg_tls/, 'pgaudit tells of CREATE EXTENSION') if $has_pgaudit;
		is($q->('SELECT active, generation, attempts FROM pg_tls_status'), 't|1|1', 'the load at the start is seen');
		is($count->('loads'), 1, '... by the other module, too');

		subtest 'sessions' => sub {
			my $logins = $count->('logins');
			my $bob = $c->session(cert => 'bob');

			is($q->('SELECT encryption, client_cn, auth_method, acceptable, chain_status, crl_status, config_generation'
						. ' FROM pg_stat_tls WHERE pid = ' . $bob->pid),
				'tls|bob|trust|t|valid|good|1', 'a session');
			is($bob->query('SELECT client_cn FROM pg_tls_session()'), 'bob', 'one that looks at itself');
			is($count->('logins'), $logins + 1, 'both see logins');
		};

		subtest 'views' => sub {
			foreach my $view (@views)
			{
				my ($ok, undef, $err) = $admin->try_query("SELECT * FROM $view");

				ok($ok, $view) or diag $err;
			}
			is($q->(q{SELECT calls FROM pg_stat_statements WHERE query = 'SELECT * FROM pg_stat_tls'}), 1, 'pg_stat_statements counts')
			  if $has{pg_stat_statements};
			ok($c->log_text =~ /Query Text: SELECT \* FROM pg_tls_findings\b.*?\(actual time=/s, 'auto_explain explains')
			  if $has{auto_explain};
			ok($c->log_text =~ /AUDIT: SESSION,.*SELECT \* FROM pg_tls_findings/, 'pgaudit tells') if $has_pgaudit;
			is($q->(q{SELECT count(*) FROM pg_tls_findings WHERE severity = 'critical' AND code !~ 'hba|expir'}), 0,
				'findings: nothing that is not so');
		};

		subtest 'reloads' => sub {
			my $messages = $count->('messages');
			my $at = $c->log_mark;

			is($q->('SELECT ok, error FROM pg_tls_check()'), 't|', 'dry run');
			unlike($c->log_since($at), qr/passphrase asked for/, '... says nothing in the log');
			is($count->('loads'), 1, '... and is no load');
			is($q->('SELECT ok, generation, trigger FROM pg_tls_reload()'), 't|2|function', 'reload');
			like($c->log_since($at), qr/passphrase asked for/, 'the other module gives the passphrase');
			is($count->('loads'), 2, '... and both see the load');
			cmp_ok($count->('messages'), '>', $messages, '... and what is logged');

			spew($c->tls('server.crt'), slurp($pki->crt('alice')));
			is($q->('SELECT ok FROM pg_tls_check()'), 'f', 'dry run with the wrong certificate');
			$at = $c->log_mark;
			$q->('SELECT pg_reload_conf()');
			ok($c->poll_query('SELECT generation, last_attempt_ok, last_error FROM pg_tls_status',
					qr/^2\|f\|other_tls: passphrase asked for; could not load private key file "tls\/server\.key": key values mismatch/i, unix => 1),
				'a reload that fails, and why');
			like($c->log_since($at), qr/LOG:  could not load private key file/, '... which the log has, too');
			is($q->(q{SELECT count(*) FROM pg_tls_findings WHERE code = 'reload_failed'}), 1, 'findings');
			spew($c->tls('server.crt'), slurp($pki->chain('server')));
		};

		subtest 'a verdict that changes' => sub {
			my $alice = $c->session(cert => 'alice');
			my $acceptable = 'SELECT acceptable, chain_status FROM pg_stat_tls WHERE pid = ' . $alice->pid;

			is($q->($acceptable), 't|valid', 'before');
			spew($c->tls('crl.pem'), $crl{revoked});
			is($q->('SELECT chain_status FROM pg_tls_check_sessions()'), 'revoked', 'what a reload would do');
			is($q->('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
			ok($c->poll_query($acceptable, 'f|revoked', unix => 1), 'after');
			is($q->(q{SELECT object FROM pg_tls_findings WHERE code = 'session_not_acceptable'}), '/O=Example/CN=alice', 'findings');
		};

		subtest 'failures' => sub {
			my ($messages, $refused) = ($count->('messages'), $count->('refused'));

			isnt(($c->psql('SELECT 1', cert => 'alice'))[0], 0, 'a revoked certificate');
			is($q->(q{SELECT reason, subject_dn, error LIKE 'could not accept SSL connection: %' FROM pg_stat_tls_failures}),
				'certificate_revoked|/O=Example/CN=alice|t', '... is told, with the message of the log');
			is($count->('refused'), $refused, '... and does not come to authentication');
			$c->set_hba('local all all trust', 'hostssl all all all cert', 'host all all all trust');
			is($q->('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
			isnt(($c->psql('SELECT 1', cert => 'bob'))[0], 0, 'a certificate of another role');
			is($q->(q{SELECT reason, usename FROM pg_stat_tls_failures LIMIT 1}), 'certificate_user_mismatch|postgres', '... is told');
			is($count->('refused'), $refused + 1, '... and both see it');
			$c->set_conf({ 'pg_tls.require_encryption' => 'on' });
			is($q->('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
			like(($c->psql('SELECT 1', ssl => 'disable'))[2], qr/FATAL:  connection is not encrypted/, 'pg_tls.require_encryption');
			cmp_ok($count->('messages'), '>', $messages + 1, 'the other module sees the messages');
			$c->set_hba('local all all trust', 'host all all all trust');
			$c->set_conf({ 'pg_tls.require_encryption' => undef });
			spew($c->tls('crl.pem'), $crl{good});
			is($q->('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
		};

		subtest 'crash of a backend' => sub {
			my $generation = $q->('SELECT generation FROM pg_tls_status');
			my $at = $c->log_mark;
			my $victim = $c->session;

			$c->kill_backend($victim->pid);
			ok($c->wait_for_log(qr/ready to accept connections/, $at), 'restarted');
			$c->poll_until(sub { ($c->psql('SELECT 1', unix => 1))[0] == 0 });
			$connect->();
			is($q->('SELECT active, generation FROM pg_tls_status'), "t|$generation", 'status');
			is($count->('loads'), $q->('SELECT attempts FROM pg_tls_status'), 'the other module counts the same loads');
			is($c->query('SELECT client_cn, acceptable FROM pg_tls_session()', cert => 'bob'), 'bob|t', 'sessions');
			is($q->('SELECT ok FROM pg_tls_reload()'), 't', 'reload');
		};

		$q->('DROP EXTENSION pg_tls');
		is($q->('SELECT 1'), 1, 'DROP EXTENSION');
		undef $admin;
		ok($c->stop, 'stops');
		unlike($c->log_text, qr/PANIC|TRAP|signal 11/, 'nothing bad in the log');
	};
}

done_testing();

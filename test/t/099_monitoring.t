# monitoring/: the real exporters and the real Prometheus, of Debian 12, see a
# real server, and what happens to it; the alerts, the dashboard and the Nagios
# commands use what there is.

use strict;
use warnings;

use CPAN::Meta::YAML;
use File::Temp ();
use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run ();
use JSON::PP ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $bin = $ENV{PG_TLS_MONITORING} // '/var/cache/pg_tls/monitoring';
my %program = (
	prometheus => "$bin/usr/bin/prometheus",
	promtool => "$bin/usr/bin/promtool",
	postgres => "$bin/usr/bin/prometheus-postgres-exporter",
	sql => "$bin/usr/bin/prometheus-sql-exporter",
	nagios => "$bin/usr/lib/nagios/plugins/check_pgactivity");

foreach (sort keys %program)
{
	plan skip_all => "there is no $program{$_}: test/run unpacks it, as root on Debian 12 with a network"
	  unless -e $program{$_};
}

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $files = ($ENV{PG_TLS_SRC} // '.') . '/monitoring';
my $http = HTTP::Tiny->new(timeout => $TlsCluster::TIMEOUT);
my @running;

END
{
	local $?;
	$_->kill_kill(grace => 5) for @running;
	# before the modules that their destruction needs
	@running = ();
}

# Programs end with this one, however it ends.
sub start_program
{
	my ($name, $env, @cmd) = @_;
	my $log = ($ENV{PG_TLS_LOGDIR} // $dir) . "/099_monitoring-$name.log";

	local %ENV = (%ENV, %$env);
	push @running, IPC::Run::start([ 'setpriv', '--pdeathsig', 'KILL', $program{$name}, @cmd ],
		'<', \undef, '>&', $log);
	return;
}

sub run_program
{
	my ($stdin, @cmd) = @_;
	my $out = '';

	IPC::Run::run(\@cmd, '<', \$stdin, '>&', \$out, IPC::Run::timeout($TlsCluster::TIMEOUT));
	return ($? >> 8, $out);
}

# ---------------------------------------------------------------------------
# The files by themselves
# ---------------------------------------------------------------------------

my $postgres_yaml = slurp("$files/postgres_exporter.yaml");
my $sql_yaml = slurp("$files/sql_exporter.yml");
my $alerts_yaml = slurp("$files/alerts.yml");
my ($version) = slurp("$files/../pg_tls.control") =~ /^default_version = '(.*)'/m;
my $prometheus_yaml = slurp("$files/prometheus.yml");
my ($rc, $out);

foreach ([ 'check', 'rules', "$files/alerts.yml" ], [ 'check', 'config', "$files/prometheus.yml" ])
{
	($rc, $out) = run_program('', $program{promtool}, @$_);
	is($rc, 0, "promtool @$_[0, 1]") or diag($out);
}

# This takes some seconds: it goes on while the server starts.
my $rule_tests_out = '';

push @running, IPC::Run::start([ $program{promtool}, 'test', 'rules', "$files/alerts_test.yml" ],
	'<', \undef, '>&', \$rule_tests_out);

# Each alert has tests in which it is silent, and in which it fires.
{
	my ($tests) = @{ CPAN::Meta::YAML->read_string(slurp("$files/alerts_test.yml") =~ s/^( *values: )'(.*)'$/$1"$2"/gmr) }[0];
	my %cases;

	foreach (map { @{ $_->{alert_rule_test} } } @{ $tests->{tests} })
	{
		$cases{ $_->{alertname} }{ ref $_->{exp_alerts} && @{ $_->{exp_alerts} } ? 'fires' : 'silent' }++;
	}
	my @alerts = $alerts_yaml =~ /- alert: (\w+)/g;

	is(join(' ', sort grep { keys %{ $cases{$_} } == 2 } keys %cases), join(' ', sort @alerts), 'each alert has its tests');
	my @listed = map { /(\w+)/g } slurp("$files/README.md") =~ /^\| (`PgTls\w+`.*?) \|/mg;

	is(join(' ', sort @listed), join(' ', sort @alerts), 'each alert is in README.md');
}

# Both exporters have the same queries.
my %family = %{ CPAN::Meta::YAML->read_string($postgres_yaml)->[0] };
{
	my %sql = map { $_->{name} => $_ }
	  map { @{ $_->{queries} } } @{ CPAN::Meta::YAML->read_string($sql_yaml)->[0]{jobs} };
	my %postgres = map {
		my $name = $_;
		my (@labels, @values);

		foreach (@{ $family{$name}{metrics} })
		{
			my ($column, $about) = %$_;

			push @{ $about->{usage} eq 'LABEL' ? \@labels : \@values }, $column;
		}
		$name => { query => $family{$name}{query}, values => \@values, @labels ? (labels => \@labels) : () };
	} keys %family;

	delete @$_{qw(name help allow_zero_rows)} for values %sql;
	is_deeply(\%sql, \%postgres, 'the exporters have the same queries, labels and values');
}

# ---------------------------------------------------------------------------
# A server, the exporters, and Prometheus
# ---------------------------------------------------------------------------

my $pki = TlsPKI->new("$dir/pki");
my @server = (issuer => 'int', kind => 'server', subject => '/O=Example/CN=localhost', san => ['DNS:localhost']);

$pki->ca('root', subject => '/CN=Root CA', not_after => 800 * $DAY);
$pki->ca('int', issuer => 'root', subject => '/CN=Intermediate CA', not_after => 800 * $DAY);
$pki->cert('server', @server, not_after => 100 * $DAY);
$pki->cert('renewed', @server, not_before => -95 * $DAY, not_after => 5 * $DAY);
$pki->cert($_, issuer => 'int', not_after => 100 * $DAY) for qw(alice bob);
$pki->revoke('bob');
$pki->crl($_) for qw(root int);
$pki->crl_file("$dir/crls.pem", 'root', 'int');
$pki->bundle("$dir/ca.pem", 'root', 'int');

my $c = TlsCluster->new(
	ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => "$dir/crls.pem",
	conf => {
		listen_addresses => '*', password_encryption => 'scram-sha-256',
		'pg_tls.max_clients' => 10, 'pg_tls.watch_interval' => '100ms', 'pg_tls.watch_files' => 'off' },
	hba => [
		'local all all trust',
		'hostssl all monitor all scram-sha-256',
		'hostssl all all all cert',
		'hostnossl all all all trust' ]);

$c->start;
my $s = $c->session(unix => 1);

$s->query('CREATE EXTENSION pg_tls; CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE clear LOGIN;');
$s->query(q{CREATE ROLE monitor LOGIN PASSWORD 'secret'; GRANT pg_monitor TO monitor});
$s->query('SELECT * FROM pg_tls_reload()');

my %port = map { $_ => TlsCluster::_free_port('127.0.0.1') } qw(postgres sql prometheus);    ## no critic (ProtectPrivateSubs)
my $url = 'postgresql://monitor:secret@localhost:' . $c->port . "/postgres?sslmode=verify-full&sslrootcert=$dir/ca.pem";

# What is in the files, but for addresses and intervals.
spew("$dir/postgres_exporter.yaml", $postgres_yaml =~ s/^  cache_seconds: \d+\n//gmr);
is($sql_yaml =~ s{"postgres://monitor:\{\{PG_TLS_PASSWORD\}\}\@localhost:5432/postgres\?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt"}
		{"postgres://monitor:{{PG_TLS_PASSWORD}}\@localhost:@{[$c->port]}/postgres?sslmode=verify-full&sslrootcert=$dir/ca.pem"}g, 3, 'connections of sql_exporter.yml');
is($sql_yaml =~ s/^    interval: "\w+"/    interval: "1s"/gm, 3, 'intervals of sql_exporter.yml');
spew("$dir/sql_exporter.yml", $sql_yaml);
is($prometheus_yaml =~ s/'localhost:9187'/'127.0.0.1:$port{postgres}'/g + $prometheus_yaml =~ s/'localhost:9237'/'127.0.0.1:$port{sql}'/g, 2, 'targets of prometheus.yml');
spew("$dir/prometheus.yml", "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n", $prometheus_yaml);
spew("$dir/alerts.yml", $alerts_yaml);

start_program('postgres', { DATA_SOURCE_NAME => $url }, "--web.listen-address=127.0.0.1:$port{postgres}",
	"--extend.query-path=$dir/postgres_exporter.yaml", '--disable-default-metrics', '--disable-settings-metrics');
start_program('sql', { PG_TLS_PASSWORD => 'secret', LOGLEVEL => 'WARN' }, "-web.listen-address=127.0.0.1:$port{sql}", "-config.file=$dir/sql_exporter.yml");
start_program('prometheus', {}, "--web.listen-address=127.0.0.1:$port{prometheus}", "--config.file=$dir/prometheus.yml",
	"--storage.tsdb.path=$dir/tsdb");

# Prometheus's answer; dies if it is none.
sub ask
{
	my ($path, %args) = @_;
	my $answer = $http->get("http://127.0.0.1:$port{prometheus}/api/v1/$path?" . $http->www_form_urlencode(\%args));
	my $data = eval { JSON::PP->new->utf8->decode($answer->{content}) };

	die "$path: $answer->{status} $answer->{content}\n" unless $data && $data->{status} eq 'success';
	return $data->{data};
}

sub series_name
{
	my (%labels) = @_;
	my $name = delete $labels{__name__} // '';

	return $name . '{' . join(',', map { "$_=$labels{$_}" } sort keys %labels) . '}';
}

# What Prometheus has of a job: { 'name{label=value,...}' => value }, without
# the labels that are the same for all.
sub series
{
	my ($job) = @_;
	my %result;

	foreach (@{ ask('query', query => qq({__name__=~"pg_tls_.*",job="$job"}))->{result} })
	{
		my %labels = %{ $_->{metric} };

		die 'server: ' . JSON::PP->new->encode(\%labels) unless (delete $labels{server} // '') eq 'localhost:' . $c->port;
		delete @labels{qw(job instance)};
		$result{ series_name(%labels) } = $_->{value}[1];
	}
	return \%result;
}

# The values that these are expected to have, with both exporters: a number, a
# regular expression, a function that says so, or undef for none at all.
sub same
{
	my ($got, $expected) = @_;

	return !defined $expected if !defined $got;
	return 0 if !defined $expected;
	return $expected->($got) if ref $expected eq 'CODE';
	return $got =~ $expected if ref $expected;
	return abs($got - $expected) <= 1e-9 * abs $expected;    # as much as a double has
}

sub sees
{
	my ($name, $expected, %opts) = @_;

	foreach my $job (@{ $opts{jobs} // [qw(postgres sql)] })
	{
		my @wrong;
		my $seen = TlsCluster->poll_until(
			sub {
				my $want = ref $expected eq 'CODE' ? $expected->() : $expected;
				my $got = eval { series($job) } // {};

				@wrong = map { "$_: " . ($got->{$_} // 'none') . ', expected: ' . ($want->{$_} // 'none') }
				  grep { !same($got->{$_}, $want->{$_}) }
				  sort keys %{ { %$want, $opts{all} ? %$got : () } };
				return !@wrong;
			},
			what => $name);

		ok($seen, "$name: $job") or diag(map { "$_\n" } @wrong);
	}
	return;
}

sub epoch
{
	my ($sql) = @_;

	return $s->query("SELECT extract(epoch FROM ($sql))");
}

# What openssl says: enddate or startdate of a certificate, lastupdate or
# nextupdate of a CRL.
sub openssl_date
{
	my ($kind, $file, $what) = @_;
	my (undef, $date) = run_program('', 'openssl', $kind, '-noout', "-$what", '-in', $file);

	return epoch("'" . ($date =~ s/^\w+=(.*)\n\z/$1/r) . "'::timestamptz");
}

sub not_before { return openssl_date('x509', $pki->crt($_[0]), 'startdate') }
sub not_after { return openssl_date('x509', $pki->crt($_[0]), 'enddate') }
sub crl_date { return openssl_date('crl', $pki->crl_path($_[0]), $_[1]) }

# ---------------------------------------------------------------------------
# Every metric, with the value that it should have
# ---------------------------------------------------------------------------

my $alice = $c->session(user => 'alice', cert => 'alice', host => '127.0.0.1', ssl_max_protocol_version => 'TLSv1.2');

ok($alice->connected, 'a client with a certificate') or diag($alice->error);

# What a certificate or CRL says of itself.
my %fixed;

{
	my %certificate = (
		'position=1,setting=ssl_cert_file,subject=/O=Example/CN=localhost' => 'server',
		'position=2,setting=ssl_cert_file,subject=/CN=Intermediate CA' => 'int',
		'position=1,setting=ssl_ca_file,subject=/CN=Root CA' => 'root',
		'position=2,setting=ssl_ca_file,subject=/CN=Intermediate CA' => 'int');

	foreach (keys %certificate)
	{
		$fixed{"pg_tls_certificate_not_before_timestamp_seconds{$_}"} = not_before($certificate{$_});
		$fixed{"pg_tls_certificate_not_after_timestamp_seconds{$_}"} = not_after($certificate{$_});
	}
	foreach ([ 'root', '/CN=Root CA', 0 ], [ 'int', '/CN=Intermediate CA', 1 ])
	{
		my ($ca, $name, $entries) = @$_;
		my $labels = "{issuer=$name,setting=ssl_crl_file}";

		$fixed{"pg_tls_crl_this_update_timestamp_seconds$labels"} = crl_date($ca, 'lastupdate');
		$fixed{"pg_tls_crl_next_update_timestamp_seconds$labels"} = crl_date($ca, 'nextupdate');
		$fixed{"pg_tls_crl_entries$labels"} = $entries;
	}
}

sub everything
{
	my %s;
	my $reasons = $s->query(q{SELECT string_agg(reason, ' ') FROM pg_stat_tls_handshakes});
	my $accepted = $s->query(q{SELECT count FROM pg_stat_tls_handshakes WHERE result = 'accepted'});

	$s{'pg_tls_ssl_setting{}'} = 1;
	$s{'pg_tls_worker_up{}'} = 1;
	$s{"pg_tls_${_}{}"} = 0 for qw(verdicts_pending verdicts_pending_seconds chains_missing);
	$s{'pg_tls_load_attempts_total{}'} = 2;
	$s{"pg_tls_${_}_total{}"} = 0 for qw(load_failures chains_refused client_evictions certificate_evictions);
	$s{'pg_tls_context_active{}'} = 1;
	$s{'pg_tls_loaded_generation{}'} = 2;
	$s{'pg_tls_loaded_timestamp_seconds{}'} = epoch('SELECT loaded_at FROM pg_tls_status');
	$s{'pg_tls_last_load_success{}'} = 1;
	$s{'pg_tls_last_load_timestamp_seconds{}'} = epoch('SELECT max(attempted_at) FROM pg_tls_reloads');
	$s{'pg_tls_load_duration_seconds{}'} = $s->query('SELECT duration FROM pg_tls_reloads WHERE attempt = 2') / 1000;
	$s{'pg_tls_server_info{min_version=TLSv1.2,openssl=' . $s->query('SELECT openssl_version FROM pg_tls_status') . ',pg_tls=' . $version . '}'} = 1;
	$s{"pg_tls_file_differs{setting=$_}"} = 0 for qw(ssl_cert_file ssl_key_file ssl_ca_file ssl_crl_file);

	@s{ keys %fixed } = values %fixed;
	$s{"pg_tls_handshakes_total{reason=$_,result=failed}"} = 0 for split / /, $reasons;
	# Exporters connect all the time: as many as a moment ago, or as now.
	$s{'pg_tls_handshakes_total{result=accepted}'} = sub {
		$_[0] >= $accepted - 20 && $_[0] <= $s->query(q{SELECT count FROM pg_stat_tls_handshakes WHERE result = 'accepted'});
	};

	my %sessions = (
		'encryption=local' => { connected => 1 },
		'encryption=none' => {},
		'encryption=gss' => {},
		'encryption=tls,version=TLSv1.2' => { connected => 1, with_certificate => 1 },
		# the exporters
		'encryption=tls,version=TLSv1.3' => { connected => qr/^[2-6]$/ });

	foreach my $labels (keys %sessions)
	{
		$s{"pg_tls_sessions_$_\{$labels}"} = $sessions{$labels}{$_} // 0
		  for qw(connected remote post_quantum with_certificate unacceptable unjudged);
	}

	my %clients = ('encryption=local' => 1, 'encryption=tls,version=TLSv1.2' => 1, 'encryption=tls,version=TLSv1.3' => qr/^[12]$/);

	foreach (keys %clients)
	{
		my ($labels) = /^([^,]+)/;
		my $version = /(,version=.*)/ ? $1 : '';

		$s{"pg_tls_clients_known{$labels,remote=false$version}"} = $clients{$_};
		$s{"pg_tls_clients_last_seen_timestamp_seconds{$labels,remote=false$version}"} =
		  $version eq ',version=TLSv1.3' ? sub { $_[0] > time - 60 } : epoch(
			"SELECT max(last_seen_at) FROM pg_stat_tls_clients WHERE '$_' = 'encryption=' || encryption || coalesce(',version=' || version, '')");
	}
	foreach (split /\n/, $s->query('SELECT code, severity, count(*) FROM pg_tls_findings GROUP BY 1, 2'))
	{
		my ($code, $severity, $count) = split /\|/;

		$s{"pg_tls_findings_open{code=$code,severity=$severity}"} = $count;
	}
	return \%s;
}

sees('every metric', \&everything, all => 1);
{
	my $rule_tests = shift @running;

	$rule_tests->finish;
	is($rule_tests->result(0), 0, 'promtool test rules') or diag($rule_tests_out);
}

# Types, units and names, as Prometheus wants them.
{
	my $text = $http->get("http://127.0.0.1:$port{postgres}/metrics")->{content};
	my $ours = join '', map { "$_\n" } grep { /^(# \w+ )?pg_tls_/ } split /\n/, $text;
	my %type = $ours =~ /^# TYPE (\S+) (\S+)$/gm;

	($rc, $out) = run_program($ours, $program{promtool}, 'check', 'metrics');
	is("$rc$out", '0', 'promtool check metrics');
	is(join(' ', sort grep { $type{$_} ne ($_ =~ /_total$/ ? 'counter' : 'gauge') } keys %type), '', 'counters, and only those, are _total');
	like($text, qr/^pg_exporter_last_scrape_error 0$/m, 'nothing was wrong with the last scrape');
	is(scalar(() = $ours =~ /NaN/g), 0, 'no value is NaN');

	$text = $http->get("http://127.0.0.1:$port{sql}/metrics")->{content};
	is(join(' ', $text =~ /^(sql_exporter_last_scrape_failed\{.*\} 1)$/gm), '', 'nor with that of prometheus-sql-exporter');
	unlike(slurp(($ENV{PG_TLS_LOGDIR} // $dir) . '/099_monitoring-sql.log'), qr/"level":/, 'nor does it complain');
}
is($s->query(q{SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = 'monitor'::regrole}), 'pg_monitor',
	'the role has only pg_monitor');

# ---------------------------------------------------------------------------
# The checks for Nagios
# ---------------------------------------------------------------------------

my %command = slurp("$files/nagios.cfg") =~ /command_name (\w+)\n\s*command_line (.*)\n/g;

sub checks
{
	my ($name, %expected) = @_;

	local %ENV = (%ENV, PGPORT => $c->port, PGPASSWORD => 'secret', PGSSLMODE => 'verify-full', PGSSLROOTCERT => "$dir/ca.pem",
		PATH => TlsCluster->pg_config('bindir') . ":$ENV{PATH}", HOME => "$dir");
	foreach (sort keys %expected)
	{
		my $command = $command{$_} =~ s/\$HOSTADDRESS\$/localhost/r =~ s{^/usr/lib/nagios/plugins/check_pgactivity}{$program{nagios}}r;

		($rc, $out) = run_program('', 'sh', '-c', $command);
		is($rc, $expected{$_}[0], "$_: $name");
		like($out, $expected{$_}[1], "$_ says so: $name");
	}
	return;
}

is(join(' ', sort keys %command), 'check_pg_tls_certificates check_pg_tls_crls check_pg_tls_findings check_pg_tls_sessions', 'commands');
checks('all is well',
	check_pg_tls_certificates => [ 0, qr/OK/ ], check_pg_tls_crls => [ 0, qr/OK.*life_left=99%/ ], check_pg_tls_sessions => [ 0, qr/OK.*unacceptable=0/ ],
	check_pg_tls_findings => [ 2, qr/CRITICAL/ ]);

# Where it cannot be known what is loaded, what lies on disk has to do.
foreach ([ check_pg_tls_certificates => 'pg_tls_certificates' ], [ check_pg_tls_crls => 'pg_tls_crls' ])
{
	my ($name, $view) = @$_;
	my ($sql) = $command{$name} =~ /--query "(.*)"/;
	my ($known) = split /\|/, $s->query($sql);

	$s->query("CREATE TEMP TABLE $view AS SELECT * FROM public.$view; UPDATE $view SET state = NULL");
	my ($unknown) = split /\|/, $s->query($sql);
	$s->query("DROP TABLE pg_temp.$view");
	cmp_ok(abs($known - $unknown), '<', $known / 1000, "$name: the same where state is NULL") or diag("$known, $unknown");
	cmp_ok($known, '!=', 0, "$name: there is something");
}

# ---------------------------------------------------------------------------
# What happens to a server
# ---------------------------------------------------------------------------

# The alerts on the way, of a job.
sub alerts
{
	my ($job) = @_;

	return { map { $_->{labels}{alertname} => $_->{state} }
		  grep { $_->{labels}{job} eq $job } @{ ask('alerts')->{alerts} } };
}

sub alerted
{
	my ($alert, %opts) = @_;

	foreach my $job (@{ $opts{jobs} // [qw(postgres sql)] })
	{
		ok(TlsCluster->poll_until(sub { alerts($job)->{$alert} }, what => "$alert, $job"), "$alert: $job");
	}
	return;
}

foreach my $job (qw(postgres sql))
{
	is(join(' ', sort grep { $_ !~ /Finding/ } keys %{ alerts($job) }), '', "no alert: $job");
}

# Several CRLs of a CA, one without an end, and a directory of CRLs.  What is
# misnamed there is of no use.
{
	my $hash = (run_program('', 'openssl', 'crl', '-hash', '-noout', '-in', $pki->crl_path('root')))[1] =~ s/\s+\z//r;
	my $older = slurp($pki->crl('int', out => "$dir/older", last_update => -20 * $DAY, next_update => 2 * $DAY));
	my $newer = slurp($pki->crl_path('int'));

	$pki->raw_crl('root', out => "$dir/endless", next_update => undef);
	mkdir $c->tls('crls') or die;
	spew($c->tls("crls/$hash.r0"), slurp($pki->crl('root', out => "$dir/x", next_update => 40 * $DAY)));
	spew($c->tls('crls/int.pem'), $newer);
	spew($c->tls('crl.pem'), slurp("$dir/endless"), $older, $newer);
	$c->set_conf({ ssl_crl_dir => 'tls/crls' });
	$s->query('SELECT * FROM pg_tls_reload()');
	sees('other CRLs', {
		'pg_tls_crl_next_update_timestamp_seconds{issuer=/CN=Root CA,setting=ssl_crl_file}' => qr/^\+Inf$/,
		'pg_tls_crl_this_update_timestamp_seconds{issuer=/CN=Root CA,setting=ssl_crl_file}' => openssl_date('crl', "$dir/endless", 'lastupdate'),
		'pg_tls_crl_next_update_timestamp_seconds{issuer=/CN=Intermediate CA,setting=ssl_crl_file}' => crl_date('int', 'nextupdate'),
		'pg_tls_crl_this_update_timestamp_seconds{issuer=/CN=Intermediate CA,setting=ssl_crl_file}' => crl_date('int', 'lastupdate'),
		'pg_tls_crl_next_update_timestamp_seconds{issuer=/CN=Root CA,setting=ssl_crl_dir}' => openssl_date('crl', "$dir/x", 'nextupdate'),
		'pg_tls_crl_next_update_timestamp_seconds{issuer=/CN=Intermediate CA,setting=ssl_crl_dir}' => undef,
		'pg_tls_file_differs{setting=ssl_crl_dir}' => 0 });
	checks('other CRLs', check_pg_tls_crls => [ 0, qr/OK.*life_left=9\d%/ ]);
	spew($c->tls('crl.pem'), slurp("$dir/crls.pem"));
	$c->set_conf({ ssl_crl_dir => undef });
	$s->query('SELECT * FROM pg_tls_reload()');
}

# Files that were changed, and not loaded.
my $server = '{position=1,setting=ssl_cert_file,subject=/O=Example/CN=localhost}';
my $generation = $s->query('SELECT generation FROM pg_tls_status');

spew($c->tls('server.crt'), slurp($pki->chain('renewed')));
spew($c->tls('server.key'), slurp($pki->key('renewed')));
sees('files were changed', {
	(map { ("pg_tls_file_differs{setting=$_}" => 1) } qw(ssl_cert_file ssl_key_file)),
	(map { ("pg_tls_file_differs{setting=$_}" => 0) } qw(ssl_ca_file ssl_crl_file)),
	"pg_tls_certificate_not_after_timestamp_seconds$server" => not_after('server'),
	'pg_tls_findings_open{code=file_changed,severity=warning}' => 2 });
alerted('PgTlsFileDiffers');

# A reload that fails.
rename $c->tls('ca.crt'), $c->tls('kept') or die;
spew($c->tls('ca.crt'), "no certificate\n");
$c->reload;
sees('a reload failed', sub { return {
	'pg_tls_last_load_success{}' => 0, 'pg_tls_load_failures_total{}' => 1, 'pg_tls_load_attempts_total{}' => $generation + 1,
	'pg_tls_last_load_timestamp_seconds{}' => epoch('SELECT last_attempt_at FROM pg_tls_status'),
	'pg_tls_loaded_generation{}' => $generation, 'pg_tls_context_active{}' => 1,
	'pg_tls_certificate_not_after_timestamp_seconds{setting=ssl_ca_file,subject=/CN=Root CA}' => not_after('root'),
	'pg_tls_file_differs{setting=ssl_ca_file}' => 1 } });
alerted('PgTlsReloadFailed');

# The next one works, and the certificate that it loads ends soon.
rename $c->tls('kept'), $c->tls('ca.crt') or die;
$s->query('SELECT * FROM pg_tls_reload()');
sees('a reload worked', sub { return {
	'pg_tls_last_load_success{}' => 1, 'pg_tls_load_failures_total{}' => 1, 'pg_tls_loaded_generation{}' => $generation + 1,
	'pg_tls_file_differs{setting=ssl_cert_file}' => 0,
	"pg_tls_certificate_not_after_timestamp_seconds$server" => not_after('renewed'),
	'pg_tls_findings_open{code=file_changed,severity=warning}' => undef } });
alerted($_) for qw(PgTlsCertificateEndsSoon PgTlsCertificateEnds);
checks('the certificate ends in five days', check_pg_tls_certificates => [ 2, qr/CRITICAL/ ]);

# A certificate is revoked while its client is connected; then it comes again.
$pki->revoke('alice');
spew($c->tls('crl.pem'), slurp($pki->crl_path('root')), slurp($pki->crl('int')));
$s->query('SELECT * FROM pg_tls_reload()');
sees('a session is not acceptable any more', {
	'pg_tls_sessions_unacceptable{encryption=tls,version=TLSv1.2}' => 1,
	'pg_tls_sessions_unacceptable{encryption=tls,version=TLSv1.3}' => 0,
	'pg_tls_sessions_connected{encryption=tls,version=TLSv1.2}' => 1,
	'pg_tls_crl_entries{issuer=/CN=Intermediate CA,setting=ssl_crl_file}' => 2 });
alerted('PgTlsSessionsNotAcceptable');
checks('revoked', check_pg_tls_sessions => [ 2, qr/CRITICAL.*unacceptable=1/ ]);
$c->psql('SELECT 1', user => 'alice', cert => 'alice', host => '127.0.0.1') for 1 .. 15;
sees('clients fail', { 'pg_tls_handshakes_total{reason=certificate_revoked,result=failed}' => 15 });
alerted('PgTlsFailuresRise');
$alice->close;
sees('the session has ended', { 'pg_tls_sessions_unacceptable{encryption=tls,version=TLSv1.2}' => 0 });

# A CRL has ended, and clients are kept out.
spew($c->tls('crl.pem'), slurp($pki->crl_path('root')), slurp($pki->crl('int', last_update => -7200, next_update => -60)));
$s->query('SELECT * FROM pg_tls_reload()');
$c->psql('SELECT 1', user => 'bob', cert => 'bob', host => '127.0.0.1');
sees('a CRL has ended', sub { return {
	'pg_tls_crl_next_update_timestamp_seconds{issuer=/CN=Intermediate CA,setting=ssl_crl_file}' => crl_date('int', 'nextupdate'),
	'pg_tls_handshakes_total{reason=crl_expired,result=failed}' => 1,
	'pg_tls_handshakes_total{reason=certificate_revoked,result=failed}' => 15,
	'pg_tls_findings_open{code=crl_expired,severity=critical}' => 1 } });
alerted($_) for qw(PgTlsCrlEndsSoon PgTlsCrlEnds PgTlsCrlKeepsClientsOut);
checks('a CRL has ended', check_pg_tls_crls => [ 2, qr/CRITICAL/ ], check_pg_tls_findings => [ 2, qr/CRITICAL/ ]);

# Clients in clear text, from here and over the network.
{
	my @clear = $c->session(user => 'clear', ssl => 'disable', host => '127.0.0.1');
	my $address = eval { IO::Socket::INET->new(Proto => 'udp', PeerAddr => '192.0.2.1', PeerPort => 9)->sockhost } // '';
	my $remote = $address !~ /^(127|$)/ ? 1 : 0;
	my $last_seen = sub { epoch("SELECT max(last_seen_at) FROM pg_stat_tls_clients WHERE encryption = 'none' AND client_addr " . shift) };

	push @clear, $c->session(user => 'clear', ssl => 'disable', host => $address) if $remote;
	sees('clients in clear text', sub { return {
		'pg_tls_sessions_connected{encryption=none}' => 1 + $remote,
		'pg_tls_sessions_remote{encryption=none}' => $remote,
		'pg_tls_clients_known{encryption=none,remote=false}' => 1,
		'pg_tls_clients_last_seen_timestamp_seconds{encryption=none,remote=false}' => $last_seen->("= '127.0.0.1'"),
		$remote ? (
			'pg_tls_clients_known{encryption=none,remote=true}' => 1,
			'pg_tls_clients_last_seen_timestamp_seconds{encryption=none,remote=true}' => $last_seen->("<> '127.0.0.1'")) : () } });
	$_->close for @clear;
	sees('they are gone', {
		'pg_tls_sessions_connected{encryption=none}' => 0,
		'pg_tls_sessions_remote{encryption=none}' => 0,
		'pg_tls_clients_known{encryption=none,remote=false}' => 1 });
	SKIP: {
		skip 'this machine has no address but 127.0.0.1', 2 unless $remote;
		alerted('PgTlsClearTextClients');
	}
}

# More clients than there is room for.
$s->query("CREATE ROLE clear$_ LOGIN") for 1 .. 10;
$c->query('SELECT 1', user => "clear$_", ssl => 'disable', host => '127.0.0.1') for 1 .. 10;
cmp_ok($s->query('SELECT client_evictions FROM pg_stat_tls_info'), '>', 0, 'some make room');
sees('clients make room', sub { return {
	'pg_tls_client_evictions_total{}' => $s->query('SELECT client_evictions FROM pg_stat_tls_info'),
	'pg_tls_certificate_evictions_total{}' => 0 } });

# ---------------------------------------------------------------------------
# Rules and dashboard ask for what there is
# ---------------------------------------------------------------------------

{
	my %exists = map { $_ => 1 } @{ ask('label/__name__/values') };
	my @rules = map { @{ $_->{rules} } } @{ ask('rules')->{groups} };

	is(join(' ', grep { !$exists{$_} } map { /\b((?:pg_tls|sql_exporter)_\w+)/g } map { $_->{query} } @rules), '', 'the metrics of the rules exist');
	is(join(' ', map { "$_->{name}: $_->{lastError}" } grep { $_->{health} ne 'ok' } @rules), '', 'the rules can be evaluated');

	my $dashboard = JSON::PP->new->utf8->decode(slurp("$files/dashboard.json"));
	my @panels = @{ $dashboard->{panels} };
	my %ids;
	my (@unknown, @empty, %place, @overlap);

	$ids{ $_->{id} }++ for @panels;
	is(scalar keys %ids, scalar @panels, 'each panel of the dashboard has an id of its own');
	foreach my $panel (@panels)
	{
		my $p = $panel->{gridPos};

		foreach my $x ($p->{x} .. $p->{x} + $p->{w} - 1)
		{
			push @overlap, grep { $place{"$x,$_"}++ || $x > 23 } $p->{y} .. $p->{y} + $p->{h} - 1;
		}
	}
	is("@overlap", '', 'and a place');

	foreach (map({ my $title = $_->{title}; map { [ $title, $_->{expr} ] } @{ $_->{targets} } } @panels),
		map { [ $_->{name}, $_->{expr} ] } grep { $_->{expr} } @{ $dashboard->{annotations}{list} })
	{
		my ($title, $expr) = @$_;
		my @metrics = $expr =~ /\b(pg_tls_\w+)/g;

		push @unknown, grep { !$exists{$_} } @metrics;
		$expr =~ s/\$server/.*/g;
		$expr =~ s/\$__rate_interval/1m/g;
		push @empty, $title unless @metrics && @{ ask('query', query => $expr)->{result} };
	}
	is("@unknown", '', 'the metrics of the dashboard exist');
	is("@empty", '', 'each of its queries has an answer');
	is($dashboard->{templating}{list}[1]{definition}, 'label_values(pg_tls_worker_up, server)', 'and its variable');
}

# ---------------------------------------------------------------------------
# TLS is off, though the setting is on
# ---------------------------------------------------------------------------

# The exporter that is connected sees it; who connects anew, over TLS, cannot.
$c->set_conf({ ssl => 'off' });
$c->reload;
sees('no TLS', { 'pg_tls_context_active{}' => 0, 'pg_tls_ssl_setting{}' => 0, 'pg_tls_loaded_generation{}' => undef }, jobs => ['postgres']);
spew($c->tls('server.crt'), "no certificate\n");
$c->set_conf({ ssl => 'on' });
$c->reload;
sees('no TLS, though the setting is on', {
	'pg_tls_context_active{}' => 0, 'pg_tls_ssl_setting{}' => 1, 'pg_tls_last_load_success{}' => 0,
	'pg_tls_server_info{openssl=' . $s->query('SELECT openssl_version FROM pg_tls_status') . ",pg_tls=$version}" => 1,
	'pg_tls_findings_open{code=tls_not_active,severity=critical}' => 1 }, jobs => ['postgres']);
alerted('PgTlsNotActive', jobs => ['postgres']);
alerted('PgTlsNotMonitored', jobs => ['sql']);

# postgres, sql, prometheus
$running[1]->kill_kill(grace => 5);
alerted('PgTlsExporterDown', jobs => ['sql']);
ok(!alerts('postgres')->{PgTlsExporterDown}, 'the other exporter is up');

$s->close;
done_testing();

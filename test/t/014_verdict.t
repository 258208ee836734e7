# The verdict of the handshake: chain, CRLs, until when, and by which
# configuration.

use strict;
use warnings;

use File::Copy qw(copy);
use File::Temp ();
use IPC::Run ();
use Test::More;
use Time::HiRes qw(sleep time);

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->new("$dir/pki");

# The ends lie apart: root, then leaf, then intermediate.
$pki->ca('root', not_after => 100 * $DAY);
$pki->ca('int', issuer => 'root', not_after => 300 * $DAY);
$pki->ca('weakroot', not_after => 5 * $DAY);
$pki->cert('server', issuer => 'int', kind => 'server', san => ['DNS:localhost'], not_after => 300 * $DAY);
$pki->cert('year', issuer => 'int', not_after => 250 * $DAY);
$pki->cert('month', issuer => 'int', not_after => 30 * $DAY);
$pki->cert('direct', issuer => 'root', not_after => 30 * $DAY);
$pki->cert('weak', issuer => 'weakroot', not_after => 30 * $DAY);
$pki->crl('root', next_update => 20 * $DAY);
$pki->crl('int', next_update => 10 * $DAY);
$pki->crl('weakroot', next_update => 50 * $DAY);
$pki->bundle("$dir/ca.pem", 'root', 'weakroot');
$pki->crl_file("$dir/crls.pem", 'root', 'int', 'weakroot');

my $c = TlsCluster->new(ssl => 1, pki => $pki, ca => "$dir/ca.pem", crl => undef,
	hba => ['local all all trust', 'host all all all trust']);

$c->start;
$c->query('CREATE EXTENSION pg_tls');

# The end of a certificate or CRL, as valid_until has it: the moment from which
# OpenSSL refuses.
my $last_second = $pki->last_second;

sub end_of
{
	my ($name, $crl) = @_;
	my $date = $crl
	  ? `openssl crl -in $crl -noout -nextupdate`
	  : $pki->show($name, '-enddate');

	chomp $date;
	$date =~ s/^\w+=//;
	return $c->query("SELECT '$date'::timestamptz + $last_second * interval '1 s'", unix => 1);
}

sub verdict
{
	my (%opts) = @_;

	return $c->row_hash('SELECT * FROM pg_tls_session()', %opts);
}

# Reload, and wait until new connections use it (or, for a bad one, until the
# log says so).
sub reload_tls
{
	my (%opts) = @_;
	my $mark = $c->log_mark;

	$c->reload;
	return ok($c->wait_for_log($opts{log} // qr/received SIGHUP/, $mark), 'reloaded')
	  && ($opts{log} || $c->poll_until(sub { $opts{until}->() }, what => 'the reload'));
}

sub generation { return $c->query('SELECT config_generation FROM pg_tls_session()') }

subtest 'without CRLs' => sub {
	my $row = verdict(cert => 'year');

	is_deeply([ @$row{qw(acceptable chain_status verify_error verify_depth crl_status chain_length)} ],
		[ 't', 'valid', undef, undef, 'not_checked', 3 ], 'CRLs are not checked');
	is($row->{valid_until}, end_of('root'), 'until the root ends');
	is(verdict(cert => 'month')->{valid_until}, end_of('month'), 'until the leaf ends');
	is(verdict(cert => 'direct')->{chain_length}, 2, 'a chain without intermediate');
	is(verdict(cert => 'weak')->{valid_until}, end_of('weakroot'), 'another root');
	is($c->query('SELECT checked_at BETWEEN backend_start AND now() AND config_generation = 1'
			  . ' FROM pg_tls_session() JOIN pg_stat_activity USING (pid)', cert => 'year'),
		't', 'the moment of the handshake');
};

subtest 'no certificate, no verdict' => sub {
	my $row = verdict();

	is_deeply([ @$row{qw(acceptable chain_status verify_error verify_depth crl_status valid_until checked_at chain_length)} ],
		[ (undef) x 8 ], 'nothing is said');
};

subtest 'with CRLs' => sub {
	copy("$dir/crls.pem", $c->tls('crls.pem')) or die $!;
	$c->set_conf({ ssl_crl_file => 'tls/crls.pem' });
	reload_tls(until => sub { generation() == 2 });

	my $row = verdict(cert => 'year');

	is($row->{crl_status}, 'good', 'CRLs are checked');
	is($row->{config_generation}, 2, 'by the second configuration');
	is($row->{valid_until}, end_of(undef, $pki->crl_path('int')), "until the CRL of the leaf's issuer ends");
	is(verdict(cert => 'direct')->{valid_until}, end_of(undef, $pki->crl_path('root')), "until the root's CRL ends");
	is(verdict(cert => 'weak')->{valid_until}, end_of('weakroot'), 'until the root ends, its CRL being newer');
};

subtest 'two CRLs of one issuer' => sub {
	# The older one ends first, but OpenSSL takes the newer one.
	$pki->crl('int', last_update => -2 * 3600, next_update => 3600, out => "$dir/older.crl");
	# With OpenSSL 1.1.1 both are of the second in which they are made.
	sleep 1;
	$pki->crl('int', last_update => -3600, next_update => 15 * $DAY, out => "$dir/newer.crl");
	foreach my $order ([qw(older newer)], [qw(newer older)])
	{
		my $text = join '', map { slurp("$dir/$_.crl") } @$order;
		my $generation = generation();

		spew($c->tls('crls.pem'), $text . slurp($pki->crl_path('root')));
		reload_tls(until => sub { generation() > $generation });
		is(verdict(cert => 'year')->{valid_until}, end_of(undef, "$dir/newer.crl"),
			"@$order: until the one ends that it was checked against");
	}
};

subtest 'ssl_crl_dir' => sub {
	my $crls = $c->tls('crls.d');
	my $generation = generation();

	mkdir $crls or die $!;
	foreach my $name (qw(root int))
	{
		my ($hash) = `openssl crl -hash -noout -in @{[ $pki->crl_path($name) ]}` =~ /(\w+)/;

		copy($pki->crl_path($name), "$crls/$hash.r0") or die $!;
	}
	$c->set_conf({ ssl_crl_file => '', ssl_crl_dir => 'tls/crls.d' });
	reload_tls(until => sub { generation() > $generation });
	is(verdict(cert => 'year')->{valid_until}, end_of(undef, $pki->crl_path('int')), 'the CRLs of the directory count');
	$c->set_conf({ ssl_crl_dir => '' });
} if TlsCluster->pg_version >= 14;

subtest 'the chain that the server verifies to send it is another matter' => sub {
	# A lone certificate: OpenSSL builds its chain from ssl_ca_file at each
	# handshake, and looks at the CRL of weakroot.
	my $generation = generation();

	$pki->cert('lone', issuer => 'weakroot', kind => 'server', san => ['DNS:localhost']);
	$pki->crl('weakroot', next_update => $DAY);
	copy($pki->crt('lone'), $c->tls('server.crt')) or die $!;
	spew($c->tls('server.key'), slurp($pki->key('lone')));
	$pki->crl_file($c->tls('crls.pem'), 'root', 'int', 'weakroot');
	$c->set_conf({ ssl_crl_file => 'tls/crls.pem' });
	reload_tls(until => sub { generation() > $generation });

	my $said = $c->s_client(extra => ['-showcerts']);

	like($said, qr/CN\s*=\s*weakroot/, 'the server sends the chain that it built');
	is(verdict(cert => 'year')->{valid_until}, end_of(undef, $pki->crl_path('int')), 'and its CRL does not count');
	is(verdict(cert => 'weak')->{valid_until}, end_of(undef, $pki->crl_path('weakroot')), '... but for whom it concerns');
};

subtest 'the clock' => sub {
	my $long = $c->session(cert => 'year');
	my $column = sub {
		return $c->query("SELECT $_[1] FROM pg_stat_tls WHERE pid = " . $_[0]->pid, unix => 1);
	};
	my ($brief, $acceptable, $until) = $c->in_time(6, sub {
		$pki->cert('brief', issuer => 'int', not_after => $_[0]);
		my $s = $c->session(cert => 'brief');

		return ($s, map { $column->($s, $_) } 'acceptable', 'valid_until');
	});

	is($acceptable, 't', 'still acceptable');
	is($until, end_of('brief'), '... for a while');
	ok($c->poll_until(sub { $column->($brief, 'acceptable') eq 'f' }), 'no longer');
	is($column->($brief, 'clock_timestamp() >= client_not_after'), 't', 'not before its end');
	is($column->($brief, 'chain_status, verify_error, verify_depth, crl_status'), 'expired|certificate has expired|0|good', 'says why');
	ok($c->refused(undef, cert => 'brief'), 'and a new connection is refused');
	ok($brief->alive, 'the session goes on');
	is($column->($long, 'acceptable'), 't', 'and so does the other');

	# Now the CRLs run out.
	my ($crl, $status) = $c->in_time(6, sub {
		my $generation = generation();

		$pki->crl('int', next_update => $_[0]);
		$pki->crl_file($c->tls('crls.pem'), 'root', 'int', 'weakroot');
		reload_tls(until => sub { generation() > $generation });
		my $s = $c->session(cert => 'year');

		return ($s, $column->($s, 'acceptable, crl_status'));
	});

	is($status, 't|good', 'a CRL that runs out soon');
	ok($c->poll_until(sub { $column->($crl, 'acceptable') eq 'f' }), 'has run out');
	is($column->($crl, 'chain_status, verify_error, verify_depth, crl_status'), 'valid|CRL has expired|0|expired', 'says why');
	ok($c->refused(undef, cert => 'year'), 'and a new connection is refused');
};

# Further up in the chain; the keys are those of certificates that end soon.
subtest 'the clock of CAs' => sub {
	my %depth = (underint => 1, underroot => 2, month => undef);
	my %open;
	my $column = sub { return $c->query("SELECT $_[1] FROM pg_stat_tls WHERE pid = " . $open{ $_[0] }->pid, unix => 1) };

	$pki->ca('briefint', issuer => 'root');
	$pki->ca('briefroot');
	$pki->ca('lastingint', issuer => 'briefroot');
	$pki->cert('underint', issuer => 'briefint');
	$pki->cert('underroot', issuer => 'lastingint');
	$c->set_conf({ ssl_crl_file => '' });
	my ($underint, $underroot, %acceptable) = $c->in_time(7, sub {
		my $generation = generation();

		$pki->sign_again('briefint', issuer => 'root', not_after => $_[0]);
		$pki->sign_again('briefroot', not_after => $_[0]);
		$pki->bundle($c->tls('ca.crt'), 'root', 'briefroot');
		reload_tls(until => sub { generation() > $generation });
		%open = map { $_ => $c->session(cert => $_) } keys %depth;
		return ((map { $column->($_, 'valid_until') } 'underint', 'underroot'), map { $_ => $column->($_, 'acceptable') } keys %depth);
	});

	is($acceptable{$_}, 't', "$_: still acceptable") for sort keys %open;
	is($underint, end_of('briefint'), 'until the intermediate CA ends');
	is($underroot, end_of('briefroot'), 'until the root ends');
	foreach my $name (grep { $depth{$_} } sort keys %depth)
	{
		ok($c->poll_until(sub { $column->($name, 'acceptable') eq 'f' }), "$name: no longer");
		is($column->($name, 'chain_status, verify_error, verify_depth'), "expired|certificate has expired|$depth{$name}",
			"$name: says which");
		ok($c->refused(undef, cert => $name), "$name: and a new connection is refused");
		ok($c->wait_for_log(qr/at depth $depth{$name}: certificate has expired/), "$name: ... for the same")
		  if TlsCluster->pg_version >= 16;
	}
	is($column->('month', 'acceptable'), 't', 'not so under the other CAs');
};

# A client that has its certificate verified, and then takes its time.
subtest 'the moment of the handshake' => sub {
	my ($in, $out) = ('', '');
	my $query = "SELECT 'checked ' || extract(epoch FROM checked_at) || ' ' || (checked_at >= backend_start) || ' end'"
	  . ' FROM pg_tls_session() JOIN pg_stat_activity USING (pid)';
	my $run = IPC::Run::start(
		[ $ENV{OPENSSL} // 'openssl', 's_client', '-connect', '127.0.0.1:' . $c->port, qw(-starttls postgres -tls1_2 -ign_eof -nocommands),
			'-cert', $pki->crt('month'), '-key', $pki->key('month'), '-cert_chain', $pki->chain('month') ],
		'<', \$in, '>&', \$out, IPC::Run::timeout($TlsCluster::TIMEOUT));

	# In TLS 1.2, it is the server that finishes.
	$run->pump until $out =~ /Verify return code/;
	my $finished = time;

	sleep 0.2;
	$in = $c->startup_and_query($query);
	$run->finish;

	my ($checked, $later) = $out =~ /checked ([\d.]+) (\w+) end/;

	cmp_ok($checked // 'inf', '<=', $finished, 'and not that of the login');
	is($later, 'true', '... nor one before the connection');
};

subtest 'generations' => sub {
	$c->set_conf({ ssl_crl_file => '' });
	$c->restart;
	is(generation(), 1, 'a server starts with the first');

	my $old = $c->session;

	$c->reload;
	ok($c->poll_until(sub { generation() == 2 }), 'a reload makes the next');
	is($old->query('SELECT config_generation FROM pg_tls_session()'), 1, 'a session keeps its own');

	my $key = slurp($c->tls('server.key'));

	spew($c->tls('server.key'), "broken\n");
	reload_tls(log => qr/could not load private key file/);
	is(generation(), 2, 'a failed load makes none');
	reload_tls(log => qr/could not load private key file/);
	is(generation(), 2, '... however often');

	# ssl off, and on again with the broken key: TLS is not active
	$c->set_conf({ ssl => 'off' });
	$c->reload;
	ok($c->poll_until(sub { ($c->psql('SELECT 1'))[0] }), 'TLS is off');
	is($c->query('SELECT config_generation FROM pg_tls_session()', ssl => 'disable'), undef // '',
		'clear text has no generation');
	$c->set_conf({ ssl => 'on' });
	reload_tls(log => qr/could not load private key file/);
	like(($c->psql('SELECT 1'))[2], qr/server does not support SSL/, 'TLS stays off with a broken key');
	spew($c->tls('server.key'), $key);
	$c->reload;
	ok($c->poll_until(sub { !($c->psql('SELECT 1'))[0] }), 'TLS is on');
	is(generation(), 3, 'off to on makes one, too');
	$c->reload;
	ok($c->poll_until(sub { generation() == 4 }), '... and so does the reload after it');
};

done_testing();

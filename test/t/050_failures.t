# Clients that fail: each in its own row, with the right reason and certificate.

use strict;
use warnings;

use File::Temp ();
use IO::Socket::INET;
use POSIX ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $pki = TlsPKI->default_set("$dir/pki");
my $old_openssl = `openssl version` =~ /^OpenSSL 1\./;

$pki->ca('lonely', issuer => 'root');
$pki->cert('nocrl', issuer => 'lonely');
$pki->cert('tampered', issuer => 'int');
$pki->sign_again('tampered');
my $c = TlsCluster->new(
	ssl => 1, pki => $pki,
	conf => { ssl_min_protocol_version => 'TLSv1.2', authentication_timeout => '20s', log_min_messages => 'info' },
	hba => [
		'local all all trust',
		'hostssl all cert_only all cert',
		'hostssl all needs_cert all trust clientcert=' . (TlsCluster->pg_version >= 14 ? 'verify-full' : '1'),
		'hostssl all postgres all trust',
		'hostssl all alice all trust' ]);

$c->start;
my $admin = $c->session(unix => 1);
$admin->query('CREATE EXTENSION pg_tls; CREATE ROLE cert_only LOGIN; CREATE ROLE needs_cert LOGIN; CREATE ROLE alice LOGIN');

my $columns = join ', ', qw(reason error verify_error verify_depth subject_dn issuer_dn serial fingerprint not_before
  not_after usename datname client_addr client_port pid);
my $seen = 0;

# What came into the view since the last call.
sub failures
{
	my @rows;

	$c->poll_until(
		sub {
			@rows = $c->query_rows("SELECT $columns FROM pg_stat_tls_failures ORDER BY failed_at", unix => 1);
			return @rows > $seen;
		},
		what => 'a failure');
	my @new = splice @rows, $seen;

	$seen += @new;
	return map { my %row; @row{ split /, /, $columns } = @$_; \%row } @new;
}

sub counted
{
	my ($reason) = @_;

	return $admin->query("SELECT count FROM pg_stat_tls_handshakes WHERE reason = '$reason'");
}

# One client, one row: its reason, the certificate at fault (name in the pki,
# or undef), and what it is about.
sub fails
{
	my ($what, $client, $reason, $cert, %expect) = @_;

	subtest $what => sub {
		my $before = counted($reason);
		my $total = $admin->query(q{SELECT sum(count) FROM pg_stat_tls_handshakes WHERE result = 'failed'});
		my $mark = $c->log_mark;

		$client->();
		my @rows = failures();

		is(scalar @rows, 1, 'one row');
		my $row = $rows[0] // {};
		is($row->{reason}, $reason, 'reason') or diag explain $row;
		is(counted($reason), $before + 1, 'counted');
		is($admin->query(q{SELECT sum(count) FROM pg_stat_tls_handshakes WHERE result = 'failed'}), $total + 1, 'once');
		if (defined $cert)
		{
			my $fingerprint = lc($pki->show($cert, '-fingerprint', '-sha256') =~ s/.*=|[:\n]//gr);

			is($row->{fingerprint}, $fingerprint, 'certificate');
			like($row->{subject_dn}, qr/^\/./, 'subject') unless $cert eq 'empty';
			like($row->{issuer_dn}, qr/^\/./, 'issuer');
			like($row->{serial}, qr/^\d+$/, 'serial');
			ok($row->{not_before} lt $row->{not_after}, 'dates');
		}
		else
		{
			is($row->{fingerprint}, undef, 'no certificate');
		}
		like($row->{verify_error} // '', $expect{verify} // qr/^$/, 'verify_error');
		is($row->{verify_depth}, $expect{depth}, 'depth');
		like($row->{error}, $expect{error} // qr/^could not accept SSL connection: /, 'the message of the server');
		like($c->log_since($mark), qr/\[$row->{pid}\].*\Q$row->{error}\E/, 'which the log has, too');
		is($row->{client_addr}, $expect{unix} ? undef : $expect{addr} // '127.0.0.1', 'address');
		cmp_ok($row->{client_port} // 0, '>', 1023, 'port');
		is($row->{usename}, $expect{user}, 'role');
		is($row->{datname}, $expect{user} ? 'postgres' : undef, 'database');
	};
}

sub psql { my %o = @_; return sub { my ($rc) = $c->psql('SELECT 1', host => '127.0.0.1', %o); die 'let in' if !$rc } }
sub tls { my %o = @_; return sub { $c->s_client(%o) } }

# Raw bytes after an SSLRequest that is answered, or at once.
sub raw
{
	my ($bytes, $direct) = @_;

	return sub {
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $c->port) or die "connect: $!";

		if (!$direct)
		{
			print $s pack 'NN', 8, 80877103;
			$s->flush;
			sysread $s, my $answer, 1;
			die "answer $answer" if $answer ne 'S';
		}
		print $s $bytes;
		$s->flush;
		if (length $bytes > 5) { sysread $s, my $rest, 1000 }
		close $s;
	};
}

fails('revoked', psql(cert => 'revoked'), 'certificate_revoked', 'revoked', verify => qr/^certificate revoked$/, depth => 0);
fails('expired', psql(cert => 'expired'), 'certificate_expired', 'expired', verify => qr/^certificate has expired$/, depth => 0);
fails('not yet valid', psql(cert => 'future'), 'certificate_not_yet_valid', 'future', verify => qr/^certificate is not yet valid/, depth => 0);
fails('unknown CA', psql(cert => 'other'), 'certificate_untrusted', 'other', verify => qr/^unable to get local issuer certificate$/, depth => 0);
fails('self-signed', psql(cert => 'selfsigned'), 'certificate_untrusted', 'selfsigned', verify => qr/^self[- ]signed certificate$/, depth => 0);
fails('wrong purpose', psql(cert => 'wrongpurpose'), 'certificate_purpose', 'wrongpurpose',
	verify => qr/^(unsupported|unsuitable) certificate purpose$/, depth => 0);
fails('missing CRL', psql(cert => 'nocrl'), 'crl_missing', 'nocrl', verify => qr/^unable to get certificate CRL$/, depth => 0);
fails('the same by openssl s_client', tls(cert => 'revoked', tls1_2 => 1), 'certificate_revoked', 'revoked',
	verify => qr/^certificate revoked$/, depth => 0);

SKIP:
{
	skip 'OpenSSL 1.1.1 cannot make such CRLs', 1 if $old_openssl;

	my $good = slurp($c->tls('crl.pem'));
	spew($c->tls('crl.pem'), slurp($pki->crl_path('root')),
		slurp($pki->crl('int', out => "$dir/ended.crl", last_update => -2 * $DAY, next_update => -$DAY)));
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	fails('expired CRL', psql(cert => 'alice'), 'crl_expired', 'alice', verify => qr/^CRL has expired$/, depth => 0);
	$pki->revoke('int');
	spew($c->tls('crl.pem'), slurp($pki->crl('root', out => "$dir/revint.crl")), slurp($pki->crl_path('int')));
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	fails('revoked intermediate', psql(cert => 'alice'), 'certificate_revoked', 'int', verify => qr/^certificate revoked$/, depth => 1);
	spew($c->tls('crl.pem'), $good);
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
}

fails('no certificate where one is required', psql(user => 'needs_cert'), 'certificate_required', undef,
	error => qr/^connection requires a valid client certificate$/, user => 'needs_cert');
fails('certificate of another user', psql(user => 'cert_only', cert => 'alice'), 'certificate_user_mismatch', 'alice',
	error => qr/^certificate authentication failed for user "cert_only"$/, user => 'cert_only');
fails('verify-full, certificate of another user', psql(user => 'needs_cert', cert => 'alice'), 'certificate_user_mismatch', 'alice',
	error => qr/^certificate validation \(clientcert=verify-full\) failed for user "needs_cert": CN mismatch$/, user => 'needs_cert')
  if $c->pg_version >= 14;
fails('no HBA entry for clear text', psql(ssl => 'disable'), 'no_hba_entry', undef,
	error => qr/^no pg_hba.conf entry for host "127.0.0.1", user "postgres", database "postgres", (no encryption|SSL off)$/, user => 'postgres');
$c->set_conf({ ssl_ciphers => 'ECDHE-ECDSA-AES128-GCM-SHA256' });
is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
fails('no common cipher', tls(tls1_2 => 1, extra => [ '-cipher', 'ECDHE-RSA-AES256-GCM-SHA384' ]), 'no_shared_cipher', undef,
	error => qr/^could not accept SSL connection: no shared cipher$/);
$c->set_conf({ ssl_ciphers => undef, ssl_min_protocol_version => 'TLSv1.3' });
is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
fails('no common version', tls(tls1_2 => 1), 'unsupported_protocol', undef);
$c->set_conf({ ssl_min_protocol_version => 'TLSv1.2' });
is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
fails('garbage instead of a handshake', raw("This is no TLS record at all\r\n\r\n" x 10), 'not_tls', undef);
fails('an HTTP request instead of a handshake', raw("GET / HTTP/1.1\r\n\r\n"), 'not_tls', undef);
fails('TLS without asking first', raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . 'x' x 500, 1), 'not_tls', undef,
	error => qr/^invalid length of startup packet$/)
  if $c->pg_version < 17;    # which takes it for direct TLS
fails('HTTP without asking first', raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1), 'not_tls', undef, error => qr/^invalid length of startup packet$/);
fails('bytes slipped in before the handshake', sub {
		spew("$dir/slip.py", <<'END');
import socket, ssl, struct, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(struct.pack('!II', 8, 80877103) + b'evil')
assert s.recv(1) == b'S'
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.wrap_socket(s).recv(100)
END
		system("python3 '$dir/slip.py' " . $c->port . ' 2>/dev/null');
	}, 'unencrypted_data', undef, error => qr/^received unencrypted data after SSL request$/)
  if $c->pg_version < 17    # which takes them for the beginning of TLS
  && system('python3 -c "import ssl" 2>/dev/null') == 0;
fails('hang-up before the handshake', raw(''), 'eof', undef);
fails('hang-up in mid-handshake', raw("\x16\x03\x01"), 'eof', undef);

# The same where the server speaks another language.
SKIP:
{
	my $pg = TlsCluster->pg_config('version') =~ /(\d+)/ ? $1 : 0;
	my $locale = (grep { /^de_DE\.(?:utf8|UTF-8)$/i } split /\n/, `locale -a 2>/dev/null`)[0];

	skip 'there is no German locale', 2 if !$locale;
	$c->set_conf({ lc_messages => $locale });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
	fails('hang-up, in German', raw(''), 'eof', undef, error => qr/^konnte SSL-Verbindung nicht annehmen|^could not accept/);
	$c->set_conf({ lc_messages => undef });
	is($admin->query('SELECT ok FROM pg_tls_reload()'), 't', 'loaded');
}

# The client's own libpq does not trust the server.
spew("$dir/other.pem", slurp($pki->crt('otherroot')));
fails('a client that rejects our certificate',
	psql(ssl => 'verify-ca', sslrootcert => "$dir/other.pem", ssl_max_protocol_version => 'TLSv1.2'), 'client_rejected_certificate', undef,
	error => qr/^could not accept SSL connection: .*alert unknown ca$/);
fails('the same in TLS 1.3', psql(ssl => 'verify-ca', sslrootcert => "$dir/other.pem"), 'client_rejected_certificate', undef,
	error => qr/^could not accept SSL connection: .*alert unknown ca$/);
# Whatever else a client may hold against it: 42 to 46, and 48.
foreach my $alert (42 .. 46, 48)
{
	next if system('python3 -c "import ssl" 2>/dev/null') != 0;
	fails("alert $alert", sub {
			spew("$dir/alert.py", <<'END');
import socket, struct, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(struct.pack('!II', 8, 80877103))
assert s.recv(1) == b'S'
# a ClientHello of TLS 1.2, and then an alert instead of the key exchange
ext = bytes.fromhex('000a00080006001700180019' '000b00020100' '000d00080006040305030603')
hello = b'\x03\x03' + b'r' * 32 + b'\x00' + bytes.fromhex('0006c02bc02fc02c') + b'\x01\x00' + struct.pack('!H', len(ext)) + ext
body = b'\x01' + struct.pack('!I', len(hello))[1:] + hello
s.sendall(b'\x16\x03\x01' + struct.pack('!H', len(body)) + body)
s.recv(65536)
s.sendall(b'\x15\x03\x03\x00\x02\x02' + bytes([int(sys.argv[2])]))
s.recv(65536)
END
			system('python3', "$dir/alert.py", $c->port, $alert);
		}, 'client_rejected_certificate', undef, error => qr/^could not accept SSL connection: .*alert/);
}
SKIP:
{
	skip 'there is no psycopg2', 1 if system('python3 -c "import psycopg2" 2>/dev/null') != 0;
	fails('another driver', sub {
			my $connstr = $c->connstr(cert => 'expired', host => '127.0.0.1');
			system("python3 -c 'import psycopg2, sys; psycopg2.connect(sys.argv[1])' \"$connstr\" 2>/dev/null") != 0 or die 'let in';
		}, 'certificate_expired', 'expired', verify => qr/^certificate has expired$/, depth => 0);
}

# What is no failure of TLS.
$c->psql('SELECT 1', dbname => 'nowhere');
$c->psql('SELECT 1', unix => 1, user => 'nobody');
is($c->query('SELECT count(*) FROM pg_stat_tls_failures', unix => 1), $seen, 'other failures are not in the view');

subtest 'pg_tls.require_encryption' => sub {
	$c->set_hba('local all all trust', 'host all all all trust');
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_until(sub { my ($rc) = $c->psql('SELECT 1', ssl => 'disable'); !$rc }), 'clear text is let in');
	$c->set_conf({ 'pg_tls.require_encryption' => 'on' });
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_query('SHOW pg_tls.require_encryption', 'on', unix => 1), 'set');
	fails('clear text', psql(ssl => 'disable'), 'encryption_required', undef,
		error => qr/^connection is not encrypted$/, user => 'postgres');
	my (undef, undef, $err) = $c->psql('SELECT 1', ssl => 'disable');
	like($err, qr/FATAL:  connection is not encrypted\nDETAIL:  .*"pg_tls.require_encryption".*\nHINT:  /, 'the client is told');
	is($c->query('SELECT 1', ssl => 'require'), 1, 'TLS is let in');
	is($c->query('SELECT 1', unix => 1), 1, 'and so is the Unix socket');
	$c->set_conf({ 'pg_tls.require_encryption' => undef });
	$admin->query('SELECT pg_reload_conf()');
	$seen++;
};

# With the log silenced, what OpenSSL tells is there all the same.
subtest 'log_min_messages = panic' => sub {
	$c->set_conf({ log_min_messages => 'panic' });
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_query('SHOW log_min_messages', 'panic', unix => 1), 'set');
	psql(cert => 'revoked')->();
	my ($row) = failures();

	is($row->{reason}, 'certificate_revoked', 'reason');
	is($row->{error}, undef, 'no message');
	like($row->{subject_dn}, qr/revoked/, 'certificate');
	$c->set_conf({ log_min_messages => undef });
	$admin->query('SELECT pg_reload_conf()');
	ok($c->poll_query('SHOW log_min_messages', 'warning', unix => 1), 'set back');
};

# A flood, while good clients work.
subtest 'flood' => sub {
	my $n = $ENV{PG_TLS_FLOOD} // 600;
	my $before = counted('not_tls') + counted('eof');
	my $accepted = $admin->query(q{SELECT count FROM pg_stat_tls_handshakes WHERE result = 'accepted'});
	my @good = map { $c->session(cert => 'alice') } 1 .. 50;
	my $memory = $c->memory_kb($c->pid);
	my @children;

	foreach my $child (0, 1)
	{
		my $pid = fork // die "fork: $!";
		if (!$pid)
		{
			raw($_ % 2 ? "\x16\x03\x01" : "no TLS record " x 10)->() for 1 .. $n / 2;
			POSIX::_exit(0);
		}
		push @children, $pid;
	}
	my $wrong = 0;
	while (@children)
	{
		foreach my $s (@good) { $wrong++ if $s->query('SELECT 6 * 7') ne '42' }
		# Rows are whole: each reason has a message that fits it.
		$wrong++ if $admin->query(q{SELECT count(*) FROM pg_stat_tls_failures
			WHERE error NOT LIKE 'could not accept SSL connection%' AND error NOT LIKE '%pg\_hba.conf%'
				AND error NOT LIKE '%certificate%' AND error NOT LIKE 'invalid length of startup packet'
				AND error NOT LIKE 'received unencrypted data%' AND error <> 'connection is not encrypted' OR client_addr NOT IN ('127.0.0.1', '::1')}) ne '0';
		@children = grep { waitpid($_, POSIX::WNOHANG) == 0 } @children;
	}
	is($wrong, 0, 'good clients work, and rows are whole');
	ok($c->poll_until(sub { counted('not_tls') + counted('eof') == $before + $n }), 'each failure was counted')
	  or diag counted('not_tls') + counted('eof') - $before;
	is($admin->query('SELECT count(*) FROM pg_stat_tls_failures'), 256, 'the ring is full, and no more');
	is($admin->query(q{SELECT count FROM pg_stat_tls_handshakes WHERE result = 'accepted'}), $accepted + 50, 'accepted');
	cmp_ok($c->memory_kb($c->pid) - $memory, '<', 1024, 'the memory of the postmaster does not grow');
	$_->close for @good;
};

subtest 'reset' => sub {
	$admin->query('SELECT pg_stat_tls_reset()');
	is($admin->query('SELECT count(*) FROM pg_stat_tls_failures'), 0, 'no failures');
	is($admin->query('SELECT sum(count), count(last_at) FROM pg_stat_tls_handshakes'), '0|0', 'no counts');
	$seen = 0;
	fails('and anew', psql(cert => 'revoked'), 'certificate_revoked', 'revoked', verify => qr/^certificate revoked$/, depth => 0);
};

$c->stop;
unlike($c->log_text, qr/PANIC|signal 11|TRAP/, 'nothing bad in the log');
done_testing();

# Sessions encrypted by GSSAPI, with a KDC of our own.

use strict;
use warnings;

use File::Temp ();
use IO::Socket::IP;
use Test::More;

use TlsCluster;
use TlsPKI qw(spew);

# Debian keeps the KDC out of an ordinary user's PATH.
local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";

plan skip_all => 'the server has no GSSAPI'
  unless TlsCluster->pg_config('configure') =~ /--with-gssapi/;
foreach my $program (qw(krb5kdc kdb5_util kadmin.local kinit))
{
	plan skip_all => "$program is not installed"
	  unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

my $tmp = File::Temp->newdir;
my $realm = 'EXAMPLE.COM';
my $kdc_port = IO::Socket::IP->new(LocalHost => '127.0.0.1', Listen => 1)->sockport;
my $kdc_pid;

END { kill 'TERM', $kdc_pid if $kdc_pid }

sub run
{
	my @cmd = @_;
	my $out = `@cmd 2>&1`;

	die "@cmd: $out" if $?;
	return $out;
}

spew("$tmp/krb5.conf", <<"EOT");
[logging]
	default = FILE:$tmp/krb5.log
	kdc = FILE:$tmp/kdc.log
[libdefaults]
	default_realm = $realm
	dns_lookup_realm = false
	dns_lookup_kdc = false
	rdns = false
	forwardable = false
[realms]
	$realm = {
		kdc = 127.0.0.1:$kdc_port
	}
[domain_realm]
	localhost = $realm
EOT
spew("$tmp/kdc.conf", <<"EOT");
[kdcdefaults]
	kdc_listen = 127.0.0.1:$kdc_port
	kdc_tcp_listen = 127.0.0.1:$kdc_port
[realms]
	$realm = {
		database_name = $tmp/principal
		key_stash_file = $tmp/stash
		acl_file = $tmp/acl
	}
EOT

local $ENV{KRB5_CONFIG} = "$tmp/krb5.conf";
local $ENV{KRB5_KDC_PROFILE} = "$tmp/kdc.conf";
local $ENV{KRB5CCNAME} = "$tmp/ccache";

run('kdb5_util', 'create', '-s', '-P', 'secret0');
run('kadmin.local', '-q', '"addprinc -pw secret1 someone"');
run('kadmin.local', '-q', '"addprinc -randkey postgres/localhost"');
run('kadmin.local', '-q', qq("ktadd -k $tmp/server.keytab postgres/localhost"));
run('krb5kdc', '-P', "$tmp/kdc.pid");

my $c = TlsCluster->new(
	ssl => 1,
	pki => TlsPKI->default_set("$tmp/pki"),
	conf => { krb_server_keyfile => "$tmp/server.keytab" },
	hba => [
		'local all all trust',
		'hostgssenc all someone all gss include_realm=1 map=realm',
		'hostssl all someone all gss include_realm=0',
		'hostnogssenc all someone all gss include_realm=0' ],
	ident => ["realm /^(.*)\@$realm\$ \\1"]);

$c->start;
ok($c->poll_until(sub { -s "$tmp/kdc.pid" }), 'the KDC runs') or BAIL_OUT('no KDC');
($kdc_pid) = `cat $tmp/kdc.pid` =~ /(\d+)/;
$c->query('CREATE EXTENSION pg_tls; CREATE ROLE someone LOGIN', unix => 1);
run('echo secret1 | kinit someone');

my %gss = (user => 'someone', gssencmode => 'require', ssl => 'disable', krbsrvname => 'postgres');
my $encrypted = $c->session(%gss);
my $over_tls = $c->session(%gss, gssencmode => 'disable', ssl => 'require');
my $clear = $c->session(%gss, gssencmode => 'disable');

ok($_->connected, 'connected') or diag $_->error for $encrypted, $over_tls, $clear;

sub columns
{
	my ($session) = @_;

	return $c->query('SELECT encryption, ssl, version, auth_method, auth_identity, client_certificate'
		  . ' FROM pg_stat_tls WHERE pid = ' . $session->pid, unix => 1);
}

is($c->query('SELECT encrypted FROM pg_stat_gssapi WHERE pid = ' . $encrypted->pid, unix => 1), 't',
	'a session encrypted by GSSAPI');

my $identity = TlsCluster->pg_version >= 14 ? "someone\@$realm" : '';

is(columns($encrypted), "gss|f||gss|$identity|f", 'is one');
is(columns($over_tls), "tls|t|TLSv1.3|gss|$identity|f", 'GSSAPI as authentication over TLS is not');
is(columns($clear), "none|f||gss|$identity|f", '... nor in clear text');

done_testing();

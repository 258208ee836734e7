package TlsTable;

=head1 NAME

TlsTable - clients of many kinds, and changes of many kinds to a server's files

=head1 SYNOPSIS

	my $table = TlsTable->new($dir);

	foreach my $change ($table->changes)
	{
		$table->write_files($change, $files);    # and the settings that go with it
		...
	}

=head1 DESCRIPTION

The lists that the table "sessions and changes" is the product of.  A test says
for each cell what a server does, see F<test/t/042_table.t>.

=cut

use strict;
use warnings;

use File::Path qw(make_path);
use IPC::Run ();
use MIME::Base64 qw(decode_base64 encode_base64);

use TlsCluster;
use TlsPKI qw(der der_entry der_extension der_oid slurp spew);

my $DAY = 86400;
my $groups = TlsCluster->pg_version >= 18 ? 'ssl_groups' : 'ssl_ecdh_curve';
my @years = (not_after => 800 * $DAY);

=head2 TlsTable->new($dir)

Makes all keys, certificates and CRLs.

=cut

sub new
{
	my ($class, $dir) = @_;
	my $self = bless { dir => $dir, pki => TlsPKI->new("$dir/pki"), kinds => [], cas => [], crls => [] }, $class;

	make_path("$dir/clients");
	$self->_make_cas;
	$self->_make_clients;
	$self->_make_servers;
	$self->_list_cas;
	$self->_list_crls;
	return $self;
}

sub pki { return $_[0]{pki} }

=head2 $table->kinds

The clients: hashes of C<name>, C<file> (key, certificate, and what is sent
besides), C<never> (no server lets it in), C<version> (of TLS, if it needs one).

=cut

sub kinds { return @{ $_[0]{kinds} } }

# ------------------------------------------------------------------- the PKI

sub _name { return der(0x30, der(0x31, der(0x30, der_oid('2.5.4.3') . der(0x0c, $_[0])))) }

# Those with a key of their own; variants, of the same name, follow below.
my @authorities = (
	[ root => undef ],
	[ root2 => undef ],
	[ rsaroot => undef, key => 'rsa' ],
	[ edroot => undef, key => 'ed25519' ],
	[ bigroot => undef, key => 'ec:P-521', md => 'sha512' ],
	[ int => 'root' ],
	[ int2 => 'root' ],
	[ deep => 'int' ],
	[ deeper => 'deep' ],
	[ cross => 'root' ],
	[ rsaint => 'rsaroot', key => 'rsa' ],
	[ edint => 'edroot', key => 'ed25519' ],
	[ weakint => 'root', key => 'rsa:1024' ],
	[ shaint => 'root', md => 'sha1' ]);

# The same key, unless told otherwise.
my %variants = (
	int_expired => [ not_before => -2 * $DAY, not_after => -$DAY ],
	int_future => [ not_before => $DAY, not_after => 2 * $DAY ],
	int_rekeyed => [ key_of => undef ],
	int_renewed => [],
	int_older => [ not_before => -9 * $DAY, not_after => 9 * $DAY ],
	int_permits => [ ext => ['nameConstraints = critical,permitted;DNS:example.org,permitted;email:example.org'] ],
	int_excludes => [ ext => ['nameConstraints = critical,excluded;DNS:example.org,excluded;email:example.org'] ],
	int_pathlen => [ ext => ['basicConstraints = critical,CA:TRUE,pathlen:0'] ],
	int_nosign => [ ku => 'critical,cRLSign' ],
	int_nocrlsign => [ ku => 'critical,keyCertSign' ],
	int_noku => [ ku => undef ],
	int_server => [ eku => 'serverAuth' ],
	int_client => [ eku => 'clientAuth' ],
	int_unknown => [ ext => ['1.2.3.4.5 = critical,DER:0500'] ],
	int_policy => [ ext => [ 'certificatePolicies = 1.2.3.4', 'policyConstraints = critical,requireExplicitPolicy:0' ] ],
	int_sha1 => [ md => 'sha1' ],
	int_keyissuer => [ ext => ['authorityKeyIdentifier = keyid:always,issuer:always'] ],
	int_root2 => [ issuer => 'root2' ],
	int_self => [ issuer => undef ],
	deep_direct => [ issuer => 'root' ],
	cross_root2 => [ issuer => 'root2' ],
	cross_self => [ issuer => undef ],
	root_renewed => [],
	root_expired => [ not_before => -2 * $DAY, not_after => -$DAY ],
	root_rekeyed => [ key_of => undef ],
	root_pathlen => [ ext => ['basicConstraints = critical,CA:TRUE,pathlen:0'] ],
	root_nocrlsign => [ ku => 'critical,keyCertSign' ],
	root_excludes => [ ext => ['nameConstraints = critical,excluded;DNS:example.org'] ],
	root_by_root2 => [ issuer => 'root2' ]);

sub _make_cas
{
	my ($self) = @_;
	my $pki = $self->{pki};
	my %issuer;

	foreach my $ca (@authorities)
	{
		my ($name, $issuer, @opts) = @$ca;

		$issuer{$name} = $issuer;
		$pki->ca($name, issuer => $issuer, @years, @opts);
	}
	foreach my $name (sort keys %variants)
	{
		my ($of) = $name =~ /^([a-z]+)_/;

		$pki->ca($name, issuer => $issuer{$of}, subject => "/CN=$of", key_of => $of, @years, @{ $variants{$name} });
	}
	# No CA, and without identifiers of keys.
	$pki->cert('int_noca', issuer => 'root', subject => '/CN=int', key_of => 'int', @years,
		ku => 'critical,keyCertSign,cRLSign', eku => undef);
	$pki->raw_cert('int_plain', issuer => 'root', subject => _name('int'),
		spki => decode_base64(_openssl('pkey', '-in', $pki->key('int'), '-pubout') =~ s/^-.*$//mgr),
		extensions => [ der_extension('2.5.29.19', der(0x30, der(0x01, "\xff")), 1),
			der_extension('2.5.29.15', der(0x03, "\1\6"), 1) ]);
	$pki->ca('foreign', @years);
	return;
}

sub _openssl
{
	my ($out, $err) = ('', '');

	IPC::Run::run([ $ENV{OPENSSL} // 'openssl', @_ ], '<', \undef, '>', \$out, '2>', \$err) or die "@_: $err";
	return $out;
}

sub _certs
{
	my ($self, @names) = @_;

	return join '', map { slurp($self->{pki}->crt($_)) } @names;
}

sub _client
{
	my ($self, $name, $cert, @sent) = @_;
	my $file = "$self->{dir}/clients/$name.pem";

	spew($file, slurp($self->{pki}->key($cert)), $self->_certs($cert, @sent));
	chmod 0600, $file;
	push @{ $self->{kinds} }, { name => $name, file => $file };
	return $self->{kinds}[-1];
}

# What clients of each CA send besides their certificates.
my %sent = (
	root => [ [] ],
	root2 => [ [] ],
	rsaroot => [ [] ],
	edroot => [ [] ],
	bigroot => [ [] ],
	int => [ [], ['int'], [ 'int', 'root' ], [ 'int2', 'root2', 'int' ], ['int_renewed'], ['int_rekeyed'], [ 'int_expired', 'int' ] ],
	int2 => [ [], ['int2'] ],
	deep => [ [], ['deep'], [ 'deep', 'int' ], [ 'int', 'deep' ], [ 'deep_direct', 'deep', 'int' ] ],
	deeper => [ ['deeper'], [ 'deeper', 'deep', 'int' ] ],
	cross => [ ['cross'], ['cross_root2'], [ 'cross', 'cross_root2' ], [ 'cross_root2', 'cross' ], [ 'cross_self', 'cross_root2', 'root2' ] ],
	rsaint => [ [], ['rsaint'] ],
	edint => [ ['edint'] ],
	weakint => [ ['weakint'] ],
	shaint => [ ['shaint'] ]);

sub _make_clients
{
	my ($self) = @_;
	my $pki = $self->{pki};
	my $leaf = sub {
		my ($name, %opts) = @_;

		$pki->cert($name, issuer => 'int', @years, $self->{a_key} && !$opts{key} ? (key_of => $self->{a_key}) : (), %opts);
		$self->{a_key} //= $name;
	};
	my $special = sub {
		my ($name, $sent, %opts) = @_;

		$leaf->($name, %opts);
		return $self->_client($name, $name, @{ $sent // ['int'] });
	};

	foreach my $ca (map { $_->[0] } @authorities)
	{
		$leaf->("good_$ca", issuer => $ca);
		$leaf->("listed_$ca", issuer => $ca);
		foreach my $way (@{ $sent{$ca} })
		{
			$self->_client(join('+', $_, @$way), $_, @$way) for "good_$ca", "listed_$ca";
		}
	}
	$special->('rsa', undef, key => 'rsa');
	$special->('rsa1024', undef, key => 'rsa:1024');
	$special->('pss', undef, key => 'rsa-pss');
	$special->('ed25519', undef, key => 'ed25519');
	# In TLS 1.2 their curves would have to be among the server's.
	$special->($_->[0], undef, key => "ec:$_->[1]")->{version} = '1.3' for [ p384 => 'P-384' ], [ p521 => 'P-521' ];
	$special->('sha1', undef, md => 'sha1');
	$special->('noeku', undef, eku => undef);
	$special->('anyeku', undef, eku => 'anyExtendedKeyUsage,clientAuth');
	$special->('noku', undef, ku => undef);
	$special->('big', [], issuer => 'bigroot', key => 'ec:P-521', md => 'sha512')->{version} = '1.3';
	$special->('named', undef, san => [ 'DNS:a.example.org', 'email:a@example.org' ]);
	$special->('named_alone', [], san => [ 'DNS:a.example.org', 'email:a@example.org' ]);
	$special->('named_outside', [], san => [ 'DNS:a.example.net', 'email:a@example.net' ]);
	$special->('policy', undef, ext => ['certificatePolicies = 1.2.3.4']);
	$special->('point', undef, ext => ['crlDistributionPoints = URI:http://crl.example.org/a']);
	$special->('point_elsewhere', undef, ext => [ 'crlDistributionPoints = point',
			"[point]\nfullname = URI:http://crl.example.org/b\nCRLissuer = dirName:other\nreasons = keyCompromise",
			"[other]\nCN = int2" ]);
	$special->('keyissuer', [], ext => ['authorityKeyIdentifier = keyid:always,issuer:always']);
	$special->('long_serial', undef, serial => '0x' . '7b' x 40);
	$pki->raw_cert('negative', issuer => 'int', serial => der(0x02, "\x80"), subject => _name('negative'));
	$self->_client('negative', 'negative', 'int');
	$pki->raw_cert('bare', issuer => 'int', subject => _name('bare'));
	$self->_client('bare', 'bare');
	$leaf->('pinned', issuer => undef);
	$self->_client('pinned', 'pinned');
	$leaf->('pinned_ca', issuer => undef, is_ca => 1, ku => undef);
	$self->_client('pinned_ca', 'pinned_ca');
	# By CAs that have another key than the CRLs of their names.
	$special->('rekeyed', ['int_rekeyed'], issuer => 'int_rekeyed');
	$special->('rekeyed_both', [ 'int', 'int_rekeyed' ], issuer => 'int_rekeyed');
	$self->_client('twice', 'good_int', 'good_int', 'int');
	$leaf->("junk$_", issuer => 'foreign', san => [ map { "DNS:host-$_.department.example.org" } 1 .. 100 ]) for 1 .. 5;
	$self->_client('heavy', 'good_int', (map { "junk$_" } 1 .. 5), 'int');
	$self->_client('light', 'good_deep', 'junk1', 'deep', 'junk2');

	# Nobody has a session with these, but the servers must agree.
	my $before = @{ $self->{kinds} };

	$special->('wrong_eku', undef, eku => 'serverAuth');
	$special->('wrong_ku', undef, ku => 'critical,keyEncipherment');
	$special->('expired', undef, not_before => -2 * $DAY, not_after => -$DAY);
	$special->('future', undef, not_before => $DAY, not_after => 2 * $DAY);
	$special->('unknown', undef, ext => ['1.2.3.4.5 = critical,DER:0500']);
	$special->('rekeyed_root', [], issuer => 'root_rekeyed');
	$special->('stranger', ['foreign'], issuer => 'foreign');
	$special->('of_no_ca', ['good_int'], issuer => 'good_int');
	$leaf->('forged');
	spew($pki->crt('forged'), _spoil(slurp($pki->crt('forged'))));
	$self->_client('forged', 'forged', 'int');
	$_->{never} = 1 for @{ $self->{kinds} }[ $before .. $#{ $self->{kinds} } ];
	return;
}

# With another signature: the last byte is its.
sub _spoil
{
	my ($pem) = @_;
	my ($type) = $pem =~ /BEGIN ([\w ]+)/;
	my $der = decode_base64($pem =~ s/^-.*$//mgr);

	substr($der, -1) ^= "\1";
	return "-----BEGIN $type-----\n" . encode_base64($der) . "-----END $type-----\n";
}

# ------------------------------------------------------- what servers can load

# Name, certificate, and what follows it in ssl_cert_file.
my @servers = (
	[ 'chain', 'server', 'int' ],
	[ 'alone', 'server' ],
	[ 'by the root', 'server_root' ],
	[ 'self-signed', 'server_self' ],
	[ 'with the root', 'server', 'int', 'root' ],
	[ 'of a deep CA, alone', 'server_deep' ],
	[ 'cross-signed, alone', 'server_cross' ],
	[ 'RSA, alone', 'server_rsa' ],
	[ 'of nobody', 'server_foreign' ]);
my %strong = (521 => [ 'P-521', 'server_521' ], 384 => [ 'P-384', 'server_384' ]);

sub _make_servers
{
	my ($self) = @_;
	my %issuers = (server => 'int', server_root => 'root', server_self => undef, server_deep => 'deep',
		server_cross => 'cross', server_rsa => 'rsaint', server_foreign => 'foreign', map { ("server_$_" => 'bigroot') } keys %strong);

	foreach my $name (sort keys %issuers)
	{
		$self->{pki}->cert($name, issuer => $issuers{$name}, kind => 'server', san => ['DNS:localhost'], @years,
			$name eq 'server_rsa' ? (key => 'rsa') : $name =~ /(\d+)/ ? (key => "ec:P-$1", md => 'sha512') : ());
	}
	return;
}

# A certificate that OpenSSL is to trust, or not, for some purpose.
sub _trusted
{
	my ($self, $name, @args) = @_;

	return _openssl('x509', '-in', $self->{pki}->crt($name), @args, '-trustout');
}

sub _list_cas
{
	my ($self) = @_;
	my @roots = qw(root root2 rsaroot edroot bigroot);
	my @ints = qw(int int2 deep deeper cross rsaint edint weakint shaint);
	my @pinned = qw(pinned pinned_ca);
	my @all = (@roots, @ints, @pinned);
	my $list = sub { push @{ $self->{cas} }, [ @_ ] };
	my $but = sub {
		my %out = map { $_ => 1 } @_;

		return grep { !$out{$_} } @all;
	};
	my $of = sub { $list->($_[0], $self->_certs(@_[ 1 .. $#_ ])) };

	$of->('all', @all);
	$of->('roots', @roots);
	$of->('all, reversed', reverse @all);
	$of->('no root2', $but->('root2'));
	$of->('no root', $but->('root'));
	$of->('int, no root', qw(int deep));
	$of->('root and int', qw(root int));
	$of->('root2 only', 'root2');
	$of->('deep only', 'deep');
	$of->('pinned only', 'pinned');
	$of->('no int', $but->('int'));
	$of->('no deep', $but->('deep'));
	$of->('leaves', 'root2', 'good_int', 'listed_int', 'good_root');
	$of->('cross by root2', $but->('cross'), 'cross_root2');
	$of->('both cross', @all, 'cross_root2');
	$of->('cross self-signed', $but->('cross'), 'cross_self');
	foreach my $variant (sort(keys %variants), 'int_noca', 'int_plain')
	{
		my ($ca) = $variant =~ /^([a-z]+)_/;

		next if $ca eq 'cross';
		$of->("$variant for it", $but->($ca), $variant);
		$of->("$variant before it", $variant, @all);
		$of->("$variant after it", @all, $variant);
	}
	$of->('all roots, int_root2', @roots, 'int_root2');
	$of->('root cross-signed only', 'root2', 'root_by_root2');
	$list->('a CRL among them', $self->_certs(@all), slurp($self->{pki}->crl('int')));
	$list->('words among them', "begin\n" . $self->_certs(@roots) . "\nend\n");
	$list->('the same twice', $self->_certs(@roots, @roots, 'int', 'int'));
	$list->('the last is broken', $self->_certs(@roots) . "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	foreach my $trust (
		[ 'trusted', '-addtrust', 'clientAuth' ],
		[ 'trusted for servers', '-addtrust', 'serverAuth' ],
		[ 'rejected', '-addreject', 'clientAuth' ],
		[ 'rejected for servers', '-addreject', 'serverAuth' ],
		[ 'trusted for anything', '-addtrust', 'anyExtendedKeyUsage' ],
		[ 'without trust' ])
	{
		my ($what, @args) = @$trust;

		foreach my $ca (qw(root int))
		{
			$list->("$ca $what", $self->_certs($but->($ca)) . $self->_trusted($ca, @args));
		}
		$list->("int $what, alone", $self->_trusted('int', @args));
		$list->("a leaf $what", $self->_certs('root2') . $self->_trusted('good_int', @args));
	}
	$list->('none', undef);
	return;
}

sub _idp { return der_extension('2.5.29.28', der(0x30, $_[0]), $_[1] // 1) }
sub _point { return der(0xa0, der(0xa0, der(0x86, $_[0]))) }
sub _reason { return der_extension('2.5.29.21', der(0x0a, chr $_[0])) }
sub _issuer { return der_extension('2.5.29.29', der(0x30, der(0xa4, _name($_[0]))), 1) }

sub _list_crls
{
	my ($self) = @_;
	my $pki = $self->{pki};
	my @cas = map { $_->[0] } @authorities;
	my $number = 0;
	my %serial = map { $_ => $pki->serial($_) } map { ("good_$_", "listed_$_") } @cas;
	my (%empty, %listing);
	my $entry = sub { der_entry(pack('H*', $serial{ $_[0] } // $pki->serial($_[0])), -3600, @_[ 1 .. $#_ ]) };
	my $crl = sub {
		my ($ca, %opts) = @_;

		return slurp($pki->raw_crl($ca, out => "$self->{dir}/out.crl", %opts,
			extensions => $opts{bare} ? undef :
				[ der_extension('2.5.29.20', der(0x02, chr ++$number % 100)), @{ $opts{extensions} // [] } ]));
	};

	foreach my $ca (@cas)
	{
		if ($ca =~ /^(rsa|ed|big|weak)/)
		{
			$empty{$ca} = slurp($pki->crl($ca, revoked => [], next_update => 700 * $DAY));
			$listing{$ca} = slurp($pki->crl($ca, revoked => ["listed_$ca"], next_update => 700 * $DAY));
		}
		else
		{
			$empty{$ca} = $crl->($ca);
			$listing{$ca} = $crl->($ca, entries => [ $entry->("listed_$ca") ]);
		}
		chomp($self->{hash}{$ca} = _openssl('x509', '-in', $pki->crt($ca), '-noout', '-subject_hash'));
	}
	# The default of all, with others in the place of some, each [CA, text].
	my $list = sub {
		my ($name, $base, %other) = @_;

		push @{ $self->{crls} }, [ $name,
			map { my $ca = $_; map { [ $ca, $_ ] } ref $other{$ca} ? @{ $other{$ca} } : $other{$ca} // $base->{$ca} }
			grep { !exists $other{$_} || defined $other{$_} } @cas ];
	};
	my $int = sub { $list->("int's $_[0]", \%empty, int => [ @_[ 1 .. $#_ ] ]) };
	my @listed = ($entry->('listed_int'));
	my ($old, $new) = map { my $from = $_; sub { $crl->('int', last_update => $from, @_) } } -7200, -3600;

	push @{ $self->{crls} }, [ 'none' ];
	$list->('all', \%empty);
	$list->('all list', \%listing);
	$list->('int revoked', \%empty, root => $crl->('root', entries => [ $entry->('int') ]));
	$list->('cross revoked', \%empty, root => $crl->('root', entries => [ $entry->('cross') ]));
	$list->('other cross revoked', \%empty, root2 => $crl->('root2', entries => [ $entry->('cross_root2') ]));
	$list->('deep revoked', \%empty, int => $crl->('int', entries => [ $entry->('deep') ]));
	$list->("no CRL of $_", \%empty, $_ => undef) for qw(root root2 int deep cross);
	push @{ $self->{crls} }, [ 'one CRL', [ root2 => $empty{root2} ] ];
	$list->('a root\'s expired', \%empty, root => $crl->('root', last_update => -2 * $DAY, next_update => -$DAY));
	$list->('a root\'s future', \%empty, root => $crl->('root', last_update => $DAY, next_update => 2 * $DAY));
	$list->('a root\'s forged', \%empty, root => _spoil($empty{root}));
	$list->('a root\'s of another key', \%empty, root => $crl->('root_rekeyed'));
	$list->('a root\'s of both keys', \%empty, root => [ $empty{root}, $crl->('root_rekeyed') ]);
	my $expired = $crl->('int', last_update => -2 * $DAY, next_update => -$DAY);
	my $future = $crl->('int', last_update => $DAY, next_update => 2 * $DAY);
	$int->('expired', $expired);
	$int->('expired, and it lists', $crl->('int', last_update => -2 * $DAY, next_update => -$DAY, entries => \@listed));
	$int->('expired beside a current one', $expired, $empty{int});
	$int->('current one lists, an expired one does not', $expired, $listing{int});
	$int->('future', $future);
	$int->('future beside a current one', $empty{int}, $future);
	$int->('future beside one that lists', $listing{int}, $future);
	$int->('without an end', $crl->('int', next_update => undef));
	$int->('forged', _spoil($empty{int}));
	$int->('forged, and it lists', _spoil($listing{int}));
	$int->('forged beside a good one', _spoil($listing{int}), $empty{int});
	$int->('signed by another CA', $crl->('int', signer => 'root'));
	$int->('by another key', $crl->('int_rekeyed'));
	$int->('by both keys', $crl->('int_rekeyed'), $empty{int});
	$int->('newer one lists', $old->(), $new->(entries => \@listed));
	$int->('older one lists', $old->(entries => \@listed), $new->());
	$int->('twice', $empty{int}, $empty{int});
	$int->('without extensions', $crl->('int', bare => 1));
	$int->('entries with reasons', $crl->('int', entries => [ $entry->('listed_int', _reason(1)), $entry->('good_deep', _reason(6)) ]));
	$int->('removeFromCRL', $crl->('int', entries => [ $entry->('listed_int', _reason(8)) ]));
	$int->('removed and listed', $crl->('int', entries => [ map { $entry->('listed_int', _reason($_)) } 8, 1 ]));
	$int->('listed and removed', $crl->('int', entries => [ map { $entry->('listed_int', _reason($_)) } 1, 8 ]));
	$int->('reason that is none', $crl->('int', entries => [ $entry->('listed_int', der_extension('2.5.29.21', der(0x05, ''))) ]));
	$int->('certificateIssuer', $crl->('int', entries => [ $entry->('listed_int', _issuer('int2')) ]));
	$int->('certificateIssuer inherited', $crl->('int', entries => [ der_entry("\1", -3600, _issuer('int2')), $entry->('listed_int') ]));
	$int->('certificateIssuer of its own', $crl->('int', entries => [ $entry->('listed_int', _issuer('int')) ]));
	$int->('serial numbers', $crl->('int', entries => [ der_entry("\0\x80", -3600), $entry->('long_serial') ]));
	$int->('negative serial number', $crl->('int', entries => [ der_entry("\x80", -3600) ]));
	$int->('unknown extension', $crl->('int', extensions => [ der_extension('1.2.3.4', "\5\0") ]));
	$int->('unknown critical extension', $crl->('int', extensions => [ der_extension('1.2.3.4', "\5\0", 1) ]));
	$int->('unknown critical extension of an entry', $crl->('int', entries => [ der_entry("\1", -3600, der_extension('1.2.3.4', "\5\0", 1)) ]));
	my $delta = der_extension('2.5.29.27', der(0x02, "\1"), 1);
	$int->('delta only', $crl->('int', extensions => [$delta]));
	$int->('delta lists', $empty{int}, $crl->('int', extensions => [$delta], entries => \@listed));
	$int->('delta removes', $listing{int}, $crl->('int', extensions => [$delta], entries => [ $entry->('listed_int', _reason(8)) ]));
	$int->('freshest CRL', $crl->('int', extensions => [ der_extension('2.5.29.46', der(0x30, der(0x30, _point('http://crl.example.org/d')))) ]));
	foreach my $scope (
		[ 'for users', der(0x81, "\xff") ], [ 'for CAs', der(0x82, "\xff") ], [ 'for attributes', der(0x85, "\xff") ],
		[ 'for some reasons', der(0x83, "\6\x40") ], [ 'indirect', der(0x84, "\xff") ],
		[ 'for a point', _point('http://crl.example.org/a') ], [ 'for another point', _point('http://crl.example.org/b') ],
		[ 'for users and CAs', der(0x81, "\xff") . der(0x82, "\xff") ], [ 'for nothing', '' ])
	{
		my ($what, $idp) = @$scope;

		$int->("$what", $crl->('int', extensions => [ _idp($idp) ], entries => \@listed));
		$int->("$what, beside a whole one", $crl->('int', extensions => [ _idp($idp) ], entries => \@listed), $empty{int});
	}
	$int->('for some reasons, and for the others', map { $crl->('int', extensions => [ _idp(der(0x83, $_)) ]) } "\6\x40", "\0\x3f\x80");
	$int->('for users, and for CAs', map { $crl->('int', extensions => [ _idp(der($_, "\xff")) ], entries => \@listed) } 0x81, 0x82);
	$int->('a broken scope', $crl->('int', extensions => [ der_extension('2.5.29.28', "\5\0", 1) ]));
	$list->('indirect CRL of another', \%empty, int => undef,
		int2 => $crl->('int2', extensions => [ _idp(der(0x84, "\xff")) ], entries => [ $entry->('listed_int', _issuer('int')) ]));
	$list->('indirect CRL of another, and its own', \%empty,
		int2 => [ $crl->('int2', extensions => [ _idp(der(0x84, "\xff")) ], entries => [ $entry->('listed_int', _issuer('int')) ]), $empty{int2} ]);
	my $large = join '', map { der_entry(pack('CNn', 0x7f, rand 2**32, rand 2**16), -3600) } 1 .. 50_000;
	$int->('large', my $first = $crl->('int', entries => [$large]));
	$int->('large, and it lists', $crl->('int', entries => [ $entry->('listed_int'), $large ]));
	$int->('large, and twice', $first, $first);
	$list->('words among them', \%listing, int => "begin\n$listing{int}end\n");
	$list->('a broken one', \%listing, int => "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
	push @{ $self->{crls} }, [ 'an empty file', [ int => '' ] ];
	return;
}

=head2 $table->changes($has_crl_dir, $all)

The changes: hashes of C<name>, C<ca>, C<crl>, C<dir> (C<in> a
directory instead of a file, or C<half> of them), C<server> and C<conf>, more settings; C<version>, if clients need one of TLS.
Every list of CAs with two sets of CRLs, every set of CRLs with two lists of
CAs and in a directory, and the rest with some; or all with all.

=cut

sub changes
{
	my ($self, $has_crl_dir, $all) = @_;
	my (@changes, %have);
	my $count = 0;
	my $add = sub {
		my ($ca, $crl, $dir, $server, %more) = @_;
		my $name = join ' / ', "CAs: $ca->[0]", "CRLs: $crl->[0]" . ($dir ? ", $dir a directory" : ''),
			map { $more{conf}{$_} } sort keys %{ $more{conf} // {} };

		return if $have{$name}++;
		$server //= $servers[ $count++ % @servers ];
		push @changes, { name => "$name / server: $server->[0]", ca => $ca, crl => $crl, dir => $dir,
			server => $server, %more };
	};
	my %ca = map { $_->[0] => $_ } @{ $self->{cas} };
	my %crl = map { $_->[0] => $_ } @{ $self->{crls} };

	foreach my $cas (@{ $self->{cas} })
	{
		$add->($cas, $_) for $all ? @{ $self->{crls} } : @crl{ 'none', 'all list' };
	}
	foreach my $crls (@{ $self->{crls} })
	{
		$add->($ca{$_}, $crls) for 'all', 'roots';
		next if !$has_crl_dir || @$crls == 1 || $crls->[0] =~ /empty|broken one/;
		$add->($ca{all}, $crls, 'in');
		$add->($ca{roots}, $crls, 'half') if $crls->[0] =~ /^all|revoked/;
	}
	foreach my $ciphers ('HIGH:@SECLEVEL=1', 'HIGH:@SECLEVEL=2', 'HIGH:@SECLEVEL=3', 'SUITEB128', 'HIGH')
	{
		$add->($ca{$_}, $crl{'all list'}, '', $servers[0], conf => { ssl_ciphers => $ciphers }) for 'all', 'roots';
	}
	foreach my $ciphers ('HIGH:@SECLEVEL=4', 'HIGH:@SECLEVEL=5', 'SUITEB192')
	{
		my $curve = $ciphers eq 'SUITEB192' ? 384 : 521;

		$add->($ca{$_}, $crl{'all list'}, '', $strong{$curve}, version => '1.3',
			conf => { ssl_ciphers => $ciphers, $groups => "secp${curve}r1" }) for 'all', 'roots';
	}
	$add->($ca{all}, $crl{all}, '', undef, conf => { $groups => 'secp384r1' });
	$add->($ca{all}, $crl{'all list'}, '', undef, conf => { ssl_min_protocol_version => 'TLSv1.3' }, version => '1.3');
	$add->($ca{all}, $crl{'all list'}, '', undef, conf => { ssl_max_protocol_version => 'TLSv1.2' });
	return @changes;
}

=head2 $table->first, $table->has_ca($change)

Two configurations in which sessions begin: one that lets in as many as it can,
and one that is careful.  Whether a change leaves the server with a CA file.

=cut

sub first
{
	my ($self) = @_;
	my ($none, $all) = @{ $self->{crls} }[ 0, 1 ];

	return (
		{ name => 'all', ca => $self->{cas}[0], crl => $none, server => $servers[0] },
		{ name => 'careful', ca => $self->{cas}[1], crl => $all, server => $servers[0], conf => { ssl_ciphers => 'HIGH' } });
}

sub has_ca { return defined $_[1]{ca}[1] }

=head2 $table->write_files($change, $dir)

Writes the files of a change into a directory, and returns the settings.

=cut

sub write_files
{
	my ($self, $change, $dir) = @_;
	my ($name, $cert, @more) = @{ $change->{server} };
	my (undef, $ca, $more_ca) = @{ $change->{ca} };
	my (undef, @crls) = @{ $change->{crl} };
	my (%number, %conf);

	make_path($dir);
	spew("$dir/server.crt", $self->_certs($cert, @more));
	spew("$dir/server.key", slurp($self->{pki}->key($cert)));
	chmod 0600, "$dir/server.key";
	spew("$dir/ca.pem", $ca, $more_ca // '') if defined $ca;
	# another one each time: where the change cannot be loaded, the last stays in force
	my $crls = "$dir/crls." . ++$self->{written};
	make_path($crls);
	my $in_dir = { in => scalar @crls, half => @crls / 2 }->{ $change->{dir} || '' } // 0;
	my @in_file = splice @crls, $in_dir;

	spew("$crls/$self->{hash}{$_->[0]}.r" . $number{ $_->[0] }++, $_->[1]) for @crls;
	spew("$dir/crl.pem", map { $_->[1] } @in_file);
	return (
		ssl_cert_file => "$dir/server.crt",
		ssl_key_file => "$dir/server.key",
		ssl_ca_file => defined $ca ? "$dir/ca.pem" : '',
		ssl_crl_file => @in_file ? "$dir/crl.pem" : '',
		ssl_crl_dir => $change->{dir} ? $crls : undef,
		ssl_ciphers => 'ALL:@SECLEVEL=0',
		$groups => undef,
		ssl_min_protocol_version => undef,
		ssl_max_protocol_version => undef,
		%{ $change->{conf} // {} });
}

1;

package TlsPKI;

=head1 NAME

TlsPKI - certificates and CRLs for the tests, made when they are needed

=head1 SYNOPSIS

	use TlsPKI;

	my $pki = TlsPKI->default_set('/tmp/pki');    # or TlsPKI->new($dir) for an empty one
	$pki->cert('dave', issuer => 'int', subject => [[O => 'A/B'], [OU => 'x'], [CN => '+dave']]);
	$pki->revoke('dave', reason => 'keyCompromise');
	$pki->crl('int');
	$pki->crl_file("$dir/crls.pem", 'root', 'int');

=head1 DESCRIPTION

Everything is made with the C<openssl> command (C<$ENV{OPENSSL}>, else the one
in the PATH) of OpenSSL 1.1.1 or later.  All dates are relative to now, so
that no test begins to fail on some day in the future, and no key is ever
kept in a repository.  What fails, dies with the command and what it said.

C<openssl ca> signs, because it alone takes explicit dates in all versions.
Its database of issued certificates is a fresh empty one every time: this
module remembers what was issued and revoked.  So a serial number may be used
twice, and a CRL can list anything.

=cut

use strict;
use warnings;

use Carp qw(croak);
use Digest::SHA qw(sha1 sha256_hex);
use File::Path qw(make_path);
use IPC::Run ();
use Math::BigInt;
use MIME::Base64 qw(decode_base64 encode_base64);
use POSIX qw(strftime);
use Time::Piece ();
use Exporter qw(import);

our @EXPORT_OK = qw(der der_entry der_extension der_oid slurp spew);

my $DAY = 86400;

=head1 METHODS THAT MAKE SOMETHING

=head2 TlsPKI->new($dir)

An empty set in C<$dir>, which is created if need be.

=cut

sub new
{
	my ($class, $dir) = @_;

	make_path($dir, "$dir/work");
	return bless { dir => $dir, made => {} }, $class;
}

=head2 $pki->ca($name, issuer => $ca, %opts)

A certification authority; without an issuer a self-signed root.  Takes the
options of C<cert>.

=head2 $pki->cert($name, %opts)

An end entity's certificate.  Options:

=over

=item issuer

name of a CA of this set; without it the certificate is self-signed.

=item subject

C<'/O=Example/CN=alice'> (C<\> takes the meaning from a C</>), or an array of
pairs C<[[O =E<gt> 'Example'], [CN =E<gt> 'alice']]>, also written flat; default
C</CN=$name>.  A value that begins with C<+> joins the RDN before it; C<\+>
is a plus sign in the value.  C<[]> is the empty DN.  Values are Perl
character strings or UTF-8 bytes.

=item utf8, string_mask

C<utf8 =E<gt> 0>: the bytes of the subject are Latin-1.  C<string_mask> is the
one of openssl.cnf, C<utf8only> by default.

=item san

array of C<'DNS:a'>, C<'IP:::1'>, C<'email:a@b'>, C<'URI:...'>, C<'RID:...'>,
C<'otherName:OID;UTF8:text'>, C<'dirName:/O=a/CN=b'> or C<[dirName =E<gt> $subject]>.

=item kind

C<client> (default) or C<server>: decides about the default of eku.

=item eku, ku, ext

extended key usage (text or array; undef: none), key usage (C<critical,
digitalSignature>; undef: none), and an array of more lines for the extension
section of openssl.cnf.

=item key, key_of

C<ec> (default, P-256), C<ec:CURVE>, C<rsa>, C<rsa:BITS>, C<rsa-pss>,
C<ed25519>, C<ed448>, or another algorithm of C<openssl genpkey>; key_of takes
a copy of the key of that name instead.

=item serial

C<0x...>, positive, random by default.  RFC 5280 allows up to 20 bytes, but
here there may be 60.

=item not_before, not_after

seconds from now; default one day ago and in 30 days.

=item md

digest of the issuer's signature; the default one of its key.

=item patch

pairs of bytes, the first of which are replaced in the finished certificate by
the second, of the same length, before it is signed once more: for what openssl
refuses to make.  Needs an issuer with an EC key.

=back

=cut

sub ca
{
	my ($self, $name, %opts) = @_;

	return $self->cert(
		$name,
		ku => 'critical,keyCertSign,cRLSign',
		eku => undef,
		%opts,
		is_ca => 1);
}

sub cert
{
	my ($self, $name, %opts) = @_;
	my $key = $self->key($name);

	if ($opts{key_of})
	{
		spew($key, slurp($self->key($opts{key_of})));
	}
	else
	{
		_openssl('genpkey', _genpkey_args($opts{key} // 'ec'), '-out', $key);
	}
	chmod 0600, $key or croak "chmod $key: $!";
	return $self->_sign($name, %opts);
}

=head2 $pki->raw_cert($name, issuer => $ca, %opts)

A certificate put together byte by byte, for what openssl refuses to make, and
signed by an issuer with an EC key.  Options, each a value in DER with its tag:
C<subject>, C<serial>, C<not_before>, C<not_after>, C<spki>, and C<extensions>, an
array of whole ones.  C<der> and C<der_oid>, which are exported on demand, make such
values.  There is a private key unless spki is given.

=cut

sub raw_cert
{
	my ($self, $name, %opts) = @_;
	my $issuer = $opts{issuer};
	my $file = "$self->{dir}/work/raw.der";
	my $key = $self->key($name);
	my ($cert) = _der_parts(decode_base64(slurp($self->crt($issuer)) =~ s/^-.*$//mgr));
	my @fields = map { $_->[0] } _der_parts((_der_parts($cert->[1]))[0][1]);
	my $algorithm = der(0x30, der_oid('1.2.840.10045.4.3.2'));
	my $utc = sub { der(0x17, strftime('%y%m%d%H%M%SZ', gmtime(time + $_[0]))) };
	my $spki = $opts{spki};

	if (!$spki)
	{
		_openssl('genpkey', _genpkey_args('ec'), '-out', $key);
		chmod 0600, $key or croak "chmod $key: $!";
		$spki = _openssl('pkey', '-in', $key, '-pubout', '-outform', 'DER');
	}
	my $tbs = der(0x30, join '',
		der(0xa0, der(0x02, "\2")),
		$opts{serial} // der(0x02, "\x7f" . pack 'N', int rand 2**32),
		$algorithm,
		$fields[5],
		der(0x30, ($opts{not_before} // $utc->(-$DAY)) . ($opts{not_after} // $utc->(30 * $DAY))),
		$opts{subject} // der(0x30, ''),
		$spki,
		$opts{extensions} ? der(0xa3, der(0x30, join '', @{ $opts{extensions} })) : ());

	spew($file, $tbs);
	my $signature = _openssl('dgst', '-sha256', '-sign', $self->key($issuer), $file);

	spew($self->crt($name), "-----BEGIN CERTIFICATE-----\n",
		encode_base64(der(0x30, $tbs . $algorithm . der(0x03, "\0$signature"))), "-----END CERTIFICATE-----\n");
	$self->{made}{$name} = { opts => \%opts };
	$self->_write_chains($name);
	return $self;
}

=head2 $pki->sign_again($name, %opts)

A new certificate (new serial and dates, and what %opts change) for the same
key.  The chain files that contain it are made again.

=cut

sub sign_again
{
	my ($self, $name, %opts) = @_;
	my %old = %{ $self->_made($name)->{opts} };

	delete @old{qw(serial not_before not_after)};
	return $self->_sign($name, %old, %opts);
}

=head2 $pki->revoke($name, reason => 'keyCompromise', time => $secs)

Marks the present certificate of that name as revoked, since C<time> seconds
from now (default: a minute ago).  The next C<crl> of its issuer lists it.

=cut

sub revoke
{
	my ($self, $name, %opts) = @_;
	my $made = $self->_made($name);
	my $entry = { serial => $made->{serial}, %opts };

	push @{ $self->_made($made->{opts}{issuer} // $name)->{revoked} }, $entry;
	return $entry;
}

=head2 $pki->crl($ca, %opts)

Writes the CA's CRL (PEM) and returns its path.  Options: C<last_update>
(seconds from now, default an hour ago), C<next_update> (default in 30 days),
C<revoked> (array of names or C<0x> serials, instead of what was revoked),
C<out> (another path), C<ext> (array of more lines for the extensions).  OpenSSL
1.1.1 cannot set last_update, it is now, and
next_update is not before now there.

=cut

sub crl
{
	my ($self, $ca, %opts) = @_;
	my $made = $self->_made($ca);
	my $out = $opts{out} // $self->crl_path($ca);
	my $next = $opts{next_update} // 30 * $DAY;
	my @revoked =
	  $opts{revoked}
	  ? map { { serial => /^0x/ ? _serial($_) : $self->_made($_)->{serial} } }
	  @{ $opts{revoked} }
	  : @{ $made->{revoked} // [] };
	my $index = join '', map {
		my $when = strftime('%y%m%d%H%M%SZ', gmtime(time + ($_->{time} // -60)));
		my $info = join ',', $when, $_->{reason} // ();

		"R\t391231235959Z\t$info\t$_->{serial}\tunknown\t/CN=revoked\n";
	} @revoked;
	my $number = _serial(sprintf '0x%x', ++$made->{crl_number});
	my $conf = $self->_ca_conf($index, $number, crl => join '', map { "$_\n" } 'authorityKeyIdentifier = keyid:always', @{ $opts{ext} // [] });
	my @dates =
	  _openssl_version() < 3
	  ? ('-crlsec', $next > 0 ? $next : 1)
	  : (
		'-crl_lastupdate', _date($opts{last_update} // -3600),
		'-crl_nextupdate', _date($next));

	_openssl(
		'ca', '-gencrl', '-config', $conf,
		'-cert', $self->crt($ca), '-keyfile', $self->key($ca),
		'-out', $out, @dates);
	return $out;
}

=head2 $pki->large_crl($ca, $n, %opts)

The CA's CRL with C<$n> entries more, of serials that no certificate here has, in
no order, as random ones have none; made without openssl, which would take long.  Options of C<crl>, and C<long>: serial
numbers of 16 bytes instead of 7, and reasons, as public CAs have them.

=cut

sub large_crl
{
	my ($self, $ca, $n, %opts) = @_;
	my $out = delete $opts{out} // $self->crl_path($ca);
	my $long = delete $opts{long};
	my $work = "$self->{dir}/work/large";
	my $pem = slurp($self->crl($ca, %opts, out => "$work.pem"));
	my ($outer) = _der_parts(decode_base64($pem =~ s/-----.*?-----//gr));
	my ($tbs, $algorithm) = _der_parts($outer->[1]);
	my @fields = map { $_->[0] } _der_parts($tbs->[1]);
	my $date = der(0x17, strftime('%y%m%d%H%M%SZ', gmtime(time - 3600)));

	# version, algorithm, issuer, two dates, perhaps entries, extensions
	my $old = ord $fields[5] == 0x30 ? (_der_parts(splice @fields, 5, 1))[0][1] : '';
	my $rest = $long ? der(0x30, der(0x30, der_oid('2.5.29.21') . der(0x04, der(0x0a, "\1")))) : '';
	my $random = $long ? 'randombits' : '';
	my $entries = join '', map {
		# the last 20 bits of a million all differ
		my $serial = pack 'CnN', 0x7f, rand 2**16, int(rand 2**12) << 20 | $_;

		der(0x30, der(0x02, $serial . substr($random, 0, 9)) . $date . $rest);
	} 1 .. $n;
	splice @fields, 5, 0, der(0x30, $old . $entries);
	my $new = der(0x30, join '', @fields);

	spew("$work.tbs", $new);
	_openssl('dgst', '-sha256', '-sign', $self->key($ca), '-out', "$work.sig", "$work.tbs");
	my $der = der(0x30, $new . $algorithm->[0] . der(0x03, "\0" . slurp("$work.sig")));

	spew($out, "-----BEGIN X509 CRL-----\n", encode_base64($der), "-----END X509 CRL-----\n");
	unlink map { "$work.$_" } qw(pem tbs sig);
	return $out;
}

=head2 $pki->raw_crl($ca, %opts)

A CRL put together byte by byte, with dates that any version of openssl can
sign.  The CA has an EC key.  Options: C<out>; C<last_update>, C<next_update> as
C<crl> has them, C<next_update =E<gt> undef> for none; C<issuer>, a name in DER
instead of the CA's; C<entries> and C<extensions>, arrays of what C<der_entry> and
C<der_extension> make; C<signer>, another whose key signs.

=cut

sub raw_crl
{
	my ($self, $ca, %opts) = @_;
	my $out = $opts{out} // $self->crl_path($ca);
	my $file = "$self->{dir}/work/raw.der";
	my ($cert) = _der_parts(decode_base64(slurp($self->crt($ca)) =~ s/^-.*$//mgr));
	my @fields = map { $_->[0] } _der_parts((_der_parts($cert->[1]))[0][1]);
	my $algorithm = der(0x30, der_oid('1.2.840.10045.4.3.2'));
	my $next = exists $opts{next_update} ? $opts{next_update} : 30 * $DAY;
	my $tbs = der(0x30, join '',
		der(0x02, "\1"),
		$algorithm,
		$opts{issuer} // $fields[5],
		_der_date($opts{last_update} // -3600),
		defined $next ? _der_date($next) : (),
		$opts{entries} ? der(0x30, join '', @{ $opts{entries} }) : (),
		$opts{extensions} ? der(0xa0, der(0x30, join '', @{ $opts{extensions} })) : ());

	spew($file, $tbs);
	my $signature = _openssl('dgst', '-sha256', '-sign', $self->key($opts{signer} // $ca), $file);

	return spew($out, "-----BEGIN X509 CRL-----\n",
		encode_base64(der(0x30, $tbs . $algorithm . der(0x03, "\0$signature"))), "-----END X509 CRL-----\n");
}

=head2 $pki->many_cas($n, %opts)

C<$n> self-signed CAs, C</CN=many 00001> and so on, and a CRL of each: in a second
or two for each thousand, since they share a key and are signed here.  Options:
C<subject>, instead of C<many>; C<not_after>, of the CAs; C<next_update>, of the CRLs.
Returns a hash for each: C<crt> and C<crl>, both in PEM, and C<crl_name>, the CRL's in
C<ssl_crl_dir>.

=cut

sub many_cas
{
	my ($self, $n, %opts) = @_;
	my $key = "$self->{dir}/work/many.key";

	_openssl('genpkey', _genpkey_args('ec'), '-out', $key) if !-e $key;

	my $sign = _signer($key);
	my $spki = _openssl('pkey', '-in', $key, '-pubout', '-outform', 'DER');
	my $algorithm = der(0x30, der_oid('1.2.840.10045.4.3.2'));
	my $validity = der(0x30, _der_date(-$DAY) . _der_date($opts{not_after} // 30 * $DAY));
	my $updates = _der_date(-3600) . _der_date($opts{next_update} // 30 * $DAY);
	my $constraints = der_extension('2.5.29.19', der(0x30, der(0x01, "\xff")), 1);
	my $finish = sub {
		my ($label, $tbs) = @_;
		my $der = der(0x30, $tbs . $algorithm . der(0x03, "\0" . $sign->($tbs)));

		return "-----BEGIN $label-----\n" . encode_base64($der) . "-----END $label-----\n";
	};

	return map {
		my $cn = sprintf '%s %05d', $opts{subject} // 'many', $_;
		my ($rdn, $canonical) = map { der(0x31, der(0x30, der_oid('2.5.4.3') . der(0x0c, $_))) } $cn, lc $cn;
		my $name = der(0x30, $rdn);
		my $key_id = sha1($rdn);
		my $serial = der(0x02, pack 'N', 0x40000000 | $_);

		{
			crt => $finish->('CERTIFICATE', der(0x30, join '', der(0xa0, der(0x02, "\2")), $serial, $algorithm, $name,
				$validity, $name, $spki,
				der(0xa3, der(0x30, $constraints . der_extension('2.5.29.14', der(0x04, $key_id)))))),
			crl => $finish->('X509 CRL', der(0x30, join '', der(0x02, "\1"), $algorithm, $name, $updates,
				der(0xa0, der(0x30, der_extension('2.5.29.35', der(0x30, der(0x80, $key_id))))))),
			# OpenSSL's hash of a name leaves the outermost tag out
			crl_name => sprintf '%08x.r0', unpack 'V', sha1($canonical)
		}
	} 1 .. $n;
}

=head2 $pki->crl_file($out, @cas), $pki->bundle($out, @names)

Concatenate the CRLs of those CAs, or the certificates of those names.
Return the path.

=cut

sub crl_file
{
	my ($self, $out, @cas) = @_;

	return spew($out, map { slurp($self->crl_path($_)) } @cas);
}

sub bundle
{
	my ($self, $out, @names) = @_;

	return spew($out, map { slurp($self->crt($_)) } @names);
}

=head1 METHODS THAT TELL SOMETHING

=head2 $pki->dir, names, crt($name), key($name), chain($name), crl_path($ca)

The directory, the names made, and paths of files.  The chain file has the
certificate and the intermediate ones, without the root.

=cut

sub dir { return $_[0]{dir} }
sub names { return sort keys %{ $_[0]{made} } }
sub crt { return "$_[0]{dir}/$_[1].crt" }
sub key { return "$_[0]{dir}/$_[1].key" }
sub chain { return "$_[0]{dir}/$_[1].chain.crt" }
sub crl_path { return "$_[0]{dir}/$_[1].crl" }

=head2 $pki->serial($name)

In hexadecimal, upper case, with an even number of digits.

=head2 $pki->asked($name)

The subject asked for, as array of pairs (values as bytes).

=head2 $pki->show($name, @args)

What C<openssl x509 -noout @args> prints about the certificate.

=cut

sub serial { return $_[0]->_made($_[1])->{serial} }

sub asked
{
	my ($self, $name) = @_;

	return [ _pairs($self->_made($name)->{opts}{subject} // "/CN=$name") ];
}

sub show
{
	my ($self, $name, @args) = @_;

	return _openssl('x509', '-noout', '-in', $self->crt($name), @args);
}

=head2 $pki->last_second

1 if a certificate is still valid in the very second of its notAfter, as it is
since OpenSSL 4.0; else 0.  Asks openssl, about a certificate made for that.

=cut

sub last_second
{
	my ($self) = @_;

	$self->ca('last_second') unless $self->{made}{last_second};
	my ($end) = $self->show('last_second', '-enddate') =~ /=(.*) GMT/ or croak 'no end';
	my $file = $self->crt('last_second');
	my $epoch = Time::Piece->strptime($end, '%b %d %H:%M:%S %Y')->epoch;

	return eval { _openssl('verify', '-attime', $epoch, '-CAfile', $file, $file); 1 } ? 1 : 0;
}

=head1 THE DEFAULT SET

=head2 TlsPKI->default_set($dir)

What most tests need:

	root, int       root CA and the intermediate CA that it signed
	server          for localhost, 127.0.0.1 and ::1
	alice           /O=Example/CN=alice, EC
	bob             /O=Example/CN=bob, RSA
	carol           /O=Example/CN=carol, Ed25519
	longdn          a subject of about 300 bytes
	utf8            German, Greek and Chinese letters in the subject
	multi           a multi-valued RDN
	manysan         subjectAltName of more than 1 KiB
	expired         since an hour ago
	future          valid from tomorrow on
	revoked         on the CRL of int
	wrongpurpose    only for TLS servers
	noeku           without extended key usage
	selfsigned      by its own key
	other           signed by otherroot, which the server does not know
	ca.pem          root
	ca_both.pem     root and int
	crls.pem        the CRLs of both

All certificates but the last two are signed by int.

=cut

sub default_set
{
	my ($class, $dir) = @_;
	my $self = $class->new($dir);
	my $client = sub {
		my ($name, %opts) = @_;

		$self->cert($name, issuer => 'int', subject => "/O=Example/CN=$name", %opts);
	};

	$self->ca('root', subject => '/O=Example/CN=Example Root CA');
	$self->ca('int', issuer => 'root', subject => '/O=Example/CN=Example Intermediate CA');
	$self->ca('otherroot', subject => '/O=Other/CN=Other Root CA');
	$client->(
		'server',
		kind => 'server',
		subject => '/O=Example/CN=localhost',
		san => [ 'DNS:localhost', 'IP:127.0.0.1', 'IP:::1' ]);
	$client->('alice');
	$client->('bob', key => 'rsa');
	$client->('carol', key => 'ed25519');
	$client->('longdn',
		subject => [ [ O => 'Example' ],
			(map { [ OU => "unit $_ " . 'x' x 50 ] } 1 .. 5), [ CN => 'longdn' ] ]);
	# Escapes, so that this file is ASCII: a German, a Greek and a Chinese name.
	$client->('utf8',
		subject => [ [ O => "B\xc3\xbccher & S\xc3\xb6hne GmbH" ],
			[ OU => "\xce\x91\xce\xb8\xce\xae\xce\xbd\xce\xb1" ],
			[ CN => "\xe6\x9d\x8e\xe5\xb0\x8f\xe9\xbe\x99" ] ]);
	$client->('multi',
		subject => [ [ O => 'Example' ], [ CN => 'multi' ], [ UID => '+u1234' ] ]);
	$client->('manysan',
		san => [ map { sprintf 'DNS:host-%03d.department.example.org', $_ } 1 .. 50 ]);
	$client->('expired', not_before => -2 * $DAY, not_after => -3600);
	$client->('future', not_before => $DAY, not_after => 30 * $DAY);
	$client->('revoked');
	$client->('wrongpurpose', eku => 'serverAuth');
	$client->('noeku', eku => undef);
	$client->('selfsigned', issuer => undef);
	$client->('other', issuer => 'otherroot');

	$self->revoke('revoked', reason => 'keyCompromise');
	$self->crl($_) for qw(root int);
	$self->crl_file("$dir/crls.pem", 'root', 'int');
	$self->bundle("$dir/ca.pem", 'root');
	$self->bundle("$dir/ca_both.pem", 'root', 'int');
	return $self;
}

# ---------------------------------------------------------------------------

sub _made
{
	my ($self, $name) = @_;

	return $self->{made}{ $name // '' } // croak 'no certificate ' . ($name // 'undef');
}

# Makes the certificate of a key that exists.
sub _sign
{
	my ($self, $name, %opts) = @_;
	my $issuer = $opts{issuer};
	my $csr = "$self->{dir}/work/request.pem";
	my $serial = _serial($opts{serial} // '0x' . _random_serial());
	my @subject = _pairs($opts{subject} // "/CN=$name");

	$self->_made($issuer) if defined $issuer;

	my $conf = $self->_ca_conf(
		'', $serial,
		req => "prompt = no\ndistinguished_name = dn\nstring_mask = "
		  . ($opts{string_mask} // 'utf8only') . "\n",
		dn => _dn_section(@subject),
		_extensions(\%opts, !@subject));

	# An empty section is an error, but an empty -subj is not.
	_openssl(
		'req', '-new', '-config', $conf,
		'-key', $self->key($name), '-out', $csr,
		$opts{utf8} // 1 ? '-utf8' : (),
		@subject ? () : ('-subj', '/'));
	_openssl(
		'ca', '-batch', '-notext', '-preserveDN', '-config', $conf,
		'-in', $csr, '-out', $self->crt($name), '-extensions', 'ext',
		'-startdate', _date($opts{not_before} // -$DAY),
		'-enddate', _date($opts{not_after} // 30 * $DAY),
		$opts{md} ? ('-md', $opts{md}) : (),
		defined $issuer
		? ('-cert', $self->crt($issuer), '-keyfile', $self->key($issuer))
		: ('-selfsign', '-keyfile', $self->key($name)));

	unlink "$self->{dir}/work/$serial.pem";
	$self->_patch($name, %opts) if $opts{patch};

	# A renewed CA keeps what it had revoked and the number of its last CRL.
	$self->{made}{$name} = { %{ $self->{made}{$name} // {} }, opts => \%opts, serial => $serial };
	$self->_write_chains($name);
	return $self;
}

# Changes bytes of a certificate, and has its issuer sign it again.
sub _patch
{
	my ($self, $name, %opts) = @_;
	my $file = "$self->{dir}/work/tbs.der";
	my $der = decode_base64(slurp($self->crt($name)) =~ s/^-.*$//mgr);
	# Certificate ::= SEQUENCE { tbs SEQUENCE, algorithm SEQUENCE, signature BIT STRING },
	# the first two with lengths of two bytes
	my ($tbs_length) = unpack 'x4 x2 n', $der;
	my $tbs = substr $der, 4, 4 + $tbs_length;
	my $algorithm = substr $der, 4 + length $tbs;
	my @patch = @{ $opts{patch} };

	$algorithm = substr $algorithm, 0, 2 + ord substr $algorithm, 1;
	while (my ($from, $to) = splice @patch, 0, 2)
	{
		croak "'$from' is longer or shorter than what replaces it" if length $from != length $to;
		$tbs =~ s/\Q$from\E/$to/g or croak "no '$from' in the certificate of $name";
	}
	spew($file, $tbs);

	my $signature = "\0" . _openssl('dgst', '-sha256', '-sign', $self->key($opts{issuer}), $file);
	my $all = $tbs . $algorithm . pack('CC/a', 0x03, $signature);

	spew($self->crt($name), "-----BEGIN CERTIFICATE-----\n",
		encode_base64(pack('n n/a', 0x3082, $all)), "-----END CERTIFICATE-----\n");
	return;
}

# The chain file of that name, and of everything below it.
sub _write_chains
{
	my ($self, $changed) = @_;

	foreach my $name ($self->names)
	{
		my ($at, @chain, %seen) = $name;

		while (defined $at && !$seen{$at}++)
		{
			my $issuer = $self->_made($at)->{opts}{issuer};

			push @chain, $at if defined $issuer || $at eq $name;
			$at = $issuer;
		}
		$self->bundle($self->chain($name), @chain) if $seen{$changed};
	}
	return;
}

# Writes the configuration that req and ca read, with that database of issued
# certificates and that next number; returns its path.
sub _ca_conf
{
	my ($self, $index, $number, %sections) = @_;
	my $work = "$self->{dir}/work";

	spew("$work/index", $index);
	spew("$work/number", "$number\n");
	unlink "$work/index.attr";
	$sections{ca} = "default_ca = this\n";
	$sections{this} = <<"END";
database = $work/index
serial = $work/number
crlnumber = $work/number
new_certs_dir = $work
default_md = default
default_crl_days = 30
unique_subject = no
policy = any
crl_extensions = crl
END
	# The policy is of no effect with -preserveDN, but must exist.
	$sections{any} = "commonName = optional\n";
	return spew("$work/openssl.cnf", map { "[$_]\n$sections{$_}" } sort keys %sections);
}

# The sections with the extensions of a certificate.
sub _extensions
{
	my ($opts, $no_subject) = @_;
	my %default_eku = (client => 'clientAuth', server => 'serverAuth');
	my $kind = $opts->{kind} // 'client';
	my $ku = exists $opts->{ku} ? $opts->{ku} : 'critical,digitalSignature';
	my $eku = exists $opts->{eku} ? $opts->{eku} : $default_eku{$kind} // croak "kind $kind";
	my @ext = (
		'basicConstraints = critical,CA:' . ($opts->{is_ca} ? 'TRUE' : 'FALSE'),
		'subjectKeyIdentifier = hash');
	my %sections;

	push @ext, 'authorityKeyIdentifier = keyid:always' if defined $opts->{issuer};
	push @ext, "keyUsage = $ku" if defined $ku;
	push @ext, 'extendedKeyUsage = ' . (ref $eku ? join ',', @$eku : $eku) if defined $eku;
	if (@{ $opts->{san} // [] })
	{
		my $n = 0;

		foreach my $san (@{ $opts->{san} })
		{
			my ($type, $value) = ref $san ? @$san : split /:/, $san, 2;

			$n++;
			if ($type eq 'dirName')
			{
				$sections{"dirname$n"} = _dn_section(_pairs($value));
				$value = "dirname$n";
			}
			$sections{san} .= "$type.$n = " . _quote($value) . "\n";
		}
		# RFC 5280: critical, when the subject tells nothing.
		push @ext, 'subjectAltName = ' . ($no_subject ? 'critical,' : '') . '@san';
	}
	$sections{ext} = join '', map { "$_\n" } @ext, @{ $opts->{ext} // [] };
	return %sections;
}

# Any form of subject -> list of [type, value].
sub _pairs
{
	my ($subject) = @_;
	my @pairs;

	if (!ref $subject)
	{
		croak "subject '$subject' does not begin with /" unless $subject =~ s{^/}{};
		foreach my $part ($subject =~ m{((?:[^/\\]|\\.)+)}gs)
		{
			my ($type, $value) = split /=/, $part, 2;

			croak "no = in '$part' of the subject" unless defined $value;
			push @pairs, [ $type, $value =~ s{\\([/\\])}{$1}gr ];
		}
	}
	elsif (@$subject && !ref $subject->[0])
	{
		my @flat = @$subject;

		push @pairs, [ splice @flat, 0, 2 ] while @flat;
	}
	else
	{
		@pairs = map { [@$_] } @$subject;
	}
	foreach my $pair (@pairs)
	{
		utf8::encode($pair->[1]) if utf8::is_utf8($pair->[1]);
	}
	return @pairs;
}

# The number before the type is needed to use a type more than once, and
# keeps a type that is a dotted OID whole.
sub _dn_section
{
	my @pairs = @_;
	my ($n, $section) = (0, '');

	foreach my $pair (@pairs)
	{
		my ($type, $value) = @$pair;
		my $join = $value =~ s/^\+// ? '+' : '';

		$value =~ s/^\\\+/+/;
		$section .= $n++ . ".$join$type = " . _quote($value) . "\n";
	}
	return $section;
}

# A value in openssl.cnf.
sub _quote
{
	my ($value) = @_;

	$value =~ s/(["\\])/\\$1/g;
	$value =~ s/\n/"\\n"/g;
	return qq("$value");
}

sub _genpkey_args
{
	my ($key) = @_;
	my ($type, $size) = split /:/, $key, 2;
	my %args = (
		ec => [ '-pkeyopt', 'ec_paramgen_curve:' . ($size // 'prime256v1'),
			'-pkeyopt', 'ec_param_enc:named_curve' ],
		rsa => [ '-pkeyopt', 'rsa_keygen_bits:' . ($size // 2048) ]);

	$args{'rsa-pss'} = $args{rsa};
	return ('-algorithm', uc $type, @{ $args{$type} // [] });
}

# Signs by means of a P-256 key and ECDSA with SHA-256: a function of what is to be
# signed.  It takes the same nonce every time, which gives the key away, and needs
# no more than arithmetic then.
sub _signer
{
	my ($key) = @_;
	my $order = Math::BigInt->from_hex('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
	my $number = sub { Math::BigInt->from_hex($_[0] =~ s/[:\s]//gr) };
	my $nonce = "$key.nonce";

	_openssl('genpkey', _genpkey_args('ec'), '-out', $nonce);
	my ($private) = _openssl('pkey', '-in', $key, '-noout', '-text') =~ /priv:\s+([\da-f:\s]+)/;
	my ($k, $x) = _openssl('pkey', '-in', $nonce, '-noout', '-text') =~ /priv:\s+([\da-f:\s]+)pub:\s+04:((?:[\da-f]{2}[:\s]*){32})/;
	my $r = $number->($x)->bmod($order);
	my $rd = $number->($private)->bmul($r)->bmod($order);
	my $inverse = $number->($k)->bmodinv($order);
	my $integer = sub {
		my $bytes = pack('H*', substr '0' x 64 . substr($_[0]->as_hex, 2), -64) =~ s/\A\0+//r;

		return der(0x02, (ord $bytes) & 0x80 ? "\0$bytes" : $bytes);
	};
	my $first = $integer->($r);

	return sub {
		my $s = Math::BigInt->from_hex(sha256_hex($_[0]))->badd($rd)->bmul($inverse)->bmod($order);

		return der(0x30, $first . $integer->($s));
	};
}

sub _random_serial
{
	return join '', map { sprintf '%02x', 1 + int rand 127 } 1 .. 16;
}

# The form that openssl's databases have.
sub _serial
{
	my ($serial) = @_;

	$serial =~ /^0x0*([0-9a-f]{1,120})$/i or croak "serial '$serial' is not 0x...";
	return uc(length($1) % 2 ? "0$1" : $1);
}

sub _date
{
	return strftime('%Y%m%d%H%M%SZ', gmtime(time + $_[0]));
}

sub _openssl_version
{
	our $version //= _openssl('version') =~ /^\S+ (\d+)\./ ? $1 : 0;
	return $version;
}

sub _openssl
{
	my @cmd = ($ENV{OPENSSL} // 'openssl', @_);
	my ($out, $err) = ('', '');
	my $ok = eval { IPC::Run::run(\@cmd, '<', \undef, '>', \$out, '2>', \$err) };

	croak "@cmd failed: " . ($@ || $err) unless $ok;
	return $out;
}

# DER: a value with its tag and length, an object identifier, parts of a CRL, and
# the parts of a constructed value.  All but the last are exported on demand.
sub der
{
	my ($tag, $value) = @_;
	my $n = length $value;
	my $length = $n < 128 ? chr $n : do {
		my $bytes = pack('N', $n) =~ s/\A\0+//r;

		chr(0x80 | length $bytes) . $bytes;
	};

	return chr($tag) . $length . $value;
}

sub der_oid
{
	my ($first, $second, @rest) = split /\./, $_[0];

	return der(0x06, join '', map { pack 'w', $_ } 40 * $first + $second, @rest);
}

# An entry of a CRL: bytes of the serial number, seconds from now, extensions.
sub der_entry
{
	my ($serial, $time, @extensions) = @_;

	return der(0x30, der(0x02, $serial) . _der_date($time)
		  . (@extensions ? der(0x30, join '', @extensions) : ''));
}

# An extension: dotted OID, value in DER, whether it is critical.
sub der_extension
{
	my ($oid, $value, $critical) = @_;

	return der(0x30, der_oid($oid) . ($critical ? der(0x01, "\xff") : '') . der(0x04, $value));
}

# As RFC 5280 has dates.
sub _der_date
{
	my @time = gmtime(time + $_[0]);

	return $time[5] < 150 ? der(0x17, strftime('%y%m%d%H%M%SZ', @time)) : der(0x18, strftime('%Y%m%d%H%M%SZ', @time));
}

sub _der_parts
{
	my ($der) = @_;
	my ($pos, @parts) = (0);

	while ($pos < length $der)
	{
		my ($head, $n) = (2, ord substr $der, $pos + 1, 1);

		if ($n & 0x80)
		{
			my $bytes = substr $der, $pos + 2, $n & 0x7f;

			$head += length $bytes;
			$n = unpack 'N', substr("\0\0\0\0$bytes", -4);
		}
		push @parts, [ substr($der, $pos, $head + $n), substr($der, $pos + $head, $n) ];
		$pos += $head + $n;
	}
	return @parts;
}

# The contents of a file, and writing it in place: owner and mode stay.
# Exported on demand.
sub slurp
{
	my ($file) = @_;

	open my $fh, '<:raw', $file or croak "$file: $!";
	local $/ = undef;
	return scalar <$fh>;
}

sub spew
{
	my ($file, @text) = @_;

	open my $fh, '>:raw', $file or croak "$file: $!";
	print {$fh} @text or croak "$file: $!";
	close $fh or croak "$file: $!";
	return $file;
}

1;

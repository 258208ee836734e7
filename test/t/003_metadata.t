# What is said of pg_tls to PGXN and to Debian is valid, and the same everywhere;
# and make installs all of it, and takes all of it away, from other directories
# too.

use strict;
use warnings;

use File::Temp ();
use JSON::PP ();
use Test::More;

use TlsPKI qw(slurp);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $json = slurp("$src/META.json");
my ($version) = slurp("$src/pg_tls.control") =~ /^default_version = '(.+)'/m;

# ------------------------------------------------- PGXN's META spec, version 1.0.0

# The checks of values: true if good.
my $VERSION = qr/(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[A-Za-z][0-9A-Za-z-]*)?/;
my %licenses = map { $_ => 1 } qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2
  gfdl_1_3 gpl_1 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0
  ssleay sun zlib open_source restricted unrestricted unknown);
my %value = (
	string => sub { length $_[0] },
	term => sub { $_[0] =~ m{\A[^\s[:cntrl:]/\\]{2,}\z} },
	tag => sub { $_[0] =~ m{\A[^[:cntrl:]/\\]{1,255}\z} },
	version => sub { $_[0] =~ /\A$VERSION\z/ },
	range => sub {
		my @parts = split /,\s*/, $_[0], -1;
		return @parts && !grep { !/\A(?:0|(?:(?:[<>]=?|[!=]=)\s*)?$VERSION)\z/ } @parts;
	},
	url => sub { $_[0] =~ m{\A[a-z][a-z0-9+.-]*://[^/?#\s]+\S*\z}i },
	email => sub { $_[0] =~ /\A[^@\s]+@[^@\s]+\z/ },
	license => sub { $licenses{ $_[0] } },
	status => sub { $_[0] =~ /\A(?:stable|testing|unstable)\z/ },
	lower => sub { length $_[0] && $_[0] !~ /[[:upper:]]/ },
	path => sub { $_[0] =~ m{\A(?!/)[^\\]+\z} && $_[0] !~ m{(?:\A|/)\.\.(?:/|\z)} });

# The structure.  A name ends in ! where it has to be there; * is any other name,
# which has to be what follows it, and no more; in arrays, one or a list.
my $prereq = { map { ("$_" => { '*term' => 'range' }) } qw(requires recommends suggests conflicts) };
my $file_list = { file => ['path'], directory => ['path'] };
my $spec = {
	'name!' => 'term',
	'version!' => 'version',
	'abstract!' => 'string',
	'maintainer!' => ['string'],
	'license!' => sub { ref $_[0] eq 'HASH' ? { '*string' => 'url' } : ['license'] },
	'provides!' => { '*term' => { 'file!' => 'path', 'version!' => 'version', abstract => 'string', docfile => 'path' } },
	'meta-spec!' => { 'version!' => 'version', url => 'url' },
	description => 'string',
	generated_by => 'string',
	release_status => 'status',
	tags => ['tag'],
	no_index => $file_list,
	prereqs => { map { $_ => $prereq } qw(configure build test runtime develop) },
	resources => {
		homepage => 'url',
		license => ['url'],
		bugtracker => { web => 'url', mailto => 'email' },
		repository => { url => 'url', web => 'url', type => 'lower' } } };

# Sentences on what is wrong.
sub wrong
{
	my ($data, $rule, $where) = @_;

	$rule = $rule->($data) if ref $rule eq 'CODE';
	if (ref $rule eq 'ARRAY')
	{
		my @list = ref $data eq 'ARRAY' ? @$data : ($data);

		return "$where is empty" unless @list;
		return map { wrong($list[$_], $rule->[0], "$where\[$_]") } 0 .. $#list;
	}
	if (ref $rule eq 'HASH')
	{
		return "$where is not a map" unless ref $data eq 'HASH';

		my %named = map { s/!\z//r => $rule->{$_} } grep { !/\A\*/ } keys %$rule;
		my ($any) = grep { /\A\*/ } keys %$rule;
		my @wrong = map { exists $data->{$_} ? () : "$where/$_ is missing" } map { /(.*)!\z/ } sort keys %$rule;

		push @wrong, "$where is empty" if $any && !%$data;
		foreach my $name (sort keys %$data)
		{
			my $path = "$where/$name";

			if ($named{$name}) { push @wrong, wrong($data->{$name}, $named{$name}, $path) }
			elsif ($name =~ /\Ax_/i) { next }
			elsif (!$any) { push @wrong, "$path is unknown" }
			else
			{
				push @wrong, "$path is not a " . substr $any, 1 unless $value{ substr $any, 1 }->($name);
				push @wrong, wrong($data->{$name}, $rule->{$any}, $path);
			}
		}
		return @wrong;
	}
	return "$where is not a $rule" if !defined $data || ref $data || !$value{$rule}->($data);
	return;
}

sub valid
{
	my ($text) = @_;
	my $data = eval { JSON::PP->new->utf8->decode($text) } // return ['not JSON'];

	return [ wrong($data, $spec, 'META') ];
}

is_deeply(valid($json), [], "META.json is valid by PGXN's META spec 1.0.0");

# What is not valid, is found.
foreach my $case (
	[ 'META/license is missing', sub { delete $_[0]{license} } ],
	[ 'META/license[0] is not a license', sub { $_[0]{license} = 'PostgreSQL' } ],
	[ 'META/license/PostgreSQL is not a url', sub { $_[0]{license} = { PostgreSQL => 'see LICENSE' } } ],
	[ 'META/version is not a version', sub { $_[0]{version} = '1.0' } ],
	[ 'META/name is not a term', sub { $_[0]{name} = 'pg tls' } ],
	[ 'META/maintainer is empty', sub { $_[0]{maintainer} = [] } ],
	[ 'META/provides is empty', sub { $_[0]{provides} = {} } ],
	[ 'META/provides/pg_tls/file is missing', sub { delete $_[0]{provides}{pg_tls}{file} } ],
	[ 'META/provides/pg_tls/file is not a path', sub { $_[0]{provides}{pg_tls}{file} = '../pg_tls.sql' } ],
	[ 'META/provides/pg_tls/version is not a version', sub { $_[0]{provides}{pg_tls}{version} = '01.0.0' } ],
	[ 'META/prereqs/runtime/requires/PostgreSQL is not a range', sub { $_[0]{prereqs}{runtime}{requires}{PostgreSQL} = '13' } ],
	[ 'META/prereqs/running is unknown', sub { $_[0]{prereqs}{running} = {} } ],
	[ 'META/meta-spec/version is missing', sub { delete $_[0]{'meta-spec'}{version} } ],
	[ 'META/tags[0] is not a tag', sub { $_[0]{tags} = ['tls/ssl'] } ],
	[ 'META/homepage is unknown', sub { $_[0]{homepage} = 'https://example.org/' } ],
	[ 'META/resources/homepage is not a url', sub { $_[0]{resources}{homepage} = 'example.org' } ])
{
	my ($sentence, $change) = @$case;
	my $data = JSON::PP->new->utf8->decode($json);

	$change->($data);
	is_deeply(valid(JSON::PP->new->utf8->encode($data)), [$sentence], "found: $sentence");
}

# --------------------------------------------------------- the same everywhere

my $meta = JSON::PP->new->utf8->decode($json);
my $provided = $meta->{provides}{pg_tls};

like($meta->{version}, qr/\A\Q$version\E\.\d+\z/, "META.json: the version is one of $version");
is($provided->{version}, $meta->{version}, 'and that of the extension');
is($provided->{file}, "pg_tls--$version.sql", 'the script is that version\'s');
ok(-s "$src/$_", "there is $_") for @$provided{qw(file docfile)};
is($meta->{license}, 'postgresql', 'the license');
like(slurp("$src/LICENSE"), qr/PostgreSQL License/, 'is that of LICENSE');

SKIP:
{
	# PGXN's archive and a tarball of Debian's upstream may lack it.
	skip 'no debian/', 9 unless -d "$src/debian";
	my %debian = map { $_ => slurp("$src/debian/$_") } qw(changelog control control.in copyright);
	my ($upstream) = $debian{changelog} =~ /\Apg-tls \((.+)-[^-]+\) /;
	my ($text) = $debian{copyright} =~ /\nLicense: PostgreSQL\n((?: .*\n)+)\z/;
	my ($license) = slurp("$src/LICENSE") =~ /^(Permission.*)\z/ms;

	is($upstream, $meta->{version}, 'debian/changelog: the version of META.json');
	like($debian{changelog}, qr/^ -- \Q$meta->{maintainer}\E  /m, 'and its maintainer');
	like($debian{$_}, qr/^Maintainer: \Q$meta->{maintainer}\E$/m, "debian/$_: the same") for qw(control control.in);
	is(($debian{copyright} =~ /^Copyright: (.+)$/m)[0], (slurp("$src/LICENSE") =~ /^Copyright \(c\) (.+)$/m)[0],
		'debian/copyright: whose');
	is($text =~ s/^ \.$//gmr =~ s/^ //gmr, $license, 'and the license, to the letter');
	my ($least) = $meta->{prereqs}{runtime}{requires}{PostgreSQL} =~ /\A(\d+)/;
	is(slurp("$src/debian/pgversions"), "$least+\n", 'debian/pgversions: from META.json\'s PostgreSQL on');
	my @majors = $debian{control} =~ /^Package: postgresql-(\d+)-pg-tls$/mg;
	my ($head, $package) = $debian{'control.in'} =~ /\A(.*\n)\n(Package: .*)\z/s;
	ok(@majors && !(grep { $_ < $least } @majors), 'debian/control: packages for such');
	is($debian{control}, $head . join('', map { "\n" . $package =~ s/PGVERSION/$_/gr } @majors),
		'and the rest is from debian/control.in');
}

# ---------------------------------------------------------------- make install

my $dir = File::Temp->newdir;
my $config = $ENV{PG_CONFIG} // 'pg_config';
my @make = ('make', '-s', 'with_llvm=no', "PG_CONFIG=$config");

sub make
{
	my ($where, @arguments) = @_;
	my $out = '';

	open my $fh, '-|', 'sh', '-c', 'cd "$1" && shift && exec "$@" 2>&1', 'sh', $where, @make, @arguments or die;
	$out .= $_ while <$fh>;
	close $fh;
	is($?, 0, "make @arguments") or diag $out;
	return $out;
}

sub files
{
	chomp(my @files = `cd $dir/$_[0] && find . -type f | sort`);
	return [ map { s{\A\.}{}r } @files ];
}

my %path = map { my $p = `$config --$_`; chomp $p; ($_ => $p) } qw(sharedir pkglibdir);
my @scripts = map { m{([^/]+)\z} } glob "$src/pg_tls--*.sql";
my @installed = sort "$path{pkglibdir}/pg_tls.so",
  map { "$path{sharedir}/extension/$_" } 'pg_tls.control', @scripts;

make($src, 'install', "DESTDIR=$dir/in");
is_deeply(files('in'), \@installed, 'installs the library, the control file and every script');
make($src, 'uninstall', "DESTDIR=$dir/in");
is_deeply(files('in'), [], 'and takes them away');

# As pg_buildext does it: in another directory, where the sources are not.
mkdir "$dir/$_" or die for qw(clean elsewhere);
system("cp $src/Makefile $src/pg_tls.control $src/pg_tls--*.sql $dir/clean && cp -r $src/src $dir/clean") == 0
  or die;
my @elsewhere = ("$dir/elsewhere", '-f', "$dir/clean/Makefile", "VPATH=$dir/clean");

make(@elsewhere, 'src/base/ossl.o');
ok(-f "$dir/elsewhere/src/base/ossl.o", 'compiles in another directory');
is(make(@elsewhere, '--eval=told: ; @echo $(EXTVERSION) $(sort $(DATA))', 'told'),
	"$version " . join(' ', sort @scripts) . "\n", 'knows version and scripts there');

done_testing();

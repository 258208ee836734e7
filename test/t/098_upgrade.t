# An upgraded installation is the same as a fresh one, object by object; and what
# happens while library and objects are of different versions.
#
# The server is the installed one with another directory of extensions: a copy,
# into which versions of the future are put, those too whose update script
# forgets something.

use strict;
use warnings;

use Digest::SHA ();
use File::Path qw(make_path);
use File::Temp ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

# --------------------------------------------------------- a server of our own

my $dir = File::Temp->newdir;
my $config = $ENV{PG_CONFIG} // 'pg_config';
my %path;

foreach my $what (qw(bindir sharedir pkglibdir))
{
	chomp($path{$what} = `$config --$what`);
}

# Programs find the rest from where they are: at the same place below $dir.
sub run { return system(@_) == 0 || die "@_ failed\n" }

make_path(map { "$dir$path{$_}" } qw(bindir sharedir));
run('cp', '-L', (map { "$path{bindir}/$_" } qw(postgres initdb psql pg_config)), "$dir$path{bindir}");
make_path("$dir$path{pkglibdir}" =~ s{/[^/]*\z}{}r);
symlink $path{pkglibdir}, "$dir$path{pkglibdir}" or die "$path{pkglibdir}: $!";
foreach my $entry (glob "$path{sharedir}/*")
{
	my ($name) = $entry =~ m{([^/]+)\z};

	if ($name eq 'extension') { run('cp', '-r', $entry, "$dir$path{sharedir}") }
	else { symlink $entry, "$dir$path{sharedir}/$name" or die "$entry: $!" }
}

my $extension = "$dir$path{sharedir}/extension";
my ($version) = slurp("$extension/pg_tls.control") =~ /^default_version = '(.+)'/m;
my $full = slurp("$extension/pg_tls--$version.sql");

local $ENV{PG_CONFIG} = "$dir$path{bindir}/pg_config";
plan skip_all => 'this server does not look for its files from where it is'
  if TlsCluster->pg_config('version') =~ / 13\./ && TlsCluster->pg_config('sharedir') eq $path{sharedir};
is(TlsCluster->pg_config('sharedir'), "$dir$path{sharedir}", 'a server with extensions of its own');

my $c = TlsCluster->new(ssl => 1, pki => TlsPKI->default_set("$dir/pki"));

$c->start;

# ------------------------------------------------------------- the comparison

# Everything that can be told of the extension's objects, as rows of object,
# property and value.  Nothing in it depends on OIDs, nor on the order in which
# privileges were granted.
my $properties = <<'END';
WITH member AS (
    SELECT classid, objid FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
      AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
), acl (classid, objid, subid, name, owner, kind, acl) AS (
    SELECT 'pg_proc'::regclass, oid, 0, 'privileges', proowner, 'f'::"char", proacl FROM pg_proc
    UNION ALL
    SELECT 'pg_class'::regclass, oid, 0, 'privileges', relowner, 'r', relacl FROM pg_class
    UNION ALL
    SELECT 'pg_class'::regclass, attrelid, attnum, 'privileges', relowner, 'c', attacl
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    WHERE attnum > 0
), both_acl AS (
    SELECT * FROM acl
    UNION ALL
    -- those that pg_dump takes for granted
    SELECT a.classid, a.objid, a.subid, 'initial privileges', a.owner, a.kind, i.initprivs
    FROM acl a LEFT JOIN pg_init_privs i
         ON i.classoid = a.classid AND i.objoid = a.objid AND i.objsubid = a.subid
), property (classid, objid, subid, name, value) AS (
    SELECT classid, objid, 0, 'member', NULL FROM member
    UNION ALL
    SELECT classid, objid, 0, 'comment', obj_description(objid, classid::regclass::name) FROM member
    UNION ALL
    SELECT 'pg_class'::regclass, attrelid, attnum, 'comment', col_description(attrelid, attnum)
    FROM member JOIN pg_attribute ON attrelid = objid
    WHERE classid = 'pg_class'::regclass AND attnum > 0
    UNION ALL
    SELECT classid, objid, subid, name,
           (SELECT string_agg(format('%s=%s/%s%s', grantee::regrole, privilege_type, grantor::regrole,
                                     CASE WHEN is_grantable THEN '*' END), ' '
                              ORDER BY grantee::regrole::text, privilege_type, grantor::regrole::text)
            FROM aclexplode(coalesce(acl, acldefault(kind, owner))))
    FROM both_acl JOIN member USING (classid, objid)
    UNION ALL
    SELECT classid, objid, 0, 'definition',
           CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(oid) ELSE 'unknown kind' END
    FROM member JOIN pg_proc p ON p.oid = objid
    WHERE classid = 'pg_proc'::regclass
    UNION ALL
    SELECT classid, objid, 0, 'owner', proowner::regrole::text
    FROM member JOIN pg_proc p ON p.oid = objid
    WHERE classid = 'pg_proc'::regclass
    UNION ALL
    SELECT classid, objid, 0, 'definition',
           CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) ELSE 'unknown kind' END
    FROM member JOIN pg_class c ON c.oid = objid
    WHERE classid = 'pg_class'::regclass
    UNION ALL
    SELECT classid, objid, 0, 'owner and options', concat_ws(' ', relowner::regrole, reloptions)
    FROM member JOIN pg_class c ON c.oid = objid
    WHERE classid = 'pg_class'::regclass
    UNION ALL
    -- where it is among the columns, dropped ones aside
    SELECT classid, objid, attnum, 'column',
           concat_ws(' ', rank() OVER (PARTITION BY attrelid ORDER BY attnum),
                     format_type(atttypid, atttypmod), attcollation::regcollation,
                     attnotnull, atthasdef)
    FROM member JOIN pg_attribute ON attrelid = objid
    WHERE classid = 'pg_class'::regclass AND attnum > 0 AND NOT attisdropped
    UNION ALL
    -- of a view, what depends on other things is its rule
    SELECT d.classid, d.objid, 0, 'depends on',
           string_agg(concat_ws(' ', deptype, i.type, i.identity), ', ' ORDER BY deptype, i.type, i.identity)
    FROM pg_depend d, pg_identify_object(refclassid, refobjid, refobjsubid) i
    WHERE (d.classid, d.objid) IN (
        SELECT classid, objid FROM member
        UNION ALL
        SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN member ON objid = ev_class
        UNION ALL
        SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE extname = 'pg_tls')
    GROUP BY d.classid, d.objid
    UNION ALL
    SELECT 'pg_extension'::regclass, oid, 0, 'extension',
           concat_ws(' ', extversion, extnamespace::regnamespace, extrelocatable, extconfig, extcondition)
    FROM pg_extension WHERE extname = 'pg_tls'
    UNION ALL
    SELECT classid, objid, 0, 'unknown kind', NULL FROM member
    WHERE classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass)
      -- since 17, types of rows are members, and their arrays
      AND NOT EXISTS (
        SELECT FROM pg_type t LEFT JOIN pg_type element ON element.oid = t.typelem
        WHERE classid = 'pg_type'::regclass AND t.oid = objid
          AND (t.typrelid <> 0 OR element.typrelid <> 0))
    UNION ALL
    -- what scripts leave behind
    SELECT 'pg_class'::regclass, oid, 0, 'exists', NULL FROM pg_class WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0, 'exists', NULL FROM pg_proc WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_type'::regclass, oid, 0, 'exists', NULL FROM pg_type WHERE oid >= 16384
    UNION ALL
    SELECT 'pg_namespace'::regclass, oid, 0, 'exists', NULL FROM pg_namespace WHERE oid >= 16384
)
SELECT i.type || ' ' || i.identity, property.name, coalesce(value, '(none)')
FROM property, pg_identify_object(classid, objid, subid) i
END

my %known;
my $databases = 0;

# What there is in a database where these statements made the extension.
sub properties
{
	my @statements = @_;

	return $known{"@statements"} //= do
	{
		my $name = 'upgrade' . ++$databases;
		my %found;

		$c->query("CREATE DATABASE $name", unix => 1);
		$c->query(join('', map { "$_;\n" } @statements), unix => 1, dbname => $name);
		foreach my $row ($c->query_rows($properties, unix => 1, dbname => $name))
		{
			my ($object, $property, $value) = @$row;

			die "this test knows nothing of $object\n" if "$property $value" =~ /unknown kind/;
			$found{"$object: $property"} = $value;
		}
		\%found;
	};
}

sub fresh { return properties("CREATE EXTENSION pg_tls VERSION '$_[0]'") }

sub upgraded
{
	my ($from, $to) = @_;

	return properties("CREATE EXTENSION pg_tls VERSION '$from'", "ALTER EXTENSION pg_tls UPDATE TO '$to'");
}

# The names of properties that differ.
sub differences
{
	my ($one, $two) = @_;
	my %all = (%$one, %$two);

	return [ grep { ($one->{$_} // '(missing)') ne ($two->{$_} // '(missing)') } sort keys %all ];
}

sub told
{
	my ($one, $two) = @_;

	return map { "$_: fresh " . ($one->{$_} // '(missing)') . ', upgraded ' . ($two->{$_} // '(missing)') . "\n" }
	  @{ differences($one, $two) };
}

# ------------------------------------------------------- the versions that exist

my $now = fresh($version);

cmp_ok(scalar(grep { /^view .*: definition\z/ } keys %$now), '>=', 10, 'there are views to compare');
cmp_ok(scalar(grep { /^function .*: definition\z/ } keys %$now), '>=', 20, 'and functions');
cmp_ok(scalar(grep { /: column\z/ } keys %$now), '>=', 100, 'and columns');
is($now->{'function public.pg_tls_check(): initial privileges'}, 'postgres=EXECUTE/postgres', 'and privileges');
like($now->{'"_RETURN" on view: depends on'} // $now->{'rule "_RETURN" on public.pg_stat_tls: depends on'} // '',
	qr/n function public\.pg_stat_tls\(\)/, 'and dependencies');

# pg_tls--1.0.sql is complete, pg_tls--1.0--1.1.sql an update.
my @complete = map { m{/pg_tls--((?:(?!--).)+)\.sql\z} ? $1 : () } glob "$extension/pg_tls--*.sql";
my @upgrades = $c->query_rows(<<'END');
SELECT source, target FROM pg_extension_update_paths('pg_tls') WHERE path IS NOT NULL ORDER BY 1, 2
END

ok((grep { $_ eq $version } @complete), "version $version can be installed by one script");
note('complete: ', join(' ', @complete), '; upgrades: ', join(' ', map { "$_->[0]-$_->[1]" } @upgrades) || 'none');

foreach my $old (grep { $_ ne $version } @complete)
{
	ok((grep { $_->[0] eq $old && $_->[1] eq $version } @upgrades), "version $old can be upgraded");
}
foreach my $pair (@upgrades)
{
	my ($from, $to) = @$pair;

	next unless grep { $_ eq $from } @complete;
	is_deeply(differences(fresh($to), upgraded($from, $to)), [], "upgraded from $from to $to it is as if installed so")
	  or diag told(fresh($to), upgraded($from, $to));
}

# ---------------------------------------------- released scripts stay as they are

# Lines of sha256sum.  Every version but the one that is being worked on.
sub not_as_released
{
	my ($where, $list) = @_;
	my %released = map { /^([0-9a-f]{64})  (\S+)\z/ ? ($2 => $1) : () } split /\n/, $list;
	my @wrong;

	foreach my $script (map { m{([^/]+)\z} } glob "$where/pg_tls--*.sql")
	{
		next if $script =~ /--\Q$version\E\.sql\z/ && !$released{$script};
		push @wrong, $script
		  if ($released{$script} // '') ne Digest::SHA::sha256_hex(slurp("$where/$script"));
	}
	push @wrong, grep { !-e "$where/$_" } sort keys %released;
	return \@wrong;
}

SKIP:
{
	my $src = $ENV{PG_TLS_SRC} or skip 'PG_TLS_SRC does not name the sources', 1;

	is_deeply(not_as_released($src, slurp("$src/test/data/released.sha256")), [],
		'released scripts are as they were released');
}
my $sum = Digest::SHA::sha256_hex($full);
is_deeply(not_as_released($extension, "$sum  pg_tls--$version.sql\n"), [], 'a released script');
is_deeply(not_as_released($extension, ('0' x 64) . "  pg_tls--$version.sql\n"), ["pg_tls--$version.sql"], 'one that was changed is found');
is_deeply(not_as_released($extension, "$sum  pg_tls--0.1.sql\n"), ['pg_tls--0.1.sql'], 'and one that is gone');

# ---------------------------------------------------------- a version of the future

# One function more, and one view with one column more.
my $function = <<'END';
CREATE FUNCTION pg_tls_future(host text, OUT code text, OUT count bigint)
AS 'MODULE_PATHNAME', 'pg_tls_server_matches_1_0'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION pg_tls_future(text) IS 'a function of the future';
REVOKE ALL ON FUNCTION pg_tls_future(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_tls_future(text) TO pg_monitor;
END
my $view = <<'END';
VIEW pg_stat_tls_handshakes AS
    SELECT *, count > 0 AS any FROM pg_stat_tls_handshakes();
END
my $column = "COMMENT ON COLUMN pg_stat_tls_handshakes.any IS 'whether there were any';\n";
my $future = $full . $function . $column;
my $update = "CREATE OR REPLACE $view$column$function";

$future =~ s/^CREATE VIEW pg_stat_tls_handshakes AS.*?;\n/CREATE $view/ms
  or die 'there is no such view';
spew("$extension/pg_tls--future.sql", $future);

# A version of that name is upgraded to by this script; the complete one is the
# same but for its name.
sub future
{
	my ($name, $script) = @_;

	spew("$extension/pg_tls--$version--$name.sql", $script);
	spew("$extension/pg_tls--$name.sql", $future);
	return [ grep { $_ !~ /^extension / } @{ differences(fresh('future'), upgraded($version, $name)) } ];
}

is_deeply(future('future', $update), [], 'an update that forgets nothing')
  or diag told(fresh('future'), upgraded($version, 'future'));
cmp_ok(scalar @{ differences($now, fresh('future')) }, '>=', 10, 'and that changes something');

my $f = 'function public.pg_tls_future(pg_catalog.text)';
my $v = 'view public.pg_stat_tls_handshakes';
my $vc = 'view column public.pg_stat_tls_handshakes."any"';
my @forgetful = (
	[ 'comment', sub { s/^COMMENT ON FUNCTION.*\n//m }, "$f: comment" ],
	[ 'column_comment', sub { s/^COMMENT ON COLUMN.*\n//m }, "$vc: comment" ],
	[ 'grant', sub { s/^GRANT.*\n//m }, "$f: initial privileges", "$f: privileges" ],
	[ 'revoke', sub { s/^REVOKE.*\n//m }, "$f: initial privileges", "$f: privileges" ],
	[ 'parallel', sub { s/ PARALLEL RESTRICTED// }, "$f: definition" ],
	[ 'type', sub { s/count > 0 AS any/(count > 0)::text AS any/ }, "$vc: column", "$v: definition" ],
	[ 'leftover', sub { $_ .= "CREATE FUNCTION pg_tls_old() RETURNS integer LANGUAGE sql AS 'SELECT 1';\n" },
		map { "function public.pg_tls_old(): $_" } 'comment', 'definition', 'depends on', 'exists',
		'initial privileges', 'member', 'owner', 'privileges' ],
	[ 'stray', sub { $_ .= "CREATE SCHEMA stray;\nALTER EXTENSION pg_tls DROP SCHEMA stray;\n" }, 'schema stray: exists' ],
	[ 'lost', sub { $_ .= "ALTER EXTENSION pg_tls DROP FUNCTION pg_stat_tls_reset();\n" },
		map { "function public.pg_stat_tls_reset(): $_" } 'comment', 'definition', 'depends on',
		'initial privileges', 'member', 'owner', 'privileges' ]);

foreach my $case (@forgetful)
{
	my ($name, $change, @found) = @$case;
	my $script = $update;

	$change->() for $script;
	isnt($script, $update, "$name: another script");
	is_deeply(future($name, $script), \@found, "$name: found");
}

# ------------------------------------------- library and objects that do not fit

# Each function that returns rows, declared with a column more or less than the
# library has, or with one of another type: what a server sees between the
# replacement of the library and ALTER EXTENSION UPDATE, or between that and its
# restart.
$c->query("CREATE DATABASE misfit", unix => 1);
my @cert = (dbname => 'misfit', cert => 'alice');
$c->query('CREATE EXTENSION pg_tls', @cert);

my $pem = slurp($c->pki->crt('alice'));
my ($base64) = $pem =~ /-----BEGIN CERTIFICATE-----\n(.*?)-----END/s;
my %arguments = (
	pg_tls_certificate => { text => "'$pem'", bytea => "decode('$base64', 'base64')" },
	pg_tls_verify => { 'text, text, text, text, timestamp with time zone, text' => "'$pem', NULL, NULL, NULL, NULL, 'server'" },
	pg_tls_finding_codes => { text => 'NULL' },
	pg_tls_reload => { interval => "'10s'" });
my @functions = $c->query_rows(<<'END', @cert);
SELECT proname, oidvectortypes(proargtypes), prosrc, proretset, proisstrict,
       coalesce((SELECT string_agg(format('%I %s', name, type::regtype), ', ' ORDER BY number)
                 FROM unnest(proargnames, proallargtypes, proargmodes) WITH ORDINALITY a (name, type, mode, number)
                 WHERE mode IN ('o', 't')),
                (SELECT string_agg(format('%I %s', attname, atttypid::regtype), ', ' ORDER BY attnum)
                 FROM pg_attribute
                 WHERE attrelid = (SELECT typrelid FROM pg_type WHERE oid = prorettype) AND attnum > 0))
FROM pg_proc JOIN pg_depend d ON d.objid = pg_proc.oid AND d.classid = 'pg_proc'::regclass
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tls')
  AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')
  AND (prorettype = 'record'::regtype OR (SELECT typtype FROM pg_type WHERE oid = prorettype) = 'c')
ORDER BY 1, 2
END
cmp_ok(scalar @functions, '>=', 15, 'functions that return rows');

my $s = $c->session(@cert);
my $rows = 0;

# There is a failure to tell of.
$c->psql('SELECT 1', cert => 'expired');

foreach my $function (@functions)
{
	my ($name, $types, $symbol, $set, $strict, $columns) = @$function;
	my $arguments = $types eq '' ? '' : $arguments{$name}{$types};

	ok(defined $arguments, "$name($types): arguments to call it with") or next;
	# Those without a row have nothing to check.
	my $count = $s->query("SELECT count(*) FROM $name($arguments)");
	my @columns = split /, /, $columns;

	$rows++ if $count;
	foreach my $case (
		[ 'a column more', @columns, 'one_more text' ],
		[ 'a column less', @columns[ 0 .. $#columns - 1 ] ],
		[ 'another type', $columns[0] =~ / text\z/ ? 'one bigint' : 'one text', @columns[ 1 .. $#columns ] ])
	{
		my ($what, @declared) = @$case;
		my $detail =
		  @declared != @columns
		  ? qr/The library has ${\scalar @columns} columns where SQL expects ${\scalar @declared}\./
		  : qr/The library has type .+ in column 1 where SQL expects (?:text|bigint)\./;

		$s->query('BEGIN');
		$s->query('CREATE FUNCTION misfit(' . join(', ', $types || (), map { "OUT $_" } @declared)
			. ') RETURNS ' . ($set eq 't' ? 'SETOF record' : 'record')
			. " AS '\$libdir/pg_tls', '$symbol' LANGUAGE C" . ($strict eq 't' ? ' STRICT' : ''));
		my ($ok, undef, $err) = $s->try_query("SELECT * FROM misfit($arguments)");

		if ($count)
		{
			like($err, qr/ERROR:  objects of extension "pg_tls" do not fit the loaded library\nDETAIL:  $detail\nHINT:  Run ALTER EXTENSION pg_tls UPDATE, or restart/,
				"$name: $what is refused");
		}
		else
		{
			ok($ok, "$name: without rows, $what does no harm") or diag $err;
		}
		$s->query('ROLLBACK');
	}
}
cmp_ok($rows, '>=', 12, 'most returned rows');
ok($s->alive, 'the session lives');

# As a whole: objects of the future with the library of today.
$c->query('CREATE DATABASE newer', unix => 1);
$c->query("CREATE EXTENSION pg_tls VERSION 'future'", dbname => 'newer', unix => 1);
is($c->query('SELECT count(*) FROM pg_tls_status', dbname => 'newer'), '1', 'what fits works with newer objects');

# A function that the library has not: PostgreSQL says so when it is created.
spew("$extension/pg_tls--$version--unknown.sql", $function =~ s/pg_tls_server_matches_1_0/pg_tls_unknown/r);
my (undef, undef, $error) = $c->psql("CREATE EXTENSION pg_tls VERSION '$version'; ALTER EXTENSION pg_tls UPDATE TO 'unknown'",
	dbname => 'template1', unix => 1);
like($error, qr/could not find function "pg_tls_unknown" in file ".*pg_tls\.so"/, 'no update to what the library lacks');
is($c->query("SELECT extversion FROM pg_extension WHERE extname = 'pg_tls'", dbname => 'template1', unix => 1), $version,
	'and the old version stays');

# -------------------------------------- a library of the future, and old objects

# Its version 2.0 has a function that returns a column more, beside that of the
# old objects, which go on to work: a package is upgraded for all databases at
# once, and ALTER EXTENSION follows in each of them some day.
SKIP:
{
	my $src = $ENV{PG_TLS_SRC} or skip 'PG_TLS_SRC does not name the sources', 1;
	my $build = "$dir/build";
	my ($file) = grep { slurp($_) =~ /^pg_stat_tls_info_1_0\(/m } split /\n/, `find $src/src -name '*.c'`;
	my ($info) = slurp($file) =~ m{(^Datum\npg_stat_tls_info_1_0\(.*?^\})}ms;

	run('mkdir', $build);
	run('cp', '-r', (map { "$src/$_" } qw(Makefile pg_tls.control src)), $build);
	$info =~ s/_1_0\(/_2_0(/ or die;
	$info =~ s/(\n\tPG_RETURN_DATUM)/\n\tpgtls_row_text(&row, "new");$1/ or die $info;
	spew($file =~ s/^\Q$src\E/$build/r, slurp($file) . "\nPG_FUNCTION_INFO_V1(pg_stat_tls_info_2_0);\n\n$info\n");
	my $out = `make -s -C $build clean with_llvm=no PG_CONFIG=$config 2>&1`
	  . `make -s -C $build pg_tls.so with_llvm=no PG_CONFIG=$config COPT='${\($ENV{PG_TLS_COPT} // '')}' 2>&1`;

	ok(-f "$build/pg_tls.so", 'the library of the future') or diag $out;

	# What the views have, but for what changes by itself.
	my $all = sub {
		my ($db) = @_;
		my @views = map { $_->[0] } $c->query_rows(q{SELECT relname FROM pg_class WHERE relkind = 'v' AND relname ~ '^pg_(stat_)?tls' ORDER BY 1},
			dbname => $db, unix => 1);

		return join "\n", map { "$_: " . ($c->psql("SELECT (jsonb_agg(to_jsonb(v)) -> 0) IS NOT NULL FROM $_ v", dbname => $db, unix => 1))[1] } @views;
	};
	my $columns = sub {
		return $c->query(q{SELECT string_agg(key, ' ') FROM pg_stat_tls_info i, jsonb_object_keys(to_jsonb(i)) key}, dbname => $_[0], unix => 1);
	};

	$c->query("CREATE DATABASE $_ TEMPLATE template0", unix => 1) for qw(stays follows);
	$c->query("CREATE EXTENSION pg_tls VERSION '$version'", dbname => $_, unix => 1) for qw(stays follows);
	my $before = $all->('stays');
	like($before, qr/^pg_stat_tls_info: t$/m, 'old objects with their library');

	# Into the place of the old one, for this server.
	$c->stop;
	unlink "$dir$path{pkglibdir}" or die;
	run('mkdir', "$dir$path{pkglibdir}");
	run("ln -s $path{pkglibdir}/* $dir$path{pkglibdir}/ && rm $dir$path{pkglibdir}/pg_tls.so && cp $build/pg_tls.so $dir$path{pkglibdir}/");
	$c->start;
	$c->psql('SELECT 1', cert => 'expired');
	is($all->('stays'), $before, 'the same with a library that has more');
	is($c->query('SELECT count(*) > 0 AND bool_and(pid = pg_backend_pid()) FROM pg_tls_session()', dbname => 'stays', unix => 1), 't', 'functions, too');
	my $old = $columns->('stays');

	spew("$extension/pg_tls--$version--2.0.sql", <<'END');
DROP VIEW pg_stat_tls_info;
DROP FUNCTION pg_stat_tls_info();
CREATE FUNCTION pg_stat_tls_info(OUT client_evictions bigint, OUT certificate_evictions bigint, OUT stats_reset timestamptz, OUT more text)
AS 'MODULE_PATHNAME', 'pg_stat_tls_info_2_0' LANGUAGE C STRICT;
CREATE VIEW pg_stat_tls_info AS SELECT * FROM pg_stat_tls_info();
END
	$c->query("ALTER EXTENSION pg_tls UPDATE TO '2.0'", dbname => 'follows', unix => 1);
	is($columns->('follows'), 'more stats_reset client_evictions certificate_evictions', 'an update brings the new column');
	is($c->query('SELECT more FROM pg_stat_tls_info', dbname => 'follows', unix => 1), 'new', '... with its value');
	is($columns->('stays'), $old, '... and the other database has its old one');
	is($all->('stays'), $before, '... as all else');
}

done_testing();

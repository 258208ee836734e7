# The documentation: doc/reference.md against a running server and the sources,
# doc/recipes.md by running all of it, and the links between the documents.
#
# With PG_TLS_RECIPES set to a path, the recipes are written there with the
# output that was seen.

use strict;
use warnings;
use utf8;

use Cwd qw(getcwd);
use Encode qw(decode_utf8 encode_utf8);
use File::Temp ();
use IPC::Run ();
use Test::More;

use TlsCluster;
use TlsPKI qw(slurp spew);

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
binmode $_, ':encoding(UTF-8)' for map { Test::More->builder->$_ } qw(output failure_output todo_output);

my $DAY = 86400;
my $dir = File::Temp->newdir;
my $work = "$dir/work";
my $pki = TlsPKI->new("$dir/pki");
my $old_openssl = `openssl version` =~ /^OpenSSL 1\./;

# The documents that others make; their names do not change.
my @documents = grep { -e "$src/$_" } 'README.md', 'SECURITY.md', 'monitoring/README.md', map { s{^\Q$src\E/}{}r } sort glob "$src/doc/*.md";
my %text = map { $_ => decode_utf8(slurp("$src/$_")) } @documents;
my $reference = $text{'doc/reference.md'};

sub names { return join "\n", sort @_ }

# Two lists that have to be the same, and what each has more.
sub same_names
{
	my ($got, $expected, $name) = @_;
	my %got = map { $_ => 1 } @$got;
	my %expected = map { $_ => 1 } @$expected;

	cmp_ok(scalar keys %expected, '>', 0, "$name: there is something");
	is(join("\n", grep { !$expected{$_} } sort keys %got), '', "$name: nothing that does not exist");
	is(join("\n", grep { !$got{$_} } sort keys %expected), '', "$name: nothing missing");
	is(scalar @$got, scalar keys %got, "$name: nothing twice");
	return;
}

# ------------------------------------------------------------ the reference

# The sections below a heading, by their headings, of the level below.
sub sections
{
	my ($md, $level) = @_;
	my @parts = split /^#{$level} (.*)\n/m, $md;
	my %sections;

	shift @parts;
	while (my ($heading, $body) = splice @parts, 0, 2)
	{
		fail("two sections $heading") if $sections{$heading};
		$sections{$heading} = $body;
	}
	return \%sections;
}

# The rows of the tables in a text, without their heads; code loses its backticks.
sub rows
{
	my ($md) = @_;
	my @rows = grep { !/^\|-/ } $md =~ /^(\|.*\|)$/mg;

	return map { [ map { s/\A\s+|\s+\z//gr } split /\|/, s/\A\|//r ] }
	  grep { /^\|\s*`/ } @rows;
}

sub bare { return $_[0] =~ tr/`//dr }
sub summary { return $_[0] =~ /^> (.*)$/mg }

my $chapters = sections($reference, 2);
my $views = sections($chapters->{Views}, 3);
my $functions = sections($chapters->{Functions}, 3);
my $values = sections($chapters->{Values}, 3);

same_names([ keys %$chapters ],
	[ 'Names', 'Views', 'Functions', 'Settings', 'Findings', 'Failure reasons', 'Values', 'Errors', 'Messages in the log', 'Limits' ],
	'chapters');

# Far from here, so that pg_hba.conf matters.
my $c = TlsCluster->new(ssl => 1, pki => make_pki(), ca => $pki->crt('srvroot'), crl => undef,
	conf => { listen_addresses => '*', 'pg_tls.watch_interval' => '100ms', password_encryption => 'scram-sha-256', datestyle => 'ISO' },
	hba => [
		'local all all trust',
		'hostssl all anna,boris,carol,dora,emil,frida all cert',
		'host all legacy all scram-sha-256' ]);
my $plain = TlsCluster->new(name => 'unloaded', ssl => 1, pki => $pki, ca => undef, crl => undef, preload => '');

$c->start;
$plain->start;
$_->query('CREATE EXTENSION pg_tls', unix => 1) for $c, $plain;
base_files();

# One session for the many small queries.
my $s = $c->session(unix => 1);

$s->query("\\pset fieldsep '\x1f'\n\\pset recordsep '\x1e'\n\\pset null '\x1d'\n");

sub value { return decode_utf8($s->query($_[0])) }

sub records
{
	my $out = value($_[0]);

	return map { [ map { $_ eq "\x1d" ? undef : $_ } split /\x1f/, $_, -1 ] } split /\x1e/, $out;
}

sub all { return map { $_->[0] } records($_[0]) }

subtest 'every object has a comment' => sub {
	my @objects = records(<<'END');
SELECT pg_describe_object(d.classid, d.objid, 0), coalesce(obj_description(d.objid, d.classid::regclass::text::name), '')
FROM pg_depend d, pg_extension e
WHERE e.extname = 'pg_tls' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  AND d.classid <> 'pg_type'::regclass    -- row types of views, which newer versions count
UNION ALL
SELECT 'column ' || attname || ' of ' || attrelid::regclass, coalesce(col_description(attrelid, attnum), '')
FROM pg_attribute, pg_depend d, pg_extension e
WHERE e.extname = 'pg_tls' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  AND d.classid = 'pg_class'::regclass AND attrelid = d.objid AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'extension', coalesce(obj_description(oid, 'pg_extension'), '') FROM pg_extension WHERE extname = 'pg_tls'
END

	cmp_ok(scalar @objects, '>', 150, 'objects and columns are found');
	is(names(map { $_->[0] } grep { $_->[1] eq '' } @objects), '', 'none is without');
};

my @view_names = all(<<'END');
SELECT relname FROM pg_class c, pg_depend d, pg_extension e
WHERE e.extname = 'pg_tls' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  AND d.classid = 'pg_class'::regclass AND c.oid = d.objid
END

# A table of columns against [name, type, comment or undef]s.
sub same_columns
{
	my ($name, $md, @columns) = @_;
	my @rows = rows($md);
	my %row = map { bare($_->[0]) => $_ } @rows;

	is(join("\n", map { bare("$_->[0] $_->[1]") } @rows), join("\n", map { "$_->[0] $_->[1]" } @columns), "$name: columns and types");
	foreach my $column (@columns)
	{
		my $row = $row{ $column->[0] } // next;

		is(bare($row->[2]), $column->[2], "$name: meaning of $column->[0]") if defined $column->[2];
		ok(length $row->[2] && length($row->[3] // ''), "$name: meaning and NULL of $column->[0]");
	}
	return;
}

subtest 'views' => sub {
	same_names([ keys %$views ], \@view_names, 'views');
	foreach my $view (@view_names)
	{
		my $md = $views->{$view} // next;

		is(join("\n", summary($md)), value("SELECT obj_description('$view'::regclass)"), "$view: summary");
		same_columns($view, $md, records(<<"END"));
SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)
FROM pg_attribute WHERE attrelid = '$view'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
END
		is($md =~ /^\*Read by\* everybody/m ? 't' : $md =~ /^\*Read by\* `pg_monitor`/m ? 'f' : '',
			value("SELECT has_table_privilege('public', '$view', 'SELECT')"), "$view: who reads");
		is(value("SELECT has_table_privilege('pg_monitor', '$view', 'SELECT')"), 't', "$view: pg_monitor does");
		like(($plain->psql("\\set VERBOSITY verbose\nSELECT * FROM $view", unix => 1))[2], qr/ERROR:  55000: pg_tls must be loaded/,
			"$view: needs preloading");
	}
};

subtest 'functions' => sub {
	my @all = records(<<'END');
SELECT p.oid, proname, pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc'),
       has_function_privilege('public', p.oid, 'EXECUTE'), has_function_privilege('pg_monitor', p.oid, 'EXECUTE'),
       proname IN (SELECT relname FROM pg_class), proargnames::text, provolatile
FROM pg_proc p, pg_depend d, pg_extension e
WHERE e.extname = 'pg_tls' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  AND d.classid = 'pg_proc'::regclass AND p.oid = d.objid
END
	my @behind = map { [ bare($_->[0]), $_->[1] ] } rows(delete $functions->{'Functions behind the views'});
	my (%comment, %signatures);

	cmp_ok(scalar @all, '>=', 26, 'functions are found');
	foreach my $f (@all)
	{
		my ($oid, $name, $result, $comment, $public, $monitor, $is_view) = @$f;
		# Input arguments; how a default looks is a matter of taste.
		my @args = grep { !/^OUT / } split /, /, value("SELECT pg_get_function_arguments($oid)");
		my $signature = "$name(" . join(', ', @args) . ") → $result";

		if ($is_view eq 't')
		{
			ok((grep { $_->[0] eq $signature && $_->[1] eq $comment } @behind), "$signature is behind a view");
			is($public, value("SELECT has_table_privilege('public', '$name', 'SELECT')"), "$name: who calls");
			next;
		}
		my $md = $functions->{$name} // next;

		push @{ $comment{$name} }, $comment;
		push @{ $signatures{$name} }, $signature =~ s/::text|::interval|::timestamp with time zone//gr =~ s/'00:00:10'/'10s'/r;
		is($md =~ /^\*Called by\* everybody/m ? 't t' : $md =~ /^\*Called by\* `pg_monitor`/m ? 'f t' :
				$md =~ /^\*Called by\* superusers, until somebody grants EXECUTE/m ? 'f f' : '',
			"$public $monitor", "$name: who calls");
		is($comment =~ /works without preloading/ ? 1 : 0, $md =~ /\*Preloading\* not needed/ ? 1 : 0, "$name: preloading, in the comment")
		  unless $name eq 'pg_tls_hba_rules';
	}
	is(scalar @behind, scalar(grep { $_->[6] eq 't' } @all), 'no other function is behind a view');
	same_names([ keys %$functions ], [ keys %comment ], 'functions');
	foreach my $name (sort keys %comment)
	{
		my $md = $functions->{$name} // next;
		my ($code) = $md =~ /^```\n(.*?)^```$/ms;

		is(names(split /\n/, $code // ''), names(@{ $signatures{$name} }), "$name: signatures");
		is(names(summary($md)), names(@{ $comment{$name} }), "$name: summaries");

		my @columns = records(<<"END");
SELECT DISTINCT ON (n) name, format_type(type, NULL), NULL
FROM pg_proc, unnest(proargnames, proallargtypes, proargmodes) WITH ORDINALITY a (name, type, mode, n)
WHERE proname = '$name' AND mode = 'o' ORDER BY n
END
		if (my ($view) = $md =~ /^Its columns are those of `(\w+)`\.$/m)
		{
			is(names(map { "$_->[0] $_->[1]" } @columns),
				names(map { "$_->[0] $_->[1]" } records("SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = '$view'::regclass AND attnum > 0")),
				"$name: the columns of $view");
			@columns = ();
		}
		same_columns($name, $md, @columns) if @columns;
		unlike($md, qr/^\| column/m, "$name: no columns") if !@columns;
	}

	# What is said of preloading, tried.
	my %call = (
		pg_tls_session => '()', pg_tls_client_chain => '()', pg_tls_client_extensions => '()', pg_tls_client_dn_field => "('CN')",
		pg_tls_issuer_dn_field => "('CN')", pg_tls_serial_hex => '(1)', pg_tls_certificate => "(E'" . slurp($pki->crt('anna')) =~ s/\n/\\n/gr . "')",
		pg_tls_verify => "(E'" . slurp($pki->crt('anna')) =~ s/\n/\\n/gr . "')", pg_tls_server_matches => "('localhost')");

	foreach my $name (sort keys %comment)
	{
		my (undef, undef, $err) = $plain->psql("SELECT * FROM $name" . ($call{$name} // '()'), unix => 1);

		if ($functions->{$name} =~ /\*Preloading\* not needed/) { is($err, '', "$name works without preloading") }
		else
		{
			like($functions->{$name}, qr/\*Preloading\* needed/, "$name: preloading");
			like($err, qr/pg_tls must be loaded/, "$name needs preloading");
		}
	}
};

subtest 'settings' => sub {
	my %settings = map { $_->[0] => $_ } records(<<'END');
SELECT name, boot_val, context, vartype, min_val, max_val, unit, array_to_string(enumvals, ' '), short_desc
FROM pg_settings WHERE name LIKE 'pg_tls.%'
END
	my @rows = rows($chapters->{Settings});

	same_names([ map { bare($_->[0]) } @rows ], [ keys %settings ], 'settings');
	foreach my $row (@rows)
	{
		my ($name, $default, $context, $values, $what) = @$row;
		my (undef, $boot, $real_context, $type, $min, $max, $unit, $enum, $desc) = @{ $settings{ bare($name) } // next };
		my $number = sub { in_units(bare($_[0]), $unit) };

		$name = bare($name);
		is(bare($context), $real_context, "$name: context");
		is($what, $desc, "$name: what it does");
		ok(length($desc // ''), "$name: has a short description");
		if ($type eq 'integer')
		{
			is($number->($default), $boot, "$name: default");
			is(join(' ', map { $number->($_) } split / to /, $values), "$min $max", "$name: range");
		}
		else
		{
			is(bare($default), $boot, "$name: default");
			is(bare($values) =~ tr/,//dr, $type eq 'bool' ? 'on off' : $enum, "$name: values");
		}
		like($chapters->{Settings}, qr/^- .*`\Q$name\E`/m, "$name: more of it") unless $name =~ /save|watch_interval/;
	}
};

# A number with a unit in the unit of a setting.
sub in_units
{
	my ($text, $unit) = @_;
	my %factor = (kB => 1, MB => 1024, GB => 1024 * 1024, ms => 1, s => 1000, min => 60000, d => 86400000);
	my ($number, $own) = $text =~ /^(\d+)([a-zA-Z]*)$/ or return "'$text'";

	return $number unless $own;
	return "'$text' has no unit to be" unless $factor{$own} && $unit && $factor{$unit};
	return $number * $factor{$own} / $factor{$unit};
}

# ------------------------------------------------------------ the sources

my %source = map { s{.*/}{}r => decode_utf8(slurp($_)) } glob "$src/src/*.c $src/src/*/*.c";

# A function's body.
sub body
{
	my ($file, $function) = @_;

	return $source{$file} =~ /^\Q$function\E\(.*?^\}/ms ? $& : die "no $function in $file";
}

sub literals { return map { unescape($_) } $_[0] =~ /"((?:[^"\\]|\\.)*)"/g }

# A string of C as it is read; what is filled in is an ellipsis.
sub unescape
{
	return $_[0] =~ s/\\n/\n/gr =~ s/\\(.)/$1/gr =~ s/%%/%/gr =~ s/%[-.*\d]*(?:l|ll|z)?[sducm]/…/gr =~ s/…{2,}/…/gr;
}

# What stands between the parenthesis at the start of a text and its partner.
sub in_parentheses
{
	my ($text) = @_;
	my ($depth, $end) = (0, 0);

	while ($text =~ /\G(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|([()])|[^"'()]+)/gc)
	{
		next unless $1;
		$depth += $1 eq '(' ? 1 : -1;
		return substr $text, 1, pos($text) - 2 if $depth == 0;
	}
	die 'unbalanced: ' . substr $text, 0, 100;
}

# The strings that are the first argument of such calls.
sub messages
{
	my ($text, $function) = @_;
	my @messages;

	while ($text =~ /\b$function\((?:\w+, \w+, )?((?:\s*(?:"(?:[^"\\]|\\.)*"|\b[A-Z_]+\b))+)/g)
	{
		push @messages, join '', literals($1);
	}
	return @messages;
}

subtest 'findings' => sub {
	my $sql = value(q{SELECT pg_get_viewdef('pg_tls_findings'::regclass)});
	my %kinds = map { $_->[0] => $_ } records('SELECT code, severity, hint, reference FROM pg_tls_finding_codes()');
	my $findings = sections($chapters->{Findings} =~ s/^### .*//mgr, 4);

	is(scalar keys %kinds, 56, 'kinds');
	same_names([ map { bare($_) } keys %$findings ], [ keys %kinds ], 'codes');
	foreach my $code (sort keys %kinds)
	{
		my (undef, $severity, $hint, $ref) = @{ $kinds{$code} };
		my $md = $findings->{"`$code`"} // next;

		like($md, qr/\A\n\Q$severity${\(defined $ref ? " ($ref)" : '')}\E\. \S/, "$code: severity, reference and meaning");
		is(($md =~ /^\*What to do:\* (.*)$/m)[0], $hint, "$code: what to do");
	}

	# Each code can come about: in C, where the compiler knows them, or in the view.
	my ($made) = $sql =~ /\bfound\(code.*/s ? $& : die $sql;
	my @names = map { lc } "$source{'advice.c'} $source{'findings.c'}" =~ /\bFINDING_(\w+)(?!\))\b/g;
	my @prefixes = map { lc } $source{'advice.c'} =~ /VALIDITY_CODES\(FINDING_(\w+)\)/g;

	is(scalar @prefixes, 4, 'codes of what ends');
	is(names(uniq($made =~ /SELECT '(\w+)'::text/g, (grep { my $name = $_; !grep { $_ eq $name } @prefixes } @names),
			map { ("${_}_expired", "${_}_expiring", "${_}_not_yet_valid") } @prefixes)), names(keys %kinds), 'the codes that are made');
};

sub uniq { my %seen; return grep { !$seen{$_}++ } @_ }

subtest 'failure reasons' => sub {
	my @rows = rows($chapters->{'Failure reasons'});

	same_names([ map { bare($_->[0]) } @rows ],
		[ all('SELECT reason FROM pg_stat_tls_handshakes WHERE reason IS NOT NULL') ], 'reasons');
	is(names(grep { !/\|.*\w.*\|.*\w.*\|/ } map { "|$_->[0]|" . join('|', @$_[1 .. 2]) . '|' } @rows), '', 'each is explained');
};

subtest 'values' => sub {
	my ($modes) = body('verify_sql.c', 'is_server_mode');
	my ($triggers) = $source{'reloads.c'} =~ /trigger_names\[\] = \{(.*?)\}/s;
	my ($encryptions) = $source{'session.c'} =~ /encryption_names\[\] = \{(.*?)\}/s;
	my ($reasons) = body('crl.c', 'entry_reason');
	my @returned = map { [ body(@$_) =~ /return (?:[^;]*?\? )?\(?"[^;]*/g ] } [ 'contents.c', 'crl_status' ], [ 'contents.c', 'item_state' ];
	my %expected = (
		encryption => [ literals($encryptions) ],
		chain_status => [ literals(body('verdict.c', 'pgtls_verdict_chain_status')) ],
		crl_status => [ literals(body('verdict.c', 'pgtls_verdict_crl_status')) ],
		'state of a file' => [ uniq(
			map { literals($_) } body('inspect.c', 'compare_file') =~ /state = ([^;]*"[^;]*);/g,
			body('inspect.c', 'find_file') =~ /state = ([^;]*"[^;]*);/g,
			body('crldir.c', 'pgtls_crldir_find') =~ /state = ([^;]*"[^;]*);/g) ],
		'state of a certificate or CRL' => [ literals(join ' ', @{ $returned[1] }) ],
		'status of a CRL' => [ uniq(literals(join ' ', @{ $returned[0] }), body('contents.c', 'answer_crl') =~ /text\(row, "(\w+)"\)/g) ],
		trigger => [ literals($triggers) ],
		result => [ uniq($source{'failure.c'} =~ /store_counter\(rsinfo, "(\w+)"/g) ],
		severity => [ all('SELECT DISTINCT severity FROM pg_tls_finding_codes()') ],
		mode => [ $modes =~ /strcmp\(mode, "(\w+)"\)/g ],
		'reason of a revocation' => [ literals($reasons) ]);

	# On demand is for all of the directory; others are a choice of two.
	$expected{'state of a certificate or CRL'} = [ uniq(@{ $expected{'state of a certificate or CRL'} }) ];
	same_names([ keys %$values ], [ keys %expected ], 'kinds of values');
	foreach my $kind (sort keys %expected)
	{
		same_names([ map { bare($_->[0]) } rows($values->{$kind} // '') ], $expected{$kind}, $kind);
	}
};

subtest 'errors and messages in the log' => sub {
	my $header = TlsCluster->pg_config('includedir-server') . '/utils/errcodes.h';
	my %sqlstate = slurp($header) =~ /#define (ERRCODE_\w+) MAKE_SQLSTATE\(([^)]*)\)/g;
	my %said = (Errors => {}, 'Messages in the log' => {});

	tr/', //d for values %sqlstate;
	cmp_ok(scalar keys %sqlstate, '>', 200, 'codes of errors are known');
	foreach my $file (sort keys %source)
	{
		my $code = $source{$file};

		while ($code =~ /\bereport\(/g)
		{
			my $call = in_parentheses(substr $code, pos($code) - 1);
			my ($level) = $call =~ /^\s*(\w+)/;
			my $log = $level =~ /^(?:LOG|WARNING)$/;
			my ($errcode) = $call =~ /errcode\((\w+)\)/;

			ok($log || $call =~ /errcode/, "$file: an error with a code") or diag $call;
			foreach my $message (messages($call, 'errmsg'))
			{
				my $entry = $said{ $log ? 'Messages in the log' : 'Errors' }{$message} //= {};

				$entry->{codes}{ $sqlstate{$errcode} // "no $errcode" } = 1 if $errcode && !$log;
				$entry->{codes}{ $sqlstate{$errcode} } = 1 if $errcode && $log;
				$entry->{system} = 1 if $call =~ /errcode_for_file_access/;
				$entry->{"Detail: $_"} = 1 for messages($call, 'errdetail');
				$entry->{"Hint: $_"} = 1 for messages($call, 'errhint');
			}
			is(scalar(() = $call =~ /\berr(?:msg|detail|hint)\(/g),
				scalar(map { messages($call, $_) } qw(errmsg errdetail errhint)), "$file: each message was understood")
			  or diag $call;
		}
	}

	# They may be in one place, as functions share them.
	foreach my $chapter (sort keys %said)
	{
		my $entries = sections($chapters->{$chapter}, 4);

		same_names([ map { s/\A`|`\z//gr } keys %$entries ], [ keys %{ $said{$chapter} } ], $chapter);
		foreach my $message (sort keys %{ $said{$chapter} })
		{
			my $md = $entries->{"`$message`"} // next;
			my $entry = $said{$chapter}{$message};

			is(names($md =~ /\b(?=\w*\d)([0-9A-Z]{5})\b/g), names(keys %{ $entry->{codes} // {} }), "$message: SQLSTATE");
			is(!!($md =~ /system's error/), !!$entry->{system}, "$message: or the system's")
			  unless $chapter eq 'Messages in the log';
			is(names(map { tr/*//dr } $md =~ /(\*(?:Detail|Hint):\* `.*)`/g),
				names(map { s/: /: `/r } grep { /^(?:Detail|Hint): / } keys %$entry), "$message: detail and hint");
		}
	}

	# Details that are handed on.
	my @details = (
		messages($source{'pem.c'} =~ s/invalid_input\(input, (?:block->line|input->line|line),/invalid_input(/gr, 'invalid_input'),
		messages($source{'certificate_sql.c'} =~ s/invalid_der\(value,\s+psprintf\(/invalid_der(/gr, 'invalid_der'));

	cmp_ok(scalar @details, '>=', 10, 'details that are handed on');
	is(names($chapters->{Errors} =~ /^`(.*)`$/mg), names(uniq(@details)), '... are those told of');
	like($source{'session.c'}, qr/The client certificate is no longer acceptable: %s\./, 'the detail of a session that ends');
	like($chapters->{'Messages in the log'}, qr/`The client certificate is no longer acceptable: …\.`/, '... is told of');
};

# ------------------------------------------------------------ all documents

sub slug { return lc($_[0]) =~ s/[^\w\- ]//gr =~ tr/ /-/r }

subtest 'links' => sub {
	my (%anchors, $links);

	foreach my $document (@documents)
	{
		my $md = $text{$document} =~ s/^```.*?^```$//msgr;
		my %seen;

		$anchors{$document} = { map { my $s = slug($_); $seen{$s}++ ? ("$s-" . ($seen{$s} - 1) => 1) : ($s => 1) } $md =~ /^#+ (.*)$/mg };
	}
	foreach my $document (@documents)
	{
		my $md = $text{$document} =~ s/^```.*?^```$//msgr;

		while ($md =~ /\[[^][]*\]\(([^()\s]+)\)/g)
		{
			my ($file, $anchor) = split /#/, $1, 2;
			my ($folder) = $document =~ m{^(.*/)};
			my $target = $file eq '' ? $document : ($folder // '') . $file;

			$target =~ s{^\w+/\.\./}{};

			next if $file =~ /^https?:/;
			$links++;
			ok(-e "$src/$target", "$document: $target exists");
			ok($anchors{$target}{$anchor}, "$document: $target has #$anchor") if defined $anchor && $anchors{$target};
		}
	}
	cmp_ok($links, '>', 30, 'there are links');
};

subtest 'names in all documents' => sub {
	my %known = map { $_ => 1 } @view_names, all('SELECT name FROM pg_settings'), all("SELECT proname FROM pg_proc WHERE proname LIKE 'pg\\_%'"), 'pg_tls', 'pg_tls.control';

	# metrics, which the test of the monitoring holds against what is scraped
	$known{$_} = 1 for map { slurp("$src/monitoring/$_") =~ /\b(pg_tls_\w+)/g } qw(alerts.yml dashboard.json);

	foreach my $document (@documents)
	{
		is(names(uniq(grep { !$known{$_} } $text{$document} =~ /(?<![\w.\/-])(pg_(?:stat_)?tls(?:_\w+|\.\w+)?)(?![\w]|\.(?:stat|control|so))/g)), '', "$document: nothing that does not exist");
	}
};

subtest 'the settings of README.md' => sub {
	my ($conf) = $text{'README.md'} =~ /^```\n# postgresql\.conf\n(.*?)^\n/ms;
	my %known = map { $_ => 1 } all('SELECT name FROM pg_settings');
	my @set = $conf =~ /^(\w[\w.]*) =/mg;

	cmp_ok(scalar @set, '>', 5, 'there are some');
	is(names(grep { !$known{$_} } @set), '', 'each server starts with them');
};

# ------------------------------------------------------------ the recipes

sub make_pki
{
	my @years = (not_after => 800 * $DAY);
	my $client = sub { $pki->cert($_[0], subject => "/O=Example/CN=$_[0]", @_[1 .. $#_]) };

	$pki->ca('srvroot', subject => '/CN=Server Root', @years);
	$pki->ca('srvca', issuer => 'srvroot', subject => '/CN=Server CA', @years);
	$pki->cert('server', issuer => 'srvca', kind => 'server', subject => '/CN=db.example.org',
		san => [ 'DNS:db.example.org' ], not_after => 90 * $DAY);
	$pki->cert('renewed', issuer => 'srvca', kind => 'server', subject => '/CN=db.example.org',
		san => [ 'DNS:db.example.org' ], not_after => 180 * $DAY);
	$pki->cert('renewed2', issuer => 'srvca', kind => 'server', subject => '/CN=db.example.org',
		san => [ 'DNS:db.example.org' ], not_after => 270 * $DAY);
	$pki->ca('ca', subject => '/CN=Example CA', @years);
	$pki->ca('newca', subject => '/CN=Example CA 2', @years);
	$client->($_, issuer => 'ca', not_after => 300 * $DAY) for qw(boris carol emil frida);
	$client->('anna', issuer => 'ca', not_after => 20 * $DAY);
	$client->('dora', issuer => 'ca', not_after => 12 * $DAY);
	$pki->revoke('frida', reason => 'keyCompromise');
	$pki->crl($_, next_update => 100 * $DAY) for qw(ca newca);
	mkdir $work;
	return $pki;
}

# The server's files as they are at the start of each recipe, loaded.
sub base_files
{
	spew($c->tls('server.crt'), slurp($pki->chain('server')));
	spew($c->tls('server.key'), slurp($pki->key('server')));
	spew($c->tls('ca.crt'), slurp($pki->crt('ca')));
	spew($c->tls('crl.pem'), slurp($pki->crl_path('ca')));
	$c->query('ALTER SYSTEM RESET ALL', unix => 1);
	$c->set_conf({ ssl_ca_file => 'tls/ca.crt', ssl_crl_file => 'tls/crl.pem' });
	$c->query('SELECT pg_tls_reload(); SELECT pg_stat_tls_reset()', unix => 1);
	return;
}

sub client { return $c->session(cert => $_[0], user => $_[0], host => '127.0.0.1', application_name => 'psql', @_[1 .. $#_]) }

# Somebody was here and went.
sub visit
{
	my ($name, $cert) = @_;

	is(($c->psql('SELECT 1', cert => $cert // $name, user => $name, host => '127.0.0.1'))[0], 0, "$name was here");
	return;
}

sub sorted_out
{
	return $c->poll_query('SELECT verdicts_pending FROM pg_tls_status', 0, unix => 1);
}

# What makes two outputs the same: numbers, hashes and widths do not count, nor
# does whose packages of PostgreSQL and OpenSSL these are, and of when.
sub shape
{
	my ($text) = @_;

	foreach ($text)
	{
		s/\bOpenSSL \d\S* \d+ [A-Z][a-z]+ \d+\b/OpenSSL V/g;
		s/\b(\d+\.\d+) \([^()\n]*\)/$1/g;
		s/(?<=\s)\/\S*\/openssl\.cnf$/F/mg;
		s/(?<=:\d\d)\.\d+\b//g;
		s/\b[0-9a-f]{32}(?:[0-9a-f]{32})?\b/H/g;
		s/[0-9]+/N/g;
		s/[-+]{3,}/-/g;
		s/ +/ /g;
		s/ $//mg;
	}
	return join "\n", split /\n/, $text;
}

# Only the names of columns, for servers on which other things differ.
sub heads
{
	my @lines = split /\n/, $_[0];

	return join "\n", map { $lines[$_] =~ s/ +/ /gr } grep { $_ < $#lines && $lines[ $_ + 1 ] =~ /^-[-+]+$/ } 0 .. $#lines;
}

my $is_the_one = $c->pg_version == 15 && `openssl version` =~ /^OpenSSL 3\.0/;
my ($intro, @recipes) = split /^(?=## )/m, $text{'doc/recipes.md'};
my ($old_cwd, %sessions, %never_seen) = getcwd();
my %env = (PGHOST => $c->sockdir, PGPORT => $c->port, PGUSER => 'postgres', PGDATABASE => 'postgres', PGDATA => $c->datadir,
	PATH => TlsCluster->pg_config('bindir') . ":$ENV{PATH}");

sub run_block
{
	my ($language, $how, $text) = @_;
	my $command = $language eq 'sh' ? [ 'sh', '-e', '-c', $text ] : [ 'psql', '-X', '-q', '-P', 'pager=off', '-v', 'ON_ERROR_STOP=1', '-f', '-' ];
	my $out = '';

	local %ENV = (%ENV, %env);
	IPC::Run::run($command, '<', \($language eq 'sh' ? '' : encode_utf8($text)), '>&', \$out, IPC::Run::timeout($TlsCluster::TIMEOUT));
	return ($? >> 8, decode_utf8($out) =~ s/ +$//mgr =~ s/\n+\z/\n/r =~ s/\A\n+//r);
}

# By number: what is the case before it, before each of its blocks, and what
# has to be in the output of each in the end.
my $secret = "$dir/secret";
my %setup = (
	1 => sub {
		$c->query("CREATE ROLE legacy LOGIN PASSWORD 'sesame'", unix => 1);
		$sessions{legacy} = $c->session(user => 'legacy', ssl => 'disable', host => '127.0.0.1', password => 'sesame', application_name => 'stocktaking');
		ok($sessions{legacy}->connected, 'a client in clear text');
		$env{PGPASSWORD} = 'sesame';
	},
	2 => sub {
		$c->query("CREATE ROLE $_ LOGIN", unix => 1) for qw(anna boris carol dora emil frida);
		visit('dora');
		$pki->sign_again('dora', not_after => 300 * $DAY);
		visit('dora');
		$pki->cert('emil', issuer => 'ca', subject => '/O=Example/CN=emil', not_after => 5 * $DAY);
		visit('emil');
		# his other computer's, which renews nothing
		$pki->cert('emil2', issuer => 'ca', subject => '/O=Example/OU=Laptop/CN=emil', not_after => 300 * $DAY);
		visit('emil', 'emil2');
		$sessions{$_} = client($_) for qw(anna boris);
	},
	3 => sub {
		spew("$work/new-ca.crt", slurp($pki->crt('newca')));
		spew("$work/new-ca.crl", slurp($pki->crl_path('newca')));
		$sessions{boris} = client('boris');
		visit('anna');
	},
	4 => sub {
		$sessions{$_} = client($_) for qw(boris carol);
		$pki->revoke('carol', reason => 'cessationOfOperation');
		$pki->crl('ca', next_update => 100 * $DAY, out => "$work/ca.crl");
	},
	5 => sub {
		mkdir "$dir/lineage";
		spew("$dir/lineage/fullchain.pem", slurp($pki->chain('renewed')));
		spew("$dir/lineage/privkey.pem", slurp($pki->key('renewed')));
	},
	6 => sub {
		$pki->crl('ca', next_update => 100 * $DAY);
		spew($c->tls('crl.pem'), slurp($pki->crl_path('ca')));
		$c->query("ALTER SYSTEM SET pg_tls.invalid_sessions = 'terminate'; SELECT pg_tls_reload()", unix => 1);
		$sessions{$_} = client($_) for qw(anna boris);
		ok($c->refused(undef, cert => 'frida', user => 'frida', host => '127.0.0.1'), 'frida is kept out');
	},
	7 => sub {
		$sessions{$_} = client($_) for qw(anna boris);
	},
	8 => sub {
		visit('anna');
		$sessions{boris} = client('boris');
		ok($c->refused(undef, cert => 'frida', user => 'frida', host => '127.0.0.1'), 'frida is kept out');
		spew("$work/frida.crt", slurp($pki->crt('frida')));
		spew("$work/ca.crt", slurp($pki->crt('ca')));
		spew("$work/ca.crl", slurp($pki->crl_path('ca')));
	},
	10 => sub {
		$sessions{boris} = client('boris');
	});
my %before = (
	'3/6' => sub {
		$pki->cert('newanna', issuer => 'newca', subject => '/O=Example/CN=anna', not_after => 300 * $DAY);
		visit('anna', 'newanna');
	},
	'3/8' => sub {
		$sessions{boris}->close;
		$pki->cert('newboris', issuer => 'newca', subject => '/O=Example/CN=boris', not_after => 300 * $DAY);
		$sessions{boris} = client('boris', cert => 'newboris');
		ok($sessions{boris}->connected, 'boris has connected with his new certificate');
		$c->poll_query(q{SELECT count(*) FROM pg_stat_tls WHERE issuer_dn = '/CN=Example CA'}, 0, unix => 1);
	},
	'4/6' => sub {
		ok($c->refused(undef, cert => 'carol', user => 'carol', host => '127.0.0.1'), 'carol cannot return');
	},
	'5/3' => sub {
		local %ENV = (%ENV, %env, RENEWED_LINEAGE => "$dir/lineage");

		$ENV{RENEWED_DOMAINS} = 'www.example.org';
		is(system("$work/certbot-hook"), 0, 'the hook leaves other certificates alone');
		is(slurp($c->tls('server.crt')), slurp($pki->chain('server')), '... indeed');
		$ENV{RENEWED_DOMAINS} = 'www.example.org db.example.org';
		is(system("$work/certbot-hook"), 0, 'the hook runs');
		is((stat $c->tls('server.key'))[2] & 07777, 0600, '... and the key is for the server alone');
	},
	'5/4' => sub {
		mkdir $secret;
		swap_secret('renewed');
	},
	'5/5' => sub { swap_secret('renewed2') },
	'7/5' => sub {
		return if $c->pg_version < 18;
		$sessions{anna}->close;
		$sessions{anna} = client('anna');
	},
	'9/2' => sub {
		spew($c->tls('server.crt'), slurp($pki->chain('renewed')));
	},
	'9/3' => sub {
		spew($c->tls('server.key'), slurp($pki->key('renewed')));
	});
my %expect = (
	'1/1' => qr/legacy +\| 127.0.0.1 +\| stocktaking/,
	'1/2' => qr/legacy +\| 127.0.0.1 +\| +1/,
	'1/3' => qr/hba_clear_text +\| line 3/,
	'1/5' => qr/FATAL:  connection is not encrypted/,
	'1/6' => qr/legacy .*encryption_required/,
	'2/1' => qr/\A[^\n]*\n[^\n]*\n emil [^\n]*\n anna [^\n]*\n\(2 rows\)/,
	'2/2' => qr/anna .*\(1 row\)/s,
	'2/3' => qr/\(0 rows\)/,
	'3/2' => qr/ t  \| +\| \{\}$/m,
	'3/3' => qr/ t +\| +\d/,
	'3/4' => qr/Example CA +\| loaded +\| t .*Example CA 2 +\| loaded +\| t .*\(2 rows\)/s,
	'3/5' => qr/anna +\| \/O=Example\/CN=anna .*boris +\| \/O=Example\/CN=boris /s,
	'3/7' => qr/CN=boris +\| untrusted .*\(1 row\)/s,
	'3/8' => qr/^ +0$/m,
	'3/9' => qr/ t +\| +\d/,
	'4/1' => qr/carol +\| +[0-9a-f]+ \| \/CN=Example CA /,
	'4/3' => qr/CN=carol +\| certificate revoked\n\(1 row\)/,
	'4/4' => qr/ t +\| +\d/,
	'4/5' => qr/^ +0$/m,
	'4/6' => qr/127.0.0.1 +\| certificate_revoked +\| certificate revoked +\| \/O=Example\/CN=carol/,
	'4/7' => qr/cessationOfOperation/,
	'5/3' => qr/watch +\| t/,
	'5/4' => qr/ t +\| \d/,
	'5/5' => qr/watch +\| t/,
	'5/6' => qr/ssl_cert_file +\| current.*ssl_key_file +\| current/s,
	'6/1' => qr/ t +\| t .*tls +\| +2 /s,
	'6/2' => qr/\(0 rows\)/,
	'6/3' => qr/Example CA +\| t.*Example CA +\| current.*certificate_revoked +\| +1 /s,
	'6/4' => qr/Example CA .*[0-9a-f]{64}/,
	'6/5' => qr/ssl_key_file \| \w+ +\| 0600 \| *$/m,
	'6/6' => qr/anna +\| cert .*boris +\| cert /s,
	'6/7' => qr/ f +\| OpenSSL/,
	'6/8' => qr/terminate +\| +0/,
	'6/9' => qr/hba_clear_text/,
	'7/1' => qr/ f +\| +2| t +\| +2/,
	'7/2' => qr/(?:anna .*boris |\(0 rows\))/s,
	'7/3' => qr/OpenSSL/,
	'7/4' => qr/^ t$/m,
	'7/5' => qr/anna +\| X25519MLKEM768 +\| t\n boris +\| \w+ +\| f\n/,
	'8/1' => qr/certificate_revoked.*certificate revoked.*CN=frida/s,
	'8/2' => qr/ f +\| t/,
	'8/3' => qr/certificate_revoked +\| +1 /,
	'8/4' => qr/ f +\| revoked +\| revoked .*CN=frida/s,
	'9/2' => qr/the server could not load its TLS files.*key values mismatch/s,
	'9/3' => qr/^loaded: generation \d+, certificate until \d/m,
	'9/5' => qr/^loaded: generation \d+/m,
	'10/1' => qr/ t +\| t /,
	'10/2' => qr/severity/);

# A Secret as kubelet mounts it: files are links into ..data, which is one, too.
sub swap_secret
{
	my ($name) = @_;

	mkdir "$secret/..$name";
	spew("$secret/..$name/tls.crt", slurp($pki->chain($name)));
	spew("$secret/..$name/tls.key", slurp($pki->key($name)));
	chmod 0600, "$secret/..$name/tls.key";
	symlink "..$name", "$secret/..data_tmp" or die $!;
	rename "$secret/..data_tmp", "$secret/..data" or die $!;
	symlink "..data/$_", "$secret/$_" for qw(tls.crt tls.key);
	return;
}

# What is never NULL, by the reference, is not.
sub check_never
{
	my ($when) = @_;

	my $pem = slurp($pki->crt('boris'));
	my %from = (
		(map { $_ => "$_()" } qw(pg_tls_check pg_tls_crl_entries pg_tls_hba_rules pg_tls_client_chain pg_tls_client_extensions)),
		(map { $_ => "$_('$pem')" } qw(pg_tls_certificate pg_tls_verify)));

	foreach my $name (sort keys %$views, keys %from)
	{
		my @never = map { bare($_->[0]) } grep { $_->[3] eq 'never' } rows($views->{$name} // $functions->{$name});
		my $sql = join ', ', 'SELECT count(*)', map { qq{bool_or("$_" IS NULL)} } @never;
		my ($rows, @null);

		$sql .= ' FROM ' . ($from{$name} // $name);
		($rows, @null) = $name =~ /client_(?:chain|ext)/ ? split /\|/, $c->query($sql, cert => 'boris', user => 'boris', host => '127.0.0.1') : @{ (records($sql))[0] };
		is(names(map { $never[$_] } grep { ($null[$_] // '') eq 't' } 0 .. $#never), '', "$when: never NULL in $name");
		$never_seen{$name} = 1 if $rows;
	}
	return;
}

is(scalar @recipes, 10, 'ten recipes');
chdir $work or die "$work: $!";
foreach my $i (0 .. $#recipes)
{
	my $number = $i + 1;

	my ($title) = $recipes[$i] =~ /^## (.*)/;
	subtest $title => sub {
		my $block = 0;

		$_->close for grep { defined } delete @sessions{ keys %sessions };
		$c->poll_query('SELECT count(*) FROM pg_stat_tls WHERE pid <> pg_backend_pid()', $s->alive ? 1 : 0, unix => 1);
		base_files();
		like($title, qr/^$number\. /, 'number');
		$setup{$number}->() if $setup{$number};
		sorted_out();
		$recipes[$i] =~ s{^(```(sql|sh)(?: ([^\n]*))?\n(.*?)^```\n)(\n```\n)?(?(5)(.*?)(^```\n))}{
			my ($all, $language, $how, $text, $open, $output, $close) = ($1, $2, $3 // '', $4, $5, $6, $7);

			"$all" . (defined $open ? $open . try_block($number, ++$block, $language, $how, $text, $output) . $close : do { try_block($number, ++$block, $language, $how, $text); '' })
		}gmse;
		cmp_ok($block, '>=', 2, 'blocks were run');
		check_never("after recipe $number") if $number =~ /^[268]$/;
	};
}
chdir $old_cwd;
is(names(grep { !$never_seen{$_} } @view_names), '', 'each view had rows');
spew($ENV{PG_TLS_RECIPES}, encode_utf8(join '', $intro, @recipes)) if $ENV{PG_TLS_RECIPES};

# Run a block and judge its output; returns that.
sub try_block
{
	my ($number, $block, $language, $how, $text, $output) = @_;
	my $key = "$number/$block";
	my $name = "block $key";
	my ($loaded, $rc, $out);

	$before{$key}->() if $before{$key};
	if ($text =~ /^#!.*\n# ([\w-]+):/)
	{
		spew("$work/$1", encode_utf8($text));
		chmod 0755, "$work/$1" or die $!;
		return '';
	}
	if ($how =~ /postgresql-(\d+)/ && ($c->pg_version < $1 || $old_openssl || `openssl list -kem-algorithms 2>/dev/null` !~ /MLKEM768/))
	{
		note "$name: not on this server";
		return $output // '';
	}
	$text =~ s{/etc/postgresql/tls}{$secret}g;
	$loaded = value('SELECT pg_conf_load_time()');
	if ($how =~ /acts/ || $language eq 'sh')
	{
		($rc, $out) = run_block($language, $how, $text);
		like($out, $expect{$key}, "$name: outcome") if $expect{$key};
	}
	else
	{
		# What others do about it takes a moment.
		ok($c->poll_until(sub { ($rc, $out) = run_block($language, $how, $text); !$expect{$key} || $rc || $out =~ $expect{$key} }, what => $name),
			"$name: outcome") or diag $out;
	}
	if ($how =~ /fails/) { isnt($rc, 0, "$name fails") }
	else { is($rc, 0, "$name runs") or diag $out }
	ok($expect{$key} || $how =~ /acts/ || $language eq 'sh', "$name: its outcome is looked at");
	is($expect{$key} ? 1 : 0, defined $output ? 1 : 0, "$name: output is shown where it is looked at");
	if ($text =~ /pg_reload_conf/)
	{
		$c->poll_query("SELECT pg_conf_load_time() > '$loaded'", 't', unix => 1);
	}
	if (defined $output && !$ENV{PG_TLS_RECIPES})
	{
		if ($is_the_one) { is(shape($out), shape($output), "$name: output as shown") }
		else { is(heads($out), heads($output), "$name: columns as shown") }
	}
	return $out =~ s/\Q$secret\E/\/etc\/postgresql\/tls/gr =~ s/\n?\z/\n/r;
}

$_->close for grep { defined } delete @sessions{ keys %sessions };
$s->close;
$c->stop;
$plain->stop;
done_testing();

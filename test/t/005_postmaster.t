# What runs in the postmaster, and in whatever process is called by its address,
# is what src/README lists: by the graph of calls that the compiler tells.  And
# the three walks in it are there.

use strict;
use warnings;

use File::Temp ();
use List::Util qw(sum0);
use Test::More;

use TlsSource;

my $src = $ENV{PG_TLS_SRC} or plan skip_all => 'PG_TLS_SRC does not name the sources';
my $s = TlsSource->new($src);
my $dir = File::Temp->newdir;
my $calls = $s->calls($dir) or plan skip_all => 'needs gcc 10 or later';
my $postmaster = $calls->postmaster;

is_deeply([ $calls->wrong_lists ], [], 'what is called by its address or name is in one list');
is_deeply([ $calls->wrong_postmaster ], [], 'what runs in the postmaster is listed, and nothing else')
  or diag "What runs there, but for the roots:\n", $calls->as_listed(grep { $postmaster->{$_} } keys %$postmaster);
is_deeply([ $calls->wrong_walks ], [], 'the three walks');
is_deeply([ $s->wrong_arrows($calls->arrows, 'uses') ], [], 'calls and variables point downward, and make no circle');

note scalar($calls->functions), ' functions; ', sum0(map { scalar keys %$_ } values %{ $calls->arrows }),
  ' arrows between modules, by their functions and variables';
note scalar(keys %$postmaster), ' functions run in the postmaster; their bodies have ',
  $calls->body_lines(keys %$postmaster), ' lines';
foreach my $walk (sort keys %{ $s->walks })
{
	my @files = $calls->walk_files($walk);

	note "$walk: passes ", scalar(@files), ' files: ', join ', ', @files;
}

# To record a load is one thing, and to prepare what was loaded another: that is
# done before a fork, and nowhere else.
sub preparing
{
	my ($graph) = @_;
	my $source = $graph->{source};
	my %not_made = (%{ $source->not_made }, 'server/load.c:pgtls_load_before_fork -> server/load.c:prepare_loaded' => '');
	my $roots = $source->listed($source->parts('What Others Call')->{'In the postmaster'});
	my $recording = $graph->reached(\%not_made, grep { !/:(?:verify_nothing|compare_names|crl_\w+)\z/ } sort keys %$roots);

	return $recording unless wantarray;
	return map { "$_ is called by $recording->{$_}" }
	  grep { exists $recording->{$_} } map { "server/prepare.c:$_" } qw(pgtls_prepare_context pgtls_prepare_forget);
}

is_deeply([ preparing($calls) ], [], 'what records a load prepares nothing');
my @recording = grep { exists $postmaster->{$_} } keys %{ scalar preparing($calls) };
my @loads = grep { m{^server/(?:load|history)\.c:} } @recording;
note scalar(@recording), ' of them do not prepare, of ', $calls->body_lines(@recording), ' lines; those of load.c and history.c have ',
  $calls->body_lines(@loads);

# ------------------------------------------------------ what is wrong, is found

# What is said of a changed source by one of the methods, and not of this.
sub found
{
	my ($name, $method, $mutant, @expected) = @_;
	my %known = map { $_ => 1 } $calls->$method;
	my @found = grep { !$known{$_} } $mutant->calls($dir)->$method;

	is_deeply(\@found, \@expected, "found: $name");
}

# Sources in which a function does something first, and a file has more at its
# end, that file or another.
sub doing
{
	my ($function, $statement, $file, $more) = @_;
	my $body = $calls->body($function);
	my ($home) = $function =~ /\A(.*):/;
	my $mutant = $s->edit($home, sub { s/\Q$body\E/$body =~ s{\A\{}{\{ $statement}r/e });

	return defined $file ? $mutant->edit($file, sub { $_ .= "\n$more\n" }) : $mutant;
}

# One that runs in the postmaster, and one that does not.
my ($inside) = grep { $postmaster->{$_} && /\.c:/ } sort keys %$postmaster;
my ($outside) = grep { !exists $postmaster->{$_} && !$calls->{taken}{$_} && $calls->{called}{$_} && /\.c:/ }
  $calls->functions;
my ($home) = $inside =~ /\A(.*):/;
my $stranger = 'pgtls_test_stranger';
my $declared = "extern void $stranger(void);";
my $defined = "void $stranger(void) {}";

found('a call of an unlisted function', 'wrong_postmaster', doing($inside, "$declared $stranger();", $home, $defined),
	"$home:$stranger runs in the postmaster and is not listed: $inside calls it");
found('one in another file', 'wrong_postmaster', doing($inside, "$declared $stranger();", 'pg_tls.c', $defined),
	"pg_tls.c:$stranger runs in the postmaster and is not listed: $inside calls it");
found('one by way of a static function of a listed name', 'wrong_postmaster',
	doing($inside, "extern void ${stranger}_2(void); ${stranger}_2();", 'pg_tls.c',
		"static void context_freed(void) {} void ${stranger}_2(void) { context_freed(); }"),
	"pg_tls.c:context_freed runs in the postmaster and is not listed: pg_tls.c:${stranger}_2 calls it",
	"pg_tls.c:${stranger}_2 runs in the postmaster and is not listed: $inside calls it");
found('one behind a condition that is never true', 'wrong_postmaster',
	doing($inside, "$declared volatile int never = 0; if (never) $stranger();", $home, $defined),
	"$home:$stranger runs in the postmaster and is not listed: $inside calls it");

is_deeply([ preparing(doing('server/load.c:commit_pending', '(void) pgtls_prepare_context(NULL, false);')->calls($dir)) ],
	['server/prepare.c:pgtls_prepare_context is called by server/load.c:commit_pending'], 'found: what records a load prepares it');

my ($low) = grep { TlsSource::room(s/:.*//r) eq 'base' && /\.c:/ } $calls->functions;
foreach my $how (
	[ 'a call', doing($low, "$declared $stranger();", 'hooks.c', $defined) ],
	[ 'an address', doing($low, "$declared extern int atexit(void (*) (void)); atexit($stranger);", 'hooks.c', $defined) ],
	[ 'a variable', doing($low, "extern int $stranger; $stranger++;", 'hooks.c', "int $stranger;") ])
{
	my ($name, $mutant) = @$how;
	my @upward = grep { /above/ } $s->wrong_arrows($mutant->calls($dir)->arrows, 'uses');

	is_deeply(\@upward, [ ($low =~ s/\.c:.*//r) . ' uses hooks, which is above it' ], "found: $name that points upward");
}

# Functions that are called by their address.
my $giving = "$declared extern int atexit(void (*) (void)); atexit($stranger);";
my $comparing = "$declared static void (*hook) (void); if (hook == $stranger) return;";
my $table = "static void $stranger(void) {}\nvoid (*const ${stranger}_table[]) (void) = {$stranger};\n";

foreach my $how (
	[ 'a callback', doing($inside, $giving, $home, $defined), $home, $inside ],
	[ 'one of another file', doing($outside, $giving, $home, $defined), $home, $outside ],
	[ 'a function that is compared with a hook', doing($outside, $comparing, $home, $defined), $home, $outside ],
	[ 'one in a table', $s->edit($home, sub { $_ .= $table }), $home, "$home:${stranger}_table" ])
{
	my ($name, $mutant, $file, $taker) = @$how;

	found("$name in no list", 'wrong_lists', $mutant,
		"$file:$stranger is in no list, and its address is taken: by $taker");
}
found('a function of a name in no list', 'wrong_lists', $s->edit($home, sub { $_ .= "$defined\n" }),
	"$home:$stranger is in no list, and no function calls it");
found('one that the loader calls', 'wrong_lists',
	$s->edit($home, sub { $_ .= "static void __attribute__((constructor)) $stranger(void) {}\n" }),
	"$home:$stranger is in no list, and no function calls it");

# A function of which it is known who calls it.
foreach my $statement ("emit_log_hook = (void *) $stranger;", "(void) pthread_atfork(NULL, (void *) $stranger, NULL);",
	"X509_STORE_get_ex_new_index(0, NULL, NULL, NULL, (void *) $stranger);",
	"X509_CRL_METHOD_new(NULL, NULL,\n\t\t(void *) $stranger, NULL);",
	"DefineCustomBoolVariable(\"pg_tls.test\", \"A test; no more.\", NULL, NULL, false,"
	  . " 0, 0, NULL, (void *) $stranger, NULL);")
{
	my ($callee) = $statement =~ /\A(?:\(void\) )?(\w+)/;
	my $more = "static void $stranger(void) {}\nvoid ${stranger}_2(void) { $statement }\n";
	my $mutant = $s->edit('hooks.c', sub { $_ .= $more })->edit('README', sub {
		s/^In workers:\n/$&\n    hooks.c: $stranger\n/m;
		s/^At module initialization:\n/$&\n    hooks.c: ${stranger}_2\n/m;
	});

	found("what is given to $callee in another list", 'wrong_lists', $mutant,
		"hooks.c:$stranger is given to $callee, and not in the list \"In the postmaster\"");
}

# Sources of which src/README has more, after a line that may be a title.
sub saying
{
	my ($line, $more) = @_;

	return $s->edit('README', sub { s/^\Q$line\E\n(?:-+\n)?/$&$more/m });
}

my ($callback) = grep { $calls->{taken}{$_} } sort keys %$postmaster;
my ($worker) = grep { /_main\z/ && !$calls->{called}{$_} } $calls->functions;
my ($outside_file, $outside_name) = split /:/, $outside;
my ($worker_file, $worker_name) = split /:/, $worker;

found('a list entry of what does not exist', 'wrong_lists', saying('In a backend:', "\n    $home: $stranger\n"),
	"$home:$stranger is in a list and does not exist");
found('one of what is called by its name alone', 'wrong_lists',
	saying('In a backend:', "\n    $outside_file: $outside_name\n"),
	"$outside is in a list, and its address is not taken");
found('one in two lists', 'wrong_lists', saying('In a backend:', "\n" . ($callback =~ s/\A(.*):/    $1: /r) . "\n"),
	"$callback is in several lists: In the postmaster, In a backend");
found('no entry for a worker', 'wrong_lists',
	$s->edit('README', sub { s/^( +\Q$worker_file\E: [^:]*?)\b$worker_name\b,?/$1/m }),
	"$worker is in no list, and no function calls it");
found('a stale entry', 'wrong_postmaster', saying('What Runs in the Postmaster', "\n    $outside_file: $outside_name\n"),
	"$outside is listed and does not run in the postmaster");
found('an entry of what does not exist', 'wrong_postmaster', saying('What Runs in the Postmaster', "\n    $home: $stranger\n"),
	"$home:$stranger is listed and does not exist");

# What raises errors or waits.
found('memory that may not be there', 'wrong_postmaster',
	doing($inside, 'extern void *palloc0(unsigned long); (void) palloc0(1);'),
	"the postmaster has the call $inside -> palloc0");
found('an exception that is none', 'wrong_postmaster', saying('Except that:', "\n    $inside -> LWLockAcquire\n"),
	"the postmaster has no call $inside -> LWLockAcquire");

# Calls that are not made.
my ($not_made) = sort keys %{ $s->not_made };
my $what = $s->not_made->{$not_made};

found('a condition that is gone', 'wrong_postmaster',
	$s->edit('README', sub {
		s/^( +(\S+) ->\s+(\S+)\n +if )\Q$what\E$/"$2 -> $3" eq $not_made ? "$1Mars == Venus" : $&/gem;
	}),
	"nothing keeps $not_made from being made: there is no Mars == Venus");
found('a call that there is not', 'wrong_postmaster',
	saying('What Does Not', "\n    $inside -> $outside\n        if MyProcPort\n"),
	"the postmaster has no call $inside -> $outside");

# The walks.
my ($walk) = sort keys %{ $s->walks };

found('a step that does not exist', 'wrong_walks', saying("$walk:", "\n    $home:$stranger\n"),
	"$walk: $home:$stranger does not exist");
found('a step that nothing leads to', 'wrong_walks', saying("$walk:", "\n    $outside\n"),
	"$walk: no file before $outside calls it");
my @gone = grep { TlsSource::room($_) eq 'client' } $calls->walk_files($walk);
my @detour = $s->edit('README', sub { s/^( +)\Q$gone[0]\E:\w+$/$1(left out)/gm })->calls($dir)->wrong_walks;
ok((grep { /\A\Q$walk\E: \S+ leads to \Q$gone[0]\E:\w+, which is not on the way\z/ } @detour),
	'found: a file that is left out')
  or diag explain \@detour;

done_testing();

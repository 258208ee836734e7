package TlsSource;

=head1 NAME

TlsSource - the sources of pg_tls: rooms, includes, calls, and what src/README
says of them

=head1 SYNOPSIS

	my $s = TlsSource->new($ENV{PG_TLS_SRC});
	my @sentences = $s->wrong_includes;         # empty if all is well
	my $mutant = $s->edit('base/row.c', sub { s/^/#include "hooks.h"\n/ });

	my $calls = $s->calls($dir) // plan skip_all => 'needs gcc';
	@sentences = $calls->wrong_lists;

=head1 DESCRIPTION

Rooms are the directories of src/.  Files, functions and rooms are named
relative to it: C<base/row.c>, C<base/row.c:pgtls_row_store>, C<base>; the room
of what is in src/ itself is the empty string.  A module is a C<.c> and the
C<.h> of the same name.

src/README has, in sections of these names, and in lines that are indented:

=over

=item Map

each room, from the top to the bottom, and in it each file, with what it is for;
C<[ch]> stands for a file and its header.

	    hooks.[ch]      calls the rooms in their order
	    base/           knows nothing of TLS
	      row.[ch]      rows of SQL functions

=item Three Walks

after a line that ends in a colon, the functions that one passes; each is called
from a file that was passed before, or by its address or name.  What it and the
functions of its file call in other files is on the way, too, but for x509/ and
base/, unless only a part of the function is:

	    client/session.c:describe_session
	        what the session is
	    work/monitor.c:pgtls_monitor_main (in part)

=item What Others Call

functions that are called by their address or by their name, each in one list:

	In the postmaster:

	    server/load.c: context_freed, before_fork

=item What Runs in the Postmaster

what those of the first list call there, in such lines.  A star follows what
not every version has or calls.  After the line "Not to be called there:" names
of functions of PostgreSQL, of the C library and of OpenSSL, of which a star
stands for any rest; after "Except that:", such calls that are made all the same:

	    pg_tls.c:shmem_startup -> LWLockAcquire

=item What Does Not

calls that stand in a function of the postmaster's and are made elsewhere alone,
with a text of that function which keeps them from being made:

	    hooks.c:log_message -> client/failure.c:pgtls_failure_note
	        if MyProcPort != NULL

=back

The graph of calls is gcc's (C<-fdump-ipa-cgraph>), before anything is inlined;
its C<-fcallgraph-info> tells where functions are.

=cut

use strict;
use warnings;

use Carp qw(croak);
use File::Basename qw(basename dirname);
use File::Find ();
use File::Path qw(make_path);

use TlsPKI qw(slurp spew);

# At most so many lines has a file.
our $MAX_LINES = 750;

# Where functions stand that are called by address or by name.
our @LISTS = (
	'In the postmaster',
	'In a backend before authentication',
	'In a backend',
	'In workers',
	'At module initialization');

my $FILE = qr{(?:[\w-]+/)*[\w-]+\.[ch]};

=head1 FILES AND INCLUDES

=head2 TlsSource->new($top)

The tree whose src/ is in a directory.

=cut

sub new
{
	my ($class, $top) = @_;
	my %text;

	File::Find::find({ no_chdir => 1, wanted => sub {
		$text{ $File::Find::name =~ s{^\Q$top\E/src/}{}r } = slurp($File::Find::name)
		  if /\.[ch]\z/ || $File::Find::name eq "$top/src/README";
	} }, "$top/src");
	return bless { top => $top, text => \%text }, $class;
}

=head2 $s->edit($file, $change)

A copy in which a file is another: it is in C<$_>, undef for a new one.  Has to
change something.

=cut

sub edit
{
	my ($self, $file, $change) = @_;
	my %text = %{ $self->{text} };

	{
		local $_ = $text{$file};
		$change->();
		croak "the edit of $file changes nothing" if ($_ // '') eq ($text{$file} // '');
		$text{$file} = $_;
		delete $text{$file} unless defined;
	}
	return bless { top => $self->{top}, text => \%text }, ref $self;
}

sub files { my @files = sort grep { $_ ne 'README' } keys %{ $_[0]{text} }; return @files }
sub text { return $_[0]{text}{ $_[1] } }
sub lines { return scalar(() = $_[0]{text}{ $_[1] } =~ /\n/g) }
sub room { return $_[0] =~ m{\A(.*)/} ? $1 : '' }
sub module { return $_[0] =~ s/\.[ch]\z//r }

# C without comments, each line where it was.
sub code
{
	my ($self, $file) = @_;

	return $self->{text}{$file} =~
	  s{("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|/\*.*?\*/|//[^\n]*}{ $1 // "\n" x ($& =~ tr/\n//) }gesr;
}

# The path that a name in a directory has, without . and ..
sub plain_path
{
	my ($dir, $name) = @_;
	my @parts;

	foreach (split m{/}, $dir eq '' || $name =~ m{\A/} ? $name : "$dir/$name")
	{
		if ($_ eq '..' && @parts && $parts[-1] ne '..') { pop @parts }
		elsif ($_ ne '.' && $_ ne '') { push @parts, $_ }
	}
	return ($name =~ m{\A/} ? '/' : '') . join '/', @parts;
}

=head2 $s->includes

For each file the files of ours that it includes, by whatever name.

=cut

sub includes
{
	my ($self) = @_;

	return $self->{includes} //= do
	{
		my %includes;

		foreach my $file ($self->files)
		{
			my $code = $self->code($file) =~ s/\\\n//gr;

			$includes{$file} = [];
			while ($code =~ /^[ \t]*(?:#|%:)[ \t]*(?:include|include_next|import)\b[ \t]*(.*?)[ \t]*$/mg)
			{
				my $what = $1;
				my ($name) = $what =~ /\A["<](.+)[">]\z/;

				if (!defined $name)
				{
					push @{ $self->{unclear} }, "$file includes what only the preprocessor knows: $what";
					next;
				}

				# as the compiler looks for it
				my ($found) = grep { exists $self->{text}{$_} }
				  ($what =~ /\A"/ ? plain_path(room($file), $name) : ()), plain_path('', $name);

				push @{ $self->{unclear} }, "$file includes \"$name\", which is no header" if $name !~ /\.h\z/;
				next unless defined $found;
				push @{ $includes{$file} }, $found;
				push @{ $self->{unclear} }, "$file includes \"$name\", which is \"$found\""
				  if $what ne "\"$found\"";
			}
		}
		\%includes;
	};
}

# From what arrows go out, and where to, of files: those of modules.
sub module_arrows
{
	my ($arrows) = @_;
	my %modules;

	foreach my $file (keys %$arrows)
	{
		my $from = module($file);

		$modules{$from} //= {};
		foreach my $to (map { module($_) } @{ $arrows->{$file} })
		{
			$modules{$from}{$to} = 1 if $to ne $from;
		}
	}
	return \%modules;
}

sub arrows
{
	my ($self) = @_;

	return module_arrows($self->includes);
}

# Groups whose members all reach one another.
sub circles
{
	my ($arrows) = @_;
	my (%reach, %done, @circles);

	foreach my $from (keys %$arrows)
	{
		my @todo = keys %{ $arrows->{$from} };

		while (defined(my $to = pop @todo))
		{
			push @todo, keys %{ $arrows->{$to} // {} } unless $reach{$from}{$to}++;
		}
	}
	foreach my $from (sort keys %reach)
	{
		next if $done{$from} || !$reach{$from}{$from};

		my @circle = sort grep { $reach{$from}{$_} && $reach{$_}{$from} } keys %reach;

		@done{@circle} = (1) x @circle;
		push @circles, \@circle;
	}
	return @circles;
}

=head2 $s->upward($arrows)

Those arrows between modules that point to a higher room, as pairs; by
src/README's order of rooms.

=cut

sub upward
{
	my ($self, $arrows) = @_;
	my %rank = %{ $self->map->{rank} };
	my @upward;

	foreach my $from (sort keys %$arrows)
	{
		foreach my $to (sort keys %{ $arrows->{$from} })
		{
			my ($above, $below) = map { $rank{ room($_) } } $from, $to;

			push @upward, [ $from, $to ] if defined $above && defined $below && $above > $below;
		}
	}
	return @upward;
}

=head2 $s->wrong_includes, $s->wrong_files, $s->wrong_tests

Sentences on includes that point upward or make a circle, on files and the map,
and on tests of versions where they do not belong.

=cut

sub wrong_arrows
{
	my ($self, $arrows, $verb) = @_;

	return (
		(map { "$_->[0] $verb $_->[1], which is above it" } $self->upward($arrows)),
		(map { join(', ', @$_) . ' ' . ($verb =~ s/s\z//r) . ' one another' } circles($arrows)));
}

sub wrong_includes
{
	my ($self) = @_;
	my @wrong = $self->wrong_arrows($self->arrows, 'includes');

	return (@{ $self->{unclear} // [] }, @wrong);
}

sub wrong_files
{
	my ($self) = @_;
	my $map = $self->map;
	my @wrong = @{ $map->{wrong} };
	my %rooms;

	foreach my $file ($self->files)
	{
		my $lines = $self->lines($file);

		$rooms{ room($file) } = 1;
		push @wrong, "$file is not in the map" unless exists $map->{files}{$file};
		push @wrong, "$file has $lines lines, which are more than $MAX_LINES" if $lines > $MAX_LINES;
	}
	push @wrong, map { "$_ is in the map and does not exist" }
	  grep { !exists $self->{text}{$_} } sort keys %{ $map->{files} };
	push @wrong, map { "the room $_ is in the map and is empty" } grep { !$rooms{$_} } sort keys %{ $map->{rank} };
	push @wrong, map { "the room $_ is not in the map" } grep { !exists $map->{rank}{$_} } sort keys %rooms;
	return @wrong;
}

sub wrong_tests
{
	my ($self) = @_;
	my @wrong;

	foreach my $file ($self->files)
	{
		my $code = $self->code($file) =~ s/\\\n//gr;
		my $tests = join "\n", $code =~ /^[ \t]*#[ \t]*(?:el)?if(?:n?def)?\b.*/mg;

		push @wrong, "$file tests PostgreSQL's version"
		  if $file ne 'base/compat.h' && $code =~ /\b(?:PG_VERSION_NUM|PG_MAJORVERSION(?:_NUM)?|CATALOG_VERSION_NO)\b/;
		push @wrong, "$file tests OpenSSL's version"
		  if $file !~ m{\Abase/ossl\.[ch]\z}
		  && ($code =~ /\bOPENSSL_VERSION_(?:NUMBER|MAJOR|MINOR|PATCH|PREREQ)\b/
			|| $code =~ /\b(?:OpenSSL_version_num|OPENSSL_version_(?:major|minor|patch))\b/
			|| $code =~ /\bHAVE_(?:X509|SSL|EVP|ASN1|OSSL)_/
			|| $tests =~ /\b(?:LIBRESSL|OPENSSL_|OSSL_|SSL_|SSL[23]_|TLS[1-9_]|X509|EVP_|ASN1_|NID_)/);
		push @wrong, "$file installs a hook: $1"
		  if $file !~ m{\A(?:hooks\.c|pg_tls\.c|rehearsal/dryrun\.c|base/compat\.h)\z}
		  && ($code =~ /(?<![\w.>])((?!prev_|next_)\w+_hook)\s*=(?!=)/ || $code =~ /&\s*\(?\s*(\w+_hook)\b/);
		push @wrong, "$file declares what is another file's: $_"
		  foreach $file =~ /\.c\z/ ? $code =~ /^[ \t]*(extern\b[^{;]*;)/mg : ();
	}
	return @wrong;
}

=head1 README

=head2 $s->section($title)

The text below a title.  Dies if there is none.

=cut

sub section
{
	my ($self, $title) = @_;
	my ($text) = ($self->{text}{README} // die "there is no src/README\n") =~
	  /^\Q$title\E\n[-=]+\n(.*?)(?=^\S[^\n]*\n(?:---+|===+)$|\z)/ms;

	return $text // die "src/README has no section \"$title\"\n";
}

=head2 $s->map

The map: C<files>, what each is for; C<rank> of each room, 0 for the highest;
and sentences on what is C<wrong> with it.

=cut

sub map
{
	my ($self) = @_;

	return $self->{map} //= do
	{
		my %map = (files => {}, rank => {}, wrong => []);
		my $room = '';

		foreach ($self->section('Map') =~ /^ +(.*)$/mg)
		{
			if (m{\A([\w-]+(?:/[\w-]+)*)/ {2,}\S})
			{
				push @{ $map{wrong} }, "the room $1 is in the map twice" if exists $map{rank}{$1};
				$map{rank}{ $room = $1 } = keys %{ $map{rank} };
			}
			elsif (/\A([\w-]+\.(?:[ch]|\[ch\]))(?: {2,}(\S.*)|)\z/)
			{
				my ($name, $what) = ($1, $2);

				$map{rank}{''} = 0 if $room eq '';
				push @{ $map{wrong} }, "the map does not say what $name is for" unless defined $what;
				foreach my $file ($name =~ /\[ch\]\z/ ? map { $name =~ s/\[ch\]\z/$_/r } qw(c h) : $name)
				{
					my $path = plain_path($room, $file);

					push @{ $map{wrong} }, "$path is in the map twice" if exists $map{files}{$path};
					$map{files}{$path} = $what // '';
				}
			}
		}
		\%map;
	};
}

# The paragraphs below lines that end in a colon, by those lines without it.
sub parts
{
	my ($self, $title) = @_;
	my (%parts, $part);

	foreach (split /\n/, $self->section($title))
	{
		if (/\A(\S.*):\z/) { $part = $1; $parts{$part} = '' }
		elsif (/\A\S/) { undef $part }
		elsif (defined $part) { $parts{$part} .= "$_\n" }
	}
	return \%parts;
}

# Functions in lines "file: function, function", which indented lines continue.
# Returns what each is followed by: a star, or nothing.
sub listed
{
	my ($self, $text) = @_;
	my (%listed, $file);

	foreach (split /\n/, $text)
	{
		if (s/\A +($FILE): +//) { $file = $1 }
		elsif (!s/\A +(\w+\*?(?:, *\w+\*?)*,?)\z/$1/) { undef $file }
		next unless defined $file;
		$listed{"$file:$1"} = $2 while /(\w+)(\*?)/g;
	}
	return \%listed;
}

sub walks
{
	my ($self) = @_;
	my $parts = $self->parts('Three Walks');

	return { map { my $part = $_; ($part => [ $parts->{$part} =~ /^ +($FILE:\w+)\b/mg ]) } keys %$parts };
}

# Of a walk, the steps that are such in part.
sub in_part
{
	my ($self, $walk) = @_;

	return map { $_ => 1 } $self->parts('Three Walks')->{$walk} =~ /^ +($FILE:\w+) \(in part\)/mg;
}

# Of calls that are not made in the postmaster, what keeps them from it.
sub not_made
{
	my ($self) = @_;
	my $text = $self->section('What Does Not');
	my %not_made;

	$not_made{"$1 -> $2"} = $3 while $text =~ /^ +($FILE:\w+) ->\s+((?:$FILE:)?\w+)\n +if (.+)$/mg;
	return \%not_made;
}

=head1 CALLS

=head2 $s->calls($dir)

The graph of calls, worked out in a directory that it may use as it likes; undef
if the compiler is not gcc, or not able to tell.  Its methods follow.

=cut

my %units;    # by what was compiled

# The compiler of PGXS, and what it tells the preprocessor.
sub compiler
{
	my ($top) = @_;
	my $config = $ENV{PG_CONFIG} // 'pg_config';
	my $make = "make -s --no-print-directory -C $top with_llvm=no PG_CONFIG=$config";
	my $told = `$make --eval='told: ; \$(info \$(CC)) \$(info \$(CPPFLAGS)) \@:' told`;
	my ($cc, $flags) = $told =~ /\A(.*)\n(.*)\n\z/;

	croak 'make does not tell the compiler' unless defined $flags;
	return ($cc, $flags);
}

sub calls
{
	my ($self, $dir) = @_;
	my ($cc, $flags) = @{ $self->{compiler} //= [ compiler($self->{top}) ] };
	my $copy = "$dir/tree";
	my (@units, %calls);

	return undef if `$cc -dM -E - </dev/null` !~ /^#define __GNUC__ (\d+)/m || $1 < 10 || `$cc --version` =~ /clang/;

	# the sources as this object has them
	system('rm', '-rf', $copy) == 0 or die;
	foreach my $file ($self->files)
	{
		make_path(dirname("$copy/src/$file"));
		spew("$copy/src/$file", $self->{text}{$file});
	}
	my $headers = join "\0", map { $_, $self->{text}{$_} } grep { /\.h\z/ } $self->files;

	foreach my $file (grep { /\.c\z/ } $self->files)
	{
		my $key = join "\0", $cc, $flags, $file, $self->{text}{$file}, $headers;

		push @units, $units{$key} //= unit($copy, $file, "$dir/out", "$cc $flags");
	}
	return TlsSource::Calls->new($self, @units);
}

# What a file defines, calls, and takes the address of.
sub unit
{
	my ($copy, $file, $out, $compile) = @_;
	my %unit = (file => $file, at => {}, static => {}, calls => {}, taken => {}, variables => {}, uses => {});

	system('rm', '-rf', $out) == 0 && mkdir $out or die;
	my $options = "-U_FORTIFY_SOURCE -O0 -w -S -o $out/unit.s -fdump-ipa-cgraph=$out/cgraph -fcallgraph-info";
	my $told = `cd $copy && $compile $options src/$file 2>&1`;
	die "$file does not compile:\n$told" if $? != 0;

	# Where they are: node: { title: "T" label: "NAME\nFILE:LINE:COLUMN" }, and
	# an ellipse is for what is only declared.
	my ($info) = glob "$out/*.ci" or die "no call graph of $file\n";
	my $nodes = slurp($info);

	while ($nodes =~ /^node: \{ title: "([^"]+)" label: "([^"\\]+)\\n([^"\\]+?):(\d+):\d+(?:\\n[^"]*)?"([^}]*)\}/mg)
	{
		my ($title, $name, $where, $line, $rest) = ($1, $2, $3, $4, $5);

		next if $rest =~ /ellipse/;
		$unit{at}{$name} = [ plain_path('', $where) =~ s{\Asrc/}{}r, $line ];
		$unit{static}{$name} = 1 if $title =~ /:/;
	}

	# All symbols, before anything is removed.
	my ($table) = slurp("$out/cgraph") =~ /^Initial Symbol table:\n(.*?)^(?:Removing|Reclaimed)/ms;
	my ($symbol, $is_variable);

	foreach (split /\n/, $table // die "no symbols of $file\n")
	{
		if (m{\A(\S+)/\d+ \(}) { $symbol = $1 }
		elsif (/\A +Type: /) { $is_variable = /variable definition/ }
		elsif (/\A +Visibility:.* public\b/) { $unit{variables}{$symbol} = 1 if $is_variable }
		elsif (/\A +References: (.*)/)
		{
			my $list = $1;

			while ($list =~ m{(\S+)/\d+ \((\w+)\)}g)
			{
				$unit{uses}{$symbol}{$1} = 1;
				$unit{taken}{$1}{$symbol} = 1 if $2 eq 'addr';
			}
		}
		elsif (/\A +Calls: (.*)/)
		{
			my $list = $1;

			$unit{calls}{$symbol}{$1} = 1 while $list =~ m{([A-Za-z_][\w.\$]*)/\d+}g;
		}
	}
	return \%unit;
}

package TlsSource::Calls;

use strict;
use warnings;

# Nodes are functions, "file:name", where the file is below src/ if it is ours
# and an absolute path if not; and bare names, of what is defined elsewhere.
sub new
{
	my ($class, $source, @units) = @_;
	my $self = bless { source => $source, calls => {}, taken => {}, line => {}, called => {}, arrows => {} }, $class;
	my (%public, %variable);

	foreach my $unit (@units)
	{
		$variable{$_} = $unit->{file} foreach keys %{ $unit->{variables} };
		foreach my $name (keys %{ $unit->{at} })
		{
			$public{$name} = "$unit->{at}{$name}[0]:$name" unless $unit->{static}{$name};
		}
	}
	foreach my $unit (@units)
	{
		my $node = sub {
			my ($name) = @_;

			return "$unit->{at}{$name}[0]:$name" if $unit->{static}{$name};
			return $public{$name} // $name;
		};

		foreach my $name (keys %{ $unit->{at} })
		{
			my $function = $node->($name);

			$self->{line}{$function} = $unit->{at}{$name}[1];
			foreach my $callee (map { $node->($_) } keys %{ $unit->{calls}{$name} // {} })
			{
				$self->{calls}{$function}{$callee} = 1;
				$self->{called}{$callee}{$function} = 1;
			}
		}
		foreach my $name (keys %{ $unit->{uses} })
		{
			my $file = $unit->{at}{$name} ? $unit->{at}{$name}[0] : $unit->{file};

			push @{ $self->{arrows}{$file} }, map { $variable{$_} // $node->($_) } keys %{ $unit->{uses}{$name} };
		}
		foreach my $name (keys %{ $unit->{taken} })
		{
			$self->{taken}{ $node->($name) }{"$unit->{file}:$_"} = 1 for keys %{ $unit->{taken}{$name} };
		}
	}
	$self->{public} = \%public;
	$self->{functions} = { map { $_ => 1 } grep { m{\A[^/:]+(?:/[^/:]+)*:} } keys %{ $self->{line} } };
	return $self;
}

=head2 $calls->functions

Those of ours.

=head2 $calls->reached($not_made, @roots)

What runs when those are called, they among it, apart from calls that are not
made; a hash of nodes, with the function that calls each.

=cut

sub functions { my @functions = sort keys %{ $_[0]{functions} }; return @functions }

sub reached
{
	my ($self, $not_made, @roots) = @_;
	my %reached = map { $_ => '' } @roots;
	my @todo = @roots;

	while (defined(my $from = shift @todo))
	{
		foreach my $to (sort keys %{ $self->{calls}{$from} // {} })
		{
			next if exists $reached{$to} || exists $not_made->{"$from -> $to"};
			$reached{$to} = $from;
			push @todo, $to;
		}
	}
	return \%reached;
}

=head2 $calls->body($function)

The text of its body, from the brace at the beginning of a line on.

=head2 $calls->body_lines(@functions)

How many lines the bodies have.

=cut

sub body
{
	my ($self, $function) = @_;
	my ($file) = $function =~ /\A(.*):/;
	my @lines = split /\n/, $self->{source}->text($file);
	my $first = $self->{line}{$function} - 1;
	my $last;

	# a function that a macro makes is in its line
	$first++ while $first < $#lines && $lines[$first] !~ /[{;]/;
	$last = $first;
	$last++ while $lines[$first] =~ /\A\{/ && $last < $#lines && $lines[$last] !~ /\A\}/;
	return join '', map { "$_\n" } @lines[ $first .. $last ];
}

sub body_lines
{
	my ($self, @functions) = @_;
	my $lines = 0;

	$lines += $self->body($_) =~ tr/\n// foreach @functions;
	return $lines;
}

=head2 $calls->arrows

Those between modules: whose functions or variables one uses.

=cut

sub arrows
{
	my ($self) = @_;
	my %arrows;

	foreach my $from (keys %{ $self->{arrows} })
	{
		push @{ $arrows{$from} }, map { s/:.*//r } @{ $self->{arrows}{$from} };
	}
	foreach my $from ($self->functions)
	{
		push @{ $arrows{ $from =~ s/:.*//r } }, map { s/:.*//r } keys %{ $self->{calls}{$from} // {} };
	}

	# of our files only
	my %ours = map { $_ => 1 } $self->{source}->files;

	return TlsSource::module_arrows({ map { my $from = $_; ($from => [ grep { $ours{$_} } @{ $arrows{$from} } ]) }
		grep { $ours{$_} } keys %arrows });
}

=head2 $calls->postmaster

The functions of ours that run in the postmaster, with who calls each.

=cut

sub postmaster
{
	my ($self) = @_;
	my $source = $self->{source};
	my $roots = $source->listed($source->parts('What Others Call')->{ $TlsSource::LISTS[0] } // '');
	my $reached = $self->reached($source->not_made, grep { $self->{functions}{$_} } sort keys %$roots);

	return { map { $_ => $reached->{$_} } grep { $self->{functions}{$_} } keys %$reached };
}

=head2 $calls->as_listed(@functions)

Lines for src/README that list them.

=cut

sub as_listed
{
	my ($self, @functions) = @_;
	my (%names, $text);

	foreach (sort @functions)
	{
		push @{ $names{$1} }, $2 if /\A(.*):(.*)\z/;
	}
	foreach my $file (sort keys %names)
	{
		my $line = "    $file:";

		foreach my $name (join(",\n", @{ $names{$file} }) =~ /.+/g)
		{
			if (length("$line $name") > 79)
			{
				$text .= "$line\n";
				$line = '       ';
			}
			$line .= " $name";
		}
		$text .= "$line\n";
	}
	return $text // '';
}

# Is there such a function in the text, if another version than this compiles it?
sub is_in_text
{
	my ($self, $function) = @_;
	my ($file, $name) = $function =~ /\A(.*):(.*)\z/;

	return ($self->{source}->text($file) // '') =~ /^\Q$name\E\(/m;
}

# Does a macro of ours name it, which some version uses?
sub is_in_macro
{
	my ($self, $name) = @_;
	my $source = $self->{source};

	return scalar grep { ($source->code($_) =~ s/\\\n/ /gr) =~ /^#define\b.*\b\Q$name\E\b/m } $source->files;
}

=head2 $calls->wrong_lists

Sentences on functions whose address is taken, or that nobody calls, and the
lists of such.

=head2 $calls->wrong_postmaster

Sentences on what runs in the postmaster and its list.

=head2 $calls->wrong_walks

Sentences on the three walks.

=cut

sub wrong_lists
{
	my ($self) = @_;
	my $source = $self->{source};
	my $parts = $source->parts('What Others Call');
	my %list_of;
	my @wrong;

	foreach my $list (@TlsSource::LISTS)
	{
		foreach my $function (sort keys %{ $source->listed($parts->{$list} // '') })
		{
			push @{ $list_of{$function} }, $list;
		}
		push @wrong, "there is no list \"$list\"" unless exists $parts->{$list};
	}

	my $initial = $self->reached({}, grep { "@{ $list_of{$_} }" eq $TlsSource::LISTS[-1] } keys %list_of);

	foreach my $function ($self->functions)
	{
		my ($file, $name) = $function =~ /\A(.*):(.*)\z/;
		my @takers = sort keys %{ $self->{taken}{$function} // {} };

		next if $list_of{$function};
		push @wrong, "$function is in no list, and its address is taken: by " . join ', ', @takers if @takers;

		# what PG_MODULE_MAGIC and PG_FUNCTION_INFO_V1 define, and the latter names
		next if $name =~ /\APg_magic_func\z|\Apg_finfo_/ || $self->{functions}{"$file:pg_finfo_$name"};
		push @wrong, "$function is in no list, and no function calls it"
		  if !@takers && !$self->{called}{$function} && !$self->is_in_macro($name);
	}

	# What PostgreSQL and OpenSSL call there, as it is given to them there or
	# before.  (A dry run has hooks of its own, in its worker.)
	my $lists = join '|', @TlsSource::LISTS[ 0, -1 ];
	my $callers = 'pthread_atfork|X509_CRL_METHOD_new|DefineCustom\w+Variable';
	my $giving = $self->reached({}, grep { "@{ $list_of{$_} }" =~ /\A(?:$lists)\z/ } keys %list_of);

	foreach my $file ($source->files)
	{
		my $code = $source->code($file) =~ s/"(?:[^"\\\n]|\\.)*"/""/gr;
		my @given;

		push @given, [ $1, $2 ] while $code =~ /\b(emit_log_hook|openssl_tls_init_hook|shmem_startup_hook)\s*=\s*([^;]*)/g;
		push @given, [ $1, $2 ]
		  while $code =~ /\b((?:CRYPTO|SSL_CTX|X509|X509_STORE)_get_ex_new_index|$callers)\s*\(([^;]*)\)/g;
		foreach my $given (@given)
		{
			my ($to, $what) = @$given;

			push @wrong, map { "$_ is given to $to, and not in the list \"$TlsSource::LISTS[0]\"" }
			  grep { "@{ $list_of{$_} // [] }" ne $TlsSource::LISTS[0] }
			  grep { grep { exists $giving->{$_} } keys %{ $self->{taken}{$_} // {} } }
			  map { ("$file:$_", $self->{public}{$_} // ()) } $what =~ /(\w+)/g;
		}
	}

	# What the postmaster hands on runs there, or in backends from their start on.
	my %early = map { $_ => 1 } @TlsSource::LISTS[ 0, 1 ];
	my $postmaster = $self->postmaster;

	foreach my $function (sort keys %list_of)
	{
		my @lists = @{ $list_of{$function} };

		push @wrong, map { "$function is in a list of what runs later, and $_, in the postmaster, takes its address" }
		  grep { exists $postmaster->{$_} } sort keys %{ $self->{taken}{$function} // {} } if !grep { $early{$_} } @lists;
		push @wrong, "$function is in several lists: " . join ', ', @lists if @lists > 1;
		if (!$self->{functions}{$function})
		{
			push @wrong, "$function is in a list and does not exist" unless $self->is_in_text($function);
		}
		elsif (!$self->{taken}{$function} && $self->{called}{$function}
			&& !grep { exists $initial->{$_} } keys %{ $self->{called}{$function} })
		{
			push @wrong, "$function is in a list, and its address is not taken";
		}
	}
	return @wrong;
}

sub wrong_postmaster
{
	my ($self) = @_;
	my $source = $self->{source};
	my $roots = $source->listed($source->parts('What Others Call')->{ $TlsSource::LISTS[0] } // '');
	my $section = $source->section('What Runs in the Postmaster');
	my $listed = $source->listed($section =~ s/^\S[^\n]*:\n.*//msr);
	my $not_made = $source->not_made;
	my $runs = $self->postmaster;
	my @wrong;

	foreach my $function (sort keys %$runs)
	{
		push @wrong, "$function runs in the postmaster and is not listed: $runs->{$function} calls it"
		  unless exists $roots->{$function} || exists $listed->{$function};
	}
	foreach my $function (sort keys %$listed)
	{
		if (exists $roots->{$function}) { push @wrong, "$function is listed twice" }
		elsif (exists $runs->{$function}) { next }
		elsif (!$self->is_in_text($function)) { push @wrong, "$function is listed and does not exist" }
		elsif ($self->{functions}{$function} && $listed->{$function} ne '*')
		{
			push @wrong, "$function is listed and does not run in the postmaster";
		}
	}

	# What raises errors, waits, or opens files; by way of inline functions, too.
	my $parts = $source->parts('What Runs in the Postmaster');
	my @names = ($parts->{'Not to be called there'} // '') =~ /(\w+\*?)/g;
	my ($pattern) = map { qr/\A(?:$_)\z/ } join '|', map { s/\*/.*/r } @names;
	my %except = map { $_ => 1 } ($parts->{'Except that'} // '') =~ /^ +(\S+ -> \w+)$/mg;
	my $all = $self->reached($not_made, keys %$runs);

	push @wrong, 'nothing is said not to be called in the postmaster' unless @names;
	foreach my $from (sort keys %$all)
	{
		foreach my $call (map { "$from -> $_" } sort keys %{ $self->{calls}{$from} // {} })
		{
			next if exists $not_made->{$call} || $call !~ /(\w+)\z/ || $1 !~ $pattern;
			push @wrong, "the postmaster has the call $call" unless delete $except{$call};
		}
	}
	push @wrong, map { "the postmaster has no call $_" } sort keys %except;

	foreach my $call (sort keys %$not_made)
	{
		my ($from, $to) = split / -> /, $call;

		if (!exists $runs->{$from} || !$self->{calls}{$from}{$to}) { push @wrong, "the postmaster has no call $call" }
		elsif (index($self->body($from) =~ s/\s+/ /gr, $not_made->{$call}) < 0)
		{
			push @wrong, "nothing keeps $call from being made: there is no $not_made->{$call}";
		}
	}
	return @wrong;
}

# What a function and those of its file that it calls call in other files, above
# x509/ and base/.
sub crossed
{
	my ($self, $step) = @_;
	my ($home) = $step =~ /\A(.*):/;
	my @todo = ($step);
	my (%seen, %crossed);

	while (defined(my $from = pop @todo))
	{
		next if $seen{$from}++;
		foreach my $to (grep { $self->{functions}{$_} } keys %{ $self->{calls}{$from} // {} })
		{
			my ($file) = $to =~ /\A(.*):/;

			if ($file eq $home) { push @todo, $to }
			elsif (TlsSource::room($file) !~ /\A(?:x509|base)\z/) { $crossed{$file} = $to }
		}
	}
	return \%crossed;
}

# Each step is called by one before it, or by others: in other processes, too.
sub wrong_walks
{
	my ($self) = @_;
	my $walks = $self->{source}->walks;
	my @wrong;

	foreach my $walk (sort keys %$walks)
	{
		my %in_part = $self->{source}->in_part($walk);
		my %files = map { $_ => 1 } $self->walk_files($walk);
		my %passed;    # files

		foreach my $step (@{ $walks->{$walk} })
		{
			if (!$self->{functions}{$step})
			{
				push @wrong, "$walk: $step does not exist" unless $self->is_in_text($step);
			}
			elsif ($self->{called}{$step} && !$self->{taken}{$step}
				&& !grep { /\A(.*):/ && $passed{$1} } keys %{ $self->{called}{$step} })
			{
				push @wrong, "$walk: no file before $step calls it";
			}
			$passed{$1} = 1 if $step =~ /\A(.*):/;

			my $crossed = $in_part{$step} ? {} : $self->crossed($step);

			push @wrong, map { "$walk: $step leads to $crossed->{$_}, which is not on the way" }
			  grep { !$files{$_} } sort keys %$crossed;
		}
		push @wrong, "$walk: has no steps" unless %passed;
	}
	return @wrong;
}

=head2 $calls->walk_files($walk)

The files that a walk passes, each once.

=cut

sub walk_files
{
	my ($self, $walk) = @_;
	my %files = map { (/\A(.*):/)[0] => 1 } @{ $self->{source}->walks->{$walk} };
	my @files = sort keys %files;

	return @files;
}

1;

# Sourced by test/run and test/demo: installs packages, and builds and installs
# pg_tls from a temporary copy of the checkout.
#
# The caller defines say and die, and removes $tmp at its end.  In this order:
#
#   setup_packages [PACKAGE...]  installs what is missing, and those packages;
#                                sets is_root, major, pg_config
#   setup_copy                   sets user (who runs servers), tmp, build
#   setup_monitoring             unpacks what the test of monitoring/ runs
#   setup_pgindent               sets pgindent, the directory that has it, or
#                                empty; needs setup_packages and tmp
#   setup_install [FLAG...]      builds with those compiler flags, and installs,
#                                what is in $build
#
# as_user runs a command as $user.  PG_MAJOR and PG_CONFIG choose the server,
# PG_TLS_COPT has more flags.

# shellcheck shell=bash disable=SC2034

tmp=
is_root=
if [ "$(id -u)" = 0 ]; then is_root=1; fi

# ---------------------------------------------------------------- packages

packages() {
	if [ -z "${PG_CONFIG:-}" ]; then
		echo "postgresql-$major"             # the server
		echo "postgresql-server-dev-$major"  # its headers and PGXS
	fi
	echo libpq-dev            # pg_config wants it; a C client
	echo libssl-dev           # the TLS library's headers
	echo libkrb5-dev          # libpq's headers include the GSSAPI's
	echo gcc libc6-dev make   # build
	echo openssl              # certificates, and s_client
	echo perl                 # the tests
	echo libipc-run-perl      # their background processes
}

# What only the tests need.
test_packages=(
	krb5-kdc            # the GSSAPI test has a realm of its own
	krb5-admin-server   # ... makes its principals
	krb5-user           # ... and gets a ticket
	python3-psycopg2    # a driver other than psql
	python3-cryptography-vectors  # NIST's certificates and CRLs
)

# Those that the chroots of test/matrix, which leave LLVM out, are not to have.
host_packages=(
	clang               # the fuzzer
	libclang-rt-dev     # ... its library, and the sanitizers
)

# Where the host's own packages of Debian come from, or PG_TLS_MIRROR.
debian_mirror() {
	local mirror=${PG_TLS_MIRROR:-}
	if [ ! "$mirror" ]; then
		mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
			sed -n 's,/debian/*$,/debian,p' | sort -u | sed -n 1p) || :
	fi
	echo "$mirror"
}

# What the metapackage of the distribution depends on.
default_major() {
	{ apt-cache show postgresql 2>/dev/null || :; } |
		sed -n 's/^Depends:.*postgresql-\([0-9][0-9]*\).*/\1/p' | sed -n 1p
}

missing_packages() {
	local p
	for p in $(packages) "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
}

# The tests start servers of their own.
no_main_cluster() {
	local conf=/etc/postgresql-common/createcluster.conf
	if grep -qs '^[[:space:]]*create_main_cluster' "$conf"; then
		sed -i 's/^[[:space:]]*create_main_cluster.*/create_main_cluster = false/' "$conf"
	else
		mkdir -p "${conf%/*}"
		echo 'create_main_cluster = false' >>"$conf"
	fi
}

apt_updated=
apt_update() {
	if [ -z "$apt_updated" ]; then apt-get update -qq; fi
	apt_updated=1
}

setup_packages() {
	local missing

	major=${PG_MAJOR:-}
	if command -v dpkg-query apt-get >/dev/null; then
		if [ -z "$major${PG_CONFIG:-}" ]; then major=$(default_major); fi
		if [ -z "$major${PG_CONFIG:-}" ] && [ "$is_root" ]; then apt_update; major=$(default_major); fi

		missing=$(missing_packages "$@")
		if [ "$missing" ] && [ "$is_root" ]; then
			say "installing" $missing
			case $missing in *postgresql-"$major"*) no_main_cluster ;; esac
			apt_update
			# The second variable keeps the file just written.
			DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
				apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null
		elif [ "$missing" ]; then
			say "not installed, and only root can:" $missing
		fi
	fi

	pg_config=${PG_CONFIG:-/usr/lib/postgresql/$major/bin/pg_config}
	if [ -z "${PG_CONFIG:-}" ] && [ ! -x "$pg_config" ]; then
		pg_config=$(command -v pg_config) || die 'there is no pg_config; set PG_CONFIG'
	fi
}

# --------------------------------------------------- a copy to build and test

# copy_checkout FROM TO: what git has or would add; all, if there is no git.
copy_checkout() {
	local from=$1 to=$2 file list status=0

	list=$(mktemp)
	mkdir "$to"
	# safe.directory: root may run this in the checkout of another user.
	if git -C "$from" -c safe.directory='*' ls-files -co --exclude-standard -z >"$list" 2>/dev/null; then
		# A file may be in the index only.
		while IFS= read -r -d '' file; do
			if [ -e "$from/$file" ] || [ -L "$from/$file" ]; then printf '%s\0' "$file"; fi
		done <"$list" | tar -c -C "$from" --null --no-recursion -T - | tar -x -C "$to" || status=$?
	else
		tar -c -C "$from" --exclude=./.git . | tar -x -C "$to" || status=$?
	fi
	rm -f "$list"
	return "$status"
}

# Elsewhere than in the checkout, which stays clean and which the user of the
# tests may not be able to read.
setup_copy() {
	local top

	top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
	if [ "$is_root" ]; then
		user=postgres
		tmp=$(mktemp -d /tmp/pg_tls.XXXXXX)
	else
		user=$(id -un)
		tmp=$(mktemp -d "${TMPDIR:-/tmp}/pg_tls.XXXXXX")
	fi
	build=$tmp/build

	mkdir "$tmp/tmp" "$tmp/log" "$tmp/template"
	copy_checkout "$top" "$build"
	chmod 755 "$tmp"
	chmod -R a+rX "$build"
	if [ "$is_root" ]; then chown -R "$user": "$tmp"; fi
	cd "$build"
}

as_user() {
	local env=(env HOME="$tmp" TMPDIR="$tmp/tmp" LC_ALL=C TZ=UTC PG_CONFIG="$pg_config" "$@")
	if [ "$is_root" ]; then runuser -u "$user" -- "${env[@]}"; else "${env[@]}"; fi
}

# -------------------------------------------------- the monitoring's programs

# Not installed: their packages would start daemons.  Of Debian 12, since other
# versions have other formats.  Without them a test is left out, so that a
# failure is only told.
monitoring=/var/cache/pg_tls/monitoring
monitoring_packages=(prometheus prometheus-postgres-exporter prometheus-sql-exporter check-pgactivity)

# shellcheck source=/dev/null
setup_monitoring() {
	local new=$tmp/monitoring deb

	if [ ! "$is_root" ] || [ -d "$monitoring" ] || [ -e /etc/pg_tls-matrix ] ||
		[ "$(. /etc/os-release 2>/dev/null && echo "$ID $VERSION_ID")" != 'debian 12' ]; then
		return
	fi
	say "unpacking ${monitoring_packages[*]}"
	mkdir -p "$new" "${monitoring%/*}"
	if (
		cd "$new" || exit
		download=(apt-get download -qq -o APT::Sandbox::User=root "${monitoring_packages[@]}")
		"${download[@]}" 2>/dev/null || { apt_update && "${download[@]}"; } || exit
		for deb in *.deb; do dpkg-deb -x "$deb" . && rm "$deb" || exit; done
	) && mv "$new" "$monitoring.$$"; then
		# Somebody else may have done the same now.
		mv -T "$monitoring.$$" "$monitoring" 2>/dev/null || rm -rf "$monitoring.$$"
	else
		say "cannot get ${monitoring_packages[*]}"
	fi
}

# ------------------------------------------------------------------- pgindent

# It and pg_bsd_indent come with the headers of PostgreSQL 17 and later.  Where
# they are older: from Debian 13's, and the C library that they need with them.
pgindent=
setup_pgindent() {
	local dir=/var/cache/pg_tls/pgindent new=$tmp/pgindent mirror apt

	for pgindent in ${PG_TLS_PGINDENT:+"$PG_TLS_PGINDENT"} "$("$pg_config" --bindir)" "$dir"; do
		if "$pgindent/pg_bsd_indent" --version 2>/dev/null | grep -q ' 2\.1\.2 ' &&
			[ -x "$pgindent/pgindent" ]; then
			return
		fi
	done
	pgindent=
	mirror=$(debian_mirror)
	if [ ! "$is_root" ] || [ ! "$mirror" ] || [ -e /etc/pg_tls-matrix ]; then return; fi

	say 'unpacking pgindent'
	mkdir -p "$new/apt/lists/partial" "$new/bin" "${dir%/*}"
	echo "deb $mirror trixie main" >"$new/apt/sources.list"
	apt=(apt-get -qq -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$new/apt/sources.list"
		-o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$new/apt/lists"
		-o "Dir::Cache=$new/apt")
	if (
		cd "$new" || exit
		"${apt[@]}" update || exit
		"${apt[@]}" download postgresql-server-dev-17 libc6 || exit
		for deb in *.deb; do dpkg-deb -x "$deb" all || exit; done
		mv all/usr/lib/postgresql/17/bin/pgindent all/usr/lib/*/libc.so.6 bin || exit
		mv all/usr/lib/postgresql/17/bin/pg_bsd_indent bin/program || exit
		mv all/usr/lib/*/ld-linux* bin/ld.so || exit
		cat >bin/pg_bsd_indent <<-'END'
			#!/bin/sh
			dir=${0%/*}
			exec "$dir/ld.so" --library-path "$dir" "$dir/program" "$@"
		END
		chmod 755 bin/pg_bsd_indent
		bin/pg_bsd_indent --version | grep -q ' 2\.1\.2 '
	); then
		# Somebody else may have done the same now.
		mv "$new/bin" "$dir.$$"
		mv -T "$dir.$$" "$dir" 2>/dev/null || rm -rf "$dir.$$"
		pgindent=$dir
	else
		say 'cannot get pgindent'
	fi
	rm -rf "$new"
}

# ------------------------------------------------------------ build, install

# Whether everything below $tmp/stage is installed.
installed() {
	local file
	while IFS= read -r -d '' file; do
		cmp -s "$tmp/stage$file" "$file" || return 1
	done < <(cd "$tmp/stage" && find . -type f -printf '/%P\0')
}

# The map of prefixes makes builds in different directories the same to the
# byte.  Without LLVM: clang would be needed, for what the server can do without.
setup_install() {
	local copt="-ffile-prefix-map=$build=. $* ${PG_TLS_COPT:-}"
	local make=(make -s "PG_CONFIG=$pg_config" with_llvm=no "COPT=$copt")

	say "building with $("$pg_config" --version)"
	as_user "${make[@]}" clean
	as_user "${make[@]}" -j "$(nproc)"
	as_user "${make[@]}" install "DESTDIR=$tmp/stage" >/dev/null

	if installed; then
		:
	elif [ "$is_root" ]; then
		"${make[@]}" install >/dev/null
	elif sudo -n true 2>/dev/null; then
		sudo -n "${make[@]}" install >/dev/null
	else
		die "the pg_tls installed is not this one: run this as root"
	fi
}

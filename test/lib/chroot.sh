# Sourced by test/matrix and test/package: commands in chroots.
#
# As root; nothing stays mounted, and no process stays.

# shellcheck shell=bash

# A command in namespaces that go with it, mounts and servers included.
contained() {
	unshare --mount --pid --ipc --fork --kill-child --propagation private "$@"
}

# inside ROOT TMP COMMAND...: in a chroot whose /tmp is TMP
inside() {
	local root=$1 tmp=$2
	shift 2
	# shellcheck disable=SC2016
	contained bash -euc '
		root=$1 tmp=$2
		shift 2
		mount -t proc proc "$root/proc"
		mount --bind /dev "$root/dev"
		mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
		mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
		mount --bind "$tmp" "$root/tmp"
		if [ -e /etc/resolv.conf ] && [ -e "$root/etc/resolv.conf" ]; then
			mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
		fi
		status=0
		chroot "$root" "$@" || status=$?
		exit "$status"
	' bash "$root" "$tmp" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
		LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive ${CI:+CI="$CI"} "$@"
}

#!/bin/sh
# SPDX-License-Identifier: MIT
# Tests on real verbs without the hardware: boots the distribution's kernel under qemu with Soft-RoCE and runs inside.sh there,
# on the root of this machine, which the guest sees but can't write. See README.md.
#   guest.sh         the tests
#   guest.sh shell   a shell in the guest, with its hosts up; `exit` ends the guest
# Nothing is installed, and no root is needed. What is fetched and made stands in build/rdma. Variables:
#   TUTTI_TEST_ACCEL   kvm or tcg; default: kvm where it boots a guest, which is tried once
#   TUTTI_TEST_LIMIT   seconds until the guest is ended, by default 1200
#   TUTTI_TEST_ONLY    names of tests; default: all
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
dir=$top/build/rdma
kernel=$dir/kernel
limit=${TUTTI_TEST_LIMIT:-1200}
rm -f "$dir/report.log"

skip_all() {
	for t in $("$here/inside.sh" list); do echo "[  SKIPPED ] $t: $1"; done
	exit 0
}

bad() {
	printf '%s\n[  FAILED  ] the_guest\n[  FAILED  ] 1 test(s), listed below: the_guest\n' "$1"
	exit 1
}

# The newest kernel that the distribution has; only what the guest loads is unpacked.
fetch_kernel() {
	package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: *\(linux-image-[0-9].*\)/\1/p')
	[ -n "$package" ] || { echo "linux-image-amd64 is not in the package lists (apt-get update)"; return 1; }
	[ "$(cat "$kernel/package" 2>/dev/null)" != "$package" ] || return 0
	rm -rf "$kernel" && mkdir -p "$kernel" && cd "$kernel" || return 1
	apt-get download "$package" >apt.log 2>&1 || { echo "apt-get download $package: $(tail -1 apt.log)"; return 1; }
	set -- crypto arch/x86/crypto fs/9p fs/fscache fs/netfs fs/overlayfs fs/configfs net/9p drivers/virtio \
		net/ipv4/udp_tunnel.ko net/ipv6/ip6_udp_tunnel.ko drivers/net/veth.ko drivers/infiniband/core drivers/infiniband/sw
	dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinuz-*' './lib/modules/*/modules.*' \
		$(printf './lib/modules/*/kernel/%s ' "$@") || { echo "can't unpack $package"; return 1; }
	rm -f ./*.deb
	busybox depmod -b "$kernel" "$(ls lib/modules)" || return 1
	echo "$package" >package
}

make_initramfs() {
	root=$dir/root
	rm -rf "$root" && mkdir -p "$root/bin" "$root/lib" "$root/proc" "$root/sys" "$root/dev" \
		"$root/host" "$root/layer" "$root/new" &&
		cp "$(command -v busybox)" "$root/bin/" && cp "$here/init" "$root/init" &&
		chmod 755 "$root/init" && cp -r "$kernel/lib/modules" "$root/lib/" || return 1
	for a in sh mount mkdir modprobe poweroff sed tr stty setsid chroot; do ln -s busybox "$root/bin/$a"; done
	(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initramfs"
	rm -rf "$root"
}

# boot ACCELERATOR SECONDS PROGRAM: its output is ours. In the foreground: a signal to our group ends the guest, too.
boot() {
	timeout --foreground -k 5 "$2" qemu-system-x86_64 -accel "$1" -cpu max -smp 2 -m 2048 -nic none -display none \
		-no-reboot -kernel "$kernel"/boot/vmlinuz-* -initrd "$dir/initramfs" \
		-append "console=ttyS0 panic=-1 rdma_dir=$top rdma_run=$3" \
		-virtfs local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on \
		-serial "file:$dir/console.log" -serial stdio
}

# A virtual machine may have /dev/kvm, and no guest that comes up with it.
accelerator() {
	if [ ! -w /dev/kvm ]; then
		echo tcg
	elif [ ! -s "$dir/accel" ]; then
		boot kvm 15 /bin/true >/dev/null 2>&1 </dev/null && echo kvm >"$dir/accel" || echo tcg >"$dir/accel"
	fi
	cat "$dir/accel" 2>/dev/null
}

[ "$(uname -m)" = x86_64 ] || skip_all "needs an x86_64 machine"
for p in qemu-system-x86_64 busybox apt-get dpkg-deb; do
	command -v $p >/dev/null || skip_all "needs $p (tools/setup.sh rdma)"
done
free=$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
[ "$free" -ge 3000 ] || skip_all "needs 3000 MiB of free memory, and there are $free"
mkdir -p "$dir" || exit 1
why=$(fetch_kernel) || skip_all "no kernel: $why"
make_initramfs || bad "can't make $dir/initramfs"
accel=${TUTTI_TEST_ACCEL:-$(accelerator)}

if [ "$1" = shell ]; then
	saved=$(stty -g) && trap 'stty "$saved"' EXIT
	stty raw -echo
	boot "$accel" 86400 "$here/inside.sh,shell"
	exit
fi
boot "$accel" "$limit" "$here/inside.sh$(printf ',%s' $TUTTI_TEST_ONLY)" </dev/null | tee "$dir/report.log"
grep -q '^\[  PASSED  \]' "$dir/report.log" ||
	bad "the guest ended without a report, or was ended after $limit s; its console: $dir/console.log"
! grep -q '^\[  FAILED  \]' "$dir/report.log"

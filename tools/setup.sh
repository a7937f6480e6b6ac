#!/bin/sh
# SPDX-License-Identifier: MIT
# Names and installs what is missing: setup.sh lib (for make lib: the library alone)|build|check|cross|rdma, or what one peer of the comparison needs:
# openmpi|mpich|gloo|gnuplot, or tutti-transformer for its large products: openblas. As root, or through sudo where that
# asks for no password; otherwise it prints the command to type and fails.
set -eu
lib="gcc make libsodium-dev libibverbs-dev librdmacm-dev libfabric-dev"
build="$lib g++ pkg-config libhwloc-dev libjansson-dev"
openmpi="openmpi-bin libopenmpi-dev"
mpich="mpich libmpich-dev"
check="$build libcmocka-dev libfabric-bin $openmpi $mpich iproute2 ethtool procps util-linux python3 python3-numpy libopenblas0-pthread python3-jsonschema"
cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
cross_arm="libc6:arm64 libhwloc-dev:arm64 libsodium-dev:arm64 libjansson-dev:arm64 libibverbs-dev:arm64 libcmocka-dev:arm64"

rdma="qemu-system-x86 busybox-static iproute2 procps util-linux libibverbs1 ibverbs-providers ibverbs-utils librdmacm1
	rdmacm-utils perftest libfabric1 libfabric-bin"

case ${1:-build} in
lib) want=$lib ;;
build) want=$build ;;
check) want=$check ;;
cross) want="$cross $cross_arm" ;;
rdma) want=$rdma ;;
openmpi) want=$openmpi ;;
mpich) want=$mpich ;;
gloo) want=libgloo-dev ;;
gnuplot) want=gnuplot-nox ;;
openblas) want=libopenblas0-pthread ;;
npm | llvm) want=$1 ;;
*) echo "usage: $0 lib|build|check|cross|rdma|npm|llvm|openmpi|mpich|gloo|gnuplot|openblas" >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null || { echo "tutti: not a Debian system; needed: $want" >&2; exit 0; }
missing=
for p in $want; do
	dpkg-query -W -f='${Status}\n' "$p" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "tutti: missing packages:$missing"
arm=
[ "$1" != cross ] || arm="dpkg --add-architecture arm64 && "
line="${arm}apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
	run="sh -c"
elif sudo -n true 2>/dev/null; then
	run="sudo sh -c"
else
	echo "tutti: type: sudo sh -c '$line'" >&2
	exit 1
fi
log=$(mktemp)
DEBIAN_FRONTEND=noninteractive $run "$line" >"$log" 2>&1 || { tail -20 "$log" >&2; rm -f "$log"; exit 1; }
rm -f "$log"

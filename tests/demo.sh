#!/bin/sh
# SPDX-License-Identifier: MIT
# What `make demo` shows: the hardware's floor, verified all-reduces over shared memory and over TCP, and a small transformer
# on one and two ranks.
bin=$1
n=2
[ "$(nproc)" -ge 4 ] && n=4
set -e
echo "== this machine"
"$bin/tutti-info"
timeout 30 "$bin/tutti-run" -n 2 "$bin/tutti-topo"
echo
echo "== what the hardware allows: two cores, one cache line, and S bytes each way"
timeout 60 "$bin/floor" --max 1M
for t in shm tcp; do
	echo
	echo "== all-reduce, $n ranks, $t (every result verified, ranks bit-identical)"
	TUTTI_TRANSPORT=$t timeout 100 "$bin/tutti-run" -n $n "$bin/tutti-perf" allreduce -b 8 -e 16M -f 8 -n 50 -w 5 --explain
done
echo
echo "== a transformer in tensor parallel: 8 layers of a random model, one rank and two, in turn"
model=$(mktemp -d)
trap 'rm -rf "$model"' EXIT
"$bin/tutti-transformer" "$model" --make small --set layers=8,vocab=4096
timeout 100 "$bin/tutti-run" -n 2 "$bin/tutti-transformer" "$model" -p 1,2,3 -n 8 --check
timeout 100 "$bin/tutti-run" -n 2 "$bin/tutti-transformer" "$model" --bench --prompt 64 -n 32

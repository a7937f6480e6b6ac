#!/bin/sh
# What `make demo` shows: verified all-reduces over shared memory and over TCP, with the hardware's floor first.
bin=$1
n=2
[ "$(nproc)" -ge 4 ] && n=4
set -e
echo "== this machine"
"$bin/tutti-info"
echo
echo "== what the hardware allows: two cores, one cache line, and S bytes each way"
timeout 60 "$bin/floor" --max 1M
for t in shm tcp; do
	echo
	echo "== all-reduce, $n ranks, $t (every result verified, ranks bit-identical)"
	TUTTI_TRANSPORT=$t timeout 100 "$bin/tutti-run" -n $n "$bin/tutti-perf" allreduce -b 8 -e 16M -f 8 -n 50 -w 5 --explain
done

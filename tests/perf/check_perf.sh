#!/bin/sh
# SPDX-License-Identifier: MIT
# tutti-perf's command line: nccl-tests' options are taken, named as meaningless, or refused with the reason; -g makes
# ranks; sizes that no host has memory for are reduced, and what can't be had is said.
. "$(dirname "$0")/../sh.sh"
perf() { timeout 120 "$TESTED_BIN/tutti-perf" allreduce -n 1 "$@" >"$work/got" 2>"$work/err"; }
says() { # FILE WORDS
	cat "$work/got" "$work/err"
	grep -q -- "$2" "$work/$1"
}

meaningless() {
	perf -b 8 -e 8 -g 2 -p 1 -z 1 -y 1 -G 3 -x 1 -V 16 -K 1 || says got nothing || return 1
	[ "$(grep -c 'ignored: ' "$work/err")" = 7 ] || says got nothing || return 1
	for letter in p z y G x V K; do
		says err "^tutti-perf: -$letter: ignored: " >/dev/null || return 1
	done
	timeout 120 "$TESTED_BIN/tutti-run" -n 2 "$TESTED_BIN/tutti-perf" allreduce -n 1 -b 8 -e 8 -z 1 2>"$work/err" || return 1
	[ "$(grep -c 'ignored: ' "$work/err")" = 1 ] || says err nothing || return 1 # of two processes
	perf -b 8 -e 8 -g 2 -p 0 -z 0 -y 0 -G 0 -x 0 -V 0 -K 0 -D 0 && ! grep -q 'tutti-perf: -' "$work/err"
}
run meaningless_options meaningless

refused() {
	! perf -b 8 -e 8 -D 2 && says err 'device_implementation: only 0' || return 1
	! perf -b 8 -e 8 -R3 && says err 'a bad value' || return 1
	! perf -b 8 -e 8 -z x && says err 'a bad value' || return 1
	! perf -b 8 -e 8 -g 0 && says err 'at least 1' || return 1
	! WORLD_SIZE=2 perf -b 8 -e 8 -g 2 && says err 'WORLD_SIZE=2 means that a launcher started several'
}
run refused_options refused

ranks_are_threads() {
	perf -b 8 -e 8 -t 2 -g 3 && says got '6 ranks in threads' && perf -b 8 -e 8 -g 2 -R 2 && says got '2 ranks in threads' &&
		perf -b 8 -e 8 -g 2 -R -S 1 && says got ' 20[0-9-]*T[0-9:]*Z$'
}
run ranks_are_threads ranks_are_threads

# With this factor the size after 8 bytes is 7 TB.
reduced() {
	perf -b 8 -e 1048576G -f 9e11 -g 2 && says got '^# Reducing maxBytes to [1-9][0-9]* due to memory limitation'
}
run largest_size_is_reduced reduced

no_memory() {
	! perf -b 524288G -e 1048576G -g 2 && says err 'ENOMEM: .*: no memory for rows of' || return 1
	! (ulimit -v 2000000 && perf -b 1G -e 1G -g 2 --buffers 2) && says err 'emory'
}
run no_memory_is_said no_memory

# Within a control group of 64 MiB the kernel would kill what takes more.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	group=/sys/fs/cgroup/tutti-check-$$ limit=memory.max
else
	group=/sys/fs/cgroup/memory/tutti-check-$$ limit=memory.limit_in_bytes
fi
within_a_control_group() {
	(
		sh -c 'echo $PPID' >"$group/cgroup.procs" || exit 1
		perf -b 4M -e 256M -f 2 -g 2
	)
	status=$?
	[ $status = 0 ] && says got '^# Reducing maxBytes to [1-9]'
}
if mkdir "$group" 2>/dev/null && echo 64M >"$group/$limit" 2>/dev/null; then
	run within_a_control_group within_a_control_group
else
	skip within_a_control_group "needs root and a memory controller of control groups"
fi
[ ! -d "$group" ] || rmdir "$group"
report

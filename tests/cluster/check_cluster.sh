#!/bin/sh
# SPDX-License-Identifier: MIT
# Jobs on a cluster, mostly of four hosts with two ranks each: collectives, choice of transports, interfaces and addresses, use of
# the cables, and a cable that is pulled. Needs root and network namespaces. TUTTI_TEST_RATE is the speed of the cables in
# Mbit/s; slow by default, so that they are what limits, and not the cores of the machine that plays all hosts.
. "$(dirname "$0")/../sh.sh"
tests="collectives transports use_of_the_cables_4x2 use_of_the_cables_8x1 interfaces unknown_interface root_by_name root_link_local
	rings_by_file one_name_for_all_hosts cut_cable lost_path ipv6_only shared_uplink"
rate=${TUTTI_TEST_RATE:-100}
unset TUTTI_TEST_RATE
export CLUSTER=tutti$$
cluster=$(cd "$(dirname "$0")" && pwd)/cluster.sh

skip_all() {
	for t in $tests; do skip "$t" "$1"; done
	report
}

[ "$(id -u)" = 0 ] && command -v ip >/dev/null && command -v tc >/dev/null || skip_all "needs root, ip and tc"
trap '"$cluster" down; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
"$cluster" down # what a killed run of the same number left
"$cluster" up 8 "${rate}mbit" >"$work/up" 2>&1 ||
	skip_all "no network namespaces with veth, bridge and tbf: $(head -1 "$work/up")"

# job HOSTSxRANKS_PER_HOST PROGRAM...
job() {
	n=${1%x*} per=${1#*x} list=
	shift
	while [ "$n" -gt 0 ]; do
		n=$((n - 1))
		list="h$n:$per${list:+,$list}"
	done
	timeout -k 5 180 "$TESTED_BIN/tutti-run" -H "$list" --rsh "$cluster" --bind none "$@"
}

# perf HOSTSxRANKS_PER_HOST COLLECTIVE OPTIONS...
perf() {
	shape=$1
	shift
	job "$shape" "$TESTED_BIN/tutti-perf" "$@" -n 2 -w 1
}

collectives() {
	for c in allreduce allgather reduce_scatter broadcast reduce gather scatter alltoall allgatherv reduce_scatterv \
		gatherv scatterv alltoallv sendrecv barrier; do
		perf 4x2 $c -b 8 -e 128K -f 128 || return 1
	done
}

transports() {
	job 4x2 "$TESTED_BIN/tutti-info" >"$work/info" || return 1
	cat "$work/info"
	[ "$(grep -c 'on h0), host 0, by shm' "$work/info")" = 1 ] || return 1
	[ "$(grep -c 'on h[123]), host [123], by tcp' "$work/info")" = 6 ] || return 1
	perf 4x2 allreduce -b 1M -e 1M --explain >"$work/explain" || return 1
	cat "$work/explain"
	grep -q hierarchy "$work/explain"
}

# The hosts are measured; then the ring goes through them in the order of a file, which the first host has for all.
rings_by_file() {
	job 4x2 "$TESTED_BIN/tutti-topo" --json "$work/measured.json" >/dev/null || return 1
	python3 - "$work/measured.json" <<-'EOF'
		import json, sys
		job = json.load(open(sys.argv[1]))
		assert [h["name"] for h in job["hosts"]] == ["h0", "h1", "h2", "h3"]
		job["ring"]["order"] = [0, 1, 4, 5, 3, 2, 6, 7]
		json.dump(job, open(sys.argv[1], "w"))
	EOF
	export TUTTI_TOPO_FILE="$work/measured.json"
	job 4x2 "$TESTED_BIN/tutti-topo" --no-measure --plan >"$work/plan" && cat "$work/plan" &&
		grep -q '^  ring: 0 1 4 5 3 2 6 7$' "$work/plan" &&
		TUTTI_ALGO='allreduce:ring,hierarchy-ring' perf 4x2 allreduce -b 64K -e 64K
	rc=$?
	unset TUTTI_TOPO_FILE
	return $rc
}

# Hosts that were cloned say that they are one. Each shares memory with itself, and nobody is taken for dead.
one_name_for_all_hosts() {
	export TUTTI_HOST=twin
	job 4x2 "$TESTED_BIN/tutti-info" >"$work/twins" && cat "$work/twins" &&
		[ "$(grep -c 'on twin), host 0, by shm' "$work/twins")" = 1 ] &&
		[ "$(grep -c 'on twin), host [123], by tcp' "$work/twins")" = 6 ] && perf 4x2 allgather -b 64K -e 1M -f 16 &&
		perf 4x2 alltoall -b 64K -e 64K
	rc=$?
	unset TUTTI_HOST
	return $rc
}

# The part that an all-reduce gets of what the cables allow: a host sends and receives 2 (h - 1) / h of the data, and of 1514
# bytes of a full frame 1448 are payload. The best of up to three, since the machine that plays all hosts may be busy.
use_of_the_cables() {
	use_once "$1" || use_once "$1" || use_once "$1"
}

use_once() {
	bytes=$(((rate < 1000 ? 16 : 64) << 20))
	perf "$1" allreduce -b $bytes -e $bytes -c 0 --explain >"$work/use" || return 1
	cat "$work/use"
	awk -v rate="$rate" -v shape="$1" -v bytes="$bytes" '
		$1 == bytes {
			us = $6 < $10 ? $6 : $10
			h = shape + 0
			ideal = 2 * (h - 1) / h * bytes * 1514 / 1448 * 8 / rate
			printf "%s, %d Mbit/s, all-reduce of %d MiB: %.2f of what the cables allow (aim: 0.90)\n",
				shape, rate, bytes / 1048576, ideal / us
			good = ideal / us > 0.5
		}
		END { exit !good }' "$work/use" >>"$work/figures"
}

# sent INTERFACE: bytes that h1 has sent on it
sent() { "$cluster" run h1 cat "/sys/class/net/$1/statistics/tx_bytes"; }

# goes_by SPECIFICATION INTERFACE: data goes there, and not elsewhere
goes_by() {
	before0=$(sent eth0) before1=$(sent eth1)
	TUTTI_IFACE=$1 perf 4x1 allreduce -b 1M -e 1M || return 1
	eth0=$(($(sent eth0) - before0)) eth1=$(($(sent eth1) - before1))
	echo "TUTTI_IFACE=$1: eth0 $eth0 bytes, eth1 $eth1 bytes"
	case $2 in
	eth0) [ $eth0 -gt 1000000 ] && [ $eth1 -lt 100000 ] ;;
	eth1) [ $eth1 -gt 1000000 ] && [ $eth0 -lt 100000 ] ;;
	*) [ $((eth0 + eth1)) -gt 1000000 ] ;;
	esac
}

interfaces() {
	goes_by eth0 eth0 && goes_by eth1 eth1 && goes_by 'eth*' any && goes_by 10.78.0.0/16 eth1 &&
		goes_by '^eth1,docker0' eth0 && goes_by '^10.77.0.0/24,fd77::/64,docker0' eth1 && goes_by 'eth1,eth0' any &&
		goes_by '' any
}

unknown_interface() {
	! TUTTI_IFACE=wlan7 perf 4x1 barrier >"$work/unknown" 2>&1 || return 1
	cat "$work/unknown"
	grep -q 'TUTTI_IFACE.*wlan7' "$work/unknown"
}

# Ranks without a launcher: all know rank 0 by its host's name.
root_at() {
	pids=
	for i in 0 1 2 3; do
		TUTTI_RANK=$i TUTTI_SIZE=4 TUTTI_ROOT=$1 TUTTI_SECRET=sesame timeout 120 "$cluster" run h$i \
			"$TESTED_BIN/tutti-perf" allreduce -b 8 -e 8K -f 32 -n 2 >"$work/by_name$i" 2>&1 &
		pids="$pids $!"
	done
	bad=0
	for p in $pids; do wait "$p" || bad=1; done
	cat "$work"/by_name*
	return $bad
}
root_by_name() { root_at h0:29500; }

# An address of one cable, without the zone that says which: each host has it by an interface of its own.
root_link_local() {
	at=$("$cluster" run h0 ip -6 -o addr show dev eth0 scope link | sed 's/.*inet6 \([^/]*\).*/\1/')
	[ -n "$at" ] && root_at "[$at]:29500"
}

now() { date +%s%N; }

build_survive() {
	"${CC:-cc}" -std=c11 -I"$top/include" -o "$work/survive" "$top/tests/cluster/survive.c" \
		"$top/${B:-build}/lib/libtutti.a" -lsodium -ljansson -lhwloc -ldl -lpthread -lm
}

# A host is cut off in the middle of a big call: all hear of it within the time of a lost host, and who it is; those who
# still reach each other go on, the lost one does not.
cut_cable() {
	build_survive || return 1
	job 4x2 "$work/survive" >"$work/cut" 2>&1 &
	pid=$!
	start=$(sent eth0)
	until [ $(($(sent eth0) - start)) -gt 2000000 ] || ! kill -0 $pid 2>/dev/null; do :; done
	begin=$(now)
	"$cluster" cut h2
	until [ "$(grep -c 'status 6' "$work/cut")" = 8 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
	took=$((($(now) - begin) / 1000000))
	wait $pid
	rc=$?
	"$cluster" mend h2
	cat "$work/cut"
	echo "a cable that is pulled: noticed after $took ms" | tee -a "$work/figures"
	[ $rc = 0 ] && [ $took -lt 12000 ] && [ "$(grep -c 'status 6: .*rank [45] (pid [0-9]* on h2)' "$work/cut")" = 8 ] &&
		[ "$(grep -c 'goes on as rank [0-5] of 6' "$work/cut")" = 6 ] && [ "$(grep -c 'rank [45] of 8 is alone' "$work/cut")" = 2 ]
}

# Two hosts lose each other, and neither leads: rank 0's host reaches both. All hear which, those who still reach each other go on.
lost_path() {
	build_survive || return 1
	job 3x2 "$work/survive" >"$work/path" 2>&1 &
	pid=$!
	start=$(sent eth0)
	until [ $(($(sent eth0) - start)) -gt 2000000 ] || ! kill -0 $pid 2>/dev/null; do :; done
	begin=$(now)
	"$cluster" part h1 h2
	until [ "$(grep -c 'status 6' "$work/path")" = 6 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
	took=$((($(now) - begin) / 1000000))
	wait $pid
	rc=$?
	"$cluster" join h1 h2
	cat "$work/path"
	echo "a path between two hosts that is lost: noticed after $took ms" | tee -a "$work/figures"
	[ $rc = 0 ] && [ $took -lt 12000 ] &&
		[ "$(grep -c "status 6: .*rank [2345] (pid [0-9]* on h[12]) and rank [2345] (pid [0-9]* on h[12]) can't reach" "$work/path")" = 6 ] &&
		[ "$(grep -c 'goes on as rank [0-3] of 4' "$work/path")" = 4 ] && [ "$(grep -c 'rank [45] of 6 is alone' "$work/path")" = 2 ]
}

ipv6_only() {
	for i in 0 1 2 3; do
		"$cluster" h$i 'for d in eth0 eth1 docker0; do ip -4 addr flush dev $d; done' || return 1
	done
	perf 4x2 allreduce -b 8 -e 1M -f 512
}

# Two switches, and a cable between them that is as fast as the hosts': one pair has all of it, but in two of the rounds two pairs
# at a time pass it the same way, eight of all ways. Within a switch nothing is shared. Last, for the second switch stays.
shared_uplink() {
	"$cluster" split h3 "${rate}mbit" || return 1
	share_once || share_once || share_once # as above: the machine may be busy
}

share_once() {
	timeout -k 5 200 "$TESTED_BIN/tutti-run" -H h0,h3,h1,h4,h2,h5 --rsh "$cluster" --bind none "$TESTED_BIN/tutti-topo" \
		--json "$work/shared.json" >"$work/shared" || return 1
	cat "$work/shared"
	python3 - "$work/shared.json" <<-'EOF'
		import json, sys
		job = json.load(open(sys.argv[1]))
		alone, busy = job["bandwidth_GBps"], job["at_once"]["bandwidth_GBps"]
		ways = [(i, j) for i in range(6) for j in range(6) if i != j]
		part = {(i, j): busy[i][j] / alone[i][j] for i, j in ways}
		across = sorted(part[w] for w in ways if (w[0] + w[1]) % 2)
		within = sorted(part[w] for w in ways if (w[0] + w[1]) % 2 == 0)
		print("at once, part of alone: across the uplink", across, "within a switch", within)
		slow = sorted(alone[i][j] for i, j in ways)
		assert slow[0] > 0.6 * slow[-1]
		assert across[0] < 0.6 and sum(p < 0.8 for p in across) >= 4
		assert within[len(within) // 2] > 0.75
	EOF
	[ $? = 0 ] && grep -q '^at once: [1-9][0-9]* of 30 ways' "$work/shared"
}

for t in $tests; do
	case $t in
	use_of_the_cables_*) run "$t" use_of_the_cables "${t##*_}" ;;
	*) run "$t" "$t" ;;
	esac
done
cat "$work/figures"
report

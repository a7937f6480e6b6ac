#!/bin/bash
# SPDX-License-Identifier: MIT
# The tests, inside the guest: guest.sh runs it there. `inside.sh [TEST...]`; `inside.sh list` prints their names, anywhere.
here=$(cd "$(dirname "$0")" && pwd)
hosts=$here/hosts.sh
modes="write send uc"
tests="devices pingpong_rc pingpong_uc rdma_cm shm tcp info transports latency bandwidth"
for m in $modes; do
	tests+=" collectives_$m types_$m matrix_${m}_2 matrix_${m}_3 matrix_${m}_4"
done
tests+=" collectives_cm types_cm matrix_cm_3 collectives_rails collectives_fabric killed_rank port_down link_deleted wrong_secret memlock"

[ "$1" != list ] || { echo $tests; exit; }
"$hosts" up || { echo "the guest's hosts can't be set up"; exit 1; }
export TUTTI_TUNE_FILE=none HOME=/root TERM=${TERM:-vt100}
if [ "$1" = shell ]; then
	stty opost onlcr
	echo "hosts: $hosts run h0|h1|h2 COMMAND; build: $PWD/build"
	exec setsid -c bash -i
fi
[ $# = 0 ] || tests=$*
. "$here/../sh.sh"
programs=${TESTED_BIN%/bin}/tests

now() { awk '{ print int($1 * 1000) }' /proc/uptime; }

# job LIST PROGRAM...: LIST as for tutti-run -H, or a number of ranks in the guest's own namespace, which each do `each` first
each=
job() {
	local list=$1
	shift
	case $list in
	h*) set -- -H "$list" --rsh "$hosts" "$@" ;;
	*) set -- -n "$list" sh -c "$each"'exec "$@"' sh "$@" ;;
	esac
	timeout -k 5 "${limit:-90}" "$TESTED_BIN/tutti-run" --bind none "$@"
}

# Where N ranks go: two hosts; or, for what connects by the devices' addresses (where=here), all in the guest's own namespace.
where=
list_of() {
	case $where$1 in
	here*) echo "$1" ;;
	2) echo h0:1,h1:1 ;;
	3) echo h0:2,h1:1 ;;
	4) echo h0:2,h1:2 ;;
	esac
}

# passed COMMAND...: runs it, and says how many packets passed the pair meanwhile; at least `packets`
passed() {
	local c=/sys/class/net/roce0/statistics n
	n=$(($(cat $c/rx_packets) + $(cat $c/tx_packets)))
	"$@" || return
	n=$(($(cat $c/rx_packets) + $(cat $c/tx_packets) - n))
	echo "$n packets passed the pair"
	[ "$n" -ge "${packets:-100}" ]
}

# ---- without Tutti ---------------------------------------------------------------------------------------------------

devices() {
	rdma link
	[ "$(rdma link | grep -c 'rxe[01]/1 state ACTIVE')" = 2 ] || return 1
	grep . /sys/class/infiniband/rxe?/ports/1/gids/1
	"$hosts" run h1 ibv_devinfo -d rxe1 | grep PORT_ACTIVE && ! "$hosts" run h1 ibv_devinfo -d rxe0 | grep PORT_ACTIVE
}

# pair PROGRAM OPTIONS...: server on h0, client on h1, each with its own device
pair() {
	local program=$1 pid
	shift
	"$hosts" run h0 timeout -k 1 60 "$program" -d rxe0 "$@" >"$work/server" 2>&1 &
	pid=$!
	until [ -n "$(ip netns exec h0 ss -Hltn)" ] || ! kill -0 $pid; do sleep 0.1; done
	"$hosts" run h1 timeout -k 1 60 "$program" -d rxe1 "$@" 10.8.0.2 && wait $pid && return
	cat "$work/server"
	return 1
}

# both SERVER CLIENT: the client until it is served; there is no telling from outside when the server listens
both() {
	local pid
	timeout 60 $1 &
	pid=$!
	until timeout 60 $2; do
		kill -0 $pid 2>/dev/null || return 1
		sleep 0.5
	done
	wait $pid
}

rdma_cm() { both 'rping -s -a 10.9.0.1 -C 3' 'rping -c -a 10.9.0.1 -I 10.9.0.2 -C 3 -v'; }

# ---- Tutti -----------------------------------------------------------------------------------------------------------

perf() {
	local list=$1
	shift
	job "$list" "$TESTED_BIN/tutti-perf" "$@" -n 2 -w 1
}

# What is chosen on each host, and why nothing on the last.
info() {
	for i in 0 1; do
		"$hosts" run h$i "$TESTED_BIN/tutti-info" --devices | tee "$work/info"
		grep -q "rxe$i:1: yes, GID [0-9]* (RoCE v2 10.9.0.$((i + 1))), mode write" "$work/info" || return 1
	done
	"$hosts" run h2 "$TESTED_BIN/tutti-info" --devices | tee "$work/info"
	! grep -q ': yes' "$work/info"
}

# Shared memory inside h0, RDMA to h1, TCP to h2 which has no device: in one communicator, by itself.
transports() {
	job h0:2,h1:1,h2:1 "$TESTED_BIN/tutti-info" >"$work/info" || return 1
	cat "$work/info"
	[ "$(grep -c 'on h0), host 0, by shm' "$work/info")" = 1 ] || return 1
	[ "$(grep -c 'on h1), host 1, by verbs' "$work/info")" = 1 ] || return 1
	[ "$(grep -c 'on h2), host 2, by tcp' "$work/info")" = 1 ] || return 1
	for c in allreduce allgather alltoall; do
		passed perf h0:2,h1:1,h2:1 $c -b 8 -e 64K -f 64 || return 1
	done
}

all_collectives="allreduce allgather reduce_scatter broadcast reduce gather scatter alltoall allgatherv reduce_scatterv gatherv
	scatterv alltoallv sendrecv barrier"

# Ranks in turn: each number of ranks meets each collective in one of the modes. All go by RDMA, also within a host.
collectives() {
	local n=$1
	for c in $all_collectives; do
		n=$((n % 3 + 1))
		perf "$(list_of $((n + 1)))" "$c" -b 8 -e 64K -f 90 || return 1
	done
}

types() {
	perf "$(list_of "$1")" allreduce -d all -o all -b 1000 -e 1000
}

matrix() {
	TUTTI_TEST_NETWORK=verbs TUTTI_TEST_WORLD=$1 TUTTI_TEST_ONLY="way=tcp n=$1 slot=4096 slots=4 driver=caller algo=default" \
		timeout -k 5 240 "$programs/coll/test_matrix"
}

# Does this build have the variable?
knows() { "$TESTED_BIN/tutti-info" -p | grep -q "^ *$1\b"; }

# What libfabric can do over these devices without Tutti. Its default sizes, for many peers, are more than rxe's queues have.
fabric_pingpong() {
	export FI_UNIVERSE_SIZE=4 FI_OFI_RXM_MSG_TX_SIZE=128 FI_OFI_RXM_MSG_RX_SIZE=128
	both 'fi_pingpong -p verbs;ofi_rxm -e rdm -I 20 -S 1024' 'fi_pingpong -p verbs;ofi_rxm -e rdm -I 20 -S 1024 10.9.0.1'
}

# ---- speed -----------------------------------------------------------------------------------------------------------

# beside WHAT BYTES OURS PERFTEST'S
beside() {
	awk -v what="$1" -v bytes="$2" -v ours="$3" -v theirs="$4" -v unit="$5" 'BEGIN {
		printf "%s, %d bytes: %s %s, perftest %s, ratio %.2f\n", what, bytes, ours, unit, theirs, ours / theirs }' |
		tee -a "$work/figures"
}

# measured PERFTEST COLUMN OPTIONS...: one figure of its table
measured() {
	local program=$1 column=$2
	shift 2
	pair "$program" -x 1 -F "$@" | awk -v c="$column" '$1 ~ /^[0-9]+$/ && NF >= 5 { print $c }'
}

# Turn about three times: the best of each, since what disturbs only adds.
latency() {
	local a= b=
	for i in 1 2 3; do
		a+=" $(measured ib_write_lat 5 -n 500 -s 8)"
		b+=" $(job h0:1,h1:1 "$programs/rdma/pingpong" latency 500 8 | cut -d' ' -f3)"
	done
	beside "latency, half a round trip" 8 "$(printf '%s\n' $b | sort -n | head -1)" \
		"$(printf '%s\n' $a | sort -n | head -1)" us
}

bandwidth() {
	local a b
	for size in 65536 262144 1048576; do
		a= b=
		for i in 1 2; do
			a+=" $(measured ib_write_bw 4 -n $((8388608 / size)) -t 16 -s $size)"
			b+=" $(job h0:1,h1:1 "$programs/rdma/pingpong" bandwidth $((8388608 / size)) $size | cut -d' ' -f3)"
		done
		beside bandwidth $size "$(printf '%s\n' $b | sort -n | tail -1)" \
			"$(printf '%s\n' $a | sort -n | tail -1)" MB/s || return 1
	done
}

# ---- faults ----------------------------------------------------------------------------------------------------------

# lines PATTERN N SECONDS: waits until the job has printed N such lines
lines() {
	local end=$(($(now) + $3 * 1000))
	until [ "$(grep -Ec "$1" "$work/job")" -ge "$2" ]; do
		[ "$(now)" -lt $end ] && kill -0 $job 2>/dev/null || return 1
		sleep 0.1
	done
}

# fault WHAT BOUND DOOMED TEXT COMMAND...: the command while three ranks all-reduce over RDMA. All survivors get an error within
# BOUND seconds, one at least with TEXT in it, and go on over TCP in the same processes.
fault() {
	local what=$1 bound=$2 doomed=$3 text=$4 left=$((3 - ($3 >= 0))) directory begin took done_after
	shift 4
	directory=$(mktemp -d)
	TUTTI_TRANSPORT=verbs limit=120 job h0:2,h1:1 --grace 60 "$programs/rdma/fallback" 40 "$directory" "$doomed" >"$work/job" 2>&1 &
	job=$!
	lines running 3 60 || { cat "$work/job"; return 1; }
	begin=$(now)
	"$@"
	done_after=$(($(now) - begin)) # emulated and busy, the kernel may take long for its part
	lines 'status [1-9]' $left 40
	took=$(($(now) - begin - done_after))
	wait $job
	cat "$work/job"
	rm -rf "$directory"
	echo "$what: done in $done_after ms, all knew $took ms later" | tee -a "$work/figures"
	[ $took -lt $((bound * 1000)) ] && [ "$(grep -c ': again as' "$work/job")" = $left ] &&
		[ "$(grep -c ': status [1-9]' "$work/job")" = $left ] && grep -Eq "status [1-9]*: .*$text" "$work/job"
}

kill_rank() { kill -9 "$(sed -n "s/^rank $1: running as //p" "$work/job")"; }

port_down() {
	fault "ip link set down" 20 -1 'rxe[01]' "$hosts" cut 1
	local rc=$?
	"$hosts" mend 1 && [ $rc = 0 ] && devices
}

# This kernel's rxe waits with the removal until nobody has the device open, and tells nobody. So the job comes to its end, and
# then the device goes.
link_deleted() {
	local rc
	directory=$(mktemp -d)
	TUTTI_TRANSPORT=verbs job h0:2,h1:1 --grace 60 "$programs/rdma/fallback" 8 "$directory" -1 >"$work/job" 2>&1 &
	job=$!
	lines running 3 60 || { cat "$work/job"; return 1; }
	timeout 60 rdma link delete rxe1 &
	wait $job
	rc=$?
	cat "$work/job"
	rm -rf "$directory"
	wait $! && [ $rc = 0 ] && [ "$(grep -c ': again as' "$work/job")" = 3 ] && ! rdma link | grep rxe1 || return 1
	echo "rdma link delete: $(sed -n 's/^rank 0: //; /status/p' "$work/job" | head -1)" >>"$work/figures"
	rdma link add rxe1 type rxe netdev roce1 && devices
}

# alone RANK SECRET: a rank of two, without a launcher
alone() {
	TUTTI_RANK=$1 TUTTI_SECRET=$2 TUTTI_SIZE=2 TUTTI_ROOT=10.8.0.2:29500 TUTTI_START_TIMEOUT=15 TUTTI_TRANSPORT=verbs \
		timeout 60 "$hosts" run "h$1" "$TESTED_BIN/tutti-perf" barrier
}

wrong_secret() {
	local pid begin
	begin=$(now)
	alone 0 sesame >"$work/0" 2>&1 &
	pid=$!
	alone 1 barley >"$work/1" 2>&1 && return 1
	wait $pid && return 1
	cat "$work/0" "$work/1"
	grep -qi secret "$work/1" && [ $(($(now) - begin)) -lt 40000 ]
}

# Without the right to lock more than 64 KiB, which root has otherwise.
poor() { job h0:1,h1:1 sh -c 'ulimit -l 64 && exec setpriv --bounding-set -ipc_lock "$@"' sh "$@"; }

memlock() {
	local begin
	begin=$(now)
	TUTTI_TRANSPORT=verbs poor "$TESTED_BIN/tutti-perf" allreduce -b 8 -e 8 && return 1
	echo "after $(($(now) - begin)) ms"
	grep -q 'ulimit -l' "$work/out" || return 1
	poor "$TESTED_BIN/tutti-perf" allreduce -b 8 -e 64K -f 90 -n 2
}

# ----------------------------------------------------------------------------------------------------------------------

# with_mode TEST: one of the tests that come in modes
with_mode() {
	local mode=${1#*_}
	mode=${mode%_?}
	export TUTTI_TRANSPORT=verbs TUTTI_VERBS_MODE=$mode
	case $mode in
	cm)
		knows TUTTI_VERBS_CONNECT || { skip "$1" "this build connects by its bootstrap only"; return; }
		where=here TUTTI_VERBS_MODE=auto each='export TUTTI_VERBS_DEVICE=rxe$((TUTTI_RANK % 2)); '
		export TUTTI_VERBS_CONNECT=cm
		;;
	rails) where=here TUTTI_VERBS_MODE=auto each='export TUTTI_VERBS_DEVICE=rxe0,rxe1 TUTTI_CHANNELS=2; ' ;;
	fabric)
		knows TUTTI_LIBFABRIC_PROVIDER || { skip "$1" "this build has no libfabric transport"; return; }
		fabric_pingpong >"$work/fabric" 2>&1 || { skip "$1" "fi_pingpong fails by itself: $(tail -1 "$work/fabric")"; return; }
		where=here TUTTI_TRANSPORT=libfabric TUTTI_VERBS_MODE=auto
		export TUTTI_LIBFABRIC_PROVIDER='verbs;ofi_rxm'
		;;
	esac
	case $1 in
	collectives_*) run "$1" collectives "$((++turn))" ;;
	types_*) run "$1" types $((turn % 3 + 2)) ;;
	matrix_*) run "$1" matrix "${1##*_}" ;;
	esac
	where= each=
	unset TUTTI_TRANSPORT TUTTI_VERBS_MODE TUTTI_VERBS_CONNECT TUTTI_LIBFABRIC_PROVIDER
}

turn=0
for t in $tests; do
	begin=$(now)
	case $t in
	pingpong_*) run "$t" passed pair "ibv_${t#*_}_pingpong" -g 1 -n 100 -s 512 ;;
	shm) TUTTI_TRANSPORT=shm run "$t" perf h0:2 allreduce -b 8 -e 64K -f 90 ;;
	tcp) TUTTI_TRANSPORT=tcp run "$t" perf h0:1,h1:1,h2:1 allreduce -b 8 -e 64K -f 90 ;;
	collectives_* | types_* | matrix_*) with_mode "$t" ;;
	killed_rank) run "$t" fault "kill -9" 10 2 'rank 2 .*died' kill_rank 2 ;;
	*) run "$t" "$t" ;;
	esac
	echo "    $(($(now) - begin)) ms"
done
sed 's/^/figure: /' "$work/figures" 2>/dev/null
report

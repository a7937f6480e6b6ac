#!/bin/bash
# The tests, inside the guest: guest.sh runs it there. `inside.sh [TEST...]`; `inside.sh list` prints their names, anywhere.
here=$(cd "$(dirname "$0")" && pwd)
hosts=$here/hosts.sh
tests="devices pingpong_rc pingpong_uc rdma_cm shm tcp"

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

now() { cut -d' ' -f1 /proc/uptime; }
between() { awk -v a="$1" -v b="$2" 'BEGIN { print b - a }'; }

# job LIST PROGRAM...: LIST as for tutti-run -H
job() {
	list=$1
	shift
	timeout -k 5 90 "$TUTTI_BIN/tutti-run" -H "$list" --rsh "$hosts" --bind none "$@"
}

# Packets that have passed the pair since the last call.
passed() {
	local sum
	sum=$(($(cat /sys/class/net/roce0/statistics/rx_packets) + $(cat /sys/class/net/roce0/statistics/tx_packets)))
	echo $((sum - ${before:-0}))
	before=$sum
}

devices() {
	rdma link
	[ "$(rdma link | grep -c 'rxe[01]/1 state ACTIVE')" = 2 ] || return 1
	ibv_devinfo -v | grep 'GID\['
	[ "$(ibv_devinfo -v | grep -c 'GID.*::ffff:10.9.0.[12], RoCE v2')" = 2 ] || return 1
	[ "$("$hosts" run h1 ibv_devinfo -l 2>&1 | grep -c rxe)" -ge 1 ] || return 1
	"$hosts" run h1 ibv_devinfo -d rxe1 | grep -q PORT_ACTIVE && ! "$hosts" run h1 ibv_devinfo -d rxe0 | grep -q PORT_ACTIVE
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

pingpong() {
	passed >/dev/null
	pair "ibv_$1_pingpong" -g 1 -n 100 -s 512 || return 1
	n=$(passed)
	echo "$n packets passed the pair"
	[ "$n" -ge 200 ]
}

rdma_cm() {
	timeout 20 rping -s -a 10.9.0.1 -C 3 &
	sleep 0.5
	timeout 20 rping -c -a 10.9.0.1 -I 10.9.0.2 -C 3 -v && wait $!
}

for t in $tests; do
	begin=$(now)
	case $t in
	pingpong_*) run "$t" pingpong "${t#*_}" ;;
	shm) run "$t" job h0:2 "$TUTTI_BIN/tutti-perf" allreduce -b 8 -e 64K -f 32 -n 2 ;;
	tcp) run "$t" job h0:1,h1:1,h2:1 "$TUTTI_BIN/tutti-perf" allreduce -b 8 -e 64K -f 32 -n 2 ;;
	*) run "$t" "$t" ;;
	esac
	echo "    $(between "$begin" "$(now)") s"
done
report

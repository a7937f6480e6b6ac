#!/bin/sh
# SPDX-License-Identifier: MIT
# A cluster on one machine: hosts are network namespaces on a switch, each cable as fast as RATE in either direction.
#   cluster.sh up HOSTS [RATE]      h0, h1, ...: eth0 10.77.0.(1+i) and fd77::(1+i), eth1 10.78.0.(1+i), and a docker0
#   cluster.sh run HOST COMMAND...  runs a program on a host
#   cluster.sh HOST LINE            the same as a remote shell has it: `tutti-run -H h0:2,h1:2 --rsh cluster.sh`
#   cluster.sh cut|mend HOST        pulls and plugs the cables of a host
#   cluster.sh part|join HOST HOST   nothing that one of the two sends arrives at the other; both reach all others
#   cluster.sh rate HOST RATE       another speed for the cables of a host
#   cluster.sh split HOST RATE      that host and all after it hang, by eth0, on a second switch; between the two a cable of RATE
#   cluster.sh down                 removes everything
# Needs root. The switches stand in a namespace of their own, so nothing of the machine's own network is touched. CLUSTER
# is the prefix of the names of the namespaces (default tutti). BURST is what passes a cable at once after a rest (256kb).
c=${CLUSTER:-tutti}
burst=${BURST:-256kb}

ns() {
	where=$1
	shift
	ip netns exec "$c-$where" "$@"
}

# shape WHERE INTERFACE
shape() { ns "$1" tc qdisc replace dev "$2" root tbf rate "$rate" burst "$burst" latency 20ms; }

# cable HOST INDEX INTERFACE SWITCH
cable() {
	ip link add "$3" netns "$c-$1" type veth peer name "p$2$4" netns "$c-switch"
	ns switch ip link set "p$2$4" master "$4" up
	ns "$1" ip link set "$3" up
	shape "$1" "$3"
	shape switch "p$2$4"
}

new_switch() {
	ns switch ip link add "$1" type bridge
	ns switch sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"
	ns switch ip link set "$1" up
}

# split FIRST
split() {
	new_switch far
	ns switch ip link add tofar type veth peer name tofast
	ns switch ip link set tofar master fast up
	ns switch ip link set tofast master far up
	shape switch tofar
	shape switch tofast
	i=$1
	while ns switch ip link show "p${i}fast" >/dev/null 2>&1; do
		ns switch ip link set "p${i}fast" master far
		i=$((i + 1))
	done
}

up() {
	rate=${2:-1gbit}
	ip netns add "$c-switch"
	new_switch fast
	new_switch slow
	i=0
	while [ $i -lt "$1" ]; do
		mkdir -p "/etc/netns/$c-h$i"
		echo "127.0.0.1 localhost" >"/etc/netns/$c-h$i/hosts"
		j=0
		while [ $j -lt "$1" ]; do
			echo "10.77.0.$((j + 1)) h$j" >>"/etc/netns/$c-h$i/hosts"
			j=$((j + 1))
		done
		ip netns add "$c-h$i"
		ns "h$i" ip link set lo up
		ns "h$i" sysctl -qw net.ipv6.conf.default.accept_dad=0
		cable "h$i" $i eth0 fast
		cable "h$i" $i eth1 slow
		ns "h$i" ip addr add "10.77.0.$((i + 1))/24" dev eth0
		ns "h$i" ip addr add "fd77::$((i + 1))/64" dev eth0 nodad
		ns "h$i" ip addr add "10.78.0.$((i + 1))/24" dev eth1
		ns "h$i" ip link add docker0 type bridge # the same address everywhere, as it is on real hosts
		ns "h$i" ip link add veth0 type veth peer name veth1
		ns "h$i" ip link set veth0 master docker0 up
		ns "h$i" ip link set veth1 up
		ns "h$i" ip link set docker0 up
		ns "h$i" ip addr add 172.17.0.1/16 dev docker0
		i=$((i + 1))
	done
}

down() {
	for n in $(ip netns list | sed -n "s/^\($c-[a-z0-9]*\).*/\1/p"); do
		for pid in $(ip netns pids "$n"); do
			kill -9 "$pid"
		done
		ip netns del "$n"
		rm -rf "/etc/netns/$n"
	done
	rmdir /etc/netns 2>/dev/null
	return 0
}

# A host has its own name, too.
on() {
	where=$1
	shift
	exec ip netns exec "$c-$where" unshare --uts sh -c 'hostname "$0"; exec "$@"' "$where" "$@"
}

case $1 in
up)
	trap 'down' EXIT
	set -e
	up "$2" "$3"
	trap - EXIT
	;;
down) down ;;
run)
	shift
	on "$@"
	;;
cut | mend)
	state=down
	[ "$1" = mend ] && state=up
	for s in fast slow; do
		ns switch ip link set "p${2#h}$s" $state
	done
	;;
part | join)
	for pair in "$2 $3" "$3 $2"; do
		i=$((${pair#* h} + 1))
		for at in "10.77.0.$i eth0" "fd77::$i eth0" "10.78.0.$i eth1"; do
			if [ "$1" = part ]; then # to a station that there is not
				ns "${pair% *}" ip neigh replace "${at% *}" lladdr 02:00:00:00:0d:0e dev "${at#* }" nud permanent
			else
				ns "${pair% *}" ip neigh del "${at% *}" dev "${at#* }"
			fi
		done
	done
	;;
rate)
	rate=$3
	for s in fast slow; do
		shape switch "p${2#h}$s"
	done
	shape "$2" eth0
	shape "$2" eth1
	;;
split)
	rate=$3
	split "${2#h}"
	;;
h*) on "$1" sh -c "$2" ;;
*)
	sed -n '3,13s/^# \?//p' "$0" >&2
	exit 2
	;;
esac

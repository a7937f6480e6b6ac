#!/bin/sh
# A cluster on one machine: hosts are network namespaces on a switch, each cable as fast as RATE in either direction.
#   cluster.sh up HOSTS [RATE]      h0, h1, ...: eth0 10.77.0.(1+i) and fd77::(1+i), eth1 10.78.0.(1+i), and a docker0
#   cluster.sh run HOST COMMAND...  runs a program on a host
#   cluster.sh HOST LINE            the same as a remote shell has it: `tutti-run -H h0:2,h1:2 --rsh cluster.sh`
#   cluster.sh cut|mend HOST        pulls and plugs the cables of a host
#   cluster.sh down                 removes everything
# Needs root. The switches stand in a namespace of their own, so nothing of the machine's own network is touched. CLUSTER
# is the prefix of the names of the namespaces (default tutti).
c=${CLUSTER:-tutti}

ns() {
	where=$1
	shift
	ip netns exec "$c-$where" "$@"
}

# cable HOST INDEX INTERFACE SWITCH
cable() {
	ip link add "$3" netns "$c-$1" type veth peer name "p$2$4" netns "$c-switch"
	ns switch ip link set "p$2$4" master "$4" up
	ns "$1" ip link set "$3" up
	ns "$1" tc qdisc add dev "$3" root tbf rate "$rate" burst 256kb latency 20ms
	ns switch tc qdisc add dev "p$2$4" root tbf rate "$rate" burst 256kb latency 20ms
}

up() {
	rate=${2:-1gbit}
	ip netns add "$c-switch"
	for b in fast slow; do
		ns switch ip link add "$b" type bridge
		ns switch sysctl -qw "net.ipv6.conf.$b.disable_ipv6=1"
		ns switch ip link set "$b" up
	done
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
h*) on "$1" sh -c "$2" ;;
*)
	sed -n '2,9s/^# \?//p' "$0" >&2
	exit 2
	;;
esac

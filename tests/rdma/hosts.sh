#!/bin/sh
# SPDX-License-Identifier: MIT
# The guest's hosts. h0, h1 and h2 are network namespaces that reach each other through the guest's own, by TCP. h0 and h1
# have an RDMA device each, rxe0 and rxe1, on the two ends of a veth pair; h2 has none.
#   hosts.sh up
#   hosts.sh run HOST COMMAND...   runs a program on a host
#   hosts.sh cut|mend 0|1          an end of the pair goes down and up
#   hosts.sh HOST LINE             the same as a remote shell has it: `tutti-run -H h0:2,h1:2 --rsh hosts.sh`
#
# The ends of that pair, roce0 and roce1, stay in the guest's own namespace, since this kernel's rxe opens its sockets there
# and nowhere else. Devices are seen by all namespaces (`rdma system`: shared), so processes of any host can use them. Packets
# from one end to the other have to pass the pair although both addresses are local: two rules before the local table.

plug() {
	ip link set "roce$1" up
	ip route add "$3" dev "roce$1" src "$2" table "10$1"
}

# cable HOST ADDRESS PEER: end number HOST of the pair, on which PEER is reached
cable() {
	sysctl -qw "net.ipv4.conf.roce$1.accept_local=1" "net.ipv4.conf.roce$1.rp_filter=0"
	ip addr add "$2/24" dev "roce$1"
	plug "$1" "$2" "$3"
	ip rule add pref "1$1" iif lo to "$3" lookup "10$1"
	rdma link add "rxe$1" type rxe netdev "roce$1"
}

host() {
	ip netns add "h$1"
	ip link add eth0 netns "h$1" type veth peer name "h$1"
	ip addr add "10.8.$1.1/24" dev "h$1"
	ip link set "h$1" up
	ip -n "h$1" link set lo up
	ip -n "h$1" addr add "10.8.$1.2/24" dev eth0
	ip -n "h$1" link set eth0 up
	ip -n "h$1" route add default via "10.8.$1.1"
}

up() {
	ip link set lo up
	sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
	ip rule add pref 100 lookup local
	ip rule del pref 0
	ip link add roce0 mtu 4200 type veth peer name roce1 mtu 4200 # RDMA has an MTU of 4096 then
	cable 0 10.9.0.1 10.9.0.2
	cable 1 10.9.0.2 10.9.0.1
	for i in 0 1 2; do host $i; done
}

# A process on a host has the host's name, and of the devices its own alone.
on() {
	exec ip netns exec "$1" unshare --uts --mount sh -c '
		hostname "$0"
		mount -t tmpfs dev /mnt && cp -a /dev/infiniband/*[!0-9] "/dev/infiniband/uverbs${0#h}" /mnt 2>/dev/null
		mount --move /mnt /dev/infiniband
		exec "$@"' "$@"
}

case $1 in
up) set -e && up ;;
cut) ip link set "roce$2" down ;;
mend) plug "$2" "10.9.0.$(($2 + 1))" "10.9.0.$((2 - $2))" ;;
run) shift && on "$@" ;;
h*) on "$1" sh -c "$2" ;;
esac

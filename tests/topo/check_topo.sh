#!/bin/sh
# SPDX-License-Identifier: MIT
# tutti-topo and its files: descriptions of varied machines are read and shown, what is written keeps to the schema and
# can be read again, and rings follow a file that TUTTI_TOPO_FILE names. The machines are exports of hwloc: lstopo of a
# synthetic description, of a guest, of the same without its devices; in hybrid.xml hwloc-annotate added the cpukinds.
. "$(dirname "$0")/../sh.sh"
here=$(cd "$(dirname "$0")" && pwd)
schema=$top/docs/topology.schema.json
topo=$TESTED_BIN/tutti-topo
unset TUTTI_TOPO_FILE

# valid FILE: by the schema
valid() {
	python3 - "$schema" "$1" <<-'EOF'
		import json, sys
		import jsonschema
		schema = json.load(open(sys.argv[1]))
		jsonschema.Draft7Validator.check_schema(schema)
		jsonschema.Draft7Validator(schema).validate(json.load(open(sys.argv[2])))
	EOF
}

# shows MACHINE LINE...: loaded, it shows each of these; its JSON keeps to the schema and shows the same
shows() {
	"$topo" --load "$here/$1.xml" --json "$work/$1.json" >"$work/$1.text" || return 1
	cat "$work/$1.text"
	valid "$work/$1.json" && "$topo" --load "$work/$1.json" >"$work/$1.again" || return 1
	sed 1d "$work/$1.text" >"$work/first" # the name of the file
	sed 1d "$work/$1.again" | diff "$work/first" - || return 1
	machine=$1
	shift
	for line; do
		grep -qF -- "$line" "$work/$machine.text" || { echo "no: $line"; return 1; }
	done
}

run two_numa shows two-numa '2 packages, 16 cores, 32 threads, 128 GiB' '  2 x package, memory 64 GiB, L3 32 MiB' \
	'8 x L2 1 MiB, core, 2 x thread'
run many_l3 shows many-l3 '1 package, 64 cores' '8 x L3 32 MiB' '8 x L2 512 KiB, core, thread'
run sub_numa shows sub-numa '2 packages, 24 cores' '2 x L3 16 MiB, memory 32 GiB'
run hybrid shows hybrid '4 x L2 2 MiB, performance core, thread' '2 x L2 2 MiB, efficiency core, thread'
run three_kinds shows three-kinds '4 x L2 2 MiB, performance core, thread' 'L2 2 MiB, efficiency core, thread' \
	'L2 2 MiB, low-power core, thread'
run padded_name shows turin-nps4 'x86_64, AMD EPYC 9555 64-Core Processor, 2 packages'
run flat shows flat '0 packages, 4 cores' '  4 x core, thread'
run guest shows guest 'guest: x86_64' 'eth0       network state unknown, speed unknown, 02:00:00:00:00:01, 0000:00:03.0'
run no_io shows no-io 'hwloc lists no devices'

# places FILE: devices of the machine whose groups are NUMA nodes hang where they hung, each in its package
places() {
	python3 - "$1" <<-'EOF'
		import json, sys
		host = json.load(open(sys.argv[1]))["hosts"][0]
		where = {}  # (type, index): package
		count = {}
		def visit(node, package):
		    kind = node["type"]
		    if kind == "package":
		        package = node["os"]
		    where[kind, count.get(kind, 0)] = package
		    count[kind] = count.get(kind, 0) + 1
		    for child in node.get("children", []):
		        visit(child, package)
		visit(host["tree"], None)
		near = {d["name"]: where[d["near"]["type"], d["near"]["index"]] for d in host["devices"]}
		print(near)
		assert near["eno6"] == near["ib3x"] == near["mlx5_3"] == 0 and near["ib1x"] == near["mlx5_5"] == 1, near
	EOF
}
keeps_places() {
	"$topo" --load "$here/turin-nps4.xml" --json "$work/turin.json" >/dev/null && places "$work/turin.json" &&
		"$topo" --load "$work/turin.json" --json "$work/turin2.json" >/dev/null && places "$work/turin2.json" || return 1
	python3 -c 'import json, sys; a, b = (json.load(open(f))["hosts"][0]["devices"] for f in sys.argv[1:])
assert a == b, (a, b)' "$work/turin.json" "$work/turin2.json"
}
run devices_keep_their_places keeps_places

# What comes through a pipe is read as from the file itself.
pipes() {
	for file in "$here/guest.xml" "$work/guest.json"; do
		"$topo" --load "$file" | sed 1d >"$work/direct" || return 1
		cat "$file" | "$topo" --load /dev/stdin | sed 1d | diff "$work/direct" - || return 1
		[ -s "$work/direct" ] || return 1
	done
	head -c 300 "$here/guest.xml" | "$topo" --load /dev/stdin 2>&1 | grep -q '/dev/stdin: ' &&
		echo '{' | "$topo" --load /dev/stdin 2>&1 | grep -q '/dev/stdin:2:1: '
}
run pipes pipes

# A file of a later hwloc is told by its version.
later() {
	sed 's/<topology version="[0-9.]*">/<topology version="99.0">/' "$here/guest.xml" >"$work/later.xml"
	grep -q 'version="99.0"' "$work/later.xml" || return 1
	! "$topo" --load "$work/later.xml" >"$work/later.text" 2>&1
	cat "$work/later.text"
	grep -q 'exported by hwloc 99, which hwloc [0-9.]* of this program' "$work/later.text"
}
run later_hwloc later

# made HOSTS RANKS KIND: a made-up cluster, read, drawn, planned; its JSON keeps to the schema
made() {
	job=$work/$1x$2-$3
	python3 "$here/cluster.py" "$1" "$2" "$3" >"$job.json" && valid "$job.json" &&
		"$topo" --load "$job.json" --plan --json "$job.out.json" --draw "$job.svg" --heat "$job.heat.svg" \
			>"$job.text" &&
		"$topo" --load "$job.json" --draw "$job.dot" >/dev/null || return 1
	valid "$job.out.json" && drawn "$job.svg" && drawn "$job.heat.svg" && grep -q '^}$' "$job.dot"
}

# A picture is XML that is whole, and nothing in it lies outside or has no place.
drawn() {
	python3 - "$1" <<-'EOF'
		import sys
		import xml.etree.ElementTree as tree
		root = tree.parse(sys.argv[1]).getroot()
		width, height = float(root.get("width")), float(root.get("height"))
		for e in root.iter():
		    for key in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy"):
		        limit = width if "x" in key else height
		        assert -1 <= float(e.get(key, 0)) <= limit + 1, (e.tag, e.attrib)
		assert len(list(root)) > 10
	EOF
}

alone_hosts() {
	made 2 1 laptops && made 4 2 laptops && made 8 1 switches && made 1 6 even || return 1
	cat "$work/4x2-laptops.text"
	# the legend has every colour of a core, and none that does not occur
	grep -q 'efficiency core' "$work/4x2-laptops.svg" && ! grep -q 'efficiency core' "$work/8x1-switches.svg" || return 1
	# the ring keeps to the cables, and what has none is missing; leaders are those of the hierarchy
	grep -Eq '^  ring: 0 1 (4 5|5 4) (2 3|3 2) (6 7|7 6)$' "$work/4x2-laptops.text" &&
		grep -q 'for a full mesh 2 of 6 cables are missing:' "$work/4x2-laptops.text" &&
		grep -q 'node0 - node1; node2 - node3' "$work/4x2-laptops.text" &&
		grep -q 'host 7 (node7), all links by tcp: 0.1' "$work/8x1-switches.text" &&
		heat "$work/8x1-switches.heat.svg" 8 0
}

# heat FILE RANKS SMALL: has a cell for each way alone, and one at once; so many are small, for they weren't measured; figures
# fit into their cells
heat() {
	python3 - "$1" "$2" "$3" <<-'EOF'
		import re, sys
		import xml.etree.ElementTree as tree
		ranks, small = int(sys.argv[2]), int(sys.argv[3])
		root = tree.parse(sys.argv[1]).getroot()
		texts = [e.text for e in root.iter() if e.tag.endswith("text")]
		for what in ("Latency", "Bandwidth"):
		    for how in (" alone", " of all at once"):
		        assert any(t.startswith(what + how) for t in texts), (what, how, texts[:9])
		boxes = [e for e in root.iter() if e.tag.endswith("rect") and e.get("height") not in ("100%", "10.0")]
		assert len(boxes) == 4 * ranks * ranks, len(boxes)
		widest = max(float(b.get("width")) for b in boxes)
		assert sum(float(b.get("width")) < widest - 0.2 for b in boxes) == small
		figures = [t for t in texts if re.fullmatch(r"[0-9.]+[kM]?", t)]
		assert len(figures) >= (4 * ranks * (ranks - 1) if ranks <= 24 else 0), len(figures)
		assert all(len(t) <= 4 and float(t.rstrip("kM")) >= 0 for t in figures), max(figures, key=len)
	EOF
}

many_hosts() {
	made 64 2 switches || return 1
	# latency and bandwidth, two ways, of 8128 - 253 pairs alone and of 8128 - 769 at once
	heat "$work/64x2-switches.heat.svg" 128 $((4 * (7875 + 7359))) || return 1
	cat "$work/64x2-switches.text"
	# few were measured, and it is said; what they share shows between the groups that the file has
	grep -q '^measured: 253 of 8128 pairs alone, 769 at once; ' "$work/64x2-switches.text" &&
		grep -q '^  group 1: hosts 1,3,5,' "$work/64x2-switches.text" &&
		grep -q '^  group 2: host 63$' "$work/64x2-switches.text" &&
		grep -Eq '^  group 0 to 1: 0.5[0-9]+ GB/s alone, 0.07[0-9]* at once$' "$work/64x2-switches.text" || return 1
	# two switches, and the host with the bad cable: as three cards
	grep -o '[0-9]* hosts: node[0-9]*' "$work/64x2-switches.svg" | sort >"$work/cards"
	cat "$work/cards"
	[ "$(cat "$work/cards")" = "31 hosts: node1
32 hosts: node0" ]
}

# Host files in the order of the ring; tutti-run reads both kinds.
host_files() {
	python3 "$here/cluster.py" 4 2 laptops >"$work/job.json" || return 1
	"$topo" --load "$work/job.json" --hostfile "$work/hosts" >/dev/null &&
		"$topo" --load "$work/job.json" --hostfile "$work/hosts.json" --format mlx >/dev/null || return 1
	cat "$work/hosts" "$work/hosts.json"
	[ "$(sed 1d "$work/hosts" | tr '\n' ' ')" = 'node0 slots=2 node2 slots=2 node1 slots=2 node3 slots=2 ' ] ||
		return 1
	python3 - "$work/hosts.json" <<-'EOF' || return 1
		import json, sys
		hosts = json.load(open(sys.argv[1]))
		assert [h["ssh"] for h in hosts] == ["node%d" % h for h in (0, 0, 2, 2, 1, 1, 3, 3)]
		assert hosts[2]["ips"] == ["10.0.0.3"]
	EOF
	# a remote shell that only tells whom it would call
	printf '#!/bin/sh\necho "$1" >>"%s/called"\nexit 1\n' "$work" >"$work/rsh" && chmod +x "$work/rsh"
	for file in hosts hosts.json; do
		rm -f "$work/called"
		timeout 60 "$TESTED_BIN/tutti-run" -n 8 --hostfile "$work/$file" --rsh "$work/rsh" true >/dev/null 2>&1
		[ "$(sort "$work/called" | tr '\n' ' ')" = 'node0 node1 node2 node3 ' ] || return 1
	done
}

# The ring of a job follows the file, whatever its ranks are called there; and what can't be used ends all of them.
believed() {
	"$TESTED_BIN/tutti-run" -n 4 "$topo" --json "$work/here.json" >/dev/null || return 1
	python3 - "$work/here.json" <<-'EOF'
		import json, sys
		job = json.load(open(sys.argv[1]))
		job["ring"]["order"] = [0, 2, 1, 3]
		json.dump(job, open(sys.argv[1], "w"))
	EOF
	export TUTTI_TOPO_FILE="$work/here.json"
	"$TESTED_BIN/tutti-run" -n 4 "$topo" --no-measure --plan >"$work/believed" || return 1
	cat "$work/believed"
	grep -q '^  ring: 0 2 1 3$' "$work/believed" || return 1
	TUTTI_ALGO=allreduce:ring "$TESTED_BIN/tutti-run" -n 4 "$TESTED_BIN/tutti-perf" allreduce -b 8 -e 1M -f 32 ||
		return 1
	TUTTI_TOPO_FILE=/nonexistent timeout 60 "$TESTED_BIN/tutti-run" -n 4 "$topo" --no-measure >"$work/wrong" 2>&1 &&
		return 1
	cat "$work/wrong"
	grep -q 'TUTTI_TOPO_FILE.*/nonexistent' "$work/wrong"
}

# What there is can't be seen: it is said, and all goes on.
blind() {
	cat >"$work/blind" <<-'EOF'
		taskset -c 0 "$1" | grep -q 'may use 1 of' || exit 1
		HWLOC_COMPONENTS=no_os,stop "$1" >"$2" && HWLOC_COMPONENTS=-linux,-pci "$1" >>"$2" &&
			HWLOC_FSROOT=/nonexistent "$1" >>"$2" || exit 1
		grep -q '/sys is missing: speed and state of devices' "$2" && grep -q 'hwloc lists no devices' "$2"
	EOF
	sh "$work/blind" "$topo" "$work/seen" || { cat "$work/seen"; return 1; }
	taskset -c 0 "$topo" --json "$work/core.json" >/dev/null && valid "$work/core.json" &&
		python3 -c 'import json, sys
for v in json.load(open(sys.argv[1]))["hosts"][0]["memory_GBps"]: assert v["cores"] <= 1' "$work/core.json" || return 1
	taskset -c 0 "$TESTED_BIN/tutti-run" --bind none -n 2 "$topo" --json "$work/one.json" >"$work/one" || return 1
	cat "$work/one"
	valid "$work/one.json" && grep -q 'ranks 0,1 are bound to one core\|ranks 0-1 are bound to one core' "$work/one"
}

# No right to anything: a user who is nobody, with neither /sys nor most of /proc.
locked_in() {
	unshare --user --map-root-user --mount --pid --fork sh -c 'mount -t tmpfs none /sys &&
		mount -t tmpfs none /proc && exec "$0" --json "$1"' "$topo" "$work/locked.json" >"$work/locked" 2>&1 || { cat "$work/locked"; return 1; }
	cat "$work/locked"
	grep -q '/sys is missing' "$work/locked" && valid "$work/locked.json"
}

# Calls on end empty the buckets of the cables, however short they are; then the cable's speed counts: 131 us for 16 KiB.
buckets() {
	echo '{"hosts": [{"count": 2, "gbit": 1}], "burst_kb": 74, "latency_us": 1, "message_us": 1}' >"$work/buckets"
	TUTTI_TUNE_FILE=none TUTTI_ALGO=allreduce:doubling "$topo" --predict allreduce --cluster "$work/buckets" -b 4K -e 16K \
		>"$work/predicted" || return 1
	cat "$work/predicted"
	awk '$1 == 4096 { small = $2 + 0 } $1 == 16384 { us = $2 + 0 }
		END { exit !(us > 130 && us < 150 && small > 32 && small < 40) }' "$work/predicted"
}

# What a simulation found the fastest is what communicators of that shape do, each collective by its own lines.
told() {
	echo '{"hosts": [{"ranks": 2}]}' >"$work/pair.json"
	TUTTI_TUNE_FILE=none TUTTI_ALGO=allreduce:ring "$topo" --predict allreduce --cluster "$work/pair.json" -b 4K -e 64K \
		--choose "$work/pair.tune" &&
		TUTTI_TUNE_FILE=$work/pair.tune "$topo" --predict allgather --cluster "$work/pair.json" -b 4K -e 64K \
			--choose "$work/pair.tune" || return 1
	cat "$work/pair.tune"
	grep -q '^choose allreduce 2 1 \* ring$' "$work/pair.tune" && grep -q '^choose allgather 2 1 \* ' "$work/pair.tune" || return 1
	TUTTI_TUNE_FILE=$work/pair.tune TUTTI_TRANSPORT=shm "$TESTED_BIN/tutti-run" -n 2 "$TESTED_BIN/tutti-perf" allreduce \
		-b 4K -e 4K -n 5 -w 1 --explain >"$work/explained" || return 1
	cat "$work/explained"
	grep -q '^# .* ring x1, predicted' "$work/explained" || return 1
	# where the cable is the limit of all, the ring: of two hosts no streams meet, whatever they do
	echo '{"hosts": [{"count": 3, "gbit": 1}], "latency_us": 5}' >"$work/three.json"
	"$topo" --predict allreduce --cluster "$work/three.json" -b 4M -e 4M --choose "$work/three.tune" || return 1
	grep -q '^choose allreduce 3 3 \* ring$' "$work/three.tune" || return 1
	! "$topo" --predict allreduce --cluster "$work/pair.json" --ranks 1,2 --choose "$work/none" 2>"$work/why" &&
		grep -q 'choose can.t be combined' "$work/why" && [ ! -e "$work/none" ]
}

dot_reads_it() {
	for kind in '8 1 switches' '1 6 even' '64 1 even'; do
		python3 "$here/cluster.py" $kind >"$work/job.json" &&
			"$topo" --load "$work/job.json" --draw "$work/job.dot" >/dev/null &&
			dot -Tsvg -o "$work/job.dot.svg" "$work/job.dot" || return 1
	done
}

run pictures_and_plans alone_hosts
if command -v dot >/dev/null; then
	run dot_reads_it dot_reads_it
else
	skip dot_reads_it "no Graphviz"
fi
run many_hosts many_hosts
run host_files host_files
run believed believed
run buckets buckets
run told told
run blind blind
if unshare --user --map-root-user --mount --pid --fork true 2>/dev/null; then
	run locked_in locked_in
else
	skip locked_in "no user namespaces"
fi
report

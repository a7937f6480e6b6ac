#!/bin/sh
# tutti-topo and its files: descriptions of varied machines are read and shown, what is written keeps to the schema and
# can be read again, and rings follow a file that TUTTI_TOPO_FILE names. The machines are exports of hwloc: lstopo of a
# synthetic description, of a guest, and of the same without its devices; hybrid.xml had hwloc-annotate add the cpukinds.
. "$(dirname "$0")/../sh.sh"
here=$(cd "$(dirname "$0")" && pwd)
schema=$top/docs/topology.schema.json
topo=$TUTTI_BIN/tutti-topo
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
run hybrid shows hybrid '4 x L2 2 MiB, core of kind 1, thread' '2 x L2 2 MiB, core of kind 0, thread'
run flat shows flat '0 packages, 4 cores' '  4 x core, thread'
run guest shows guest 'guest: x86_64' 'eth0       network state unknown, speed unknown, 02:00:00:00:00:01, 0000:00:03.0'
run no_io shows no-io 'hwloc shows no devices'

report

#!/bin/sh
# SPDX-License-Identifier: MIT
# An algorithm is one file and one row. chain.c and its row in table.c are all that these programs have beyond the library, and they
# list, print, prove, price, choose, run and simulate it. docs/adding-an-algorithm.md shows the same file.
. "$(dirname "$0")/../sh.sh"
here=$(cd "$(dirname "$0")" && pwd)
toy=$(dirname "$TESTED_BIN")/toy
export TUTTI_TUNE_FILE=none
unset TUTTI_ALGO TUTTI_TOPO_FILE

# explains PROGRAM OPTION...: how three ranks over TCP do a broadcast of 64 KiB; it verifies the results
explains() {
	program=$1
	shift
	env TUTTI_TRANSPORT=tcp "$@" "$TESTED_BIN/tutti-run" -n 3 "$program" broadcast -b 64K -e 64K -n 3 -w 1 --explain
}

documented() {
	awk '/^```c$/ { text = ""; on = 1; next } /^```$/ { if (text ~ /algo_chain/) { printf "%s", text; exit } on = 0 }
		on { text = text $0 "\n" }' "$top/docs/adding-an-algorithm.md" | diff "$here/chain.c" -
}

listed() {
	"$toy/tutti-info" --algorithms | grep -q '^chain: each rank passes data' &&
		! "$TESTED_BIN/tutti-info" --algorithms | grep -q '^chain: '
}

printed() {
	"$toy/tutti-info" --plan broadcast:chain -n 3 >"$work/plan" || return 1
	cat "$work/plan"
	grep -q '^broadcast:chain rank 1 of 3: 4 blocks' "$work/plan" && grep -q 'from 0.0 -> OUT\[3\], to 2.0' "$work/plan"
}

proved() {
	"$toy/tutti-info" --check broadcast:chain -n 5 | grep 'is right' &&
		TUTTI_TEST_CASE=chain "$toy/test_plan" >"$work/proof" && "$toy/test_volume" >"$work/volume"
	status=$?
	cat "$work/proof" "$work/volume"
	return $status
}

forced() {
	explains "$toy/tutti-perf" TUTTI_ALGO=broadcast:chain >"$work/forced" || return 1
	cat "$work/forced"
	grep -q '^# .* chain x1, predicted' "$work/forced" || return 1
	! explains "$toy/tutti-perf" TUTTI_ALGO=broadcast:star 2>"$work/why" && grep -q 'known: .* chain' "$work/why" || return 1
	! explains "$TESTED_BIN/tutti-perf" TUTTI_ALGO=broadcast:chain 2>"$work/why" && grep -q 'chain' "$work/why"
}

# By price alone, where it is the cheapest; not where it is excluded, and not for short messages.
chosen() {
	explains "$toy/tutti-perf" >"$work/chosen" && grep '^# .* chain x1, predicted' "$work/chosen" || return 1
	explains "$toy/tutti-perf" TUTTI_ALGO=broadcast:^chain >"$work/other" && ! grep -q '^# .* chain x' "$work/other" || return 1
	TUTTI_TRANSPORT=tcp "$TESTED_BIN/tutti-run" -n 3 "$toy/tutti-perf" broadcast -b 64 -e 64 -n 3 -w 1 --explain >"$work/short" &&
		! grep -q '^# .* chain x' "$work/short"
}

simulated() {
	echo '{"hosts": [{"count": 3, "gbit": 10}], "latency_us": 5}' >"$work/three.json"
	"$toy/tutti-topo" --predict broadcast --cluster "$work/three.json" -b 64K -e 64K --json "$work/predicted.json" \
		--choose "$work/tune" || return 1
	cat "$work/predicted.json"
	python3 - "$work/predicted.json" <<-'EOF' || return 1
		import json, sys
		row, = json.load(open(sys.argv[1]))["rows"]
		assert row["chosen"] == row["fastest"] == "chain" and row["seconds"]["chain"] > 5e-5, row
	EOF
	grep -q '^choose broadcast 3 3 \* chain$' "$work/tune" || return 1
	sed 's/broadcast 3 3/broadcast 3 1/' "$work/tune" >"$work/here" # and a table may ask for it
	TUTTI_TUNE_FILE=$work/here "$TESTED_BIN/tutti-run" -n 3 "$toy/tutti-perf" broadcast -b 64 -e 64 -n 3 -w 1 --explain |
		grep '^# .* chain x1, predicted'
}

for t in documented listed printed proved forced chosen simulated; do
	run $t $t
done
report

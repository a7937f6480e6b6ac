#!/bin/sh
# SPDX-License-Identifier: MIT
# Every fuzz target over its corpus, and RUNS changed inputs each (default 2000; the seed is printed on failure).
. "$(dirname "$0")/../sh.sh"
export TUTTI_LOG=error
cd "$work" || exit 2
for f in "$TESTED_BIN"/../fuzz/fuzz_*; do
	name=${f##*/}
	run "$name" timeout 900 "$f" -runs="${RUNS:-2000}" "$top/tests/fuzz/corpus/${name#fuzz_}"
done
report

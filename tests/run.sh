#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs test programs one after the other, each under a time limit, and adds up what they report.
#   run.sh SECONDS PROGRAM...      Output of a program is shown when something in it failed, or with V=1.
# The last lines: what each failed test said once more, and N passed, N failed, N skipped. Status 1 if anything failed,
# crashed or hung.
limit=$1
shift
passed=0 failed=0 skipped=0
export TUTTI_TUNE_FILE=none # a table that this machine was tuned with must not steer tests
log=$(mktemp) failures=$(mktemp)
trap 'rm -f "$log" "$failures"' EXIT
# what each failed test of a log printed between its start and its end; what has no end was cut short
said() {
	awk -v program="$1" '
		function tell() { printf "%s: %s\n%s", program, name, text; text = ""; name = "" }
		/^\[ RUN      \] /    { if (name) tell(); name = $4; text = ""; next }
		/^\[       OK \] /    { name = ""; next }
		/^\[  SKIPPED \] /    { name = ""; next }
		/^\[  FAILED  \] [a-z]/ { if (name) tell(); next }
		name                  { text = text "    " $0 "\n" }
		END                   { if (name) tell() }' "$2" | tail -40
}
for t in "$@"; do
	name=${t##*/tests/}
	begin=$(date +%s)
	timeout -k 5 "$limit" "$t" >"$log" 2>&1 </dev/null
	rc=$?
	took=$(($(date +%s) - begin))
	p=$(grep -c '^\[       OK \]' "$log")
	f=$(sed -n 's/^\[  FAILED  \] \([0-9][0-9]*\) test(s).*/\1/p' "$log" | tail -1)
	s=$(grep -c '^\[  SKIPPED \] [a-z]' "$log")
	f=${f:-0}
	[ "$rc" -eq 0 ] || [ "$f" -gt 0 ] || f=1
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	printf '%-28s %4d passed %3d failed %3d skipped %5d s\n' "$name" "$p" "$f" "$s" "$took"
	grep '^\[  SKIPPED \] [a-z]' "$log" | sort -u | sed 's/^/    /'
	if [ "$f" -gt 0 ] || [ "${V:-0}" = 1 ]; then
		[ "$rc" -ne 124 ] && [ "$rc" -ne 137 ] || echo "    ended after $limit s: it hung"
		sed 's/^/    /' "$log" | tail -80
		said "$name" "$log" >>"$failures"
	fi
done
cat "$failures"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

# SPDX-License-Identifier: MIT
# For tests in shell: `. sh.sh`, then `run NAME COMMAND...` per test, `skip NAME WHY`, `report` last.
# Output is cmocka's, so that run.sh counts it.
top=$(cd "$(dirname "$0")/../.." && pwd)
: "${TESTED_BIN:=$top/${B:-build}/bin}"
export TESTED_BIN
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n_ok=0 n_bad=0 bad_names=
run() {
	name=$1
	shift
	echo "[ RUN      ] $name"
	if "$@" >"$work/out" 2>&1; then
		echo "[       OK ] $name"
		n_ok=$((n_ok + 1))
	else
		cat "$work/out"
		echo "[  FAILED  ] $name"
		n_bad=$((n_bad + 1)) bad_names="$bad_names $name"
	fi
}
skip() {
	echo "[  SKIPPED ] $1: $2"
}
report() {
	echo "[  PASSED  ] $n_ok test(s)."
	[ $n_bad = 0 ] || echo "[  FAILED  ] $n_bad test(s), listed below:$bad_names"
	exit $((n_bad > 0))
}

#!/bin/sh
# SPDX-License-Identifier: MIT
# On aarch64, under qemu-user: the rank-free tests whose answer may depend on the processor, and samples of the matrix with
# 2, 3 and 4 ranks. Everything has a time limit: an emulator may hang where the machine would not.
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 2
b=build-aarch64
cross() { make --no-print-directory CROSS=aarch64-linux-gnu- B=$b "$@" || exit 1; }
list=
# emulate TEST NAME [VARIABLE=VALUE]: a script that runs it, for run.sh
emulate() {
	mkdir -p "$b/qemu/tests/${2%/*}"
	printf '#!/bin/sh\n%s exec qemu-aarch64 -L / %s/%s/tests/%s "$@"\n' "${3:-}" "$top" "$b" "$1" >"$b/qemu/tests/$2"
	chmod +x "$b/qemu/tests/$2"
	list="$list $b/qemu/tests/$2"
}
tests="kernel/test_kernel kernel/test_wire kernel/test_environment transformer/test_loops plan/test_layout unit/test_util unit/test_launch"
cross lib
for t in $tests coll/test_matrix; do cross "$b/tests/$t"; done
for t in $tests; do emulate "$t" "$t"; done
one="TUTTI_TEST_SEED=5 TUTTI_TEST_WORLD=0" # a world takes half a minute
emulate coll/test_matrix coll/matrix_2_threads "$one TUTTI_TEST_ONLY='way=inproc n=2 slot=4096'"
emulate coll/test_matrix coll/matrix_3_shm "$one TUTTI_TEST_ONLY='way=shm n=3 slot=4096'"
emulate coll/test_matrix coll/matrix_4_tcp "$one TUTTI_TEST_ONLY='way=tcp n=4 slot=131072'"
tests/run.sh 900 $list

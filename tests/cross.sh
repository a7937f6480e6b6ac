#!/bin/sh
# The tests that need no network of processes, and a small matrix with 2, 3 and 4 ranks, built for aarch64 and run under
# qemu-user. Everything has a time limit: an emulator may hang where the machine would not.
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 2
b=build-aarch64
make --no-print-directory CROSS=aarch64-linux-gnu- B=$b lib || exit 1
tests="kernel/test_kernel plan/test_layout plan/test_plan plan/test_plan_check unit/test_util unit/test_launch coll/test_matrix"
list=
for t in $tests; do
	[ -e "tests/$t.c" ] || continue
	make --no-print-directory CROSS=aarch64-linux-gnu- B=$b "$b/tests/$t" || exit 1
	mkdir -p $b/qemu/tests/"${t%/*}"
	printf '#!/bin/sh\nexec qemu-aarch64 -L / %s/%s/tests/%s "$@"\n' "$top" "$b" "$t" >"$b/qemu/tests/$t"
	chmod +x "$b/qemu/tests/$t"
	list="$list $b/qemu/tests/$t"
done
TUTTI_TEST_SMALL=1 tests/run.sh 900 $list

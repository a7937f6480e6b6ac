#!/bin/sh
# SPDX-License-Identifier: MIT
# The collective matrix over the verbs transport on the imaginary device (imaginary.h), in each of its modes, connected
# by rdma_cm, and over two rails: a small sample, which still has every pair of values. SEED repeats one, CASES makes it
# larger.
. "$(dirname "$0")/../sh.sh"
tests=${TESTED_BIN%/bin}/tests
export TUTTI_VERBS_LIB="$tests/verbs/libimaginary.so" TUTTI_TEST_NETWORK=verbs
[ -e "$TUTTI_VERBS_LIB" ] || { skip matrix "$TUTTI_VERBS_LIB was not built"; report; }
: "${SEED:=20201}"
# matrix NAME VARIABLE=VALUE
matrix() {
	env -u TESTED_BIN "$2" IMAGINARY_RDMA="$work/sea-$1" TUTTI_TEST_SEED="$SEED" TUTTI_TEST_CASES="${CASES:-12}" \
		"$tests/coll/test_matrix"
}
for mode in write send uc; do
	run "matrix_$mode" matrix $mode TUTTI_VERBS_MODE=$mode
done
run matrix_cm matrix cm TUTTI_VERBS_CONNECT=cm
run matrix_rails matrix rails TUTTI_VERBS_DEVICE=imaginary0,imaginary1
report

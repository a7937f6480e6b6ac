#!/bin/bash
# SPDX-License-Identifier: MIT
# The suite over the imaginary Darwin, on Linux (`make check-darwin`): what only Linux has does not compile, the imaginary
# Darwin's own test, the contract of src/os/os.h, with and without the right to read other tasks, then the tests. What is
# left out stands in skipped.txt with the reason. Each program has five minutes.
cd "$(dirname "$0")/../.." || exit 2
b=${B:-build-imaginary-darwin}
export TESTED_BIN=$PWD/$b/bin DARWIN_SKIPS=$PWD/tests/darwin/skipped.txt

# refused CODE: a file with it does not compile
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compiles() {
	printf '%s\n' "$1" >"$work/code.c"
	${CC:-gcc} -std=c11 -D_GNU_SOURCE -include tests/darwin/darwin.h -isystem tests/darwin/include -Werror -c \
		-o "$work/code.o" "$work/code.c" 2>"$work/said"
}
refused() {
	if compiles "$1" || ! grep -q poisoned "$work/said"; then
		echo "[  FAILED  ] not refused: $1"
		bad=1
	fi
}
bad=0
compiles 'int f(int s) { return (int)send(s, "x", 1, MSG_DONTWAIT); }' || { cat "$work/said"; exit 1; }
for code in 'int f(int s) { return (int)send(s, "x", 1, MSG_NOSIGNAL); }' 'int f(void) { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }' \
	'int f(int s) { return accept4(s, NULL, NULL, 0); }' 'int f(int *e) { return pipe2(e, 0); }' '#include <sys/epoll.h>' \
	'#include <sys/eventfd.h>' '#include <sys/timerfd.h>' '#include <sys/prctl.h>' 'long f(void) { return syscall(1); }' \
	'int f(void) { return memfd_create("x", 0); }' 'extern char **environ;' 'int f(pthread_barrier_t *b) { return pthread_barrier_wait(b); }' \
	'int f(void *p) { return madvise(p, 16384, MADV_HUGEPAGE); }' 'int f(cpu_set_t *s) { return sched_getaffinity(0, sizeof(*s), s); }' \
	'int f(int s, void *v, socklen_t *n) { return getsockopt(s, SOL_SOCKET, SO_PEERCRED, v, n); }' 'int x = TCP_USER_TIMEOUT;'; do
	refused "$code"
done
[ $bad = 0 ] || exit 1
echo "what only Linux has does not compile"

# under NAME [VARIABLE=VALUE]: the test with a variable, as a program of its own for run.sh
with() {
	mkdir -p "$work/tests/${2%/*}"
	printf '#!/bin/sh\n%s exec %s "$@"\n' "$3" "$PWD/$b/tests/$1" >"$work/tests/$2"
	chmod +x "$work/tests/$2"
	echo "$work/tests/$2"
}
lacks=DARWIN_LACKS=task_for_pid
tests/run.sh 300 "$b/tests/darwin/test_darwin" "$b/tests/os/test_os" "$(with os/test_os os/test_os_no_tasks $lacks)" || exit 1
[ "$1" != contract ] || exit 0

# Left out: transports that no Mac has (libfabric), and what takes long and knows no system (plans, tables, simulations).
list=
for t in "$b"/tests/{unit,coll,fault,trust,kernel,verbs}/test_*; do
	case $t in
	*/unit/test_tuner_sim | */unit/test_sim | */coll/test_matrix) continue ;;
	esac
	list="$list $t"
done
world="TUTTI_TEST_SEED=5 TUTTI_TEST_WORLD=0"
tests/run.sh 300 $list "$(with coll/test_core coll/test_core_no_tasks $lacks)" \
	"$(with coll/test_matrix coll/matrix_3_shm "$world TUTTI_TEST_ONLY='way=shm n=3 slot=4096'")" \
	"$(with coll/test_matrix coll/matrix_4_tcp "$world TUTTI_TEST_ONLY='way=tcp n=4 slot=131072'")"

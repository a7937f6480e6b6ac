#!/bin/sh
# SPDX-License-Identifier: MIT
# The arrows of docs/design.md, read from the #include lines: FOLDER-OR-FILE may include what its row allows.
cd "$(dirname "$0")/.." || exit 2
bad=0
# rule PATTERN ALLOWED-REGEX: every quoted include in files that match PATTERN must match (resolved below src/ or plain)
rule() {
	also "$@"
	[ -z "$files" ] || printf 'ruled %s\n' $files
}
# also: the same for files that have a rule of their own
also() {
	files=$(find $1 -name '*.[ch]' | sort)
	[ -n "$files" ] || echo "tests/layering.sh: a rule is for what is not there: $1"
	allowed="^($2)\$" awk '
		/^#include "/ {
			path = $2
			gsub(/"/, "", path)
			beside = FILENAME
			sub(/[^\/]*$/, "", beside)
			beside = beside path
			if ((getline line < beside) >= 0) {
				close(beside)
				while (sub(/[^\/]+\/\.\.\//, "", beside))
					;
				path = beside
			}
			if (path !~ ENVIRON["allowed"])
				print FILENAME ":" FNR ": may not include " path
		}' $files
}
out=$(
	rule src/os 'src/os/.*'
	rule src/util 'src/util/.*|src/os/os\.h|tutti\.h'
	rule src/kernel 'src/kernel/.*|src/util/float_env\.h|tutti\.h'
	rule src/algo 'src/algo/.*|src/plan/plan\.h'
	rule src/plan 'src/plan/.*'
	rule 'src/engine/link.h' ''
	rule 'src/engine/wait.c src/engine/wait.h' 'src/engine/(wait|link)\.h|src/os/os\.h|src/util/(alarm|clock)\.h'
	rule 'src/engine/engine.c src/engine/engine.h src/engine/crew.c src/engine/crew.h' 'src/engine/(engine|crew|link|wait)\.h|src/plan/.*|src/kernel/(kernel|wire)\.h|src/os/os\.h|src/util/error\.h|tutti\.h'
	rule src/direct 'src/direct/.*|src/engine/(engine|crew|link)\.h|src/segment/segment\.h|src/plan/.*|src/kernel/kernel\.h|src/util/.*|tutti\.h'
	rule 'src/segment src/transport.c src/transport.h' 'src/segment/.*|src/os/os\.h|src/transport\.h|src/engine/link\.h|src/bootstrap/contact\.h|src/util/.*'
	rule transports 'transports/.*|src/os/os\.h|src/transport\.h|src/engine/link\.h|src/segment/segment\.h|src/bootstrap/contact\.h|src/util/.*'
	rule src/bootstrap 'src/bootstrap/.*|src/os/os\.h|src/util/.*|tutti\.h'
	rule src/launch 'src/launch/.*|src/os/os\.h|src/bootstrap/.*|src/util/.*|tutti\.h'
	rule src/control 'src/control/.*|src/os/os\.h|src/bootstrap/.*|src/(plan/plan|algo/algo)\.h|src/kernel/(kernel|wire)\.h|src/util/.*|tutti\.h'
	rule src/world 'src/world/.*|src/os/os\.h|src/transport\.h|src/(bootstrap|control|launch|segment|topo|tuner|util)/.*|src/engine/(wait|link)\.h|tutti\.h'
	# rooms of a communicator: each knows its own header, comm.h, and the rooms below it
	room() {
		rule "src/comm/$1.c src/comm/$1.h" "src/comm/($1|$2)\.h|src/os/os\.h|src/transport\.h|src/(algo|control|direct|engine|kernel|plan|segment|tuner|util|world)/.*|tutti\.h"
	}
	rule 'src/comm/args.c src/comm/args.h' 'src/comm/args\.h|src/plan/.*|src/kernel/kernel\.h|src/util/error\.h|tutti\.h'
	room choose 'args|comm'
	room links 'comm'
	room prepared 'args|choose|links|comm'
	room request 'prepared|mismatch|comm'
	room mismatch 'request|comm'
	room queue 'request|comm'
	room poll 'comm'
	room late 'comm'
	room mem 'comm'
	room finish 'comm'
	rule 'src/comm/group.c src/comm/group.h' 'src/comm/(group|finish)\.h|src/util/error\.h'
	room call 'args|comm|finish|group'
	room split 'call|comm|finish'
	rule 'src/comm/comm.c src/comm/comm.h' 'src/comm/(comm|late|links|mem|poll|prepared|queue)\.h|src/(control|engine|topo|tuner|util|world)/.*'
	rule 'src/api.c src/start.c' 'src/(comm|util|launch)/.*|src/os/os\.h|src/kernel/wire\.h|tutti\.h'
	rule src/topo 'src/topo/.*|src/util/.*|tutti\.h'
	rule src/tuner 'src/tuner/.*|src/algo/algo\.h|src/direct/direct\.h|src/plan/plan\.h|src/util/.*|tutti\.h'
	# the library stands without what only tools use
	also src 'src/.*|tutti\.h'
	rule tools/cli 'tools/cli/.*'
	rule tools/check 'tools/check/.*|src/plan/.*'
	rule tools/sim 'tools/sim/.*|src/algo/algo\.h|src/engine/engine\.h|src/plan/.*|src/util/.*|tutti\.h'
	rule tools/machine 'tools/machine/.*|src/os/os\.h|src/util/.*|tutti\.h'
	rule tools/doctor 'tools/doctor/.*|src/transport\.h|src/util/.*|tutti\.h'
	rule tools/run 'tools/(run|cli)/.*|src/os/os\.h|src/util/.*|tutti\.h'
	rule tools/tune 'tools/tune/.*|src/comm/.*|src/kernel/kernel\.h|src/util/.*|tutti\.h'
	rule tools/topo 'tools/(topo|machine|sim)/.*|src/(comm|topo|tuner|util)/.*|src/os/os\.h|src/transport\.h|tutti\.h'
	rule tools/tutti-run.c 'tools/(run|cli)/.*|src/util/.*|tutti\.h'
	rule tools/tutti-topo.c 'tools/(topo|cli)/.*|src/util/.*|tutti\.h'
	rule tools/tutti-info.c 'tools/(check|cli|doctor|tune)/.*|src/(algo|bootstrap|comm|kernel|util)/.*|tutti\.h'
	# what the system has, beside the public interface
	rule 'perf' 'perf/.*|src/os/os\.h|tools/cli/cli\.h|tools/machine/system\.h|tutti\.h'
)
ruled=$(printf '%s\n' "$out" | sed -n 's/^ruled //p')
out=$(printf '%s\n' "$out" | grep -v '^ruled ')
free=$(find src tools transports perf -name '*.[ch]' | grep -vxF "$ruled" | sed 's/^/tests\/layering.sh has no rule for /')
# an engine builds and links the library without the tools' libraries
foreign=$(grep -nE '#include <(hwloc|jansson)' -r src transports include | sed 's/$/: for tools only/')
# one seam to the operating system: a header or a name that only one system has is in src/os alone
headers='linux/.*|asm/.*|sys/(epoll|eventfd|timerfd|signalfd|inotify|prctl|sysinfo|syscall|sendfile|auxv|random)\.h|netpacket/.*'
headers="$headers|(malloc|endian|byteswap|sys/sysmacros|error|argp)\.h|mach/.*|mach-o/.*|os/.*|dispatch/.*|pthread/.*|Availability.*"
headers="$headers|sys/(event|sysctl|ucred|proc_info|sockio|kern_control)\.h|libproc\.h|crt_externs\.h|TargetConditionals\.h"
names='__linux__|__APPLE__|__MACH__|syscall|SYS_[a-z0-9_]+|__NR_[a-z0-9_]+|prctl|PR_[A-Z_]+'
names="$names|epoll_[a-z0-9_]+|eventfd|timerfd_[a-z]+|signalfd|inotify_[a-z0-9_]+|pidfd_[a-z_]+|futex|FUTEX_[A-Z_]+|membarrier"
names="$names|memfd_create|MFD_[A-Z]+|F_(ADD|GET)_SEALS|F_SEAL_[A-Z]+|fallocate|FALLOC_[A-Z_]+|process_vm_[a-z]+|mremap|mincore"
names="$names|MAP_(POPULATE|HUGETLB|LOCKED|FIXED_NOREPLACE)|mbind|[gs]et_mempolicy|move_pages"
names="$names|MADV_(DONTDUMP|DODUMP|DONTFORK|WIPEONFORK|HUGEPAGE|NOHUGEPAGE|REMOVE|POPULATE_[A-Z]+|FREE_[A-Z]+)"
names="$names|SO_(PEERCRED|PROTOCOL|DOMAIN|BINDTODEVICE|BUSY_POLL|INCOMING_CPU|ZEROCOPY|NOSIGPIPE)|ucred|LOCAL_PEER[A-Z]+|xucred"
names="$names|SOCK_(CLOEXEC|NONBLOCK|SEQPACKET)|accept4|pipe2|dup3|MSG_(NOSIGNAL|EOR|MORE|ZEROCOPY|CMSG_CLOEXEC)|sendmmsg|recvmmsg"
names="$names|SOL_TCP|TCP_(KEEP(IDLE|INTVL|CNT|ALIVE)|USER_TIMEOUT|QUICKACK|CORK|NOPUSH|INFO|CONNECTION_INFO|DEFER_ACCEPT|FASTOPEN)"
names="$names|sockaddr_un|sun_path|POLLRDHUP|ppoll|O_(TMPFILE|PATH|DIRECT)|close_range|posix_fadvise|posix_fallocate|splice|vmsplice"
names="$names|sched_[gs]etaffinity|sched_getcpu|getcpu|gettid|cpu_set_t|CPU_(SET|CLR|ZERO|ISSET|COUNT|AND|OR|ALLOC|SETSIZE)(_S)?"
names="$names|pthread_[gs]etname_np|pthread_[a-z]+affinity_np|pthread_(timed|try)join_np|pthread_set_qos[a-z_]+|QOS_CLASS_[A-Z_]+"
names="$names|pthread_barrier_[a-z]+|pthread_condattr_setclock|pthread_spin_[a-z]+|pthread_mutex_timedlock|sem_(init|timedwait)"
names="$names|clock_nanosleep|timer_create|CLOCK_(BOOTTIME|MONOTONIC_RAW|MONOTONIC_COARSE|UPTIME_RAW)|RUSAGE_THREAD|sysinfo|getauxval"
names="$names|_SC_(PHYS_PAGES|AVPHYS_PAGES|LEVEL[A-Z0-9_]+)|sigtimedwait|sigwaitinfo|execvpe|fexecve|environ|unshare|setns|ptrace"
names="$names|program_invocation_[a-z_]+|secure_getenv|explicit_bzero|memset_s|strchrnul|mempcpy|memrchr|rawmemchr|qsort_r|strverscmp"
names="$names|strerror_r|canonicalize_file_name|get_nprocs|malloc_trim|mallinfo2?|getrandom|getentropy|arc4random[a-z_]*|ENONET"
names="$names|kqueue|kevent(64)?|EVFILT_[A-Z]+|mach_[a-z_]+|task_for_pid|host_statistics[0-9]*|sysctlbyname|proc_pid[a-z]+"
names="$names|os_sync_[a-z_]+|__ulock_[a-z]+|_NSGet[A-Za-z]+|F_(FULLFSYNC|NOCACHE)|memory_object_[a-z_]+"
stays=
stays() { stays="$stays|^$1:[0-9]+:.*$2"; } # FILE NAMES WHY
stays 'perf/floor/floor\.c' '.*' 'stands alone: it says what the machine gives without the library'
stays 'perf/compare/loop\.c' '.*' 'is linked with other libraries and without this one'
stays 'perf/lib/report\.c' '/proc/' 'prints what Linux counts for a process, and nothing elsewhere'
stays 'tools/machine/system\.c' '/(proc|sys)/' "reads the files of a Linux machine, maybe another one's, that were saved"
stays 'tools/doctor/doctor\.c' '/sys/' "looks for faults of Linux's RDMA devices and their drivers"
stays 'transports/libfabric/choose\.c' '/sys/' 'asks for directories that only Linux has; elsewhere there are no such cards'
stays 'src/util/net\.c' 'ENONET' 'only if it is defined'
seam=$(find src transports tools perf -name '*.[ch]' ! -path 'src/os/*' | sort | xargs awk '
	FNR == 1 { comment = 0 }
	{
		if (comment && !sub(/^.*\*\//, "")) next
		gsub(/\/\*([^*]|\*[^\/])*\*\//, "")
		comment = sub(/\/\*.*$/, "")
		print FILENAME ":" FNR ": " $0
	}' | grep -E "^[^:]+:[0-9]+: #include <($headers)>|[^A-Za-z0-9_.]($names)([^A-Za-z0-9_]|\$)|\"(%s)?/(proc|sys)/" |
	grep -vE "${stays#|}" | sed 's/$/   <- only one system has it: src\/os/')
# planners: no atomics, no input or output, no memory of their own
pure=$(grep -nE '#include <(stdatomic|stdio|unistd|pthread|sys/)' src/algo/*.c src/algo/*.h)
# an algorithm's name is for its row alone
names=$(sed -n 's/.*\.name = "\(.*\)",/\1/p' src/algo/*.c | paste -sd'|')
named=$(grep -rnE "(cmp|algo_by_name)\(.*\"($names)\"" src tools --include='*.[ch]' | sed 's/^/knows an algorithm by its name: /')
# memory order: every release and acquire has its label, the label its row in docs/memory-model.md, and the row its sites
unlabelled=$(grep -rnE 'memory_order_(release|acquire|acq_rel|seq_cst)' src transports --include='*.[ch]' | grep -vE '[RA][0-9]+' |
	sed 's/^/no label: /')
unlisted=$(grep -rhoE '/\* [RA][0-9]+' src transports --include='*.[ch]' | sed 's/.*[RA]/R/' | sort -u | while read -r label; do
	grep -q "^| $label " docs/memory-model.md || echo "docs/memory-model.md has no row for $label"
done)
unused=$(sed -n 's/^| \(R[0-9]*\)\( . \(A[0-9]*\)\)\? |.*/\1 \3/p' docs/memory-model.md | tr ' ' '\n' | grep . | while read -r label; do
	grep -rqE "memory_order.*/\* $label\b" src transports --include='*.[ch]' || echo "docs/memory-model.md: no site has the label $label"
done)
for t in "$out" "$free" "$foreign" "$seam" "$pure" "$named" "$unlabelled" "$unlisted" "$unused" "$unlicensed"; do
	[ -z "$t" ] || { printf '%s\n' "$t"; bad=1; }
done
[ $bad = 0 ] && echo "layering holds"
exit $bad

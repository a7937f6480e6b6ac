#!/bin/sh
# The arrows of docs/design.md, read from the #include lines: FOLDER-OR-FILE may include what its row allows.
cd "$(dirname "$0")/.." || exit 2
bad=0
# rule PATTERN ALLOWED-REGEX: every quoted include in files that match PATTERN must match (resolved below src/ or plain)
rule() {
	find $1 >/dev/null || echo "tests/layering.sh: a rule is for what is not there"
	for f in $(find $1 -name '*.[ch]' | sort); do
		dir=$(dirname "$f")
		grep -n '^#include "' "$f" | while IFS=: read -r line text; do
			inc=$(printf '%s' "$text" | sed 's/#include "\([^"]*\)".*/\1/')
			if [ -e "$dir/$inc" ]; then path=$(realpath --relative-to=. "$dir/$inc"); else path=$inc; fi
			printf '%s\n' "$path" | grep -Eq "^($2)$" || echo "$f:$line: may not include $path"
		done
	done
}
out=$(
	rule src/os 'src/os/.*'
	rule src/util 'src/util/.*|src/os/os\.h|tutti\.h'
	rule src/kernel 'src/kernel/.*|src/util/float_env\.h|tutti\.h'
	rule src/algo 'src/algo/.*|src/plan/plan\.h'
	rule src/plan 'src/plan/.*'
	rule 'src/engine/link.h' ''
	rule 'src/engine/wait.c src/engine/wait.h' 'src/engine/(wait|link)\.h|src/control/control\.h|src/os/os\.h|src/util/clock\.h'
	rule 'src/engine/engine.c src/engine/engine.h src/engine/crew.c src/engine/crew.h' 'src/engine/(engine|crew|link|wait)\.h|src/plan/.*|src/kernel/(kernel|wire)\.h|src/os/os\.h|src/util/error\.h|tutti\.h'
	rule src/direct 'src/direct/.*|src/engine/(engine|crew|link)\.h|src/segment/segment\.h|src/plan/.*|src/kernel/kernel\.h|src/util/.*|tutti\.h'
	rule 'src/segment src/transport.c src/transport.h' 'src/segment/.*|src/os/os\.h|src/transport\.h|src/engine/link\.h|src/bootstrap/contact\.h|src/util/.*'
	rule transports 'transports/.*|src/os/os\.h|src/transport\.h|src/engine/link\.h|src/segment/segment\.h|src/bootstrap/contact\.h|src/util/.*'
	rule src/bootstrap 'src/bootstrap/.*|src/os/os\.h|src/util/.*|tutti\.h'
	rule src/launch 'src/launch/.*|src/os/os\.h|src/bootstrap/.*|src/util/.*|tutti\.h'
	rule src/control 'src/control/.*|src/os/os\.h|src/bootstrap/.*|src/(plan/plan|algo/algo)\.h|src/kernel/(kernel|wire)\.h|src/util/.*|tutti\.h'
	rule src/topo 'src/topo/.*|src/util/.*|tutti\.h'
	rule src/tuner 'src/tuner/.*|src/algo/algo\.h|src/direct/direct\.h|src/plan/plan\.h|src/util/.*|tutti\.h'
	# the library stands without what only tools use
	rule src 'src/.*|tutti\.h'
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
# an engine builds and links the library without the tools' libraries
foreign=$(grep -nE '#include <(hwloc|jansson)' -r src transports include | sed 's/$/: for tools only/')
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
for t in "$out" "$foreign" "$pure" "$named" "$unlabelled" "$unlisted" "$unused"; do
	[ -z "$t" ] || { printf '%s\n' "$t"; bad=1; }
done
[ $bad = 0 ] && echo "layering holds"
exit $bad

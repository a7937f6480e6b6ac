#!/bin/sh
# Tutti beside Open MPI and MPICH: the same loop, on the same cores, in turn, several rounds in one run; medians of rounds.
#   compare.sh [-n RANKS] [-t shm|tcp] [-c COLLECTIVE] [-b MIN] [-e MAX] [-r ROUNDS] [-B BUILD]
# Prints bytes, the time of each (us), and Tutti's time over each peer's. A peer that fails or hangs is shown as "-".
ranks=2 via=shm coll=allreduce min=8 max=67108864 rounds=3 build=build
while getopts n:t:c:b:e:r:B: o; do
	case $o in
	n) ranks=$OPTARG ;; t) via=$OPTARG ;; c) coll=$OPTARG ;; b) min=$OPTARG ;; e) max=$OPTARG ;;
	r) rounds=$OPTARG ;; B) build=$OPTARG ;; *) exit 2 ;;
	esac
done
top=$(cd "$(dirname "$0")/../.." && pwd)
src=$top/perf/compare
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -std=gnu11 -O2 -I"$top/include" -o "$work/tutti" "$src/loop.c" "$src/backend_tutti.c" "$top/$build/lib/libtutti.a" \
	-lsodium -lhwloc -ljansson -ldl -lpthread -lm || exit 1
peers=tutti
for mpi in openmpi mpich; do
	[ "$mpi:$via" = mpich:tcp ] && continue # it has no switch that keeps it off shared memory
	command -v mpicc.$mpi >/dev/null || continue
	mpicc.$mpi -std=gnu11 -O2 -DNAME="\"$mpi\"" -o "$work/$mpi" "$src/loop.c" "$src/backend_mpi.c" && peers="$peers $mpi"
done
case $via in
shm) ompi="--mca btl self,vader" ;;
tcp) ompi="--mca btl self,tcp --mca btl_tcp_if_include lo" ;;
esac
if [ "$ranks" -le "$(nproc)" ]; then bind="--bind-to core" mbind="-bind-to core"; else bind="--bind-to none --oversubscribe" mbind=; fi
start() {
	case $1 in
	tutti) TUTTI_TRANSPORT=$via timeout 300 "$top/$build/bin/tutti-run" -n "$ranks" "$work/tutti" "$coll" "$min" "$max" ;;
	openmpi) timeout 300 mpirun.openmpi --allow-run-as-root $bind $ompi -n "$ranks" "$work/openmpi" "$coll" "$min" "$max" ;;
	mpich) timeout 120 mpiexec.mpich $mbind -n "$ranks" "$work/mpich" "$coll" "$min" "$max" ;;
	esac
}
for r in $(seq "$rounds"); do
	for p in $peers; do start "$p" 2>"$work/err" || { echo "# $p failed: $(head -1 "$work/err")" >&2; }; done
done >"$work/all"
echo "# $coll, $ranks ranks, $via, medians of $rounds rounds; $(grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //')"
awk -v peers="$peers" '
	function median(key, n,   i, j, t, v) {
		for (i = 1; i <= n; i++) v[i] = sample[key, i]
		for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
		return v[int((n + 1) / 2)]
	}
	{ key = $1 SUBSEP $3; sample[key, ++count[key]] = $4; if (!($3 in seen)) { seen[$3] = 1; order[++sizes] = $3 } }
	END {
		n = split(peers, p, " ")
		printf "%10s", "bytes"
		for (i = 1; i <= n; i++) printf " %12s", p[i]
		for (i = 2; i <= n; i++) printf " %9s", "/" p[i]
		print ""
		for (s = 1; s <= sizes; s++) {
			printf "%10d", order[s]
			for (i = 1; i <= n; i++) {
				k = p[i] SUBSEP order[s]
				m[i] = (k in count) ? median(k, count[k]) : 0
				printf m[i] ? " %12.3f" : " %12s", m[i] ? m[i] : "-"
			}
			for (i = 2; i <= n; i++) printf m[i] ? " %9.2f" : " %9s", m[i] ? m[1] / m[i] : "-"
			print ""
		}
	}' "$work/all"

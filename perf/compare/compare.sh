#!/bin/sh
# SPDX-License-Identifier: MIT
# Tutti beside Open MPI, MPICH and Gloo: the same loop on the same cores, in turn, several rounds in one run; medians of
# rounds. docs/performance.md says how to read it.
usage() {
	cat <<END
usage: compare.sh [options]         lists are separated by commas
  -n RANKS        2,4: numbers of ranks; those that exceed the CPUs share them    [2]
  -t TRANSPORTS   shm,tcp                                                         [shm]
  -c COLLECTIVES  allreduce,allgather,reduce_scatter                              [allreduce]
  -d ELEMENTS     f32,bf16,f16; with bf16, Gloo adds its float16                  [f32]
  -a              all of these; options after it narrow it again
  -P PEERS        openmpi,mpich,gloo                                              [all that are here]
  -b MIN -e MAX   bytes of the larger buffer, with K or M; powers of four between [8, 64M]
  -r ROUNDS       how often everything is measured                                [3]
  -m MS           how long a size is measured in a round                          [50]
  -l SECONDS      how long one peer may take in a round; then it has hung         [60]
  -p CPUS         where to run, one by one                                        [the first two cores]
  -B BUILD        where Tutti was built                                           [build]
  -o FOLDER       for table.txt, compare.json and a picture of each table         [BUILD/compare]
END
}
ranks=2 vias=shm collectives=allreduce elements=f32 peers=openmpi,mpich,gloo
min=8 max=64M rounds=3 budget=50 limit=60 cpus= build=build out=
while getopts n:t:c:d:aP:b:e:r:m:l:p:B:o:h o; do
	case $o in
	n) ranks=$OPTARG ;; t) vias=$OPTARG ;; c) collectives=$OPTARG ;; d) elements=$OPTARG ;;
	a) ranks=2,4 vias=shm,tcp collectives=allreduce,allgather,reduce_scatter elements=f32,bf16 ;;
	P) peers=$OPTARG ;; b) min=$OPTARG ;; e) max=$OPTARG ;; r) rounds=$OPTARG ;; m) budget=$OPTARG ;;
	l) limit=$OPTARG ;; p) cpus=$OPTARG ;; B) build=$OPTARG ;; o) out=$OPTARG ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done
in_bytes() {
	case $1 in
	*K) echo $((${1%K} << 10)) ;; *M) echo $((${1%M} << 20)) ;; *) echo $(($1)) ;;
	esac
}
min=$(in_bytes "$min") max=$(in_bytes "$max")
top=$(cd "$(dirname "$0")/../.." && pwd)
case $build in /*) ;; *) build=$top/$build ;; esac
src=$top/perf/compare out=${out:-$build/compare}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$out"
: >"$work/samples" >"$work/left_out" >"$work/versions" >"$out/table.txt"
date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
say() { tee -a "$out/table.txt"; }

[ -x "$build/bin/floor" ] || { echo "compare.sh: $build/bin/floor is not there: make first" >&2; exit 1; }
machine=$("$build/bin/floor" --only line | sed -n 's/^# CPUs \(.*\); medians.*/\1/p')
[ -n "$cpus" ] || cpus=$(echo "$machine" | sed -n 's/^\([0-9]*\) and \([0-9]*\) of .*/\1,\2/p')
[ -n "$cpus" ] || { echo "compare.sh: two cores are needed: $machine" >&2; exit 1; }
model=${machine#* of }
ncpus=$(taskset -c "$cpus" nproc)

# --- what is compared: a driver for each, or a line that says why not ---

# left_out CELL PEER WHY
left_out() {
	echo "$1|$2|$3" >>"$work/left_out"
	echo "# left out: $2${1:+ ($1)}: $3" | say
}
has() { case ,$1, in *,$2,*) ;; *) return 1 ;; esac; }
flags="-std=c11 -D_GNU_SOURCE -O2 -I$top/include"
libs="$build/lib/libtutti.a -lsodium -ldl -lpthread -lm"
# tutti_driver NAME FLAG
tutti_driver() {
	${CC:-gcc} $flags $2 -o "$work/$1" "$src/loop.c" "$src/backend_tutti.c" $libs
}
# mpi_driver NAME VERSION
mpi_driver() {
	"mpicc.$1" $flags -o "$work/$1" "$src/loop.c" "$src/backend_mpi.c" && version "$1" "$2"
}
gloo_driver() {
	${CC:-gcc} $flags -c -o "$work/loop.o" "$src/loop.c" &&
		${CXX:-g++} -std=c++20 -O2 -o "$work/gloo" "$src/backend_gloo.cc" "$work/loop.o" -lgloo -lpthread &&
		version gloo "$(dpkg-query -W -f '${Version}' libgloo-dev 2>/dev/null)"
}
version() { echo "$1|$2" >>"$work/versions"; }

tutti_driver tutti "" && tutti_driver tutti-alloc -DOWN_MEMORY=1 && tutti_driver tutti-threads -DTHREADS=1 || exit 1
commit=$(git -C "$top" describe --always --dirty 2>/dev/null)
version tutti "$("$build/bin/tutti-run" --version | sed 's/.* //')${commit:+ $commit}"
built=
for p in openmpi mpich gloo; do
	has "$peers" $p || continue
	case $p in
	openmpi) mpi_driver openmpi "$(mpirun.openmpi --version | sed -n '1s/.* //p')" ;;
	mpich) mpi_driver mpich "$(mpichversion | sed -n 's/^MPICH Version:[[:space:]]*//p')" ;;
	gloo) ! has "$vias" tcp || gloo_driver ;;
	esac 2>"$work/err" && built=$built,$p || left_out "" $p "its driver can't be built: $(head -1 "$work/err")"
done
! has "$built" gloo || ! has "$vias" shm || left_out shm gloo "has no transport over shared memory"
command -v gnuplot >/dev/null || left_out "" pictures "gnuplot is not here"

# --- one peer, one round: lines "bytes us p99 first calls" ---

# sizes MIN: both ends and the powers of four between
sizes() {
	awk -v min="$1" -v max="$max" 'BEGIN {
		print min; for (b = 1; b < max; b *= 4) if (b > min) print b; if (max > min) print max }'
}
# The floor has sizes of its own: between them it is a straight line in both logarithms. The larger buffer of an
# all-gather or reduce-scatter of two ranks holds twice what each sends.
floor_at() { # VIA COLLECTIVE
	only=exchange step=4 whole=64 share=0.5
	[ "$1" = shm ] || only=tcp step=8
	[ "$2" != allreduce ] || share=1
	while [ $whole -lt "$max" ]; do whole=$((whole * step)); done
	{ [ "$1" != shm ] || taskset -c "$cpus" "$build/bin/floor" --only line
	taskset -c "$cpus" "$build/bin/floor" --only $only --max $whole; sizes "$min"; } | awk -v share=$share '
		$1 == "line-exchange" { x[++n] = 8; y[n] = $4 }
		$1 == "exchange" || $1 == "tcp-exchange" { x[++n] = $3; y[n] = $4 }
		NF == 1 {
			b = $1 * share
			for (i = 1; i < n && x[i + 1] < b; i++) ;
			if (b <= x[1]) print $1, y[1], 0, 0, 0
			else if (i < n) print $1, exp(log(y[i]) + log(y[i + 1] / y[i]) * log(b / x[i]) / log(x[i + 1] / x[i])), 0, 0, 0
		}'
}
# start PEER VIA RANKS COLLECTIVE ELEMENT; in a process of its own, so what it exports ends with it
start() (
	least=$min element=$5
	case $1 in
	floor) floor_at "$2" "$4"; exit ;;
	tutti-*) [ "$least" -gt $((1 << 20)) ] || least=$((1 << 20)) ;;
	gloo-f16) element=f16 ;;
	esac
	under="timeout --foreground -k 5 $limit taskset -c $cpus"
	what="$4 $element $(sizes "$least" | paste -sd,) $cpus $budget"
	export COMPARE_RANKS="$3"
	case $1 in
	tutti-threads) $under "$work/$1" $what ;;
	tutti*) TUTTI_TRANSPORT=$2 $under "$build/bin/tutti-run" --bind none -n "$3" "$work/$1" $what ;;
	gloo*)
		COMPARE_STORE=$(mktemp -d "$work/store.XXXXXX")
		export COMPARE_STORE
		$under "$build/bin/tutti-run" --bind none -n "$3" "$work/gloo" $what
		;;
	openmpi)
		btl=self,vader more=
		[ "$2" = shm ] || btl=self,tcp more="--mca btl_tcp_if_include lo"
		[ "$3" -le "$ncpus" ] || more="$more --mca mpi_yield_when_idle 1"
		$under mpirun.openmpi --allow-run-as-root --bind-to none --oversubscribe --mca pml ob1 --mca btl $btl $more \
			-n "$3" "$work/openmpi" $what
		;;
	mpich) # over UCX or libfabric: TCP alone, and nothing of its own for ranks of one host
		[ "$2" = shm ] || export MPIR_CVAR_NOLOCAL=1 UCX_TLS=tcp,self UCX_NET_DEVICES=lo FI_PROVIDER=tcp FI_TCP_IFACE=lo
		$under mpiexec.mpich -bind-to none -n "$3" "$work/mpich" $what
		;;
	esac
)

# --- cells: a table each ---

# columns VIA RANKS ELEMENT
columns() {
	c=tutti gloo=gloo
	[ "$3" != bf16 ] || gloo=gloo-f16
	[ "$1" != shm ] || [ "$max" -lt $((1 << 20)) ] || c="$c tutti-alloc tutti-threads"
	! has "$built" openmpi || c="$c openmpi"
	! has "$built" mpich || c="$c mpich"
	! has "$built" gloo || [ "$1" = shm ] || c="$c $gloo"
	[ "$2" != 2 ] || c="$c floor"
	echo "$c"
}
# can PEER ELEMENT: MPI, as distributions have it, knows no 16-bit floats
can() { case $1:$2 in openmpi:f32 | mpich:f32) ;; openmpi:* | mpich:*) return 1 ;; esac; }

# one_round PEER VIA RANKS COLLECTIVE ELEMENT; a peer that fails is left out of the cell's later rounds
one_round() {
	start "$@" >"$work/rows" 2>"$work/err" </dev/null
	rc=$?
	awk -v cell="$2 $3 $4 $5 $1" 'NF == 5 && $1 + 0 { print cell, $0 }' "$work/rows" >>"$work/samples"
	case $rc in
	0)
		[ ! -s "$work/rows" ] || return 0
		left_out "$2 $3 $4 $5" "$1" "measured nothing: $(head -1 "$work/err")"
		;;
	124 | 137) left_out "$2 $3 $4 $5" "$1" "hangs, or is too slow: ended after $limit s" ;;
	*) left_out "$2 $3 $4 $5" "$1" "failed with status $rc: $(grep -v '^[=[:space:]-]*$' "$work/err" | head -1)" ;;
	esac
	return 1
}
cell() { # VIA RANKS COLLECTIVE ELEMENT
	all=$(columns "$1" "$2" "$4") in=
	for p in $all; do ! can "$p" "$4" || in="$in $p"; done
	for r in $(seq "$rounds"); do
		still=
		for p in $in; do ! one_round "$p" "$@" || still="$still $p"; done
		in=$still
	done
	tables "$1" "$2" "$3" "$4" "$all" >"$work/tables"
	say <"$work/tables"
	! command -v gnuplot >/dev/null ||
		"$src/plot.sh" "$3 of $4, $2 ranks, $1" "$out/$3-$4-$1-$2.svg" <"$work/tables"
}
tables() { # VIA RANKS COLLECTIVE ELEMENT COLUMNS
	echo "# $3, $4, $2 ranks, $1, CPUs $cpus: microseconds, medians of $rounds rounds; then Tutti's time over each other's"
	awk -f "$src/medians.awk" "$work/samples" >"$work/medians"
	awk -v cell="$1 $2 $3 $4" -v columns="$5" -v field=7 -v ratios=1 -f "$src/table.awk" "$work/medians"
	echo
	echo "# 99th percentile"
	awk -v cell="$1 $2 $3 $4" -v columns="$5" -v field=8 -v ratios=0 -f "$src/table.awk" "$work/medians"
	echo
}

versions=$(awk -F'|' '{ printf "%s%s %s", sep, $1, $2; sep = ", " }' "$work/versions")
{
	echo "# $date, $(uname -n), $model, Linux $(uname -r), $(nproc --all) CPUs; $versions"
	echo "# every size of every peer was verified before and after it was timed"
} | say
for via in $(echo "$vias" | tr , ' '); do for n in $(echo "$ranks" | tr , ' '); do
	for e in $(echo "$elements" | tr , ' '); do for c in $(echo "$collectives" | tr , ' '); do
		cell "$via" "$n" "$c" "$e"
	done; done
done; done
awk -f "$src/medians.awk" "$work/samples" | awk -v machine="$(uname -n)" -v model="$model" -v kernel="$(uname -r)" \
	-v date="$date" -v cpus="$cpus" -v rounds="$rounds" -v versions="$work/versions" -v left_out="$work/left_out" \
	-f "$src/json.awk" >"$out/compare.json"
echo "# written: $out"

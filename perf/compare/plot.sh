#!/bin/sh
# SPDX-License-Identifier: MIT
# A picture of a table that compare.sh printed: time of a call over bytes, both logarithmic; the floor as a dashed line.
#   plot.sh TITLE OUT.svg < TABLE        needs gnuplot
title=$1 out=$2
data=$(mktemp)
trap 'rm -f "$data"' EXIT
awk '!/^#/ && NF == 0 { exit } !/^#/' >"$data"
names=$(head -1 "$data" | tr -s ' ' '\n' | grep -v -e '^bytes$' -e '^/' -e '^$')
# A library has its colour in every picture.
style() {
	case $1 in
	tutti) colour=c00000 ;; tutti-alloc) colour=e06000 ;; tutti-threads) colour=f0a000 ;;
	openmpi) colour=0060c0 ;; mpich) colour=00a0a0 ;; gloo*) colour=208030 ;;
	*) echo "lines lw 2 dt 2 lc 'black'"; return ;;
	esac
	echo "linespoints lw 2 pt 7 ps 0.4 lc '#$colour'"
}
plots= column=1
for n in $names; do
	column=$((column + 1))
	awk -v c=$column 'NR > 1 && $c != "-" { any = 1 } END { exit !any }' "$data" || continue
	plots="$plots${plots:+, }'$data' every ::1 using 1:$column with $(style "$n") title '$n' noenhanced"
done
[ -n "$plots" ] || { echo "plot.sh: no times for $out" >&2; exit 1; }
gnuplot <<END
set terminal svg size 720,420 font 'sans-serif,13' background rgb 'white'
set output '$out'
set title '$title' noenhanced
set datafile missing '-'
set logscale x 2
set logscale y
set autoscale xfix
set xlabel 'bytes'
set ylabel 'time of a call, µs'
set xtics ('16' 16, '256' 256, '4 Ki' 4096, '64 Ki' 65536, '1 Mi' 1048576, '16 Mi' 16777216)
set grid
set key top left
plot $plots
END

#!/bin/sh
# A picture of a table that compare.sh printed: time of a call over bytes, both logarithmic; the floor as a dashed line.
#   plot.sh TITLE OUT.svg < TABLE        needs gnuplot
title=$1 out=$2
data=$(mktemp)
trap 'rm -f "$data"' EXIT
awk '!/^#/ && NF == 0 { exit } !/^#/' >"$data"
names=$(head -1 "$data" | tr -s ' ' '\n' | grep -v -e '^bytes$' -e '^/' -e '^$')
plots= column=2
for n in $names; do
	style="with linespoints lw 2 pt 7 ps 0.4"
	[ "$n" != floor ] || style="with lines lw 2 dt 2 lc 'black'"
	! awk -v c=$column 'NR > 1 && $c != "-" { any = 1 } END { exit any }' "$data" ||
		{ column=$((column + 1)); continue; }
	plots="$plots${plots:+, }'$data' every ::1 using 1:$column $style title '$n' noenhanced"
	column=$((column + 1))
done
gnuplot <<END
set terminal svg size 720,420 font 'sans-serif,13' background rgb 'white'
set output '$out'
set title '$title' noenhanced
set datafile missing '-'
set logscale xy
set xlabel 'bytes'
set ylabel 'time of a call, µs'
set format x '%.0s%cB'
set grid
set key top left
plot $plots
END

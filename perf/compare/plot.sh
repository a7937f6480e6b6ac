#!/bin/sh
# A picture of what compare.sh printed: time of a call over bytes, both logarithmic.
#   plot.sh TITLE OUT.svg < TABLE        needs gnuplot
title=$1 out=$2
data=$(mktemp)
trap 'rm -f "$data"' EXIT
grep -v '^#' | tee "$data" >/dev/null
names=$(head -1 "$data" | tr -s ' ' '\n' | grep -v -e '^bytes$' -e '^/' -e '^$')
plots= column=2
for n in $names; do
	plots="$plots${plots:+, }'$data' every ::1 using 1:$column with linespoints lw 2 pt 7 ps 0.4 title '$n'"
	column=$((column + 1))
done
gnuplot <<END
set terminal svg size 720,420 font 'sans-serif,13' background rgb 'white'
set output '$out'
set title '$title'
set logscale xy
set xlabel 'bytes'
set ylabel 'time of a call, µs'
set format x '%.0s%cB'
set grid
set key top left
plot $plots
END

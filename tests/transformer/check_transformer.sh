#!/bin/sh
# tutti-transformer as people run it: a checkpoint that Python wrote decodes to the tokens that Python computes; a model
# too large for one rank fits two; a benchmark adds up; mistakes are named.
. "$(dirname "$0")/../sh.sh"
t=$TUTTI_BIN/tutti-transformer
prompt=$(seq -s, 3 40)

ranks() { # N PROGRAM...
	n=$1
	shift
	timeout -k 5 300 "$TUTTI_BIN/tutti-run" -n "$n" --bind none "$@"
}

same_as_python() { # TYPE FILES
	python3 "$top/tests/transformer/model.py" "$work/py-$1-$2" "$1" "$2" "$prompt" 20 >"$work/want" || return 1
	cat "$work/want"
	for n in 1 2 3 6; do
		for transport in shm tcp; do
			TUTTI_TRANSPORT=$transport ranks $n "$t" "$work/py-$1-$2" -p "$prompt" -n 20 >"$work/got" || return 1
			cmp "$work/want" "$work/got" || return 1
		done
	done
	"$t" "$work/py-$1-$2" -p "$prompt" -n 20 -t 3 -s 1,0,4 --pieces 2 >"$work/got" && cmp "$work/want" "$work/got"
}

if command -v python3 >/dev/null; then
	run checkpoint_from_python_f32 same_as_python f32 1
	run checkpoint_from_python_bf16_in_three_files same_as_python bf16 3
else
	skip checkpoint_from_python_f32 "needs python3"
	skip checkpoint_from_python_bf16_in_three_files "needs python3"
fi

# 90 MiB of weights, and 72 MiB of memory that a rank may have of its own.
too_large_for_one() {
	"$t" "$work/large" --make tiny --set hidden=1024,heads=16,kv_heads=8,head_dim=64,mlp=4096,vocab=1024 --type bf16 ||
		return 1
	(
		ulimit -d $((72 << 10)) || exit 1
		! ranks 1 "$t" "$work/large" 2>"$work/err" || exit 1
		cat "$work/err"
		grep -q 'no memory for part 0 of 1 of the weights.*more ranks' "$work/err" || exit 1
		ranks 2 "$t" "$work/large" -n 2
	)
}
run too_large_for_one too_large_for_one

# The sections of a token's time are what the whole is made of, and the ranks have their part of the weights.
bench_adds_up() {
	"$t" "$work/tiny" --make tiny && ranks 4 "$t" "$work/tiny" --bench -r 2 --prompt 40 -b 2 -n 8 -J "$work/json" || return 1
	python3 - "$work/json" <<'END'
import json, sys
o = json.load(open(sys.argv[1]))
assert o["weight_bytes"] <= 0.27 * o["weight_bytes_single"], o
for phase in "prefill", "decode":
    for way in "single", "ranks", "silent":
        s = o[phase][way]
        parts = sum(s[k] for k in ("products", "attention", "norm", "all-reduce", "other", "wait"))
        assert 0 < parts <= s["seconds"] * 1.01, (phase, way, s)
    assert o[phase]["silent"]["all-reduce"] < o[phase]["ranks"]["all-reduce"] + o[phase]["ranks"]["wait"]
END
}
if command -v python3 >/dev/null; then
	run bench_adds_up bench_adds_up
else
	skip bench_adds_up "needs python3"
fi

# refused WORDS COMMAND...: fails, and says so
refused() {
	words=$1
	shift
	"$@" 2>"$work/err" && return 1
	cat "$work/err"
	grep -q -- "$words" "$work/err"
}
mistakes() {
	"$t" "$work/m" --make tiny || return 1
	refused 'no such preset' "$t" "$work/m2" --make huge || return 1
	refused 'expected NAME=NUMBER' "$t" "$work/m2" --make tiny --set hiden=4 || return 1
	refused 'can.t open\|unable to open' "$t" "$work/nowhere" || return 1
	refused 'each below 500' "$t" "$work/m" -p 1,500 || return 1
	refused 'names 2 ranks, there are 3' "$t" "$work/m" -t 3 -s 1,1 || return 1
	refused 'have at most 512' "$t" "$work/m" -n 600 || return 1
	sed 's/"silu"/"gelu"/' "$work/m/config.json" >"$work/c" && mv "$work/c" "$work/m/config.json"
	refused 'hidden_act' "$t" "$work/m" || return 1
	sed -e 's/"gelu"/"silu"/' -e 's/"intermediate_size": 352/"intermediate_size": 351/' "$work/m/config.json" >"$work/c"
	mv "$work/c" "$work/m/config.json"
	refused 'config.json means 351 x 128' "$t" "$work/m"
}
run mistakes mistakes

# docs/tensor-parallel.md shows the parallel layer as it is.
page_shows_the_layer() {
	sed -n '/^```c$/,/^```$/p' "$top/docs/tensor-parallel.md" | sed '1d;$d' | diff - "$top/perf/transformer/layer.c"
}
run page_shows_the_layer page_shows_the_layer
report

#!/bin/sh
# SPDX-License-Identifier: MIT
# tutti-transformer as people run it: a checkpoint that Python wrote decodes to the tokens that Python computes; a model
# too large for one rank fits two; a benchmark adds up; mistakes are named.
. "$(dirname "$0")/../sh.sh"
t=$TESTED_BIN/tutti-transformer
prompt=$(seq -s, 3 40)

ranks() { # N PROGRAM...
	n=$1
	shift
	timeout -k 5 300 "$TESTED_BIN/tutti-run" -n "$n" --bind none "$@"
}

# The first python3 that has numpy.
python=
for p in python3 /usr/bin/python3; do
	[ -n "$python" ] || ! "$p" -c 'import numpy' 2>/dev/null || python=$p
done

# model NAME ARGS...: writes $work/NAME, and the tokens that come of it to $work/want
model() {
	as=$1
	shift
	"$python" "$top/tests/transformer/model.py" "$work/$as" "$as" "$prompt" 20 "$@" >"$work/want" && cat "$work/want"
}

same_over_transports() {
	model llama-bf16 || return 1
	for n in 1 2 3 6; do
		for transport in shm tcp; do
			TUTTI_TRANSPORT=$transport ranks $n "$t" "$work/llama-bf16" -p "$prompt" -n 20 >"$work/got" || return 1
			cmp "$work/want" "$work/got" || return 1
		done
	done
	"$t" "$work/llama-bf16" -p "$prompt" -n 20 -t 3 -s 1,0,4 --pieces 2 >"$work/got" && cmp "$work/want" "$work/got"
}

same_as_numpy() { # NAME
	model "$1" || return 1
	for n in 1 2 3 4; do
		"$t" "$work/$1" -p "$prompt" -n 20 -t $n >"$work/got" || return 1
		cmp "$work/want" "$work/got" || return 1
	done
	"$t" "$work/$1" -p "$prompt" -n 4 -t 3 --check
}

models="llama-f32 llama-5 llama-older llama-2 mixed mistral mistral-window qwen2 qwen3 qwen3-5"
if [ -n "$python" ]; then
	run llama-bf16_over_transports same_over_transports
	for m in $models; do
		run "$m" same_as_numpy "$m"
	done
else
	for m in llama-bf16_over_transports $models; do
		skip "$m" "needs python3 with numpy (Debian: python3-numpy)"
	done
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
	refused 'unknown preset' "$t" "$work/m2" --make huge || return 1
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

# not_computed NAME WORDS ARGS...: the model, made with these arguments of model.py, is refused with these words
not_computed() {
	words=$2 of=$1
	shift 2
	model "$of" "$@" >/dev/null && refused "$words" "$t" "$work/$of" -p "$prompt" || {
		echo "not refused as '$words': $of $*"
		return 1
	}
}

# What changes the result and is not computed is refused by its name.
unknown_keys() {
	not_computed llama-f32 '"attn_logit_softcapping" is unknown' --set '{"attn_logit_softcapping": 50.0}' &&
		not_computed llama-f32 'rope_interleaved' --set '{"rope_interleaved": true}' &&
		not_computed llama-f32 'hidden_act' --set '{"hidden_act": "gelu"}' &&
		not_computed llama-f32 'quantization_config' --set '{"quantization_config": {"quant_method": "fp8"}}' &&
		not_computed qwen3 'layer_types' --set '{"layer_types": ["full_attention", "linear_attention"]}' &&
		not_computed qwen3 'sliding_window' --set '{"layer_types": ["full_attention", "sliding_attention"]}' &&
		not_computed qwen3 '"head_dim" must be' --set '{"head_dim": null}' &&
		not_computed mistral '"num_key_value_heads" must be' --set '{"num_key_value_heads": null}' &&
		not_computed mistral '"attention_bias" must be false' --set '{"attention_bias": true}' &&
		not_computed mistral 'window of 40' --set '{"sliding_window": 40}' &&
		not_computed qwen2 'window of 32' --set '{"use_sliding_window": true}'
}
rotations() {
	not_computed llama-f32 '"rope_scaling.rope_type" is linear' \
		--set '{"rope_scaling": {"type": "linear", "factor": 2}}' &&
		not_computed llama-5 '"rope_parameters.rope_type" is yarn' --set '{"rope_parameters": {"rope_type": "yarn"}}' &&
		not_computed llama-5 '"rope_parameters.full_attention" is unknown' \
			--set '{"rope_parameters": {"full_attention": {"rope_theta": 500}}}' &&
		not_computed llama-5 '"rope_parameters.factor" is unknown' --set '{"rope_parameters": {"factor": 4}}' &&
		not_computed llama-5 '"rope_parameters.factor" must be' --set '{"rope_parameters": {"rope_type": "llama3"}}' &&
		not_computed llama-5 '"rope_parameters.type" must be the same' \
			--set '{"rope_parameters": {"rope_type": "default", "type": "yarn"}}' &&
		not_computed llama-5 '"rope_parameters.rope_theta" must be the same' --set '{"rope_theta": 10000}' &&
		not_computed llama-5 '"rope_scaling" must be the same' --set '{"rope_scaling": {"rope_type": "default"}}' &&
		not_computed llama-5 '"rope_parameters" must be an object' --set '{"rope_parameters": [1]}' &&
		not_computed llama-2 'partial_rotary_factor' --set '{"partial_rotary_factor": 0.5}'
}
families() {
	llama='"model_type": "llama", "architectures": ["LlamaForCausalLM"]'
	not_computed llama-f32 '"model_type" is gemma2' --set '{"model_type": "gemma2"}' &&
		not_computed llama-f32 '"model_type" is missing' --set '{"model_type": null}' &&
		not_computed llama-f32 'names LlamaForSequenceClassification' \
			--set '{"architectures": ["LlamaForSequenceClassification"]}' &&
		not_computed llama-f32 'names Qwen2ForCausalLM' --set '{"architectures": ["Qwen2ForCausalLM"]}' &&
		not_computed qwen2 'tensor model.layers.0.self_attn.[qkv]_proj.bias, which a model of type llama' --set "{$llama}" &&
		not_computed qwen3 'tensor model.layers.0.self_attn.[qk]_norm.weight, which a model of type llama' --set "{$llama}"
}
tensors() {
	not_computed llama-f32 'tensor model.layers.0.self_attn.[qkvo]_proj.bias,' --set '{"attention_bias": false}' &&
		not_computed llama-f32 'tensor model.layers.0.mlp.[a-z]*_proj.bias,' --set '{"mlp_bias": false}' &&
		not_computed llama-2 'tensor model.layers.1' --set '{"num_hidden_layers": 1}' &&
		not_computed llama-2 'model.layers.1.self_attn.k_norm.weight' --extra model.layers.1.self_attn.k_norm.weight:F32 &&
		not_computed llama-2 'lm_head.bias' --extra lm_head.bias:BF16 &&
		not_computed llama-2 'down_proj.weight_scale' --extra model.layers.0.mlp.down_proj.weight_scale:F8_E8M0 &&
		not_computed llama-2 'lm_head.weight differs from model.embed_tokens.weight' --set '{"tie_word_embeddings": true}' &&
		not_computed qwen2 'no tensor lm_head.weight' --set '{"tie_word_embeddings": false}'
}

# One logit that is no number fails a check, though others follow it; where none is a number nothing is decoded.
no_numbers() {
	model llama-2 --poison lm_head.weight || return 1
	! "$t" "$work/llama-2" --check -t 2 >"$work/got" 2>&1 || return 1
	cat "$work/got"
	grep -q 'not finite 24;.*FAILED' "$work/got" || return 1
	not_computed llama-2 'token 0: no logit is a number' --poison model.norm.weight
}
for test in unknown_keys rotations families tensors no_numbers; do
	if [ -n "$python" ]; then
		run $test $test
	else
		skip $test "needs python3 with numpy (Debian: python3-numpy)"
	fi
done

# docs/tensor-parallel.md shows the parallel layer as it is.
page_shows_the_layer() {
	sed -n '/^```c$/,/^```$/p' "$top/docs/tensor-parallel.md" | sed '1d;$d' | diff - "$top/perf/transformer/layer.c"
}
run page_shows_the_layer page_shows_the_layer
report

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small models by other means: writes a checkpoint with struct, and decodes it in numpy's doubles.

    model.py DIR MODEL PROMPT N     writes DIR; prints PROMPT -> N tokens as tutti-transformer does
      --extra NAME:DTYPE   one more tensor, of four bytes           --poison NAME   one of its values is no number
      --set JSON           keys of config.json, over those that the model has; the tokens are those of the model

Nothing here comes from the program that it tests: not the format, not the formulas. The keys of config.json are those
that published models of the family carry.
"""
import argparse, json, math, os, random, struct, sys
import numpy as np

args = argparse.ArgumentParser()
args.add_argument("dir"), args.add_argument("model"), args.add_argument("prompt"), args.add_argument("count", type=int)
args.add_argument("--extra", action="append", default=[]), args.add_argument("--poison"), args.add_argument("--set")
args = args.parse_args()

H, MLP, LAYERS, HEADS, KV, DIM, VOCAB = 24, 40, 2, 6, 2, 8, 90
LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
SHAPE = {"hidden_size": H, "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
         "num_key_value_heads": KV, "head_dim": DIM, "vocab_size": VOCAB, "max_position_embeddings": 200,
         "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True, "transformers_version": "4.51.0"}
LLAMA = {**SHAPE, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "pretraining_tp": 1,
         "bos_token_id": 1, "eos_token_id": [2, 3], "attention_dropout": 0.0, "torch_dtype": "bfloat16",
         "_name_or_path": "x/y"}
QWEN = {**SHAPE, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "max_window_layers": 1,
        "use_sliding_window": False, "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16"}


class Model:
    def __init__(self, config, kinds, files=1, theta=10000.0, stretch=False, eps=1e-5, biases=(), head_norms=False,
                 tied=False, stored=()):
        self.config, self.kinds, self.files, self.theta, self.stretch = config, kinds, files, theta, stretch
        self.eps, self.biases, self.head_norms, self.tied = eps, biases, head_norms, tied
        self.stored = stored  # tensors that no decoder needs


ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BIASED = {**LLAMA, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-5}
MODELS = {
    # Llama 3.1 and 3.2, as transformers 4 writes them; with all biases
    "llama-f32": Model({**BIASED, "rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3},
                        "tie_word_embeddings": False}, ("f32",), theta=500.0, stretch=True, biases=ALL),
    "llama-bf16": Model({**BIASED, "rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
                        ("bf16",), files=3, theta=500.0, stretch=True, biases=ALL),
    # the same as transformers 5 writes it
    "llama-5": Model({**BIASED, "dtype": "float16", "pad_token_id": None, "transformers_version": "5.0.0",
                      "rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}},
                     ("f16",), theta=500.0, stretch=True, biases=ALL),
    # an older key of the same
    "llama-older": Model({**LLAMA, "rms_norm_eps": 1e-5, "rope_theta": 500.0, "quantization_config": None,
                          "rope_scaling": {"type": "llama3", **LLAMA3}}, ("f16",), theta=500.0, stretch=True),
    # Llama 2 and TinyLlama: no theta
    "llama-2": Model({**LLAMA, "rms_norm_eps": 1e-5, "rope_scaling": None, "pad_token_id": 0,
                      "tie_word_embeddings": False}, ("f16",), files=2),
    # SmolLM 2; matrices of three types, the tied head in the file, and tensors that nobody needs
    "mixed": Model({**LLAMA, "rms_norm_eps": 1e-5, "rope_theta": 100000, "tie_word_embeddings": True,
                    "rope_scaling": {"rope_type": "default"}, "is_llama_config": True, "rope_interleaved": False,
                    "transformers.js_config": {"dtype": "q4"}},
                   ("f32", "bf16", "f16"), theta=100000.0, tied=True,
                   stored=("lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq:I64",
                           "model.layers.1.self_attn.rotary_emb.inv_freq:F8_E8M0", "extra.scale:F4")),
    # Mistral 7B 0.3, Nemo, Devstral
    "mistral": Model({**SHAPE, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "rms_norm_eps": 1e-5,
                      "sliding_window": None, "rope_theta": 1000000000.0, "attention_dropout": 0.0, "bos_token_id": 1,
                      "eos_token_id": 2, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
                     ("bf16",), theta=1e9),
    # Mistral 7B 0.1: within its window
    "mistral-window": Model({**SHAPE, "model_type": "mistral", "architectures": ["MistralForCausalLM"],
                             "rms_norm_eps": 1e-5, "sliding_window": 100, "rope_theta": 10000.0}, ("bf16",)),
    "qwen2": Model({**QWEN, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "rope_theta": 1000000.0,
                    "sliding_window": 32, "use_mrope": False, "tie_word_embeddings": True},
                   ("bf16",), theta=1e6, eps=1e-6, biases=("q_proj", "k_proj", "v_proj"), tied=True),
    "qwen3": Model({**QWEN, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "rope_theta": 1000000,
                    "rope_scaling": None, "sliding_window": None, "attention_bias": False,
                    "tie_word_embeddings": True}, ("bf16",), theta=1e6, eps=1e-6, head_norms=True, tied=True),
    # as transformers 5 writes it; with biases
    "qwen3-5": Model({**QWEN, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_bias": True,
                      "layer_types": ["full_attention"] * LAYERS, "sliding_window": None,
                      "rope_parameters": {"rope_type": "default", "rope_theta": 1000000}, "dtype": "bfloat16"},
                     ("f16", "f32"), files=2, theta=1e6, eps=1e-6, biases=ALL[:4], head_norms=True),
}
model = MODELS[args.model]
random.seed(args.model)


# ---- the checkpoint --------------------------------------------------------------------------------------------------

def shapes():
    if not model.tied:
        yield "lm_head.weight", (VOCAB, H)
    yield "model.embed_tokens.weight", (VOCAB, H)
    yield "model.norm.weight", (H,)
    for l in range(LAYERS):
        at = f"model.layers.{l}."
        for part, rows, cols in (("self_attn.q_proj", HEADS * DIM, H), ("self_attn.k_proj", KV * DIM, H),
                                 ("self_attn.v_proj", KV * DIM, H), ("self_attn.o_proj", H, HEADS * DIM),
                                 ("mlp.gate_proj", MLP, H), ("mlp.up_proj", MLP, H), ("mlp.down_proj", H, MLP)):
            yield at + part + ".weight", (rows, cols)
            if part.split(".")[1] in model.biases:
                yield at + part + ".bias", (rows,)
        for part in ("self_attn.q_norm", "self_attn.k_norm") if model.head_norms else ():
            yield at + part + ".weight", (DIM,)
        yield at + "input_layernorm.weight", (H,)
        yield at + "post_attention_layernorm.weight", (H,)


def stored(values, kind):
    """What values are after they were stored, and their bytes."""
    if kind == "f16":
        half = values.astype("<f2")
        return half.astype(float), half.tobytes()
    single = values.astype("<f4")
    if kind == "f32":
        return single.astype(float), single.tobytes()
    upper = single.view("<u4") >> 16
    return (upper << 16).astype("<u4").view("<f4").astype(float), upper.astype("<u2").tobytes()


tensors, files = {}, [[] for _ in range(model.files)]
for i, (name, shape) in enumerate(shapes()):
    kind, scale = model.kinds[i % len(model.kinds)], 1 if len(shape) == 1 else 1.8 / math.sqrt(shape[1])
    scale *= 3 if "self_attn" in name and "bias" not in name else 1  # so that what attention does decides
    values = np.array([random.uniform(-1, 1) * scale for _ in range(math.prod(shape))])
    if name == args.poison:
        values[7] = math.nan
    tensors[name], raw = stored(values, kind)
    tensors[name] = tensors[name].reshape(shape)
    files[i % model.files].append((name, kind.upper(), shape, raw))
    if "lm_head.weight" in model.stored and name == "model.embed_tokens.weight":
        files[0].append(("lm_head.weight", kind.upper(), shape, raw))
for name in [n for n in model.stored if ":" in n] + args.extra:
    name, kind = name.split(":")
    width = {"I64": 1, "F32": 1, "BF16": 2, "F4": 8}.get(kind, 4)
    files[0].append((name, kind, (width,), bytes(8 if kind == "I64" else 4)))
os.makedirs(args.dir, exist_ok=True)
weight_map = {}
for k, part in enumerate(files):
    header, at = {}, 0
    for name, kind, shape, raw in part:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        weight_map[name] = f"part{k}.safetensors" if model.files > 1 else "model.safetensors"
    text = json.dumps(header).encode()
    with open(f"{args.dir}/{weight_map[part[0][0]]}", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(raw for *_, raw in part))
if model.files > 1:
    with open(f"{args.dir}/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f)
with open(f"{args.dir}/config.json", "w") as f:
    json.dump({**model.config, **json.loads(args.set or "{}")}, f)


# ---- the decoder -----------------------------------------------------------------------------------------------------

def linear(name, x):
    y = x @ tensors[name + ".weight"].T
    return y + tensors[name + ".bias"] if name.split(".")[-1] in model.biases else y


def norm(name, x):
    """Over the last axis."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + model.eps) * tensors[name + ".weight"]


def frequency(i):
    f = model.theta ** (-2 * i / DIM)
    if not model.stretch:
        return f
    wave, original = 2 * math.pi / f, LLAMA3["original_max_position_embeddings"]
    if wave < original / LLAMA3["high_freq_factor"]:
        return f
    if wave > original / LLAMA3["low_freq_factor"]:
        return f / LLAMA3["factor"]
    smooth = (original / wave - LLAMA3["low_freq_factor"]) / (LLAMA3["high_freq_factor"] - LLAMA3["low_freq_factor"])
    return (1 - smooth) * f / LLAMA3["factor"] + smooth * f


def rotate(x):
    """Places x heads x DIM: each pair is a complex number that turns with its place."""
    half = DIM // 2
    turn = np.exp(1j * np.outer(np.arange(len(x)), [frequency(i) for i in range(half)]))[:, None, :]
    y = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate((y.real, y.imag), -1)


def attention(at, x):
    n = len(x)
    q, k, v = (linear(at + p, x).reshape(n, -1, DIM) for p in ("q_proj", "k_proj", "v_proj"))
    if model.head_norms:
        q, k = norm(at + "q_norm", q), norm(at + "k_norm", k)
    q, k = rotate(q), rotate(k)
    mixed = np.zeros((n, HEADS, DIM))
    for h in range(HEADS):
        g = h // (HEADS // KV)
        e = np.tril(np.exp(q[:, h] @ k[:, g].T / math.sqrt(DIM)))
        mixed[:, h] = e / e.sum(-1, keepdims=True) @ v[:, g]
    return linear(at + "o_proj", mixed.reshape(n, -1))


def mlp(at, x):
    gate = linear(at + "gate_proj", x)
    return linear(at + "down_proj", gate / (1 + np.exp(-gate)) * linear(at + "up_proj", x))


def next_token(ids):
    x = tensors["model.embed_tokens.weight"][ids]
    for l in range(LAYERS):
        at = f"model.layers.{l}."
        x = x + attention(at + "self_attn.", norm(at + "input_layernorm", x))
        x = x + mlp(at + "mlp.", norm(at + "post_attention_layernorm", x))
    head = tensors["model.embed_tokens.weight" if model.tied else "lm_head.weight"]
    return int(np.argmax(norm("model.norm", x[-1]) @ head.T))


def decode(ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(next_token(ids))
    return ids


prompt = [int(t) for t in args.prompt.split(",")]
ids = decode(prompt, 0 if args.poison else args.count)
print(*prompt, "->", *ids[len(prompt):])

# The tokens must tell whether a program left out one of these.
for part, other in (("theta", 500.0 if model.theta == 10000 else 10000.0), ("stretch", False), ("head_norms", False),
                    ("biases", model.biases[1:]), ("biases", model.biases[:-1])):
    was = getattr(model, part)
    setattr(model, part, other)
    if was != other and not args.poison and decode(prompt, args.count) == ids:
        sys.exit(f"{args.model}: these tokens do not depend on {part}")
    setattr(model, part, was)

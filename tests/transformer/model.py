#!/usr/bin/env python3
"""A small Llama by other means: writes a checkpoint with struct, and decodes it in Python's own numbers.

    model.py DIR f32|bf16 FILES PROMPT N     writes DIR; prints PROMPT -> N tokens as tutti-transformer does

Nothing here comes from the program that it tests: not the format, not the formulas.
"""
import json, math, os, random, struct, sys

H, MLP, LAYERS, HEADS, KV, DIM, VOCAB = 24, 40, 2, 6, 2, 8, 90
THETA, EPS = 500.0, 1e-5
SCALING = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64}
where, kind, files, prompt, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
random.seed(files + len(kind))


def shapes():
    yield "lm_head.weight", (VOCAB, H)
    yield "model.embed_tokens.weight", (VOCAB, H)
    yield "model.norm.weight", (H,)
    for l in range(LAYERS):
        for part, rows, cols in (("self_attn.q_proj", HEADS * DIM, H), ("self_attn.k_proj", KV * DIM, H),
                                 ("self_attn.v_proj", KV * DIM, H), ("self_attn.o_proj", H, HEADS * DIM),
                                 ("mlp.gate_proj", MLP, H), ("mlp.up_proj", MLP, H), ("mlp.down_proj", H, MLP)):
            yield f"model.layers.{l}.{part}.weight", (rows, cols)
            yield f"model.layers.{l}.{part}.bias", (rows,)
        yield f"model.layers.{l}.input_layernorm.weight", (H,)
        yield f"model.layers.{l}.post_attention_layernorm.weight", (H,)


def stored(v):
    """What a value is after it was stored, and its bytes."""
    raw = struct.pack("<f", v)
    if kind == "bf16":
        raw = raw[2:]
        return struct.unpack("<f", b"\0\0" + raw)[0], raw
    return struct.unpack("<f", raw)[0], raw


tensors, parts = {}, [[] for _ in range(files)]
for i, (name, shape) in enumerate(shapes()):
    scale = 1 if len(shape) == 1 else 1.8 / math.sqrt(shape[1])
    pairs = [stored(random.uniform(-1, 1) * scale) for _ in range(math.prod(shape))]
    tensors[name] = [p[0] for p in pairs]
    parts[i % files].append((name, shape, b"".join(p[1] for p in pairs)))
os.makedirs(where, exist_ok=True)
weight_map = {}
for k, part in enumerate(parts):
    header, at = {}, 0
    for name, shape, raw in part:
        header[name] = {"dtype": kind.upper(), "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        weight_map[name] = f"part{k}.safetensors" if files > 1 else "model.safetensors"
    text = json.dumps(header).encode()
    with open(f"{where}/{weight_map[part[0][0]]}", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(raw for _, _, raw in part))
if files > 1:
    json.dump({"metadata": {}, "weight_map": weight_map}, open(f"{where}/model.safetensors.index.json", "w"))
json.dump({"model_type": "llama", "hidden_act": "silu", "hidden_size": H, "intermediate_size": MLP,
           "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": DIM,
           "vocab_size": VOCAB, "max_position_embeddings": 200, "rms_norm_eps": EPS, "rope_theta": THETA,
           "rope_scaling": SCALING, "attention_bias": True, "mlp_bias": True}, open(f"{where}/config.json", "w"))


def linear(name, x):
    w, b = tensors[name + ".weight"], tensors.get(name + ".bias")
    n = len(x)
    return [sum(w[r * n + k] * x[k] for k in range(n)) + (b[r] if b else 0) for r in range(len(w) // n)]


def norm(name, x):
    s = 1 / math.sqrt(sum(v * v for v in x) / len(x) + EPS)
    return [v * s * g for v, g in zip(x, tensors[name + ".weight"])]


def frequency(i):
    f = THETA ** (-2 * i / DIM)
    wave, original = 2 * math.pi / f, SCALING["original_max_position_embeddings"]
    if wave < original / SCALING["high_freq_factor"]:
        return f
    if wave > original / SCALING["low_freq_factor"]:
        return f / SCALING["factor"]
    smooth = (original / wave - SCALING["low_freq_factor"]) / (SCALING["high_freq_factor"] - SCALING["low_freq_factor"])
    return (1 - smooth) * f / SCALING["factor"] + smooth * f


def rotate(v, position):
    out = list(v)
    for i in range(DIM // 2):
        turn = complex(v[i], v[i + DIM // 2]) * complex(math.cos(position * frequency(i)),
                                                        math.sin(position * frequency(i)))
        out[i], out[i + DIM // 2] = turn.real, turn.imag
    return out


def heads(v):
    return [v[i:i + DIM] for i in range(0, len(v), DIM)]


past = [([], []) for _ in range(LAYERS)]


def step(token, position):
    x = tensors["model.embed_tokens.weight"][token * H:(token + 1) * H]
    for l in range(LAYERS):
        p = f"model.layers.{l}."
        y = norm(p + "input_layernorm", x)
        q = [rotate(h, position) for h in heads(linear(p + "self_attn.q_proj", y))]
        past[l][0].append([rotate(h, position) for h in heads(linear(p + "self_attn.k_proj", y))])
        past[l][1].append(heads(linear(p + "self_attn.v_proj", y)))
        mixed = []
        for h in range(HEADS):
            g = h // (HEADS // KV)
            e = [math.exp(sum(a * b for a, b in zip(q[h], k[g])) / math.sqrt(DIM)) for k in past[l][0]]
            mixed += [sum(w * v[g][i] for w, v in zip(e, past[l][1])) / sum(e) for i in range(DIM)]
        x = [a + b for a, b in zip(x, linear(p + "self_attn.o_proj", mixed))]
        y = norm(p + "post_attention_layernorm", x)
        inner = [g / (1 + math.exp(-g)) * u
                 for g, u in zip(linear(p + "mlp.gate_proj", y), linear(p + "mlp.up_proj", y))]
        x = [a + b for a, b in zip(x, linear(p + "mlp.down_proj", inner))]
    logits = linear("lm_head", norm("model.norm", x))
    return logits.index(max(logits))


ids, out = [int(t) for t in prompt.split(",")], []
for position in range(len(ids) + count - 1):
    chosen = step(ids[position] if position < len(ids) else out[-1], position)
    if position >= len(ids) - 1:
        out.append(chosen)
print(*ids, "->", *out)

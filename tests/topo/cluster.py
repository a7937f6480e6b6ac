# SPDX-License-Identifier: MIT
"""A made-up cluster as tutti-topo --json would write it: cluster.py HOSTS RANKS [KIND]; the same for the same words.

KIND   even      equal cables of 25 Gbit/s (what is left out)
       laptops   direct cables of 20 Gbit/s between neighbours in the order 0 2 1 3 ..., Wi-Fi between the others
       switches  two switches with a thin uplink, hosts dealt out in turn; one host has a bad cable
"""
import json
import random
import sys

hosts, ranks, kind = int(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or ["even"])[0]
random.seed(7)


def cores(first, count, kinds):
    return [{"type": "cache", "level": 2, "bytes": 2 << 20, "children": [
        {"type": "core", "os": c, "kind": 1 if kinds and c < first + 2 * count // 3 else 0,
         "children": [{"type": "thread", "os": c}]}]} for c in range(first, first + count)]


def host(h):
    laptop = kind == "laptops"
    packages = 1 if laptop else 2
    each = 12 if laptop else 32
    tree = {"type": "host", "children": []}
    for p in range(packages):
        first = p * each
        inner = [{"type": "cache", "level": 3, "bytes": 32 << 20, "children": cores(first + 8 * k, 8, False)}
                 for k in range(each // 8)] if not laptop else cores(first, each, True)
        tree["children"].append({"type": "package", "os": p, "children":
                                 [{"type": "memory", "os": p, "bytes": (36 if laptop else 256) << 30}] + inner})
    devices = [{"name": "eth0", "kind": "network", "state": "up", "mbps": 1000 if laptop else 25000,
                "mtu": 1500 if laptop else 9000, "ip": f"10.0.0.{h + 1}", "near": {"type": "host" if laptop else "package", "os": -1 if laptop else 1}}]
    if not laptop:
        devices.append({"name": "mlx5_0", "kind": "rdma", "state": "up", "mbps": 100000, "port": 1, "layer": "Ethernet",
                        "near": {"type": "package", "os": 0}})
    n = packages * each
    return {"name": f"node{h}", "arch": "x86_64", "cpu": None, "memory": (36 if laptop else 512) << 30,
            "packages": packages, "cores": n, "threads": n, "may_use": {"cores": n, "threads": n, "list": f"0-{n - 1}", "quota": None},
            "unknown": [], "devices": devices, "tree": tree}


order = list(range(0, hosts, 2)) + list(range(1, hosts, 2))
neighbours = {frozenset((order[i], order[(i + 1) % hosts])) for i in range(hosts)}


def pair(a, b):
    """microseconds, GB/s of one direction"""
    noise = 1 + random.random() / 20
    if a == b:
        return 0.4 * noise, 8.0 / noise
    if kind == "laptops":
        return (12 * noise, 2.3 / noise) if frozenset((a, b)) in neighbours else (300 * noise, 0.11 / noise)
    if kind == "switches" and (a == hosts - 1 or b == hosts - 1):
        return 60 * noise, 0.12 / noise
    if kind == "switches" and a % 2 != b % 2:
        return 35 * noise, 0.6 / noise
    return 18 * noise, 2.9 / noise


n = hosts * ranks
us, gb = [[None] * n for _ in range(n)], [[None] * n for _ in range(n)]
via = [[None] * n for _ in range(n)]
for i in range(n):
    for j in range(i):
        a, b = i // ranks, j // ranks
        late, fast = pair(a, b)
        us[i][j] = us[j][i] = late
        gb[i][j], gb[j][i] = fast, fast * 0.98
        direct = kind == "laptops" and frozenset((a, b)) in neighbours
        via[i][j] = via[j][i] = "shm" if a == b else "verbs" if direct else "tcp"
def at_once(matrix, cut):
    """Pairs across the thin uplink share it."""
    thin = kind == "switches" and n > 2
    return [[v and (cut(v) if thin and i // ranks % 2 != j // ranks % 2 else v) for j, v in enumerate(row)] for i, row in enumerate(matrix)]


job = {"latency_us": us, "latency_p99_us": [[v and 2 * v for v in row] for row in us],
       "bandwidth_GBps": gb, "bandwidth_p10_GBps": [[v and 0.9 * v for v in row] for row in gb]}
if n >= 4:
    cut = {"latency_us": lambda v: 4 * v, "latency_p99_us": lambda v: 8 * v}
    job["at_once"] = {key: at_once(job[key], cut.get(key, lambda v: v / 8)) for key in list(job)}
if n > 8:  # few were measured alone, those that are 1, 2, 4, ... apart at once
    pairs = [[i, j] for i in range(n) for j in range(i + 1, n)]
    job["measured"] = [p for p in pairs if p[0] == 0 or p[1] == n - 1]
    job["groups"] = [2 if h == hosts - 1 else h % 2 for h in range(hosts)] if kind == "switches" else [0] * hosts
    if n > 16:
        job["at_once"]["measured"] = [p for p in pairs if bin(p[1] - p[0]).count("1") == 1]
json.dump({"format": 1, "size": n, "hosts": [host(h) for h in range(hosts)],
           "ranks": [{"host": r // ranks, "memory": r - r % ranks, "pid": 100 + r, "threads": None} for r in range(n)],
           "transport": via, **job}, sys.stdout)

"""What the machine can do: the rate of matrix products of given shapes, and of reading memory, with torch.

Usage: ceiling.py '{"threads": 2, "dtype": "f32", "shapes": [[m, k, n], …]}'. Prints operations and bytes a second.
"""
import json, sys, time

import torch

asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
kind = {"f32": torch.float32, "bf16": torch.bfloat16}[asked["dtype"]]


def best(act, rounds=5):
    """Seconds of the quickest round: what others at work on the machine take is not the machine's ceiling."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        act()
        times.append(time.perf_counter() - start)
    return min(times[1:])


operations = seconds = 0
for m, k, n in asked["shapes"]:
    x, w = torch.randn(m, k, dtype=kind), torch.randn(k, n, dtype=kind)
    again = max(1, int(2e9 / (2 * m * k * n)))
    seconds += best(lambda: [x @ w for _ in range(again)]) / again
    operations += 2 * m * k * n
memory = torch.ones(1 << 27)  # 512 MB, many times a cache
print(json.dumps({"operations_per_s": operations / seconds, "bytes_per_s": memory.numel() * 4 / best(memory.sum)}))

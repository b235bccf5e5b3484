#!/usr/bin/env python3
"""Random blocks of every GGUF number format that is converted, with their values as the `gguf` package computes them.

Usage: gguf_blocks.py > gguf_blocks.json        (needs numpy, gguf)
"""
import json
import random

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGML_QUANT_SIZES, dequantize

# Bytes at which each format has 16-bit floats; random bits there could be infinite or no number.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
random.seed(1)
goldens = []
for name in ["F32", "F16", "BF16", *HALVES]:
    kind = Type[name]
    numbers, size = GGML_QUANT_SIZES[kind]
    blocks = bytearray()
    for _ in range(2):
        block = bytearray(random.randbytes(size))
        for at in HALVES.get(name, []):
            block[at : at + 2] = np.float16(random.uniform(-2, 2)).tobytes()
        if name in ("F32", "F16", "BF16"):
            value = random.uniform(-2, 2)
            block = bytearray({"F32": np.float32(value).tobytes(), "F16": np.float16(value).tobytes(),
                               "BF16": np.float32(value).tobytes()[2:]}[name])
        blocks += block
    data = np.frombuffer(bytes(blocks), dtype=np.uint8)
    stored = {"F32": np.float32, "F16": np.float16}.get(name)
    values = dequantize(data.view(stored) if stored else data, kind).astype(np.float32).reshape(-1)
    goldens.append({"code": int(kind), "blocks": blocks.hex(), "bits": values.view(np.uint32).tolist()})
print(json.dumps(goldens))

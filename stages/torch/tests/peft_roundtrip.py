#!/usr/bin/env python3
"""Load an adapter in peft and compare its logits with those another program computed.

Usage: peft_roundtrip.py MODEL_DIR ADAPTER_DIR INPUT_IDS_JSON LOGITS_SAFETENSORS [--prefix P] [--tolerance 1e-4]

MODEL_DIR is in the Hugging Face layout, ADAPTER_DIR in PEFT's. INPUT_IDS_JSON holds [[id, …], …], or an object
with these as `input_ids`. LOGITS_SAFETENSORS holds for row i the tensor `{P}logits.{i}` [T, V], the row run alone.
Prints one JSON line {"rows", "adapted_modules", "max_abs_diff", "adapter_effect"}; `adapter_effect` is how far the
adapter moves the logits of the base, so that an adapter which changes nothing does not pass for a good one.
Exit status: 0 equal within the tolerance, 1 different, 2 unusable input, 77 peft is not installed.
"""
import argparse
import json
import math
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

try:
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from safetensors import safe_open
    from transformers import LlamaForCausalLM
except ImportError as missing:
    print(f"skipped: no peft ({missing})", file=sys.stderr)
    sys.exit(77)


def refuse(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def read_rows(path):
    with open(path, encoding="utf-8") as f:
        value = json.load(f)
    rows = value["input_ids"] if isinstance(value, dict) else value
    if not rows or not all(rows):
        refuse(f"{path}: no rows, or an empty one")
    return rows


def read_logits(path, prefix, rows, vocab):
    with safe_open(path, "pt") as f:
        names = [f"{prefix}logits.{i}" for i in range(len(rows))]
        if missing := sorted(set(names) - set(f.keys())):
            refuse(f"{path}: no tensor {', '.join(missing)}; it holds {', '.join(sorted(f.keys()))}")
        logits = [f.get_tensor(name).float() for name in names]
    for name, tensor, row in zip(names, logits, rows):
        if list(tensor.shape) != [len(row), vocab]:
            refuse(f"{path}: {name} is {list(tensor.shape)}, and should be {[len(row), vocab]}")
    return logits


@torch.no_grad()
def forward(model, rows):
    return [model(torch.tensor([row])).logits[0] for row in rows]


def furthest(a, b):
    """The greatest absolute difference; a value that is not finite is infinitely far."""
    each = [(x - y).abs().max().item() for x, y in zip(a, b, strict=True)]
    return max(each) if all(map(math.isfinite, each)) else math.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("adapter")
    parser.add_argument("input_ids")
    parser.add_argument("logits")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    base = LlamaForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="eager").eval()
    rows = read_rows(arguments.input_ids)
    ours = read_logits(arguments.logits, arguments.prefix, rows, base.config.vocab_size)
    without = forward(base, rows)
    model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    theirs = forward(model, rows)
    difference = furthest(ours, theirs)
    print(json.dumps(dict(rows=len(rows), adapted_modules=sum(isinstance(m, LoraLayer) for m in model.modules()),
                          max_abs_diff=difference, adapter_effect=furthest(theirs, without))))
    sys.exit(0 if difference <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Write the golden tensors beside this file: what `transformers` and `peft` compute on tiny random Llamas.

Usage: make.py            (needs torch 2.13.0, transformers 5.23, peft 0.21; one thread, about a minute)

README.md here describes every file. Nothing is taken on trust: the script itself checks that batched and
single decoding agree, that no greedy choice is near a tie, that the written loop equals transformers' Trainer,
and how far f32 is from f64, which bounds what another f32 implementation can be asked for.
"""
import copy
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments,
                          get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup,
                          get_linear_schedule_with_warmup)

HERE = Path(__file__).resolve().parent
VOCAB, PAD = 128, 0                     # id 0 is the padding, and no prompt or row holds it
NEW_TOKENS = 16
MIN_GAP = 0.01                          # the least distance of the best logit from the second along a greedy path
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_json(path, value):
    """One line a top-level field (and a row, where a field is a list), so that diffs stay readable."""
    def field(v):
        if isinstance(v, list) and v and isinstance(v[0], (list, dict)):
            return "[\n  " + ",\n  ".join(json.dumps(x) for x in v) + "\n ]"
        return json.dumps(v)
    body = ",\n ".join(f"{json.dumps(k)}: {field(v)}" for k, v in value.items())
    Path(path).write_text("{\n " + body + "\n}\n")


# ---------------------------------------------------------------------------------------------------- models

BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=256, rms_norm_eps=1e-5, hidden_act="silu", bos_token_id=1, eos_token_id=None,
            pad_token_id=PAD)
# Original window 64 with factors 1 and 4 puts the bounds at wavelengths 16 and 64; heads of 16 have
# wavelengths 6.3 | 19.9, 62.8 | 199 …: kept, blended and divided frequencies all occur.
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)

# What config.json says beyond BASE. `older`: the spelling before transformers 5, written by hand.
# `newer`: written by transformers itself.
MODELS = {
    "gqa_tied": dict(spelling="older", num_key_value_heads=2, tie_word_embeddings=True, rope_theta=100000.0),
    "mha_untied": dict(spelling="older", num_hidden_layers=3, tie_word_embeddings=False, rms_norm_eps=1e-6, rope_theta=10000.0),
    "rope_llama3": dict(spelling="older", hidden_size=64, intermediate_size=48, num_key_value_heads=2, tie_word_embeddings=True,
                        rope_theta=10000.0, rope_scaling=LLAMA3),
    "stated_head_dim": dict(spelling="newer", head_dim=16, num_key_value_heads=1, tie_word_embeddings=False,
                            rope_parameters=dict(rope_type="default", rope_theta=500.0)),
    "biases": dict(spelling="older", num_key_value_heads=2, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                   rms_norm_eps=1e-2, rope_theta=10000.0),
    "sharded": dict(spelling="newer", num_hidden_layers=3, head_dim=16, num_key_value_heads=4, tie_word_embeddings=True,
                    rope_parameters=dict(LLAMA3, rope_theta=10000.0)),
    "bf16_weights": dict(spelling="newer", stored=torch.bfloat16, num_key_value_heads=2, tie_word_embeddings=True,
                         rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
}


def randomise(model, generator, embedding_scale):
    """Weights large enough that logits spread over several units, norms and biases far from their defaults."""
    for name, p in sorted(model.named_parameters()):
        if name.endswith("bias"):
            scale, shift = 0.3, 0.0
        elif p.dim() == 1:
            scale, shift = 0.2, 1.0
        elif "embed_tokens" in name:
            scale, shift = embedding_scale, 0.0
        else:
            scale, shift = 1.3 / math.sqrt(p.shape[1]), 0.0
        p.data.copy_(torch.randn(p.shape, generator=generator) * scale + shift)


def write_model(directory, seed, *, spelling, stored=torch.float32, embedding_scale=0.5, **settings):
    """Write config.json and weights, and return the model as `from_pretrained` reads them back."""
    directory.mkdir(parents=True)
    config = LlamaConfig(**copy.deepcopy({**BASE, **settings}))      # it writes into the dictionaries it is given
    model = LlamaForCausalLM(config)
    randomise(model, torch.Generator().manual_seed(seed), embedding_scale)
    model.to(stored)
    if spelling == "newer":
        model.save_pretrained(directory, max_shard_size="60KB" if directory.name == "sharded" else "5GB")
        (directory / "generation_config.json").unlink()
    else:
        tied = settings["tie_word_embeddings"]
        weights = {k: v.contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        stated = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **BASE, **settings, "torch_dtype": "float32"}
        (directory / "config.json").write_text(json.dumps(stated, indent=2) + "\n")
    return load_model(directory)


def load_model(directory, dtype=torch.float32):
    model = LlamaForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager")
    model.name_or_path = model.config._name_or_path = ""
    return model.eval()


# --------------------------------------------------------------------------------------- logits and decoding

def sequences(seed, lengths):
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(4, VOCAB, (n,), generator=g).tolist() for n in lengths]


@torch.no_grad()
def logits_of(model, rows):
    """One tensor [T, V] a row, each row run alone, without padding."""
    return {f"logits.{i}": model(torch.tensor([row])).logits[0].contiguous() for i, row in enumerate(rows)}


def generate(model, rows, penalty, eos):
    """Greedy continuations of the rows, left-padded to one length; each ends with its end token, if it met one."""
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
    out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, repetition_penalty=penalty,
                         eos_token_id=eos or None, pad_token_id=PAD, return_dict_in_generate=True, output_scores=True)
    gaps, continuations = [], []
    for i, row in enumerate(out.sequences[:, width:].tolist()):
        n = next((j + 1 for j, t in enumerate(row) if t in eos), len(row))
        continuations.append(row[:n])
        for scores in out.scores[:n]:
            best = scores[i].topk(2).values
            gaps.append((best[0] - best[1]).item())
    return continuations, min(gaps)


class Unsuitable(Exception):
    """These prompts decide nothing: a choice hangs on rounding, or the penalty changes nothing."""


def greedy(model, prompts, penalty, eos):
    """The continuations, equal whether decoded one by one or as a left-padded batch.

    With a penalty transformers counts the padding of a batch as a token of the prompt; id 0 must then not matter."""
    single = [generate(model, [p], penalty, eos) for p in prompts]
    continuations, gap = [c[0] for c, _ in single], min(g for _, g in single)
    batched, _ = generate(model, prompts, penalty, eos)
    if gap < MIN_GAP or batched != continuations:
        raise Unsuitable
    return dict(repetition_penalty=penalty, eos_token_ids=eos, max_new_tokens=NEW_TOKENS, min_top2_gap=round(gap, 4),
                prompts=prompts, continuations=continuations)


def greedy_cases(model, prompts):
    plain, penalised = greedy(model, prompts, 1.0, []), greedy(model, prompts, 1.2, [])
    if penalised["continuations"] == plain["continuations"]:
        raise Unsuitable
    # Ends that two rows meet at different places: the sixth token of the first, the eleventh of the second.
    ends = sorted({plain["continuations"][0][5], plain["continuations"][1][10]})
    return [plain, penalised, greedy(model, prompts, 1.0, ends)]


def first_suitable(model, seed):
    """The cases of the first suitable draw of prompts."""
    for attempt in range(1000):
        try:
            return greedy_cases(model, sequences(1000 * seed + attempt, (3, 12, 8)))
        except Unsuitable:
            pass
    raise SystemExit(f"seed {seed}: no draw of prompts stays clear of near ties")


def write_forward(name, seed, settings):
    directory = HERE / name
    model = write_model(directory, seed, **settings)
    rows = sequences(seed, (33, 7, 20))
    inverse_frequencies = model.model.rotary_emb.inv_freq.float().contiguous()
    save_file({**logits_of(model, rows), "inv_freq": inverse_frequencies}, directory / "golden.safetensors")
    write_json(directory / "golden.json", dict(input_ids=rows, greedy=first_suitable(model, seed)))


# -------------------------------------------------------------------------------------------------- adapters

def lora(model, seed, random_b, targets=PROJECTIONS, rslora=False):
    """A peft model with the adapter as peft initialises it (B = 0), or with B drawn as well."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets, use_rslora=rslora, task_type="CAUSAL_LM")
    peft_model = get_peft_model(model, config)
    if random_b:
        g = torch.Generator().manual_seed(seed)
        for name, p in sorted(peft_model.named_parameters()):
            if "lora_B" in name:
                p.data.copy_(torch.randn(p.shape, generator=g) * 0.1)
    return peft_model


def save_adapter(peft_model, directory):
    peft_model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    config = json.loads((directory / "adapter_config.json").read_text())
    config["target_modules"] = [p for p in PROJECTIONS if p in config["target_modules"]]   # peft writes a set
    config["base_model_name_or_path"] = None
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_adapters():
    """Adapters on the model `gqa_tied`, applied beside it and merged into it."""
    variants = {"all": {}, "qv_rslora": dict(targets=["q_proj", "v_proj"], rslora=True)}
    rows = sequences(50, (25, 9))
    for i, (name, settings) in enumerate(variants.items()):
        directory = HERE / "adapters" / name
        save_adapter(lora(load_model(HERE / "gqa_tied"), 51 + i, True, **settings), directory)
        peft_model = PeftModel.from_pretrained(load_model(HERE / "gqa_tied"), directory).eval()
        beside = logits_of(peft_model, rows)
        merged = logits_of(peft_model.merge_and_unload().eval(), rows)
        base = logits_of(load_model(HERE / "gqa_tied"), rows)
        assert all((beside[k] - merged[k]).abs().max() < 1e-4 and (beside[k] - base[k]).abs().max() > 0.1 for k in beside)
        save_file({**beside, **{f"merged.{k}": v for k, v in merged.items()}}, directory / "golden.safetensors")
        write_json(directory / "golden.json", dict(base="gqa_tied", input_ids=rows))


# -------------------------------------------------------------------------------------------------- training

BATCH, PEAK_LR, CLIP = 4, 1e-2, 1.0
SCHEDULES = dict(cosine=get_cosine_schedule_with_warmup, linear=get_linear_schedule_with_warmup,
                 constant=lambda o, warmup, steps: get_constant_schedule_with_warmup(o, warmup))


def training_rows(n, seed):
    """Rows of 6 to 24 tokens of a Markov chain on 24 ids (so that there is something to learn); the prompt is masked."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    successors = [[draw(4, 28) for _ in range(3)] for _ in range(VOCAB)]
    rows = []
    for _ in range(n):
        length = draw(6, 25)
        ids = [1, draw(4, 28)]
        while len(ids) < length - 1:
            ids.append(successors[ids[-1]][draw(0, 3)])
        ids.append(2)
        prompt = draw(2, length - 2)
        rows.append(dict(input_ids=ids, labels=[-100] * prompt + ids[prompt:]))
    return rows


def collate(rows):
    width = max(len(r["input_ids"]) for r in rows)
    pad = lambda values, filler: values + [filler] * (width - len(values))
    return dict(input_ids=torch.tensor([pad(r["input_ids"], PAD) for r in rows]),
                attention_mask=torch.tensor([pad([1] * len(r["input_ids"]), 0) for r in rows]),
                labels=torch.tensor([pad(r["labels"], -100) for r in rows]))


def train(model, rows, steps, warmup_steps, weight_decay, schedule):
    """The plain loop: loss = summed cross-entropy of the step's supervised tokens / their number."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    scheduler = SCHEDULES[schedule](optimizer, warmup_steps, steps)
    log = dict(learning_rates=[], losses=[], grad_norms=[], supervised_tokens=[])
    model.train()
    for step in range(steps):
        batch = collate(rows[step * BATCH:(step + 1) * BATCH])
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch).logits[:, :-1]
        supervised = int((labels != -100).sum())
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), labels.reshape(-1), ignore_index=-100, reduction="sum") / supervised
        optimizer.zero_grad()
        loss.backward()
        log["grad_norms"].append(torch.nn.utils.clip_grad_norm_(trained, CLIP).item())     # before clipping
        log["learning_rates"].append(optimizer.param_groups[0]["lr"])
        log["losses"].append(loss.item())
        log["supervised_tokens"].append(supervised)
        optimizer.step()
        scheduler.step()
    return log


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class KeepLogs(TrainerCallback):
    def __init__(self):
        self.log = dict(losses=[], grad_norms=[])

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.log["losses"].append(logs["loss"])
            self.log["grad_norms"].append(float(logs["grad_norm"]))


def train_with_trainer(model, rows, steps, warmup_steps, weight_decay, schedule):
    kept = KeepLogs()
    name = "constant_with_warmup" if schedule == "constant" else schedule
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(output_dir=out, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=PEAK_LR,
                                      warmup_steps=warmup_steps, lr_scheduler_type=name, weight_decay=weight_decay, max_grad_norm=CLIP,
                                      optim="adamw_torch", logging_steps=1, logging_strategy="steps", report_to=[], use_cpu=True,
                                      save_strategy="no", disable_tqdm=True, remove_unused_columns=False)
        trainer = InOrder(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[kept])
        trainer.train()
    return kept.log


def trained_tensors(model):
    """The adapter under its names on disk, or the whole model (no second name for a tied head)."""
    if isinstance(model, PeftModel):
        return {k: v.detach().float().contiguous() for k, v in get_peft_model_state_dict(model).items()}
    return {k: p.detach().float().contiguous() for k, p in model.named_parameters()}


def furthest(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def write_training():
    root = HERE / "training"
    rows = training_rows(20 * BATCH, 70)
    write_model(root / "model", 71, embedding_scale=0.1, **MODELS["gqa_tied"])
    write_json(root / "rows.json", dict(rows=rows))
    save_adapter(lora(load_model(root / "model"), 72, random_b=False), root / "start_zero_b")
    save_adapter(lora(load_model(root / "model"), 73, random_b=True), root / "start_random_b")
    save_adapter(lora(load_model(root / "model"), 74, random_b=True, rslora=True), root / "start_rslora")

    runs = {
        "lora": dict(start="start_zero_b"),
        "lora_random_b": dict(start="start_random_b"),
        "rslora": dict(start="start_rslora"),
        "weight_decay": dict(start="start_random_b", weight_decay=0.5),
        "linear": dict(start="start_random_b", schedule="linear"),
        "constant": dict(start="start_random_b", schedule="constant"),
        "full": dict(start=None, steps=5, warmup_steps=1),
    }
    for name, run in runs.items():
        start, steps = run["start"], run.get("steps", 20)
        how = dict(steps=steps, warmup_steps=run.get("warmup_steps", 4), weight_decay=run.get("weight_decay", 0.0),
                   schedule=run.get("schedule", "cosine"))

        def fresh(dtype=torch.float32):
            base = load_model(root / "model", dtype)
            if start is None:
                return base
            return PeftModel.from_pretrained(base, root / start, is_trainable=True, autocast_adapter_dtype=False).to(dtype)

        model, wide, peer = fresh(), fresh(torch.float64), fresh()
        log, exact = train(model, rows, **how), train(wide, rows, **how)
        trainer = train_with_trainer(peer, rows[:steps * BATCH], **how)
        final = trained_tensors(model)

        def distance(other_log, other_model):
            other = trained_tensors(other_model)
            return dict(losses=furthest(log["losses"], other_log["losses"]),
                        grad_norms=furthest(log["grad_norms"], other_log["grad_norms"]),
                        tensors=max((final[k] - other[k]).abs().max().item() for k in final))

        from_f64, from_trainer = distance(exact, wide), distance(trainer, peer)
        assert max(from_f64.values()) < 1e-4 and max(from_trainer.values()) < 1e-5, (name, from_f64, from_trainer)
        if how["schedule"] != "constant":
            assert log["losses"][-1] < log["losses"][0], name
        save_file(final, root / f"{name}.safetensors")
        write_json(root / f"{name}.json", dict(
            start=start, full=start is None, steps=steps, batch_size=BATCH, learning_rate=PEAK_LR, schedule=how["schedule"],
            warmup_steps=how["warmup_steps"], betas=[0.9, 0.999], eps=1e-8, weight_decay=how["weight_decay"], clip=CLIP, **log,
            f32_from_f64=from_f64, f32_from_trainer=from_trainer))
    write_input_norms(root, rows[:BATCH])


@torch.no_grad()
def write_input_norms(root, rows):
    """‖x‖₂ of every input feature of the projections over the tokens of rows run one by one: of W, and of an adapter's A and B."""
    with_adapter = PeftModel.from_pretrained(load_model(root / "model"), root / "start_random_b")
    squares = {}

    def watch(name):
        def hook(module, inputs):
            squares[name] = squares.get(name, 0) + inputs[0].double().reshape(-1, inputs[0].shape[-1]).square().sum(0)
        return hook

    for prefix, model in (("base", load_model(root / "model")), ("adapted", with_adapter.eval())):
        for name, module in model.named_modules():
            projection = next((p for p in PROJECTIONS if f".{p}" in name), None)
            if isinstance(module, torch.nn.Linear) and projection:
                module.register_forward_pre_hook(watch(f"{prefix}.{name.removeprefix('base_model.model.')}"))
        for row in rows:
            model(torch.tensor([row["input_ids"]]))
    save_file({name: total.sqrt().float().contiguous() for name, total in squares.items()}, root / "input_norms.safetensors")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for old in [HERE / n for n in (*MODELS, "adapters", "training")]:
        shutil.rmtree(old, ignore_errors=True)
    for i, (name, settings) in enumerate(MODELS.items()):
        write_forward(name, 10 + i, settings)
    write_adapters()
    write_training()
    files = [f for f in HERE.rglob("*") if f.is_file()]
    print(f"{len(files)} files, {sum(f.stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    main()

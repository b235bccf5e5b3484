# Rows to token ids and labels by `datasets.map` in two processes, and the same texts by the tokenizers library alone.
# Arguments: the model's folder, rows as JSONL of {instruction, input?, output}, the longest row. Prints a line of JSON.
import json, sys, tempfile, time
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedTokenizerFast

model, path, longest = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{model}/tokenizer.json", eos_token="<|im_end|>")
HEAD = "Below is an instruction that describes a task"
WITH = HEAD + ", paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:"
WITHOUT = HEAD + ". Write a response that appropriately completes the request.\n\n### Instruction:\n{}\n\n### Response:"


def texts(batch):
    pairs = zip(batch["instruction"], batch["input"])
    return [WITH.format(i, x) if x else WITHOUT.format(i) for i, x in pairs], [o + tokenizer.eos_token for o in batch["output"]]


def encode(batch):
    prompts, answers = (tokenizer(list(part))["input_ids"] for part in texts(batch))
    rows = [(p + a, [-100] * len(p) + a) for p, a in zip(prompts, answers)]
    return {"input_ids": [ids[:longest] for ids, _ in rows], "labels": [labels[:longest] for _, labels in rows]}


disable_progress_bars()
rows = [json.loads(line) for line in open(path)]
data = Dataset.from_list([{"input": "", **row} for row in rows])
with tempfile.TemporaryDirectory() as folder:
    data.save_to_disk(folder + "/rows")
    data = Dataset.load_from_disk(folder + "/rows")
    began = time.perf_counter()
    mapped = data.map(encode, batched=True, num_proc=2, remove_columns=data.column_names, cache_file_name=folder + "/mapped.arrow")
    seconds = time.perf_counter() - began
    tokens = sum(len(ids) for ids in mapped.with_format("numpy")["input_ids"])
whole = [p + a for p, a in zip(*texts({name: data[name] for name in data.column_names}))]
began = time.perf_counter()
encoded = tokenizer.backend_tokenizer.encode_batch_fast(whole)
bare = time.perf_counter() - began
print(json.dumps({"tokens": tokens, "map_per_s": tokens / seconds, "bare_per_s": sum(len(e.ids) for e in encoded) / bare}))

#!/usr/bin/env python3
"""Writes golden.json beside it: what alpaca_eval 0.6.6 itself asks and makes of the answers, for five of its annotators.

    pip install alpaca-eval==0.6.6 'setuptools<81'
    python make.py

A server of this script stands for the service: its answers depend on the prompt alone. The configs and prompts beside this
file are those of the package (Apache License 2.0), copied here so that the tests need no network.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ["weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_clf_gpt4_turbo", "alpaca_eval_gpt4",
         "alpaca_eval_gpt4_turbo_fn", "chatgpt_fn"]
PAIRS = [{"instruction": f"Say {what}.", "output_1": one, "output_2": two} for what, one, two in [
    ("hello", "Hello!", "Good day to you, and a long one too."), ("nothing", "", "Nothing."), ("the same", "same", "same"),
    ("{output_1}", "keys", "are filled once: {output_2}"), ("\"quotes\"", '"""', "it's"), ("naïve 東京 👩‍🚀", " spaces ", "\ttabs\n"),
    ("<|im_end|>", "a marker", "no marker"), ("one", "1", "2"), ("two", "3", "4"), ("three", "5", "6"), ("four", "7", "8"),
]]
asked = []


def choice(body):
    """An answer that the annotator can mostly read; some prompts get one that it cannot."""
    digest = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()
    better, readable = 1 + digest[0] % 2, digest[1] % 6 > 0
    message, logprobs = {"role": "assistant", "content": "I cannot decide."}, None
    if body.get("logprobs"):
        labels = ["m", "M"] if readable else ["Both", "None"]
        top = [{"token": token, "bytes": None, "logprob": round(-digest[i] / 50 - 0.01, 4)} for i, token in enumerate(labels, 2)]
        message["content"] = labels[0]
        logprobs = {"content": [{"token": labels[0], "bytes": None, "logprob": top[0]["logprob"], "top_logprobs": top}]}
    elif readable and "tools" in body:
        name = body["tools"][0]["function"]["name"]
        arguments = {"ordered_models": [{"model": "m", "rank": better}, {"model": "M", "rank": 3 - better}]}
        if name == "print_best_model":
            arguments = {"best_output": f"Output ({'ab'[better - 1]})"}
        call = {"id": "call", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    elif readable:
        message["content"] = f"[{{'model': 'model_1', 'rank': {better}}}, {{'model': 'model_2', 'rank': {3 - better}}}]"
    return {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = choice(body)
        asked.append({"body": body, "choice": answer})
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [answer], "usage": usage}
        text = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def number(value):
    return None if value is None or value != value else float(value)


def annotate(name):
    from alpaca_eval.annotators import PairwiseAnnotator
    from alpaca_eval.metrics import get_winrate

    asked.clear()
    annotator = PairwiseAnnotator(annotators_config=name, caching_path=None)
    pairs = [{**pair, "generator_1": "base", "generator_2": "m"} for pair in PAIRS]
    rows = annotator.annotate_pairs(pairs)
    line = get_winrate(rows)
    return {
        "asked": sorted(asked, key=lambda one: json.dumps(one["body"]["messages"])),
        "preferences": [number(row["preference"]) for row in rows],
        "line": {key: number(line[key]) for key in ["win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws",
                                                    "n_total", "discrete_win_rate"]},
    }


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["OPENAI_API_BASE"] = f"http://127.0.0.1:{server.server_port}/v1"
    os.environ["OPENAI_API_KEY"] = "none"
    os.environ["OPENAI_MAX_CONCURRENCY"] = "1"
    os.environ["OPENAI_CLIENT_CONFIG_PATH"] = os.path.join(tempfile.mkdtemp(), "none.yaml")
    import alpaca_eval

    configs = Path(alpaca_eval.__file__).parent / "evaluators_configs"
    for name in NAMES:
        shutil.copytree(configs / name, HERE / "evaluators_configs" / name, dirs_exist_ok=True)
    golden = {"pairs": PAIRS, "annotators": {name: annotate(name) for name in NAMES}}
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1, ensure_ascii=True) + "\n")


main()

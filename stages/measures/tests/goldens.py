#!/usr/bin/env python3
"""Writes goldens.json beside it: what the public implementations say about the cases below.

    pip install rouge-score==0.1.2 sacrebleu==2.6.0 scipy==1.17.1 scikit-learn==1.9.1 alpaca-eval==0.6.6 'setuptools<81'
    python goldens.py

The crate's tests read the file only; Python is needed to make it anew, not to test. Where no package has a figure
(log-diversity, Holm, the normalisation of exact match), the definition is written out here once more.
"""

import json
import math
import random
import string
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import sacrebleu
import scipy.optimize
import scipy.stats
from alpaca_eval.completion_parsers import logprob_parser
from alpaca_eval.metrics import get_winrate, glm_winrate
from rouge_score import rouge_scorer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

LONG = (
    "Roughly 3,500 people (about 12.5%) attended the 2019-2020 season opener; tickets cost $45.00-$120.00. "
    "\"It was a night to remember,\" said the manager, who couldn't stop smiling... "
) * 3

PAIRS = [
    ("The capital of France is Paris.", ["Paris is the capital of France."]),
    ("The cat sat on the mat.", ["The cat sat on the mat."]),
    ("the the the the the the the", ["The cat is on the mat.", "There is a cat on the mat."]),
    ("It is a guide to action which ensures that the military always obeys the commands of the party.",
     ["It is a guide to action that ensures that the military will forever heed Party commands.",
      "It is the guiding principle which guarantees the military forces always being under the command of the Party.",
      "It is the practical guide for the army always to heed the directions of the party."]),
    ("", ["something"]),
    ("something", [""]),
    ("", [""]),
    ("   \n\t ", ["  "]),
    ("...", ["..."]),
    ("wait... what?! (really)", ["wait.. what?! really"]),
    ("Paris", ["Paris"]),
    ("Paris.", ["paris"]),
    ("naïve café déjà-vu", ["naive cafe deja vu", "naïve café déjà vu"]),
    ("東京は日本の首都です。", ["東京は日本の首都である。"]),
    ("Москва — столица России", ["Столица России — Москва"]),
    ("👩‍🚀 lands on 🌕 at 4.5 km/s", ["👩‍🚀 landed on 🌕 at 4.5 km/s"]),
    ("İstanbul ve KELVIN: 300\u212a", ["istanbul ve kelvin: 300k"]),
    ("a\u00a0b\u3000c\u2028d e", ["a b c d e"]),
    ("x &amp; y &lt; z &quot;q&quot; &gt;", ["x & y < z \"q\" >"]),
    ("hyphen-\nated word <skipped> here", ["hyphenated word here"]),
    ("prices: 1,234.50 and 1.5, or 2.", ["prices: 1,234.50 or 1.5 , and 2 ."]),
    ("a.b,c.1,2.d 5-6 -7 8- x-9", ["a . b , c.1,2 . d 5 - 6"]),
    ("[link](http://example.com/?q=1&r=2#top) `code` {x|y} ~z^2 @me", ["link http example com code x y z 2 me"]),
    ("one two three", ["one two three four five six seven eight nine ten", "one two"]),
    ("one two three four five six seven eight nine ten", ["one two three"]),
    ("short", ["a completely different and much longer reference sentence"]),
    (LONG, [LONG.replace("manager", "director").replace("2019-2020", "2019"), "unrelated"]),
    (" ".join(f"w{i % 37}" for i in range(400)), [" ".join(f"w{i % 41}" for i in range(300))]),
]


def text_pairs():
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    rows = []
    for answer, references in PAIRS:
        rouge = scorer.score_multi(references, answer)["rougeL"]
        rows.append({
            "answer": answer,
            "references": references,
            "rouge_l": [rouge.precision, rouge.recall, rouge.fmeasure],
            "bleu_4": sacrebleu.sentence_bleu(answer, references).score,
            "exact_match": any(squad_normalise(answer) == squad_normalise(r) for r in references),
        })
    return rows


def squad_normalise(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def words_and_diversity():
    rows = []
    for text in [answer for answer, _ in PAIRS] + ["a b a b a", "one two three four", "one two three four five", "x " * 200]:
        words = text.split()
        rows.append({
            "text": text,
            "characters": len(text),
            "words": len(words),
            "repetition_2": repetition(words, 2),
            "repetition_2_of_50": repetition(words[:50], 2) if len(words) >= 50 else None,
            "log_diversity": log_diversity(words, 1),
            # The published code's loop stops one n-gram early, and its fractions are divided by 100.
            "log_diversity_paper": log_diversity(words[:-1], 100),
        })
    return rows


def repetition(words, n):
    ngrams = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else None


def log_diversity(words, divisor):
    repetitions = [repetition(words, n) for n in (2, 3, 4)]
    if None in repetitions:
        return None
    diversity = math.prod(1 - r / divisor for r in repetitions)
    return -math.log(max(1 - diversity, math.exp(-20)))


def switches():
    instructions = ["", "a", "What are the names of some famous actors that started their careers on Broadway?",
                    "naïve 東京 👩‍🚀", "line\nbreak", "x" * 3000]
    rows = []
    for instruction in instructions:
        for seed in (0, 1, -7):
            generator = random.Random("is_switched_outputs" + instruction + str(seed))
            rows.append({"instruction": instruction, "seed": seed,
                         "switched": generator.choices([False, True], k=1)[0]})
    return rows


def cpython_random():
    rows = []
    for text in ["", "\0", "\0\0\0\0\0", "seed", "é" * 5000]:
        generator = random.Random(text)
        draws = [generator.random() for _ in range(700)]
        rows.append({"text": text, "draws_times_2_53": [int(draw * 2**53) for draw in draws[-3:]]})
    return rows


def win_rates():
    rng = np.random.default_rng(0)
    lists = [
        [1, 2, 2, 1.5],
        [0, 1, 2, 0],
        [2],
        [1.5, 1.5],
        [1.0, 2.0, None, 3.0, -1.0, 0.0, 1.5, 1.2],
        [1.0, 2.4, 2.5, 0.6, 0.4, 0.5, 2.0],
        [float(x) for x in 1 + rng.beta(0.3, 0.5, 200)],
        [float(x) for x in rng.choice([1.0, 2.0, 1.5], 101)],
    ]
    rows = []
    for preferences in lists:
        figures = get_winrate([{"preference": p} for p in preferences])
        rows.append({"preferences": preferences, **{k: number(v) for k, v in figures.items()}})
    return rows


def number(value):
    value = float(value)
    return None if math.isnan(value) else value


def log_probabilities():
    rows = []
    for tokens in [{"M": -0.01, "m": -4.6}, {"m": -0.3, "Both": -2.0}, {"M": -0.5, "mm": -1.0}, {"The": -0.1},
                   {"m": -120.0, "M": -900.0}]:
        completion = {"logprobs": {"content": [{"top_logprobs": [{"token": t, "logprob": p} for t, p in tokens.items()]}]}}
        preference = logprob_parser(completion, numerator_token="m", denominator_tokens=["m", "M"], is_binarize=False)
        rows.append({"tokens": list(tokens.items()), "preference": number(preference[0])})
    return rows


def splitmix64(seed, count):
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bootstraps():
    """The draws by the crate's documented generator; interval and standard error of them by scipy."""
    rng = np.random.default_rng(1)
    cases = [
        (7, rng.normal(0.1, 0.5, (1, 60))),
        (2**63 + 5, rng.choice([-0.5, 0.0, 0.5], (1, 25), p=[0.2, 0.3, 0.5])),
        (0, rng.normal(0.2, 0.3, (3, 40)) + rng.normal(0, 0.2, (3, 1))),
    ]
    rows = []
    for seed, data in cases:
        draws = 2000
        m, n = data.shape
        drawn_rows = m - 1 if m > 1 else 0
        indices = splitmix64(seed, draws * (drawn_rows + n)).reshape(draws, -1) >> np.uint64(32)
        if m == 1:
            samples = data[0][((indices * np.uint64(n)) >> np.uint64(32)).astype(int)].mean(axis=1)
        else:
            chosen = ((indices[:, :drawn_rows] * np.uint64(m)) >> np.uint64(32)).astype(int)
            prompts = ((indices[:, drawn_rows:] * np.uint64(n)) >> np.uint64(32)).astype(int)
            samples = data[chosen[:, :, None], prompts[:, None, :]].mean(axis=(1, 2))
        earlier = scipy.stats.bootstrap((data.ravel(),), np.mean, n_resamples=2, method="percentile")
        earlier.bootstrap_distribution = samples
        result = scipy.stats.bootstrap((data.ravel(),), np.mean, n_resamples=0, method="percentile",
                                       bootstrap_result=earlier)
        tail = (1 + min((samples <= 0).sum(), (samples >= 0).sum())) / (draws + 1)
        rows.append({"seed": seed, "draws": draws, "rows": data.tolist(), "mean": data.mean(),
                     "low": result.confidence_interval.low, "high": result.confidence_interval.high,
                     "standard_error": result.standard_error, "p_value": min(1.0, 2 * tail)})
    return rows


def agreements():
    rng = np.random.default_rng(3)
    rows = []
    for noise in (0.1, 0.6):
        first = rng.uniform(1, 2, 80)
        second = np.clip(first + rng.normal(0, noise, 80), 1, 2)
        first[::9] = 1.5
        verdict = lambda p: np.sign(np.round(p - 1.5, 12)).astype(int)
        rows.append({"first": first.tolist(), "second": second.tolist(),
                     "rate": float((verdict(first) == verdict(second)).mean()),
                     "kappa": cohen_kappa_score(verdict(first), verdict(second))})
    return rows


def sign_tests():
    return [{"ahead": a, "behind": b, "p_value": scipy.stats.binomtest(a, a + b).pvalue}
            for a, b in [(5, 0), (8, 2), (40, 60), (130, 122), (1, 1), (0, 1), (500, 305)]]


def holms():
    def adjust(p):
        order = np.argsort(p)
        stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p)[order])
        adjusted = np.empty(len(p))
        adjusted[order] = np.minimum(stepped, 1)
        return adjusted.tolist()

    return [{"p_values": p, "adjusted": adjust(p)}
            for p in [[0.01, 0.04, 0.03, 0.005], [0.5], [0.9, 0.8, 0.001], [0.02, 0.02, 0.02]]]


def length_control():
    """A made-up benchmark of 60 instructions, fitted by liblinear on soft labels with the settings of AlpacaEval."""
    rng = np.random.default_rng(2)
    n = 60
    difficulty = rng.normal(0, 1, n)
    gamed = np.tanh(rng.normal([[1.5], [-0.5]], 1, (2, n)))
    gamed_y = rng.uniform(0, 1, (2, n))
    lengths = rng.integers(50, 3000, (n, 2))
    delta = lengths[:, 0] - lengths[:, 1]
    tanh = np.tanh(delta / delta.std(ddof=1))
    y = 1 / (1 + np.exp(-(-1.2 * tanh + 0.5 * difficulty - 0.4 + rng.normal(0, 1, n))))
    X = np.vstack([*[np.column_stack([t, difficulty, np.zeros(n)]) for t in gamed],
                   np.column_stack([tanh, difficulty, np.ones(n)])])
    weight = np.concatenate([np.full(2 * n, 0.1), np.ones(n)])
    judges = {
        "weighted": y,
        "binary": np.round(y),
        "unread": np.where(np.arange(n) % 7 == 0, np.nan, np.where(np.arange(n) % 5 == 0, 0.5, np.round(y))),
        # Several C are nearly equal, so that liblinear's seeds decide.
        "close": 1 / (1 + np.exp(-(-2 * tanh + 0.8 * difficulty - 0.4 + np.random.default_rng(123).normal(0, 0.3, n)))),
    }
    fits = []
    for name, y in judges.items():
        target = np.concatenate([gamed_y.ravel(), y])
        read = ~np.isnan(target)
        for C in (0.05, 0.359, 2.7826, 21.544, 166.81, 10000.0):
            model = LogisticRegression(l1_ratio=1, solver="liblinear", fit_intercept=False, C=C, random_state=123)
            model.fit(np.vstack([X[read], X[read]]), np.repeat([1, 0], read.sum()),
                      sample_weight=np.concatenate([target * weight, (1 - target) * weight])[np.tile(read, 2)])
            w = model.coef_[0]
            q = 1 / (1 + np.exp(-(w[2] + w[1] * difficulty)))
            fits.append({"judge": name, "c": C, "weights": w.tolist(), "length_controlled_winrate": 100 * q.mean(),
                         "lc_standard_error": 100 * q.std(ddof=1) / math.sqrt(n)})
    return {
        "file": {
            "instructions": [f"instruction {i}" for i in range(n)],
            "instruction_difficulty": difficulty.tolist(),
            "gamed_tanh": gamed.tolist(),
            "T_gamed_sum_tanhlen_times_y": float((gamed * gamed_y).sum()),
            "G_gamed_sum_difficulty_times_y": float((difficulty * gamed_y).sum()),
            "gamed_weight": 0.1,
        },
        "lengths": lengths.tolist(),
        "preferences": {name: [number(1 + v) for v in y] for name, y in judges.items()},
        "fits": fits,
    }


def pseudo_values(fitted):
    """What each instruction of the same benchmark contributes to the rate, by nudging its weight and fitting anew, and the
    standard error of a difference of two judges by refitting resampled instructions. Nothing here is known of influences."""
    file, C, draws = fitted["file"], 2.7826, 2000
    difficulty = np.array(file["instruction_difficulty"])
    gamed = np.array(file["gamed_tanh"])
    delta = np.diff(np.array(fitted["lengths"], dtype=float), axis=1)[:, 0] * -1
    n = len(delta)
    T, G, s = file["T_gamed_sum_tanhlen_times_y"], file["G_gamed_sum_difficulty_times_y"], file["gamed_weight"]
    X_gamed = np.vstack([np.column_stack([t, difficulty, np.zeros(n)]) for t in gamed])

    def rate(y, m, start=None):
        """The rate where instruction i stands m[i] times in the sample, to the last digits, and the coefficients."""
        centre = m @ delta / n
        tanh = np.tanh(delta / np.sqrt(m @ (delta - centre) ** 2 / (n - 1)))
        X, read = np.column_stack([tanh, difficulty, np.ones(n)]), ~np.isnan(y)
        X_all = np.vstack([X_gamed, X[read]])
        weight = np.concatenate([np.full(2 * n, s), m[read]])
        linear = s * np.array([T, G, 0]) + (m[read] * y[read]) @ X[read]

        def objective(ab):
            w = ab[:3] - ab[3:]
            z = X_all @ w
            gradient = C * ((weight / (1 + np.exp(-z))) @ X_all - linear)
            return ab.sum() + C * (weight @ np.logaddexp(0, z) - linear @ w), np.concatenate([1 + gradient, 1 - gradient])

        start = np.zeros(6) if start is None else start
        found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * 6,
                                        options={"ftol": 0, "gtol": 1e-11, "maxiter": 10000, "maxfun": 100000, "maxcor": 30})
        w = found.x[:3] - found.x[3:]
        return m @ (1 / (1 + np.exp(-(w[2] + w[1] * difficulty)))) / n, found.x

    cases, resampled = [], {}
    draws_of = np.random.default_rng(4).multinomial(n, np.full(n, 1 / n), draws).astype(float)
    for judge, preferences in fitted["preferences"].items():
        y = np.array([np.nan if p is None else p - 1 for p in preferences])
        whole, start = rate(y, np.ones(n))
        nudged = lambda i, by: rate(y, np.where(np.arange(n) == i, 1 + by, 1.0), start)[0]
        moved = np.array([(nudged(i, 1e-3) - nudged(i, -1e-3)) / 2e-3 for i in range(n)])
        resampled[judge] = np.array([rate(y, m, start)[0] for m in draws_of])
        cases.append({"judge": judge, "c": C, "pseudo_values": (whole + n * (moved - moved.mean())).tolist()})
    difference = resampled["weighted"] - resampled["close"]
    return {"cases": cases, "pair": ["weighted", "close"], "standard_error": float(difference.std(ddof=1)),
            "interval": np.quantile(difference, [0.025, 0.975]).tolist()}


def cross_validated(fitted):
    """The same benchmark through AlpacaEval's own function, which chooses C itself, with a df_gamed.csv as it reads it."""
    rng = np.random.default_rng(3)
    n, file = len(fitted["lengths"]), fitted["file"]
    gamed = pd.DataFrame({
        "preference": rng.uniform(0, 1, 2 * n),
        "index": np.tile(np.arange(n), 2),
        "std_delta_len": np.arctanh(np.concatenate(file["gamed_tanh"])),
        "instruction_difficulty": np.tile(file["instruction_difficulty"], 2),
        "not_gamed_baseline": False,
        "model": np.repeat(["concise", "verbose"], n),
    })
    chosen = []
    fit = glm_winrate.fit_LogisticRegressionCV

    def remember(*args, **kwargs):
        model = fit(*args, **kwargs)
        chosen.append(float(model.C_[0]))
        return model

    cases = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "df_gamed.csv"
        gamed.to_csv(path, index=False)
        glm_winrate.hf_hub_download = lambda **_: path
        glm_winrate.fit_LogisticRegressionCV = remember
        for judge, preferences in fitted["preferences"].items():
            annotations = pd.DataFrame({
                "instruction": file["instructions"], "preference": preferences, "annotator": "judge",
                "generator_1": "base", "generator_2": "model",
                "output_1": ["x" * a for a, _ in fitted["lengths"]],
                "output_2": ["x" * b for _, b in fitted["lengths"]],
            })
            line = glm_winrate.get_length_controlled_winrate(annotations, save_weights_dir=None)
            cases.append({"judge": judge, "c": chosen[-1], "length_controlled_winrate": line["length_controlled_winrate"],
                          "lc_standard_error": line["lc_standard_error"]})
        return {"df_gamed": path.read_text(), "cases": cases}


def main():
    fitted = length_control()
    goldens = {
        "text_pairs": text_pairs(),
        "texts": words_and_diversity(),
        "switches": switches(),
        "cpython_random": cpython_random(),
        "win_rates": win_rates(),
        "log_probabilities": log_probabilities(),
        "bootstraps": bootstraps(),
        "agreements": agreements(),
        "sign_tests": sign_tests(),
        "holms": holms(),
        "length_control": fitted,
        "pseudo_values": pseudo_values(fitted),
        "cross_validated": cross_validated(fitted),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(goldens, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()

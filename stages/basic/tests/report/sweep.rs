//! A made-up sweep with a known truth, of three arms and two seeds or of many arms with many long answers: noise raises the loss on trained rows, lowers how much of a
//! trained answer is given back, lengthens answers, and leaves the held-out loss as it is.

use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::artifact::{TrainMetrics, TrainStep};
use neftpipe_protocol::request::{Input, Lineage, LineageInput, LineageStage, Request};
use neftpipe_protocol::{ArtifactType, Digest, Kind, PROTOCOL_VERSION};
use serde_json::{Value, json};

pub const STEPS: u64 = 40;
const PROBE_ROWS: u64 = 32;

/// What a verdict by a service says of itself.
pub const LABEL: &str = "AlpacaEval 2 prompt, judge gpt-x: not comparable with the leaderboard";

/// What is made.
#[derive(Clone, Copy)]
pub struct Sweep {
    /// Arms with their alpha.
    pub arms: &'static [(&'static str, f64)],
    /// Seeds.
    pub seeds: &'static [u64],
    /// Prompts of each set.
    pub prompts: usize,
    /// Words of filling at the end of each answer.
    pub filling: usize,
    /// Whether answers and verdicts stand beside the runs.
    pub with_answers: bool,
    /// Whether the engine says how everything was made.
    pub with_lineage: bool,
}

/// The small sweep.
pub const WHOLE: Sweep = Sweep {
    arms: &[("plain", 0.0), ("neft5", 5.0), ("neft10", 10.0)],
    seeds: &[0, 1],
    prompts: 20,
    filling: 0,
    with_answers: true,
    with_lineage: true,
};

/// Names that LaTeX, CSV, HTML or a font could stumble over.
pub const NAMED: Sweep = Sweep {
    arms: &[
        ("plain", 0.0),
        ("[neft]", 5.0),
        ("α=5 & σ_1", 5.0),
        ("50% #1 a~b^c", 10.0),
        ("\\x{y}$", 10.0),
        ("中文 Łódź", 10.0),
        ("<b>\"ρ\" 'n' |x|", 10.0),
    ],
    ..WHOLE
};

/// A name that is wider than a column of a paper.
pub const LONG: Sweep = Sweep {
    arms: &[
        ("plain", 0.0),
        (
            "noise of alpha five that is halved when half of the training is over and once more at three quarters of it",
            5.0,
        ),
    ],
    ..WHOLE
};

/// As many answers as twelve arms give to the prompts of AlpacaEval, and as long ones.
pub const LARGE: Sweep = Sweep {
    arms: &[
        ("plain", 0.0),
        ("neft1", 1.0),
        ("neft2", 2.0),
        ("neft3", 3.0),
        ("neft4", 4.0),
        ("neft5", 5.0),
        ("neft6", 6.0),
        ("neft7", 7.0),
        ("neft8", 8.0),
        ("neft9", 9.0),
        ("neft10", 10.0),
        ("neft15", 15.0),
    ],
    seeds: &[0],
    prompts: 805,
    filling: 250,
    ..WHOLE
};

/// Writes the artifacts under a folder and the request for a report of them; answers the attempt's folder.
pub fn write(dir: &Path, sweep: Sweep, params: &Value) -> PathBuf {
    let mut inputs = indexmap::IndexMap::new();
    let mut lineage = vec![
        stage("model", Kind::Download, None, &[], json!({"from": "pypi:a-model==1.0"}), &[], &["output"]),
        stage(
            "corpus",
            Kind::Download,
            None,
            &[],
            json!({"from": "file:rows.jsonl", "as": "dataset"}),
            &[],
            &["output"],
        ),
        stage(
            "tokens",
            Kind::Tokenize,
            None,
            &[],
            json!({"template": "chat", "holdout": 0.04, "trained": 20}),
            &[("dataset", "corpus", "output"), ("tokenizer", "model", "output")],
            &["tokens", "heldout", "trained"],
        ),
    ];
    let mut slot = |name: &str, input: Input| inputs.entry(name.to_owned()).or_insert_with(Vec::new).push(input);
    for &(arm, alpha) in sweep.arms {
        for &seed in sweep.seeds {
            let axes = [("variant", json!(arm)), ("seed", json!(seed))];
            let place = format!("[variant={arm},seed={seed}]");
            let run = write_run(&dir.join(format!("train{place}")), alpha, seed);
            slot("train", input(&format!("train{place}"), ArtifactType::Adapter, run, None, &axes));
            let params = json!({"steps": STEPS, "seed": seed, "neft": {"alpha": alpha}, "learning_rate": 0.0005});
            let params =
                if alpha == 0.0 { json!({"steps": STEPS, "seed": seed, "learning_rate": 0.0005}) } else { params };
            let needs = [("model", "model", "output"), ("tokens", "tokens", "tokens")];
            lineage.push(stage(&format!("train{place}"), Kind::Train, None, &axes, params, &needs, &["adapter"]));
        }
    }
    if sweep.with_answers {
        for (name, prompts, label) in [("answers", "heldout", None), ("recall", "trained", Some("trained prompts"))] {
            for &(arm, alpha) in sweep.arms {
                for &seed in sweep.seeds {
                    let axes = [("variant", json!(arm)), ("seed", json!(seed))];
                    let place = format!("[variant={arm},seed={seed}]");
                    let id = format!("{name}{place}");
                    let path = write_answers(&dir.join(&id), sweep, &format!("m+{arm}{seed}"), prompts, alpha, seed);
                    slot("answers", input(&id, ArtifactType::Answers, path, label, &axes));
                    let train = format!("train{place}");
                    let needs =
                        [("model", "model", "output"), ("adapter", &train, "adapter"), ("prompts", "tokens", prompts)];
                    lineage.push(stage(
                        &id,
                        Kind::Generate,
                        label,
                        &axes,
                        json!({"max_new_tokens": 40}),
                        &needs,
                        &["answers"],
                    ));
                }
            }
        }
        let label = Some("untouched model");
        let path = write_answers(&dir.join("base_answers"), sweep, "m", "heldout", 2.0, 7);
        slot("answers", input("base_answers", ArtifactType::Answers, path, label, &[]));
        let needs = [("model", "model", "output"), ("prompts", "tokens", "heldout")];
        lineage.push(stage(
            "base_answers",
            Kind::Generate,
            label,
            &[],
            json!({"max_new_tokens": 40}),
            &needs,
            &["answers"],
        ));
        for &(arm, alpha) in sweep.arms {
            for &seed in sweep.seeds {
                let axes = [("variant", json!(arm)), ("seed", json!(seed))];
                let place = format!("[variant={arm},seed={seed}]");
                let id = format!("verdict{place}");
                let path = write_verdict(&dir.join(&id), sweep, arm, alpha, seed);
                slot("verdict", input(&id, ArtifactType::Verdict, path, None, &axes));
                let (answers, reference) = (format!("answers{place}"), format!("answers[variant=plain,seed={seed}]"));
                let needs = [
                    ("answers", answers.as_str(), "answers"),
                    ("reference", &reference, "answers"),
                    ("model", "model", "output"),
                ];
                lineage.push(stage(&id, Kind::Judge, None, &axes, json!({"annotator": "local"}), &needs, &["verdict"]));
            }
        }
    }
    let attempt = dir.join("attempt");
    fs::create_dir_all(attempt.join("out")).unwrap();
    let request = Request {
        protocol: PROTOCOL_VERSION,
        kind: Kind::Report,
        version: Kind::Report.version(),
        stage: "report".into(),
        params: params.clone(),
        inputs,
        attempt: attempt.clone(),
        out: attempt.join("out"),
        known: None,
        partial: None,
        checkpoints: Vec::new(),
        lineage: sweep.with_lineage.then_some(Lineage {
            pipeline: "made-up.yaml".to_owned(),
            stages: lineage,
            missing: Vec::new(),
        }),
        base: dir.to_owned(),
        resolved: None,
        budget: None,
        torch_worker: None,
        offline: true,
        threads: 2,
    };
    fs::write(attempt.join("request.json"), serde_json::to_vec_pretty(&request).unwrap()).unwrap();
    attempt
}

/// The parameters that fit the sweep.
pub fn params() -> Value {
    json!({"title": "NEFTune on a made-up model", "rows": "variant", "replicate": "seed", "baseline": {"variant": "plain"}})
}

fn input(
    stage: &str,
    artifact_type: ArtifactType,
    path: PathBuf,
    label: Option<&str>,
    axes: &[(&str, Value)],
) -> Input {
    Input {
        path,
        artifact_type,
        digest: Digest::of(stage.as_bytes()),
        stage: stage.to_owned(),
        label: label.map(str::to_owned),
        axes: axes.iter().map(|(axis, value)| ((*axis).to_owned(), value.clone())).collect(),
    }
}

fn stage(
    id: &str,
    kind: Kind,
    label: Option<&str>,
    axes: &[(&str, Value)],
    params: Value,
    needs: &[(&str, &str, &str)],
    outputs: &[&str],
) -> LineageStage {
    let need = |(slot, stage, output): &(&str, &str, &str)| {
        ((*slot).to_owned(), vec![LineageInput { stage: (*stage).to_owned(), output: (*output).to_owned() }])
    };
    LineageStage {
        id: id.to_owned(),
        kind,
        label: label.map(str::to_owned),
        axes: axes.iter().map(|(axis, value)| ((*axis).to_owned(), value.clone())).collect(),
        params,
        inputs: needs.iter().map(need).collect(),
        outputs: outputs
            .iter()
            .map(|name| ((*name).to_owned(), Digest::of(format!("{id} {name}").as_bytes())))
            .collect(),
        training_rows: (kind == Kind::Tokenize).then_some(128),
        key: Digest::of(id.as_bytes()),
    }
}

/// A number from −1 to 1 that is the same for equal arguments.
fn wobble(what: &str, at: u64, seed: u64) -> f64 {
    let bytes = *Digest::of(format!("{what} {at} {seed}").as_bytes()).as_bytes();
    f64::from(u16::from_le_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX) * 2.0 - 1.0
}

fn write_run(dir: &Path, alpha: f64, seed: u64) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let step = |step: u64| {
        let progress = step as f64 / STEPS as f64;
        TrainStep {
            step,
            loss: 1.2 + 1.6 * (-4.0 * progress).exp() + 0.02 * alpha + 0.15 * wobble("batch", step, seed),
            learning_rate: 5e-4 * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            alpha,
            noise_magnitude: alpha * 0.003,
            gradient_norm: 1.0 + 0.5 * wobble("gradient", step, seed).abs(),
            tokens: 400,
            supervised_tokens: 120,
        }
    };
    let lines: Vec<String> = (1..=STEPS).map(|at| serde_json::to_string(&step(at)).unwrap()).collect();
    fs::write(dir.join("steps.jsonl"), lines.join("\n") + "\n").unwrap();
    // Each seed trains on rows of its own; held-out rows are the same for all.
    let trained: Vec<u64> = (0..PROBE_ROWS).map(|row| 100 * seed + row).collect();
    let heldout: Vec<u64> = (0..PROBE_ROWS).collect();
    let losses = |rows: &[u64], what: &str, effect: f64| -> Vec<f64> {
        let noise = |row| 0.06 * wobble(&format!("{what}{alpha}"), row, seed);
        rows.iter().map(|&row| 1.1 + 0.4 * wobble("row", row, 0) + effect + noise(row)).collect()
    };
    let metrics = TrainMetrics {
        steps: STEPS,
        final_train_loss: Some(step(STEPS).loss),
        probe_train_losses: losses(&trained, "train", 0.012 * alpha),
        probe_heldout_losses: losses(&heldout, "heldout", 0.5),
        probe_train_tokens: vec![15; trained.len()],
        probe_heldout_tokens: vec![15; heldout.len()],
        probe_train_rows: trained,
        probe_heldout_rows: heldout,
        tokens: 400 * STEPS,
        supervised_tokens: 120 * STEPS,
        trained_parameters: 1000,
        alpha_mean_square: alpha * alpha,
        ..TrainMetrics::default()
    };
    fs::write(dir.join("metrics.json"), serde_json::to_vec(&metrics).unwrap()).unwrap();
    dir.to_owned()
}

/// The prompt at a place; one of them tries to break out of the page.
fn instruction(prompts: &str, at: usize) -> String {
    const TOPICS: [&str; 5] =
        ["the tides", "a good loaf of bread", "prime numbers", "the northern lights", "chess openings"];
    match at {
        3 => format!("Explain {prompts} </script><script>alert(1)</script> & \"quotes\" in one line."),
        _ => format!("What should I know about {} ({prompts}, question {at})?", TOPICS[at % TOPICS.len()]),
    }
}

fn reference(prompts: &str, at: usize) -> String {
    format!("The short answer to question {at} of the {prompts} set is that it depends on the moon and on patience")
}

fn output(sweep: Sweep, prompts: &str, alpha: f64, seed: u64, at: usize) -> String {
    let kept = match prompts {
        "trained" => 18.0 - alpha * 0.9 + 3.0 * wobble("kept", at as u64, seed),
        _ => 6.0 + 3.0 * wobble("kept", at as u64, seed),
    };
    let reference = reference(prompts, at);
    let mut words: Vec<&str> = reference.split(' ').take(kept.max(0.0) as usize).collect();
    let more = (4.0 + alpha * 0.8 + 4.0 * wobble(&format!("more{alpha}"), at as u64, seed)).max(0.0) as usize;
    const MORE: [&str; 8] = ["and", "then", "something", "further", "about", "weather", "in", "general"];
    words.extend((0..more).map(|word| MORE[(word + at) % MORE.len()]));
    let filling = (0..sweep.filling).map(|word| filling_word(alpha, at, word)).collect::<Vec<_>>();
    words.extend(filling.iter().map(String::as_str));
    words.join(" ")
}

/// A made-up word of two to four syllables: text of them packs about as well as English.
fn filling_word(alpha: f64, at: usize, word: usize) -> String {
    const SYLLABLES: [&str; 32] = [
        "ba", "ter", "in", "con", "de", "ra", "the", "ing", "lo", "mi", "ver", "an", "to", "per", "ly", "re", "es",
        "al", "ment", "tion", "ca", "so", "un", "fi", "ur", "el", "pro", "ci", "na", "ge", "ple", "o",
    ];
    let place = (at * 251 + word) as u64;
    let pick = |of: u64| ((wobble(&format!("syllable{alpha}"), place, of) + 1.0) / 2.0 * 31.0) as usize;
    (0..2 + place % 3).map(|of| SYLLABLES[pick(of)]).collect()
}

fn write_answers(dir: &Path, sweep: Sweep, generator: &str, prompts: &str, alpha: f64, seed: u64) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let row = |at: usize| {
        let output = if (prompts, alpha, at) == ("heldout", 10.0, 3) {
            "</script><script>document.title = 'broken'</script> <|im_end|>".to_owned()
        } else {
            output(sweep, prompts, alpha, seed, at)
        };
        json!({"instruction": instruction(prompts, at), "output": output, "generator": generator, "reference": reference(prompts, at),
               "finish_reason": if at.is_multiple_of(7) { "length" } else { "stop" }})
    };
    let rows: Vec<Value> = (0..sweep.prompts).map(row).collect();
    fs::write(dir.join("answers.json"), serde_json::to_vec(&rows).unwrap()).unwrap();
    dir.to_owned()
}

fn write_verdict(dir: &Path, sweep: Sweep, arm: &str, alpha: f64, seed: u64) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let row = |at: usize| {
        let (plain, own) = (output(sweep, "heldout", 0.0, seed, at), output(sweep, "heldout", alpha, seed, at));
        let preference = match arm {
            "plain" => Some(1.5),
            "neft5" if at == 2 => Some(0.0),          // AlpacaEval 1 writes a draw so
            "neft10" if (at, seed) == (5, 1) => None, // not to be read
            _ => Some(1.5 + 0.4 * wobble(arm, at as u64, seed)),
        };
        json!({"instruction": instruction("heldout", at), "output_1": plain, "generator_1": format!("m+plain{seed}"),
               "output_2": own, "generator_2": format!("m+{arm}{seed}"), "annotator": "local", "preference": preference})
    };
    let rows: Vec<Value> = (0..sweep.prompts).map(row).collect();
    fs::write(dir.join("annotations.json"), serde_json::to_vec(&rows).unwrap()).unwrap();
    let at_equal_length = |at: usize| match arm {
        "plain" => 0.5,
        _ => 0.5 + alpha / 100.0 + 0.1 * wobble("equal length", at as u64, seed),
    };
    let line = |at: usize| json!({"log_diversity": 10.0 + at as f64 / 10.0, "lc_pseudo_value": at_equal_length(at)});
    let lines: Vec<String> = (0..sweep.prompts).map(|at| line(at).to_string()).collect();
    let controlled = 100.0 * (0..sweep.prompts).map(at_equal_length).sum::<f64>() / sweep.prompts as f64;
    fs::write(dir.join("rows.jsonl"), lines.join("\n")).unwrap();
    let calibration = json!({"annotator": "people", "sampled": 100, "n": 98, "rate": 0.75, "kappa": 0.512});
    let verdict = match arm {
        "neft10" => {
            json!({"version": 1, "comparison": {"label": LABEL, "calibration": calibration, "length_controlled_winrate": controlled}})
        }
        _ => json!({"version": 1, "comparison": {"length_controlled_winrate": controlled}}),
    };
    fs::write(dir.join("verdict.json"), verdict.to_string()).unwrap();
    dir.to_owned()
}

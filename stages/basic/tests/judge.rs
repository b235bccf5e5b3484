//! `judge` through the worker: measures, comparisons by a scoring worker, reuse, stopping and refusals.
//!
//! The scoring worker here is a shell script that answers the nested request as the real one does, always in favour of
//! the second output. What the real one thinks of pairs is tested where it lives.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use neftpipe_protocol::Kind;
use serde_json::{Value, json};

use support::{Attempt, Workplace, read_json, read_lines};

/// Prefers the second output of every pair, whose id stands first in its line.
const PREFERS_SECOND: &str = r#"
prefer='{"id":"\1","orders":[{"first":-3.0,"second":-0.5},{"first":-0.5,"second":-3.0}]}'
sed "s/^{\"id\":\"\([0-9a-f]*\)\".*/$prefer/" "$folder/pairs.jsonl" > "$scores"
"#;
const SUCCEEDED: &str = r#"
echo '{"seq":0,"time_ms":0,"event":"progress","done":1,"total":1,"unit":"pairs"}' > "$folder/events.jsonl"
echo '{"status":"succeeded","outputs":{"scores":"files"},"metrics":{},"measured":{},"provenance":{"device":"cpu"}}' \
    > "$folder/result.json"
"#;

struct Case {
    place: Workplace,
    model: PathBuf,
}

impl Case {
    fn new() -> Self {
        let place = Workplace::new();
        let model = place.file("model", "config.json", "{}");
        Self { place, model }
    }

    /// Answers of one generator to prompts, each perhaps with a gold reference.
    fn answers(&self, generator: &str, rows: &[(&str, &str)]) -> PathBuf {
        let row = |(instruction, output): &(&str, &str)| json!({"instruction": instruction, "output": output, "generator": generator, "reference": "the gold answer"});
        let rows: Vec<Value> = rows.iter().map(row).collect();
        self.place.file(generator, "answers.json", &json!(rows).to_string())
    }

    /// A scoring worker with this body; `$folder` is the nested attempt, `$scores` the file of scores.
    fn worker(&self, name: &str, body: &str) -> PathBuf {
        let head = "#!/bin/sh\nset -e\nfolder=$(dirname \"$3\")\nmkdir -p \"$folder/out/scores\"\n\
                    scores=\"$folder/out/scores/scores.jsonl\"\n";
        let path = self.place.path(name);
        fs::write(&path, format!("{head}{body}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn compare(&self, name: &str, answers: &Path, reference: &Path, more: Value) -> Attempt {
        self.place.run_with(name, Kind::Judge, json!({"annotator": "local"}), &self.inputs(answers, reference), more)
    }

    fn inputs<'a>(&'a self, answers: &'a Path, reference: &'a Path) -> [(&'a str, &'a str, &'a Path); 3] {
        [("answers", "answers", answers), ("reference", "answers", reference), ("model", "model", &self.model)]
    }
}

fn ids(attempt: &Attempt) -> Vec<String> {
    let rows: Vec<Value> = read_lines(&attempt.file("rows.jsonl"));
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn answers_are_measured_against_their_references() {
    let case = Case::new();
    let rows = json!([
        {"instruction": "a", "output": "The gold answer!", "generator": "m", "reference": ["gold answer", "x"]},
        {"instruction": "b", "input": "c", "output": "", "generator": "m"},
    ]);
    let answers = case.place.file("m", "answers.json", &rows.to_string());
    let params = json!({"metrics": ["rouge_l", "exact_match", "length", "repetition", "bleu_4", "log_diversity"]});
    let attempt = case.place.run("a", Kind::Judge, params, &[("answers", "answers", &answers)]).succeeded();
    let verdict: Value = read_json(&attempt.out("verdict/verdict.json"));
    assert_eq!((&verdict["version"], &verdict["generator"], &verdict["n"]), (&json!(1), &json!("m"), &json!(2)));
    assert_eq!(verdict["metrics"]["exact_match"], json!({"mean": 1.0, "standard_error": null, "n": 1}));
    assert_eq!(verdict["metrics"]["characters"], json!({"mean": 8.0, "standard_error": 8.0, "n": 2}));
    assert_eq!((&verdict["n_without_reference"], &verdict["screening"]["empty"]), (&json!(1), &json!([1])));
    assert!(verdict.get("comparison").is_none() && !attempt.out("verdict/annotations.json").exists());
    let rows: Vec<Value> = read_lines(&attempt.out("verdict/rows.jsonl"));
    assert_eq!((rows.len(), &rows[1]["input"], &rows[1]["rouge_l"]), (2, &json!("c"), &Value::Null));
    assert!((rows[0]["rouge_l"].as_f64().unwrap() - 0.8).abs() < 1e-12);
    assert_eq!(attempt.warnings(), ["without_reference", "empty_answers"]);
    assert_eq!(attempt.result["metrics"]["characters_standard_error"], 8.0);
    assert_eq!(attempt.result["outputs"], json!({"verdict": "verdict"}));
}

#[test]
fn a_local_judge_compares_and_equal_outputs_are_draws() {
    let case = Case::new();
    let answers = case.answers("m", &[("a", "new one"), ("b", "same"), ("c", "new \"two\"\n")]);
    let reference = case.answers("base", &[("c", "old two"), ("a", "old one"), ("b", "same")]);
    let worker = case.worker("judge.sh", &format!("{PREFERS_SECOND}{SUCCEEDED}"));
    let attempt = case.compare("a", &answers, &reference, json!({"torch_worker": worker})).succeeded();

    let annotations: Vec<Value> = read_json(&attempt.out("verdict/annotations.json"));
    let preferences: Vec<f64> = annotations.iter().map(|row| row["preference"].as_f64().unwrap()).collect();
    let sure = 1.0 + 1.0 / (1.0 + (-2.5_f64).exp());
    assert!((preferences[0] - sure).abs() < 1e-12 && preferences[1] == 1.5 && preferences[2] == preferences[0]);
    assert_eq!((&annotations[0]["output_1"], &annotations[0]["output_2"]), (&json!("old one"), &json!("new one")));
    assert_eq!((&annotations[2]["generator_1"], &annotations[2]["generator_2"]), (&json!("base"), &json!("m")));
    assert_eq!((&annotations[1]["raw_completion"], &annotations[0]["annotator"]), (&Value::Null, &json!("local")));

    let verdict: Value = read_json(&attempt.out("verdict/verdict.json"));
    let comparison = &verdict["comparison"];
    let counts =
        ["n_wins", "n_draws", "n_wins_base", "n_total", "n_identical", "n_judged", "n_consistent", "n_too_long"];
    assert_eq!(counts.map(|name| comparison[name].as_u64().unwrap()), [2, 1, 0, 3, 1, 2, 2, 0]);
    let expected = 100.0 * (2.0 * (sure - 1.0) + 0.5) / 3.0;
    assert!((comparison["win_rate"].as_f64().unwrap() - expected).abs() < 1e-9);
    assert_eq!(comparison["label"], "demonstration: a small local judge");
    assert_eq!((&verdict["reference"], &attempt.result["provenance"]["device"]), (&json!("base"), &json!("cpu")));
    assert_eq!(attempt.result["metrics"]["win_rate"], comparison["win_rate"]);
    assert_eq!(attempt.result["measured"], json!({"pairs_judged": 2, "pairs_reused": 0}));
    assert_eq!((ids(&attempt).len(), attempt.events("saved").count()), (2, 2));
    assert_eq!(attempt.events("progress").next().unwrap()["total"], 2);
}

#[test]
fn pairs_that_were_judged_are_not_judged_again() {
    let case = Case::new();
    let reference = case.answers("base", &[("a", "old"), ("b", "old")]);
    let first = case.answers("m", &[("a", "new"), ("b", "new")]);
    let worker = case.worker("judge.sh", &format!("{PREFERS_SECOND}{SUCCEEDED}"));
    let judged = case.compare("first", &first, &reference, json!({"torch_worker": worker})).succeeded();

    let known = json!({"torch_worker": "/nonexistent", "known": judged.file("")});
    let again = case.compare("again", &first, &reference, known).succeeded();
    assert_eq!(again.result["measured"], json!({"pairs_judged": 0, "pairs_reused": 2}));
    for file in ["verdict/verdict.json", "verdict/rows.jsonl", "verdict/annotations.json"] {
        assert_eq!(fs::read(again.out(file)).unwrap(), fs::read(judged.out(file)).unwrap(), "{file}");
    }

    let edited = case.answers("m2", &[("a", "new"), ("b", "newer")]);
    let known = json!({"torch_worker": worker, "known": judged.file("")});
    let part = case.compare("part", &edited, &reference, known).succeeded();
    assert_eq!(part.result["measured"], json!({"pairs_judged": 1, "pairs_reused": 1}));
    assert!(ids(&part).len() == 1 && !ids(&judged).contains(&ids(&part)[0]));
}

#[test]
fn answers_against_themselves_are_even_without_a_judge() {
    let case = Case::new();
    let answers = case.answers("m", &[("a", "x"), ("b", "y")]);
    let attempt = case.compare("a", &answers, &answers, json!({})).succeeded();
    assert_eq!(
        (&attempt.result["metrics"]["win_rate"], &attempt.result["metrics"]["n_draws"]),
        (&json!(50.0), &json!(2))
    );
}

#[test]
fn a_wish_to_stop_is_passed_on_and_what_was_judged_is_kept() {
    let case = Case::new();
    let (answers, reference) =
        (case.answers("m", &[("a", "x"), ("b", "y")]), case.answers("base", &[("a", "1"), ("b", "2")]));
    let body = format!(
        "trap 'echo \"{{\\\"status\\\":\\\"interrupted\\\"}}\" > \"$folder/result.json\"; exit 1' TERM\n{PREFERS_SECOND}\
         sed -i 2d \"$scores\"\nwhile true; do sleep 0.02; done\n"
    );
    let worker = case.worker("judge.sh", &body);
    let inputs = case.inputs(&answers, &reference);
    let more = json!({"torch_worker": worker});
    let running = case.place.start("a", Kind::Judge, json!({"annotator": "local"}), &inputs, more);
    let attempt = running.stop_after("rows.jsonl");
    assert_eq!((attempt.code, &attempt.result), (Some(1), &json!({"status": "interrupted"})));
    assert!(!ids(&attempt).is_empty());

    let deaf = case.worker("deaf.sh", &format!("{PREFERS_SECOND}while true; do sleep 0.02; done\n"));
    let running =
        case.place.start("b", Kind::Judge, json!({"annotator": "local"}), &inputs, json!({"torch_worker": deaf}));
    assert_eq!(running.stop_after("rows.jsonl").result, json!({"status": "interrupted"}));
}

#[test]
fn what_the_judge_cannot_read_counts_in_no_figure() {
    let case = Case::new();
    let (answers, reference) =
        (case.answers("m", &[("a", "x"), ("b", "y")]), case.answers("base", &[("a", "1"), ("b", "y")]));
    let unread = r#"sed 's/^{"id":"\([0-9a-f]*\)".*/{"id":"\1","orders":null}/' "$folder/pairs.jsonl" > "$scores""#;
    let worker = case.worker("judge.sh", &format!("{unread}\n{SUCCEEDED}"));
    let attempt = case.compare("a", &answers, &reference, json!({"torch_worker": worker})).succeeded();
    assert_eq!((attempt.warnings(), &attempt.result["metrics"]["n_total"]), (vec!["too_long_for_judge"], &json!(1)));

    let other = case.answers("other", &[("a", "1"), ("b", "2")]);
    let attempt = case.compare("b", &answers, &other, json!({"torch_worker": worker}));
    assert_eq!(attempt.failure(), ("data", "no pair of answers fits into the window of the judge's model"));
}

#[test]
fn a_judge_that_only_likes_a_place_is_even_and_is_called_out() {
    let case = Case::new();
    let (answers, reference) =
        (case.answers("m", &[("a", "x"), ("b", "y")]), case.answers("base", &[("a", "1"), ("b", "2")]));
    let first = PREFERS_SECOND.replace(r#""first":-3.0,"second":-0.5"#, r#""first":-0.5,"second":-3.0"#);
    let worker = case.worker("judge.sh", &format!("{first}{SUCCEEDED}"));
    let attempt = case.compare("a", &answers, &reference, json!({"torch_worker": worker})).succeeded();
    assert_eq!((attempt.warnings(), &attempt.result["metrics"]["win_rate"]), (vec!["order_decides"], &json!(50.0)));
}

#[test]
fn failures_of_the_judge_are_its_own_words_or_its_death() {
    let case = Case::new();
    let (answers, reference) = (case.answers("m", &[("a", "x")]), case.answers("base", &[("a", "y")]));
    let fail = |name: &str, worker: Value| {
        let attempt = case.compare(name, &answers, &reference, json!({"torch_worker": worker}));
        let (class, message) = attempt.failure();
        (class.to_owned(), message.to_owned())
    };
    let says = case.worker(
        "says.sh",
        r#"echo '{"status":"failed","class":"data","message":"no weights"}' > "$folder/result.json""#,
    );
    assert_eq!(fail("says", json!(says)), ("data".to_owned(), "no weights".to_owned()));
    let dies = case.worker("dies.sh", "kill -9 $$\n");
    let (class, message) = fail("dies", json!(dies));
    assert!(class == "environment" && message.contains("signal: 9"), "{message}");
    let idles = case.worker("idles.sh", SUCCEEDED);
    assert_eq!(fail("idles", json!(idles)).0, "internal");
    assert_eq!(fail("absent", json!("/nonexistent/worker")).0, "environment");
    let (class, message) = fail("none", Value::Null);
    assert!(class == "environment" && message.contains("neftpipe-stage-torch"), "{message}");
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let case = Case::new();
    let answers = case.answers("m", &[("a", "x"), ("b", "x")]);
    let refuse = |name: &str, params: Value, inputs: &[(&str, &str, &Path)]| {
        let attempt = case.place.run(name, Kind::Judge, params, inputs);
        let (class, message) = attempt.failure();
        (class.to_owned(), message.to_owned())
    };
    let alone: [(&str, &str, &Path); 1] = [("answers", "answers", &answers)];
    for (name, params, inputs, word) in [
        ("named", json!({"annotator": "alpaca_eval_gpt4"}), &alone[..], "alpaca_eval_gpt4"),
        ("calibrate", json!({"annotator": "local", "calibrate": 5}), &alone[..], "`calibrate`"),
        (
            "both",
            json!({"annotator": "local"}),
            &[alone[0], ("annotations", "files", &answers)][..],
            "`annotations` nobody is asked",
        ),
        (
            "no reference",
            json!({"annotator": "local"}),
            &[alone[0], ("model", "model", &case.model)][..],
            "`reference`",
        ),
        ("no model", json!({"annotator": "local"}), &[alone[0], ("reference", "answers", &answers)][..], "`model`"),
    ] {
        let (class, message) = refuse(name, params, inputs);
        assert!(class == "usage" && message.contains(word), "{name}: {message}");
    }

    let local = json!({"annotator": "local"});
    let twice = case.answers("twice", &[("a", "x"), ("a", "y")]);
    let (class, message) = refuse("twice", local.clone(), &case.inputs(&twice, &answers));
    assert!(class == "data" && message.starts_with("1 of the 2 rows of `answers`"), "{message}");
    let fewer = case.answers("fewer", &[("a", "x")]);
    let (class, message) = refuse("fewer", local, &case.inputs(&answers, &fewer));
    assert!(class == "data" && message.contains("1 of 2 answers have no counterpart"), "{message}");

    let empty = case.answers("empty", &[]);
    assert_eq!(refuse("empty answers", json!({}), &[("answers", "answers", &empty)]).0, "data");
    let broken = case.place.file("broken", "answers.json", "{}");
    assert_eq!(refuse("broken answers", json!({}), &[("answers", "answers", &broken)]).0, "data");
    let unused = case.place.run("unused", Kind::Judge, json!({}), &[alone[0], ("reference", "answers", &answers)]);
    assert_eq!(unused.succeeded().warnings(), ["inputs_unused"]);
    let params = json!({"endpoint": {"model": "m"}});
    let unused = case.place.run("nobody asks", Kind::Judge, params, &alone);
    assert_eq!(unused.succeeded().warnings(), ["endpoint_unused"]);
}

/// Rows of a published annotation file: instruction, the two outputs, preference.
fn annotations(rows: &[(&str, &str, &str, Value)]) -> String {
    let row = |(instruction, output_1, output_2, preference): &(&str, &str, &str, Value)| {
        json!({"instruction": instruction, "output_1": output_1, "generator_1": "base", "output_2": output_2,
            "generator_2": "m", "annotator": "alpaca_eval_gpt4", "preference": preference, "price_per_example": 0.01})
    };
    json!(rows.iter().map(row).collect::<Vec<_>>()).to_string()
}

const DF_GAMED: &str = "preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline,model
0.25,0,0.5,1.0,False,concise
1.0,1,-0.5,-1.0,False,concise
0.5,2,0.1,0.5,False,concise
";

#[test]
fn published_annotations_are_taken_as_they_are_and_length_is_controlled_for() {
    let case = Case::new();
    let answers = case.answers("m", &[("a", "long answer"), ("b", "no"), ("c", "maybe so")]);
    let rows =
        [("c", "x", "maybe so", json!(0)), ("a", "y", "long answer", json!(2)), ("b", "some text", "no", json!(1))];
    let published = case.place.file("published", "annotations.json", &annotations(&rows));
    let inputs: [(&str, &str, &Path); 2] = [("answers", "answers", &answers), ("annotations", "files", &published)];
    let attempt = case.place.run("raw", Kind::Judge, json!({}), &inputs).succeeded();
    let verdict: Value = read_json(&attempt.out("verdict/verdict.json"));
    let comparison = &verdict["comparison"];
    assert_eq!((&comparison["annotator"], &comparison["win_rate"]), (&json!("alpaca_eval_gpt4"), &json!(50.0)));
    assert_eq!(
        (&comparison["n_draws"], &comparison["n_unread"], comparison.get("label")),
        (&json!(1), &json!(0), None)
    );
    let rows: Vec<Value> = read_lines(&attempt.out("verdict/rows.jsonl"));
    assert_eq!(rows.iter().map(|row| row["preference"].clone()).collect::<Vec<_>>(), [2.0, 1.0, 0.0]);

    let tables = case.place.file("tables", "df_gamed.csv", DF_GAMED);
    let with_tables = [inputs[0], inputs[1], ("length_control", "files", tables.as_path())];
    let attempt = case.place.run("lc", Kind::Judge, json!({}), &with_tables).succeeded();
    let rate = attempt.result["metrics"]["length_controlled_winrate"].as_f64().unwrap();
    assert!(rate > 0.0 && rate < 100.0 && (rate - 50.0).abs() > 0.01, "{rate}");
    let rows: Vec<Value> = read_lines(&attempt.out("verdict/rows.jsonl"));
    let parts: f64 = rows.iter().map(|row| row["lc_pseudo_value"].as_f64().unwrap()).sum();
    assert!((100.0 * parts / 3.0 - rate).abs() < 1e-9, "{parts}: the rate is the mean of what the answers contribute");
    let params = json!({"length_control": {"C": "cv"}});
    let chosen = case.place.run("cv", Kind::Judge, params, &with_tables).succeeded();
    assert_ne!(chosen.result["metrics"]["length_controlled_winrate"], json!(rate));

    let foreign = case.place.file("foreign", "control.json", "{\"instructions\": []}");
    let inputs = [inputs[0], inputs[1], ("length_control", "files", foreign.as_path())];
    let attempt = case.place.run("foreign lc", Kind::Judge, json!({}), &inputs);
    let (class, message) = attempt.failure();
    assert!(class == "data" && message.starts_with("length control by length_control"), "{message}");
}

#[test]
fn annotations_of_other_answers_are_refused_with_their_counts() {
    let case = Case::new();
    let answers = case.answers("m", &[("a", "x"), ("b", "y")]);
    let rows = [("a", "1", "another", json!(1)), ("z", "1", "x", json!(1))];
    let other = case.place.file("other", "annotations.json", &annotations(&rows));
    let inputs: [(&str, &str, &Path); 2] = [("answers", "answers", &answers), ("annotations", "files", &other)];
    let attempt = case.place.run("a", Kind::Judge, json!({}), &inputs);
    let (class, message) = attempt.failure();
    assert!(class == "data" && message.contains("1 of 2 answers have none, 1 have one of another"), "{message}");
}

//! The figures of this crate against those of the public implementations, case by case (`goldens.py` makes the file).

#![allow(clippy::unwrap_used)]

use neftpipe_measures::agreement::agreement;
use neftpipe_measures::bleu::bleu_4;
use neftpipe_measures::bootstrap::bootstrap_mean;
use neftpipe_measures::contrast::{Contrast, Replicate, Term};
use neftpipe_measures::diversity::{log_diversity, log_diversity_paper};
use neftpipe_measures::exact_match::exact_match;
use neftpipe_measures::holm::holm;
use neftpipe_measures::length::length;
use neftpipe_measures::length_control::{JudgedPair, LengthControl, Strength, length_controlled};
use neftpipe_measures::preference::from_log_probabilities;
use neftpipe_measures::random::CPythonRandom;
use neftpipe_measures::repetition::repetition;
use neftpipe_measures::rouge::rouge_l;
use neftpipe_measures::sign_test::sign_test;
use neftpipe_measures::switch::is_switched;
use neftpipe_measures::win_rate::win_rate;
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    golden(name).as_array().unwrap().clone()
}

fn golden(name: &str) -> Value {
    let goldens: Value = serde_json::from_str(include_str!("goldens.json")).unwrap();
    goldens[name].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Equal within `tolerance`, relative above 1; `None` only to null.
#[track_caller]
fn assert_close(ours: Option<f64>, theirs: &Value, tolerance: f64, what: &str) {
    match (ours, theirs.as_f64()) {
        (None, None) => {}
        (Some(a), Some(b)) if (a - b).abs() <= tolerance * b.abs().max(1.0) => {}
        _ => panic!("{what}: ours {ours:?}, theirs {theirs}"),
    }
}

#[test]
fn text_against_references() {
    for case in cases("text_pairs") {
        let answer = case["answer"].as_str().unwrap();
        let references = texts(&case["references"]);
        let rouge = rouge_l(answer, &references).unwrap();
        for (ours, theirs) in [rouge.precision, rouge.recall, rouge.fmeasure].into_iter().zip(numbers(&case["rouge_l"]))
        {
            assert_close(Some(ours), &theirs.into(), 1e-12, &format!("ROUGE-L of {answer:?}"));
        }
        assert_close(bleu_4(answer, &references), &case["bleu_4"], 1e-9, &format!("BLEU of {answer:?}"));
        assert_eq!(exact_match(answer, &references), case["exact_match"].as_bool(), "exact match of {answer:?}");
    }
}

#[test]
fn text_by_itself() {
    for case in cases("texts") {
        let text = case["text"].as_str().unwrap();
        let measured = length(text);
        assert_eq!(measured.characters as u64, case["characters"].as_u64().unwrap(), "{text:?}");
        assert_eq!(measured.words as u64, case["words"].as_u64().unwrap(), "{text:?}");
        assert_close(repetition(text, 2, None), &case["repetition_2"], 1e-12, text);
        assert_close(repetition(text, 2, Some(50)), &case["repetition_2_of_50"], 1e-12, text);
        assert_close(log_diversity(text, None), &case["log_diversity"], 1e-9, text);
        assert_close(log_diversity_paper(text, None), &case["log_diversity_paper"], 1e-9, text);
    }
}

#[test]
fn switches_and_the_generator_behind_them() {
    for case in cases("switches") {
        let instruction = case["instruction"].as_str().unwrap();
        let switched = is_switched(instruction, case["seed"].as_i64().unwrap());
        assert_eq!(Some(switched), case["switched"].as_bool(), "{case}");
    }
    for case in cases("cpython_random") {
        let mut random = CPythonRandom::from_text(case["text"].as_str().unwrap());
        let draws: Vec<u64> = (0..700).map(|_| (random.random() * 2.0_f64.powi(53)) as u64).collect();
        let theirs: Vec<u64> = case["draws_times_2_53"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        assert_eq!(draws[697..], theirs, "{}", case["text"]);
    }
}

#[test]
fn win_rates() {
    for case in cases("win_rates") {
        let preferences: Vec<Option<f64>> = case["preferences"].as_array().unwrap().iter().map(Value::as_f64).collect();
        let figures = win_rate(&preferences);
        let what = case.to_string();
        assert_close(figures.win_rate, &case["win_rate"], 1e-12, &what);
        assert_close(figures.standard_error, &case["standard_error"], 1e-12, &what);
        assert_close(figures.discrete_win_rate, &case["discrete_win_rate"], 1e-12, &what);
        let counts = [figures.n_wins, figures.n_wins_base, figures.n_draws, figures.n_total];
        for (count, name) in counts.into_iter().zip(["n_wins", "n_wins_base", "n_draws", "n_total"]) {
            assert_eq!(Some(count as f64), case[name].as_f64(), "{name} of {what}");
        }
    }
}

#[test]
fn preferences_from_log_probabilities() {
    for case in cases("log_probabilities") {
        let entries = case["tokens"].as_array().unwrap();
        let tokens: Vec<_> =
            entries.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_f64().unwrap())).collect();
        assert_close(from_log_probabilities(&tokens, "m", "M"), &case["preference"], 1e-12, &case.to_string());
    }
}

#[test]
fn agreement_of_judges() {
    for case in cases("agreements") {
        let preferences = |name: &str| numbers(&case[name]).into_iter().map(Some).collect::<Vec<_>>();
        let ours = agreement(&preferences("first"), &preferences("second")).unwrap();
        assert_close(Some(ours.rate), &case["rate"], 1e-12, "rate");
        assert_close(ours.kappa, &case["kappa"], 1e-12, "kappa");
    }
}

#[test]
fn bootstrap_intervals() {
    for case in cases("bootstraps") {
        let replicate = |(label, row): (usize, &Value)| Replicate {
            label: label.to_string(),
            scores: numbers(row).into_iter().enumerate().map(|(i, score)| (format!("{i:03}"), score)).collect(),
        };
        let arm: Vec<_> = case["rows"].as_array().unwrap().iter().enumerate().map(replicate).collect();
        let contrast = Contrast::of(&[Term { weight: 1.0, replicates: &arm }]).unwrap();
        let ours = bootstrap_mean(&contrast, case["seed"].as_u64().unwrap(), case["draws"].as_u64().unwrap() as usize);
        assert_close(Some(ours.mean), &case["mean"], 1e-12, "mean");
        assert_close(Some(ours.interval.low), &case["low"], 1e-12, "low end");
        assert_close(Some(ours.interval.high), &case["high"], 1e-12, "high end");
        assert_close(Some(ours.standard_error), &case["standard_error"], 1e-12, "standard error");
        assert_close(Some(ours.p_value), &case["p_value"], 1e-12, "p-value");
    }
}

#[test]
fn tests_of_significance() {
    for case in cases("sign_tests") {
        let count = |name: &str| case[name].as_u64().unwrap() as usize;
        let mut differences = vec![1.0; count("ahead")];
        differences.extend(vec![-1.0; count("behind")]);
        assert_close(Some(sign_test(&differences).p_value), &case["p_value"], 1e-9, &case.to_string());
    }
    for case in cases("holms") {
        for (ours, theirs) in holm(&numbers(&case["p_values"])).into_iter().zip(numbers(&case["adjusted"])) {
            assert_close(Some(ours), &theirs.into(), 1e-12, &case.to_string());
        }
    }
}

/// To 1e-9: the same objective, the same stopping rules and the same order of coordinates as the public fit.
#[test]
fn length_control_agrees_with_liblinear() {
    let golden = golden("length_control");
    let control = LengthControl::from_json(&golden["file"].to_string()).unwrap();
    let instructions = texts(&golden["file"]["instructions"]);
    let pair = |i: usize, preference: &Value| JudgedPair {
        instruction: instructions[i],
        length_1_characters: golden["lengths"][i][0].as_u64().unwrap() as usize,
        length_2_characters: golden["lengths"][i][1].as_u64().unwrap() as usize,
        preference: preference.as_f64(),
    };
    for fit in golden["fits"].as_array().unwrap() {
        let (judge, c) = (fit["judge"].as_str().unwrap(), fit["c"].as_f64().unwrap());
        let preferences = golden["preferences"][judge].as_array().unwrap();
        let pairs: Vec<_> = preferences.iter().enumerate().map(|(i, preference)| pair(i, preference)).collect();
        let ours = length_controlled(&pairs, &control, Strength::Fixed(c)).unwrap();
        let what = format!("{judge} judge at C = {c}");
        let weights = [ours.weights.length, ours.weights.difficulty, ours.weights.model];
        for (ours, theirs) in weights.into_iter().zip(numbers(&fit["weights"])) {
            assert_close(Some(ours), &theirs.into(), 1e-9, &what);
        }
        assert_close(Some(ours.length_controlled_winrate), &fit["length_controlled_winrate"], 1e-9, &what);
        assert_close(ours.lc_standard_error, &fit["lc_standard_error"], 1e-9, &what);
    }
}

/// Against fits with one instruction's weight nudged, and against 2,000 refits of resampled instructions.
#[test]
fn pseudo_values_are_what_fitting_anew_finds() {
    let (golden, fitted) = (golden("pseudo_values"), golden("length_control"));
    let control = LengthControl::from_json(&fitted["file"].to_string()).unwrap();
    let instructions = texts(&fitted["file"]["instructions"]);
    let values = |judge: &str| {
        let preferences = fitted["preferences"][judge].as_array().unwrap();
        let pair = |(i, preference): (usize, &Value)| JudgedPair {
            instruction: instructions[i],
            length_1_characters: fitted["lengths"][i][0].as_u64().unwrap() as usize,
            length_2_characters: fitted["lengths"][i][1].as_u64().unwrap() as usize,
            preference: preference.as_f64(),
        };
        let pairs: Vec<_> = preferences.iter().enumerate().map(pair).collect();
        let ours = length_controlled(&pairs, &control, Strength::Fixed(2.7826)).unwrap();
        let mean = ours.pseudo_values.iter().sum::<f64>() / pairs.len() as f64;
        assert!((100.0 * mean - ours.length_controlled_winrate).abs() < 1e-9, "{judge}: {mean}");
        ours.pseudo_values
    };
    for case in golden["cases"].as_array().unwrap() {
        let judge = case["judge"].as_str().unwrap();
        // Liblinear stops a little before the minimum, where the golden goes on to it.
        for (ours, theirs) in values(judge).into_iter().zip(numbers(&case["pseudo_values"])) {
            assert!((ours - theirs).abs() < 0.003, "{judge}: {ours} for {theirs}");
        }
    }
    let arm = |judge: &str| {
        let scores = values(judge).into_iter().enumerate().map(|(i, value)| (format!("{i:03}"), value)).collect();
        [Replicate { label: String::new(), scores }]
    };
    let pair = texts(&golden["pair"]);
    let found = bootstrap_mean(&Contrast::between(&arm(pair[0]), &arm(pair[1])).unwrap(), 0, 10_000);
    let error = golden["standard_error"].as_f64().unwrap();
    assert!((found.standard_error / error - 1.0).abs() < 0.1, "{} for {error}", found.standard_error);
    for (ours, theirs) in [found.interval.low, found.interval.high].into_iter().zip(numbers(&golden["interval"])) {
        assert!((ours - theirs).abs() < 0.2 * error, "{ours} for {theirs}");
    }
}

/// To 1e-9, the choice of C by cross-validation among it.
#[test]
fn the_strength_is_chosen_as_alpaca_eval_chooses_it() {
    let (golden, fitted) = (golden("cross_validated"), golden("length_control"));
    let instructions = texts(&fitted["file"]["instructions"]);
    let files = [("df_gamed.csv".to_owned(), golden["df_gamed"].as_str().unwrap().to_owned())];
    let control = LengthControl::from_files(&files, &instructions).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let judge = case["judge"].as_str().unwrap();
        let preferences = fitted["preferences"][judge].as_array().unwrap();
        let pair = |(i, preference): (usize, &Value)| JudgedPair {
            instruction: instructions[i],
            length_1_characters: fitted["lengths"][i][0].as_u64().unwrap() as usize,
            length_2_characters: fitted["lengths"][i][1].as_u64().unwrap() as usize,
            preference: preference.as_f64(),
        };
        let pairs: Vec<_> = preferences.iter().enumerate().map(pair).collect();
        let ours = length_controlled(&pairs, &control, Strength::CrossValidated).unwrap();
        assert!((ours.c / case["c"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{judge}: {} for {}", ours.c, case["c"]);
        assert_close(Some(ours.length_controlled_winrate), &case["length_controlled_winrate"], 1e-9, judge);
        assert_close(ours.lc_standard_error, &case["lc_standard_error"], 1e-9, judge);
    }
}

//! The report over a made-up sweep, through the worker program.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "report/page.rs"]
mod page;
#[path = "report/sweep.rs"]
mod sweep;
#[path = "report/written.rs"]
mod written;

use std::fs;

use serde_json::{Value, json};
use sweep::{Sweep, WHOLE};
use written::{Written, exec, report};

fn figure<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["figures"].as_array().unwrap().iter().find(|figure| figure["name"] == name).unwrap()
}

#[test]
fn the_truth_is_found_and_nothing_else() {
    let Written { report, result, .. } = report(WHOLE, &sweep::params());
    let finding = |name: &str, arm: &str| figure(&report, name)["arms"][arm]["difference"]["finding"].clone();
    assert_eq!(finding("loss_trained", "neft10"), "higher");
    assert_eq!(finding("loss_heldout", "neft10"), "not_distinguishable");
    assert_eq!(finding("rouge_l_trained", "neft10"), "lower");
    assert_eq!(finding("characters", "neft10"), "higher");
    assert!(figure(&report, "loss_trained")["arms"]["plain"]["difference"].is_null(), "the baseline against itself");
    let sentence = figure(&report, "loss_heldout")["arms"]["neft5"]["difference"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("not distinguishable from plain at n = 32, 2 seeds"), "{sentence}");
    assert!(sentence.contains("smallest effect that this n could have shown"), "{sentence}");
    let mean = result["metrics"]["neft10.loss_trained"].as_f64().unwrap();
    assert_eq!(mean, figure(&report, "loss_trained")["arms"]["neft10"]["mean"].as_f64().unwrap());
}

#[test]
fn answers_without_the_axis_of_the_arms_are_of_the_arm_of_their_run() {
    let one = Sweep { arms: &[("plain", 0.0)], ..WHOLE };
    let Written { report, .. } = report(one, &json!({"columns": "variant", "replicate": "seed"}));
    let names: Vec<_> = report["arms"].as_array().unwrap().iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["train", "untouched model", "trained prompts"]);
    assert!(!figure(&report, "characters")["arms"]["train"].is_null());
}

#[test]
fn a_row_of_the_csv_is_known_by_its_names() {
    let Written { files, .. } = report(Sweep { seeds: &[0], ..WHOLE }, &json!({"rows": "variant"}));
    let csv = String::from_utf8(files["report.csv"].clone()).unwrap();
    let names: Vec<&str> = csv.lines().map(|line| line.rsplitn(10, ',').last().unwrap()).collect();
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{csv}");
}

#[test]
fn win_rates_at_equal_length_are_compared_with_an_interval() {
    let Written { report, page, files, .. } = report(WHOLE, &sweep::params());
    let found = &figure(&report, "length_controlled_winrate")["arms"]["neft10"];
    let rates: Vec<f64> = report["judgements"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["arm"] == "neft10")
        .map(|file| file["length_controlled_winrate"].as_f64().unwrap())
        .collect();
    assert!((100.0 * found["mean"].as_f64().unwrap() - (rates[0] + rates[1]) / 2.0).abs() < 1e-9);
    let difference = &found["difference"];
    assert_eq!((&difference["finding"], &difference["family_size"]), (&json!("higher"), &json!(4)));
    assert!(difference["comparison"]["sign_test"].is_null() && difference["sign_p_holm"].is_null(), "{difference}");
    let sentence = difference["sentence"].as_str().unwrap();
    assert!(sentence.contains("a gain over plain at n = 20, 2 seeds"), "{sentence}");
    assert!(page.contains(sentence) && page.contains("the infinitesimal jackknife"));
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let beside = report["at_equal_length"][1].as_str().unwrap();
    assert!(beside.starts_with("neft10 against plain: ") && beside.matches(" [").count() == 2, "{beside}");
    assert!(text("report.md").contains(sentence) && text("methods.txt").contains("the infinitesimal jackknife"));
    let is_row = |line: &str| {
        line.starts_with("length_controlled_winrate,") && line.contains(",neft10,,") && line.ends_with(",higher")
    };
    assert!(text("report.csv").lines().any(is_row));
    let drawn = text("figures/length_controlled_winrate.svg");
    assert!(drawn.contains(" textLength=\"19.46\"") && drawn.contains(">neft10</text>"), "in any font: {drawn}");
    let table = text("table.tex");
    assert!(table.contains("& LC win rate") && table.contains("& (\\%) & (\\%) \\\\\n"), "rates are percent: {table}");
    assert!(
        !table.lines().any(|line| line.trim_end_matches('\\').chars().all(|c| " &".contains(c)) && line.contains('&')),
        "{table}"
    );
    assert!(text("methods.txt").contains("agrees with people on 75% of 98 published comparisons, kappa 0.51"));
    assert!(files.contains_key("figures/length_controlled_winrate.pdf"));
}

#[test]
fn arms_seeds_and_labels_stand_where_they_belong() {
    let Written { report, .. } = report(WHOLE, &sweep::params());
    let names: Vec<_> = report["arms"].as_array().unwrap().iter().map(|arm| arm["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plain", "neft5", "neft10", "untouched model"]);
    assert_eq!(report["arms"][1]["settings"], json!({"neft.alpha": 5.0}));
    let lengths = figure(&report, "characters");
    assert_eq!(lengths["prompts"], "held_out");
    assert_eq!(lengths["arms"]["neft5"]["replicates"].as_array().unwrap().len(), 2);
    let untouched = &lengths["arms"]["untouched model"];
    assert_eq!(untouched["replicates"][0]["n"], WHOLE.prompts);
    assert_eq!(untouched["difference"]["comparison"]["pairing"], "one_for_all");
    assert!(figure(&report, "loss_trained")["arms"]["untouched model"].is_null());
    assert!((figure(&report, "log_diversity")["arms"]["plain"]["mean"].as_f64().unwrap() - 10.95).abs() < 1e-9);
    assert_eq!(report["judgements"].as_array().unwrap().len(), 6);
    assert_eq!(report["judgements"][2]["reference"], "plain");
    let unjudged: Vec<&Value> =
        report["judgements"].as_array().unwrap().iter().map(|judgement| &judgement["n_unjudged"]).collect();
    assert_eq!(unjudged, [0, 0, 0, 0, 0, 1]);
    assert_eq!(
        figure(&report, "win_rate")["arms"]["neft10"]["difference"]["comparison"]["n_prompts"],
        WHOLE.prompts - 1
    );
}

#[test]
fn the_page_is_whole_closed_and_safe() {
    let Written { page, .. } = report(WHOLE, &sweep::params());
    for text in [
        "NEFTune on a made-up model",
        "neft10",
        "untouched model",
        "demonstration: a small local judge",
        sweep::LABEL,
        "agrees with people on 75% of 98, kappa 0.51",
        "Up to 2 seeds an arm",
        "at n = 20, 1 run beside 2 seeds",
        "1 of 120 comparisons has no judgement that could be read: it counts in no figure",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
    assert!(!page.contains("alert(1)") && !page.contains("document.title = "), "answers stand packed or escaped");
    for outside in ["src=", "href=\"http", "url(", "@import", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let first = report(WHOLE, &sweep::params());
    let second = report(WHOLE, &sweep::params());
    assert_eq!(first.files.keys().collect::<Vec<_>>(), second.files.keys().collect::<Vec<_>>());
    for (name, bytes) in &first.files {
        assert!(bytes == &second.files[name], "{name}");
    }
}

#[test]
fn runs_alone_make_a_report_of_less_than_a_megabyte() {
    let Written { page, report, .. } = report(Sweep { with_answers: false, ..WHOLE }, &sweep::params());
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert_eq!(report["figures"].as_array().unwrap().len(), 2);
    assert_eq!(report["runs"].as_array().unwrap().len(), WHOLE.arms.len() * WHOLE.seeds.len());
}

#[test]
fn without_lineage_verdicts_are_found_by_axes_and_prompts() {
    let Written { report, .. } = report(Sweep { with_lineage: false, ..WHOLE }, &sweep::params());
    assert_eq!(report["judgements"].as_array().unwrap().len(), 6);
    assert_eq!(figure(&report, "rouge_l")["prompts"], "other");
}

#[test]
fn verdicts_on_answers_that_are_not_given_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let attempt = sweep::write(dir.path(), WHOLE, &sweep::params());
    let file = attempt.join("request.json");
    let mut request: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    request["inputs"]["answers"].as_array_mut().unwrap().truncate(1);
    fs::write(&file, request.to_string()).unwrap();
    assert!(exec(&attempt).0);
    let warnings = written::warnings(&attempt);
    assert_eq!(warnings[0]["code"], "verdicts_left_out");
    let message = warnings[0]["message"].as_str().unwrap();
    assert!(message.starts_with("5 verdicts are of answers") && message.contains("verdict["), "{message}");
}

#[test]
fn nothing_is_compared_without_a_baseline() {
    let params = json!({"rows": "variant", "replicate": "seed"});
    let Written { report, page, .. } = report(WHOLE, &params);
    assert!(figure(&report, "loss_trained")["arms"]["neft10"]["difference"].is_null());
    assert!(page.contains("No arm is named as the baseline"));
}

#[test]
fn an_axis_that_no_input_has_is_a_usage_failure() {
    let dir = tempfile::tempdir().unwrap();
    let attempt = sweep::write(dir.path(), WHOLE, &json!({"rows": "varient"}));
    let (succeeded, result) = exec(&attempt);
    assert!(!succeeded);
    assert_eq!((&result["status"], &result["class"]), (&json!("failed"), &json!("usage")));
    assert!(result["hint"].as_str().unwrap().contains("seed, variant"), "{result}");
}

#[test]
fn what_a_partial_run_lacks_is_said_and_no_reason_to_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = sweep::params();
    params["interactions"] = json!({"both": {"both": "lost", "alone": ["neft5", "neft10"]}});
    let attempt = sweep::write(dir.path(), WHOLE, &params);
    let (succeeded, result) = exec(&attempt);
    assert!(!succeeded && result["message"].as_str().unwrap().contains("`lost`"), "{result}");
    let path = attempt.join("request.json");
    let mut request: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    request["lineage"]["missing"] = json!([
        {"stage": "train[variant=lost]", "why": "failed"},
        {"stage": "answers[variant=lost]", "why": "needs train[variant=lost], which failed"},
    ]);
    fs::write(&path, request.to_string()).unwrap();
    let (succeeded, result) = exec(&attempt);
    assert!(succeeded, "{result}");
    let wanted = "answers[variant=lost] is missing: it needs train[variant=lost], which failed.";
    let out = attempt.join("out/report");
    let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["notes"][1], wanted);
    assert!(fs::read_to_string(out.join("index.html")).unwrap().contains(wanted));
}

#[test]
fn a_broken_file_is_named_with_its_stage_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let attempt = sweep::write(dir.path(), WHOLE, &sweep::params());
    fs::write(dir.path().join("train[variant=plain,seed=0]/steps.jsonl"), "{}\n").unwrap();
    let (succeeded, result) = exec(&attempt);
    assert!(!succeeded);
    assert_eq!(result["class"], "data");
    let message = result["message"].as_str().unwrap();
    assert!(message.starts_with("train[variant=plain,seed=0]: steps.jsonl: line 1: missing field"), "{message}");
}

#[test]
fn a_paper_finds_its_figures_tables_and_methods() {
    let Written { files, .. } = report(WHOLE, &sweep::params());
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let figures: Vec<&str> =
        files.keys().filter_map(|name| name.strip_prefix("figures/")?.strip_suffix(".svg")).collect();
    for name in
        ["loss_heldout", "rouge_l_trained", "win_rate", "training_loss", "training_alpha", "training_learning_rate"]
    {
        assert!(figures.contains(&name), "{name}: {figures:?}");
    }
    for name in figures {
        let (svg, pdf) = (text(&format!("figures/{name}.svg")), &files[&format!("figures/{name}.pdf")]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("width=\"234pt\""), "{name}");
        assert!(pdf.starts_with(b"%PDF-") && pdf.windows(10).any(|part| part == b"/FontFile2"), "{name}");
        assert!(text(&format!("figures/{name}.csv")).lines().count() > 2, "{name}");
    }
    let table = text("table.tex");
    assert!(table.contains("\\toprule") && table.contains("\n{}neft10 & "), "{table}");
    assert_eq!(table.matches("\\begin{tabular}").count(), table.matches("\\end{tabular}").count());
    let methods = text("methods.txt");
    for setting in [
        "neft.alpha: 5",
        "train[variant=neft5,seed=0]",
        "10000 bootstrap draws",
        "\n    weight_decay: 0\n",
        "\n    lora.rank: ",
    ] {
        assert!(methods.contains(setting), "{setting}");
    }
    let digest = neftpipe_protocol::Digest::of(b"model output").to_string();
    assert!(methods.contains(&digest), "{digest}");
}

#[test]
fn steps_that_training_asks_for_are_counted() {
    let Written { files, page, .. } = report(WHOLE, &sweep::params());
    let json: Value = serde_json::from_slice(&files["report.json"]).unwrap();
    let asked = 6 * sweep::STEPS;
    assert_eq!(json["steps"], json!({"runs": 6, "asked": asked, "distinct": asked, "unknown": 0}));
    let sentence = format!("6 training runs ask for {asked} optimizer steps, of which they share none.");
    assert!(page.contains(&sentence));
    assert!(String::from_utf8_lossy(&files["methods.txt"]).contains(&format!("\nTraining\n\n  {sentence}\n")));
}

#[test]
fn names_of_all_letters_stand_in_every_file() {
    let Written { files, page, result, warnings, .. } = report(sweep::NAMED, &sweep::params());
    assert_eq!(result["status"], "succeeded");
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let table = text("table.tex");
    for written in [
        "{}$\\alpha$=5 \\& $\\sigma$\\_1",
        "{}50\\% \\#1 a\\textasciitilde{}b\\textasciicircum{}c",
        "{}\\textbackslash{}x\\{y\\}\\$",
        "{}[U+4E2D][U+6587] Łódź",
    ] {
        assert!(table.contains(&format!("\n{written} & ")), "{written}: {table}");
    }
    for (name, _) in sweep::NAMED.arms {
        assert!(text("report.csv").contains(&name.replace('"', "\"\"")), "{name}");
        let escaped = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        assert!(text("figures/distribution_characters.svg").contains(&escaped), "{name}");
    }
    assert!(page.contains("中文 Łódź"));
    let lacking: Vec<&Value> = warnings.iter().filter(|warning| warning["code"] == "letters_lacking").collect();
    assert_eq!(lacking.len(), 1);
    assert!(lacking[0]["message"].as_str().unwrap().contains(": 中 文; "), "{}", lacking[0]);
    assert_eq!(report(WHOLE, &sweep::params()).warnings, Vec::<Value>::new());
}

#[test]
fn long_names_are_whole_in_the_figures() {
    let Written { files, .. } = report(sweep::LONG, &sweep::params());
    let (name, _) = sweep::LONG.arms[1];
    for figure in ["win_rate", "training_loss", "distribution_characters"] {
        let svg = String::from_utf8(files[&format!("figures/{figure}.svg")].clone()).unwrap();
        let said: Vec<&str> = svg.split("</text>").filter_map(|part| Some(part.rsplit_once('>')?.1)).collect();
        assert!(said.join(" ").contains(name), "{figure}: {said:?}");
        let sizes = |attribute: &str| -> Vec<f64> {
            let values = svg.split(attribute).skip(1).filter_map(|part| part.split('"').next()?.parse().ok());
            values.collect()
        };
        assert!(sizes("textLength=\"").iter().all(|&length| length <= 234.0), "{figure}: {svg}");
        assert!(sizes("font-size=\"").iter().all(|&size| size > 6.0), "{figure}: {svg}");
    }
}

#[test]
fn the_page_says_how_it_is_made_again() {
    let Written { page, files, .. } = report(WHOLE, &sweep::params());
    assert!(page.contains("neftpipe run made-up.yaml</code>"));
    assert!(String::from_utf8_lossy(&files["methods.txt"]).contains("\nMade by: neftpipe run made-up.yaml\n"));
}

#[test]
#[ignore = "needs pdflatex with booktabs: run by .ci/page"]
fn latex_sets_the_table() {
    let Written { files, .. } = report(sweep::NAMED, &sweep::params());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("table.tex"), &files["table.tex"]).unwrap();
    let paper = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\usepackage[T1]{fontenc}\n\\usepackage[margin=0.75in]{geometry}\n\\begin{document}\n\\input{table}\n\\end{document}\n";
    fs::write(dir.path().join("paper.tex"), paper).unwrap();
    let options = ["-interaction=nonstopmode", "-halt-on-error", "paper.tex"];
    let output = std::process::Command::new("pdflatex").args(options).current_dir(dir.path()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("Overfull \\hbox"), "the table fits a page: {log}");
}

#[test]
fn the_words_and_the_data_say_what_the_figures_say() {
    let Written { files, report, .. } = report(WHOLE, &sweep::params());
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let loss = &figure(&report, "loss_trained")["arms"]["neft10"];
    let sentence = loss["difference"]["sentence"].as_str().unwrap();
    assert!(text("report.md").contains(&format!("- neft10: {sentence}.")), "{sentence}");
    let row = text("report.csv")
        .lines()
        .find(|line| line.contains("loss_trained") && line.contains(",neft10,,"))
        .unwrap()
        .to_owned();
    assert!(row.contains(&loss["mean"].to_string()), "{row}");
    assert!(row.ends_with(",higher"), "{row}");
    let low = loss["difference"]["comparison"]["bootstrap"]["interval"]["low"].to_string();
    assert!(text("figures/loss_trained.csv").contains(&low), "{low}");
}

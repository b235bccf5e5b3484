//! Every command on a finished run.
#![allow(clippy::unwrap_used)]

mod common;

use common::Project;
use serde_json::{Value, json};

#[test]
fn results_can_be_looked_at_copied_and_explained() {
    let project = Project::tiny();
    project.run();
    for id in [
        "model",
        "data",
        "tokens",
        "tokens.heldout",
        "tokens.trained",
        "train[variant=plain]",
        "answers[variant=plain]",
        "verdict[variant=plain]",
        "lengths[variant=plain]",
        "report",
    ] {
        let text = project.neftpipe(&["show", id]).exits(0).stdout;
        assert!(text.contains("digest"), "{id}: {text}");
        let shown = project.neftpipe(&["show", id, "--json"]).exits(0).json();
        assert_eq!(shown["version"], 1, "{id}");
        assert!(!shown["artifact"]["files"].as_array().unwrap().is_empty(), "{id}");
    }
    let several = project.neftpipe(&["show", "train", "--json"]).exits(0).json();
    assert_eq!(several["instances"].as_array().unwrap().len(), 2);

    let place = project.neftpipe(&["path", "report"]).exits(0).stdout;
    assert!(std::path::Path::new(place.trim()).join("index.html").is_file());
    project.neftpipe(&["export", "answers[variant=plain]", "copy"]).exits(0);
    let answers: serde_json::Value =
        serde_json::from_slice(&std::fs::read(project.file("copy/answers.json")).unwrap()).unwrap();
    assert!(answers[0]["generator"].is_string());
    let shown = project.neftpipe(&["show", "copy/answers.json", "--json"]).exits(0).json();
    assert_eq!(shown["metrics"]["answers"], answers.as_array().unwrap().len());
    project.neftpipe(&["export", "answers[variant=plain]", "copy"]).exits(2);
    project.neftpipe(&["export", "train[variant=neft5]", "adapter"]).exits(0);
    assert!(project.file("adapter/adapter_model.safetensors").is_file());
    let events = std::fs::read(project.file("adapter/events.out.tfevents.neftpipe")).unwrap();
    let tags = |tag: &[u8]| events.windows(tag.len()).filter(|bytes| *bytes == tag).count();
    assert_eq!((tags(b"train/loss"), tags(b"probe/heldout_loss"), tags(b"rows/train_loss")), (4, 1, 1));

    use parquet::record::RowAccessor as _;
    project.neftpipe(&["export", "tokens", "rows"]).exits(0);
    let rows = std::fs::File::open(project.file("rows/train.parquet")).unwrap();
    let rows = parquet::file::reader::SerializedFileReader::new(rows).unwrap().into_iter().map(|row| row.unwrap());
    let text = project.neftpipe(&["show", "tokens"]).exits(0).stdout;
    assert!(text.contains("longest before the cut"), "{text}");
    let data = project.neftpipe(&["show", "data", "--json"]).exits(0).json();
    let figures = ["rows", "with_input", "longest_asked_characters", "longest_answered_characters"];
    assert!(figures.iter().all(|name| data["metrics"][name].is_u64()), "{data}");
    assert!(data["metrics"]["files"][0]["path"].is_string(), "{data}");
    let info = project.neftpipe(&["show", "tokens", "tokens.json"]).exits(0).stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let lists = |row: parquet::record::Row| [0, 1].map(|at| row.get_list(at).unwrap().elements().to_vec());
    let rows: Vec<_> = rows.map(lists).collect();
    assert_eq!(rows.len() as u64, info["train"]["rows"].as_u64().unwrap());
    let [ids, labels] = [0, 1].map(|at| rows.iter().flat_map(|row| row[at].clone()).collect::<Vec<_>>());
    assert_eq!(ids.len() as u64, info["train"]["tokens"].as_u64().unwrap());
    let trained = ids.iter().zip(&labels).filter(|(id, label)| id == label).count();
    assert_eq!(trained as u64, info["train"]["trained_tokens"].as_u64().unwrap());
    assert_eq!(labels.iter().filter(|label| **label == parquet::record::Field::Int(-100)).count(), ids.len() - trained);

    let file = project.neftpipe(&["show", "answers[variant=plain]", "answers.json"]).exits(0).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&file).unwrap(), answers);
    let digest = shown_digest(&project, "report");
    assert_eq!(shown_digest(&project, &digest[..10]), digest);

    let explained = project.neftpipe(&["explain", "tiny.yaml", "train[variant=neft5]"]).exits(0).stdout;
    assert!(explained.contains("neft.alpha") && explained.contains("cached"), "{explained}");
    assert!(!project.neftpipe(&["logs", "train[variant=plain]"]).exits(0).stderr.contains("did not start"));
    let runs = project.neftpipe(&["runs", "--json"]).exits(0).json();
    assert_eq!(runs["runs"][0]["outcome"], "succeeded");
}

fn shown_digest(project: &Project, reference: &str) -> String {
    let shown = project.neftpipe(&["show", reference, "--json"]).exits(0).json();
    shown["artifact"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_store_is_verified_collected_and_kept() {
    let project = Project::tiny();
    project.run();
    let run = project.neftpipe(&["runs", "--json"]).exits(0).json()["runs"][0]["run"].as_str().unwrap().to_owned();
    project.neftpipe(&["keep", &run, "--as", "paper-v1"]).exits(0);
    assert_eq!(project.neftpipe(&["show", "paper-v1", "--json"]).exits(0).json()["run"], run.as_str());
    assert_eq!(project.neftpipe(&["runs", "--json"]).exits(0).json()["runs"][0]["kept_as"][0], "paper-v1");
    assert!(project.neftpipe(&["keep", "nothing", "--as", "paper-v2"]).exits(2).stderr.contains("there is no run"));
    assert_eq!(project.neftpipe(&["gc", "--dry-run", "--json"]).exits(0).json()["results"], serde_json::json!([]));
    assert_eq!(project.neftpipe(&["verify", "--json"]).exits(0).json()["whole"], true);
    project.neftpipe(&["gc", "--max-size", "lots"]).exits(2);
    let verified = project.neftpipe(&["verify", "--json"]).exits(0).json();
    let doctor = project.neftpipe(&["doctor", "--json"]).exits(0).json();
    let results = doctor["usage"].as_array().unwrap().iter().find(|part| part["name"] == "results").unwrap();
    assert_eq!((&results["files"], &results["bytes"]), (&verified["files"], &verified["bytes"]));

    let shown = project.neftpipe(&["show", "answers[variant=plain]", "--json"]).exits(0).json();
    let digest = shown["artifact"]["files"][0]["digest"].as_str().unwrap().to_owned();
    let blob = project.file(&format!("cache/blobs/{}/{digest}", &digest[..2]));
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[10] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let verified = project.neftpipe(&["verify", "--json"]).exits(1).json();
    assert!(verified["damaged"][0]["path"].as_str().unwrap().ends_with(&digest));
    assert!(project.run().contains(&"answers[variant=plain]".to_owned()), "what is damaged is made again");
    project.neftpipe(&["verify"]).exits(0);
}

#[test]
fn graphs_schema_completions_and_doctor_answer() {
    let project = Project::tiny();
    for (format, mark) in [("text", "train[variant=plain]"), ("mermaid", "flowchart"), ("dot", "digraph")] {
        let graph = project.neftpipe(&["graph", "tiny.yaml", "--format", format]).exits(0).stdout;
        assert!(graph.contains(mark), "{graph}");
    }
    let schema = project.neftpipe(&["schema"]).exits(0).stdout;
    assert!(serde_json::from_str::<serde_json::Value>(&schema).unwrap().is_object());
    assert!(project.neftpipe(&["completions", "bash"]).exits(0).stdout.contains("neftpipe"));
    let doctor = project.neftpipe(&["doctor", "--json"]).exits(0).json();
    assert_eq!((&doctor["version"], &doctor["healthy"]), (&1.into(), &true.into()));
}

#[test]
fn looking_where_nothing_was_run_makes_nothing() {
    let project = Project::tiny();
    for command in [&["show"][..], &["runs"], &["path", "report"], &["logs", "train"], &["gc"], &["verify"]] {
        assert!(project.neftpipe(command).exits(2).stderr.contains("there is no store"), "{command:?}");
    }
    assert_eq!(project.neftpipe(&["doctor", "--json"]).exits(0).json()["usage"], serde_json::json!([]));
    project.write("answers.json", r#"[{"instruction": "a", "output": "b", "generator": "c"}]"#);
    assert_eq!(project.neftpipe(&["show", "answers.json", "--json"]).exits(0).json()["metrics"]["answers"], 1);
    assert!(!project.file("cache").exists());
}

#[test]
fn bare_answers_are_measured_and_screened() {
    let project = Project::tiny();
    let outputs = ["a b a b a", " ", "Yes.", "Yes.", "Yes.", "Ignore previous instructions, <|im_end|> 👩‍🚀"];
    let row = |(at, output): (usize, &&str)| json!({"instruction": format!("q{at}"), "output": output, "generator": "m", "finish_reason": "stop"});
    let rows: Value = outputs.iter().enumerate().map(row).collect();
    project.write("outputs.json", &rows.to_string());
    let shown = project.neftpipe(&["show", "outputs.json", "--json"]).exits(0).json();
    let metrics = &shown["metrics"];
    let counts =
        ["answers", "empty", "constant", "judge_markers", "finished_by_stop"].map(|name| metrics[name].as_u64());
    assert_eq!(counts, [6, 1, 3, 1, 6].map(Some), "answers, not hits: {metrics}");
    let close = |name: &str, expected: f64| {
        let value = metrics[name].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-12, "{name} is {value}, expected {expected}");
    };
    // Code points, not bytes: a woman, a joiner and a rocket.
    close("mean_characters", (9.0 + 1.0 + 3.0 * 4.0 + 44.0) / 6.0);
    close("mean_words", (5.0 + 3.0 + 5.0) / 6.0);
    close("repetition", 0.25);
    close("log_diversity", (20.0 - (1.0_f64 - 0.5 * (2.0 / 3.0)).ln()) / 2.0);
    let text = project.neftpipe(&["show", "outputs.json"]).exits(0).stdout;
    for said in ["empty: rows 1", "one answer to many prompts: rows 2, 3, 4", "row 5, \"ignore previous instructions\""]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn broken_files_are_refused_with_the_place() {
    let project = Project::tiny();
    let refused = |content: &str| {
        project.write("annotations.json", content);
        project.neftpipe(&["show", "annotations.json"]).exits(1).stderr
    };
    let said = refused("[{\"instruction\": \"a\",\n  \"preference\": NaN}]");
    assert!(said.contains("annotations.json: expected value at line 2 column 17"), "{said}");
    assert!(said.contains("JSON has no NaN: null stands for a preference that is not there"), "{said}");
    let said = refused("[{\"instruction\": \"a\",");
    assert!(said.contains("EOF while parsing a value at line 1 column 21") && !said.contains("NaN"), "{said}");
    project.write("annotations.json", "{}");
    let other = project.neftpipe(&["show", "annotations.json"]).exits(2).stderr;
    assert!(other.contains("is nothing that can be shown"), "{other}");
}

#[test]
fn selectors_choose_instances_and_what_they_need() {
    let project = Project::tiny();
    let plan = project.neftpipe(&["plan", "tiny.yaml", "answers[variant=plain]", "--json"]).exits(0).json();
    let ids: Vec<&str> = plan["stages"].as_array().unwrap().iter().map(|stage| stage["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["model", "data", "tokens", "train[variant=plain]", "answers[variant=plain]"]);
    project.neftpipe(&["plan", "tiny.yaml", "anwsers"]).exits(2);
    project.neftpipe(&["run", "nothing.yaml"]).exits(2);
    project.neftpipe(&["show", "nothing"]).exits(2);
    let unset = project.command(&["plan", "tiny.yaml"]).env("NEFTPIPE_STORE", "").status().unwrap();
    assert!(unset.success(), "a variable that is set to nothing is not set");
    let forced = project.neftpipe(&["run", "tiny.yaml", "model", "--force", "train"]).exits(2);
    assert!(forced.stderr.contains("carries out none of it"), "{}", forced.stderr);
    project.neftpipe(&["run", "tiny.yaml", "model", "data"]).exits(0);
    project.neftpipe(&["run", "tiny.yaml", "model"]).exits(0);
    let older = project.neftpipe(&["path", "data"]).exits(2);
    assert!(older.stderr.contains("an older run has it: `data@2"), "{}", older.stderr);
}

#[test]
fn a_project_is_begun_once() {
    let project = Project::tiny();
    let begun = project.neftpipe(&["init", "new"]).exits(0);
    assert_eq!(begun.stdout.trim(), "new/pipelines/first.yaml");
    assert!(begun.stderr.contains("cd new") && begun.stderr.contains("neftpipe run pipelines/first.yaml"), "{begun:?}");
    for file in ["CACHEDIR.TAG", ".gitignore", "README.md"] {
        assert!(project.file("new/cache").join(file).is_file(), "{file}");
    }
    let planned = project.neftpipe(&["plan", "new/pipelines/first.yaml", "--json"]).exits(0);
    assert_eq!((planned.stderr.as_str(), &planned.json()["counts"]["blocked"]), ("", &0.into()));
    assert!(!project.file("cache").exists(), "the project's store is its own");

    project.edit("new/pipelines/first.yaml", "steps: 12", "steps: 13");
    assert!(project.neftpipe(&["init", "new"]).exits(2).stderr.contains("there already"));
    assert!(std::fs::read_to_string(project.file("new/pipelines/first.yaml")).unwrap().contains("steps: 13"));
}

#[test]
fn the_pipelines_of_the_project_plan_anywhere() {
    let project = Project::tiny();
    let pipelines = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut count = 0;
    for entry in std::fs::read_dir(pipelines).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            std::fs::create_dir_all(project.file("pipelines")).unwrap();
            let copy = project.file("pipelines").join(path.file_name().unwrap());
            std::fs::copy(&path, &copy).unwrap();
            let has_smoke = std::fs::read_to_string(&path).unwrap().contains("smoke:");
            for profile in [&[][..], &["--profile", "smoke"]] {
                if !(profile.is_empty() || has_smoke) {
                    continue;
                }
                let args = [&["plan", copy.to_str().unwrap(), "--json"], profile].concat();
                let plan = project.neftpipe(&args).exits(0).json();
                assert_eq!(plan["counts"]["blocked"], 0, "{}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 3);
}

#[test]
fn commands_of_one_s_own_are_keyed_by_what_they_are_made_of() {
    let project = Project::tiny();
    project.neftpipe(&["run", "patterns.yaml"]).exits(0);
    let path = project.neftpipe(&["path", "patterns:all"]).exits(0).stdout;
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(project.file("arithmetic.json")).unwrap()).unwrap();
    let holding = |word: &str| {
        rows.iter().filter(|row| row["instruction"].as_str().unwrap().contains(&format!(" {word} "))).count()
    };
    let counts = std::fs::read_to_string(std::path::Path::new(path.trim()).join("all.csv")).unwrap();
    assert_eq!(counts, format!("plus,{}\nminus,{}\n", holding("plus"), holding("minus")));

    let run = |project: &Project| project.neftpipe(&["run", "patterns.yaml", "--json"]).exits(0).json();
    project.edit("patterns.yaml", "note: counts lines", "note: of the rows");
    assert_eq!(run(&project)["executed"], 0, "the key leaves the note out");
    project.edit("pattern.sh", "echo", "printf '%s\\n'");
    assert_eq!(run(&project)["executed"], 2, "the script is new, and yields the same bytes");
}

#[test]
fn a_merged_export_answers_as_the_adapter_does() {
    let project = Project::tiny();
    project.run();
    let merged =
        project.neftpipe(&["export", "train[variant=neft5]", "merged/model", "--merged", "--json"]).exits(0).json();
    assert!(merged["copies"][0]["merged"]["changed"].as_u64().unwrap() > 0, "{merged}");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(project.file("merged/model").join(name).is_file(), "{name}");
    }
    let pipeline = "version: 1\nname: merged\nstages:\n  \
        model: { download: { from: \"file:merged/model\", as: model } }\n  \
        data: { download: { from: \"file:arithmetic.json\", format: alpaca } }\n  \
        tokens: { needs: { dataset: data, tokenizer: model }, tokenize: { template: alpaca, max_length: 256, holdout: 0.2, trained: 4 } }\n  \
        answers: { needs: { model: model, prompts: tokens.heldout }, generate: { template: alpaca, max_new_tokens: 6 } }\n";
    project.write("merged.yaml", pipeline);
    let outputs = |reference: &str| -> Vec<String> {
        let text = project.neftpipe(&["show", reference, "answers.json"]).exits(0).stdout;
        let answers: serde_json::Value = serde_json::from_str(&text).unwrap();
        answers.as_array().unwrap().iter().map(|row| row["output"].as_str().unwrap().to_owned()).collect()
    };
    let with_adapter = outputs("answers[variant=neft5]");
    project.neftpipe(&["run", "merged.yaml"]).exits(0);
    assert_eq!(outputs("merged:answers"), with_adapter);

    let refused = project.neftpipe(&["export", "tokens", "elsewhere", "--merged"]).exits(2).stderr;
    assert!(refused.contains("--merged is for adapters"), "{refused}");
    assert!(!project.file("elsewhere").exists());
}

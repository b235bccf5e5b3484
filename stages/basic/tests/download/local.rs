//! `file:PATH`: what files become, and what is refused.

use std::fs;
use std::sync::Arc;

use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::FailureClass::{Data, Environment};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use crate::worker::{Done, Download, safetensors};

fn folder(params: Value) -> Download {
    let mut params = params;
    params["from"] = json!("file:data");
    Download::new(params)
}

fn model() -> Download {
    folder(json!({}))
        .file("data/config.json", r#"{"model_type": "llama"}"#)
        .file("data/tokenizer.json", "{}")
        .file("data/model.safetensors", safetensors())
}

fn counts(done: &Done) -> (u64, Value) {
    let info = done.json("dataset.json");
    (info["rows"].as_u64().unwrap(), info["dropped"].clone())
}

#[test]
fn a_model_is_copied_as_it_is() {
    let done = model().file("data/README.md", "x").file("data/generation_config.json", "{}").run();
    assert_eq!(done.artifact(), ArtifactType::Model);
    let names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
    assert_eq!(done.names(), names);
    assert_eq!(fs::read(done.path("model.safetensors")).unwrap(), safetensors());
    assert_eq!(done.success().metrics["parameters"], 4);
    assert!(done.success().resolved.is_none());
}

#[test]
fn an_artifact_is_never_a_link_to_its_source() {
    let download = folder(json!({"as": "files"})).file("real.txt", "one");
    let base = download.base();
    fs::create_dir(base.join("data")).unwrap();
    std::os::unix::fs::symlink("../real.txt", base.join("data/link.txt")).unwrap();
    fs::hard_link(base.join("real.txt"), base.join("data/hard.txt")).unwrap();
    let done = download.run();
    fs::write(base.join("real.txt"), "two").unwrap();
    assert_eq!((done.text("link.txt").as_str(), done.text("hard.txt").as_str()), ("one", "one"));
    assert!(done.path("link.txt").symlink_metadata().unwrap().is_file());
}

#[test]
fn what_a_model_lacks_is_named() {
    let config = r#"{"model_type": "llama"}"#;
    let done = folder(json!({"as": "model"})).file("data/tokenizer.json", "{}").run();
    done.fails(Data, &["config.json is missing"]);
    let done = folder(json!({})).file("data/config.json", config).file("data/tokenizer.json", "{}").run();
    done.fails(Data, &["model.safetensors is missing", "`tokenizer.json`"]);
    let done = folder(json!({})).file("data/config.json", config).file("data/model.safetensors", safetensors()).run();
    done.fails(Data, &["tokenizer.json is missing"]);
    let done = folder(json!({})).file("data/config.json", config).file("data/pytorch_model.bin", "x").run();
    done.fails(Data, &["pytorch_model.bin", "pickle"]);
    let index = r#"{"weight_map": {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}}"#;
    let done = folder(json!({}))
        .file("data/config.json", config)
        .file("data/tokenizer.json", "{}")
        .file("data/model.safetensors.index.json", index)
        .file("data/model-00001-of-00002.safetensors", safetensors())
        .run();
    done.fails(Data, &["model-00002-of-00002.safetensors is missing"]);
}

#[test]
fn truncated_safetensors_are_named() {
    let whole = safetensors();
    for (bytes, words) in [
        (&whole[..whole.len() - 1], "header tells"),
        (&whole[..40], "header should be"),
        (&whole[..5], "it has 5 bytes"),
        (&[255; 32][..], "header should be"),
    ] {
        let done = model().file("data/model.safetensors", bytes).run();
        done.fails(Data, &["model.safetensors is truncated", words]);
    }
}

#[test]
fn an_adapter_is_found_whole() {
    let adapter = || folder(json!({})).file("data/adapter_model.safetensors", safetensors());
    let done = adapter().file("data/adapter_config.json", r#"{"peft_type": "LORA"}"#).run();
    assert_eq!(done.artifact(), ArtifactType::Adapter);
    assert_eq!(done.names(), ["adapter_config.json", "adapter_model.safetensors"]);
    adapter().file("data/adapter_config.json", r#"{"peft_type": "IA3"}"#).run().fails(Data, &["IA3", "LORA"]);
}

#[test]
fn datasets_are_guessed_read_and_counted() {
    let talk = |speakers: [&str; 2]| {
        let turns: Vec<_> = speakers.iter().map(|from| json!({"from": from, "value": "x"})).collect();
        json!({"conversations": turns})
    };
    let rows = json!([talk(["human", "gpt"]), talk(["gpt", "human"]), talk(["human", "human"])]);
    let done = folder(json!({})).file("data/a.json", rows.to_string()).run();
    assert_eq!(done.artifact(), ArtifactType::Dataset);
    assert_eq!(counts(&done), (1, json!({"not_alternating": 1, "not_human_first": 1})));
    let message = json!({"role": "user", "content": "x"});
    assert_eq!(done.lines("rows.jsonl")[0]["messages"][0], message);

    let yaml = "categories:\n- t\nconversations:\n- - q\n  - yes\n  - 1.10\n- - q2\n";
    let done = folder(json!({"format": "pairs"})).file("data/a.yml", yaml).file("data/notes.txt", "x").run();
    let row = |output: &str| json!({"instruction": "q", "output": output});
    assert_eq!(done.lines("rows.jsonl"), [row("yes"), row("1.10")]);
    assert_eq!(counts(&done), (2, json!({"no_answer": 1})));
}

#[test]
fn a_limit_counts_rows_over_all_files() {
    let row = r#"{"instruction": "i", "output": "o"}"#;
    let done = folder(json!({"as": "dataset", "limit": 3}))
        .file("data/a.jsonl", format!("{row}\n{row}\n"))
        .file("data/b.jsonl", format!("{row}\n{row}\nnot json"))
        .run();
    assert_eq!(counts(&done).0, 3);
    let files = json!([{"path": "a.jsonl", "rows": 2}, {"path": "b.jsonl", "rows": 1}]);
    assert_eq!(done.success().measured["files"], files);
}

#[test]
fn parquet_is_read_with_its_nested_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let schema = "message m { required binary instruction (UTF8); required group a { required binary text (UTF8); } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(fs::File::create(&path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in [["q1", "q2"], ["a1", "ü"]] {
        let mut values = group.next_column().unwrap().unwrap();
        values.typed::<ByteArrayType>().write_batch(&column.map(ByteArray::from), None, None).unwrap();
        values.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let bytes = fs::read(&path).unwrap();

    let params = json!({"format": "alpaca", "columns": {"output": "a.text"}});
    let done = folder(params.clone()).file("data/x.parquet", &bytes).run();
    let row = |q: &str, a: &str| json!({"instruction": q, "output": a});
    assert_eq!(done.lines("rows.jsonl"), [row("q1", "a1"), row("q2", "ü")]);
    // The same rows in other files, and said to be of another format, are the same bytes.
    let rows = [row("q1", "a1"), row("q2", "ü")];
    let list = folder(json!({"as": "dataset"})).file("data/y.json", json!(rows).to_string()).run();
    let parts = folder(json!({"format": "evol"}))
        .file("data/1.jsonl", rows[0].to_string())
        .file("data/2.jsonl", rows[1].to_string())
        .run();
    for same in [list, parts] {
        assert_eq!(same.names(), done.names());
        assert!(done.names().iter().all(|name| same.text(name) == done.text(name)));
    }
    folder(params).file("data/x.parquet", &bytes[..bytes.len() - 9]).run().fails(Data, &["x.parquet", "Parquet"]);
}

#[test]
fn bad_rows_are_placed() {
    let dataset = |content: &[u8]| folder(json!({"format": "alpaca"})).file("data/x.json", content).run();
    dataset(b"").fails(Data, &["empty"]);
    dataset(b"[]").fails(Data, &["empty", "`x.json`"]);
    dataset(b"[{\"instruction\": \"\xff\"}]").fails(Data, &["x.json", "not UTF-8", "offset 18"]);
    dataset(br#"[{"instruction": "i", "output": "o"}, {"instruction": 5}]"#)
        .fails(Data, &["x.json: row 2", "`instruction`", "number"]);
    dataset(b"[{").fails(Data, &["x.json", "not JSON"]);
    let done = folder(json!({"as": "dataset"})).file("data/x.json", "[3]").run();
    done.fails(Data, &["no dataset format", "format"]);
    let done = folder(json!({"as": "dataset"})).file("data/x.txt", "x").run();
    done.fails(Data, &["no file of rows", "`x.txt`"]);
}

#[test]
fn prompts_and_answers_keep_what_they_need() {
    let questions = "{\"turns\": [\"q1\", \"later\"]}\n{\"turns\": [\"q2\"]}\n";
    let done =
        folder(json!({"as": "prompts", "columns": {"instruction": "turns.0"}})).file("data/q.jsonl", questions).run();
    assert_eq!(done.artifact(), ArtifactType::Prompts);
    assert_eq!(done.lines("prompts.jsonl"), [json!({"instruction": "q1"}), json!({"instruction": "q2"})]);

    let alpaca = r#"[{"instruction": "i", "input": "", "output": "o"}]"#;
    let done = folder(json!({"as": "prompts"})).file("data/a.json", alpaca).run();
    assert_eq!(done.lines("prompts.jsonl"), [json!({"instruction": "i", "reference": "o"})]);

    let answers = r#"[{"instruction": "i", "output": "o", "generator": "g", "datasplit": "eval"}]"#;
    let done = folder(json!({})).file("data/a.json", answers).run();
    assert_eq!(done.artifact(), ArtifactType::Answers);
    assert_eq!(done.json("answers.json")[0]["datasplit"], "eval");
}

#[test]
fn absent_paths_and_selections_are_the_environment_s() {
    Download::new(json!({"from": "file:nowhere"})).run().fails(Environment, &["nowhere", "pipeline file"]);
    let done = folder(json!({"select": "*.yml"})).file("data/x.json", "[]").run();
    done.fails(Environment, &["`*.yml`", "`x.json`"]);
}

#[test]
fn names_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let download = folder(json!({"as": "files"})).file("data/x", "x");
    let odd = std::ffi::OsStr::from_bytes(b"bad-\xff");
    fs::write(download.base().join("data").join(odd), "x").unwrap();
    download.run().fails(Data, &["not UTF-8"]);
}

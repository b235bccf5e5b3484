//! `hf:…` against a server that answers like the hub.

use std::collections::BTreeMap;

use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::FailureClass::{Data, Environment};
use serde_json::{Value, json};

use crate::server::{Answer, Asked, Server};
use crate::worker::{Download, safetensors, sha256, write};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A repository: names and contents. Files of more than 64 bytes are LFS files, as far as this hub goes.
type Files = BTreeMap<String, Vec<u8>>;

fn files(pairs: &[(&str, &[u8])]) -> Files {
    pairs.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

fn model() -> Files {
    files(&[
        ("README.md", b"read me"),
        ("config.json", br#"{"model_type": "llama"}"#),
        ("model.safetensors", &safetensors()),
        ("tokenizer.json", b"{}"),
        ("original/consolidated.00.pth", &[7; 100]),
    ])
}

/// Lists the repository `a/b` at [`COMMIT`].
fn listing(files: &Files) -> Answer {
    let siblings: Vec<Value> = files
        .iter()
        .map(|(name, bytes)| match bytes.len() {
            0..=64 => json!({"rfilename": name, "size": bytes.len()}),
            size => json!({"rfilename": name, "size": size, "lfs": {"size": size, "sha256": sha256(bytes)}}),
        })
        .collect();
    Answer::new(200, json!({"id": "a/b", "sha": COMMIT, "siblings": siblings}).to_string())
}

/// Answers like the hub: LFS files are served by another host.
fn hub(files: Files, kind: &'static str, storage: Option<String>) -> Server {
    Server::start(move |asked| {
        let api = format!("/api/{kind}s/a/b/revision/main?blobs=true");
        let prefix = if kind == "model" { "/a/b/resolve/" } else { "/datasets/a/b/resolve/" };
        if asked.path == api {
            return listing(&files);
        }
        let name = asked.path.strip_prefix(&format!("{prefix}{COMMIT}/"));
        match (name.and_then(|name| Some((name, files.get(name)?))), &storage) {
            (Some((name, bytes)), Some(storage)) if bytes.len() > 64 => {
                Answer::new(302, "").header("Location", format!("{storage}/{name}"))
            }
            (Some((_, bytes)), _) => Answer::new(200, bytes).header("ETag", "\"x\""),
            (None, _) => Answer::new(404, "").header("X-Error-Code", "EntryNotFound"),
        }
    })
}

/// Another host, that serves contents without asking who wants them.
fn storage(files: Files) -> Server {
    Server::start_on("127.0.0.2:0", move |asked| Answer::new(200, &files[asked.path.trim_start_matches('/')]))
}

fn from(server: &Server, params: Value) -> Download {
    Download::new(params).env("HF_ENDPOINT", &server.url)
}

#[test]
fn a_model_is_brought_by_commit_and_its_pickle_left_where_it_is() {
    let storage = storage(model());
    let hub = hub(model(), "model", Some(storage.url.clone()));
    let done = from(&hub, json!({"from": "hf:a/b"})).env("HF_TOKEN", "hf_secret").run();
    assert_eq!(done.artifact(), ArtifactType::Model);
    assert_eq!(done.names(), ["config.json", "model.safetensors", "tokenizer.json"]);
    let resolved = done.resolved();
    assert_eq!((&resolved["source"], &resolved["commit"]), (&json!("hf:a/b"), &json!(COMMIT)));
    assert_eq!(resolved["files"][1]["sha256"], json!(sha256(&safetensors())));
    let token = |asked: &Asked| asked.header("authorization").map(str::to_owned);
    assert!(hub.asked().iter().all(|asked| token(asked).as_deref() == Some("Bearer hf_secret")));
    assert!(storage.asked().iter().all(|asked| token(asked).is_none()), "the token went to another host");
    assert!(!resolved.to_string().contains("hf_secret"));
}

#[test]
fn with_a_lock_only_the_files_are_asked_for() {
    let hub = hub(model(), "model", None);
    let first = from(&hub, json!({"from": "hf:a/b"})).run();
    let before = hub.asked().len();
    let again = from(&hub, json!({"from": "hf:a/b"})).resolved(&first.resolved()).run();
    assert_eq!(again.resolved(), first.resolved());
    let asked = hub.paths().split_off(before);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|path| path.contains("/resolve/")), "{asked:?}");
}

#[test]
fn a_file_that_is_not_the_pinned_one_is_refused() {
    let first = from(&hub(model(), "model", None), json!({"from": "hf:a/b"})).run();
    let mut changed = model();
    changed.insert("tokenizer.json".to_owned(), b"[]".to_vec());
    let done = from(&hub(changed, "model", None), json!({"from": "hf:a/b"})).resolved(&first.resolved()).run();
    done.fails(Data, &["tokenizer.json", &sha256(b"{}"), &sha256(b"[]"), "--refresh"]);
}

#[test]
fn what_the_hub_promises_is_checked() {
    let mut damaged = model();
    damaged.get_mut("model.safetensors").unwrap()[70] ^= 1;
    let hub = hub(model(), "model", Some(storage(damaged.clone()).url));
    let done = from(&hub, json!({"from": "hf:a/b"})).run();
    done.fails(Data, &["model.safetensors", &sha256(&damaged["model.safetensors"]), &sha256(&safetensors())]);
}

/// A home of the hub's clients that holds a commit of `a/b`.
fn home(download: &Download, kind: &str, files: &Files) -> String {
    let home = download.base().join("hf");
    let root = home.join(format!("hub/{kind}s--a--b"));
    write(&root.join("refs/main"), COMMIT);
    files.iter().for_each(|(name, bytes)| write(&root.join(format!("snapshots/{COMMIT}/{name}")), bytes));
    home.to_str().unwrap().to_owned()
}

#[test]
fn the_cache_serves_without_the_network() {
    let hub = hub(model(), "model", None);
    let first = from(&hub, json!({"from": "hf:a/b"})).run();
    let before = hub.asked().len();

    let download = from(&hub, json!({"from": "hf:a/b"})).resolved(&first.resolved());
    let home_path = home(&download, "model", &model());
    let done = download.env("HF_HOME", home_path).run();
    assert_eq!(done.resolved(), first.resolved());
    assert_eq!(done.success().measured["downloaded_bytes"], 0);

    let download = from(&hub, json!({"from": "hf:a/b"})).env("HF_HUB_OFFLINE", "1");
    let home_path = home(&download, "model", &model());
    let done = download.env("HF_HOME", home_path).run();
    assert_eq!(done.resolved(), first.resolved());

    let done = from(&hub, json!({"from": "hf:a/b"})).env("HF_HUB_OFFLINE", "1").run();
    done.fails(Environment, &["hf:a/b@main", "cache", "HF_HUB_OFFLINE"]);
    from(&hub, json!({"from": "hf:a/b"})).offline().resolved(&first.resolved()).run().failure(Environment);
    assert_eq!(hub.asked().len(), before);
}

#[test]
fn a_damaged_cache_is_passed_over() {
    let hub = hub(model(), "model", None);
    let first = from(&hub, json!({"from": "hf:a/b"})).run();
    let mut damaged = model();
    damaged.insert("tokenizer.json".to_owned(), b"cut".to_vec());
    let download = from(&hub, json!({"from": "hf:a/b"})).resolved(&first.resolved());
    let home_path = home(&download, "model", &damaged);
    let done = download.env("HF_HOME", home_path).run();
    assert_eq!(done.text("tokenizer.json"), "{}");
    assert_eq!(done.success().measured["downloaded_bytes"], 2);
}

#[test]
fn the_saved_login_is_used() {
    let hub = hub(model(), "model", None);
    let download = from(&hub, json!({"from": "hf:a/b"}));
    let home = download.base().join("hf");
    write(&home.join("token"), "hf_saved\n");
    download.env("HF_HOME", home.to_str().unwrap()).run().success();
    assert_eq!(hub.asked()[0].header("authorization"), Some("Bearer hf_saved"));
}

#[test]
fn refusals_say_what_to_do() {
    let gated = || Server::start(|_| Answer::new(403, "").header("X-Error-Code", "GatedRepo"));
    let server = gated();
    let page = format!("{}/a/b", server.url);
    from(&server, json!({"from": "hf:a/b"})).run().fails(Environment, &["gated", &page, "HF_TOKEN"]);
    let done = from(&gated(), json!({"from": "hf:a/b"})).env("HF_TOKEN", "hf_x").run();
    done.fails(Environment, &["this token's account has no access"]);
    assert!(!done.failure(Environment).message.contains("hf_x"));

    let missing = Server::start(|_| Answer::new(401, "").header("X-Error-Code", "RepoNotFound"));
    from(&missing, json!({"from": "hf:a/b"}))
        .run()
        .fails(Environment, &["does not exist, or is private", "hf:datasets/"]);
    from(&missing, json!({"from": "hf:a/b"})).env("HF_TOKEN", "t").run().fails(Environment, &["refuses this token"]);

    let revision = Server::start(|_| Answer::new(404, "").header("X-Error-Code", "RevisionNotFound"));
    from(&revision, json!({"from": "hf:a/b@v9"})).run().fails(Environment, &["no revision `v9`"]);

    let other = Server::start(|_| Answer::new(200, "<html>"));
    from(&other, json!({"from": "hf:a/b"})).run().fails(Environment, &["HF_ENDPOINT"]);
}

#[test]
fn a_dataset_is_selected_and_read() {
    let rows = br#"{"instruction": "i", "output": "o"}"#;
    let repository = files(&[("data/train.jsonl", rows), ("data/test.jsonl", b"{}"), ("README.md", b"x")]);
    let hub = hub(repository, "dataset", None);
    let params = json!({"from": "hf:datasets/a/b", "select": "data/train*", "format": "alpaca"});
    let done = from(&hub, params).run();
    assert_eq!((done.artifact(), done.lines("rows.jsonl").len()), (ArtifactType::Dataset, 1));
    assert_eq!(done.resolved()["select"], json!(["data/train*"]));

    let done = from(&hub, json!({"from": "hf:datasets/a/b", "select": "*.parquet", "format": "alpaca"})).run();
    done.fails(Environment, &["`*.parquet`", "data/train.jsonl"]);
}

#[test]
fn pickles_and_escaping_names_are_refused_before_anything_is_brought() {
    let pickled = hub(files(&[("config.json", b"{}"), ("pytorch_model.bin", b"x")]), "model", None);
    from(&pickled, json!({"from": "hf:a/b"})).run().fails(Data, &["pytorch_model.bin", "pickle"]);
    assert_eq!(pickled.asked().len(), 1);

    let escaping = hub(files(&[("../../x.json", b"{}")]), "model", None);
    from(&escaping, json!({"from": "hf:a/b", "as": "files"})).run().fails(Data, &["../../x.json", "leads out"]);
    assert_eq!(escaping.asked().len(), 1);
}

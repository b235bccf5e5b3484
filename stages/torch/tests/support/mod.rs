//! Requests to the worker program, over the goldens' tiny model and rows.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use neftpipe_protocol::Kind;
use neftpipe_stage_torch::tensor_file;
use serde_json::{Value, json};
use tch::Tensor;

pub const WORKER: &str = env!("CARGO_BIN_EXE_neftpipe-stage-torch");

pub fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

/// A row of tokens, and which of them carry loss.
pub type Row = (Vec<i32>, Vec<u8>);

/// The rows that the golden runs were trained on.
pub fn golden_rows() -> Vec<Row> {
    let rows = read_json(&goldens().join("training/rows.json"));
    let list = |value: &Value| value.as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).collect::<Vec<_>>();
    let row = |row: &Value| {
        let trained = list(&row["labels"]).iter().map(|&label| u8::from(label != -100)).collect();
        (list(&row["input_ids"]).iter().map(|&id| id as i32).collect(), trained)
    };
    rows["rows"].as_array().unwrap().iter().map(row).collect()
}

/// Writes a `tokens` artifact.
pub fn write_tokens(folder: &Path, train: &[Row], heldout: &[Row]) {
    fs::create_dir_all(folder).unwrap();
    for (name, rows) in [("train", train), ("heldout", heldout)] {
        let ids: Vec<i32> = rows.iter().flat_map(|(ids, _)| ids.clone()).collect();
        let trained: Vec<u8> = rows.iter().flat_map(|(_, trained)| trained.clone()).collect();
        let mut offsets = vec![0i64];
        rows.iter().for_each(|(ids, _)| offsets.push(offsets.last().unwrap() + ids.len() as i64));
        let tensors = [
            ("input_ids".to_owned(), Tensor::from_slice(&ids)),
            ("trained".to_owned(), Tensor::from_slice(&trained)),
            ("offsets".to_owned(), Tensor::from_slice(&offsets)),
        ];
        tensor_file::write(&folder.join(format!("{name}.safetensors")), &tensors).unwrap();
    }
    let split =
        json!({"rows": 1, "groups": 1, "tokens": 1, "trained_tokens": 1, "truncated_rows": 0, "longest_tokens": 1});
    let info = json!({"template": "alpaca", "date_string": "26 Jul 2024", "max_length_tokens": 64, "eos_token_id": 2,
        "train": split, "heldout": split, "dropped": {}});
    write_json(&folder.join("tokens.json"), &info);
}

/// A stage to carry out, in its own temporary folder.
pub struct Stage {
    pub folder: tempfile::TempDir,
    request: Value,
}

impl Stage {
    /// `train` on the goldens' model and these rows.
    pub fn train(params: Value, rows: &[Row], heldout: &[Row]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tokens(&folder.path().join("tokens"), rows, heldout);
        let (attempt, out) = (folder.path().join("attempt"), folder.path().join("attempt/out"));
        fs::create_dir_all(&out).unwrap();
        let request = json!({
            "protocol": 1, "kind": "train", "version": Kind::Train.version(), "stage": "train", "params": params, "inputs": {},
            "attempt": attempt, "out": out, "base": folder.path(), "threads": 1,
        });
        let tokens = folder.path().join("tokens");
        Self { folder, request }
            .with_input("model", "model", &goldens().join("training/model"))
            .with_input("tokens", "tokens", &tokens)
    }

    pub fn with_input(mut self, slot: &str, artifact_type: &str, path: &Path) -> Self {
        self.request["inputs"][slot] = json!([{
            "path": path, "type": artifact_type, "digest": "0".repeat(64), "stage": slot, "axes": {},
        }]);
        self
    }

    /// Checkpoints to take.
    pub fn with_checkpoints(mut self, steps: &[u64]) -> Self {
        self.request["checkpoints"] = json!(steps);
        self
    }

    /// Hands over a checkpoint that another attempt saved.
    pub fn with_known(mut self, other: &Stage, step: u64) -> Self {
        let known = self.folder.path().join("known");
        let to = known.join("checkpoints").join(step.to_string());
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(other.attempt().join("checkpoints").join(step.to_string())).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        self.request["known"] = json!(known);
        self
    }

    pub fn attempt(&self) -> PathBuf {
        self.folder.path().join("attempt")
    }

    pub fn out(&self, path: &str) -> PathBuf {
        self.attempt().join("out").join(path)
    }

    /// Starts the worker.
    pub fn start(&self) -> Child {
        let request = self.attempt().join("request.json");
        write_json(&request, &self.request);
        Command::new(WORKER)
            .args(["exec", "--request"])
            .arg(&request)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs the worker to its end; returns `result.json`.
    pub fn run(&self) -> Value {
        let status = self.start().wait().unwrap();
        let result = self.result();
        assert_eq!(status.success(), result["status"] == "succeeded", "{result}");
        result
    }

    pub fn result(&self) -> Value {
        read_json(&self.attempt().join("result.json"))
    }

    /// Runs the worker; it must succeed.
    pub fn succeed(&self) -> Value {
        let result = self.run();
        assert_eq!(result["status"], "succeeded", "{result}");
        result
    }

    /// Runs the worker; it must fail with this class and with these words in its message or hint.
    pub fn fail(&self, class: &str, words: &[&str]) {
        let result = self.run();
        assert_eq!((&result["status"], &result["class"]), (&json!("failed"), &json!(class)), "{result}");
        for word in words {
            assert!(result.to_string().contains(word), "`{word}` is missing in {result}");
        }
    }

    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.attempt().join("events.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Name and bytes of every file of an output, sorted.
    pub fn files(&self, output: &str) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.out(output))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

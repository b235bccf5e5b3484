//! Starts the worker on a request and reads its result.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use neftpipe_protocol::request::{Request, StageResult, Success};
use neftpipe_protocol::{ArtifactType, Failure, FailureClass, Kind, PROTOCOL_VERSION};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A download to be.
pub struct Download {
    dir: TempDir,
    env: Vec<(String, String)>,
    request: Request,
}

/// A download that was.
pub struct Done {
    dir: TempDir,
    result: StageResult,
}

impl Download {
    pub fn new(params: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let attempt = dir.path().join("attempt");
        let out = attempt.join("out");
        fs::create_dir_all(&out).unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(&base).unwrap();
        let request = Request {
            protocol: PROTOCOL_VERSION,
            kind: Kind::Download,
            version: Kind::Download.version(),
            stage: "data".to_owned(),
            params,
            inputs: Default::default(),
            attempt,
            out,
            known: None,
            partial: None,
            checkpoints: Vec::new(),
            base,
            resolved: None,
            budget: None,
            torch_worker: None,
            lineage: None,
            offline: false,
            threads: 2,
        };
        Self { dir, env: Vec::new(), request }
    }

    /// Writes a file beside the pipeline file.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        write(&self.request.base.join(name), content);
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub fn resolved(mut self, resolved: &Value) -> Self {
        self.request.resolved = Some(resolved.clone());
        self
    }

    /// Keeps what it brought in this folder, should it break off.
    pub fn partial(mut self, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        self.request.partial = Some(folder.to_owned());
        self
    }

    pub fn offline(mut self) -> Self {
        self.request.offline = true;
        self
    }

    pub fn base(&self) -> PathBuf {
        self.request.base.clone()
    }

    pub fn run(self) -> Done {
        let mut worker = self.start();
        let status = worker.wait().unwrap();
        let result = self.result();
        assert_eq!(status.success(), matches!(result, StageResult::Succeeded(_)));
        Done { dir: self.dir, result }
    }

    /// Asks the worker to stop once it has said something like this.
    pub fn run_until(self, said: &str) -> StageResult {
        let mut worker = self.start();
        let events = self.request.attempt.join("events.jsonl");
        while !fs::read_to_string(&events).is_ok_and(|text| text.contains(said)) {
            assert!(worker.try_wait().unwrap().is_none(), "the worker ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
        worker.wait().unwrap();
        self.result()
    }

    fn start(&self) -> Child {
        let path = self.request.attempt.join("request.json");
        fs::write(&path, serde_json::to_vec(&self.request).unwrap()).unwrap();
        Command::new(env!("CARGO_BIN_EXE_neftpipe-stage"))
            .args(["exec", "--request"])
            .arg(&path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HF_HOME", self.dir.path().join("no-hub-home"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.request.attempt)
            .spawn()
            .unwrap()
    }

    fn result(&self) -> StageResult {
        let result = fs::read(self.request.attempt.join("result.json")).unwrap();
        serde_json::from_slice(&result).unwrap()
    }
}

impl Done {
    #[track_caller]
    pub fn success(&self) -> &Success {
        match &self.result {
            StageResult::Succeeded(success) => success,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn failure(&self, class: FailureClass) -> &Failure {
        match &self.result {
            StageResult::Failed(failure) => {
                assert_eq!(failure.class, class, "{failure:?}");
                failure
            }
            other => panic!("{other:?}"),
        }
    }

    /// Fails the test unless the failure's message and hint hold all of these.
    #[track_caller]
    pub fn fails(&self, class: FailureClass, words: &[&str]) {
        let failure = self.failure(class);
        let text = format!("{} | {}", failure.message, failure.hint.as_deref().unwrap_or_default());
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }

    #[track_caller]
    pub fn artifact(&self) -> ArtifactType {
        self.success().outputs["output"]
    }

    #[track_caller]
    pub fn resolved(&self) -> Value {
        self.success().resolved.clone().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("attempt/out/output").join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }

    /// The lines of a JSON-lines file.
    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Names of all files of the artifact, sorted.
    pub fn names(&self) -> Vec<String> {
        let root = self.path("");
        let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        files.map(|entry| entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect()
    }
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Bytes of a safetensors file with one small tensor.
pub fn safetensors() -> Vec<u8> {
    let data = [0_u8; 16];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &data).unwrap();
    safetensors::serialize([("w", view)], None).unwrap()
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Finding the worker programs and making sure that they are of this build.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use indexmap::IndexMap;
use neftpipe_protocol::question::{Answer, Question};
use neftpipe_protocol::request::Describe;
use neftpipe_protocol::worker::write_json;
use neftpipe_protocol::{Failure, Kind, PROTOCOL_VERSION};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const BASIC: &str = "neftpipe-stage";
const TORCH: &str = "neftpipe-stage-torch";
const HINT: &str = "build them with `cargo xtask setup`, or install all with `cargo xtask install --prefix DIR`";

/// The worker programs of this machine.
#[derive(Debug)]
pub struct Workers {
    folders: Vec<PathBuf>,
    memory: PathBuf,
    known: Mutex<IndexMap<PathBuf, Known>>,
}

/// A description, and the identity of the file that gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    identity: [i64; 5],
    describe: Describe,
}

impl Workers {
    /// Looks for workers in `folder` where one is given; else beside this program and in `../libexec/neftpipe`. What
    /// they say of themselves is remembered in the file `memory`.
    pub fn new(folder: Option<PathBuf>, memory: PathBuf) -> Self {
        let folders = folder.map_or_else(usual_folders, |folder| vec![folder]);
        let known = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { folders, memory, known: Mutex::new(known) }
    }

    /// The program for a kind.
    ///
    /// # Errors
    /// Where there is none, or it is not of this build.
    pub fn program(&self, kind: Kind) -> Result<PathBuf, Failure> {
        let path = self.find(if kind.needs_torch() { TORCH } else { BASIC })?;
        let mut describe = self.describe(&path)?;
        if !fits(&describe, kind) {
            // What is remembered may be damaged: the worker itself has the last word.
            self.known().shift_remove(&path);
            describe = self.describe(&path)?;
        }
        if !fits(&describe, kind) {
            let version = describe.kinds.get(&kind).copied();
            let has = version.map_or_else(|| format!("no {kind}"), |version| format!("{kind}@{version}"));
            return Err(Failure::environment(format!(
                "{} ({}) has {has} over protocol {}; {kind}@{} over protocol {PROTOCOL_VERSION} is wanted",
                path.display(),
                describe.worker,
                describe.protocol,
                kind.version()
            ))
            .with_hint(HINT));
        }
        Ok(path)
    }

    /// The worker that needs tensors.
    ///
    /// # Errors
    /// Where it cannot be found.
    pub fn torch(&self) -> Result<PathBuf, Failure> {
        self.find(TORCH)
    }

    /// Asks the worker that needs tensors. What it prints is not shown.
    ///
    /// # Errors
    /// Where it cannot be found or started, or has no answer.
    pub fn ask_torch<A: DeserializeOwned>(&self, question: &Question) -> Result<A, Failure> {
        let worker = self.find(TORCH)?;
        let folder = tempfile::tempdir()
            .map_err(|error| Failure::environment(format!("no temporary folder can be made: {error}")))?;
        let (asked, answered) = (folder.path().join("question.json"), folder.path().join("answer.json"));
        write_json(&asked, question)?;
        let output = Command::new(&worker).arg("ask").args([&asked, &answered]).stdin(Stdio::null()).output();
        let output = output.map_err(|error| {
            Failure::environment(format!("the worker {} does not start: {error}", worker.display())).with_hint(HINT)
        })?;
        let died = || {
            let said = String::from_utf8_lossy(&output.stderr);
            Failure::environment(format!(
                "the worker {} gave no answer ({}): {}",
                worker.display(),
                output.status,
                said.trim()
            ))
            .with_hint(HINT)
        };
        let answer = fs::read(&answered).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(died)?;
        match answer {
            Answer::Failed(failure) => Err(failure),
            Answer::Answered { answer } => serde_json::from_value(answer)
                .map_err(|error| Failure::internal(format!("the worker's answer is not one: {error}"))),
        }
    }

    /// Every worker that can be found, with what it says of itself.
    pub fn all(&self) -> Vec<(PathBuf, Result<Describe, Failure>)> {
        let found = [BASIC, TORCH].into_iter().filter_map(|name| self.find(name).ok());
        found.map(|path| (path.clone(), ask(&path))).collect()
    }

    fn find(&self, name: &str) -> Result<PathBuf, Failure> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
            let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
            Failure::environment(format!("the worker {name} is not installed: looked in {}", folders.join(", ")))
                .with_hint(HINT)
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, IndexMap<PathBuf, Known>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn describe(&self, path: &Path) -> Result<Describe, Failure> {
        let identity = identity(path)?;
        let mut known = self.known();
        if let Some(known) = known.get(path).filter(|known| known.identity == identity) {
            return Ok(known.describe.clone());
        }
        let describe = ask(path)?;
        known.insert(path.to_owned(), Known { identity, describe: describe.clone() });
        if let Err(failure) = write_json(&self.memory, &*known) {
            tracing::debug!("{failure}");
        }
        Ok(describe)
    }
}

fn fits(describe: &Describe, kind: Kind) -> bool {
    describe.protocol == PROTOCOL_VERSION && describe.kinds.get(&kind) == Some(&kind.version())
}

fn usual_folders() -> Vec<PathBuf> {
    let Ok(program) = std::env::current_exe().and_then(|path| path.canonicalize()) else { return Vec::new() };
    let Some(folder) = program.parent() else { return Vec::new() };
    vec![folder.to_owned(), folder.join("../libexec/neftpipe")]
}

fn ask(path: &Path) -> Result<Describe, Failure> {
    let fails = |why: String| {
        Failure::environment(format!("the worker {} does not start: {why}", path.display())).with_hint(HINT)
    };
    let output =
        Command::new(path).arg("describe").stdin(Stdio::null()).output().map_err(|error| fails(error.to_string()))?;
    if !output.status.success() {
        return Err(fails(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| fails(format!("its description is not one: {error}")))
}

fn identity(path: &Path) -> Result<[i64; 5], Failure> {
    let metadata = fs::metadata(path)
        .map_err(|error| Failure::environment(format!("the worker {} cannot be read: {error}", path.display())))?;
    Ok([metadata.ino() as i64, metadata.len() as i64, metadata.mtime(), metadata.mtime_nsec(), metadata.ctime()])
}

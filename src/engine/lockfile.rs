//! `<stem>.lock` beside a pipeline file: what its movable sources resolved to, and what is used from then on.
//!
//! JSON with sorted keys, so that it diffs well and can be committed. A source is named by what was asked for: the
//! source's text and its `select`, or where there is none what its files are said to be, which narrows them too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{ArtifactType, Failure, digest::canonical};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const VERSION: u32 = 1;

/// The lock file of one pipeline.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: PathBuf,
    /// What the file held.
    known: IndexMap<String, Value>,
    /// What sources resolved to in this run.
    ours: IndexMap<String, Value>,
    /// Whether what the file held is not to be gone by.
    is_refreshed: bool,
    is_new: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    sources: IndexMap<String, Value>,
}

impl LockFile {
    /// Reads the lock file of a pipeline file; an absent one is empty.
    ///
    /// # Errors
    /// Where it cannot be read or is not one.
    pub fn open(pipeline: &Path) -> Result<Self, Failure> {
        let path = pipeline.with_extension("lock");
        let known = read(&path)?.sources;
        Ok(Self { path, known, ours: IndexMap::new(), is_refreshed: false, is_new: false })
    }

    /// Takes in what others have resolved since; not after a refresh, which is to forget what was known.
    ///
    /// # Errors
    /// Where it cannot be read or is not one.
    pub fn reread(&mut self) -> Result<(), Failure> {
        if !self.is_refreshed {
            for (name, resolved) in read(&self.path)?.sources {
                self.known.entry(name).or_insert(resolved);
            }
        }
        Ok(())
    }

    /// What a source resolved to.
    pub fn get(&self, params: &DownloadParams) -> Option<&Value> {
        let name = name(params);
        self.ours.get(&name).or_else(|| self.known.get(&name).filter(|_| !self.is_refreshed))
    }

    /// Has every source resolved anew. What the file says of one stays there until that has come to something.
    pub fn refresh(&mut self) {
        self.is_refreshed = true;
    }

    /// Whether every source is resolved anew.
    pub fn is_refreshed(&self) -> bool {
        self.is_refreshed
    }

    /// Remembers what a source resolved to, until it is saved.
    pub fn set(&mut self, params: &DownloadParams, resolved: &Value) {
        let resolved = canonical(resolved);
        if self.get(params) != Some(&resolved) {
            self.ours.insert(name(params), resolved);
            self.is_new = true;
        }
    }

    /// Writes the file where something is new, with what others have written to it since.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&mut self) -> Result<(), Failure> {
        if self.is_new {
            let mut content = read(&self.path)?;
            content.sources.extend(self.ours.clone());
            content.sources.sort_keys();
            self.write(&content)?;
            self.is_new = false;
        }
        Ok(())
    }

    fn write(&self, content: &Content) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(content).expect("a lock file serialises");
        text.push(b'\n');
        let partial = self.path.with_extension(format!("lock.{}", std::process::id()));
        File::create(&partial)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&partial, &self.path))
            .map_err(|error| io_failure("write", &self.path, &error))
    }
}

fn read(path: &Path) -> Result<Content, Failure> {
    match fs::read(path) {
        Ok(bytes) => decode(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Content { version: VERSION, sources: IndexMap::new() })
        }
        Err(error) => Err(io_failure("read", path, &error)),
    }
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Content, Failure> {
    let refused = |why: String| {
        Failure::usage(format!("{}: not a lock file of this version: {why}", path.display()))
            .with_hint("restore it from version control, or remove it to resolve the sources anew")
    };
    let content: Content = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
    if content.version == VERSION { Ok(content) } else { Err(refused(format!("version {}", content.version))) }
}

fn name(params: &DownloadParams) -> String {
    match (params.select.0.as_slice(), params.said_to_be()) {
        ([], None) => params.from.clone(),
        ([], Some(artifact)) => format!("{} as {}", params.from, ArtifactType::from(artifact)),
        (globs, _) => format!("{} [{}]", params.from, globs.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::params::download::{DatasetFormat, DownloadAs};
    use serde_json::json;

    #[test]
    fn what_a_source_resolved_to_is_kept_and_the_file_is_stable() {
        let dir = tempfile::tempdir().unwrap();
        let pipeline = dir.path().join("sweep.yaml");
        let params = |from: &str| DownloadParams { from: from.to_owned(), ..DownloadParams::default() };
        let mut lock = LockFile::open(&pipeline).unwrap();
        let mut other = LockFile::open(&pipeline).unwrap();
        lock.set(&params("pypi:b==1"), &json!({"bytes": 2.0}));
        lock.save().unwrap();
        other.set(&params("pypi:a==1"), &json!({"bytes": 1}));
        other.save().unwrap();
        assert_eq!(lock.get(&params("pypi:a==1")), None);
        lock.reread().unwrap();
        assert_eq!(lock.get(&params("pypi:a==1")), Some(&json!({"bytes": 1})));
        let text = fs::read_to_string(dir.path().join("sweep.lock")).unwrap();
        assert!(text.find("pypi:a").unwrap() < text.find("pypi:b").unwrap());
        let again = LockFile::open(&pipeline).unwrap();
        assert_eq!(again.get(&params("pypi:b==1")), Some(&json!({"bytes": 2})));
        assert_eq!(again.get(&params("pypi:c==1")), None);
    }

    #[test]
    fn a_refresh_replaces_only_what_it_has_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let pipeline = dir.path().join("sweep.yaml");
        let [a, b] = ["hf:o/a", "hf:o/b"].map(|from| DownloadParams { from: from.to_owned(), ..Default::default() });
        let mut first = LockFile::open(&pipeline).unwrap();
        first.set(&a, &json!("a1"));
        first.set(&b, &json!("b1"));
        first.save().unwrap();
        let mut refreshed = LockFile::open(&pipeline).unwrap();
        refreshed.refresh();
        assert_eq!((refreshed.get(&a), refreshed.get(&b)), (None, None));
        refreshed.set(&a, &json!("a2"));
        refreshed.save().unwrap();
        assert_eq!((refreshed.get(&a), refreshed.get(&b)), (Some(&json!("a2")), None));
        let after = LockFile::open(&pipeline).unwrap();
        assert_eq!((after.get(&a), after.get(&b)), (Some(&json!("a2")), Some(&json!("b1"))));
    }

    #[test]
    fn one_repository_taken_in_two_ways_has_two_entries() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = LockFile::open(&dir.path().join("sweep.yaml")).unwrap();
        let rows =
            DownloadParams { from: "hf:a/b".to_owned(), format: Some(DatasetFormat::Alpaca), ..Default::default() };
        let files =
            DownloadParams { from: "hf:a/b".to_owned(), artifact: Some(DownloadAs::Files), ..Default::default() };
        lock.set(&rows, &json!(1));
        lock.set(&files, &json!(2));
        assert_eq!((lock.get(&rows), lock.get(&files)), (Some(&json!(1)), Some(&json!(2))));
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.lock"), "nonsense").unwrap();
        let error = LockFile::open(&dir.path().join("x.yaml")).unwrap_err();
        assert!(error.message.contains("x.lock"), "{error}");
    }
}

//! What planning must know of the world, from the store, the disk, the lock file and the environment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::{Digest, Failure, Kind};
use serde_json::Value;

use crate::engine::lockfile::LockFile;
use crate::local_files;
use crate::plan::{Facts, Found, Preimage};
use crate::spec::model::{Instance, Pipeline};
use crate::store::{Lookup, Store};

/// Earlier results of a stage that a miss is compared with.
const EARLIER: usize = 64;

/// Earlier results of one stage: the instance that made each, and what its key was made of.
type History = Arc<[(String, Preimage)]>;

/// Facts for one pipeline.
pub struct World<'a> {
    store: &'a Store,
    lock: Mutex<LockFile>,
    history: Mutex<HashMap<String, History>>,
    accepted: Vec<(Kind, u32)>,
    versions: HashMap<Kind, u32>,
}

impl<'a> World<'a> {
    /// The world of a pipeline.
    ///
    /// # Errors
    /// Where its lock file cannot be read.
    pub fn new(store: &'a Store, pipeline: &Pipeline) -> Result<Self, Failure> {
        let lock = Mutex::new(LockFile::open(&pipeline.file)?);
        Ok(Self { store, lock, history: Mutex::default(), accepted: Vec::new(), versions: HashMap::new() })
    }

    /// One in which results of these older implementations are taken as they are.
    #[must_use]
    pub fn accepting(self, accepted: Vec<(Kind, u32)>) -> Self {
        Self { accepted, ..self }
    }

    /// One in which the implementation of a kind is of another version than in this program.
    #[must_use]
    pub fn with_version(mut self, kind: Kind, version: u32) -> Self {
        self.versions.insert(kind, version);
        self
    }

    /// What movable sources resolved to; a run adds to it.
    pub fn lock(&self) -> MutexGuard<'_, LockFile> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Earlier results of a stage, as they were when they were first asked for.
    fn history(&self, stage: &str) -> History {
        let mut known = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(stage.to_owned()).or_insert_with(|| history(self.store, stage).into()))
    }
}

/// Earlier results of a stage, newest first, with the instance that made each.
pub fn history(store: &Store, stage: &str) -> Vec<(String, Preimage)> {
    let keys = store.history(stage, EARLIER).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Vec::new()
    });
    let entries = keys.iter().filter_map(|key| store.entry(key).ok().flatten());
    entries.filter_map(|entry| Some((entry.stage, serde_json::from_value(entry.preimage).ok()?))).collect()
}

impl Facts for World<'_> {
    fn lookup(&self, key: &Digest) -> Result<Found, Failure> {
        Ok(match self.store.lookup(key)? {
            Lookup::Hit(manifest) => Found::Hit(manifest.digests()),
            Lookup::Incomplete { missing, .. } => Found::Incomplete(outputs_lacking(&missing)),
            Lookup::Miss => Found::Miss,
        })
    }

    fn local_files(&self, base: &Path, from: &str, select: &[String]) -> Result<IndexMap<String, Digest>, Failure> {
        let root = base.join(from.strip_prefix("file:").unwrap_or(from));
        let files = local_files::of_source(&root, select)?;
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        let digests = self.store.digest_files(&paths)?;
        Ok(files.into_iter().map(|file| file.name).zip(digests).collect())
    }

    fn resolved(&self, params: &DownloadParams) -> Option<Value> {
        self.lock().get(params).cloned()
    }

    fn env(&self, name: &str) -> Option<Digest> {
        crate::env::named(name).map(|value| Digest::of(value.as_encoded_bytes()))
    }

    fn version(&self, kind: Kind) -> u32 {
        self.versions.get(&kind).copied().unwrap_or_else(|| kind.version())
    }

    fn accepted(&self, kind: Kind) -> Vec<u32> {
        self.accepted.iter().filter(|(of, _)| *of == kind).map(|(_, version)| *version).collect()
    }

    fn earlier(&self, instance: &Instance) -> Vec<Preimage> {
        let history = self.history(&instance.stage);
        history.iter().filter(|(id, _)| *id == instance.id).map(|(_, preimage)| preimage.clone()).collect()
    }
}

/// The outputs that lack files, given what is missing as `OUTPUT/PATH`.
pub fn outputs_lacking(missing: &[String]) -> Vec<String> {
    let mut names: Vec<String> = missing.iter().map(|file| file.split('/').next().unwrap_or(file).to_owned()).collect();
    names.dedup();
    names
}

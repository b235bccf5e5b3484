//! Entries: what is known of one key.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use neftpipe_protocol::Digest;
use neftpipe_protocol::artifact::Metrics;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Result, StoreError};
use super::files::{read_optional, sync_folder, write_atomic};
use super::identity::{Identity, Look};
use super::manifest::Manifest;
use super::{Artifact, ArtifactFile, Store, layout, lock_ignoring_poison};

/// Version of the record. Entries of another version are not read.
const FORMAT: u32 = 1;

/// Of the names of records.
const ENDING: &str = ".json";

/// A record that is asked for is marked as used when its mark is older than this.
const MARK_AFTER: Duration = Duration::from_secs(15 * 60);

/// Files of one artifact that are looked at on all cores: for 100,000 of them an eighth of a second less, on two.
const WORTH_ALL_CORES: usize = 256;

/// The record of one piece of work: what went into its key, what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the record.
    pub format: u32,
    /// The key.
    pub key: Digest,
    /// What the key is made of, so that a miss can be explained.
    pub preimage: Value,
    /// Name of what made it first: `train[variant=neft5,seed=0]`.
    pub stage: String,
    /// Artifacts by name of the output.
    pub outputs: Outputs,
    /// Figures that are the same for every run of the key.
    #[serde(default)]
    pub metrics: Metrics,
    /// Figures that were measured: rates, memory, `seconds`.
    #[serde(default)]
    pub measured: Metrics,
    /// Device, versions, threads, the run.
    #[serde(default)]
    pub provenance: Metrics,
    /// When it was made, UTC, RFC 3339.
    pub created: String,
}

/// Artifacts by name of the output.
pub type Outputs = IndexMap<String, Artifact>;

/// What the store has for a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// Everything.
    Hit(Arc<Manifest>),
    /// Nothing.
    Miss,
    /// The record, but not all of the files.
    Incomplete {
        /// What came out when it was made.
        manifest: Arc<Manifest>,
        /// The files that are missing, with the name of the output before their path.
        missing: Vec<String>,
    },
}

impl Entry {
    /// An entry made now.
    pub fn new(key: Digest, preimage: Value, stage: impl Into<String>, outputs: Outputs) -> Self {
        Self {
            format: FORMAT,
            key,
            preimage,
            stage: stage.into(),
            outputs,
            metrics: Metrics::new(),
            measured: Metrics::new(),
            provenance: Metrics::new(),
            created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

impl Store {
    /// What the store has for a key. A hit has every file, and each with the bytes that its digest says. One that was not
    /// asked for lately is marked as used, so that the collector knows.
    ///
    /// # Errors
    /// Where the store cannot be read. Damaged files are set aside and count as missing.
    pub fn lookup(&self, key: &Digest) -> Result<Lookup> {
        let Some(manifest) = self.manifest(key)? else { return Ok(Lookup::Miss) };
        let mut missing = Vec::new();
        for (name, artifact) in &manifest.outputs {
            for file in self.missing_files(artifact)? {
                missing.push(format!("{name}/{}", file.path));
            }
        }
        Ok(if missing.is_empty() { Lookup::Hit(manifest) } else { Lookup::Incomplete { manifest, missing } })
    }

    /// Size of what came out for a key, whether or not the files are here. The index is taken at its word.
    ///
    /// # Errors
    /// Where the record cannot be read.
    pub fn output_bytes(&self, key: &Digest) -> Result<Option<u64>> {
        let known = lock_ignoring_poison(&self.manifests).get_unchecked(key);
        let manifest = match known {
            Some(manifest) => Some(manifest),
            None => self.manifest(key)?,
        };
        Ok(manifest.map(|manifest| manifest.outputs.values().map(Artifact::bytes).sum()))
    }

    /// The part of a record that a lookup needs: from the index where the record is the one that was indexed.
    fn manifest(&self, key: &Digest) -> Result<Option<Arc<Manifest>>> {
        let Some(Look { identity, .. }) = self.look_at(layout::ENTRIES, key, ENDING)? else { return Ok(None) };
        // Bound first: in an `if let` the guard would live on while the body locks again.
        let known = lock_ignoring_poison(&self.manifests).get(key, &identity);
        let is_known = known.is_some();
        let manifest = match known {
            Some(manifest) => manifest,
            None => match self.entry(key)? {
                Some(entry) => Arc::new(Manifest::from(entry)),
                None => return Ok(None),
            },
        };
        let to_index = match self.mark_used(key, &identity) {
            Mark::Gone => return Ok(None),
            Mark::Made(marked) => marked.is_same_file(&identity).then_some(marked),
            Mark::NotMade => (!is_known && identity.is_settled(SystemTime::now())).then_some(identity),
        };
        if let Some(identity) = to_index {
            lock_ignoring_poison(&self.manifests).insert(identity, Arc::clone(&manifest));
        }
        Ok(Some(manifest))
    }

    /// The record of a key, whether or not its files are here.
    ///
    /// # Errors
    /// Where it cannot be read. A record that is damaged is set aside and counts as none.
    pub fn entry(&self, key: &Digest) -> Result<Option<Entry>> {
        let path = self.entry_path(key);
        match self.read_entry(&path, key) {
            Err(Unreadable::Damaged) => {
                self.set_aside(&path, "not a whole record of its key".to_owned());
                Ok(None)
            }
            Err(Unreadable::Store(error)) => Err(error),
            Ok(entry) => Ok(entry),
        }
    }

    pub(super) fn read_entry(&self, path: &Path, key: &Digest) -> std::result::Result<Option<Entry>, Unreadable> {
        let Some(bytes) = read_optional(path).map_err(Unreadable::Store)? else { return Ok(None) };
        decode(&bytes).filter(|entry| entry.key == *key).map(Some).ok_or(Unreadable::Damaged)
    }

    /// Done once in a while only, well within the collector's grace, and never while it collects: what was marked stays.
    fn mark_used(&self, key: &Digest, identity: &Identity) -> Mark {
        if identity.modified().elapsed().map_or(true, |passed| passed < MARK_AFTER) {
            return Mark::NotMade;
        }
        let path = self.entry_path(key);
        let marked = self.publishing().and_then(|_guard| touch(&path).map_err(StoreError::io("mark", &path)));
        match marked {
            Ok(metadata) => Mark::Made(Identity::of(&metadata)),
            Err(error) if error.is_not_found() => Mark::Gone,
            Err(error) => {
                tracing::debug!("{error}");
                Mark::NotMade
            }
        }
    }

    /// The keys of all records, sorted.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn keys(&self) -> Result<Vec<Digest>> {
        let mut keys = Vec::new();
        for path in self.fanned_files(layout::ENTRIES)? {
            keys.extend(path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Digest>().ok()));
        }
        Ok(keys)
    }

    /// Makes a result visible, and lasting. Its blobs must be in the store; a record of the same key is replaced.
    ///
    /// # Errors
    /// Where it cannot be written. Then nothing is visible, or what is may be gone after a power cut.
    pub fn publish(&self, entry: &Entry) -> Result<()> {
        let path = self.entry_path(&entry.key);
        write_atomic(&self.path(layout::TMP), &path, &encode(entry))?;
        // Together and last: the first makes most file systems write what the others would.
        let blobs =
            entry.outputs.values().flat_map(|artifact| &artifact.files).map(|file| self.blob_path(&file.digest));
        let folders: BTreeSet<PathBuf> =
            blobs.chain([path]).filter_map(|path| Some(path.parent()?.to_owned())).collect();
        folders.iter().try_for_each(|folder| sync_folder(folder))
    }

    /// Removes the record of a key. Its blobs stay until they are collected.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget(&self, key: &Digest) -> Result<()> {
        super::files::remove_file(&self.entry_path(key))
    }

    /// The files of an artifact that the store does not have.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn missing_files<'a>(&self, artifact: &'a Artifact) -> Result<Vec<&'a ArtifactFile>> {
        let if_missing = |file: &'a ArtifactFile| self.has_blob(file).map(|is_there| (!is_there).then_some(file));
        let looks: Result<Vec<_>> = if artifact.files.len() < WORTH_ALL_CORES {
            artifact.files.iter().map(if_missing).collect()
        } else {
            artifact.files.par_iter().map(if_missing).collect()
        };
        Ok(looks?.into_iter().flatten().collect())
    }

    pub(super) fn entry_path(&self, key: &Digest) -> PathBuf {
        self.fanned(layout::ENTRIES, key, ENDING)
    }
}

/// What became of marking a record as used.
enum Mark {
    /// It was marked lately, or cannot be.
    NotMade,
    /// It is marked, and has this identity now.
    Made(Identity),
    /// It was collected meanwhile.
    Gone,
}

fn touch(path: &Path) -> std::io::Result<Metadata> {
    let file = File::open(path)?;
    file.set_modified(SystemTime::now())?;
    file.metadata()
}

/// Why a record cannot be had.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The store cannot be read.
    Store(StoreError),
    /// It is not what was written.
    Damaged,
}

/// The record on one line, and on a second one the digest of the first as a JSON string.
fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(entry).expect("entries serialise");
    let seal = Digest::of(&bytes);
    bytes.extend(format!("\n\"{seal}\"\n").bytes());
    bytes
}

/// The record, if its seal is whole, its version is ours and its artifacts are sound.
fn decode(bytes: &[u8]) -> Option<Entry> {
    let split = bytes.iter().position(|&byte| byte == b'\n')?;
    let (record, seal) = bytes.split_at(split);
    if seal != format!("\n\"{}\"\n", Digest::of(record)).as_bytes() {
        return None;
    }
    let entry: Entry = serde_json::from_slice(record).ok()?;
    (entry.format == FORMAT && entry.outputs.values().all(Artifact::is_sound)).then_some(entry)
}

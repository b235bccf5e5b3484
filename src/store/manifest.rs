//! What a lookup needs of an entry, and an index of it: so that a run over thousands of results reads one file.
//!
//! An index record counts only for the entry file with the identity that it was made from.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use neftpipe_protocol::{ArtifactType, Digest};
use serde_json::Value;

use super::identity::Identity;
use super::log::Log;
use super::{Artifact, ArtifactFile, Entry, Outputs};

const HEADER: &[u8; 8] = b"nf-manif";

/// What came out of a piece of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The key.
    pub key: Digest,
    /// Artifacts by name of the output.
    pub outputs: Outputs,
    /// Time that making it took.
    pub seconds: f64,
}

impl Manifest {
    /// Digests of the outputs by name.
    pub fn digests(&self) -> IndexMap<String, Digest> {
        self.outputs.iter().map(|(name, artifact)| (name.clone(), artifact.digest)).collect()
    }
}

impl From<Entry> for Manifest {
    fn from(entry: Entry) -> Self {
        let seconds = entry.measured.get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
        Self { key: entry.key, outputs: entry.outputs, seconds }
    }
}

/// Manifests by key, with the identity of the entry file that each was read from.
#[derive(Debug)]
pub struct Manifests {
    known: HashMap<Digest, (Identity, Arc<Manifest>)>,
    log: Log,
}

impl Manifests {
    /// What the file holds; nothing where it cannot be read.
    pub fn load(path: &Path) -> Self {
        let mut known = HashMap::new();
        let log = Log::load(path.to_owned(), HEADER, |record| {
            if let Some((identity, manifest)) = decode(record) {
                known.insert(manifest.key, (identity, Arc::new(manifest)));
            }
        });
        Self { known, log }
    }

    /// The manifest of a key, if it was read from the entry file with this identity.
    pub fn get(&self, key: &Digest, identity: &Identity) -> Option<Arc<Manifest>> {
        let (known, manifest) = self.known.get(key)?;
        (known == identity).then(|| Arc::clone(manifest))
    }

    /// What was last read for a key, whether or not it is still so.
    pub fn get_unchecked(&self, key: &Digest) -> Option<Arc<Manifest>> {
        self.known.get(key).map(|(_, manifest)| Arc::clone(manifest))
    }

    /// Remembers a manifest.
    pub fn insert(&mut self, identity: Identity, manifest: Arc<Manifest>) {
        self.log.push(&encode(&identity, &manifest));
        self.known.insert(manifest.key, (identity, manifest));
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let known = &self.known;
        self.log.flush(known.len(), |push| {
            known.values().for_each(|(identity, manifest)| push(&encode(identity, manifest)))
        })
    }
}

fn encode(identity: &Identity, manifest: &Manifest) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    identity.encode(&mut out);
    out.extend(manifest.key.as_bytes());
    out.extend(manifest.seconds.to_le_bytes());
    put_count(&mut out, manifest.outputs.len());
    for (name, artifact) in &manifest.outputs {
        put_text(&mut out, name);
        put_text(&mut out, &artifact.artifact_type.to_string());
        out.extend(artifact.digest.as_bytes());
        put_count(&mut out, artifact.files.len());
        for file in &artifact.files {
            put_text(&mut out, &file.path);
            out.extend(file.bytes.to_le_bytes());
            out.extend(file.digest.as_bytes());
        }
    }
    out
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend(text.as_bytes());
}

fn decode(record: &[u8]) -> Option<(Identity, Manifest)> {
    let (identity, rest) = Identity::decode(record)?;
    let mut reader = Reader(rest);
    let key = reader.digest()?;
    let seconds = f64::from_le_bytes(reader.chunk()?);
    let count = reader.number()?;
    let mut outputs = Outputs::with_capacity(usize::try_from(count).ok()?.min(reader.0.len()));
    for _ in 0..count {
        let name = reader.text()?;
        let artifact_type: ArtifactType = serde_json::from_value(Value::String(reader.text()?)).ok()?;
        let digest = reader.digest()?;
        let files = (0..reader.number()?).map(|_| reader.file()).collect::<Option<Vec<_>>>()?;
        outputs.insert(name, Artifact { artifact_type, digest, files });
    }
    reader.0.is_empty().then_some((identity, Manifest { key, outputs, seconds }))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn number(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn digest(&mut self) -> Option<Digest> {
        self.chunk().map(|bytes| blake3::Hash::from_bytes(bytes).into())
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn file(&mut self) -> Option<ArtifactFile> {
        Some(ArtifactFile { path: self.text()?, bytes: self.number()?, digest: self.digest()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_cut_short_is() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::of(&folder.path().metadata().unwrap());
        let file = |path: &str| ArtifactFile { path: path.to_owned(), bytes: 3, digest: Digest::of(path.as_bytes()) };
        let outputs = Outputs::from([
            ("tokens".to_owned(), Artifact::new(ArtifactType::Tokens, vec![file("a"), file("b/ü")])),
            ("heldout".to_owned(), Artifact::new(ArtifactType::Prompts, Vec::new())),
        ]);
        let manifest = Manifest { key: Digest::of(b"k"), outputs, seconds: 1.5 };
        let record = encode(&identity, &manifest);
        assert_eq!(decode(&record), Some((identity, manifest)));
        assert!((0..record.len()).all(|length| decode(&record[..length]).is_none()));
    }
}

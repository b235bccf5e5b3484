//! What the store's folders hold, for people who wonder where their disk went.

use serde::Serialize;

use super::files::held_in;
use super::{Store, layout};

/// A part of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// What it holds.
    pub name: &'static str,
    /// Files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// Parts of the store, and the folders that hold them.
const PARTS: [(&str, &[&str]); 8] = [
    ("results", &[layout::BLOBS]),
    ("views", &[layout::VIEWS]),
    ("records", &[layout::ENTRIES, layout::HISTORY, layout::IDENTITIES, layout::MANIFESTS]),
    ("runs", &[layout::RUNS]),
    ("states", &[layout::STATES]),
    ("rows", &[layout::ROWS]),
    ("unfinished", &[layout::ATTEMPTS, layout::PARTIAL, layout::TMP]),
    ("damaged", &[layout::CORRUPT]),
];

impl Store {
    /// What each part of the store holds. What cannot be read, or goes while it is looked at, is left out.
    pub fn usage(&self) -> Vec<Usage> {
        let part = |(name, folders): (&'static str, &[&str])| {
            folders.iter().map(|folder| held_in(&self.path(folder))).fold(
                Usage { name, files: 0, bytes: 0 },
                |sum, (files, bytes)| Usage { files: sum.files + files, bytes: sum.bytes + bytes, ..sum },
            )
        };
        PARTS.into_iter().map(part).collect()
    }
}

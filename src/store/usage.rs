//! What the store's folders hold, for people who wonder where their disk went.

use std::path::Path;

use serde::Serialize;
use walkdir::WalkDir;

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
            let (files, bytes) = folders.iter().map(|folder| held(&self.path(folder))).fold((0, 0), add);
            Usage { name, files, bytes }
        };
        PARTS.into_iter().map(part).collect()
    }
}

/// Files below a path and their size. A link counts for itself, not for what it leads to.
fn held(path: &Path) -> (u64, u64) {
    let files = WalkDir::new(path).into_iter().flatten().filter(|item| item.file_type().is_file());
    files.filter_map(|item| item.metadata().ok()).map(|metadata| (1, metadata.len())).fold((0, 0), add)
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

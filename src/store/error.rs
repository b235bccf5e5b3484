//! What can go wrong in the store, with the path where it did.

use std::io;
use std::path::{Path, PathBuf};

use neftpipe_protocol::{Failure, FailureClass};

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A stage left something that no artifact can hold.
    #[error("{}: {problem}", path.display())]
    Unstorable {
        /// What it is.
        path: PathBuf,
        /// Why it cannot be stored.
        problem: &'static str,
    },
    /// A file changed while it was being read.
    #[error("{} changed while it was being read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The store was written by another version.
    #[error("the store {} has layout {found}; this version works with layout {wanted}", path.display())]
    Layout {
        /// The store.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is wanted.
        wanted: u32,
    },
    /// An artifact was asked for of which blobs are missing.
    #[error("{missing} files of the artifact {artifact} are not in the store, {first} first")]
    Incomplete {
        /// Short digest of the artifact.
        artifact: String,
        /// How many.
        missing: usize,
        /// Path of the first.
        first: String,
    },
}

impl StoreError {
    /// Turns an I/O error on this path into a store error.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the error says that there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Io { source, .. } => {
                let failure = Self::environment(message);
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failure
                        .with_hint("free some space (`neftpipe gc --dry-run` says what it could drop) and run again"),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                        failure.with_hint("choose a store that can be written with `--store DIR`")
                    }
                    _ => failure,
                }
            }
            StoreError::Unstorable { .. } => Self::data(message),
            StoreError::Changed { .. } => Self::data(message).with_hint("run again once nothing writes to it any more"),
            StoreError::Layout { .. } => Self::environment(message)
                .with_hint("use the version that wrote it, or delete the folder: everything in it can be made again"),
            StoreError::Incomplete { .. } => Self::new(FailureClass::Environment, message)
                .with_hint("run the pipeline again: it makes what is missing"),
        }
    }
}

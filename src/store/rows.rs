//! Rows that outlive the stage that made them: an append-only file of whole lines for each scope.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
use super::files::ensure_parent;
use super::{Store, layout};

impl Store {
    /// Adds whole lines to the rows of a scope, in one write, so that lines of two processes do not mix.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn append_rows(&self, scope: &Digest, lines: &[u8]) -> Result<()> {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\n"), "rows are whole lines");
        let path = self.rows_path(scope);
        ensure_parent(&path)?;
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(lines))
            .map_err(StoreError::io("write", &path))
    }

    /// Copies the rows of a scope as they are now. Says whether there are any.
    ///
    /// # Errors
    /// Where they cannot be copied.
    pub fn copy_rows(&self, scope: &Digest, to: &Path) -> Result<bool> {
        match fs::copy(self.rows_path(scope), to) {
            Ok(bytes) => Ok(bytes > 0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("write", to)(error)),
        }
    }

    /// The rows of a scope as they are now.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn rows(&self, scope: &Digest) -> Result<Vec<u8>> {
        Ok(super::files::read_optional(&self.rows_path(scope))?.unwrap_or_default())
    }

    fn rows_path(&self, scope: &Digest) -> PathBuf {
        self.fanned(layout::ROWS, scope, ".jsonl")
    }
}

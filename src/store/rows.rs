//! Rows that outlive the stage that made them: an append-only file of whole lines for each scope.
//!
//! Each line stands behind a seal, which is made of the scope and the line. What was damaged, cut short or written for
//! another scope does not match its seal, and is passed over: a row is never served that was not put there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
use super::files::{ensure_parent, read_optional};
use super::{Store, layout};

/// Hex digits of a seal.
const SEAL_CHARS: usize = 16;

impl Store {
    /// Adds whole lines to the rows of a scope, in one write, so that lines of two processes do not mix.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn append_rows(&self, scope: &Digest, lines: &[u8]) -> Result<()> {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\n"), "rows are whole lines");
        let path = self.rows_path(scope);
        ensure_parent(&path)?;
        let mut sealed = vec![b'\n']; // ends a line that somebody who was killed left unfinished
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            sealed.extend(seal(scope, line).bytes());
            sealed.push(b' ');
            sealed.extend(line);
        }
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&sealed))
            .map_err(StoreError::io("write", &path))
    }

    /// Copies the rows of a scope as they are now. Says whether there are any.
    ///
    /// # Errors
    /// Where they cannot be copied.
    pub fn copy_rows(&self, scope: &Digest, to: &Path) -> Result<bool> {
        let rows = self.rows(scope)?;
        if !rows.is_empty() {
            fs::write(to, &rows).map_err(StoreError::io("write", to))?;
        }
        Ok(!rows.is_empty())
    }

    /// The rows of a scope as they are now.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn rows(&self, scope: &Digest) -> Result<Vec<u8>> {
        let sealed = read_optional(&self.rows_path(scope))?.unwrap_or_default();
        let lines = sealed.split_inclusive(|&byte| byte == b'\n').filter_map(|line| unsealed(scope, line));
        Ok(lines.flatten().copied().collect())
    }

    fn rows_path(&self, scope: &Digest) -> PathBuf {
        self.fanned(layout::ROWS, scope, ".jsonl")
    }
}

fn seal(scope: &Digest, line: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(scope.as_bytes()).update(line);
    hasher.finalize().to_hex()[..SEAL_CHARS].to_owned()
}

/// The line behind a seal, if it is whole and of this scope.
fn unsealed<'a>(scope: &Digest, line: &'a [u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(SEAL_CHARS)?;
    let line = rest.strip_prefix(b" ")?;
    (line.ends_with(b"\n") && found == seal(scope, line).as_bytes()).then_some(line)
}

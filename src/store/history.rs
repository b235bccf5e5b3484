//! Which keys a stage had before, newest last: what a miss is explained against.
//!
//! An index only: a line that is lost or damaged costs an explanation, never a result.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
use super::files::{read_optional, remove_file, write_atomic};
use super::{Entry, Store, layout};

const LINE_BYTES: u64 = 65;

impl Store {
    /// Keys that were published for a stage (the name before any `[`), newest first, at most `limit`.
    ///
    /// # Errors
    /// Where the index is there but cannot be read.
    pub fn history(&self, stage: &str, limit: usize) -> Result<Vec<Digest>> {
        let path = self.history_path(stage);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let mut text = Vec::new();
        file.seek(SeekFrom::End(0))
            .and_then(|end| file.seek(SeekFrom::Start(end.saturating_sub(limit as u64 * LINE_BYTES))))
            .and_then(|_| file.read_to_end(&mut text))
            .map_err(StoreError::io("read", &path))?;
        let mut keys = Vec::new();
        for line in String::from_utf8_lossy(&text).lines().rev() {
            if let Ok(key) = line.parse()
                && !keys.contains(&key)
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Adds a published result to the history of its stage.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember_history(&self, entry: &Entry) -> Result<()> {
        let path = self.history_path(&entry.stage);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{}\n", entry.key).as_bytes()))
            .map_err(StoreError::io("write", &path))
    }

    /// Drops the keys that are not among these from one history.
    pub(super) fn retain_history(&self, path: &Path, live: &HashSet<Digest>) -> Result<()> {
        let text = String::from_utf8_lossy(&read_optional(path)?.unwrap_or_default()).into_owned();
        let is_live = |line: &&str| line.parse().is_ok_and(|key| live.contains(&key));
        let kept: String = text.lines().filter(is_live).map(|line| format!("{line}\n")).collect();
        match kept.len() {
            length if length == text.len() => Ok(()),
            0 => remove_file(path),
            _ => write_atomic(&self.path(layout::TMP), path, kept.as_bytes()),
        }
    }

    fn history_path(&self, stage: &str) -> PathBuf {
        let name = stage.split('[').next().unwrap_or(stage);
        self.path(layout::HISTORY).join(Digest::of(name.as_bytes()).to_string())
    }
}

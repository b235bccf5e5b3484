//! Which keys a stage had before, newest last: what a miss is explained against.
//!
//! An index only: a line that is lost or damaged costs an explanation, never a result.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
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

    pub(super) fn remember_history(&self, entry: &Entry) -> Result<()> {
        let path = self.history_path(&entry.stage);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{}\n", entry.key).as_bytes()))
            .map_err(StoreError::io("write", &path))
    }

    fn history_path(&self, stage: &str) -> PathBuf {
        let name = stage.split('[').next().unwrap_or(stage);
        self.path(layout::HISTORY).join(Digest::of(name.as_bytes()).to_string())
    }
}

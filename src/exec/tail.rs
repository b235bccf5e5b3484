//! Reading a log of JSON lines while it is being written: the events of a worker, the journal of a run.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

/// A line longer than this is no event.
const LONGEST_LINE_BYTES: usize = 64 << 20;

/// A log that may grow.
#[derive(Debug)]
pub struct Tail {
    file: Option<File>,
    cut: Vec<u8>,
}

impl Tail {
    /// Opens the log, which must exist; without it nothing is heard.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).ok(); // a shell command keeps no events
        Self { file, cut: Vec::new() }
    }

    /// Hands on the events whose lines were completed since the last call.
    pub fn read<E: DeserializeOwned>(&mut self, observe: &mut dyn FnMut(E)) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.read_to_end(&mut self.cut) {
            tracing::debug!("event log: {error}");
        }
        let Some(end) = self.cut.iter().rposition(|&byte| byte == b'\n') else {
            if self.cut.len() > LONGEST_LINE_BYTES {
                self.cut.clear();
            }
            return;
        };
        for line in self.cut[..end].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(event) => observe(event),
                Err(error) => tracing::debug!("event log: a line that is no event: {error}"),
            }
        }
        self.cut.drain(..=end);
    }
}

//! Reading the event log of a worker while it is being written.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use neftpipe_protocol::event::Event;

/// A line longer than this is no event.
const LONGEST_LINE_BYTES: usize = 64 << 20;

/// The event log of one attempt.
pub struct Tail {
    file: Option<File>,
    cut: Vec<u8>,
}

impl Tail {
    /// Opens the log, which must exist; without it nothing is heard of the worker but its result.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).ok(); // a shell command keeps no events
        Self { file, cut: Vec::new() }
    }

    /// Hands on the events that were completed since the last call.
    pub fn read(&mut self, observe: &mut dyn FnMut(Event)) {
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

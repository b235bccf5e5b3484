//! What a program printed, in files of its attempt directory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What the program printed.
pub const STDOUT_FILE: &str = "stdout.log";
/// What it printed as errors and logs.
pub const STDERR_FILE: &str = "stderr.log";

const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// The message, and below it what a program printed last, by its logs in this folder: of stderr, or of stdout where stderr
/// is empty.
pub fn with_last_lines(message: String, logs: &Path) -> String {
    let stderr = tail(&logs.join(STDERR_FILE));
    let lines = if stderr.is_empty() { tail(&logs.join(STDOUT_FILE)) } else { stderr };
    if lines.is_empty() { message } else { format!("{message}; it last printed:\n{lines}") }
}

fn tail(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES)))?;
        file.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        tracing::debug!("{}: {error}", path.display());
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

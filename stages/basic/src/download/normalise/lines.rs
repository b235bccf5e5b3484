//! A JSON-lines file in the making: counts, a limit, progress, and obedience when asked to stop.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::{Job, io_failure};
use serde::Serialize;

use crate::download::Halt;

/// Rows between two words about progress.
const PROGRESS_ROWS: u64 = 10_000;

/// The file.
pub struct Lines<'a> {
    job: &'a Job,
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    limit: Option<u64>,
}

impl<'a> Lines<'a> {
    /// An empty file that takes at most `limit` rows.
    ///
    /// # Errors
    /// Where it cannot be created.
    pub fn create(job: &'a Job, path: PathBuf, limit: Option<u64>) -> Result<Self, Failure> {
        let file = File::create(&path).map_err(|error| io_failure("write", &path, &error))?;
        Ok(Self { job, path, file: BufWriter::new(file), written: 0, limit })
    }

    /// Appends a row; breaks where no more are wanted, or the worker is asked to stop.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write<T: Serialize>(&mut self, row: &T) -> Result<ControlFlow<()>, Failure> {
        let failure = |error: std::io::Error| io_failure("write", &self.path, &error);
        serde_json::to_writer(&mut self.file, row).map_err(|error| failure(error.into()))?;
        self.file.write_all(b"\n").map_err(failure)?;
        self.written += 1;
        if self.written.is_multiple_of(PROGRESS_ROWS) {
            self.job.progress(self.written, self.limit, "rows", None);
        }
        let enough = self.limit.is_some_and(|limit| self.written >= limit);
        Ok(if enough || self.job.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Rows so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Ends the work where the worker was asked to stop.
    pub fn check_stop(&self) -> Result<(), Halt> {
        if self.job.should_stop() { Err(Halt::Interrupted) } else { Ok(()) }
    }

    /// Writes what is buffered and returns the number of rows.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> Result<u64, Failure> {
        self.file.flush().map_err(|error| io_failure("write", &self.path, &error))?;
        self.job.progress(self.written, Some(self.written), "rows", None);
        Ok(self.written)
    }
}

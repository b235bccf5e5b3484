//! `download`: brings files from a source and turns them into one artifact of a known shape.
//!
//! Two halves that do not know each other: [`source`] brings files and says what a movable source resolved to,
//! [`normalise`] says what the files are and writes the artifact. The output is called `output`.

mod normalise;
mod rows;
mod source;

use std::fs;
use std::path::Path;

use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::worker::{Job, Outcome, io_failure, provenance};
use neftpipe_protocol::{Failure, FailureClass};

/// Name of the one output.
pub const OUTPUT: &str = "output";

/// Why the work on a download ended early.
#[derive(Debug)]
enum Halt {
    /// The worker was asked to stop.
    Interrupted,
    /// It failed.
    Failed(Failure),
}

impl<T: Into<Failure>> From<T> for Halt {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// Carries out one download.
///
/// # Errors
/// What a person should read: a source that is not there (environment), files that are not what they should be (data).
pub fn execute(job: &Job) -> Result<Outcome, Failure> {
    match bring(job) {
        Ok(success) => Ok(Outcome::Succeeded(Box::new(success))),
        Err(Halt::Interrupted) => Ok(Outcome::Interrupted),
        Err(Halt::Failed(failure)) => Err(failure),
    }
}

fn bring(job: &Job) -> Result<Success, Halt> {
    let partial = job.request.partial.as_ref();
    let brought = bring_into(job, &job.request.attempt.join("fetched"));
    // What was refused is not gone on from: it would be refused again.
    let is_refused = |halt: &Halt| matches!(halt, Halt::Failed(failure) if failure.class == FailureClass::Data);
    if let (Some(partial), true) = (partial, brought.as_ref().err().is_none_or(is_refused)) {
        fs::remove_dir_all(partial).map_err(|error| io_failure("remove", partial, &error))?;
    }
    brought
}

fn bring_into(job: &Job, scratch: &Path) -> Result<Success, Halt> {
    let params: DownloadParams = job.params()?;
    fs::create_dir_all(scratch).map_err(|error| io_failure("create", scratch, &error))?;
    let fetched = source::fetch(&source::Fetch::new(job, &params, scratch.to_owned(), normalise::narrow))?;
    let out = job.output(OUTPUT)?;
    let normalised = normalise::run(job, &params, &fetched.files, &out)?;
    fs::remove_dir_all(scratch).map_err(|error| io_failure("remove", scratch, &error))?;
    let mut measured = fetched.measured;
    measured.extend(normalised.figures.measured);
    Ok(Success {
        outputs: [(OUTPUT.to_owned(), normalised.artifact)].into_iter().collect(),
        metrics: normalised.figures.metrics,
        measured,
        provenance: provenance(crate::NAME, crate::VERSION, job.request.threads),
        resolved: fetched.resolved.map(|resolved| resolved.to_value()),
    })
}

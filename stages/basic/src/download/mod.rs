//! `download`: brings files from a source and turns them into one artifact of a known shape.
//!
//! Two halves that do not know each other: [`source`] brings files and says what a movable source resolved to,
//! [`normalise`] says what the files are and writes the artifact. The output is called `output`.

mod normalise;
mod rows;
mod source;

use std::fs;

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::worker::{Job, Outcome, io_failure, provenance};

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
    let params: DownloadParams = job.params()?;
    let scratch = job.request.attempt.join("fetched");
    fs::create_dir_all(&scratch).map_err(|error| io_failure("create", &scratch, &error))?;
    let fetched = source::fetch(&source::Fetch::new(job, &params, scratch.clone(), normalise::narrow))?;
    let out = job.output(OUTPUT)?;
    let normalised = normalise::run(job, &params, &fetched.files, &out)?;
    fs::remove_dir_all(&scratch).map_err(|error| io_failure("remove", &scratch, &error))?;
    Ok(Success {
        outputs: [(OUTPUT.to_owned(), normalised.artifact)].into_iter().collect(),
        metrics: normalised.metrics,
        measured: fetched.measured,
        provenance: provenance(crate::NAME, crate::VERSION, job.request.threads),
        resolved: fetched.resolved.map(|resolved| resolved.to_value()),
    })
}

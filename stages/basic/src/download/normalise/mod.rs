//! Normalising: what files are, and the artifact that is made of them.
//!
//! Every artifact type has a module. None of them knows where the files came from.

mod adapter;
mod answers;
mod dataset;
mod formats;
mod gguf;
mod identify;
mod lines;
mod model;
mod place;
mod prompts;
mod shards;

use std::path::Path;

use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::params::download::DownloadAs;
use neftpipe_protocol::worker::Job;
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::Value;

use super::Halt;
use super::source::SourceFile;
pub use identify::narrow;

/// A written artifact.
#[derive(Debug)]
pub struct Normalised {
    /// What it is.
    pub artifact: ArtifactType,
    /// Its figures.
    pub figures: Figures,
}

/// Figures of an artifact.
#[derive(Debug, Default)]
pub struct Figures {
    /// What the same rows always give.
    pub metrics: Metrics,
    /// What also tells which files they came in.
    pub measured: Metrics,
}

impl From<Metrics> for Figures {
    fn from(metrics: Metrics) -> Self {
        Self { metrics, measured: Metrics::new() }
    }
}

/// Writes the artifact that these files are into `out`.
///
/// # Errors
/// Files that are not what they should be (data), or a disk that does not take them (environment).
pub fn run(job: &Job, params: &DownloadParams, files: &[SourceFile], out: &Path) -> Result<Normalised, Halt> {
    let artifact = identify::identify(params, files)?;
    let figures = match artifact {
        DownloadAs::Model => model::write(job, files, out)?.into(),
        DownloadAs::Dataset => dataset::write(job, params, files, out)?,
        DownloadAs::Prompts => prompts::write(job, params, files, out)?.into(),
        DownloadAs::Adapter => adapter::write(files, out)?.into(),
        DownloadAs::Answers => answers::write(job, params, files, out)?.into(),
        DownloadAs::Files => copy_all(job, files, out)?.into(),
    };
    Ok(Normalised { artifact: artifact.into(), figures })
}

fn copy_all(job: &Job, files: &[SourceFile], out: &Path) -> Result<Metrics, Halt> {
    let mut bytes = 0;
    for file in files {
        if job.should_stop() {
            return Err(Halt::Interrupted);
        }
        bytes += place::put(file, out, &file.name)?;
    }
    Ok(figures([("files", Value::from(files.len())), ("bytes", Value::from(bytes))]))
}

fn figures<const N: usize>(pairs: [(&str, Value); N]) -> Metrics {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Names of files for a message.
fn list(files: &[SourceFile]) -> String {
    const SHOWN: usize = 8;
    let names: Vec<_> = files.iter().take(SHOWN).map(|file| format!("`{}`", file.name)).collect();
    let more = files.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// The failure of files that lack what an artifact needs.
fn lacking(what: &str, files: &[SourceFile]) -> Failure {
    Failure::data(format!("{what} is missing; there is {}", list(files)))
}

//! Sources: where files come from.
//!
//! Every source ends in a list of [`SourceFile`]s on this machine. A movable source (all but `file:`) also says what it
//! resolved to; given that again, exactly those bytes are brought or the stage fails. Nothing here knows what the files mean.

mod client;
mod http;
mod hub;
mod hub_cache;
mod local;
mod pypi;
mod resolved;
mod select;
mod transfer;

use std::path::{Path, PathBuf};

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::params::download::DownloadAs;
use neftpipe_protocol::source::Source;
use neftpipe_protocol::worker::Job;
use serde_json::Value;

use super::Halt;
pub use resolved::Resolved;
use resolved::ResolvedFile;
use select::Selection;

/// A file that was brought.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path inside the source, with `/`.
    pub name: String,
    /// Where it lies now.
    pub path: PathBuf,
    /// Whether it is the attempt's own, so that it may be moved instead of copied.
    pub ours: bool,
}

/// What a source yielded.
#[derive(Debug)]
pub struct Fetched {
    /// The selected files, sorted by name.
    pub files: Vec<SourceFile>,
    /// What a movable source resolved to.
    pub resolved: Option<Resolved>,
    /// Measured figures: bytes that went over the network.
    pub measured: Metrics,
}

/// What a source needs to know of the stage.
pub struct Fetch<'a> {
    job: &'a Job,
    params: &'a DownloadParams,
    /// Folder of the attempt for what is downloaded.
    scratch: PathBuf,
    /// Chooses among the files of a repository where `select` does not.
    narrow: Narrow,
}

/// Chooses among the names of a repository's files those that an artifact needs: source, what it is wanted as, names.
pub type Narrow = fn(&str, Option<DownloadAs>, &[String]) -> Result<Vec<String>, Failure>;

impl<'a> Fetch<'a> {
    /// For one stage.
    pub fn new(job: &'a Job, params: &'a DownloadParams, scratch: PathBuf, narrow: Narrow) -> Self {
        Self { job, params, scratch, narrow }
    }

    /// Where what comes over HTTP goes: a folder that outlives the attempt where the runner has one.
    fn downloads(&self) -> &Path {
        self.job.request.partial.as_deref().unwrap_or(&self.scratch)
    }

    fn offline(&self) -> bool {
        self.job.request.offline
    }

    fn selection(&self) -> Result<Selection, Failure> {
        Selection::new(&self.params.select.0)
    }

    /// What an earlier run resolved this source to.
    fn resolved(&self) -> Result<Option<Resolved>, Failure> {
        let Some(value) = &self.job.request.resolved else { return Ok(None) };
        Resolved::from_value(value, &self.params.from).map(Some)
    }

    /// Fails where the one file that was brought has not the wanted checksum.
    fn check_sha256(&self, files: &[ResolvedFile]) -> Result<(), Failure> {
        let Some(wanted) = &self.params.sha256 else { return Ok(()) };
        match files {
            [file] => file.check_sha256(wanted),
            _ => Err(Failure::usage(format!(
                "sha256: {} is {} files, and the checksum is of one",
                self.params.from,
                files.len()
            ))
            .with_hint("narrow `select` to one file, or leave `sha256` out: the lock file pins every file")),
        }
    }
}

/// Brings the selected files of the stage's source.
///
/// # Errors
/// A source that is absent or cannot be reached (environment), or whose files are not the expected ones (data).
pub fn fetch(fetch: &Fetch) -> Result<Fetched, Halt> {
    let mut fetched = match Source::parse(&fetch.params.from).map_err(|why| Failure::usage(format!("from: {why}")))? {
        Source::Local(path) => local::fetch(fetch, &path)?,
        Source::Http(url) => http::fetch(fetch, &url)?,
        Source::Pypi { name, version } => pypi::fetch(fetch, &name, &version)?,
        Source::Hub(repo) => hub::fetch(fetch, &repo)?,
    };
    fetched.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(fetched)
}

/// The figure of bytes that went over the network.
fn measured(downloaded_bytes: u64) -> Metrics {
    [("downloaded_bytes".to_owned(), Value::from(downloaded_bytes))].into_iter().collect()
}

//! One address into one file: resumed where a connection or an earlier attempt broke off, digested on the way, compared
//! with what is known of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::{Job, io_failure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::client::{Client, Get, HttpError, Stopped, Trouble, with_retries};
use super::resolved::ResolvedFile;
use crate::download::Halt;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 17;

/// How far all transfers of a stage are, for progress.
pub struct Meter<'a> {
    job: &'a Job,
    total_bytes: Option<u64>,
    done_bytes: u64,
    resumed_bytes: u64,
    shown: Option<Instant>,
}

impl<'a> Meter<'a> {
    /// Nothing done yet.
    pub fn new(job: &'a Job, total_bytes: Option<u64>) -> Self {
        Self { job, total_bytes, done_bytes: 0, resumed_bytes: 0, shown: None }
    }

    /// Bytes that went over the network.
    pub fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    fn add(&mut self, bytes: u64, name: &str) {
        const PAUSE: Duration = Duration::from_millis(250);
        self.done_bytes += bytes;
        if self.shown.is_none_or(|shown| shown.elapsed() >= PAUSE) {
            self.shown = Some(Instant::now());
            let done_bytes = self.done_bytes + self.resumed_bytes;
            self.job.progress(done_bytes, self.total_bytes, "bytes", Some(name.to_owned()));
        }
    }

    fn set_total(&mut self, total_bytes: Option<u64>) {
        self.total_bytes = self.total_bytes.or(total_bytes);
    }
}

/// A transfer.
pub struct Transfer<'a> {
    /// What to get.
    pub get: Get,
    /// Name of the file inside the source.
    pub name: &'a str,
    /// Where it goes.
    pub path: PathBuf,
}

/// A file that grows, with the digest of what it holds.
struct Growing {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    bytes: u64,
    /// Bytes of an earlier attempt that the meter counts.
    resumed_bytes: u64,
    version: Option<Version>,
}

/// Which version of an address a file holds the beginning of. It lies beside the file, for the next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    url: String,
    etag: String,
    bytes: Option<u64>,
}

impl Transfer<'_> {
    /// Brings the file.
    ///
    /// # Errors
    /// Where the address yields nothing, or the file cannot be written.
    pub fn run(self, job: &Job, client: &Client, meter: &mut Meter) -> Result<ResolvedFile, Stopped> {
        let failed = |failure: Failure| Stopped::Halt(failure.into());
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| failed(io_failure("create", parent, &error)))?;
        }
        let growing = Growing::open(self.path.clone(), &self.get.url);
        let mut growing = growing.map_err(|error| failed(io_failure("write", &self.path, &error)))?;
        meter.resumed_bytes += growing.resumed_bytes;
        with_retries(job, &self.get.url, || self.go_on(job, client, &mut growing, meter))?;
        let Growing { hasher, bytes, .. } = growing;
        Ok(ResolvedFile { path: self.name.to_owned(), bytes, sha256: hex(&hasher.finalize()) })
    }

    /// One attempt: asks for what is missing and appends it.
    fn go_on(&self, job: &Job, client: &Client, growing: &mut Growing, meter: &mut Meter) -> Result<(), Trouble> {
        let mut get = self.get.clone();
        if growing.bytes > 0 {
            get.headers.push(("Range", format!("bytes={}-", growing.bytes)));
            get.headers.extend(growing.version.as_ref().map(|version| ("If-Range", version.etag.clone())));
        }
        let response = match client.send(&get) {
            Err(Trouble::Lasting(HttpError::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }))
                if growing.bytes > 0 =>
            {
                return self.past_the_end(growing);
            }
            other => other?,
        };
        let wanted = self.place(growing, &response)?;
        if growing.bytes == 0 {
            meter.resumed_bytes -= std::mem::take(&mut growing.resumed_bytes); // it was begun anew
        }
        meter.set_total(wanted);
        let before = growing.bytes;
        let ended = self.pour(job, growing, response.into_body(), meter);
        let progressed = growing.bytes > before;
        match ended? {
            Some(reason) => Err(Trouble::passing(reason, progressed)),
            None if wanted.is_some_and(|wanted| growing.bytes != wanted) => {
                let message = format!("the connection ended after {} bytes", growing.bytes);
                Err(Trouble::passing(message, progressed))
            }
            None => Ok(()),
        }
    }

    /// There is nothing after what the file holds: it is whole, or not a beginning of what the address has.
    fn past_the_end(&self, growing: &mut Growing) -> Result<(), Trouble> {
        if growing.version.as_ref().is_some_and(|version| version.bytes == Some(growing.bytes)) {
            return Ok(());
        }
        growing.restart().map_err(|error| self.disk(&error))?;
        Err(Trouble::passing("the server has less than was brought before", false))
    }

    /// Goes on where the file ends if the answer does, else starts again. Returns the size of the whole file.
    fn place(&self, growing: &mut Growing, response: &Response<Body>) -> Result<Option<u64>, Trouble> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let length = header("content-length").and_then(|text| text.parse::<u64>().ok());
        if growing.bytes > 0 && response.status() == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-", growing.bytes);
            if header("content-range").is_some_and(|text| text.starts_with(&range)) {
                return Ok(length.map(|length| growing.bytes + length));
            }
        }
        if growing.bytes > 0 {
            growing.restart().map_err(|error| self.disk(&error))?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Err(Trouble::passing("the server sent another range than was asked", false));
            }
        }
        if let Some(etag) = header("etag").filter(|etag| !etag.starts_with("W/")) {
            let version = Version { url: self.get.url.clone(), etag: etag.to_owned(), bytes: length };
            growing.remember(version).map_err(|error| self.disk(&error))?;
        }
        Ok(length)
    }

    /// Appends the answer; a reason where it broke off.
    fn pour(&self, job: &Job, growing: &mut Growing, body: Body, meter: &mut Meter) -> Result<Option<String>, Trouble> {
        let mut reader = body.into_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if job.should_stop() {
                return Err(Trouble::Halt(Halt::Interrupted));
            }
            let read = match reader.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) => return Ok(Some(error.to_string())),
            };
            growing.append(&chunk[..read]).map_err(|error| self.disk(&error))?;
            meter.add(read as u64, self.name);
        }
    }

    fn disk(&self, error: &io::Error) -> Trouble {
        Trouble::Halt(io_failure("write", &self.path, error).into())
    }
}

impl Growing {
    /// An empty file, or the beginning that an earlier attempt left of this address.
    fn open(path: PathBuf, url: &str) -> io::Result<Self> {
        let version = std::fs::read(note_of(&path)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let version: Option<Version> = version.filter(|version: &Version| version.url == url);
        let file = File::options().create(true).read(true).write(true).truncate(version.is_none()).open(&path)?;
        let mut growing = Self { path, file, hasher: Sha256::new(), bytes: 0, resumed_bytes: 0, version };
        growing.bytes = digest(&mut growing.file, &mut growing.hasher)?;
        growing.resumed_bytes = growing.bytes;
        Ok(growing)
    }

    fn remember(&mut self, version: Version) -> io::Result<()> {
        std::fs::write(note_of(&self.path), serde_json::to_vec(&version)?)?;
        self.version = Some(version);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Sha256::new();
        self.bytes = 0;
        self.version = None;
        match std::fs::remove_file(note_of(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Where the version of a file is noted.
fn note_of(path: &Path) -> PathBuf {
    path.with_added_extension("version.json")
}

/// Size and SHA-256 of a file.
///
/// # Errors
/// Where it cannot be read.
pub fn sha256_of(path: &Path) -> Result<(u64, String), Failure> {
    let mut hasher = Sha256::new();
    let bytes = File::open(path).and_then(|mut file| digest(&mut file, &mut hasher));
    let bytes = bytes.map_err(|error| io_failure("read", path, &error))?;
    Ok((bytes, hex(&hasher.finalize())))
}

/// Digests the rest of a file. Returns its length.
fn digest(file: &mut File, hasher: &mut Sha256) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(bytes);
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! One address into one file: resumed where a connection breaks, digested on the way, compared with what is known of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::{Job, io_failure};
use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::client::{Client, Get, Stopped, Trouble, with_retries};
use super::resolved::ResolvedFile;
use crate::download::Halt;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 17;

/// How far all transfers of a stage are, for progress.
pub struct Meter<'a> {
    job: &'a Job,
    total_bytes: Option<u64>,
    done_bytes: u64,
    shown: Option<Instant>,
}

impl<'a> Meter<'a> {
    /// Nothing done yet.
    pub fn new(job: &'a Job, total_bytes: Option<u64>) -> Self {
        Self { job, total_bytes, done_bytes: 0, shown: None }
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
            self.job.progress(self.done_bytes, self.total_bytes, "bytes", Some(name.to_owned()));
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
    file: File,
    hasher: Sha256,
    bytes: u64,
    etag: Option<String>,
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
        let file = File::create(&self.path).map_err(|error| failed(io_failure("write", &self.path, &error)))?;
        let mut growing = Growing { file, hasher: Sha256::new(), bytes: 0, etag: None };
        with_retries(job, &self.get.url, || self.go_on(job, client, &mut growing, meter))?;
        let Growing { hasher, bytes, .. } = growing;
        Ok(ResolvedFile { path: self.name.to_owned(), bytes, sha256: hex(&hasher.finalize()) })
    }

    /// One attempt: asks for what is missing and appends it.
    fn go_on(&self, job: &Job, client: &Client, growing: &mut Growing, meter: &mut Meter) -> Result<(), Trouble> {
        let mut get = self.get.clone();
        if growing.bytes > 0 {
            get.headers.push(("Range", format!("bytes={}-", growing.bytes)));
            get.headers.extend(growing.etag.clone().map(|etag| ("If-Range", etag)));
        }
        let response = client.send(&get)?;
        let wanted = self.place(growing, &response)?;
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
        growing.etag = header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
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

    fn disk(&self, error: &std::io::Error) -> Trouble {
        Trouble::Halt(io_failure("write", &self.path, error).into())
    }
}

impl Growing {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Sha256::new();
        self.bytes = 0;
        self.etag = None;
        Ok(())
    }
}

/// Size and SHA-256 of a file.
///
/// # Errors
/// Where it cannot be read.
pub fn sha256_of(path: &Path) -> Result<(u64, String), Failure> {
    let failure = |error: &std::io::Error| io_failure("read", path, error);
    let mut file = File::open(path).map_err(|error| failure(&error))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk).map_err(|error| failure(&error))?;
        if read == 0 {
            return Ok((bytes, hex(&hasher.finalize())));
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Locks that die with their process.
//!
//! A lock is a file that the operating system locks for its holder. It is only ever *tried*, never waited for in the
//! kernel, so a network file system that is slow to answer does not hang a run for good. The file says who holds it.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
use super::files::ensure_parent;
use super::{Store, layout};

/// How long to wait before a busy guard is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// A lock that is held. Dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

/// What a try to lock came to.
#[derive(Debug)]
pub enum Waiting {
    /// It is ours.
    Held(Lock),
    /// Someone else has it, and says this of himself.
    Busy(String),
}

impl Store {
    /// Tries to lock a key. `holder` is what others then read.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn try_lock(&self, key: &Digest, holder: &str) -> Result<Waiting> {
        Lock::attempt(&self.fanned(layout::LOCKS, key, ""), holder)
    }

    /// To be held from the first [`Store::ingest`] of a result until it is published: it keeps the collector out.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn publishing(&self) -> Result<Guard> {
        Guard::shared(&self.path(layout::COLLECTOR))
    }
}

impl Lock {
    /// Tries to lock the file of this path. `holder` is what others then read.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn attempt(path: &Path, holder: &str) -> Result<Waiting> {
        ensure_parent(path)?;
        loop {
            let mut file = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)
                .map_err(StoreError::io("lock", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Ok(Waiting::Busy(fs::read_to_string(path).unwrap_or_default()));
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
            }
            if !is_same_file(&file, path) {
                continue; // the last holder removed it between our opening and our locking it
            }
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(holder.as_bytes()))
                .map_err(StoreError::io("lock", path))?;
            return Ok(Waiting::Held(Self { path: path.to_owned(), _file: file }));
        }
    }
}

impl Lock {
    /// Whether someone holds the lock of this path. Looking does not take it from anyone who tries.
    ///
    /// # Errors
    /// Where that cannot be found out.
    pub fn is_held(path: &Path) -> Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io("look at", path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StoreError::io("look at", path)(error)),
        }
    }
}

impl Drop for Lock {
    /// Removed while it is still locked: whoever opened it meanwhile finds that out and opens a new one.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

/// A share in a lock that all who publish hold together, or the whole of it, which excludes them. Its file stays.
#[derive(Debug)]
pub struct Guard {
    _file: File,
}

impl Guard {
    pub(super) fn shared(path: &Path) -> Result<Self> {
        Self::wait(path, File::try_lock_shared)
    }

    pub(super) fn exclusive(path: &Path) -> Result<Self> {
        Self::wait(path, File::try_lock)
    }

    /// Tries until it succeeds: those who hold the lock do so for moments only, and let go of it when they die.
    fn wait(path: &Path, attempt: fn(&File) -> std::result::Result<(), TryLockError>) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path).map_err(StoreError::io("lock", path))?;
        loop {
            match attempt(&file) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_AGAIN),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
            }
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (named.dev(), named.ino())
}

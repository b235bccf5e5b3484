//! Locks of the operating system. They are only ever *tried*, never waited for in the kernel.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Holder, TRY_AGAIN};
use crate::store::error::{Result, StoreError};

/// File systems of which it is known that their locks are good: ext, XFS, Btrfs, ZFS, F2FS, bcachefs, JFS, tmpfs, ramfs,
/// overlay.
const LOCAL: [i64; 10] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x2FC1_2FC1,
    0xF2F5_2010,
    0xCA45_1A4E,
    0x3153_464A,
    0x0102_1994,
    0x8584_58F6,
    0x794C_7630,
];

/// Whether this folder is on a file system of this machine.
pub fn is_local(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|facts| LOCAL.contains(&i64::from(facts.f_type as u32)))
}

/// A lock that is held.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Tries to lock the file of this path. Where someone else has it: who.
    pub fn attempt(path: &Path, holder: &Holder) -> Result<std::result::Result<Self, Option<Holder>>> {
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
                    return Ok(Err(fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())));
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
            }
            if !is_same_file(&file, path) {
                continue; // the last holder removed it between our opening and our locking it
            }
            let text = serde_json::to_vec(holder).expect("a holder serialises");
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(&text))
                .map_err(StoreError::io("lock", path))?;
            return Ok(Ok(Self { path: path.to_owned(), _file: file }));
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

/// Whether someone holds the lock.
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

/// A share in the lock of a file that stays.
pub fn shared(path: &Path) -> Result<File> {
    wait(path, File::try_lock_shared)
}

/// The whole of it.
pub fn exclusive(path: &Path) -> Result<File> {
    wait(path, File::try_lock)
}

/// Tries until it succeeds: those who hold the lock do so for moments only, and let go of it when they die.
fn wait(path: &Path, attempt: fn(&File) -> std::result::Result<(), TryLockError>) -> Result<File> {
    let file = File::options().create(true).append(true).open(path).map_err(StoreError::io("lock", path))?;
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_AGAIN),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (opened.dev(), opened.ino()) == (named.dev(), named.ino())
}

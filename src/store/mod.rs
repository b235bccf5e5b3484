//! The content-addressed store: blobs named by their digest, entries named by the key of the work that made them.
//!
//! It knows digests, files and folders. It does not know what a stage is, nor how anything in it came to be.
//!
//! Publishing goes blobs first, entry last, each by write, fsync and rename, so that a reader sees the whole of a
//! result or none of it, whatever is killed when; then their folders are synced, so that it outlasts a power cut. A hit
//! needs every blob; a blob whose identity (device, inode, size, times) is not the one that was last checked is hashed
//! again, and set aside where its bytes are not its name.

mod artifact;
mod blobs;
mod entry;
mod error;
mod exchange;
mod files;
mod gc;
mod history;
mod identity;
mod ingest;
mod layout;
mod lock;
mod log;
mod manifest;
mod rows;
mod space;
mod states;
mod usage;
mod verify;
mod view;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use neftpipe_protocol::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use artifact::{Artifact, ArtifactFile};
pub use entry::{Entry, Lookup, Outputs};
pub use error::{Result, StoreError};
pub use exchange::Taken;
pub use files::{bytes_of, remove_tree};
pub use gc::{Collected, Policy};
pub use lock::{Holder, Lock, Locking, Waiting};
pub use manifest::Manifest;
pub use usage::Usage;
pub use verify::Verified;
pub use view::Materialize;

use identity::{Identities, Look};
use manifest::Manifests;
use space::Space;

/// An open store. Cheap to share by reference between threads.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// The open folder: names in it are looked up from here, half the way of a whole path.
    folder: OwnedFd,
    locking: Locking,
    identities: Mutex<Identities>,
    manifests: Mutex<Manifests>,
    damage: Mutex<Vec<Damage>>,
    space: Space,
}

/// A file of the store that was found damaged and set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where the file was.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Store {
    /// Opens the store in this folder, and makes it where there is none.
    ///
    /// # Errors
    /// Where the folder cannot be made or read, or was written by a version with another layout.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_by(root, Locking::fit_for)
    }

    /// The same with this way of locking. All who use a store must lock it in the same way.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(root: &Path, locking: Locking) -> Result<Self> {
        Self::open_by(root, |_| locking)
    }

    fn open_by(root: &Path, locking: impl FnOnce(&Path) -> Locking) -> Result<Self> {
        let root = std::path::absolute(root).map_err(StoreError::io("find", root))?;
        layout::prepare(&root)?;
        let identities = Mutex::new(Identities::load(&root.join(layout::IDENTITIES)));
        let manifests = Mutex::new(Manifests::load(&root.join(layout::MANIFESTS)));
        let locking = locking(&root);
        let folder = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| StoreError::io("open", &root)(error.into()))?;
        Ok(Self { root, folder, locking, identities, manifests, damage: Mutex::default(), space: Space::default() })
    }

    /// Whether there is a store in this folder.
    pub fn is_at(root: &Path) -> bool {
        root.join(layout::LAYOUT_FILE).is_file()
    }

    /// The store's folder, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the attempts of runs work. Same file system as the blobs, so that outputs move in.
    pub fn attempts_dir(&self) -> PathBuf {
        self.root.join(layout::ATTEMPTS)
    }

    /// Where it is remembered what worker programs say of themselves.
    pub fn workers_file(&self) -> PathBuf {
        self.root.join(layout::WORKERS)
    }

    /// Where runs are recorded.
    pub fn runs_dir(&self) -> PathBuf {
        self.root.join(layout::RUNS)
    }

    /// Files found damaged since the last call.
    pub fn take_damage(&self) -> Vec<Damage> {
        std::mem::take(&mut lock_ignoring_poison(&self.damage))
    }

    /// Writes down what was read and which files were checked, so that the next process need not hash them. A store that cannot be
    /// written to loses only time by that.
    pub fn flush(&self) {
        let identities = lock_ignoring_poison(&self.identities).flush();
        let manifests = lock_ignoring_poison(&self.manifests).flush();
        if let Err(error) = identities.and(manifests) {
            tracing::warn!("the indexes of {} cannot be written: {error}", self.root.display());
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where `<folder>/xx/<digest><suffix>` is, or would be.
    fn fanned(&self, folder: &str, digest: &Digest, suffix: &str) -> PathBuf {
        self.root.join(fanned_name(folder, digest, suffix))
    }

    /// What is at `<folder>/xx/<digest><suffix>`, links not followed; none where there is nothing.
    fn look_at(&self, folder: &str, digest: &Digest, suffix: &str) -> Result<Option<Look>> {
        let name = fanned_name(folder, digest, suffix);
        match rustix::fs::statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Look::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::io("look at", &self.root.join(name))(error.into())),
        }
    }

    /// The files of a folder whose names were made by [`Self::fanned`], sorted.
    fn fanned_files(&self, folder: &str) -> Result<Vec<PathBuf>> {
        self.fanned_items(folder, |kind| kind.is_file())
    }

    /// The folders of a folder whose names were made by [`Self::fanned`], sorted.
    fn fanned_folders(&self, folder: &str) -> Result<Vec<PathBuf>> {
        self.fanned_items(folder, |kind| kind.is_dir())
    }

    fn fanned_items(&self, folder: &str, wanted: impl Fn(std::fs::FileType) -> bool) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for item in walkdir::WalkDir::new(self.path(folder)).min_depth(2).max_depth(2).sort_by_file_name() {
            match item {
                Ok(item) if wanted(item.file_type()) => paths.push(item.into_path()),
                Ok(_) => {}
                Err(error) if error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) => {}
                Err(error) => {
                    let path = error.path().map_or_else(|| self.path(folder), Path::to_owned);
                    return Err(StoreError::Io { action: "look through", path, source: error.into() });
                }
            }
        }
        Ok(paths)
    }

    fn set_aside(&self, path: &Path, problem: String) {
        let target = self.path(layout::CORRUPT).join(path.file_name().unwrap_or_default());
        if let Err(error) =
            std::fs::create_dir_all(self.path(layout::CORRUPT)).and_then(|()| std::fs::rename(path, &target))
        {
            tracing::warn!("{} cannot be set aside: {error}", path.display());
        }
        tracing::warn!("{}: {problem}; set aside in {}", path.display(), target.display());
        lock_ignoring_poison(&self.damage).push(Damage { path: path.to_owned(), problem });
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.flush();
    }
}

/// `<folder>/xx/<digest><suffix>`.
fn fanned_name(folder: &str, digest: &Digest, suffix: &str) -> String {
    let digest = digest.to_string();
    [folder, "/", &digest[..2], "/", &digest, suffix].concat()
}

/// Room on the disk where a folder is, or would be made.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    rustix::fs::statvfs(there).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The guarded values are valid after every single statement, so a panic elsewhere does not spoil them.
fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

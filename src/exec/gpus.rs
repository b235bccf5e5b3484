//! GPUs: which this process may use, and that no two runs of a user have one at a time.
//!
//! A GPU that a stage has is locked in a folder of the user on this machine, whatever store the run works with. The lock is
//! the operating system's and dies with the run. Other users' programs are not seen; neither is what a container hides.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

/// Where the GPUs in use are locked.
#[derive(Debug, Clone)]
pub struct GpuLocks {
    folder: PathBuf,
    scope: String,
}

impl GpuLocks {
    /// Locks in this folder. `scope` is the job of a cluster, whose GPUs are numbered anew and are its alone.
    pub fn new(folder: PathBuf, scope: Option<String>) -> Self {
        Self { folder, scope: scope.map_or_else(String::new, |scope| format!("{scope}-")) }
    }

    /// Locks a GPU until the file is dropped. None where another run has it. Where there can be no locks, the GPU is
    /// taken to be free.
    pub(super) fn take(&self, gpu: &str) -> Option<Option<File>> {
        match self.lock_file(gpu) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Some(Some(file)),
                Err(fs::TryLockError::WouldBlock) => None,
                Err(fs::TryLockError::Error(error)) => self.without(&error),
            },
            Err(error) => self.without(&error),
        }
    }

    fn lock_file(&self, gpu: &str) -> std::io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        if fs::symlink_metadata(&self.folder)?.uid() != rustix::process::getuid().as_raw() {
            return Err(std::io::Error::other("it belongs to somebody else"));
        }
        let name = gpu.replace('/', "_");
        File::options().create(true).append(true).open(self.folder.join(format!("gpu-{}{name}", self.scope)))
    }

    fn without(&self, error: &std::io::Error) -> Option<Option<File>> {
        tracing::warn!("{}: {error}: GPUs are not kept from other runs", self.folder.display());
        Some(None)
    }
}

/// The GPUs that a mask names, by index or UUID. It counts up to the first word that names none, as CUDA has it.
pub(super) fn in_mask(mask: &str) -> Vec<String> {
    let is_gpu = |id: &&str| {
        (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
            || ["GPU-", "MIG-"].iter().any(|prefix| id.starts_with(prefix))
    };
    mask.split(',').map(str::trim).take_while(is_gpu).map(str::to_owned).collect()
}

/// GPUs that the NVIDIA driver lists, by index.
pub(super) fn of_driver() -> Vec<String> {
    let count = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |entries| entries.flatten().count());
    (0..count).map(|index| index.to_string()).collect()
}

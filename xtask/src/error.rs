//! What can go wrong here. Every message says what to do about it.

use std::path::{Path, PathBuf};

use crate::wheels::{OLDEST_DRIVER, VERSION};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no libtorch is pinned for {platform}. Set LIBTORCH to a folder with the `lib` and `include` of libtorch {VERSION} and run the command again"
    )]
    UnknownPlatform { platform: String },

    #[error(
        "LIBTORCH is {path}, which has no {missing}. Set it to a folder with the `lib` and `include` of libtorch {VERSION}, or unset it to have one downloaded"
    )]
    NotLibtorch { path: PathBuf, missing: String },

    #[error(
        "LIBTORCH is {path}, which holds libtorch {found}; libtorch {VERSION} is needed. Unset it to have that downloaded"
    )]
    OtherLibtorch { path: PathBuf, found: String },

    #[error("neither XDG_CACHE_HOME nor HOME is set: set one of them, so that libtorch has a place to be kept")]
    NoCacheFolder,

    #[error(
        "pip was not found (tried `python3 -m pip`, `pip3` and `pip`). Install it (Debian, Ubuntu: `apt-get install python3-pip`), or set LIBTORCH to a libtorch {VERSION}"
    )]
    NoPip,

    #[error("pip could not download libtorch: {0}")]
    Pip(PipProblem),

    #[error(
        "the NVIDIA driver {release} is too old for the CUDA of libtorch {VERSION}, which needs driver {OLDEST_DRIVER} or newer. \
         Update the driver; or say `--cpu` here and `device: cpu` in the pipeline to go without the GPU; or set LIBTORCH to a libtorch {VERSION} built for an older CUDA"
    )]
    DriverTooOld { release: String },

    #[error(
        "no space left while writing {path}. Free about {needed_mb} MB there, or point XDG_CACHE_HOME at a larger disk"
    )]
    DiskFull { path: PathBuf, needed_mb: u32 },

    #[error("{wheel} is not a readable wheel: {source}. Delete it and run the command again")]
    Wheel { wheel: PathBuf, source: zip::result::ZipError },

    #[error("{wheel} lacks {missing}, which the build needs: the pinned wheel and the list of its files disagree")]
    Incomplete { wheel: String, missing: String },

    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    #[error("cannot start `{program}`: {source}")]
    Start { program: String, source: std::io::Error },

    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: std::process::ExitStatus },

    #[error("`cargo metadata` gave no target directory")]
    NoTargetDirectory,
}

impl Error {
    /// For `map_err`: what was being done to which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// What pip complained of, as far as its words tell.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipProblem {
    #[error(
        "the files it was given are not the pinned ones (see the hashes above). A mirror or proxy serves other files: take another index, or set LIBTORCH"
    )]
    OtherHash,
    #[error("the disk is full. Free about {needed_mb} MB, or point XDG_CACHE_HOME and TMPDIR at a larger disk")]
    DiskFull { needed_mb: u32 },
    #[error(
        "the package index cannot be reached. Check the network and `pip config list`, then run the command again; what is already downloaded is kept"
    )]
    Unreachable,
    #[error(
        "the package index that pip is set up for does not have it. Check `pip config list`, or set LIBTORCH to a libtorch {VERSION}"
    )]
    NotThere,
    #[error("it ended with {0}; its own words are above")]
    Other(std::process::ExitStatus),
}

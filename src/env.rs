//! Every environment variable that the runner reads for itself. Nothing else reads the environment, but for the
//! variables that a `command` names in its `env` and `secrets`, which come through [`named`].

use std::ffi::OsString;
use std::path::PathBuf;

/// Where the store is, instead of `cache/` of the project.
pub const STORE: &str = "NEFTPIPE_STORE";
/// Folder with the two worker programs, instead of beside this program.
pub const WORKERS: &str = "NEFTPIPE_WORKERS";
/// The store that `push` and `pull` copy to and from.
pub const REMOTE: &str = "NEFTPIPE_REMOTE";
/// Filter of the log on stderr, in the syntax of `tracing`: `debug`, `neftpipe=trace`.
pub const LOG: &str = "NEFTPIPE_LOG";

/// [`STORE`].
pub fn store() -> Option<PathBuf> {
    named(STORE).map(PathBuf::from)
}

/// [`WORKERS`].
pub fn workers() -> Option<PathBuf> {
    named(WORKERS).map(PathBuf::from)
}

/// [`LOG`].
pub fn log() -> Option<String> {
    named(LOG).and_then(|value| value.into_string().ok())
}

/// `HF_HUB_OFFLINE`: no stage may touch the network.
pub fn offline() -> bool {
    named("HF_HUB_OFFLINE")
        .is_some_and(|value| !["", "0", "false", "no", "off"].iter().any(|no| value.eq_ignore_ascii_case(no)))
}

/// `CUDA_VISIBLE_DEVICES`: the GPUs that this process may use, where something set it. Set and empty means none.
pub fn visible_gpus() -> Option<String> {
    std::env::var_os("CUDA_VISIBLE_DEVICES").and_then(|value| value.into_string().ok())
}

/// A variable, where it is set and not empty.
pub fn named(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

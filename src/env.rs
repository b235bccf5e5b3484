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

/// The GPUs that this process may use, where something set them: `CUDA_VISIBLE_DEVICES`, or what Slurm gave. Set and empty
/// means none.
pub fn visible_gpus() -> Option<String> {
    let masks = ["CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"];
    masks.iter().find_map(std::env::var_os).and_then(|value| value.into_string().ok())
}

/// `SLURM_JOB_ID`: the job of the cluster that this process belongs to.
pub fn cluster_job() -> Option<String> {
    named("SLURM_JOB_ID").and_then(|value| value.into_string().ok())
}

/// A folder of this user on this machine for what is gone after a restart: in `XDG_RUNTIME_DIR`, or in that for temporary
/// files.
pub fn runtime_folder() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    match named("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("neftpipe"),
        None => std::env::temp_dir().join(format!("neftpipe-{user}")),
    }
}

/// `GOMP_SPINCOUNT`: how often the threads of a worker look for work before they sleep, where somebody said so.
pub fn spin_count() -> Option<OsString> {
    named("GOMP_SPINCOUNT")
}

/// `TERM=dumb`: a terminal in which nothing can be redrawn.
pub fn is_dumb_terminal() -> bool {
    named("TERM").is_some_and(|term| term == "dumb")
}

/// A variable, where it is set and not empty.
pub fn named(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

//! Puts files into the artifact: moved where they are the attempt's own, else copied.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;

use crate::download::source::SourceFile;

/// Puts a file into `out` under a name. Returns its bytes.
///
/// A copy shares its blocks with the original where the file system can (`copy_file_range`), and is never a link:
/// what is done to the original later does not reach it.
///
/// # Errors
/// Where it cannot be written.
pub fn put(file: &SourceFile, out: &Path, name: &str) -> Result<u64, Failure> {
    let path = out.join(name);
    let failure = |error: std::io::Error| io_failure("write", &path, &error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failure)?;
    }
    if file.ours {
        fs::rename(&file.path, &path).map_err(failure)?;
    } else {
        fs::copy(&file.path, &path).map_err(failure)?;
    }
    plain_mode(&path)?;
    path.metadata().map(|metadata| metadata.len()).map_err(failure)
}

/// Gives a file the ordinary permissions, whatever its origin had.
///
/// # Errors
/// Where the file is not ours.
pub fn plain_mode(path: &Path) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(|error| io_failure("write", path, &error))
}

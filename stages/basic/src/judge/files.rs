//! Files of an input that may lie in any of its folders.

use std::path::{Path, PathBuf};

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;

/// All files below a folder, sorted.
///
/// # Errors
/// Where it cannot be read.
pub fn all(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let entries: Vec<_> =
        entries.collect::<Result<_, _>>().map_err(|error| io_failure("read", folder, &std::io::Error::from(error)))?;
    Ok(entries.into_iter().filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect())
}

/// Those with this ending.
///
/// # Errors
/// Where the folder cannot be read.
pub fn with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let has = |path: &PathBuf| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
    Ok(all(folder)?.into_iter().filter(has).collect())
}

/// A file as text.
///
/// # Errors
/// Where it cannot be read.
pub fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| io_failure("read", path, &error))
}

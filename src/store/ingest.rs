//! From a folder that a stage left to an artifact.

use std::path::{Path, PathBuf};

use neftpipe_protocol::ArtifactType;
use rayon::prelude::*;
use walkdir::WalkDir;

use super::error::{Result, StoreError};
use super::{Artifact, ArtifactFile, Store};

impl Store {
    /// Takes all files of a folder (or the one file that the path names) into the store, moving them. Empty folders are
    /// no part of an artifact.
    ///
    /// # Errors
    /// Where there is anything but files and folders (links could lead anywhere and change later), a name that is not
    /// UTF-8, or the operating system refuses.
    pub fn ingest(&self, source: &Path, artifact_type: ArtifactType) -> Result<Artifact> {
        let files = storable_files(source)?;
        let files = files
            .par_iter()
            .map(|(path, name)| {
                let (digest, bytes) = self.adopt(path)?;
                Ok(ArtifactFile { path: name.clone(), bytes, digest })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Artifact::new(artifact_type, files))
    }
}

/// The files below a folder with their relative paths, sorted.
pub(super) fn storable_files(source: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for item in WalkDir::new(source).sort_by_file_name() {
        let item = item.map_err(|error| {
            let path = error.path().unwrap_or(source).to_owned();
            StoreError::Io { action: "look through", path, source: error.into() }
        })?;
        let refuse = |problem| StoreError::Unstorable { path: item.path().to_owned(), problem };
        let kind = item.file_type();
        if kind.is_dir() {
            continue;
        }
        if kind.is_symlink() {
            return Err(refuse("a symbolic link cannot be stored; leave the file itself"));
        }
        if !kind.is_file() {
            return Err(refuse("neither a file nor a folder; it cannot be stored"));
        }
        let name = match item.path().strip_prefix(source) {
            Ok(relative) if !relative.as_os_str().is_empty() => relative.to_str(),
            _ => item.file_name().to_str(),
        };
        let name = name.ok_or_else(|| refuse("its name is not UTF-8; it cannot be stored"))?.to_owned();
        files.push((item.into_path(), name));
    }
    Ok(files)
}

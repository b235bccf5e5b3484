//! Artifacts as folders.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use neftpipe_protocol::{ArtifactType, Digest};
use rayon::prelude::*;
use walkdir::WalkDir;

use super::blobs::hash_file;
use super::error::{Result, StoreError};
use super::files::{copy_file, ensure_parent, remove_tree};
use super::{Artifact, Store, layout};

/// How files of an artifact are laid out in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Materialize {
    /// Symbolic links to the read-only blobs.
    Link,
    /// Copies that can be written to, sharing their bytes where the file system can.
    Copy,
}

impl Store {
    /// The read-only folder of an artifact, made when first asked for: links to its blobs, copies for a report.
    ///
    /// # Errors
    /// Where files of the artifact are missing, or the folder cannot be made.
    pub fn view(&self, artifact: &Artifact) -> Result<PathBuf> {
        let view = self.fanned(layout::VIEWS, &artifact.digest, "");
        self.require(artifact)?;
        if self.is_view_whole(&view, artifact) {
            return Ok(view);
        }
        let tmp = self.path(layout::TMP);
        let fresh =
            tempfile::Builder::new().prefix("view-").tempdir_in(&tmp).map_err(StoreError::io("write in", &tmp))?;
        let folder = fresh.path().join("view");
        for file in &artifact.files {
            let place = folder.join(&file.path);
            ensure_parent(&place)?;
            if is_opened_by_people(artifact) {
                copy_file(&self.blob_path(&file.digest), &place)?;
                fs::set_permissions(&place, Permissions::from_mode(0o444))
                    .map_err(StoreError::io("protect", &place))?;
            } else {
                symlink(self.link_target(artifact, &file.path), &place).map_err(StoreError::io("link", &place))?;
            }
        }
        if artifact.files.is_empty() {
            fs::create_dir(&folder).map_err(StoreError::io("create", &folder))?;
        }
        ensure_parent(&view)?;
        self.replace_view(&folder, &view, fresh.path(), artifact)?;
        Ok(view)
    }

    /// Lays an artifact out in a folder, which is made if need be.
    ///
    /// # Errors
    /// Where files of the artifact are missing, or the folder cannot be written.
    pub fn materialize(&self, artifact: &Artifact, folder: &Path, how: Materialize) -> Result<()> {
        self.require(artifact)?;
        fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        artifact.files.par_iter().try_for_each(|file| {
            let (blob, path) = (self.blob_path(&file.digest), folder.join(&file.path));
            ensure_parent(&path)?;
            match how {
                Materialize::Link => symlink(&blob, &path).map_err(StoreError::io("link", &path)),
                Materialize::Copy => copy_file(&blob, &path),
            }
        })
    }

    fn require(&self, artifact: &Artifact) -> Result<()> {
        let missing = self.missing_files(artifact)?;
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(StoreError::Incomplete {
                artifact: artifact.digest.short(),
                missing: missing.len(),
                first: first.path.clone(),
            }),
        }
    }

    /// Relative, so that the store can be moved: up from the link to the store's root, then down to the blob.
    fn link_target(&self, artifact: &Artifact, path: &str) -> PathBuf {
        let levels = path.split('/').count() + 2;
        let file = artifact.file(path).expect("the path is one of the artifact's");
        let name = file.digest.to_string();
        let mut target: PathBuf = std::iter::repeat_n("..", levels).collect();
        target.extend([layout::BLOBS, &name[..2], &name]);
        target
    }

    fn is_view_whole(&self, view: &Path, artifact: &Artifact) -> bool {
        let mut files = 0;
        for item in WalkDir::new(view).min_depth(1) {
            let Ok(item) = item else { return false };
            if item.file_type().is_dir() {
                continue;
            }
            let Some(path) = item.path().strip_prefix(view).ok().and_then(Path::to_str) else { return false };
            let Some(file) = artifact.file(path) else { return false };
            let is_right = if is_opened_by_people(artifact) {
                item.file_type().is_file() && self.digest_file(item.path()).is_ok_and(|digest| digest == file.digest)
            } else {
                fs::read_link(item.path()).is_ok_and(|target| target == self.link_target(artifact, path))
            };
            if !is_right {
                return false;
            }
            files += 1;
        }
        files == artifact.files.len() && view.is_dir()
    }

    /// The copies in a view whose bytes are not the blobs'.
    pub(super) fn damaged_pages(&self, artifact: &Artifact) -> Vec<PathBuf> {
        if !is_opened_by_people(artifact) {
            return Vec::new();
        }
        let view = self.fanned(layout::VIEWS, &artifact.digest, "");
        let pages = artifact.files.iter().map(|file| (view.join(&file.path), file.digest));
        let is_damaged = |(page, wanted): &(PathBuf, Digest)| hash_file(page).is_ok_and(|digest| digest != *wanted);
        pages.filter(is_damaged).map(|(page, _)| page).collect()
    }

    /// Puts the fresh view in place. Another process may have done so first, which is as good.
    fn replace_view(&self, fresh: &Path, view: &Path, tmp: &Path, artifact: &Artifact) -> Result<()> {
        match fs::rename(fresh, view) {
            Ok(()) => return Ok(()),
            Err(_) if self.is_view_whole(view, artifact) => return Ok(()),
            Err(_) if view.exists() => {}
            Err(error) => return Err(StoreError::io("create", view)(error)),
        }
        let old = tmp.join("old");
        fs::rename(view, &old).map_err(StoreError::io("replace", view))?;
        let renamed = fs::rename(fresh, view);
        remove_tree(&old)?;
        match renamed {
            Err(error) if !self.is_view_whole(view, artifact) => Err(StoreError::io("create", view)(error)),
            _ => Ok(()),
        }
    }
}

/// A browser takes the name that a link leads to for the page's name, and a blob's has no `.html`: it would show the
/// source. So a page is copied.
fn is_opened_by_people(artifact: &Artifact) -> bool {
    artifact.artifact_type == ArtifactType::Report
}

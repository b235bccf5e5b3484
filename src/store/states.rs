//! Unfinished work that may be gone on from, such as training checkpoints: folders kept under a key.
//!
//! Unlike artifacts they are large, never shared in part, and of use for a short time only. So they are no blobs: a
//! state is one folder that can be dropped at once. It is not forced to disk; what a power cut spoils does not match
//! the digests in its manifest, and counts as none.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use neftpipe_protocol::{ArtifactType, Digest};
use rayon::prelude::*;

use super::blobs::hash_file;
use super::error::{Result, StoreError};
use super::files::{ensure_parent, move_file, read_optional};
use super::ingest::storable_files;
use super::{Artifact, ArtifactFile, Store, layout};

const FILES: &str = "files";
const MANIFEST: &str = "manifest.json";
const READ_ONLY: u32 = 0o444;

impl Store {
    /// Keeps a folder under a key, moving it. A state that is kept under the key already stays.
    ///
    /// # Errors
    /// Where it cannot be moved, or holds anything but files and folders.
    pub fn keep_state(&self, key: &Digest, folder: &Path) -> Result<()> {
        let tmp = self.path(layout::TMP);
        let fresh =
            tempfile::Builder::new().prefix("state-").tempdir_in(&tmp).map_err(StoreError::io("write in", &tmp))?;
        let state = fresh.path().join("state");
        let files = state.join(FILES);
        move_file(folder, &files)?;
        let manifest = Artifact::new(ArtifactType::Files, describe(&files)?);
        let path = state.join(MANIFEST);
        let text = serde_json::to_vec(&manifest).expect("a manifest serialises");
        fs::write(&path, text).map_err(StoreError::io("write", &path))?;
        let place = self.state_path(key);
        ensure_parent(&place)?;
        match fs::rename(&state, &place) {
            Err(_) if place.is_dir() => Ok(()),
            other => other.map_err(StoreError::io("write", &place)),
        }
    }

    /// Lays the state of a key out in a folder, as links to its read-only files. Says whether there is one that is whole.
    ///
    /// # Errors
    /// Where it cannot be read or laid out.
    pub fn lay_out_state(&self, key: &Digest, to: &Path) -> Result<bool> {
        let place = self.state_path(key);
        let Some(manifest) = self.whole_state(&place)? else { return Ok(false) };
        let files = place.join(FILES);
        for file in &manifest.files {
            let link = to.join(&file.path);
            ensure_parent(&link)?;
            fs::hard_link(files.join(&file.path), &link).map_err(StoreError::io("link", &link))?;
        }
        Ok(true)
    }

    /// Whether there is a state for a key; it may turn out to be damaged.
    pub fn has_state(&self, key: &Digest) -> bool {
        self.state_path(key).join(MANIFEST).exists()
    }

    /// The keys that there are states for.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn state_keys(&self) -> Result<HashSet<Digest>> {
        let folders = self.fanned_folders(layout::STATES)?;
        let key = |place: &PathBuf| place.file_name()?.to_str()?.parse().ok();
        Ok(folders.iter().filter_map(key).collect())
    }

    /// The folder for the beginnings of a download, made if need be. Whoever asks holds the lock of the identity.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn partial_download(&self, identity: &Digest) -> Result<PathBuf> {
        let folder = self.fanned(layout::PARTIAL, identity, "");
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        Ok(folder)
    }

    /// Drops the state of a key, if there is one.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn drop_state(&self, key: &Digest) -> Result<()> {
        self.discard(&self.state_path(key))
    }

    /// The manifest of a state whose files are what it says. A state that is damaged is removed.
    fn whole_state(&self, place: &Path) -> Result<Option<Artifact>> {
        let Some(bytes) = read_optional(&place.join(MANIFEST))? else { return Ok(None) };
        let whole = manifest_if_whole(place, &bytes);
        if whole.is_none() {
            tracing::warn!("{} is damaged, and removed", place.display());
            self.discard(place)?;
        }
        Ok(whole)
    }

    /// The states that are not what their manifest says.
    pub(super) fn damaged_states(&self) -> Result<Vec<PathBuf>> {
        let mut damaged = Vec::new();
        for place in self.fanned_folders(layout::STATES)? {
            let bytes = read_optional(&place.join(MANIFEST))?.unwrap_or_default();
            // One that was dropped meanwhile is not damaged.
            if manifest_if_whole(&place, &bytes).is_none() && place.exists() {
                damaged.push(place);
            }
        }
        Ok(damaged)
    }

    /// Removes a folder that has a manifest at once, whoever is killed meanwhile: half of it would count as damage.
    pub(super) fn discard(&self, folder: &Path) -> Result<()> {
        let tmp = self.path(layout::TMP);
        let place =
            tempfile::Builder::new().prefix("gone-").tempdir_in(&tmp).map_err(StoreError::io("write in", &tmp))?;
        match fs::rename(folder, place.path().join("state")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", folder)(error)),
            _ => place.close().map_err(StoreError::io("remove", folder)),
        }
    }

    fn state_path(&self, key: &Digest) -> PathBuf {
        self.fanned(layout::STATES, key, "")
    }
}

fn manifest_if_whole(place: &Path, manifest: &[u8]) -> Option<Artifact> {
    let manifest: Artifact = serde_json::from_slice(manifest).ok()?;
    let is_whole = manifest.is_sound() && describe(&place.join(FILES)).is_ok_and(|files| files == manifest.files);
    is_whole.then_some(manifest)
}

fn describe(folder: &Path) -> Result<Vec<ArtifactFile>> {
    let files = storable_files(folder)?;
    files
        .par_iter()
        .map(|(path, name)| {
            fs::set_permissions(path, Permissions::from_mode(READ_ONLY)).map_err(StoreError::io("protect", path))?;
            let bytes = fs::metadata(path).map_err(StoreError::io("look at", path))?.len();
            Ok(ArtifactFile { path: name.clone(), bytes, digest: hash_file(path)? })
        })
        .collect()
}

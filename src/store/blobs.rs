//! Blobs: files named by the digest of their bytes.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use neftpipe_protocol::Digest;
use rayon::prelude::*;
use tempfile::TempPath;

use super::error::{Result, StoreError};
use super::files::{copy_file, move_file, remove_file};
use super::identity::{Identity, Look};
use super::{ArtifactFile, Store, layout, lock_ignoring_poison};

/// Read at a time; hashed on all cores from this size on. Small enough that what was read is in the cache when it is hashed.
const CHUNK_BYTES: usize = 1 << 20;
const READ_ONLY: u32 = 0o444;

impl Store {
    /// Where the blob of this digest is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.fanned(layout::BLOBS, digest, "")
    }

    /// The digest of a file outside the store. It is read only if its identity is new.
    ///
    /// # Errors
    /// Where it cannot be read, or changes while it is.
    pub fn digest_file(&self, path: &Path) -> Result<Digest> {
        let now = SystemTime::now();
        let before = identity_of(path)?;
        if let Some(digest) = lock_ignoring_poison(&self.identities).get(&before) {
            return Ok(digest);
        }
        let digest = hash_file(path)?;
        if identity_of(path)? != before {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        if before.is_settled(now) {
            lock_ignoring_poison(&self.identities).insert(before, digest);
        }
        Ok(digest)
    }

    /// The digests of files outside the store, in their order, on all cores.
    ///
    /// # Errors
    /// The first that [`Self::digest_file`] gives.
    pub fn digest_files(&self, paths: &[PathBuf]) -> Result<Vec<Digest>> {
        paths.par_iter().map(|path| self.digest_file(path)).collect()
    }

    /// Whether a blob is here, with its size and, unless its identity was checked before, its bytes. One that is
    /// damaged is set aside.
    pub(super) fn has_blob(&self, file: &ArtifactFile) -> Result<bool> {
        let Some(Look { identity, is_file }) = self.look_at(layout::BLOBS, &file.digest, "")? else { return Ok(false) };
        if !is_file || identity.bytes() != file.bytes {
            let problem = format!("{} bytes instead of {}", identity.bytes(), file.bytes);
            self.set_aside(&self.blob_path(&file.digest), problem);
            return Ok(false);
        }
        let known = lock_ignoring_poison(&self.identities).get(&identity);
        let found = match known {
            Some(digest) => digest,
            None => self.check_blob(&self.blob_path(&file.digest), identity)?,
        };
        if found != file.digest {
            self.set_aside(&self.blob_path(&file.digest), format!("its content has the digest {found}"));
        }
        Ok(found == file.digest)
    }

    fn check_blob(&self, path: &Path, identity: Identity) -> Result<Digest> {
        let now = SystemTime::now();
        let digest = hash_file(path)?;
        if identity.is_settled(now) {
            lock_ignoring_poison(&self.identities).insert(identity, digest);
        }
        Ok(digest)
    }

    /// Takes a file into the store: it is hashed, then moved. Returns its digest and size.
    pub(super) fn adopt(&self, path: &Path) -> Result<(Digest, u64)> {
        let copy = self.copy_unless_sole_owner(path)?;
        let path = copy.as_deref().unwrap_or(path);
        fs::set_permissions(path, Permissions::from_mode(READ_ONLY)).map_err(StoreError::io("protect", path))?;
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        let identity =
            || file.metadata().map(|metadata| Identity::of(&metadata)).map_err(StoreError::io("look at", path));
        let before = identity()?;
        let digest = digest_of(&file).map_err(StoreError::io("read", path))?;
        if identity()? != before {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        let bytes = before.bytes();
        if self.has_blob(&ArtifactFile { path: String::new(), bytes, digest })? {
            self.look_at_space();
            remove_file(path)?;
        } else {
            file.sync_all().map_err(StoreError::io("write", path))?;
            move_file(path, &self.blob_path(&digest))?;
            lock_ignoring_poison(&self.identities).insert(identity()?, digest); // the move was a change
        }
        Ok((digest, bytes))
    }

    /// A file with other names could be changed under one of them: it is copied, and the copy taken instead.
    fn copy_unless_sole_owner(&self, path: &Path) -> Result<Option<TempPath>> {
        let metadata = fs::symlink_metadata(path).map_err(StoreError::io("look at", path))?;
        if metadata.nlink() == 1 {
            return Ok(None);
        }
        self.temporary_copy(path).map(Some)
    }

    /// A copy of a file that is ours, and goes unless it is moved to its place.
    pub(super) fn temporary_copy(&self, path: &Path) -> Result<TempPath> {
        let tmp = self.path(layout::TMP);
        let copy = tempfile::NamedTempFile::new_in(&tmp).map_err(StoreError::io("write in", &tmp))?.into_temp_path();
        copy_file(path, &copy)?;
        Ok(copy)
    }
}

pub(super) fn identity_of(path: &Path) -> Result<Identity> {
    fs::metadata(path).map(|metadata| Identity::of(&metadata)).map_err(StoreError::io("look at", path))
}

/// BLAKE3 of a file, in bounded memory. Reading, not mapping: a file that is cut short meanwhile is an error, not a
/// signal, and a large file does not count as resident.
pub(super) fn hash_file(path: &Path) -> Result<Digest> {
    File::open(path).and_then(|file| digest_of(&file)).map_err(StoreError::io("read", path))
}

/// The same of an open file, from where it stands.
fn digest_of(file: &File) -> std::io::Result<Digest> {
    let bytes = file.metadata()?.len();
    let mut buffer = vec![0; CHUNK_BYTES.min(bytes as usize + 1)];
    let mut hasher = blake3::Hasher::new();
    loop {
        let filled = fill(file, &mut buffer)?;
        if filled == CHUNK_BYTES {
            hasher.update_rayon(&buffer);
        } else {
            hasher.update(&buffer[..filled]);
        }
        if filled < buffer.len() {
            return Ok(hasher.finalize().into());
        }
    }
}

fn fill(mut file: &File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

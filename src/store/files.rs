//! Small file operations that the store is built from.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::{Result, StoreError};

/// Writes a file so that a reader sees all of it or nothing: temporary file in `tmp`, fsync, rename.
pub fn write_atomic(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let readable = Permissions::from_mode(0o666); // less what the process masks
    let mut file = tempfile::Builder::new()
        .prefix("write-")
        .permissions(readable)
        .tempfile_in(tmp)
        .map_err(StoreError::io("write in", tmp))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(StoreError::io("write", path))?;
    move_file(file.path(), path)?;
    let _ = file.into_temp_path().keep(); // it has moved: there is nothing left to remove
    Ok(())
}

/// Moves a file whose content is on disk to its place, and makes the folder of that place if need be.
pub fn move_file(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ensure_parent(to)?;
            to.parent().and_then(Path::parent).map_or(Ok(()), sync_folder)?;
            fs::rename(from, to).map_err(StoreError::io("write", to))
        }
        other => other.map_err(StoreError::io("write", to)),
    }
}

/// Forces to the disk which names a folder holds: until then a power cut may undo a rename. A file system that has no such
/// thing, and a folder that has gone, have nothing to force.
pub fn sync_folder(path: &Path) -> Result<()> {
    use std::io::ErrorKind::{InvalidInput, NotFound, Unsupported};
    match File::open(path).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), InvalidInput | NotFound | Unsupported) => Ok(()),
        other => other.map_err(StoreError::io("write", path)),
    }
}

/// Makes the folder above `path`.
pub fn ensure_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(StoreError::io("create the folder of", path))
}

/// Copies the bytes of a file, sharing them where the file system can. The copy can be written to.
pub fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(StoreError::io("read", from))?;
    ensure_parent(to)?;
    let mut target = File::create(to).map_err(StoreError::io("write", to))?;
    std::io::copy(&mut source, &mut target).map(drop).map_err(StoreError::io("write", to))
}

/// Removes a folder and all in it, if it is there.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a file, if it is there.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Size of a file, or of all files of a folder.
pub fn bytes_of(path: &Path) -> u64 {
    held_in(path).1
}

/// Files at or below a path and their size. A link counts for itself, not for what it leads to; what cannot be read, or goes
/// meanwhile, does not count.
pub fn held_in(path: &Path) -> (u64, u64) {
    let files = walkdir::WalkDir::new(path).into_iter().flatten().filter(|item| item.file_type().is_file());
    let sizes = files.filter_map(|item| item.metadata().ok()).map(|metadata| metadata.len());
    sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}

/// Reads a file; none where there is none.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

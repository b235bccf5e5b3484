//! Unpacks the needed files of downloaded wheels into one folder, at the places they have in the wheels: the
//! libraries find each other by relative paths. Must not know where the wheels come from or the folder goes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use zip::ZipArchive;

use crate::error::Error;
use crate::wheels::{Bundle, Wheel};

/// Unpacks every wheel of `bundle` from the folder `wheels` into `folder`. Returns each file's path and size in bytes.
pub fn unpack(bundle: &Bundle, wheels: &Path, folder: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let mut sizes = BTreeMap::new();
    for wheel in bundle.wheels() {
        unpack_wheel(wheel, bundle.unpacked_mb, &wheels.join(wheel.file), folder, &mut sizes)?;
    }
    link_libtorch(folder)?;
    Ok(sizes)
}

fn unpack_wheel(
    wheel: &Wheel,
    needed_mb: u32,
    file: &Path,
    folder: &Path,
    sizes: &mut BTreeMap<String, u64>,
) -> Result<(), Error> {
    let unreadable = |source| Error::Wheel { wheel: file.to_owned(), source };
    let opened = File::open(file).map_err(Error::io("open", file))?;
    let mut archive = ZipArchive::new(io::BufReader::new(opened)).map_err(unreadable)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(unreadable)?;
        let Some(path) = entry.enclosed_name() else {
            continue;
        };
        let name = path.to_string_lossy().into_owned();
        if entry.is_dir() || !wheel.keeps(&name) {
            continue;
        }
        let target = folder.join(path);
        let size = write(&mut entry, &target).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { path: folder.to_owned(), needed_mb }
            }
            io::ErrorKind::InvalidData => unreadable(source.into()),
            _ => Error::io("write", &target)(source),
        })?;
        sizes.insert(name, size);
    }
    match wheel.keep.iter().find(|prefix| !sizes.keys().any(|name| name.starts_with(*prefix))) {
        Some(missing) => Err(Error::Incomplete { wheel: wheel.file.to_owned(), missing: (*missing).to_owned() }),
        None => Ok(()),
    }
}

fn write(entry: &mut impl io::Read, target: &Path) -> io::Result<u64> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    io::copy(entry, &mut File::create(target)?)
}

/// The wheel's own `libtorch.so` asks for the CUDA half; the build wants one of that name, and the CPU half serves.
fn link_libtorch(folder: &Path) -> Result<(), Error> {
    let libraries = folder.join("torch/lib");
    let link = libraries.join("libtorch.so");
    if libraries.join("libtorch_cpu.so").exists() {
        std::os::unix::fs::symlink("libtorch_cpu.so", &link).map_err(Error::io("create", &link))?;
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use std::io::Write;

    use super::*;
    use crate::wheels::Flavour;

    pub fn write_wheel(path: &Path, files: &[(&str, &str)]) {
        let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, content) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
    }

    const BUNDLE: Bundle = Bundle {
        platform: "tiny",
        flavour: Flavour::Cpu,
        tested: true,
        wheels: &[&[Wheel { file: "a-1-py3-none-any.whl", sha256: "", keep: &["a/lib/"] }]],
        download_mb: 1,
        unpacked_mb: 1,
    };

    #[test]
    fn keeps_what_is_listed_and_the_licences() {
        let folder = tempfile::tempdir().unwrap();
        let files =
            [("a/lib/x.so", "x"), ("a/b.py", "b"), ("a-1.dist-info/licenses/LICENSE", "free"), ("../evil", "e")];
        write_wheel(&folder.path().join("a-1-py3-none-any.whl"), &files);
        let out = folder.path().join("out");
        let sizes = unpack(&BUNDLE, folder.path(), &out).unwrap();
        let kept: Vec<_> = sizes.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        assert_eq!(kept, [("a-1.dist-info/licenses/LICENSE", 4), ("a/lib/x.so", 1)]);
        assert!(!folder.path().join("evil").exists());
    }

    #[test]
    fn a_wheel_without_what_is_needed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_wheel(&folder.path().join("a-1-py3-none-any.whl"), &[("a/b.py", "b")]);
        let error = unpack(&BUNDLE, folder.path(), &folder.path().join("out")).unwrap_err();
        assert!(matches!(&error, Error::Incomplete { missing, .. } if missing == "a/lib/"), "{error}");
    }

    #[test]
    fn a_truncated_wheel_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a-1-py3-none-any.whl");
        write_wheel(&wheel, &[("a/lib/x.so", "content")]);
        let whole = fs::read(&wheel).unwrap();
        fs::write(&wheel, &whole[..whole.len() / 2]).unwrap();
        let error = unpack(&BUNDLE, folder.path(), &folder.path().join("out")).unwrap_err();
        assert!(matches!(&error, Error::Wheel { wheel: named, .. } if *named == wheel), "{error}");
    }
}

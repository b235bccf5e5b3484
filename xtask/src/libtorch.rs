//! Finds libtorch, or gets it: `LIBTORCH` as it is, else the pinned wheels unpacked once into the user's cache folder,
//! which all checkouts share. A folder that bears its final name is whole: it is unpacked beside it and renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::driver::Driver;
use crate::error::Error;
use crate::pip;
use crate::unpack;
use crate::wheels::{Bundle, Flavour, OLDEST_DRIVER, VERSION};

/// Path and size of every unpacked file, in the folder itself: tells a whole folder from a damaged one.
const MANIFEST: &str = "manifest.json";

/// A libtorch that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder that holds `lib` and `include`: what `LIBTORCH` names.
    pub root: PathBuf,
}

impl Libtorch {
    pub fn libraries(&self) -> PathBuf {
        self.root.join("lib")
    }
}

/// What the user said about the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Cpu,
    Cuda,
    /// CUDA where there is a driver, or where it was set up before.
    WhatFits,
}

/// The libtorch to build against, downloaded if it is not there yet.
pub fn set_up(wish: Wish) -> Result<Libtorch, Error> {
    if let Some(root) = std::env::var_os("LIBTORCH").filter(|root| !root.is_empty()) {
        return given(PathBuf::from(root));
    }
    let cache = cache_folder()?;
    let flavour = choose_flavour(wish, Driver::of_this_machine(), &cache)?;
    let bundle = Bundle::for_this_machine(flavour).ok_or_else(|| unknown_platform(flavour))?;
    obtain(bundle, &cache, pip::download)
}

fn unknown_platform(flavour: Flavour) -> Error {
    let suffix = if flavour == Flavour::Cuda { " with CUDA (`--cpu` goes without)" } else { "" };
    Error::UnknownPlatform { platform: format!("{}-{}{suffix}", std::env::consts::OS, std::env::consts::ARCH) }
}

/// The user's own libtorch: used as it is, after a look that spares a hard-to-read compiler error.
fn given(root: PathBuf) -> Result<Libtorch, Error> {
    let root = fs::canonicalize(&root).unwrap_or(root);
    let library = if cfg!(target_os = "macos") { "lib/libtorch_cpu.dylib" } else { "lib/libtorch_cpu.so" };
    for needed in [library, "include/torch"] {
        if !root.join(needed).exists() {
            return Err(Error::NotLibtorch { path: root, missing: needed.to_owned() });
        }
    }
    if let Ok(found) = fs::read_to_string(root.join("build-version")) {
        let found = found.trim();
        if found.split('+').next() != Some(VERSION) {
            return Err(Error::OtherLibtorch { path: root, found: found.to_owned() });
        }
    }
    Ok(Libtorch { root })
}

fn cache_folder() -> Result<PathBuf, Error> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join("neftpipe"))
        .ok_or(Error::NoCacheFolder)
}

fn choose_flavour(wish: Wish, driver: Option<Driver>, cache: &Path) -> Result<Flavour, Error> {
    let too_old = driver.as_ref().and_then(|driver| driver.older_than(OLDEST_DRIVER));
    match (wish, &driver, too_old) {
        (Wish::Cpu, ..) => Ok(Flavour::Cpu),
        (Wish::Cuda | Wish::WhatFits, _, Some(release)) => Err(Error::DriverTooOld { release: release.to_owned() }),
        (Wish::Cuda, ..) | (Wish::WhatFits, Some(_), _) => Ok(Flavour::Cuda),
        (Wish::WhatFits, None, _) => {
            let set_up_before = Bundle::for_this_machine(Flavour::Cuda)
                .is_some_and(|bundle| cache.join(bundle.folder_name()).join(MANIFEST).exists());
            Ok(if set_up_before { Flavour::Cuda } else { Flavour::Cpu })
        }
    }
}

/// Unpacks `bundle` into `cache` unless it is there, whole. `download` leaves its wheels in the folder it is given.
fn obtain(
    bundle: &Bundle,
    cache: &Path,
    download: impl FnOnce(&Bundle, &Path) -> Result<(), Error>,
) -> Result<Libtorch, Error> {
    let folder = cache.join(bundle.folder_name());
    let libtorch = Libtorch { root: folder.join("torch") };
    if is_whole(&folder) {
        return Ok(libtorch);
    }
    fs::create_dir_all(cache).map_err(Error::io("create", cache))?;
    let _held_until_return = lock(&cache.join("setup.lock"))?;
    if is_whole(&folder) {
        return Ok(libtorch); // another process got it while this one waited
    }
    announce(bundle, &folder);

    let wheels = cache.join("wheels");
    fs::create_dir_all(&wheels).map_err(Error::io("create", &wheels))?;
    download(bundle, &wheels)?;

    let partial = cache.join(format!("{}.partial", bundle.folder_name()));
    remove(&partial)?;
    let unpacked = unpack::unpack(bundle, &wheels, &partial);
    if unpacked.is_err() {
        remove(&partial)?; // a full disk is no place for half a libtorch
    }
    write_manifest(&partial, &unpacked?)?;
    remove(&folder)?; // what an older set-up left damaged
    fs::rename(&partial, &folder).map_err(Error::io("rename", &partial))?;
    remove(&wheels)?;
    eprintln!("libtorch {VERSION} is in {}", folder.display());
    Ok(libtorch)
}

fn announce(bundle: &Bundle, folder: &Path) {
    eprintln!(
        "Getting libtorch {VERSION} ({}, {}): {} MB to download, {} MB unpacked into {}",
        bundle.platform,
        bundle.flavour.name(),
        bundle.download_mb,
        bundle.unpacked_mb,
        folder.display()
    );
    if !bundle.tested {
        eprintln!("This libtorch is pinned, but untested on a machine of its kind.");
    }
}

/// One set-up at a time; the lock falls with the process, however that ends.
fn lock(path: &Path) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    if file.try_lock().is_err() {
        eprintln!("Waiting for another set-up of libtorch to finish…");
        file.lock().map_err(Error::io("lock", path))?;
    }
    Ok(file)
}

fn write_manifest(folder: &Path, sizes: &BTreeMap<String, u64>) -> Result<(), Error> {
    let path = folder.join(MANIFEST);
    let text = serde_json::to_string(sizes).expect("a map of strings to numbers is JSON");
    fs::write(&path, text).map_err(Error::io("write", &path))
}

/// Whether every file is there with its size: cache cleaners delete single old files, a crash can leave empty ones.
fn is_whole(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join(MANIFEST)) else {
        return false;
    };
    let Ok(sizes) = serde_json::from_str::<BTreeMap<String, u64>>(&text) else {
        return false;
    };
    sizes.iter().all(|(path, size)| fs::metadata(folder.join(path)).is_ok_and(|found| found.len() == *size))
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::wheels::Wheel;

    const TINY: Bundle = Bundle {
        platform: "tiny",
        flavour: Flavour::Cpu,
        tested: true,
        wheels: &[&[Wheel {
            file: "torch-2.13.0-cp311-cp311-tiny.whl",
            sha256: "",
            keep: &["torch/include/", "torch/lib/libtorch_cpu.so"],
        }]],
        download_mb: 1,
        unpacked_mb: 1,
    };

    fn tiny_download(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
        let wheel = bundle.wheels().next().unwrap();
        unpack::tests::write_wheel(
            &folder.join(wheel.file),
            &[("torch/lib/libtorch_cpu.so", "elf"), ("torch/include/torch/torch.h", "//"), ("torch/nn.py", "pass")],
        );
        Ok(())
    }

    #[test]
    fn is_unpacked_once_and_used_from_then_on() {
        let cache = tempfile::tempdir().unwrap();
        let downloads = Cell::new(0);
        for _ in 0..2 {
            let libtorch = obtain(&TINY, cache.path(), |bundle, folder| {
                downloads.set(downloads.get() + 1);
                tiny_download(bundle, folder)
            })
            .unwrap();
            assert_eq!(fs::read_to_string(libtorch.libraries().join("libtorch.so")).unwrap(), "elf");
            assert!(!libtorch.root.join("nn.py").exists());
        }
        assert_eq!(downloads.get(), 1);
        assert!(!cache.path().join("wheels").exists(), "the wheels are not kept twice");
    }

    #[test]
    fn a_damaged_folder_is_made_again() {
        let cache = tempfile::tempdir().unwrap();
        let libtorch = obtain(&TINY, cache.path(), tiny_download).unwrap();
        let library = libtorch.libraries().join("libtorch_cpu.so");
        fs::write(&library, "").unwrap();
        obtain(&TINY, cache.path(), tiny_download).unwrap();
        assert_eq!(fs::read_to_string(&library).unwrap(), "elf");
    }

    #[test]
    fn what_an_interrupted_set_up_left_is_no_libtorch() {
        let cache = tempfile::tempdir().unwrap();
        let partial = cache.path().join(format!("{}.partial", TINY.folder_name()));
        fs::create_dir_all(partial.join("torch/lib")).unwrap();
        fs::write(partial.join("torch/lib/stale.so"), "half").unwrap();
        let libtorch = obtain(&TINY, cache.path(), tiny_download).unwrap();
        assert!(!libtorch.libraries().join("stale.so").exists());
        assert!(!partial.exists());
    }

    #[test]
    fn a_failed_download_leaves_no_folder_behind_and_keeps_its_wheels() {
        let cache = tempfile::tempdir().unwrap();
        let fail = |_: &Bundle, folder: &Path| {
            fs::write(folder.join("first.whl"), "whole").unwrap();
            Err(Error::NoPip)
        };
        assert!(matches!(obtain(&TINY, cache.path(), fail), Err(Error::NoPip)));
        assert!(!cache.path().join(TINY.folder_name()).exists());
        assert!(cache.path().join("wheels/first.whl").exists());
    }

    #[test]
    fn two_at_once_share_one_download() {
        let cache = tempfile::tempdir().unwrap();
        let downloads = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    obtain(&TINY, cache.path(), |bundle, folder| {
                        downloads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        tiny_download(bundle, folder)
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(downloads.into_inner(), 1);
    }

    #[test]
    fn the_driver_decides_unless_the_user_does() {
        let cache = tempfile::tempdir().unwrap();
        let choose = |wish, release: Option<&str>| {
            let driver = release.map(|release| Driver { release: Some(release.to_owned()) });
            choose_flavour(wish, driver, cache.path())
        };
        assert_eq!(choose(Wish::WhatFits, None).unwrap(), Flavour::Cpu);
        assert_eq!(choose(Wish::WhatFits, Some("580.65.06")).unwrap(), Flavour::Cuda);
        assert_eq!(choose(Wish::Cuda, None).unwrap(), Flavour::Cuda);
        assert_eq!(choose(Wish::Cpu, Some("535.104.05")).unwrap(), Flavour::Cpu);
        let message = choose(Wish::WhatFits, Some("535.104.05")).unwrap_err().to_string();
        for part in ["535.104.05", "580", "--cpu", "LIBTORCH"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }

    #[test]
    fn a_wrong_libtorch_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = given(folder.path().to_owned()).unwrap_err().to_string();
        assert!(message.contains("lib/libtorch_cpu") && message.contains("LIBTORCH"), "{message}");

        fs::create_dir_all(folder.path().join("include/torch")).unwrap();
        fs::create_dir_all(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
        fs::write(folder.path().join("lib/libtorch_cpu.dylib"), "").unwrap();
        assert!(given(folder.path().to_owned()).is_ok());
        fs::write(folder.path().join("build-version"), "2.11.0+cpu\n").unwrap();
        assert!(matches!(given(folder.path().to_owned()), Err(Error::OtherLibtorch { .. })));
    }
}

//! Puts the CLI, its workers and their libraries under one prefix that can be moved as a whole:
//! `bin/neftpipe`, `libexec/neftpipe/` with the workers, `lib/neftpipe/` with libtorch as its wheels lay it out.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::error::Error;
use crate::libtorch::Libtorch;
use crate::workspace::{BASIC_WORKER, CLI, TORCH_WORKER, run};

/// Installs what lies built in `binaries` under `prefix`, and starts it there once.
pub fn install(binaries: &Path, libtorch: &Libtorch, prefix: &Path) -> Result<(), Error> {
    fs::create_dir_all(prefix).map_err(Error::io("create", prefix))?;
    let prefix = fs::canonicalize(prefix).map_err(Error::io("find", prefix))?;
    install_libraries(libtorch, &prefix.join("lib/neftpipe"))?;
    let workers = prefix.join("libexec/neftpipe");
    replace(&binaries.join(BASIC_WORKER), &workers.join(BASIC_WORKER))?;
    replace(&binaries.join(TORCH_WORKER), &workers.join(TORCH_WORKER))?;
    let cli = prefix.join("bin").join(CLI);
    replace(&binaries.join(CLI), &cli)?;
    check(&cli, &["--version"])?;
    for worker in [BASIC_WORKER, TORCH_WORKER] {
        check(&workers.join(worker), &["describe"])?;
    }
    eprintln!("Installed {} and its workers; the folder {} can be moved as a whole.", cli.display(), prefix.display());
    Ok(())
}

/// The libraries of libtorch and, from beside it, those of NVIDIA, at the same places relative to each other.
fn install_libraries(libtorch: &Libtorch, folder: &Path) -> Result<(), Error> {
    let partial = folder.with_extension("partial");
    for stale in [&partial, &folder.with_extension("old")] {
        remove(stale)?;
    }
    copy_libraries(&libtorch.libraries(), &partial.join("torch/lib"))?;
    let beside = libtorch.root.parent().unwrap_or(Path::new("/"));
    for nvidia in entries(&beside.join("nvidia"))? {
        if let Some(name) = nvidia.file_name() {
            copy_libraries(&nvidia.join("lib"), &partial.join("nvidia").join(name).join("lib"))?;
        }
    }
    copy_licences(beside, &partial.join("licenses"))?;
    let old = folder.with_extension("old");
    if folder.exists() {
        fs::rename(folder, &old).map_err(Error::io("rename", folder))?;
    }
    fs::rename(&partial, folder).map_err(Error::io("rename", &partial))?;
    remove(&old)
}

/// Shared libraries only: `libtorch_python` would want a Python, and `libtorch` as a link serves the build alone.
fn copy_libraries(from: &Path, to: &Path) -> Result<(), Error> {
    for file in entries(from)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_library = name.contains(".so") || name.ends_with(".dylib");
        let is_for_the_build = name == "libtorch.so" && file.is_symlink();
        if is_library && !is_for_the_build && !name.starts_with("libtorch_python") {
            copy(&file, &to.join(name))?;
        }
    }
    Ok(())
}

fn copy_licences(beside: &Path, to: &Path) -> Result<(), Error> {
    for info in entries(beside)? {
        let name = info.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(package) = name.strip_suffix(".dist-info") else { continue };
        if package.starts_with("torch-") || package.starts_with("nvidia_") {
            copy_tree(&info.join("licenses"), &to.join(package))?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in entries(from)? {
        let target = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            copy_tree(&entry, &target)?;
        } else {
            copy(&entry, &target)?;
        }
    }
    Ok(())
}

/// What a folder holds, sorted; nothing where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = read.map_err(Error::io("read", folder))?;
    paths.sort();
    Ok(paths)
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::copy(from, to).map(drop).map_err(Error::io("write", to))
}

/// Copies beside and renames, so that a program that runs from there keeps running.
fn replace(from: &Path, to: &Path) -> Result<(), Error> {
    let partial = to.with_extension("partial");
    copy(from, &partial)?;
    fs::rename(&partial, to).map_err(Error::io("rename", &partial))
}

fn remove(folder: &Path) -> Result<(), Error> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(Error::io("remove", folder)) } else { Ok(()) }
}

/// How often a program is started that is said to be still written.
const STARTS: usize = 50;

/// Starts an installed program without any help to find its libraries. What was just written may be busy for an instant: a
/// process that another thread began meanwhile holds it open until it has become its program.
fn check(program: &Path, arguments: &[&str]) -> Result<(), Error> {
    for _ in 1..STARTS {
        match start(program, arguments) {
            Err(Error::Start { source, .. }) if source.kind() == ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
    start(program, arguments)
}

fn start(program: &Path, arguments: &[&str]) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("LD_LIBRARY_PATH").env_remove("LIBTORCH").stdout(Stdio::null());
    run(command)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn write(path: PathBuf, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A libtorch and three programs that only exit.
    fn built(folder: &Path) -> (PathBuf, Libtorch) {
        let libtorch = folder.join("libtorch");
        write(libtorch.join("torch/lib/libtorch_cpu.so"), "cpu");
        write(libtorch.join("torch/lib/libtorch_python.so"), "python");
        write(libtorch.join("torch/lib/libgomp.so.1"), "gomp");
        write(libtorch.join("torch/include/torch/torch.h"), "");
        write(libtorch.join("nvidia/cu13/lib/libcudart.so.13"), "cudart");
        write(libtorch.join("torch-2.13.0.dist-info/licenses/third_party/a/LICENSE"), "free");
        symlink("libtorch_cpu.so", libtorch.join("torch/lib/libtorch.so")).unwrap();
        let binaries = folder.join("release");
        for name in [CLI, BASIC_WORKER, TORCH_WORKER] {
            write(binaries.join(name), "#!/bin/sh\nexit 0\n");
            fs::set_permissions(binaries.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        (binaries, Libtorch { root: libtorch.join("torch") })
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in entries(folder).unwrap() {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() {
                found.extend(files(&entry).iter().map(|inner| format!("{name}/{inner}")));
            } else {
                found.push(name);
            }
        }
        found
    }

    #[test]
    fn lays_out_a_prefix_and_does_so_again() {
        let folder = tempfile::tempdir().unwrap();
        let (binaries, libtorch) = built(folder.path());
        let prefix = folder.path().join("prefix");
        for _ in 0..2 {
            install(&binaries, &libtorch, &prefix).unwrap();
            assert_eq!(
                files(&prefix),
                [
                    "bin/neftpipe",
                    "lib/neftpipe/licenses/torch-2.13.0/third_party/a/LICENSE",
                    "lib/neftpipe/nvidia/cu13/lib/libcudart.so.13",
                    "lib/neftpipe/torch/lib/libgomp.so.1",
                    "lib/neftpipe/torch/lib/libtorch_cpu.so",
                    "libexec/neftpipe/neftpipe-stage",
                    "libexec/neftpipe/neftpipe-stage-torch",
                ]
            );
        }
    }

    #[test]
    fn a_program_that_does_not_start_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (binaries, libtorch) = built(folder.path());
        fs::write(binaries.join(TORCH_WORKER), "#!/bin/sh\nexit 127\n").unwrap();
        let message = install(&binaries, &libtorch, &folder.path().join("prefix")).unwrap_err().to_string();
        assert!(message.contains("neftpipe-stage-torch describe"), "{message}");
    }
}

//! `pypi:NAME==VERSION`: the files of a package, through the machine's own `pip`.
//!
//! pip knows the index, proxy and credentials that this machine is set up with, so no registry is named here.
//! Only wheels are taken: they are archives, while a source package would run its own code. Nothing is installed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use neftpipe_protocol::worker::{Job, io_failure};
use neftpipe_protocol::{Failure, FailureClass};
use rustix::process::{Signal, set_parent_process_death_signal};
use zip::ZipArchive;

use super::resolved::{Resolved, ResolvedFile};
use super::select::check_name;
use super::transfer::sha256_of;
use super::{Fetch, Fetched, SourceFile, measured};
use crate::download::Halt;

/// The selected files of the package.
pub fn fetch(fetch: &Fetch, name: &str, version: &str) -> Result<Fetched, Halt> {
    let pin = fetch.resolved()?;
    let requirement = format!("{name}=={version}");
    let folder = fetch.scratch.join("wheel");
    fs::create_dir_all(&folder).map_err(|error| io_failure("create", &folder, &error))?;
    pip_download(fetch, &requirement, &folder)?;
    let wheel = only_wheel(&folder, &requirement)?;
    let file = digest(&wheel)?;
    if let Some(pinned) = pin.as_ref().and_then(|pin| pin.files.first()) {
        file.check_pin(pinned)?;
    }
    fetch.check_sha256(std::slice::from_ref(&file))?;
    let files = unpack(fetch, &wheel)?;
    fs::remove_file(&wheel).map_err(|error| io_failure("remove", &wheel, &error))?;
    let (source, bytes) = (fetch.params.from.clone(), file.bytes);
    let resolved = Resolved { source, commit: None, select: Vec::new(), artifact: None, files: vec![file] };
    Ok(Fetched { files, resolved: Some(resolved), measured: measured(bytes) })
}

fn pip_download(fetch: &Fetch, requirement: &str, folder: &Path) -> Result<(), Halt> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]);
    command.args(["--disable-pip-version-check", "--progress-bar=off", "--dest"]).arg(folder);
    if fetch.offline() {
        command.arg("--no-index"); // only local folders of PIP_FIND_LINKS are left
    }
    command.arg(requirement).stdin(Stdio::null()).stdout(Stdio::inherit());
    fetch.job.progress(0, None, "bytes", Some(requirement.to_owned()));
    let (succeeded, complaint) = run(fetch.job, command)?;
    if succeeded { Ok(()) } else { Err(explain(requirement, &complaint, fetch.offline()).into()) }
}

/// Runs a command to its end, or until the worker is asked to stop. Returns whether it succeeded and its stderr.
fn run(job: &Job, mut command: Command) -> Result<(bool, String), Halt> {
    const NAP: Duration = Duration::from_millis(20);
    // SAFETY: between fork and exec the closure makes one system call (prctl) and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|error| missing(&error))?;
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let complaint = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let status = loop {
        if job.should_stop() {
            child.kill().and_then(|()| child.wait()).map_err(|error| missing(&error))?;
            return Err(Halt::Interrupted);
        }
        match child.try_wait().map_err(|error| missing(&error))? {
            Some(status) => break status,
            None => std::thread::sleep(NAP),
        }
    };
    let complaint = complaint.join().map_err(|_| Failure::internal("reading from pip panicked"))?;
    let complaint = complaint.map_err(|error| missing(&error))?;
    eprint!("{complaint}");
    Ok((status.success(), complaint))
}

fn missing(error: &io::Error) -> Failure {
    Failure::environment(format!("python3 -m pip cannot be run: {error}"))
        .with_hint("`pypi:` sources need python3 with pip on the PATH")
}

fn explain(requirement: &str, complaint: &str, offline: bool) -> Failure {
    if complaint.contains("No module named pip") {
        return Failure::environment("python3 is there, but it has no pip")
            .with_hint("install pip (`python3 -m ensurepip`, or the system's python3-pip)");
    }
    let last = complaint.lines().rev().find(|line| line.starts_with("ERROR:")).unwrap_or("it gave no reason");
    let last = last.trim_start_matches("ERROR:").trim();
    let failure = Failure::new(FailureClass::Environment, format!("pip could not download {requirement}: {last}"));
    if offline {
        return failure.with_hint("--offline was asked for: run once without it, or name a folder in PIP_FIND_LINKS");
    }
    failure.with_hint("pip said more in this stage's log; check the version, the index and the network")
}

fn only_wheel(folder: &Path, requirement: &str) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| io_failure("read", folder, &error))?;
    let files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| io_failure("read", folder, &error))?;
    match files.as_slice() {
        [wheel] if wheel.extension() == Some(OsStr::new("whl")) => Ok(wheel.clone()),
        _ => Err(Failure::environment(format!("pip download {requirement} left {} files, not one wheel", files.len()))),
    }
}

fn digest(wheel: &Path) -> Result<ResolvedFile, Failure> {
    let (bytes, sha256) = sha256_of(wheel)?;
    let path = wheel.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(ResolvedFile { path, bytes, sha256 })
}

/// Unpacks the selected files of a wheel.
fn unpack(fetch: &Fetch, wheel: &Path) -> Result<Vec<SourceFile>, Halt> {
    let from = &fetch.params.from;
    let broken =
        |error: zip::result::ZipError| Failure::data(format!("{from}: what pip brought is not a wheel: {error}"));
    let file = File::open(wheel).map_err(|error| io_failure("read", wheel, &error))?;
    let mut archive = ZipArchive::new(file).map_err(broken)?;
    let selection = fetch.selection()?;
    let names = archive.file_names().map(|name| name.map(std::borrow::Cow::into_owned));
    let names: Vec<String> = names.collect::<Result<_, _>>().map_err(broken)?;
    let mut files = Vec::new();
    for name in names.iter().filter(|name| !name.ends_with('/') && selection.takes(name)) {
        if fetch.job.should_stop() {
            return Err(Halt::Interrupted);
        }
        check_name(from, name)?;
        let path = fetch.scratch.join("package").join(name);
        let mut packed = archive.by_name(name).map_err(broken)?;
        write(&mut packed, &path, name)?;
        files.push(SourceFile { name: name.clone(), path, ours: true });
    }
    if files.is_empty() {
        return Err(selection.nothing(from, names.iter().map(String::as_str).collect()).into());
    }
    Ok(files)
}

fn write(packed: &mut impl Read, path: &Path, name: &str) -> Result<(), Failure> {
    let parent = path.parent().expect("a file below the scratch folder");
    fs::create_dir_all(parent).map_err(|error| io_failure("create", parent, &error))?;
    let mut file = File::create(path).map_err(|error| io_failure("write", path, &error))?;
    io::copy(packed, &mut file).map_err(|error| match error.kind() {
        // The archive's own checksums speak through these kinds.
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::Other
        | io::ErrorKind::UnexpectedEof => Failure::data(format!("{name}: the wheel is damaged: {error}")),
        _ => io_failure("write", path, &error),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_s_complaints_become_failures() {
        let failure = explain("a==1", "WARNING: x\nERROR: No matching distribution found for a==1\n", false);
        assert_eq!(failure.class, FailureClass::Environment);
        assert!(failure.message.contains("No matching distribution"), "{failure}");
        assert!(explain("a==1", "/usr/bin/python3: No module named pip\n", false).message.contains("no pip"));
    }
}

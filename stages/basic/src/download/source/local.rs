//! `file:PATH`: a file or a folder of this machine, relative to the pipeline file.
//!
//! Links are followed, as the hub's cache and many data folders are made of them. The files stay where they are;
//! writing the artifact copies them (by reference where the file system can), so that a later edit cannot reach it.

use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::worker::io_failure;
use walkdir::WalkDir;

use super::{Fetch, Fetched, ResolvedFile, SourceFile};
use crate::download::Halt;
use crate::download::source::transfer::sha256_of;

/// The file at `path`, or the selected files of the folder there.
pub fn fetch(fetch: &Fetch, path: &Path) -> Result<Fetched, Halt> {
    let root = fetch.job.request.base.join(path);
    let metadata = root.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::environment(format!("{} does not exist", root.display()))
            .with_hint("`file:` paths are relative to the folder of the pipeline file"),
        _ => io_failure("read", &root, &error),
    })?;
    let files = if metadata.is_dir() { selected(fetch, &root)? } else { vec![only(&root)?] };
    check_sha256(fetch, &files)?;
    Ok(Fetched { files, resolved: None, measured: Metrics::new() })
}

fn selected(fetch: &Fetch, root: &Path) -> Result<Vec<SourceFile>, Failure> {
    let selection = fetch.selection()?;
    let all = walk(root)?;
    let files: Vec<_> = all.iter().filter(|file| selection.takes(&file.name)).cloned().collect();
    if files.is_empty() {
        let names = all.iter().map(|file| file.name.as_str()).collect();
        return Err(selection.nothing(&fetch.params.from, names));
    }
    Ok(files)
}

fn only(path: &Path) -> Result<SourceFile, Failure> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(SourceFile { name: text(name.as_ref())?, path: path.to_owned(), ours: false })
}

fn walk(root: &Path) -> Result<Vec<SourceFile>, Failure> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| Failure::environment(format!("{}: {error}", root.display())))?;
        if entry.file_type().is_file() {
            let inside = entry.path().strip_prefix(root).expect("a walk stays below its root");
            files.push(SourceFile { name: text(inside)?, path: entry.path().to_owned(), ours: false });
        }
    }
    Ok(files)
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::data(format!("the file name {path:?} is not UTF-8; rename the file or leave it out")))
}

fn check_sha256(fetch: &Fetch, files: &[SourceFile]) -> Result<(), Halt> {
    if fetch.params.sha256.is_none() {
        return Ok(());
    }
    let digested: Vec<_> = files.iter().map(digest).collect::<Result<_, Halt>>()?;
    Ok(fetch.check_sha256(&digested)?)
}

fn digest(file: &SourceFile) -> Result<ResolvedFile, Halt> {
    let (bytes, sha256) = sha256_of(&file.path)?;
    Ok(ResolvedFile { path: file.name.clone(), bytes, sha256 })
}

//! Which local files a source or a command's `files` name: paths relative to a folder, sorted.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use walkdir::WalkDir;

/// A file, and the name under which it is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalFile {
    /// Relative path with `/` between its parts.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The files that a source names: the file itself, or those of a folder that a glob selects (all without globs).
///
/// # Errors
/// Where the path is absent, cannot be read, or nothing is selected.
pub fn of_source(root: &Path, select: &[String]) -> Result<Vec<LocalFile>, Failure> {
    let metadata = std::fs::metadata(root).map_err(|error| absent(root, &error))?;
    if metadata.is_file() {
        let name = root.file_name().unwrap_or_default().to_str().ok_or_else(|| not_utf8(root))?.to_owned();
        return Ok(vec![LocalFile { name, path: root.to_owned() }]);
    }
    if select.is_empty() {
        let mut files = walk(root, root, &|_| true)?;
        files.sort();
        some(root, files, select)
    } else {
        matching(root, select)
    }
}

/// The files below a folder that these globs select. Only folders that a glob can reach are walked.
///
/// # Errors
/// Where a glob is none, a folder cannot be read, or nothing is selected.
pub fn matching(root: &Path, globs: &[String]) -> Result<Vec<LocalFile>, Failure> {
    let set = compile(globs)?;
    let mut files = Vec::new();
    for glob in globs {
        let start = root.join(literal_prefix(glob));
        if start.exists() {
            files.extend(walk(root, &start, &|name| set.is_match(name))?);
        }
    }
    files.sort();
    files.dedup();
    some(root, files, globs)
}

fn compile(globs: &[String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let glob = glob.trim_start_matches("./");
        let compiled = GlobBuilder::new(glob).literal_separator(true).build();
        set.add(compiled.map_err(|error| Failure::usage(format!("`{glob}` is no glob: {}", error.kind())))?);
    }
    set.build().map_err(|error| Failure::usage(error.to_string()))
}

/// The leading folders, or the whole path, of a glob that hold no pattern.
fn literal_prefix(glob: &str) -> PathBuf {
    let is_literal = |part: &&str| !part.contains(['*', '?', '[', '{']);
    glob.trim_start_matches("./").split('/').take_while(is_literal).collect()
}

/// In no order.
fn walk(root: &Path, start: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<LocalFile>, Failure> {
    let mut files = Vec::new();
    for entry in WalkDir::new(start).follow_links(true) {
        let entry = entry.map_err(|error| Failure::environment(format!("cannot read {error}")))?;
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let name = relative.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        if entry.file_type().is_file() && wanted(&name) {
            if relative.to_str().is_none() {
                return Err(not_utf8(relative));
            }
            files.push(LocalFile { name, path: entry.into_path() });
        }
    }
    Ok(files)
}

fn some(root: &Path, files: Vec<LocalFile>, globs: &[String]) -> Result<Vec<LocalFile>, Failure> {
    if files.is_empty() {
        let selected = if globs.is_empty() { String::new() } else { format!(" that {} selects", globs.join(", ")) };
        return Err(Failure::environment(format!("there is no file{selected} in {}", root.display())));
    }
    Ok(files)
}

/// Two such names could look the same in a key.
fn not_utf8(name: &Path) -> Failure {
    Failure::data(format!("the file name {name:?} is not UTF-8")).with_hint("rename the file, or leave it out")
}

fn absent(root: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::environment(format!("the source {} is absent", root.display()))
            .with_hint("paths are relative to the pipeline file"),
        _ => io_failure("read", root, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(files: Vec<LocalFile>) -> Vec<String> {
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn globs_select_below_the_folder_and_only_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["analyse.py", "lib/a.py", "lib/deep/b.py", "other/c.py"] {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), name).unwrap();
        }
        let globs = ["analyse.py".to_owned(), "lib/**".to_owned()];
        assert_eq!(names(matching(dir.path(), &globs).unwrap()), ["analyse.py", "lib/a.py", "lib/deep/b.py"]);
        assert_eq!(names(matching(dir.path(), &["*/*.py".to_owned()]).unwrap()), ["lib/a.py", "other/c.py"]);
        assert_eq!(names(of_source(&dir.path().join("analyse.py"), &[]).unwrap()), ["analyse.py"]);
        assert_eq!(of_source(dir.path(), &[]).unwrap().len(), 4);
    }

    #[test]
    fn what_is_absent_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = of_source(&dir.path().join("none"), &[]).unwrap_err();
        assert_eq!(error.class, neftpipe_protocol::FailureClass::Environment);
        assert!(matching(dir.path(), &["*.py".to_owned()]).is_err());
        assert!(matching(dir.path(), &["[".to_owned()]).is_err());
    }
}

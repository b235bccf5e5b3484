//! The files that a command brings along: those that are named exist, and those that `run` names are brought.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path as FilePath, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::Value;

use super::model::Instance;
use super::problem::{Code, Problem};
use super::stage::{Draft, stage_place};

/// Checks the files of commands. It asks the file system once for each name.
#[derive(Default)]
pub struct Scripts {
    listings: HashMap<PathBuf, HashSet<String>>,
    exists: HashMap<PathBuf, bool>,
    globs: HashMap<Vec<String>, Result<GlobSet, (String, String)>>,
    /// The stage and the files that were looked at last: its instances follow one another.
    checked: Option<(String, Vec<String>)>,
}

impl Scripts {
    /// Says what is wrong with the files of a command.
    pub fn check(&mut self, draft: &Draft, instance: &Instance, problems: &mut Vec<Problem>) {
        let files: Vec<String> = instance.params["files"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        if self.checked.as_ref().is_none_or(|(stage, known)| *stage != draft.name || *known != files) {
            self.check_files(draft, &files, problems);
            self.checked = Some((draft.name.clone(), files.clone()));
        }
        let run = instance.params["run"].as_str().unwrap_or_default();
        let outside: Vec<&str> = words(run).filter(|word| self.is_unheld(draft, &files, word)).collect();
        for name in outside {
            let run_place = stage_place(&draft.name, &[draft.kind.name(), "run"]);
            problems.push(
                Problem::warning(
                    Code::ScriptNotInFiles,
                    run_place,
                    format!("`run` names `{name}`, which stands beside the pipeline file, and `files` does not hold it"),
                )
                .hint(format!("the command runs in a fresh directory: add `{name}` to `files`, so that it is found there and edits of it are seen")),
            );
        }
    }

    /// Says what is wrong with `files`, each at its place.
    fn check_files(&mut self, draft: &Draft, files: &[String], problems: &mut Vec<Problem>) {
        let place = stage_place(&draft.name, &[draft.kind.name(), "files"]);
        let place = |file: &str| place.spelling(file);
        for file in files {
            let path = FilePath::new(file);
            let plain = !file.contains(['*', '?', '[', '{']);
            if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
                let message = format!("`{file}` leads out of the folder of the pipeline file");
                problems.push(
                    Problem::new(Code::BadValue, place(file), message)
                        .hint("`files` are relative to the pipeline file and keep their places"),
                );
            } else if plain && !self.exists(&draft.folder.join(file)) {
                let message = format!("there is no file `{file}` beside the pipeline file");
                problems.push(
                    Problem::new(Code::MissingFile, place(file), message)
                        .hint("paths in `files` are relative to the pipeline file"),
                );
            }
        }
        let compiled = self.globs.entry(files.to_vec()).or_insert_with(|| compile(files));
        if let Err((file, error)) = compiled {
            problems.push(Problem::new(Code::BadValue, place(file), format!("`{file}` is no pattern: {error}")));
        }
    }

    fn is_unheld(&mut self, draft: &Draft, files: &[String], word: &str) -> bool {
        let name = word.trim_start_matches("./");
        let first = name.split('/').next().unwrap_or_default();
        let known = self.listings.entry(draft.folder.to_path_buf()).or_insert_with(|| listing(&draft.folder));
        if !known.contains(first) || !self.is_file(&draft.folder.join(name)) {
            return false;
        }
        // Where the patterns are wrong, that is the problem to mend first.
        self.globs.get(files).and_then(|globs| globs.as_ref().ok()).is_some_and(|globs| !globs.is_match(name))
    }

    fn exists(&mut self, path: &FilePath) -> bool {
        *self.exists.entry(path.to_owned()).or_insert_with(|| path.exists())
    }

    fn is_file(&mut self, path: &FilePath) -> bool {
        self.exists(path) && path.is_file()
    }
}

/// The patterns together, or the first that is none and why.
fn compile(files: &[String]) -> Result<GlobSet, (String, String)> {
    let mut builder = GlobSetBuilder::new();
    for file in files {
        let glob = GlobBuilder::new(file.trim_start_matches("./")).literal_separator(true).build();
        builder.add(glob.map_err(|error| (file.clone(), error.kind().to_string()))?);
    }
    builder.build().map_err(|error| (files.join(", "), error.to_string()))
}

fn listing(folder: &FilePath) -> HashSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Words of a shell command that could be relative paths.
fn words(run: &str) -> impl Iterator<Item = &str> {
    let mut seen = HashSet::new();
    run.split(|c: char| {
        matches!(c, '\'' | '"' | '`' | ';' | '|' | '&' | '<' | '>' | '(' | ')' | '=' | '$' | ',') || c.is_whitespace()
    })
    .filter(|word| !word.is_empty() && !word.starts_with(['-', '/', '{', '~']) && !word.contains(['{', '*', '?']))
    .filter(|word| word.contains(['.', '/']) && !word.contains(".."))
    .filter(move |word| seen.insert(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_could_be_files() {
        let run = "python3 './a b.py' lib/x.py --out={out}/y.csv -n 3 && ./go.sh < data.txt; cat /etc/hosts lib/x.py";
        assert_eq!(words(run).collect::<Vec<_>>(), ["./a", "b.py", "lib/x.py", "./go.sh", "data.txt"]);
    }
}

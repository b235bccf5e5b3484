//! Which results runs still vouch for: those of the newest runs, of runs that go on, and of runs that were given a name.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use neftpipe_protocol::worker::{io_failure, write_json};
use neftpipe_protocol::{Digest, Failure};

use super::{JOURNAL, RECORD, list, load};

/// In the folder of a run: the names that it was given.
const NAMES: &str = "kept.json";

/// What runs vouch for.
#[derive(Debug, Default)]
pub struct Vouched {
    /// Keys of the newest runs of each pipeline.
    pub keep: HashSet<Digest>,
    /// Keys of runs with a name and of runs that go on.
    pub pinned: HashSet<Digest>,
    /// Runs that are neither: what they made may go, and so may they.
    pub others: Vec<String>,
}

/// Gives a run a name, under which its results are kept for good.
///
/// # Errors
/// Where there is no such run, another run has that name, or it cannot be written.
pub fn keep(runs: &Path, run: &str, name: &str) -> Result<(), Failure> {
    if let Some(other) = run_kept_as(runs, name)?.filter(|other| other != run) {
        return Err(Failure::usage(format!("the run {other} is kept as `{name}` already")));
    }
    load(runs, run)?;
    let mut names = names(runs, run)?;
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
        write_json(&runs.join(run).join(NAMES), &names)?;
    }
    Ok(())
}

/// The names of a run.
///
/// # Errors
/// Where they cannot be read.
pub fn names(runs: &Path, run: &str) -> Result<Vec<String>, Failure> {
    let path = runs.join(run).join(NAMES);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Failure::data(format!("{}: {e}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_failure("read", &path, &error)),
    }
}

/// The run that is kept as this.
///
/// # Errors
/// Where the records cannot be read.
pub fn run_kept_as(runs: &Path, name: &str) -> Result<Option<String>, Failure> {
    for run in list(runs)? {
        if names(runs, &run)?.iter().any(|known| known == name) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// What runs vouch for when the newest `count` of each pipeline do.
///
/// # Errors
/// Where a record cannot be read: what it vouches for is unknown then, and nothing should be removed.
pub fn vouched(runs: &Path, count: usize, goes_on: impl Fn(&str) -> bool) -> Result<Vouched, Failure> {
    let mut vouched = Vouched::default();
    let mut seen: BTreeMap<String, Newer> = BTreeMap::new();
    for id in list(runs)?.into_iter().rev() {
        let record = load(runs, &id)?;
        let keys = record.stages.values().filter_map(|stage| stage.key);
        let made = record.stages.iter().filter(|(_, stage)| stage.key.is_some()).map(|(id, _)| id.clone()).collect();
        let newer = seen.entry(record.pipeline.clone()).or_default().count_and_add(made);
        // A run whose names cannot be read has some.
        if goes_on(&id) || names(runs, &id).map_or(true, |names| !names.is_empty()) {
            vouched.pinned.extend(keys);
        } else if newer < count {
            vouched.keep.extend(keys);
        } else {
            vouched.others.push(id);
        }
    }
    Ok(vouched)
}

/// Runs of one pipeline: the instances whose results each has, and how many runs have just these.
#[derive(Default)]
struct Newer(Vec<(HashSet<String>, usize)>);

impl Newer {
    /// How many of them push out a run that is older, which then is one of them. One that has a part of its instances does
    /// not: it was of a few stages only, or was interrupted.
    fn count_and_add(&mut self, older: HashSet<String>) -> usize {
        let is_part = |newer: &HashSet<String>| newer.len() < older.len() && newer.is_subset(&older);
        let count = self.0.iter().filter(|(newer, _)| !is_part(newer)).map(|(_, runs)| runs).sum();
        match self.0.iter_mut().find(|(known, _)| *known == older) {
            Some((_, runs)) => *runs += 1,
            None => self.0.push((older, 1)),
        }
        count
    }
}

/// Removes the records of runs. What they printed stays where a result that is kept was made by them.
///
/// # Errors
/// Where they cannot be removed.
pub fn forget(runs: &Path, ids: &[String], makers_of_kept: &HashSet<String>) -> Result<(), Failure> {
    for id in ids {
        let folder = runs.join(id);
        if makers_of_kept.contains(id) {
            for name in [RECORD, JOURNAL] {
                let path = folder.join(name);
                unless_absent(fs::remove_file(&path), &path)?;
            }
        } else {
            unless_absent(fs::remove_dir_all(&folder), &folder)?;
        }
    }
    Ok(())
}

fn unless_absent(removed: std::io::Result<()>, path: &Path) -> Result<(), Failure> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_failure("remove", path, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RunRecord, StageRecord};
    use super::*;
    use crate::engine::event::RunOutcome;
    use indexmap::IndexMap;
    use neftpipe_protocol::Kind;
    use serde_json::json;
    use std::path::PathBuf;

    fn record(runs: &Path, id: &str, pipeline: &str) {
        record_of(runs, id, pipeline, &["s"]);
    }

    fn record_of(runs: &Path, id: &str, pipeline: &str, stages: &[&str]) {
        let stage = |name: &str| StageRecord {
            kind: Kind::Command,
            axes: IndexMap::new(),
            label: None,
            params: json!({}),
            inputs: IndexMap::new(),
            key: (!name.starts_with('-'))
                .then(|| Digest::of(format!("{id}{}", name.trim_start_matches('s')).as_bytes())),
            outcome: None,
            seconds: None,
            is_begun: false,
        };
        let record = RunRecord {
            version: 1,
            run: id.to_owned(),
            pipeline: pipeline.to_owned(),
            file: PathBuf::from("p.yaml"),
            file_digest: Digest::of(b""),
            started: String::new(),
            process: None,
            outcome: Some(RunOutcome::Succeeded),
            counts: None,
            seconds: None,
            stages: stages.iter().map(|&name| (name.to_owned(), stage(name))).collect::<IndexMap<_, _>>(),
        };
        fs::create_dir_all(runs.join(id).join("logs")).unwrap();
        write_json(&runs.join(id).join(RECORD), &record).unwrap();
    }

    #[test]
    fn a_run_of_a_part_pushes_out_none_that_had_more() {
        let dir = tempfile::tempdir().unwrap();
        record_of(dir.path(), "1", "p", &["a", "b", "c"]);
        record_of(dir.path(), "2", "p", &["a", "b", "c"]);
        record_of(dir.path(), "3", "p", &["a"]);
        record_of(dir.path(), "4", "p", &["a", "b", "-c"]);
        let others = |count| vouched(dir.path(), count, |_| false).unwrap().others;
        assert_eq!(others(1), ["3", "1"], "the newest, and the newest that is whole");
        assert_eq!(others(2), [""; 0]);
        record_of(dir.path(), "5", "p", &["a", "b", "d"]);
        assert_eq!(others(1), ["4", "3", "2", "1"], "other stages take the place of those before");
    }

    #[test]
    fn the_newest_runs_of_each_pipeline_vouch_and_so_do_those_with_a_name_or_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path();
        for (id, pipeline) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a"), ("5", "a")] {
            record(runs, id, pipeline);
        }
        keep(runs, "1", "paper-v1").unwrap();
        keep(runs, "1", "paper-v1").unwrap();
        assert!(keep(runs, "2", "paper-v1").unwrap_err().message.contains("kept as `paper-v1` already"));
        assert!(keep(runs, "9", "x").is_err());
        assert_eq!(names(runs, "1").unwrap(), ["paper-v1"]);
        let vouched = vouched(runs, 1, |id| id == "3").unwrap();
        let keys = |ids: &[&str]| ids.iter().map(|id| Digest::of(id.as_bytes())).collect::<HashSet<_>>();
        assert_eq!(vouched.keep, keys(&["5", "2"]));
        assert_eq!(vouched.pinned, keys(&["1", "3"]));
        assert_eq!(vouched.others, ["4"]);
        forget(runs, &vouched.others, &HashSet::from(["4".to_owned()])).unwrap();
        assert_eq!(list(runs).unwrap(), ["1", "2", "3", "5"]);
        assert!(runs.join("4/logs").exists());
    }
}

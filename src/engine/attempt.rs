//! The folders in which stages work: `attempts/<run>/<stage>/`, and what is left of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure};

use super::reuse;
use crate::exec;
use crate::store::{Holder, Lock, Store, Waiting, remove_tree};

/// How long other processes may take to find that a run which begins has left nothing.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
const TRY_AGAIN: Duration = Duration::from_millis(10);
const LOCK_SUFFIX: &str = ".lock";
/// Files of an attempt that stay readable after it.
const LOGS: [&str; 3] = ["stdout.log", "stderr.log", "events.jsonl"];

/// The folder of a run's attempts.
pub fn folder(store: &Store, run: &str) -> PathBuf {
    store.attempts_dir().join(run)
}

/// Where an instance works.
pub fn of_stage(store: &Store, run: &str, id: &str) -> PathBuf {
    folder(store, run).join(slug(id))
}

/// Where what an instance printed stays, in the folder of its run.
pub fn logs_of_stage(store: &Store, run: &str, id: &str) -> PathBuf {
    store.runs_dir().join(run).join("logs").join(slug(id))
}

/// An instance's name as a folder's name; with digits of its digest where it cannot be one as it is.
fn slug(id: &str) -> String {
    const LONGEST: usize = 80;
    let safe = id.chars().map(|c| if c.is_ascii_alphanumeric() || "._-=,".contains(c) { c } else { '_' });
    let safe: String = safe.take(LONGEST).collect();
    if safe == id { safe } else { format!("{safe}-{}", &Digest::of(id.as_bytes()).short()[..8]) }
}

/// Says that a run is alive, until the lock is dropped.
pub fn announce(store: &Store, run: &str) -> Result<Lock, Failure> {
    let began = Instant::now();
    loop {
        match store.try_lock_file(&lock_path(store, run), &Holder::of_run(run))? {
            Waiting::Held(lock) => return Ok(lock),
            // The id is this run's alone: whoever has the lock looks whether the run has died, and lets go.
            Waiting::Busy(_) if began.elapsed() < LONGEST_LOOK => std::thread::sleep(TRY_AGAIN),
            Waiting::Busy(_) => return Err(Failure::internal(format!("there is a run {run} already"))),
        }
    }
}

/// Whether a run goes on, in this process or another.
///
/// # Errors
/// Where that cannot be found out.
pub fn goes_on(store: &Store, run: &str) -> Result<bool, Failure> {
    Ok(store.is_locked(&lock_path(store, run))?)
}

/// Clears away what runs that died left in their attempts, once what can be reused of it is kept.
///
/// # Errors
/// Where the folder cannot be read. What cannot be cleared away is left for the next run.
pub fn clean_up_dead(store: &Store) -> Result<(), Failure> {
    for run in runs(store)? {
        if let Err(failure) = clean_up(store, &run) {
            tracing::warn!("{failure}");
        }
    }
    Ok(())
}

fn clean_up(store: &Store, run: &str) -> Result<(), Failure> {
    let Waiting::Held(_lock) = store.try_lock_file(&lock_path(store, run), &Holder::of_run(run))? else {
        return Ok(());
    };
    let folder = folder(store, run);
    exec::end_daemons(&folder); // who killed everything else may have killed the watchdog first
    for attempt in names(&folder)? {
        reuse::salvage(store, &folder.join(attempt))?;
    }
    remove_folder(&folder)
}

/// Every run of which there is a folder or a lock.
pub fn runs(store: &Store) -> Result<BTreeSet<String>, Failure> {
    let names = names(&store.attempts_dir())?;
    Ok(names.into_iter().map(|name| name.strip_suffix(LOCK_SUFFIX).unwrap_or(&name).to_owned()).collect())
}

fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_failure("read", folder, &error)),
    };
    Ok(entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Makes an empty folder for one attempt.
pub fn make(dir: &Path) -> Result<(), Failure> {
    remove_folder(dir)?;
    fs::create_dir_all(dir).map_err(|error| io_failure("create", dir, &error))?;
    let out = dir.join("out");
    fs::create_dir(&out).map_err(|error| io_failure("create", &out, &error))
}

/// Removes a folder with all that is in it, if it is there.
pub fn remove_folder(dir: &Path) -> Result<(), Failure> {
    Ok(remove_tree(dir)?)
}

/// Moves what an attempt printed to where it can be read later. A log that is lost is no reason to lose the result.
pub fn keep_logs(dir: &Path, logs: &Path) {
    if let Err(error) = fs::create_dir_all(logs) {
        tracing::warn!("{}: {error}", logs.display());
    }
    for name in LOGS {
        let from = dir.join(name);
        if from.exists()
            && let Err(error) = fs::rename(&from, logs.join(name))
        {
            tracing::warn!("{}: {error}", from.display());
        }
    }
}

fn lock_path(store: &Store, run: &str) -> PathBuf {
    store.attempts_dir().join(format!("{run}{LOCK_SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_folders_of_their_own() {
        assert_eq!(slug("model"), "model");
        let (a, b) = (slug("train[seed=0]"), slug("train[seed=0}"));
        assert!(a.starts_with("train_seed=0_-") && a != b, "{a} {b}");
        let long = |end: &str| slug(&format!("train[{}{end}]", "x".repeat(200)));
        assert!(long("a") != long("b") && long("a").len() < 100);
        assert!(!slug("../a/b").contains('/'));
    }

    #[test]
    fn a_run_that_begins_outlasts_those_who_look_whether_it_died() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let looker = store.try_lock_file(&lock_path(&store, "r"), &Holder::of_run("r")).unwrap();
        assert!(matches!(looker, Waiting::Held(_)));
        std::thread::scope(|scope| {
            let announced = scope.spawn(|| announce(&store, "r"));
            std::thread::sleep(TRY_AGAIN * 3);
            assert!(!announced.is_finished());
            drop(looker);
            let _alive = announced.join().unwrap().unwrap();
            assert!(goes_on(&store, "r").unwrap());
        });
    }
}

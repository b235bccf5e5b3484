//! Everything that can go wrong around a run, done on purpose and counted: kills, full disks, damaged files, races,
//! paths that escape, clocks that go back, secrets that leak.
//!
//! A tenth of each count runs by default; `NEFTPIPE_FAULTS=all` (what `cargo xtask faults` sets) runs all. Every
//! family tells on stdout how many faults it made, a line that begins with `fault |`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

mod bench;
mod clock;
mod concurrent;
mod disk;
#[path = "../common/ended.rs"]
mod ended;
mod kills;
mod mutants;
mod paths;
mod pipelines;
mod processes;
mod publishing;
mod random;
mod secrets;
mod worker;

/// How many of `all` faults this run makes.
fn share_of(all: usize) -> usize {
    if std::env::var_os("NEFTPIPE_FAULTS").is_some_and(|value| value == "all") { all } else { all.div_ceil(10) }
}

/// Tells how many faults were made, and what held.
fn told(family: &str, made: usize, what_held: &str) {
    println!("fault | {family} | {made} | {what_held}");
}

/// Faults that are made at a time: the machine is busy, the moments differ.
const AT_A_TIME: usize = 4;

/// Makes every one of these faults, though some do not end well, and fails with all that did not. Counts those of which
/// `make` says yes.
fn each_of<T: Sync + Debug>(faults: &[T], make: impl Fn(&T) -> bool + Sync) -> usize {
    let next = AtomicUsize::new(0);
    let (hits, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match catch_unwind(AssertUnwindSafe(|| make(fault))) {
                        Ok(hit) => drop(hits.fetch_add(usize::from(hit), Ordering::Relaxed)),
                        Err(_) => failed.lock().unwrap().push(format!("{fault:?}")),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} faults: {}", failed.len(), faults.len(), failed.join(", "));
    hits.into_inner()
}

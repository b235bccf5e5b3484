//! Everything that can go wrong around a run, done on purpose and counted: kills, full disks, damaged files, races,
//! paths that escape, clocks that go back, secrets that leak.
//!
//! A tenth of each count runs by default; `NEFTPIPE_FAULTS=all` (what `cargo xtask faults` sets) runs all. Every
//! family tells on stdout how many faults it made, a line that begins with `fault |`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bench;
mod kills;
mod paths;
mod processes;
mod random;
mod worker;

/// How many of `all` faults this run makes.
fn share_of(all: usize) -> usize {
    if std::env::var_os("NEFTPIPE_FAULTS").is_some_and(|value| value == "all") { all } else { all.div_ceil(10) }
}

/// Tells how many faults were made, and what held.
fn told(family: &str, made: usize, what_held: &str) {
    println!("fault | {family} | {made} | {what_held}");
}

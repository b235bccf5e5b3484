//! A disk without space behind a failure.
//!
//! A command or a worker that could not write says so in its own words, or in none: it may not even have been able to
//! leave its result. Whatever it said, the disk is what has to be mended.

use std::path::Path;

use neftpipe_protocol::{Failure, FailureClass};

use crate::store::{Store, bytes_of};

/// A disk with less than this is full: nothing of any size can be written. What a failed stage had written beside it may
/// be free again already.
const FULL_BELOW_BYTES: u64 = 256 << 10;
/// What the system calls it.
const NO_SPACE: &str = "No space left on device";

/// The failure of an attempt, as that of the environment where the store's disk is full: with the place, and what the
/// stage had written when it ended.
pub fn blame_if_full(failure: Failure, store: &Store, attempt: &Path) -> Failure {
    let Some(free) = store.free_bytes() else { return failure };
    let is_full = free < FULL_BELOW_BYTES || failure.message.contains(NO_SPACE);
    if !is_full || failure.class == FailureClass::Usage {
        return failure;
    }
    let (place, written) = (store.root().display(), megabytes(bytes_of(attempt)));
    let free = megabytes(free);
    let Failure { message, .. } = failure;
    Failure::environment(format!("{message}\nthe disk of {place} is full ({free} free): the stage needs more than the {written} that it had written"))
        .with_hint("free some space (`neftpipe gc --dry-run` says what it could drop) and run again, or choose a store on another disk with --store")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

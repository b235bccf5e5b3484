//! A disk without space behind a failure.
//!
//! A command or a worker that could not write says so in its own words, or in none: it may not even have been able to
//! leave its result. Whatever it said, the disk is what has to be mended.

use std::path::Path;
use std::time::Instant;

use neftpipe_protocol::{Failure, FailureClass};

use crate::store::{Store, bytes_of};

/// What the system calls it.
const NO_SPACE: &str = "No space left on device";

/// The failure of an attempt, as that of the environment where the store's disk was full since it began: with the place,
/// and what the stage had written when it ended.
pub fn blame_if_full(failure: Failure, began: Instant, store: &Store, attempt: &Path) -> Failure {
    let Some(free) = store.free_bytes() else { return failure };
    let was_full = store.was_full_since(began) || failure.message.contains(NO_SPACE);
    if !was_full || failure.class == FailureClass::Usage {
        return failure;
    }
    let (place, written) = (store.root().display(), megabytes(bytes_of(attempt)));
    let free = megabytes(free);
    let Failure { message, .. } = failure;
    Failure::environment(format!("{message}\nthe disk of {place} is full ({free} free now): the stage needs more than the {written} that it had written"))
        .with_hint("free some space (`neftpipe gc --dry-run` says what it could drop) and run again, or choose a store on another disk with --store")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

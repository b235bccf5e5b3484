//! Whether the disk was full, though it no longer is.
//!
//! What fails for want of space is often told of later, when its own leavings or another's are gone. So the disk is looked at
//! just before anything large is removed.

use std::sync::Mutex;
use std::time::Instant;

use super::{Store, free_bytes, lock_ignoring_poison};

/// A disk with less than this is full: nothing of any size can be written.
const FULL_BELOW_BYTES: u64 = 256 << 10;

/// When the disk was last seen full.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<Option<Instant>>);

impl Store {
    /// Room on its disk.
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(self.root())
    }

    /// Looks at the disk, for [`Self::was_full_since`] to remember.
    pub fn look_at_space(&self) {
        if self.free_bytes().is_some_and(|free| free < FULL_BELOW_BYTES) {
            *lock_ignoring_poison(&self.space.0) = Some(Instant::now());
        }
    }

    /// Whether the disk is full, or was when it was looked at after this moment.
    pub fn was_full_since(&self, then: Instant) -> bool {
        self.look_at_space();
        lock_ignoring_poison(&self.space.0).is_some_and(|seen| seen >= then)
    }
}

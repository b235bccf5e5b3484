//! When to ask again: pauses that grow, differ between askers, and heed what the server asks for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Attempts at one comparison before it is given up.
pub const ATTEMPTS: u32 = 8;
/// Times that a server may ask to wait for one comparison before it is given up.
pub const WAITS: u32 = 200;
/// Pause before the second attempt; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause of our own choosing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Time between two looks whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// The pause before an attempt after so many that failed.
pub fn pause(failed: u32, retry_after: Option<Duration>) -> Duration {
    match retry_after {
        // A little later than asked, so that not all come at once.
        Some(asked) => asked.min(LONGEST_ASKED).mul_f64(1.0 + 0.1 * chance()),
        None => {
            let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
            doubled.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * chance())
        }
    }
}

/// A number from 0 to 1 that need not be repeatable.
fn chance() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

/// A moment before which nobody asks.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Option<Instant>>);

impl Gate {
    /// Closes the gate for so long from now, unless it is closed for longer.
    pub fn close(&self, span: Duration) {
        let until = Instant::now() + span.min(LONGEST_ASKED);
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *gate = Some(gate.map_or(until, |known| known.max(until)));
    }

    /// Waits until it is open. False where `stop` says so meanwhile.
    pub fn pass(&self, stop: impl Fn() -> bool) -> bool {
        loop {
            if stop() {
                return false;
            }
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(NAP)),
                _ => return true,
            }
        }
    }
}

/// Sleeps. False where `stop` says so meanwhile.
pub fn sleep(span: Duration, stop: impl Fn() -> bool) -> bool {
    let gate = Gate::default();
    gate.close(span);
    gate.pass(stop)
}

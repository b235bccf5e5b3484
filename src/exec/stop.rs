//! Being asked to stop: first gently, then at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Go on.
    Run,
    /// Finish the step at hand, save, and stop.
    Finish,
    /// End now.
    Kill,
}

/// Shared by all that can be stopped. It only ever gets more urgent.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// One that signals make more urgent: SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask to finish, a further SIGINT or
    /// SIGTERM ends.
    ///
    /// # Errors
    /// Where the signals cannot be handled.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
        let asked = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let again = asked.level() >= Level::Finish && [SIGINT, SIGTERM].contains(&signal);
                asked.request(if again { Level::Kill } else { Level::Finish });
            }
        })?;
        Ok(stop)
    }

    /// Makes it at least this urgent.
    pub fn request(&self, level: Level) {
        self.0.fetch_max(level as u8, Ordering::SeqCst);
    }

    /// How urgent it is.
    pub fn level(&self) -> Level {
        match self.0.load(Ordering::SeqCst) {
            0 => Level::Run,
            1 => Level::Finish,
            _ => Level::Kill,
        }
    }
}

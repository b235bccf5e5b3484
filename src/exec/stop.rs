//! Being asked to stop: first gently, then at once.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

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
    /// SIGTERM ends. A SIGHUP means nothing to a run that is detached, or that was started with it ignored (`nohup`).
    ///
    /// # Errors
    /// Where the signals cannot be handled.
    pub fn on_signals(detached: bool) -> io::Result<Self> {
        let stop = Self::default();
        let hangups_count = !detached && !is_ignored(SIGHUP);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
        let asked = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP && !hangups_count {
                    continue;
                }
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

    /// Waits at most this long for a wish to stop, and says whether there is one.
    pub fn comes_within(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.level() == Level::Run && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.level() > Level::Run
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

/// Whether this process was started with a signal ignored. The system's mask has a bit for each, from the lowest.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

//! Whole commands on the clock: in turn, several rounds, median with minimum and maximum.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often the memory of a command is looked at.
const GLANCE: Duration = Duration::from_millis(1);

/// Times of one command.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// The median, in seconds.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Adds one.
    pub fn push(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Median, least and most of figures that are no times, in their unit.
    pub fn spread(&self, digits: usize, unit: &str) -> String {
        let (least, most) = self.ends();
        format!("{:.digits$} {unit} ({least:.digits$}–{most:.digits$})", self.median())
    }

    fn ends(&self) -> (f64, f64) {
        (self.0.iter().copied().fold(f64::INFINITY, f64::min), self.0.iter().copied().fold(0.0, f64::max))
    }

    /// The median of the ratios, round by round, so that a machine that slows down slows both.
    pub fn over(&self, other: &Self) -> f64 {
        Self(self.0.iter().zip(&other.0).map(|(own, other)| own / other).collect()).median()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.ends();
        write!(f, "{} ({}–{})", span(self.median()), span(least), span(most))
    }
}

/// Seconds for people.
pub fn span(seconds: f64) -> String {
    if seconds < 2.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// Runs a command to its end, its output unseen; anything but success is an error.
pub fn run(command: &mut Command) -> io::Result<f64> {
    let began = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let seconds = began.elapsed().as_secs_f64();
    if status.success() { Ok(seconds) } else { Err(io::Error::other(format!("{command:?} failed: {status}"))) }
}

/// Runs two commands in turn after one round that does not count. The second may not be there.
pub fn in_turn(
    rounds: usize,
    mut first: impl FnMut() -> io::Result<f64>,
    mut second: Option<impl FnMut() -> io::Result<f64>>,
) -> io::Result<(Times, Option<Times>)> {
    let (mut own, mut other) = (Times::default(), second.as_ref().map(|_| Times::default()));
    for round in 0..=rounds {
        let seconds = first()?;
        let beside = second.as_mut().map(|second| second()).transpose()?;
        if round > 0 {
            own.push(seconds);
            if let (Some(times), Some(seconds)) = (&mut other, beside) {
                times.push(seconds);
            }
        }
    }
    Ok((own, other))
}

/// Runs a command to its end; the most memory that its own process held, in MB.
pub fn peak_mb(command: &mut Command) -> io::Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kb = 0.0_f64;
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let held = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
        peak_kb = peak_kb.max(held.unwrap_or(0.0));
        std::thread::sleep(GLANCE);
    }
    Ok(peak_kb / 1000.0)
}

/// A program of somebody else's, if it is installed. Says so where it is not.
pub fn peer(name: &str, folder: &Path) -> Option<impl Fn() -> Command + use<>> {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("{name} is not on the PATH: nothing to compare with");
    }
    let (name, folder) = (name.to_owned(), folder.to_owned());
    found.then_some(move || {
        let mut command = Command::new(&name);
        command.current_dir(&folder);
        command
    })
}

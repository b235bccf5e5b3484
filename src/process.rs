//! Which process of which machine something is about, so that another process can tell whether it is still alive.
//!
//! A process id alone says little: ids are given anew, and mean another process on another machine or in another
//! container. With the start time and the boot and namespace that they count in, they name one process for good.

use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of its host, for people.
    pub host: String,
    /// Boot of the machine and process namespace in which its id counts. Empty where the system does not tell.
    pub realm: String,
    /// Its id.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot.
    pub started: u64,
}

/// What one process can know of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is there.
    Alive,
    /// It has ended.
    Dead,
    /// It is of another machine or container, where this one cannot look.
    Elsewhere,
}

impl Process {
    /// This process.
    pub fn current() -> Self {
        static KNOWN: OnceLock<Process> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return known.clone();
        }
        let pid = std::process::id();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (realm, started) = (realm(), started(pid));
        let is_whole = realm.is_some() && started.is_some();
        let realm = realm.unwrap_or_default().to_owned();
        let current = Self { host, realm, pid, started: started.unwrap_or_default() };
        if is_whole { KNOWN.get_or_init(|| current).clone() } else { current }
    }

    /// Whether it is alive.
    pub fn life(&self) -> Life {
        if self.realm.is_empty() || realm() != Some(&self.realm) {
            Life::Elsewhere
        } else if started(self.pid) == Some(self.started) {
            Life::Alive
        } else {
            Life::Dead
        }
    }
}

/// The same for as long as this process lives, and asked for at every lock: it is read once.
fn realm() -> Option<&'static str> {
    static REALM: OnceLock<String> = OnceLock::new();
    if let Some(realm) = REALM.get() {
        return Some(realm);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(REALM.get_or_init(|| format!("{} {}", boot.trim(), namespace.display())))
}

/// Start time of a process that is there and has not ended, although its parent may not have asked for it yet.
fn started(pid: u32) -> Option<u64> {
    const STATE: usize = 0;
    const STARTED: usize = 19;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let has_ended = matches!(*fields.get(STATE)?, "Z" | "X");
    if has_ended { None } else { fields.get(STARTED)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_alive_until_it_has_ended_even_if_its_id_is_used_again() {
        assert_eq!(Process::current().life(), Life::Alive);
        let later = Process { started: Process::current().started + 1, ..Process::current() };
        assert_eq!(later.life(), Life::Dead, "the id was given to another");
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let cat = Process { pid: child.id(), started: started(child.id()).unwrap(), ..Process::current() };
        assert_eq!(cat.life(), Life::Alive);
        child.kill().unwrap();
        while started(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(cat.life(), Life::Dead, "killed, though nobody has waited for it");
        child.wait().unwrap();
    }

    #[test]
    fn of_another_machine_nothing_can_be_said() {
        let elsewhere = Process { realm: "another boot".to_owned(), ..Process::current() };
        assert_eq!(elsewhere.life(), Life::Elsewhere);
        assert_eq!(Process { realm: String::new(), ..Process::current() }.life(), Life::Elsewhere);
    }
}

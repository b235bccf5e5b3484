//! The processes that belong to a folder: those whose command line or environment names it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Processes of a folder that are alive, but for this one.
pub fn of(folder: &Path) -> Vec<u32> {
    let wanted = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != std::process::id() && names(pid, wanted)).collect()
}

/// Kills a process; it may have ended by itself meanwhile.
pub fn kill(pid: u32) {
    let _gone = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
}

/// Kills a process group; it may have ended by itself meanwhile.
pub fn kill_group(pid: u32) {
    let _gone = kill_process_group(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
}

/// Fails unless all processes of a folder end soon.
pub fn none_is_left(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = of(folder);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "orphans: {:?}", left.iter().map(|&pid| line(pid)).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The command line of a process.
pub fn line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

fn names(pid: u32, wanted: &str) -> bool {
    let holds = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    };
    holds("cmdline") || holds("environ")
}

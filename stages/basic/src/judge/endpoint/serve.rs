//! A server that is started for a stage, and ends with it, however the stage ends.
//!
//! A shell in a process group of its own runs the command and reads from a pipe that only this process holds open. When
//! this process goes, be it killed, the pipe ends, and the shell ends the group.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::judge::Endpoint;
use neftpipe_protocol::worker::Job;

use super::wire::Service;

/// Longest wait for a server to answer: large models are loaded from slow disks.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Time between two looks.
const TICK: Duration = Duration::from_millis(200);
/// Ends the group after the pipe, and by force what stays for five seconds more.
const GUARD: &str = r#"exec 3<&0 </dev/null
{ eval "$1"
} 3<&- &
server=$!
{ trap '' TERM; read -r _; kill -TERM 0; sleep 5; kill -KILL 0; } <&3 &
exec 3<&-
wait "$server"
"#;

/// A server at work.
pub struct Server {
    guard: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts the command with a free port in the place of `{port}`.
    ///
    /// # Errors
    /// Where no port is free or no shell can be started.
    pub fn start(command: &str, endpoint: &Endpoint) -> Result<Self, Failure> {
        let port = free_port().map_err(|error| Failure::environment(format!("no port is free: {error}")))?;
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "serve", &command.replace("{port}", &port.to_string())]);
        guard.stdin(Stdio::piped()).process_group(0);
        if let Some(name) = &endpoint.key_env {
            guard.env_remove(name);
        }
        let guard =
            guard.spawn().map_err(|error| Failure::environment(format!("/bin/sh cannot be started: {error}")))?;
        Ok(Self { guard, port })
    }

    /// Waits until it answers. False where the worker was asked to stop meanwhile.
    ///
    /// # Errors
    /// Where it ended, or did not answer in half an hour.
    pub fn wait(&mut self, job: &Job, service: &Service) -> Result<bool, Failure> {
        let began = Instant::now();
        job.progress(0, None, "comparisons", Some("waiting for the server".to_owned()));
        while !service.is_up() {
            if job.should_stop() {
                return Ok(false);
            }
            let ended = self.guard.try_wait();
            let ended =
                ended.map_err(|error| Failure::environment(format!("the server cannot be watched: {error}")))?;
            if let Some(status) = ended {
                return Err(Failure::environment(format!(
                    "endpoint.serve: the server ended before it answered ({status})"
                ))
                .with_hint("the stage's log holds what it printed"));
            }
            if began.elapsed() > PATIENCE {
                return Err(Failure::environment(format!(
                    "endpoint.serve: the server did not answer at {} within half an hour",
                    service.address()
                )));
            }
            std::thread::sleep(TICK);
        }
        Ok(true)
    }
}

impl Drop for Server {
    /// Ends the pipe, and with it the server.
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if self.guard.wait().is_err() {
            eprintln!("warning: the server could not be waited for");
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

//! Carrying out one attempt of one stage in processes of this machine.
//!
//! It knows requests, programs and processes. It knows neither the store nor the graph: inputs arrive as paths, and
//! what a process leaves in its attempt directory is for the engine to take.

mod attempt;
mod command;
mod gpus;
mod local;
mod mask;
mod process;
mod resources;
mod shell;
mod stop;
mod tail;
mod watchdog;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::event::Event;
use neftpipe_protocol::request::{Request, StageResult};

pub use attempt::{STDERR_FILE, STDOUT_FILE, with_last_lines};
pub use command::{CommandTask, output_path};
pub use gpus::GpuLocks;
pub use local::Local;
pub use resources::{Grant, Machine, Pool, Want, WantGpus};
pub use stop::{Level, Stop};
pub use tail::Tail;
pub use watchdog::end_daemons;
pub use workers::Workers;

/// One attempt to be made. Its directory, [`Request::attempt`], exists and holds the inputs.
#[derive(Debug)]
pub struct Task {
    /// What is asked. A `command` is carried out from it too, though no worker reads it.
    pub request: Request,
    /// The shell command, where the kind is `command`.
    pub command: Option<CommandTask>,
    /// It is stopped after this long.
    pub timeout: Option<Duration>,
    /// GPUs that it may see; the environment is left alone where nothing is said.
    pub gpus: Option<Vec<String>>,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// The program ran to its end and left a result.
    Finished(StageResult),
    /// The program could not be started.
    NotStarted(Failure),
    /// The program ended without one.
    Died {
        /// `exit status 2`, `signal 9`.
        status: String,
        /// Whether the kernel or an operator killed it outright.
        killed: bool,
    },
    /// It ran longer than it may.
    TimedOut(Duration),
    /// It was told to end and left no result of its own.
    Cancelled,
}

/// Carries out attempts.
pub trait Executor: Sync {
    /// Makes the attempt and returns when no process of it is left. Events are handed on as they are written. When
    /// asked to stop, the program is asked too; see [`Stop`].
    fn execute(&self, task: &Task, observe: &mut dyn FnMut(Event), stop: &Stop) -> Outcome;

    /// The worker that needs tensors, where it can be found.
    fn torch_worker(&self) -> Option<PathBuf>;
}

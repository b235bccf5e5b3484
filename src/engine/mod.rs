//! Carrying out a plan: one dispatcher owns the state of the run, a thread for each stage at work does the waiting.
//!
//! It knows instances, keys and the store, not what a kind does: that is the workers'. Whatever it does is told as
//! [`event::Event`]s.

mod accept;
mod ahead;
mod attempt;
mod calibration;
mod chain;
mod disk;
mod dispatcher;
pub mod event;
pub mod lockfile;
mod look;
mod memory;
mod passing;
mod product;
mod request;
mod reuse;
mod room;
mod stage;
mod waiting;
mod wants;

use neftpipe_protocol::{Failure, FailureClass};

pub use chain::training_rows;
pub use memory::training_bytes;

use crate::exec::{Executor, GpuLocks, Machine, Stop};
use crate::facts::World;
use crate::plan::Selection;
use crate::spec::model::Pipeline;
use crate::store::Store;
use event::{Event, RunOutcome};

/// What a run is made of.
pub struct Run<'a> {
    /// Its id.
    pub id: &'a str,
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// Instances to bring up to date, with all that they need.
    pub selection: &'a Selection,
    /// Instances to carry out although their result is there.
    pub forced: &'a Selection,
    /// Where results are.
    pub store: &'a Store,
    /// What planning must know.
    pub world: &'a World<'a>,
    /// What carries out attempts.
    pub executor: &'a dyn Executor,
    /// What stages may use at a time.
    pub machine: Machine,
    /// How to go about it.
    pub options: Options,
    /// Told when somebody wants the run to end.
    pub stop: Stop,
}

/// How to go about a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Stages at a time; as many as the machine has cores where not said.
    pub jobs: Option<usize>,
    /// Start nothing more once something has failed.
    pub fail_fast: bool,
    /// Let stages that gather go on with the instances that succeeded.
    pub partial: bool,
    /// Dollars that all stages of the run may spend together.
    pub max_cost_usd: Option<f64>,
    /// Let no stage touch the network.
    pub offline: bool,
    /// Where GPUs are kept from other runs.
    pub gpu_locks: Option<GpuLocks>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Summary {
    /// How.
    pub outcome: RunOutcome,
    /// Classes of the failures, for the exit code.
    pub failures: Vec<FailureClass>,
}

/// Carries out a run. Every event is handed on as it happens.
///
/// # Errors
/// Where the store cannot be worked with; failures of stages are in the summary.
pub fn run(run: &Run<'_>, emit: &mut dyn FnMut(&Event)) -> Result<Summary, Failure> {
    attempt::clean_up_dead(run.store)?;
    let _alive = attempt::announce(run.store, run.id)?;
    let summary = dispatcher::dispatch(run, emit);
    attempt::remove_folder(&attempt::folder(run.store, run.id))?;
    Ok(summary)
}

pub use accept::implementation;
pub use attempt::{folder as attempts_of_run, goes_on, logs_of_stage, of_stage as attempt_of_stage};

//! Whether a run goes on, has ended, or was killed.

use neftpipe_protocol::Failure;
use serde::Serialize;

use super::RunRecord;
use crate::engine;
use crate::engine::event::RunOutcome;
use crate::process::{Life, Process};
use crate::store::Store;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// Its process is gone and did not say how it ended.
    Killed,
    /// Everything asked for is there.
    Succeeded,
    /// Something failed.
    Failed,
    /// It was asked to stop.
    Interrupted,
}

impl RunState {
    /// The state of a run of this store.
    ///
    /// # Errors
    /// Where it cannot be found out whether it goes on.
    pub fn of(store: &Store, run: &RunRecord) -> Result<Self, Failure> {
        Ok(match run.outcome {
            Some(outcome) => outcome.into(),
            // Its lock is held while it works; its process is alive a little before and after.
            None if run.process.as_ref().map(Process::life) == Some(Life::Alive) => Self::Running,
            None if engine::goes_on(store, &run.run)? => Self::Running,
            None => Self::Killed,
        })
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Killed => "killed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<RunOutcome> for RunState {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded => Self::Succeeded,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Interrupted => Self::Interrupted,
        }
    }
}

//! How the ways in which stages and runs end are called.

use crate::engine::event::{RunOutcome, StageOutcome};

/// One word for the outcome of a stage; nothing yet where it is still at work, or its run was killed.
pub fn word(outcome: Option<&StageOutcome>) -> &'static str {
    match outcome {
        None => "unfinished",
        Some(StageOutcome::Executed) => "executed",
        Some(StageOutcome::Cached) => "cached",
        Some(StageOutcome::Failed { .. }) => "failed",
        Some(StageOutcome::Blocked { .. }) => "blocked",
        Some(StageOutcome::Interrupted) => "interrupted",
    }
}

/// One word for the outcome of a run; nothing yet where it goes on, or was killed.
pub fn run_word(outcome: Option<RunOutcome>) -> &'static str {
    match outcome {
        None => "unfinished",
        Some(RunOutcome::Succeeded) => "succeeded",
        Some(RunOutcome::Failed) => "failed",
        Some(RunOutcome::Interrupted) => "interrupted",
    }
}

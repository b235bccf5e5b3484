//! How the ways in which stages end are called.

use crate::engine::event::StageOutcome;

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

//! How the ways in which stages end are called.

use crate::engine::event::StageOutcome;
use crate::record::{RunState, StageRecord};

/// What became of an instance of a run in this state, in a word or two.
pub fn word_in(stage: &StageRecord, state: RunState) -> &'static str {
    match (&stage.outcome, state) {
        (None, RunState::Running) if stage.is_begun => "at work",
        (None, RunState::Running) => "waiting",
        (None, RunState::Killed) if stage.is_begun => "killed",
        _ => word(stage),
    }
}

/// What became of an instance, in a word or two.
pub fn word(stage: &StageRecord) -> &'static str {
    match &stage.outcome {
        None if stage.is_begun => "unfinished",
        None => "not begun",
        Some(StageOutcome::Executed) => "executed",
        Some(StageOutcome::Cached) => "cached",
        Some(StageOutcome::Failed { .. }) => "failed",
        Some(StageOutcome::Blocked { .. }) => "blocked",
        Some(StageOutcome::Interrupted) => "interrupted",
    }
}

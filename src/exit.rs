//! Every exit code of the program.

use std::process::ExitCode;

use neftpipe_protocol::FailureClass;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// A stage failed or refused its data.
    Failed,
    /// Usage or pipeline file.
    Usage,
    /// A source, the disk, the network, a worker or a device is not there.
    Environment,
    /// A bug.
    Internal,
    /// Interrupted; what was at work is checkpointed.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Internal => 4,
            Self::Interrupted => 130,
        }
    }

    /// The exit for the failures of a run: of several, the bug before the environment before the rest.
    pub fn of_failures(classes: impl IntoIterator<Item = FailureClass>) -> Self {
        let worst = classes.into_iter().map(Self::from).max_by_key(|exit| match exit {
            Self::Internal => 4,
            Self::Environment => 3,
            Self::Failed => 2,
            Self::Usage => 1,
            _ => 0,
        });
        worst.unwrap_or(Self::Success)
    }
}

impl From<FailureClass> for Exit {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Data => Self::Failed,
            FailureClass::Usage => Self::Usage,
            FailureClass::Environment => Self::Environment,
            FailureClass::Internal => Self::Internal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_the_gravest_decides() {
        use FailureClass::{Data, Environment, Internal, Usage};
        assert_eq!(Exit::of_failures([Data, Environment]).code(), 3);
        assert_eq!(Exit::of_failures([Data, Internal, Environment]).code(), 4);
        assert_eq!(Exit::of_failures([Usage]).code(), 2);
        assert_eq!(Exit::of_failures([Usage, Data]).code(), 1);
        assert_eq!(Exit::of_failures([]).code(), 0);
    }
}

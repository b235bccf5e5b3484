//! What a command can fail with, and how it is told.

use std::io;

use neftpipe_protocol::Failure;

use crate::exit::Exit;
use crate::spec::Problems;
use crate::store::StoreError;
use crate::ui::printer::Printer;

/// How a command ended.
pub type CliResult = Result<Exit, CliError>;

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// The pipeline file has problems.
    Problems(Problems),
    /// Anything else, told in a sentence.
    Message {
        /// The exit code.
        exit: Exit,
        /// What happened, and where.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Whoever read our output has gone, and wants no more.
    Closed,
}

impl CliError {
    /// The command line asks for something that there is not.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Message { exit: Exit::Usage, message: message.into(), hint: None }
    }

    /// The same with advice.
    pub fn with_hint(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Message { exit, message, .. } => Self::Message { exit, message, hint: Some(advice.into()) },
            other => other,
        }
    }

    /// Tells it and gives the exit code.
    pub fn report(self, printer: Printer) -> Exit {
        match self {
            Self::Problems(problems) => {
                printer.problems(&problems);
                Exit::Usage
            }
            Self::Message { exit, message, hint } => {
                printer.error(&message, hint.as_deref());
                exit
            }
            Self::Closed => Exit::Success,
        }
    }
}

impl From<Problems> for CliError {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems)
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Message { exit: failure.class.into(), message: failure.message, hint: failure.hint }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Failure::from(error).into()
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Failure::environment(format!("cannot write to stdout: {error}")).into(),
        }
    }
}

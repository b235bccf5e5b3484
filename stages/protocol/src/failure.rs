//! Why a stage failed, in a form that decides the exit code of the program.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is. The order is that of precedence when several stages fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The stage refused its data, or its command failed (exit code 1).
    Data,
    /// The pipeline file asks for something impossible, such as a window longer than the model's (exit code 2).
    Usage,
    /// A source, the disk, the network or a device is not there (exit code 3). A retry may mend it.
    Environment,
    /// A bug of the program (exit code 4).
    Internal,
}

/// A failure as a worker reports it: what happened and where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whose fault it is.
    pub class: FailureClass,
    /// What happened, and where.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }

    /// The stage refuses its data.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Data, message)
    }

    /// The parameters ask for something impossible.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Usage, message)
    }

    /// The environment lacks something.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Environment, message)
    }

    /// A bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Internal, message)
    }

    /// The same failure with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

//! Why a text could not be rendered or encoded.

use std::path::PathBuf;

use neftpipe_protocol::Failure;

/// What is wrong with a model's text files, a template, or a row.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there, but not what it should be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The `tokenizers` library refuses a text.
    #[error("the tokenizer fails: {0}")]
    Tokenizer(String),
    /// The template `chat` is asked of a model that has none.
    #[error("the model has no chat template (tokenizer_config.json, chat_template.jinja)")]
    NoChatTemplate,
    /// A template needs a token that the model does not name.
    #[error("the model names no {0} token (tokenizer_config.json, config.json)")]
    NoSpecialToken(&'static str),
    /// A template does not compile, or fails on a row.
    #[error("{template}: {problem}")]
    Template {
        /// `the chat template` or `the Jinja file`.
        template: &'static str,
        /// What the engine or the template itself says.
        problem: String,
    },
    /// A row does not fit the template.
    #[error("{0}")]
    Row(String),
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        let message = error.to_string();
        match error {
            TextError::Read { .. } => Self::environment(message),
            TextError::NoChatTemplate => {
                Self::usage(message).with_hint("choose `template: alpaca`, `none` or a Jinja file")
            }
            TextError::NoSpecialToken(_) | TextError::Template { .. } => Self::usage(message),
            TextError::File { .. } | TextError::Tokenizer(_) | TextError::Row(_) => Self::data(message),
        }
    }
}

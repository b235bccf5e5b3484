//! What can be wrong with a model's files.

use std::path::PathBuf;

use neftpipe_protocol::Failure;

use crate::tensor_file::TensorFileError;

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `config.json` or the index of shards cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json` or the index of shards is not what it should be.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The folder holds no weights that can be read.
    #[error("{}: no model.safetensors and no model.safetensors.index.json", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// The weights are not what `config.json` says.
    #[error(transparent)]
    Weights(#[from] TensorFileError),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Weights(error) => error.into(),
            ModelError::Read { ref source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
                Self::environment(error.to_string())
            }
            _ => Self::data(error.to_string()),
        }
    }
}

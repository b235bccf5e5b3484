//! Models of the Llama architecture: reading them, and computing with them.
//!
//! Nothing here knows of training, noise, sampling or files other than the model's own.

mod cache;
mod config;
mod decoder;
mod error;
mod linear;
mod llama;
mod recompute;
mod rope;
mod rows;
mod weights;

pub use cache::{Cache, Prefix};
pub use config::{LlamaConfig, RopeScaling};
pub use decoder::Decoder;
pub use error::ModelError;
pub use linear::{AdapterInput, Covers, InputNorms, Linear, LowRank, Mask, Place};
pub use llama::Llama;
pub use recompute::Recomputable;
pub use rope::{Angles, Rope};
pub use rows::Rows;
pub use weights::Weights;

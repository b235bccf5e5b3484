//! From texts to tokens and back, the same for training and for generation.
//!
//! [`Tokenizer`] is a model's tokenizer with what its other files say about special tokens; [`Renderer`] turns
//! instructions and conversations into the text that the model sees. Whoever trains encodes [`Renderer::row`] with
//! [`Tokenizer::encode_pieces`], whoever generates encodes [`Renderer::prompt`] with [`Tokenizer::encode`]: the tokens of
//! the prompt are the same in both.
//!
//! This crate knows nothing of tensors, of splits, or of what is done with the tokens.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod model_files;
mod template;
mod tokenizer;

pub use error::TextError;
pub use template::{Piece, Renderer};
pub use tokenizer::{Encoded, Tokenizer};

//! Decoding: one more token of each row of a cache.
//!
//! On the CPU in f32 a step goes through all blocks by itself, without a tensor in between: at a few rows a step is as
//! quick as its weights can be read, and all that stands beside their products counts. What is not plain (biases, adapters
//! beside the weights, other number formats, a GPU) goes the way of tensors.

mod board;
mod kernel;
mod softmax;
mod step;
mod team;

use tch::{Kind, Tensor};

use super::{Cache, Llama};
use crate::device::upload;
pub(super) use board::floats;
use step::Step;

/// Reads a token of each row after the other.
pub struct Decoder<'a> {
    model: &'a Llama,
    step: Option<Step<'a>>,
}

impl<'a> Decoder<'a> {
    /// For a model, with as many threads as libtorch has.
    pub fn new(model: &'a Llama) -> Self {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        Self { model, step: Step::new(model, threads) }
    }

    /// Reads one more token of each row of the cache; returns the logits of what follows [B, V], f32.
    pub fn decode(&self, ids: &[i64], cache: &mut Cache) -> Tensor {
        match &self.step {
            Some(step) => step.decode(ids, cache),
            None => {
                let hidden = self.model.decode(&upload(ids, self.model.device()), cache);
                tch::no_grad(|| self.model.logits(&hidden).to_kind(Kind::Float))
            }
        }
    }
}

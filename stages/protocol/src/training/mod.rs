//! The arithmetic of a training plan: steps, rates, noise strengths, row order, the chain of keys, memory.
//!
//! All of it is pure, so that `plan` can tell what a run will do and the worker does exactly that. Steps count from 0.

mod chain;
mod memory;
mod order;
mod schedule;
mod sharing;
mod sparsity;

pub use chain::{Statics, checkpoint_steps, extension_step, step_keys};
pub use memory::{ModelShape, RowLengths};
pub use order::{batches, batches_by_length};
pub use schedule::{TrainingPlan, mean_square};
pub use sharing::SharedSteps;
pub use sparsity::{MaskUpdate, mask_updates};

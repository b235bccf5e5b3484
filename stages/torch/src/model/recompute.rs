//! Activation checkpointing: blocks forget what they computed, and compute it again when their gradients are wanted.
//!
//! Only the input of every block [N, hidden] is kept. The second pass computes what the first one did, from the same
//! inputs and with the same dropout, so losses and gradients are those of the plain pass bit for bit.

use tch::{Kind, Tensor};

use super::llama::Context;
use super::{AdapterInput, Llama, Rows};

/// A forward pass whose blocks are to be computed again.
pub struct Recomputable<'a> {
    model: &'a Llama,
    rows: &'a Rows,
    adapter_input: Option<&'a dyn AdapterInput>,
    embedded: Tensor,
    /// What goes into each block.
    inputs: Vec<Tensor>,
    /// What comes out of the last one: a leaf, which collects its gradient.
    output: Tensor,
}

impl Llama {
    /// Passes rows through the blocks as [`Self::training_states`] does, keeping no more than their inputs.
    pub fn forget_and_recompute<'a>(
        &'a self,
        embedded: Tensor,
        rows: &'a Rows,
        adapter_input: Option<&'a dyn AdapterInput>,
    ) -> Recomputable<'a> {
        let context = Context::Rows { lengths: rows.lengths(), kept: None, adapter_input };
        let (inputs, output) = tch::no_grad(|| {
            let angles = self.angles(rows.positions());
            let mut inputs = Vec::new();
            let output = (0..self.config().layers).fold(embedded.detach(), |x, layer| {
                inputs.push(x.shallow_clone());
                self.run_block(layer, x, &angles, &context)
            });
            (inputs, output)
        });
        let output = output.set_requires_grad(true);
        Recomputable { model: self, rows, adapter_input, embedded, inputs, output }
    }
}

impl Recomputable<'_> {
    /// Hidden states [N, hidden] after the last norm.
    pub fn hidden_states(&self) -> Tensor {
        self.model.last_norm(&self.output)
    }

    /// Takes the gradient that [`Self::hidden_states`] received back through the blocks, into the trained tensors.
    pub fn backward(self) {
        let context = Context::Rows { lengths: self.rows.lengths(), kept: None, adapter_input: self.adapter_input };
        let angles = self.model.angles(self.rows.positions());
        let mut gradient = self.output.grad();
        for (layer, input) in self.inputs.into_iter().enumerate().rev() {
            let wanted = layer > 0 || self.embedded.requires_grad();
            let input = input.set_requires_grad(wanted);
            let output = self.model.run_block(layer, input.shallow_clone(), &angles, &context);
            hand_over(&output, &gradient);
            if wanted {
                gradient = input.grad();
            }
        }
        if self.embedded.requires_grad() {
            hand_over(&self.embedded, &gradient);
        }
    }
}

/// Hands a tensor's gradient on to what it was computed from: the sum of x∘g has the gradient g for x.
fn hand_over(x: &Tensor, gradient: &Tensor) {
    (x * gradient).sum(Kind::Float).backward();
}

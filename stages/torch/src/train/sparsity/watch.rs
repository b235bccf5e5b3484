//! What a step shows of what is masked, for the update of the masks after it: dense gradients, and norms of inputs.

use neftpipe_protocol::params::train::{Drop, Grow};
use neftpipe_protocol::training::MaskUpdate;
use tch::Tensor;

use super::{Masks, What, projection_mut};
use crate::model::{InputNorms, Llama};
use crate::train::optimizer::Trained;

/// What was seen of each masked tensor; a list is empty where its update does not go by it.
#[derive(Default)]
pub struct Seen {
    /// Magnitudes of the step's dense gradients, entry by entry.
    pub gradients: Vec<Tensor>,
    /// ‖x‖₂ of the feature that each column multiplies, over all tokens of the step.
    pub norms: Vec<Tensor>,
}

impl Masks {
    /// Makes the projections collect what this step's update goes by.
    pub fn watch(&self, (step, update): (u64, MaskUpdate), model: &mut Llama) {
        for masked in &self.masked {
            let product = matches!(masked.what, What::Product);
            let projection = projection_mut(model, masked.place);
            if product && self.wants_gradients(step, update) {
                projection.probe = Some(projection.weight.zeros_like().set_requires_grad(true));
            }
            if self.wants_norms(step) {
                projection.norms = Some(InputNorms::new(projection));
            }
        }
    }

    /// What they collected; to be taken before [`Self::mask_gradients`].
    pub fn seen(&self, (step, update): (u64, MaskUpdate), model: &mut Llama, trained: &Trained) -> Seen {
        let mut seen = Seen::default();
        for masked in &self.masked {
            let projection = projection_mut(model, masked.place);
            if self.wants_gradients(step, update) {
                let gradient = match masked.what {
                    What::Trained(at) => trained[at].1.grad(),
                    What::Product => projection.probe.take().expect("the projection was watched").grad(),
                };
                seen.gradients.push(gradient.abs());
            }
            if self.wants_norms(step) {
                let norms = projection.norms.as_ref().expect("the projection was watched");
                let of = if masked.is_b() { &norms.low } else { &norms.input };
                seen.norms.push(of.shallow_clone());
            }
        }
        for masked in &self.masked {
            projection_mut(model, masked.place).norms = None;
        }
        seen
    }

    /// To let entries grow, or to choose the first mask where nothing was learnt yet.
    fn wants_gradients(&self, step: u64, update: MaskUpdate) -> bool {
        let to_grow = self.begun && self.sparsity.grow == Grow::Gradient && update.exchange > 0.0;
        to_grow || (0..self.masked.len()).any(|at| self.starts_from_zero(at, step))
    }

    fn wants_norms(&self, step: u64) -> bool {
        self.sparsity.drop == Drop::Wanda && (0..self.masked.len()).any(|at| !self.starts_from_zero(at, step))
    }
}

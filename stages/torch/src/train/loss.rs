//! Cross-entropy of the head at the places that predict something, and its gradient, without ever holding the logits
//! of more than a few places.
//!
//! For logits z = h Wᵀ and the target t: loss = logsumexp(z) − z_t, dloss/dz = softmax(z) − onehot(t). Both come out of
//! one pass over each chunk, so the logits need no autograd. Axes: S places, V vocabulary.

use tch::{Device, Kind, Tensor};

use crate::native;

/// Logits held at a time. At a vocabulary of 128,256 these are 130 places.
const LOGITS_BYTES: i64 = 64 << 20;

/// Losses of so many places.
pub struct Losses {
    /// Cross-entropy of each place [S], f32.
    pub each: Tensor,
    /// Gradients of `scale · sum(each)`.
    pub gradients: Option<Gradients>,
}

/// Gradients of the scaled sum of the losses.
pub struct Gradients {
    /// With respect to the hidden states [S, hidden].
    pub hidden: Tensor,
    /// With respect to the head's weight [V, hidden], where it is trained.
    pub head: Option<Tensor>,
}

/// What gradients are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// None: an evaluation.
    Losses,
    /// Of `scale` times the sum of the losses.
    Gradients {
        /// The factor: one over the number of tokens that the step learns.
        scale: f64,
        /// The head's weight is trained too.
        head: bool,
    },
}

/// Losses of hidden states [S, hidden] under the head [V, hidden] against targets [S].
pub fn cross_entropy(hidden: &Tensor, head: &Tensor, targets: &Tensor, wanted: Wanted) -> Losses {
    let chunk = (LOGITS_BYTES / (4 * head.size()[0])).max(1);
    in_chunks(hidden, head, targets, wanted, chunk)
}

fn in_chunks(hidden: &Tensor, head: &Tensor, targets: &Tensor, wanted: Wanted, chunk: i64) -> Losses {
    tch::no_grad(|| {
        let (hidden, places) = (hidden.detach(), hidden.size()[0]);
        let mut each = Vec::new();
        let mut hidden_gradients = Vec::new();
        let mut head_gradient = match wanted {
            Wanted::Gradients { head: true, .. } => Some(head.zeros_like()),
            _ => None,
        };
        for start in (0..places).step_by(chunk as usize) {
            let length = chunk.min(places - start);
            let part = hidden.narrow(0, start, length);
            let target = targets.narrow(0, start, length);
            let mut logits = native::product(&part, head, None); // [S, V]
            let scale = match wanted {
                Wanted::Losses => None,
                Wanted::Gradients { scale, .. } => Some(scale),
            };
            each.push(losses_and_slopes(&mut logits, &target, scale));
            if scale.is_none() {
                continue;
            }
            let slope = logits;
            hidden_gradients.push(native::product(&slope, &head.tr(), None)); // [S, hidden]
            if let Some(gradient) = &mut head_gradient {
                let _ = gradient.addmm_(&slope.tr(), &part);
            }
        }
        let gradients = match wanted {
            Wanted::Losses => None,
            Wanted::Gradients { .. } => {
                Some(Gradients { hidden: Tensor::cat(&hidden_gradients, 0), head: head_gradient })
            }
        };
        Losses { each: Tensor::cat(&each, 0), gradients }
    })
}

/// Cross-entropies [S] of logits [S, V]; with a scale the logits become their slopes times that, in their own format.
fn losses_and_slopes(logits: &mut Tensor, targets: &Tensor, scale: Option<f64>) -> Tensor {
    if logits.device() == Device::Cpu {
        // One pass over each row while it is near: ten passes of operators took 2% of a step of SmolLM2.
        return native::cross_entropies(logits, targets, scale);
    }
    let targets = targets.unsqueeze(1); // [S, 1]
    let mut wide = logits.to_kind(Kind::Float);
    let total = wide.logsumexp([1], true); // [S, 1]
    let losses = (&total - wide.gather(1, &targets, false)).squeeze_dim(1);
    if let Some(scale) = scale {
        let mut slopes = wide.g_sub_(&total).exp_(); // softmax [S, V]
        let _ = slopes.scatter_add_(1, &targets, &total.full_like(-1)); // less the one-hot target
        *logits = slopes.g_mul_scalar_(scale).to_kind(logits.kind());
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Reduction;

    #[test]
    fn losses_and_gradients_are_those_of_autograd() {
        tch::manual_seed(1);
        let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (head, hidden) = (random([11, 5]), random([7, 5]));
        let targets = Tensor::from_slice(&[0i64, 5, 1, 10, 5, 2, 9]);
        let ours = in_chunks(&hidden, &head, &targets, Wanted::Gradients { scale: 0.25, head: true }, 3);

        let logits = hidden.linear(&head, None::<&Tensor>);
        let theirs = logits.cross_entropy_loss(&targets, None::<&Tensor>, Reduction::None, -100, 0.0);
        (theirs.sum(Kind::Float) * 0.25).backward();
        let close = |a: &Tensor, b: &Tensor| assert!((a - b).abs().max().double_value(&[]) < 1e-6);
        close(&ours.each, &theirs);
        let gradients = ours.gradients.unwrap();
        close(&gradients.hidden, &hidden.grad());
        close(&gradients.head.unwrap(), &head.grad());
    }
}

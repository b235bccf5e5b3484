//! AdamW (arXiv 1711.05101) with clipping by the global norm, on the trained tensors themselves, or on f32 copies of them.

use tch::{Kind, Tensor};

use crate::native::{self, AdamStep};

/// The tensors that are trained, under their names on disk. They share storage with the model.
pub type Trained = Vec<(String, Tensor)>;

/// The optimizer, with the weight that it moves and two moments for each trained tensor, all in f32.
///
/// The weight is the trained tensor itself, or where that is in bf16 a copy, of which it is the rounding: most updates are
/// smaller than half a unit in the last place of a bf16 number, and would be lost.
pub struct AdamW {
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    weights: Vec<Tensor>,
    moments: Vec<[Tensor; 2]>,
}

impl AdamW {
    /// An optimizer that has not yet taken a step.
    pub fn new(trained: &Trained, betas: [f64; 2], eps: f64, weight_decay: f64) -> Self {
        let weights: Vec<Tensor> = trained.iter().map(|(_, tensor)| tensor.detach().to_kind(Kind::Float)).collect();
        let moments = weights.iter().map(|weight| [weight.zeros_like(), weight.zeros_like()]).collect();
        Self { betas, eps, weight_decay, weights, moments }
    }

    /// The trained tensor at this place of the list, in f32.
    pub fn weight(&self, at: usize) -> &Tensor {
        &self.weights[at]
    }

    /// Sets a trained tensor and all that belongs to it to 0 where `outside` is true.
    pub fn clear(&self, trained: &Trained, at: usize, outside: &Tensor) {
        let [mean, square] = &self.moments[at];
        for tensor in [&trained[at].1, &self.weights[at], mean, square] {
            let _ = tensor.shallow_clone().masked_fill_(outside, 0.0);
        }
    }

    /// The moments, and weights that are no trained tensors, under the names that they have in a checkpoint.
    pub fn state(&self, trained: &Trained) -> Vec<(String, Tensor)> {
        let mut state = Vec::new();
        for (((name, tensor), weight), [mean, square]) in trained.iter().zip(&self.weights).zip(&self.moments) {
            let weight = (tensor.kind() != Kind::Float).then_some(("adam.weight.", weight));
            let named = [("adam.mean.", mean), ("adam.square.", square)].into_iter().chain(weight);
            state.extend(named.map(|(prefix, it)| (format!("{prefix}{name}"), it.shallow_clone())));
        }
        state
    }

    /// Takes optimizer step number `step` (from 1) with the gradients that the trained tensors hold, as PyTorch's AdamW:
    /// decay, moments, bias correction, update.
    pub fn step(&mut self, trained: &Trained, step: u64, learning_rate: f64) {
        let Self { betas, eps, weight_decay, .. } = *self;
        let gradients: Vec<Tensor> =
            trained.iter().map(|(_, it)| it.grad().to_kind(Kind::Float).contiguous()).collect();
        let [means, squares] = [0, 1].map(|at| self.moments.iter().map(|it| &it[at]).collect::<Vec<_>>());
        let weights: Vec<&Tensor> = self.weights.iter().collect();
        let gradients: Vec<&Tensor> = gradients.iter().collect();
        let step = AdamStep { step, learning_rate, betas, weight_decay, eps };
        native::adamw(&weights, &gradients, [&means, &squares], &step);
        self.round_into(trained);
    }

    /// Sets the trained tensors that are in another format to the rounding of its weights.
    pub fn round_into(&self, trained: &Trained) {
        tch::no_grad(|| {
            let pairs = trained.iter().zip(&self.weights).filter(|((_, it), _)| it.kind() != Kind::Float);
            pairs.for_each(|((_, tensor), weight)| tensor.shallow_clone().copy_(weight));
        });
    }
}

/// Scales the gradients so that their global norm is at most `most` (0 leaves them), and returns the norm before that.
pub fn clip(trained: &Trained, most: f64) -> f64 {
    tch::no_grad(|| {
        let norms: Vec<Tensor> = trained.iter().map(|(_, tensor)| norm(&tensor.grad())).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        // The 1e-6 is that of `clip_grad_norm_`.
        let factor = most / (norm + 1e-6);
        if most > 0.0 && factor < 1.0 {
            for (_, tensor) in trained {
                let _ = tensor.grad().g_mul_scalar_(factor);
            }
        }
        norm
    })
}

/// Its norm in f32, whatever its own format.
fn norm(x: &Tensor) -> Tensor {
    x.norm_scalaropt_dtype(2, Kind::Float)
}

/// Drops the gradients of the last step.
pub fn zero_gradients(trained: &Trained) {
    for (_, tensor) in trained {
        tensor.shallow_clone().zero_grad();
    }
}

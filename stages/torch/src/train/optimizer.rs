//! AdamW (arXiv 1711.05101) with clipping by the global norm, on the trained tensors themselves.

use tch::Tensor;

/// The tensors that are trained, under their names on disk. They share storage with the model.
pub type Trained = Vec<(String, Tensor)>;

/// The optimizer and its moments, one pair for each trained tensor.
pub struct AdamW {
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    moments: Vec<[Tensor; 2]>,
}

impl AdamW {
    /// An optimizer that has not yet taken a step.
    pub fn new(trained: &Trained, betas: [f64; 2], eps: f64, weight_decay: f64) -> Self {
        let moments = trained.iter().map(|(_, tensor)| [tensor.zeros_like(), tensor.zeros_like()]).collect();
        Self { betas, eps, weight_decay, moments }
    }

    /// Moments of the trained tensor at this place of the list.
    pub fn moments(&self, at: usize) -> &[Tensor; 2] {
        &self.moments[at]
    }

    /// The moments under the names that they have in a checkpoint.
    pub fn state(&self, trained: &Trained) -> Vec<(String, Tensor)> {
        let of = |((name, _), [mean, square]): (&(String, Tensor), &[Tensor; 2])| {
            let named = [("adam.mean.", mean), ("adam.square.", square)];
            named.map(|(prefix, moment)| (format!("{prefix}{name}"), moment.shallow_clone()))
        };
        trained.iter().zip(&self.moments).flat_map(of).collect()
    }

    /// Takes optimizer step number `step` (from 1) with the gradients that the trained tensors hold, as PyTorch's AdamW:
    /// decay, moments, bias correction, update.
    pub fn step(&mut self, trained: &Trained, step: u64, learning_rate: f64) {
        let [beta1, beta2] = self.betas;
        let corrections = [1.0 - beta1.powf(step as f64), 1.0 - beta2.powf(step as f64)];
        tch::no_grad(|| {
            for ((_, tensor), [mean, square]) in trained.iter().zip(&mut self.moments) {
                let (gradient, mut tensor) = (tensor.grad(), tensor.shallow_clone());
                if self.weight_decay > 0.0 {
                    let _ = tensor.g_mul_scalar_(1.0 - learning_rate * self.weight_decay);
                }
                let _ = mean.lerp_(&gradient, 1.0 - beta1);
                let _ = square.g_mul_scalar_(beta2);
                let _ = square.addcmul_(&gradient, &(&gradient * (1.0 - beta2)));
                let mut divisor = square.sqrt();
                let _ = divisor.g_div_scalar_(corrections[1].sqrt());
                let _ = divisor.g_add_scalar_(self.eps);
                let update = (&*mean * (-learning_rate / corrections[0])).g_div_(&divisor);
                let _ = tensor.g_add_(&update);
            }
        });
    }
}

/// Scales the gradients so that their global norm is at most `most` (0 leaves them), and returns the norm before that.
pub fn clip(trained: &Trained, most: f64) -> f64 {
    tch::no_grad(|| {
        let norms: Vec<Tensor> = trained.iter().map(|(_, tensor)| tensor.grad().norm()).collect();
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

/// Drops the gradients of the last step.
pub fn zero_gradients(trained: &Trained) {
    for (_, tensor) in trained {
        tensor.shallow_clone().zero_grad();
    }
}

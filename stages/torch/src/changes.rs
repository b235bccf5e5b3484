//! How much of a model's weights fine-tuning changed, and how much of that rounding to bf16 leaves.

use tch::{Kind, Tensor};

/// Counts of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Weights that are not 0.
    pub nonzeros: i64,
    /// Weights that are not those of the base.
    pub changed: i64,
    /// Those of them that still differ once both are rounded to bf16.
    pub survived: i64,
}

impl Changes {
    /// Counts one tensor.
    pub fn add(&mut self, before: &Tensor, now: &Tensor) {
        let rounded = |it: &Tensor| it.to_kind(Kind::BFloat16);
        self.nonzeros += count(&now.ne(0.0));
        self.changed += count(&now.ne_tensor(before));
        self.survived += count(&rounded(now).ne_tensor(&rounded(before)));
    }

    /// Share of the changed weights that rounding to bf16 leaves changed; none where nothing changed.
    pub fn bf16_surviving_share(&self) -> Option<f64> {
        (self.changed > 0).then(|| self.survived as f64 / self.changed as f64)
    }
}

/// Entries of a mask.
pub fn count(mask: &Tensor) -> i64 {
    mask.sum(Kind::Int64).int64_value(&[])
}

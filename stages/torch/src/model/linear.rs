//! A projection with an optional low-rank adapter beside it.
//!
//! y = W x + s · B (A x) (LoRA, arXiv 2106.09685). The base weight stays as it is, so that one model serves training
//! and generation with any adapter.

use tch::{Device, Kind, Tensor};

use super::{ModelError, Weights};

/// A projection: weight [out, in], bias [out]?, adapter?
pub struct Linear {
    place: Place,
    /// Its weight [out, in].
    pub weight: Tensor,
    /// Its bias [out].
    pub bias: Option<Tensor>,
    /// The adapter beside it.
    pub adapter: Option<LowRank>,
}

/// Where a projection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The block, from 0.
    pub layer: usize,
    /// Which of the block's seven, in their order there: q, k, v, o, gate, up, down.
    pub projection: usize,
}

/// What the adapters of a pass see in place of a projection's input.
pub trait AdapterInput {
    /// The input of the adapter at this place, for the projection's input x [N, in].
    fn of(&self, x: &Tensor, place: Place) -> Tensor;
}

/// A low-rank update s·BA of a weight.
pub struct LowRank {
    /// A [rank, in].
    pub a: Tensor,
    /// B [out, rank].
    pub b: Tensor,
    /// s.
    pub scaling: f64,
}

impl Linear {
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        place: Place,
        (inputs, outputs): (i64, i64),
        bias: bool,
        (kind, device): (Kind, Device),
    ) -> Result<Self, ModelError> {
        let weight = weights.read(&format!("{name}.weight"), &[outputs, inputs], kind, device)?;
        let bias = if bias { Some(weights.read(&format!("{name}.bias"), &[outputs], kind, device)?) } else { None };
        Ok(Self { place, weight, bias, adapter: None })
    }

    /// Width of its input.
    pub fn inputs(&self) -> i64 {
        self.weight.size()[1]
    }

    /// Width of its output.
    pub fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }

    /// x [N, in] to [N, out]; the adapter may see another input.
    pub fn forward(&self, x: &Tensor, adapter_input: Option<&dyn AdapterInput>) -> Tensor {
        let mut y = x.linear(&self.weight, self.bias.as_ref()); // [N, out]
        if let Some(LowRank { a, b, scaling }) = &self.adapter {
            let seen = adapter_input.map(|input| input.of(x, self.place));
            let low = seen.as_ref().unwrap_or(x).mm(&a.tr()) * *scaling; // [N, rank]
            let _ = y.addmm_(&low, &b.tr());
        }
        y
    }
}

impl LowRank {
    /// s·BA [out, in].
    pub fn delta(&self) -> Tensor {
        self.b.mm(&self.a) * self.scaling
    }
}

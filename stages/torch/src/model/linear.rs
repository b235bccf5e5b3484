//! A projection with an optional low-rank adapter beside it.
//!
//! y = W x + s · B (A x) (LoRA, arXiv 2106.09685). The base weight stays as it is, so that one model serves training
//! and generation with any adapter.

use tch::Tensor;

use super::{ModelError, Weights};
use crate::native::{self, Factors};

/// A projection: weight [out, in], bias [out]?, adapter?
pub struct Linear {
    place: Place,
    /// Its weight [out, in].
    pub weight: Tensor,
    /// Its bias [out].
    pub bias: Option<Tensor>,
    /// The adapter beside it.
    pub adapter: Option<LowRank>,
    /// Zeros [out, in] that collect the gradient of the weight it computes with, masked entries too.
    pub probe: Option<Tensor>,
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
    /// The mask over it.
    pub mask: Option<Mask>,
}

/// A mask m beside an adapter.
pub struct Mask {
    /// True where m is 0 [out, in].
    pub outside: Tensor,
    /// What it covers.
    pub covers: Covers,
}

/// What a mask covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    /// The update: W + m∘(sBA).
    Update,
    /// The whole weight: m∘(W + sBA).
    Weight,
}

impl Linear {
    /// Reads the weight into its place [out, in].
    pub(super) fn load(
        weights: &Weights,
        name: &str,
        place: Place,
        mut weight: Tensor,
        bias: bool,
    ) -> Result<Self, ModelError> {
        weights.read_into(&format!("{name}.weight"), &mut weight)?;
        let (outputs, kind, device) = (weight.size()[0], weight.kind(), weight.device());
        let bias = if bias { Some(weights.read(&format!("{name}.bias"), &[outputs], kind, device)?) } else { None };
        Ok(Self { place, weight, bias, adapter: None, probe: None })
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The weight that it computes with [out, in]: adapter, mask and probe in it.
    pub fn effective(&self) -> Tensor {
        let weight = match &self.adapter {
            None => self.weight.shallow_clone(),
            Some(adapter) => match &adapter.mask {
                Some(Mask { outside, covers: Covers::Weight }) => {
                    (&self.weight + adapter.delta()).masked_fill(outside, 0.0)
                }
                _ => &self.weight + adapter.masked_delta(),
            },
        };
        let weight = match &self.probe {
            Some(probe) => weight + probe,
            None => weight,
        };
        // In bf16 the adapter may be in f32, and the sum with it.
        weight.to_kind(self.weight.kind())
    }

    /// Whether it computes W x, with nothing beside it but a dense adapter, and W is not trained.
    pub(super) fn is_plain(&self) -> bool {
        let masked = self.adapter.as_ref().is_some_and(|adapter| adapter.mask.is_some());
        !masked && self.bias.is_none() && self.probe.is_none() && !self.weight.requires_grad()
    }

    /// A and B of its adapter.
    pub(super) fn factors(&self) -> Factors<'_> {
        self.adapter.as_ref().map(|adapter| (&adapter.a, &adapter.b))
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
        let seen = adapter_input.filter(|_| self.adapter.is_some()).map(|input| input.of(x, self.place));
        let sparse = self.probe.is_some() || self.adapter.as_ref().is_some_and(|adapter| adapter.mask.is_some());
        if sparse && seen.is_none() {
            return x.linear(&self.effective(), self.bias.as_ref());
        }
        let Some(adapter @ LowRank { a, b, scaling, .. }) = &self.adapter else { return self.base(x, None) };
        let seen = seen.as_ref().unwrap_or(x);
        if sparse {
            let update = adapter.masked_delta();
            let update = self.probe.iter().fold(update, |update, probe| update + probe).to_kind(x.kind());
            return self.base(x, None) + seen.mm(&update.tr());
        }
        let factor = |factor: &Tensor| factor.to_kind(x.kind()).tr();
        let low = seen.mm(&factor(a)) * *scaling; // [N, rank]
        self.base(x, Some(&low.mm(&factor(b))))
    }

    /// W x + b, and what is added: before it is rounded, since in bf16 the adapter's part would else be lost wherever it is
    /// smaller than half a unit in the last place of W x.
    fn base(&self, x: &Tensor, added: Option<&Tensor>) -> Tensor {
        let y = match added {
            _ if !self.weight.requires_grad() => native::product(x, &self.weight, added),
            None => x.linear(&self.weight, None::<&Tensor>),
            Some(added) => added.addmm(x, &self.weight.tr()),
        };
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }
}

impl LowRank {
    /// s·BA [out, in].
    pub fn delta(&self) -> Tensor {
        self.b.mm(&self.a) * self.scaling
    }

    /// m∘(sBA) [out, in].
    fn masked_delta(&self) -> Tensor {
        match &self.mask {
            Some(Mask { outside, .. }) => self.delta().masked_fill(outside, 0.0),
            None => self.delta(),
        }
    }
}

//! A projection with an optional low-rank adapter beside it.
//!
//! y = W x + s · B (A x) (LoRA, arXiv 2106.09685). The base weight stays as it is, so that one model serves training
//! and generation with any adapter.

use tch::{Kind, Tensor};

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
    /// What it multiplies is measured here, in passes that gradients are wanted of.
    pub norms: Option<InputNorms>,
}

/// Norms ‖x‖₂ of input features over all tokens so far, in f32.
pub struct InputNorms {
    /// Of what the weight, or the adapter beside it, multiplies [in].
    pub input: Tensor,
    /// Of what B multiplies, A x [rank]; of an adapter whose product is not masked.
    pub low: Tensor,
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
        Ok(Self { place, weight, bias, adapter: None, probe: None, norms: None })
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The weight that it computes with [out, in]: adapter, mask and probe in it.
    pub fn effective(&self) -> Tensor {
        self.combined().to_kind(self.weight.kind())
    }

    /// The same before it is rounded to the weight's format: an adapter is in f32, and so is the sum with it.
    pub fn combined(&self) -> Tensor {
        let weight = match &self.adapter {
            None => self.weight.shallow_clone(),
            Some(adapter) => match &adapter.mask {
                Some(Mask { outside, covers: Covers::Weight }) => {
                    (&self.weight + adapter.delta()).masked_fill(outside, 0.0)
                }
                _ => &self.weight + adapter.masked_delta(),
            },
        };
        self.probe.iter().fold(weight, |weight, probe| weight + probe)
    }

    /// Whether it computes W x, with nothing beside it but a dense adapter, and W is not trained.
    pub(super) fn is_plain(&self) -> bool {
        let masked = self.adapter.as_ref().is_some_and(|adapter| adapter.mask.is_some());
        let watched = self.probe.is_some() || self.norms.is_some();
        !masked && self.bias.is_none() && !watched && !self.weight.requires_grad()
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
        let y = self.product(x, seen.as_ref());
        self.note(seen.as_ref().unwrap_or(x), &y, |norms| &norms.input);
        y
    }

    fn product(&self, x: &Tensor, seen: Option<&Tensor>) -> Tensor {
        let Some(adapter @ LowRank { a, b, scaling, mask }) = &self.adapter else { return self.base(x, None) };
        let masked = self.probe.is_some() || mask.is_some();
        // In bf16 the sum of weight and update would lose what is smaller than half a unit in the weight's last place.
        if masked && seen.is_none() && x.kind() == Kind::Float {
            return x.linear(&self.effective(), self.bias.as_ref());
        }
        let seen = seen.unwrap_or(x);
        if masked {
            let update = self.probe.iter().fold(adapter.masked_delta(), |update, probe| update + probe);
            return self.base(x, Some(&seen.mm(&update.to_kind(x.kind()).tr())));
        }
        let factor = |factor: &Tensor| factor.to_kind(x.kind()).tr();
        let low = seen.mm(&factor(a)); // [N, rank]
        self.note(&low, &low, |norms| &norms.low);
        self.base(x, Some(&(low * *scaling).mm(&factor(b))))
    }

    /// Adds to the norms of features [N, features], if they are asked for, and `output` is of a pass with gradients: blocks
    /// that are computed again, and evaluations, have others.
    fn note(&self, features: &Tensor, output: &Tensor, of: impl Fn(&InputNorms) -> &Tensor) {
        let Some(norms) = self.norms.as_ref().filter(|_| output.requires_grad()) else { return };
        tch::no_grad(|| {
            let total = of(norms);
            let norms = features.norm_scalaropt_dim_dtype(2, 0i64, false, Kind::Float);
            total.shallow_clone().copy_(&total.hypot(&norms));
        });
    }

    /// W x + b, W under a mask that covers it, and what is added: before it is rounded, since in bf16 the adapter's part
    /// would else be lost wherever it is smaller than half a unit in the last place of W x.
    fn base(&self, x: &Tensor, added: Option<&Tensor>) -> Tensor {
        let y = match added {
            _ if !self.weight.requires_grad() => native::product(x, &self.kept(), added),
            None => x.linear(&self.weight, None::<&Tensor>),
            Some(added) => added.addmm(x, &self.weight.tr()),
        };
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }

    /// The weight without its adapter: W, or m∘W.
    fn kept(&self) -> Tensor {
        match self.adapter.as_ref().and_then(|adapter| adapter.mask.as_ref()) {
            Some(Mask { outside, covers: Covers::Weight }) => self.weight.masked_fill(outside, 0.0),
            _ => self.weight.shallow_clone(),
        }
    }
}

impl InputNorms {
    /// Of no token yet, beside this projection.
    pub fn new(projection: &Linear) -> Self {
        let zeros = |features| Tensor::zeros([features], (Kind::Float, projection.weight.device()));
        let rank = projection.adapter.as_ref().map_or(0, |adapter| adapter.a.size()[0]);
        Self { input: zeros(projection.inputs()), low: zeros(rank) }
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

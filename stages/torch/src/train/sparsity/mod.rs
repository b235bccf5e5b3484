//! Sparse-NEFT: masks over what is trained, beside the noise on the embeddings.
//!
//! Two forms. Under `lora_factors` and `full` the masked thing is a trained tensor: masked entries, their gradients and
//! moments are exactly 0, and grown entries start from there. Under `delta` and `base_plus_lora` it is a product of
//! trained tensors: the projection computes with the masked product ([`Mask`]), and grown entries take the product's
//! value. Before the first update there is no mask, and a step is that of plain training bit for bit.
//!
//! What is dropped has the least score: |W| of what is masked, or under `wanda` |W|·‖x‖₂ (arXiv 2306.11695), x the feature that
//! the entry multiplies, over the tokens of the step. Of products and whole weights that is the input of the projection, of A
//! too, and of B it is A x; with dropout, what it leaves of the input.

mod allocation;
mod report;
mod select;
mod watch;

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::train::{Granularity, Grow, Lora, Sparsity, SparsityScope, TrainParams};
use neftpipe_protocol::random::RandomStream;
use neftpipe_protocol::training::{MaskUpdate, TrainingPlan};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::optimizer::{AdamW, Trained};
use crate::changes::count;
use crate::model::{Covers, Linear, Llama, Mask, Place};

pub use watch::Seen;

/// Bits of an entry: in the mask, in the first mask, in any mask so far.
const ACTIVE: i64 = 1;
const FIRST: i64 = 2;
const EXPLORED: i64 = 4;

/// The masks of a run.
pub struct Masks {
    sparsity: Sparsity,
    seed: u64,
    /// Whether what is masked starts from zero, so that its magnitude says nothing at first.
    fresh: bool,
    /// The step with the first update, from 0.
    first: u64,
    begun: bool,
    masked: Vec<Masked>,
}

/// A tensor with a mask.
struct Masked {
    name: String,
    /// The projection that it is part of.
    place: Place,
    what: What,
    bits: Tensor,
}

#[derive(Clone, Copy)]
enum What {
    /// The trained tensor at this place of the list.
    Trained(usize),
    /// The product of the adapter.
    Product,
}

/// What an update of the masks did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MaskFigures {
    /// Steps taken.
    pub step: u64,
    /// Fraction of zeros in the masks.
    pub sparsity: f64,
    /// Fraction of the mask that is new.
    pub churn: f64,
    /// Fraction of the mask that was in the first one.
    pub overlap_with_first: f64,
    /// Fraction of all entries that were in any mask so far.
    pub explored: f64,
}

impl Masks {
    /// None where the parameters make no mask; `fresh` where training starts from a new adapter.
    ///
    /// # Errors
    /// Where the unit of the masks does not go into a tensor.
    pub fn new(
        params: &TrainParams,
        plan: &TrainingPlan,
        fresh: bool,
        model: &Llama,
        trained: &Trained,
    ) -> Result<Option<Self>, Failure> {
        let first = plan.mask_updates.iter().position(Option::is_some);
        let (Some(sparsity), Some(first)) = (params.sparsity.clone(), first) else { return Ok(None) };
        let first = first as u64;
        let ones = |like: &Tensor| Tensor::ones(like.size(), (Kind::Uint8, like.device()));
        let products = matches!(sparsity.scope, SparsityScope::Delta | SparsityScope::BasePlusLora);
        let mut masked = Vec::new();
        for (projection, linear) in model.projections() {
            let place = linear.place();
            if products && linear.adapter.is_some() {
                masked.push(Masked { name: projection, place, what: What::Product, bits: ones(&linear.weight) });
            } else if !products {
                let parts = ["weight", "lora_A.weight", "lora_B.weight"].map(|part| format!("{projection}.{part}"));
                let found = trained.iter().enumerate();
                let found = found.filter(|(_, (name, _))| parts.iter().any(|part| name.ends_with(part)));
                masked.extend(found.map(|(at, (name, it))| {
                    let what = What::Trained(at);
                    Masked { name: name.clone(), place, what, bits: ones(it) }
                }));
            }
        }
        let seed = sparsity.seed.unwrap_or(params.seed);
        let masks = Self { sparsity, seed, fresh, first, begun: false, masked };
        masks.check_units()?;
        Ok(Some(masks))
    }

    fn check_units(&self) -> Result<(), Failure> {
        let columns = |it: &Masked| it.bits.size()[1];
        let odd = self.masked.iter().find(|it| columns(it) % 4 != 0);
        match odd.filter(|_| self.sparsity.granularity == Granularity::TwoOfFour) {
            Some(it) => Err(Failure::usage(format!(
                "`sparsity.granularity: 2:4` does not go into {}: its rows have {} entries",
                it.name,
                columns(it)
            ))
            .with_hint("mask by `element`")),
            None => Ok(()),
        }
    }

    /// Leaves no gradient outside the masks.
    pub fn mask_gradients(&self, trained: &Trained) {
        for (at, masked) in self.trained().filter(|_| self.begun) {
            let _ = trained[at].1.grad().masked_fill_(&masked.outside(), 0.0);
        }
    }

    /// Drops and grows, after the optimizer's part of the step, by what was seen of it.
    pub fn update(
        &mut self,
        (step, update): (u64, MaskUpdate),
        Seen { gradients, norms }: &Seen,
        model: &mut Llama,
        trained: &Trained,
        optimizer: &AdamW,
    ) -> MaskFigures {
        tch::no_grad(|| {
            let units = |it: &Tensor| self.units(it);
            let before: Vec<Tensor> = self.masked.iter().map(|it| units(&it.active()).gt(0.0)).collect();
            let grow: Vec<Tensor> = match self.sparsity.grow {
                Grow::Random if self.begun && update.exchange > 0.0 => {
                    before.iter().zip(0..).map(|(it, at)| self.random(it, step, at)).collect()
                }
                _ if gradients.is_empty() => before.iter().map(|it| it.zeros_like().to_kind(Kind::Float)).collect(),
                _ => gradients.iter().map(units).collect(),
            };
            let drop: Vec<Tensor> = (0..self.masked.len())
                .map(|at| match self.starts_from_zero(at, step) {
                    true => units(&gradients[at]),
                    false => {
                        let magnitude = self.value(at, model, optimizer).abs();
                        units(&norms.get(at).map_or_else(|| magnitude.shallow_clone(), |norms| &magnitude * norms))
                    }
                })
                .collect();
            let after = self.choose(update, &before, &drop, &grow);
            let mut new_entries = 0;
            for (at, mask) in after.into_iter().enumerate() {
                new_entries += self.put(at, &mask);
            }
            self.begun = true;
            self.apply(model);
            self.clear_outside(trained, optimizer);
            self.figures(step + 1, new_entries)
        })
    }

    /// Its tensors under the names that they have in a checkpoint after so many steps; none before the first update, so that
    /// such a state is that of a dense run.
    pub fn state(&self, steps: u64) -> Vec<(String, Tensor)> {
        let named = self.masked.iter().filter(|_| steps > self.first);
        named.map(|masked| (format!("mask.{}", masked.name), masked.bits.shallow_clone())).collect()
    }

    /// Goes on as after so many steps, whose bits are there again.
    pub fn resume(&mut self, steps: u64, model: &mut Llama) {
        self.begun = steps > self.first;
        for Masked { place, .. } in self.masked.iter().filter(|it| matches!(it.what, What::Product)) {
            let adapter = projection_mut(model, *place).adapter.as_mut().expect("masks lie over adapters");
            adapter.mask = None;
        }
        self.apply(model);
    }

    fn choose(&self, update: MaskUpdate, before: &[Tensor], drop: &[Tensor], grow: &[Tensor]) -> Vec<Tensor> {
        if self.sparsity.granularity == Granularity::TwoOfFour {
            let scores = before.iter().zip(drop).zip(grow);
            return scores.map(|((it, drop), grow)| select::two_of_four(it, drop, grow, update.exchange)).collect();
        }
        let shapes: Vec<[i64; 2]> = self.masked.iter().map(|it| [it.bits.size()[0], it.bits.size()[1]]).collect();
        let units: Vec<i64> = before.iter().map(|it| it.numel() as i64).collect();
        let mut after: Vec<Option<Tensor>> = before.iter().map(|_| None).collect();
        for (members, keep) in allocation::pools(self.sparsity.allocation, update.sparsity, &shapes, &units) {
            let together = |of: &[Tensor]| Tensor::cat(&members.iter().map(|&at| &of[at]).collect::<Vec<_>>(), 0);
            let mask = select::update(&together(before), &together(drop), &together(grow), keep, update.exchange);
            let lengths: Vec<i64> = members.iter().map(|&at| units[at]).collect();
            for (&at, mask) in members.iter().zip(mask.split_with_sizes(&lengths, 0)) {
                after[at] = Some(mask);
            }
        }
        after.into_iter().map(|mask| mask.expect("every tensor is in one pool")).collect()
    }

    /// Takes a new mask over; returns how many of its entries are new.
    fn put(&mut self, at: usize, units: &Tensor) -> i64 {
        let Masked { bits, .. } = &mut self.masked[at];
        let mask = match self.sparsity.granularity {
            Granularity::Row => units.unsqueeze(1).expand_as(&*bits),
            Granularity::Element | Granularity::TwoOfFour => units.view_as(&*bits),
        };
        let old = bits.bitwise_and(ACTIVE).ne(0);
        let new = count(&mask.logical_and(&old.logical_not()));
        let seen = if self.begun { bits.bitwise_and(FIRST | EXPLORED) } else { bits.zeros_like() };
        let added = if self.begun { ACTIVE | EXPLORED } else { ACTIVE | FIRST | EXPLORED };
        bits.copy_(&seen.bitwise_or_tensor(&(mask.to_kind(Kind::Uint8) * added)));
        new
    }

    /// Hands the masks to the projections that compute with them.
    fn apply(&self, model: &mut Llama) {
        let covers = match self.sparsity.scope {
            SparsityScope::BasePlusLora => Covers::Weight,
            _ => Covers::Update,
        };
        for masked in self.masked.iter().filter(|_| self.begun) {
            if let What::Product = masked.what {
                let adapter = projection_mut(model, masked.place).adapter.as_mut().expect("masks lie over adapters");
                adapter.mask = Some(Mask { outside: masked.outside(), covers });
            }
        }
    }

    /// Sets trained tensors and their moments to 0 outside the masks.
    fn clear_outside(&self, trained: &Trained, optimizer: &AdamW) {
        for (at, masked) in self.trained() {
            optimizer.clear(trained, at, &masked.outside());
        }
    }

    /// Fraction of zeros in the masks.
    pub fn sparsity(&self) -> f64 {
        if self.begun { 1.0 - self.sum(ACTIVE) / self.entries() as f64 } else { 0.0 }
    }

    fn figures(&self, step: u64, new_entries: i64) -> MaskFigures {
        let (kept, entries) = (self.sum(ACTIVE), self.entries() as f64);
        let active = kept.max(1.0);
        MaskFigures {
            step,
            sparsity: 1.0 - kept / entries,
            churn: new_entries as f64 / active,
            overlap_with_first: self.sum(ACTIVE | FIRST) / active,
            explored: self.sum(EXPLORED) / entries,
        }
    }

    /// Entries of all masks that have these bits.
    fn sum(&self, bits: i64) -> f64 {
        self.masked.iter().map(|it| it.with(bits)).sum::<i64>() as f64
    }

    /// Whether the first mask is by gradient: nothing was learnt yet that would have a magnitude.
    fn starts_from_zero(&self, at: usize, step: u64) -> bool {
        let masked = &self.masked[at];
        let zero = match masked.what {
            What::Product => self.sparsity.scope == SparsityScope::Delta,
            What::Trained(_) => masked.is_b(),
        };
        zero && self.fresh && step == 0
    }

    /// What is masked, as it would be without its mask.
    fn value(&self, at: usize, model: &mut Llama, optimizer: &AdamW) -> Tensor {
        let Masked { what, place, .. } = self.masked[at];
        match what {
            What::Trained(at) => optimizer.weight(at).shallow_clone(),
            What::Product => {
                let Linear { weight, adapter, .. } = projection_mut(model, place);
                let delta = adapter.as_ref().expect("masks lie over adapters").delta();
                if self.sparsity.scope == SparsityScope::BasePlusLora { delta + &*weight } else { delta }
            }
        }
    }

    /// Scores by unit of the mask: each entry, or the sum over each row.
    fn units(&self, scores: &Tensor) -> Tensor {
        let scores = scores.to_kind(Kind::Float);
        match self.sparsity.granularity {
            Granularity::Row => scores.sum_dim_intlist(1i64, false, Kind::Float),
            Granularity::Element | Granularity::TwoOfFour => scores.flatten(0, -1),
        }
    }

    fn random(&self, like: &Tensor, step: u64, at: u64) -> Tensor {
        let mut values = vec![0f32; like.numel()];
        RandomStream::new("mask growth", self.seed, &[step, at]).fill_symmetric(&mut values);
        (Tensor::from_slice(&values) + 1.0).to_device(like.device())
    }

    fn entries(&self) -> usize {
        self.masked.iter().map(|it| it.bits.numel()).sum()
    }

    fn trained(&self) -> impl Iterator<Item = (usize, &Masked)> + '_ {
        self.masked.iter().filter_map(|masked| match masked.what {
            What::Trained(at) => Some((at, masked)),
            What::Product => None,
        })
    }
}

impl Masked {
    /// Whether it is the B of an adapter.
    fn is_b(&self) -> bool {
        self.name.contains(".lora_B.")
    }

    /// How many entries have these bits.
    fn with(&self, bits: i64) -> i64 {
        count(&self.bits.bitwise_and(bits).eq(bits))
    }

    fn active(&self) -> Tensor {
        self.bits.bitwise_and(ACTIVE)
    }

    fn outside(&self) -> Tensor {
        self.active().eq(0)
    }
}

fn projection_mut(model: &mut Llama, place: Place) -> &mut Linear {
    let name = Lora::ALL_TARGETS[place.projection];
    model.projection_mut(place.layer, name).expect("every block has all seven projections")
}

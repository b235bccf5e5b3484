//! Writes a model with its adapter merged into the weights: what `transformers` loads without `peft`.

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::Precision;
use neftpipe_protocol::question::{Merge, Merged};
use tch::{Device, Kind};

use crate::changes::Changes;
use crate::lora;
use crate::model::{Llama, Weights};
use crate::model_files::write_model;

/// Merges and writes.
///
/// # Errors
/// Where the folders do not hold a model and an adapter that fit each other, or nothing can be written.
pub fn merge(question: &Merge) -> Result<Merged, Failure> {
    let mut model = Llama::load(&question.model, Device::Cpu, Kind::Float)?;
    lora::attach(&question.adapter, &mut model)?;
    lora::merge(&mut model);
    let changes = changes(question, &model)?;
    let kind = match question.precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    };
    write_model(&question.model, &model, kind, &question.out)?;
    Ok(Merged { changed: changes.changed as u64, bf16_surviving_share: changes.bf16_surviving_share() })
}

/// What merging changed. The base is read again, one weight at a time: kept whole it would take as much as the model.
fn changes(question: &Merge, model: &Llama) -> Result<Changes, Failure> {
    let base = Weights::open(&question.model)?;
    let mut changes = Changes::default();
    for (name, now) in model.weights().iter().filter(|(name, _)| name.contains("_proj.")) {
        changes.add(&base.read(name, &now.size(), Kind::Float, Device::Cpu)?, now);
    }
    Ok(changes)
}

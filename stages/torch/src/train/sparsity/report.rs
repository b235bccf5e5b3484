//! What the masks of a finished run come to.

use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::train::SparsityScope;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::select::count;
use super::{ACTIVE, EXPLORED, FIRST, Masks};
use crate::model::{Llama, ModelError, Weights};

impl Masks {
    /// Realised sparsity, nonzeros of the model and of the update (over the projections that are trained), and the share of
    /// the changed weights that still differ from the base once both are rounded to bf16.
    ///
    /// # Errors
    /// Where the base model cannot be read again.
    pub fn report(&self, model: &Llama, base: &Path) -> Result<Value, Failure> {
        let layers: Vec<Value> = self.masked.iter().filter(|_| self.begun).map(layer).collect();
        let sum = |bit: i64| self.masked.iter().map(|it| count(&it.bits.bitwise_and(bit).eq(bit))).sum::<i64>() as f64;
        let active = if self.begun { sum(ACTIVE) } else { self.entries() as f64 };
        let mut report = json!({
            "scope": self.sparsity.scope,
            "entries": self.entries(),
            "active": active as u64,
            "sparsity": 1.0 - active / self.entries() as f64,
            "layers": layers,
        });
        if self.begun {
            report["overlap_with_first"] = json!(sum(ACTIVE | FIRST) / active.max(1.0));
            report["explored"] = json!(sum(EXPLORED) / self.entries() as f64);
        }
        self.nonzeros(model, base, &mut report)?;
        Ok(report)
    }

    fn nonzeros(&self, model: &Llama, base: &Path, report: &mut Value) -> Result<(), Failure> {
        let weights = Weights::open(base)?;
        let (mut of_model, mut of_update, mut survived) = (0, 0, 0);
        for (name, projection) in model.projections() {
            if self.sparsity.scope != SparsityScope::Full && projection.adapter.is_none() {
                continue;
            }
            let now = tch::no_grad(|| projection.effective()).to_device(Device::Cpu);
            let read = weights.read(&format!("{name}.weight"), &now.size(), Kind::Float, Device::Cpu);
            let before = read.map_err(|error: ModelError| Failure::from(error))?;
            let rounded = |it: &Tensor| it.to_kind(Kind::BFloat16);
            of_model += count(&now.ne(0.0));
            of_update += count(&now.ne_tensor(&before));
            survived += count(&rounded(&now).ne_tensor(&rounded(&before)));
        }
        report["model_nonzeros"] = json!(of_model);
        report["update_nonzeros"] = json!(of_update);
        report["bf16_surviving_share"] = json!((of_update > 0).then(|| survived as f64 / of_update as f64));
        Ok(())
    }
}

fn layer(masked: &super::Masked) -> Value {
    let (entries, active) = (masked.bits.numel(), count(&masked.active().ne(0)));
    json!({"name": masked.name, "entries": entries, "active": active, "sparsity": 1.0 - active as f64 / entries as f64})
}

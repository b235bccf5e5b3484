//! What the masks of a finished run come to.

use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::train::SparsityScope;
use serde_json::{Value, json};

use super::{ACTIVE, EXPLORED, FIRST, Masks};
use crate::changes::Changes;
use crate::model::{Llama, Weights};
use crate::train::optimizer::AdamW;

impl Masks {
    /// Realised sparsity, nonzeros of the model and of the update (over the projections that are trained), and the share of
    /// the changed weights that still differ from the base once both are rounded to bf16.
    ///
    /// # Errors
    /// Where the base model cannot be read again.
    pub fn report(&self, model: &Llama, optimizer: &AdamW, base: &Path) -> Result<Value, Failure> {
        let layers: Vec<Value> = self.masked.iter().filter(|_| self.begun).map(layer).collect();
        let active = if self.begun { self.sum(ACTIVE) } else { self.entries() as f64 };
        let mut report = json!({
            "scope": self.sparsity.scope,
            "entries": self.entries(),
            "active": active as u64,
            "sparsity": 1.0 - active / self.entries() as f64,
            "layers": layers,
        });
        if self.begun {
            report["overlap_with_first"] = json!(self.sum(ACTIVE | FIRST) / active.max(1.0));
            report["explored"] = json!(self.sum(EXPLORED) / self.entries() as f64);
        }
        self.nonzeros(model, optimizer, base, &mut report)?;
        Ok(report)
    }

    /// All is counted before it is rounded to the model's format. The base's weights lie beside an adapter as they were; only
    /// full training has changed them, so that they are read again.
    fn nonzeros(&self, model: &Llama, optimizer: &AdamW, base: &Path, report: &mut Value) -> Result<(), Failure> {
        let mut changes = Changes::default();
        if self.sparsity.scope == SparsityScope::Full {
            let weights = Weights::open(base)?;
            for (at, masked) in self.trained() {
                let now = optimizer.weight(at);
                changes.add(&weights.read(&masked.name, &now.size(), model.kind(), model.device())?, now);
            }
        } else {
            for (_, projection) in model.projections().iter().filter(|(_, it)| it.adapter.is_some()) {
                changes.add(&projection.weight, &tch::no_grad(|| projection.combined()));
            }
        }
        report["model_nonzeros"] = json!(changes.nonzeros);
        report["update_nonzeros"] = json!(changes.changed);
        report["bf16_surviving_share"] = json!(changes.bf16_surviving_share());
        Ok(())
    }
}

fn layer(masked: &super::Masked) -> Value {
    let (entries, active) = (masked.bits.numel(), masked.with(ACTIVE));
    json!({"name": masked.name, "entries": entries, "active": active, "sparsity": 1.0 - active as f64 / entries as f64})
}

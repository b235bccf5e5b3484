//! What a run has done so far: a line an optimizer step, and the probes. Only what every run of the key has in common.

use std::fs;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::training::mean_square;
use neftpipe_protocol::worker::io_failure;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::probe::Probe;

/// One optimizer step, a line of `steps.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean loss of its supervised tokens, noise on, before the update.
    pub loss: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Strength of the noise.
    pub alpha: f64,
    /// Mean over the rows of alpha/√(L·d).
    pub noise_magnitude: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens of the rows.
    pub tokens: u64,
    /// Tokens that carried loss.
    pub supervised_tokens: u64,
}

/// All steps and probes so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Steps, in order.
    pub records: Vec<StepRecord>,
    /// Probes on the way (`eval_every`), in order.
    pub evaluations: Vec<Probe>,
}

impl StepRecord {
    /// The figures, for an event.
    pub fn figures(&self) -> Metrics {
        match serde_json::to_value(self).expect("a record serialises") {
            Value::Object(map) => map.into_iter().filter(|(name, _)| name != "step").collect(),
            _ => unreachable!("a struct serialises as an object"),
        }
    }
}

impl Account {
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.records.len() as u64
    }

    /// Writes `steps.jsonl`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_steps(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join("steps.jsonl");
        let lines = self.records.iter().map(|record| serde_json::to_string(record).expect("a record serialises"));
        let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        fs::write(&path, text).map_err(|error| io_failure("write", &path, &error))
    }

    /// The figures of a finished run whose last probe is this one.
    pub fn metrics(&self, last: &Probe, trained_parameters: u64) -> Metrics {
        let sum = |of: fn(&StepRecord) -> u64| self.records.iter().map(of).sum::<u64>();
        let losses: Vec<f64> = self.records.iter().map(|record| record.loss).collect();
        let alphas: Vec<f64> = self.records.iter().map(|record| record.alpha).collect();
        let evaluations: Vec<Value> = self.evaluations.iter().map(evaluation).collect();
        let figures = [
            ("steps", json!(self.steps())),
            ("final_train_loss", json!(losses.last())),
            ("probe_train_loss", json!(last.train.mean_loss())),
            ("probe_heldout_loss", json!(last.heldout.mean_loss())),
            ("alpha_mean_square", json!(mean_square(&alphas))),
            ("tokens", json!(sum(|record| record.tokens))),
            ("supervised_tokens", json!(sum(|record| record.supervised_tokens))),
            ("trained_parameters", json!(trained_parameters)),
            ("losses", json!(losses)),
            ("probe_train_rows", json!(last.train.rows)),
            ("probe_train_losses", json!(last.train.losses)),
            ("probe_train_tokens", json!(last.train.tokens)),
            ("probe_heldout_rows", json!(last.heldout.rows)),
            ("probe_heldout_losses", json!(last.heldout.losses)),
            ("probe_heldout_tokens", json!(last.heldout.tokens)),
            ("evaluations", json!(evaluations)),
        ];
        figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn evaluation(probe: &Probe) -> Value {
    json!({
        "step": probe.step,
        "probe_train_loss": probe.train.mean_loss(),
        "probe_heldout_loss": probe.heldout.mean_loss(),
    })
}

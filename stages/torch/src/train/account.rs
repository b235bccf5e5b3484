//! What a run has done so far: a line an optimizer step, and the probes. Only what every run of the key has in common.

use std::fs;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{Metrics, TrainMetrics, TrainStep};
use neftpipe_protocol::training::mean_square;
use neftpipe_protocol::worker::io_failure;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::probe::Probe;
use super::sparsity::MaskFigures;

/// All steps and probes so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Steps, in order.
    pub records: Vec<TrainStep>,
    /// Probes on the way (`eval_every`), in order.
    pub evaluations: Vec<Probe>,
    /// Updates of the masks, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask_updates: Vec<MaskFigures>,
}

/// What came of early stopping.
#[derive(Debug, Clone, Copy)]
pub struct Stopping {
    /// Whether it stopped the run.
    pub stopped: bool,
}

/// The figures of a step, or of an update of masks, for an event.
pub fn figures(record: &impl Serialize) -> Metrics {
    as_metrics(record).into_iter().filter(|(name, _)| name != "step").collect()
}

fn as_metrics(figures: &impl Serialize) -> Metrics {
    match serde_json::to_value(figures).expect("figures serialise") {
        Value::Object(map) => map.into_iter().collect(),
        _ => unreachable!("a struct serialises as an object"),
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

    /// The figures of a finished run whose weights this probe measured.
    pub fn metrics(&self, last: &Probe, trained_parameters: u64, stopping: Option<Stopping>) -> Metrics {
        let sum = |of: fn(&TrainStep) -> u64| self.records.iter().map(of).sum::<u64>();
        let losses: Vec<f64> = self.records.iter().map(|record| record.loss).collect();
        let alphas: Vec<f64> = self.records.iter().map(|record| record.alpha).collect();
        let figures = TrainMetrics {
            steps: self.steps(),
            best_step: stopping.map(|_| last.step),
            stopped_at: stopping.filter(|stopping| stopping.stopped).map(|_| self.steps()),
            final_train_loss: losses.last().copied(),
            probe_train_loss: last.train.mean_loss(),
            probe_heldout_loss: last.heldout.mean_loss(),
            alpha_mean_square: mean_square(&alphas),
            tokens: sum(|record| record.tokens),
            supervised_tokens: sum(|record| record.supervised_tokens),
            trained_parameters,
            probe_train_rows: last.train.rows.clone(),
            probe_train_losses: last.train.losses.clone(),
            probe_train_tokens: last.train.tokens.clone(),
            probe_heldout_rows: last.heldout.rows.clone(),
            probe_heldout_losses: last.heldout.losses.clone(),
            probe_heldout_tokens: last.heldout.tokens.clone(),
        };
        let mut metrics = as_metrics(&figures);
        metrics.insert("losses".to_owned(), json!(losses));
        let evaluations: Vec<Value> = self.evaluations.iter().map(evaluation).collect();
        metrics.insert("evaluations".to_owned(), json!(evaluations));
        metrics
    }
}

fn evaluation(probe: &Probe) -> Value {
    json!({
        "step": probe.step,
        "probe_train_loss": probe.train.mean_loss(),
        "probe_heldout_loss": probe.heldout.mean_loss(),
    })
}

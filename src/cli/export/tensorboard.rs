//! The course of a training run as an event file of TensorBoard, beside the copy of what was trained.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::TrainStep;
use neftpipe_protocol::worker::io_failure;
use serde_json::Value;

use crate::ui::tensorboard::{EventWriter, Shown};

/// TensorBoard takes a file for one of its own by this part of the name.
const FILE: &str = "events.out.tfevents.neftpipe";

/// Writes the file into the copy of something that was trained; of other artifacts there is none.
///
/// # Errors
/// Where the steps cannot be read, or the file cannot be written.
pub fn write(folder: &Path, seconds: f64) -> Result<(), Failure> {
    let Ok(steps) = fs::read_to_string(folder.join("steps.jsonl")) else { return Ok(()) };
    let steps: Vec<TrainStep> = steps
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::data(format!("steps.jsonl: {error}")))?;
    let metrics = fs::read(folder.join("metrics.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let path = folder.join(FILE);
    let write = || {
        let mut events = EventWriter::new(BufWriter::new(File::create(&path)?), seconds)?;
        for step in &steps {
            for (tag, value) in scalars(step) {
                events.add(step.step, tag, Shown::Scalar(value))?;
            }
        }
        probes(&metrics.unwrap_or_default(), steps.len() as u64, &mut events)?;
        events.finish().map(drop)
    };
    write().map_err(|error: std::io::Error| io_failure("write", &path, &error))
}

fn scalars(step: &TrainStep) -> [(&'static str, f64); 6] {
    [
        ("train/loss", step.loss),
        ("train/gradient_norm", step.gradient_norm),
        ("train/learning_rate", step.learning_rate),
        ("train/tokens", step.tokens as f64),
        ("neft/alpha", step.alpha),
        ("neft/noise_magnitude", step.noise_magnitude),
    ]
}

/// Losses with the noise off: of each evaluation, and row by row at the end; and what became of the masks.
fn probes(metrics: &Value, last: u64, events: &mut EventWriter<impl std::io::Write>) -> std::io::Result<()> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let updates = list(&metrics["sparsity"]["updates"]);
    let evaluations = list(&metrics["evaluations"]);
    let fields = [("probe_train_loss", "probe/train_loss"), ("probe_heldout_loss", "probe/heldout_loss")];
    let mask_fields = [("sparsity", "masks/sparsity"), ("churn", "masks/churn"), ("explored", "masks/explored")];
    for (records, fields) in [(&evaluations, &fields[..]), (&updates, &mask_fields[..])] {
        for record in records {
            for (field, tag) in fields {
                let step = record["step"].as_u64().unwrap_or(last);
                events.add(step, tag, Shown::Scalar(record[field].as_f64().unwrap_or(f64::NAN)))?;
            }
        }
    }
    if evaluations.last().is_none_or(|record| record["step"] != last) {
        for (field, tag) in fields {
            events.add(last, tag, Shown::Scalar(metrics[field].as_f64().unwrap_or(f64::NAN)))?;
        }
    }
    for (field, tag) in [("probe_train_losses", "rows/train_loss"), ("probe_heldout_losses", "rows/heldout_loss")] {
        let losses: Vec<f64> = list(&metrics[field]).iter().filter_map(Value::as_f64).collect();
        events.add(last, tag, Shown::Histogram(&losses))?;
    }
    Ok(())
}

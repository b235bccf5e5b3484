//! What instances took in earlier runs, read cheaply: of a record of thousands of stages only what a forecast needs.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use indexmap::IndexMap;
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure, Kind};
use serde::Deserialize;
use serde_json::Value;

use super::{RECORD, journal, list};
use crate::engine::event::{EventBody, StageOutcome};
use crate::spec::model::Instance;

/// Bytes of records after which no older run is looked at.
const ENOUGH_BYTES: usize = 4 << 20;
/// Instances of a stage among which the nearest is looked for.
const NEIGHBOURS: usize = 64;

/// What instances of a pipeline took when they were last carried out.
#[derive(Debug, Default)]
pub struct Past {
    known: HashMap<String, Took>,
    by_stage: HashMap<String, Vec<String>>,
    by_kind: HashMap<Kind, String>,
}

/// What an instance took.
#[derive(Debug, Clone)]
pub struct Took {
    /// Its key then.
    pub key: Option<Digest>,
    /// Time.
    pub seconds: f64,
    axes: IndexMap<String, Value>,
    steps: Option<u64>,
}

/// A forecast for an instance.
#[derive(Debug, Clone, Copy)]
pub struct Forecast {
    /// Time.
    pub seconds: f64,
    /// Key of the earlier result that it is taken from.
    pub key: Option<Digest>,
    /// Whether that result is another instance's, or one of another length of training.
    pub guessed: bool,
}

#[derive(Deserialize)]
struct SlimRun {
    pipeline: String,
    #[serde(default)]
    outcome: Option<serde::de::IgnoredAny>,
    stages: IndexMap<String, SlimStage>,
}

#[derive(Deserialize)]
struct SlimStage {
    kind: Kind,
    axes: IndexMap<String, Value>,
    params: SlimParams,
    #[serde(default)]
    key: Option<Digest>,
    #[serde(default)]
    outcome: Option<Outcome>,
    #[serde(default)]
    seconds: Option<f64>,
}

#[derive(Deserialize)]
struct SlimParams {
    #[serde(default)]
    steps: Option<u64>,
}

#[derive(Deserialize)]
struct Outcome {
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Executed,
    Cached,
    #[serde(other)]
    WithoutResult,
}

impl From<&StageOutcome> for Outcome {
    fn from(outcome: &StageOutcome) -> Self {
        let state = match outcome {
            StageOutcome::Executed => State::Executed,
            StageOutcome::Cached => State::Cached,
            _ => State::WithoutResult,
        };
        Self { state }
    }
}

impl Past {
    /// What the newest runs of a pipeline tell of these instances.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub fn read(runs: &Path, pipeline: &str, wanted: &[&str]) -> Result<Self, Failure> {
        let mut past = Self::default();
        let mut read = 0;
        for id in list(runs)?.iter().rev() {
            let path = runs.join(id).join(RECORD);
            let bytes = fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
            read += bytes.len();
            // A record that cannot be read costs a forecast, not the plan.
            let Ok(run) = serde_json::from_slice::<SlimRun>(&bytes) else { continue };
            if run.pipeline == pipeline {
                past.add(runs, id, run)?;
            }
            if read > ENOUGH_BYTES || wanted.iter().all(|id| past.known.contains_key(*id)) {
                break;
            }
        }
        Ok(past)
    }

    fn add(&mut self, runs: &Path, id: &str, mut run: SlimRun) -> Result<(), Failure> {
        if run.outcome.is_none() {
            for event in journal(runs, id, &["stage_finished"])? {
                if let EventBody::StageFinished { stage, key, outcome, seconds, .. } = event.body
                    && let Some(stage) = run.stages.get_mut(&stage)
                {
                    (stage.key, stage.outcome, stage.seconds) = (key, Some(Outcome::from(&outcome)), Some(seconds));
                }
            }
        }
        for (id, stage) in run.stages {
            let Some(Outcome { state: State::Executed | State::Cached }) = stage.outcome else { continue };
            if let (Some(seconds), false) = (stage.seconds, self.known.contains_key(&id)) {
                let siblings = self.by_stage.entry(stage_name(&id).to_owned()).or_default();
                if siblings.len() < NEIGHBOURS {
                    siblings.push(id.clone());
                }
                self.by_kind.entry(stage.kind).or_insert_with(|| id.clone());
                let took = Took { key: stage.key, seconds, axes: stage.axes, steps: stage.params.steps };
                self.known.insert(id, took);
            }
        }
        Ok(())
    }

    /// What an instance will take: as it took itself, else as the nearest of its stage, else as one of its kind where
    /// kinds tell something of the work.
    pub fn forecast(&self, instance: &Instance) -> Option<Forecast> {
        let own = self.known.get(&instance.id);
        let took = own.or_else(|| self.sibling(instance)).or_else(|| self.of_kind(instance.kind))?;
        let steps = instance.params["steps"].as_u64();
        let longer = match (steps, took.steps) {
            (Some(now), Some(then)) if then > 0 => now as f64 / then as f64,
            _ => 1.0,
        };
        Some(Forecast { seconds: took.seconds * longer, key: took.key, guessed: own.is_none() || longer != 1.0 })
    }

    /// The instance of the same stage that shares most axis values, the newest of several.
    fn sibling(&self, instance: &Instance) -> Option<&Took> {
        let shared =
            |took: &&Took| instance.axes.iter().filter(|(axis, value)| took.axes.get(*axis) == Some(value)).count();
        let siblings = self.by_stage.get(&instance.stage)?.iter().filter_map(|id| self.known.get(id));
        siblings.rev().max_by_key(shared)
    }

    fn of_kind(&self, kind: Kind) -> Option<&Took> {
        match kind {
            Kind::Command | Kind::Download => None,
            kind => self.known.get(self.by_kind.get(&kind)?),
        }
    }
}

fn stage_name(id: &str) -> &str {
    id.split('[').next().unwrap_or(id)
}

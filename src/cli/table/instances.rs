//! The instances that REFs name, as rows.

use std::collections::HashSet;

use neftpipe_protocol::artifact::Metrics;
use serde_json::Value;

use crate::cli::figures::{figures, params};
use crate::cli::reference::{self, Found, Target};
use crate::cli::show::introduce;
use crate::cli::{CliError, Context};
use crate::engine::implementation;
use crate::record::{RunRecord, StageRecord};
use crate::store::{Artifact, Entry, Store};
use crate::ui::frame::{Group, Record};
use crate::ui::leaves::leaves;
use crate::ui::outcome;

/// An instance of a run, or a result by its digest.
pub(super) struct Row {
    pub id: String,
    pub run: Option<String>,
    stage: Option<StageRecord>,
    entry: Option<Entry>,
    /// The output that was named; the plain one otherwise.
    output: Option<String>,
}

/// What REFs name, each once.
pub(super) fn find(context: &Context, store: &Store, references: &[String]) -> Result<Vec<Row>, CliError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut introduced = HashSet::new();
    for text in references {
        let (run, found) = match reference::resolve(store, text)? {
            Target::Instances(run, found) => (run, found),
            Target::Run(run) => {
                let found = reference::all(store, &run)?;
                (run, found)
            }
            Target::Entry(entry, output) => {
                rows.push(Row { id: entry.stage.clone(), run: None, stage: None, entry: Some(*entry), output });
                continue;
            }
            Target::File(path) => {
                return Err(CliError::usage(format!(
                    "{} is a file: a table is of results in the store",
                    path.display()
                ))
                .with_hint("`neftpipe show FILE` looks at one"));
            }
        };
        if introduced.insert(run.run.clone()) {
            introduce(context, &run);
        }
        rows.extend(found.into_iter().map(|found| Row::of(&run, found)));
    }
    let mut seen = HashSet::new();
    rows.retain(|row| seen.insert((row.id.clone(), row.run.clone(), row.output.clone())));
    Ok(rows)
}

impl Row {
    fn of(run: &RunRecord, found: Found) -> Self {
        let Found { id, stage, entry, output } = found;
        Self { id, run: Some(run.run.clone()), stage: Some(stage), entry, output }
    }

    /// Its axes, with their names.
    pub fn axes(&self) -> Metrics {
        self.stage.as_ref().map(|stage| stage.axes.clone()).unwrap_or_default()
    }

    /// The artifact that is meant, where there is one.
    pub fn artifact(&self) -> Option<&Artifact> {
        let outputs = &self.entry.as_ref()?.outputs;
        match &self.output {
            Some(name) => outputs.get(name),
            None => outputs.values().next(),
        }
    }

    /// Its row of a table.
    pub fn record(&self) -> Record {
        let entry = self.entry.as_ref();
        let figures = entry.map(figures).unwrap_or_default();
        let provenance = entry.map(|entry| entry.provenance.clone()).unwrap_or_default();
        Record::default()
            .with(Group::Identity, self.identity())
            .with(Group::Axes, self.axes())
            .with(Group::Params, params(self.stage.as_ref(), entry))
            .with(Group::Metrics, figures)
            .with(Group::Provenance, provenance)
    }

    fn identity(&self) -> Metrics {
        let preimage = |name: &str| self.entry.as_ref().and_then(|entry| entry.preimage.get(name)).cloned();
        let stage = self.stage.as_ref();
        let kind = stage.map(|stage| stage.kind.name().into()).or_else(|| preimage("kind"));
        let key = self.entry.as_ref().map(|entry| entry.key.to_string());
        let outcome = stage.map(outcome::word);
        let outcome = outcome.map(|word| if self.entry.is_some() { "made" } else { word });
        let pairs = [
            ("id", Some(self.id.clone().into())),
            ("run", self.run.clone().map(Value::from)),
            ("kind", kind),
            ("implementation", self.entry.as_ref().and_then(implementation).map(Value::from)),
            ("key", key.map(Value::from)),
            ("outcome", outcome.map(Value::from)),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.unwrap_or_default())).collect()
    }
}

/// Leaves out the parameters that no row says otherwise than by default.
pub(super) fn leave_out_defaults(records: &mut [Record], rows: &[Row]) {
    let mut said = HashSet::new();
    for (record, row) in records.iter().zip(rows) {
        let kind = row.stage.as_ref().map(|stage| stage.kind);
        let defaults = kind.map(|kind| leaves(neftpipe_protocol::params::defaults(kind))).unwrap_or_default();
        let own = record.group(Group::Params).filter(|(path, value)| defaults.get(*path) != Some(value));
        said.extend(own.map(|(path, _)| path.to_owned()));
    }
    records.iter_mut().for_each(|record| record.retain(Group::Params, |path| said.contains(path)));
}

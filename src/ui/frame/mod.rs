//! A table of values, and the forms in which it is written: text, CSV, Parquet, JSON.
//!
//! Columns stand in groups. Outside of text a column is named by its path in the JSON: `axes.seed`, `metrics.rouge_l`.

mod columns;
mod csv;
mod parquet;
mod text;

use std::collections::BTreeSet;

use neftpipe_protocol::artifact::Metrics;
use serde_json::{Map, Value};

pub use columns::Column;

/// What a column tells of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What the row is.
    Identity,
    /// Axes of its instance.
    Axes,
    /// Parameters by dotted path.
    Params,
    /// Figures.
    Metrics,
    /// How it was made.
    Provenance,
    /// A row of an artifact's own.
    Values,
}

/// A row before it has a place in a frame: its values by group and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record(Vec<(Group, Metrics)>);

/// Rows under columns. A row without a value has null there.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    /// Groups that rows have, be they empty.
    groups: BTreeSet<Group>,
}

impl Group {
    /// The path of its values in the JSON.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity | Self::Values => None,
            Self::Axes => Some("axes"),
            Self::Params => Some("params"),
            Self::Metrics => Some("metrics"),
            Self::Provenance => Some("provenance"),
        }
    }
}

impl Record {
    /// With the values of a group.
    #[must_use]
    pub fn with(mut self, group: Group, values: Metrics) -> Self {
        self.0.push((group, values));
        self
    }

    /// Drops the values of a group that are not wanted.
    pub fn retain(&mut self, group: Group, wanted: impl Fn(&str) -> bool) {
        let own = self.0.iter_mut().filter(|(own, _)| *own == group);
        own.for_each(|(_, values)| values.retain(|name, _| wanted(name)));
    }

    /// A value.
    pub fn get(&self, group: Group, name: &str) -> Option<&Value> {
        self.0.iter().filter(|(own, _)| *own == group).find_map(|(_, values)| values.get(name))
    }

    /// The values of a group.
    pub fn group(&self, group: Group) -> impl Iterator<Item = (&str, &Value)> {
        let own = self.0.iter().filter(move |(own, _)| *own == group);
        own.flat_map(|(_, values)| values.iter().map(|(name, value)| (name.as_str(), value)))
    }
}

impl Frame {
    /// A frame of these rows. In each group columns whose values differ stand first.
    pub fn new(records: &[Record]) -> Self {
        let columns = columns::of(records);
        let row = |record: &Record| columns.iter().map(|column| column.value(record)).collect();
        let groups = records.iter().flat_map(|record| &record.0).map(|(group, _)| *group).collect();
        Self { rows: records.iter().map(row).collect(), columns, groups }
    }

    /// The rows as JSON objects, a group in each.
    pub fn json(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| {
            let empty = |group: &Group| Some((group.name()?.to_owned(), Value::Object(Map::new())));
            let mut groups: Map<String, Value> = self.groups.iter().filter_map(empty).collect();
            let mut object = Map::new();
            for (column, value) in self.columns.iter().zip(row) {
                let name = column.name.clone();
                match column.group.name() {
                    None => drop(object.insert(name, value.clone())),
                    Some(_) if value.is_null() => {}
                    Some(group) => {
                        groups[group][name] = value.clone();
                    }
                }
            }
            object.append(&mut groups);
            Value::Object(object)
        };
        self.rows.iter().map(object).collect()
    }
}

/// A value that stands in a cell of a file: lists and maps as their JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

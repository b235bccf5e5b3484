//! Whether a table mixes what should not be compared without a thought: versions of a kind, devices, libraries.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::ui::frame::{Group, Record};
use crate::ui::table::cell;

/// Where a result was made, rather than with what.
const ELSEWHERE: [&str; 4] = ["run", "logs", "worker", "threads"];

/// Something that differs between results of one kind.
pub(super) struct Mix {
    /// The column.
    pub name: String,
    /// Its values.
    pub values: Vec<String>,
}

impl Mix {
    /// A sentence on it.
    pub fn text(&self) -> String {
        format!("these results differ in `{}`: {}", self.name, self.values.join(", "))
    }
}

/// What differs between rows of the same kind in how they were made.
pub(super) fn of(records: &[Record]) -> Vec<Mix> {
    let names = records.iter().flat_map(|record| record.group(Group::Provenance)).map(|(name, _)| name);
    let names: BTreeSet<&str> = names.filter(|name| !ELSEWHERE.contains(name)).collect();
    let kinds: BTreeSet<String> = records.iter().map(kind).collect();
    let columns = [(Group::Identity, "implementation")].into_iter();
    let columns = columns.chain(names.into_iter().map(|name| (Group::Provenance, name)));
    columns
        .filter_map(|(group, name)| {
            let differing = kinds.iter().find_map(|of| {
                let rows = records.iter().filter(|record| kind(record) == *of);
                let values: BTreeSet<String> =
                    rows.filter_map(|row| row.get(group, name)).filter(|value| !value.is_null()).map(cell).collect();
                (values.len() > 1).then_some(values)
            })?;
            Some(Mix { name: name.to_owned(), values: differing.into_iter().collect() })
        })
        .collect()
}

fn kind(record: &Record) -> String {
    record.get(Group::Identity, "kind").and_then(Value::as_str).unwrap_or_default().to_owned()
}

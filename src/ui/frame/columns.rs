//! Which columns a table has, and in which order.

use std::collections::HashSet;

use serde_json::Value;

use super::{Group, Record};

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// What it tells.
    pub group: Group,
    /// Its name in its group.
    pub name: String,
    /// Whether its rows differ.
    pub varies: bool,
}

impl Column {
    /// Its name outside of its group: `params.neft.alpha`.
    pub fn path(&self) -> String {
        self.group.name().map_or_else(|| self.name.clone(), |group| format!("{group}.{}", self.name))
    }

    pub(super) fn value(&self, record: &Record) -> Value {
        record.get(self.group, &self.name).cloned().unwrap_or_default()
    }
}

/// The columns of these rows: by group, of parameters and figures those first that differ, else as they came.
pub(super) fn of(records: &[Record]) -> Vec<Column> {
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    for (group, values) in records.iter().flat_map(|record| &record.0) {
        for name in values.keys() {
            if seen.insert((*group as u8, name)) {
                columns.push(Column { group: *group, name: name.clone(), varies: false });
            }
        }
    }
    for column in &mut columns {
        let first = records.first().map(|record| column.value(record));
        column.varies = records.iter().any(|record| Some(column.value(record)) != first);
    }
    columns.sort_by_key(|column| {
        let sorted = matches!(column.group, Group::Params | Group::Metrics);
        (column.group, sorted && !column.varies)
    });
    columns
}

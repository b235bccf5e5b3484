//! A frame as people read it: what differs as columns, in blocks where they are wider than the terminal, and what is the
//! same in all rows in a few lines below.

use serde_json::Value;

use super::{Column, Frame, Group};
use crate::ui::printer::{DIM, styled};
use crate::ui::table::{cell, clip, table};

/// Characters of a cell that are shown.
const WIDEST_CELL: usize = 44;
/// What the name of a figure's standard error ends in.
const ERROR: &str = "_standard_error";
/// Spaces after a column.
const GAP: usize = 2;

impl Frame {
    /// Text, folded to so many characters; in one piece where there is no width.
    pub fn text(&self, width: Option<usize>) -> String {
        let columns: Vec<TextColumn> = self.shown().map(|at| self.text_column(at)).collect();
        let (keys, values): (Vec<&TextColumn>, Vec<&TextColumn>) = columns.iter().partition(|column| column.is_key);
        let mut text = blocks(&keys, &values, width.unwrap_or(usize::MAX))
            .iter()
            .map(|block| self.block(block))
            .collect::<Vec<_>>()
            .join("\n\n");
        let same: Vec<String> = self.same().map(|at| self.pair(at)).collect();
        if !same.is_empty() {
            text += &format!("\n\n{}", styled(DIM, fold("the same in all rows: ", &same, width.unwrap_or(100))));
        }
        text
    }

    /// Columns that are shown as such.
    fn shown(&self) -> impl Iterator<Item = usize> {
        let alone = self.rows.len() == 1;
        (0..self.columns.len()).filter(move |&at| {
            let column = &self.columns[at];
            match column.group {
                Group::Identity if column.name == "id" => !self.axes_tell_all(),
                Group::Identity => column.varies && column.name != "key",
                Group::Axes | Group::Values => true,
                Group::Params => column.varies && !self.is(Group::Axes, &column.name),
                Group::Metrics => (column.varies || alone) && !self.is_error(column),
                Group::Provenance => !is_of_its_run(&column.name) && self.is_mixed(at),
            }
        })
    }

    /// Whether rows that say something say different things.
    fn is_mixed(&self, at: usize) -> bool {
        let mut said = self.rows.iter().map(|row| &row[at]).filter(|value| !value.is_null());
        said.next().is_some_and(|first| said.any(|value| value != first))
    }

    /// Columns that say the same of every row.
    fn same(&self) -> impl Iterator<Item = usize> {
        let several = self.rows.len() > 1;
        (0..self.columns.len()).filter(move |&at| {
            let column = &self.columns[at];
            let said = !column.varies && !self.rows.iter().all(|row| row[at].is_null());
            let is_figure = several && column.group == Group::Metrics;
            let is_told = self.is_error(column) || (is_figure && self.is(Group::Params, &column.name));
            said && !is_told && (column.group == Group::Params || is_figure)
        })
    }

    fn is(&self, group: Group, name: &str) -> bool {
        self.columns.iter().any(|column| column.group == group && column.name == name)
    }

    /// The column of a figure's standard error.
    fn error_of(&self, column: &Column) -> Option<usize> {
        let name = format!("{}{ERROR}", column.name);
        self.columns.iter().position(|other| other.group == column.group && other.name == name)
    }

    /// Whether a column is the standard error of a figure that is shown, and stands in its cells.
    fn is_error(&self, column: &Column) -> bool {
        column.name.strip_suffix(ERROR).is_some_and(|figure| self.is(column.group, figure))
    }

    /// A value as it is read, with its standard error.
    fn cell(&self, at: usize, row: &[Value]) -> String {
        let own = cell(&row[at]);
        match self.error_of(&self.columns[at]).map(|error| &row[error]) {
            Some(error) if !error.is_null() => format!("{own} ±{}", cell(error)),
            _ => own,
        }
    }

    /// Whether rows are told apart by their axes, so that names may be left out.
    fn axes_tell_all(&self) -> bool {
        let axes: Vec<usize> = (0..self.columns.len()).filter(|&at| self.columns[at].group == Group::Axes).collect();
        let stage = |row: &Vec<Value>| {
            row.first().and_then(Value::as_str).and_then(|id| id.split('[').next().map(str::to_owned))
        };
        let one_stage = self.rows.windows(2).all(|pair| stage(&pair[0]) == stage(&pair[1]));
        one_stage && !axes.is_empty() && self.rows.iter().all(|row| axes.iter().all(|&at| !row[at].is_null()))
    }

    fn text_column(&self, at: usize) -> TextColumn {
        let Column { group, name, .. } = &self.columns[at];
        let cells: Vec<String> = self.rows.iter().map(|row| clip(&self.cell(at, row), WIDEST_CELL)).collect();
        let widest = cells.iter().chain([name]).map(|text| text.chars().count()).max().unwrap_or(0);
        let is_first_value =
            *group == Group::Values && self.columns.iter().position(|own| own.group == *group) == Some(at);
        let is_key = matches!(group, Group::Identity | Group::Axes) || is_first_value;
        TextColumn { name: name.clone(), cells, width: widest + GAP, is_key }
    }

    fn block(&self, columns: &[&TextColumn]) -> String {
        let heading: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let row = |at: usize| columns.iter().map(|column| column.cells[at].clone()).collect();
        table(&heading, &(0..self.rows.len()).map(row).collect::<Vec<_>>())
    }

    fn pair(&self, at: usize) -> String {
        format!("{} {}", self.columns[at].name, clip(&self.cell(at, &self.rows[0]), WIDEST_CELL))
    }
}

struct TextColumn {
    name: String,
    cells: Vec<String>,
    width: usize,
    is_key: bool,
}

/// Where a result's log is, and which run made it: of no interest beside its figures.
fn is_of_its_run(name: &str) -> bool {
    ["run", "logs"].contains(&name)
}

/// As many columns side by side as the width holds, those that name the row in each block.
fn blocks<'c>(keys: &[&'c TextColumn], values: &[&'c TextColumn], width: usize) -> Vec<Vec<&'c TextColumn>> {
    let key_width: usize = keys.iter().map(|column| column.width).sum();
    let mut blocks = vec![keys.to_vec()];
    let mut used = key_width;
    for column in values {
        let block = blocks.last().expect("there is a first block");
        if used + column.width > width.saturating_add(GAP) && block.len() > keys.len() {
            blocks.push(keys.to_vec());
            used = key_width;
        }
        used += column.width;
        blocks.last_mut().expect("there is a first block").push(column);
    }
    blocks
}

/// Items one after the other, on as many lines as the width asks for.
fn fold(start: &str, items: &[String], width: usize) -> String {
    let mut text = start.to_owned();
    let mut used = start.chars().count();
    for (at, item) in items.iter().enumerate() {
        let item = if at + 1 < items.len() { format!("{item}, ") } else { item.clone() };
        let length = item.chars().count();
        if used > 0 && used + length > width {
            text = format!("{}\n", text.trim_end());
            used = 0;
        }
        text += &item;
        used += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::frame::Record;
    use neftpipe_protocol::artifact::Metrics;
    use serde_json::json;

    fn values(values: Value) -> Metrics {
        serde_json::from_value(values).unwrap()
    }

    fn row(seed: u64, loss: f64) -> Record {
        Record::default()
            .with(Group::Identity, values(json!({ "id": format!("train[seed={seed}]"), "run": "r" })))
            .with(Group::Axes, values(json!({ "seed": seed })))
            .with(Group::Params, values(json!({ "seed": seed, "steps": 4 })))
            .with(
                Group::Metrics,
                values(json!({ "a_first_figure": loss, "loss": loss, "loss_standard_error": 0.25, "steps": 4 })),
            )
            .with(Group::Provenance, values(json!({ "device": if seed == 0 { json!("cpu") } else { Value::Null } })))
    }

    #[test]
    fn what_differs_stands_in_columns_and_the_rest_below() {
        let frame = Frame::new(&[row(0, 1.5), row(1, 2.5)]);
        let expected = "\
seed  a_first_figure            loss
   0          1.5000  1.5000 ±0.2500
   1          2.5000  2.5000 ±0.2500

the same in all rows: steps 4";
        assert_eq!(anstream::adapter::strip_str(&frame.text(None)).to_string(), expected);
    }

    #[test]
    fn columns_beyond_the_width_follow_below() {
        let text = Frame::new(&[row(0, 1.5), row(1, 2.5)]).text(Some(24));
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("seed")).collect();
        assert_eq!(headings, ["seed  a_first_figure", "seed            loss"]);
    }

    #[test]
    fn pairs_are_folded_between_them() {
        let items = ["one 1", "two 2", "three 3"].map(String::from);
        assert_eq!(fold("same: ", &items, 14), "same: one 1,\ntwo 2, three 3");
    }
}

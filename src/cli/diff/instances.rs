//! What differs between two results.

use indexmap::{IndexMap, IndexSet};
use neftpipe_protocol::Digest;
use neftpipe_protocol::artifact::Metrics;
use serde::Serialize;
use serde_json::{Value, json};

use super::Side;
use super::rows::{self, Rows};
use crate::cli::figures::{figures, params};
use crate::cli::{CliError, Context};
use crate::engine::implementation;
use crate::plan::Preimage;
use crate::store::Store;
use crate::ui::printer::{DIM, HEADING, styled};
use crate::ui::table::{cell, clip, table};

/// A named value that differs; null where a side has none.
#[derive(Serialize)]
struct Change {
    name: String,
    a: Value,
    b: Value,
    /// B less A, of numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Value>,
}

/// What fills a slot.
#[derive(Serialize, PartialEq)]
struct Input {
    stage: Option<String>,
    output: Option<String>,
    digest: Digest,
}

/// A slot that is filled differently.
#[derive(Serialize)]
struct Slot {
    slot: String,
    a: Vec<Input>,
    b: Vec<Input>,
}

pub(super) fn diff(context: &Context, store: &Store, a: &Side, b: &Side, all: bool) -> Result<(), CliError> {
    let params = changes(&params(a.stage.as_ref(), Some(&a.entry)), &params(b.stage.as_ref(), Some(&b.entry)));
    let inputs = slots(a, b);
    let made = changes(&making(a), &making(b));
    let (figures_a, figures_b) = (figures(&a.entry), figures(&b.entry));
    let figures = changes(&figures_a, &figures_b);
    let rows = rows::compare(store, a, b)?;
    let same_bytes = a.artifact.digest == b.artifact.digest;
    if context.printer.is_json() {
        let side = |side: &Side| json!({ "id": side.id, "run": side.run, "key": side.entry.key, "digest": side.artifact.digest });
        return Ok(context.printer.json(&json!({
            "version": 1, "a": side(a), "b": side(b), "same_bytes": same_bytes, "params": params, "inputs": inputs,
            "metrics": figures, "provenance": made, "rows": rows,
        }))?);
    }
    let width = context.printer.width().unwrap_or(120);
    let mut text =
        format!("{}\n{}\n", styled(HEADING, format!("A  {}", a.name(b))), styled(HEADING, format!("B  {}", b.name(a))));
    if same_bytes {
        text += &format!("\n{}\n", styled(DIM, "the artifacts are the same, byte for byte"));
    }
    text += &section("Parameters", &sides(&shown(&params), width));
    text += &section("Inputs", &sides(&shown_slots(&inputs), width));
    text += &section("Figures", &figures_table(&figures));
    let same = figures_a.iter().filter(|(name, value)| figures_b.get(*name) == Some(value)).count();
    if same > 0 {
        text += &styled(DIM, format!("{same} figures are the same\n"));
    }
    text += &section("Made", &sides(&shown(&made), width));
    if let Some(rows) = rows {
        text += &section("Rows", &rows.text(width, all));
    }
    Ok(context.printer.line(text.trim_end())?)
}

fn section(heading: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{}\n{}\n", styled(HEADING, heading), body.trim_end()) }
}

/// How it was made, but for the run and its folder, which always differ.
fn making(side: &Side) -> Metrics {
    let version = implementation(&side.entry);
    let mut making = Metrics::from([("implementation".to_owned(), version.into())]);
    let rest = side.entry.provenance.iter().filter(|(name, _)| !["run", "logs"].contains(&name.as_str()));
    making.extend(rest.map(|(name, value)| (name.clone(), value.clone())));
    making
}

fn changes(a: &Metrics, b: &Metrics) -> Vec<Change> {
    let names: IndexSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |side: &Metrics, name: &String| side.get(name).cloned().unwrap_or_default();
    let pairs = names.into_iter().map(|name| (name, value(a, name), value(b, name)));
    pairs
        .filter(|(_, a, b)| a != b)
        .map(|(name, a, b)| {
            let difference = less(&b, &a);
            Change { name: name.clone(), a, b, difference }
        })
        .collect()
}

/// The difference of two numbers, whole where both are.
fn less(b: &Value, a: &Value) -> Option<Value> {
    match (b.as_i64(), a.as_i64()) {
        (Some(b), Some(a)) => b.checked_sub(a).map(Value::from),
        _ => Some(Value::from(b.as_f64()? - a.as_f64()?)),
    }
}

/// A name with what either side has, as it is read.
type Pair = [String; 3];

/// Both sides in columns; one below the other where they are wider than the terminal.
fn sides(pairs: &[Pair], width: usize) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = pairs.iter().map(|pair| pair.to_vec()).collect();
    let text = table(&["", "A", "B"].map(String::from), &rows);
    if text.lines().all(|line| line.chars().count() <= width) {
        return text;
    }
    pairs.iter().map(|[name, a, b]| format!("{name}\n  A {a}\n  B {b}\n")).collect()
}

fn shown(changes: &[Change]) -> Vec<Pair> {
    changes.iter().map(|change| [change.name.clone(), value(&change.a), value(&change.b)]).collect()
}

fn value(value: &Value) -> String {
    if value.is_null() { "—".to_owned() } else { clip(&cell(value), 60) }
}

fn figures_table(changes: &[Change]) -> String {
    let row = |change: &Change| {
        let difference = change.difference.as_ref();
        let sign = if difference.and_then(Value::as_f64).is_some_and(|number| number > 0.0) { "+" } else { "" };
        let difference = format!("{sign}{}", difference.map_or(String::new(), cell));
        vec![change.name.clone(), value(&change.a), value(&change.b), difference]
    };
    let rows: Vec<Vec<String>> = changes.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { table(&["", "A", "B", "B − A"].map(String::from), &rows) }
}

fn slots(a: &Side, b: &Side) -> Vec<Slot> {
    let (mut a, mut b) = (inputs(a), inputs(b));
    let names: IndexSet<String> = a.keys().chain(b.keys()).cloned().collect();
    let of = |side: &mut IndexMap<String, Vec<Input>>, slot: &str| side.swap_remove(slot).unwrap_or_default();
    let slots = names.into_iter().map(|slot| Slot { a: of(&mut a, &slot), b: of(&mut b, &slot), slot });
    slots.filter(|slot| slot.a != slot.b).collect()
}

/// What filled each slot: the digests of the key, with the names of the run.
fn inputs(side: &Side) -> IndexMap<String, Vec<Input>> {
    let Ok(preimage) = serde_json::from_value::<Preimage>(side.entry.preimage.clone()) else { return IndexMap::new() };
    let names = side.stage.as_ref().map(|stage| &stage.inputs);
    let slots = preimage.inputs.into_iter().map(|(slot, digests)| {
        let names = names.and_then(|names| names.get(&slot));
        let input = |(at, digest): (usize, Digest)| {
            let name = names.and_then(|names| names.get(at));
            Input { stage: name.map(|name| name.0.clone()), output: name.map(|name| name.1.clone()), digest }
        };
        let list = digests.into_iter().map(|input| input.digest).enumerate().map(input).collect();
        (slot, list)
    });
    let contents = preimage.contents.into_iter();
    let contents = contents.map(|(path, digest)| (path, vec![Input { stage: None, output: None, digest }]));
    let mut filled = IndexMap::new();
    for (slot, list) in slots.chain(contents) {
        filled.entry(slot).or_insert(list);
    }
    filled
}

fn shown_slots(slots: &[Slot]) -> Vec<Pair> {
    let pairs = slots.iter().flat_map(|Slot { slot, a, b }| {
        let differing = (0..a.len().max(b.len())).filter(|&at| a.get(at) != b.get(at));
        let shown = |side: &[Input], at: usize| side.get(at).map_or("—".to_owned(), Input::text);
        differing.map(move |at| [slot.clone(), shown(a, at), shown(b, at)])
    });
    pairs.collect()
}

impl Input {
    fn text(&self) -> String {
        let digest = self.digest.short();
        self.stage.as_ref().map_or_else(|| digest.clone(), |stage| format!("{stage} {digest}"))
    }
}

impl Rows {
    /// The rows that differ, for people.
    fn text(&self, width: usize, all: bool) -> String {
        const SHOWN: usize = 10;
        let mut text = format!("{} of {} differ{}\n", self.different.len(), self.compared, self.unpaired());
        let shown = if all { usize::MAX } else { SHOWN };
        for row in self.different.iter().take(shown) {
            text += &row.text(width);
        }
        let hidden = self.different.len().saturating_sub(shown);
        if hidden > 0 {
            text += &styled(DIM, format!("… {hidden} more; --all shows them\n"));
        }
        text
    }
}

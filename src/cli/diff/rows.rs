//! Rows of answers and verdicts, paired by what was asked.

use std::path::Path;

use indexmap::IndexMap;
use neftpipe_protocol::artifact::{AnswerRow, Metrics};
use neftpipe_protocol::{ArtifactType, Failure};
use serde::Serialize;
use serde_json::Value;

use super::Side;
use crate::cli::CliError;
use crate::cli::show::view::{json, lines};
use crate::store::Store;
use crate::ui::printer::{BAD, DIM, GOOD, styled};
use crate::ui::table::{cell, clip};

/// What was asked, and what it was asked about.
type Asked = (String, String);

/// Rows of two artifacts, compared.
#[derive(Serialize)]
pub(super) struct Rows {
    /// Rows that both have.
    pub compared: usize,
    only_in_a: usize,
    only_in_b: usize,
    pub different: Vec<Row>,
}

/// A row that differs.
#[derive(Serialize)]
pub(super) struct Row {
    instruction: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    input: String,
    /// What differs of it.
    a: Metrics,
    b: Metrics,
}

/// Compares the rows of two results; none where they have no rows of one kind.
pub(super) fn compare(store: &Store, a: &Side, b: &Side) -> Result<Option<Rows>, CliError> {
    let artifact = a.artifact.artifact_type;
    let read = match artifact {
        _ if artifact != b.artifact.artifact_type => return Ok(None),
        ArtifactType::Answers => answers,
        ArtifactType::Verdict => verdicts,
        _ => return Ok(None),
    };
    Ok(Some(pair(read(&store.view(&a.artifact)?)?, read(&store.view(&b.artifact)?)?)))
}

fn pair(a: IndexMap<Asked, Metrics>, mut b: IndexMap<Asked, Metrics>) -> Rows {
    let mut rows = Rows { compared: 0, only_in_a: 0, only_in_b: 0, different: Vec::new() };
    for (asked, mut a) in a {
        let Some(mut b) = b.swap_remove(&asked) else {
            rows.only_in_a += 1;
            continue;
        };
        let (instruction, input) = asked;
        rows.compared += 1;
        let same: Vec<String> =
            a.iter().filter(|(name, value)| b.get(*name) == Some(value)).map(|(name, _)| name.clone()).collect();
        for name in same {
            a.shift_remove(&name);
            b.shift_remove(&name);
        }
        if !(a.is_empty() && b.is_empty()) {
            rows.different.push(Row { instruction, input, a, b });
        }
    }
    rows.only_in_b = b.len();
    rows
}

/// What was answered; who answered differs between any two models.
fn answers(dir: &Path) -> Result<IndexMap<Asked, Metrics>, Failure> {
    let rows: Vec<AnswerRow> = json(&dir.join("answers.json"))?;
    let values = |row: AnswerRow| {
        let mut values = Metrics::from([("output".to_owned(), Value::from(row.output))]);
        values.extend(row.finish_reason.map(|reason| ("finish_reason".to_owned(), reason.into())));
        ((row.instruction, row.input), values)
    };
    Ok(rows.into_iter().map(values).collect())
}

fn verdicts(dir: &Path) -> Result<IndexMap<Asked, Metrics>, Failure> {
    let rows: Vec<Metrics> = lines(&dir.join("rows.jsonl"), usize::MAX)?;
    let asked = |mut row: Metrics| {
        let mut text =
            |name: &str| row.shift_remove(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        ((text("instruction"), text("input")), row)
    };
    Ok(rows.into_iter().map(asked).collect())
}

impl Rows {
    /// How many rows have no counterpart.
    pub fn unpaired(&self) -> String {
        match (self.only_in_a, self.only_in_b) {
            (0, 0) => String::new(),
            (a, b) => format!("; {a} are in A only, {b} in B only"),
        }
    }
}

impl Row {
    /// The question, and below it what either side has.
    pub fn text(&self, width: usize) -> String {
        let asked = [self.instruction.as_str(), self.input.as_str()].join(" ");
        let (a, b) = around_difference(&side(&self.a), &side(&self.b), width.saturating_sub(4));
        let line = |style, name, text| styled(style, format!("  {name} {text}")) + "\n";
        format!("{}\n{}{}", styled(DIM, clip(&asked, width)), line(BAD, "A", a), line(GOOD, "B", b))
    }
}

/// Both texts on one line each, begun late enough that the place where they part is seen.
fn around_difference(a: &str, b: &str, width: usize) -> (String, String) {
    let (a, b) = (clip(a, usize::MAX), clip(b, usize::MAX));
    let alike = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let skipped = if alike < width * 2 / 3 { 0 } else { alike - width / 3 };
    let cut = |text: &str| match skipped {
        0 => clip(text, width),
        _ => clip(&format!("…{}", text.chars().skip(skipped).collect::<String>()), width),
    };
    (cut(&a), cut(&b))
}

/// An answer as it is, figures with their names.
fn side(values: &Metrics) -> String {
    let one = |(name, value): (&String, &Value)| match name.as_str() {
        "output" => cell(value),
        "finish_reason" => format!("[{}]", cell(value)),
        _ => format!("{name} {}", cell(value)),
    };
    values.iter().map(one).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::around_difference;

    #[test]
    fn the_place_where_texts_part_is_shown() {
        let same = "word ".repeat(40);
        let (a, b) = around_difference(&format!("{same}left"), &format!("{same}right"), 40);
        assert!(a.starts_with('…') && a.ends_with("left") && b.ends_with("right"), "{a}\n{b}");
        assert!(a.chars().count() <= 40);
        assert_eq!(around_difference("a", "b", 40), ("a".into(), "b".into()));
    }
}

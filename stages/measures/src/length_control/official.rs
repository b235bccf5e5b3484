//! The tables of the dataset `tatsu-lab/alpaca_eval` that the public fit reads: `df_gamed.csv` with the rows of the gamed
//! baselines, and `instruction_difficulty.csv`.
//!
//! Columns are known by their names in the first line. Only numbers are read; the first of them, `index`, is an instruction's
//! place in the set.

use std::collections::BTreeMap;

use super::{Gamed, LengthControl, LengthControlError, public_gamed_weight};

/// The table of the gamed baselines.
pub(super) const GAMED_FILE: &str = "df_gamed.csv";
/// The table of difficulties.
pub const DIFFICULTY_FILE: &str = "instruction_difficulty.csv";

/// The length control of a set with these instructions, in its order. Difficulties are those of the gamed rows, as in the
/// public fit; of the other table where the gamed rows have none.
///
/// # Errors
/// A table of another form, or of another number of prompts.
pub(super) fn read(
    gamed: &str,
    difficulty: Option<&str>,
    instructions: &[&str],
) -> Result<LengthControl, LengthControlError> {
    let table = Table::new(GAMED_FILE, gamed)?;
    let by_place = match (table.column("instruction_difficulty"), difficulty) {
        (Err(_), Some(text)) => difficulties(text)?,
        (column, _) => table.by_place(table.column("index")?, column?)?,
    };
    if by_place.len() != instructions.len() {
        return Err(LengthControlError::OtherCount { known: by_place.len(), pairs: instructions.len() });
    }
    let at = |place: usize| {
        let missing = || table.problem(1, format!("no difficulty for the prompt at place {place}"));
        by_place.get(&place).copied().ok_or_else(missing)
    };
    let mut named = BTreeMap::new();
    for (place, &instruction) in instructions.iter().enumerate() {
        if named.insert(instruction.to_owned(), at(place)?).is_some() {
            return Err(LengthControlError::DuplicateInstruction(instruction.to_owned()));
        }
    }
    Ok(LengthControl { difficulty: named, gamed: gamed_rows(&table, at)? })
}

/// Rows without a preference are left out, as the public fit does.
fn gamed_rows(
    table: &Table<'_>,
    difficulty: impl Fn(usize) -> Result<f64, LengthControlError>,
) -> Result<Gamed, LengthControlError> {
    let [place, preference, length] =
        [table.column("index")?, table.column("preference")?, table.column("std_delta_len")?];
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for line in 0..table.rows.len() {
        let Some(target) = table.number(line, preference)? else { continue };
        if !(0.0..=1.0).contains(&target) {
            return Err(table.problem(line + 2, format!("the preference {target} is not between 0 and 1")));
        }
        let length = table.number(line, length)?.ok_or_else(|| table.problem(line + 2, "no std_delta_len".into()))?;
        features.push([length.tanh(), difficulty(table.place(line, place)?)?]);
        targets.push(target);
    }
    let sum = |k: usize| features.iter().zip(&targets).map(|(row, target)| row[k] * target).sum();
    Ok(Gamed { sums_with_target: [sum(0), sum(1)], features, targets: Some(targets), weight: public_gamed_weight() })
}

/// Place and difficulty, whatever the columns are called.
fn difficulties(text: &str) -> Result<BTreeMap<usize, f64>, LengthControlError> {
    let table = Table::new(DIFFICULTY_FILE, text)?;
    table.by_place(0, 1)
}

/// A table without quotes.
struct Table<'a> {
    file: &'static str,
    head: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Table<'a> {
    fn new(file: &'static str, text: &'a str) -> Result<Self, LengthControlError> {
        let mut lines = text.lines().map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
        let head = lines.next().unwrap_or_default();
        let rows: Vec<Vec<&str>> = lines.filter(|row| row.as_slice() != [""]).collect();
        let table = Self { file, head, rows };
        match table.rows.iter().position(|row| row.len() != table.head.len()) {
            Some(line) => {
                Err(table.problem(line + 2, format!("{} cells, expected {}", table.rows[line].len(), table.head.len())))
            }
            None => Ok(table),
        }
    }

    fn problem(&self, line: usize, what: String) -> LengthControlError {
        LengthControlError::Table { file: self.file, line, what }
    }

    fn column(&self, name: &str) -> Result<usize, LengthControlError> {
        let at = self.head.iter().position(|&head| head == name);
        at.ok_or_else(|| self.problem(1, format!("there is no column `{name}`")))
    }

    /// A cell as a number; none where it is empty.
    fn number(&self, line: usize, column: usize) -> Result<Option<f64>, LengthControlError> {
        let cell = self.rows[line].get(column).copied().unwrap_or_default();
        if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
            return Ok(None);
        }
        match cell.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.problem(line + 2, format!("`{cell}` is no number"))),
        }
    }

    fn place(&self, line: usize, column: usize) -> Result<usize, LengthControlError> {
        match self.number(line, column)? {
            Some(place) if place >= 0.0 && place.fract() == 0.0 => Ok(place as usize),
            _ => Err(self.problem(line + 2, "the index is no place in the set".into())),
        }
    }

    /// A column by place; the first row of a place counts.
    fn by_place(&self, place: usize, column: usize) -> Result<BTreeMap<usize, f64>, LengthControlError> {
        let mut values = BTreeMap::new();
        for line in 0..self.rows.len() {
            let value = self.number(line, column)?.ok_or_else(|| self.problem(line + 2, "no difficulty".into()))?;
            values.entry(self.place(line, place)?).or_insert(value);
        }
        Ok(values)
    }
}

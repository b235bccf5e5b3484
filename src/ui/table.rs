//! Plain tables, and the short spelling of numbers, sizes and times.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::Value;

use super::printer::{DIM, styled};

/// A table with a heading row. Columns whose cells all read as numbers stand to the right.
pub fn table(heading: &[String], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(heading);
    rows.iter().for_each(|row| {
        table.add_row(row);
    });
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let number = |cell: &str| cell.split(" ±").next().unwrap_or(cell).trim_end_matches('%').parse::<f64>().is_ok();
        let numeric = |cell: &String| cell.is_empty() || number(cell);
        if !rows.is_empty() && rows.iter().filter_map(|row| row.get(index)).all(numeric) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A table with as many columns, from the left, as the width holds; of the others, their names.
pub fn fitting(heading: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let whole = |columns: usize| {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row[..columns.min(row.len())].to_vec()).collect();
        table(&heading[..columns].iter().map(ToString::to_string).collect::<Vec<_>>(), &rows)
    };
    let fits = |text: &String| text.lines().all(|line| line.chars().count() <= width);
    let sized = (1..=heading.len()).rev().map(|columns| (columns, whole(columns)));
    let (columns, text) = sized.into_iter().find(|(columns, text)| *columns == 1 || fits(text)).unwrap_or_default();
    match &heading[columns..] {
        [] => text,
        hidden => format!("{text}\n{}", styled(DIM, format!("a wider terminal shows {}", hidden.join(", ")))),
    }
}

/// A size in the unit that reads best: `93.0 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A time span: `0.4s`, `12s`, `3m05s`, `2h10m`.
pub fn seconds(span: f64) -> String {
    let whole = span.round() as u64;
    match whole {
        0..10 => format!("{span:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// A value in a table's cell: text bare, fractions to four digits, lists of plain values in full, others counted.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() != 0.0 && float.abs() >= 1e-3 => format!("{float:.4}"),
            Some(float) if float.fract() != 0.0 => shortest(&format!("{float:.3e}")),
            _ if number.is_f64() && number.as_f64() == Some(0.0) => "0.0".to_owned(),
            _ => number.to_string(),
        },
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) if items.len() == 1 => "1 item".to_owned(),
        Value::Array(items) => format!("{} items", items.len()),
        Value::Object(map) => {
            map.iter().map(|(name, item)| format!("{name} {}", cell(item))).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(flag) => flag.to_string(),
    }
}

/// `1.500e-4` without the zeros that say nothing: `1.5e-4`.
fn shortest(scientific: &str) -> String {
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// The first `width` characters on one line, with an ellipsis where some were cut.
pub fn clip(text: &str, width: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        line
    } else {
        line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(93_000_000), "93.0 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(seconds(0.42), "0.4s");
        assert_eq!(seconds(185.0), "3m05s");
        assert_eq!(seconds(7800.0), "2h10m");
    }

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["b".to_owned(), "10".to_owned()]];
        let text = table(&["name".to_owned(), "n".to_owned()], &rows);
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), ["name   n", "a      1", "b     10"]);
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let rows = [["20261123-191418", "killed", "sweep"].map(String::from).to_vec()];
        let text =
            |width| anstream::adapter::strip_str(&fitting(&["run", "state", "pipeline"], &rows, width)).to_string();
        assert_eq!(text(80), "run              state   pipeline\n20261123-191418  killed  sweep");
        assert_eq!(text(25), "run              state\n20261123-191418  killed\na wider terminal shows pipeline");
        assert!(text(3).starts_with("run\n20261123-191418\n"));
    }

    #[test]
    fn small_numbers_stay_short() {
        assert_eq!(cell(&Value::from(0.000_150_000_000_000_000_01)), "1.5e-4");
        assert_eq!(cell(&Value::from(2e-4)), "2e-4");
        assert_eq!(cell(&Value::from(0.25)), "0.2500");
    }

    #[test]
    fn long_texts_are_clipped_by_characters() {
        assert_eq!(clip("für\nalle Fälle", 6), "für a…");
    }
}

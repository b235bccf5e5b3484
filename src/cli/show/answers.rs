//! What can be seen of answers without a judge: how many, how long, how repetitive, and what stands out in them.

use std::path::Path;

use neftpipe_measures::diversity::log_diversity;
use neftpipe_measures::length::length;
use neftpipe_measures::repetition::repetition;
use neftpipe_measures::screening::{Screening, screen};
use neftpipe_measures::summary::mean;
use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{AnswerRow, Metrics};

use super::view::{ROWS, View, figures_table, json};
use crate::ui::printer::{GOOD, NOTICE, styled};
use crate::ui::table::clip;

/// Looks at answers in AlpacaEval's form.
///
/// # Errors
/// Where the file is not such a list.
pub fn view(file: &Path) -> Result<View, Failure> {
    let rows: Vec<AnswerRow> = json(file)?;
    let outputs: Vec<&str> = rows.iter().map(|row| row.output.as_str()).collect();
    let found = screen(&outputs);
    let mut view = View { figures: figures(&rows, &outputs, &found), text: String::new() };
    view.text = figures_table(&view.figures);
    warn(&mut view, &found);
    view.heading("First answers");
    for row in rows.iter().take(ROWS) {
        let asked = [row.instruction.as_str(), row.input.as_str()].join(" ");
        view.push(format!("  {}\n    {}", clip(&asked, 100), styled(GOOD, clip(&row.output, 100))));
    }
    view.more(rows.len(), ROWS, "answers");
    Ok(view)
}

/// Means are over the answers that are long enough for the measure.
fn figures(rows: &[AnswerRow], outputs: &[&str], found: &Screening) -> Metrics {
    let of_each = |measure: &dyn Fn(&str) -> Option<f64>| {
        let values: Vec<f64> = outputs.iter().filter_map(|output| measure(output)).collect();
        mean(&values)
    };
    let finished = |reason: &str| rows.iter().filter(|row| row.finish_reason.as_deref() == Some(reason)).count();
    let mut generators: Vec<&str> = rows.iter().map(|row| row.generator.as_str()).collect();
    generators.sort();
    generators.dedup();
    [
        ("answers", rows.len().into()),
        ("mean_characters", of_each(&|output| Some(length(output).characters as f64)).into()),
        ("mean_words", of_each(&|output| Some(length(output).words as f64)).into()),
        ("repetition", of_each(&|output| repetition(output, 2, None)).into()),
        ("log_diversity", of_each(&|output| log_diversity(output, None)).into()),
        ("empty", found.empty.len().into()),
        ("constant", found.n_constant().into()),
        ("judge_markers", found.n_marked().into()),
        ("finished_by_stop", finished("stop").into()),
        ("finished_by_length", finished("length").into()),
        ("generator", generators.join(", ").into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

/// Says which rows to look at, counted from 0 as in a verdict.
fn warn(view: &mut View, found: &Screening) {
    let rows = |rows: &[usize]| {
        let shown: Vec<String> = rows.iter().take(ROWS).map(usize::to_string).collect();
        if rows.len() > ROWS { format!("{}, …", shown.join(", ")) } else { shown.join(", ") }
    };
    let mut notices = Vec::new();
    if !found.empty.is_empty() {
        notices.push(format!("empty: rows {}", rows(&found.empty)));
    }
    notices.extend(found.constant.iter().map(|group| format!("one answer to many prompts: rows {}", rows(group))));
    for marker in found.markers.iter().take(ROWS) {
        notices.push(format!("text that addresses a judge: row {}, {:?}", marker.row, marker.phrase));
    }
    if !notices.is_empty() {
        view.heading("What stands out (rows from 0)");
        notices.iter().for_each(|notice| view.push(format!("  {}", styled(NOTICE, notice))));
    }
}

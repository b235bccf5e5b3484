//! Tables as CSV: every mean, and every difference with its interval.

use csv::WriterBuilder;
use serde::Serialize;

use crate::report::file::{FigureFile, ReportFile};
use crate::report::statistics::Difference;

const HEADING: [&str; 16] = [
    "measure",
    "column",
    "stage",
    "prompts",
    "unit",
    "arm",
    "run",
    "mean",
    "n",
    "baseline",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "finding",
];

/// Rows as a file.
pub fn write(rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("writing to memory does not fail, and all rows are of one length");
    }
    writer.into_inner().expect("writing to memory does not fail")
}

/// A row an arm of each measure, and a row each of its runs where they have names.
pub fn rows(report: &ReportFile<'_>) -> Vec<Vec<String>> {
    let heading = HEADING.iter().map(|&name| name.to_owned()).collect();
    [heading].into_iter().chain(report.figures.iter().flat_map(of_figure)).collect()
}

fn of_figure(figure: &FigureFile) -> Vec<Vec<String>> {
    let column: Vec<String> = figure.column.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    let prompts = figure.prompts.map_or(String::new(), word);
    let start = [figure.name.clone(), column.join(","), figure.stage.clone(), prompts, figure.unit.to_owned()];
    let mut rows = Vec::new();
    for (name, arm) in &figure.arms {
        let mut push = |run: &str, mean: f64, n: usize, found: Option<&Difference>| {
            let figures = [name.clone(), run.to_owned(), mean.to_string(), n.to_string()];
            rows.push(start.iter().cloned().chain(figures).chain(of_difference(found)).collect());
        };
        push("", arm.mean, arm.replicates.iter().map(|run| run.n).sum(), arm.difference.as_ref());
        for run in arm.replicates.iter().filter(|run| !run.label.is_empty()) {
            push(&run.label, run.mean, run.n, None);
        }
    }
    rows
}

fn of_difference(difference: Option<&Difference>) -> [String; 7] {
    let Some(Difference { baseline, judged, .. }) = difference else { return Default::default() };
    let bootstrap = &judged.comparison.bootstrap;
    let [mean, low, high, p, p_holm] =
        [bootstrap.mean, bootstrap.interval.low, bootstrap.interval.high, bootstrap.p_value, judged.p_holm]
            .map(|value| value.to_string());
    [baseline.clone(), mean, low, high, p, p_holm, word(judged.finding)]
}

/// One of several, as data calls it.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

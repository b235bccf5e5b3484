//! The figures of a paper, each with its data: differences of every compared measure, training curves, distributions.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::report::curves::Curves;
use crate::report::figures::Figure;
use crate::report::file::{ReportFile, RunFile};
use crate::report::histogram::Histogram;
use crate::report::place::column_name;
use crate::report::statistics::Differences;

use super::canvas::Canvas;
use super::forest::{self, Forest};
use super::plot::{self, Line, Plot};
use super::style::Styles;

/// A figure to be written.
pub struct Drawn {
    /// Its name, of its files too.
    pub name: String,
    /// What it shows, for a caption.
    pub caption: String,
    /// The drawing.
    pub canvas: Canvas,
    /// What it shows: a heading and rows.
    pub data: Vec<Vec<String>>,
}

/// A curve of the runs: its name, its title, and its values.
type Curve = (&'static str, &'static str, fn(&Curves) -> &Vec<f64>);

const CURVES: [Curve; 4] = [
    ("loss", "Loss of the batches (nats)", |curves| &curves.loss),
    ("alpha", "Alpha of the noise", |curves| &curves.alpha),
    ("learning_rate", "Learning rate", |curves| &curves.learning_rate),
    ("gradient_norm", "Norm of the gradient", |curves| &curves.gradient_norm),
];

/// All figures, under names of their own.
pub fn figures(report: &ReportFile<'_>, figures: &[(Figure, Differences)]) -> Vec<Drawn> {
    let styles = Styles::new(report.arms.iter().map(|arm| (arm.name.as_str(), arm.is_baseline)));
    let differences = figures.iter().filter_map(|(figure, found)| difference(report, figure, found, &styles));
    let distributions = report.histograms.iter().map(|histogram| distribution(histogram, &styles));
    let mut taken = BTreeSet::new();
    let all = differences.chain(curves(report, &styles)).chain(distributions);
    all.map(|drawn| Drawn { name: free(&mut taken, &drawn.name), ..drawn }).collect()
}

/// A name that is not taken yet, of letters, digits, `_` and `-`.
fn free(taken: &mut BTreeSet<String>, name: &str) -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "_-.".contains(letter) { letter } else { '_' };
    let name: String = name.chars().map(safe).collect();
    let name = (1..).map(|at| if at == 1 { name.clone() } else { format!("{name}-{at}") });
    let name = name.into_iter().find(|name| !taken.contains(name)).expect("numbers do not end");
    taken.insert(name.clone());
    name
}

fn named(name: &str, column: &str) -> String {
    if column.is_empty() { name.to_owned() } else { format!("{name}-{column}") }
}

fn captioned(caption: &str, column: &str) -> String {
    if column.is_empty() { caption.to_owned() } else { format!("{column}: {caption}") }
}

fn with_unit(what: &str, unit: &str) -> String {
    if unit.is_empty() { what.to_owned() } else { format!("{what} ({unit})") }
}

fn difference(report: &ReportFile<'_>, figure: &Figure, found: &Differences, styles: &Styles) -> Option<Drawn> {
    let baseline = &found.by_arm.values().next()?.baseline;
    let rows: IndexMap<_, _> =
        found.by_arm.iter().chain(&found.interactions).map(|(arm, found)| (arm.as_str(), found)).collect();
    let column = column_name(&figure.column, report.axes);
    let caption = captioned(
        &format!(
            "{}: difference from {baseline} with its 95% interval. Filled: claimed; small: single runs",
            figure.title
        ),
        &column,
    );
    let scale = figure.quantity.scale;
    let data = rows.iter().flat_map(|(arm, found)| {
        let (mean, interval) = (found.judged.comparison.bootstrap.mean, found.judged.comparison.bootstrap.interval);
        let whole = vec![
            (*arm).to_owned(),
            String::new(),
            text(mean * scale),
            text(interval.low * scale),
            text(interval.high * scale),
        ];
        let single = found.judged.comparison.replicates.iter();
        let single = single
            .map(|(run, mean)| vec![(*arm).to_owned(), run.clone(), text(mean * scale), String::new(), String::new()]);
        [whole].into_iter().chain(single).collect::<Vec<_>>()
    });
    let data = [heading(&["arm", "run", "difference", "low", "high"])].into_iter().chain(data).collect();
    let x = with_unit(&format!("{}: difference from {baseline}", figure.heading), figure.quantity.unit);
    let canvas = forest::draw(&Forest { title: &caption, x, scale, rows }, styles);
    Some(Drawn { name: named(&figure.name(), &column), caption, canvas, data })
}

fn curves<'a>(report: &'a ReportFile<'_>, styles: &'a Styles) -> impl Iterator<Item = Drawn> + 'a {
    let mut columns: IndexMap<String, Vec<&RunFile<'_>>> = IndexMap::new();
    for run in report.runs.iter().filter(|run| !run.curves.step.is_empty()) {
        columns.entry(column_name(run.column, report.axes)).or_default().push(run);
    }
    columns.into_iter().flat_map(move |(column, runs)| {
        let is_there = |(_, _, of): &&Curve| runs.iter().any(|run| of(&run.curves).iter().any(|&value| value != 0.0));
        CURVES.iter().filter(is_there).map(|shown| curve(shown, &column, &runs, styles)).collect::<Vec<_>>()
    })
}

fn curve((name, title, of): &Curve, column: &str, runs: &[&RunFile<'_>], styles: &Styles) -> Drawn {
    let points = |run: &RunFile<'_>| -> Vec<(f64, f64)> {
        run.curves.step.iter().map(|&step| step as f64).zip(of(&run.curves).iter().copied()).collect()
    };
    let data = runs.iter().flat_map(|run| {
        let row =
            |(step, value): (f64, f64)| vec![run.arm.to_owned(), run.replicate.to_owned(), text(step), text(value)];
        points(run).into_iter().map(row).collect::<Vec<_>>()
    });
    let data = [heading(&["arm", "run", "step", name])].into_iter().chain(data).collect();
    let caption = captioned(&format!("{title} over training; a line is one run"), column);
    let lines = runs.iter().map(|run| Line { arm: run.arm, points: points(run) }).collect();
    let plot = Plot { title: &caption, x: "Optimizer step".to_owned(), y: (*title).to_owned(), lines, width: 0.7 };
    Drawn { name: named(&format!("training_{name}"), column), canvas: plot::draw(&plot, styles), caption, data }
}

fn distribution(histogram: &Histogram, styles: &Styles) -> Drawn {
    let caption =
        captioned(&format!("{}: share in each bin; the runs of an arm are pooled", histogram.title), &histogram.column);
    let steps = |shares: &[f64]| -> Vec<(f64, f64)> {
        let bins = histogram.edges.windows(2).zip(shares);
        bins.flat_map(|(edges, share)| [(edges[0], 100.0 * share), (edges[1], 100.0 * share)]).collect()
    };
    let data = histogram.arms.iter().flat_map(|arm| {
        let bins = histogram.edges.windows(2).zip(&arm.shares);
        bins.map(|(edges, share)| vec![arm.arm.clone(), text(edges[0]), text(edges[1]), text(*share)])
            .collect::<Vec<_>>()
    });
    let data = [heading(&["arm", "from", "to", "share"])].into_iter().chain(data).collect();
    let lines = histogram.arms.iter().map(|arm| Line { arm: &arm.arm, points: steps(&arm.shares) }).collect();
    let (what, _) = histogram.title.split_once(',').unwrap_or((&histogram.title, ""));
    let plot =
        Plot { title: &caption, x: with_unit(what, &histogram.unit), y: "Share (%)".to_owned(), lines, width: 1.0 };
    let canvas = plot::draw(&plot, styles);
    Drawn { name: named(&format!("distribution_{}", histogram.name), &histogram.column), caption, canvas, data }
}

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The shortest text that reads back as the same value.
fn text(value: f64) -> String {
    value.to_string()
}

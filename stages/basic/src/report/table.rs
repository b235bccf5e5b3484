//! The table of all arms: what stands in its cells, for the page and for the paper.

use indexmap::IndexMap;
use neftpipe_measures::comparison::Finding;
use neftpipe_measures::numerals::Numerals;
use neftpipe_measures::sentence::{Better, Quantity};
use neftpipe_measures::summary::mean;
use serde::Serialize;

use super::drawing::Axis;
use super::figures::Figure;
use super::file::{Arm, ArmFigure, FigureFile, ReplicateMean, ReportFile};
use super::measures::{LC_WIN_RATE, Subject, WIN_RATE};
use super::place::column_name;
use super::sentences::{number, with_unit};
use super::statistics::{Difference, Differences};

/// How length-controlled win rates are written; verdicts have them in percent.
const LENGTH_CONTROLLED: Quantity<'static> =
    Quantity { unit: "%", scale: 1.0, decimals: 1, better: Some(Better::Higher) };

/// The arms of one column of the report.
#[derive(Debug, Serialize)]
pub struct Table {
    /// What is measured.
    pub headings: Vec<Heading>,
    /// The arms.
    pub rows: Vec<Row>,
}

/// A measure.
#[derive(Debug, Serialize)]
pub struct Heading {
    /// Its name.
    pub text: String,
    /// Its unit.
    pub unit: &'static str,
    /// What it is.
    pub about: String,
    /// Whether arms are compared on it.
    pub is_compared: bool,
}

/// An arm.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub arm: String,
    /// Whether others are compared with it.
    pub is_baseline: bool,
    /// Its figures; nothing where it has none.
    pub cells: Vec<Option<Cell>>,
}

/// What an arm has of a measure: the pooled mean and a point for each replicate.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The mean as it is written.
    pub text: String,
    /// The mean, for sorting.
    pub value: f64,
    /// Place of the mean in the cell's drawing.
    pub mean: f64,
    /// Places of the replicates.
    pub points: Vec<f64>,
    /// The replicates in words.
    pub title: String,
    /// Against the baseline, with its interval; or why there is nothing.
    pub difference: Option<String>,
    /// What was found.
    pub finding: Option<Finding>,
}

/// The figures by column of the report, in the order in which they are read.
pub fn columns(report: &ReportFile<'_>, figures: &[(Figure, Differences)]) -> IndexMap<String, Vec<usize>> {
    let mut columns: IndexMap<String, Vec<usize>> = IndexMap::new();
    for (at, (figure, _)) in figures.iter().enumerate() {
        columns.entry(column_name(&figure.column, report.axes)).or_default().push(at);
    }
    for members in columns.values_mut() {
        members.sort_by_key(|&at| figures[at].0.rank());
    }
    columns
}

/// The table of one column.
pub fn table(report: &ReportFile<'_>, figures: &[(Figure, Differences)], members: &[usize]) -> Table {
    let mut measured: Vec<(Heading, IndexMap<&str, Cell>)> = Vec::new();
    let has_lc_figure = members.iter().any(|&at| figures[at].0.measure.name == LC_WIN_RATE.name);
    for &at in members {
        let figure = &figures[at].0;
        measured.push(of_figure(figure, &report.figures[at]));
        if figure.measure.name == WIN_RATE.name && !has_lc_figure {
            measured.extend(length_controlled(report, figure));
        }
    }
    let row = |arm: &Arm| Row {
        arm: arm.name.clone(),
        is_baseline: arm.is_baseline,
        cells: measured.iter_mut().map(|(_, cells)| cells.swap_remove(arm.name.as_str())).collect(),
    };
    let rows: Vec<Row> = report.arms.iter().map(row).collect();
    let rows = rows.into_iter().filter(|row| row.cells.iter().any(Option::is_some)).collect();
    Table { headings: measured.into_iter().map(|(heading, _)| heading).collect(), rows }
}

fn of_figure<'a>(figure: &Figure, file: &'a FigureFile) -> (Heading, IndexMap<&'a str, Cell>) {
    let means = file.arms.values().flat_map(|arm| arm.replicates.iter().map(|run| run.mean).chain([arm.mean]));
    let axis = Axis::around(means);
    let quantity = of_means(figure);
    let heading = Heading {
        text: figure.heading.clone(),
        unit: quantity.unit,
        about: format!("{}. {}", figure.title, figure.about),
        is_compared: figure.measure.is_compared,
    };
    let cell = |(name, arm): (&'a String, &ArmFigure)| {
        let difference = arm.difference.as_ref();
        let compared = difference.map(|found| with_interval(found, &figure.quantity)).or_else(|| arm.problem.clone());
        let cell = Cell {
            difference: compared,
            finding: difference.map(|found| found.judged.finding),
            ..described(arm.mean, &arm.replicates, &quantity, &axis)
        };
        (name.as_str(), cell)
    };
    (heading, file.arms.iter().map(cell).collect())
}

/// How means are written: differences of win rates are points, win rates are percent.
fn of_means(figure: &Figure) -> Quantity<'static> {
    match figure.measure.subject {
        Subject::Preference => Quantity { unit: "%", ..figure.quantity },
        _ => figure.quantity,
    }
}

/// The win rates at equal length beside a figure of win rates, where verdicts have a rate without what each prompt
/// contributes to it (those of judge@2).
fn length_controlled<'a>(report: &'a ReportFile<'_>, figure: &Figure) -> Option<(Heading, IndexMap<&'a str, Cell>)> {
    let mut arms: IndexMap<&str, Vec<ReplicateMean>> = IndexMap::new();
    for file in &report.judgements {
        let is_here = file.column.iter().all(|(axis, value)| figure.column.get(axis) == Some(value));
        let (Some(rate), true) = (file.judgement.line.length_controlled_winrate, is_here) else { continue };
        let n = file.judgement.preferences.iter().flatten().count();
        arms.entry(file.arm).or_default().push(ReplicateMean { label: file.replicate.to_owned(), mean: rate, n });
    }
    let axis = Axis::around(arms.values().flatten().map(|run| run.mean));
    let cells: IndexMap<&str, Cell> = arms
        .iter()
        .filter_map(|(&arm, runs)| {
            let means: Vec<f64> = runs.iter().map(|run| run.mean).collect();
            Some((arm, described(mean(&means)?, runs, &LENGTH_CONTROLLED, &axis)))
        })
        .collect();
    let heading = Heading {
        text: "LC win rate".to_owned(),
        unit: LENGTH_CONTROLLED.unit,
        about: "Win rate at equal length: what AlpacaEval's length control leaves. These verdicts do not say what each prompt \
                contributes to it, so that there is no interval of differences."
            .to_owned(),
        is_compared: false,
    };
    (!cells.is_empty()).then_some((heading, cells))
}

fn described(mean: f64, runs: &[ReplicateMean], quantity: &Quantity<'_>, axis: &Axis) -> Cell {
    let replicate = |run: &ReplicateMean| {
        let label = if run.label.is_empty() { "one run" } else { &run.label };
        format!("{label}: {} (n = {})", with_unit(run.mean, quantity), run.n)
    };
    Cell {
        text: number(mean, quantity),
        value: mean,
        mean: axis.place(mean),
        points: runs.iter().map(|run| axis.place(run.mean)).collect(),
        title: runs.iter().map(replicate).collect::<Vec<_>>().join("\n"),
        difference: None,
        finding: None,
    }
}

/// The difference with its interval, where it has one: `+0.031 [0.010, 0.052]`.
pub fn with_interval(difference: &Difference, quantity: &Quantity<'_>) -> String {
    let comparison = &difference.judged.comparison;
    let numerals = Numerals::of(&difference.judged, quantity);
    let mean = numerals.signed(comparison.bootstrap.mean);
    comparison.spread().map_or(mean.clone(), |interval| {
        format!("{mean} [{}, {}]", numerals.write(interval.low), numerals.write(interval.high))
    })
}

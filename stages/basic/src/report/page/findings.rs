//! What was found, column by column: summaries, the compared measures with their strips, and the table of arms.

use std::fmt::Write;

use neftpipe_measures::comparison::Finding;
use neftpipe_measures::sentence::{Better, count};
use serde::Serialize;

use crate::report::drawing::Axis;
use crate::report::figures::Figure;
use crate::report::file::ReportFile;
use crate::report::measures::Subject;
use crate::report::sentences::{Summary, p_value, summaries};
use crate::report::statistics::{Difference, Differences};
use crate::report::table::{Table, columns, table};

/// A part of the page for one column of the report.
#[derive(Serialize)]
pub struct ColumnView {
    name: String,
    summaries: Vec<Summary>,
    sections: Vec<SectionView>,
    judged: Vec<SectionView>,
    table: Table,
}

/// One compared measure.
#[derive(Serialize)]
struct SectionView {
    title: String,
    about: String,
    unit: &'static str,
    baseline: String,
    zero: f64,
    better: &'static str,
    rows: Vec<DifferenceView>,
}

/// One arm's difference.
#[derive(Serialize)]
struct DifferenceView {
    arm: String,
    sentence: String,
    finding: Finding,
    low: f64,
    high: f64,
    mean: f64,
    points: Vec<f64>,
    tests: String,
}

/// The columns of the report, in its order.
pub fn column_views(report: &ReportFile<'_>, figures: &[(Figure, Differences)]) -> Vec<ColumnView> {
    let columns = columns(report, figures);
    let column = |(name, members): (String, Vec<usize>)| {
        let sections = |judged: bool| -> Vec<SectionView> {
            let is_judged = |figure: &Figure| figure.measure.subject == Subject::Preference;
            let chosen = members.iter().map(|&at| &figures[at]).filter(|(figure, _)| is_judged(figure) == judged);
            chosen.filter_map(|(figure, differences)| section(figure, differences)).collect()
        };
        ColumnView {
            summaries: summaries(members.iter().map(|&at| (&figures[at].0, &figures[at].1))),
            sections: sections(false),
            judged: sections(true),
            table: table(report, figures, &members),
            name,
        }
    };
    columns.into_iter().map(column).collect()
}

fn section(figure: &Figure, differences: &Differences) -> Option<SectionView> {
    let first = differences.by_arm.values().next()?;
    let shown = || differences.by_arm.iter().chain(&differences.interactions);
    let values = shown().flat_map(|(_, difference)| {
        let comparison = &difference.judged.comparison;
        let interval = comparison.bootstrap.interval;
        comparison.replicates.iter().map(|(_, mean)| *mean).chain([interval.low, interval.high, 0.0])
    });
    let axis = Axis::around(values);
    let rows = shown().map(|(arm, difference)| difference_view(arm, difference, &axis)).collect();
    Some(SectionView {
        title: figure.title.clone(),
        about: figure.about.clone(),
        unit: figure.quantity.unit,
        baseline: first.baseline.clone(),
        zero: axis.place(0.0),
        better: match figure.quantity.better {
            Some(Better::Higher) => "higher is better",
            Some(Better::Lower) => "lower is better",
            None => "neither way is better by itself",
        },
        rows,
    })
}

fn difference_view(arm: &str, difference: &Difference, axis: &Axis) -> DifferenceView {
    let Difference { judged, sentence, family, .. } = difference;
    let bootstrap = &judged.comparison.bootstrap;
    let mut tests = format!(
        "bootstrap p {} (Holm over {} of {family}: {})",
        p_value(bootstrap.p_value),
        count(judged.family_size, "comparison"),
        p_value(judged.p_holm),
    );
    if let (Some(signs), Some(p_holm)) = (&judged.comparison.sign_test, judged.sign_p_holm) {
        _ = write!(
            tests,
            "; sign test: above on {}, below on {}, equal on {}, p {} (Holm: {})",
            signs.ahead,
            signs.behind,
            signs.ties,
            p_value(signs.p_value),
            p_value(p_holm),
        );
    }
    DifferenceView {
        arm: arm.to_owned(),
        sentence: sentence.clone(),
        finding: judged.finding,
        low: axis.place(bootstrap.interval.low),
        high: axis.place(bootstrap.interval.high),
        mean: axis.place(bootstrap.mean),
        points: judged.comparison.replicates.iter().map(|(_, mean)| axis.place(*mean)).collect(),
        tests,
    }
}

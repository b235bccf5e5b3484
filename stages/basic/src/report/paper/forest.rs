//! Differences from the baseline: an arm a row, its mean with the interval, and its runs.

use indexmap::IndexMap;
use neftpipe_measures::comparison::Finding;

use crate::report::statistics::Difference;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, INK, MUTED, Stroke, WHITE, solid};
use super::font::{lines, width};
use super::style::{COLUMN, LETTERS, LINE, Styles};

/// Height of an arm's row whose name has one line.
const ROW: f64 = 15.0;
/// Widest room for the names of arms.
const NAMES: f64 = 90.0;

/// What is drawn.
pub struct Forest<'a> {
    /// For those who cannot see it.
    pub title: &'a str,
    /// What differs, with its unit.
    pub x: String,
    /// What the values are multiplied with to be in that unit.
    pub scale: f64,
    /// The arms and interactions.
    pub rows: IndexMap<&'a str, &'a Difference>,
}

/// Draws it. A full dot is a difference that is claimed, an empty one is not; small circles are single runs.
pub fn draw(forest: &Forest<'_>, styles: &Styles) -> Canvas {
    let named: Vec<Vec<String>> = forest.rows.keys().map(|name| lines(name, LETTERS, NAMES)).collect();
    let names = named.iter().flatten().map(|line| width(line, LETTERS)).fold(0.0, f64::max);
    let bottom = named.iter().map(|lines| row_height(lines)).sum::<f64>() + 4.0;
    let below = lines(&forest.x, LETTERS, COLUMN);
    let values = forest.rows.values().flat_map(|difference| values(difference)).chain([0.0]);
    let axis = Axis::new(values.map(|value| value * forest.scale), (names + 10.0, COLUMN - 8.0));
    let mut canvas = Canvas::new(COLUMN, bottom + 23.0 + LINE * (below.len() - 1) as f64, forest.title);
    let zero = axis.place(0.0);
    canvas.line(vec![(zero, 0.0), (zero, bottom)], Stroke { dashes: &[1.5, 1.5], ..solid(MUTED, 0.5) });
    canvas.line(vec![(names + 8.0, bottom), (COLUMN - 2.0, bottom)], solid(MUTED, 0.5));
    for (value, text) in axis.marks() {
        let at = axis.place(value);
        canvas.line(vec![(at, bottom), (at, bottom + 2.5)], solid(MUTED, 0.5));
        canvas.text((at, bottom + 10.0), &text, LETTERS, Anchor::Middle, INK);
    }
    let widest = below.iter().map(|line| width(line, LETTERS)).fold(0.0, f64::max);
    let middle = ((names + COLUMN) / 2.0 + 4.0).min(COLUMN - widest / 2.0);
    canvas.texts((middle, bottom + 20.5), &below, Anchor::Middle);
    let mut top = 2.0;
    for ((name, difference), lines) in forest.rows.iter().zip(&named) {
        let middle = top + row_height(lines) / 2.0;
        canvas.texts((names + 2.0, middle + 2.5 - LINE * (lines.len() - 1) as f64 / 2.0), lines, Anchor::End);
        row(&mut canvas, difference, middle, |value| axis.place(value * forest.scale), styles, name);
        top += row_height(lines);
    }
    canvas
}

fn row_height(name: &[String]) -> f64 {
    ROW + LINE * (name.len() - 1) as f64
}

fn values(difference: &Difference) -> Vec<f64> {
    let comparison = &difference.judged.comparison;
    let interval = comparison.bootstrap.interval;
    comparison.replicates.iter().map(|(_, mean)| *mean).chain([interval.low, interval.high]).collect()
}

fn row(canvas: &mut Canvas, difference: &Difference, y: f64, place: impl Fn(f64) -> f64, styles: &Styles, name: &str) {
    let (comparison, colour) = (&difference.judged.comparison, styles.colour(name));
    let (low, high) = (comparison.bootstrap.interval.low, comparison.bootstrap.interval.high);
    canvas.line(vec![(place(low), y), (place(high), y)], solid(colour, 1.2));
    if comparison.replicates.len() > 1 {
        for (_, mean) in &comparison.replicates {
            canvas.dot((place(*mean), y + 4.0), 1.1, WHITE, solid(colour, 0.5));
        }
    }
    let is_claimed = matches!(difference.judged.finding, Finding::Higher | Finding::Lower);
    let fill = if is_claimed { colour } else { WHITE };
    canvas.dot((place(comparison.bootstrap.mean), y), 2.2, fill, solid(colour, 1.0));
}

//! Differences from the baseline: an arm a row, its mean with the interval, and its runs.

use indexmap::IndexMap;
use neftpipe_measures::comparison::Finding;

use crate::report::statistics::Difference;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, INK, MUTED, Stroke, WHITE, solid};
use super::font::{fitting, width};
use super::style::{COLUMN, LETTERS, Styles};

/// Height of an arm's row.
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
    let names = forest.rows.keys().map(|name| width(name, LETTERS)).fold(0.0, f64::max).min(NAMES);
    let bottom = ROW * forest.rows.len() as f64 + 4.0;
    let values = forest.rows.values().flat_map(|difference| values(difference)).chain([0.0]);
    let axis = Axis::new(values.map(|value| value * forest.scale), (names + 10.0, COLUMN - 8.0));
    let mut canvas = Canvas::new(COLUMN, bottom + 23.0, forest.title);
    let zero = axis.place(0.0);
    canvas.line(vec![(zero, 0.0), (zero, bottom)], Stroke { dashes: &[1.5, 1.5], ..solid(MUTED, 0.5) });
    canvas.line(vec![(names + 8.0, bottom), (COLUMN - 2.0, bottom)], solid(MUTED, 0.5));
    for (value, text) in axis.marks() {
        let at = axis.place(value);
        canvas.line(vec![(at, bottom), (at, bottom + 2.5)], solid(MUTED, 0.5));
        canvas.text((at, bottom + 10.0), &text, LETTERS, Anchor::Middle, INK);
    }
    let size = fitting(&forest.x, LETTERS, COLUMN);
    let middle = ((names + COLUMN) / 2.0 + 4.0).min(COLUMN - width(&forest.x, size) / 2.0);
    canvas.text((middle, bottom + 20.5), &forest.x, size, Anchor::Middle, INK);
    for (at, (name, difference)) in forest.rows.iter().enumerate() {
        let middle = 2.0 + ROW * (at as f64 + 0.5);
        canvas.text((names + 2.0, middle + 2.5), name, fitting(name, LETTERS, NAMES), Anchor::End, INK);
        row(&mut canvas, difference, middle, |value| axis.place(value * forest.scale), styles, name);
    }
    canvas
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

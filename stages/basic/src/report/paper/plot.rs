//! Lines over two axes with a key above them: training curves and distributions.

use indexmap::IndexSet;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, INK, MUTED, solid};
use super::font::{fitting, lines, width};
use super::style::{COLUMN, LETTERS, LINE, Styles};

/// Height of the room in which the lines are.
const HEIGHT: f64 = 110.0;
/// Room for the title of the axis of values.
const TITLE: f64 = 11.0;
/// Length of a mark.
const MARK: f64 = 2.5;
/// Row of the key: its swatch with the room beside it, the gap to the next arm, and its height where names have one line.
const SWATCH: f64 = 17.0;
const GAP: f64 = 9.0;
const ROW: f64 = 9.5;

/// A line of an arm.
pub struct Line<'a> {
    /// The arm.
    pub arm: &'a str,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// What is drawn.
pub struct Plot<'a> {
    /// For those who cannot see it.
    pub title: &'a str,
    /// What runs to the right, with its unit.
    pub x: String,
    /// What runs upwards, with its unit.
    pub y: String,
    /// The lines.
    pub lines: Vec<Line<'a>>,
    /// Width of the lines.
    pub width: f64,
}

/// Draws it.
pub fn draw(plot: &Plot<'_>, styles: &Styles) -> Canvas {
    let key = key(plot);
    let top = key.iter().map(|entry| entry.y + entry.height()).fold(0.0, f64::max) + 3.0;
    let bottom = top + HEIGHT;
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let y = Axis::new(points().map(|point| point.1), (bottom, top));
    let labels = y.marks().iter().map(|(_, text)| width(text, LETTERS)).fold(0.0, f64::max);
    let left = TITLE + labels + MARK + 2.0;
    let x = Axis::new(points().map(|point| point.0), (left, COLUMN - 4.0));
    let mut canvas = Canvas::new(COLUMN, bottom + 22.0, plot.title);
    for Entry { arm, lines, x, y } in key {
        let middle = y + ROW / 2.0;
        canvas.line(vec![(x, middle), (x + SWATCH - 3.0, middle)], styles.line(arm, 1.2));
        canvas.texts((x + SWATCH, middle + 2.5), &lines, Anchor::Start);
    }
    frame(&mut canvas, (&x, &y), left, bottom, top);
    canvas.text(
        ((left + COLUMN) / 2.0, bottom + 20.0),
        &plot.x,
        fitting(&plot.x, LETTERS, COLUMN - left),
        Anchor::Middle,
        INK,
    );
    canvas.text_upwards((LETTERS, (top + bottom) / 2.0), &plot.y, fitting(&plot.y, LETTERS, HEIGHT));
    for line in &plot.lines {
        let points = line.points.iter().map(|&(at, value)| (x.place(at), y.place(value))).collect();
        canvas.line(points, styles.line(line.arm, plot.width));
    }
    canvas
}

/// An arm of the key: its name in lines, and its place.
struct Entry<'a> {
    arm: &'a str,
    lines: Vec<String>,
    x: f64,
    y: f64,
}

impl Entry<'_> {
    fn height(&self) -> f64 {
        ROW + LINE * (self.lines.len() - 1) as f64
    }
}

/// The arms with their places in the key, as many in a row as fit; a name wider than a row has several lines.
fn key<'a>(plot: &Plot<'a>) -> Vec<Entry<'a>> {
    let arms: IndexSet<&str> = plot.lines.iter().map(|line| line.arm).collect();
    let (mut x, mut y, mut below) = (0.0, 0.0, 0.0);
    let place = |arm: &'a str| {
        let lines = lines(arm, LETTERS, COLUMN - SWATCH);
        let wide = SWATCH + lines.iter().map(|line| width(line, LETTERS)).fold(0.0, f64::max);
        if x > 0.0 && x + wide > COLUMN {
            (x, y) = (0.0, below);
        }
        let entry = Entry { arm, lines, x, y };
        x += wide + GAP;
        below = f64::max(below, y + entry.height());
        entry
    };
    arms.into_iter().map(place).collect()
}

fn frame(canvas: &mut Canvas, (x, y): (&Axis, &Axis), left: f64, bottom: f64, top: f64) {
    let thin = solid(MUTED, 0.5);
    canvas.line(vec![(left, top), (left, bottom), (COLUMN - 2.0, bottom)], thin);
    for (value, text) in x.marks() {
        let at = x.place(value);
        canvas.line(vec![(at, bottom), (at, bottom + MARK)], thin);
        canvas.text((at, bottom + MARK + LETTERS), &text, LETTERS, Anchor::Middle, INK);
    }
    for (value, text) in y.marks() {
        let at = y.place(value);
        canvas.line(vec![(left - MARK, at), (left, at)], thin);
        canvas.text((left - MARK - 2.0, at + 2.5), &text, LETTERS, Anchor::End, INK);
    }
}

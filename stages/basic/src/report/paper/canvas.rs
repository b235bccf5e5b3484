//! A drawing: lines, dots and texts at places in points (1/72 inch), from the upper left corner.
//!
//! [`super::svg`] and [`super::pdf`] write the same drawing; it knows neither.

use super::style::{LETTERS, LINE};

/// Red, green, blue.
pub type Colour = [u8; 3];

/// Black.
pub const INK: Colour = [0x1b, 0x1f, 0x24];
/// Of axes and second thoughts.
pub const MUTED: Colour = [0x6b, 0x74, 0x7d];
/// The paper.
pub const WHITE: Colour = [0xff, 0xff, 0xff];

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stroke {
    /// Its colour.
    pub colour: Colour,
    /// Its width.
    pub width: f64,
    /// Lengths of dashes and gaps; none is a whole line.
    pub dashes: &'static [f64],
}

/// Where a text stands from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Right of it.
    Start,
    /// Around it.
    Middle,
    /// Left of it.
    End,
}

/// A part of a drawing.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Straight lines from point to point.
    Line {
        /// The points.
        points: Vec<(f64, f64)>,
        /// How.
        stroke: Stroke,
    },
    /// A circle.
    Dot {
        /// Its middle.
        at: (f64, f64),
        /// Its radius.
        radius: f64,
        /// Its inside.
        fill: Colour,
        /// Its edge.
        stroke: Stroke,
    },
    /// A line of text.
    Text {
        /// On its base line.
        at: (f64, f64),
        /// What it says.
        text: String,
        /// Size of the letters.
        size: f64,
        /// Where it stands from its place.
        anchor: Anchor,
        /// Its colour.
        colour: Colour,
        /// Whether it runs upwards.
        upwards: bool,
    },
}

/// The drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Canvas {
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
    /// What it shows, for those who cannot see it.
    pub title: String,
    /// Its parts, later ones on top.
    pub shapes: Vec<Shape>,
}

impl Canvas {
    /// An empty one.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: title.to_owned(), shapes: Vec::new() }
    }

    /// Adds a line.
    pub fn line(&mut self, points: Vec<(f64, f64)>, stroke: Stroke) {
        self.shapes.push(Shape::Line { points, stroke });
    }

    /// Adds a dot with an edge of the same stroke.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, fill: Colour, stroke: Stroke) {
        self.shapes.push(Shape::Dot { at, radius, fill, stroke });
    }

    /// Adds a text.
    pub fn text(&mut self, at: (f64, f64), text: &str, size: f64, anchor: Anchor, colour: Colour) {
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, anchor, colour, upwards: false });
    }

    /// Adds lines of text, the first on the base line of the place.
    pub fn texts(&mut self, at: (f64, f64), lines: &[String], anchor: Anchor) {
        for (number, line) in lines.iter().enumerate() {
            self.text((at.0, at.1 + LINE * number as f64), line, LETTERS, anchor, INK);
        }
    }

    /// Adds a text that runs upwards around its place.
    pub fn text_upwards(&mut self, at: (f64, f64), text: &str, size: f64) {
        let (anchor, colour) = (Anchor::Middle, INK);
        self.shapes.push(Shape::Text { at, text: text.to_owned(), size, anchor, colour, upwards: true });
    }
}

/// A whole line.
pub const fn solid(colour: Colour, width: f64) -> Stroke {
    Stroke { colour, width, dashes: &[] }
}

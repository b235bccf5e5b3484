//! How the arms are told apart in print: the palette of the page, of eight colours that colour-blind readers can tell apart,
//! and dashes beside it, so that it also works in grey.

use super::canvas::{Colour, Stroke};

/// Width of a column of a paper: 3¼ inches.
pub const COLUMN: f64 = 234.0;
/// Size of the letters.
pub const LETTERS: f64 = 7.0;
/// From one line of text to the next.
pub const LINE: f64 = 8.0;

const BASELINE: Colour = [0x59, 0x61, 0x6a];
const COLOURS: [Colour; 8] = [
    [0x00, 0x72, 0xb2],
    [0xc9, 0x4f, 0x00],
    [0x00, 0x80, 0x5c],
    [0xa3, 0x40, 0x8c],
    [0x8a, 0x6d, 0x00],
    [0x3d, 0x8f, 0xc4],
    [0x7a, 0x4b, 0x2a],
    [0x5b, 0x4b, 0xb5],
];
/// Seven dashes to eight colours: no two of the first fifty arms have both alike.
const DASHES: [&[f64]; 7] =
    [&[], &[4.0, 2.0], &[1.0, 1.5], &[5.0, 1.5, 1.0, 1.5], &[2.5, 1.0], &[6.0, 2.5], &[2.0, 2.0, 0.5, 2.0]];

/// The colours and dashes of the arms, by their order; the baseline is grey.
pub struct Styles {
    arms: Vec<(String, Colour)>,
}

impl Styles {
    /// For arms, each with whether it is the baseline.
    pub fn new<'a>(arms: impl Iterator<Item = (&'a str, bool)>) -> Self {
        let mut next = COLOURS.iter().cycle();
        let colour = |is_baseline| if is_baseline { BASELINE } else { *next.next().expect("the colours go round") };
        let mut colour = colour;
        Self { arms: arms.map(|(arm, is_baseline)| (arm.to_owned(), colour(is_baseline))).collect() }
    }

    /// The colour of an arm; what is no arm (an interaction) is grey.
    pub fn colour(&self, arm: &str) -> Colour {
        self.arms.iter().find(|(known, _)| known == arm).map_or(BASELINE, |(_, colour)| *colour)
    }

    /// The line of an arm.
    pub fn line(&self, arm: &str, width: f64) -> Stroke {
        let at = self.arms.iter().position(|(known, _)| known == arm).unwrap_or(0);
        Stroke { colour: self.colour(arm), width, dashes: DASHES[at % DASHES.len()] }
    }
}

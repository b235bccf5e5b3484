//! The letters of the figures: Arimo, which PDF files carry with them, as publishers ask.

use std::sync::LazyLock;

use ttf_parser::Face;

/// The file: Latin, Greek and Cyrillic letters and signs.
pub const FILE: &[u8] = include_bytes!("../../../assets/arimo/Arimo-Regular.ttf");
/// What is written for a letter that the font lacks.
const SUBSTITUTE: char = '?';

/// The font, read once.
pub static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(FILE, 0).expect("the font in the repository is whole"));

/// The glyphs of a text, each with its letter.
pub fn glyphs(text: &str) -> impl Iterator<Item = (u16, char)> {
    text.chars().filter_map(|letter| {
        let glyph = |letter| FACE.glyph_index(letter).map(|glyph| (glyph.0, letter));
        glyph(letter).or_else(|| glyph(SUBSTITUTE))
    })
}

/// Whether the font has a letter.
pub fn is_known(letter: char) -> bool {
    FACE.glyph_index(letter).is_some()
}

/// Width of a glyph in thousandths of the font's size.
pub fn advance(glyph: u16) -> f64 {
    let advance = FACE.glyph_hor_advance(ttf_parser::GlyphId(glyph)).unwrap_or(0);
    f64::from(advance) * 1000.0 / f64::from(FACE.units_per_em())
}

/// Width of a text at a size.
pub fn width(text: &str, size: f64) -> f64 {
    glyphs(text).map(|(glyph, _)| advance(glyph)).sum::<f64>() / 1000.0 * size
}

/// The size at which a text fits into a width, at most the one given.
pub fn fitting(text: &str, size: f64, most: f64) -> f64 {
    size * (most / width(text, size)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_helvetica() {
        assert!((width("A", 1000.0) - 667.0).abs() < 1.0);
        assert!((width("0.5", 1000.0) - (556.0 + 278.0 + 556.0)).abs() < 2.0);
    }

    #[test]
    fn the_signs_of_the_figures_are_there() {
        for letter in "−×αλ°±–—…éßŁЖ".chars() {
            assert!(is_known(letter), "{letter}");
        }
    }
}

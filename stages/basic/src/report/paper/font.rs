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

/// A text in lines of a width, broken between words, and within those that are wider by themselves.
pub fn lines(text: &str, size: f64, most: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&longer, size) <= most {
            *line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(String::new());
        }
        for letter in word.chars() {
            let line = lines.last_mut().expect("there is a line");
            let is_full = !line.is_empty() && width(&format!("{line}{letter}"), size) > most;
            if is_full {
                lines.push(letter.to_string());
            } else {
                line.push(letter);
            }
        }
    }
    lines
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
    fn long_texts_are_broken_between_words_and_in_long_ones() {
        assert_eq!(lines("noise 5", 7.0, 90.0), ["noise 5"]);
        assert_eq!(lines("noise that is halved", 7.0, 40.0), ["noise that is", "halved"]);
        assert_eq!(lines("a neft_alpha_5", 7.0, 30.0), ["a", "neft_alph", "a_5"]);
        assert_eq!(lines("", 7.0, 40.0), [""]);
    }

    #[test]
    fn the_signs_of_the_figures_are_there() {
        for letter in "−×αλ°±–—…éßŁЖ".chars() {
            assert!(is_known(letter), "{letter}");
        }
    }
}

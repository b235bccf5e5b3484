//! Length of answers in characters (Unicode code points, as AlpacaEval counts) and in words.

use crate::words::words;

/// How long a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Length {
    /// Unicode code points, white space included.
    pub characters: usize,
    /// Runs of characters that are not white space.
    pub words: usize,
}

/// Measures one text.
pub fn length(text: &str) -> Length {
    Length { characters: text.chars().count(), words: words(text).count() }
}

/// AlpacaEval's `avg_length`: the mean number of characters, cut to a whole number. `None` without texts.
pub fn average_length<S: AsRef<str>>(texts: &[S]) -> Option<usize> {
    let characters: usize = texts.iter().map(|text| text.as_ref().chars().count()).sum();
    characters.checked_div(texts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_not_bytes() {
        assert_eq!(length("naïve 東京 👩‍🚀"), Length { characters: 12, words: 3 });
        assert_eq!(length(""), Length { characters: 0, words: 0 });
    }

    #[test]
    fn the_average_is_cut() {
        assert_eq!(average_length(&["ab", "abc"]), Some(2));
        assert_eq!(average_length::<&str>(&[]), None);
    }
}

//! How much a text repeats itself: the share of its n-grams that occurred before.
//!
//! rep_n = 1 − (different n-grams) / (n-grams). It grows with length by itself, so arms are compared on a prefix of equal
//! length; NEFTune's paper (arXiv 2310.05914, section 5) takes 2-grams of the first 50, 100 and 150 words.

use crate::words::{count_ngrams, prefix};

/// The prefixes, in words, on which arms are compared.
pub const PREFIXES_WORDS: [usize; 3] = [50, 100, 150];

/// Repetition of n-grams of words, from 0 (no n-gram twice) towards 1, over the whole text or a prefix of it.
///
/// `None` where the text is shorter than the prefix, or than `n` words.
pub fn repetition(text: &str, n: usize, prefix_words: Option<usize>) -> Option<f64> {
    let words = prefix(text, prefix_words)?;
    let ngrams = count_ngrams(&words, n)?;
    Some(1.0 - ngrams.unique as f64 / ngrams.total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_pairs_count() {
        // a b | b a | a b | b a: two different out of four.
        assert_eq!(repetition("a b a b a", 2, None), Some(0.5));
        assert_eq!(repetition("a b c d", 2, None), Some(0.0));
    }

    #[test]
    fn only_the_prefix_counts_and_short_texts_are_left_out() {
        assert_eq!(repetition("a b c a b", 2, Some(3)), Some(0.0));
        assert_eq!(repetition("a b", 2, Some(3)), None);
        assert_eq!(repetition("a", 2, None), None);
    }
}

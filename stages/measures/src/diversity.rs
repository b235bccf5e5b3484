//! Log-diversity: how far a text is from repeating itself, on 2-, 3- and 4-grams together.
//!
//! With u_n = (different n-grams) / (n-grams), diversity = u_2 · u_3 · u_4 and
//! log-diversity = −ln(max(1 − diversity, e^−20)), so 20 is a text that repeats nothing
//! (J. Kirchenbauer et al., "On the Reliability of Watermarks for Large Language Models", arXiv 2306.04634, on top of
//! Y. Su et al., SimCTG, arXiv 2202.06417).
//!
//! The implementation behind the figures of NEFTune's paper has two slips. It divides the repetitions 1 − u_n, which are
//! fractions, by 100 as though they were percentages, and it leaves out the last n-gram of each order. The first adds about
//! ln 100 = 4.6 to every value. [`log_diversity`] is the definition; [`log_diversity_paper`] reproduces the published
//! figures, slips and all, and is for comparison with them only.

use crate::words::{count_ngrams, prefix};

/// Orders of the n-grams that count.
const ORDERS: [usize; 3] = [2, 3, 4];

/// The value of a text without any repetition.
pub const MAX_LOG_DIVERSITY: f64 = 20.0;

/// Log-diversity as defined, from 0 (one n-gram over and over) to 20 (no repetition).
///
/// `None` where the text is shorter than the prefix, or than four words.
pub fn log_diversity(text: &str, prefix_words: Option<usize>) -> Option<f64> {
    let words = prefix(text, prefix_words)?;
    Some(minus_log_of_rest(diversity(&words, 1.0)?))
}

/// Log-diversity as the published figures of NEFTune's paper were computed: see the module for its two slips.
///
/// `None` where the text is shorter than the prefix, or than five words.
pub fn log_diversity_paper(text: &str, prefix_words: Option<usize>) -> Option<f64> {
    let words = prefix(text, prefix_words)?;
    let (_last, all_but_last) = words.split_last()?;
    Some(minus_log_of_rest(diversity(all_but_last, 100.0)?))
}

/// Product over the orders of 1 − (1 − u_n) / divisor.
fn diversity(words: &[&str], divisor: f64) -> Option<f64> {
    ORDERS
        .iter()
        .map(|&n| {
            count_ngrams(words, n).map(|ngrams| 1.0 - (1.0 - ngrams.unique as f64 / ngrams.total as f64) / divisor)
        })
        .product()
}

fn minus_log_of_rest(diversity: f64) -> f64 {
    -(1.0 - diversity).max((-MAX_LOG_DIVERSITY).exp()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_repetition_is_the_cap() {
        assert_eq!(log_diversity("one two three four five", None), Some(20.0));
        assert_eq!(log_diversity_paper("one two three four five", None), Some(20.0));
    }

    #[test]
    fn half_the_bigrams_repeated() {
        // 2-grams ab ba ab ba: 2/4; 3-grams aba bab aba: 2/3; 4-grams abab baba: 2/2.
        let expected = -(1.0_f64 - 0.5 * (2.0 / 3.0)).ln();
        assert!((log_diversity("a b a b a", None).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn the_paper_divides_by_100_and_drops_the_last_word() {
        let text = "a b a b a b";
        let expected = -(1.0_f64 - (1.0 - 0.5 / 100.0) * (1.0 - (1.0 / 3.0) / 100.0)).ln();
        assert!((log_diversity_paper(text, None).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn short_texts_have_none() {
        assert_eq!(log_diversity("a b c", None), None);
        assert_eq!(log_diversity_paper("a b c d", None), None);
        assert_eq!(log_diversity_paper("", None), None);
        assert_eq!(log_diversity("a b c d e", Some(50)), None);
    }
}

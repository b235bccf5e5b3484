//! Words and n-grams: the one place that says what a word is.
//!
//! A word is what Python's `str.split()` yields, because the public implementations we agree with are in Python.

use std::collections::HashSet;

/// Python's `str.isspace` for one character: Unicode white space and the four ASCII separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The words of a text, split at runs of white space.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// How many n-grams a sequence of words holds, and how many of them differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NgramCount {
    pub unique: usize,
    pub total: usize,
}

/// Counts the n-grams of a sequence; `None` where it is shorter than `n` words.
pub(crate) fn count_ngrams(words: &[&str], n: usize) -> Option<NgramCount> {
    if n == 0 || words.len() < n {
        return None;
    }
    let unique = words.windows(n).collect::<HashSet<_>>().len();
    Some(NgramCount { unique, total: words.len() + 1 - n })
}

/// The first `length_words` words of a text, or all of them where `None` is asked for.
///
/// `None` comes back for a text that is shorter than the prefix: figures that fall with length must be compared at equal length.
pub(crate) fn prefix(text: &str, length_words: Option<usize>) -> Option<Vec<&str>> {
    match length_words {
        None => Some(words(text).collect()),
        Some(length) => {
            let head: Vec<_> = words(text).take(length).collect();
            (head.len() == length).then_some(head)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_where_python_splits() {
        let text = " a\u{1c}b\u{a0}c\u{3000}d\u{200b}e\n\n";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c", "d\u{200b}e"]);
    }

    #[test]
    fn ngrams_of_a_short_text_are_undefined() {
        assert_eq!(count_ngrams(&["a"], 2), None);
        assert_eq!(count_ngrams(&["a", "b"], 2), Some(NgramCount { unique: 1, total: 1 }));
    }

    #[test]
    fn a_prefix_needs_its_full_length() {
        assert_eq!(prefix("a b c", Some(2)), Some(vec!["a", "b"]));
        assert_eq!(prefix("a b c", Some(4)), None);
    }
}

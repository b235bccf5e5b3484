//! The `13a` tokenizer of mteval-v13a.pl as sacrebleu runs it: language-independent clean-up, then four substitutions.
//!
//! The substitutions are regular expressions over pairs of neighbours in the original. A match consumes both characters,
//! which shows in runs such as `"..."`; [`substitute_pairs`] keeps that.

use crate::words::{is_space, words};

/// The tokens of a segment.
pub(crate) fn tokenize(segment: &str) -> Vec<String> {
    let cleaned = segment
        .trim_end_matches(is_space)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    let spaced = isolate_punctuation(&format!(" {cleaned} "));
    let spaced = substitute_pairs(&spaced, |a| !a.is_ascii_digit(), is_stop, |a, b| [a, ' ', b, ' ']);
    let spaced = substitute_pairs(&spaced, is_stop, |b| !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let spaced = substitute_pairs(&spaced, |a| a.is_ascii_digit(), |b| b == '-', |a, b| [a, ' ', b, ' ']);
    words(&spaced.into_iter().collect::<String>()).map(str::to_owned).collect()
}

fn is_stop(c: char) -> bool {
    c == '.' || c == ','
}

/// ASCII punctuation but the apostrophe, comma, dash and full stop gets a space on both sides.
fn isolate_punctuation(text: &str) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c {
            ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~' => out.extend([' ', c, ' ']),
            _ => out.push(c),
        }
    }
    out
}

/// Replaces each non-overlapping pair of neighbours, found from left to right, by the four characters of `rewrite`.
fn substitute_pairs(
    text: &[char],
    first: impl Fn(char) -> bool,
    second: impl Fn(char) -> bool,
    rewrite: impl Fn(char, char) -> [char; 4],
) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut rest = text;
    loop {
        match *rest {
            [a, b, ..] if first(a) && second(b) => {
                out.extend(rewrite(a, b));
                rest = &rest[2..];
            }
            [a, ..] => {
                out.push(a);
                rest = &rest[1..];
            }
            [] => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_stops_and_words_lose_them() {
        assert_eq!(tokenize("It costs 1,234.50 dollars."), ["It", "costs", "1,234.50", "dollars", "."]);
        assert_eq!(tokenize("2019-2020, can't &amp; won't"), ["2019", "-", "2020", ",", "can't", "&", "won't"]);
    }

    #[test]
    fn a_match_consumes_both_characters() {
        assert_eq!(tokenize("wait..."), ["wait", ".", ".", "."]);
        assert_eq!(tokenize("line-\nbreak\n"), ["linebreak"]);
    }
}

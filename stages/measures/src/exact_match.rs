//! Exact match after the normalisation of SQuAD's evaluation: lower case, ASCII punctuation removed, the articles
//! "a", "an", "the" removed, white space collapsed.
//!
//! Source: P. Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016, official script.

use crate::words::words;

/// Whether the answer equals one of the references after [`normalise`]; `None` without references.
pub fn exact_match<S: AsRef<str>>(answer: &str, references: &[S]) -> Option<bool> {
    if references.is_empty() {
        return None;
    }
    let answer = normalise(answer);
    Some(references.iter().any(|reference| normalise(reference.as_ref()) == answer))
}

/// The form under which two texts count as the same answer.
pub fn normalise(text: &str) -> String {
    let lowered: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let without_articles = blank_articles(&lowered);
    words(&without_articles).collect::<Vec<_>>().join(" ")
}

/// Articles stand between any two characters that are not alphanumeric, not only between spaces ("the—end").
fn blank_articles(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let (word, separator) = piece.split_at(word.len());
        out.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        out.push_str(separator);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_articles_punctuation_and_spacing_do_not_matter() {
        assert_eq!(normalise("  The  Answer: an apple, a pear!\n"), "answer apple pear");
        assert_eq!(normalise("Theatre and the—end"), "theatre and —end");
        assert_eq!(exact_match("The Paris.", &["london", "paris"]), Some(true));
        assert_eq!(exact_match("Paris, France", &["paris"]), Some(false));
    }

    #[test]
    fn unicode_stays() {
        assert_eq!(normalise("ÉCOLE, 東京"), "école 東京");
        assert_eq!(exact_match::<&str>("x", &[]), None);
    }
}

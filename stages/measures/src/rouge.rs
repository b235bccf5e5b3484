//! ROUGE-L, as the Python package `rouge-score` 0.1.2 defines it: its tokenizer, no stemming, best of several references.
//!
//! Source: C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3.1 with beta = 1.

use std::collections::HashMap;

/// Precision, recall and their harmonic mean, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RougeL {
    /// Length of the longest common subsequence over the number of tokens in the answer.
    pub precision: f64,
    /// Length of the longest common subsequence over the number of tokens in the reference.
    pub recall: f64,
    /// Harmonic mean of the two: the figure meant by "ROUGE-L".
    pub fmeasure: f64,
}

/// ROUGE-L of an answer against the reference that suits it best by F-measure (the first of equals).
///
/// `None` without references. An answer or a reference without a single token scores 0.
pub fn rouge_l<S: AsRef<str>>(answer: &str, references: &[S]) -> Option<RougeL> {
    let answer_tokens = tokenize(answer);
    let scores = references.iter().map(|reference| score(&tokenize(reference.as_ref()), &answer_tokens));
    scores.reduce(|best, next| if next.fmeasure > best.fmeasure { next } else { best })
}

/// Lower-cased maximal runs of ASCII letters and digits; every other character only separates.
fn tokenize(text: &str) -> Vec<String> {
    let lowered = text.to_lowercase();
    let runs = lowered.split(|c: char| !c.is_ascii_alphanumeric());
    runs.filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

fn score(reference: &[String], answer: &[String]) -> RougeL {
    let common = longest_common_subsequence(reference, answer) as f64;
    if common == 0.0 {
        return RougeL::default();
    }
    let precision = common / answer.len() as f64;
    let recall = common / reference.len() as f64;
    RougeL { precision, recall, fmeasure: 2.0 * precision * recall / (precision + recall) }
}

/// Bit-parallel length of the longest common subsequence (H. Hyyrö, 2004): 64 cells of the table an instruction.
///
/// Bit i of `row` is 0 where the table grows from column i to i + 1, so the zeros of the last row count the subsequence.
fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let blocks = a.len().div_ceil(64);
    let mut positions: HashMap<&str, Vec<u64>> = HashMap::new();
    for (i, token) in a.iter().enumerate() {
        positions.entry(token).or_insert_with(|| vec![0; blocks])[i / 64] |= 1 << (i % 64);
    }
    let mut row = vec![u64::MAX; blocks];
    for masks in b.iter().filter_map(|token| positions.get(token.as_str())) {
        let mut carry = false;
        for (block, mask) in row.iter_mut().zip(masks) {
            let matched = *block & mask;
            let (sum, overflow) = block.overflowing_add(matched);
            let (sum, overflow_of_carry) = sum.overflowing_add(u64::from(carry));
            carry = overflow || overflow_of_carry;
            *block = sum | (*block & !mask);
        }
    }
    // Bits past the end of `a` never match, hence stay 1.
    row.iter().map(|block| block.count_zeros() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_lcs(a: &[String], b: &[String]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn bit_parallel_agrees_with_the_table() {
        let mut random = crate::random::SplitMix64::new(7);
        for (length_a, length_b) in [(0, 3), (1, 1), (63, 64), (64, 65), (130, 70), (200, 257)] {
            let mut text = |length| (0..length).map(|_| random.index(5).to_string()).collect::<Vec<_>>();
            let (a, b) = (text(length_a), text(length_b));
            assert_eq!(longest_common_subsequence(&a, &b), table_lcs(&a, &b), "{length_a} {length_b}");
        }
    }

    #[test]
    fn no_reference_is_no_score() {
        assert_eq!(rouge_l::<&str>("a", &[]), None);
    }

    #[test]
    fn text_without_ascii_letters_scores_zero() {
        assert_eq!(rouge_l("東京", &["東京"]), Some(RougeL::default()));
    }
}

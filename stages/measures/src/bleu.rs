//! Sentence BLEU-4, as `sacrebleu.sentence_bleu` computes it by default: 13a tokens, case kept, exponential smoothing,
//! effective order, clipped counts over all references and the brevity penalty of the reference closest in length.
//!
//! Sources: Papineni et al. 2002; smoothing method 3 of Chen and Cherry 2014; defaults of sacrebleu 2.6.

use crate::tokenizer_13a::tokenize;
use std::collections::HashMap;

/// The longest n-gram that counts.
const MAX_ORDER: usize = 4;

type NgramCounts<'a> = HashMap<&'a [u32], usize>;

/// BLEU of one answer, from 0 to 100; `None` without references.
pub fn bleu_4<S: AsRef<str>>(answer: &str, references: &[S]) -> Option<f64> {
    let mut vocabulary = HashMap::new();
    let mut numbered = |text: &str| -> Vec<u32> {
        let number = |token| {
            let next = vocabulary.len() as u32;
            *vocabulary.entry(token).or_insert(next)
        };
        tokenize(text).into_iter().map(number).collect()
    };
    let answer = numbered(answer);
    let references: Vec<_> = references.iter().map(|reference| numbered(reference.as_ref())).collect();
    let reference_length = closest_length(answer.len(), references.iter().map(Vec::len))?;
    let matches = match_orders(&answer, &references);
    Some(brevity_penalty(answer.len(), reference_length) * mean_precision(&matches))
}

/// How many n-grams of one order an answer has, and how many of them stand in a reference.
#[derive(Clone, Copy, Debug, Default)]
struct OrderMatch {
    correct: usize,
    total: usize,
}

fn match_orders(answer: &[u32], references: &[Vec<u32>]) -> [OrderMatch; MAX_ORDER] {
    std::array::from_fn(|i| {
        let mut allowed = NgramCounts::new();
        for reference in references {
            for (ngram, count) in count_ngrams(reference, i + 1) {
                let most = allowed.entry(ngram).or_default();
                *most = count.max(*most);
            }
        }
        let found = count_ngrams(answer, i + 1);
        let clipped = found.iter().map(|(ngram, &count)| count.min(allowed.get(ngram).copied().unwrap_or(0)));
        OrderMatch { correct: clipped.sum(), total: found.values().sum() }
    })
}

fn count_ngrams(tokens: &[u32], n: usize) -> NgramCounts<'_> {
    let mut counts = NgramCounts::new();
    for ngram in tokens.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// The reference length nearest to the answer's; of two equally near the shorter.
fn closest_length(answer: usize, references: impl Iterator<Item = usize>) -> Option<usize> {
    references.min_by_key(|&length| (length.abs_diff(answer), length))
}

fn brevity_penalty(answer: usize, reference: usize) -> f64 {
    match answer {
        0 if reference > 0 => 0.0,
        _ if answer < reference => (1.0 - reference as f64 / answer as f64).exp(),
        _ => 1.0,
    }
}

/// Geometric mean of the precisions in percent over the orders that the answer is long enough for.
///
/// The k-th order without a match counts as 1 / 2^k of a match; an answer without any match scores 0.
fn mean_precision(matches: &[OrderMatch; MAX_ORDER]) -> f64 {
    if matches.iter().all(|order| order.correct == 0) {
        return 0.0;
    }
    let effective: Vec<_> = matches.iter().take_while(|order| order.total > 0).collect();
    let mut smoothing = 1.0;
    let log_precisions = effective.iter().map(|order| {
        let correct = if order.correct == 0 {
            smoothing /= 2.0;
            smoothing
        } else {
            order.correct as f64
        };
        (100.0 * correct / order.total as f64).ln()
    });
    (log_precisions.sum::<f64>() / effective.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_score_100_even_when_short() {
        assert!((bleu_4("Paris.", &["Paris."]).unwrap() - 100.0).abs() < 1e-9);
        assert!((bleu_4("a b c d e", &["x", "a b c d e"]).unwrap() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_scores_zero() {
        assert_eq!(bleu_4("", &["a"]), Some(0.0));
        assert_eq!(bleu_4("", &[""]), Some(0.0));
        assert_eq!(bleu_4::<&str>("a", &[]), None);
    }

    #[test]
    fn the_closest_reference_sets_the_penalty() {
        assert_eq!(closest_length(5, [9, 7, 3].into_iter()), Some(3));
    }
}

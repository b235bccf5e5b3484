//! Pairs arms over prompts and seeds: a weighted sum of arms, cell by cell.
//!
//! A plain comparison is `arm − baseline`; an interaction is `(a − b) − (c − d)`. What the scores mean is not known here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One run of an arm: a score for each prompt. The label says which runs of other arms it belongs with (its seed).
#[derive(Clone, Debug, PartialEq)]
pub struct Replicate {
    /// Which replicate, the same text in every arm that shares it: `seed=0`.
    pub label: String,
    /// The score of each prompt, by any name of the prompt that the arms share.
    pub scores: BTreeMap<String, f64>,
}

/// An arm with the weight it has in the contrast.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// +1 for the arm and −1 for the baseline in a plain comparison.
    pub weight: f64,
    /// The arm's runs.
    pub replicates: &'a [Replicate],
}

/// How runs of different arms were matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Runs of equal label were paired; runs without a partner were left out.
    ByReplicate,
    /// As `ByReplicate`, and arms of a single run (an untouched model) were set against every run of the others.
    OneForAll,
    /// The arms share no label: each arm's mean over its runs was taken, so seeds are not in the interval.
    Averaged,
}

/// Why arms cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ContrastError {
    /// An arm has no runs.
    #[error("arm {arm} of the comparison has no runs")]
    NoReplicates {
        /// Place of the arm in the contrast, from 1.
        arm: usize,
    },
    /// An arm has two runs of one label.
    #[error("arm {arm} of the comparison has two runs labelled {label:?}")]
    DuplicateReplicate {
        /// Place of the arm in the contrast, from 1.
        arm: usize,
        /// The label.
        label: String,
    },
    /// A score is NaN or infinite.
    #[error("the score of prompt {prompt:?} in run {label:?} is {score}, expected a finite number")]
    NotFinite {
        /// The run.
        label: String,
        /// The prompt.
        prompt: String,
        /// The score.
        score: f64,
    },
    /// No prompt has a score in all runs.
    #[error("the arms share no prompt: {prompts} different prompts were seen, none in every run")]
    NoSharedPrompt {
        /// How many prompts some run has.
        prompts: usize,
    },
}

/// The contrast of every prompt in every replicate: at least one of each, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    labels: Vec<String>,
    prompts: Vec<String>,
    rows: Vec<Vec<f64>>,
    pairing: Pairing,
    unmatched_prompts: usize,
    unmatched_replicates: usize,
}

impl Contrast {
    /// `arm − baseline`.
    ///
    /// # Errors
    /// See [`ContrastError`].
    pub fn between(arm: &[Replicate], baseline: &[Replicate]) -> Result<Self, ContrastError> {
        Self::of(&[Term { weight: 1.0, replicates: arm }, Term { weight: -1.0, replicates: baseline }])
    }

    /// The weighted sum of several arms.
    ///
    /// # Errors
    /// See [`ContrastError`].
    pub fn of(terms: &[Term<'_>]) -> Result<Self, ContrastError> {
        check(terms)?;
        let (pairing, labels) = match_replicates(terms);
        let aligned: Vec<_> = terms.iter().map(|term| align(term.replicates, &labels, pairing)).collect();
        let (shared, seen) = shared_prompts(aligned.iter().flatten());
        if shared.is_empty() {
            return Err(ContrastError::NoSharedPrompt { prompts: seen });
        }
        let cell = |replicate: usize, prompt: &str| -> f64 {
            terms.iter().zip(&aligned).map(|(term, runs)| term.weight * runs[replicate].scores[prompt]).sum()
        };
        let rows = (0..labels.len()).map(|r| shared.iter().map(|prompt| cell(r, prompt)).collect()).collect();
        let all_labels: BTreeSet<_> = terms.iter().flat_map(|term| term.replicates).map(|run| &run.label).collect();
        let unmatched_replicates = match pairing {
            Pairing::ByReplicate => all_labels.len() - labels.len(),
            Pairing::OneForAll | Pairing::Averaged => 0,
        };
        Ok(Self {
            rows,
            pairing,
            unmatched_prompts: seen - shared.len(),
            unmatched_replicates,
            prompts: shared,
            labels,
        })
    }

    /// The replicates, sorted by label: the rows of [`Self::rows`].
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The prompts that every run has, sorted: the columns of [`Self::rows`].
    pub fn prompts(&self) -> &[String] {
        &self.prompts
    }

    /// The contrast, by replicate and prompt.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// How the runs were matched.
    pub fn pairing(&self) -> Pairing {
        self.pairing
    }

    /// How many prompts were left out because some run lacks them (an unreadable judgement, say).
    pub fn unmatched_prompts(&self) -> usize {
        self.unmatched_prompts
    }

    /// How many replicate labels were left out because some arm lacks them.
    pub fn unmatched_replicates(&self) -> usize {
        self.unmatched_replicates
    }

    /// The contrast of each prompt, averaged over replicates.
    pub fn prompt_means(&self) -> Vec<f64> {
        let replicates = self.rows.len() as f64;
        (0..self.prompts.len()).map(|i| self.rows.iter().map(|row| row[i]).sum::<f64>() / replicates).collect()
    }

    /// The contrast of each replicate, averaged over prompts: the points that a chart shows.
    pub fn replicate_means(&self) -> Vec<f64> {
        self.rows.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).collect()
    }
}

fn check(terms: &[Term<'_>]) -> Result<(), ContrastError> {
    for (arm, term) in (1..).zip(terms) {
        if term.replicates.is_empty() {
            return Err(ContrastError::NoReplicates { arm });
        }
        let mut labels = BTreeSet::new();
        for run in term.replicates {
            if !labels.insert(&run.label) {
                return Err(ContrastError::DuplicateReplicate { arm, label: run.label.clone() });
            }
            if let Some((prompt, &score)) = run.scores.iter().find(|(_, score)| !score.is_finite()) {
                return Err(ContrastError::NotFinite { label: run.label.clone(), prompt: prompt.clone(), score });
            }
        }
    }
    Ok(())
}

/// Which replicates the contrast has. Labels that all arms share come first, then those that all arms of several runs share.
fn match_replicates(terms: &[Term<'_>]) -> (Pairing, Vec<String>) {
    let shared = shared_labels(terms.iter());
    if !shared.is_empty() {
        return (Pairing::ByReplicate, shared);
    }
    let of_several = shared_labels(terms.iter().filter(|term| term.replicates.len() > 1));
    if !of_several.is_empty() {
        return (Pairing::OneForAll, of_several);
    }
    (Pairing::Averaged, vec!["mean".to_owned()])
}

fn shared_labels<'a>(terms: impl Iterator<Item = &'a Term<'a>>) -> Vec<String> {
    let sets = terms.map(|term| term.replicates.iter().map(|run| run.label.as_str()).collect::<BTreeSet<_>>());
    let shared = sets.reduce(|a, b| &a & &b).unwrap_or_default();
    shared.into_iter().map(str::to_owned).collect()
}

/// An arm's run for each label of the contrast.
fn align<'a>(runs: &'a [Replicate], labels: &[String], pairing: Pairing) -> Vec<Cow<'a, Replicate>> {
    if pairing == Pairing::Averaged {
        return vec![average(runs)];
    }
    let run_of = |label: &String| runs.iter().find(|run| run.label == *label).unwrap_or(&runs[0]);
    labels.iter().map(|label| Cow::Borrowed(run_of(label))).collect()
}

fn average(runs: &[Replicate]) -> Cow<'_, Replicate> {
    if let [only] = runs {
        return Cow::Borrowed(only);
    }
    let mean = |prompt: &str| runs.iter().map(|run| run.scores[prompt]).sum::<f64>() / runs.len() as f64;
    let (shared, _) = shared_prompts(runs.iter());
    let scores = shared.into_iter().map(|prompt| (prompt.clone(), mean(&prompt))).collect();
    Cow::Owned(Replicate { label: "mean".to_owned(), scores })
}

/// The prompts that all runs have, and how many some run has.
fn shared_prompts<R: AsRef<Replicate>>(runs: impl Iterator<Item = R> + Clone) -> (Vec<String>, usize) {
    let mut runs_with: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for run in runs {
        count += 1;
        for prompt in run.as_ref().scores.keys() {
            *runs_with.entry(prompt.clone()).or_default() += 1;
        }
    }
    let seen = runs_with.len();
    let shared = runs_with.into_iter().filter(|&(_, with)| with == count).map(|(prompt, _)| prompt);
    (shared.collect(), seen)
}

impl AsRef<Replicate> for Replicate {
    fn as_ref(&self) -> &Replicate {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(label: &str, scores: &[(&str, f64)]) -> Replicate {
        let scores = scores.iter().map(|&(prompt, score)| (prompt.to_owned(), score)).collect();
        Replicate { label: label.to_owned(), scores }
    }

    #[test]
    fn runs_of_equal_label_are_paired() {
        let arm = [run("1", &[("a", 3.0), ("b", 5.0)]), run("0", &[("a", 1.0), ("b", 2.0)])];
        let baseline = [run("0", &[("a", 0.5), ("b", 0.5), ("c", 9.0)]), run("2", &[("a", 7.0)])];
        let contrast = Contrast::between(&arm, &baseline).unwrap();
        assert_eq!(contrast.labels(), ["0"]);
        assert_eq!(contrast.rows(), [[0.5, 1.5]]);
        assert_eq!((contrast.unmatched_prompts(), contrast.unmatched_replicates()), (1, 2));
        assert_eq!(contrast.pairing(), Pairing::ByReplicate);
    }

    #[test]
    fn a_single_run_stands_against_all() {
        let arm = [run("0", &[("a", 1.0)]), run("1", &[("a", 2.0)])];
        let contrast = Contrast::between(&arm, &[run("", &[("a", 0.5)])]).unwrap();
        assert_eq!(contrast.rows(), [[0.5], [1.5]]);
        assert_eq!(contrast.pairing(), Pairing::OneForAll);
        assert_eq!(contrast.replicate_means(), [0.5, 1.5]);
        assert_eq!(contrast.prompt_means(), [1.0]);
    }

    #[test]
    fn foreign_seeds_are_averaged() {
        let arm = [run("0", &[("a", 1.0)]), run("1", &[("a", 2.0)])];
        let baseline = [run("7", &[("a", 0.0)]), run("8", &[("a", 1.0)])];
        let contrast = Contrast::between(&arm, &baseline).unwrap();
        assert_eq!(contrast.rows(), [[1.0]]);
        assert_eq!(contrast.pairing(), Pairing::Averaged);
    }

    #[test]
    fn an_interaction_is_a_contrast_of_four() {
        let arms = [4.0, 1.0, 2.0, 0.5].map(|score| [run("0", &[("a", score)])]);
        let weights = [1.0, -1.0, -1.0, 1.0];
        let terms: Vec<_> =
            weights.iter().zip(&arms).map(|(&weight, runs)| Term { weight, replicates: runs.as_slice() }).collect();
        assert_eq!(Contrast::of(&terms).unwrap().rows(), [[1.5]]);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let good = [run("0", &[("a", 1.0)])];
        let error = |arm: &[Replicate]| Contrast::between(&good, arm).unwrap_err();
        assert_eq!(error(&[]), ContrastError::NoReplicates { arm: 2 });
        assert_eq!(error(&[run("0", &[("b", 1.0)])]), ContrastError::NoSharedPrompt { prompts: 2 });
        assert!(matches!(error(&[run("0", &[("a", f64::NAN)])]), ContrastError::NotFinite { .. }));
        let twice = [run("0", &[]), run("0", &[])];
        assert_eq!(error(&twice), ContrastError::DuplicateReplicate { arm: 2, label: "0".into() });
    }
}

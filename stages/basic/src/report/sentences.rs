//! Plain words for what the figures show: one summary an arm, and what a reader must bear in mind.

use indexmap::{IndexMap, IndexSet};
use neftpipe_measures::comparison::Finding;
use neftpipe_measures::numerals::{Numerals, decimal};
use neftpipe_measures::screening::Screening;
use neftpipe_measures::sentence::{Quantity, count};
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::request::Missing;
use neftpipe_protocol::training::SharedSteps;
use serde::Serialize;

use super::collect::AnswerSet;
use super::figures::Figure;
use super::lineage::Role;
use super::measures::Subject;
use super::place::display;
use super::statistics::{Difference, Differences};

/// Below this many seeds an interval says little about how results vary between seeds.
const FEW_SEEDS: usize = 5;
/// Below this many prompts or rows only large effects can be seen.
const FEW_PROMPTS: usize = 100;

/// What can be said of one arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The arm.
    pub arm: String,
    /// What it was compared with.
    pub baseline: String,
    /// What differs, as `loss on trained rows is higher by 0.031 nats`.
    pub claims: Vec<String>,
    /// What cannot be told apart, as `loss on held-out rows`.
    pub open: Vec<String>,
    /// What was exactly equal.
    pub equal: Vec<String>,
}

/// Summaries of the arms of some figures, without those that a judge made.
pub fn summaries<'a>(figures: impl Iterator<Item = (&'a Figure, &'a Differences)>) -> Vec<Summary> {
    let mut summaries: IndexMap<String, Summary> = IndexMap::new();
    for (figure, differences) in figures.filter(|(figure, _)| figure.measure.subject != Subject::Preference) {
        for (arm, difference) in differences.by_arm.iter().chain(&differences.interactions) {
            let summary = summaries.entry(arm.clone()).or_insert_with(|| Summary {
                arm: arm.clone(),
                baseline: difference.baseline.clone(),
                claims: Vec::new(),
                open: Vec::new(),
                equal: Vec::new(),
            });
            match difference.judged.finding {
                Finding::Higher => summary.claims.push(claim(figure, difference, "higher")),
                Finding::Lower => summary.claims.push(claim(figure, difference, "lower")),
                Finding::Identical => summary.equal.push(figure.phrase.clone()),
                Finding::NotDistinguishable | Finding::NotAfterCorrection | Finding::TooFewPrompts => {
                    summary.open.push(figure.phrase.clone());
                }
            }
        }
    }
    summaries.into_values().collect()
}

/// What training takes when runs that agree up to a step share it. None where the lineage does not tell.
pub fn of_steps(steps: SharedSteps) -> Option<String> {
    let SharedSteps { runs, asked, distinct, unknown } = steps;
    let asks = if runs == 1 { "asks" } else { "ask" };
    let shared = if distinct < asked {
        format!("; runs that agree up to a step share it, so {distinct} make them all")
    } else if runs > 1 {
        ", of which they share none".to_owned()
    } else {
        String::new()
    };
    let known = format!(
        "{} {asks} for {}{shared}.",
        count(runs, "training run"),
        count(usize::try_from(asked).unwrap_or(usize::MAX), "optimizer step")
    );
    match (runs, unknown) {
        (0, _) => None,
        (_, 0) => Some(known),
        (_, unknown) => Some(format!("{known} Of {unknown} more the steps are not known.")),
    }
}

/// What the report does without, a sentence each.
pub fn of_missing(missing: &[Missing]) -> Vec<String> {
    let each: IndexSet<&Missing> = missing.iter().collect();
    each.into_iter().map(|Missing { stage, why }| format!("{stage} is missing: it {why}.")).collect()
}

fn claim(figure: &Figure, difference: &Difference, direction: &str) -> String {
    let numerals = Numerals::of(&difference.judged, &figure.quantity);
    let size = numerals.write(difference.judged.comparison.bootstrap.mean.abs());
    format!("{} is {direction} by {}", figure.phrase, in_unit(size, &figure.quantity))
}

/// A value with its unit: `0.031 nats`, `12.5%`.
pub fn with_unit(value: f64, quantity: &Quantity<'_>) -> String {
    in_unit(number(value, quantity), quantity)
}

fn in_unit(number: String, quantity: &Quantity<'_>) -> String {
    match quantity.unit {
        "" => number,
        "%" => format!("{number}%"),
        unit => format!("{number} {unit}"),
    }
}

/// A value in the unit of its quantity, with a true minus sign and no sign before 0.
pub fn number(value: f64, quantity: &Quantity<'_>) -> String {
    decimal(value * quantity.scale, quantity.decimals)
}

/// What stands out in some answers, in words. Answers are counted from 1, as people do.
pub fn what_stands_out(found: &Screening) -> Vec<String> {
    let mut texts = Vec::new();
    if !found.empty.is_empty() {
        texts.push(format!("{} empty", found.empty.len()));
    }
    let sizes: Vec<String> = found.constant.iter().map(|rows| rows.len().to_string()).collect();
    match sizes.as_slice() {
        [] => {}
        [only] => texts.push(format!("one answer given {only} times")),
        [most @ .., least] => {
            texts.push(format!("{} answers given {} and {least} times", sizes.len(), most.join(", ")));
        }
    }
    texts.extend(found.markers.iter().map(|marker| format!("answer {} holds “{}”", marker.row + 1, marker.phrase)));
    texts
}

/// A p-value to two significant digits, `< 0.001` below.
pub fn p_value(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".to_owned()
    } else if p < 0.0995 {
        format!("{p:.3}")
    } else {
        format!("{p:.2}")
    }
}

/// What a reader must bear in mind about the size of the experiment.
pub fn notes(figures: &[Figure], params: &ReportParams) -> Vec<String> {
    let mut notes = Vec::new();
    if !figures.iter().flat_map(|figure| figure.arms.values()).any(|arm| arm.is_baseline) {
        notes.push(no_baseline(params));
    }
    notes.extend(of_seeds(figures));
    let small: Vec<String> = sizes(figures)
        .into_iter()
        .filter(|&(_, n)| n < FEW_PROMPTS)
        .map(|((noun, more), n)| format!("{}{more}", count(n, noun)))
        .collect();
    let compared =
        figures.iter().any(|figure| figure.arms.values().any(|arm| arm.is_baseline) && figure.arms.len() > 1);
    if compared && !small.is_empty() {
        notes.push(format!(
            "A small experiment ({}): each sentence names the smallest effect that it could have shown; anything below that \
             may be there unseen.",
            small.join(", ")
        ));
    }
    notes
}

/// How little so few seeds tell. Arms may have different numbers of them: an untouched model has one run.
fn of_seeds(figures: &[Figure]) -> Option<String> {
    let runs = || figures.iter().flat_map(|figure| figure.arms.values()).map(|arm| arm.replicates.len());
    let (fewest, most) = (runs().min()?, runs().max()?);
    let seeds = if fewest < most { format!("Up to {most} seeds") } else { format!("{most} seeds") };
    match most {
        1 => Some(
            "One run an arm: the intervals speak of prompts alone. Another seed may well show another sign.".to_owned(),
        ),
        _ if most < FEW_SEEDS => Some(format!(
            "{seeds} an arm: the intervals count them in, but so few say little about how results vary between seeds."
        )),
        _ => None,
    }
}

/// What judges left out. A difference is taken over the prompts that all of its runs have a judgement of.
pub fn of_unjudged(answers: &[AnswerSet]) -> Option<String> {
    let judgements = || answers.iter().flat_map(|set| &set.judgements);
    let without: usize = judgements().map(|judgement| judgement.n_unjudged).sum();
    let all = without + judgements().map(|judgement| judgement.line.n_total).sum::<usize>();
    let (have, they) = if without == 1 { ("has", "it counts") } else { ("have", "they count") };
    (without > 0).then(|| {
        format!(
            "{without} of {} {have} no judgement that could be read: {they} in no figure, and differences leave the prompts out.",
            count(all, "comparison")
        )
    })
}

/// What a reader must bear in mind of the judges: differences are between verdicts of the first judge of each arm.
pub fn of_judges(answers: &[AnswerSet]) -> Option<String> {
    let first = |set: &'_ AnswerSet| set.judgements.first().map(|judgement| judgement.annotator.clone());
    let judges: IndexSet<String> = answers.iter().filter_map(first).collect();
    (judges.len() > 1).then(|| {
        let judges = judges.into_iter().collect::<Vec<_>>().join(", ");
        format!("Not all arms had the same judge ({judges}): a difference between what two of them preferred is also one of judges.")
    })
}

fn no_baseline(params: &ReportParams) -> String {
    if params.baseline.is_empty() {
        return "No arm is named as the baseline, so nothing is compared.".to_owned();
    }
    let axis = |(axis, value): (&String, &serde_json::Value)| format!("{axis}={}", display(value));
    let baseline: Vec<_> = params.baseline.iter().map(axis).collect();
    format!("No input is the baseline {}, so nothing is compared.", baseline.join(", "))
}

/// How many prompts or rows the compared figures have, each kind once.
fn sizes(figures: &[Figure]) -> IndexMap<(&'static str, &'static str), usize> {
    let mut sizes: IndexMap<(&str, &str), usize> = IndexMap::new();
    for figure in figures.iter().filter(|figure| figure.measure.is_compared) {
        let what = match (figure.measure.subject, figure.role) {
            (Subject::TrainedRows, _) => ("trained row", " probed"),
            (Subject::HeldOutRows, _) => ("held-out row", " probed"),
            (_, Some(Role::Trained)) => ("trained prompt", ""),
            (_, Some(Role::HeldOut)) => ("held-out prompt", ""),
            _ => ("prompt", ""),
        };
        let n = figure.arms.values().flat_map(|arm| &arm.replicates).map(|run| run.scores.len()).max().unwrap_or(0);
        let size = sizes.entry(what).or_insert(n);
        *size = n.min(*size);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_their_unit() {
        let share = Quantity { unit: "%", scale: 100.0, decimals: 1, better: None };
        assert_eq!(with_unit(-0.125, &share), "−12.5%");
        assert_eq!(number(-0.0001, &share), "0.0");
        let nats = Quantity { unit: "nats", scale: 1.0, decimals: 3, better: None };
        assert_eq!(with_unit(1.5, &nats), "1.500 nats");
    }

    #[test]
    fn shared_steps_are_said_in_a_sentence() {
        let say = |runs, asked, distinct, unknown| of_steps(SharedSteps { runs, asked, distinct, unknown });
        let shared =
            "8 training runs ask for 192 optimizer steps; runs that agree up to a step share it, so 120 make them all.";
        assert_eq!(say(8, 192, 120, 0).as_deref(), Some(shared));
        assert_eq!(say(1, 16, 16, 0).as_deref(), Some("1 training run asks for 16 optimizer steps."));
        let some =
            "2 training runs ask for 32 optimizer steps, of which they share none. Of 1 more the steps are not known.";
        assert_eq!(say(2, 32, 32, 1).as_deref(), Some(some));
        assert_eq!(say(0, 0, 0, 2), None);
    }

    #[test]
    fn what_stands_out_is_said_in_a_few_words() {
        let groups = |sizes: &[usize]| Screening {
            constant: sizes.iter().map(|&size| (0..size).collect()).collect(),
            ..Screening::default()
        };
        assert_eq!(what_stands_out(&groups(&[24])), ["one answer given 24 times"]);
        let found = Screening { empty: vec![7], ..groups(&[24, 21, 4]) };
        assert_eq!(what_stands_out(&found), ["1 empty", "3 answers given 24, 21 and 4 times"]);
    }

    #[test]
    fn small_p_values_are_bounded() {
        assert_eq!([0.00002, 0.0123, 0.4, 1.0].map(p_value), ["< 0.001", "0.012", "0.40", "1.00"]);
    }
}

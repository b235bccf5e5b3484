//! One plain sentence for a comparison: effect, interval, what may be said, and what the experiment could have shown.

use crate::comparison::{Comparison, FEWEST_PROMPTS, Finding, Judged};
use crate::contrast::Pairing;
use crate::numerals::Numerals;

/// What the numbers of a comparison are, for the sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantity<'a> {
    /// The unit after the number: `points`, `characters`, `nats`.
    pub unit: &'a str,
    /// What a value is multiplied by for that unit: 100 from shares to points.
    pub scale: f64,
    /// Digits after the point; a comparison has more where a number of it would read as 0 without being 0.
    pub decimals: usize,
    /// Which way is better; `None` where neither is, as for length.
    pub better: Option<Better>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better: a win rate.
    Higher,
    /// Less is better: a loss.
    Lower,
}

/// The sentence, without a full stop: "+2.1 points, 95% interval −0.8 to 5.0: not distinguishable from plain at n = 252, …".
pub fn sentence(judged: &Judged, baseline: &str, quantity: &Quantity<'_>) -> String {
    let comparison = &judged.comparison;
    let (n, runs) = (comparison.n_prompts, runs(comparison));
    if judged.finding == Finding::Identical {
        let prompts = if n == 1 { "n = 1 prompt".to_owned() } else { format!("any of n = {n} prompts") };
        return format!("no difference from {baseline} on {prompts}, {runs}");
    }
    let numerals = Numerals::of(judged, quantity);
    let interval = comparison.spread().map_or(String::new(), |interval| {
        format!(", 95% interval {} to {}", numerals.write(interval.low), numerals.write(interval.high))
    });
    let smallest = if judged.finding == Finding::TooFewPrompts {
        "no effect could have been shown".to_owned()
    } else {
        let effect = numerals.write(judged.smallest_detectable);
        format!("smallest effect that this n could have shown: {effect} {}", quantity.unit)
    };
    format!(
        "{} {}{interval}: {} at n = {n}, {runs}; {smallest}",
        numerals.signed(comparison.bootstrap.mean),
        quantity.unit,
        claim(judged, baseline, quantity.better),
    )
}

/// How many runs were paired. One run that stands against several (that of an untouched model) makes no seeds of its own.
fn runs(comparison: &Comparison) -> String {
    let seeds = count(comparison.replicates.len(), "seed");
    match comparison.pairing {
        Pairing::ByReplicate => seeds,
        Pairing::OneForAll => format!("1 run beside {seeds}"),
        Pairing::Averaged => "seeds not paired".to_owned(),
    }
}

fn claim(judged: &Judged, baseline: &str, better: Option<Better>) -> String {
    let good = match judged.finding {
        Finding::Higher => Better::Higher,
        Finding::Lower => Better::Lower,
        Finding::TooFewPrompts => {
            return format!("too few prompts (under {FEWEST_PROMPTS}) to tell from {baseline}");
        }
        Finding::NotAfterCorrection => {
            let comparisons = count(judged.family_size, "comparison");
            return format!("not distinguishable from {baseline} after Holm's correction over {comparisons}");
        }
        Finding::NotDistinguishable | Finding::Identical => {
            return format!("not distinguishable from {baseline}");
        }
    };
    match (better, good) {
        (None, Better::Higher) => format!("higher than {baseline}"),
        (None, Better::Lower) => format!("lower than {baseline}"),
        (Some(better), direction) if better == direction => format!("a gain over {baseline}"),
        (Some(_), _) => format!("a loss against {baseline}"),
    }
}

/// `1 run`, `2 runs`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{BootstrapMean, Interval};
    use crate::sign_test::SignTest;

    const POINTS: Quantity<'_> = Quantity { unit: "points", scale: 100.0, decimals: 1, better: Some(Better::Higher) };

    fn judged(mean: f64, low: f64, high: f64, finding: Finding) -> Judged {
        let bootstrap = BootstrapMean { mean, standard_error: 0.0148, interval: Interval { low, high }, p_value: 0.03 };
        let comparison = Comparison {
            n_prompts: 252,
            unmatched_prompts: 0,
            pairing: Pairing::ByReplicate,
            replicates: vec![("0".into(), mean), ("1".into(), mean)],
            bootstrap,
            sign_test: Some(SignTest { ahead: 1, behind: 1, ties: 250, p_value: 1.0 }),
        };
        Judged {
            comparison,
            finding,
            family_size: 3,
            p_holm: 0.06,
            sign_p_holm: Some(1.0),
            smallest_detectable: 0.0414,
        }
    }

    #[test]
    fn what_is_not_distinguishable_says_so() {
        assert_eq!(
            sentence(&judged(0.021, -0.008, 0.05, Finding::NotDistinguishable), "plain", &POINTS),
            "+2.1 points, 95% interval −0.8 to 5.0: not distinguishable from plain at n = 252, 2 seeds; \
             smallest effect that this n could have shown: 4.1 points"
        );
    }

    #[test]
    fn gains_and_losses_depend_on_which_way_is_better() {
        let lower = judged(-0.3, -0.4, -0.2, Finding::Lower);
        let loss = Quantity { unit: "nats", scale: 1.0, decimals: 3, better: Some(Better::Lower) };
        let text = sentence(&lower, "plain", &loss);
        assert!(text.starts_with("−0.300 nats, 95% interval −0.400 to −0.200: a gain over plain at n = 252"), "{text}");
        assert!(sentence(&lower, "plain", &POINTS).contains("a loss against plain"));
        assert!(sentence(&lower, "plain", &Quantity { better: None, ..loss }).contains("lower than plain"));
    }

    #[test]
    fn correction_and_size_are_named() {
        let corrected = sentence(&judged(0.02, 0.001, 0.05, Finding::NotAfterCorrection), "plain", &POINTS);
        assert!(corrected.contains("not distinguishable from plain after Holm's correction over 3 comparisons"));
        assert!(sentence(&judged(0.2, 0.1, 0.5, Finding::TooFewPrompts), "plain", &POINTS).contains("too few prompts"));
        let identical = sentence(&judged(0.0, 0.0, 0.0, Finding::Identical), "plain", &POINTS);
        assert_eq!(identical, "no difference from plain on any of n = 252 prompts, 2 seeds");
    }

    #[test]
    fn one_prompt_spreads_nothing_and_shows_nothing() {
        let mut one = judged(0.021, 0.021, 0.021, Finding::TooFewPrompts);
        one.comparison.n_prompts = 1;
        one.smallest_detectable = 2e-15;
        assert_eq!(
            sentence(&one, "plain", &POINTS),
            "+2.1 points: too few prompts (under 10) to tell from plain at n = 1, 2 seeds; no effect could have been shown"
        );
        one.finding = Finding::Identical;
        assert_eq!(sentence(&one, "plain", &POINTS), "no difference from plain on n = 1 prompt, 2 seeds");
    }

    #[test]
    fn one_run_beside_several_seeds_is_not_as_many_seeds() {
        let said = |pairing| {
            let mut judged = judged(0.021, -0.008, 0.05, Finding::NotDistinguishable);
            judged.comparison.pairing = pairing;
            sentence(&judged, "plain", &POINTS)
        };
        assert!(said(Pairing::OneForAll).contains("at n = 252, 1 run beside 2 seeds;"));
        assert!(said(Pairing::Averaged).contains("at n = 252, seeds not paired;"));
    }

    #[test]
    fn an_interval_that_leaves_out_zero_never_reads_as_zero() {
        let text = sentence(&judged(0.02, 0.0001, 0.05, Finding::Higher), "plain", &POINTS);
        assert!(text.starts_with("+2.00 points, 95% interval 0.01 to 5.00: a gain"), "{text}");
        let text = sentence(&judged(-0.0002, -0.01, 0.01, Finding::NotDistinguishable), "plain", &POINTS);
        assert!(text.starts_with("0.0 points, 95% interval −1.0 to 1.0: not"), "{text}");
        let text = sentence(&judged(0.02, 1e-9, 0.05, Finding::Higher), "plain", &POINTS);
        assert!(text.contains("interval 0.0000001 to 5.0000000: a gain"), "{text}");
    }
}

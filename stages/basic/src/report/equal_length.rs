//! What remains of a difference in win rates once length is controlled for, in a sentence an arm.
//!
//! It only puts figures of verdicts side by side, with the intervals that their comparison found.

use indexmap::IndexMap;
use neftpipe_measures::numerals::decimal;
use neftpipe_measures::summary::mean;

use super::collect::AnswerSet;
use super::figures::Figure;
use super::measures::{LC_WIN_RATE, Measure, WIN_RATE};
use super::statistics::Differences;
use super::table::with_interval;

/// Judgements that may be compared: of one column, one judge, one opponent.
type Group<'a> = (Vec<&'a str>, &'a str, &'a str);

/// Win rates of an arm's runs, raw and at equal length, in percent.
#[derive(Default)]
struct Rates {
    is_baseline: bool,
    /// Whether the figures compare these judgements: of several judges of some answers they take the first.
    is_compared: bool,
    raw: Vec<f64>,
    controlled: Vec<f64>,
}

/// The sentences.
pub fn sentences(answers: &[AnswerSet], figures: &[(Figure, Differences)]) -> Vec<String> {
    let mut groups: IndexMap<Group<'_>, IndexMap<&str, Rates>> = IndexMap::new();
    for set in answers {
        for (at, judgement) in set.judgements.iter().enumerate() {
            let (Some(raw), Some(controlled)) = (judgement.line.win_rate, judgement.line.length_controlled_winrate)
            else {
                continue;
            };
            let column = set.place.column.values().map(String::as_str).collect();
            let arms = groups.entry((column, &judgement.annotator, &judgement.reference)).or_default();
            let rates = arms.entry(&set.place.arm).or_default();
            rates.is_baseline = set.place.is_baseline;
            rates.is_compared = at == 0 && (rates.is_compared || rates.raw.is_empty());
            rates.raw.push(raw);
            rates.controlled.push(controlled);
        }
    }
    groups.iter().flat_map(|((column, ..), arms)| of_group(column, arms, figures)).collect()
}

/// The difference of an arm as the comparison has it: `+5.3 [2.1, 8.5]`.
fn compared(figures: &[(Figure, Differences)], measure: &Measure, column: &[&str], arm: &str) -> Option<String> {
    let is_it = |figure: &Figure| figure.measure.name == measure.name && figure.column.values().eq(column);
    let (figure, found) = figures.iter().find(|(figure, _)| is_it(figure))?;
    Some(with_interval(found.by_arm.get(arm)?, &figure.quantity))
}

fn of_group(column: &[&str], arms: &IndexMap<&str, Rates>, figures: &[(Figure, Differences)]) -> Vec<String> {
    let Some((baseline, base)) = arms.iter().find(|(_, rates)| rates.is_baseline) else { return Vec::new() };
    let place = if column.is_empty() { String::new() } else { format!(" ({})", column.join(", ")) };
    let sentence = |(arm, rates): (&&str, &Rates)| {
        let difference = |of: fn(&Rates) -> &Vec<f64>| Some(mean(of(rates))? - mean(of(base))?);
        let (raw, controlled) = (difference(|rates| &rates.raw)?, difference(|rates| &rates.controlled)?);
        let figures = if rates.is_compared && base.is_compared { figures } else { &[] };
        let text = |measure, difference| compared(figures, measure, column, arm).unwrap_or_else(|| signed(difference));
        Some(format!(
            "{arm} against {baseline}{place}: {} points by win rate, {} at equal length.",
            text(&WIN_RATE, raw),
            text(&LC_WIN_RATE, controlled)
        ))
    };
    arms.iter().filter(|(_, rates)| !rates.is_baseline).filter_map(sentence).collect()
}

/// With a sign and one decimal: `+5.3`, `−0.4`.
fn signed(value: f64) -> String {
    let text = decimal(value, 1);
    if value > 0.0 && text != "0.0" { format!("+{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_stand_side_by_side() {
        let rates = |is_baseline, raw: &[f64], controlled: &[f64]| Rates {
            is_baseline,
            is_compared: true,
            raw: raw.to_vec(),
            controlled: controlled.to_vec(),
        };
        let mut arms = IndexMap::from([
            ("neft5", rates(false, &[61.0, 62.0], &[31.6, 25.6])),
            ("plain", rates(true, &[26.5], &[28.6])),
        ]);
        assert_eq!(
            of_group(&["alpaca"], &arms, &[]),
            ["neft5 against plain (alpaca): +35.0 points by win rate, 0.0 at equal length."]
        );
        arms.shift_remove("plain");
        assert!(of_group(&[], &arms, &[]).is_empty());
        assert_eq!([signed(-0.44), signed(-0.01)], ["−0.4", "0.0"]);
    }
}

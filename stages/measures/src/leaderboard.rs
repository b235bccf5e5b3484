//! The line that AlpacaEval's leaderboard prints for a model, from its annotations alone.
//!
//! Knows the rows of an annotation file, not where the file came from.

use crate::length::{average_length, length};
use crate::length_control::{JudgedPair, LengthControl, LengthControlError, Strength, length_controlled};
use crate::win_rate::{WinRate, win_rate};
use serde::{Deserialize, Deserializer, Serialize};

/// One row of an annotation file; what else stands in the row is not needed here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Annotation {
    /// The instruction, input included.
    pub instruction: String,
    /// The reference's output.
    pub output_1: String,
    /// The model's output.
    pub output_2: String,
    /// The reference's name.
    #[serde(default, deserialize_with = "text_or_null")]
    pub generator_1: String,
    /// The model's name.
    #[serde(default, deserialize_with = "text_or_null")]
    pub generator_2: String,
    /// 1 for the reference to 2 for the model; `None` where the judgement could not be read.
    pub preference: Option<f64>,
}

/// Reads a text, empty where it is null: so alpaca_eval leaves a name that it has not looked at.
///
/// # Errors
/// Where it is neither.
pub fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The figures under the names that the leaderboard gives them, in its order. Rates are percentages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaderboardLine {
    /// See [`WinRate::win_rate`].
    pub win_rate: Option<f64>,
    /// See [`WinRate::standard_error`].
    pub standard_error: Option<f64>,
    /// See [`WinRate::n_wins`].
    pub n_wins: usize,
    /// See [`WinRate::n_wins_base`].
    pub n_wins_base: usize,
    /// See [`WinRate::n_draws`].
    pub n_draws: usize,
    /// See [`WinRate::n_total`].
    pub n_total: usize,
    /// See [`WinRate::discrete_win_rate`].
    pub discrete_win_rate: Option<f64>,
    /// Mean characters of the model's outputs, cut to a whole number.
    pub avg_length: Option<usize>,
    /// The win rate at equal length, where length control was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length_controlled_winrate: Option<f64>,
    /// Its standard error over prompts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lc_standard_error: Option<f64>,
}

/// A line with what its length-controlled rate is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The line.
    pub line: LeaderboardLine,
    /// What each annotation contributes to the length-controlled win rate, where there is one: see
    /// [`LengthControlled::pseudo_values`](crate::length_control::LengthControlled::pseudo_values).
    pub lc_pseudo_values: Option<Vec<f64>>,
}

/// The line of these annotations, with length control where its data and C are given.
///
/// # Errors
/// Where length control is asked for and cannot be done: see [`LengthControlError`].
pub fn leaderboard_line(
    annotations: &[Annotation],
    control: Option<(&LengthControl, Strength)>,
) -> Result<LeaderboardLine, LengthControlError> {
    Ok(scored(annotations, control)?.line)
}

/// The same with a value for each annotation.
///
/// # Errors
/// As [`leaderboard_line`].
pub fn scored(
    annotations: &[Annotation],
    control: Option<(&LengthControl, Strength)>,
) -> Result<Scored, LengthControlError> {
    let preferences: Vec<_> = annotations.iter().map(|row| row.preference).collect();
    let outputs: Vec<_> = annotations.iter().map(|row| row.output_2.as_str()).collect();
    let mut line = line_without_length_control(win_rate(&preferences), average_length(&outputs));
    let Some((control, strength)) = control else { return Ok(Scored { line, lc_pseudo_values: None }) };
    let (rate, error, values) = length_control_figures(annotations, control, strength)?;
    (line.length_controlled_winrate, line.lc_standard_error) = (Some(rate), error);
    Ok(Scored { line, lc_pseudo_values: Some(values) })
}

fn line_without_length_control(figures: WinRate, avg_length: Option<usize>) -> LeaderboardLine {
    LeaderboardLine {
        win_rate: figures.win_rate,
        standard_error: figures.standard_error,
        n_wins: figures.n_wins,
        n_wins_base: figures.n_wins_base,
        n_draws: figures.n_draws,
        n_total: figures.n_total,
        discrete_win_rate: figures.discrete_win_rate,
        avg_length,
        length_controlled_winrate: None,
        lc_standard_error: None,
    }
}

fn length_control_figures(
    annotations: &[Annotation],
    control: &LengthControl,
    strength: Strength,
) -> Result<(f64, Option<f64>, Vec<f64>), LengthControlError> {
    if !annotations.is_empty() && annotations.iter().all(is_reference_itself) {
        return Ok((50.0, Some(0.0), vec![0.5; annotations.len()]));
    }
    let pairs: Vec<_> = annotations.iter().map(judged_pair).collect();
    let figures = length_controlled(&pairs, control, strength)?;
    Ok((figures.length_controlled_winrate, figures.lc_standard_error, figures.pseudo_values))
}

/// The reference against itself is even by construction, which a fit cannot find.
fn is_reference_itself(row: &Annotation) -> bool {
    row.output_1 == row.output_2 && row.generator_1 == row.generator_2
}

/// What length control needs of a row.
pub fn judged_pair(row: &Annotation) -> JudgedPair<'_> {
    JudgedPair {
        instruction: &row.instruction,
        length_1_characters: length(&row.output_1).characters,
        length_2_characters: length(&row.output_2).characters,
        preference: row.preference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = r#"{"instructions": ["a", "b"], "instruction_difficulty": [1.0, -1.0], "gamed_tanh": [],
        "T_gamed_sum_tanhlen_times_y": 0, "G_gamed_sum_difficulty_times_y": 0}"#;

    fn annotations(preference: &str) -> Vec<Annotation> {
        let text = format!(
            r#"[{{"dataset": "x", "instruction": "a", "output_1": "é", "output_2": "long", "generator_1": "r",
                  "generator_2": "m", "annotator": "j", "preference": {preference}, "raw_completion": null}},
                {{"instruction": "b", "output_1": "éé", "output_2": "longer", "generator_1": null, "generator_2": null, "preference": 1}}]"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn names_and_order_are_the_leaderboards() {
        let line = leaderboard_line(&annotations("2"), None).unwrap();
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"win_rate":50.0,"standard_error":50.0,"n_wins":1,"n_wins_base":1,"n_draws":0,"n_total":2,"discrete_win_rate":50.0,"avg_length":5}"#
        );
    }

    #[test]
    fn length_control_is_added_where_asked_for() {
        let control = LengthControl::from_json(CONTROL).unwrap();
        let line = leaderboard_line(&annotations("null"), Some((&control, Strength::Fixed(1.0)))).unwrap();
        assert_eq!(line.n_total, 1);
        assert!(line.length_controlled_winrate.is_some() && line.lc_standard_error.is_some());
    }

    #[test]
    fn the_reference_against_itself_is_even() {
        let control = LengthControl::from_json(CONTROL).unwrap();
        let mut rows = annotations("1.5");
        for row in &mut rows {
            row.output_2.clone_from(&row.output_1);
            row.generator_2.clone_from(&row.generator_1);
        }
        let line = leaderboard_line(&rows, Some((&control, Strength::Fixed(1.0)))).unwrap();
        assert_eq!((line.length_controlled_winrate, line.lc_standard_error), (Some(50.0), Some(0.0)));
    }
}

//! AlpacaEval's figures of a list of preferences, as its leaderboard prints them.
//!
//! A preference is 1 where the reference's output is better, 2 where the model's is, anything between for a weighted judge,
//! 1.5 or 0 for a draw. Source: alpaca_eval 0.6.6, `get_winrate`, which the goldens of this crate run.

use crate::summary::{mean, standard_error};
use serde::{Deserialize, Serialize};

/// The figures of one model against one reference. Rates are percentages.
///
/// Figures that need more rows than there are are `None`: rates of no row, a standard error of fewer than two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// 100 × the mean of preference − 1.
    pub win_rate: Option<f64>,
    /// 100 × the standard error of that mean over prompts.
    pub standard_error: Option<f64>,
    /// Rows on which the model is preferred.
    pub n_wins: usize,
    /// Rows on which the reference is preferred.
    pub n_wins_base: usize,
    /// Rows with a preference of exactly 1.5 or 0.
    pub n_draws: usize,
    /// Rows that count: those with a preference in [1, 2], or 0.
    pub n_total: usize,
    /// The win rate after rounding each preference to a win, a draw (half a win) or a loss.
    pub discrete_win_rate: Option<f64>,
}

/// A row's share of a win, from 0 to 1: preference − 1, with 0 read as a draw. `None` where the row does not count.
pub fn win_share(preference: f64) -> Option<f64> {
    let preference = if preference == 0.0 { 1.5 } else { preference };
    (1.0..=2.0).contains(&preference).then_some(preference - 1.0)
}

/// The figures of these preferences; `None` stands for a row whose judgement could not be read.
pub fn win_rate(preferences: &[Option<f64>]) -> WinRate {
    let shares = win_shares(preferences.iter().copied());
    let discrete = win_shares(preferences.iter().map(|preference| preference.map(round_off)));
    WinRate {
        win_rate: mean(&shares).map(percent),
        standard_error: standard_error(&shares).map(percent),
        n_wins: shares.iter().filter(|&&share| share > 0.5).count(),
        n_wins_base: shares.iter().filter(|&&share| share < 0.5).count(),
        n_draws: shares.iter().filter(|&&share| share == 0.5).count(),
        n_total: shares.len(),
        discrete_win_rate: mean(&discrete).map(percent),
    }
}

fn win_shares(preferences: impl Iterator<Item = Option<f64>>) -> Vec<f64> {
    preferences.flatten().filter_map(win_share).collect()
}

/// AlpacaEval rounds before it drops what is out of range; a draw stays one.
fn round_off(preference: f64) -> f64 {
    if preference == 1.5 { preference } else { preference.round_ties_even() }
}

fn percent(share: f64) -> f64 {
    100.0 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_count() {
        assert_eq!(win_rate(&[None, Some(3.0), Some(f64::NAN)]), WinRate::default());
    }

    #[test]
    fn zero_is_a_draw_and_out_of_range_is_dropped() {
        let figures = win_rate(&[Some(0.0), Some(1.5), Some(2.0), Some(1.0), Some(-1.0), None]);
        assert_eq!((figures.n_wins, figures.n_wins_base, figures.n_draws, figures.n_total), (1, 1, 2, 4));
        assert_eq!(figures.win_rate, Some(50.0));
        assert_eq!(figures.discrete_win_rate, Some(50.0));
    }

    #[test]
    fn weighted_preferences_round_to_wins() {
        let figures = win_rate(&[Some(1.2), Some(1.6), Some(1.9)]);
        assert!((figures.win_rate.unwrap() - 170.0 / 3.0).abs() < 1e-12);
        assert!((figures.discrete_win_rate.unwrap() - 200.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_row_has_no_standard_error() {
        assert_eq!(win_rate(&[Some(2.0)]).standard_error, None);
    }
}

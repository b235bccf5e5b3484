//! How the numbers of one comparison are written: all with as many digits, and so many that none reads as 0 without being 0.
//!
//! An interval from −0.02 to 3.1 must not stand there as 0.0 to 3.1: what leaves out 0 would seem to touch it, or the reverse.

use crate::comparison::Judged;
use crate::sentence::Quantity;

/// Digits more than a quantity has that are spent before a number may read as 0.
const MORE: usize = 4;
/// The same where 0 lies outside the interval, which must show.
const MOST: usize = 12;

/// Below this share of the largest number of a comparison a number is what rounding left of 0.
const ROUNDING: f64 = 1e-11;

/// How many digits, and in which unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numerals {
    digits: usize,
    scale: f64,
}

impl Numerals {
    /// Those of a comparison: for the ends of its interval, and the smallest effect that it could have shown.
    pub fn of(judged: &Judged, quantity: &Quantity<'_>) -> Self {
        let interval = judged.comparison.bootstrap.interval;
        let more = if interval.holds_zero() { MORE } else { MOST };
        Self::fitting(&[interval.low, interval.high, judged.smallest_detectable], more, quantity)
    }

    fn fitting(values: &[f64], more: usize, quantity: &Quantity<'_>) -> Self {
        let least = ROUNDING * values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs())) * quantity.scale;
        let is_lost = |value: f64, digits: usize| value > least && reads_as_zero(&format!("{value:.digits$}"));
        let fits = |&digits: &usize| !values.iter().any(|&value| is_lost((value * quantity.scale).abs(), digits));
        let most = quantity.decimals + more;
        Self { digits: (quantity.decimals..most).find(fits).unwrap_or(most), scale: quantity.scale }
    }

    /// A value in the unit, with a true minus sign, and no sign before 0.
    pub fn write(&self, value: f64) -> String {
        decimal(value * self.scale, self.digits)
    }

    /// A difference, with a sign where it does not read as 0.
    pub fn signed(&self, value: f64) -> String {
        let number = self.write(value);
        let plus = if value < 0.0 || reads_as_zero(&number) { "" } else { "+" };
        format!("{plus}{number}")
    }
}

/// A number with so many digits, a true minus sign, and no sign before 0.
pub fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    if value < 0.0 && !reads_as_zero(&text) { format!("−{text}") } else { text }
}

fn reads_as_zero(number: &str) -> bool {
    number.chars().all(|c| matches!(c, '0' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: Quantity<'_> = Quantity { unit: "points", scale: 100.0, decimals: 1, better: None };

    fn written(values: &[f64]) -> Vec<String> {
        let numerals = Numerals::fitting(values, MORE, &POINTS);
        values.iter().map(|&value| numerals.write(value)).collect()
    }

    #[test]
    fn an_end_near_zero_gets_the_digits_that_it_needs() {
        assert_eq!(written(&[-0.0002, 0.031]), ["−0.02", "3.10"]);
        assert_eq!(written(&[-0.0004, 0.0006]), ["−0.04", "0.06"]);
        assert_eq!(written(&[0.0, 0.031]), ["0.0", "3.1"]);
        assert_eq!(written(&[-0.0006, 0.031]), ["−0.1", "3.1"]);
        assert_eq!(written(&[1e-9, 0.031]), ["0.00000", "3.10000"]);
        assert_eq!(written(&[2e-15, 0.031]), ["0.0", "3.1"]);
    }

    #[test]
    fn zero_has_no_sign() {
        let numerals = Numerals { digits: 1, scale: 1.0 };
        assert_eq!(
            [0.0, -0.0, -0.04, 0.04, 0.06, -0.06].map(|value| numerals.signed(value)),
            ["0.0", "0.0", "0.0", "0.0", "+0.1", "−0.1"]
        );
    }
}

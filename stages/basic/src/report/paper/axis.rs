//! Axes of figures: round numbers to mark, and the places of values.

/// How many marks an axis has, about.
const MARKS: f64 = 5.0;

/// A span of values on a span of places.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    values: (f64, f64),
    places: (f64, f64),
}

impl Axis {
    /// From the least to the greatest value with a little room; a single value stands in the middle.
    pub fn new(values: impl Iterator<Item = f64>, places: (f64, f64)) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let room = if high > low { 0.04 * (high - low) } else { 0.5 * low.abs().max(1.0) };
        Self { values: (low - room, high + room), places }
    }

    /// Where a value stands.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value - self.values.0) / (self.values.1 - self.values.0);
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    /// Round values within the axis, as they are written.
    pub fn marks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.values;
        let step = round_step((high - low) / MARKS);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        (first..=last).map(|at| (at as f64 * step, written(at, step))).collect()
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below a width.
fn round_step(width: f64) -> f64 {
    let power = 10_f64.powf(width.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= width * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// A multiple of a step with as many decimals as the step has; small ones as `2e-4`.
fn written(at: i64, step: f64) -> String {
    let value = at as f64 * step;
    if at == 0 {
        return "0".to_owned();
    }
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let text = if digits > 3 { format!("{:e}", rounded(value)) } else { format!("{value:.digits$}") };
    text.replacen('-', if digits > 3 { "-" } else { "−" }, 1)
}

fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(low: f64, high: f64) -> Vec<String> {
        Axis::new([low, high].into_iter(), (0.0, 100.0)).marks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(marks(-0.1, 0.3), ["−0.1", "0", "0.1", "0.2", "0.3"]);
        assert_eq!(marks(0.0, 40.0), ["0", "10", "20", "30", "40"]);
        assert_eq!(marks(0.0, 5e-4), ["0", "2e-4", "4e-4"]);
        assert!(!marks(3.0, 3.0).is_empty());
    }

    #[test]
    fn places_run_with_the_values() {
        let axis = Axis::new([0.0, 1.0].into_iter(), (100.0, 0.0));
        assert!((axis.place(0.5) - 50.0).abs() < 1e-9);
        assert!(axis.place(0.9) < axis.place(0.1));
    }
}

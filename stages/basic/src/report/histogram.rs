//! Histograms of several arms over common bins.

use serde::Serialize;

/// The fewest and the most bins.
const BINS: (f64, f64) = (6.0, 40.0);

/// Shares of values by bin, for each arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// The measure's name in data.
    pub name: String,
    /// What is counted.
    pub title: String,
    /// The unit of the edges.
    pub unit: String,
    /// The column of the report.
    pub column: String,
    /// Edges of the bins, ascending, one more than there are bins. The last bin holds its upper edge.
    pub edges: Vec<f64>,
    /// The arms' shares of their values in each bin; seeds are pooled.
    pub arms: Vec<ArmShares>,
}

/// One arm of a histogram.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmShares {
    /// The arm.
    pub arm: String,
    /// How many values it has.
    pub n: usize,
    /// The share of them in each bin; they sum to 1.
    pub shares: Vec<f64>,
}

/// Bins the values of all arms by the width of Freedman and Diaconis, 2·IQR/∛n. `None` without two different values.
pub fn histogram(name: &str, title: &str, unit: &str, column: &str, arms: &[(&str, Vec<f64>)]) -> Option<Histogram> {
    let mut all: Vec<f64> = arms.iter().flat_map(|(_, values)| values).copied().collect();
    all.sort_by(f64::total_cmp);
    let (low, high) = (*all.first()?, *all.last()?);
    if low == high {
        return None;
    }
    let quartile = |share| neftpipe_measures::summary::quantile(&all, share).unwrap_or(low);
    let width = 2.0 * (quartile(0.75) - quartile(0.25)) / (all.len() as f64).cbrt();
    let count = if width > 0.0 { ((high - low) / width).ceil() } else { BINS.1 }.clamp(BINS.0, BINS.1) as usize;
    let edges: Vec<f64> = (0..=count).map(|at| low + (high - low) * at as f64 / count as f64).collect();
    let shares = |(arm, values): &(&str, Vec<f64>)| {
        let mut counts = vec![0_usize; count];
        for value in values {
            let bin = ((value - low) / (high - low) * count as f64) as usize;
            counts[bin.min(count - 1)] += 1;
        }
        let n = values.len();
        let shares = counts.iter().map(|&count| count as f64 / n.max(1) as f64).collect();
        ArmShares { arm: (*arm).to_owned(), n, shares }
    };
    let [name, title, unit, column] = [name, title, unit, column].map(str::to_owned);
    Some(Histogram { name, title, unit, column, arms: arms.iter().map(shares).collect(), edges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bin() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let histogram = histogram("loss", "Loss", "nats", "", &[("a", values.clone()), ("b", vec![99.0])]).unwrap();
        assert_eq!(histogram.edges.len(), histogram.arms[0].shares.len() + 1);
        assert_eq!((histogram.edges[0], *histogram.edges.last().unwrap()), (0.0, 99.0));
        assert!((histogram.arms[0].shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(histogram.arms[1].shares.last(), Some(&1.0));
    }

    #[test]
    fn equal_values_have_no_histogram() {
        assert_eq!(histogram("loss", "Loss", "nats", "", &[("a", vec![1.0, 1.0])]), None);
        assert_eq!(histogram("loss", "Loss", "nats", "", &[]), None);
    }
}

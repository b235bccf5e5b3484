//! Which published comparisons a judge is calibrated on.

use serde::Deserialize;

use super::Comparison;
use crate::KeyHasher;

/// A row of a published annotation file, in what a sample needs of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Published {
    /// What was compared.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// What the judge said, where it could be read.
    pub preference: Option<f64>,
}

/// The comparisons of a seeded sample of at most so many. A larger sample holds a smaller one, so that only the others are
/// asked.
pub fn sampled(mut rows: Vec<Published>, wanted: usize, seed: u64) -> Vec<Comparison> {
    rows.retain(|row| row.preference.is_some() && row.comparison.differs());
    rows.sort_by_cached_key(|Published { comparison, .. }| {
        let mut hasher = KeyHasher::new("neftpipe 2026 calibration sample v1");
        hasher.add(&seed).add(&comparison.instruction).add(&comparison.output_1).add(&comparison.output_2).finish()
    });
    rows.into_iter().take(wanted).map(|row| row.comparison).collect()
}

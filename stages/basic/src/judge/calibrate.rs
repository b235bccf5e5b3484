//! How far a judge agrees with published annotations: some of them judged anew.

use neftpipe_measures::agreement::agreement;
use neftpipe_protocol::judging::Comparison;
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::worker::Job;
use neftpipe_protocol::{Failure, KeyHasher};
use serde::Serialize;

use super::annotate::{AnnotationRow, Opinion};
use super::published;

/// The agreement, as it stands in a verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Who had judged.
    pub annotator: String,
    /// Comparisons that were judged anew.
    pub sampled: usize,
    /// Of them, those that both could read.
    pub n: usize,
    /// Share of equal verdicts, 0 to 1.
    pub rate: f64,
    /// Cohen's kappa; none where chance leaves nothing to explain.
    pub kappa: Option<f64>,
}

/// The published comparisons that are to be judged anew; none where no calibration is asked for. A larger sample holds a
/// smaller one, so that only the others are asked.
///
/// # Errors
/// Where the annotations cannot be read, or are too few.
pub fn sample(job: &Job, params: &JudgeParams) -> Result<Vec<AnnotationRow>, Failure> {
    let (Some(wanted), Some(input)) = (params.calibrate, job.optional_input("calibrate")) else {
        return Ok(Vec::new());
    };
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let mut rows = published::read(input)?;
    rows.retain(|row| row.preference.is_some() && !row.is_identical());
    if rows.len() < wanted {
        return Err(Failure::usage(format!(
            "calibrate: {wanted} of the published comparisons are wanted, and {} of {} have a preference",
            input.stage,
            rows.len()
        )));
    }
    rows.sort_by_cached_key(|row| {
        let mut hasher = KeyHasher::new("neftpipe 2026 calibration sample v1");
        hasher.add(&params.seed).add(&row.instruction).add(&row.output_1).add(&row.output_2).finish()
    });
    rows.truncate(wanted);
    Ok(rows)
}

/// What is to be judged of a published row.
pub fn comparison(row: &AnnotationRow) -> Comparison {
    Comparison { instruction: row.instruction.clone(), output_1: row.output_1.clone(), output_2: row.output_2.clone() }
}

/// How far new opinions agree with the published rows that they are of.
///
/// # Errors
/// Where none of them can be read.
pub fn calibration(rows: &[AnnotationRow], opinions: &[Opinion]) -> Result<Option<Calibration>, Failure> {
    let Some(first) = rows.first() else { return Ok(None) };
    let published: Vec<_> = rows.iter().map(|row| row.preference).collect();
    let anew: Vec<_> = opinions.iter().map(|opinion| opinion.preference).collect();
    let found = agreement(&published, &anew).ok_or_else(|| {
        Failure::data(format!("calibrate: none of the {} judgements made anew can be read", rows.len()))
    })?;
    Ok(Some(Calibration {
        annotator: first.annotator.clone(),
        sampled: rows.len(),
        n: found.n,
        rate: found.rate,
        kappa: found.kappa,
    }))
}

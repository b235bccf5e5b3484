//! How far a judge agrees with published annotations: some of them judged anew.

use std::collections::HashMap;

use neftpipe_measures::agreement::agreement;
use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::{Comparison, Published, sampled};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::worker::Job;
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

/// Published comparisons that are judged anew; none where no calibration is asked for.
#[derive(Debug, Default)]
pub struct Sample {
    annotator: String,
    rows: Vec<(Comparison, Option<f64>)>,
}

impl Sample {
    /// The sample that the parameters ask for.
    ///
    /// # Errors
    /// Where the annotations cannot be read, or are too few.
    pub fn read(job: &Job, params: &JudgeParams) -> Result<Self, Failure> {
        let (Some(wanted), Some(input)) = (params.calibrate, job.optional_input("calibrate")) else {
            return Ok(Self::default());
        };
        let rows = published::read(input)?;
        let annotator = rows.first().map(|row| row.annotator.clone()).unwrap_or_default();
        let name = |comparison: &Comparison| (comparison.instruction.clone(), comparison.output_2.clone());
        let rows: Vec<Published> = rows.into_iter().map(published_row).collect();
        let preferences: HashMap<_, _> = rows.iter().map(|row| (name(&row.comparison), row.preference)).collect();
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let sample = sampled(rows, wanted, params.seed);
        if sample.len() < wanted {
            return Err(Failure::usage(format!(
                "calibrate: {wanted} of the published comparisons are wanted, and {} of {} have a preference",
                sample.len(),
                input.stage,
            )));
        }
        let with_preference = |one: Comparison| (preferences.get(&name(&one)).copied().flatten(), one);
        let rows = sample.into_iter().map(with_preference).map(|(preference, one)| (one, preference)).collect();
        Ok(Self { annotator, rows })
    }

    /// What is to be judged anew.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison> {
        self.rows.iter().map(|(comparison, _)| comparison.clone())
    }

    /// How far new opinions agree with the published ones.
    ///
    /// # Errors
    /// Where none of them can be read.
    pub fn calibration(&self, opinions: &[Opinion]) -> Result<Option<Calibration>, Failure> {
        let sampled = self.rows.len();
        if sampled == 0 {
            return Ok(None);
        }
        let published: Vec<_> = self.rows.iter().map(|(_, preference)| *preference).collect();
        let anew: Vec<_> = opinions.iter().map(|opinion| opinion.preference).collect();
        let found = agreement(&published, &anew).ok_or_else(|| {
            Failure::data(format!("calibrate: none of the {sampled} judgements made anew can be read"))
        })?;
        Ok(Some(Calibration {
            annotator: self.annotator.clone(),
            sampled,
            n: found.n,
            rate: found.rate,
            kappa: found.kappa,
        }))
    }
}

fn published_row(row: AnnotationRow) -> Published {
    let AnnotationRow { instruction, output_1, output_2, preference, .. } = row;
    Published { comparison: Comparison { instruction, output_1, output_2 }, preference }
}

//! The judge that is a model on this machine, asked through the worker with tensors.
//!
//! Every comparison is known by what was judged and by whom, so that one that was judged before, in whatever run, is not
//! judged again.

use std::collections::{HashMap, HashSet};

use neftpipe_protocol::judging::Comparison;
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::scoring::{PairRow, ScoreRow};
use neftpipe_protocol::worker::Job;
use neftpipe_protocol::{Digest, Failure, KeyHasher, Kind};

use super::annotate::{Completion, Judged, Opinion};
use super::scoring;

/// Judges these comparisons. `None` where the worker was asked to stop.
///
/// # Errors
/// Where the judge fails.
pub fn judge(job: &Job, params: &JudgeParams, comparisons: &[Comparison]) -> Result<Option<Judged>, Failure> {
    let model = job.input("model")?.digest;
    let rows: Vec<PairRow> = comparisons.iter().map(|comparison| pair_row(comparison, model, params)).collect();
    let mut scores = known_scores(job)?;
    let mut seen = HashSet::new();
    let different = rows.iter().filter(|row| seen.insert(row.id.as_str()));
    let (known, unknown): (Vec<&PairRow>, Vec<&PairRow>) = different.partition(|row| scores.contains_key(&row.id));
    let unknown: Vec<PairRow> = unknown.into_iter().cloned().collect();
    let mut judged = Judged { judged: unknown.len() as u64, reused: known.len() as u64, ..Judged::default() };
    if !unknown.is_empty() {
        let scored = scoring::score(job, &unknown, known.len() as u64, |score| {
            job.save_row(&serde_json::to_value(&score).expect("scores serialise"))?;
            scores.insert(score.id.clone(), score);
            Ok(())
        })?;
        let Some(success) = scored else { return Ok(None) };
        judged.provenance = success.provenance;
    }
    judged.opinions = rows.iter().map(|row| opinion(row, &scores)).collect::<Result<_, _>>()?;
    Ok(Some(judged))
}

fn opinion(row: &PairRow, scores: &HashMap<String, ScoreRow>) -> Result<Opinion, Failure> {
    let score = scores.get(&row.id).ok_or_else(|| Failure::internal("the local judge left a pair without a score"))?;
    let completion = score.orders.map_or(Completion::Nothing, Completion::Labels);
    Ok(Opinion { preference: score.preference(), completion })
}

/// A comparison under the name of all that decides its scores.
fn pair_row(comparison: &Comparison, model: Digest, params: &JudgeParams) -> PairRow {
    let precision = serde_json::to_value(params.precision).expect("a precision serialises");
    let id = KeyHasher::new("neftpipe 2026 judged pair v1")
        .add(&u64::from(Kind::Judge.version()))
        .add(&model)
        .add(&precision)
        .add(&comparison.instruction)
        .add(&comparison.output_1)
        .add(&comparison.output_2)
        .finish();
    PairRow {
        id: id.to_string(),
        instruction: comparison.instruction.clone(),
        output_1: comparison.output_1.clone(),
        output_2: comparison.output_2.clone(),
    }
}

/// Scores of earlier work by the names of their pairs.
fn known_scores(job: &Job) -> Result<HashMap<String, ScoreRow>, Failure> {
    let rows = job.known_rows()?.into_iter().filter_map(|row| serde_json::from_value::<ScoreRow>(row).ok());
    Ok(rows.map(|score| (score.id.clone(), score)).collect())
}

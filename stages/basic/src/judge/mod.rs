//! `judge`: measures answers against their gold references, and has them compared with an opponent's answers.
//!
//! It knows the files of answers and verdicts; what a text measure or a win rate is stands in `neftpipe-measures`, and a
//! model is asked by the worker with tensors.

mod annotate;
mod join;
mod measures;
mod scoring;
mod supported;
mod tail;
mod verdict;

use neftpipe_protocol::artifact::{AnswerRow, Metrics};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::worker::{Job, Outcome, io_failure, provenance};
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::Value;

use self::annotate::{Annotated, annotate};
use self::verdict::Verdict;

/// Carries out one `judge` stage.
///
/// # Errors
/// What is not supported (usage), answers that cannot be judged or joined (data), a judge that cannot be asked (environment).
pub fn execute(job: &Job) -> Result<Outcome, Failure> {
    let params: JudgeParams = job.params()?;
    supported::check(job, &params)?;
    let answers = read_answers(job, "answers")?;
    let annotated = match params.annotator {
        Some(_) => match compare(job, &params, &answers)? {
            Some(annotated) => Some(annotated),
            None => return Ok(Outcome::Interrupted),
        },
        None => None,
    };
    let annotations = annotated.as_ref().map(|annotated| annotated.rows.as_slice());
    let measured = measures::measure(&answers, &params.metrics);
    let verdict = Verdict::new(&answers, &measured, annotations)?;
    verdict::write(job, &verdict, &answers, &measured, annotations)?;
    verdict.warn(job, &params);
    Ok(Outcome::Succeeded(Box::new(Success {
        outputs: [("verdict".to_owned(), ArtifactType::Verdict)].into_iter().collect(),
        metrics: verdict.headline(),
        measured: annotated.as_ref().map_or_else(Metrics::new, work_done),
        provenance: provenances(job, annotated),
        resolved: None,
    })))
}

fn compare(job: &Job, params: &JudgeParams, answers: &[AnswerRow]) -> Result<Option<Annotated>, Failure> {
    let reference = read_answers(job, "reference")?;
    annotate(job, params, &join::join(answers, &reference)?)
}

fn read_answers(job: &Job, slot: &str) -> Result<Vec<AnswerRow>, Failure> {
    let path = job.input(slot)?.path.join("answers.json");
    let text = std::fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    let rows: Vec<AnswerRow> = serde_json::from_slice(&text)
        .map_err(|error| Failure::data(format!("{}: not a list of answers: {error}", path.display())))?;
    if rows.is_empty() {
        return Err(Failure::data(format!("there is nothing to judge: the input `{slot}` holds no answers")));
    }
    Ok(rows)
}

fn work_done(annotated: &Annotated) -> Metrics {
    [("pairs_judged", annotated.judged), ("pairs_reused", annotated.reused)]
        .map(|(name, count)| (name.to_owned(), Value::from(count)))
        .into_iter()
        .collect()
}

/// Facts of this worker, and beside them the judge's device and libraries where it was asked.
fn provenances(job: &Job, annotated: Option<Annotated>) -> Metrics {
    let mut facts = annotated.map(|annotated| annotated.provenance).unwrap_or_default();
    facts.extend(provenance(crate::NAME, crate::VERSION, job.request.threads));
    facts
}

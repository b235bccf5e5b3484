//! `judge`: measures answers against their gold references, and has them compared with an opponent's answers.
//!
//! It knows the files of answers and verdicts; what a text measure or a win rate is stands in `neftpipe-measures`, and a
//! model is asked by the worker with tensors.

mod annotate;
mod annotator;
mod budget;
mod calibrate;
mod endpoint;
mod files;
mod length_control;
mod local;
mod measures;
mod published;
mod scoring;
mod supported;
mod tail;
mod verdict;

use neftpipe_protocol::artifact::{AnswerRow, Metrics};
use neftpipe_protocol::judging::{Comparison, LOCAL, comparison, join, one_text};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::worker::{Job, Outcome, io_failure, provenance};
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::Value;

use self::annotate::{Judged, Opinion, annotation};
use self::annotator::Annotator;
use self::calibrate::Sample;
use self::verdict::{Compared, Judge, Verdict};

/// What is said of a judge that is whatever model fits on this machine.
const DEMONSTRATION: &str = "demonstration: a small local judge";

/// Carries out one `judge` stage.
///
/// # Errors
/// What is not supported (usage), answers that cannot be judged or joined (data), a judge that cannot be asked (environment).
pub fn execute(job: &Job) -> Result<Outcome, Failure> {
    let params: JudgeParams = job.params()?;
    supported::check(job, &params)?;
    let answers = read_answers(job, "answers")?;
    let mut facts = Facts::default();
    let compared = if job.optional_input("annotations").is_some() {
        Some(take_published(job, &answers)?)
    } else if params.annotator.is_some() {
        match compare(job, &params, &answers, &mut facts)? {
            Some(compared) => Some(compared),
            None => return Ok(Outcome::Interrupted),
        }
    } else {
        None
    };
    let measured = measures::measure(&answers, &params.metrics);
    let verdict = Verdict::new(job, &params, &answers, &measured, compared.as_ref())?;
    let annotations = compared.as_ref().map(|compared| compared.rows.as_slice());
    verdict::write(job, &verdict, &answers, &measured, annotations)?;
    verdict.warn(job, &params);
    let mut provenances = facts.provenance;
    provenances.extend(provenance(crate::NAME, crate::VERSION, job.request.threads));
    Ok(Outcome::Succeeded(Box::new(Success {
        outputs: [("verdict".to_owned(), ArtifactType::Verdict)].into_iter().collect(),
        metrics: verdict.headline(),
        measured: facts.measured,
        provenance: provenances,
        resolved: None,
    })))
}

/// What judging took, and with what it was done.
#[derive(Default)]
struct Facts {
    measured: Metrics,
    provenance: Metrics,
}

/// What somebody else had judged. The set's order is that of the answers.
fn take_published(job: &Job, answers: &[AnswerRow]) -> Result<Compared, Failure> {
    let rows = published::annotations(job, answers)?;
    let annotator = rows.first().map(|row| row.annotator.clone()).unwrap_or_default();
    let judge = Judge { annotator, label: None, is_local: false };
    Ok(Compared { judge, rows, set: answers.iter().map(one_text).collect(), calibration: None })
}

fn compare(
    job: &Job,
    params: &JudgeParams,
    answers: &[AnswerRow],
    facts: &mut Facts,
) -> Result<Option<Compared>, Failure> {
    let reference = read_answers(job, "reference")?;
    let pairs = join(answers, &reference)?;
    let all: Vec<Comparison> = pairs.iter().map(comparison).collect();
    let sample = Sample::read(job, params)?;
    // One list, so that a judge is started once.
    let mut asked: Vec<Comparison> = all.iter().filter(|one| one.differs()).cloned().collect();
    let different = asked.len();
    asked.extend(sample.comparisons());
    let (judge, judged) = match judge(job, params, &asked)? {
        (judge, Some(judged)) => (judge, judged),
        (_, None) => return Ok(None),
    };
    facts.measured = work_done(&judged);
    facts.provenance = judged.provenance;
    let mut opinions = judged.opinions;
    let calibration = sample.calibration(&opinions.split_off(different))?;
    let mut opinions = opinions.into_iter();
    let mut opinion = |one: &Comparison| match one.differs() {
        true => opinions.next().expect("every comparison of different outputs has an opinion"),
        false => Opinion::default(),
    };
    let rows = pairs.iter().zip(&all).map(|(pair, one)| annotation(pair, &judge.annotator, opinion(one))).collect();
    Ok(Some(Compared { judge, rows, set: reference.iter().map(one_text).collect(), calibration }))
}

/// Who judges, and what it makes of these comparisons; none where it was asked to stop.
fn judge(job: &Job, params: &JudgeParams, asked: &[Comparison]) -> Result<(Judge, Option<Judged>), Failure> {
    if params.annotator.as_deref() == Some(LOCAL) {
        let judge = Judge { annotator: LOCAL.to_owned(), label: Some(DEMONSTRATION.to_owned()), is_local: true };
        return Ok((judge, local::judge(job, params, asked)?));
    }
    let annotator = Annotator::read(params, job.input("annotators")?)?;
    let label = params.endpoint.as_ref().and_then(|endpoint| annotator.label(&endpoint.model));
    let judge = Judge { annotator: annotator.name.clone(), label, is_local: false };
    Ok((judge, endpoint::judge(job, params, &annotator, asked)?))
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

fn work_done(judged: &Judged) -> Metrics {
    let counts = [("pairs_judged", judged.judged), ("pairs_reused", judged.reused)];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), Value::from(count)));
    counts.chain(judged.measured.clone()).collect()
}

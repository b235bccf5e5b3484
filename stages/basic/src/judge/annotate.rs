//! Preferences between answers and the reference's: AlpacaEval's annotations, made by a local model.
//!
//! Equal outputs are a draw without asking. Every other pair is known by what was judged and by whom, so that a pair that was
//! judged before, in whatever run, is not judged again.

use std::collections::HashMap;

use neftpipe_measures::leaderboard::Annotation;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::scoring::{LabelScores, PairRow, ScoreRow};
use neftpipe_protocol::worker::Job;
use neftpipe_protocol::{Digest, Failure, KeyHasher, Kind};
use serde::Serialize;

use super::join::Pair;
use super::scoring;
use super::supported::LOCAL;

/// What equal outputs get.
const DRAW: f64 = 1.5;

/// A row of `annotations.json`, in AlpacaEval's form.
#[derive(Debug, Clone, Serialize)]
pub struct AnnotationRow {
    /// Instruction, blank line and input.
    pub instruction: String,
    /// The reference's output.
    pub output_1: String,
    /// Who made it.
    pub generator_1: String,
    /// The set that the prompt comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The output that is judged.
    pub output_2: String,
    /// Who made it.
    pub generator_2: String,
    /// Who judged.
    pub annotator: &'static str,
    /// From 1 (`output_1` is better) to 2 (`output_2` is); null where the judge could not read the pair.
    pub preference: Option<f64>,
    /// Log-probabilities of the two labels, in both orders; null where nobody was asked.
    pub raw_completion: Option<[LabelScores; 2]>,
}

impl AnnotationRow {
    /// Whether the outputs are equal, so that nobody was asked.
    pub fn is_identical(&self) -> bool {
        self.output_1 == self.output_2
    }

    /// Whether the judge prefers the same output in both orders.
    pub fn is_consistent(&self) -> bool {
        self.raw_completion.is_some_and(|[in_order, swapped]| {
            (in_order.second_preferred() > 0.5) == (swapped.second_preferred() < 0.5)
        })
    }

    /// What AlpacaEval's figures need of the row.
    pub fn annotation(&self) -> Annotation {
        Annotation {
            instruction: self.instruction.clone(),
            output_1: self.output_1.clone(),
            output_2: self.output_2.clone(),
            generator_1: self.generator_1.clone(),
            generator_2: self.generator_2.clone(),
            preference: self.preference,
        }
    }
}

/// All pairs annotated.
#[derive(Debug)]
pub struct Annotated {
    /// In the order of the pairs.
    pub rows: Vec<AnnotationRow>,
    /// Pairs that were judged now.
    pub judged: u64,
    /// Pairs that were judged in earlier work.
    pub reused: u64,
    /// Device and versions of the judge, where it was asked.
    pub provenance: Metrics,
}

/// Annotates pairs. `None` where the worker was asked to stop.
///
/// # Errors
/// Where the judge fails.
pub fn annotate(job: &Job, params: &JudgeParams, pairs: &[Pair]) -> Result<Option<Annotated>, Failure> {
    let model = job.input("model")?.digest;
    let rows: Vec<PairRow> = pairs.iter().map(|pair| pair_row(pair, model, params)).collect();
    let mut scores = known_scores(job)?;
    let differ = rows.iter().filter(|row| row.output_1 != row.output_2);
    let (known, unknown): (Vec<&PairRow>, Vec<&PairRow>) = differ.partition(|row| scores.contains_key(&row.id));
    let unknown: Vec<PairRow> = unknown.into_iter().cloned().collect();
    let mut provenance = Metrics::new();
    if !unknown.is_empty() {
        let scored = scoring::score(job, &unknown, known.len() as u64, |score| {
            job.save_row(&serde_json::to_value(&score).expect("scores serialise"))?;
            scores.insert(score.id.clone(), score);
            Ok(())
        })?;
        let Some(success) = scored else { return Ok(None) };
        provenance = success.provenance;
    }
    let annotated = pairs.iter().zip(&rows).map(|(pair, row)| annotation(pair, row, &scores));
    Ok(Some(Annotated {
        rows: annotated.collect::<Result<_, _>>()?,
        judged: unknown.len() as u64,
        reused: known.len() as u64,
        provenance,
    }))
}

/// A pair under the name of all that decides its scores.
fn pair_row(pair: &Pair, model: Digest, params: &JudgeParams) -> PairRow {
    let instruction = pair.prompt();
    let (output_1, output_2) = (pair.reference.output.clone(), pair.answer.output.clone());
    let precision = serde_json::to_value(params.precision).expect("a precision serialises");
    let id = KeyHasher::new("neftpipe 2026 judged pair v1")
        .add(&u64::from(Kind::Judge.version()))
        .add(&model)
        .add(&precision)
        .add(&instruction)
        .add(&output_1)
        .add(&output_2)
        .finish();
    PairRow { id: id.to_string(), instruction, output_1, output_2 }
}

/// Scores of earlier work by the names of their pairs.
fn known_scores(job: &Job) -> Result<HashMap<String, ScoreRow>, Failure> {
    let rows = job.known_rows()?.into_iter().filter_map(|row| serde_json::from_value::<ScoreRow>(row).ok());
    Ok(rows.map(|score| (score.id.clone(), score)).collect())
}

fn annotation(pair: &Pair, row: &PairRow, scores: &HashMap<String, ScoreRow>) -> Result<AnnotationRow, Failure> {
    let (preference, raw_completion) = if row.output_1 == row.output_2 {
        (Some(DRAW), None)
    } else {
        let score =
            scores.get(&row.id).ok_or_else(|| Failure::internal("the local judge left a pair without a score"))?;
        (score.preference(), score.orders)
    };
    Ok(AnnotationRow {
        instruction: row.instruction.clone(),
        output_1: row.output_1.clone(),
        generator_1: pair.reference.generator.clone(),
        dataset: pair.answer.dataset.clone(),
        output_2: row.output_2.clone(),
        generator_2: pair.answer.generator.clone(),
        annotator: LOCAL,
        preference,
        raw_completion,
    })
}

//! Adds what was judged to the answers it was judged on.
//!
//! A verdict is known by the lineage to be of some answers, or, without lineage, by equal axes and prompts.

use std::collections::HashMap;

use indexmap::IndexMap;
use neftpipe_measures::leaderboard::{Annotation, LeaderboardLine, leaderboard_line};
use neftpipe_protocol::Failure;
use neftpipe_protocol::request::Input;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::collect::{AnswerSet, prompt_names};
use super::files::{malformed, read_json, read_lines, read_optional_json};
use super::lineage::Origins;
use super::measures;

/// The annotator that is a small local model.
const LOCAL_JUDGE: &str = "local";
/// What a row of a verdict calls its part of the length-controlled win rate.
const PSEUDO_VALUE: &str = "lc_pseudo_value";
/// What is said of a small local model's judgement where the verdict says nothing.
const DEMONSTRATION: &str = "demonstration: a small local judge";

/// One judge's comparison of answers with a reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The judge's name.
    pub annotator: String,
    /// What its figures must be read with: that they are a demonstration, say.
    pub caution: Option<String>,
    /// The arm it was compared with, or the generator's name.
    pub reference: String,
    /// How far it agrees with published annotations, where it was calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// AlpacaEval's figures.
    #[serde(flatten)]
    pub line: LeaderboardLine,
    /// Comparisons without a judgement that could be read; they count in no figure.
    pub n_unjudged: usize,
    /// 1 for the reference to 2 for the model, by row of the answers.
    #[serde(skip)]
    pub preferences: Vec<Option<f64>>,
    /// What each answer contributes to the length-controlled win rate; empty where the verdict does not say.
    #[serde(skip)]
    pub lc_pseudo_values: Vec<f64>,
}

/// The agreement of a judge with published annotations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Who had judged.
    pub annotator: String,
    /// Comparisons that both could read.
    pub n: usize,
    /// Share of equal verdicts, 0 to 1.
    pub rate: f64,
    /// Cohen's kappa.
    pub kappa: Option<f64>,
}

/// The part of `verdict.json` that stands in no row.
#[derive(Deserialize)]
struct VerdictFile {
    #[serde(default)]
    comparison: Option<ComparisonFigures>,
}

#[derive(Deserialize)]
struct ComparisonFigures {
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    length_controlled_winrate: Option<f64>,
    #[serde(default)]
    lc_standard_error: Option<f64>,
    #[serde(default)]
    calibration: Option<Calibration>,
}

/// A row of `annotations.json`.
#[derive(Deserialize)]
struct AnnotationRow {
    #[serde(default)]
    input: String,
    #[serde(default)]
    annotator: String,
    #[serde(flatten)]
    annotation: Annotation,
}

/// Reads a verdict into the answers it is of. False where the report was not given those: there is nobody to show it with.
///
/// # Errors
/// Where a file is not what a verdict promises.
pub fn add_verdict(input: &Input, origins: &Origins<'_>, sets: &mut [AnswerSet]) -> Result<bool, Failure> {
    let verdict: VerdictFile = read_json(input, "verdict.json")?;
    let rows: Vec<IndexMap<String, Value>> = read_lines(input, "rows.jsonl")?;
    let annotations: Vec<AnnotationRow> = read_optional_json(input, "annotations.json")?.unwrap_or_default();
    let names = annotations.iter().map(|row| (row.annotation.instruction.as_str(), row.input.as_str()));
    let names = prompt_names(names);
    let Some(at) = find_judged(input, origins, &names, sets) else { return Ok(false) };
    add_measures(input, &rows, &mut sets[at])?;
    if let Some(first) = annotations.first() {
        let annotator = first.annotator.clone();
        let reference = reference_name(input, origins, sets).unwrap_or_else(|| first.annotation.generator_1.clone());
        let preferences = align(&names, &annotations, &sets[at]);
        let n = annotations.len();
        let line = line(input, &verdict, annotations)?;
        let (label, calibration) = match verdict.comparison {
            Some(comparison) => (comparison.label, comparison.calibration),
            None => (None, None),
        };
        let caution = label.or_else(|| (annotator == LOCAL_JUDGE).then(|| DEMONSTRATION.to_owned()));
        let lc_pseudo_values: Option<Vec<f64>> = rows.iter().map(|row| row.get(PSEUDO_VALUE)?.as_f64()).collect();
        sets[at].judgements.push(Judgement {
            annotator,
            caution,
            reference,
            calibration,
            n_unjudged: n - line.n_total,
            line,
            preferences,
            lc_pseudo_values: lc_pseudo_values.unwrap_or_default(),
        });
    }
    Ok(true)
}

fn find_judged(input: &Input, origins: &Origins<'_>, prompts: &[String], sets: &[AnswerSet]) -> Option<usize> {
    if let Some((answers, _)) = origins.judged(input) {
        return sets.iter().position(|set| set.stage == answers);
    }
    let holds = |set: &AnswerSet| prompts.iter().all(|prompt| set.prompts.contains(prompt));
    sets.iter().position(|set| set.input.axes == input.axes && holds(set))
}

/// The arm whose answers were the reference.
fn reference_name(input: &Input, origins: &Origins<'_>, sets: &[AnswerSet]) -> Option<String> {
    let (_, reference) = origins.judged(input)?;
    sets.iter().find(|set| Some(set.stage.as_str()) == reference).map(|set| set.place.arm.clone())
}

/// `rows.jsonl` has a row for each answer, in their order.
fn add_measures(input: &Input, rows: &[IndexMap<String, Value>], set: &mut AnswerSet) -> Result<(), Failure> {
    let (found, expected) = (rows.len(), set.rows.len());
    if found != 0 && found != expected {
        return Err(malformed(
            input,
            "rows.jsonl",
            format!("{found} rows for the {expected} answers of {}", set.stage),
        ));
    }
    for (known, row) in set.measures.iter_mut().zip(rows) {
        known.extend(measures::of_verdict(row));
    }
    Ok(())
}

fn align(names: &[String], annotations: &[AnnotationRow], set: &AnswerSet) -> Vec<Option<f64>> {
    let preference_of: HashMap<&str, Option<f64>> =
        names.iter().zip(annotations).map(|(name, row)| (name.as_str(), row.annotation.preference)).collect();
    set.prompts.iter().map(|prompt| preference_of.get(prompt.as_str()).copied().flatten()).collect()
}

fn line(input: &Input, verdict: &VerdictFile, rows: Vec<AnnotationRow>) -> Result<LeaderboardLine, Failure> {
    let annotations: Vec<_> = rows.into_iter().map(|row| row.annotation).collect();
    let mut line = leaderboard_line(&annotations, None).map_err(|error| malformed(input, "annotations.json", error))?;
    if let Some(comparison) = &verdict.comparison {
        line.length_controlled_winrate = comparison.length_controlled_winrate;
        line.lc_standard_error = comparison.lc_standard_error;
    }
    Ok(line)
}

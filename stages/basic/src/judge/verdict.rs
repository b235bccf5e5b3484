//! The files of a `verdict` artifact and the figures in them.

use indexmap::IndexMap;
use neftpipe_measures::leaderboard::{LeaderboardLine, Scored};
use neftpipe_measures::length::average_length;
use neftpipe_measures::screening::{Screening, screen};
use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{AnswerRow, Metrics, one_or_many};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::worker::{Job, write_json};
use serde::Serialize;
use serde_json::Value;

use super::annotate::{AnnotationRow, Completion};
use super::calibrate::Calibration;
use super::length_control;
use super::measures::{Figure, RowMeasures, needs_reference, summarise};
use crate::clip::clip;
use crate::jsonl;

/// Version of the shape of `verdict.json`.
const VERSION: u32 = 1;

/// Who judged, and what that means for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// The annotator's name.
    pub annotator: String,
    /// What its figures must be read with.
    pub label: Option<String>,
    /// Whether it was asked in both orders, and pairs may be too long for it.
    pub is_local: bool,
}

/// Comparisons by a judge.
#[derive(Debug)]
pub struct Compared {
    /// Who judged.
    pub judge: Judge,
    /// One an answer, in their order.
    pub rows: Vec<AnnotationRow>,
    /// All instructions in the order of their set.
    pub set: Vec<String>,
    /// How far the judge agrees with published annotations.
    pub calibration: Option<Calibration>,
}

/// `verdict.json`.
#[derive(Debug, Serialize)]
pub struct Verdict {
    version: u32,
    /// Who answered; one, or several.
    #[serde(with = "one_or_many")]
    generator: Vec<String>,
    /// Whom the answers were compared with.
    #[serde(with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    reference: Vec<String>,
    /// Answers.
    n: usize,
    /// Answers that carry no gold reference.
    n_without_reference: usize,
    /// Measures by name.
    metrics: IndexMap<&'static str, Figure>,
    /// AlpacaEval's figures, where the answers were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    screening: ScreeningSummary,
}

/// The comparison with the reference. Rates are percentages.
#[derive(Debug, Serialize)]
struct Comparison {
    annotator: String,
    /// What the figures must be read with.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(flatten)]
    line: LeaderboardLine,
    /// Mean characters of the reference's outputs, cut to a whole number.
    avg_length_reference: Option<usize>,
    /// Pairs of equal outputs: draws without asking.
    n_identical: usize,
    /// Pairs of other outputs that the judge could read.
    n_judged: usize,
    /// Of these, pairs on which a local judge prefers the same output in both orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_consistent: Option<usize>,
    /// Pairs too long for a local judge's window; they count in no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_too_long: Option<usize>,
    /// Pairs whose judgement could not be read; they count in no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_unread: Option<usize>,
    /// How far the judge agrees with published annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    /// What each answer contributes to the length-controlled win rate; it stands in the rows.
    #[serde(skip)]
    lc_pseudo_values: Option<Vec<f64>>,
}

/// How many answers stand out, and which. Rows are counted from 0.
#[derive(Debug, Serialize)]
struct ScreeningSummary {
    n_empty: usize,
    n_constant: usize,
    n_markers: usize,
    #[serde(flatten)]
    found: Screening,
}

impl Verdict {
    /// The figures of these answers.
    ///
    /// # Errors
    /// Where the judge could read no pair at all, or length cannot be controlled for.
    pub fn new(
        job: &Job,
        params: &JudgeParams,
        answers: &[AnswerRow],
        measured: &[RowMeasures],
        compared: Option<&Compared>,
    ) -> Result<Self, Failure> {
        let outputs: Vec<&str> = answers.iter().map(|row| row.output.as_str()).collect();
        let found = screen(&outputs);
        Ok(Self {
            version: VERSION,
            generator: distinct(answers.iter().map(|row| row.generator.as_str())),
            reference: distinct(
                compared.iter().flat_map(|compared| &compared.rows).map(|row| row.generator_1.as_str()),
            ),
            n: answers.len(),
            n_without_reference: answers.iter().filter(|row| row.reference.is_empty()).count(),
            metrics: summarise(measured),
            comparison: compared.map(|compared| compare(job, params, compared)).transpose()?,
            screening: ScreeningSummary {
                n_empty: found.empty.len(),
                n_constant: found.n_constant(),
                n_markers: found.n_marked(),
                found,
            },
        })
    }

    /// Warns of what makes the figures say less than they seem to.
    pub fn warn(&self, job: &Job, params: &JudgeParams) {
        let n = self.n;
        let count = |code: &str, rows: usize, verb: [&str; 2], what: &str| {
            if rows > 0 {
                job.warn(code, format!("{rows} of {n} answers {} {what}", verb[usize::from(rows > 1)]));
            }
        };
        let (is, has, holds) = (["is", "are"], ["has", "have"], ["holds", "hold"]);
        if params.metrics.iter().any(|&measure| needs_reference(measure)) {
            count(
                "without_reference",
                self.n_without_reference,
                has,
                "no gold reference; measures against one leave these out",
            );
        }
        count("empty_answers", self.screening.n_empty, is, "empty");
        count("constant_answers", self.screening.n_constant, is, "given to many prompts alike");
        count("judge_markers", self.screening.n_markers, holds, "text that addresses a judge");
        if let Some(comparison) = &self.comparison {
            let swayed = comparison.n_consistent.map_or(0, |consistent| comparison.n_judged - consistent);
            if 2 * swayed > comparison.n_judged {
                job.warn(
                    "order_decides",
                    format!(
                        "on {swayed} of {} pairs the judge prefers another answer when the order is swapped: its win rate \
                         says little",
                        comparison.n_judged
                    ),
                );
            }
            count(
                "too_long_for_judge",
                comparison.n_too_long.unwrap_or(0),
                is,
                "too long, with the reference's, for the judge's window",
            );
            count("unread_judgements", comparison.n_unread.unwrap_or(0), has, "a judgement that cannot be read");
        }
    }

    /// The figures for tables: each mean under its name, its standard error beside it.
    pub fn headline(&self) -> Metrics {
        let mut metrics: Metrics = [("n".to_owned(), Value::from(self.n))].into_iter().collect();
        let mut add = |name: &str, mean: Option<f64>, standard_error: Option<f64>| {
            metrics.insert(name.to_owned(), Value::from(mean));
            metrics.insert(format!("{name}_standard_error"), Value::from(standard_error));
        };
        self.metrics.iter().for_each(|(name, figure)| add(name, figure.mean, figure.standard_error));
        if let Some(Comparison { line, calibration, .. }) = &self.comparison {
            add("win_rate", line.win_rate, line.standard_error);
            if line.length_controlled_winrate.is_some() {
                add("length_controlled_winrate", line.length_controlled_winrate, line.lc_standard_error);
            }
            metrics.extend(
                [
                    ("n_wins", line.n_wins),
                    ("n_wins_base", line.n_wins_base),
                    ("n_draws", line.n_draws),
                    ("n_total", line.n_total),
                ]
                .map(|(name, count)| (name.to_owned(), Value::from(count))),
            );
            if let Some(found) = calibration {
                metrics.insert("agreement".to_owned(), Value::from(found.rate));
                metrics.insert("agreement_kappa".to_owned(), Value::from(found.kappa));
                metrics.insert("agreement_n".to_owned(), Value::from(found.n));
            }
        }
        metrics
    }
}

fn compare(job: &Job, params: &JudgeParams, compared: &Compared) -> Result<Comparison, Failure> {
    let Compared { judge, rows, set, calibration } = compared;
    let annotations: Vec<_> = rows.iter().map(AnnotationRow::annotation).collect();
    if annotations.iter().all(|row| row.preference.is_none()) {
        return Err(nothing_read(judge, rows));
    }
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let Scored { line, lc_pseudo_values } = length_control::line(job, params, &annotations, &set)?;
    let reference: Vec<&str> = rows.iter().map(|row| row.output_1.as_str()).collect();
    let unread = rows.iter().filter(|row| row.preference.is_none()).count();
    Ok(Comparison {
        annotator: judge.annotator.clone(),
        label: judge.label.clone(),
        line,
        avg_length_reference: average_length(&reference),
        n_identical: rows.iter().filter(|row| row.is_identical()).count(),
        n_judged: rows.iter().filter(|row| row.preference.is_some() && !row.is_identical()).count(),
        n_consistent: judge.is_local.then(|| rows.iter().filter(|row| row.consistency() == Some(true)).count()),
        n_too_long: judge.is_local.then_some(unread),
        n_unread: (!judge.is_local).then_some(unread),
        calibration: calibration.clone(),
        lc_pseudo_values,
    })
}

/// Characters of an answer that a message quotes.
const LONGEST_QUOTE: usize = 200;

fn nothing_read(judge: &Judge, rows: &[AnnotationRow]) -> Failure {
    if judge.is_local {
        Failure::data("no pair of answers fits into the window of the judge's model")
            .with_hint("take a model with a longer window, or generate shorter answers")
    } else {
        let said = rows.iter().find_map(|row| match &row.raw_completion {
            Completion::Answer(answer) => Some(clip(&answer.to_string(), LONGEST_QUOTE)),
            _ => None,
        });
        let said = said.map_or(String::new(), |said| format!("; the first is {said}"));
        Failure::data(format!("none of the {} judgements of {} can be read{said}", rows.len(), judge.annotator)).with_hint(
            "the model must answer in the annotator's form; one that reads log-probabilities needs a service that gives them. \
             What was answered is kept: name another `model`, or another `revision` of it, to ask again",
        )
    }
}

/// Different names in the order in which they come.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        if !seen.iter().any(|known| known == name) {
            seen.push(name.to_owned());
        }
    }
    seen
}

/// A row of `rows.jsonl`: an answer's prompt, its measures, and how it was judged.
#[derive(Serialize)]
struct VerdictRow<'a> {
    instruction: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    input: &'a str,
    #[serde(flatten)]
    measures: &'a RowMeasures,
    #[serde(skip_serializing_if = "Option::is_none")]
    preference: Option<Option<f64>>,
    /// Their mean over all rows is the length-controlled win rate as a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    lc_pseudo_value: Option<f64>,
}

/// Writes the output `verdict`.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(
    job: &Job,
    verdict: &Verdict,
    answers: &[AnswerRow],
    measured: &[RowMeasures],
    annotations: Option<&[AnnotationRow]>,
) -> Result<(), Failure> {
    let folder = job.output("verdict")?;
    write_json(&folder.join("verdict.json"), verdict)?;
    let lc_pseudo_values = verdict.comparison.as_ref().and_then(|comparison| comparison.lc_pseudo_values.as_ref());
    let rows = answers.iter().zip(measured).enumerate().map(|(index, (answer, measures))| VerdictRow {
        instruction: &answer.instruction,
        input: &answer.input,
        measures,
        preference: annotations.map(|rows| rows[index].preference),
        lc_pseudo_value: lc_pseudo_values.map(|values| values[index]),
    });
    jsonl::write(&folder.join("rows.jsonl"), rows)?;
    match annotations {
        Some(rows) => write_json(&folder.join("annotations.json"), &rows),
        None => Ok(()),
    }
}

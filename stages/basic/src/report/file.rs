//! `report.json`: every figure of the report, under a version.
//!
//! The page is drawn from the same structure, so that both say the same.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use neftpipe_measures::screening::{Screening, screen};
use neftpipe_measures::summary::mean;
use neftpipe_protocol::artifact::TrainMetrics;
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::request::Lineage;
use neftpipe_protocol::training::SharedSteps;
use serde::Serialize;
use serde_json::Value;

use super::collect::{AnswerSet, Run};
use super::curves::{Curves, curves, points_per_run};
use super::equal_length;
use super::figures::{ArmScores, Figure};
use super::histogram::{Histogram, histogram};
use super::lineage::{Role, leaves};
use super::panels::Panel;
use super::place::column_name;
use super::statistics::{Difference, Differences};
use super::verdicts::Judgement;

/// Version of the shape of `report.json`.
const VERSION: u32 = 1;
/// Heading of a report that names none.
const TITLE: &str = "Report";

/// The whole file.
#[derive(Serialize)]
pub struct ReportFile<'a> {
    /// Of this shape.
    pub version: u32,
    /// Heading.
    pub title: &'a str,
    /// Which axis is what.
    pub axes: &'a ReportParams,
    /// The arms, those on the axis first.
    pub arms: Vec<Arm>,
    /// What a reader must bear in mind.
    pub notes: Vec<String>,
    /// The figures, by panel and measure.
    pub figures: Vec<FigureFile>,
    /// What judges made of the answers.
    pub judgements: Vec<JudgementFile<'a>>,
    /// What remains of differences in win rates at equal length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at_equal_length: Vec<String>,
    /// What stands out in the answers.
    pub screening: Vec<ScreeningFile<'a>>,
    /// Losses by row and lengths by answer.
    pub histograms: Vec<Histogram>,
    /// Training runs.
    pub runs: Vec<RunFile<'a>>,
    /// Steps that the training above the report asks for, and how many of them are different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<SharedSteps>,
    /// How all inputs were made.
    pub lineage: Option<&'a Lineage>,
}

/// An arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Whether others are compared with it.
    pub is_baseline: bool,
    /// Training parameters in which the arms differ, where it was trained here.
    pub settings: BTreeMap<String, Value>,
}

/// A figure.
#[derive(Serialize)]
pub struct FigureFile {
    /// Name of the measure, `_trained` added where it is of answers to trained prompts.
    pub name: String,
    /// What it is.
    pub title: String,
    /// Whether arms are compared on it; others are described only.
    pub is_compared: bool,
    /// Unit of all values in this file, which are not scaled: shares stay shares.
    pub unit: &'static str,
    /// Axes that are neither arms nor replicates.
    pub column: IndexMap<String, String>,
    /// The stage whose outputs were measured.
    pub stage: String,
    /// What the prompts are to the training rows, for measures of answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Role>,
    /// The arms.
    pub arms: IndexMap<String, ArmFigure>,
    /// What two factors do beyond their sum.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub interactions: IndexMap<String, Difference>,
}

/// An arm's part of a figure.
#[derive(Serialize)]
pub struct ArmFigure {
    /// Mean over replicates of their means.
    pub mean: f64,
    /// Each replicate's mean and number of values.
    pub replicates: Vec<ReplicateMean>,
    /// Against the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Why it could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The mean of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicateMean {
    /// Which: `seed=0`.
    pub label: String,
    /// Mean over its values.
    pub mean: f64,
    /// How many values.
    pub n: usize,
}

/// A judgement with what was judged.
#[derive(Serialize)]
pub struct JudgementFile<'a> {
    /// The answers.
    pub stage: &'a str,
    /// Their arm.
    pub arm: &'a str,
    /// Their replicate.
    pub replicate: &'a str,
    /// Axes that are neither arms nor replicates.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub column: &'a IndexMap<String, String>,
    /// The judge's figures.
    #[serde(flatten)]
    pub judgement: &'a Judgement,
}

/// What stands out in some answers.
#[derive(Serialize)]
pub struct ScreeningFile<'a> {
    /// The answers.
    pub stage: &'a str,
    /// Their arm.
    pub arm: &'a str,
    /// Their replicate.
    pub replicate: &'a str,
    /// How many there are.
    pub n: usize,
    /// What stands out, by row.
    #[serde(flatten)]
    pub screening: Screening,
}

/// A training run.
#[derive(Serialize)]
pub struct RunFile<'a> {
    /// The instance.
    pub stage: &'a str,
    /// Its arm.
    pub arm: &'a str,
    /// Its replicate.
    pub replicate: &'a str,
    /// Axes that are neither arms nor replicates.
    pub column: &'a IndexMap<String, String>,
    /// What it came to.
    pub metrics: Option<&'a TrainMetrics>,
    /// Its curves, thinned to what a screen can show; the adapter holds every step.
    pub curves: Curves,
}

/// What the file is made of.
pub struct Material<'a> {
    /// The parameters.
    pub params: &'a ReportParams,
    /// Training runs.
    pub runs: &'a [Run],
    /// Answers.
    pub answers: &'a [AnswerSet],
    /// Panels of the runs.
    pub run_panels: &'a [Panel<'a, Run>],
    /// Panels of the answers.
    pub answer_panels: &'a [Panel<'a, AnswerSet>],
    /// The figures, and what was found on each.
    pub figures: &'a [(Figure, Differences)],
    /// What a reader must bear in mind.
    pub notes: Vec<String>,
    /// How the inputs were made.
    pub lineage: Option<&'a Lineage>,
}

impl<'a> ReportFile<'a> {
    /// Puts the file together.
    pub fn new(material: Material<'a>) -> Self {
        let Material { params, runs, answers, figures, lineage, .. } = material;
        let most_points = points_per_run(runs.iter().filter(|run| !run.steps.is_empty()).count());
        Self {
            version: VERSION,
            title: params.title.as_deref().unwrap_or(TITLE),
            axes: params,
            arms: arms(&material),
            histograms: histograms(&material),
            notes: material.notes,
            figures: figures.iter().map(|(figure, differences)| figure_file(figure, differences)).collect(),
            judgements: answers.iter().flat_map(judgement_files).collect(),
            at_equal_length: equal_length::sentences(answers, figures),
            screening: answers.iter().filter_map(screening_file).collect(),
            runs: runs.iter().map(|run| run_file(run, most_points)).collect(),
            steps: lineage.and_then(SharedSteps::of),
            lineage,
        }
    }
}

/// All arms: those on the axis in order of appearance, then the others.
fn arms(material: &Material<'_>) -> Vec<Arm> {
    let members = |on_axis: bool| {
        let runs = material.run_panels.iter().flat_map(|panel| &panel.members);
        let runs = runs.map(|member| (&member.arm, &member.item.place));
        let answers = material.answer_panels.iter().flat_map(|panel| &panel.members);
        let answers = answers.map(|member| (&member.arm, &member.item.place));
        runs.chain(answers).filter(move |(_, place)| place.on_axis == on_axis)
    };
    let mut arms: IndexMap<String, bool> = IndexMap::new();
    for (arm, place) in members(true).chain(members(false)) {
        *arms.entry(arm.clone()).or_default() |= place.is_baseline;
    }
    let mut settings = settings(material);
    let arm = |(name, is_baseline): (String, bool)| {
        let settings = settings.shift_remove(&name).unwrap_or_default();
        Arm { name, is_baseline, settings }
    };
    arms.into_iter().map(arm).collect()
}

/// The training parameters that are not the same in all arms. Where an arm has several values of one (its seeds), it is no
/// setting of the arm.
fn settings(material: &Material<'_>) -> IndexMap<String, BTreeMap<String, Value>> {
    let mut of_arm: IndexMap<String, BTreeMap<String, Vec<&Value>>> = IndexMap::new();
    for run in material.runs {
        let stages = material.lineage.map_or(&[][..], |lineage| &lineage.stages);
        let Some(stage) = stages.iter().find(|stage| stage.id == run.stage) else { continue };
        let values = of_arm.entry(run.place.arm.clone()).or_default();
        for (name, value) in leaves(&stage.params) {
            let seen = values.entry(name).or_default();
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
    }
    let differs = |name: &str| {
        let mut values = of_arm.values().map(|values| values.get(name));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let own = |values: &BTreeMap<String, Vec<&Value>>| {
        let single = values.iter().filter_map(|(name, values)| match values.as_slice() {
            [only] if differs(name) => Some((name.clone(), (*only).clone())),
            _ => None,
        });
        single.collect()
    };
    of_arm.iter().map(|(arm, values)| (arm.clone(), own(values))).collect()
}

fn figure_file(figure: &Figure, differences: &Differences) -> FigureFile {
    let arm = |(name, scores): (&String, &ArmScores)| {
        let replicates = replicate_means(scores);
        let means: Vec<f64> = replicates.iter().map(|replicate| replicate.mean).collect();
        let arm = ArmFigure {
            mean: mean(&means).expect("an arm of a figure has a replicate"),
            replicates,
            difference: differences.by_arm.get(name).cloned(),
            problem: differences.problems.get(name).map(ToString::to_string),
        };
        (name.clone(), arm)
    };
    FigureFile {
        name: figure.name(),
        title: figure.title.clone(),
        is_compared: figure.measure.is_compared,
        unit: if figure.quantity.scale == 1.0 { figure.quantity.unit } else { "share" },
        column: figure.column.clone(),
        stage: figure.stage.clone(),
        prompts: figure.role,
        arms: figure.arms.iter().map(arm).collect(),
        interactions: differences.interactions.clone(),
    }
}

fn replicate_means(scores: &ArmScores) -> Vec<ReplicateMean> {
    let replicate = |run: &neftpipe_measures::contrast::Replicate| {
        let values: Vec<f64> = run.scores.values().copied().collect();
        let mean = mean(&values).expect("a replicate of a figure has a score");
        ReplicateMean { label: run.label.clone(), mean, n: values.len() }
    };
    scores.replicates.iter().map(replicate).collect()
}

fn judgement_files(set: &AnswerSet) -> impl Iterator<Item = JudgementFile<'_>> {
    set.judgements.iter().map(|judgement| JudgementFile {
        stage: &set.stage,
        arm: &set.place.arm,
        replicate: &set.place.replicate,
        column: &set.place.column,
        judgement,
    })
}

fn screening_file(set: &AnswerSet) -> Option<ScreeningFile<'_>> {
    let outputs: Vec<&str> = set.rows.iter().map(|row| row.output.as_str()).collect();
    let screening = screen(&outputs);
    (!screening.is_clean()).then(|| ScreeningFile {
        stage: &set.stage,
        arm: &set.place.arm,
        replicate: &set.place.replicate,
        n: set.rows.len(),
        screening,
    })
}

fn run_file(run: &Run, most_points: usize) -> RunFile<'_> {
    RunFile {
        stage: &run.stage,
        arm: &run.place.arm,
        replicate: &run.place.replicate,
        column: &run.place.column,
        metrics: run.metrics.as_ref(),
        curves: curves(&run.steps, most_points),
    }
}

/// Histograms of losses by row and of lengths by answer, over all seeds of an arm.
fn histograms(material: &Material<'_>) -> Vec<Histogram> {
    let is_shown = |figure: &Figure| matches!(figure.measure.name, "loss_trained" | "loss_heldout" | "characters");
    let shown = material.figures.iter().map(|(figure, _)| figure).filter(|figure| is_shown(figure));
    let of_figure = |figure: &Figure| {
        let arms: Vec<(&str, Vec<f64>)> =
            figure.arms.iter().map(|(arm, scores)| (arm.as_str(), pooled(scores))).collect();
        histogram(
            &figure.name(),
            &figure.title,
            figure.quantity.unit,
            &column_name(&figure.column, material.params),
            &arms,
        )
    };
    shown.filter_map(of_figure).collect()
}

fn pooled(scores: &ArmScores) -> Vec<f64> {
    scores.replicates.iter().flat_map(|run| run.scores.values()).copied().collect()
}

//! Draws the page: figures become views with finished texts and coordinates, which the templates under `assets/report` lay
//! out. Every text that came from outside is escaped by the template engine, or carried compressed.

mod findings;
mod stages;
mod templates;

use indexmap::{IndexMap, IndexSet};
use minijinja::value::Serde;
use minijinja::{Value, context};
use neftpipe_measures::sentence::count;
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::worker::Job;
use serde::Serialize;

use super::answers::answer_data;
use super::collect::AnswerSet;
use super::curves::Curves;
use super::figures::Figure;
use super::file::{ReportFile, RunFile, ScreeningFile};
use super::measures::LC_WIN_RATE;
use super::packed::pack;
use super::panels::Panel;
use super::place::{column_name, display};
use super::sentences::{of_steps, what_stands_out};
use super::statistics::Differences;
use findings::column_views;
use stages::lineage_view;
use templates::environment;

/// How many colours the style sheet has for arms.
const COLOURS: usize = 8;

#[derive(Serialize)]
struct ArmView<'a> {
    name: &'a str,
    class: String,
    is_baseline: bool,
    settings: String,
}

/// What the scripts of the page need at once.
#[derive(Serialize)]
struct PageData<'a> {
    arms: Vec<&'a str>,
    baselines: Vec<&'a str>,
    runs: Vec<RunData<'a>>,
    histograms: &'a [super::histogram::Histogram],
}

#[derive(Serialize)]
struct RunData<'a> {
    name: String,
    arm: &'a str,
    curves: &'a Curves,
}

/// The page as HTML.
///
/// # Errors
/// Where a template cannot be rendered, which is a bug.
pub fn render(
    report: &ReportFile<'_>,
    figures: &[(Figure, Differences)],
    panels: &[Panel<'_, AnswerSet>],
    job: &Job,
) -> Result<String, Failure> {
    let bug = |error: &dyn std::fmt::Display| Failure::internal(format!("the page cannot be drawn: {error}"));
    let params = report.axes;
    let answers = answer_data(panels, params);
    let packed = if answers.is_empty() { String::new() } else { pack(&answers).map_err(|error| bug(&error))? };
    let inputs = ["train", "answers", "verdict"].iter().flat_map(|slot| job.inputs(slot));
    let last: Vec<&str> = inputs.map(|input| input.stage.as_str()).collect();
    let lineage = report.lineage.map(|lineage| lineage_view(lineage, &last));
    let page = context! {
        title => report.title,
        notes => report.notes.clone(),
        judgements => Value::from(Serde(&report.judgements)),
        families => Value::from(Serde(&params.families)),
        arms => Value::from(Serde(arm_views(report))),
        classes => Value::from(Serde(classes(report))),
        columns => Value::from(Serde(column_views(report, figures))),
        cautions => cautions(report),
        at_equal_length => report.at_equal_length.clone(),
        screening => report.screening.iter().map(screening_view).collect::<Vec<_>>(),
        lede => lede(report, figures),
        answers => packed,
        has_lc => report.figures.iter().any(|figure| figure.name == LC_WIN_RATE.name),
        n_prompts => answers.iter().map(|panel| panel.prompts.len()).sum::<usize>(),
        steps => report.steps.and_then(of_steps),
        lineage => lineage,
        data => Value::from(Serde(page_data(report))),
    };
    let environment = environment().map_err(|error| bug(&error))?;
    environment.get_template("page.html").and_then(|template| template.render(page)).map_err(|error| bug(&error))
}

/// The class that gives an arm its colour: the baseline is grey.
fn classes(report: &ReportFile<'_>) -> IndexMap<String, String> {
    let mut next = 0;
    let class = |arm: &super::file::Arm| {
        if arm.is_baseline {
            return (arm.name.clone(), "arm-baseline".to_owned());
        }
        next += 1;
        (arm.name.clone(), format!("arm-{}", (next - 1) % COLOURS))
    };
    report.arms.iter().map(class).collect()
}

fn arm_views<'a>(report: &'a ReportFile<'_>) -> Vec<ArmView<'a>> {
    let classes = classes(report);
    let settings = |arm: &super::file::Arm| {
        arm.settings.iter().map(|(name, value)| format!("{name} {}", display(value))).collect::<Vec<_>>().join(", ")
    };
    let view = |arm: &'a super::file::Arm| ArmView {
        name: &arm.name,
        class: classes[&arm.name].clone(),
        is_baseline: arm.is_baseline,
        settings: settings(arm),
    };
    report.arms.iter().map(view).collect()
}

/// The line under the title: what was compared, and how much of it there is.
fn lede(report: &ReportFile<'_>, figures: &[(Figure, Differences)]) -> String {
    let seeds = figures.iter().flat_map(|(figure, _)| figure.arms.values()).map(|arm| arm.replicates.len()).max();
    let mut parts = vec![count(report.arms.len(), "arm")];
    parts.extend(seeds.map(|seeds| match seeds {
        1 => "1 run each".to_owned(),
        seeds => format!("up to {seeds} runs each"),
    }));
    if let Some(baseline) = report.arms.iter().find(|arm| arm.is_baseline) {
        parts.push(format!("compared with {}", baseline.name));
    }
    parts.join(" · ")
}

/// What judges' figures must be read with, each once.
fn cautions(report: &ReportFile<'_>) -> Vec<Value> {
    let judgements = report.judgements.iter().map(|file| file.judgement);
    let said: IndexSet<(&str, &str)> = judgements
        .filter_map(|judgement| Some((judgement.annotator.as_str(), judgement.caution.as_deref()?)))
        .collect();
    said.into_iter().map(|(annotator, text)| context! { annotator, text }).collect()
}

fn screening_view(file: &ScreeningFile<'_>) -> Value {
    context! { arm => file.arm, replicate => file.replicate, stage => file.stage, n => file.n, texts => what_stands_out(&file.screening) }
}

fn page_data<'a>(report: &'a ReportFile<'_>) -> PageData<'a> {
    let run = |run: &'a RunFile<'_>| RunData { name: run_name(run, report.axes), arm: run.arm, curves: &run.curves };
    PageData {
        arms: report.arms.iter().map(|arm| arm.name.as_str()).collect(),
        baselines: report.arms.iter().filter(|arm| arm.is_baseline).map(|arm| arm.name.as_str()).collect(),
        runs: report.runs.iter().filter(|run| !run.curves.step.is_empty()).map(run).collect(),
        histograms: &report.histograms,
    }
}

/// `neft5, seed=0`, with the column where there is one.
fn run_name(run: &RunFile<'_>, params: &ReportParams) -> String {
    let parts = [run.arm.to_owned(), column_name(run.column, params), run.replicate.to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

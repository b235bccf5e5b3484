//! Draws the page: figures become views with finished texts and coordinates, which the templates under `assets/report` lay
//! out. Every text that came from outside is escaped by the template engine, or carried compressed.

use indexmap::{IndexMap, IndexSet};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use neftpipe_measures::comparison::Finding;
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::request::Lineage;
use neftpipe_protocol::worker::Job;
use serde::Serialize;

use super::answers::answer_data;
use super::collect::AnswerSet;
use super::curves::Curves;
use super::drawing::{self, Axis, graph};
use super::figures::Figure;
use super::file::{ReportFile, RunFile, ScreeningFile};
use super::lineage::leaves;
use super::measures::Subject;
use super::packed::pack;
use super::panels::Panel;
use super::place::{column_name, display};
use super::sentences::{Summary, p_value, summaries};
use super::statistics::{Difference, Differences};
use super::table::{Table, columns, table};

/// How many colours the style sheet has for arms.
const COLOURS: usize = 8;

/// A part of the page for one column of the report.
#[derive(Serialize)]
struct ColumnView {
    name: String,
    summaries: Vec<Summary>,
    sections: Vec<SectionView>,
    judged: Vec<SectionView>,
    table: Table,
}

/// One compared measure.
#[derive(Serialize)]
struct SectionView {
    title: String,
    about: String,
    unit: &'static str,
    baseline: String,
    zero: f64,
    better: &'static str,
    rows: Vec<DifferenceView>,
}

/// One arm's difference.
#[derive(Serialize)]
struct DifferenceView {
    arm: String,
    sentence: String,
    finding: Finding,
    low: f64,
    high: f64,
    mean: f64,
    points: Vec<f64>,
    tests: String,
}

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
        n_prompts => answers.iter().map(|panel| panel.prompts.len()).sum::<usize>(),
        lineage => lineage,
        data => Value::from(Serde(page_data(report))),
    };
    let environment = environment().map_err(|error| bug(&error))?;
    environment.get_template("page.html").and_then(|template| template.render(page)).map_err(|error| bug(&error))
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    let files = [
        ("page.html", include_str!("../../assets/report/page.html")),
        ("findings.html", include_str!("../../assets/report/findings.html")),
        ("table.html", include_str!("../../assets/report/table.html")),
        ("lineage.html", include_str!("../../assets/report/lineage.html")),
        ("style.css", include_str!("../../assets/report/style.css")),
        ("table.js", include_str!("../../assets/report/table.js")),
        ("charts.js", include_str!("../../assets/report/charts.js")),
        ("answers.js", include_str!("../../assets/report/answers.js")),
        ("uPlot.js", include_str!("../../assets/uplot/uPlot.iife.min.js")),
        ("uPlot.css", include_str!("../../assets/uplot/uPlot.min.css")),
        ("uPlot.licence", include_str!("../../assets/uplot/LICENSE")),
    ];
    for (name, source) in files {
        if name.ends_with(".html") {
            environment.add_template(name, source)?;
        }
    }
    let asset = move |name: &str| match files.iter().find(|(known, _)| *known == name) {
        Some((_, source)) => Ok(Value::from_safe_string((*source).to_owned())),
        None => Err(minijinja::Error::new(minijinja::ErrorKind::TemplateNotFound, name.to_owned())),
    };
    environment.add_function("asset", asset);
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_filter("clip", clip);
    Ok(environment)
}

/// The first characters of a text, with a mark where something is left out.
fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
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
    let count = |n: usize, noun: &str| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") };
    let seeds = figures.iter().flat_map(|(figure, _)| figure.arms.values()).map(|arm| arm.replicates.len()).max();
    let mut parts = vec![count(report.arms.len(), "arm")];
    parts.extend(seeds.map(|seeds| format!("up to {} each", count(seeds, "run"))));
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
    let found = &file.screening;
    let mut texts = Vec::new();
    if !found.empty.is_empty() {
        texts.push(format!("{} empty", found.empty.len()));
    }
    texts.extend(found.constant.iter().map(|rows| format!("one answer given {} times", rows.len())));
    texts.extend(found.markers.iter().map(|marker| format!("answer {} holds “{}”", marker.row + 1, marker.phrase)));
    context! { arm => file.arm, replicate => file.replicate, stage => file.stage, n => file.n, texts }
}

fn column_views(report: &ReportFile<'_>, figures: &[(Figure, Differences)]) -> Vec<ColumnView> {
    let columns = columns(report, figures);
    let column = |(name, members): (String, Vec<usize>)| {
        let sections = |judged: bool| -> Vec<SectionView> {
            let is_judged = |figure: &Figure| figure.measure.subject == Subject::Preference;
            let chosen = members.iter().map(|&at| &figures[at]).filter(|(figure, _)| is_judged(figure) == judged);
            chosen.filter_map(|(figure, differences)| section(figure, differences)).collect()
        };
        ColumnView {
            summaries: summaries(members.iter().map(|&at| (&figures[at].0, &figures[at].1))),
            sections: sections(false),
            judged: sections(true),
            table: table(report, figures, &members),
            name,
        }
    };
    columns.into_iter().map(column).collect()
}

fn section(figure: &Figure, differences: &Differences) -> Option<SectionView> {
    let first = differences.by_arm.values().next()?;
    let shown = || differences.by_arm.iter().chain(&differences.interactions);
    let values = shown().flat_map(|(_, difference)| {
        let comparison = &difference.judged.comparison;
        let interval = comparison.bootstrap.interval;
        comparison.replicates.iter().map(|(_, mean)| *mean).chain([interval.low, interval.high, 0.0])
    });
    let axis = Axis::around(values);
    let rows = shown().map(|(arm, difference)| difference_view(arm, difference, &axis)).collect();
    Some(SectionView {
        title: figure.title.clone(),
        about: figure.about.clone(),
        unit: figure.quantity.unit,
        baseline: first.baseline.clone(),
        zero: axis.place(0.0),
        better: match figure.quantity.better {
            Some(neftpipe_measures::sentence::Better::Higher) => "higher is better",
            Some(neftpipe_measures::sentence::Better::Lower) => "lower is better",
            None => "neither way is better by itself",
        },
        rows,
    })
}

fn difference_view(arm: &str, difference: &Difference, axis: &Axis) -> DifferenceView {
    let Difference { judged, sentence, family, .. } = difference;
    let (bootstrap, signs) = (&judged.comparison.bootstrap, &judged.comparison.sign_test);
    let tests = format!(
        "bootstrap p {} (Holm over {} in {family}: {}); sign test: above on {}, below on {}, equal on {}, p {} (Holm: {})",
        p_value(bootstrap.p_value),
        judged.family_size,
        p_value(judged.p_holm),
        signs.ahead,
        signs.behind,
        signs.ties,
        p_value(signs.p_value),
        p_value(judged.sign_p_holm),
    );
    DifferenceView {
        arm: arm.to_owned(),
        sentence: sentence.clone(),
        finding: judged.finding,
        low: axis.place(bootstrap.interval.low),
        high: axis.place(bootstrap.interval.high),
        mean: axis.place(bootstrap.mean),
        points: judged.comparison.replicates.iter().map(|(_, mean)| axis.place(*mean)).collect(),
        tests,
    }
}

/// The graph, and every stage with its parameters and digests.
fn lineage_view(lineage: &Lineage, last: &[&str]) -> Value {
    let stage = |stage: &neftpipe_protocol::request::LineageStage| {
        let params: Vec<(String, String)> =
            leaves(&stage.params).into_iter().map(|(name, value)| (name, display(value))).collect();
        let inputs: Vec<(String, String)> = stage
            .inputs
            .iter()
            .map(|(slot, inputs)| {
                let inputs: Vec<&str> = inputs.iter().map(|input| input.stage.as_str()).collect();
                (slot.clone(), inputs.join(", "))
            })
            .collect();
        context! {
            id => stage.id.clone(),
            kind => stage.kind.name(),
            label => stage.label.clone(),
            params => params,
            inputs => inputs,
            outputs => stage.outputs.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect::<Vec<_>>(),
            key => stage.key.to_string(),
        }
    };
    context! {
        graph => Value::from(Serde(graph(lineage, last))),
        node_width => drawing::NODE_WIDTH,
        node_height => drawing::NODE_HEIGHT,
        stages => lineage.stages.iter().map(stage).collect::<Vec<_>>(),
    }
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

//! `report`: one self-contained page that people want to read, `report.json` with every figure of it, and the files for a
//! paper.
//!
//! [`collect`] and [`verdicts`] read the inputs, [`panels`] and [`figures`] arrange them, [`statistics`] compares arms,
//! [`file`] is what is written as JSON, [`page`] draws it, and [`paper`] writes it for papers. Equal inputs give equal bytes:
//! no times, no host facts, and not the name of the report's own stage, which is in no key.

mod answers;
mod collect;
mod curves;
mod drawing;
mod equal_length;
mod figures;
mod file;
mod files;
mod histogram;
mod lineage;
mod measures;
mod packed;
mod page;
mod panels;
mod paper;
mod place;
mod sentences;
mod statistics;
mod table;
mod verdicts;

use std::fs;

use indexmap::IndexMap;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::request::{Input, Missing, Success};
use neftpipe_protocol::worker::{Job, Outcome, io_failure, write_json};
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::Value;

use collect::{AnswerSet, Run, read_answers, read_run};
use figures::Figure;
use file::{Material, ReportFile};
use lineage::Origins;
use panels::{answer_panels, run_panels};
use statistics::{Differences, differences};

/// The output.
const OUTPUT: &str = "report";

/// Writes the report.
///
/// # Errors
/// Where the parameters name axes that no input has, an input is not what its artifact promises, or nothing can be written.
pub fn execute(job: &Job) -> Result<Outcome, Failure> {
    let params: ReportParams = job.params()?;
    let slots = ["train", "answers", "verdict"];
    if missing(job).is_empty() {
        place::check_axes(&params, slots.iter().flat_map(|slot| job.inputs(slot)))?;
    }
    let origins = Origins::new(job.request.lineage.as_ref());
    let runs = read_each(job.inputs("train"), |input| read_run(input, &params, &origins))?;
    let mut answers = read_each(job.inputs("answers"), |input| read_answers(input, &params, &origins))?;
    name_after_runs(&mut answers, &runs, &origins);
    let mut left_out = Vec::new();
    for verdict in job.inputs("verdict") {
        if !verdicts::add_verdict(verdict, &origins, &mut answers)? {
            left_out.push(verdict.stage.as_str());
        }
    }
    if let [first, ..] = left_out.as_slice() {
        job.warn(
            "verdicts_left_out",
            format!(
                "{} verdicts are of answers that this report is not given, and are left out; the first is {first}: add what it \
                 judged to `needs: {{ answers: … }}`",
                left_out.len()
            ),
        );
    }
    write(job, &params, &runs, &answers)
}

/// What could not be made, and is left out: arms that the parameters name may be among it.
fn missing(job: &Job) -> &[Missing] {
    job.request.lineage.as_ref().map_or(&[], |lineage| &lineage.missing)
}

/// Answers without the axis of the arms are of the arm of the run whose adapter gave them, unless a label says otherwise.
fn name_after_runs(answers: &mut [AnswerSet], runs: &[Run], origins: &Origins<'_>) {
    for set in answers.iter_mut().filter(|set| !set.place.on_axis && set.input.label.is_none()) {
        let adapter = origins.of(&set.input).and_then(|stage| origins.input(stage, "adapter"));
        let run = adapter.and_then(|(made, _)| runs.iter().find(|run| run.stage == made.id && !run.place.on_axis));
        if let Some(run) = run {
            set.place.arm.clone_from(&run.place.arm);
        }
    }
}

/// Reads the inputs of a slot, each instance once.
fn read_each<T>(inputs: &[Input], read: impl Fn(&Input) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let by_stage: IndexMap<&str, &Input> = inputs.iter().map(|input| (input.stage.as_str(), input)).collect();
    by_stage.values().map(|input| read(input)).collect()
}

fn write(job: &Job, params: &ReportParams, runs: &[Run], answers: &[AnswerSet]) -> Result<Outcome, Failure> {
    let (run_panels, answer_panels) = (run_panels(runs), answer_panels(answers));
    let figures: Vec<Figure> = run_panels
        .iter()
        .flat_map(figures::of_runs)
        .chain(answer_panels.iter().flat_map(figures::of_answers))
        .collect();
    let missing = missing(job);
    if missing.is_empty() {
        statistics::check_interactions(&figures, params)?;
    }
    job.progress(0, Some(2), "parts", Some("comparing arms".to_owned()));
    let differences = differences(&figures, params);
    let mut notes = sentences::of_missing(missing);
    notes.extend(sentences::notes(&figures, params));
    notes.extend(sentences::of_judges(answers));
    notes.extend(sentences::of_unjudged(answers));
    let figures: Vec<(Figure, Differences)> = figures.into_iter().zip(differences).collect();
    let report = ReportFile::new(Material {
        params,
        runs,
        answers,
        run_panels: &run_panels,
        answer_panels: &answer_panels,
        figures: &figures,
        notes,
        lineage: job.request.lineage.as_ref(),
    });
    job.progress(1, Some(2), "parts", Some("drawing the page".to_owned()));
    let page = page::render(&report, &figures, &answer_panels, job)?;
    let out = job.output(OUTPUT)?;
    write_json(&out.join("report.json"), &report)?;
    let index = out.join("index.html");
    fs::write(&index, page).map_err(|error| io_failure("write", &index, &error))?;
    let lacking = paper::write(&out, &report, &figures)?;
    if !lacking.is_empty() {
        let letters: Vec<String> = lacking.iter().map(char::to_string).collect();
        job.warn(
            "letters_lacking",
            format!(
                "names have letters that the PDF figures show as `?`, or table.tex by their numbers as [U+4E2D]: {}; the page, \
                 the SVG figures, Markdown and CSV have them",
                letters.join(" ")
            ),
        );
    }
    job.progress(2, Some(2), "parts", None);
    Ok(Outcome::Succeeded(Box::new(Success {
        outputs: [(OUTPUT.to_owned(), ArtifactType::Report)].into_iter().collect(),
        metrics: headline(&report),
        ..Success::default()
    })))
}

/// The mean of every compared measure by arm: `neft5.loss_heldout`, with the stage or column where one name would stand for
/// several figures.
fn headline(report: &ReportFile<'_>) -> Metrics {
    let mut metrics = Metrics::new();
    for figure in report.figures.iter().filter(|figure| figure.is_compared) {
        for (arm, scores) in &figure.arms {
            let mut name = vec![arm.clone(), figure.name.clone()];
            if metrics.contains_key(&name.join(".")) {
                name.extend(figure.column.values().cloned().chain([figure.stage.clone()]));
            }
            metrics.insert(name.join("."), Value::from(scores.mean));
        }
    }
    metrics
}

//! The answers as the page carries them: prompt by prompt, every model's answer with its measures and the judge's preference.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use neftpipe_measures::screening::screen;
use neftpipe_measures::win_rate::win_share;
use serde::Serialize;

use super::collect::AnswerSet;
use super::panels::{Member, Panel};
use super::place::column_name;
use neftpipe_protocol::params::ReportParams;

/// The answers of one panel.
#[derive(Debug, Serialize)]
pub struct AnswerPanel<'a> {
    /// What it is, for people.
    pub title: String,
    /// The prompts.
    pub prompts: Vec<Prompt<'a>>,
    /// The models.
    pub models: Vec<Model<'a>>,
}

/// A prompt.
#[derive(Debug, Serialize)]
pub struct Prompt<'a> {
    instruction: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    input: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    reference: &'a [String],
}

/// One model's answers.
#[derive(Debug, Serialize)]
pub struct Model<'a> {
    arm: &'a str,
    replicate: &'a str,
    generator: &'a str,
    /// Whose answers the judge compared it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    /// The judge.
    #[serde(skip_serializing_if = "Option::is_none")]
    annotator: Option<&'a str>,
    /// By prompt; nothing where it did not answer one.
    answers: Vec<Option<Answer<'a>>>,
}

/// One answer.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    output: &'a str,
    measures: BTreeMap<&'a str, f64>,
    /// 1 for the reference to 2 for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    preference: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'a str>,
    /// Whether screening found something.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    flagged: bool,
}

/// The panels as the page carries them.
pub fn answer_data<'a>(panels: &'a [Panel<'a, AnswerSet>], params: &ReportParams) -> Vec<AnswerPanel<'a>> {
    panels.iter().map(|panel| answer_panel(panel, params)).collect()
}

fn answer_panel<'a>(panel: &'a Panel<'a, AnswerSet>, params: &ReportParams) -> AnswerPanel<'a> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut prompts = Vec::new();
    for set in panel.members.iter().map(|member| member.item) {
        for (name, row) in set.prompts.iter().zip(&set.rows) {
            places.entry(name).or_insert_with(|| {
                let (instruction, input) = (row.instruction.as_str(), row.input.as_str());
                prompts.push(Prompt { instruction, input, reference: &row.reference });
                prompts.len() - 1
            });
        }
    }
    let column = column_name(&panel.column, params);
    let prompts_name = panel.prompts_name().unwrap_or_else(|| "all".to_owned());
    let title = [column, prompts_name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let models = panel.members.iter().map(|member| model(member, &places)).collect();
    AnswerPanel { title, prompts, models }
}

fn model<'a>(member: &'a Member<'a, AnswerSet>, places: &HashMap<&str, usize>) -> Model<'a> {
    let set = member.item;
    let flagged = flagged_rows(set);
    let mut answers: Vec<Option<Answer<'a>>> = places.iter().map(|_| None).collect();
    for (at, row) in set.rows.iter().enumerate() {
        let preference = set.judgements.first().and_then(|judgement| judgement.preferences[at]);
        answers[places[set.prompts[at].as_str()]] = Some(Answer {
            output: &row.output,
            measures: set.measures[at].iter().map(|(name, &value)| (name.as_str(), round(value))).collect(),
            preference: preference.and_then(win_share).map(|share| round(1.0 + share)),
            finish_reason: row.finish_reason.as_deref(),
            flagged: flagged.contains(&at),
        });
    }
    Model {
        arm: &member.arm,
        replicate: &member.replicate,
        generator: set.rows.first().map_or("", |row| &row.generator),
        reference: set.judgements.first().map(|judgement| judgement.reference.as_str()),
        annotator: set.judgements.first().map(|judgement| judgement.annotator.as_str()),
        answers,
    }
}

fn flagged_rows(set: &AnswerSet) -> BTreeSet<usize> {
    let outputs: Vec<&str> = set.rows.iter().map(|row| row.output.as_str()).collect();
    let found = screen(&outputs);
    let constant = found.constant.into_iter().flatten();
    let marked = found.markers.into_iter().map(|marker| marker.row);
    found.empty.into_iter().chain(constant).chain(marked).collect()
}

/// Four digits after the point are more than the page shows.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

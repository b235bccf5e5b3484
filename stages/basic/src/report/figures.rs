//! Turns panels into figures: for each measure, the scores of every arm and replicate.
//!
//! It pairs nothing and tests nothing: see [`super::statistics`].

use std::collections::BTreeMap;

use indexmap::IndexMap;
use neftpipe_measures::contrast::Replicate;
use neftpipe_measures::sentence::Quantity;
use neftpipe_measures::win_rate::win_share;
use neftpipe_protocol::artifact::TrainMetrics;

use super::collect::{AnswerSet, Run};
use super::lineage::Role;
use super::measures::{LC_WIN_RATE, LOSS_HELDOUT, LOSS_TRAINED, Measure, OF_ANSWERS, Subject, WIN_RATE};
use super::panels::{Member, Panel};

/// Measures of likeness to a reference.
const LIKENESS: [&str; 3] = ["rouge_l", "bleu_4", "exact_match"];

/// One measure on one panel.
pub struct Figure {
    /// The measure.
    pub measure: &'static Measure,
    /// How its values are written here.
    pub quantity: Quantity<'static>,
    /// The panel's column.
    pub column: IndexMap<String, String>,
    /// The panel's stage, without axes.
    pub stage: String,
    /// What the answered prompts are; `None` for losses.
    pub role: Option<Role>,
    /// Heading of a section about it.
    pub title: String,
    /// What it is within a sentence: `loss on trained rows`.
    pub phrase: String,
    /// Heading of its column in the table.
    pub heading: String,
    /// What it is and what is known of it.
    pub about: String,
    /// The arms that have it, in the order of the panel.
    pub arms: IndexMap<String, ArmScores>,
}

impl Figure {
    /// Its name in data: the measure's, marked where it is of answers to trained prompts.
    pub fn name(&self) -> String {
        let mark = if self.role == Some(Role::Trained) { "_trained" } else { "" };
        format!("{}{mark}", self.measure.name)
    }

    /// The order in which figures are read: what noise is known to change comes first, what is only described last.
    pub fn rank(&self) -> usize {
        const ORDER: [&str; 7] = [
            "loss_trained",
            "loss_heldout",
            "rouge_l_trained",
            "characters",
            "rouge_l",
            "win_rate",
            "length_controlled_winrate",
        ];
        let name = self.name();
        ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len())
    }
}

/// What an arm has of a figure.
pub struct ArmScores {
    /// The scores of each run.
    pub replicates: Vec<Replicate>,
    /// Whether others are compared with it.
    pub is_baseline: bool,
}

/// The losses of a panel of runs.
pub fn of_runs(panel: &Panel<'_, Run>) -> Vec<Figure> {
    let probes: [(&'static Measure, ProbeOf); 2] = [
        (&LOSS_TRAINED, |metrics| (&metrics.probe_train_rows, &metrics.probe_train_losses)),
        (&LOSS_HELDOUT, |metrics| (&metrics.probe_heldout_rows, &metrics.probe_heldout_losses)),
    ];
    let figure = |(measure, probe): (&'static Measure, ProbeOf)| {
        let arms = scores(panel, |member| losses(panel, member, probe));
        (!arms.is_empty()).then(|| Figure {
            measure,
            quantity: measure.quantity,
            column: panel.column.clone(),
            stage: panel.stage.clone(),
            role: None,
            title: format!("{}, noise off", measure.title),
            phrase: measure.phrase(),
            heading: measure.heading.to_owned(),
            about: measure.about.to_owned(),
            arms,
        })
    };
    probes.into_iter().filter_map(figure).collect()
}

/// Rows and losses of one part of the probe.
type ProbeOf = fn(&TrainMetrics) -> (&[u64], &[f64]);

/// The losses of a run by names of rows under which arms may be paired.
///
/// Rows that were trained on differ from seed to seed, since each seed draws its own. Where a run probed the very rows that
/// the baseline of its seed probed, a row is named by its place in the probe; else by the tokens and its own number, under
/// which only equal rows meet.
fn losses(panel: &Panel<'_, Run>, member: &Member<'_, Run>, probe: ProbeOf) -> Option<Vec<(String, f64)>> {
    let (rows, losses) = probe(member.item.metrics.as_ref()?);
    let baseline =
        panel.members.iter().find(|other| other.item.place.is_baseline && other.replicate == member.replicate);
    let same_rows = |other: &&Member<'_, Run>| {
        let metrics = other.item.metrics.as_ref();
        other.item.tokens == member.item.tokens && metrics.is_some_and(|metrics| probe(metrics).0 == rows)
    };
    let tokens = member.item.tokens.map_or_else(String::new, |digest| digest.short());
    let by_place = baseline.filter(same_rows).is_some();
    let name = |(place, row): (usize, &u64)| if by_place { format!("{place:06}") } else { format!("{tokens} {row}") };
    let named: Vec<_> = rows.iter().enumerate().map(name).zip(losses.iter().copied()).collect();
    (!named.is_empty()).then_some(named)
}

/// The measures of a panel of answers, and its judge's preferences.
pub fn of_answers(panel: &Panel<'_, AnswerSet>) -> Vec<Figure> {
    let of_measure = |measure: &'static Measure| {
        let arms = scores(panel, |member| {
            let set = member.item;
            let row = |(prompt, measures): (&String, &BTreeMap<String, f64>)| {
                Some((prompt.clone(), *measures.get(measure.name)?))
            };
            let scores: Vec<_> = set.prompts.iter().zip(&set.measures).filter_map(row).collect();
            (!scores.is_empty()).then_some(scores)
        });
        (measure, arms)
    };
    let preferences = scores(panel, |member| {
        let set = member.item;
        let judgement = set.judgements.first()?;
        let share = |(prompt, preference): (&String, &Option<f64>)| Some((prompt.clone(), win_share((*preference)?)?));
        let scores: Vec<_> = set.prompts.iter().zip(&judgement.preferences).filter_map(share).collect();
        (!scores.is_empty()).then_some(scores)
    });
    let at_equal_length = scores(panel, |member| {
        let values = &member.item.judgements.first()?.lc_pseudo_values;
        let scores: Vec<_> = member.item.prompts.iter().cloned().zip(values.iter().copied()).collect();
        (!scores.is_empty()).then_some(scores)
    });
    // Of answers to trained prompts only likeness to what was trained is asked.
    let is_asked = |measure: &&Measure| panel.role() != Role::Trained || LIKENESS.contains(&measure.name);
    let figures = OF_ANSWERS
        .iter()
        .filter(is_asked)
        .map(of_measure)
        .chain([(&WIN_RATE, preferences), (&LC_WIN_RATE, at_equal_length)]);
    figures.filter(|(_, arms)| !arms.is_empty()).map(|(measure, arms)| answers_figure(panel, measure, arms)).collect()
}

fn answers_figure(
    panel: &Panel<'_, AnswerSet>,
    measure: &'static Measure,
    arms: IndexMap<String, ArmScores>,
) -> Figure {
    let memorisation = measure.name == "rouge_l" && panel.role() == Role::Trained;
    let prompts = panel.prompts_name();
    let with = |text: String, word: &str| match &prompts {
        Some(prompts) => format!("{text}{word}{prompts}"),
        None => text,
    };
    let greedy = if panel.is_greedy() { "greedy answers" } else { "answers" };
    let title = match measure.subject {
        Subject::Preference => with(measure.title.to_owned(), " on "),
        _ => with(format!("{} of {greedy}", measure.title), " to "),
    };
    let about = if memorisation {
        "How much of the trained answer a model gives back word for word: memorisation. Noise on the embeddings is known to \
         lower it."
    } else {
        measure.about
    };
    Figure {
        measure,
        quantity: Quantity { better: measure.quantity.better.filter(|_| !memorisation), ..measure.quantity },
        column: panel.column.clone(),
        stage: panel.stage.clone(),
        role: Some(panel.role()),
        title,
        phrase: match measure.name {
            "characters" => with("length of answers".to_owned(), " to "),
            _ => with(measure.phrase(), " on "),
        },
        heading: with(measure.heading.to_owned(), ", ").trim_end_matches(" prompts").to_owned(),
        about: about.to_owned(),
        arms,
    }
}

/// The scores of every member that has some, by arm.
fn scores<T>(
    panel: &Panel<'_, T>,
    scores_of: impl Fn(&Member<'_, T>) -> Option<Vec<(String, f64)>>,
) -> IndexMap<String, ArmScores>
where
    T: super::panels::Placed,
{
    let replicate = |member: &&Member<'_, T>| {
        let scores = scores_of(member)?.into_iter().collect();
        Some(Replicate { label: member.replicate.clone(), scores })
    };
    let mut arms = IndexMap::new();
    for (arm, members) in panel.arms() {
        let replicates: Vec<_> = members.iter().filter_map(replicate).collect();
        if !replicates.is_empty() {
            let is_baseline = members.iter().any(|member| member.item.place().is_baseline);
            arms.insert(arm.to_owned(), ArmScores { replicates, is_baseline });
        }
    }
    arms
}

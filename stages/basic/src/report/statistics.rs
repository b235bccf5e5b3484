//! Compares every arm of every figure with the baseline, and decides each family of arms together.
//!
//! Comparisons on what a judge preferred are a family of their own, so that a verdict which only demonstrates changes no
//! sentence about what needs no judge; so are interactions.

use indexmap::{IndexMap, IndexSet};
use neftpipe_measures::bootstrap::DRAWS;
use neftpipe_measures::comparison::{Comparison, Judged, compare, judge_family};
use neftpipe_measures::contrast::{Contrast, ContrastError, Replicate, Term};
use neftpipe_measures::sentence::sentence;
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::params::report::Interaction;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::figures::{ArmScores, Figure};
use super::measures::{LC_WIN_RATE, Subject};
use super::place::display;

/// Every bootstrap starts from this seed.
pub const SEED: u64 = 0;
/// The family of arms that the parameters put into none.
const COMMON_FAMILY: &str = "all arms";
/// The same where the parameters name families.
const OTHER_FAMILY: &str = "other arms";
/// The family of interactions.
const INTERACTIONS: &str = "interactions";
/// What a preference is compared with where the baseline itself was not judged: as many wins as losses.
const EVEN: &str = "an even split";

/// An arm against the baseline on one figure.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The family of arms it was decided in.
    pub family: String,
    /// What it was compared with.
    pub baseline: String,
    /// The figures and the finding.
    #[serde(flatten)]
    pub judged: Judged,
    /// The same in plain words.
    pub sentence: String,
}

/// The differences of one figure, and why others have none.
#[derive(Default)]
pub struct Differences {
    /// By arm.
    pub by_arm: IndexMap<String, Difference>,
    /// By name of the interaction.
    pub interactions: IndexMap<String, Difference>,
    /// Arms that could not be compared, and why.
    pub problems: IndexMap<String, ContrastError>,
}

/// One comparison to make.
struct Task<'a> {
    figure: usize,
    arm: &'a str,
    is_interaction: bool,
    baseline: String,
    family: (String, bool),
    contrast: Contrast,
}

/// Compares the figures, each with its own baseline arm; the answer has one entry a figure.
pub fn differences(figures: &[Figure], params: &ReportParams) -> Vec<Differences> {
    let mut all: Vec<Differences> = figures.iter().map(|_| Differences::default()).collect();
    let mut tasks = Vec::new();
    for (at, figure) in figures.iter().enumerate().filter(|(_, figure)| figure.measure.is_compared) {
        for (arm, scores) in figure.arms.iter().filter(|(_, scores)| !scores.is_baseline) {
            let Some((baseline, replicates)) = baseline(figure, scores, params) else { continue };
            let family = (family(arm, params), figure.measure.subject == Subject::Preference);
            match Contrast::between(&scores.replicates, &replicates) {
                Ok(contrast) => {
                    tasks.push(Task { figure: at, arm, is_interaction: false, baseline, family, contrast });
                }
                Err(error) => _ = all[at].problems.insert(arm.clone(), error),
            }
        }
        tasks.extend(interactions(at, figure, params));
    }
    for (task, judged) in decide(figures, &tasks) {
        let sentence = sentence(&judged, &task.baseline, &figures[task.figure].quantity);
        let difference =
            Difference { family: task.family.0.clone(), baseline: task.baseline.clone(), judged, sentence };
        let Differences { by_arm, interactions, .. } = &mut all[task.figure];
        let place = if task.is_interaction { interactions } else { by_arm };
        place.insert(task.arm.to_owned(), difference);
    }
    all
}

/// A prompt's part of a length-controlled rate has no sign to count: it is a part of one fit.
fn has_signs(figure: &Figure) -> bool {
    figure.measure.name != LC_WIN_RATE.name
}

/// The interactions of a figure that has their four arms: (both − one) − (other − baseline), cell by cell. Arms that share
/// no prompt have none.
fn interactions<'a>(at: usize, figure: &'a Figure, params: &'a ReportParams) -> Vec<Task<'a>> {
    let scores = |arm: &Value| figure.arms.get(&display(arm));
    let neither = figure.arms.values().find(|scores| scores.is_baseline);
    let task = |(name, Interaction { both, alone: [one, other] }): (&'a String, &Interaction)| {
        let arms = [scores(both)?, scores(one)?, scores(other)?, neither?];
        let terms: Vec<Term<'_>> = [1.0, -1.0, -1.0, 1.0]
            .into_iter()
            .zip(arms)
            .map(|(weight, scores)| Term { weight, replicates: &scores.replicates })
            .collect();
        Some(Task {
            figure: at,
            arm: name,
            is_interaction: true,
            baseline: format!("what {} and {} add up to", display(one), display(other)),
            family: (INTERACTIONS.to_owned(), figure.measure.subject == Subject::Preference),
            contrast: Contrast::of(&terms).ok()?,
        })
    };
    params.interactions.iter().filter_map(task).collect()
}

/// Refuses interactions of arms that no figure has.
///
/// # Errors
/// A usage failure that names the arm and lists those there are.
pub fn check_interactions(figures: &[Figure], params: &ReportParams) -> Result<(), Failure> {
    let known: IndexSet<&str> = figures.iter().flat_map(|figure| figure.arms.keys()).map(String::as_str).collect();
    for (name, Interaction { both, alone }) in &params.interactions {
        if let Some(arm) = [both].into_iter().chain(alone).map(display).find(|arm| !known.contains(arm.as_str())) {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!("interaction `{name}`: there is no arm `{arm}`"))
                .with_hint(format!("the arms are {known}")));
        }
    }
    Ok(())
}

/// The runs to compare with. Preferences are already against a reference: where the baseline was not judged itself, half a
/// win on every prompt stands for it.
fn baseline(figure: &Figure, arm: &ArmScores, params: &ReportParams) -> Option<(String, Vec<Replicate>)> {
    if let Some((name, scores)) = figure.arms.iter().find(|(_, scores)| scores.is_baseline) {
        return Some((name.clone(), scores.replicates.clone()));
    }
    if figure.measure.subject != Subject::Preference || params.baseline.is_empty() {
        return None;
    }
    let even = |run: &Replicate| Replicate {
        label: run.label.clone(),
        scores: run.scores.keys().map(|prompt| (prompt.clone(), 0.5)).collect(),
    };
    Some((EVEN.to_owned(), arm.replicates.iter().map(even).collect()))
}

fn family(arm: &str, params: &ReportParams) -> String {
    let holds = |values: &Vec<serde_json::Value>| values.iter().any(|value| display(value) == arm);
    let named = params.families.iter().find(|(_, values)| holds(values)).map(|(name, _)| name.clone());
    named.unwrap_or_else(|| if params.families.is_empty() { COMMON_FAMILY } else { OTHER_FAMILY }.to_owned())
}

/// Measures all contrasts and decides each family, keeping the order of the tasks.
fn decide<'t, 'a>(figures: &[Figure], tasks: &'t [Task<'a>]) -> Vec<(&'t Task<'a>, Judged)> {
    let comparison = |task: &Task<'_>| {
        let found = compare(&task.contrast, SEED, DRAWS);
        Comparison { sign_test: found.sign_test.filter(|_| has_signs(&figures[task.figure])), ..found }
    };
    let comparisons: Vec<Comparison> = tasks.par_iter().map(comparison).collect();
    let mut families: IndexMap<&(String, bool), Vec<usize>> = IndexMap::new();
    for (at, task) in tasks.iter().enumerate() {
        families.entry(&task.family).or_default().push(at);
    }
    let mut judged: Vec<(usize, Judged)> = Vec::with_capacity(tasks.len());
    for members in families.values() {
        let family: Vec<_> = members.iter().map(|&at| comparisons[at].clone()).collect();
        judged.extend(members.iter().copied().zip(judge_family(&family)));
    }
    judged.sort_by_key(|&(at, _)| at);
    judged.into_iter().map(|(at, judged)| (&tasks[at], judged)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::measures::{LOSS_TRAINED, Measure, WIN_RATE};
    use neftpipe_measures::comparison::Finding;
    use serde_json::json;

    fn scores(values: impl Iterator<Item = f64>, is_baseline: bool) -> ArmScores {
        let scores = values.enumerate().map(|(at, value)| (format!("{at:03}"), value)).collect();
        ArmScores { replicates: vec![Replicate { label: "seed=0".into(), scores }], is_baseline }
    }

    fn figure(measure: &'static Measure, arms: Vec<(&str, ArmScores)>) -> Figure {
        Figure {
            measure,
            quantity: measure.quantity,
            column: IndexMap::new(),
            stage: "train".into(),
            role: None,
            title: String::new(),
            phrase: String::new(),
            heading: String::new(),
            about: String::new(),
            arms: arms.into_iter().map(|(name, scores)| (name.to_owned(), scores)).collect(),
        }
    }

    fn wave(centre: f64) -> impl Iterator<Item = f64> {
        (0..40).map(move |at| centre + if at % 2 == 0 { 0.3 } else { -0.3 })
    }

    fn params(families: serde_json::Value) -> ReportParams {
        serde_json::from_value(json!({"rows": "variant", "baseline": {"variant": "plain"}, "families": families}))
            .unwrap()
    }

    fn losses(more: Vec<(&'static str, ArmScores)>) -> Figure {
        let mut arms = vec![("plain", scores([1.0; 40].into_iter(), true)), ("neft5", scores(wave(1.11), false))];
        arms.extend(more);
        figure(&LOSS_TRAINED, arms)
    }

    #[test]
    fn a_later_arm_in_its_own_family_changes_no_earlier_sentence() {
        let families = json!({"first": ["neft5"], "late": ["neft10", "neft15"]});
        let before = differences(&[losses(vec![])], &params(families.clone()));
        let late = vec![("neft10", scores(wave(1.0), false)), ("neft15", scores(wave(1.0), false))];
        let after = differences(&[losses(late)], &params(families));
        let sentence = |all: &[Differences]| all[0].by_arm["neft5"].sentence.clone();
        assert_eq!(sentence(&before), sentence(&after));
        assert_eq!(after[0].by_arm["neft10"].judged.family_size, 2);
    }

    #[test]
    fn arms_without_families_are_decided_together() {
        let late = vec![("neft10", scores(wave(1.0), false))];
        let all = differences(&[losses(late)], &params(json!({})));
        assert_eq!(all[0].by_arm["neft5"].judged.family_size, 2);
        assert_eq!(all[0].by_arm["neft10"].judged.finding, Finding::NotDistinguishable);
        assert!(!all[0].by_arm.contains_key("plain"));
    }

    #[test]
    fn a_judge_changes_no_sentence_about_losses() {
        let wins = figure(&WIN_RATE, vec![("neft5", scores(wave(0.6), false))]);
        let all = differences(&[losses(vec![]), wins], &params(json!({})));
        assert_eq!(all[0].by_arm["neft5"].judged.family_size, 1);
        assert_eq!(all[1].by_arm["neft5"].baseline, EVEN);
        assert!((all[1].by_arm["neft5"].judged.comparison.bootstrap.mean - 0.1).abs() < 1e-12);
    }

    #[test]
    fn an_interaction_is_what_two_factors_do_beyond_their_sum() {
        let arms = vec![("sparse", scores(wave(1.2), false)), ("both", scores(wave(1.0), false))];
        let mut params = params(json!({}));
        params.interactions =
            serde_json::from_value(json!({"sparsity × noise": {"both": "both", "alone": ["sparse", "neft5"]}}))
                .unwrap();
        let figures = [losses(arms)];
        check_interactions(&figures, &params).unwrap();
        let all = differences(&figures, &params);
        let found = &all[0].interactions["sparsity × noise"];
        assert!((found.judged.comparison.bootstrap.mean - (1.0 - 1.2 - 1.11 + 1.0)).abs() < 1e-12);
        assert_eq!((found.judged.family_size, found.judged.finding), (1, Finding::Lower));
        assert!(found.sentence.contains("what sparse and neft5 add up to"), "{}", found.sentence);
        assert_eq!(all[0].by_arm["neft5"].judged.family_size, 3, "arms are a family without interactions");
        params.interactions["sparsity × noise"].both = json!("bosh");
        assert!(check_interactions(&figures, &params).unwrap_err().message.contains("`bosh`"));
    }

    #[test]
    fn what_shares_no_rows_is_a_problem_not_a_figure() {
        let mut other = scores([1.0; 3].into_iter(), false);
        other.replicates[0].scores = [("elsewhere".to_owned(), 1.0)].into_iter().collect();
        let all = differences(&[losses(vec![("foreign", other)])], &params(json!({})));
        assert!(matches!(all[0].problems["foreign"], ContrastError::NoSharedPrompt { .. }));
    }
}

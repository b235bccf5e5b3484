//! Groups runs and answers that may be compared with each other: one column, one stage, one list of prompts.
//!
//! An arm without the axis of the arms (an untouched model, foreign answers) joins every panel whose prompts it answered.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::collect::{AnswerSet, Run};
use super::lineage::Role;
use super::place::{Place, stage_name};

/// Things of one kind that may be compared.
pub struct Panel<'a, T> {
    /// The axes that are neither arms nor replicates.
    pub column: IndexMap<String, String>,
    /// The stage, without axes.
    pub stage: String,
    /// Whether another stage has a panel of the same kind, so that this one's name must be said.
    pub is_one_of_several: bool,
    /// What is compared, with the arm's name in this panel.
    pub members: Vec<Member<'a, T>>,
}

/// One run or answer set of a panel.
pub struct Member<'a, T> {
    /// Its arm.
    pub arm: String,
    /// Its replicate label.
    pub replicate: String,
    /// Itself.
    pub item: &'a T,
}

/// What has a place and a stage.
pub trait Placed {
    /// Where it stands.
    fn place(&self) -> &Place;
    /// The instance that made it.
    fn instance(&self) -> &str;
}

impl Placed for Run {
    fn place(&self) -> &Place {
        &self.place
    }
    fn instance(&self) -> &str {
        &self.stage
    }
}

impl Placed for AnswerSet {
    fn place(&self) -> &Place {
        &self.place
    }
    fn instance(&self) -> &str {
        &self.stage
    }
}

impl<'a, T: Placed> Panel<'a, T> {
    fn new(item: &'a T) -> Self {
        let stage = stage_name(item.instance()).to_owned();
        Self { column: item.place().column.clone(), stage, is_one_of_several: false, members: Vec::new() }
    }

    /// Adds an item; one whose arm and replicate are taken gets its stage's name to its arm.
    fn push(&mut self, item: &'a T) {
        let place = item.place();
        let is_taken =
            |arm: &str| self.members.iter().any(|member| member.arm == arm && member.replicate == place.replicate);
        let mut arm = place.arm.clone();
        if is_taken(&arm) {
            arm = format!("{arm} ({})", stage_name(item.instance()));
        }
        if !is_taken(&arm) {
            self.members.push(Member { arm, replicate: place.replicate.clone(), item });
        }
    }

    /// The arms in order of appearance, each with its members.
    pub fn arms(&self) -> IndexMap<&str, Vec<&Member<'a, T>>> {
        let mut arms: IndexMap<&str, Vec<_>> = IndexMap::new();
        for member in &self.members {
            arms.entry(member.arm.as_str()).or_default().push(member);
        }
        arms
    }
}

impl Panel<'_, AnswerSet> {
    /// What the prompts are to the training rows.
    pub fn role(&self) -> Role {
        self.members.first().map_or(Role::Other, |member| member.item.role)
    }

    /// Whether all answers are known to be greedy.
    pub fn is_greedy(&self) -> bool {
        self.members.iter().all(|member| member.item.is_greedy == Some(true))
    }

    /// What the prompts are, for people. Nothing where there is but one set of them that is no part of the training rows.
    pub fn prompts_name(&self) -> Option<String> {
        match self.role() {
            Role::Trained => Some("trained prompts".to_owned()),
            Role::HeldOut => Some("held-out prompts".to_owned()),
            Role::Other => self.is_one_of_several.then(|| format!("the prompts of {}", self.stage)),
        }
    }

    fn answers_the_prompts_of(&self, set: &AnswerSet) -> bool {
        let known: BTreeSet<&String> = self.members.iter().flat_map(|member| &member.item.prompts).collect();
        set.prompts.iter().any(|prompt| known.contains(prompt))
    }
}

/// Panels of training runs: by column and stage; an adapter from elsewhere is a panel member where its column agrees.
pub fn run_panels(runs: &[Run]) -> Vec<Panel<'_, Run>> {
    panels(runs, |_, _| true)
}

/// Panels of answers: by column and stage, and by prompts for arms without the axis.
pub fn answer_panels(sets: &[AnswerSet]) -> Vec<Panel<'_, AnswerSet>> {
    let mut panels = panels(sets, |panel, set| panel.answers_the_prompts_of(set));
    let others = panels.iter().filter(|panel| panel.role() == Role::Other);
    let stages: BTreeSet<String> = others.map(|panel| panel.stage.clone()).collect();
    panels.iter_mut().for_each(|panel| panel.is_one_of_several = stages.len() > 1);
    panels
}

fn panels<'a, T: Placed>(items: &'a [T], belongs: impl Fn(&Panel<'a, T>, &T) -> bool) -> Vec<Panel<'a, T>> {
    let mut panels: Vec<Panel<'a, T>> = Vec::new();
    for item in items.iter().filter(|item| item.place().on_axis) {
        let own =
            |panel: &Panel<'_, T>| panel.column == item.place().column && panel.stage == stage_name(item.instance());
        let at = panels.iter().position(own).unwrap_or_else(|| {
            panels.push(Panel::new(item));
            panels.len() - 1
        });
        panels[at].push(item);
    }
    for item in items.iter().filter(|item| !item.place().on_axis) {
        let mut found = false;
        for panel in &mut panels {
            if item.place().agrees_with(&panel.column) && belongs(panel, item) {
                panel.push(item);
                found = true;
            }
        }
        if !found {
            let mut panel = Panel::new(item);
            panel.push(item);
            panels.push(panel);
        }
    }
    panels
}

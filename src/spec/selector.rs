//! Selectors of the command line: which instances of a checked pipeline are meant.

use std::fmt;
use std::str::FromStr;

use super::model::{Instance, Pipeline};
use super::problem::{listed, nearest};
use super::reference::{Reference, ReferenceError};
use super::yaml::scalar_text;

/// `train[variant=neft5]`: instances of a stage, axes left out meaning any value; with a trailing `+`, all that depends
/// on them too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The instances.
    pub reference: Reference,
    /// Whether what depends on them is meant too.
    pub dependents: bool,
}

/// A selector that means no instance.
#[derive(Debug, thiserror::Error)]
#[error("`{selector}` selects nothing: {reason}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct NothingSelected {
    /// The selector.
    pub selector: String,
    /// Why.
    pub reason: String,
    /// What may have been meant.
    pub hint: Option<String>,
}

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// [`ReferenceError`] where it is none.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (text, dependents) = text.strip_suffix('+').map_or((text, false), |text| (text, true));
        Ok(Self { reference: Reference::parse(text)?, dependents })
    }

    /// Whether this instance is meant by itself; dependents are for [`Selector::select`].
    pub fn matches(&self, instance: &Instance) -> bool {
        let output = self.reference.output.as_ref();
        self.reference.stage == instance.stage
            && output.is_none_or(|(output, _)| instance.outputs.contains_key(output))
            && self.reference.matches(|axis| instance.axes.get(axis))
    }

    /// Indices of the instances that are meant, in the order of the pipeline.
    ///
    /// # Errors
    /// [`NothingSelected`] with the nearest name that would have selected something.
    pub fn select(&self, pipeline: &Pipeline) -> Result<Vec<usize>, NothingSelected> {
        let mut chosen: Vec<bool> = pipeline.instances.iter().map(|instance| self.matches(instance)).collect();
        if !chosen.contains(&true) {
            return Err(self.nothing(pipeline));
        }
        if self.dependents {
            for (index, instance) in pipeline.instances.iter().enumerate() {
                chosen[index] |= instance.inputs.values().flatten().any(|input| chosen[input.instance]);
            }
        }
        Ok(chosen.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(index, _)| index).collect())
    }

    fn nothing(&self, pipeline: &Pipeline) -> NothingSelected {
        let error = |reason: String, wrong: &str, names: Vec<String>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = match nearest(wrong, &names) {
                Some(name) => Some(format!("did you mean `{name}`?")),
                None => (!names.is_empty() && names.len() <= 12).then(|| format!("known: {}", listed(&names))),
            };
            NothingSelected { selector: self.to_string(), reason, hint }
        };
        let of_stage: Vec<&Instance> =
            pipeline.instances.iter().filter(|instance| instance.stage == self.reference.stage).collect();
        let Some(first) = of_stage.first() else {
            let names = distinct(pipeline.instances.iter().map(|instance| instance.stage.clone()));
            return error(format!("there is no stage `{}`", self.reference.stage), &self.reference.stage, names);
        };
        if let Some((output, _)) = self.reference.output.as_ref().filter(|(name, _)| !first.outputs.contains_key(name))
        {
            let names = first.outputs.keys().cloned().collect();
            return error(format!("`{}` has no output `{output}`", first.stage), output, names);
        }
        for select in &self.reference.axes {
            if !first.axes.contains_key(&select.axis) {
                let names = first.axes.keys().cloned().collect();
                return error(format!("`{}` has no axis `{}`", first.stage, select.axis), &select.axis, names);
            }
            for (value, _) in select.values.iter().flatten() {
                let values = || of_stage.iter().filter_map(|instance| instance.axes.get(&select.axis));
                if !values().any(|own| super::reference::value_matches(value, own)) {
                    let names = distinct(values().filter_map(scalar_text));
                    return error(format!("the axis `{}` has no value `{value}`", select.axis), value, names);
                }
            }
        }
        error("no instance has this combination".to_owned(), "", Vec::new())
    }
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect::<indexmap::IndexSet<String>>().into_iter().collect()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.reference, if self.dependents { "+" } else { "" })
    }
}

impl FromStr for Selector {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

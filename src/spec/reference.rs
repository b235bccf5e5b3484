//! `NAME.output[axis=value|value,axis=*]`: how stages and instances are named, in `needs` and on the command line.

use std::fmt;
use std::ops::Range;

use neftpipe_protocol::digest::canonical;
use serde_json::Value;

use super::yaml;

/// A parsed reference. Ranges are bytes of the text that it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Name of the stage.
    pub stage: String,
    /// Name of the output, where one is said.
    pub output: Option<(String, Range<usize>)>,
    /// `[*]`: every instance.
    pub all: bool,
    /// Axes that are fixed or gathered.
    pub axes: Vec<AxisSelect>,
}

/// One `axis=…` of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxisSelect {
    /// The axis.
    pub axis: String,
    /// Where it stands.
    pub range: Range<usize>,
    /// The values with their places; none is `*`.
    pub values: Option<Vec<(String, Range<usize>)>>,
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReferenceError {
    /// What is wrong.
    pub message: String,
    /// The bytes that are wrong.
    pub range: Range<usize>,
}

/// Characters that a value of an axis cannot hold, because references are made of them.
pub const RESERVED: &str = ",=|[]*";

impl Reference {
    /// Parses a reference.
    ///
    /// # Errors
    /// [`ReferenceError`] with the bytes that are wrong.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (head, selection) = split_selection(text)?;
        let (stage, output) = match head.split_once('.') {
            Some((stage, output)) => (stage, Some((output.to_owned(), stage.len() + 1..head.len()))),
            None => (head, None),
        };
        let empty = stage.is_empty() || output.as_ref().is_some_and(|(output, _)| output.is_empty());
        if empty || head.contains(char::is_whitespace) || head.contains(['=', '|', ',', '*']) {
            let range = if head.is_empty() { 0..text.len() } else { 0..head.len() };
            return Err(error(range, format!("`{head}` is no NAME or NAME.output")));
        }
        let mut reference = Self { stage: stage.to_owned(), output, all: false, axes: Vec::new() };
        if let Some(range) = selection {
            reference.select(text, range)?;
        }
        Ok(reference)
    }

    fn select(&mut self, text: &str, range: Range<usize>) -> Result<(), ReferenceError> {
        if text[range.clone()].trim() == "*" {
            self.all = true;
            return Ok(());
        }
        for part in split(text, range, ',') {
            let Some(equals) = text[part.clone()].find('=') else {
                return Err(error(part.clone(), format!("`{}` is no axis=value", &text[part])));
            };
            let axis = trimmed(text, part.start..part.start + equals);
            let values = trimmed(text, part.start + equals + 1..part.end);
            if axis.is_empty() || values.is_empty() {
                return Err(error(part.clone(), format!("`{}` is no axis=value", &text[part])));
            }
            if self.axes.iter().any(|known| known.axis == text[axis.clone()]) {
                return Err(error(axis.clone(), format!("the axis `{}` stands twice", &text[axis])));
            }
            let values = match &text[values.clone()] {
                "*" => None,
                _ => Some(alternatives(text, values)?),
            };
            self.axes.push(AxisSelect { axis: text[axis.clone()].to_owned(), range: axis, values });
        }
        Ok(())
    }

    /// Whether it stands for a list.
    pub fn gathers(&self) -> bool {
        self.all || self.axes.iter().any(|axis| axis.values.as_ref().is_none_or(|values| values.len() > 1))
    }

    /// Whether an instance with these axes is meant; axes that are not mentioned may have any value.
    pub fn matches<'v>(&self, axes: impl Fn(&str) -> Option<&'v Value>) -> bool {
        self.axes.iter().all(|select| axes(&select.axis).is_some_and(|value| select.takes(value)))
    }
}

impl AxisSelect {
    /// Whether the axis may have this value.
    pub fn takes(&self, value: &Value) -> bool {
        self.values.as_ref().is_none_or(|values| values.iter().any(|(text, _)| value_matches(text, value)))
    }
}

/// Whether a text means this value of an axis: labels and texts letter by letter, numbers by value.
pub fn value_matches(text: &str, value: &Value) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Number(_) => yaml::parse(text).is_ok_and(|parsed| canonical(&parsed.value) == canonical(value)),
        _ => yaml::scalar_text(value).is_some_and(|own| own == text),
    }
}

/// An instance's name: the stage with its axes.
pub fn instance_id<'a>(stage: &str, axes: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let mut id = stage.to_owned();
    for (index, (axis, value)) in axes.into_iter().enumerate() {
        id.push(if index == 0 { '[' } else { ',' });
        id.push_str(axis);
        id.push('=');
        id.push_str(&yaml::scalar_text(value).unwrap_or_default());
    }
    if id.len() > stage.len() {
        id.push(']');
    }
    id
}

/// The text before `[`, and the bytes between the brackets.
fn split_selection(text: &str) -> Result<(&str, Option<Range<usize>>), ReferenceError> {
    let Some(open) = text.find('[') else {
        return match text.find(']') {
            Some(at) => Err(error(at..at + 1, "this `]` closes nothing".to_owned())),
            None => Ok((text, None)),
        };
    };
    match text[open..].find(']').map(|at| open + at) {
        Some(close) if close + 1 == text.len() => Ok((&text[..open], Some(open + 1..close))),
        Some(close) => Err(error(close + 1..text.len(), "nothing can follow the `]`".to_owned())),
        None => Err(error(open..text.len(), "the `[` is not closed".to_owned())),
    }
}

fn alternatives(text: &str, range: Range<usize>) -> Result<Vec<(String, Range<usize>)>, ReferenceError> {
    split(text, range, '|')
        .map(|part| {
            let part = trimmed(text, part);
            let value = &text[part.clone()];
            if value.is_empty() || value.contains(['=', '*', '[']) {
                return Err(error(part.clone(), format!("`{value}` is no value of an axis")));
            }
            Ok((value.to_owned(), part))
        })
        .collect()
}

fn split(text: &str, range: Range<usize>, by: char) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    text[range].split(by).map(move |part| {
        let here = start..start + part.len();
        start = here.end + by.len_utf8();
        here
    })
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

fn error(range: Range<usize>, message: String) -> ReferenceError {
    ReferenceError { message, range }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stage)?;
        if let Some((output, _)) = &self.output {
            write!(f, ".{output}")?;
        }
        let mut parts: Vec<String> = self
            .axes
            .iter()
            .map(|select| {
                let values: Option<Vec<&str>> =
                    select.values.as_ref().map(|values| values.iter().map(|(value, _)| value.as_str()).collect());
                format!("{}={}", select.axis, values.map_or("*".to_owned(), |values| values.join("|")))
            })
            .collect();
        if self.all {
            parts.push("*".to_owned());
        }
        if parts.is_empty() { Ok(()) } else { write!(f, "[{}]", parts.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_print_as_they_are_parsed() {
        for text in ["a", "tokens.heldout", "train[*]", "t.o[variant=neft5,seed=0|1]", "train[seed=*]"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_underlined() {
        let range = |text: &str| Reference::parse(text).unwrap_err().range;
        assert_eq!(range("train[seed]"), 6..10);
        assert_eq!(range("train[seed=1"), 5..12);
        assert_eq!(range("train[seed=1]x"), 13..14);
        assert_eq!(range("train[a=1,a=2]"), 10..11);
        assert_eq!(range("train]"), 5..6);
        assert_eq!(range("tr ain"), 0..6);
        assert!(Reference::parse("").is_err());
        assert!(Reference::parse("train[]").is_err());
        assert!(Reference::parse("train[a=1|]").is_err());
    }

    #[test]
    fn values_are_compared_as_values_and_labels_as_texts() {
        assert!(value_matches("2e-4", &json!(0.0002)));
        assert!(value_matches("5.0", &json!(5)));
        assert!(!value_matches("5.0", &json!("5")));
        assert!(value_matches("true", &json!(true)));
        assert!(!value_matches("[", &json!(1)));
    }

    #[test]
    fn lists_are_told_from_single_instances() {
        let gathers = |text: &str| Reference::parse(text).unwrap().gathers();
        assert!(gathers("a[*]") && gathers("a[x=*]") && gathers("a[x=1|2]"));
        assert!(!gathers("a") && !gathers("a[x=1]"));
    }
}

//! What is wrong with a pipeline file, and where: places in the document, and a problem before its position is known.
//!
//! Positions are not looked up here. A place names a node of the document; `diagnostic` finds the bytes, once, at the end.

use std::ops::Range;

use serde::Serialize;

pub use super::code::Code;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The pipeline cannot be run.
    Error,
    /// It can, but a person should know.
    Warning,
}

/// Index of a text that diagnostics point into: the pipeline file, an included one, or a `--set`.
pub type SourceId = usize;

/// One step down a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Which part of an entry is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
    /// Bytes of a text value.
    Within(Range<usize>),
    /// The first place in the value where this is written.
    Spelled(String),
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A node; of the whole document where no source is named.
    Node {
        /// The text, where it is not for the document to tell.
        source: Option<SourceId>,
        /// The way to the node.
        path: Vec<Segment>,
        /// What of it.
        part: Part,
    },
    /// Bytes of a source.
    Bytes {
        /// The text.
        source: SourceId,
        /// The bytes.
        range: Range<usize>,
    },
}

/// The way to a node while the document is walked; it lives on the stack, so walking allocates nothing.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The top: of the document, or of one source.
    Root(Option<SourceId>),
    /// Into a map.
    Key(&'a Path<'a>, &'a str),
    /// Into a list.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The top of the document.
    pub const DOCUMENT: Path<'static> = Path::Root(None);

    /// The entry of this key.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    /// The item at this index.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    /// The key of this entry, as a place.
    pub fn at_key(&self) -> Place {
        self.place(Part::Key)
    }

    /// The value of this entry, as a place.
    pub fn at_value(&self) -> Place {
        self.place(Part::Value)
    }

    /// Bytes of this text value, as a place.
    pub fn within(&self, range: Range<usize>) -> Place {
        self.place(Part::Within(range))
    }

    /// The steps from the top.
    pub fn segments(&self) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut here = self;
        loop {
            match here {
                Path::Root(_) => break,
                Path::Key(parent, key) => {
                    segments.push(Segment::Key((*key).to_owned()));
                    here = parent;
                }
                Path::Index(parent, index) => {
                    segments.push(Segment::Index(*index));
                    here = parent;
                }
            }
        }
        segments.reverse();
        segments
    }

    fn place(&self, part: Part) -> Place {
        let mut top = self;
        let source = loop {
            match top {
                Path::Root(source) => break *source,
                Path::Key(parent, _) | Path::Index(parent, _) => top = parent,
            }
        };
        Place::Node { source, path: self.segments(), part }
    }
}

impl Place {
    /// The node below this one at a dotted path.
    pub fn below(&self, dotted: &[&str]) -> Place {
        let mut place = self.clone();
        if let Place::Node { path, part, .. } = &mut place {
            path.extend(dotted.iter().map(|key| Segment::Key((*key).to_owned())));
            *part = Part::Value;
        }
        place
    }

    /// The same node, where its path begins at another node.
    pub fn under(&self, top: &Place) -> Place {
        match (self, top) {
            (Place::Node { path: below, part, .. }, Place::Node { source, path, .. }) => {
                Place::Node { source: *source, path: path.iter().chain(below).cloned().collect(), part: part.clone() }
            }
            _ => top.clone(),
        }
    }

    /// The item of this list.
    pub fn item(&self, index: usize) -> Place {
        let mut place = self.clone();
        if let Place::Node { path, .. } = &mut place {
            path.push(Segment::Index(index));
        }
        place
    }

    /// The key of this entry.
    pub fn key_part(&self) -> Place {
        self.with_part(Part::Key)
    }

    /// Where this is written in the value of the entry; all of it where it is not.
    pub fn spelling(&self, text: impl Into<String>) -> Place {
        self.with_part(Part::Spelled(text.into()))
    }

    fn with_part(&self, wanted: Part) -> Place {
        let mut place = self.clone();
        if let Place::Node { part, .. } = &mut place {
            *part = wanted;
        }
        place
    }
}

/// A problem whose position is not yet looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What kind.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What is said under the underlined place.
    pub label: Option<String>,
    /// Other places that matter, with what they are.
    pub also: Vec<(Place, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// An error.
    pub fn new(code: Code, place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, code, message, place, label: None, also: Vec::new(), hint: None }
    }

    /// A warning.
    pub fn warning(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(code, place, message) }
    }

    /// With words under the underlined place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With another place that matters.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also.push((place, label.into()));
        self
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the nearest of the names that would have been right, or all of them where none is near and they are few.
    #[must_use]
    pub fn suggest<'n>(self, wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        const FEW: usize = 12;
        let names: Vec<&str> = names.into_iter().collect();
        match nearest(wrong, &names) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None if !names.is_empty() && names.len() <= FEW => self.hint(format!("known: {}", listed(&names))),
            None => self,
        }
    }
}

/// The name nearest to a wrong one, if it is near enough to be meant.
pub fn nearest<'n>(wrong: &str, names: &[&'n str]) -> Option<&'n str> {
    let lower = wrong.to_lowercase();
    let most = ((wrong.chars().count() + 1) / 3).max(1);
    names
        .iter()
        .filter(|name| name.len().abs_diff(wrong.len()) <= most.max(4))
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), *name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Names as prose: `a`, `b` and `c`.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(nearest("learning_rat", &["warmup", "learning_rate"]), Some("learning_rate"));
        assert_eq!(nearest("Steps", &["steps", "epochs"]), Some("steps"));
        assert_eq!(nearest("nonsense", &["steps", "epochs"]), None);
    }
}

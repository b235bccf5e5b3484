//! The span-keeping parse: where each node of a YAML text stands. Made only when something is reported.
//!
//! It must not know what a pipeline is. saphyr counts characters; everything here is in bytes.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Part, Segment};

/// The nodes of a text, with the bytes that they span.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    root: Option<usize>,
    oddities: Vec<Oddity>,
}

#[derive(Debug)]
struct Node {
    span: Range<usize>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(String),
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

/// Something that YAML allows and a pipeline file does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// What it is.
    pub kind: OddityKind,
    /// Where.
    pub span: Range<usize>,
}

/// What an [`Oddity`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OddityKind {
    /// A key that stands twice, and where it stood first.
    Duplicate(String, Range<usize>),
    /// A merge key.
    Merge,
    /// A tag.
    Tag,
    /// A key that is no scalar.
    Key,
    /// A number that is not finite.
    NotFinite,
}

impl Tree {
    /// Parses a text; what follows a syntax error is missing.
    pub fn parse(text: &str) -> Self {
        let offsets = Offsets::of(text);
        let mut builder = Builder::default();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            builder.take(event, offsets.range(&span));
        }
        builder.finish()
    }

    /// A text `KEY=VALUE` whose value is YAML, as a map of one entry.
    pub fn parse_assignment(text: &str) -> Self {
        let Some((key, value)) = text.split_once('=') else { return Self::default() };
        let mut tree = Self::parse(value);
        let shift = key.len() + 1;
        for node in &mut tree.nodes {
            node.span = node.span.start + shift..node.span.end + shift;
        }
        for oddity in &mut tree.oddities {
            oddity.span = oddity.span.start + shift..oddity.span.end + shift;
        }
        let value_node = tree.root.unwrap_or_else(|| tree.push(shift..text.len(), Content::Scalar(String::new())));
        let key_node = tree.push(0..key.len(), Content::Scalar(key.to_owned()));
        tree.root = Some(tree.push(0..text.len(), Content::Mapping(vec![(key_node, value_node)])));
        tree
    }

    /// What YAML allows and a pipeline file does not, in the order of the text.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The bytes of a part of the node at a path; of the nearest node above it where it is not there.
    pub fn find(&self, text: &str, path: &[Segment], part: &Part) -> Range<usize> {
        let Some(root) = self.root else { return 0..0 };
        let (mut node, mut key, mut rest) = (root, None, path);
        while !rest.is_empty() {
            let Some((next_key, next, taken)) = self.step(node, rest) else { break };
            (node, key, rest) = (next, next_key, &rest[taken..]);
        }
        let key_span = key.map(|key: usize| self.nodes[key].span.clone());
        match part {
            Part::Key => key_span.unwrap_or_else(|| self.value_span(text, node, None)),
            Part::Within(range) if rest.is_empty() => self.scalar_part(text, node, range),
            Part::Spelled(wanted) if rest.is_empty() => {
                let span = self.nodes[node].span.clone();
                let found = text[span.clone()].find(wanted.as_str()).map(|at| span.start + at);
                found.map_or_else(|| self.value_span(text, node, key_span), |start| start..start + wanted.len())
            }
            _ => self.value_span(text, node, key_span),
        }
    }

    /// One step down: the key, the value and how many segments the key took (a dotted key takes several).
    fn step(&self, node: usize, path: &[Segment]) -> Option<(Option<usize>, usize, usize)> {
        match (&self.nodes[node].content, &path[0]) {
            (Content::Sequence(items), Segment::Index(index)) => items.get(*index).map(|&item| (None, item, 1)),
            (Content::Mapping(entries), Segment::Key(wanted)) => {
                let exact = entries.iter().find(|(key, _)| self.text(*key) == Some(wanted));
                if let Some(&(key, value)) = exact {
                    return Some((Some(key), value, 1));
                }
                entries.iter().find_map(|&(key, value)| {
                    let taken = dotted_prefix(self.text(key)?, path)?;
                    Some((Some(key), value, taken))
                })
            }
            _ => None,
        }
    }

    fn text(&self, node: usize) -> Option<&str> {
        match &self.nodes[node].content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// A value is underlined where that stays on a line; otherwise its key stands for it.
    fn value_span(&self, text: &str, node: usize, key: Option<Range<usize>>) -> Range<usize> {
        let span = self.nodes[node].span.clone();
        let shown = &text[span.clone()];
        match shown.find('\n') {
            None if !span.is_empty() => span,
            Some(end) if key.is_none() => span.start..span.start + shown[..end].trim_end().len(),
            _ => key.unwrap_or(span),
        }
    }

    /// Bytes of a scalar, if the text spells it as it is; else all of it.
    fn scalar_part(&self, text: &str, node: usize, part: &Range<usize>) -> Range<usize> {
        let span = self.nodes[node].span.clone();
        let Some(value) = self.text(node).filter(|value| value.is_char_boundary(part.start)) else { return span };
        let shown = &text[span.clone()];
        match shown.find(value) {
            Some(start) if part.end <= value.len() => span.start + start + part.start..span.start + start + part.end,
            _ => self.value_span(text, node, None),
        }
    }

    fn push(&mut self, span: Range<usize>, content: Content) -> usize {
        self.nodes.push(Node { span, content });
        self.nodes.len() - 1
    }
}

/// How many segments a dotted key takes, if they are a prefix of the path. A segment may have dots itself.
fn dotted_prefix(key: &str, path: &[Segment]) -> Option<usize> {
    let mut rest = key;
    for (index, segment) in path.iter().enumerate() {
        let Segment::Key(wanted) = segment else { return None };
        rest = rest.strip_prefix(wanted.as_str())?;
        if rest.is_empty() {
            return Some(index + 1);
        }
        rest = rest.strip_prefix('.')?;
    }
    None
}

/// Byte offsets of characters.
enum Offsets {
    Ascii,
    Wide(Vec<usize>),
}

impl Offsets {
    fn of(text: &str) -> Self {
        if text.is_ascii() {
            return Self::Ascii;
        }
        Self::Wide(text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect())
    }

    fn byte(&self, index: usize) -> usize {
        match self {
            Self::Ascii => index,
            Self::Wide(offsets) => offsets.get(index).or(offsets.last()).copied().unwrap_or(0),
        }
    }

    fn range(&self, span: &Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}

/// An open collection: its node, and its children so far.
struct Open {
    start: usize,
    anchor: usize,
    mapping: bool,
    children: Vec<usize>,
}

#[derive(Default)]
struct Builder {
    tree: Tree,
    open: Vec<Open>,
    anchors: HashMap<usize, usize>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = text.into_owned();
                let lower = text.to_ascii_lowercase();
                let infinite = matches!(lower.trim_start_matches(['+', '-']), ".inf" | ".nan");
                if style == ScalarStyle::Plain && infinite {
                    self.note(OddityKind::NotFinite, span.clone());
                }
                if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
                    self.note(OddityKind::Tag, span.clone());
                }
                let node = self.tree.push(span, Content::Scalar(text));
                self.anchor(anchor, node);
                self.add(node);
            }
            Event::SequenceStart(anchor, tag) => self.start(span, anchor, tag.is_some(), false),
            Event::MappingStart(anchor, tag) => self.start(span, anchor, tag.is_some(), true),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => {
                // A child of its own, so that the alias is underlined and not what it stands for.
                let content = match self.anchors.get(&anchor).map(|&node| &self.tree.nodes[node].content) {
                    Some(Content::Scalar(text)) => Content::Scalar(text.clone()),
                    Some(Content::Sequence(items)) => Content::Sequence(items.clone()),
                    Some(Content::Mapping(entries)) => Content::Mapping(entries.clone()),
                    None => Content::Scalar(String::new()),
                };
                let node = self.tree.push(span, content);
                self.add(node);
            }
            _ => {}
        }
    }

    fn start(&mut self, span: Range<usize>, anchor: usize, tagged: bool, mapping: bool) {
        if tagged {
            self.note(OddityKind::Tag, span.clone());
        }
        self.open.push(Open { start: span.start, anchor, mapping, children: Vec::new() });
    }

    fn end(&mut self, span: Range<usize>) {
        let Some(open) = self.open.pop() else { return };
        let last = open.children.last().map_or(open.start, |&child| self.tree.nodes[child].span.end);
        let end = if span.is_empty() { last } else { span.end.max(last) };
        let content = if open.mapping {
            let entries = open.children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>();
            self.check_keys(&entries);
            Content::Mapping(entries)
        } else {
            Content::Sequence(open.children)
        };
        let node = self.tree.push(open.start..end.max(open.start), content);
        self.anchor(open.anchor, node);
        self.add(node);
    }

    fn check_keys(&mut self, entries: &[(usize, usize)]) {
        let mut seen: HashMap<String, Range<usize>> = HashMap::with_capacity(entries.len());
        for &(key, _) in entries {
            let span = self.tree.nodes[key].span.clone();
            let Some(text) = self.tree.text(key).map(str::to_owned) else {
                self.note(OddityKind::Key, span);
                continue;
            };
            if text == "<<" {
                self.note(OddityKind::Merge, span);
            } else if let Some(first) = seen.get(&text) {
                let first = first.clone();
                self.note(OddityKind::Duplicate(text, first), span);
            } else {
                seen.insert(text, span);
            }
        }
    }

    fn note(&mut self, kind: OddityKind, span: Range<usize>) {
        self.tree.oddities.push(Oddity { kind, span });
    }

    fn anchor(&mut self, anchor: usize, node: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
    }

    fn add(&mut self, node: usize) {
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.tree.root = Some(node),
        }
    }

    fn finish(mut self) -> Tree {
        while !self.open.is_empty() {
            self.end(0..0);
        }
        self.tree.oddities.sort_by_key(|oddity| oddity.span.start);
        self.tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Segment {
        Segment::Key(text.into())
    }

    fn shown<'t>(text: &'t str, path: &[Segment], part: Part) -> &'t str {
        &text[Tree::parse(text).find(text, path, &part)]
    }

    const TEXT: &str =
        "é: ü\nstages:\n  train: { neft.alpha: 5, list: [a, 'b c'] }\n  long:\n    x: |\n      one\n      two\n";

    #[test]
    fn nodes_are_found_by_their_path_also_after_wide_characters() {
        assert_eq!(shown(TEXT, &[key("é")], Part::Value), "ü");
        assert_eq!(shown(TEXT, &[key("stages"), key("train"), key("list"), Segment::Index(1)], Part::Value), "'b c'");
        assert_eq!(shown(TEXT, &[key("stages"), key("train")], Part::Key), "train");
    }

    #[test]
    fn dotted_keys_take_several_steps() {
        let path = [key("stages"), key("train"), key("neft"), key("alpha")];
        assert_eq!(shown(TEXT, &path, Part::Value), "5");
        assert_eq!(shown(TEXT, &path, Part::Key), "neft.alpha");
    }

    #[test]
    fn what_is_not_there_is_shown_by_what_is_above_it() {
        assert_eq!(shown(TEXT, &[key("stages"), key("train"), key("none")], Part::Key), "train");
    }

    #[test]
    fn long_values_are_shown_by_their_key() {
        assert_eq!(shown(TEXT, &[key("stages"), key("long")], Part::Value), "long");
        assert_eq!(shown(TEXT, &[key("stages"), key("long"), key("x")], Part::Value), "x");
    }

    #[test]
    fn parts_of_texts_are_found_inside_quotes() {
        let text = "a: \"train[x=1]\"\n";
        assert_eq!(shown(text, &[key("a")], Part::Within(6..9)), "x=1");
        assert_eq!(shown(text, &[key("a")], Part::Spelled("x=".into())), "x=");
        assert_eq!(shown(TEXT, &[key("stages"), key("long"), key("x")], Part::Spelled("two".into())), "two");
        assert_eq!(shown(TEXT, &[key("stages"), key("long"), key("x")], Part::Spelled("three".into())), "x");
    }

    #[test]
    fn assignments_are_maps_of_one_entry() {
        let text = "stages.train.train.lora={rank: x}";
        let tree = Tree::parse_assignment(text);
        let path = [key("stages"), key("train"), key("train"), key("lora"), key("rank")];
        assert_eq!(&text[tree.find(text, &path, &Part::Value)], "x");
        assert_eq!(&text[tree.find(text, &path[..4], &Part::Key)], "stages.train.train.lora");
    }

    #[test]
    fn both_places_of_a_duplicate_are_known() {
        let text = "a: 1\nb: 2\na: 3\n<<: {}\n";
        let tree = Tree::parse(text);
        let kinds: Vec<_> = tree.oddities().iter().map(|oddity| oddity.kind.clone()).collect();
        assert_eq!(kinds, [OddityKind::Duplicate("a".into(), 0..1), OddityKind::Merge]);
    }
}

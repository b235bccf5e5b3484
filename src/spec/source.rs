//! The texts that a pipeline comes from: its file, included ones, and what stood on the command line.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::OnceLock;

use super::problem::{Code, Part, Place, Problem, Segment, SourceId};
use super::spans::{OddityKind, Tree};
use super::yaml::{self, Irregular, Parsed};

/// One text, with its nodes' positions once somebody asks.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    form: Form,
    tree: OnceLock<Tree>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Document,
    Assignment,
    Plain,
}

/// All texts, by their id.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

impl Source {
    /// How a person knows it: the file as it was named, or the flag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn tree(&self) -> &Tree {
        self.tree.get_or_init(|| match self.form {
            Form::Document => Tree::parse(&self.text),
            Form::Assignment => Tree::parse_assignment(&self.text),
            Form::Plain => Tree::default(),
        })
    }

    /// The bytes of a part of a node.
    pub fn find(&self, path: &[Segment], part: &Part) -> Range<usize> {
        self.tree().find(&self.text, path, part)
    }
}

impl Sources {
    fn add(&mut self, name: String, text: String, form: Form) -> SourceId {
        self.0.push(Source { name, text, form, tree: OnceLock::new() });
        self.0.len() - 1
    }

    /// The source of this id.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id]
    }

    /// All sources.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// A flag of the command line with its whole argument, `KEY=VALUE`, whose value is YAML.
    pub fn add_assignment(&mut self, flag: &str, text: String) -> SourceId {
        self.add(flag.to_owned(), text, Form::Assignment)
    }

    /// A flag of the command line with its argument.
    pub fn add_argument(&mut self, flag: &str, text: String) -> SourceId {
        self.add(flag.to_owned(), text, Form::Plain)
    }

    /// Reads a file. What is wrong with it as YAML is said; none where it cannot be read or parsed at all.
    pub fn add_file(&mut self, file: &FilePath, problems: &mut Vec<Problem>) -> (SourceId, Option<Parsed>) {
        let name = file.display().to_string();
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let id = self.add(name, String::new(), Form::Plain);
                problems.push(unreadable(id, file, &error));
                return (id, None);
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text = match text.strip_prefix('\u{feff}') {
                    Some(rest) => rest.to_owned(),
                    None => text,
                };
                let id = self.add(name, text, Form::Document);
                let parsed = self.parse(id, 0, problems);
                (id, parsed)
            }
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let byte = error.as_bytes()[offset];
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let id = self.add(name, text, Form::Plain);
                let range = offset..offset + '\u{fffd}'.len_utf8();
                problems.push(
                    Problem::new(
                        Code::NotUtf8,
                        Place::Bytes { source: id, range },
                        format!("byte 0x{byte:02x} at offset {offset} is no UTF-8"),
                    )
                    .hint("save the file as UTF-8"),
                );
                (id, None)
            }
        }
    }

    /// Parses a source from a byte offset on, and says what is wrong with it as YAML.
    pub fn parse(&self, id: SourceId, from: usize, problems: &mut Vec<Problem>) -> Option<Parsed> {
        let source = self.get(id);
        match yaml::parse(&source.text[from..]) {
            Ok(parsed) => {
                if !parsed.irregular.is_empty() {
                    self.report_oddities(id, &parsed.irregular, problems);
                }
                Some(parsed)
            }
            Err(error) => {
                let offset = error.at.map_or(0, |(line, column)| offset_of(&source.text[from..], line, column));
                let at = from + offset;
                let end = at + source.text[at..].chars().next().map_or(0, char::len_utf8);
                let mut problem =
                    Problem::new(Code::YamlSyntax, Place::Bytes { source: id, range: at..end }, error.message);
                if source.text[from..].lines().any(|line| line.trim_start_matches(' ').starts_with('\t')) {
                    problem = problem.hint("YAML is indented with spaces: a line here begins with a tab");
                } else {
                    problem =
                        problem.hint("the cause may stand above: look for a bracket, a quote or a `:` that is missing");
                }
                problems.push(problem);
                None
            }
        }
    }

    fn report_oddities(&self, id: SourceId, irregular: &[Irregular], problems: &mut Vec<Problem>) {
        let oddities = self.get(id).tree().oddities();
        for oddity in oddities {
            problems.push(describe(id, &oddity.kind, oddity.span.clone()));
        }
        if oddities.is_empty() {
            // The two parsers differ on what equal keys are: say it without a place rather than not at all.
            let place = Place::Bytes { source: id, range: 0..0 };
            problems.extend(irregular.iter().map(|what| match what {
                Irregular::Duplicate(key) => {
                    Problem::new(Code::DuplicateKey, place.clone(), format!("the key `{key}` stands twice"))
                }
                other => Problem::new(Code::UnsupportedYaml, place.clone(), format!("{other:?} is not read here")),
            }));
        }
    }
}

fn describe(source: SourceId, kind: &OddityKind, span: Range<usize>) -> Problem {
    let place = Place::Bytes { source, range: span };
    match kind {
        OddityKind::Duplicate(key, first) => {
            Problem::new(Code::DuplicateKey, place, format!("the key `{key}` stands twice in one map"))
                .label("again here")
                .also(Place::Bytes { source, range: first.clone() }, "first here")
                .hint("keep one, or put both together under it")
        }
        OddityKind::Merge => Problem::new(Code::MergeKey, place, "YAML merges (`<<`) are not read")
            .hint("say what stages of a kind share under `defaults:`, and what others share under `params:`"),
        OddityKind::Tag => Problem::new(Code::UnsupportedYaml, place, "YAML tags are not read")
            .hint("leave it out: the type of a value follows from where it stands"),
        OddityKind::Key => Problem::new(Code::UnsupportedYaml, place, "a key is plain text here")
            .hint("quote it: a `{` or `[` begins a map or a list"),
        OddityKind::NotFinite => Problem::new(Code::UnsupportedYaml, place, "a number must be finite"),
    }
}

fn unreadable(source: SourceId, file: &FilePath, error: &io::Error) -> Problem {
    let problem = Problem::new(
        Code::UnreadableFile,
        Place::Bytes { source, range: 0..0 },
        format!("cannot read {}: {error}", file.display()),
    );
    match error.kind() {
        io::ErrorKind::NotFound => problem.hint("name a pipeline file, relative to this folder"),
        _ => problem,
    }
}

/// The byte offset of a line and column, both from 1 and in characters.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[start.min(text.len())..];
    let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(offset, _)| offset);
    start + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_become_bytes() {
        assert_eq!(offset_of("é\nüx\n", 2, 2), 5);
        assert_eq!(offset_of("a\n", 9, 9), 2);
    }
}

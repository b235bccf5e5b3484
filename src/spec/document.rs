//! The whole document: a pipeline file with what it includes, and where each part of it stands.
//!
//! Values are merged here; what they mean for stages is for others.

use std::collections::{HashMap, HashSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use neftpipe_protocol::Kind;
use serde_json::{Map, Value};

use super::check::{check_keys, expect_map, expect_text, is_name};
use super::diagnostic::{Diagnostic, Span};
use super::problem::{Code, Part, Path, Place, Problem, Segment, SourceId};
use super::source::Sources;

/// Keys at the top of a file.
pub const TOP_KEYS: [&str; 8] =
    ["version", "name", "description", "include", "params", "profiles", "defaults", "stages"];

/// A pipeline file with what it includes, not yet understood.
#[derive(Debug, Default)]
pub struct Document {
    /// All texts.
    pub sources: Sources,
    /// `name`.
    pub name: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `params`.
    pub params: Map<String, Value>,
    /// `profiles`: override sets by name.
    pub profiles: Map<String, Value>,
    /// Profiles of included files, which nothing brings in: name and file.
    pub profiles_elsewhere: Vec<(String, String)>,
    /// `defaults`: parameters by kind.
    pub defaults: Map<String, Value>,
    /// `stages`.
    pub stages: Map<String, Value>,
    /// Entries of included files: section and name.
    homes: HashMap<&'static str, HashMap<String, SourceId>>,
    /// Folder of each file.
    folders: Vec<Arc<FilePath>>,
    /// What overrides put into the document, and where that was said.
    patches: Vec<(Vec<Segment>, Patch)>,
}

/// Where a patched value was said.
#[derive(Debug, Clone)]
pub enum Patch {
    /// On the command line.
    Flag(SourceId),
    /// In a profile of the file.
    Profile(String),
}

impl Document {
    /// Reads a file and what it includes. None where there is nothing to go on with.
    pub fn read(file: &FilePath, problems: &mut Vec<Problem>) -> (Self, bool) {
        let mut document = Self::default();
        let mut reader = Reader { document: &mut document, seen: HashSet::new(), open: Vec::new() };
        let usable = reader.file(file, None, problems);
        (document, usable)
    }

    /// Folder of the file in which a stage stands.
    pub fn folder_of_stage(&self, stage: &str) -> Arc<FilePath> {
        self.folders[self.home_of("stages", stage)].clone()
    }

    /// The file that an entry of a section stands in.
    fn home_of(&self, section: &str, name: &str) -> SourceId {
        self.homes.get(section).and_then(|homes| homes.get(name)).copied().unwrap_or(0)
    }

    /// Notes that a value of the document was put there by an override.
    pub fn patched(&mut self, path: Vec<Segment>, patch: Patch) {
        self.patches.push((path, patch));
    }

    /// Whether an override says axes: values that the file names may then be gone.
    pub fn axes_are_patched(&self) -> bool {
        let is_axis = |path: &[Segment]| matches!(path, [Segment::Key(section), _, Segment::Key(key), ..] if section == "stages" && key == "matrix");
        self.patches.iter().any(|(path, _)| is_axis(path))
    }

    /// Looks up the position of a problem.
    pub fn diagnose(&self, problem: Problem) -> Diagnostic {
        Diagnostic {
            severity: problem.severity,
            code: problem.code,
            message: problem.message,
            span: self.span(&problem.place),
            label: problem.label,
            also: problem.also.iter().map(|(place, label)| (self.span(place), label.clone())).collect(),
            hint: problem.hint,
        }
    }

    fn span(&self, place: &Place) -> Span {
        let (id, range) = match place {
            Place::Bytes { source, range } => (*source, range.clone()),
            Place::Node { source: Some(source), path, part } => (*source, self.sources.get(*source).find(path, part)),
            Place::Node { source: None, path, part } => self.find(path, part),
        };
        Span::of(id, range, self.sources.get(id).text())
    }

    fn find(&self, path: &[Segment], part: &Part) -> (SourceId, std::ops::Range<usize>) {
        let patch = self.patches.iter().rev().find(|(prefix, _)| path.starts_with(prefix));
        let (id, path) = match patch {
            Some((_, Patch::Flag(id))) => (*id, path.to_vec()),
            Some((_, Patch::Profile(name))) => {
                let prefix = [Segment::Key("profiles".into()), Segment::Key(name.clone())];
                (0, prefix.into_iter().chain(path.iter().cloned()).collect())
            }
            None => (self.home(path), path.to_vec()),
        };
        (id, self.sources.get(id).find(&path, part))
    }

    fn home(&self, path: &[Segment]) -> SourceId {
        let (Some(Segment::Key(section)), Some(Segment::Key(name))) = (path.first(), path.get(1)) else { return 0 };
        self.home_of(section, name)
    }
}

/// What `include` brings in.
const SECTIONS: [&str; 3] = ["params", "defaults", "stages"];

struct Reader<'d> {
    document: &'d mut Document,
    seen: HashSet<PathBuf>,
    open: Vec<PathBuf>,
}

impl Reader<'_> {
    fn file(&mut self, file: &FilePath, included_at: Option<Place>, problems: &mut Vec<Problem>) -> bool {
        let before = problems.len();
        let (id, parsed) = self.document.sources.add_file(file, problems);
        if let (Some(place), Some(problem)) = (included_at, problems.get_mut(before))
            && problem.code == Code::UnreadableFile
        {
            problem.place = place;
            problem.hint = Some("`include` takes paths relative to this file".into());
        }
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
        self.document.folders.push(absolute(folder).into());
        let Some(parsed) = parsed else { return false };
        let top = Path::Root(Some(id));
        let mut root = match parsed.value {
            Value::Object(root) => root,
            Value::Null => {
                let place = Place::Bytes { source: id, range: 0..0 };
                problems.push(Problem::new(Code::EmptyFile, place, "the file is empty").hint(STARTER));
                return false;
            }
            other => {
                expect_map(&other, &top, "a pipeline file", problems);
                return false;
            }
        };
        check_keys(&root, &TOP_KEYS, &top, "a pipeline file", problems);
        check_version(&root, id, problems);
        if id == 0 {
            self.document.name = take_name(&root, &top, problems);
            self.document.description = root
                .get("description")
                .and_then(|value| expect_text(value, &top.key("description"), "`description`", problems))
                .map(str::to_owned);
            if let Some(Value::Object(profiles)) = take_map(&mut root, "profiles", &top, problems) {
                self.document.profiles = profiles;
            }
        } else if let Some(profiles) = root.get("profiles").and_then(Value::as_object) {
            let names = profiles.keys().map(|name| (name.clone(), file.display().to_string()));
            self.document.profiles_elsewhere.extend(names);
        }
        for section in SECTIONS {
            self.section(&mut root, section, id, problems);
        }
        self.open.push(canonical(file));
        self.seen.insert(canonical(file));
        self.includes(&root, id, folder, problems);
        self.open.pop();
        if id == 0 && self.document.stages.is_empty() && problems.is_empty() {
            let place = if root.contains_key("stages") { top.key("stages").at_key() } else { top.at_value() };
            problems.push(Problem::new(Code::MissingKey, place, "no stages: nothing to do").hint(STARTER));
        }
        true
    }

    fn section(
        &mut self,
        root: &mut Map<String, Value>,
        section: &'static str,
        id: SourceId,
        problems: &mut Vec<Problem>,
    ) {
        let top = Path::Root(Some(id));
        let here = top.key(section);
        let Some(Value::Object(entries)) = take_map(root, section, &top, problems) else { return };
        let target = match section {
            "params" => &mut self.document.params,
            "defaults" => &mut self.document.defaults,
            _ => &mut self.document.stages,
        };
        if id == 0 {
            *target = entries;
        } else {
            let homes = self.document.homes.entry(section).or_default();
            for (name, value) in entries {
                if target.contains_key(&name) {
                    let first = homes.get(&name).copied().unwrap_or(0);
                    let first_top = Path::Root(Some(first));
                    problems.push(
                        Problem::new(
                            Code::DuplicateName,
                            here.key(&name).at_key(),
                            format!("`{section}.{name}` is given in two files"),
                        )
                        .label("again here")
                        .also(first_top.key(section).key(&name).at_key(), "first here")
                        .hint("call one of them otherwise, or leave it to one file"),
                    );
                    continue;
                }
                homes.insert(name.clone(), id);
                target.insert(name, value);
            }
        }
        let kinds = Kind::ALL.map(Kind::name);
        let homes = self.document.homes.get(section);
        let home = |name: &str| homes.and_then(|homes| homes.get(name)).copied().unwrap_or(0);
        for name in target.keys().filter(|name| home(name) == id) {
            let place = here.key(name).at_key();
            match section {
                "defaults" if !kinds.contains(&name.as_str()) => problems.push(
                    Problem::new(Code::UnknownKey, place, format!("`{name}` is no stage kind")).suggest(name, kinds),
                ),
                "defaults" => {}
                _ if is_name(name) => {}
                _ => problems.push(bad_name(place, name)),
            }
        }
    }

    fn includes(&mut self, root: &Map<String, Value>, id: SourceId, folder: &FilePath, problems: &mut Vec<Problem>) {
        let top = Path::Root(Some(id));
        let here = top.key("include");
        let items = match root.get("include") {
            None | Some(Value::Null) => return,
            Some(Value::Array(items)) => items,
            Some(_) => {
                problems.push(
                    Problem::new(Code::WrongType, here.at_value(), "`include` is a list of files")
                        .hint("write `include: [other.yaml]`"),
                );
                return;
            }
        };
        for (index, item) in items.iter().enumerate() {
            let here = here.index(index);
            let Some(name) = expect_text(item, &here, "an included file", problems) else { continue };
            let file = if folder == FilePath::new(".") { PathBuf::from(name) } else { folder.join(name) };
            let identity = canonical(&file);
            if self.open.contains(&identity) {
                let problem = Problem::new(Code::BadInclude, here.at_value(), format!("{name} includes itself"));
                problems.push(problem.hint("leave it out, or move what both need to a third file"));
            } else if self.seen.insert(identity) {
                self.file(&file, Some(here.at_value()), problems);
            }
        }
    }
}

const STARTER: &str = "a pipeline begins with `version: 1` and `stages:`; the README shows a small one";

fn check_version(root: &Map<String, Value>, id: SourceId, problems: &mut Vec<Problem>) {
    let top = Path::Root(Some(id));
    match root.get("version") {
        Some(version) if version.as_u64() == Some(1) => {}
        Some(_) => problems.push(
            Problem::new(Code::BadVersion, top.key("version").at_value(), "this program reads version 1")
                .hint("write `version: 1`"),
        ),
        None if id == 0 => problems.push(
            Problem::new(Code::BadVersion, Place::Bytes { source: id, range: 0..0 }, "the file says no `version`")
                .hint("begin it with `version: 1`"),
        ),
        None => {}
    }
}

fn take_name(root: &Map<String, Value>, top: &Path<'_>, problems: &mut Vec<Problem>) -> Option<String> {
    let here = top.key("name");
    let name = expect_text(root.get("name")?, &here, "`name`", problems)?;
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        problems.push(bad_name(here.at_value(), name));
        return None;
    }
    Some(name.to_owned())
}

fn bad_name(place: Place, name: &str) -> Problem {
    Problem::new(Code::BadName, place, format!("`{name}` cannot be a name: references could not spell it"))
        .hint("names are letters, digits, `_` and `-`, beginning with a letter")
}

fn take_map(root: &mut Map<String, Value>, key: &str, top: &Path<'_>, problems: &mut Vec<Problem>) -> Option<Value> {
    let value = root.get_mut(key)?.take();
    let here = top.key(key);
    match value {
        Value::Null => None,
        Value::Object(_) => Some(value),
        other => {
            expect_map(&other, &here, &format!("`{key}`"), problems);
            None
        }
    }
}

fn canonical(file: &FilePath) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| absolute(file))
}

/// The path from the root, without asking the file system.
pub fn absolute(path: &FilePath) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.components().collect()
}

//! `command`: a shell command of the user.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OneOrMany, StageParams};
use crate::{ArtifactType, Kind};

/// Parameters of `command`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// What `/bin/sh -c` is given. `{params.x}`, `{in.slot}`, `{out}` and `{env.NAME}` are filled in.
    pub run: String,
    /// Named values for `{params.x}`.
    #[serde(default)]
    pub params: IndexMap<String, Value>,
    /// Globs of files, relative to the pipeline file, that the command finds at their places. Their contents are in the key.
    #[serde(default)]
    pub files: OneOrMany<String>,
    /// What the command makes; without it, one artifact `files` with all of `{out}`.
    #[serde(default)]
    pub outputs: IndexMap<String, CommandOutput>,
    /// Environment variables that are handed over; their values' digests are in the key.
    #[serde(default)]
    pub env: Vec<String>,
    /// Environment variables that are handed over and enter no key.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Paths of `params` that do not change the output.
    #[serde(default)]
    pub key_ignore: Vec<String>,
}

/// An output of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandOutput {
    /// File or folder below `{out}`.
    pub path: String,
    /// What it is.
    #[serde(default = "files", rename = "as")]
    pub artifact: ArtifactType,
}

impl CommandOutput {
    fn is_inside(&self) -> bool {
        Path::new(&self.path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    }

    fn normal_path(&self) -> PathBuf {
        Path::new(&self.path).components().filter(|part| !matches!(part, Component::CurDir)).collect()
    }
}

impl CommandParams {
    /// Two outputs of which one lies in the other, if there are such: a file cannot be moved to both.
    fn overlapping_outputs(&self) -> Option<(&str, &str)> {
        let outputs: Vec<_> = self.outputs.iter().map(|(name, output)| (name.as_str(), output.normal_path())).collect();
        outputs.iter().enumerate().find_map(|(index, (name, path))| {
            let (other, _) = outputs[index + 1..].iter().find(|(_, o)| o.starts_with(path) || path.starts_with(o))?;
            Some((*name, *other))
        })
    }
}

/// A piece of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What stays as it is.
    Text(&'a str),
    /// What is filled in.
    Field(Field<'a>),
}

/// What a field of `run` is filled in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// `{params.x}`: a parameter, by its name or a dotted path into it.
    Param(&'a str),
    /// `{in.slot}`: where the inputs of a slot are.
    Input(&'a str),
    /// `{env.NAME}`: a variable.
    Variable(&'a str),
    /// `{out}`: where outputs are left.
    Out,
}

/// The pieces of a `run`, in their order. Braces that are no field are text.
pub fn pieces(run: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let starts = rest.match_indices('{').map(|(start, _)| start);
        let next = starts.filter_map(|start| Some((start, field(&rest[start..])?))).next();
        let (piece, length) = match next {
            Some((0, (field, length))) => (Piece::Field(field), length),
            Some((start, _)) => (Piece::Text(&rest[..start]), start),
            None if rest.is_empty() => return None,
            None => (Piece::Text(rest), rest.len()),
        };
        rest = &rest[length..];
        Some(piece)
    })
}

/// The field that a text begins with, and its length with both braces. Looks no further than the next brace: a long text
/// of open braces would else be read once for each of them.
fn field(text: &str) -> Option<(Field<'_>, usize)> {
    let inside = text.strip_prefix('{')?;
    let length = inside.find(['{', '}']).filter(|&at| inside[at..].starts_with('}'))?;
    let inner = &inside[..length];
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let field = if inner == "out" {
        Field::Out
    } else {
        let (kind, name) = inner.split_once('.').filter(|(_, name)| is_name(name))?;
        match kind {
            "params" => Field::Param(name),
            "in" => Field::Input(name),
            "env" => Field::Variable(name),
            _ => return None,
        }
    };
    Some((field, length + 2))
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param(path) => write!(f, "{{params.{path}}}"),
            Self::Input(slot) => write!(f, "{{in.{slot}}}"),
            Self::Variable(name) => write!(f, "{{env.{name}}}"),
            Self::Out => f.write_str("{out}"),
        }
    }
}

/// A parameter by its whole name, or by a dotted path into it.
pub fn param<'a>(top: impl Fn(&str) -> Option<&'a Value>, path: &str) -> Option<&'a Value> {
    top(path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        rest.split('.').try_fold(top(head)?, |value, part| value.get(part))
    })
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// References spell it after the stage's name and a dot.
fn is_output(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn files() -> ArtifactType {
    ArtifactType::Files
}

impl StageParams for CommandParams {
    const KIND: Kind = Kind::Command;
    /// The runner adds the contents of `files` and the digests of `env` instead of their names.
    const JOINT: &'static [(&'static str, &'static [&'static str])] = &[("secrets", &["env"])];
    const NOT_IN_KEY: &'static [&'static str] = &["files", "env", "secrets", "key_ignore"];

    fn prune(&self, value: &mut Value) {
        for path in &self.key_ignore {
            super::remove(value, path);
        }
        for (name, _) in self.outputs.iter().filter(|(_, output)| output.artifact == files()) {
            super::remove(&mut value["outputs"][name], "as");
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.run.trim().is_empty() {
            problems.push(("run", "the command is empty".to_owned()));
        }
        if self.key_ignore.iter().any(|path| !path.starts_with("params.")) {
            problems.push(("key_ignore", "only paths that begin with `params.` can be left out of the key".to_owned()));
        }
        for (key, names) in [("env", &self.env), ("secrets", &self.secrets)] {
            for name in names.iter().filter(|name| !is_variable(name)) {
                problems.push((key, format!("`{name}` names no variable: letters, digits and `_` do")));
            }
        }
        if let Some(name) = self.secrets.iter().find(|name| self.env.contains(name)) {
            let message = format!("`{name}` is under `env` too, and its digest would be in the key: name it once");
            problems.push(("secrets", message));
        }
        for name in self.outputs.keys().filter(|name| !is_output(name)) {
            problems.push(("outputs", format!("`{name}` names no output: letters, digits, `_`, `-` and `.` do")));
        }
        for (name, CommandOutput { path, .. }) in self.outputs.iter().filter(|(_, output)| !output.is_inside()) {
            problems.push(("outputs", format!("the path `{path}` of the output `{name}` leads out of {{out}}")));
        }
        if let Some((one, other)) = self.overlapping_outputs() {
            problems.push(("outputs", format!("the outputs `{one}` and `{other}` lie in one another")));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_other_braces_are_text() {
        let run = "f {params.a.b} {{in.x}} ${env.H} {a,b} {out}{";
        let fields: Vec<String> = pieces(run).filter(|piece| matches!(piece, Piece::Field(_))).map(spelled).collect();
        assert_eq!(fields, ["{params.a.b}", "{in.x}", "{env.H}", "{out}"]);
        assert_eq!(pieces(run).map(spelled).collect::<String>(), run);
        assert_eq!(pieces("{in.{out}").collect::<Vec<_>>(), [Piece::Text("{in."), Piece::Field(Field::Out)]);
        for text in ["awk '{print $1}' ${HOME}", "{a,b} {} { x; }", "{out.x} {params} {params.} {params.a b}", "{"] {
            assert_eq!(pieces(text).collect::<Vec<_>>(), [Piece::Text(text)]);
        }
    }

    fn spelled(piece: Piece<'_>) -> String {
        match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Field(field) => field.to_string(),
        }
    }

    #[test]
    fn names_that_nothing_could_spell_are_told() {
        let problems = |said: Value| {
            let params: CommandParams = serde_json::from_value(said).unwrap();
            params.problems().into_iter().map(|(path, _)| path).collect::<Vec<_>>()
        };
        let said = serde_json::json!({"run": "x", "env": ["A", "1B", "A=B", ""], "secrets": ["C", "A"]});
        assert_eq!(problems(said), ["env", "env", "env", "secrets"]);
        let outputs = serde_json::json!({"a b": {"path": "x"}, "ok-1.csv": {"path": "y"}, "a[": {"path": "z"}});
        assert_eq!(problems(serde_json::json!({"run": "x", "outputs": outputs})), ["outputs", "outputs"]);
    }

    #[test]
    fn outputs_that_lie_in_one_another_are_told() {
        let params = |paths: [&str; 2]| {
            let outputs = serde_json::json!({"a": {"path": paths[0]}, "b": {"path": paths[1]}});
            serde_json::from_value::<CommandParams>(serde_json::json!({"run": "x", "outputs": outputs})).unwrap()
        };
        assert_eq!(params(["t.csv", "t.csv.gz"]).overlapping_outputs(), None);
        assert_eq!(params(["d", "./d/t.csv"]).overlapping_outputs(), Some(("a", "b")));
        assert_eq!(params(["d/x", "d"]).overlapping_outputs(), Some(("a", "b")));
    }
}

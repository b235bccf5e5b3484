//! `command` stages: what the shell is given.
//!
//! `{params.x}`, `{in.slot}`, `{out}` and `{env.NAME}` are filled in, each so that its text arrives as it is whether it stands
//! bare or in quotes; every other brace and every `$` is left alone. A variable is filled in as a reference to it, so that
//! its value shows neither in the list of processes nor in a log.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use neftpipe_protocol::params::CommandParams;
use neftpipe_protocol::request::Request;
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::Value;

use super::shell::Reader;
use crate::env;

/// A shell command ready to be started.
#[derive(Debug)]
pub struct CommandTask {
    /// What `/bin/sh -c` is given.
    pub script: String,
    /// The fresh directory in which it runs.
    pub directory: PathBuf,
    /// The named variables and their values.
    pub variables: Vec<(String, OsString)>,
    /// The values of those that are secrets.
    pub secrets: Vec<OsString>,
}

impl CommandTask {
    /// The command of a request, to be run in this directory.
    ///
    /// # Errors
    /// Where `run` names a parameter, a slot or a variable that the stage does not have.
    pub fn new(params: &CommandParams, request: &Request, directory: PathBuf) -> Result<Self, Failure> {
        let script = script(params, request)?;
        let named = params.env.iter().chain(&params.secrets);
        let variables = named.filter_map(|name| Some((name.clone(), env::named(name)?))).collect();
        let secrets = params.secrets.iter().filter_map(|name| env::named(name)).collect();
        Ok(Self { script, directory, variables, secrets })
    }
}

/// Name of the output without an `outputs` parameter: all of `{out}`.
const ONLY_OUTPUT: &str = "output";

/// Where a command leaves an output, given the folder `{out}`.
pub fn output_path(params: &CommandParams, out: &Path, name: &str) -> PathBuf {
    params.outputs.get(name).map_or_else(|| out.to_owned(), |output| out.join(&output.path))
}

/// The outputs of a command with their types.
pub(super) fn outputs(params: &CommandParams) -> Vec<(String, ArtifactType)> {
    if params.outputs.is_empty() {
        return vec![(ONLY_OUTPUT.to_owned(), ArtifactType::Files)];
    }
    params.outputs.iter().map(|(name, output)| (name.clone(), output.artifact)).collect()
}

/// Two outputs of which one lies in the other, if there are such.
pub fn overlapping_outputs(params: &CommandParams) -> Option<(&str, &str)> {
    let outputs: Vec<_> = params.outputs.iter().map(|(name, output)| (name.as_str(), normal(&output.path))).collect();
    outputs.iter().enumerate().find_map(|(index, (name, path))| {
        let (other, _) = outputs[index + 1..].iter().find(|(_, o)| o.starts_with(path) || path.starts_with(o))?;
        Some((*name, *other))
    })
}

fn normal(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// The script with everything filled in.
///
/// # Errors
/// Where it names a parameter, a slot or a variable that the stage does not have.
fn script(params: &CommandParams, request: &Request) -> Result<String, Failure> {
    let mut script = String::with_capacity(params.run.len());
    let mut reader = Reader::new();
    let keep = |text: &str, script: &mut String, reader: &mut Reader| {
        reader.read(text);
        script.push_str(text);
    };
    let mut rest = params.run.as_str();
    while let Some(start) = rest.find('{') {
        let (before, at) = rest.split_at(start);
        keep(before, &mut script, &mut reader);
        match field(at) {
            Some((field, length)) => {
                script.push_str(&fill(field, params, request, &reader)?);
                rest = &at[length..];
            }
            None => {
                keep("{", &mut script, &mut reader);
                rest = &at[1..];
            }
        }
    }
    keep(rest, &mut script, &mut reader);
    Ok(script)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field<'a> {
    Param(&'a str),
    Input(&'a str),
    Variable(&'a str),
    Out,
}

/// The field that the text begins with, and its length with both braces.
fn field(text: &str) -> Option<(Field<'_>, usize)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
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
    Some((field, end + 1))
}

fn fill(field: Field<'_>, params: &CommandParams, request: &Request, place: &Reader) -> Result<String, Failure> {
    let lacks = |what: &str, name: &str| {
        Failure::usage(format!("{}: `run` names {what} `{name}`, which the stage does not have", request.stage))
    };
    match field {
        Field::Out => Ok(place.words([&*request.out.to_string_lossy()])),
        Field::Param(path) => {
            let value = param(params, path).ok_or_else(|| lacks("the parameter", path))?;
            Ok(place.words(texts(value).iter().map(String::as_str)))
        }
        Field::Input(slot) => {
            let inputs = request.inputs.get(slot).ok_or_else(|| lacks("the input", slot))?;
            let paths: Vec<_> = inputs.iter().map(|input| input.path.to_string_lossy()).collect();
            Ok(place.words(paths.iter().map(AsRef::as_ref)))
        }
        Field::Variable(name) if params.env.iter().chain(&params.secrets).any(|known| known == name) => {
            Ok(place.variable(name))
        }
        Field::Variable(name) => Err(lacks("the variable", name).with_hint("list it in `env` or `secrets`")),
    }
}

/// A parameter by its whole name, or by a dotted path into it.
fn param<'a>(params: &'a CommandParams, path: &str) -> Option<&'a Value> {
    params.params.get(path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        rest.split('.').try_fold(params.params.get(head)?, |value, part| value.get(part))
    })
}

/// A value as texts: a list is several.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Null => vec![String::new()],
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexmap::IndexMap;
    use neftpipe_protocol::request::Input;
    use neftpipe_protocol::{Digest, Kind, PROTOCOL_VERSION};
    use serde_json::json;

    fn request(inputs: &[&str]) -> Request {
        let input = |path: &&str| Input {
            path: PathBuf::from(path),
            artifact_type: ArtifactType::Files,
            digest: Digest::of(b""),
            stage: "s".to_owned(),
            label: None,
            axes: IndexMap::new(),
        };
        Request {
            protocol: PROTOCOL_VERSION,
            kind: Kind::Command,
            version: 1,
            stage: "plot".to_owned(),
            params: Value::Null,
            inputs: IndexMap::from([("table".to_owned(), inputs.iter().map(input).collect())]),
            attempt: PathBuf::from("/a"),
            out: PathBuf::from("/a/out"),
            known: None,
            partial: None,
            checkpoints: Vec::new(),
            lineage: None,
            base: PathBuf::from("/"),
            resolved: None,
            budget: None,
            torch_worker: None,
            offline: false,
            threads: 1,
        }
    }

    fn filled(run: &str) -> Result<String, Failure> {
        let params = json!({"run": run, "params": {"x": 5, "name": "it's", "list": [1, "b c"], "deep": {"y": 2.5}}, "env": ["HOST"]});
        script(&serde_json::from_value(params).unwrap(), &request(&["/in/a", "/in/b c"]))
    }

    #[test]
    fn fields_are_filled_in_and_quoted() {
        assert_eq!(filled("f {params.x} {params.deep.y} {params.name}").unwrap(), r"f 5 2.5 'it'\''s'");
        assert_eq!(filled("f {params.list} {in.table} > {out}/t").unwrap(), "f 1 'b c' /in/a '/in/b c' > /a/out/t");
        assert_eq!(filled("curl {env.HOST}").unwrap(), "curl \"${HOST}\"");
        assert_eq!(filled("f \"{params.name}\" '{params.list}'").unwrap(), "f \"it's\" '1 b c'");
    }

    #[test]
    fn other_braces_and_dollars_stay() {
        for run in ["awk '{print $1}' ${HOME}", "echo {a,b} {} { x; }", "{out.x} {params} {params.} {params.a b}", "{"]
        {
            assert_eq!(filled(run).unwrap(), run);
        }
        assert_eq!(filled("{{out}}").unwrap(), "{/a/out}");
    }

    #[test]
    fn a_name_that_the_stage_does_not_have_is_an_error() {
        for run in ["{params.z}", "{in.other}", "{env.SECRET}"] {
            assert!(filled(run).unwrap_err().message.contains("does not have"), "{run}");
        }
    }

    #[test]
    fn outputs_that_lie_in_one_another_are_told() {
        let params = |paths: [&str; 2]| {
            let outputs = json!({"a": {"path": paths[0]}, "b": {"path": paths[1]}});
            serde_json::from_value::<CommandParams>(json!({"run": "x", "outputs": outputs})).unwrap()
        };
        assert_eq!(overlapping_outputs(&params(["t.csv", "t.csv.gz"])), None);
        assert_eq!(overlapping_outputs(&params(["d", "./d/t.csv"])), Some(("a", "b")));
        assert_eq!(overlapping_outputs(&params(["d/x", "d"])), Some(("a", "b")));
    }
}

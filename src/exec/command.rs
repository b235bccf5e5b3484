//! `command` stages: what the shell is given.
//!
//! `{params.x}`, `{in.slot}`, `{out}` and `{env.NAME}` are filled in, each so that its text arrives as it is whether it stands
//! bare or in quotes; every other brace and every `$` is left alone. A variable is filled in as a reference to it, so that
//! its value shows neither in the list of processes nor in a log.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use neftpipe_protocol::params::CommandParams;
use neftpipe_protocol::params::command::{Field, Piece, param, pieces};
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

/// The script with everything filled in.
///
/// # Errors
/// Where it names a parameter, a slot or a variable that the stage does not have.
fn script(params: &CommandParams, request: &Request) -> Result<String, Failure> {
    let mut script = String::with_capacity(params.run.len());
    let mut reader = Reader::new();
    for piece in pieces(&params.run) {
        match piece {
            Piece::Text(text) => {
                reader.read(text);
                script.push_str(text);
            }
            Piece::Field(field) => script.push_str(&fill(field, params, request, &reader)?),
        }
    }
    Ok(script)
}

fn fill(field: Field<'_>, params: &CommandParams, request: &Request, place: &Reader) -> Result<String, Failure> {
    let lacks = |what: &str, name: &str| {
        Failure::usage(format!("{}: `run` names {what} `{name}`, which the stage does not have", request.stage))
    };
    match field {
        Field::Out => Ok(place.words([&*request.out.to_string_lossy()])),
        Field::Param(path) => {
            let value = param(|name| params.params.get(name), path).ok_or_else(|| lacks("the parameter", path))?;
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
}

//! The options with which a pipeline file is read.

use std::path::PathBuf;

use clap::Args;
use neftpipe_protocol::Kind;
use neftpipe_protocol::kind::UnknownKind;

use super::CliError;
use crate::spec::Overrides;

/// A pipeline file and what overrides it.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The pipeline file.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Override a value: `params.steps=10`, `stages.train.train.lora.rank=8`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Take a named set of overrides of the file.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Take the results of an older implementation of a kind as they are: `train@3`.
    #[arg(long, value_name = "KIND@VERSION", value_parser = older_implementation)]
    pub accept: Vec<(Kind, u32)>,
}

fn older_implementation(text: &str) -> Result<(Kind, u32), String> {
    let (kind, version) = text.split_once('@').ok_or("a kind, `@` and a version are wanted: train@3")?;
    let kind: Kind = kind
        .parse()
        .map_err(|error: UnknownKind| format!("{error}; the kinds are {}", Kind::ALL.map(Kind::name).join(", ")))?;
    let now = kind.version();
    match version.parse() {
        Ok(version @ 1..) if version < now => Ok((kind, version)),
        Ok(_) if now == 1 => Err(format!("{kind} is at version 1: there is no older one")),
        _ => Err(format!("{kind} is at version {now}; its older ones are 1 to {}", now - 1)),
    }
}

impl FileArgs {
    /// The overrides, split into path and value.
    ///
    /// # Errors
    /// Where a `--set` has no `=`.
    pub fn overrides(&self) -> Result<Overrides, CliError> {
        let split = |text: &String| {
            let (path, value) = text.split_once('=')?;
            Some((path.to_owned(), value.to_owned()))
        };
        let set = self.set.iter().map(|text| {
            split(text).ok_or_else(|| {
                CliError::usage(format!("--set {text}: a path, `=` and a value are wanted"))
                    .with_hint("for example --set params.steps=10")
            })
        });
        Ok(Overrides { set: set.collect::<Result<_, _>>()?, profile: self.profile.clone() })
    }
}

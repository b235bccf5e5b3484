//! The options with which a pipeline file is read.

use std::path::PathBuf;

use clap::Args;

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

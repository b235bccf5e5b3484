//! The evaluator configs of AlpacaEval: `NAME/configs.yaml` and the prompt that it names.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neftpipe_protocol::Failure;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::parser::{Parser, Settings};
use super::{Annotator, prompt, with_defaults};
use crate::judge::files;

const FILE: &str = "configs.yaml";

#[derive(Deserialize)]
struct Config {
    prompt_template: String,
    fn_completions: String,
    completions_kwargs: Map<String, Value>,
    /// AlpacaEval's default.
    #[serde(default = "regex_parser")]
    fn_completion_parser: String,
    #[serde(default)]
    completion_parser_kwargs: Settings,
}

fn regex_parser() -> String {
    "regex_parser".to_owned()
}

/// The public annotator of this name, from the files of the package.
///
/// # Errors
/// Where its files are not there or of another form.
pub fn read(name: &str, folder: &Path, seed: i64) -> Result<Annotator, Failure> {
    let path = find(name, folder)?;
    let malformed = |what: String| Failure::data(format!("{}: {what}", path.display()));
    let text = files::text(&path)?;
    let mut configs: IndexMap<String, Config> =
        serde_yaml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let config = configs.shift_remove(name).ok_or_else(|| malformed(format!("it says nothing of {name}")))?;
    if config.fn_completions != "openai_completions" {
        return Err(malformed(format!("{} is no service that can be asked", config.fn_completions)));
    }
    let root = path.parent().and_then(Path::parent).unwrap_or(folder);
    let template = files::text(&root.join(&config.prompt_template))?;
    prompt::check(&template)?;
    let mut settings = config.completions_kwargs;
    let model = settings.remove("model_name").and_then(|model| model.as_str().map(str::to_owned));
    let parser = Parser::public(&config.fn_completion_parser, config.completion_parser_kwargs)?;
    Ok(Annotator { name: name.to_owned(), model, template, settings: with_defaults(settings), parser, seed })
}

fn find(name: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let wanted = Path::new(name).join(FILE);
    let found = files::all(folder)?.into_iter().find(|path| path.ends_with(&wanted));
    found.ok_or_else(|| {
        Failure::usage(format!("the input `annotators` holds no {}", wanted.display())).with_hint(
            "take the public configs: `download: { from: \"pypi:alpaca-eval==0.6.6\", select: \
             \"alpaca_eval/evaluators_configs/**\", as: files }`",
        )
    })
}

//! Who judges by a prompt: the public annotators of AlpacaEval, read from their own files, and those of one's own.
//!
//! It knows what is asked and how an answer is read, not how it gets to a service.

mod config;
mod parser;
mod prompt;

use std::path::Path;

use neftpipe_measures::switch::is_switched;
use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::{CUSTOM, Comparison};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::params::judge::{CustomAnnotator, CustomParser};
use neftpipe_protocol::request::Input;
use serde_json::{Map, Value, json};

use self::parser::Parser;
use super::annotate::{Completion, Opinion};
use super::files;

/// One who judges by a prompt.
#[derive(Debug)]
pub struct Annotator {
    /// Its name in annotations.
    pub name: String,
    /// The model that its figures were published with.
    pub model: Option<String>,
    template: String,
    /// What a request says besides model and messages.
    settings: Map<String, Value>,
    parser: Parser,
    seed: i64,
}

impl Annotator {
    /// The annotator of these parameters, from the files of the input `annotators`.
    ///
    /// # Errors
    /// Files that are not there or not of AlpacaEval's form, an expression that is none.
    pub fn read(params: &JudgeParams, input: &Input) -> Result<Self, Failure> {
        let seed = i64::try_from(params.seed).map_err(|_| Failure::usage("the seed is too large"))?;
        match (params.annotator.as_deref(), &params.custom) {
            (Some(CUSTOM), Some(custom)) => Self::custom(custom, &input.path, seed),
            (Some(name), _) => config::read(name, &input.path, seed),
            (None, _) => Err(Failure::internal("there is no annotator to read")),
        }
    }

    fn custom(custom: &CustomAnnotator, folder: &Path, seed: i64) -> Result<Self, Failure> {
        let path = folder.join(&custom.prompt);
        if !path.is_file() {
            return Err(Failure::usage(format!(
                "custom.prompt: the input `annotators` holds no file {}",
                custom.prompt
            ))
            .with_hint("give the prompt as `needs: { annotators: … }`, a download of a file: source, say"));
        }
        let mut settings = object(json!({"max_tokens": custom.max_tokens, "temperature": custom.temperature}));
        if matches!(custom.parser, CustomParser::Logprob { .. }) {
            settings.extend(object(json!({"logprobs": true, "top_logprobs": 5})));
        }
        let annotator = Self {
            name: CUSTOM.to_owned(),
            model: None,
            template: files::text(&path)?,
            settings: with_defaults(settings),
            parser: Parser::custom(&custom.parser)?,
            seed,
        };
        prompt::check(&annotator.template)?;
        Ok(annotator)
    }

    /// Longest answer that it asks for.
    pub fn max_tokens(&self) -> u64 {
        self.settings.get("max_tokens").and_then(Value::as_u64).unwrap_or(0)
    }

    /// The body of the request that asks for a comparison.
    ///
    /// # Errors
    /// Where the filled prompt is no conversation.
    pub fn request(&self, model: &str, comparison: &Comparison) -> Result<Value, Failure> {
        let (mut first, mut second) = (&comparison.output_1, &comparison.output_2);
        if self.switches(comparison) {
            std::mem::swap(&mut first, &mut second);
        }
        let values = [
            ("instruction", comparison.instruction.as_str()),
            ("output_1", first.as_str()),
            ("output_2", second.as_str()),
        ];
        let filled = prompt::fill(&self.template, &values);
        let mut body = object(json!({"model": model, "messages": prompt::messages(&filled)?}));
        body.extend(self.settings.clone());
        Ok(Value::Object(body))
    }

    /// What an answer says of the comparison. What cannot be read is no preference.
    pub fn opinion(&self, comparison: &Comparison, choice: &Value, total_tokens: u64) -> Opinion {
        let seen = self.parser.preference(choice);
        let preference = seen.map(|seen| match self.switches(comparison) {
            true => neftpipe_measures::preference::undo_switch(seen),
            false => seen,
        });
        Opinion { preference, completion: Completion::Answer(self.parser.completion(choice, total_tokens)) }
    }

    fn switches(&self, comparison: &Comparison) -> bool {
        is_switched(&comparison.instruction, self.seed)
    }

    /// What its figures must be read with when this model judges; nothing where it is the model of the leaderboard.
    pub fn label(&self, model: &str) -> Option<String> {
        if self.model.as_deref() == Some(model) {
            return None;
        }
        let prompt = match self.name.as_str() {
            "weighted_alpaca_eval_gpt4_turbo" | "alpaca_eval_clf_gpt4_turbo" => "AlpacaEval 2 prompt".to_owned(),
            "alpaca_eval_gpt4" => "AlpacaEval 1 prompt".to_owned(),
            CUSTOM => "a prompt of its own".to_owned(),
            name => format!("prompt of {name}"),
        };
        Some(format!("{prompt}, judge {model}: not comparable with the leaderboard"))
    }

    /// Whether it reads log-probabilities, which not every service gives.
    pub fn needs_log_probabilities(&self) -> bool {
        matches!(self.parser, Parser::LogProbabilities { .. })
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What the public client sends where an annotator does not say otherwise.
fn with_defaults(mut settings: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in [("top_p", json!(1.0)), ("temperature", json!(0.7)), ("max_tokens", json!(2048))] {
        settings.entry(name).or_insert(value);
    }
    settings
}

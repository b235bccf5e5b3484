//! From a service's answer to a preference, by the parsers of AlpacaEval.
//!
//! An answer is one of a chat completion's choices. What cannot be read is no preference, as there.

use indexmap::IndexMap;
use neftpipe_measures::preference::{from_log_probabilities, from_ranking, from_ranking_text};
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::judge::{CustomParser, expression};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};

/// How answers are read.
#[derive(Debug)]
pub enum Parser {
    /// From the log-probabilities of two tokens.
    LogProbabilities {
        /// Says that the first output is better.
        first: String,
        /// Says that the second output is better.
        second: String,
        /// Whether the likelier wins whole.
        binarize: bool,
    },
    /// From a list of models with ranks, as a Python literal.
    Ranking {
        /// The name of the first output.
        model_1: String,
    },
    /// The same as the argument of a function call.
    CalledRanking {
        /// The argument's name.
        key: String,
        /// The name of the first output.
        model_1: String,
    },
    /// From the one match of several expressions.
    Expressions(Vec<(f64, Regex)>),
}

/// `completion_parser_kwargs` of a public config.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    numerator_token: Option<String>,
    denominator_tokens: Vec<String>,
    is_binarize: Option<bool>,
    model_1_name: Option<String>,
    outputs_to_match: IndexMap<i64, String>,
    parsers_to_kwargs: IndexMap<String, Inner>,
}

/// Settings of a parser within a chain.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inner {
    annotation_key: Option<String>,
    model_1_name: Option<String>,
}

impl Parser {
    /// The parser that a public config names.
    ///
    /// # Errors
    /// One that is not known here, or lacks a setting.
    pub fn public(name: &str, settings: Settings) -> Result<Self, Failure> {
        let model_1 = |name: Option<String>| name.unwrap_or_else(|| "model_1".to_owned());
        let unknown = || Failure::usage(format!("the annotator's parser {name} is not supported with these settings"));
        match name {
            "logprob_parser" => {
                let first = settings.numerator_token.ok_or_else(unknown)?;
                let second = settings.denominator_tokens.into_iter().find(|token| *token != first);
                let second = second.ok_or_else(unknown)?;
                Ok(Self::LogProbabilities { first, second, binarize: settings.is_binarize.unwrap_or(true) })
            }
            "ranking_parser" => Ok(Self::Ranking { model_1: model_1(settings.model_1_name) }),
            "regex_parser" if !settings.outputs_to_match.is_empty() => {
                expressions(settings.outputs_to_match.into_iter().map(|(key, text)| (key as f64, text)))
            }
            "pipeline_meta_parser" => {
                let mut parsers = settings.parsers_to_kwargs;
                let json = parsers.shift_remove("json_parser").and_then(|inner| inner.annotation_key);
                let ranking = parsers.shift_remove("ranking_parser").map(|inner| model_1(inner.model_1_name));
                match (json, ranking, parsers.is_empty()) {
                    (Some(key), Some(model_1), true) => Ok(Self::CalledRanking { key, model_1 }),
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// The parser of a custom annotator.
    ///
    /// # Errors
    /// An expression that is none.
    pub fn custom(parser: &CustomParser) -> Result<Self, Failure> {
        match parser.clone() {
            CustomParser::Logprob { first, second } => Ok(Self::LogProbabilities { first, second, binarize: false }),
            CustomParser::Ranking { model_1 } => Ok(Self::Ranking { model_1 }),
            CustomParser::Regex { first, second } => expressions([(1.0, first), (2.0, second)].into_iter()),
        }
    }

    /// 1 for the output that was shown first to 2 for the other.
    pub fn preference(&self, choice: &Value) -> Option<f64> {
        match self {
            Self::LogProbabilities { first, second, binarize } => {
                let tokens = choice.pointer("/logprobs/content/0/top_logprobs")?.as_array()?;
                let token = |entry: &Value| Some((entry["token"].as_str()?.to_owned(), entry["logprob"].as_f64()?));
                let tokens: Vec<_> = tokens.iter().filter_map(token).collect();
                let tokens: Vec<_> = tokens.iter().map(|(token, logprob)| (token.as_str(), *logprob)).collect();
                let weighted = from_log_probabilities(&tokens, first, second)?;
                Some(if !binarize {
                    weighted
                } else if weighted < 1.5 {
                    1.0
                } else {
                    2.0
                })
            }
            Self::Ranking { model_1 } => from_ranking_text(&text(choice)?, model_1).ok(),
            Self::CalledRanking { key, model_1 } => {
                let arguments: Value = serde_json::from_str(unfenced(&text(choice)?)).ok()?;
                from_ranking(arguments.get(key)?, model_1).ok()
            }
            Self::Expressions(expressions) => only_match(&text(choice)?, expressions),
        }
    }

    /// What AlpacaEval keeps of an answer.
    pub fn completion(&self, choice: &Value, total_tokens: u64) -> Value {
        match self {
            Self::LogProbabilities { .. } => {
                let mut kept = choice.clone();
                if let Some(map) = kept.as_object_mut() {
                    map.insert("text".to_owned(), json!(text(choice)));
                    map.insert("total_tokens".to_owned(), json!(total_tokens as f64));
                }
                kept
            }
            _ => json!(text(choice)),
        }
    }
}

/// The text of an answer: the arguments of a function where one is called.
fn text(choice: &Value) -> Option<String> {
    let called = ["/message/tool_calls/0/function/arguments", "/message/function_call/arguments"];
    let called = called.iter().find_map(|path| choice.pointer(path)?.as_str());
    match called.or_else(|| choice.pointer("/message/content")?.as_str())? {
        "" => Some(" ".to_owned()),
        text => Some(text.to_owned()),
    }
}

/// What stands in a fence of JSON, where there is one.
fn unfenced(text: &str) -> &str {
    text.split_once("```json").and_then(|(_, rest)| rest.split_once("```")).map_or(text, |(inner, _)| inner)
}

/// The key of the expression that matches, if there is one match in all.
fn only_match(text: &str, expressions: &[(f64, Regex)]) -> Option<f64> {
    let mut found = expressions.iter().flat_map(|(key, regex)| regex.find_iter(text).map(move |_| *key));
    let only = found.next()?;
    found.next().is_none().then_some(only)
}

fn expressions(pairs: impl Iterator<Item = (f64, String)>) -> Result<Parser, Failure> {
    let compile = |(key, text): (f64, String)| Ok((key, expression(&text).map_err(Failure::usage)?));
    pairs.map(compile).collect::<Result<_, _>>().map(Parser::Expressions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(arguments: &str) -> Value {
        json!({"message": {"role": "assistant", "content": null, "tool_calls": [{"function": {"arguments": arguments}}]}})
    }

    fn said(text: &str) -> Value {
        json!({"message": {"role": "assistant", "content": text}})
    }

    #[test]
    fn log_probabilities_may_be_weighed_or_cut_and_may_be_missing() {
        let parser = |binarize| Parser::LogProbabilities { first: "m".into(), second: "M".into(), binarize };
        let top = json!([{"token": "M", "logprob": -0.1}, {"token": "m", "logprob": -2.4}]);
        let choice =
            json!({"logprobs": {"content": [{"token": "M", "top_logprobs": top}]}, "message": {"content": "M"}});
        let weighted = parser(false).preference(&choice).unwrap();
        assert!((weighted - (2.0 - (-2.4_f64).exp() / ((-2.4_f64).exp() + (-0.1_f64).exp()))).abs() < 1e-12);
        assert_eq!(parser(true).preference(&choice), Some(2.0));
        assert_eq!(parser(false).preference(&said("M")), None);
        let kept = parser(false).completion(&choice, 390);
        assert_eq!((&kept["text"], &kept["total_tokens"]), (&json!("M"), &json!(390.0)));
    }

    #[test]
    fn rankings_are_said_or_called() {
        let ranking = Parser::Ranking { model_1: "model_1".into() };
        assert_eq!(ranking.preference(&said("[{'model': 'model_1', 'rank': 2}]")), Some(2.0));
        assert_eq!(ranking.preference(&said("both are fine")), None);
        let parser = Parser::CalledRanking { key: "ordered_models".into(), model_1: "m".into() };
        let order = r#"{"ordered_models": [{"model": "M", "rank": 1}, {"model": "m", "rank": 2}]}"#;
        assert_eq!(parser.preference(&called(order)), Some(2.0));
        assert_eq!(parser.preference(&said(&format!("Here:\n```json\n{order}\n```"))), Some(2.0));
        assert_eq!(parser.preference(&called("{")), None);
        assert_eq!(parser.preference(&json!(null)), None);
    }

    #[test]
    fn one_match_in_all_is_wanted() {
        let settings: Settings =
            serde_yaml::from_str("outputs_to_match: { 1: '(?i)output \\(a\\)', 2: '(?i)output \\(b\\)' }").unwrap();
        let parser = Parser::public("regex_parser", settings).unwrap();
        assert_eq!(parser.preference(&called(r#"{"best_output": "output (B)"}"#)), Some(2.0));
        assert_eq!(parser.preference(&said("Output (a), not Output (b)")), None);
        assert_eq!(parser.preference(&said("")), None);
        assert!(Parser::public("lmsys_parser", Settings::default()).is_err());
    }
}

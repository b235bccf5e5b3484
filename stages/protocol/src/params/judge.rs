//! `judge`: measure answers, and compare them with an opponent's.

use std::borrow::Cow;
use std::path::{Component, Path};

use indexmap::IndexMap;
use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::{Device, Precision, StageParams};
use crate::Kind;
use crate::judging::{CUSTOM, LOCAL, NAMED, Prices};

/// Parameters of `judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeParams {
    /// Who compares: `local` (the model of the slot `model`), `custom`, or the name of a public AlpacaEval annotator.
    pub annotator: Option<String>,
    /// Measures that need no judge.
    pub metrics: Vec<Measure>,
    /// Prompt and parser of `annotator: custom`.
    pub custom: Option<CustomAnnotator>,
    /// The service that a named or custom annotator asks.
    pub endpoint: Option<Endpoint>,
    /// Stop cleanly before this stage's comparisons, those paid for earlier among them, have cost more.
    pub max_cost_usd: Option<f64>,
    /// Requests at a time.
    pub concurrency: u64,
    /// Options of the length-controlled win rate.
    pub length_control: LengthControl,
    /// Judge so many published comparisons anew and report the agreement.
    pub calibrate: Option<u64>,
    /// Seed of order swaps and samples.
    pub seed: u64,
    /// Number format of a local judge.
    pub precision: Precision,
    /// Where a local judge runs.
    pub device: Device,
}

/// A measure of one answer, against its references where it needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Longest common subsequence, F-measure.
    #[serde(rename = "rouge_l")]
    RougeL,
    /// Overlap of n-grams up to four words.
    #[serde(rename = "bleu_4")]
    Bleu4,
    /// Equal texts after normalisation.
    ExactMatch,
    /// Characters and words.
    Length,
    /// Share of repeated 2-grams.
    Repetition,
    /// Diversity of n-grams.
    LogDiversity,
}

/// An OpenAI-compatible service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address up to, and without, `/chat/completions`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Name of the model there.
    pub model: String,
    /// What tells it from other models that bear this name: a commit, a quantisation. Without it the command of `serve` does.
    #[serde(default)]
    pub revision: Option<String>,
    /// Environment variable that holds the key.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Dollars per million tokens: `input` and `output`.
    #[serde(default)]
    pub prices: Option<IndexMap<String, f64>>,
    /// Command that starts a local server; `{port}` is filled in.
    #[serde(default)]
    pub serve: Option<String>,
    /// Seconds after which a request is given up and made anew.
    #[serde(default = "patience_seconds")]
    pub timeout_seconds: u64,
}

impl Endpoint {
    /// What tells the model from others of its name, where something does.
    pub fn told_apart_by(&self) -> Option<&str> {
        self.revision.as_deref().or(self.serve.as_deref())
    }

    fn problem_of_address(&self) -> Option<String> {
        let url = self.base_url.as_deref()?;
        let lower = url.to_ascii_lowercase();
        let host = ["http://", "https://"].iter().find_map(|scheme| lower.strip_prefix(scheme));
        if host.is_none_or(|host| host.starts_with('/') || host.trim().is_empty()) {
            return Some(format!("`{url}` is no address: one begins with http:// or https:// and a host"));
        }
        (self.serve.is_none() && url.contains("{port}"))
            .then(|| "`{port}` is that of the server that `serve` starts, and there is no `serve`".to_owned())
    }
}

fn patience_seconds() -> u64 {
    120
}

/// A judge of one's own: a prompt in AlpacaEval's form and how its answers are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomAnnotator {
    /// Path of the prompt in the input `annotators`: ChatML with `{instruction}`, `{output_1}` and `{output_2}`.
    pub prompt: String,
    /// How an answer is read.
    pub parser: CustomParser,
    /// Longest answer.
    #[serde(default = "one_token")]
    pub max_tokens: u64,
    /// Temperature of sampling.
    #[serde(default)]
    pub temperature: f64,
}

impl CustomAnnotator {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(&self.prompt).components().all(inside) {
            problems.push(("custom.prompt", format!("`{}` leads out of the input `annotators`", self.prompt)));
        }
        if let CustomParser::Regex { first, second } = &self.parser {
            let sides = [("custom.parser.regex.first", first), ("custom.parser.regex.second", second)];
            problems.extend(sides.into_iter().filter_map(|(path, text)| Some((path, expression(text).err()?))));
        }
        problems
    }
}

fn one_token() -> u64 {
    1
}

/// How the answer of a custom annotator is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CustomParser {
    /// From the log-probabilities of two tokens: the names of the first and the second output.
    Logprob {
        /// Says that the first output is better.
        first: String,
        /// Says that the second output is better.
        second: String,
    },
    /// From a list of {model, rank}, as a Python or JSON literal.
    Ranking {
        /// The name of the first output.
        #[serde(default = "model_1")]
        model_1: String,
    },
    /// From the one match of two expressions.
    Regex {
        /// Says that the first output is better.
        first: String,
        /// Says that the second output is better.
        second: String,
    },
}

/// An expression by which answers are read.
///
/// # Errors
/// Why it is none, in one line.
pub fn expression(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        let shown = error.to_string();
        let why = shown.lines().last().unwrap_or_default();
        format!("`{text}` is no regular expression: {}", why.strip_prefix("error: ").unwrap_or(why))
    })
}

fn model_1() -> String {
    "model_1".to_owned()
}

/// Options of the length-controlled win rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LengthControl {
    /// Inverse strength of the L1 penalty: a number, or `cv`, which chooses it by cross-validation as the public fit does.
    #[serde(rename = "C")]
    pub c: Strength,
}

/// Inverse strength of the L1 penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strength {
    /// This value.
    Value(f64),
    /// The best of ten values in five folds.
    CrossValidated,
}

impl Strength {
    const CROSS_VALIDATED: &'static str = "cv";
}

impl Default for Strength {
    /// What the public fit chooses for most models.
    fn default() -> Self {
        Self::Value(2.7826)
    }
}

impl Serialize for Strength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => serializer.serialize_f64(*value),
            Self::CrossValidated => serializer.serialize_str(Self::CROSS_VALIDATED),
        }
    }
}

impl<'de> Deserialize<'de> for Strength {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == Self::CROSS_VALIDATED => Ok(Self::CrossValidated),
            Value::Number(number) => Ok(Self::Value(number.as_f64().unwrap_or(f64::NAN))),
            other => Err(de::Error::custom(format!("invalid type: {other}, expected a number or cv"))),
        }
    }
}

impl JsonSchema for Strength {
    fn schema_name() -> Cow<'static, str> {
        "Strength".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "number", "exclusiveMinimum": 0 }, { "const": Self::CROSS_VALIDATED }] })
    }
}

impl Default for JudgeParams {
    fn default() -> Self {
        Self {
            annotator: None,
            metrics: vec![Measure::RougeL, Measure::Length, Measure::Repetition],
            custom: None,
            endpoint: None,
            max_cost_usd: None,
            concurrency: 4,
            length_control: LengthControl::default(),
            calibrate: None,
            seed: 0,
            precision: Precision::F32,
            device: Device::Auto,
        }
    }
}

impl StageParams for JudgeParams {
    const KIND: Kind = Kind::Judge;
    const JOINT: &'static [(&'static str, &'static [&'static str])] = &[
        ("annotator", &["endpoint", "custom"]),
        ("metrics", &["annotator"]),
        ("max_cost_usd", &["endpoint"]),
        ("endpoint.base_url", &["endpoint.serve"]),
    ];
    const NOT_IN_KEY: &'static [&'static str] =
        &["concurrency", "device", "max_cost_usd", "endpoint.key_env", "endpoint.prices", "endpoint.timeout_seconds"];

    /// Without an annotator nothing is compared; a local one asks both orders and draws nothing.
    fn prune(&self, value: &mut Value) {
        if self.annotator.is_none() {
            ["custom", "endpoint", "calibrate", "precision", "seed"].iter().for_each(|path| super::remove(value, path));
        }
        if self.annotator.as_deref() == Some("local") {
            let dead: &[&str] =
                if self.calibrate.is_some() { &["custom", "endpoint"] } else { &["custom", "endpoint", "seed"] };
            dead.iter().for_each(|path| super::remove(value, path));
        } else {
            super::remove(value, "precision");
        }
        if self.endpoint.as_ref().is_some_and(|endpoint| endpoint.revision.is_some()) {
            super::remove(value, "endpoint.serve");
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.concurrency == 0 {
            problems.push(("concurrency", "0 requests at a time never end".to_owned()));
        }
        if matches!(self.length_control.c, Strength::Value(c) if !(c.is_finite() && c > 0.0)) {
            problems.push(("length_control.C", "a positive number or cv is wanted".to_owned()));
        }
        if i64::try_from(self.seed).is_err() {
            problems.push(("seed", format!("{} is too large: services take 63 bits", self.seed)));
        }
        problems.extend(self.problems_of_annotator());
        if self.annotator.is_none() && self.metrics.is_empty() {
            problems.push(("metrics", "neither an annotator nor a measure is left to do".to_owned()));
        }
        problems
    }
}

impl JudgeParams {
    fn problems_of_annotator(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let Some(annotator) = self.annotator.as_deref() else { return problems };
        let is_local = annotator == LOCAL;
        if !is_local && annotator != CUSTOM && !NAMED.contains(&annotator) {
            problems.push(("annotator", format!("`{annotator}` is none of local, custom, {}", NAMED.join(", "))));
        } else if !is_local && self.endpoint.is_none() {
            problems.push(("annotator", format!("`{annotator}` asks a service: say `endpoint: {{ model: … }}`")));
        }
        match &self.custom {
            None if annotator == CUSTOM => {
                problems.push(("annotator", "`custom` needs `custom: { prompt: FILE, parser: … }`".to_owned()));
            }
            Some(custom) if annotator == CUSTOM => problems.extend(custom.problems()),
            _ => {}
        }
        if let Some(endpoint) = &self.endpoint {
            if endpoint.timeout_seconds == 0 {
                problems.push(("endpoint.timeout_seconds", "no request ends in 0 seconds".to_owned()));
            }
            problems.extend(endpoint.problem_of_address().map(|message| ("endpoint.base_url", message)));
            let prices = endpoint.prices.iter().flatten();
            for (name, price) in prices {
                if !(["input", "output"].contains(&name.as_str()) && price.is_finite() && *price >= 0.0) {
                    problems.push((
                        "endpoint.prices",
                        "`input` and `output` in dollars per million tokens are wanted".to_owned(),
                    ));
                }
            }
            if self.max_cost_usd.is_some() && Prices::of(endpoint).is_none() {
                problems.push(("max_cost_usd", "without `endpoint.prices` nothing tells what is spent".to_owned()));
            }
        }
        if self.max_cost_usd.is_some_and(|cap| !(cap.is_finite() && cap >= 0.0)) {
            problems.push(("max_cost_usd", "an amount of dollars is wanted".to_owned()));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(custom: Value, endpoint: Value) -> Vec<(&'static str, String)> {
        let said = json!({"annotator": "custom", "custom": custom, "endpoint": endpoint});
        super::super::resolve(Kind::Judge, said).unwrap().problems
    }

    #[test]
    fn what_no_judge_could_begin_with_is_a_problem_of_its_value() {
        let custom = |prompt: &str, first: &str| {
            let parser = json!({"regex": {"first": first, "second": "b"}});
            problems(json!({"prompt": prompt, "parser": parser}), json!({"model": "m"}))
        };
        assert_eq!(custom("prompt.txt", "(?i)output \\(a\\)"), []);
        let unclosed = "`(a` is no regular expression: unclosed group".to_owned();
        assert_eq!(custom("prompt.txt", "(a"), [("custom.parser.regex.first", unclosed)]);
        assert_eq!(custom("prompt.txt", "(\\w{500}){500}")[0].0, "custom.parser.regex.first");
        for outside in ["../prompt.txt", "/etc/hostname"] {
            assert_eq!(custom(outside, "a")[0].0, "custom.prompt", "{outside}");
        }
    }

    #[test]
    fn addresses_of_services_are_complete() {
        let ranking = json!({"prompt": "p", "parser": {"ranking": {}}});
        let paths =
            |endpoint: Value| problems(ranking.clone(), endpoint).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        for url in ["localhost:8000/v1", "ftp://host/v1", "http:///v1", "http://localhost:{port}/v1"] {
            assert_eq!(paths(json!({"model": "m", "base_url": url})), ["endpoint.base_url"], "{url}");
        }
        let served = json!({"model": "m", "base_url": "http://localhost:{port}/v1", "serve": "serve {port}"});
        assert_eq!(paths(served), [""; 0]);
    }
}

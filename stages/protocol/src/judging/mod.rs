//! What is compared when answers are judged, and what asking a service for it may cost: shared by the worker that asks and by
//! the plan that tells what asking will take. It asks nobody.

mod join;
mod price;
mod retired;
mod sample;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use join::{Pair, join, one_text};
pub use price::{Prices, Usage};
pub use retired::is_retired;
pub use sample::{Published, sampled};

use crate::params::JudgeParams;
use crate::{Digest, KeyHasher};

/// The annotator that asks the model of the slot `model`.
pub const LOCAL: &str = "local";
/// The annotator whose prompt and parser stand in the parameters.
pub const CUSTOM: &str = "custom";
/// The public annotators that are known by name.
pub const NAMED: [&str; 5] = [
    "weighted_alpaca_eval_gpt4_turbo",
    "alpaca_eval_clf_gpt4_turbo",
    "alpaca_eval_gpt4",
    "alpaca_eval_gpt4_turbo_fn",
    "chatgpt_fn",
];

/// Two answers to compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was asked, with its input after a blank line where it has one.
    pub instruction: String,
    /// The opponent's answer.
    pub output_1: String,
    /// The model's answer.
    pub output_2: String,
}

impl Comparison {
    /// Whether there is something to judge: equal outputs are a draw without asking.
    pub fn differs(&self) -> bool {
        self.output_1 != self.output_2
    }
}

/// The comparison that a pair of answers asks for.
pub fn comparison(pair: &Pair) -> Comparison {
    Comparison {
        instruction: pair.prompt(),
        output_1: pair.reference.output.clone(),
        output_2: pair.answer.output.clone(),
    }
}

/// Who is asked over the network, in all that decides what it says: it names comparisons.
#[derive(Debug, Clone)]
pub struct Asker(Digest);

impl Asker {
    /// The service of these parameters, with prompts from an input of this content. None where no service is asked.
    pub fn new(params: &JudgeParams, annotators: Digest) -> Option<Self> {
        let (annotator, endpoint) = (params.annotator.as_deref()?, params.endpoint.as_ref()?);
        let custom = serde_json::to_value(&params.custom).expect("parameters serialise");
        let mut hasher = KeyHasher::new("neftpipe 2026 judging service v1");
        hasher.add(annotator).add(&annotators).add(&custom).add(&endpoint.model).add(&params.seed);
        if let Some(mark) = endpoint.told_apart_by() {
            hasher.add(mark);
        }
        Some(Self(hasher.finish()))
    }

    /// The name under which a comparison is kept, so that it is paid for once.
    pub fn name(&self, comparison: &Comparison) -> String {
        let Comparison { instruction, output_1, output_2 } = comparison;
        let mut hasher = KeyHasher::new("neftpipe 2026 asked comparison v1");
        hasher.add(&self.0).add(instruction).add(output_1).add(output_2).finish().to_string()
    }
}

/// Of the parameters that enter a judge's key, those that decide what it says of a comparison. Where a service listens is
/// none of them: a model is known by its name, and by what tells it from others of the name.
pub fn naming_params(key: &Value) -> Value {
    let mut named = Map::new();
    for name in ["annotator", "custom", "precision", "seed"] {
        named.extend(key.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    for name in ["model", "revision", "serve"] {
        named.extend(key.pointer(&format!("/endpoint/{name}")).map(|value| (name.to_owned(), value.clone())));
    }
    Value::Object(named)
}

/// A comparison that was asked and paid for: a line of the rows that outlive a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedRow {
    /// [`Asker::name`] of the comparison.
    pub id: String,
    /// The answer, as the service gave it. Null where it refused the comparison for good.
    pub choice: Value,
    /// Tokens that it counted.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::params::resolve;
    use serde_json::json;

    /// What rows are looked for by, and the name of one of them.
    fn known_by(endpoint: Value) -> (Value, String) {
        let params = json!({"annotator": "alpaca_eval_gpt4", "endpoint": endpoint});
        let named = naming_params(&resolve(Kind::Judge, params.clone()).unwrap().key);
        let asker = Asker::new(&serde_json::from_value(params).unwrap(), Digest::of(b"configs")).unwrap();
        let [instruction, output_1, output_2] = ["i", "a", "b"].map(str::to_owned);
        (named, asker.name(&Comparison { instruction, output_1, output_2 }))
    }

    #[test]
    fn judgements_are_known_by_the_model_and_not_by_where_it_is() {
        let here = known_by(json!({"model": "m", "base_url": "http://localhost:8000/v1"}));
        assert_eq!(here, known_by(json!({"model": "m", "base_url": "https://elsewhere/v1", "key_env": "KEY"})));
        let others = [
            json!({"model": "n"}),
            json!({"model": "m", "revision": "4 bits"}),
            json!({"model": "m", "revision": "8 bits"}),
            json!({"model": "m", "serve": "serve m.gguf"}),
            json!({"model": "m", "serve": "serve n.gguf"}),
        ]
        .map(known_by);
        for (at, other) in others.iter().enumerate() {
            let before = others[..at].iter().chain([&here]);
            before.for_each(|one| assert!(one.0 != other.0 && one.1 != other.1, "{other:?}"));
        }
        // Who says which it is may start it as he likes.
        assert_eq!(others[1], known_by(json!({"model": "m", "revision": "4 bits", "serve": "serve -j 2"})));
    }
}

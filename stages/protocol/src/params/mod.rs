//! Parameters of every kind: their names, defaults and JSON Schema, and which of them enter a key.
//!
//! A key holds only what can change the output: values at their defaults stay out, as do the parameters that a kind
//! names in [`StageParams::NOT_IN_KEY`] and those that have no effect given others ([`StageParams::prune`]).

pub mod command;
pub mod download;
pub mod generate;
pub mod judge;
pub mod report;
pub mod shared;
pub mod tokenize;
pub mod train;

use std::collections::HashMap;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use command::CommandParams;
pub use download::DownloadParams;
pub use generate::GenerateParams;
pub use judge::JudgeParams;
pub use report::ReportParams;
pub use shared::{Device, OneOrMany, Precision, Template};
pub use tokenize::TokenizeParams;
pub use train::TrainParams;

use crate::Kind;
use crate::digest::{canonical, canonicalize};

/// The parameters of one kind.
pub trait StageParams: Serialize + DeserializeOwned + JsonSchema + Default {
    /// The kind.
    const KIND: Kind;
    /// Dotted paths that cannot change the output.
    const NOT_IN_KEY: &'static [&'static str];
    /// Dotted paths at which [`Self::problems`] may say something because of other values, with the paths of those.
    const JOINT: &'static [(&'static str, &'static [&'static str])] = &[];

    /// Removes from the serialised parameters what has no effect given the others.
    fn prune(&self, _value: &mut Value) {}

    /// Says what is wrong with the values taken together: the dotted path and the message of each problem.
    fn problems(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Runs one generic body for the parameter type of a kind.
macro_rules! for_kind {
    ($kind:expr, $params:ident => $body:expr) => {
        match $kind {
            Kind::Download => {
                type $params = DownloadParams;
                $body
            }
            Kind::Tokenize => {
                type $params = TokenizeParams;
                $body
            }
            Kind::Train => {
                type $params = TrainParams;
                $body
            }
            Kind::Generate => {
                type $params = GenerateParams;
                $body
            }
            Kind::Judge => {
                type $params = JudgeParams;
                $body
            }
            Kind::Report => {
                type $params = ReportParams;
                $body
            }
            Kind::Command => {
                type $params = CommandParams;
                $body
            }
        }
    };
}

/// Parameters checked and brought to their full, typed form.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Every parameter, defaults filled in, numbers in canonical spelling.
    pub full: Value,
    /// What enters the key.
    pub key: Value,
    /// Problems of values taken together, by dotted path.
    pub problems: Vec<(&'static str, String)>,
}

/// Decodes the parameters of a kind.
///
/// # Errors
/// The decoding error of serde, where a key is unknown or a value has the wrong type.
pub fn resolve(kind: Kind, value: Value) -> Result<Resolved, serde_json::Error> {
    fn typed<P: StageParams>(value: Value) -> Result<Resolved, serde_json::Error> {
        let params: P = serde_json::from_value(value)?;
        let mut full = serde_json::to_value(&params)?;
        canonicalize(&mut full);
        let mut key = full.clone();
        let defaults = defaults(P::KIND);
        remove_inner_defaults::<P>(&full, defaults, &mut key);
        params.prune(&mut key);
        P::NOT_IN_KEY.iter().for_each(|path| remove(&mut key, path));
        let key = without_defaults(key, defaults).unwrap_or_else(|| Value::Object(Default::default()));
        Ok(Resolved { full, key, problems: params.problems() })
    }
    for_kind!(kind, P => typed::<P>(value))
}

/// JSON Schema of a kind's parameters.
pub fn schema(kind: Kind) -> Schema {
    for_kind!(kind, P => schema_for!(P))
}

/// The parameters of a kind at their defaults, in canonical spelling.
pub fn defaults(kind: Kind) -> &'static Value {
    static DEFAULTS: LazyLock<HashMap<Kind, Value>> = LazyLock::new(|| {
        let of = |kind| for_kind!(kind, P => serde_json::to_value(P::default()).expect("parameters serialise"));
        Kind::ALL.map(|kind| (kind, canonical(&of(kind)))).into()
    });
    &DEFAULTS[&kind]
}

/// Dotted paths of a kind's parameters that never enter a key.
pub fn not_in_key(kind: Kind) -> &'static [&'static str] {
    for_kind!(kind, P => P::NOT_IN_KEY)
}

/// Dotted paths of the values that decide, with the one at this path, whether [`Resolved::problems`] says something of it.
pub fn goes_with(kind: Kind, path: &str) -> &'static [&'static str] {
    let joint = for_kind!(kind, P => P::JOINT);
    joint.iter().find(|(own, _)| *own == path).map_or(&[], |(_, others)| others)
}

/// Removes the value at a dotted path, if there is one.
pub fn remove(value: &mut Value, path: &str) {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let Some(map) = value.as_object_mut() else { return };
    match rest {
        None => {
            map.shift_remove(head);
        }
        Some(rest) => {
            if let Some(inner) = map.get_mut(head) {
                remove(inner, rest);
            }
        }
    }
}

/// Removes what a group of parameters would hold anyway once it is there (`sparsity: { every: 10 }`): the group as a whole
/// is absent by default, so only decoding it again without the value tells.
fn remove_inner_defaults<P: StageParams>(full: &Value, defaults: &Value, key: &mut Value) {
    for (group, inner) in full.as_object().into_iter().flatten().filter(|(group, _)| defaults[*group].is_null()) {
        for name in inner.as_object().into_iter().flatten().map(|(name, _)| name) {
            let path = format!("{group}.{name}");
            let mut without = full.clone();
            remove(&mut without, &path);
            let again = serde_json::from_value::<P>(without).ok().and_then(|again| serde_json::to_value(again).ok());
            if again.is_some_and(|again| canonical(&again) == *full) {
                remove(key, &path);
            }
        }
    }
}

/// What of a value differs from its default, both in canonical spelling.
fn without_defaults(value: Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (value, default) if value == *default => None,
        (Value::Object(map), Value::Object(defaults)) => {
            let kept: Vec<_> = map
                .into_iter()
                .filter_map(|(key, item)| {
                    let item = without_defaults(item, defaults.get(&key).unwrap_or(&Value::Null))?;
                    Some((key, item))
                })
                .collect();
            (!kept.is_empty()).then(|| kept.into_iter().collect())
        }
        (value, _) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(kind: Kind, value: Value) -> Value {
        resolve(kind, value).unwrap().key
    }

    #[test]
    fn defaults_stay_out_of_the_key() {
        for kind in [Kind::Tokenize, Kind::Train, Kind::Generate, Kind::Judge, Kind::Report] {
            assert_eq!(key(kind, json!({})), json!({}), "{kind}");
            assert_eq!(key(kind, defaults(kind).clone()), json!({}), "{kind}");
        }
    }

    #[test]
    fn what_cannot_change_the_output_stays_out_of_the_key() {
        let with = json!({"steps": 4, "batch": {"size": 2, "micro": 1}, "device": "cpu", "checkpoint_every": 7});
        assert_eq!(key(Kind::Train, with), json!({"batch": {"size": 2}, "steps": 4}));
    }

    #[test]
    fn noise_parameters_without_noise_have_no_effect() {
        let with = json!({"neft": {"alpha": 0, "noise": "gaussian", "schedule": {"linear": {"to": 0}}}});
        assert_eq!(key(Kind::Train, with), json!({}));
        assert_eq!(key(Kind::Train, json!({"neft": {"alpha": 5.0}})), json!({"neft": {"alpha": 5}}));
    }

    #[test]
    fn defaults_inside_a_group_that_is_absent_by_default_stay_out_of_the_key() {
        let said = json!({"sparsity": {"scope": "delta", "target": 0.5, "every": 10, "ramp": "none", "end": 0.5}});
        assert_eq!(key(Kind::Train, said), json!({"sparsity": {"end": 0.5, "scope": "delta", "target": 0.5}}));
        let said = json!({"early_stopping": {"patience": 2, "min_delta": 0.0}, "eval_every": 3});
        assert_eq!(key(Kind::Train, said), json!({"early_stopping": {"patience": 2}, "eval_every": 3}));
        let said = json!({"annotator": "alpaca_eval_gpt4", "endpoint": {"model": "m", "base_url": null}});
        assert_eq!(key(Kind::Judge, said), json!({"annotator": "alpaca_eval_gpt4", "endpoint": {"model": "m"}}));
        let said = json!({"run": "true", "outputs": {"t": {"path": "t", "as": "files"}}});
        assert_eq!(key(Kind::Command, said), json!({"outputs": {"t": {"path": "t"}}, "run": "true"}));
    }

    #[test]
    fn early_stopping_needs_evaluations() {
        let problems = |value: Value| resolve(Kind::Train, value).unwrap().problems;
        let alone = problems(json!({"early_stopping": {"patience": 2}}));
        assert!(matches!(&alone[..], [("early_stopping", message)] if message.contains("eval_every")), "{alone:?}");
        assert_eq!(problems(json!({"early_stopping": {"patience": 2}, "eval_every": 5})), []);
    }

    #[test]
    fn what_has_no_effect_on_masks_enters_no_key() {
        let key = |sparsity: &str| {
            let sparsity: Value =
                serde_json::from_str(&format!("{{\"scope\": \"delta\", \"target\": 0.5{sparsity}}}")).unwrap();
            key(Kind::Train, json!({"sparsity": sparsity}))
        };
        assert_eq!(key(r#", "initial": 0.2, "seed": 3"#), key(""));
        let made_once = key(r#", "grow": "none""#);
        assert_eq!(key(r#", "grow": "none", "every": 8, "end": 0.9, "exchange": 0.5, "seed": 3"#), made_once);
        assert_eq!(key(r#", "grow": "random", "exchange": 0, "every": 8"#), made_once);
        for other in
            ["", r#", "grow": "random""#, r#", "grow": "none", "start": 0.5"#, r#", "grow": "none", "ramp": "cubic""#]
        {
            assert_ne!(key(other), made_once, "{other}");
        }
        let ramp = key(r#", "grow": "none", "ramp": "cubic""#);
        assert_ne!(key(r#", "grow": "none", "ramp": "cubic", "initial": 0.2"#), ramp);
        assert_ne!(key(r#", "grow": "none", "ramp": "cubic", "every": 8"#), ramp);
        assert_ne!(key(r#", "grow": "random", "seed": 3"#), key(r#", "grow": "random""#));
    }

    #[test]
    fn two_of_four_columns_of_b_need_a_rank_that_4_divides() {
        let paths = |scope: &str, rank: u64| {
            let sparsity = json!({"scope": scope, "target": 0.5, "granularity": "2:4"});
            let said = resolve(Kind::Train, json!({"lora": {"rank": rank}, "sparsity": sparsity})).unwrap();
            said.problems.iter().map(|(path, _)| *path).collect::<Vec<_>>()
        };
        assert_eq!(paths("lora_factors", 6), ["lora.rank"]);
        assert!(paths("lora_factors", 8).is_empty() && paths("delta", 6).is_empty());
    }

    #[test]
    fn unknown_keys_are_refused() {
        for kind in Kind::ALL {
            assert!(resolve(kind, json!({"nonsense": 1})).is_err(), "{kind}");
        }
    }

    #[test]
    fn what_goes_together_is_there() {
        for kind in Kind::ALL {
            let joint = for_kind!(kind, P => P::JOINT);
            let schema = schema(kind);
            for path in joint.iter().flat_map(|(own, others)| others.iter().chain([own])) {
                let group = path.split('.').next().unwrap_or(path);
                assert!(schema.as_value()["properties"].get(group).is_some(), "{kind}: {path}");
            }
        }
        assert_eq!(goes_with(Kind::Train, "early_stopping"), ["eval_every"]);
        assert_eq!(goes_with(Kind::Train, "steps"), [""; 0]);
    }

    #[test]
    fn every_kind_has_a_schema_with_properties() {
        for kind in Kind::ALL {
            assert!(schema(kind).get("properties").is_some(), "{kind}");
        }
    }
}

//! The parameters of an instance, without a copy of what every instance of its kind has.
//!
//! Of ten thousand commands each says one parameter and leaves six at their defaults, which would be 10 MB.

use std::ops::Index;

use neftpipe_protocol::Kind;
use neftpipe_protocol::params::{self, Resolved};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// Every parameter of an instance, numbers in canonical spelling, and those of them that enter its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    kind: Kind,
    /// Those that are not at their defaults.
    said: Map<String, Value>,
    /// What enters the key, where it is not all that is said.
    key: Option<Value>,
}

impl Settled {
    /// All at their defaults.
    pub fn defaults(kind: Kind) -> Self {
        Self { kind, said: Map::new(), key: None }
    }

    /// What was resolved.
    pub fn new(kind: Kind, resolved: Resolved) -> Self {
        let defaults = params::defaults(kind);
        let Value::Object(full) = resolved.full else { return Self::defaults(kind) };
        let said: Vec<_> = full.into_iter().filter(|(name, value)| defaults.get(name) != Some(value)).collect();
        let said = Map::from_iter(said);
        let key = (resolved.key.as_object() != Some(&said)).then_some(resolved.key);
        Self { kind, said, key }
    }

    /// All of them.
    pub fn full(&self) -> Value {
        let mut full = params::defaults(self.kind).clone();
        self.said.iter().for_each(|(name, value)| full[name] = value.clone());
        full
    }

    /// Those that enter the key.
    pub fn key(&self) -> Value {
        self.key.clone().unwrap_or_else(|| Value::Object(self.said.clone()))
    }

    /// All of them, typed.
    ///
    /// # Errors
    /// Where they are not those of the kind.
    pub fn typed<P: DeserializeOwned>(&self) -> Result<P, serde_json::Error> {
        P::deserialize(&self.said)
    }
}

/// The parameter of this name; null where there is none.
impl Index<&str> for Settled {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        self.said.get(name).unwrap_or_else(|| &params::defaults(self.kind)[name])
    }
}

impl Serialize for Settled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = params::defaults(self.kind).as_object().into_iter().flatten();
        let known = defaults.map(|(name, default)| (name, self.said.get(name).unwrap_or(default)));
        let further = self.said.iter().filter(|(name, _)| params::defaults(self.kind).get(name).is_none());
        serializer.collect_map(known.chain(further))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::params::TrainParams;
    use serde_json::json;

    #[test]
    fn nothing_is_lost() {
        let said = [
            (
                Kind::Train,
                json!({"steps": 4, "neft": {"alpha": 5}, "device": "cpu", "sparsity": {"scope": "delta", "target": 0.5}}),
            ),
            (Kind::Train, json!({"neft": {"alpha": 5, "schedule": {"linear": {"to": 0}}}})),
            (Kind::Command, json!({"run": "true", "params": {"a": 1}, "key_ignore": ["params.a"]})),
            (Kind::Report, json!({"families": {"noise": ["a"]}})),
            (Kind::Tokenize, json!({})),
        ];
        for (kind, said) in said {
            let resolved = params::resolve(kind, said).unwrap();
            let settled = Settled::new(kind, resolved.clone());
            assert_eq!(settled.full(), resolved.full);
            assert_eq!(serde_json::to_value(&settled).unwrap(), resolved.full);
            assert_eq!(settled.key(), resolved.key);
        }
    }

    #[test]
    fn defaults_are_read_like_what_is_said() {
        let resolved = params::resolve(Kind::Train, json!({"steps": 4})).unwrap();
        let settled = Settled::new(Kind::Train, resolved);
        assert_eq!(
            (&settled["steps"], &settled["device"], &settled["nonsense"]),
            (&json!(4), &json!("auto"), &Value::Null)
        );
        let typed: TrainParams = settled.typed().unwrap();
        assert_eq!(typed, TrainParams { steps: Some(4), ..TrainParams::default() });
    }
}

//! Why a result is not there: what differs from the nearest earlier one.

use indexmap::{IndexMap, IndexSet};
use neftpipe_protocol::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::preimage::{InputDigest, Preimage};
use crate::spec::reference::instance_id;

/// One reason for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// There is no earlier result to compare with.
    NeverRan,
    /// A parameter differs; null is its default.
    ParamChanged {
        /// Dotted path.
        path: String,
        /// Then.
        old: Value,
        /// Now.
        new: Value,
    },
    /// An input's content differs.
    InputChanged {
        /// The slot, of a gathered list with the axes of the input (`train[seed=0]`), or the file of a local source or
        /// command.
        slot: String,
        /// Digest then.
        old: Option<Digest>,
        /// Digest now.
        new: Option<Digest>,
    },
    /// The implementation of the kind differs.
    VersionChanged {
        /// Then.
        old: u32,
        /// Now.
        new: u32,
    },
    /// The value of a named environment variable differs.
    EnvChanged {
        /// Its name.
        name: String,
    },
    /// The result was there, but files of this output are gone.
    OutputMissing {
        /// The output.
        output: String,
    },
    /// An input has yet to be made.
    InputPending {
        /// The slot.
        slot: String,
        /// The instance that makes it.
        stage: String,
    },
    /// `--force`.
    Forced,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |digest: &Option<Digest>| digest.map_or("nothing".to_owned(), |digest| digest.short());
        let value = |value: &Value| if value.is_null() { "default".to_owned() } else { value.to_string() };
        match self {
            Self::NeverRan => f.write_str("never ran"),
            Self::ParamChanged { path, old, new } => write!(f, "{path}: {} → {}", value(old), value(new)),
            Self::InputChanged { slot, old, new } => write!(f, "input {slot}: {} → {}", short(old), short(new)),
            Self::VersionChanged { old, new } => write!(f, "implementation version {old} → {new}"),
            Self::EnvChanged { name } => write!(f, "environment variable {name} changed"),
            Self::OutputMissing { output } => write!(f, "files of its output `{output}` are gone from the store"),
            Self::InputPending { slot, stage } => write!(f, "input {slot}: waits for {stage}"),
            Self::Forced => f.write_str("forced"),
        }
    }
}

/// Reasons in one line; of many the first few.
pub fn in_a_line(reasons: &[Reason]) -> String {
    const SHOWN: usize = 4;
    let mut texts: Vec<String> = reasons.iter().take(SHOWN).map(ToString::to_string).collect();
    if reasons.len() > SHOWN {
        texts.push(format!("{} more", reasons.len() - SHOWN));
    }
    texts.join("; ")
}

/// The reasons of a miss, given earlier results of the instance.
pub fn of_miss(preimage: &Preimage, earlier: &[Preimage]) -> Vec<Reason> {
    nearest(preimage, earlier).map_or_else(|| vec![Reason::NeverRan], |old| differences(old, preimage))
}

/// The earlier result with the fewest differences, the newest of several.
pub fn nearest<'a>(preimage: &Preimage, earlier: &'a [Preimage]) -> Option<&'a Preimage> {
    earlier.iter().filter(|old| old.kind == preimage.kind).min_by_key(|old| differences(old, preimage).len())
}

/// Every ingredient that differs.
pub fn differences(old: &Preimage, new: &Preimage) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if old.version != new.version {
        reasons.push(Reason::VersionChanged { old: old.version, new: new.version });
    }
    params("", &old.params, &new.params, &mut reasons);
    reasons.iter_mut().for_each(|reason| name_defaults(reason, neftpipe_protocol::params::defaults(new.kind)));
    inputs(old, new, &mut reasons);
    for path in union(old.contents.keys(), new.contents.keys()) {
        let (then, now) = (old.contents.get(path).copied(), new.contents.get(path).copied());
        if then != now {
            reasons.push(Reason::InputChanged { slot: path.clone(), old: then, new: now });
        }
    }
    for name in union(old.env.keys(), new.env.keys()) {
        if old.env.get(name) != new.env.get(name) {
            reasons.push(Reason::EnvChanged { name: name.clone() });
        }
    }
    reasons
}

fn params(path: &str, old: &Value, new: &Value, reasons: &mut Vec<Reason>) {
    if let (Value::Object(then), Value::Object(now)) = (old, new) {
        for name in union(then.keys(), now.keys()) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            params(&path, then.get(name).unwrap_or(&Value::Null), now.get(name).unwrap_or(&Value::Null), reasons);
        }
    } else if let (Value::Object(fields), Value::Null) | (Value::Null, Value::Object(fields)) = (old, new) {
        // A group of parameters that one side leaves at its defaults is told apart field by field.
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let (then, now) = if old.is_null() { (&Value::Null, value) } else { (value, &Value::Null) };
            params(&path, then, now, reasons);
        }
    } else if old != new {
        reasons.push(Reason::ParamChanged { path: path.to_owned(), old: old.clone(), new: new.clone() });
    }
}

/// A value that stays out of the key is at its default, and the person wants to read which that is.
fn name_defaults(reason: &mut Reason, defaults: &Value) {
    if let Reason::ParamChanged { path, old, new } = reason {
        let default = path.split('.').try_fold(defaults, |value, name| value.get(name));
        for value in [old, new] {
            if let (true, Some(default)) = (value.is_null(), default) {
                *value = default.clone();
            }
        }
    }
}

fn inputs(old: &Preimage, new: &Preimage, reasons: &mut Vec<Reason>) {
    for slot in union(old.inputs.keys(), new.inputs.keys()) {
        let list = |preimage: &Preimage| preimage.inputs.get(slot).cloned().unwrap_or_default();
        let (then, now) = (list(old), list(new));
        let changed = gathered(slot, &then, &now);
        if !changed.is_empty() {
            reasons.extend(changed);
        } else if then != now {
            let digest = |list: &[InputDigest], at: usize| list.get(at).map(|input| input.digest);
            let at = (0..then.len().max(now.len())).find(|&at| then.get(at) != now.get(at)).unwrap_or(0);
            reasons.push(Reason::InputChanged { slot: slot.clone(), old: digest(&then, at), new: digest(&now, at) });
        }
    }
}

/// What came, went or changed in a gathered list, each by its axes. Nothing where that is not how the lists differ.
fn gathered(slot: &str, then: &[InputDigest], now: &[InputDigest]) -> Vec<Reason> {
    fn by_axes(list: &[InputDigest]) -> IndexMap<String, Digest> {
        let name =
            |axes: &IndexMap<String, Value>| instance_id("", axes.iter().map(|(axis, value)| (axis.as_str(), value)));
        list.iter().filter_map(|input| Some((name(input.axes.as_ref()?), input.digest))).collect()
    }
    let (old, new) = (by_axes(then), by_axes(now));
    if (old.len(), new.len()) != (then.len(), now.len()) {
        return Vec::new(); // some are not told apart by axes
    }
    let names: IndexSet<&String> = new.keys().chain(old.keys()).collect();
    let differing = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let reason = |name: &String| Reason::InputChanged {
        slot: format!("{slot}{name}"),
        old: old.get(name).copied(),
        new: new.get(name).copied(),
    };
    differing.map(reason).collect()
}

fn union<'a>(a: impl Iterator<Item = &'a String>, b: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut names: Vec<_> = a.chain(b).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexmap::IndexMap;
    use neftpipe_protocol::Kind;
    use serde_json::json;

    fn preimage(params: Value, input: &[u8]) -> Preimage {
        let inputs =
            IndexMap::from([("model".to_owned(), vec![InputDigest { digest: Digest::of(input), axes: None }])]);
        Preimage { kind: Kind::Train, version: 1, params, inputs, contents: IndexMap::new(), env: IndexMap::new() }
    }

    #[test]
    fn parameters_are_told_apart_one_by_one() {
        let old = preimage(json!({"steps": 4, "neft": {"alpha": 5}}), b"m");
        let new = preimage(json!({"steps": 4, "neft": {"alpha": 10}}), b"m");
        let changed = |old: Value, new: Value| vec![Reason::ParamChanged { path: "neft.alpha".into(), old, new }];
        assert_eq!(differences(&old, &new), changed(json!(5), json!(10)));
        assert_eq!(differences(&old, &preimage(json!({"steps": 4}), b"m")), changed(json!(5), json!(0)));
    }

    #[test]
    fn an_input_is_named_by_its_slot() {
        let (old, new) = (preimage(json!({}), b"a"), preimage(json!({}), b"b"));
        let expected =
            Reason::InputChanged { slot: "model".into(), old: Some(Digest::of(b"a")), new: Some(Digest::of(b"b")) };
        assert_eq!(differences(&old, &new), [expected]);
    }

    #[test]
    fn what_a_gathered_list_gained_or_lost_is_named_by_its_axes() {
        let gathered = |seeds: &[(u64, &[u8])]| {
            let input = |&(seed, content): &(u64, &[u8])| InputDigest {
                digest: Digest::of(content),
                axes: Some(IndexMap::from([("seed".to_owned(), json!(seed))])),
            };
            let inputs = IndexMap::from([("train".to_owned(), seeds.iter().map(input).collect())]);
            Preimage { inputs, ..preimage(json!({}), b"") }
        };
        let old = gathered(&[(0, b"a"), (1, b"b"), (2, b"c")]);
        let told = differences(&old, &gathered(&[(1, b"b"), (2, b"d"), (3, b"e")]));
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        let short = |content: &[u8]| Digest::of(content).short();
        assert_eq!(
            told,
            [
                format!("input train[seed=2]: {} → {}", short(b"c"), short(b"d")),
                format!("input train[seed=3]: nothing → {}", short(b"e")),
                format!("input train[seed=0]: {} → nothing", short(b"a")),
            ]
        );
        assert_eq!(differences(&old, &gathered(&[(1, b"b"), (0, b"a"), (2, b"c")])).len(), 1, "the order counts");
        assert_eq!(in_a_line(&vec![Reason::Forced; 6]), "forced; forced; forced; forced; 2 more");
    }

    #[test]
    fn the_nearest_of_several_explains() {
        let new = preimage(json!({"steps": 4, "seed": 2}), b"m");
        let earlier = [preimage(json!({"steps": 9, "seed": 1}), b"x"), preimage(json!({"steps": 4, "seed": 1}), b"m")];
        assert_eq!(nearest(&new, &earlier), Some(&earlier[1]));
        assert_eq!(of_miss(&new, &[]), [Reason::NeverRan]);
    }
}

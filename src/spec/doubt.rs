//! Parameters of an instance that are wrong by themselves. Of what goes together with them nothing can be said; of the
//! others all can.

use neftpipe_protocol::Kind;
use serde_json::Value;

use super::layer::overlap;
use super::problem::{Code, Path, Place, Problem, Segment, nearest};
use super::shape::{self, Shape};

/// What cannot be gone by, of one instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Doubts {
    /// Nothing.
    #[default]
    None,
    /// These parameters, by dotted path.
    Some(Vec<String>),
    /// All of them.
    All,
}

impl Doubts {
    /// Takes out of merged parameters what is of the wrong form, and what lacks a part for that.
    pub fn take_out(kind: Kind, value: &mut Value) -> Self {
        let shape = shape::of(kind);
        let mut wrong = Vec::new();
        shape.check(value, &Path::DOCUMENT, "", &mut wrong);
        let mut paths = Vec::new();
        for problem in &wrong {
            let keys = keys(problem);
            remove(value, &keys);
            paths.extend(meant(shape, problem, &keys));
            paths.push(keys.join("."));
        }
        loop {
            let missing = shape.missing(value);
            let lost = missing.iter().find(|path| paths.iter().any(|wrong| overlap(wrong, path)));
            let Some((group, _)) = lost.and_then(|path| path.split_once('.')) else { break };
            remove(value, &[group]);
            paths.push(group.to_owned());
        }
        if paths.is_empty() { Self::None } else { Self::Some(paths) }
    }

    /// Adds the parameter at this path.
    pub fn add(&mut self, path: &str) {
        match self {
            Self::None => *self = Self::Some(vec![path.to_owned()]),
            Self::Some(paths) => paths.push(path.to_owned()),
            Self::All => {}
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        *self != Self::None
    }

    /// Whether there are any of the parameter at this path, or of one inside it.
    pub fn touch(&self, path: &str) -> bool {
        match self {
            Self::None => false,
            Self::Some(paths) => paths.iter().any(|wrong| overlap(wrong, path)),
            Self::All => true,
        }
    }
}

/// The way to what a problem is about, as far as keys lead: of a list all is in doubt.
fn keys(problem: &Problem) -> Vec<&str> {
    let Place::Node { path, .. } = &problem.place else { return Vec::new() };
    path.iter()
        .map_while(|segment| match segment {
            Segment::Key(name) => Some(name.as_str()),
            Segment::Index(_) => None,
        })
        .collect()
}

/// The parameter that an unknown key may have been meant to be.
fn meant(shape: &Shape, problem: &Problem, keys: &[&str]) -> Option<String> {
    let (unknown, above) = keys.split_last().filter(|_| problem.code == Code::UnknownKey)?;
    let map = above.iter().try_fold(shape, |shape, key| shape.at(key))?;
    let name = nearest(unknown, &map.keys())?;
    Some(above.iter().copied().chain([name]).collect::<Vec<_>>().join("."))
}

/// Removes what is there, and the groups of which nothing is left by that.
fn remove(value: &mut Value, keys: &[&str]) {
    let Some((last, above)) = keys.split_last() else { return };
    let map = above.iter().try_fold(&mut *value, |value, key| value.get_mut(key));
    let Some(map) = map.and_then(Value::as_object_mut) else { return };
    map.shift_remove(*last);
    if map.is_empty() {
        remove(value, above);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taken_out(kind: Kind, mut value: Value) -> (Value, Doubts) {
        let doubts = Doubts::take_out(kind, &mut value);
        (value, doubts)
    }

    #[test]
    fn what_is_right_stays() {
        let right = json!({"steps": 4, "neft": {"alpha": 5}});
        assert_eq!(taken_out(Kind::Train, right.clone()), (right, Doubts::None));
        let said =
            json!({"steps": "4", "learning_rate": 0, "lora": {"rank": "8", "targets": ["q_prj"]}, "betas": [0.9, "x"]});
        let (left, doubts) = taken_out(Kind::Train, said);
        assert_eq!(left, json!({"learning_rate": 0, "lora": {"targets": ["q_prj"]}}));
        assert!(["steps", "lora.rank", "lora", "betas"].iter().all(|path| doubts.touch(path)), "{doubts:?}");
        assert!(!doubts.touch("learning_rate") && !doubts.touch("lora.targets"), "{doubts:?}");
    }

    #[test]
    fn a_group_goes_with_what_it_cannot_do_without() {
        let (left, doubts) = taken_out(Kind::Train, json!({"steps": 4, "schedule": {"wsd": {"decay": "x"}}}));
        assert_eq!(left, json!({"steps": 4}));
        assert!(doubts.touch("schedule") && !doubts.touch("steps"), "{doubts:?}");
        let said = json!({"run": "true", "outputs": {"t.csv": {"paht": "t.csv"}}});
        let (left, doubts) = taken_out(Kind::Command, said);
        assert_eq!(left, json!({"run": "true"}));
        assert!(doubts.touch("outputs") && !doubts.touch("run"), "{doubts:?}");
    }

    #[test]
    fn a_key_that_is_misspelt_may_have_been_the_one_that_is_missing() {
        let (left, doubts) = taken_out(Kind::Train, json!({"early_stopping": {"patience": 2}, "eval_evry": 5}));
        assert_eq!(left, json!({"early_stopping": {"patience": 2}}));
        assert!(doubts.touch("eval_every") && !doubts.touch("early_stopping"), "{doubts:?}");
    }
}

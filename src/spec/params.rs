//! `${params.x}`: named values put in their places.
//!
//! Alone in a text, a reference takes the value with its type; amid other text it is printed.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::check::describe;
use super::problem::{Code, Path, Place, Problem};
use super::yaml::scalar_text;

const OPEN: &str = "${params.";

/// The named values of a document, and which of them were used.
#[derive(Debug)]
pub struct Params {
    values: Map<String, Value>,
    used: BTreeSet<String>,
}

/// A reference in a text: the bytes that it takes, and the name.
struct Reference<'t> {
    range: Range<usize>,
    name: &'t str,
}

impl Params {
    /// Takes the `params` of a document. One of them may refer to those above it.
    pub fn new(declared: Map<String, Value>, problems: &mut Vec<Problem>) -> Self {
        let mut params = Self { values: Map::new(), used: BTreeSet::new() };
        let later: Vec<String> = declared.keys().cloned().collect();
        let here = Path::DOCUMENT.key("params");
        for (name, mut value) in declared {
            let before = problems.len();
            params.fill(&mut value, &here.key(&name), problems);
            for problem in &mut problems[before..] {
                if later.iter().any(|later| problem.message.contains(&format!("`{later}`"))) {
                    problem.hint = Some("a parameter may refer to those above it".into());
                }
            }
            params.values.insert(name, value);
        }
        params
    }

    /// Replaces every reference inside a value.
    pub fn fill(&mut self, value: &mut Value, path: &Path<'_>, problems: &mut Vec<Problem>) {
        match value {
            Value::String(text) if text.contains(OPEN) => {
                if let Some(filled) = self.filled(text, path, problems) {
                    *value = filled;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.fill(item, &path.index(index), problems);
                }
            }
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    self.fill(item, &path.key(key), problems);
                }
            }
            _ => {}
        }
    }

    fn filled(&mut self, text: &str, path: &Path<'_>, problems: &mut Vec<Problem>) -> Option<Value> {
        let references = references(text);
        if let [only] = references.as_slice()
            && only.range == (0..text.len())
        {
            return self.value(only.name, path.within(only.range.clone()), problems);
        }
        let mut filled = String::with_capacity(text.len());
        let mut done = 0;
        let mut complete = true;
        for reference in references {
            let place = path.within(reference.range.clone());
            filled.push_str(&text[done..reference.range.start]);
            done = reference.range.end;
            let Some(value) = self.value(reference.name, place.clone(), problems) else {
                complete = false;
                continue;
            };
            match scalar_text(&value) {
                Some(printed) => filled.push_str(&printed),
                None => {
                    complete = false;
                    problems.push(
                        Problem::new(Code::WrongType, place, format!("`{}` cannot stand amid text", reference.name))
                            .label(format!("this is {}", describe(&value)))
                            .hint("alone in its place it keeps its type"),
                    );
                }
            }
        }
        filled.push_str(&text[done..]);
        complete.then_some(Value::String(filled))
    }

    fn value(&mut self, name: &str, place: Place, problems: &mut Vec<Problem>) -> Option<Value> {
        let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let found = self.values.get(first).and_then(|value| match rest {
            None => Some(value),
            Some(rest) => rest.split('.').try_fold(value, |value, key| value.get(key)),
        });
        if self.values.contains_key(first) && !self.used.contains(first) {
            self.used.insert(first.to_owned());
        }
        if found.is_none() {
            problems.push(self.unknown(name, place));
        }
        found.cloned()
    }

    fn unknown(&self, name: &str, place: Place) -> Problem {
        let problem = Problem::new(Code::UnknownParam, place, format!("there is no parameter `{name}`"));
        if self.values.is_empty() {
            return problem.hint(format!("declare it: `params: {{ {name}: … }}`"));
        }
        problem.suggest(name, self.values.keys().map(String::as_str))
    }

    /// Says which parameters nothing uses.
    pub fn report_unused(&self, problems: &mut Vec<Problem>) {
        let here = Path::DOCUMENT.key("params");
        for name in self.values.keys().filter(|name| !self.used.contains(*name)) {
            problems.push(
                Problem::new(
                    Code::UnusedParam,
                    here.key(name).at_key(),
                    format!("nothing uses the parameter `{name}`"),
                )
                .hint(format!("write `\"${{params.{name}}}\"` where it is meant, or remove it")),
            );
        }
    }
}

fn references(text: &str) -> Vec<Reference<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find(OPEN).map(|at| from + at) {
        let name_start = start + OPEN.len();
        let Some(length) = text[name_start..].find('}') else { break };
        let name = &text[name_start..name_start + length];
        let spelled = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
        from = name_start + if spelled { length + 1 } else { 0 };
        if spelled {
            found.push(Reference { range: start..from, name });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(params: Value, mut value: Value) -> (Value, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut params = Params::new(params.as_object().unwrap().clone(), &mut problems);
        params.fill(&mut value, &Path::DOCUMENT, &mut problems);
        params.report_unused(&mut problems);
        (value, problems)
    }

    #[test]
    fn a_reference_alone_keeps_its_type_and_amid_text_is_printed() {
        let params = json!({"steps": 40, "lora": {"rank": 8}, "name": "x"});
        let value = json!({"a": "${params.steps}", "b": ["${params.lora}"], "c": "${params.name}-${params.lora.rank}"});
        let (value, problems) = fill(params, value);
        assert_eq!(value, json!({"a": 40, "b": [{"rank": 8}], "c": "x-8"}));
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn parameters_refer_to_those_above_them() {
        let (value, problems) = fill(json!({"a": 2, "b": "${params.a}"}), json!("${params.b}"));
        assert_eq!((value, problems.len()), (json!(2), 0));
        let (_, problems) = fill(json!({"b": "${params.a}", "a": 2}), json!("${params.b}${params.a}"));
        assert_eq!(problems[0].code, Code::UnknownParam);
        assert!(problems[0].hint.as_ref().unwrap().contains("above"));
    }

    #[test]
    fn unknown_and_unused_parameters_are_said() {
        let (_, problems) = fill(json!({"steps": 1}), json!("${params.stesp}"));
        let codes: Vec<Code> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, [Code::UnknownParam, Code::UnusedParam]);
        assert_eq!(problems[0].hint.as_deref(), Some("did you mean `steps`?"));
    }

    #[test]
    fn other_dollars_and_braces_are_left_alone() {
        let text = json!("echo $HOME ${HOME} ${params.} {params.x} ${params.x");
        assert_eq!(fill(json!({}), text.clone()), (text, vec![]));
    }
}

//! YAML, with every scalar taken as the text that is written.
//!
//! A corpus of talk holds answers like `yes`, `1.10` or `0x1F`; YAML's typed reading would turn them into truth values and
//! numbers that cannot be turned back. So scalars stay text, and only a plain `null`, `~` or nothing is a missing value.

use std::ops::ControlFlow;

use neftpipe_protocol::Failure;
use saphyr::{ScalarStyle, Yaml, YamlLoader};
use saphyr_parser::{Event, Parser, SpannedEventReceiver};
use serde_json::{Map, Value};

use super::{Each, give, rows_of};

/// Most nodes that aliases may add: a small file must not grow into a large one.
const ALIAS_LIMIT: usize = 100_000;
/// Deepest nesting; what reads the values goes down by calling itself.
const DEEPEST: usize = 128;

/// The rows of all documents of a file.
pub fn read(name: &str, text: &str, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    let rows = documents(name, text)?.into_iter().flat_map(rows_of);
    give(name, rows, each)
}

fn documents(name: &str, text: &str) -> Result<Vec<Value>, Failure> {
    let mut loader = YamlLoader::<Yaml>::default();
    loader.early_parse(false);
    loader.alias_limit(ALIAS_LIMIT);
    let broken = |error: &dyn std::fmt::Display| Failure::data(format!("{name}: not YAML: {error}"));
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| broken(&error))?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(broken(&format_args!("line {}: nested more than {DEEPEST} deep", span.start.line())));
        }
        loader.on_event(event, span);
    }
    if let Some(error) = loader.error() {
        return Err(broken(error));
    }
    loader.into_documents().into_iter().map(|node| value(node).map_err(|what| broken(&what))).collect()
}

fn value(node: Yaml) -> Result<Value, &'static str> {
    match node {
        Yaml::Representation(text, ScalarStyle::Plain, _) if matches!(&*text, "" | "~" | "null") => Ok(Value::Null),
        Yaml::Representation(text, ..) => Ok(Value::String(text.into_owned())),
        Yaml::Sequence(items) => items.into_iter().map(value).collect(),
        Yaml::Mapping(pairs) => {
            let pairs = pairs.into_iter().map(|(key, item)| match key {
                Yaml::Representation(text, ..) => Ok((text.into_owned(), value(item)?)),
                _ => Err("a key is a list or a mapping"),
            });
            Ok(Value::Object(pairs.collect::<Result<Map<_, _>, _>>()?))
        }
        Yaml::Tagged(_, inner) => value(*inner),
        Yaml::Value(_) | Yaml::Alias(_) | Yaml::BadValue => Err("an alias leads nowhere"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(text: &str) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        read("x.yml", text, &mut |_, row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })
        .map(|_| rows)
    }

    #[test]
    fn scalars_stay_as_they_are_written() {
        let text = "categories:\n- x\nconversations:\n- - Is it?\n  - yes\n- - 'null'\n  - 1.10\n- - 0x1F\n  - ~\n  - \"a\\tb\"\n";
        let wanted = [json!(["Is it?", "yes"]), json!(["null", "1.10"]), json!(["0x1F", null, "a\tb"])];
        assert_eq!(rows(text).unwrap(), wanted);
    }

    #[test]
    fn folded_and_quoted_text_is_joined() {
        assert_eq!(rows("- a\n  b\n- >\n  c\n  d\n").unwrap(), [json!("a b"), json!("c d\n")]);
    }

    #[test]
    fn broken_yaml_and_alias_bombs_are_refused() {
        assert!(rows("a: [1, 2\nb: }").unwrap_err().message.contains("x.yml"));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(rows(&bomb).is_err());
        let deep = rows(&format!("{}x", "- ".repeat(50_000))).unwrap_err().message;
        assert!(deep.contains("x.yml") && deep.contains("128 deep"), "{deep}");
    }
}

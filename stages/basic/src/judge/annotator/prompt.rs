//! Prompts of AlpacaEval: a text with `{keys}` in ChatML.

use neftpipe_protocol::Failure;
use serde_json::{Value, json};

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";
const KEYS: [&str; 3] = ["instruction", "output_1", "output_2"];

/// Refuses a prompt that does not hold each key once, or is no ChatML.
///
/// # Errors
/// Says what is missing.
pub fn check(template: &str) -> Result<(), Failure> {
    for key in KEYS {
        let count = template.matches(&format!("{{{key}}}")).count();
        if count != 1 {
            return Err(Failure::usage(format!(
                "the judge's prompt holds {{{key}}} {count} times, and must hold it once"
            )));
        }
    }
    messages(template).map(|_| ())
}

/// Fills each key once, in the order in which the keys stand in the template. Nothing is escaped, and what is filled in may
/// hold a key itself, as in the public code.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut order: Vec<_> = values.iter().map(|&(key, value)| (format!("{{{key}}}"), value)).collect();
    order.sort_by_key(|(key, _)| template.find(key));
    order.iter().fold(template.to_owned(), |text, (key, value)| text.replacen(key, value, 1))
}

/// The messages of a text in ChatML, each trimmed.
///
/// # Errors
/// Where the text does not begin and end as ChatML does.
pub fn messages(text: &str) -> Result<Vec<Value>, Failure> {
    let malformed =
        || Failure::usage(format!("the judge's prompt is no ChatML: {START}role, a line break, text, {END}"));
    let text = trim(text);
    if !(text.starts_with(START) && text.ends_with(END)) {
        return Err(malformed());
    }
    let message = |part: &str| {
        let (role, rest) = part.split_once('\n').ok_or_else(malformed)?;
        let content = rest.split(END).next().unwrap_or_default();
        Ok(json!({"content": trim(content), "role": trim(role)}))
    };
    text.split(START).skip(1).map(message).collect()
}

/// Without white space around, as Python has it.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_filled_once_in_the_order_of_the_template() {
        let values = [("instruction", "say {output_1}"), ("output_1", "A"), ("output_2", "B{x}")];
        // As the public code does: what was filled in first takes the place of the key that comes later.
        assert_eq!(fill("{instruction}|{output_1}|{output_2}", &values), "say A|{output_1}|B{x}");
        assert_eq!(fill("{output_2}|{output_1}|{instruction}", &values), "B{x}|A|say {output_1}");
    }

    #[test]
    fn chat_is_split_into_trimmed_messages() {
        let text = "<|im_start|>system\n Be fair. \n<|im_end|>\n<|im_start|>user\nA <|im_end|>\n";
        let expected = [json!({"content": "Be fair.", "role": "system"}), json!({"content": "A", "role": "user"})];
        assert_eq!(messages(text).unwrap(), expected);
        assert!(messages("plain").is_err());
    }

    #[test]
    fn a_prompt_holds_each_key_once() {
        let wrap = |text: &str| format!("<|im_start|>user\n{text}\n<|im_end|>");
        assert!(check(&wrap("{instruction} {output_1} {output_2}")).is_ok());
        assert!(check(&wrap("{instruction} {output_1}")).unwrap_err().message.contains("{output_2} 0 times"));
        assert!(check("{instruction} {output_1} {output_2}").is_err());
    }
}

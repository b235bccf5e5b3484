//! What the files beside `tokenizer.json` say: special tokens, the ids that end generation, the chat template.
//!
//! It knows the spellings of `tokenizer_config.json`, `config.json` and `generation_config.json`, not what they are for.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use crate::TextError;

/// What the files of one model say. All but the tokenizer itself may be missing.
#[derive(Debug, Default)]
pub(crate) struct ModelFiles {
    /// Text of the token that begins a text.
    pub bos_token: Option<String>,
    /// Text of the token that ends a text.
    pub eos_token: Option<String>,
    /// Text of the token that fills up rows.
    pub pad_token: Option<String>,
    /// Whether the tokenizer puts the begin token ahead, where that is said apart from `tokenizer.json`.
    pub add_bos_token: Option<bool>,
    /// Begin token by id, from config.json.
    pub bos_id: Option<u32>,
    /// End tokens by id: generation_config.json's, then config.json's.
    pub eos_ids: Vec<u32>,
    /// Source of the chat template.
    pub chat_template: Option<String>,
}

impl ModelFiles {
    /// Reads them from a model's folder.
    pub fn read(model: &Path) -> Result<Self, TextError> {
        let tokenizer = read_json(&model.join("tokenizer_config.json"))?;
        let generation = read_json(&model.join("generation_config.json"))?;
        let config = read_json(&model.join("config.json"))?;
        let mut eos_ids = ids(&generation["eos_token_id"]);
        eos_ids.extend(ids(&config["eos_token_id"]));
        Ok(Self {
            bos_token: token_text(&tokenizer["bos_token"]),
            eos_token: token_text(&tokenizer["eos_token"]),
            pad_token: token_text(&tokenizer["pad_token"]),
            add_bos_token: tokenizer["add_bos_token"].as_bool(),
            bos_id: ids(&config["bos_token_id"]).first().copied(),
            eos_ids,
            chat_template: chat_template(model, &tokenizer["chat_template"])?,
        })
    }
}

/// The file's own template wins over the one inside tokenizer_config.json; of a list, the one called `default`.
fn chat_template(model: &Path, inline: &Value) -> Result<Option<String>, TextError> {
    if let Some(text) = read_text(&model.join("chat_template.jinja"))? {
        return Ok(Some(text));
    }
    let Some(list) = inline.as_array() else { return Ok(inline.as_str().map(str::to_owned)) };
    let named = list.iter().find(|item| item["name"] == "default").map(|item| &item["template"]);
    named.and_then(Value::as_str).map(|text| Some(text.to_owned())).ok_or_else(|| TextError::File {
        path: model.join("tokenizer_config.json"),
        problem: "of its chat templates none is called `default`".to_owned(),
    })
}

/// `"</s>"`, or an object with the text as `content`.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// A number or a list of numbers.
fn ids(value: &Value) -> Vec<u32> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().filter_map(|item| u32::try_from(item.as_u64()?).ok()).collect()
}

fn read_json(path: &Path) -> Result<Value, TextError> {
    let Some(text) = read_text(path)? else { return Ok(Value::Null) };
    serde_json::from_str(&text)
        .map_err(|error| TextError::File { path: path.to_owned(), problem: format!("not JSON: {error}") })
}

/// `None` where there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(TextError::File { path: path.to_owned(), problem: "not UTF-8 text".to_owned() })
        }
        Err(source) => Err(TextError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn tokens_are_texts_or_objects_and_ids_numbers_or_lists() {
        let folder = model(&[
            ("tokenizer_config.json", r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null}"#),
            ("config.json", r#"{"bos_token_id": 1, "eos_token_id": 2}"#),
            ("generation_config.json", r#"{"eos_token_id": [7, 8]}"#),
        ]);
        let files = ModelFiles::read(folder.path()).unwrap();
        assert_eq!((files.bos_token.as_deref(), files.eos_token.as_deref()), (Some("<s>"), Some("</s>")));
        assert_eq!((files.pad_token, files.bos_id, files.eos_ids), (None, Some(1), vec![7, 8, 2]));
        assert_eq!(files.chat_template, None);
    }

    #[test]
    fn a_chat_template_stands_in_its_own_file_or_in_the_config_perhaps_in_a_list() {
        let list =
            json!({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]});
        let folder = model(&[("tokenizer_config.json", &list.to_string())]);
        assert_eq!(ModelFiles::read(folder.path()).unwrap().chat_template.as_deref(), Some("D"));
        fs::write(folder.path().join("chat_template.jinja"), "F").unwrap();
        assert_eq!(ModelFiles::read(folder.path()).unwrap().chat_template.as_deref(), Some("F"));
    }

    #[test]
    fn broken_files_are_named() {
        let folder = model(&[("config.json", "{")]);
        let message = ModelFiles::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("config.json: not JSON"), "{message}");
    }
}

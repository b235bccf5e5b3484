//! Which template a prompt is rendered with: what the parameters say, else what the weights were trained with, else the
//! model's own chat template, else none.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use neftpipe_protocol::artifact::AdapterInfo;
use neftpipe_protocol::params::{GenerateParams, Template};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure};

use crate::lora::INFO_FILE;

/// Template and date of the prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    /// How a prompt is rendered.
    pub template: Template,
    /// The date that a chat template is given.
    pub date: String,
}

impl Style {
    /// Chooses, given how the weights were trained and whether the model has a chat template.
    pub fn choose(params: &GenerateParams, trained: Option<&AdapterInfo>, has_chat: bool) -> Self {
        let template = params.template.clone().or_else(|| trained.map(|info| info.template.clone()));
        let date = params.date_string.clone().or_else(|| trained.map(|info| info.date_string.clone()));
        Self {
            template: template.unwrap_or(if has_chat { Template::Chat } else { Template::None }),
            date: date.unwrap_or_else(|| GenerateParams::DEFAULT_DATE.to_owned()),
        }
    }

    /// How it differs from what the weights were trained with: code and message of each warning.
    pub fn mismatches(&self, trained: &AdapterInfo) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if self.template != trained.template {
            found.push((
                "template_mismatch",
                format!(
                    "prompts are rendered with the template {}, training used {}",
                    name(&self.template),
                    name(&trained.template)
                ),
            ));
        } else if self.template == Template::Chat && self.date != trained.date_string {
            let dates = format!("`{}`, training was told `{}`", self.date, trained.date_string);
            found.push(("template_mismatch", format!("the chat template is told the date {dates}")));
        }
        found
    }
}

/// The warning for an adapter that was trained on another model of the same shape.
pub fn other_base(trained: &AdapterInfo, model: Digest) -> Option<(&'static str, String)> {
    (trained.base_model != model).then(|| {
        let (theirs, ours) = (trained.base_model.short(), model.short());
        ("adapter_of_other_model", format!("the adapter was trained on the model {theirs}, and this is {ours}"))
    })
}

fn name(template: &Template) -> String {
    match template {
        Template::Alpaca => "`alpaca`".to_owned(),
        Template::AlpacaOfficialEval => "`alpaca_official_eval`".to_owned(),
        Template::Chat => "`chat`".to_owned(),
        Template::None => "`none`".to_owned(),
        Template::Jinja(source) => format!("of a Jinja file ({})", Digest::of(source.as_bytes()).short()),
    }
}

/// What a folder of weights says of its training; None where it was made elsewhere.
///
/// # Errors
/// Where the file is there and cannot be read.
pub fn trained_how(folder: &Path) -> Result<Option<AdapterInfo>, Failure> {
    let path = folder.join(INFO_FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::data(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failure("read", &path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(template: Template) -> AdapterInfo {
        AdapterInfo { template, date_string: "1 Jan 2025".to_owned(), base_model: Digest::of(b"m"), steps: 1 }
    }

    fn params(template: Option<Template>) -> GenerateParams {
        GenerateParams { template, ..GenerateParams::default() }
    }

    #[test]
    fn parameters_win_over_training_and_training_over_the_model() {
        let info = trained(Template::Alpaca);
        let chosen = |said, info, chat| Style::choose(&params(said), info, chat).template;
        assert_eq!(chosen(Some(Template::None), Some(&info), true), Template::None);
        assert_eq!(chosen(None, Some(&info), true), Template::Alpaca);
        assert_eq!(chosen(None, None, true), Template::Chat);
        assert_eq!(chosen(None, None, false), Template::None);
        assert_eq!(Style::choose(&params(None), Some(&info), true).date, "1 Jan 2025");
    }

    #[test]
    fn what_differs_from_training_is_told() {
        let info = trained(Template::Chat);
        let mismatches = |said| Style::choose(&params(said), Some(&info), true).mismatches(&info);
        assert_eq!(mismatches(None), []);
        let [(code, message)] = mismatches(Some(Template::Alpaca)).try_into().unwrap();
        assert_eq!(code, "template_mismatch");
        assert_eq!(message, "prompts are rendered with the template `alpaca`, training used `chat`");
        assert!(other_base(&info, Digest::of(b"m")).is_none());
        assert!(other_base(&info, Digest::of(b"n")).is_some());
    }
}

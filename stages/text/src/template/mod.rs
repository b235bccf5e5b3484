//! How an instruction or a conversation becomes the text that the model sees.
//!
//! | template | prompt | row |
//! |---|---|---|
//! | `alpaca`, `alpaca_official_eval` | the Alpaca prompt | prompt, then output and end token |
//! | `chat` | the model's chat template with an open answer | the template over all turns |
//! | a Jinja file that reads `messages` | as `chat` | as `chat` |
//! | any other Jinja file | what it writes | prompt, then output and end token |
//! | `none` | the text as it is | prompt, then output, no special tokens |
//!
//! Where there is an input, `chat` and `none` put it under the instruction after a blank line, as AlpacaEval does.
//! The begin token is written once: Alpaca prompts get it where the tokenizer puts it ahead of every text
//! ([`Tokenizer::adds_bos`]); chat templates and Jinja files write it themselves (`bos_token`); `none` goes without.
//! A Jinja file is given `instruction`, `input`, `messages`, `date_string`, `add_generation_prompt`, `bos_token`,
//! `eos_token`, and as none `tools` and `documents`. Templates that hold a single exchange take conversations of one
//! question and one answer, and no others.

mod alpaca;
mod conversation;
mod jinja;

use neftpipe_protocol::artifact::{DatasetRow, Message};
use neftpipe_protocol::params::Template;
use serde_json::json;

use crate::{TextError, Tokenizer};
use jinja::Jinja;

/// A part of a rendered row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its text, special tokens spelled out.
    pub text: String,
    /// Whether its tokens carry loss.
    pub trained: bool,
}

/// A template made ready for one model. It may be used from many threads.
pub struct Renderer {
    form: Form,
    bos: String,
    eos: String,
    special_texts: Vec<String>,
}

enum Form {
    /// The Alpaca prompt, with what comes ahead of it and after it.
    Alpaca { before: String, after: &'static str },
    /// A Jinja template of conversations.
    Turns(Jinja),
    /// A Jinja template of prompts.
    Prompt(Jinja),
    /// The text as it is.
    Plain,
}

impl Renderer {
    /// Makes a template ready. `date` is what chat templates are told as today's (`26 Jul 2024`).
    ///
    /// # Errors
    /// Where the model has no chat template, or the template does not compile.
    pub fn new(template: &Template, date: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let bos = tokenizer.bos_text();
        let before = if tokenizer.adds_bos() { bos.clone() } else { String::new() };
        let form = match template {
            Template::Alpaca => Form::Alpaca { before, after: "" },
            Template::AlpacaOfficialEval => Form::Alpaca { before, after: "\n" },
            Template::Chat => {
                let source = tokenizer.chat_template().ok_or(TextError::NoChatTemplate)?;
                Form::Turns(Jinja::compile("the chat template", source, date)?)
            }
            Template::Jinja(source) => {
                let jinja = Jinja::compile("the Jinja file", source, date)?;
                if jinja.uses("messages") { Form::Turns(jinja) } else { Form::Prompt(jinja) }
            }
            Template::None => Form::Plain,
        };
        let mut special_texts = tokenizer.special_texts();
        special_texts.retain(|text| *text != bos || bos == tokenizer.eos_text());
        Ok(Self { form, bos, eos: tokenizer.eos_text(), special_texts })
    }

    /// The text that a model is to go on from.
    ///
    /// # Errors
    /// Where the template fails or refuses.
    pub fn prompt(&self, instruction: &str, input: &str) -> Result<String, TextError> {
        let question = [message("user", &question(instruction, input))];
        match &self.form {
            Form::Alpaca { before, after } => Ok(format!("{before}{}{after}", alpaca::prompt(instruction, input))),
            Form::Turns(jinja) | Form::Prompt(jinja) => self.render(jinja, instruction, input, &question, true),
            Form::Plain => Ok(question[0].content.clone()),
        }
    }

    /// A training row cut at what is trained on. The texts put together are the whole row.
    ///
    /// # Errors
    /// Where the template fails, the row does not fit it, or its answers cannot be told from the rest.
    pub fn row(&self, row: &DatasetRow) -> Result<Vec<Piece>, TextError> {
        if let Form::Turns(jinja) = &self.form {
            return self.turns(jinja, row);
        }
        let (instruction, input, output) = single_exchange(row)?;
        let prompt = self.prompt(instruction, input)?;
        let end = match self.form {
            Form::Plain => "",
            _ if self.eos.is_empty() => return Err(TextError::NoSpecialToken("end")),
            _ => &self.eos,
        };
        let mut pieces =
            vec![Piece { text: prompt, trained: false }, Piece { text: format!("{output}{end}"), trained: true }];
        pieces.retain(|piece| !piece.text.is_empty());
        Ok(pieces)
    }

    fn turns(&self, jinja: &Jinja, row: &DatasetRow) -> Result<Vec<Piece>, TextError> {
        let (instruction, input, messages) = match row {
            DatasetRow::Instruction { instruction, input, output } => {
                let turns = vec![message("user", &question(instruction, input)), message("assistant", output)];
                (instruction.as_str(), input.as_str(), turns)
            }
            DatasetRow::Conversation { messages } => {
                let first = messages.iter().find(|message| message.role == "user");
                (first.map_or("", |message| &message.content), "", messages.clone())
            }
        };
        conversation::pieces(&messages, &self.special_texts, |turns, open| {
            self.render(jinja, instruction, input, turns, open)
        })
    }

    fn render(
        &self,
        jinja: &Jinja,
        instruction: &str,
        input: &str,
        messages: &[Message],
        open: bool,
    ) -> Result<String, TextError> {
        jinja.render(json!({
            "instruction": instruction,
            "input": input,
            "messages": messages,
            "add_generation_prompt": open,
            "tools": null,
            "documents": null,
            "bos_token": self.bos,
            "eos_token": self.eos,
        }))
    }
}

/// Instruction and input as one text.
fn question(instruction: &str, input: &str) -> String {
    if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

fn single_exchange(row: &DatasetRow) -> Result<(&str, &str, &str), TextError> {
    match row {
        DatasetRow::Instruction { instruction, input, output } => Ok((instruction, input, output)),
        DatasetRow::Conversation { messages } => match messages.as_slice() {
            [question, answer] if question.role == "user" && answer.role == "assistant" => {
                Ok((&question.content, "", &answer.content))
            }
            _ => Err(TextError::Row(format!(
                "a conversation of {} turns does not fit a template of one question and one answer: choose \
                 `template: chat`",
                messages.len()
            ))),
        },
    }
}

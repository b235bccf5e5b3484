//! The prompt of the local judge. It is our own, and not one of AlpacaEval's.
//!
//! The question stands after the answers, so that it is the last thing that a small model reads. With a chat template
//! the letter opens the model's own turn; without one the text ends in `Better answer:` and the letter goes on from there.

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::{GenerateParams, Template};
use neftpipe_text::{Renderer, TextError, Tokenizer};

/// The prompt made ready for one model.
pub struct JudgePrompt {
    tokenizer: Tokenizer,
    renderer: Renderer,
    /// What the text ends with.
    ending: &'static str,
    /// Ids ahead of the text.
    before: Vec<u32>,
    labels: [u32; 2],
}

const QUESTION: &str = "Which answer is better, A or B? Reply with one letter.";

impl JudgePrompt {
    /// Makes the prompt ready.
    ///
    /// # Errors
    /// Where the chat template does not compile, or both labels begin with one token.
    pub fn new(tokenizer: Tokenizer) -> Result<Self, Failure> {
        let chat = tokenizer.chat_template().is_some();
        let template = if chat { Template::Chat } else { Template::None };
        let (ending, labels) = if chat { ("", ["A", "B"]) } else { ("\n\nBetter answer:", [" A", " B"]) };
        let before = if chat || !tokenizer.adds_bos() { None } else { tokenizer.bos_token_id() };
        let renderer = Renderer::new(&template, GenerateParams::DEFAULT_DATE, &tokenizer)?;
        let [a, b] = labels.map(|label| first_token(&tokenizer, label));
        let labels = [a?, b?];
        if labels[0] == labels[1] {
            return Err(Failure::data("the judging model's tokenizer begins the letters A and B with one token"));
        }
        Ok(Self { tokenizer, renderer, ending, before: before.into_iter().collect(), labels })
    }

    /// Tokens of the prompt that shows `first` as A and `second` as B.
    ///
    /// # Errors
    /// Where the template fails.
    pub fn encode(&self, instruction: &str, first: &str, second: &str) -> Result<Vec<i32>, TextError> {
        let text = text(instruction, first, second) + self.ending;
        let ids = self.tokenizer.encode(&self.renderer.prompt(&text, "")?)?;
        Ok(self.before.iter().chain(&ids).map(|&id| id as i32).collect())
    }

    /// Tokens of the labels A and B.
    pub fn labels(&self) -> [i64; 2] {
        self.labels.map(i64::from)
    }
}

fn text(instruction: &str, first: &str, second: &str) -> String {
    format!(
        "Here is an instruction and two answers to it.\n\n# Instruction\n{instruction}\n\n# Answer A\n{first}\n\n\
         # Answer B\n{second}\n\n{QUESTION}"
    )
}

fn first_token(tokenizer: &Tokenizer, label: &str) -> Result<u32, Failure> {
    let ids = tokenizer.encode_continuation(label)?;
    ids.first()
        .copied()
        .ok_or_else(|| Failure::data(format!("the judging model's tokenizer has no token for `{label}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_stand_in_the_order_they_are_given() {
        let shown = text("Say hi", "Hi!", "No.");
        let place = |part: &str| shown.find(part).unwrap();
        assert!(place("Say hi") < place("# Answer A\nHi!") && place("Hi!") < place("# Answer B\nNo."));
        assert!(shown.ends_with(QUESTION));
    }
}

//! What of a rendered conversation is trained on: each answer with the token that ends its turn.
//!
//! A chat template is a program, so the answers are found by rendering: the text before an answer is the prompt that
//! generation would have there. That only works for templates that never change what they wrote before; others are refused.

use neftpipe_protocol::artifact::Message;

use super::Piece;
use crate::TextError;

/// Cuts the rendering of `messages` at its answers. `render` takes the first turns, and whether an answer is to follow.
pub(super) fn pieces(
    messages: &[Message],
    end_tokens: &[String],
    render: impl Fn(&[Message], bool) -> Result<String, TextError>,
) -> Result<Vec<Piece>, TextError> {
    let whole = render(messages, false)?;
    let mut pieces = Vec::new();
    let mut done = 0;
    for (turn, message) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
        let prompt = render(&messages[..turn], true)?;
        if prompt.len() < done || !whole.starts_with(&prompt) {
            return Err(refuse(turn, "the chat template writes earlier turns differently once there are later ones"));
        }
        let length = answer_bytes(&whole[prompt.len()..], &message.content, end_tokens)
            .map_err(|problem| refuse(turn, problem))?;
        push(&mut pieces, &whole[done..prompt.len()], false);
        push(&mut pieces, &whole[prompt.len()..prompt.len() + length], true);
        done = prompt.len() + length;
    }
    if pieces.is_empty() {
        return Err(TextError::Row("the conversation has no assistant turn to train on".to_owned()));
    }
    push(&mut pieces, &whole[done..], false);
    Ok(pieces)
}

/// How much of `rest` is the answer with its end token: the content as it is or trimmed, white space around it as the
/// template writes it, then a special token.
fn answer_bytes(rest: &str, content: &str, end_tokens: &[String]) -> Result<usize, &'static str> {
    let content_end = if rest.starts_with(content) {
        content.len()
    } else {
        let start = rest.len() - rest.trim_start().len();
        if !rest[start..].starts_with(content.trim()) {
            return Err("the chat template rewrites the assistant's words");
        }
        start + content.trim().len()
    };
    let after = rest[content_end..].trim_start();
    end_tokens
        .iter()
        .find(|token| after.starts_with(token.as_str()))
        .map(|token| rest.len() - after.len() + token.len())
        .ok_or("the chat template writes no special token after the assistant's words, so that no end would be learnt")
}

fn refuse(turn: usize, problem: &str) -> TextError {
    TextError::Row(format!("turn {}: {problem}; training needs a template whose text only grows", turn + 1))
}

fn push(pieces: &mut Vec<Piece>, text: &str, trained: bool) {
    if !text.is_empty() {
        pieces.push(Piece { text: text.to_owned(), trained });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(turns: &[(&str, &str)]) -> Vec<Message> {
        turns.iter().map(|(role, content)| Message { role: (*role).into(), content: (*content).into() }).collect()
    }

    fn ends() -> Vec<String> {
        vec!["<end>".to_owned()]
    }

    fn cut(messages: &[Message], turn: impl Fn(&Message) -> String) -> Result<Vec<(String, bool)>, TextError> {
        let render = |messages: &[Message], open: bool| {
            let text: String = messages.iter().map(&turn).collect();
            Ok(if open { text + "A:" } else { text })
        };
        let pieces = pieces(messages, &ends(), render)?;
        Ok(pieces.into_iter().map(|piece| (piece.text, piece.trained)).collect())
    }

    fn plain(message: &Message) -> String {
        format!("{}:{}<end>\n", if message.role == "user" { "U" } else { "A" }, message.content.trim())
    }

    #[test]
    fn each_answer_is_trained_with_its_end_token() {
        let messages = talk(&[("user", "hi"), ("assistant", " one "), ("user", "and"), ("assistant", "two")]);
        let owned = |items: &[(&str, bool)]| items.iter().map(|(t, b)| ((*t).to_owned(), *b)).collect::<Vec<_>>();
        assert_eq!(
            cut(&messages, plain).unwrap(),
            owned(&[
                ("U:hi<end>\nA:", false),
                ("one<end>", true),
                ("\nU:and<end>\nA:", false),
                ("two<end>", true),
                ("\n", false)
            ])
        );
    }

    #[test]
    fn an_answer_may_hold_its_own_end_marks_and_be_empty() {
        let messages = talk(&[("user", "q"), ("assistant", "a<end>b")]);
        assert_eq!(cut(&messages, plain).unwrap()[1], ("a<end>b<end>".to_owned(), true));
        let messages = talk(&[("user", "q"), ("assistant", "")]);
        assert_eq!(cut(&messages, plain).unwrap()[1], ("<end>".to_owned(), true));
    }

    #[test]
    fn templates_that_cannot_be_cut_are_refused_with_the_turn() {
        let messages = talk(&[("user", "q"), ("assistant", "words")]);
        let no_end = cut(&messages, |m| plain(m).replace("<end>", "")).unwrap_err().to_string();
        assert!(no_end.starts_with("turn 2: ") && no_end.contains("no special token"), "{no_end}");
        let rewritten = cut(&messages, |m| plain(m).replace("words", "WORDS")).unwrap_err().to_string();
        assert!(rewritten.contains("rewrites the assistant's words"), "{rewritten}");
        let unstable = pieces(&messages, &ends(), |m, _| Ok(format!("{} turns", m.len()))).unwrap_err().to_string();
        assert!(unstable.contains("writes earlier turns differently"), "{unstable}");
        assert!(cut(&messages[..1], plain).unwrap_err().to_string().contains("no assistant turn"));
    }
}

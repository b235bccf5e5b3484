//! Where a conversation that is too long is split: between exchanges, each part with the turns ahead of the first question.

use neftpipe_protocol::artifact::Message;

/// The parts of a conversation, each with as many exchanges as fit; one that does not fit by itself is a part of its own.
///
/// # Errors
/// Where a part cannot be encoded.
pub fn split<T, E>(
    messages: &[Message],
    encode: impl Fn(Vec<Message>) -> Result<T, E>,
    fits: impl Fn(&T) -> bool,
) -> Result<Vec<T>, E> {
    let starts: Vec<usize> = (0..messages.len()).filter(|&at| messages[at].role == "user").collect();
    let ahead = starts.first().copied().unwrap_or_default();
    let ends = starts.iter().skip(1).copied().chain([messages.len()]);
    let part = |start: usize, end: usize| encode([&messages[..ahead], &messages[start..end]].concat());
    let mut parts = Vec::new();
    let mut open: Option<(usize, T)> = None;
    for (start, end) in starts.iter().copied().zip(ends) {
        if let Some((first, before)) = open.take() {
            let longer = part(first, end)?;
            if fits(&longer) {
                open = Some((first, longer));
                continue;
            }
            parts.push(before);
        }
        open = Some((start, part(start, end)?));
    }
    parts.extend(open.map(|(_, last)| last));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a conversation whose turns are these letters (u, a, s), where so many turns fit.
    fn parts(turns: &str, most: usize) -> Vec<String> {
        let role = |turn| match turn {
            'u' => "user",
            'a' => "assistant",
            _ => "system",
        };
        let message = |(at, turn): (usize, char)| Message { role: role(turn).to_owned(), content: at.to_string() };
        let messages: Vec<Message> = turns.chars().enumerate().map(message).collect();
        let written =
            |part: Vec<Message>| -> Result<Vec<String>, ()> { Ok(part.into_iter().map(|turn| turn.content).collect()) };
        let parts = split(&messages, written, |part| part.len() <= most).unwrap();
        parts.into_iter().map(|part| part.concat()).collect()
    }

    #[test]
    fn parts_end_with_exchanges_and_keep_the_system_turn() {
        assert_eq!(parts("uauaua", 4), ["0123", "45"]);
        assert_eq!(parts("suauaua", 5), ["01234", "056"]);
        assert_eq!(parts("uauaua", 6), ["012345"]);
        assert_eq!(parts("uauaua", 1), ["01", "23", "45"], "what does not fit by itself is cut later");
    }
}

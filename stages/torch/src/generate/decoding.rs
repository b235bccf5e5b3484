//! Continuous batches: as rows finish, others take their places, so that every pass over the weights serves a full batch.
//!
//! Rows are started longest first, so those at work at one time are of similar length and little of the cache is masked.
//! What all prompts begin with, as a template puts it there, is read once.
//! It knows tokens, not texts or files. Axes: B rows at work, V vocabulary.

use std::cmp::Reverse;
use std::collections::VecDeque;

use neftpipe_protocol::random::RandomStream;
use tch::{Kind, Tensor};

use super::sampling::{Sampling, Seen};
use crate::model::{Cache, Decoder, Llama, Prefix, Rows};

/// A row to continue.
pub struct Prompt {
    /// The caller's number for it.
    pub index: usize,
    /// Its tokens, at least one.
    pub ids: Vec<i32>,
    /// Where its draws come from.
    pub random: RandomStream,
}

/// A continued row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The caller's number for it.
    pub index: usize,
    /// The new tokens, with the end token where it met one.
    pub ids: Vec<u32>,
    /// Whether it met an end token; else it reached its longest length.
    pub ended: bool,
}

/// How rows are continued.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most new tokens of a row; the model's window bounds them too.
    pub max_new_tokens: usize,
    /// Tokens that end a row.
    pub end_tokens: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that the cache holds, of all rows together. One row is always at work.
    pub batch_tokens: usize,
}

/// Most tokens of prompts that are read in one pass: enough to keep the processor busy, and little memory.
const PREFILL_TOKENS: usize = 2048;

/// Tokens that a prefix has to save to be worth a pass of its own, and which part of all that is to be read.
const FEWEST_SAVED: usize = 64;
const LEAST_SHARE: usize = 16;

/// Continues all prompts. `finished` is given each row as it ends; `should_stop` is asked before every step.
/// Returns false where it was told to stop.
///
/// # Errors
/// Those of `finished`, at once.
pub fn continue_all<E>(
    model: &Llama,
    prompts: Vec<Prompt>,
    settings: &Settings,
    mut finished: impl FnMut(Continuation) -> Result<(), E>,
    should_stop: impl Fn() -> bool,
) -> Result<bool, E> {
    let mut pending = Pending::new(prompts, settings.max_new_tokens, model.config().max_position_embeddings as usize);
    let Some(mut batch) = Batch::new(model, settings, &pending) else { return Ok(true) };
    while !pending.rows.is_empty() || !batch.rows.is_empty() {
        if should_stop() {
            return Ok(false);
        }
        batch.make_room(&pending);
        while batch.start_some(&mut pending) {
            batch.take_finished().into_iter().try_for_each(&mut finished)?;
        }
        if !batch.rows.is_empty() {
            batch.step();
            batch.take_finished().into_iter().try_for_each(&mut finished)?;
        }
    }
    Ok(true)
}

/// Rows that wait, those that need most cache first.
struct Pending {
    rows: VecDeque<(Prompt, usize)>,
}

impl Pending {
    fn new(prompts: Vec<Prompt>, max_new_tokens: usize, window: usize) -> Self {
        let mut rows: Vec<_> = prompts
            .into_iter()
            .map(|prompt| {
                let limit = max_new_tokens.min(window.saturating_sub(prompt.ids.len())).max(1);
                (prompt, limit)
            })
            .collect();
        rows.sort_by_key(|(prompt, limit)| Reverse(prompt.ids.len() + limit));
        Self { rows: rows.into() }
    }

    /// What all rows begin with, where it is worth being read once: of each row at least one token is left.
    fn prefix(&self) -> &[i32] {
        let mut ids = self.rows.iter().map(|(prompt, _)| prompt.ids.as_slice());
        let first = ids.next().unwrap_or_default();
        let shared = |ids: &[i32]| ids.iter().zip(first).take_while(|(a, b)| a == b).count().min(ids.len() - 1);
        let tokens = ids.map(shared).min().unwrap_or(0).min(first.len().saturating_sub(1));
        let saved = tokens * self.rows.len().saturating_sub(1);
        let all: usize = self.rows.iter().map(|(prompt, _)| prompt.ids.len()).sum();
        if saved < FEWEST_SAVED || saved * LEAST_SHARE < all { &[] } else { &first[..tokens] }
    }
}

/// Tokens of cache that a row needs at most: its last new token is never read.
fn tokens_needed((prompt, limit): &(Prompt, usize)) -> usize {
    prompt.ids.len() + limit - 1
}

/// A row at work; it stands at the same place in the cache.
struct Row {
    index: usize,
    prompt_tokens: usize,
    limit: usize,
    new: Vec<i64>,
    random: RandomStream,
}

struct Batch<'a> {
    model: &'a Llama,
    decoder: Decoder<'a>,
    settings: &'a Settings,
    cache: Cache,
    prefix: Option<Prefix>,
    seen: Seen,
    rows: Vec<Row>,
}

impl<'a> Batch<'a> {
    /// A batch with room for the rows that wait; None where none do.
    fn new(model: &'a Llama, settings: &'a Settings, pending: &Pending) -> Option<Self> {
        let longest = tokens_needed(pending.rows.front()?);
        let tokens = settings.batch_tokens.max(longest).min(pending.rows.len() * longest);
        let seen = Seen::new(settings.sampling.repetition_penalty);
        let decoder = Decoder::new(model);
        let prefix = Some(pending.prefix()).filter(|ids| !ids.is_empty()).map(|ids| model.read_prefix(ids));
        let cache = model.cache(tokens, longest);
        Some(Self { model, decoder, settings, cache, prefix, seen, rows: Vec::new() })
    }

    /// Narrows the cache's rows where that makes place for at least a quarter more of them.
    fn make_room(&mut self, pending: &Pending) {
        let Some(waiting) = pending.rows.front() else { return };
        let at_work = self.rows.iter().map(|row| row.prompt_tokens + row.limit - 1);
        let longest = at_work.chain([tokens_needed(waiting)]).max().unwrap_or(1);
        if self.cache.rows_of(longest) * 4 >= self.cache.capacity_rows() * 5 {
            self.cache.reshape(longest);
        }
    }

    /// Reads as many waiting prompts as fit into the cache and one pass, and chooses their first tokens. Returns whether
    /// there were any.
    fn start_some(&mut self, pending: &mut Pending) -> bool {
        let mut prompts: Vec<Vec<i32>> = Vec::new();
        let (mut tokens, known) = (0, self.prefix.as_ref().map_or(0, Prefix::tokens) as usize);
        let first = self.rows.len();
        while self.rows.len() < self.cache.capacity_rows() {
            let Some((prompt, _)) = pending.rows.front() else { break };
            tokens += prompt.ids.len() - known;
            if tokens > PREFILL_TOKENS && !prompts.is_empty() {
                break;
            }
            let Some((prompt, limit)) = pending.rows.pop_front() else { break };
            self.seen.push(&prompt.ids);
            let Prompt { index, ids, random } = prompt;
            self.rows.push(Row { index, prompt_tokens: ids.len(), limit, new: Vec::new(), random });
            prompts.push(ids);
        }
        if prompts.is_empty() {
            return false;
        }
        let rows = Rows::new(prompts.iter().map(|ids| &ids[known..]), self.model.device());
        let hidden = self.model.prefill(&rows, self.prefix.as_ref(), &mut self.cache);
        let logits = tch::no_grad(|| self.model.logits(&hidden).to_kind(Kind::Float));
        self.choose(logits, first);
        true
    }

    /// Reads the newest token of every row and chooses the next.
    fn step(&mut self) {
        let newest: Vec<i64> =
            self.rows.iter().map(|row| *row.new.last().expect("a row starts with its first token")).collect();
        let logits = self.decoder.decode(&newest, &mut self.cache);
        self.choose(logits, 0);
    }

    /// Chooses a token for each of the rows from `first` on, from their logits [B, V].
    fn choose(&mut self, mut logits: Tensor, first: usize) {
        let _guard = tch::no_grad_guard();
        self.seen.penalise(first, &mut logits);
        let rows = &mut self.rows[first..];
        let tokens = self.settings.sampling.choose(&logits, |row| rows[row].random.uniform());
        self.seen.add(first, &tokens);
        rows.iter_mut().zip(tokens).for_each(|(row, token)| row.new.push(token));
    }

    /// Takes the rows that ended out of the batch; the last ones move into their places.
    fn take_finished(&mut self) -> Vec<Continuation> {
        let mut finished = Vec::new();
        for place in (0..self.rows.len()).rev() {
            let row = &self.rows[place];
            let ended = row.new.last().is_some_and(|&token| self.settings.end_tokens.contains(&(token as u32)));
            if !ended && row.new.len() < row.limit {
                continue;
            }
            self.cache.swap_remove(place);
            self.seen.swap_remove(place);
            let row = self.rows.swap_remove(place);
            finished.push(Continuation {
                index: row.index,
                ids: row.new.iter().map(|&token| token as u32).collect(),
                ended,
            });
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(prompts: &[Vec<i32>]) -> Vec<i32> {
        let prompt = |ids: &Vec<i32>| Prompt { index: 0, ids: ids.clone(), random: RandomStream::new("test", 0, &[]) };
        Pending::new(prompts.iter().map(prompt).collect(), 8, 1000).prefix().to_vec()
    }

    #[test]
    fn a_prefix_is_what_all_rows_begin_with_and_leaves_each_a_token() {
        let begun = |rest: &[i32]| [&[1; 40], rest].concat();
        assert_eq!(prefix(&[begun(&[2, 3]), begun(&[2, 4, 5]), begun(&[2])]), [1; 40]);
        assert_eq!(prefix(&[begun(&[2, 3]), begun(&[2, 4, 5]), begun(&[2, 3, 4])]), begun(&[2]));
        assert_eq!(prefix(&[begun(&[]), begun(&[]), begun(&[7])]), [1; 39]);
    }

    #[test]
    fn a_prefix_that_saves_little_is_none() {
        let begun = |tokens: usize, last: i32| [vec![1; tokens], vec![last]].concat();
        assert!(prefix(&[]).is_empty());
        assert!(prefix(&[begun(500, 2)]).is_empty());
        assert!(prefix(&[begun(500, 2), begun(0, 3)]).is_empty());
        assert!(prefix(&[begun(63, 2), begun(63, 3)]).is_empty());
        let long = |last| [vec![1], vec![last; 40]].concat();
        assert!(prefix(&(2..82).map(long).collect::<Vec<_>>()).is_empty());
        assert_eq!(prefix(&[begun(64, 2), begun(64, 3)]), [1; 64]);
    }
}

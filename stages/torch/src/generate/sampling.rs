//! From logits to the next token: repetition penalty, then greedy choice or sampling.
//!
//! It knows rows of logits, not models, prompts or batches. The order of steps is that of transformers: penalty,
//! temperature, top-k, top-p. Axes: B rows, V vocabulary.

use neftpipe_protocol::params::GenerateParams;
use neftpipe_protocol::params::generate::is_greedy;
use neftpipe_protocol::random::RandomStream;
use tch::{Kind, Tensor};

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f64,
    /// Sample from the smallest set of tokens whose probability reaches this.
    pub top_p: f64,
    /// Sample from so many most probable tokens; 0 is all.
    pub top_k: u64,
    /// What seen tokens' logits are divided (or, where negative, multiplied) by.
    pub repetition_penalty: f64,
}

impl From<&GenerateParams> for Sampling {
    fn from(params: &GenerateParams) -> Self {
        let &GenerateParams { temperature, top_p, top_k, repetition_penalty, .. } = params;
        Self { temperature, top_p, top_k, repetition_penalty }
    }
}

impl Sampling {
    /// Whether the most probable token is taken, and nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        is_greedy(self.temperature)
    }

    /// Chooses a token of each row of logits [B, V]. `draws` gives a row's next uniform number in [0, 1) and is not
    /// asked when greedy.
    pub fn choose(&self, logits: &Tensor, draws: impl FnMut(usize) -> f64) -> Vec<i64> {
        let tokens = if self.is_greedy() { logits.argmax(-1, false) } else { self.sample(logits, draws) };
        Vec::try_from(tokens).expect("token ids are whole numbers")
    }

    fn sample(&self, logits: &Tensor, draws: impl FnMut(usize) -> f64) -> Tensor {
        let (rows, vocab) = (logits.size()[0], logits.size()[1]);
        let logits = logits.to_kind(Kind::Float) / self.temperature;
        let (logits, ids) = self.candidates(&logits); // [B, C]
        let probabilities = logits.softmax(-1, Kind::Double);
        let mut cumulative = probabilities.cumsum(-1, Kind::Double);
        if self.top_p < 1.0 {
            // A token stays while those before it do not reach the share: the first always does.
            let beyond = (&cumulative - &probabilities).ge(self.top_p);
            cumulative = probabilities.masked_fill(&beyond, 0.0).cumsum(-1, Kind::Double);
        }
        let draws: Vec<f64> = (0..rows as usize).map(draws).collect();
        let total = cumulative.narrow(-1, -1, 1); // [B, 1]
        let points = Tensor::from_slice(&draws).to_device(logits.device()).unsqueeze(-1) * total; // [B, 1]
        // The first candidate whose cumulative share lies above the point.
        let places = cumulative.le_tensor(&points).sum_dim_intlist(-1, true, Kind::Int64); // [B, 1]
        let places = places.clamp_max(ids.as_ref().map_or(vocab, |ids| ids.size()[1]) - 1);
        match ids {
            Some(ids) => ids.gather(-1, &places, false),
            None => places,
        }
        .squeeze_dim(-1)
    }

    /// The tokens that may be drawn with their ids; no ids where it is all of them in order.
    fn candidates(&self, logits: &Tensor) -> (Tensor, Option<Tensor>) {
        let vocab = logits.size()[1];
        if self.top_k > 0 && (self.top_k as i64) < vocab {
            let (best, ids) = logits.topk(self.top_k as i64, -1, true, true);
            return (best, Some(ids));
        }
        if self.top_p < 1.0 {
            let (sorted, ids) = logits.sort_stable(true, -1, true);
            return (sorted, Some(ids));
        }
        (logits.shallow_clone(), None)
    }
}

/// Which tokens each row has seen, in its prompt or its answer, and what their logits are divided by.
///
/// The penalty is that of CTRL (arXiv 1909.05858) in the form of transformers.
pub struct Seen {
    penalty: f64,
    /// Of each row; one that was seen twice may stand there twice.
    tokens: Vec<Vec<i64>>,
}

impl Seen {
    /// Of no rows yet, with this penalty; 1 is none.
    pub fn new(penalty: f64) -> Self {
        Self { penalty, tokens: Vec::new() }
    }

    /// Adds a row with the tokens of its prompt, of which there are some.
    pub fn push(&mut self, ids: &[i32]) {
        self.tokens.push(ids.iter().map(|&id| i64::from(id)).collect());
    }

    /// Marks one more token of each of the rows from `first` on.
    pub fn add(&mut self, first: usize, tokens: &[i64]) {
        self.tokens[first..].iter_mut().zip(tokens).for_each(|(row, &token)| row.push(token));
    }

    /// Takes a row out; the last one moves into its place.
    pub fn swap_remove(&mut self, row: usize) {
        self.tokens.swap_remove(row);
    }

    /// Puts the penalty on the logits [B, V] of the rows from `first` on.
    pub fn penalise(&self, first: usize, logits: &mut Tensor) {
        let rows = &self.tokens[first..];
        if self.penalty == 1.0 || rows.is_empty() {
            return;
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        // Where a row has seen fewer, its last token stands in again: what is put there twice is the same.
        let padded: Vec<i64> = rows.iter().flat_map(|row| (0..longest).map(|at| row[at.min(row.len() - 1)])).collect();
        let ids = Tensor::from_slice(&padded).view([rows.len() as i64, -1]).to_device(logits.device()); // [B, S]
        let seen = logits.gather(1, &ids, false); // [B, S]
        let penalised = (&seen * self.penalty).where_self(&seen.lt(0.0), &(&seen / self.penalty));
        let _ = logits.scatter_(1, &ids, &penalised);
    }
}

/// The random stream of one row: of its prompt and the seed alone, so that it depends neither on the other rows nor on
/// its place among them.
pub fn stream(seed: u64, prompt: &str) -> RandomStream {
    let digest = neftpipe_protocol::Digest::of(prompt.as_bytes());
    let words: Vec<u64> = digest.as_bytes().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    RandomStream::new("generate", seed, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64, top_k: u64, top_p: f64) -> Sampling {
        Sampling { temperature, top_p, top_k, repetition_penalty: 1.0 }
    }

    /// Logits whose softmax is 0.1, 0.4, 0.2, 0.3.
    fn logits() -> Tensor {
        Tensor::from_slice(&[0.1f32, 0.4, 0.2, 0.3]).log().unsqueeze(0)
    }

    fn shares(sampling: Sampling) -> Vec<f64> {
        let mut counts = [0.0; 4];
        (0..1000)
            .for_each(|i| counts[sampling.choose(&logits(), |_| (f64::from(i) + 0.5) / 1000.0)[0] as usize] += 1e-3);
        counts.to_vec()
    }

    fn assert_shares(sampling: Sampling, wanted: [f64; 4]) {
        let shares = shares(sampling);
        assert!(shares.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 2e-3), "{shares:?}, not {wanted:?}");
    }

    #[test]
    fn tokens_are_drawn_by_their_probability() {
        assert_eq!(sampling(0.0, 0, 1.0).choose(&logits(), |_| unreachable!()), [1]);
        [1e-6, 1e-29, 1e-40, 1e-300].iter().for_each(|&t| assert_shares(sampling(t, 0, 1.0), [0.0, 1.0, 0.0, 0.0]));
        assert_shares(sampling(1.0, 0, 1.0), [0.1, 0.4, 0.2, 0.3]);
        assert_shares(sampling(0.5, 0, 1.0), [1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0]);
    }

    #[test]
    fn top_k_and_top_p_leave_the_most_probable() {
        assert_shares(sampling(1.0, 2, 1.0), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_shares(sampling(1.0, 0, 0.69), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_shares(sampling(1.0, 0, 0.71), [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        assert_shares(sampling(1.0, 0, 1e-9), [0.0, 1.0, 0.0, 0.0]);
        assert_shares(sampling(1.0, 3, 0.5), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_shares(sampling(1.0, 9, 1.0), [0.1, 0.4, 0.2, 0.3]);
    }

    #[test]
    fn the_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens() {
        let mut seen = Seen::new(2.0);
        seen.push(&[0]);
        seen.push(&[3, 3]);
        seen.add(0, &[2, 2]);
        let penalised = |seen: &Seen, first, rows: i64| {
            let mut logits = Tensor::from_slice(&[1f32, 2.0, -1.0, -2.0]).unsqueeze(0).repeat([rows, 1]);
            seen.penalise(first, &mut logits);
            Vec::<Vec<f32>>::try_from(logits).unwrap()
        };
        assert_eq!(penalised(&seen, 0, 2), [[0.5, 2.0, -2.0, -2.0], [1.0, 2.0, -2.0, -4.0]]);
        assert_eq!(penalised(&seen, 1, 1), [[1.0, 2.0, -2.0, -4.0]]);
        seen.swap_remove(0);
        assert_eq!(penalised(&seen, 0, 1), [[1.0, 2.0, -2.0, -4.0]]);
        seen.push(&[1]);
        assert_eq!(penalised(&seen, 1, 1), [[1.0, 1.0, -1.0, -2.0]]);
    }

    #[test]
    fn a_stream_is_that_of_the_prompt_and_the_seed() {
        let first = |seed, prompt| stream(seed, prompt).next_u64();
        assert_eq!(first(0, "a"), first(0, "a"));
        assert_ne!(first(0, "a"), first(0, "b"));
        assert_ne!(first(0, "a"), first(1, "a"));
    }
}

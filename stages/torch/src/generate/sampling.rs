//! From logits to the next token: repetition penalty, then greedy choice or sampling.
//!
//! It knows rows of logits, not models, prompts or batches. The order of steps is that of transformers: penalty,
//! temperature, top-k, top-p. Axes: B rows, V vocabulary.

use neftpipe_protocol::params::GenerateParams;
use neftpipe_protocol::random::RandomStream;
use tch::{Device, Kind, Tensor};

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
        self.temperature == 0.0
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

/// Which tokens each row has seen, in its prompt or its answer, as what their logits are divided by: 1 for the others.
///
/// The penalty is that of CTRL (arXiv 1909.05858) in the form of transformers.
pub struct Seen {
    penalty: f64,
    /// [rows, V]; None where there is no penalty.
    factors: Option<Tensor>,
}

impl Seen {
    /// Room for so many rows.
    pub fn new(penalty: f64, rows: usize, vocab: i64, device: Device) -> Self {
        let factors = (penalty != 1.0).then(|| Tensor::ones([rows as i64, vocab], (Kind::Float, device)));
        Self { penalty, factors }
    }

    /// Forgets what stood at a row and marks these tokens.
    pub fn restart(&mut self, row: usize, ids: &[i32]) {
        let Some(factors) = &self.factors else { return };
        let ids = Tensor::from_slice(ids).to_kind(Kind::Int64).to_device(factors.device());
        let mut row = factors.get(row as i64).fill_(1.0);
        let _ = row.index_fill_(0, &ids, self.penalty);
    }

    /// Marks one more token of each of the rows from `first` on.
    pub fn add(&mut self, first: usize, tokens: &[i64]) {
        let Some(factors) = &self.factors else { return };
        let tokens_of_rows = Tensor::from_slice(tokens).unsqueeze(-1).to_device(factors.device());
        let mut rows = factors.narrow(0, first as i64, tokens.len() as i64);
        let _ = rows.scatter_value_(-1, &tokens_of_rows, self.penalty);
    }

    /// Puts the last of `rows` rows in the place of `row`, which is gone.
    pub fn swap_remove(&mut self, row: usize, rows: usize) {
        let Some(factors) = &self.factors else { return };
        if row + 1 < rows {
            factors.get(row as i64).copy_(&factors.get(rows as i64 - 1));
        }
    }

    /// Logits [B, V] of the rows from `first` on with the penalty.
    pub fn penalise(&self, first: usize, logits: Tensor) -> Tensor {
        let Some(factors) = &self.factors else { return logits };
        let factors = factors.narrow(0, first as i64, logits.size()[0]);
        (&logits * &factors).where_self(&logits.lt(0.0), &(&logits / &factors))
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
        let mut seen = Seen::new(2.0, 2, 4, Device::Cpu);
        seen.restart(0, &[0]);
        seen.restart(1, &[3, 3]);
        seen.add(0, &[2, 2]);
        let penalised = |seen: &Seen, first, rows: i64| {
            let logits = Tensor::from_slice(&[1f32, 2.0, -1.0, -2.0]).unsqueeze(0).repeat([rows, 1]);
            Vec::<Vec<f32>>::try_from(seen.penalise(first, logits)).unwrap()
        };
        assert_eq!(penalised(&seen, 0, 2), [[0.5, 2.0, -2.0, -2.0], [1.0, 2.0, -2.0, -4.0]]);
        seen.swap_remove(0, 2);
        assert_eq!(penalised(&seen, 0, 1), [[1.0, 2.0, -2.0, -4.0]]);
        seen.restart(0, &[1]);
        assert_eq!(penalised(&seen, 0, 1), [[1.0, 1.0, -1.0, -2.0]]);
    }

    #[test]
    fn a_stream_is_that_of_the_prompt_and_the_seed() {
        let first = |seed, prompt| stream(seed, prompt).next_u64();
        assert_eq!(first(0, "a"), first(0, "a"));
        assert_ne!(first(0, "a"), first(0, "b"));
        assert_ne!(first(0, "a"), first(1, "a"));
    }
}

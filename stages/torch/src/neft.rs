//! Noise on the embeddings (NEFTune, arXiv 2310.05914): X' = emb(X) + alpha/√(L·d) · eps.
//!
//! The noise of a row is a pure function of (seed, optimizer step, the row's place in the step): it does not depend on
//! how the step is cut into micro-batches, a resumed run draws what the uninterrupted one drew, and no other random
//! stream is touched by it.

use neftpipe_protocol::params::train::{Neft, Noise, NoiseLength};
use neftpipe_protocol::random::RandomStream;

/// The noise of one optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct StepNoise<'a> {
    /// Family and convention of length.
    pub neft: &'a Neft,
    /// Strength in this step.
    pub alpha: f64,
    /// Seed of the run.
    pub seed: u64,
    /// The optimizer step, from 0.
    pub step: u64,
    /// Tokens of the step's longest row: what a padded batch would be padded to, however it is cut.
    pub padded_tokens: usize,
}

impl StepNoise<'_> {
    /// alpha/√(L·d) of a row of so many tokens.
    pub fn magnitude(&self, row_tokens: usize, width: usize) -> f64 {
        let length = match self.neft.length {
            NoiseLength::Actual => row_tokens,
            NoiseLength::Padded => self.padded_tokens,
        };
        self.alpha / ((length * width) as f64).sqrt()
    }

    /// The signs with which each row enters the step: SymNoise (arXiv 2312.01523) trains on x + e and on x − e.
    pub fn signs(&self) -> &'static [f32] {
        if self.alpha > 0.0 && self.neft.noise == Noise::Symmetric { &[1.0, -1.0] } else { &[1.0] }
    }

    /// Appends the noise of the row at this place of the step [row_tokens, width], in f32.
    pub fn draw(&self, place: u64, row_tokens: usize, width: usize, sign: f32, out: &mut Vec<f32>) {
        let start = out.len();
        out.resize(start + row_tokens * width, 0.0);
        let values = &mut out[start..];
        let mut stream = RandomStream::new("neft noise", self.seed, &[self.step, place]);
        let mut scale = self.magnitude(row_tokens, width);
        match self.neft.noise {
            Noise::Uniform => stream.fill_symmetric(values),
            Noise::Gaussian => stream.fill_normal(values),
            Noise::GaussianMatched => {
                stream.fill_normal(values);
                scale /= 3f64.sqrt();
            }
            Noise::Bernoulli | Noise::Symmetric => stream.fill_signs(values),
        }
        let scale = scale as f32 * sign;
        values.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 64;

    fn noise(neft: &Neft, step: u64) -> StepNoise<'_> {
        StepNoise { neft, alpha: 5.0, seed: 3, step, padded_tokens: 400 }
    }

    fn drawn(neft: &Neft, step: u64, place: u64, tokens: usize) -> Vec<f32> {
        let mut out = Vec::new();
        noise(neft, step).draw(place, tokens, WIDTH, 1.0, &mut out);
        out
    }

    fn deviation(values: &[f32]) -> f64 {
        (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    fn family(noise: Noise) -> Neft {
        Neft { alpha: 5.0, noise, ..Neft::default() }
    }

    #[test]
    fn each_family_has_the_spread_of_its_formula() {
        let magnitude = 5.0 / ((100 * WIDTH) as f64).sqrt();
        for (name, expected) in [
            (Noise::Uniform, magnitude / 3f64.sqrt()),
            (Noise::Gaussian, magnitude),
            (Noise::GaussianMatched, magnitude / 3f64.sqrt()),
            (Noise::Bernoulli, magnitude),
            (Noise::Symmetric, magnitude),
        ] {
            let rows: Vec<f32> = (0..20).flat_map(|place| drawn(&family(name), 0, place, 100)).collect();
            let ratio = deviation(&rows) / expected;
            assert!((ratio - 1.0).abs() < 0.01, "{name:?}: {ratio}");
            let mean = rows.iter().map(|&v| f64::from(v)).sum::<f64>() / rows.len() as f64;
            assert!(mean.abs() < 0.02 * expected, "{name:?}: {mean}");
            if name != Noise::Gaussian && name != Noise::GaussianMatched {
                assert!(rows.iter().all(|v| f64::from(v.abs()) <= magnitude * 1.000_001), "{name:?}");
            }
        }
    }

    /// The fourth moment over the square of the second tells the families apart: 9/5, 3, and 1 of two values.
    #[test]
    fn each_family_has_the_shape_of_its_distribution() {
        for (name, expected) in [
            (Noise::Uniform, 1.8),
            (Noise::Gaussian, 3.0),
            (Noise::GaussianMatched, 3.0),
            (Noise::Bernoulli, 1.0),
            (Noise::Symmetric, 1.0),
        ] {
            let values: Vec<f32> = (0..20).flat_map(|place| drawn(&family(name), 0, place, 100)).collect();
            let fourth = values.iter().map(|&v| f64::from(v).powi(4)).sum::<f64>() / values.len() as f64;
            let shape = fourth / deviation(&values).powi(4);
            assert!((shape / expected - 1.0).abs() < 0.03, "{name:?}: {shape}");
            let positive = values.iter().filter(|&&v| v > 0.0).count() as f64 / values.len() as f64;
            assert!((positive - 0.5).abs() < 0.01, "{name:?}: {positive} are above 0");
        }
        let uniform = drawn(&family(Noise::Uniform), 0, 0, 100);
        let magnitude = (5.0 / ((100 * WIDTH) as f64).sqrt()) as f32;
        let near = |end: f32| uniform.iter().any(|v| (v / magnitude - end).abs() < 0.005);
        assert!(near(1.0) && near(-1.0), "the whole range is drawn");
    }

    #[test]
    fn tokens_and_dimensions_of_a_row_are_independent() {
        for name in [Noise::Uniform, Noise::Gaussian, Noise::Bernoulli] {
            let values = drawn(&family(name), 0, 0, 400);
            for lag in [1, 2, 7, WIDTH, 2 * WIDTH] {
                let pairs = values.iter().zip(&values[lag..]);
                let mean = pairs.map(|(a, b)| f64::from(a * b)).sum::<f64>() / (values.len() - lag) as f64;
                let correlation = mean / deviation(&values).powi(2);
                // Some five standard deviations.
                assert!(correlation.abs() < 5.0 / (values.len() as f64).sqrt(), "{name:?}, {lag} apart: {correlation}");
            }
        }
    }

    #[test]
    fn length_is_the_rows_own_or_that_of_the_longest() {
        let actual = family(Noise::Bernoulli);
        let padded = Neft { length: NoiseLength::Padded, ..actual.clone() };
        let at = |neft: &Neft, tokens| noise(neft, 0).magnitude(tokens, WIDTH);
        assert!((at(&actual, 64) / at(&actual, 256) - 2.0).abs() < 1e-12);
        assert_eq!(at(&padded, 64), at(&padded, 400));
        assert_eq!(at(&padded, 400), at(&actual, 400));
        // The figures of Llama 3.2 1B at alpha 5: width 2048, 512 and 64 tokens.
        assert!((noise(&actual, 0).magnitude(512, 2048) - 0.00488).abs() < 5e-6);
        assert!((noise(&actual, 0).magnitude(64, 2048) - 0.0138).abs() < 5e-5);
    }

    #[test]
    fn rows_and_steps_draw_independently_and_again_the_same() {
        let neft = family(Noise::Uniform);
        let base = drawn(&neft, 4, 1, 200);
        assert_eq!(base, drawn(&neft, 4, 1, 200));
        for other in [drawn(&neft, 4, 2, 200), drawn(&neft, 5, 1, 200)] {
            let product: f64 = base.iter().zip(&other).map(|(a, b)| f64::from(a * b)).sum();
            let correlation = product / (deviation(&base) * deviation(&other) * base.len() as f64);
            assert!(correlation.abs() < 0.04, "{correlation}");
        }
    }

    #[test]
    fn symmetric_noise_enters_with_both_signs_and_cancels() {
        let neft = family(Noise::Symmetric);
        let step = noise(&neft, 0);
        assert_eq!(step.signs(), [1.0, -1.0]);
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        step.draw(0, 7, WIDTH, 1.0, &mut plus);
        step.draw(0, 7, WIDTH, -1.0, &mut minus);
        assert!(plus.iter().zip(&minus).all(|(a, b)| a + b == 0.0));
        assert_eq!(StepNoise { alpha: 0.0, ..step }.signs(), [1.0]);
    }
}

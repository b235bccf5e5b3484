//! Rotary position embeddings in the rotate-half layout of Hugging Face weights.
//!
//! Axes: N tokens (of all rows), H heads, D head dim.

use tch::{Device, Kind, Tensor};

use super::{LlamaConfig, RopeScaling};

/// The rotary frequencies of a model.
pub struct Rope {
    inverse_frequencies: Tensor,
}

/// Cosines and sines of so many positions.
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// The frequencies that a config asks for.
    pub fn new(config: &LlamaConfig, device: Device) -> Self {
        let frequencies: Vec<f32> = inverse_frequencies(config).iter().map(|&f| f as f32).collect();
        Self { inverse_frequencies: Tensor::from_slice(&frequencies).to_device(device) }
    }

    /// Angles of positions [N], computed in f32 and rounded to `kind`.
    pub fn angles(&self, positions: &Tensor, kind: Kind) -> Angles {
        let angles = positions.to_kind(Kind::Float).outer(&self.inverse_frequencies).unsqueeze(1); // [N, 1, D/2]
        Angles { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }
}

impl Angles {
    /// Cosines and sines as [N, D/2], f32.
    pub(super) fn flat(&self) -> (Tensor, Tensor) {
        let flat = |x: &Tensor| x.squeeze_dim(1).to_kind(Kind::Float);
        (flat(&self.cos), flat(&self.sin))
    }

    /// Rotates x [N, H, D]: dimension i pairs with i + D/2.
    pub fn rotate(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let (a, b) = (&halves[0], &halves[1]);
        Tensor::cat(&[a * &self.cos - b * &self.sin, b * &self.cos + a * &self.sin], -1) // [N, H, D]
    }
}

/// theta^(−2i/D), stretched; the Llama 3 rule is that of its reference code.
fn inverse_frequencies(config: &LlamaConfig) -> Vec<f64> {
    let dim = config.head_dim;
    let plain = (0..dim / 2).map(|i| config.rope_theta.powf(-2.0 * i as f64 / dim as f64));
    plain.map(|frequency| stretch(frequency, &config.rope_scaling)).collect()
}

fn stretch(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_window_tokens } => {
            let turns = original_window_tokens * frequency / std::f64::consts::TAU;
            let kept = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
            let kept = kept.clamp(0.0, 1.0);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(head_dim: u64) -> Vec<f64> {
        let config = format!(
            r#"{{"model_type": "llama", "vocab_size": 8, "hidden_size": {head_dim}, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": {head_dim}, "rope_theta": 500000.0,
                "rope_scaling": {{"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}}}"#
        );
        inverse_frequencies(&LlamaConfig::parse(&config).unwrap())
    }

    fn check(frequencies: &[f64], goldens: &[(usize, f64)]) {
        for &(i, golden) in goldens {
            let error = (frequencies[i] / golden - 1.0).abs();
            assert!(error < 2e-7, "[{i}] {} is not {golden}", frequencies[i]);
        }
    }

    #[test]
    fn frequencies_of_llama_3_2_1b() {
        let goldens = [
            (0, 1.0),
            (1, 0.663601238),
            (2, 0.440366603),
            (14, 0.00321144599),
            (15, 0.00129054793),
            (16, 0.000429556797),
            (17, 9.7082878e-5),
            (31, 9.41830673e-8),
        ];
        check(&frequencies(64), &goldens);
    }

    #[test]
    fn frequencies_of_llama_3_2_3b() {
        check(&frequencies(128), &[(1, 0.814617234), (12, 0.0853971003), (63, 7.67231497e-8)]);
    }
}

//! Random streams that are pure functions of what they are for.
//!
//! A stream is the extendable output of BLAKE3 over (purpose, seed, indexes). It has no state to save: resuming a run
//! at step k draws what the uninterrupted run drew, and no stream disturbs another.

use crate::KeyHasher;

/// Random numbers for one purpose at one place.
pub struct RandomStream {
    reader: blake3::OutputReader,
}

impl RandomStream {
    /// The stream of `purpose` for `seed` at these indexes (an optimizer step and a row, say).
    pub fn new(purpose: &str, seed: u64, indexes: &[u64]) -> Self {
        let key = KeyHasher::new("neftpipe 2026 random stream v1").add(purpose).add(&seed).add(indexes).finish();
        Self { reader: blake3::Hasher::new_keyed(key.as_bytes()).finalize_xof() }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.reader.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n without bias, by rejection (`n` > 0).
    pub fn below(&mut self, n: u64) -> u64 {
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let draw = self.next_u64();
            if draw < limit {
                return draw % n;
            }
        }
    }

    /// Shuffles in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// Fills with uniforms in the open interval (−1, 1), 23 bits each.
    pub fn fill_symmetric(&mut self, out: &mut [f32]) {
        self.fill_from_bits(out, |bits| ((bits >> 9) as f32 + 0.5) / (1 << 22) as f32 - 1.0);
    }

    /// Fills with −1 or 1, each with probability one half.
    pub fn fill_signs(&mut self, out: &mut [f32]) {
        self.fill_from_bits(out, |bits| if bits >> 31 == 0 { 1.0 } else { -1.0 });
    }

    /// Fills with standard normals (Box–Muller over pairs of uniforms).
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
            pair[0] = (radius * cos) as f32;
            if let Some(second) = pair.get_mut(1) {
                *second = (radius * sin) as f32;
            }
        }
    }

    /// Fills with factors of dropout: 0 with probability `rate`, else what keeps the mean at 1.
    pub fn fill_kept(&mut self, out: &mut [f32], rate: f64) {
        let threshold = (rate * (1u64 << 32) as f64) as u32;
        let kept = (1.0 / (1.0 - f64::from(threshold) / (1u64 << 32) as f64)) as f32;
        self.fill_from_bits(out, |bits| if bits < threshold { 0.0 } else { kept });
    }

    fn fill_from_bits(&mut self, out: &mut [f32], map: impl Fn(u32) -> f32) {
        let mut bytes = [0u8; 4096];
        for chunk in out.chunks_mut(1024) {
            let bytes = &mut bytes[..chunk.len() * 4];
            self.reader.fill(bytes);
            for (value, four) in chunk.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = map(u32::from_le_bytes(*four));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_every_part_of_its_name_and_on_nothing_else() {
        let first = |purpose, seed, at: &[u64]| RandomStream::new(purpose, seed, at).next_u64();
        let base = first("noise", 0, &[1, 2]);
        assert_eq!(base, first("noise", 0, &[1, 2]));
        for other in [
            first("order", 0, &[1, 2]),
            first("noise", 1, &[1, 2]),
            first("noise", 0, &[2, 1]),
            first("noise", 0, &[1]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn moments_of_the_three_fills() {
        let mut values = vec![0f32; 200_000];
        let moments = |values: &[f32]| {
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            (mean, values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n - mean * mean)
        };
        let mut stream = RandomStream::new("test", 7, &[]);
        stream.fill_symmetric(&mut values);
        let (mean, variance) = moments(&values);
        assert!(mean.abs() < 0.01 && (variance - 1.0 / 3.0).abs() < 0.005, "{mean} {variance}");
        assert!(values.iter().all(|v| v.abs() < 1.0));
        stream.fill_normal(&mut values);
        let (mean, variance) = moments(&values);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        stream.fill_signs(&mut values);
        assert!(values.iter().all(|v| v.abs() == 1.0) && moments(&values).0.abs() < 0.01);
    }

    #[test]
    fn shuffling_permutes() {
        let mut items: Vec<u64> = (0..100).collect();
        RandomStream::new("order", 0, &[0]).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}

//! The two seeded generators of this crate: SplitMix64 for resampling, and the Mersenne Twister where draws of AlpacaEval's
//! own tools must be repeated bit by bit.
//!
//! Neither is for secrets, and nothing here takes entropy from the machine.

use sha2::{Digest, Sha512};

/// SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014).
///
/// Its n-th output is a function of the seed and n alone, which lets any language repeat a resampling in one line.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator whose stream is fixed by the seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `len`: the upper 32 bits scaled. The bias is below len / 2^32.
    ///
    /// # Panics
    /// Where `len` is 0 or does not fit 32 bits.
    pub fn index(&mut self, len: usize) -> usize {
        assert!(len > 0 && u32::try_from(len).is_ok(), "an index needs 1 to 2^32 − 1 places, not {len}");
        (((self.next_u64() >> 32) * len as u64) >> 32) as usize
    }
}

const STATE_WORDS: usize = 624;
const SHIFT_WORDS: usize = 397;

/// MT19937 (M. Matsumoto and T. Nishimura, 1998) with the two seedings of its authors.
#[derive(Clone)]
pub(crate) struct Mt19937 {
    state: [u32; STATE_WORDS],
    used: usize,
}

impl Mt19937 {
    /// `init_genrand`: seeded by one number, as `std::mt19937` is.
    pub(crate) fn from_seed(seed: u32) -> Self {
        let mut state = [seed; STATE_WORDS];
        for i in 1..STATE_WORDS {
            state[i] = mix(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, used: STATE_WORDS }
    }

    /// `init_by_array`: seeded by at least one word.
    fn from_key(key: &[u32]) -> Self {
        let mut state = Self::from_seed(19_650_218).state;
        let mut i = 1;
        for j in 0..STATE_WORDS.max(key.len()) {
            let j = j % key.len();
            state[i] =
                (state[i] ^ mix(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            i = next_place(i, &mut state);
        }
        for _ in 1..STATE_WORDS {
            state[i] = (state[i] ^ mix(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = next_place(i, &mut state);
        }
        state[0] = 0x8000_0000;
        Self { state, used: STATE_WORDS }
    }

    /// An unbiased number below `range` (D. Lemire, "Fast random integer generation in an interval", 2019), as
    /// scikit-learn's liblinear draws it. `range` is at least 1.
    pub(crate) fn below(&mut self, range: u32) -> u32 {
        let biased_below = range.wrapping_neg() % range;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(range);
            if product as u32 >= biased_below {
                return (product >> 32) as u32;
            }
        }
    }

    fn next_u32(&mut self) -> u32 {
        if self.used == STATE_WORDS {
            self.renew();
        }
        let mut y = self.state[self.used];
        self.used += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn renew(&mut self) {
        for i in 0..STATE_WORDS {
            let next = self.state[(i + 1) % STATE_WORDS];
            let y = (self.state[i] & 0x8000_0000) | (next & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT_WORDS) % STATE_WORDS] ^ (y >> 1) ^ twist;
        }
        self.used = 0;
    }
}

/// The generator of CPython's `random.Random(text)`.
///
/// Source: CPython, `Lib/random.py` (seeding version 2) and `Modules/_randommodule.c`.
#[derive(Clone)]
pub struct CPythonRandom {
    twister: Mt19937,
}

impl CPythonRandom {
    /// `random.Random(text)`: the key is the number that the text's bytes and their SHA-512 spell, big end first.
    pub fn from_text(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend_from_slice(&Sha512::digest(text.as_bytes()));
        let mut key: Vec<u32> = bytes.rchunks(4).map(big_endian_word).collect();
        while key.len() > 1 && key.last() == Some(&0) {
            key.pop();
        }
        Self { twister: Mt19937::from_key(&key) }
    }

    /// `random()`: 53 bits as a number from 0 up to but not including 1.
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.twister.next_u32() >> 5);
        let low = f64::from(self.twister.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }
}

fn big_endian_word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, &byte| (word << 8) | u32::from(byte))
}

fn mix(word: u32) -> u32 {
    word ^ (word >> 30)
}

/// The place after `i`; past the end the last word wraps round to the first.
fn next_place(i: usize, state: &mut [u32; STATE_WORDS]) -> usize {
    if i + 1 < STATE_WORDS {
        return i + 1;
    }
    state[0] = state[STATE_WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_stream() {
        // The reference implementation's first outputs for the seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn indices_cover_the_range_evenly() {
        let mut random = SplitMix64::new(0);
        let mut counts = [0_usize; 7];
        for _ in 0..70_000 {
            counts[random.index(7)] += 1;
        }
        // The standard deviation of a count is 93.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    fn the_twister_gives_the_published_stream() {
        // The C++ standard names the 10,000th output of the default seed 5489.
        let mut twister = Mt19937::from_seed(5489);
        let last = (0..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn key_words_are_little_endian_from_the_right() {
        let words: Vec<u32> = [1, 2, 3, 4, 5].rchunks(4).map(big_endian_word).collect();
        assert_eq!(words, [0x0203_0405, 1]);
    }
}

//! Number formats of GGUF: how many numbers a block holds, in how many bytes, and what they are.
//!
//! A block of n numbers holds a scale d (and a minimum m), small integers q, and in the K formats scales of sub-blocks.
//! Values are computed in 32-bit floats in the order of the reference implementation (ggml's `dequantize_row_*`), so they
//! are the same bit for bit.

use half::{bf16, f16};

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Brain floats.
    Bf16,
    /// d·(q − 8), 4 bits.
    Q4_0,
    /// d·q + m, 4 bits.
    Q4_1,
    /// d·(q − 16), 5 bits.
    Q5_0,
    /// d·q + m, 5 bits.
    Q5_1,
    /// d·q, 8 bits.
    Q8_0,
    /// d·s·q − m·t, 4 bits, with scales s, t for every 32.
    Q4K,
    /// d·s·q − m·t, 5 bits, with scales s, t for every 32.
    Q5K,
    /// d·s·(q − 32), 6 bits, with a scale s for every 16.
    Q6K,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// By its code in the file; for others the name.
    pub fn of(code: u32) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.code() == code).ok_or_else(|| match code {
            9 => "Q8_1".to_owned(),
            10 => "Q2_K".to_owned(),
            11 => "Q3_K".to_owned(),
            15 => "Q8_K".to_owned(),
            16..=23 | 29 => format!("an IQ format (code {code})"),
            34 | 35 => "a ternary format".to_owned(),
            39 => "MXFP4".to_owned(),
            _ => format!("an unknown format (code {code})"),
        })
    }

    fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Numbers in a block.
    pub fn block_numbers(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Unpacks whole blocks.
    ///
    /// `blocks` holds as many blocks as `numbers` has room for.
    pub fn unpack(self, blocks: &[u8], numbers: &mut [f32]) {
        let pairs = blocks.chunks_exact(self.block_bytes()).zip(numbers.chunks_exact_mut(self.block_numbers()));
        match self {
            Self::F32 => pairs.for_each(|(b, out)| out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Self::F16 => pairs.for_each(|(b, out)| out[0] = half_at(b, 0)),
            Self::Bf16 => pairs.for_each(|(b, out)| out[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            Self::Q4_0 => pairs.for_each(|(b, out)| q4_0(b, out)),
            Self::Q4_1 => pairs.for_each(|(b, out)| q4_1(b, out)),
            Self::Q5_0 => pairs.for_each(|(b, out)| q5_0(b, out)),
            Self::Q5_1 => pairs.for_each(|(b, out)| q5_1(b, out)),
            Self::Q8_0 => pairs.for_each(|(b, out)| q8_0(b, out)),
            Self::Q4K => pairs.for_each(|(b, out)| q4_k(b, out)),
            Self::Q5K => pairs.for_each(|(b, out)| q5_k(b, out)),
            Self::Q6K => pairs.for_each(|(b, out)| q6_k(b, out)),
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// d (2 bytes), 16 bytes of q: the low halves are the first 16 numbers, the high halves the others.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (j, &byte) in block[2..18].iter().enumerate() {
        out[j] = f32::from(i16::from(byte & 15) - 8) * d;
        out[j + 16] = f32::from(i16::from(byte >> 4) - 8) * d;
    }
}

/// d, m, 16 bytes of q.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, &byte) in block[4..20].iter().enumerate() {
        out[j] = f32::from(byte & 15) * d + m;
        out[j + 16] = f32::from(byte >> 4) * d + m;
    }
}

/// The fifth bits: bit j belongs to number j.
fn fifth_bits(block: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |j| ((bits >> j) as u8 & 1) << 4
}

/// d, 4 bytes of fifth bits, 16 bytes of q.
fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, fifth) = (half_at(block, 0), fifth_bits(block, 2));
    for (j, &byte) in block[6..22].iter().enumerate() {
        out[j] = f32::from(i16::from(byte & 15 | fifth(j)) - 16) * d;
        out[j + 16] = f32::from(i16::from(byte >> 4 | fifth(j + 16)) - 16) * d;
    }
}

/// d, m, 4 bytes of fifth bits, 16 bytes of q.
fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, fifth) = (half_at(block, 0), half_at(block, 2), fifth_bits(block, 4));
    for (j, &byte) in block[8..24].iter().enumerate() {
        out[j] = f32::from(byte & 15 | fifth(j)) * d + m;
        out[j + 16] = f32::from(byte >> 4 | fifth(j + 16)) * d + m;
    }
}

/// d, 32 signed bytes.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (number, &byte) in out.iter_mut().zip(&block[2..34]) {
        *number = f32::from(byte as i8) * d;
    }
}

/// Scale and minimum of a sub-block: eight pairs of 6 bits in 12 bytes, the last four split over high bits.
fn scale_and_min(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (scales[j + 4] & 15 | (scales[j - 4] >> 6) << 4, scales[j + 4] >> 4 | (scales[j] >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// d, m, 12 bytes of scales, 128 bytes of q: 32 bytes hold two sub-blocks, low halves first.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, m, scales) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (pair, (out, quants)) in out.chunks_exact_mut(64).zip(block[16..144].chunks_exact(32)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((s1, t1), (s2, t2)) = (scale_and_min(scales, 2 * pair), scale_and_min(scales, 2 * pair + 1));
        for (j, &byte) in quants.iter().enumerate() {
            low[j] = d * s1 * f32::from(byte & 15) - m * t1;
            high[j] = d * s2 * f32::from(byte >> 4) - m * t2;
        }
    }
}

/// d, m, 12 bytes of scales, 32 bytes of fifth bits (bit i belongs to sub-block i), 128 bytes of q.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, m, scales, fifth) = (half_at(block, 0), half_at(block, 2), &block[4..16], &block[16..48]);
    for (pair, (out, quants)) in out.chunks_exact_mut(64).zip(block[48..176].chunks_exact(32)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((s1, t1), (s2, t2)) = (scale_and_min(scales, 2 * pair), scale_and_min(scales, 2 * pair + 1));
        for (j, &byte) in quants.iter().enumerate() {
            let fifth_low = (fifth[j] >> (2 * pair) & 1) << 4;
            let fifth_high = (fifth[j] >> (2 * pair + 1) & 1) << 4;
            low[j] = d * s1 * f32::from(byte & 15 | fifth_low) - m * t1;
            high[j] = d * s2 * f32::from(byte >> 4 | fifth_high) - m * t2;
        }
    }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 signed scales, d. Each half holds four runs of 32.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let low = &block[64 * half..64 * half + 64];
        let upper = &block[128 + 32 * half..128 + 32 * half + 32];
        let scales = &block[192 + 8 * half..192 + 8 * half + 8];
        for run in 0..4 {
            for j in 0..32 {
                let byte = low[j + 32 * (run % 2)];
                let four = if run < 2 { byte & 15 } else { byte >> 4 };
                let q = i16::from(four | (upper[j] >> (2 * run) & 3) << 4) - 32;
                let scale = f32::from(scales[2 * run + j / 16] as i8);
                out[32 * run + j] = d * scale * f32::from(q);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// Two blocks of every format with values computed by the `gguf` package; see `tests/goldens/gguf_blocks.py`.
    #[derive(Deserialize)]
    struct Golden {
        code: u32,
        blocks: String,
        bits: Vec<u32>,
    }

    #[test]
    fn blocks_unpack_to_the_reference_s_bits() {
        let goldens: Vec<Golden> =
            serde_json::from_str(include_str!("../../../../tests/goldens/gguf_blocks.json")).unwrap();
        assert_eq!(goldens.len(), Format::ALL.len());
        for golden in goldens {
            let format = Format::of(golden.code).unwrap();
            let blocks: Vec<u8> = (0..golden.blocks.len() / 2)
                .map(|i| u8::from_str_radix(&golden.blocks[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            let mut numbers = vec![0.0; blocks.len() / format.block_bytes() * format.block_numbers()];
            format.unpack(&blocks, &mut numbers);
            let bits: Vec<u32> = numbers.iter().map(|number| number.to_bits()).collect();
            assert_eq!(bits, golden.bits, "{}", format.name());
        }
    }

    #[test]
    fn other_formats_are_named() {
        assert_eq!(Format::of(10).unwrap_err(), "Q2_K");
        assert!(Format::of(16).unwrap_err().contains("IQ"));
    }
}

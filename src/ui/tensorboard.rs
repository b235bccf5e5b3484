//! Event files of TensorBoard: scalars by step, and histograms.
//!
//! A file is a row of records (length, masked CRC-32C of the length, bytes, masked CRC-32C of the bytes), each a protocol
//! buffer `tensorflow.Event`. It knows that format, not what is shown.

use std::io::{self, Write};

/// What one event shows.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// A point of a curve.
    Scalar(f64),
    /// The spread of some values.
    Histogram(&'a [f64]),
}

/// Bars of a histogram.
const BARS: usize = 30;

/// Writes events. Their time is all the same: what is kept of training holds no times.
pub struct EventWriter<W: Write> {
    to: W,
    seconds: f64,
}

impl<W: Write> EventWriter<W> {
    /// Begins a file whose events have this time, in seconds since 1970.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn new(to: W, seconds: f64) -> io::Result<Self> {
        let mut writer = Self { to, seconds };
        let mut event = writer.event(0);
        put_bytes(&mut event, 3, b"brain.Event:2");
        writer.record(&event)?;
        Ok(writer)
    }

    /// Adds an event. Values that are no numbers, and histograms of nothing, are left out.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add(&mut self, step: u64, tag: &str, shown: Shown<'_>) -> io::Result<()> {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, tag.as_bytes());
        match shown {
            Shown::Scalar(number) if number.is_finite() => {
                put_key(&mut value, 2, 5);
                value.extend((number as f32).to_le_bytes());
            }
            Shown::Histogram(values) if !values.is_empty() && values.iter().all(|value| value.is_finite()) => {
                put_bytes(&mut value, 5, &histogram(values));
            }
            Shown::Scalar(_) | Shown::Histogram(_) => return Ok(()),
        }
        let mut summary = Vec::new();
        put_bytes(&mut summary, 1, &value);
        let mut event = self.event(step);
        put_bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }

    fn event(&self, step: u64) -> Vec<u8> {
        let mut event = Vec::new();
        put_double(&mut event, 1, self.seconds);
        put_key(&mut event, 2, 0);
        put_varint(&mut event, step);
        event
    }

    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        self.to.write_all(&length)?;
        self.to.write_all(&masked_crc(&length).to_le_bytes())?;
        self.to.write_all(bytes)?;
        self.to.write_all(&masked_crc(bytes).to_le_bytes())
    }
}

/// A `HistogramProto` with bars of equal width.
fn histogram(values: &[f64]) -> Vec<u8> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = ((high - low) / BARS as f64).max(f64::MIN_POSITIVE);
    let mut counts = [0f64; BARS];
    for value in values {
        counts[(((value - low) / width) as usize).min(BARS - 1)] += 1.0;
    }
    let limits: Vec<u8> = (1..=BARS).flat_map(|bar| (low + width * bar as f64).to_le_bytes()).collect();
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let mut histogram = Vec::new();
    let sums = [low, high, values.len() as f64, values.iter().sum(), values.iter().map(|value| value * value).sum()];
    for (field, value) in (1..).zip(sums) {
        put_double(&mut histogram, field, value);
    }
    put_bytes(&mut histogram, 6, &limits);
    put_bytes(&mut histogram, 7, &counts);
    histogram
}

fn put_key(to: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(to, field << 3 | wire_type);
}

fn put_double(to: &mut Vec<u8>, field: u64, value: f64) {
    put_key(to, field, 1);
    to.extend(value.to_le_bytes());
}

fn put_bytes(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(to, field, 2);
    put_varint(to, bytes.len() as u64);
    to.extend(bytes);
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The checksum as records hold it: rotated, and moved by a constant, since checksums of checksums are weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: these files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa, "RFC 3720, B.4");
    }

    /// The records of a file, their checksums held to their bytes.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut records = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc(&file[..8]));
            let record = &file[12..12 + length];
            assert_eq!(crc(12 + length), masked_crc(record));
            records.push(record);
            file = &file[16 + length..];
        }
        records
    }

    #[test]
    fn records_read_back() {
        let mut writer = EventWriter::new(Vec::new(), 1.5).unwrap();
        writer.add(300, "train/loss", Shown::Scalar(2.5)).unwrap();
        writer.add(300, "train/loss", Shown::Scalar(f64::NAN)).unwrap();
        writer.add(1, "probe", Shown::Histogram(&[1.0, 1.0, 4.0])).unwrap();
        let file = writer.finish().unwrap();
        let records = records(&file);
        assert_eq!(records.len(), 3, "what is no number is left out");
        let head = [&[9u8][..], &1.5f64.to_le_bytes()].concat();
        assert_eq!(records[0], [&head, &[16, 0, 26, 13][..], b"brain.Event:2"].concat());
        let value = [&[10u8, 10][..], b"train/loss", &[21], &2.5f32.to_le_bytes()].concat();
        assert_eq!(records[1], [&head, &[16, 0xac, 2, 42, 19, 10, 17][..], &value].concat());
        assert!(records[2].ends_with(&1f64.to_le_bytes()), "the greatest value is in the last bar");
    }
}

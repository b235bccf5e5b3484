//! Writes the weights of a GGUF file as `model.safetensors`, one tensor at a time: memory holds the largest, not the model.
//!
//! GGUF stores the rows of the query and key projections so that the two halves of a rotary pair are neighbours (2i, 2i + 1);
//! the Hugging Face layout has them half a head apart (i, i + D/2). A row is whole blocks, so rows are reordered by choosing which
//! stored row is unpacked into which written one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::{Job, io_failure};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensorError, View};

use super::tensors::{Plan, Weight};
use crate::download::Halt;

/// What was written.
pub struct Written {
    /// Numbers.
    pub parameters: u64,
    /// Bytes of the numbers.
    pub bytes: u64,
}

/// Writes the file.
///
/// # Errors
/// Where it cannot be written, or the worker is asked to stop.
pub fn write(job: &Job, plan: &Plan, path: &Path) -> Result<Written, Halt> {
    let parameters: usize = plan.weights.values().map(|weight| weight.tensor.rows * weight.tensor.columns).sum();
    let total_bytes = (parameters * bytes_per_number(plan.dtype)) as u64;
    let meter = Meter { job, total_bytes, done_bytes: Mutex::new(0) };
    let views = plan.weights.iter().map(|(name, weight)| (name.as_str(), Unpacked::new(weight, plan.dtype, &meter)));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(error) => io_failure("write", path, &error),
        other => Failure::internal(format!("{}: {other}", path.display())),
    })?;
    if job.should_stop() {
        return Err(Halt::Interrupted);
    }
    Ok(Written { parameters: parameters as u64, bytes: total_bytes })
}

/// How far all weights are, for progress.
struct Meter<'a> {
    job: &'a Job,
    total_bytes: u64,
    done_bytes: Mutex<u64>,
}

impl Meter<'_> {
    fn add(&self, bytes: usize, name: &str) {
        let mut done_bytes = self.done_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *done_bytes += bytes as u64;
        self.job.progress(*done_bytes, Some(self.total_bytes), "bytes", Some(name.to_owned()));
    }
}

/// A weight that is unpacked when its bytes are asked for.
struct Unpacked<'a> {
    weight: &'a Weight<'a>,
    dtype: Dtype,
    shape: Vec<usize>,
    meter: &'a Meter<'a>,
}

impl<'a> Unpacked<'a> {
    fn new(weight: &'a Weight<'a>, dtype: Dtype, meter: &'a Meter<'a>) -> Self {
        let tensor = &weight.tensor;
        let shape = if tensor.is_vector { vec![tensor.columns] } else { vec![tensor.rows, tensor.columns] };
        Self { weight, dtype, shape, meter }
    }
}

impl View for Unpacked<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * bytes_per_number(self.dtype)
    }

    /// All rows on all cores. Once the worker is asked to stop the rest is zeros: the file is thrown away.
    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        if !self.meter.job.should_stop() {
            unpack(self.weight, self.dtype, &mut bytes);
            self.meter.add(bytes.len(), self.weight.tensor.name);
        }
        Cow::Owned(bytes)
    }
}

fn bytes_per_number(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

/// Unpacks a weight into the bytes of its written form.
fn unpack(weight: &Weight, dtype: Dtype, bytes: &mut [u8]) {
    let tensor = &weight.tensor;
    // A vector with interleaved heads is a column: its rows are single numbers. Such a vector is never quantised.
    let columns = if tensor.is_vector && weight.interleaved_heads.is_some() { 1 } else { tensor.columns };
    let rows = tensor.rows * tensor.columns / columns;
    let stored_bytes = tensor.data.len() / rows;
    let written_bytes = bytes.len() / rows;
    bytes.par_chunks_exact_mut(written_bytes).enumerate().for_each_init(
        || vec![0.0_f32; columns],
        |numbers, (row, written)| {
            let stored = weight.interleaved_heads.map_or(row, |heads| stored_row(row, rows / heads));
            tensor.format.unpack(&tensor.data[stored * stored_bytes..(stored + 1) * stored_bytes], numbers);
            pack(numbers, dtype, written);
        },
    );
}

/// Which stored row is this row of a head: halves (b·D/2 + i) are stored as neighbours (2i + b).
fn stored_row(row: usize, head_rows: usize) -> usize {
    let (head, inside) = (row / head_rows, row % head_rows);
    let (half, index) = (inside / (head_rows / 2), inside % (head_rows / 2));
    head * head_rows + 2 * index + half
}

fn pack(numbers: &[f32], dtype: Dtype, bytes: &mut [u8]) {
    match dtype {
        Dtype::BF16 => pack_with(numbers, bytes, |number| bf16::from_f32(number).to_le_bytes()),
        Dtype::F16 => pack_with(numbers, bytes, |number| f16::from_f32(number).to_le_bytes()),
        _ => pack_with(numbers, bytes, f32::to_le_bytes),
    }
}

fn pack_with<const N: usize>(numbers: &[f32], bytes: &mut [u8], pack: impl Fn(f32) -> [u8; N]) {
    for (&number, bytes) in numbers.iter().zip(bytes.chunks_exact_mut(N)) {
        bytes.copy_from_slice(&pack(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_halves() {
        let order: Vec<_> = (0..12).map(|row| stored_row(row, 6)).collect();
        assert_eq!(order, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}

//! The header of a safetensors file: which tensors it has, and where they lie. What they hold is read by those who want it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use indexmap::IndexMap;
use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use serde::Deserialize;
use serde_json::Value;

/// Of the length of the header, before it.
const LENGTH_BYTES: u64 = 8;

/// What a header says.
pub struct Header {
    /// Tensors by name, in the order of the header.
    pub tensors: IndexMap<String, TensorHeader>,
    /// Where in the file the offsets of tensors count from.
    pub data_start: u64,
}

/// A tensor as a header lists it.
#[derive(Deserialize)]
pub struct TensorHeader {
    /// Its number format.
    pub dtype: String,
    /// Its sizes.
    pub shape: Vec<u64>,
    /// Where its bytes begin and end, counted from the header's end.
    pub data_offsets: [u64; 2],
}

/// Reads the header of a file.
///
/// # Errors
/// Where the file cannot be read, or is none of this format.
pub fn header(file: &Path) -> Result<Header, Failure> {
    let read = |error: std::io::Error| io_failure("read", file, &error);
    let mut reader = File::open(file).map_err(read)?;
    let size = reader.metadata().map_err(read)?.len();
    let mut length = [0; LENGTH_BYTES as usize];
    reader.read_exact(&mut length).map_err(read)?;
    let length = u64::from_le_bytes(length);
    if length > size.saturating_sub(LENGTH_BYTES) {
        return Err(Failure::data(format!(
            "{}: not a safetensors file: its header is longer than the file",
            file.display()
        )));
    }
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text).map_err(read)?;
    let malformed = |error| Failure::data(format!("{}: {error}", file.display()));
    let listed: IndexMap<String, Value> = serde_json::from_slice(&text).map_err(malformed)?;
    let named = listed.into_iter().filter(|(name, _)| name != "__metadata__");
    let tensors = named.map(|(name, tensor)| Ok((name, serde_json::from_value(tensor).map_err(malformed)?)));
    Ok(Header { tensors: tensors.collect::<Result<_, Failure>>()?, data_start: LENGTH_BYTES + length })
}

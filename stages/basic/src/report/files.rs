//! Reads files of input artifacts; every failure names the stage and the file, never a path of this machine.

use std::fs;
use std::io::ErrorKind;

use neftpipe_protocol::Failure;
use neftpipe_protocol::request::Input;
use neftpipe_protocol::worker::io_failure;
use serde::de::DeserializeOwned;

/// Reads a JSON file that the artifact promises.
///
/// # Errors
/// Where it is absent or of another shape.
pub fn read_json<T: DeserializeOwned>(input: &Input, name: &str) -> Result<T, Failure> {
    read_optional_json(input, name)?.ok_or_else(|| malformed(input, name, "the file is missing"))
}

/// Reads a JSON file that need not be there.
///
/// # Errors
/// Where it is there and of another shape.
pub fn read_optional_json<T: DeserializeOwned>(input: &Input, name: &str) -> Result<Option<T>, Failure> {
    let Some(bytes) = bytes(input, name)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| malformed(input, name, error))
}

/// Reads a file of one JSON object a line; none where it is not there.
///
/// # Errors
/// Where a line is of another shape.
pub fn read_lines<T: DeserializeOwned>(input: &Input, name: &str) -> Result<Vec<T>, Failure> {
    let bytes = bytes(input, name)?.unwrap_or_default();
    let lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(at, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| malformed(input, name, format!("line {}: {error}", at + 1)))
    };
    lines.map(parse).collect()
}

/// A file that is not what its artifact promises.
pub fn malformed(input: &Input, name: &str, what: impl std::fmt::Display) -> Failure {
    Failure::data(format!("{}: {name}: {what}", input.stage))
}

fn bytes(input: &Input, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let path = input.path.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failure("read", &path, &error)),
    }
}

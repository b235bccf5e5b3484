//! Files of one JSON value a line, as artifacts hold their rows.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads all rows.
///
/// # Errors
/// Where the file cannot be read (environment), or a line is not such a row (data); the line is named.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    let file = File::open(path).map_err(|error| io_failure("read", path, &error))?;
    let lines = BufReader::new(file).lines().enumerate();
    lines.map(|(index, line)| parse(path, index + 1, line)).collect()
}

fn parse<T: DeserializeOwned>(path: &Path, number: usize, line: std::io::Result<String>) -> Result<T, Failure> {
    let line = line.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => Failure::data(format!("{}:{number}: not UTF-8 text", path.display())),
        _ => io_failure("read", path, &error),
    })?;
    serde_json::from_str(&line).map_err(|error| Failure::data(format!("{}:{number}: {error}", path.display())))
}

/// Writes these rows.
///
/// # Errors
/// Where the file cannot be written.
pub fn write<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    let failure = |error: std::io::Error| io_failure("write", path, &error);
    let mut file = BufWriter::new(File::create(path).map_err(failure)?);
    for row in rows {
        serde_json::to_writer(&mut file, &row).map_err(|error| failure(error.into()))?;
        file.write_all(b"\n").map_err(failure)?;
    }
    file.flush().map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::FailureClass;

    #[test]
    fn rows_survive_and_broken_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        write(&path, ["a", "é\n"]).unwrap();
        assert_eq!(read::<String>(&path).unwrap(), ["a", "é\n"]);
        std::fs::write(&path, "\"a\"\n7\n").unwrap();
        let failure = read::<String>(&path).unwrap_err();
        assert!(failure.message.contains("rows.jsonl:2: invalid type"), "{failure}");
        std::fs::write(&path, b"\"\xff\"\n").unwrap();
        let failure = read::<String>(&path).unwrap_err();
        assert_eq!(failure.class, FailureClass::Data);
        assert!(failure.message.ends_with(":1: not UTF-8 text"), "{failure}");
    }
}

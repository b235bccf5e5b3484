//! Reads a file of JSON lines that another process is still writing.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use serde::de::DeserializeOwned;

/// A place in such a file. The file may not be there yet.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// Bytes of whole lines that were read.
    offset: u64,
}

impl Tail {
    /// Begins at the beginning.
    pub fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// The whole lines that came since the last call.
    ///
    /// # Errors
    /// Where the file cannot be read, or a line is not such a value.
    pub fn read<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, Failure> {
        let failure = |error: std::io::Error| io_failure("read", &self.path, &error);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failure(error)),
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut bytes)).map_err(failure)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
        let rows = lines.map(|line| {
            serde_json::from_slice(line).map_err(|error| Failure::internal(format!("{}: {error}", self.path.display())))
        });
        let rows = rows.collect::<Result<_, _>>()?;
        self.offset += whole as u64;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn whole_lines_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut tail = Tail::new(path.clone());
        assert!(tail.read::<u32>().unwrap().is_empty());
        fs::write(&path, "1\n2\n3").unwrap();
        assert_eq!(tail.read::<u32>().unwrap(), [1, 2]);
        fs::write(&path, "1\n2\n34\n").unwrap();
        assert_eq!(tail.read::<u32>().unwrap(), [34]);
        assert!(tail.read::<u32>().unwrap().is_empty());
        fs::write(&path, "1\n2\n34\nx\n").unwrap();
        assert!(tail.read::<u32>().is_err());
    }
}

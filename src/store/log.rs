//! A file of records that is only ever appended to, or replaced as a whole: what the store's indexes are kept in.
//!
//! After a header each record has its length and a check. Where a record does not check, it and what follows it are
//! dropped: an index is rebuilt from what it is an index of.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const CHECK_BYTES: usize = 8;
const FRAME_BYTES: usize = 4 + CHECK_BYTES;
/// The file is replaced when it holds twice as many records as are of use, and this many more.
const SLACK_RECORDS: usize = 1024;

/// An index file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    header: &'static [u8; 8],
    records: usize,
    is_damaged: bool,
    new: Vec<u8>,
    new_records: usize,
}

impl Log {
    /// Reads a file and hands on its records. A file that is absent or of another kind is as good as empty.
    pub fn load(path: PathBuf, header: &'static [u8; 8], mut each: impl FnMut(&[u8])) -> Self {
        let bytes = fs::read(&path).unwrap_or_default();
        let mut log = Self { path, header, records: 0, is_damaged: false, new: Vec::new(), new_records: 0 };
        let Some(mut rest) = bytes.strip_prefix(header) else {
            log.is_damaged = true; // there is no file to append to
            return log;
        };
        while !rest.is_empty() {
            let Some((payload, next)) = split_record(rest) else {
                log.is_damaged = true;
                break;
            };
            each(payload);
            log.records += 1;
            rest = next;
        }
        log
    }

    /// Adds a record, in memory until the log is flushed.
    pub fn push(&mut self, payload: &[u8]) {
        write_record(&mut self.new, payload);
        self.new_records += 1;
    }

    /// Writes what is new; or, where most of the file is out of date, the records of use alone, which `all` pushes.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn flush(&mut self, of_use: usize, all: impl FnOnce(&mut dyn FnMut(&[u8]))) -> io::Result<()> {
        if self.new_records == 0 {
            return Ok(());
        }
        if self.is_damaged || self.records + self.new_records > 2 * of_use + SLACK_RECORDS {
            self.replace(all)?;
            self.records = of_use;
        } else {
            File::options().append(true).open(&self.path)?.write_all(&self.new)?;
            self.records += self.new_records;
        }
        self.is_damaged = false;
        self.new_records = 0;
        self.new.clear();
        Ok(())
    }

    fn replace(&self, all: impl FnOnce(&mut dyn FnMut(&[u8]))) -> io::Result<()> {
        let mut bytes = self.header.to_vec();
        all(&mut |payload| write_record(&mut bytes, payload));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix("index-").tempfile_in(folder)?;
        file.write_all(&bytes)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn write_record(bytes: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a record is far below 4 GiB");
    bytes.extend(length.to_le_bytes());
    bytes.extend(check(payload));
    bytes.extend(payload);
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (frame, rest) = bytes.split_at_checked(FRAME_BYTES)?;
    let (length, expected) = frame.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (expected == check(payload)).then_some((payload, rest))
}

fn check(payload: &[u8]) -> [u8; CHECK_BYTES] {
    *blake3::hash(payload).as_bytes().first_chunk().expect("a hash is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8; 8] = b"nf-tests";

    fn read(path: &Path) -> (Log, Vec<Vec<u8>>) {
        let mut records = Vec::new();
        let log = Log::load(path.to_owned(), HEADER, |payload| records.push(payload.to_vec()));
        (log, records)
    }

    fn add(path: &Path, payloads: &[&[u8]]) {
        let (mut log, mut records) = read(path);
        for payload in payloads {
            log.push(payload);
            records.push(payload.to_vec());
        }
        log.flush(records.len(), |push| records.iter().for_each(|record| push(record))).unwrap();
    }

    #[test]
    fn records_come_back_and_what_is_damaged_is_dropped_with_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        add(&path, &[b"one", b""]);
        add(&path, &[b"three", b"four"]);
        let expected: [&[u8]; 4] = [b"one", b"", b"three", b"four"];
        assert_eq!(read(&path).1, expected);
        let mut bytes = fs::read(&path).unwrap();
        let position = bytes.len() - 6;
        bytes[position] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).1, expected[..3]);
        add(&path, &[b"five"]);
        let mended: [&[u8]; 4] = [b"one", b"", b"three", b"five"];
        assert_eq!(read(&path).1, mended);
        fs::write(&path, &fs::read(&path).unwrap()[..9]).unwrap();
        assert!(read(&path).1.is_empty());
    }
}

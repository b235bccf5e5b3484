//! What the digest of a file was when it was last hashed, by the file's identity.
//!
//! The identity is device, inode, size and both times. Writing to a file moves its change time, which no program can
//! set, so equal identities mean equal bytes. The one gap is a write within the tick of the file system's clock in
//! which the file was hashed: files that young are hashed again (see [`Identity::is_settled`]).
//!
//! On disk: a header, then records of 88 bytes, each with its own check. Whatever does not check is dropped, and
//! costs a hash.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use neftpipe_protocol::Digest;

const HEADER: &[u8; 8] = b"nfidents";
const FIELDS: usize = 6;
const RECORD_BYTES: usize = FIELDS * 8 + 32 + 8;
/// Coarse clocks tick every 1 to 10 ms, some network file systems once a second.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the last change lies far enough behind `now` that a further one would show.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now_ns = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as i64;
        now_ns.saturating_sub(self.changed_ns) > SETTLED_AFTER.as_nanos() as i64
    }
}

/// Digests by identity: in memory, with what is new kept apart until it is written.
#[derive(Debug, Default)]
pub struct Identities {
    known: HashMap<(u64, u64), (Identity, Digest)>,
    new: Vec<(Identity, Digest)>,
    records_on_disk: usize,
}

impl Identities {
    /// What the file holds; nothing where it cannot be read.
    pub fn load(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut identities = Self::default();
        let Some(records) = bytes.strip_prefix(HEADER) else { return identities };
        for record in records.chunks_exact(RECORD_BYTES) {
            identities.records_on_disk += 1;
            if let Some((identity, digest)) = decode(record) {
                identities.known.insert((identity.device, identity.inode), (identity, digest));
            }
        }
        identities
    }

    /// The digest of the file with exactly this identity.
    pub fn get(&self, identity: &Identity) -> Option<Digest> {
        let (known, digest) = self.known.get(&(identity.device, identity.inode))?;
        (known == identity).then_some(*digest)
    }

    /// Remembers a digest.
    pub fn insert(&mut self, identity: Identity, digest: Digest) {
        self.known.insert((identity.device, identity.inode), (identity, digest));
        self.new.push((identity, digest));
    }

    /// Writes what is new; all anew when most of the file is out of date.
    pub fn flush(&mut self, path: &Path) -> io::Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        if self.records_on_disk == 0 || self.records_on_disk + self.new.len() > 2 * self.known.len() + 1024 {
            self.rewrite(path)?;
        } else {
            let bytes: Vec<u8> = self.new.iter().flat_map(|(identity, digest)| encode(identity, digest)).collect();
            File::options().append(true).open(path)?.write_all(&bytes)?;
            self.records_on_disk += self.new.len();
        }
        self.new.clear();
        Ok(())
    }

    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix("identities-").tempfile_in(folder)?;
        let mut bytes = HEADER.to_vec();
        for (identity, digest) in self.known.values() {
            bytes.extend(encode(identity, digest));
        }
        file.write_all(&bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        self.records_on_disk = self.known.len();
        Ok(())
    }
}

fn encode(identity: &Identity, digest: &Digest) -> [u8; RECORD_BYTES] {
    let fields = [
        identity.device,
        identity.inode,
        identity.bytes,
        identity.modified_ns as u64,
        identity.changed_ns as u64,
        0, // reserved
    ];
    let mut record = [0; RECORD_BYTES];
    for (slot, field) in record.chunks_exact_mut(8).zip(fields) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    record[FIELDS * 8..FIELDS * 8 + 32].copy_from_slice(digest.as_bytes());
    let check = check(&record);
    record[RECORD_BYTES - 8..].copy_from_slice(&check);
    record
}

fn decode(record: &[u8]) -> Option<(Identity, Digest)> {
    let record: &[u8; RECORD_BYTES] = record.try_into().ok()?;
    if record[RECORD_BYTES - 8..] != check(record) {
        return None;
    }
    let mut fields = record.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut next = || fields.next().expect("a record has eleven fields");
    let identity = Identity {
        device: next(),
        inode: next(),
        bytes: next(),
        modified_ns: next() as i64,
        changed_ns: next() as i64,
    };
    let digest: [u8; 32] = record[FIELDS * 8..FIELDS * 8 + 32].try_into().ok()?;
    Some((identity, Digest::from(blake3::Hash::from_bytes(digest))))
}

fn check(record: &[u8; RECORD_BYTES]) -> [u8; 8] {
    let hash = blake3::hash(&record[..RECORD_BYTES - 8]);
    *hash.as_bytes().first_chunk().expect("a hash is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64) -> Identity {
        Identity { device: 1, inode, bytes: 3, modified_ns: 4, changed_ns: 5 }
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities");
        let mut identities = Identities::load(&path);
        for inode in 0..10 {
            identities.insert(identity(inode), Digest::of(&[inode as u8]));
        }
        identities.flush(&path).unwrap();
        identities.insert(identity(10), Digest::of(&[10]));
        identities.flush(&path).unwrap();

        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 8 + 11 * RECORD_BYTES);
        bytes[8 + RECORD_BYTES + 50] ^= 1;
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, bytes).unwrap();
        let read = Identities::load(&path);
        assert_eq!((0..11).filter(|&inode| read.get(&identity(inode)).is_some()).count(), 9);
        assert!(read.get(&identity(10)).is_none());
    }

    #[test]
    fn another_identity_of_the_same_inode_is_unknown() {
        let mut identities = Identities::default();
        identities.insert(identity(1), Digest::of(b"a"));
        assert!(identities.get(&Identity { changed_ns: 6, ..identity(1) }).is_none());
        assert!(identities.get(&identity(1)).is_some());
    }

    #[test]
    fn what_changed_just_now_or_in_the_future_is_not_settled() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let changed = Identity { changed_ns: 10_000_000_000, ..identity(1) };
        assert!(!changed.is_settled(at(5)) && !changed.is_settled(at(11)) && changed.is_settled(at(13)));
    }
}

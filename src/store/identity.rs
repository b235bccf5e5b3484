//! What the digest of a file was when it was last hashed, by the file's identity.
//!
//! The identity is device, inode, size and both times. Writing to a file moves its change time, which no program can
//! set, so equal identities mean equal bytes. The one gap is a write within the tick of the file system's clock in
//! which the file was hashed: files that young are hashed again (see [`Identity::is_settled`]).

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use neftpipe_protocol::Digest;
use rustix::fs::{FileType, Stat};

use super::log::Log;

const HEADER: &[u8; 8] = b"nf-ident";
const IDENTITY_BYTES: usize = 5 * 8;
const RECORD_BYTES: usize = IDENTITY_BYTES + 32;
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

/// What one look at a name of the store finds.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Which state of which file.
    pub identity: Identity,
    /// Whether it is a plain file.
    pub is_file: bool,
}

impl Look {
    pub fn of(stat: &Stat) -> Self {
        let identity = Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: stat.st_size as u64,
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
        };
        Self { identity, is_file: FileType::from_raw_mode(stat.st_mode).is_file() }
    }
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the file was last written to, or marked.
    pub fn modified(&self) -> SystemTime {
        let distance = Duration::from_nanos(self.modified_ns.unsigned_abs());
        if self.modified_ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is one file, changed or not.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.bytes) == (other.device, other.inode, other.bytes)
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fields = [self.device, self.inode, self.bytes, self.modified_ns as u64, self.changed_ns as u64];
        fields.iter().for_each(|field| out.extend(field.to_le_bytes()));
    }

    /// Reads it back, with what follows it.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (own, rest) = bytes.split_at_checked(IDENTITY_BYTES)?;
        let (fields, _) = own.as_chunks::<8>();
        let [device, inode, bytes, modified_ns, changed_ns] = *fields else { return None };
        let identity = Self {
            device: u64::from_le_bytes(device),
            inode: u64::from_le_bytes(inode),
            bytes: u64::from_le_bytes(bytes),
            modified_ns: i64::from_le_bytes(modified_ns),
            changed_ns: i64::from_le_bytes(changed_ns),
        };
        Some((identity, rest))
    }

    /// Whether the last change lies far enough behind `now` that a further one would show.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now_ns = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as i64;
        now_ns.saturating_sub(self.changed_ns) > SETTLED_AFTER.as_nanos() as i64
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Digests by identity.
#[derive(Debug)]
pub struct Identities {
    known: HashMap<(u64, u64), (Identity, Digest)>,
    log: Log,
}

impl Identities {
    /// What the file holds; nothing where it cannot be read.
    pub fn load(path: &Path) -> Self {
        let mut known = HashMap::new();
        let log = Log::load(path.to_owned(), HEADER, |record| {
            if let Some((identity, digest)) = decode(record) {
                known.insert((identity.device, identity.inode), (identity, digest));
            }
        });
        Self { known, log }
    }

    /// The digest of the file with exactly this identity.
    pub fn get(&self, identity: &Identity) -> Option<Digest> {
        let (known, digest) = self.known.get(&(identity.device, identity.inode))?;
        (known == identity).then_some(*digest)
    }

    /// Remembers a digest.
    pub fn insert(&mut self, identity: Identity, digest: Digest) {
        self.known.insert((identity.device, identity.inode), (identity, digest));
        self.log.push(&encode(&identity, &digest));
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        let known = &self.known;
        self.log
            .flush(known.len(), |push| known.values().for_each(|(identity, digest)| push(&encode(identity, digest))))
    }
}

fn encode(identity: &Identity, digest: &Digest) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_BYTES);
    identity.encode(&mut record);
    record.extend(digest.as_bytes());
    record
}

fn decode(record: &[u8]) -> Option<(Identity, Digest)> {
    let (identity, digest) = Identity::decode(record)?;
    Some((identity, blake3::Hash::from_bytes(digest.try_into().ok()?).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64) -> Identity {
        Identity { device: 1, inode, bytes: 3, modified_ns: 4, changed_ns: 5 }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities");
        let mut identities = Identities::load(&path);
        for inode in 0..10 {
            identities.insert(identity(inode), Digest::of(&[inode as u8]));
        }
        identities.flush().unwrap();
        identities.insert(identity(10), Digest::of(&[10]));
        identities.flush().unwrap();
        let read = Identities::load(&path);
        assert!((0..11).all(|inode| read.get(&identity(inode)) == Some(Digest::of(&[inode as u8]))));
    }

    #[test]
    fn another_identity_of_the_same_inode_is_unknown() {
        let mut identities = Identities::load(Path::new("/nowhere"));
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

//! Results go from one store to another: blobs first, the record last, as when they are published.

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
use super::{ArtifactFile, Lookup, Store};

/// What came of taking a result from another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was here already.
    Known,
    /// The other store has not the whole of it.
    Lacking,
    /// It is here now.
    Copied {
        /// Bytes of the files that were not here.
        bytes: u64,
    },
}

impl Store {
    /// Takes the result of a key from another store. Every file is checked against its digest on both sides.
    ///
    /// # Errors
    /// Where one store cannot be read or the other written. Then nothing is visible here.
    pub fn take_from(&self, other: &Self, key: &Digest) -> Result<Taken> {
        if let Lookup::Hit(_) = self.lookup(key)? {
            return Ok(Taken::Known);
        }
        let (Lookup::Hit(_), Some(mut entry)) = (other.lookup(key)?, other.entry(key)?) else {
            return Ok(Taken::Lacking);
        };
        entry.provenance.shift_remove("logs"); // what was printed stays where it was
        let _publishing = self.publishing()?;
        let mut bytes = 0;
        for file in entry.outputs.values().flat_map(|artifact| &artifact.files) {
            if !self.has_blob(file)? {
                self.copy_blob(other, file)?;
                bytes += file.bytes;
            }
        }
        self.publish(&entry)?;
        self.remember_history(&entry)?;
        Ok(Taken::Copied { bytes })
    }

    fn copy_blob(&self, other: &Self, file: &ArtifactFile) -> Result<()> {
        let source = other.blob_path(&file.digest);
        let (digest, _) = self.adopt(&self.temporary_copy(&source)?)?;
        if digest != file.digest {
            return Err(StoreError::Changed { path: source });
        }
        Ok(())
    }
}

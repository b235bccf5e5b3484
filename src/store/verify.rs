//! Looking at every byte of the store.

use std::collections::HashMap;
use std::path::Path;

use neftpipe_protocol::Digest;
use rayon::prelude::*;

use super::blobs::hash_file;
use super::error::Result;
use super::{Damage, Store, layout};

/// What a look at everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Results whose record was read.
    pub entries: usize,
    /// Files that were hashed.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not what their name says.
    pub damaged: Vec<Damage>,
    /// Results that lack files, damaged ones among them: their key, what made them, and how many files they lack.
    pub incomplete: Vec<(Digest, String, usize)>,
}

impl Store {
    /// Hashes every blob, page and training state anew and reads every record; rows are checked one by one when they are
    /// used. With `repair` what is damaged is set aside, so that the next run makes it again; a run would do so by itself
    /// when it comes across it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn verify(&self, repair: bool) -> Result<Verified> {
        let mut verified = Verified::default();
        let blobs = self.verify_blobs(&mut verified)?;
        for path in self.fanned_files(layout::ENTRIES)? {
            let key = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Digest>().ok());
            let Some((key, entry)) = key.and_then(|key| Some((key, self.read_entry(&path, &key).ok()??))) else {
                let problem = "not a whole record of its key".to_owned();
                verified.damaged.push(Damage { path, problem });
                continue;
            };
            verified.entries += 1;
            let pages = entry.outputs.values().flat_map(|artifact| self.damaged_pages(artifact));
            verified
                .damaged
                .extend(pages.map(|path| Damage { path, problem: "not what the report's page was".to_owned() }));
            let files = entry.outputs.values().flat_map(|artifact| &artifact.files);
            let lacking = files.filter(|file| blobs.get(&file.digest) != Some(&file.bytes)).count();
            if lacking > 0 {
                verified.incomplete.push((key, entry.stage, lacking));
            }
        }
        let states = self.damaged_states()?.into_iter();
        verified.damaged.extend(states.map(|path| Damage { path, problem: "not what its manifest says".to_owned() }));
        if repair {
            verified.damaged.iter().for_each(|damage| self.set_aside(&damage.path, damage.problem.clone()));
        }
        Ok(verified)
    }

    /// The sizes of the blobs that are what their name says.
    fn verify_blobs(&self, verified: &mut Verified) -> Result<HashMap<Digest, u64>> {
        let looked_at: Vec<_> =
            self.fanned_files(layout::BLOBS)?.into_par_iter().map(|path| (look_at(&path), path)).collect();
        let mut whole = HashMap::with_capacity(looked_at.len());
        for (found, path) in looked_at {
            verified.blobs += 1;
            match found {
                Ok((digest, bytes)) => {
                    verified.bytes += bytes;
                    whole.insert(digest, bytes);
                }
                Err(problem) => verified.damaged.push(Damage { path, problem }),
            }
        }
        Ok(whole)
    }
}

/// Digest and size of a blob, or what is wrong with it.
fn look_at(path: &Path) -> std::result::Result<(Digest, u64), String> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Digest>().ok());
    let name = name.ok_or("its name is no digest")?;
    let digest = hash_file(path).map_err(|error| error.to_string())?;
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if digest == name { Ok((digest, bytes)) } else { Err(format!("its content has the digest {digest}")) }
}

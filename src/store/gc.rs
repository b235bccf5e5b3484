//! Collecting garbage: what no kept result needs is removed.
//!
//! Reachability decides: entries that the policy names, or that were made or found a short while ago, stay with their
//! blobs. Publishing and collecting exclude one another (see [`Store::publishing`]), so a blob that is taken into the
//! store, or found there, cannot go before the entry that needs it is there.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use neftpipe_protocol::Digest;

use super::error::{Result, StoreError};
use super::files::{bytes_of, remove_file, remove_tree};
use super::{Entry, Store, layout};

/// What stays.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Keys of results that stay, unless `max_bytes` asks for more room.
    pub keep: HashSet<Digest>,
    /// Keys of results that stay in any case.
    pub pinned: HashSet<Digest>,
    /// Results that were made or found within this time stay in any case.
    pub grace: Duration,
    /// Unfinished work (rows, training states) that was not touched for this long goes.
    pub unfinished_grace: Duration,
    /// Results that stay may hold so much in all; those that are cheapest to make again for their size go first.
    pub max_bytes: Option<u64>,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for Policy {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            keep: HashSet::new(),
            pinned: HashSet::new(),
            grace: HOUR,
            unfinished_grace: HOUR * 24 * 14,
            max_bytes: None,
            dry_run: false,
        }
    }
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Results, by key and the name of what made them.
    pub entries: Vec<(Digest, String)>,
    /// Files of results.
    pub blobs: usize,
    /// Rows and states of unfinished work.
    pub unfinished: usize,
    /// Bytes of it all.
    pub bytes: u64,
    /// Bytes of results that stay.
    pub kept_bytes: u64,
}

/// Entries that stay, and how many of them need each blob.
struct Live {
    entries: Vec<(Entry, bool)>,
    blobs: HashMap<Digest, (u64, usize)>,
    bytes: u64,
}

impl Store {
    /// Removes what the policy does not keep.
    ///
    /// # Errors
    /// Where the store cannot be read or written. What was removed until then was garbage, and the rest is whole.
    pub fn collect(&self, policy: &Policy) -> Result<Collected> {
        let _alone = self.collecting()?;
        let mut collected = Collected::default();
        let live = self.live_entries(policy, &mut collected)?;
        collected.kept_bytes = live.bytes;
        self.collect_blobs(&live, policy, &mut collected)?;
        self.collect_views(&live, policy)?;
        self.collect_unfinished(policy, &mut collected)?;
        if !policy.dry_run {
            self.prune_history(&live)?;
        }
        Ok(collected)
    }

    /// Drops entries that are not kept, and says which stay.
    fn live_entries(&self, policy: &Policy, collected: &mut Collected) -> Result<Live> {
        let mut live = Live { entries: Vec::new(), blobs: HashMap::new(), bytes: 0 };
        for key in self.keys()? {
            let is_safe = policy.pinned.contains(&key) || is_younger(&self.entry_path(&key), policy.grace)?;
            let Some(entry) = self.entry(&key)? else { continue };
            if is_safe || policy.keep.contains(&key) {
                live.add(entry, is_safe);
            } else {
                self.drop_entry(&entry, policy, collected)?;
            }
        }
        if let Some(max_bytes) = policy.max_bytes {
            for entry in live.shrink_to(max_bytes) {
                self.drop_entry(&entry, policy, collected)?;
            }
        }
        Ok(live)
    }

    fn drop_entry(&self, entry: &Entry, policy: &Policy, collected: &mut Collected) -> Result<()> {
        collected.entries.push((entry.key, entry.stage.clone()));
        if policy.dry_run { Ok(()) } else { remove_file(&self.entry_path(&entry.key)) }
    }

    fn collect_blobs(&self, live: &Live, policy: &Policy, collected: &mut Collected) -> Result<()> {
        for path in self.fanned_files(layout::BLOBS)? {
            if digest_in(&path).is_some_and(|digest| live.blobs.contains_key(&digest)) {
                continue;
            }
            collected.blobs += 1;
            collected.bytes += bytes_of(&path);
            if !policy.dry_run {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn collect_views(&self, live: &Live, policy: &Policy) -> Result<()> {
        let artifacts: HashSet<Digest> =
            live.entries.iter().flat_map(|(entry, _)| entry.outputs.values()).map(|artifact| artifact.digest).collect();
        for view in self.fanned_folders(layout::VIEWS)? {
            if !policy.dry_run && digest_in(&view).is_none_or(|digest| !artifacts.contains(&digest)) {
                remove_tree(&view)?;
            }
        }
        Ok(())
    }

    /// Rows and states that nobody has touched for long, and what was set aside or left by processes that died.
    fn collect_unfinished(&self, policy: &Policy, collected: &mut Collected) -> Result<()> {
        let aged = [
            (self.fanned_files(layout::ROWS)?, policy.unfinished_grace),
            (self.fanned_folders(layout::STATES)?, policy.unfinished_grace),
            (self.fanned_folders(layout::PARTIAL)?, policy.unfinished_grace),
            (children(&self.path(layout::CORRUPT))?, policy.grace),
            (children(&self.path(layout::TMP))?, policy.grace),
        ];
        for (paths, grace) in aged {
            for path in paths {
                if is_younger(&path, grace)? {
                    continue;
                }
                collected.unfinished += 1;
                collected.bytes += bytes_of(&path);
                if !policy.dry_run {
                    if path.is_dir() { self.discard(&path)? } else { remove_file(&path)? }
                }
            }
        }
        Ok(())
    }

    fn prune_history(&self, live: &Live) -> Result<()> {
        let live: HashSet<Digest> = live.entries.iter().map(|(entry, _)| entry.key).collect();
        children(&self.path(layout::HISTORY))?.iter().try_for_each(|path| self.retain_history(path, &live))
    }
}

impl Live {
    fn add(&mut self, entry: Entry, is_safe: bool) {
        for file in entry.outputs.values().flat_map(|artifact| &artifact.files) {
            let (_, uses) = self.blobs.entry(file.digest).or_insert_with(|| {
                self.bytes += file.bytes;
                (file.bytes, 0)
            });
            *uses += 1;
        }
        self.entries.push((entry, is_safe));
    }

    /// Lets entries go, those first that took the least time for their size, until the rest holds no more than this.
    fn shrink_to(&mut self, max_bytes: u64) -> Vec<Entry> {
        self.entries
            .sort_by(|(a, _), (b, _)| seconds_per_byte(b).total_cmp(&seconds_per_byte(a)).then(b.key.cmp(&a.key)));
        let (mut dropped, mut kept) = (Vec::new(), Vec::new());
        while let Some((entry, is_safe)) = self.entries.pop() {
            if is_safe || self.bytes <= max_bytes {
                kept.push((entry, is_safe));
            } else {
                self.release(&entry);
                dropped.push(entry);
            }
        }
        self.entries = kept;
        dropped
    }

    fn release(&mut self, entry: &Entry) {
        for file in entry.outputs.values().flat_map(|artifact| &artifact.files) {
            let Some((bytes, uses)) = self.blobs.get_mut(&file.digest) else { continue };
            *uses -= 1;
            if *uses == 0 {
                self.bytes -= *bytes;
                self.blobs.remove(&file.digest);
            }
        }
    }
}

fn seconds_per_byte(entry: &Entry) -> f64 {
    let bytes: u64 = entry.outputs.values().map(super::Artifact::bytes).sum();
    entry.measured.get("seconds").and_then(serde_json::Value::as_f64).unwrap_or(0.0) / bytes.max(1) as f64
}

/// Whether a file or folder was changed within this time, or is said to be from the future.
fn is_younger(path: &Path, age: Duration) -> Result<bool> {
    match fs::symlink_metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(modified) => Ok(SystemTime::now().duration_since(modified).map_or(true, |passed| passed < age)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}

fn digest_in(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.parse().ok()
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read", folder)(error)),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(std::result::Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

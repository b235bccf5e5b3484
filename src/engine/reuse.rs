//! Work below the stage that outlives its attempt: rows that were generated or judged, states of training.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use neftpipe_protocol::event::{Event, EventBody, Saved};
use neftpipe_protocol::request::{CHECKPOINTS_DIR, EVENTS_FILE, ROWS_FILE};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure};
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::{Run, passing};
use crate::plan::Preimage;
use crate::store::{Holder, Lock, Store, Waiting};

/// What a later run must know to save what a run that was killed had not saved yet, in the attempt directory.
const SALVAGE_FILE: &str = "salvage.json";

/// What one stage can reuse, and what it leaves for others.
pub struct Reuse<'a> {
    store: &'a Store,
    rows: Option<Digest>,
    rows_read: u64,
    chain: Option<Arc<Chain>>,
    /// Keys of states that other arms will go on from.
    shared: HashSet<Digest>,
    /// Steps of this arm whose states are kept, the deepest last.
    kept: Vec<u64>,
    run: &'a str,
    /// Who computes the steps from the deepest state on, so that no other arm that has them in common does too.
    segment: Option<(Holder, Lock)>,
}

#[derive(Serialize, Deserialize)]
struct Salvage {
    rows: Option<Digest>,
    states: Vec<Digest>,
}

impl<'a> Reuse<'a> {
    /// For a stage with these ingredients; `chain` for one that trains.
    pub fn new(run: &Run<'a>, preimage: Option<&Preimage>, chain: Option<Arc<Chain>>, shared: HashSet<Digest>) -> Self {
        let (store, rows) = (run.store, preimage.and_then(Preimage::row_scope));
        Self { store, rows, rows_read: 0, chain, shared, kept: Vec::new(), run: run.id, segment: None }
    }

    /// The first state that this arm has yet to compute. None where it does not train, or all are there.
    pub fn next_state(&self) -> Option<Digest> {
        let chain = self.chain.as_ref()?;
        let deepest = chain.deepest_first().find(|(_, key)| self.store.has_state(key));
        chain.key_after(deepest.map_or(0, |(step, _)| step) + 1)
    }

    /// Takes the lock of [`Self::next_state`]. It goes on from segment to segment with the states that are kept.
    pub fn compute(&mut self, holder: Holder, lock: Lock) {
        self.segment = Some((holder, lock));
    }

    /// Steps after which the worker is to save.
    pub fn steps_to_save(&self) -> Vec<u64> {
        self.chain.as_ref().map_or_else(Vec::new, |chain| chain.steps().to_vec())
    }

    /// Prepares a fresh attempt directory: what is known is laid out in `known`. Says whether there is anything.
    ///
    /// # Errors
    /// Where it cannot be laid out.
    pub fn begin_attempt(&mut self, attempt: &Path, known: &Path) -> Result<bool, Failure> {
        self.rows_read = 0;
        if self.rows.is_none() && self.chain.is_none() {
            return Ok(false);
        }
        fs::create_dir_all(known).map_err(|error| io_failure("create", known, &error))?;
        let states = self.chain.as_ref().map_or_else(Vec::new, |chain| chain.keys().to_vec());
        let path = attempt.join(SALVAGE_FILE);
        let text = serde_json::to_vec(&Salvage { rows: self.rows, states }).expect("digests serialise");
        fs::write(&path, text).map_err(|error| io_failure("write", &path, &error))?;
        let rows = match &self.rows {
            Some(scope) => self.store.copy_rows(scope, &known.join(ROWS_FILE))?,
            None => false,
        };
        Ok(self.lay_out_deepest(known)? || rows)
    }

    fn lay_out_deepest(&mut self, known: &Path) -> Result<bool, Failure> {
        let Some(chain) = self.chain.clone() else { return Ok(false) };
        for (step, key) in chain.deepest_first().filter(|(_, key)| self.store.has_state(key)) {
            if self.store.lay_out_state(key, &known.join(CHECKPOINTS_DIR).join(step.to_string()))? {
                self.kept.push(step);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps what a worker says that it saved.
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub fn keep(&mut self, attempt: &Path, saved: &Saved) -> Result<(), Failure> {
        match saved {
            Saved::Rows { .. } => self.keep_rows(attempt),
            Saved::Checkpoint { step } => self.keep_state(attempt, *step),
        }
    }

    /// Keeps the whole lines of an attempt's rows that are new.
    ///
    /// # Errors
    /// Where they cannot be read or kept.
    pub fn keep_rows(&mut self, attempt: &Path) -> Result<(), Failure> {
        let Some(scope) = &self.rows else { return Ok(()) };
        let lines = whole_lines(&attempt.join(ROWS_FILE), self.rows_read)?;
        if !lines.is_empty() {
            self.store.append_rows(scope, &lines)?;
            self.rows_read += lines.len() as u64;
        }
        Ok(())
    }

    /// Keeps the state after a step; the one before it is dropped where nobody else will go on from it.
    fn keep_state(&mut self, attempt: &Path, step: u64) -> Result<(), Failure> {
        let Some(chain) = self.chain.clone() else { return Ok(()) };
        let Some(key) = chain.key_after(step) else { return Ok(()) };
        self.store.keep_state(&key, &attempt.join(CHECKPOINTS_DIR).join(step.to_string()))?;
        self.go_on_after(&chain, step)?;
        let elsewhere = passing::of_others(self.store, self.run)?;
        let extension = chain.extension();
        let is_needed =
            |key: &Digest| self.shared.contains(key) || elsewhere.contains(key) || extension.as_ref() == Some(key);
        for earlier in self.kept.drain(..).filter(|&earlier| earlier != step) {
            if let Some(key) = chain.key_after(earlier).filter(|key| !is_needed(key)) {
                self.store.drop_state(&key)?;
            }
        }
        self.kept.push(step);
        Ok(())
    }

    /// Lets go of the segment that is computed, once it has the next: who waited goes on from its state.
    fn go_on_after(&mut self, chain: &Chain, step: u64) -> Result<(), Failure> {
        let Some((holder, _lock)) = self.segment.take() else { return Ok(()) };
        if let Some(next) = chain.key_after(step + 1)
            && let Waiting::Held(lock) = self.store.try_lock(&next, &holder)?
        {
            self.segment = Some((holder, lock));
        }
        Ok(())
    }
}

/// Keeps what the worker of a run that was killed had saved and the run had not taken any more.
///
/// # Errors
/// Where it cannot be read or kept.
pub fn salvage(store: &Store, attempt: &Path) -> Result<(), Failure> {
    let Some(Salvage { rows, states }) =
        fs::read(attempt.join(SALVAGE_FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    else {
        return Ok(());
    };
    if let Some(scope) = rows {
        let known = store.rows(&scope)?;
        let known: HashSet<&[u8]> = known.split_inclusive(|&byte| byte == b'\n').collect();
        let lines = whole_lines(&attempt.join(ROWS_FILE), 0)?;
        let new = lines.split_inclusive(|&byte| byte == b'\n').filter(|line| !known.contains(line));
        let new: Vec<u8> = new.flatten().copied().collect();
        if !new.is_empty() {
            store.append_rows(&scope, &new)?;
        }
    }
    for step in saved_steps(attempt) {
        let folder = attempt.join(CHECKPOINTS_DIR).join(step.to_string());
        let key = step.checked_sub(1).and_then(|at| states.get(at as usize));
        if let (Some(key), true) = (key, folder.is_dir()) {
            store.keep_state(key, &folder)?;
        }
    }
    Ok(())
}

fn saved_steps(attempt: &Path) -> Vec<u64> {
    let log = fs::read_to_string(attempt.join(EVENTS_FILE)).unwrap_or_default();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let steps = events.filter_map(|event| match event.body {
        EventBody::Saved { what: Saved::Checkpoint { step } } => Some(step),
        _ => None,
    });
    steps.collect()
}

/// The whole lines of a file from an offset on; none where there is no file.
fn whole_lines(path: &Path, offset: u64) -> Result<Vec<u8>, Failure> {
    let failure = |error: std::io::Error| io_failure("read", path, &error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failure(error)),
    };
    file.seek(SeekFrom::Start(offset)).map_err(failure)?;
    let mut lines = Vec::new();
    file.read_to_end(&mut lines).map_err(failure)?;
    lines.truncate(lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
    Ok(lines)
}

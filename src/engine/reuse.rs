//! Work below the stage that outlives its attempt: rows that were generated or judged, checkpoints of training.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use indexmap::IndexMap;
use neftpipe_protocol::artifact::TokensInfo;
use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::request::{CHECKPOINTS_DIR, ROWS_FILE};
use neftpipe_protocol::training::{Statics, checkpoint_steps, step_keys};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{ArtifactType, Digest, Failure, Kind};
use serde_json::json;

use crate::plan::Preimage;
use crate::spec::model::Instance;
use crate::store::{Artifact, Entry, Lookup, Materialize, Store};

/// The slots that hold rows, by kind: with these left out, the ingredients of a key say which rows may be shared.
const ROW_SLOTS: [(Kind, &[&str]); 2] = [(Kind::Generate, &["prompts"]), (Kind::Judge, &["answers", "reference"])];

/// What one stage can reuse, and what it will leave for others.
pub struct Reuse<'a> {
    store: &'a Store,
    stage: String,
    rows: Option<Digest>,
    chain: Chain,
    rows_read: u64,
}

/// Checkpoints of a training run: the steps after which they are taken, and the key of each.
#[derive(Default)]
struct Chain {
    steps: Vec<u64>,
    keys: Vec<Digest>,
    extensible: bool,
}

impl<'a> Reuse<'a> {
    /// What a stage with these ingredients and inputs can reuse.
    ///
    /// # Errors
    /// Where the tokens to be trained on cannot be read.
    pub fn new(
        store: &'a Store,
        instance: &Instance,
        preimage: Option<&Preimage>,
        inputs: &IndexMap<String, Vec<Artifact>>,
    ) -> Result<Self, Failure> {
        let chain = match instance.kind {
            Kind::Train => chain(store, instance, inputs)?,
            _ => Chain::default(),
        };
        Ok(Self { store, stage: instance.id.clone(), rows: preimage.and_then(row_scope), chain, rows_read: 0 })
    }

    /// Steps after which the worker is to save.
    pub fn checkpoints(&self) -> &[u64] {
        &self.chain.steps
    }

    /// Lays out what is known for a worker. Says whether there is anything.
    ///
    /// # Errors
    /// Where it cannot be laid out.
    pub fn lay_out(&self, known: &Path) -> Result<bool, Failure> {
        fs::create_dir_all(known).map_err(|error| io_failure("create", known, &error))?;
        let mut any = false;
        if let Some(scope) = &self.rows {
            any |= self.store.copy_rows(scope, &known.join(ROWS_FILE))?;
        }
        for (step, key) in self.chain.steps.iter().zip(&self.chain.keys).rev() {
            if let Lookup::Hit(entry) = self.store.lookup(key)?
                && let Some(checkpoint) = entry.outputs.values().next()
            {
                let target = known.join(CHECKPOINTS_DIR).join(step.to_string());
                self.store.materialize(checkpoint, &target, Materialize::Copy)?;
                return Ok(true);
            }
        }
        Ok(any)
    }

    /// Keeps the whole lines of an attempt's rows that are new.
    ///
    /// # Errors
    /// Where they cannot be read or kept.
    pub fn keep_rows(&mut self, attempt: &Path) -> Result<(), Failure> {
        let Some(scope) = &self.rows else { return Ok(()) };
        let path = attempt.join(ROWS_FILE);
        let read = |error: std::io::Error| io_failure("read", &path, &error);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(read(error)),
        };
        file.seek(SeekFrom::Start(self.rows_read)).map_err(read)?;
        let mut lines = Vec::new();
        file.read_to_end(&mut lines).map_err(read)?;
        lines.truncate(lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
        if !lines.is_empty() {
            self.store.append_rows(scope, &lines)?;
            self.rows_read += lines.len() as u64;
        }
        Ok(())
    }

    /// A new attempt begins with an empty file of rows.
    pub fn begin_attempt(&mut self) {
        self.rows_read = 0;
    }

    /// Keeps the checkpoint that an attempt took after a step.
    ///
    /// # Errors
    /// Where it cannot be kept.
    pub fn keep_checkpoint(&self, attempt: &Path, step: u64) -> Result<(), Failure> {
        let Some(at) = self.chain.steps.iter().position(|&known| known == step) else { return Ok(()) };
        let folder = attempt.join(CHECKPOINTS_DIR).join(step.to_string());
        let artifact = self.store.ingest(&folder, ArtifactType::Files)?;
        let outputs = IndexMap::from([("checkpoint".to_owned(), artifact)]);
        let stage = format!("checkpoint {step} of {}", self.stage);
        Ok(self.store.publish(&Entry::new(self.chain.keys[at], json!({ "step": step }), stage, outputs))?)
    }

    /// Forgets the checkpoints of a finished training run that nobody can use: those that no other arm shares, and the
    /// last one unless training could be extended from it.
    ///
    /// # Errors
    /// Where the store cannot be changed.
    pub fn drop_checkpoints(&self, shared: &dyn Fn(&Digest) -> bool) -> Result<(), Failure> {
        for (at, key) in self.chain.keys.iter().enumerate() {
            let last = at + 1 == self.chain.keys.len();
            if !shared(key) && !(last && self.chain.extensible) {
                self.store.forget(key)?;
            }
        }
        Ok(())
    }
}

/// Keys of the checkpoints that a training stage will pass.
///
/// # Errors
/// Where the tokens cannot be read.
pub fn checkpoint_keys(
    store: &Store,
    instance: &Instance,
    inputs: &IndexMap<String, Vec<Artifact>>,
) -> Result<Vec<Digest>, Failure> {
    Ok(chain(store, instance, inputs)?.keys)
}

fn chain(store: &Store, instance: &Instance, inputs: &IndexMap<String, Vec<Artifact>>) -> Result<Chain, Failure> {
    let params: TrainParams = serde_json::from_value(instance.params.clone())
        .map_err(|error| Failure::internal(format!("{}: parameters: {error}", instance.id)))?;
    let input = |slot: &str| inputs.get(slot).and_then(|list| list.first());
    let (Some(model), Some(tokens)) = (input("model"), input("tokens")) else { return Ok(Chain::default()) };
    let rows = tokens_info(store, tokens)?.train.rows;
    if rows == 0 {
        return Ok(Chain::default()); // the worker says so
    }
    let adapter = input("adapter").map(|artifact| artifact.digest);
    let every = step_keys(Statics { params: &params, model: model.digest, tokens: tokens.digest, adapter, rows });
    let steps = checkpoint_steps(&params, rows);
    let keys = steps.iter().map(|&step| every[step as usize - 1]).collect();
    Ok(Chain { steps, keys, extensible: params.schedule.can_be_extended() })
}

fn tokens_info(store: &Store, tokens: &Artifact) -> Result<TokensInfo, Failure> {
    let file = tokens.file("tokens.json").ok_or_else(|| Failure::data("the tokens hold no tokens.json"))?;
    let path = store.blob_path(&file.digest);
    let bytes = fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::data(format!("tokens.json: {error}")))
}

fn row_scope(preimage: &Preimage) -> Option<Digest> {
    let (_, slots) = ROW_SLOTS.iter().find(|(kind, _)| *kind == preimage.kind)?;
    let mut scope = preimage.clone();
    scope.inputs.retain(|slot, _| !slots.contains(&slot.as_str()));
    Some(scope.key())
}

//! What training will take of memory, told from its model and tokens before it begins.

use std::fs;

use neftpipe_protocol::artifact::TokensInfo;
use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::training::{ModelShape, RowLengths};

use crate::store::{Artifact, Store};

/// Bytes that training takes at its peak, about. None where the model or the tokens do not tell, which their worker will say.
pub fn training_bytes(store: &Store, params: &TrainParams, model: &Artifact, tokens: &Artifact) -> Option<u64> {
    let read = |artifact: &Artifact, name: &str| fs::read(store.blob_path(&artifact.file(name)?.digest)).ok();
    let shape: ModelShape = serde_json::from_slice(&read(model, "config.json")?).ok()?;
    let info: TokensInfo = serde_json::from_slice(&read(tokens, "tokens.json")?).ok()?;
    let longest = info.train.longest_tokens.min(info.max_length_tokens);
    let mean = info.train.tokens as f64 / info.train.rows.max(1) as f64;
    Some(shape.training_bytes(params, RowLengths { longest, mean }))
}

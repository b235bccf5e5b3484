//! Which states of training the arms of other runs pass, so that no run drops what another will go on from.
//!
//! Each run keeps a list of those that its own open arms pass among its attempts. It counts while the run lives, and goes
//! with the attempts.

use std::collections::HashSet;
use std::fs;

use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure};

use super::attempt;
use crate::store::Store;

const FILE: &str = "passing.json";

/// Writes down what a run's open arms pass.
///
/// # Errors
/// Where it cannot be written.
pub fn write<'a>(store: &Store, run: &str, states: impl Iterator<Item = &'a Digest>) -> Result<(), Failure> {
    let folder = attempt::folder(store, run);
    let (path, new) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
    let text = serde_json::to_vec(&states.collect::<Vec<_>>()).expect("digests serialise");
    let written =
        fs::create_dir_all(&folder).and_then(|()| fs::write(&new, text)).and_then(|()| fs::rename(&new, &path));
    written.map_err(|error| io_failure("write", &path, &error))
}

/// What the open arms of all other runs pass that are at work on this store.
///
/// # Errors
/// Where it cannot be found out which these are.
pub fn of_others(store: &Store, run: &str) -> Result<HashSet<Digest>, Failure> {
    let mut states = HashSet::new();
    for other in attempt::runs(store)?.iter().filter(|other| *other != run) {
        let list = fs::read(attempt::folder(store, other).join(FILE)).ok();
        let list = list.and_then(|text| serde_json::from_slice::<Vec<Digest>>(&text).ok());
        if let Some(list) = list
            && attempt::goes_on(store, other)?
        {
            states.extend(list);
        }
    }
    Ok(states)
}

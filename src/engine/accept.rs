//! Taking results of an older implementation of a kind as they are: they are entered once more, under the key of now, and
//! say by which version they were made.

use std::sync::Arc;

use neftpipe_protocol::Failure;

use crate::plan::{self, Facts, Preimage};
use crate::store::{Entry, Lookup, Manifest, Store};

/// In the provenance of a result that was taken over: the version that made it.
const ACCEPTED: &str = "accepted_version";

/// The version of its kind's implementation by which a result was made.
pub fn implementation(entry: &Entry) -> Option<u64> {
    entry.provenance.get(ACCEPTED).or_else(|| entry.preimage.get("version")).and_then(serde_json::Value::as_u64)
}

/// Enters the result that an accepted older version made of the same, where there is one.
///
/// # Errors
/// Where the store cannot be read or written.
pub fn take_over(store: &Store, new: &Preimage, facts: &impl Facts) -> Result<Option<Arc<Manifest>>, Failure> {
    for old in plan::accepted(new, facts) {
        let key = old.key();
        let _publishing = store.publishing()?; // what was found stays until it is entered
        let Lookup::Hit(_) = store.lookup(&key)? else { continue };
        let Some(made) = store.entry(&key)? else { continue };
        let ingredients = serde_json::to_value(new).expect("ingredients serialise");
        let version = implementation(&made).unwrap_or(u64::from(old.version));
        let mut entry = Entry { key: new.key(), preimage: ingredients, ..made };
        entry.provenance.insert(ACCEPTED.to_owned(), version.into());
        store.publish(&entry)?;
        store.remember_history(&entry)?;
        return Ok(Some(Arc::new(Manifest::from(entry))));
    }
    Ok(None)
}

//! What a key is made of.
//!
//! | enters the key | does not |
//! |---|---|
//! | kind and its implementation version | name, label and axes of the stage |
//! | parameters that can change the output and are not at their defaults | layout and comments of the file, place of the file |
//! | digests of the inputs, in order; with their axes where they are gathered | executor, resources, retries, logging |
//! | contents of local sources and of a command's files; what a movable source resolved to | device, host, time, attempt |
//! | digests of a command's `env` values | values of its `secrets` |

use indexmap::IndexMap;
use neftpipe_protocol::judging::naming_params;
use neftpipe_protocol::{Digest, KeyHasher, Kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The inputs of a judge that decide what it says of a comparison.
const JUDGING_SLOTS: [&str; 2] = ["model", "annotators"];

/// The ingredients of a key. Entries keep it whole, so that a miss can be explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preimage {
    /// The kind.
    pub kind: Kind,
    /// Its implementation version.
    pub version: u32,
    /// Parameters that enter the key.
    pub params: Value,
    /// Inputs by slot.
    pub inputs: IndexMap<String, Vec<InputDigest>>,
    /// Contents from outside: files of local sources and commands by relative path; `resolved` for a movable source.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub contents: IndexMap<String, Digest>,
    /// Digests of the named environment variables' values; none where a variable is not set.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, Option<Digest>>,
}

/// An input as the key sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputDigest {
    /// Digest of the artifact's content.
    pub digest: Digest,
    /// Axes of the instance, where the input is gathered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<IndexMap<String, Value>>,
}

impl Preimage {
    /// The key.
    pub fn key(&self) -> Digest {
        let mut hasher = KeyHasher::new("neftpipe 2026 stage key v1");
        hasher.add(self.kind.name()).add(&u64::from(self.version)).add(&self.params);
        let mut slots: Vec<_> = self.inputs.iter().collect();
        slots.sort_by_key(|(slot, _)| slot.as_str());
        for (slot, inputs) in slots {
            hasher.add(slot.as_str()).add(&(inputs.len() as u64));
            for input in inputs {
                hasher.add(&input.digest);
                if let Some(axes) = &input.axes {
                    axes.iter().for_each(|(axis, value)| {
                        hasher.add(axis.as_str()).add(value);
                    });
                }
            }
        }
        hasher.add(&(self.contents.len() as u64));
        for (path, digest) in &self.contents {
            hasher.add(path.as_str()).add(digest);
        }
        for (name, digest) in &self.env {
            hasher.add(name.as_str());
            match digest {
                Some(digest) => hasher.add(digest),
                None => hasher.field(b'n', &[]),
            };
        }
        hasher.finish()
    }

    /// Which rows below the stage may be shared: those of stages with the same ingredients but for what only says which
    /// rows are wanted, or what is made of them. None for a kind without rows.
    pub fn row_scope(&self) -> Option<Digest> {
        let mut scope = self.clone();
        scope.version = self.kind.rows_version();
        match self.kind {
            Kind::Generate => scope.inputs.retain(|slot, _| slot != "prompts"),
            Kind::Judge => {
                scope.inputs.retain(|slot, _| JUDGING_SLOTS.contains(&slot.as_str()));
                scope.params = naming_params(&self.params);
            }
            _ => return None,
        }
        Some(scope.key())
    }
}

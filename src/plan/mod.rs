//! Pure planning: a pipeline and what is known become keys, states and reasons.
//!
//! Nothing here reads a file, a clock or the store. What must be looked up comes through [`Facts`], so that the same
//! code plans a dry run and decides, stage by stage, during a run.

mod estimate;
mod graph;
pub mod lineage;
pub mod preimage;
mod reason;
mod steps;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;
use neftpipe_protocol::params::{CommandParams, DownloadParams};
use neftpipe_protocol::{Digest, Failure, Kind};
use serde::Serialize;
use serde_json::Value;

pub use estimate::{Cost, Estimate};
pub use graph::{Graph, Selection};
pub use lineage::Made;
pub use preimage::{InputDigest, Preimage};
pub use reason::{Reason, differences, in_a_line, nearest, of_miss};
pub use steps::Steps;

use crate::spec::model::{Instance, Pipeline};

/// What planning must know of the world.
pub trait Facts {
    /// What the store holds under a key.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn lookup(&self, key: &Digest) -> Result<Found, Failure>;

    /// Digests of the files that these globs select below the folder of the stage's file, by relative path, sorted.
    ///
    /// # Errors
    /// Where a source is absent or cannot be read.
    fn local_files(&self, base: &Path, from: &str, select: &[String]) -> Result<IndexMap<String, Digest>, Failure>;

    /// What a movable source resolved to in an earlier run.
    fn resolved(&self, params: &DownloadParams) -> Option<Value>;

    /// Digest of an environment variable's value, where it is set.
    fn env(&self, name: &str) -> Option<Digest>;

    /// Ingredients of earlier results of this instance, newest first.
    fn earlier(&self, instance: &Instance) -> Vec<Preimage>;

    /// The version of a kind's implementation.
    fn version(&self, kind: Kind) -> u32;

    /// Older versions of it whose results are taken as they are.
    fn accepted(&self, kind: Kind) -> Vec<u32>;
}

/// What the store holds under a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Everything: digests of the outputs by name.
    Hit(IndexMap<String, Digest>),
    /// A result whose files are not all there: the outputs that lack some.
    Incomplete(Vec<String>),
    /// Nothing.
    Miss,
}

/// The state of an instance before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its result is there.
    Cached,
    /// It would run.
    Run,
    /// Its key depends on the output of a stage that has yet to run.
    Pending,
    /// Something it needs failed or cannot run here.
    Blocked,
}

impl State {
    /// Whether it is not there yet, and could be.
    pub fn has_work(self) -> bool {
        matches!(self, Self::Run | Self::Pending)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Run => "run",
            Self::Pending => "pending",
            Self::Blocked => "blocked",
        }
    }
}

/// What was found out about one instance.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its key, where all that it is made of is known.
    pub key: Option<Digest>,
    /// The ingredients of the key.
    pub preimage: Option<Preimage>,
    /// Its state.
    pub state: State,
    /// Why it is not cached.
    pub reasons: Vec<Reason>,
    /// Digests of its outputs, where they are there.
    pub outputs: IndexMap<String, Digest>,
    /// Why it is blocked.
    pub failure: Option<Failure>,
}

/// What was found out about the selected instances, by their index in the pipeline; none for the others.
#[derive(Debug)]
pub struct Plan {
    /// One a pipeline instance.
    pub nodes: Vec<Option<Node>>,
}

impl Plan {
    /// Plans the selected instances. `forced` are run whatever the store holds.
    pub fn new(pipeline: &Pipeline, selection: &Selection, forced: &Selection, facts: &impl Facts) -> Self {
        let mut plan = Self { nodes: Vec::with_capacity(pipeline.instances.len()) };
        let mut keys = HashSet::new();
        for index in 0..pipeline.instances.len() {
            let node =
                selection.contains(index).then(|| plan.node(pipeline, index, forced.contains(index), facts, &mut keys));
            plan.nodes.push(node);
        }
        plan
    }

    /// How many instances are in each state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for node in self.nodes.iter().flatten() {
            *match node.state {
                State::Cached => &mut counts.cached,
                State::Run => &mut counts.run,
                State::Pending => &mut counts.pending,
                State::Blocked => &mut counts.blocked,
            } += 1;
        }
        counts
    }

    /// Results that are there and would be made anew only since the implementation of their kind has changed.
    pub fn outdated(&self, pipeline: &Pipeline) -> Vec<Outdated> {
        let mut counts: BTreeMap<(Kind, u32, u32), usize> = BTreeMap::new();
        for (instance, node) in pipeline.instances.iter().zip(&self.nodes) {
            if let Some(&[Reason::VersionChanged { old, new }]) = node.as_ref().map(|node| node.reasons.as_slice()) {
                *counts.entry((instance.kind, old, new)).or_default() += 1;
            }
        }
        counts.into_iter().map(|((kind, old, new), results)| Outdated { kind, old, new, results }).collect()
    }

    fn node(
        &self,
        pipeline: &Pipeline,
        index: usize,
        forced: bool,
        facts: &impl Facts,
        seen: &mut HashSet<Digest>,
    ) -> Node {
        let instance = &pipeline.instances[index];
        if let Some(failure) = self.blocked_by(pipeline, instance) {
            return Node::without_key(State::Blocked, Vec::new(), Some(failure));
        }
        let pending = self.pending_inputs(pipeline, instance);
        if !pending.is_empty() {
            return Node::without_key(State::Pending, pending, None);
        }
        let made = |at: usize| {
            let node = self.nodes[at].as_ref()?;
            Some(Made { key: node.key?, outputs: &node.outputs, training_rows: None })
        };
        match preimage(pipeline, index, &made, facts) {
            Ok(Some(preimage)) => keyed(instance, preimage, forced, facts, seen),
            Ok(None) => Node::without_key(State::Run, vec![Reason::NeverRan], None),
            Err(failure) => Node::without_key(State::Blocked, Vec::new(), Some(failure)),
        }
    }

    fn blocked_by(&self, pipeline: &Pipeline, instance: &Instance) -> Option<Failure> {
        instance.inputs.values().flatten().find_map(|input| {
            let node = self.nodes[input.instance].as_ref()?;
            (node.state == State::Blocked).then(|| {
                Failure::environment(format!("it needs {}, which is blocked", pipeline.instances[input.instance].id))
            })
        })
    }

    fn pending_inputs(&self, pipeline: &Pipeline, instance: &Instance) -> Vec<Reason> {
        let waits = |input: &crate::spec::model::InputRef| {
            self.nodes[input.instance].as_ref().is_none_or(|node| node.outputs.is_empty())
        };
        let named = instance.inputs.iter().flat_map(|(slot, inputs)| inputs.iter().map(move |input| (slot, input)));
        named
            .filter(|(_, input)| waits(input))
            .map(|(slot, input)| Reason::InputPending {
                slot: slot.clone(),
                stage: pipeline.instances[input.instance].id.clone(),
            })
            .collect()
    }
}

/// Results that an older implementation of a kind made of what its new one would be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outdated {
    /// The kind.
    pub kind: Kind,
    /// The version that made them.
    pub old: u32,
    /// The version of now.
    pub new: u32,
    /// How many.
    pub results: usize,
}

/// Counts of instances by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Cached.
    pub cached: usize,
    /// Would run.
    pub run: usize,
    /// Wait for another's output.
    pub pending: usize,
    /// Cannot run.
    pub blocked: usize,
}

impl Node {
    fn without_key(state: State, reasons: Vec<Reason>, failure: Option<Failure>) -> Self {
        Self { key: None, preimage: None, state, reasons, outputs: IndexMap::new(), failure }
    }
}

fn keyed(
    instance: &Instance,
    preimage: Preimage,
    forced: bool,
    facts: &impl Facts,
    seen: &mut HashSet<Digest>,
) -> Node {
    let key = preimage.key();
    let mut node = Node {
        key: Some(key),
        state: State::Run,
        reasons: Vec::new(),
        outputs: IndexMap::new(),
        failure: None,
        preimage: None,
    };
    let found = match facts.lookup(&key) {
        Ok(found) => found,
        Err(failure) => return Node::without_key(State::Blocked, Vec::new(), Some(failure)),
    };
    match found {
        _ if forced => node.reasons.push(Reason::Forced),
        Found::Hit(outputs) => {
            node.state = State::Cached;
            node.outputs = outputs;
        }
        // The second instance of one key is carried out by the first.
        _ if seen.contains(&key) => node.state = State::Cached,
        Found::Incomplete(outputs) => {
            node.reasons.extend(outputs.into_iter().map(|output| Reason::OutputMissing { output }));
        }
        Found::Miss => match accepted_outputs(&preimage, facts) {
            Err(failure) => return Node::without_key(State::Blocked, Vec::new(), Some(failure)),
            Ok(Some(outputs)) => {
                node.state = State::Cached;
                node.outputs = outputs;
            }
            Ok(None) => node.reasons = reason::of_miss(&preimage, &facts.earlier(instance)),
        },
    }
    seen.insert(key);
    node.preimage = Some(preimage);
    node
}

/// The same ingredients as older implementations saw them whose results are accepted, newest first.
pub fn accepted(new: &Preimage, facts: &impl Facts) -> Vec<Preimage> {
    let mut versions: Vec<u32> = facts.accepted(new.kind).into_iter().filter(|&old| old < new.version).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    versions.into_iter().map(|version| Preimage { version, ..new.clone() }).collect()
}

fn accepted_outputs(new: &Preimage, facts: &impl Facts) -> Result<Option<IndexMap<String, Digest>>, Failure> {
    for old in accepted(new, facts) {
        if let Found::Hit(outputs) = facts.lookup(&old.key())? {
            return Ok(Some(outputs));
        }
    }
    Ok(None)
}

/// The ingredients of an instance's key, given what is known of finished instances. None where an input is not made
/// yet, or what its source resolves to is not known.
///
/// # Errors
/// Where a local source is absent or cannot be read.
pub fn preimage<'a>(
    pipeline: &Pipeline,
    index: usize,
    made: &dyn Fn(usize) -> Option<Made<'a>>,
    facts: &impl Facts,
) -> Result<Option<Preimage>, Failure> {
    let instance = &pipeline.instances[index];
    let mut inputs = IndexMap::with_capacity(instance.inputs.len());
    for (slot, references) in &instance.inputs {
        let mut list = Vec::with_capacity(references.len());
        for reference in references {
            let made = made(reference.instance);
            let Some(&digest) = made.as_ref().and_then(|made| made.outputs.get(&reference.output)) else {
                return Ok(None);
            };
            let axes = reference.gathered.then(|| pipeline.instances[reference.instance].axes.clone());
            list.push(InputDigest { digest, axes });
        }
        inputs.insert(slot.clone(), list);
    }
    let mut preimage = Preimage {
        kind: instance.kind,
        version: facts.version(instance.kind),
        params: instance.params.key(),
        inputs,
        contents: IndexMap::new(),
        env: IndexMap::new(),
    };
    match instance.kind {
        Kind::Download => {
            let params: DownloadParams = instance.typed_params()?;
            if params.from.starts_with("file:") {
                preimage.contents = facts.local_files(&instance.base, &params.from, &params.select.0)?;
            } else if let Some(resolved) = facts.resolved(&params) {
                preimage
                    .contents
                    .insert("resolved".to_owned(), Digest::of_value("neftpipe 2026 resolved source", &resolved));
            } else {
                return Ok(None);
            }
        }
        Kind::Command => {
            let params: CommandParams = instance.typed_params()?;
            if !params.files.0.is_empty() {
                preimage.contents = facts.local_files(&instance.base, "file:.", &params.files.0)?;
            }
            preimage.env = params.env.iter().map(|name| (name.clone(), facts.env(name))).collect();
        }
        kind if lineage::is_wanted(kind) => {
            let digest = lineage::digest(&lineage::lineage(pipeline, index, made));
            preimage.contents.insert("lineage.json".to_owned(), digest);
        }
        _ => {}
    }
    Ok(Some(preimage))
}

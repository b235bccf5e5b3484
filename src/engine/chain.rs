//! The states that a training run passes, and which of them several arms pass.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;

use indexmap::IndexMap;
use neftpipe_protocol::artifact::TokensInfo;
use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::training::{Statics, checkpoint_steps, extension_step, step_keys};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure};

use super::stage::StageInput;
use crate::spec::model::Instance;
use crate::store::{Artifact, Store};

/// One arm's way: the key of its state after every step.
#[derive(Debug)]
pub struct Chain {
    keys: Vec<Digest>,
    steps: Vec<u64>,
    /// The step from whose state a longer run goes on.
    extended_from: Option<u64>,
}

impl Chain {
    /// The chain of a training instance. None where its tokens hold nothing to train on, which its worker will say.
    ///
    /// # Errors
    /// Where the tokens or the parameters are not what they should be.
    pub fn of(
        store: &Store,
        instance: &Instance,
        inputs: &IndexMap<String, Vec<StageInput>>,
    ) -> Result<Option<Self>, Failure> {
        let params: TrainParams = instance.typed_params()?;
        let input = |slot: &str| inputs.get(slot).and_then(|list| list.first()).map(|input| &input.artifact);
        let (Some(model), Some(tokens)) = (input("model"), input("tokens")) else { return Ok(None) };
        let rows = training_rows(store, tokens)?;
        if rows == 0 {
            return Ok(None);
        }
        let adapter = input("adapter").map(|artifact| artifact.digest);
        let keys = step_keys(Statics { params: &params, model: model.digest, tokens: tokens.digest, adapter, rows });
        let steps = checkpoint_steps(&params, rows);
        Ok(Some(Self { keys, steps, extended_from: extension_step(&params, rows) }))
    }

    /// Keys after 1, 2, … steps.
    pub fn keys(&self) -> &[Digest] {
        &self.keys
    }

    /// Steps after which the worker is to save, ascending.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// The key of the state after a step, counted from 1.
    pub fn key_after(&self, step: u64) -> Option<Digest> {
        self.keys.get(usize::try_from(step.checked_sub(1)?).ok()?).copied()
    }

    /// The state from which a longer run goes on.
    pub fn extension(&self) -> Option<Digest> {
        self.extended_from.and_then(|step| self.key_after(step))
    }

    /// Steps with their keys, from the last to the first.
    pub fn deepest_first(&self) -> impl Iterator<Item = (u64, &Digest)> {
        (1..).zip(&self.keys).collect::<Vec<_>>().into_iter().rev()
    }

    fn keys_to_save(&self) -> impl Iterator<Item = Digest> {
        self.steps.iter().filter_map(|&step| self.key_after(step))
    }
}

/// The arms of a run that are still to be trained, and how many of them pass each state.
#[derive(Debug, Default)]
pub struct OpenArms {
    chains: HashMap<usize, Arc<Chain>>,
    passing: HashMap<Digest, usize>,
    /// Whether an arm was opened or closed since somebody asked.
    has_news: bool,
}

impl OpenArms {
    /// An arm is to be trained.
    pub fn open(&mut self, index: usize, chain: Chain) {
        for key in chain.keys_to_save() {
            *self.passing.entry(key).or_default() += 1;
        }
        self.chains.insert(index, Arc::new(chain));
        self.has_news = true;
    }

    /// Whether they pass other states than at the last call.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Lets an open arm save wherever another one does whose way is the same up to there: a jump in that arm's schedule,
    /// say, from which it can then go on.
    ///
    /// `others` are the states that the arms of other runs pass.
    pub fn join_cuts(&mut self, index: usize, others: &HashSet<Digest>) {
        let Some(chain) = self.chains.get_mut(&index) else { return };
        let own: HashSet<u64> = chain.steps.iter().copied().collect();
        let passed = |key: &Digest| self.passing.contains_key(key) || others.contains(key);
        let cuts = (1..).zip(&chain.keys).filter(|(step, key)| !own.contains(step) && passed(key));
        let joined: Vec<(u64, Digest)> = cuts.map(|(step, key)| (step, *key)).collect();
        for (_, key) in &joined {
            *self.passing.entry(*key).or_default() += 1;
        }
        let mut steps: Vec<u64> = own.into_iter().chain(joined.into_iter().map(|(step, _)| step)).collect();
        steps.sort_unstable();
        let Chain { keys, extended_from, .. } = &**chain;
        *chain = Arc::new(Chain { keys: keys.clone(), steps, extended_from: *extended_from });
    }

    /// Whether no arm is open.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// The chain of an open arm.
    pub fn chain(&self, index: usize) -> Option<Arc<Chain>> {
        self.chains.get(&index).cloned()
    }

    /// The states that open arms pass.
    pub fn passing(&self) -> impl Iterator<Item = &Digest> {
        self.passing.keys()
    }

    /// The states of an open arm that other open arms pass too.
    pub fn shared(&self, index: usize) -> HashSet<Digest> {
        let keys = self.chains.get(&index).into_iter().flat_map(|chain| chain.keys_to_save());
        keys.filter(|key| self.passing.get(key).is_some_and(|&count| count > 1)).collect()
    }

    /// An arm is trained. Returns the states that nobody needs any more: those that no open arm passes, but for that from
    /// which a longer run goes on.
    pub fn close(&mut self, index: usize) -> Vec<Digest> {
        let Some(chain) = self.chains.remove(&index) else { return Vec::new() };
        self.has_news = true;
        let kept = chain.extension();
        let mut needless = Vec::new();
        for key in chain.keys_to_save() {
            let count = self.passing.entry(key).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.passing.remove(&key);
                needless.extend((Some(key) != kept).then_some(key));
            }
        }
        needless
    }
}

/// How many rows of tokens there are to train on.
///
/// # Errors
/// Where the tokens do not say it.
pub fn training_rows(store: &Store, tokens: &Artifact) -> Result<u64, Failure> {
    let file = tokens.file("tokens.json").ok_or_else(|| Failure::data("the tokens hold no tokens.json"))?;
    let path = store.blob_path(&file.digest);
    let bytes = fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    let info: TokensInfo =
        serde_json::from_slice(&bytes).map_err(|error| Failure::data(format!("tokens.json: {error}")))?;
    Ok(info.train.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(names: &[&str], steps: &[u64], extended_from: Option<u64>) -> Chain {
        let keys = names.iter().map(|name| Digest::of(name.as_bytes())).collect();
        Chain { keys, steps: steps.to_vec(), extended_from }
    }

    #[test]
    fn a_state_is_needless_once_no_open_arm_passes_it() {
        let key = |name: &str| Digest::of(name.as_bytes());
        let mut arms = OpenArms::default();
        arms.open(1, chain(&["a", "b", "c", "d"], &[2, 4], Some(4)));
        arms.open(2, chain(&["a", "b", "x", "y"], &[2, 4], None));
        assert_eq!(arms.shared(1), HashSet::from([key("b")]));
        assert!(arms.close(1).is_empty(), "b is shared, d can be gone on from");
        assert!(arms.shared(2).is_empty());
        assert_eq!(arms.close(2), [key("b"), key("y")]);
        assert!(arms.close(2).is_empty());
    }

    #[test]
    fn an_arm_saves_where_another_leaves_its_way() {
        let key = |name: &str| Digest::of(name.as_bytes());
        let mut arms = OpenArms::default();
        arms.open(1, chain(&["a", "b", "c", "d"], &[2, 4], None));
        arms.open(2, chain(&["a", "b", "c", "y"], &[3, 4], None));
        arms.join_cuts(1, &HashSet::from([key("a")]));
        assert_eq!(arms.chain(1).unwrap().steps(), [1, 2, 3, 4], "the first is that of another run's arm");
        assert_eq!(arms.shared(1), HashSet::from([key("c")]));
        assert_eq!(arms.close(1), [key("a"), key("b"), key("d")]);
        assert_eq!(arms.close(2), [key("c"), key("y")]);
    }

    #[test]
    fn steps_count_from_one() {
        let chain = chain(&["a", "b"], &[2], None);
        assert_eq!(chain.key_after(0), None);
        assert_eq!(chain.key_after(2), Some(Digest::of(b"b")));
        assert_eq!(chain.key_after(3), None);
        assert_eq!(chain.deepest_first().next().unwrap().0, 2);
    }
}

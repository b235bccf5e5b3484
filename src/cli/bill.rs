//! What a plan's judges will be asked, what of it was paid for before, and the most that the rest can cost.
//!
//! Only answers that are there can be counted; of judges whose answers are yet to be made nothing is claimed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::artifact::AnswerRow;
use neftpipe_protocol::judging::{
    AskedRow, Asker, CUSTOM, Comparison, Prices, Usage, comparison, is_retired, join, sampled,
};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::{Digest, Kind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::forecast::planned_input;
use crate::plan::{Node, Plan};
use crate::spec::model::{Instance, Pipeline};
use crate::store::Store;

/// What one judge will be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judging {
    /// Index of the instance.
    index: usize,
    /// The model that is asked.
    model: String,
    /// Whether it is known to be gone.
    retired: bool,
    /// What can be counted.
    count: Option<Count>,
}

/// Comparisons of one judge.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Count {
    comparisons: usize,
    paid: usize,
    /// Dollars, where there are prices.
    most_usd: Option<f64>,
}

/// What all judges of a plan will be asked.
pub(super) struct Bill(Vec<Judging>);

impl Bill {
    /// The bill of a plan; empty where nobody is to be asked.
    pub fn new(pipeline: &Pipeline, plan: &Plan, store: &Store) -> Self {
        let instances = pipeline.instances.iter().zip(&plan.nodes).enumerate();
        let judgings = instances.filter_map(|(index, (instance, node))| {
            let node = node.as_ref().filter(|node| instance.kind == Kind::Judge && node.state.has_work())?;
            let params: JudgeParams = instance.typed_params().ok()?;
            let endpoint = params.endpoint.as_ref().filter(|_| params.annotator.is_some())?;
            let (model, retired) = (endpoint.model.clone(), is_retired(endpoint));
            let sources = Sources { instance, plan, store };
            Some(Judging { index, model, retired, count: count(&sources, node, &params) })
        });
        Self(judgings.collect())
    }

    /// The most that it can come to, where all of it is known.
    pub fn most_usd(&self) -> Option<f64> {
        self.0.iter().map(|judging| judging.count.and_then(|count| count.most_usd)).sum()
    }

    /// The part of one instance, for programs.
    pub fn json_of(&self, index: usize) -> Option<Value> {
        let judging = self.0.iter().find(|judging| judging.index == index)?;
        let count = judging.count;
        Some(json!({
            "model": judging.model, "retired": judging.retired, "comparisons": count.map(|count| count.comparisons),
            "paid": count.map(|count| count.paid), "most_usd": count.and_then(|count| count.most_usd),
        }))
    }

    /// The sum, for people; empty where nobody is to be asked.
    pub fn text(&self) -> String {
        let counts: Vec<Count> = self.0.iter().filter_map(|judging| judging.count).collect();
        let unknown = self.0.len() - counts.len();
        let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
        let (comparisons, paid) = (sum(|count| count.comparisons), sum(|count| count.paid));
        let mut parts = Vec::new();
        if !counts.is_empty() {
            parts.push(format!("{} comparisons to ask, {paid} paid for before", comparisons - paid));
            parts.push(match counts.iter().map(|count| count.most_usd).sum::<Option<f64>>() {
                Some(most) => format!("at most ${most:.2}"),
                None => "without `endpoint.prices` nothing tells what they cost".to_owned(),
            });
        }
        if unknown > 0 {
            let judges = if unknown == 1 { "a judge" } else { "several judges" };
            parts.push(format!("{judges} whose answers are yet to be made"));
        }
        parts.join("; ")
    }

    /// What a person should know of the models.
    pub fn warnings(&self) -> Vec<String> {
        let retired: HashSet<&str> =
            self.0.iter().filter(|judging| judging.retired).map(|judging| judging.model.as_str()).collect();
        let mut retired: Vec<_> = retired.into_iter().collect();
        retired.sort_unstable();
        let warning = |model: &str| {
            format!("the judge {model} is retired, or about to be, at its vendor; `endpoint.model` may be any other")
        };
        retired.into_iter().map(warning).collect()
    }
}

/// Where inputs of a judge are.
struct Sources<'a> {
    instance: &'a Instance,
    plan: &'a Plan,
    store: &'a Store,
}

impl Sources<'_> {
    /// Digest and folder of an input that is there.
    fn input(&self, slot: &str) -> Option<(Digest, PathBuf)> {
        let artifact = planned_input(self.plan, self.store, self.instance, slot)?;
        Some((artifact.digest, self.store.view(&artifact).ok()?))
    }

    fn answers(&self, slot: &str) -> Option<Vec<AnswerRow>> {
        read(&self.input(slot)?.1.join("answers.json"))
    }
}

/// None where something that counting needs is not there, or not as it should be: the stage will say why.
fn count(sources: &Sources<'_>, node: &Node, params: &JudgeParams) -> Option<Count> {
    let (annotators, folder) = sources.input("annotators")?;
    let asker = Asker::new(params, annotators)?;
    let (answers, reference) = (sources.answers("answers")?, sources.answers("reference")?);
    let pairs = join(&answers, &reference).ok()?;
    let mut comparisons: Vec<Comparison> = pairs.iter().map(comparison).filter(Comparison::differs).collect();
    if let (Some(wanted), Some((_, folder))) = (params.calibrate, sources.input("calibrate")) {
        comparisons.extend(sampled(read(&only_file(&folder)?)?, usize::try_from(wanted).ok()?, params.seed));
    }
    let scope = node.preimage.as_ref()?.row_scope()?;
    let rows = String::from_utf8(sources.store.rows(&scope).ok()?).ok()?;
    let paid: HashSet<String> =
        rows.lines().filter_map(|line| serde_json::from_str::<AskedRow>(line).ok()).map(|row| row.id).collect();
    let mut seen = HashSet::new();
    comparisons.retain(|comparison| seen.insert(asker.name(comparison)));
    let is_open = |comparison: &&Comparison| !paid.contains(&asker.name(comparison));
    let open: Vec<&Comparison> = comparisons.iter().filter(is_open).collect();
    let (around, max_tokens) = request_size(params, &folder)?;
    let most = |prices: Prices| open.iter().map(|one| prices.cost(Usage::most(around + bytes(one), max_tokens))).sum();
    let most_usd = params.endpoint.as_ref().and_then(Prices::of).map(most);
    Some(Count { comparisons: comparisons.len(), paid: comparisons.len() - open.len(), most_usd })
}

fn bytes(comparison: &Comparison) -> usize {
    comparison.instruction.len() + comparison.output_1.len() + comparison.output_2.len()
}

/// Bytes of the prompt without what is filled in, and the longest answer.
fn request_size(params: &JudgeParams, folder: &Path) -> Option<(usize, u64)> {
    let size = |path: PathBuf| Some(usize::try_from(fs::metadata(path).ok()?.len()).unwrap_or(usize::MAX));
    let name = params.annotator.as_deref()?;
    if let (CUSTOM, Some(custom)) = (name, &params.custom) {
        return Some((size(folder.join(&custom.prompt))?, custom.max_tokens));
    }
    let config = find(folder, &Path::new(name).join("configs.yaml"))?;
    let root = config.parent()?.parent()?;
    let text = fs::read_to_string(&config).ok()?;
    let mut configs: std::collections::HashMap<String, Config> = serde_yaml::from_str(&text).ok()?;
    let config = configs.remove(name)?;
    Some((size(root.join(config.prompt_template))?, config.completions_kwargs.max_tokens))
}

/// The part of a public config that costs money.
#[derive(Deserialize)]
struct Config {
    prompt_template: String,
    completions_kwargs: Settings,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    max_tokens: u64,
}

fn find(folder: &Path, ending: &Path) -> Option<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    files.map(walkdir::DirEntry::into_path).find(|path| path.ends_with(ending))
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    files.map(walkdir::DirEntry::into_path).find(|path| path.extension().is_some_and(|extension| extension == "json"))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

//! What a plan's judges will be asked, what of it was paid for before, and the most that the rest can cost.
//!
//! Only answers that are there can be counted; of judges whose answers are yet to be made nothing is claimed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_measures::sentence;
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
    /// `max_cost_usd` of the stage: for all of its comparisons, those paid for among them.
    cap_usd: Option<f64>,
}

/// Comparisons of one judge.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Count {
    comparisons: usize,
    paid: usize,
    /// Dollars, where there are prices.
    cost: Option<Cost>,
}

/// Dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    /// What was paid.
    paid: f64,
    /// The most that the others can cost, whatever they may.
    open: f64,
}

impl Judging {
    /// The most that it can come to, with what its cap leaves.
    fn most_usd(&self) -> Option<f64> {
        let cost = self.count.and_then(|count| count.cost);
        let left = self.cap_usd.map(|cap| (cap - cost.map_or(0.0, |cost| cost.paid)).max(0.0));
        match (cost, left) {
            (Some(cost), Some(left)) => Some(cost.open.min(left)),
            (cost, left) => cost.map(|cost| cost.open).or(left),
        }
    }

    /// The same without the cap, where it is there and binds.
    fn uncapped_usd(&self) -> Option<f64> {
        let open = self.count?.cost?.open;
        self.most_usd().filter(|&most| most < open).map(|_| open)
    }
}

/// What all judges of a plan will be asked.
pub(super) struct Bill {
    judges: Vec<Judging>,
    /// What a run of the plan may spend on all of them.
    cap_usd: Option<f64>,
}

impl Bill {
    /// The bill of a plan; empty where nobody is to be asked.
    pub fn new(pipeline: &Pipeline, plan: &Plan, store: &Store, cap_usd: Option<f64>) -> Self {
        let instances = pipeline.instances.iter().zip(&plan.nodes).enumerate();
        let judgings = instances.filter_map(|(index, (instance, node))| {
            let node = node.as_ref().filter(|node| instance.kind == Kind::Judge && node.state.has_work())?;
            let params: JudgeParams = instance.typed_params().ok()?;
            let endpoint = params.endpoint.as_ref().filter(|_| params.annotator.is_some())?;
            let (model, retired) = (endpoint.model.clone(), is_retired(endpoint));
            let sources = Sources { instance, plan, store };
            let count = count(&sources, node, &params);
            Some(Judging { index, model, retired, count, cap_usd: params.max_cost_usd })
        });
        Self { judges: judgings.collect(), cap_usd }
    }

    /// The most that it can come to, where all of it is known.
    pub fn most_usd(&self) -> Option<f64> {
        let most: Option<f64> = self.judges.iter().map(Judging::most_usd).sum();
        match (most, self.cap_usd) {
            (Some(most), Some(cap)) => Some(most.min(cap)),
            (most, cap) => most.or(cap),
        }
    }

    /// Whether anybody is to be asked.
    pub fn asks(&self) -> bool {
        !self.judges.is_empty()
    }

    /// The part of one instance, for programs.
    pub fn json_of(&self, index: usize) -> Option<Value> {
        let judging = self.judges.iter().find(|judging| judging.index == index)?;
        let count = judging.count;
        Some(json!({
            "model": judging.model, "retired": judging.retired, "comparisons": count.map(|count| count.comparisons),
            "paid": count.map(|count| count.paid), "most_usd": judging.most_usd(), "uncapped_usd": judging.uncapped_usd(),
        }))
    }

    /// The sum, for people; empty where nobody is to be asked.
    pub fn text(&self) -> String {
        let (counted, unknown): (Vec<&Judging>, Vec<&Judging>) =
            self.judges.iter().partition(|judging| judging.count.is_some());
        let counts: Vec<Count> = counted.iter().filter_map(|judging| judging.count).collect();
        let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
        let (comparisons, paid) = (sum(|count| count.comparisons), sum(|count| count.paid));
        let run_cap = self.run_cap_text();
        let mut parts = Vec::new();
        if !counts.is_empty() {
            let open = sentence::count(comparisons - paid, "comparison");
            parts.push(format!("{open} to ask, {paid} paid for before"));
            if run_cap.is_none() {
                parts.push(
                    cost_text(&counted)
                        .unwrap_or_else(|| "without `endpoint.prices` nothing tells what they cost".to_owned()),
                );
            }
        }
        if !unknown.is_empty() {
            let judges = if unknown.len() == 1 { "a judge" } else { "several judges" };
            let cost = cost_text(&unknown).filter(|_| run_cap.is_none());
            let cost = cost.map_or(String::new(), |cost| format!(", {cost}"));
            parts.push(format!("{judges} whose answers are yet to be made{cost}"));
        }
        parts.extend(run_cap);
        parts.join("; ")
    }

    /// What the run's cap leaves of it, where that binds.
    fn run_cap_text(&self) -> Option<String> {
        let cap = self.cap_usd.filter(|_| self.asks())?;
        let all: Option<f64> = self.judges.iter().map(Judging::most_usd).sum();
        match all {
            Some(all) if all <= cap => None,
            all => Some(format!("at most ${cap:.2} by `--max-cost-usd`{}", could_come_to(all))),
        }
    }

    /// What a person should know of the models.
    pub fn warnings(&self) -> Vec<String> {
        let retired: HashSet<&str> =
            self.judges.iter().filter(|judging| judging.retired).map(|judging| judging.model.as_str()).collect();
        let mut retired: Vec<_> = retired.into_iter().collect();
        retired.sort_unstable();
        let warning = |model: &str| {
            format!("the judge {model} is retired, or about to be, at its vendor; `endpoint.model` may be any other")
        };
        retired.into_iter().map(warning).collect()
    }
}

/// The most that some judges can come to, and what caps have to do with it. None where nothing tells.
fn cost_text(judges: &[&Judging]) -> Option<String> {
    let most = judges.iter().map(|judging| judging.most_usd()).sum::<Option<f64>>()?;
    if judges.iter().all(|judging| judging.count.is_some() && judging.uncapped_usd().is_none()) {
        return Some(format!("at most ${most:.2}"));
    }
    let open = judges.iter().map(|judging| Some(judging.count?.cost?.open)).sum::<Option<f64>>();
    Some(format!("at most ${most:.2} by `max_cost_usd`{}", could_come_to(open)))
}

fn could_come_to(dollars: Option<f64>) -> String {
    dollars.map_or(String::new(), |dollars| format!(", where they could come to ${dollars:.2}"))
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
    let rows = rows.lines().filter_map(|line| serde_json::from_str::<AskedRow>(line).ok());
    let paid: HashMap<String, Usage> = rows.map(|row| (row.id, row.usage)).collect();
    let mut seen = HashSet::new();
    comparisons.retain(|comparison| seen.insert(asker.name(comparison)));
    let usage = |comparison: &Comparison| paid.get(&asker.name(comparison)).copied();
    let open: Vec<&Comparison> = comparisons.iter().filter(|one| usage(one).is_none()).collect();
    let (around, max_tokens) = request_size(params, &folder)?;
    let cost = |prices: Prices| Cost {
        paid: comparisons.iter().filter_map(usage).map(|usage| prices.cost(usage)).sum(),
        open: open.iter().map(|one| prices.cost(Usage::most(around + bytes(one), max_tokens))).sum(),
    };
    let cost = params.endpoint.as_ref().and_then(Prices::of).map(cost);
    Some(Count { comparisons: comparisons.len(), paid: comparisons.len() - open.len(), cost })
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

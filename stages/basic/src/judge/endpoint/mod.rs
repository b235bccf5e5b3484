//! The judge that is a chat service: asks each comparison once, however often a stage is begun.
//!
//! What an answer means is the annotator's business, what it may cost the budget's.

mod crew;
mod patience;
mod serve;
mod wire;

use std::collections::{HashMap, HashSet};

use neftpipe_measures::sentence::count;
use neftpipe_protocol::Failure;
use neftpipe_protocol::judging::{AskedRow, Asker, Comparison, Prices, Usage, is_retired};
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::params::judge::Endpoint;
use neftpipe_protocol::worker::Job;
use serde_json::{Value, json};

use self::crew::{Asked, Crew, End, Item};
use self::serve::Server;
use self::wire::Service;
use super::annotate::{Judged, Opinion};
use super::annotator::Annotator;
use super::budget::Budget;

/// Judges these comparisons. `None` where the worker was asked to stop.
///
/// # Errors
/// Where the service cannot be asked, or a cap is reached; what was paid for is kept.
pub fn judge(
    job: &Job,
    params: &JudgeParams,
    annotator: &Annotator,
    comparisons: &[Comparison],
) -> Result<Option<Judged>, Failure> {
    let endpoint = params.endpoint.as_ref().ok_or_else(|| Failure::internal("there is no endpoint"))?;
    let asker = Asker::new(params, job.input("annotators")?.digest)
        .ok_or_else(|| Failure::internal("there is nobody to ask"))?;
    let names: Vec<String> = comparisons.iter().map(|comparison| asker.name(comparison)).collect();
    let mut answers = known_answers(job, &names)?;
    let known = answers.len();
    let mut seen = HashSet::new();
    let open: Vec<usize> =
        (0..names.len()).filter(|&at| seen.insert(names[at].as_str()) && !answers.contains_key(&names[at])).collect();
    let mut judged = Judged { judged: open.len() as u64, reused: known as u64, ..Judged::default() };
    if !open.is_empty() {
        let paid = paid(endpoint, annotator, comparisons, &names, &answers)?;
        let budget = Budget::new(Prices::of(endpoint), params.max_cost_usd, job.request.budget.as_ref(), &paid);
        check_budget(job, endpoint)?;
        let list = List { comparisons, names: &names, open: &open, known };
        let Some(asked) = ask(job, params, endpoint, annotator, &budget, &list)? else { return Ok(None) };
        judged.measured = measured(&asked.rows, endpoint);
        answers.extend(asked.rows.into_iter().map(|row| (row.id.clone(), row)));
        judged.provenance.insert("judge_model".to_owned(), json!(endpoint.model));
    }
    let opinion = |(comparison, name): (&Comparison, &String)| match answers.get(name) {
        Some(row) if row.choice.is_null() => Ok(Opinion::default()),
        Some(row) => {
            Ok(annotator.opinion(comparison, &row.choice, row.usage.prompt_tokens + row.usage.completion_tokens))
        }
        None => Err(Failure::internal("a comparison was left without an answer")),
    };
    judged.opinions = comparisons.iter().zip(&names).map(opinion).collect::<Result<_, _>>()?;
    Ok(Some(judged))
}

/// What was paid for earlier: bytes of the prompts, and the tokens that were counted.
fn paid(
    endpoint: &Endpoint,
    annotator: &Annotator,
    comparisons: &[Comparison],
    names: &[String],
    answers: &HashMap<String, AskedRow>,
) -> Result<Vec<(usize, Usage)>, Failure> {
    let known =
        comparisons.iter().zip(names).filter_map(|(comparison, name)| Some((name, (comparison, answers.get(name)?))));
    let known: HashMap<_, _> = known.collect(); // each once
    let size = |(comparison, row): (&Comparison, &AskedRow)| {
        Ok((bytes(&annotator.request(&endpoint.model, comparison)?), row.usage))
    };
    known.into_values().map(size).collect()
}

/// Bytes of a request's messages.
fn bytes(body: &Value) -> usize {
    body["messages"].to_string().len()
}

/// What is to be asked.
struct List<'a> {
    comparisons: &'a [Comparison],
    names: &'a [String],
    /// Places of those that have no answer yet.
    open: &'a [usize],
    /// How many have one.
    known: usize,
}

fn ask(
    job: &Job,
    params: &JudgeParams,
    endpoint: &Endpoint,
    annotator: &Annotator,
    budget: &Budget,
    list: &List<'_>,
) -> Result<Option<Asked>, Failure> {
    let items: Vec<Item> = list.open.iter().map(|&at| item(list, at, endpoint, annotator)).collect::<Result<_, _>>()?;
    announce(job, endpoint, annotator, &items);
    let mut server = endpoint.serve.as_ref().map(|command| Server::start(command, endpoint)).transpose()?;
    let service = Service::new(endpoint, server.as_ref().map(|server| server.port))?;
    if job.request.offline && !service.is_local() {
        return Err(Failure::environment(format!(
            "{} comparisons are to be asked, and --offline was given",
            items.len()
        ))
        .with_hint("run once without --offline"));
    }
    if let Some(server) = &mut server
        && !server.wait(job, &service)?
    {
        return Ok(None);
    }
    let is_read =
        |at: usize, choice: &Value| annotator.opinion(&list.comparisons[list.open[at]], choice, 0).preference.is_some();
    let max_tokens = annotator.max_tokens();
    let crew = Crew { job, service: &service, budget, items: &items, max_tokens, known: list.known, is_read: &is_read };
    let at_a_time = usize::try_from(params.concurrency).unwrap_or(usize::MAX);
    let asked = crew.ask_all(at_a_time);
    if let Some((times, reason)) = &asked.retried {
        job.warn("judge_retried", format!("{times} requests were made anew; the last because {reason}"));
    }
    ended(asked, params, annotator, budget, list)
}

/// The answers, or why not all are there.
fn ended(
    asked: Asked,
    params: &JudgeParams,
    annotator: &Annotator,
    budget: &Budget,
    list: &List<'_>,
) -> Result<Option<Asked>, Failure> {
    let (paid, total) = (list.known + asked.rows.len(), list.known + list.open.len());
    let spent = budget.spent().map_or(String::new(), |spent| format!(" for ${spent:.4}"));
    let kept = format!("paid {paid} of {total}, kept{spent}");
    match asked.end {
        End::Done => Ok(Some(asked)),
        End::Stopped => Ok(None),
        End::StageCap => {
            let cap = params.max_cost_usd.unwrap_or_default();
            Err(Failure::data(format!("max_cost_usd: the cap of ${cap} is reached: {kept}"))
                .with_hint("raise `max_cost_usd` and run again: only the others are asked"))
        }
        End::RunCap => Err(Failure::data(format!("--max-cost-usd: the run's cap is reached: {kept}"))
            .with_hint("run again with a higher --max-cost-usd: only the others are asked")),
        End::Failed(failure) => {
            let hint = failure
                .hint
                .or_else(|| annotator.needs_log_probabilities().then(|| WITHOUT_LOG_PROBABILITIES.to_owned()));
            Err(Failure { hint, ..Failure::new(failure.class, format!("{}: {kept}", failure.message)) })
        }
    }
}

/// Advice where nothing can be read from a judge that should give log-probabilities.
const WITHOUT_LOG_PROBABILITIES: &str = "this annotator reads log-probabilities (`logprobs`, `top_logprobs`), which the service may not give: alpaca_eval_gpt4, or a \
     custom one with the parser ranking or regex, does without";

fn item(list: &List<'_>, at: usize, endpoint: &Endpoint, annotator: &Annotator) -> Result<Item, Failure> {
    let body = annotator.request(&endpoint.model, &list.comparisons[at])?;
    Ok(Item { id: list.names[at].clone(), bytes: bytes(&body), body })
}

/// Says what is about to be asked, and what it will cost.
fn announce(job: &Job, endpoint: &Endpoint, annotator: &Annotator, items: &[Item]) {
    let sum = |prices: &Prices, usage: fn(usize, u64) -> Usage| -> f64 {
        items.iter().map(|item| prices.cost(usage(item.bytes, annotator.max_tokens()))).sum()
    };
    let cost = match (Prices::of(endpoint), &endpoint.serve) {
        (Some(_), Some(_)) if endpoint.prices.is_none() => "on a server of its own".to_owned(),
        (Some(prices), _) => {
            format!("about ${:.2}, at most ${:.2}", sum(&prices, Usage::likely), sum(&prices, Usage::most))
        }
        (None, _) => "for an unknown price: there is no `endpoint.prices`".to_owned(),
    };
    let comparisons = count(items.len(), "comparison");
    job.warn("judge_cost", format!("{comparisons} will be asked of {}, {cost}", endpoint.model));
    if is_retired(endpoint) {
        job.warn("judge_retired", format!("{} is retired, or about to be, at its vendor", endpoint.model));
    }
}

fn check_budget(job: &Job, endpoint: &Endpoint) -> Result<(), Failure> {
    if job.request.budget.is_some() && Prices::of(endpoint).is_none() {
        return Err(Failure::usage("--max-cost-usd: without `endpoint.prices` nothing tells what is spent").with_hint(
            "say `prices: { input: …, output: … }` in dollars per million tokens; 0 for a service of your own",
        ));
    }
    Ok(())
}

fn measured(rows: &[AskedRow], endpoint: &Endpoint) -> neftpipe_protocol::artifact::Metrics {
    let sum = |of: fn(&Usage) -> u64| rows.iter().map(|row| of(&row.usage)).sum::<u64>();
    let mut measured: neftpipe_protocol::artifact::Metrics = [
        ("prompt_tokens".to_owned(), json!(sum(|usage| usage.prompt_tokens))),
        ("completion_tokens".to_owned(), json!(sum(|usage| usage.completion_tokens))),
    ]
    .into_iter()
    .collect();
    if let Some(prices) = Prices::of(endpoint) {
        measured.insert("cost_usd".to_owned(), json!(rows.iter().map(|row| prices.cost(row.usage)).sum::<f64>()));
    }
    measured
}

/// Answers of earlier work to these comparisons.
fn known_answers(job: &Job, names: &[String]) -> Result<HashMap<String, AskedRow>, Failure> {
    let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
    let rows = job.known_rows()?.into_iter().filter_map(|row| serde_json::from_value::<AskedRow>(row).ok());
    Ok(rows.filter(|row| wanted.contains(row.id.as_str())).map(|row| (row.id.clone(), row)).collect())
}

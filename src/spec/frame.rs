//! The frame around a stage's parameters: resources, timeout, retry.

use std::time::Duration;

use serde_json::{Map, Value};

use super::check::{check_keys, expect_map, expect_text, wrong_type};
use super::model::{Gpus, Resources, Retry};
use super::problem::{Code, Path, Problem};
use super::units::{parse_bytes, parse_duration};

/// What a stage may use, how long it may take, and what happens when it fails.
#[derive(Debug, Default)]
pub struct Frame {
    /// `resources`.
    pub resources: Resources,
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `retry`.
    pub retry: Retry,
}

impl Frame {
    /// Understands the frame of a stage.
    pub fn parse(stage: &Map<String, Value>, here: &Path<'_>, problems: &mut Vec<Problem>) -> Self {
        let said = |key| stage.get(key).filter(|value: &&Value| !value.is_null());
        let mut frame = Self::default();
        if let Some(value) = said("resources") {
            frame.resources = resources(value, &here.key("resources"), problems);
        }
        if let Some(value) = said("timeout") {
            frame.timeout = duration(value, &here.key("timeout"), "`timeout`", problems);
        }
        if let Some(value) = said("retry") {
            frame.retry = retry(value, &here.key("retry"), problems);
        }
        frame
    }
}

fn resources(value: &Value, path: &Path<'_>, problems: &mut Vec<Problem>) -> Resources {
    let mut resources = Resources::default();
    let Some(map) = expect_map(value, path, "`resources`", problems) else { return resources };
    check_keys(map, &["gpus", "cpus", "memory"], path, "`resources`", problems);
    if let Some(value) = map.get("gpus") {
        match count(value) {
            Some(gpus) => resources.gpus = Gpus::Count(gpus),
            None if value == "auto" => {}
            None => problems.push(wrong_type(value, &path.key("gpus"), "`gpus`", "`auto` or a whole number")),
        }
    }
    if let Some(value) = map.get("cpus") {
        resources.cpus = at_least_one(value, &path.key("cpus"), "`cpus`", problems);
    }
    if let Some(value) = map.get("memory") {
        resources.memory_bytes =
            quantity(value, &path.key("memory"), "`memory`", ("an amount", "8GiB"), parse_bytes, problems);
    }
    resources
}

fn retry(value: &Value, path: &Path<'_>, problems: &mut Vec<Problem>) -> Retry {
    let mut retry = Retry::default();
    let Some(map) = expect_map(value, path, "`retry`", problems) else { return retry };
    check_keys(map, &["attempts", "backoff"], path, "`retry`", problems);
    if let Some(value) = map.get("attempts") {
        let attempts = at_least_one(value, &path.key("attempts"), "`attempts`", problems);
        retry.attempts = attempts.unwrap_or(retry.attempts);
    }
    if let Some(value) = map.get("backoff") {
        retry.backoff = duration(value, &path.key("backoff"), "`backoff`", problems).unwrap_or(retry.backoff);
    }
    retry
}

fn duration(value: &Value, path: &Path<'_>, what: &str, problems: &mut Vec<Problem>) -> Option<Duration> {
    quantity(value, path, what, ("a duration", "90s or 2h"), parse_duration, problems)
}

/// A text with its unit; `wanted` is what it is called, and an example.
fn quantity<T>(
    value: &Value,
    path: &Path<'_>,
    what: &str,
    wanted: (&str, &str),
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    if value.is_number() {
        let problem = wrong_type(value, path, what, &format!("{} with its unit", wanted.0));
        problems.push(problem.hint(format!("write it like {}", wanted.1)));
        return None;
    }
    let text = expect_text(value, path, what, problems)?;
    parse(text).map_err(|message| problems.push(Problem::new(Code::BadValue, path.at_value(), message))).ok()
}

fn at_least_one(value: &Value, path: &Path<'_>, what: &str, problems: &mut Vec<Problem>) -> Option<u32> {
    let count = count(value).filter(|&count| count > 0);
    if count.is_none() {
        problems.push(wrong_type(value, path, what, "a whole number from 1 up"));
    }
    count
}

fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|count| u32::try_from(count).ok())
}

//! `report`: the page, and the figures behind it.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StageParams;
use crate::Kind;

/// Parameters of `report`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportParams {
    /// Heading of the page.
    pub title: Option<String>,
    /// The axis whose values are the arms.
    pub rows: Option<String>,
    /// The axis that makes tables beside one another.
    pub columns: Option<String>,
    /// The axis that repeats an arm (seeds): its values are points of one arm.
    pub replicate: Option<String>,
    /// The arm that others are compared with: a value for some axes.
    pub baseline: IndexMap<String, Value>,
    /// Groups of arms within which corrections for many comparisons are made: a name, and values of the axis `rows`.
    pub families: IndexMap<String, Vec<Value>>,
}

impl StageParams for ReportParams {
    const KIND: Kind = Kind::Report;
    const NOT_IN_KEY: &'static [&'static str] = &[];
}

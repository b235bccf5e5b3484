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
    /// Whether two factors do more, or less, together than they add up to: a name, and the arms.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub interactions: IndexMap<String, Interaction>,
}

/// An interaction of two factors: (both − one) − (other − baseline), values of the axis `rows`. The baseline has neither.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interaction {
    /// The arm that has both.
    pub both: Value,
    /// The two arms that have one each.
    pub alone: [Value; 2],
}

impl StageParams for ReportParams {
    const KIND: Kind = Kind::Report;
    const NOT_IN_KEY: &'static [&'static str] = &[];
}

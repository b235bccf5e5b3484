//! What a result is compared by: its figures and its parameters, by dotted path.

use neftpipe_protocol::artifact::Metrics;
use serde_json::Value;

use crate::record::StageRecord;
use crate::store::Entry;
use crate::ui::leaves::leaves;

/// Figures, measured ones among them. Lists are left out: they are no single figures.
pub(super) fn figures(entry: &Entry) -> Metrics {
    let all = entry.metrics.iter().chain(&entry.measured).map(|(name, value)| (name.clone(), value.clone()));
    leaves(&Value::Object(all.collect())).into_iter().filter(|(_, value)| !value.is_array()).collect()
}

/// Every parameter that is not null; of a result that is named by its digest, those that enter its key.
pub(super) fn params(stage: Option<&StageRecord>, entry: Option<&Entry>) -> Metrics {
    let own = stage.map(|stage| &stage.params).or_else(|| entry?.preimage.get("params"));
    own.map(leaves).unwrap_or_default().into_iter().filter(|(_, value)| !value.is_null()).collect()
}

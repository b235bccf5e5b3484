//! Where an input stands in the report: its arm, its column and its replicate, as the parameters divide its axes.
//!
//! An input without the axis of the arms (an untouched model, foreign answers) is an arm under its label. It knows axes
//! and names, not what an artifact holds.

use indexmap::IndexMap;
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::request::Input;
use serde_json::Value;

/// The place of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The arm's name: the value of the axis of the arms, or a label.
    pub arm: String,
    /// Whether the arm is a value of the axis of the arms.
    pub on_axis: bool,
    /// Whether others are compared with it.
    pub is_baseline: bool,
    /// The axes that are neither arms nor replicates; each combination has tables of its own.
    pub column: IndexMap<String, String>,
    /// Which repetition of the arm: `seed=0`, or nothing.
    pub replicate: String,
}

impl Place {
    /// Whether an arm that has only some axes (an untouched model) belongs beside this one.
    pub fn agrees_with(&self, column: &IndexMap<String, String>) -> bool {
        self.column.iter().all(|(axis, value)| column.get(axis).is_none_or(|other| other == value))
    }
}

/// A column for people: `alpaca`, or `alpaca, temperature=0.7`; empty where there is one alone.
pub fn column_name(column: &IndexMap<String, String>, params: &ReportParams) -> String {
    let part = |(axis, value): (&String, &String)| {
        if Some(axis) == params.columns.as_ref() { value.clone() } else { format!("{axis}={value}") }
    };
    column.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// The name of a stage without its axes: `train` of `train[variant=neft5,seed=0]`.
pub fn stage_name(instance: &str) -> &str {
    instance.split('[').next().unwrap_or(instance)
}

/// A value as people write it: texts without quotes, whole numbers without a point.
pub fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    }
}

/// Places an input.
pub fn place(input: &Input, params: &ReportParams) -> Place {
    let is_replicate = |axis: &str| params.replicate.as_deref() == Some(axis);
    let is_row = |axis: &str| params.rows.as_deref().map_or(params.columns.as_deref() != Some(axis), |row| row == axis);
    let (mut arm, mut column, mut replicate) = (Vec::new(), IndexMap::new(), String::new());
    for (axis, value) in &input.axes {
        let value = display(value);
        if is_replicate(axis) {
            replicate = format!("{axis}={value}");
        } else if is_row(axis) {
            arm.push(if params.rows.is_some() { value } else { format!("{axis}={value}") });
        } else {
            column.insert(axis.clone(), value);
        }
    }
    let on_axis = !arm.is_empty();
    let label = || input.label.clone().unwrap_or_else(|| stage_name(&input.stage).to_owned());
    Place {
        arm: if on_axis { arm.join(", ") } else { label() },
        on_axis,
        is_baseline: is_baseline(input, params),
        column: sorted_columns(column, params),
        replicate,
    }
}

fn is_baseline(input: &Input, params: &ReportParams) -> bool {
    let matches =
        |(axis, wanted): (&String, &Value)| input.axes.get(axis).is_some_and(|value| display(value) == display(wanted));
    !params.baseline.is_empty() && params.baseline.iter().all(matches)
}

/// The axis named by `columns` leads.
fn sorted_columns(mut column: IndexMap<String, String>, params: &ReportParams) -> IndexMap<String, String> {
    if let Some(at) = params.columns.as_deref().and_then(|axis| column.get_index_of(axis)) {
        column.move_index(at, 0);
    }
    column
}

/// Refuses axes in the parameters that no input has.
///
/// # Errors
/// A usage failure that lists the axes there are.
pub fn check_axes<'a>(params: &ReportParams, inputs: impl Iterator<Item = &'a Input>) -> Result<(), Failure> {
    let mut axes: Vec<&str> = inputs.flat_map(|input| input.axes.keys()).map(String::as_str).collect();
    axes.sort_unstable();
    axes.dedup();
    let named = [("rows", &params.rows), ("columns", &params.columns), ("replicate", &params.replicate)];
    let named = named.into_iter().filter_map(|(name, axis)| axis.as_deref().map(|axis| (name, axis)));
    for (parameter, axis) in named.chain(params.baseline.keys().map(|axis| ("baseline", axis.as_str()))) {
        if !axes.contains(&axis) {
            return Err(Failure::usage(format!("report: `{parameter}` names the axis `{axis}`, which no input has"))
                .with_hint(format!("the inputs have: {}", list(&axes))));
        }
    }
    Ok(())
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no axes at all".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::{ArtifactType, Digest};
    use serde_json::json;

    fn input(stage: &str, label: Option<&str>, axes: &[(&str, Value)]) -> Input {
        Input {
            path: "/in".into(),
            artifact_type: ArtifactType::Answers,
            digest: Digest::of(stage.as_bytes()),
            stage: stage.to_owned(),
            label: label.map(str::to_owned),
            axes: axes.iter().map(|(axis, value)| ((*axis).to_owned(), value.clone())).collect(),
        }
    }

    fn params() -> ReportParams {
        ReportParams {
            rows: Some("variant".into()),
            columns: Some("dataset".into()),
            replicate: Some("seed".into()),
            baseline: [("variant".to_owned(), json!("plain"))].into_iter().collect(),
            ..ReportParams::default()
        }
    }

    #[test]
    fn axes_are_divided_as_the_parameters_say() {
        let axes =
            [("t", json!(0.0002)), ("variant", json!("plain")), ("dataset", json!("alpaca")), ("seed", json!(1))];
        let place = place(&input("answers[…]", Some("answers"), &axes), &params());
        assert_eq!((place.arm.as_str(), place.replicate.as_str()), ("plain", "seed=1"));
        assert!(place.is_baseline && place.on_axis);
        assert_eq!(column_name(&place.column, &params()), "alpaca, t=0.0002");
    }

    #[test]
    fn what_lacks_the_axis_is_an_arm_under_its_label() {
        let untouched = place(&input("base_answers", Some("untouched model"), &[]), &params());
        assert_eq!((untouched.arm.as_str(), untouched.on_axis), ("untouched model", false));
        assert_eq!(place(&input("base[dataset=a]", None, &[("dataset", json!("a"))]), &params()).arm, "base");
        let column: IndexMap<_, _> = [("dataset".to_owned(), "b".to_owned())].into_iter().collect();
        assert!(untouched.agrees_with(&column));
        assert!(!place(&input("base", None, &[("dataset", json!("a"))]), &params()).agrees_with(&column));
    }

    #[test]
    fn without_an_axis_of_arms_all_axes_name_the_arm() {
        let params = ReportParams { replicate: Some("seed".into()), ..ReportParams::default() };
        let axes = [("alpha", json!(5)), ("rank", json!(8)), ("seed", json!(0))];
        assert_eq!(place(&input("train", None, &axes), &params).arm, "alpha=5, rank=8");
    }

    #[test]
    fn values_are_written_as_people_do() {
        assert_eq!(
            [json!(5.0), json!(2e-4), json!("a"), json!([1])].map(|value| display(&value)),
            ["5", "0.0002", "a", "[1]"]
        );
    }

    #[test]
    fn an_unknown_axis_is_a_usage_failure() {
        let inputs = [input("train", None, &[("alpha", json!(5))])];
        let failure = check_axes(&params(), inputs.iter()).unwrap_err();
        assert!(failure.message.contains("`rows` names the axis `variant`"), "{failure}");
        assert_eq!(failure.hint.as_deref(), Some("the inputs have: alpha"));
    }
}

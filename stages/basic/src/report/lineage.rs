//! What the lineage tells about an input: which prompts were answered and how, which rows were trained on, what was judged
//! against what. It knows no files.

use std::collections::{BTreeMap, BTreeSet};

use neftpipe_protocol::params::generate::is_greedy;
use neftpipe_protocol::params::{not_in_key, resolve};
use neftpipe_protocol::request::{Input, Lineage, LineageInput, LineageStage};
use neftpipe_protocol::{Digest, Kind};
use serde_json::Value;

/// What prompts are to the training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Taken from rows trained on: good answers to them show memorisation.
    Trained,
    /// Taken from rows kept out of training.
    HeldOut,
    /// Some other set, or not known.
    Other,
}

/// Looks things up in a lineage; an absent lineage knows nothing.
#[derive(Debug, Default)]
pub struct Origins<'a> {
    by_id: BTreeMap<&'a str, &'a LineageStage>,
}

impl<'a> Origins<'a> {
    /// Of a request's lineage.
    pub fn new(lineage: Option<&'a Lineage>) -> Self {
        let stages = lineage.map_or(&[][..], |lineage| &lineage.stages);
        Self { by_id: stages.iter().map(|stage| (stage.id.as_str(), stage)).collect() }
    }

    /// The stage that made an input.
    pub fn of(&self, input: &Input) -> Option<&'a LineageStage> {
        self.by_id.get(input.stage.as_str()).copied()
    }

    /// The stage that made the first input of a slot, with the output's name.
    pub fn input(&self, stage: &'a LineageStage, slot: &str) -> Option<(&'a LineageStage, &'a LineageInput)> {
        let input = stage.inputs.get(slot)?.first()?;
        Some((*self.by_id.get(input.stage.as_str())?, input))
    }

    /// What the answered prompts are to the training rows.
    pub fn role(&self, answers: &Input) -> Role {
        let prompts = self.of(answers).and_then(|stage| self.input(stage, "prompts"));
        match prompts {
            Some((stage, input)) if stage.kind == Kind::Tokenize => match input.output.as_str() {
                "trained" => Role::Trained,
                "heldout" => Role::HeldOut,
                _ => Role::Other,
            },
            _ => Role::Other,
        }
    }

    /// Whether answers were decoded greedily; `None` where they came from elsewhere.
    pub fn is_greedy(&self, answers: &Input) -> Option<bool> {
        let stage = self.of(answers).filter(|stage| stage.kind == Kind::Generate)?;
        Some(is_greedy(stage.params.get("temperature").and_then(Value::as_f64).unwrap_or(0.0)))
    }

    /// Digest of the tokens that a training run used: rows of different tokens must not be paired.
    pub fn tokens(&self, run: &Input) -> Option<Digest> {
        let (stage, input) = self.input(self.of(run)?, "tokens")?;
        stage.outputs.get(&input.output).copied()
    }

    /// The instances whose answers a verdict judged, and compared them with.
    pub fn judged(&self, verdict: &Input) -> Option<(&'a str, Option<&'a str>)> {
        let stage = self.of(verdict)?;
        let (answers, _) = self.input(stage, "answers")?;
        Some((&answers.id, self.input(stage, "reference").map(|(stage, _)| stage.id.as_str())))
    }
}

/// Leaves of nested parameters with dotted names, in order: `neft.alpha`, 5.
pub fn leaves(params: &Value) -> Vec<(String, &Value)> {
    fn walk<'v>(path: &str, value: &'v Value, leaves: &mut Vec<(String, &'v Value)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, inner) in map {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&path, inner, leaves);
                }
            }
            _ if path.is_empty() => {}
            _ => leaves.push((path.to_owned(), value)),
        }
    }
    let mut all = Vec::new();
    walk("", params, &mut all);
    all
}

/// What stages compute with and do not name, by kind: the defaults, and those inside groups that some stage names.
pub fn defaults(lineage: &Lineage) -> BTreeMap<Kind, BTreeMap<String, Value>> {
    const KINDS: [Kind; 4] = [Kind::Tokenize, Kind::Train, Kind::Generate, Kind::Judge];
    let mut of_kind: BTreeMap<Kind, BTreeMap<String, Value>> = BTreeMap::new();
    for stage in lineage.stages.iter().filter(|stage| KINDS.contains(&stage.kind)) {
        let Ok(resolved) = resolve(stage.kind, stage.params.clone()) else { continue };
        let named: BTreeSet<String> = leaves(&stage.params).into_iter().map(|(name, _)| name).collect();
        let counts = |name: &str| !not_in_key(stage.kind).contains(&name) && !named.contains(name);
        let unnamed = leaves(&resolved.full).into_iter().filter(|(name, value)| !value.is_null() && counts(name));
        of_kind.entry(stage.kind).or_default().extend(unnamed.map(|(name, value)| (name, value.clone())));
    }
    of_kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::ArtifactType;
    use serde_json::json;

    fn stage(id: &str, kind: Kind, inputs: &[(&str, &str, &str)]) -> LineageStage {
        let inputs = inputs.iter().map(|(slot, stage, output)| {
            let input = LineageInput { stage: (*stage).to_owned(), output: (*output).to_owned() };
            ((*slot).to_owned(), vec![input])
        });
        LineageStage {
            id: id.to_owned(),
            kind,
            label: None,
            axes: Default::default(),
            params: json!({}),
            inputs: inputs.collect(),
            outputs: [("tokens".to_owned(), Digest::of(b"tokens"))].into_iter().collect(),
            training_rows: None,
            key: Digest::of(id.as_bytes()),
        }
    }

    fn made_by(stage: &str) -> Input {
        Input {
            path: "/in".into(),
            artifact_type: ArtifactType::Answers,
            digest: Digest::of(b""),
            stage: stage.to_owned(),
            label: None,
            axes: Default::default(),
        }
    }

    #[test]
    fn prompts_are_known_by_the_output_they_come_from() {
        let lineage = Lineage {
            pipeline: String::new(),
            stages: vec![
                stage("tokens", Kind::Tokenize, &[]),
                stage("train", Kind::Train, &[("tokens", "tokens", "tokens")]),
                stage("recall", Kind::Generate, &[("prompts", "tokens", "trained")]),
                stage("answers", Kind::Generate, &[("prompts", "tokens", "heldout")]),
                stage("verdict", Kind::Judge, &[("answers", "answers", "answers"), ("reference", "recall", "answers")]),
            ],
            missing: Vec::new(),
        };
        let origins = Origins::new(Some(&lineage));
        assert_eq!(origins.role(&made_by("recall")), Role::Trained);
        assert_eq!(origins.role(&made_by("answers")), Role::HeldOut);
        assert_eq!(origins.role(&made_by("elsewhere")), Role::Other);
        assert_eq!(origins.is_greedy(&made_by("answers")), Some(true));
        assert_eq!(origins.tokens(&made_by("train")), Some(Digest::of(b"tokens")));
        assert_eq!(origins.judged(&made_by("verdict")), Some(("answers", Some("recall"))));
        assert_eq!(Origins::new(None).judged(&made_by("verdict")), None);
    }

    #[test]
    fn what_no_stage_names_is_told_once_a_kind() {
        let mut sparse = stage("train[variant=sparse]", Kind::Train, &[]);
        sparse.params = json!({"learning_rate": 0.1, "sparsity": {"scope": "delta", "target": 0.5}});
        let lineage = Lineage {
            pipeline: String::new(),
            stages: vec![stage("train", Kind::Train, &[]), sparse.clone()],
            missing: Vec::new(),
        };
        let of_train = &defaults(&lineage)[&Kind::Train];
        for name in ["lora.rank", "batch.size", "betas", "clip", "neft.length", "sparsity.every", "learning_rate"] {
            assert!(of_train.contains_key(name), "{name} is missing: {of_train:?}");
        }
        assert!(!of_train.contains_key("sparsity.target") && !of_train.contains_key("device"));
        let alone = Lineage { pipeline: String::new(), stages: vec![sparse], missing: Vec::new() };
        assert!(!defaults(&alone)[&Kind::Train].contains_key("learning_rate"));
    }

    #[test]
    fn nested_parameters_have_dotted_names() {
        let params = json!({"neft": {"alpha": 5, "schedule": {}}, "lora": {"targets": ["q_proj"]}});
        let names: Vec<_> = leaves(&params).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["neft.alpha=5", "neft.schedule={}", r#"lora.targets=["q_proj"]"#]);
    }
}

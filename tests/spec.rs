//! The language of pipeline files: what loads, and to which instances.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use neftpipe::spec::model::{Gpus, Instance, Pipeline};
use neftpipe::spec::{Overrides, Problems, Selector, load};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipelines").join(name)
}

/// A pipeline file in a folder of its own.
struct Project(tempfile::TempDir);

impl Project {
    fn new(text: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        project.file("p.yaml", text);
        project
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn load(&self) -> Result<Pipeline, Problems> {
        self.load_with(&Overrides::default())
    }

    fn load_with(&self, overrides: &Overrides) -> Result<Pipeline, Problems> {
        load(&self.0.path().join("p.yaml"), overrides)
    }
}

fn loaded(text: &str) -> Pipeline {
    Project::new(text).load().unwrap_or_else(|problems| panic!("{problems}"))
}

fn set(pairs: &[(&str, &str)]) -> Overrides {
    let set = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Overrides { set, profile: None }
}

/// Codes of the problems, in the order of the file.
fn codes(result: Result<Pipeline, Problems>) -> Vec<String> {
    match result {
        Ok(pipeline) => panic!("it loads: {:?}", ids(&pipeline)),
        Err(problems) => problems.diagnostics.iter().map(|diagnostic| diagnostic.code.to_string()).collect(),
    }
}

fn codes_of(text: &str) -> Vec<String> {
    codes(Project::new(text).load())
}

fn ids(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.instances.iter().map(|instance| instance.id.as_str()).collect()
}

fn get<'p>(pipeline: &'p Pipeline, id: &str) -> &'p Instance {
    pipeline.instance(id).unwrap_or_else(|| panic!("no {id} in {:?}", ids(pipeline)))
}

fn inputs(pipeline: &Pipeline, id: &str, slot: &str) -> Vec<String> {
    let refs = &get(pipeline, id).inputs[slot];
    refs.iter().map(|input| format!("{}.{}", pipeline.instances[input.instance].id, input.output)).collect()
}

#[test]
fn the_example_of_the_contract_expands_to_exactly_these_instances() {
    let pipeline =
        load(&fixture("example.yaml"), &Overrides::default()).unwrap_or_else(|problems| panic!("{problems}"));
    let mut expected = vec!["model".to_owned()];
    let datasets = ["alpaca", "sharegpt"];
    for stage in ["data", "tokens"] {
        expected.extend(datasets.iter().map(|dataset| format!("{stage}[dataset={dataset}]")));
    }
    let trained = |stage: &str| {
        let variants =
            [("alpaca", vec!["plain", "neft5", "neft5-step", "sparse-neft5"]), ("sharegpt", vec!["plain", "neft5"])];
        let mut ids = Vec::new();
        for (dataset, variants) in variants {
            for variant in variants {
                for seed in 0..2 {
                    ids.push(format!("{stage}[dataset={dataset},variant={variant},seed={seed}]"));
                }
            }
        }
        ids
    };
    expected.extend(trained("train"));
    expected.extend(trained("answers"));
    expected.extend(datasets.iter().map(|dataset| format!("base_answers[dataset={dataset}]")));
    expected.extend(trained("verdict"));
    // `base_answers` is not gathered, so its axis flows on.
    expected.extend(datasets.iter().map(|dataset| format!("report[dataset={dataset}]")));
    assert_eq!(ids(&pipeline), expected);

    let train = get(&pipeline, "train[dataset=alpaca,variant=neft5-step,seed=1]");
    assert_eq!(train.params["steps"], 40);
    assert_eq!(train.params["lora"]["rank"], 16);
    assert_eq!(train.params["neft"]["schedule"], json!({"step": {"at": [0.5], "factor": 0.5}}));
    assert_eq!(train.params["seed"], 1);
    assert_eq!(
        (train.resources.gpus, train.resources.cpus, train.resources.memory_bytes),
        (Gpus::Auto, Some(2), Some(8 << 30))
    );
    assert_eq!(train.timeout.unwrap().as_secs(), 7200);
    assert_eq!((train.retry.attempts, train.retry.backoff.as_secs()), (2, 5));
    assert_eq!(get(&pipeline, "tokens[dataset=sharegpt]").params["max_length"], 1024);
    assert_eq!(get(&pipeline, "tokens[dataset=sharegpt]").params["template"], "chat");
    assert_eq!(get(&pipeline, "tokens[dataset=alpaca]").params["max_length"], 256);
    assert_eq!(get(&pipeline, "base_answers[dataset=alpaca]").label.as_deref(), Some("untouched model"));

    let verdict = "verdict[dataset=sharegpt,variant=neft5,seed=1]";
    assert_eq!(inputs(&pipeline, verdict, "reference"), ["answers[dataset=sharegpt,variant=plain,seed=1].answers"]);
    assert_eq!(inputs(&pipeline, "base_answers[dataset=alpaca]", "prompts"), ["tokens[dataset=alpaca].heldout"]);
    let report = get(&pipeline, "report[dataset=sharegpt]");
    assert_eq!(report.inputs["answers"].len(), 13);
    assert_eq!(report.inputs["train"].len(), 12);
    assert!(report.inputs.values().flatten().all(|input| input.gathered));
    assert!(!get(&pipeline, verdict).inputs["answers"][0].gathered);
    assert!(pipeline.warnings.diagnostics.is_empty(), "{}", pipeline.warnings);
}

#[test]
fn a_profile_and_set_override_in_their_order() {
    let file = fixture("example.yaml");
    let smoke = Overrides { profile: Some("smoke".into()), ..Overrides::default() };
    let steps = |overrides: &Overrides| {
        let pipeline = load(&file, overrides).unwrap_or_else(|problems| panic!("{problems}"));
        get(&pipeline, "train[dataset=alpaca,variant=plain,seed=0]").params["steps"].clone()
    };
    assert_eq!(steps(&smoke), 2);
    assert_eq!(steps(&Overrides { profile: Some("smoke".into()), ..set(&[("params.steps", "7")]) }), 7);
    assert_eq!(steps(&set(&[("stages.train.train.steps", "9"), ("params.steps", "7")])), 9);
}

const MODEL: &str = "version: 1\nstages:\n  model:\n    download: { from: 'file:m', as: model }\n";

/// A file with stages `a` to `c` that run commands.
fn commands(rest: &str) -> String {
    format!("version: 1\nstages:\n{rest}")
}

#[test]
fn axes_that_needs_share_are_joined_and_others_multiplied() {
    let pipeline = loaded(&commands(
        "  a: { matrix: { params.x: [1, 2] }, command: { run: 'true' } }
  b: { needs: { a: a }, matrix: { params.y: [p, q] }, command: { run: 'true' } }
  c: { matrix: { params.z: [true, false] }, command: { run: 'true' } }
  d: { needs: { b: b, a: a, c: c }, command: { run: 'true' } }
",
    ));
    let of = |stage: &str| ids(&pipeline).into_iter().filter(|id| id.starts_with(stage)).collect::<Vec<_>>().len();
    assert_eq!((of("a"), of("b"), of("c"), of("d")), (2, 4, 2, 8));
    let last = "d[params.x=2,params.y=q,params.z=false]";
    assert_eq!(ids(&pipeline).last(), Some(&last));
    assert_eq!(inputs(&pipeline, last, "a"), ["a[params.x=2].output"]);
    assert_eq!(inputs(&pipeline, last, "b"), ["b[params.x=2,params.y=q].output"]);
}

#[test]
fn fixed_and_gathered_axes_neither_join_nor_flow() {
    let pipeline = loaded(&commands(
        "  a: { matrix: { params.x: [1, 2], params.s: [0, 1, 2] }, command: { run: 'true' } }
  fixed: { needs: { a: 'a[params.x=1]' }, command: { run: 'true' } }
  some: { needs: { a: 'a[params.s=0|2]' }, command: { run: 'true' } }
  gathered: { needs: { a: 'a[params.s=*]' }, command: { run: 'true' } }
  all: { needs: { a: 'a[*]', one: 'a[params.x=2,params.s=1]' }, command: { run: 'true' } }
",
    ));
    assert_eq!(inputs(&pipeline, "fixed[params.s=2]", "a"), ["a[params.x=1,params.s=2].output"]);
    assert_eq!(
        inputs(&pipeline, "some[params.x=2]", "a"),
        ["a[params.x=2,params.s=0].output", "a[params.x=2,params.s=2].output"]
    );
    assert_eq!(inputs(&pipeline, "gathered[params.x=1]", "a").len(), 3);
    assert_eq!(inputs(&pipeline, "all", "a").len(), 6);
    assert_eq!(inputs(&pipeline, "all", "one"), ["a[params.x=2,params.s=1].output"]);
    assert!(get(&pipeline, "all").inputs["a"][0].gathered && !get(&pipeline, "all").inputs["one"][0].gathered);
}

#[test]
fn exclude_takes_partial_combinations_and_include_adds_whole_ones() {
    let pipeline = loaded(&commands(
        "  a:
    matrix: { params.x: [1, 2], v: { p: { params.y: 1 }, q: ~ } }
    exclude: [{ params.x: [1, 2], v: q }]
    include: [{ params.x: 3, v: q }]
    command: { run: 'true', params: { y: 0 } }
",
    ));
    assert_eq!(ids(&pipeline), ["a[params.x=1,v=p]", "a[params.x=2,v=p]", "a[params.x=3,v=q]"]);
    assert_eq!(get(&pipeline, "a[params.x=3,v=q]").params["params"], json!({"x": 3, "y": 0}));
    assert_eq!(get(&pipeline, "a[params.x=1,v=p]").params["params"], json!({"x": 1, "y": 1}));
}

#[test]
fn an_override_may_take_values_that_exclude_and_refine_name() {
    let text = commands(
        "  a: { matrix: { params.x: [1, 2, 3] }, exclude: [{ params.x: 3 }], command: { run: 'true' } }\n  b: { needs: { a: a }, refine: { params.x: { '2': { params.y: 5 } } }, command: { run: 'true' } }\n",
    );
    let project = Project::new(&text);
    let pipeline = project.load_with(&set(&[("stages.a.matrix.params.x", "[1]")])).unwrap();
    assert_eq!(ids(&pipeline), ["a[params.x=1]", "b[params.x=1]"]);
    project.file("p.yaml", &text.replace("params.x: 3 }", "params.x: 4 }"));
    assert_eq!(codes(project.load()), ["unknown_axis_value"]);
}

#[test]
fn combinations_that_mean_nothing_are_errors() {
    let stage = |rest: &str| {
        codes_of(&commands(&format!(
            "  a:\n    matrix: {{ params.x: [1, 2], v: {{ p: {{}} }} }}\n    {rest}\n    command: {{ run: 'true' }}\n"
        )))
    };
    assert_eq!(stage("exclude: [{ w: p }]"), ["unknown_axis"]);
    assert_eq!(stage("exclude: [{ params.x: 7 }]"), ["unknown_axis_value"]);
    assert_eq!(stage("exclude: [{ v: p }]"), ["bad_combination"]);
    assert_eq!(stage("include: [{ v: p }]"), ["bad_combination"]);
    assert_eq!(stage("include: [{ params.x: 3, v: z }]"), ["unknown_axis_value"]);
    assert_eq!(stage("exclude: { v: p }"), ["wrong_type"]);
}

#[test]
fn axis_values_print_canonically_and_selectors_compare_values() {
    let text = format!(
        "{MODEL}  data: {{ download: {{ from: 'file:d', as: dataset }} }}
  tokens: {{ needs: {{ dataset: data, tokenizer: model }}, tokenize: {{}} }}
  train: {{ needs: {{ model: model, tokens: tokens }}, matrix: {{ learning_rate: [2e-4, 1.0] }}, train: {{ steps: 1 }} }}
  answers: {{ needs: {{ model: model, prompts: tokens.heldout, adapter: 'train[learning_rate=2.0e-4]' }}, generate: {{}} }}
"
    );
    let pipeline = loaded(&text);
    assert_eq!(inputs(&pipeline, "answers", "adapter"), ["train[learning_rate=0.0002].adapter"]);
    get(&pipeline, "train[learning_rate=1]");
    let selected = |text: &str| {
        let chosen = Selector::parse(text).unwrap().select(&pipeline).unwrap();
        chosen.into_iter().map(|index| pipeline.instances[index].id.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(selected("train[learning_rate=2e-4]"), ["train[learning_rate=0.0002]"]);
    assert_eq!(selected("train[*]").len(), 2);
    assert_eq!(selected("train[learning_rate=0.0002|1]").len(), 2);
    assert_eq!(selected("train[learning_rate=2e-4]+"), ["train[learning_rate=0.0002]", "answers"]);
    let nothing = |text: &str| Selector::parse(text).unwrap().select(&pipeline).unwrap_err().to_string();
    assert!(nothing("tarin").contains("did you mean `train`?"));
    assert!(nothing("train[learning_rat=1]").contains("did you mean `learning_rate`?"));
    assert!(nothing("train[learning_rate=3]").contains("no value `3`"));
}

#[test]
fn values_that_references_cannot_spell_need_labels() {
    let axis = |values: &str| {
        codes_of(&commands(&format!("  a: {{ matrix: {{ params.x: {values} }}, command: {{ run: 'true' }} }}\n")))
    };
    for values in ["['a,b']", "['a=b']", "['a|b']", "['[a]']", "['*']", "['']", "[' a']", "[[1]]", "[{y: 1}]", "[~]"] {
        assert_eq!(axis(values), ["bad_axis"], "{values}");
    }
    assert_eq!(axis("[1, 1.0]"), ["bad_axis"]);
    assert_eq!(axis("[]"), ["bad_axis"]);
    assert_eq!(axis("5"), ["wrong_type"]);
    assert_eq!(axis("{ 'a|b': {} }"), ["bad_axis"]);
    for value in ["'a|b'", "' '"] {
        let added = format!(
            "  a: {{ matrix: {{ params.x: [1] }}, include: [{{ params.x: {value} }}], command: {{ run: 'true' }} }}\n"
        );
        assert_eq!(codes_of(&commands(&added)), ["bad_axis"], "{value}");
    }
}

#[test]
fn an_axis_of_values_names_a_parameter() {
    let axis = |name: &str| {
        codes_of(&format!(
            "version: 1\nstages:\n  a: {{ matrix: {{ {name}: [1] }}, download: {{ from: 'file:x' }} }}\n"
        ))
    };
    assert_eq!(axis("limti"), ["unknown_axis"]);
    assert_eq!(axis("from"), ["wrong_type"]);
    assert_eq!(codes_of(&commands("  a: { matrix: { x: [1] }, command: { run: 'true' } }\n")), ["unknown_axis"]);
}

#[test]
fn two_axes_cannot_set_one_parameter() {
    let text = commands("  a: { matrix: { params.x: [1], v: { p: { params.x: 2 } } }, command: { run: 'true' } }\n");
    assert_eq!(codes_of(&text), ["axis_conflict"]);
}

#[test]
fn an_inherited_axis_cannot_be_declared_again() {
    let text = commands(
        "  a: { matrix: { params.x: [1] }, command: { run: 'true' } }
  b: { needs: { a: a }, matrix: { params.x: [2] }, command: { run: 'true' } }\n",
    );
    assert_eq!(codes_of(&text), ["axis_redeclared"]);
}

#[test]
fn a_join_that_leaves_nothing_is_an_error() {
    let text = commands(
        "  a: { matrix: { params.x: [1] }, command: { run: 'true' } }
  b: { matrix: { params.x: [2] }, command: { run: 'true' } }
  c: { needs: { a: a, b: b }, command: { run: 'true' } }\n",
    );
    assert_eq!(codes_of(&text), ["empty_join"]);
}

#[test]
fn layers_override_in_the_stated_order() {
    let text = "version: 1
params: { p: 5 }
profiles: { fast: { stages.b.command.params.f: profile } }
defaults: { command: { run: 'true', params: { a: default, b: default, c: default, d: default, e: default, f: default } } }
stages:
  a: { matrix: { w: { one: {}, two: {} } }, command: {} }
  b:
    needs: { a: a }
    matrix: { v: { p: { params.c: matrix, params.d: matrix } } }
    refine: { w: { two: { params.d: refine, params.e: refine } } }
    command: { params: { b: stage, c: stage, d: stage, e: '${params.p}' } }
";
    let project = Project::new(text);
    let overrides = Overrides { profile: Some("fast".into()), ..set(&[("stages.b.command.params.b", "set")]) };
    let pipeline = project.load_with(&overrides).unwrap_or_else(|problems| panic!("{problems}"));
    let params = |id: &str| get(&pipeline, id).params["params"].clone();
    let mut expected = json!({"a": "default", "b": "set", "c": "matrix", "d": "matrix", "e": 5, "f": "profile"});
    assert_eq!(params("b[w=one,v=p]"), expected);
    expected["d"] = json!("refine");
    expected["e"] = json!("refine");
    assert_eq!(params("b[w=two,v=p]"), expected);
    assert_eq!(params("a[w=one]")["b"], "default");
}

#[test]
fn what_an_axis_sets_cannot_be_overridden() {
    let text = "version: 1
profiles: { p: { stages.a.command.params.x: 3 } }
stages:
  a: { matrix: { params.x: [1], v: { l: { params.y: 1 } } }, command: { run: 'true' } }
";
    let project = Project::new(text);
    assert_eq!(codes(project.load()), ["axis_override"]);
    let project = Project::new(&text.replace("profiles: { p: { stages.a.command.params.x: 3 } }\n", ""));
    let with = |key: &str, value: &str| codes(project.load_with(&set(&[(key, value)])));
    assert_eq!(with("stages.a.command.params.y", "3"), ["axis_override"]);
    assert_eq!(with("stages.a.command.params", "{y: 3}"), ["axis_override"]);
    let problems = project.load_with(&set(&[("stages.a.command.params.y", "3")])).unwrap_err();
    assert!(problems.diagnostics[0].message.contains("the axis `v`"), "{problems}");
    assert!(project.load_with(&set(&[("stages.a.command.params.z", "3")])).is_ok());
    let changed =
        project.load_with(&set(&[("stages.a.matrix.v.l.params.y", "3"), ("stages.a.matrix.params.x", "[7]")]));
    let changed = changed.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(get(&changed, "a[params.x=7,v=l]").params["params"], json!({"x": 7, "y": 3}));
}

#[test]
fn overrides_reach_the_frame_of_a_stage_and_refuse_what_is_not_there() {
    let project =
        Project::new("version: 1\nparams: { n: 1 }\nstages:\n  a: { command: { run: 'echo ${params.n}' } }\n");
    let good = project.load_with(&set(&[
        ("stages.a.resources.cpus", "3"),
        ("stages.a.matrix.params.x", "[1, 2]"),
        ("defaults.command.env", "[HOME]"),
    ]));
    let pipeline = good.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(pipeline.instances.len(), 2);
    assert_eq!(pipeline.instances[0].resources.cpus, Some(3));
    assert_eq!(pipeline.instances[0].params["env"], json!(["HOME"]));
    let with = |key: &str, value: &str| codes(project.load_with(&set(&[(key, value)])));
    assert_eq!(with("params.m", "3"), ["unknown_param"]);
    assert_eq!(with("n", "3"), ["bad_override"]);
    assert_eq!(with("stages.b.command.run", "x"), ["unknown_stage"]);
    assert_eq!(with("stages.a.train.steps", "3"), ["unknown_key"]);
    assert_eq!(with("stages.a.command.rnu", "x"), ["unknown_key"]);
    assert_eq!(with("stages.a.command.env", "5"), ["wrong_type"]);
    assert_eq!(with("stages.a.command.env", "[x"), ["yaml_syntax"]);
    let told = |key: &str| project.load_with(&set(&[(key, "2")])).unwrap_err().to_string();
    assert!(told("stages.a.command.timeout").contains("one level above"), "{}", told("stages.a.command.timeout"));
    assert!(told("stages.a.env").contains("one level down"), "{}", told("stages.a.env"));
    let none = Overrides { profile: Some("smoke".into()), ..Overrides::default() };
    assert_eq!(codes(project.load_with(&none)), ["unknown_profile"]);
}

#[test]
fn full_training_drops_the_lora_of_weaker_layers_only() {
    let text = |train: &str| {
        format!(
            "{MODEL}  data: {{ download: {{ from: 'file:d', format: alpaca }} }}
  tokens: {{ needs: {{ dataset: data, tokenizer: model }}, tokenize: {{}} }}
  train: {{ needs: {{ model: model, tokens: tokens }}, {train} }}
  answers: {{ needs: {{ model: train, prompts: tokens.heldout }}, generate: {{}} }}
"
        )
        .replace("stages:", "defaults: { train: { lora: { rank: 4 } } }\nstages:")
    };
    let pipeline = loaded(&text("train: { full: true }"));
    assert_eq!(inputs(&pipeline, "answers", "model"), ["train.model"]);
    assert_eq!(codes_of(&text("train: { full: true, lora: { rank: 2 } }")), ["conflict"]);
    assert_eq!(codes_of(&text("train: { lora: { rank: 2 } }")), ["slot_type"]);
    let matrix = "matrix: { how: { lora: { lora.rank: 8 }, full: { full: true } } }, train: { steps: 1 }";
    assert_eq!(codes_of(&text(matrix)), ["slot_type"]);
}

#[test]
fn included_files_bring_params_defaults_and_stages() {
    let project =
        Project::new("version: 1\ninclude: [lib/other.yaml]\nstages:\n  b: { needs: { a: a }, command: {} }\n");
    project.file("lib/other.yaml", "params: { x: 3 }\ndefaults: { command: { run: 'true' } }\nstages:\n  a: { command: { params: { x: '${params.x}' } } }\n");
    let pipeline = project.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(ids(&pipeline), ["a", "b"]);
    assert_eq!(get(&pipeline, "a").params["params"]["x"], 3);
    assert!(get(&pipeline, "a").base.ends_with("lib") && !get(&pipeline, "b").base.ends_with("lib"));

    project.file("lib/other.yaml", "stages:\n  b: { command: { run: 'true' } }\n");
    assert_eq!(codes(project.load()), ["unknown_stage", "duplicate_name"]);
    project.file("lib/other.yaml", "profiles: { deep: {} }\nstages:\n  a: { command: { run: 'true' } }\n");
    let deep = Overrides { profile: Some("deep".to_owned()), ..Overrides::default() };
    let problems = project.load_with(&deep).unwrap_err();
    assert!(problems.to_string().contains("other.yaml has it"), "{problems}");
    project.file("lib/other.yaml", "include: [../p.yaml]\n");
    assert_eq!(codes(project.load()), ["unknown_stage", "bad_include"]);
    project.file("lib/other.yaml", "stages:\n  a: { command: { rnu: 'true' } }\n");
    let problems = project.load().unwrap_err();
    let place = problems.diagnostics.last().unwrap();
    assert!(problems.sources.get(place.span.source).name().ends_with("other.yaml"), "{problems}");
    assert_eq!((place.span.line, place.span.column), (2, 19));
}

#[test]
fn a_template_may_be_a_file() {
    let text = format!(
        "{MODEL}  data: {{ download: {{ from: 'file:d', as: dataset }} }}
  tokens: {{ needs: {{ dataset: data, tokenizer: model }}, tokenize: {{ template: my.jinja }} }}
"
    );
    let project = Project::new(&text);
    assert_eq!(codes(project.load()), ["missing_file"]);
    project.file("my.jinja", "{{ instruction }}");
    let pipeline = project.load().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(get(&pipeline, "tokens").params["template"], json!({"jinja": "{{ instruction }}"}));
    assert_eq!(get(&pipeline, "tokens").params.key()["template"], json!({"jinja": "{{ instruction }}"}));
}

#[test]
fn slots_are_typed() {
    let text = |rest: &str| {
        codes_of(&format!(
            "{MODEL}  data: {{ download: {{ from: 'file:d', as: dataset }} }}\n  tokens: {{ needs: {{ dataset: data, tokenizer: model }}, tokenize: {{}} }}\n{rest}\n"
        ))
    };
    assert_eq!(text("  t: { needs: { dataset: model, tokenizer: model }, tokenize: {} }"), ["slot_type"]);
    assert_eq!(text("  t: { needs: { dataset: data }, tokenize: {} }"), ["missing_slot"]);
    assert_eq!(text("  t: { tokenize: {} }"), ["missing_slot", "missing_slot"]);
    assert_eq!(
        text("  t: { needs: { dataset: data, tokeniser: model }, tokenize: {} }"),
        ["missing_slot", "unknown_slot"]
    );
    assert_eq!(text("  g: { needs: { model: model, prompts: tokens }, generate: {} }"), ["slot_type"]);
    assert_eq!(text("  g: { needs: { model: model, prompts: tokens.heldot }, generate: {} }"), ["unknown_output"]);
    assert_eq!(text("  g: { needs: { model: [model], prompts: tokens.heldout }, generate: {} }"), ["slot_arity"]);
    assert_eq!(text("  g: { needs: { model: 'model[*]', prompts: tokens.heldout }, generate: {} }"), ["slot_arity"]);
    assert_eq!(text("  d: { needs: { x: model }, download: { from: 'file:x' } }"), ["unknown_slot"]);
}

#[test]
fn a_local_judge_needs_a_model() {
    let text = |needs: &str| {
        format!(
            "version: 1\nstages:\n  a: {{ download: {{ from: 'file:a', as: answers }} }}\n  m: {{ download: {{ from: 'file:m' }} }}\n  j: {{ needs: {{ {needs} }}, judge: {{ annotator: local }} }}\n"
        )
    };
    assert_eq!(codes_of(&text("answers: a, reference: a")), ["missing_slot"]);
    assert_eq!(codes_of(&text("answers: a, model: m")), ["missing_slot"]);
    assert_eq!(loaded(&text("answers: a, reference: a, model: m")).instances.len(), 3);
}

#[test]
fn a_judge_that_asks_a_service_has_all_that_it_needs() {
    let text = |needs: &str, more: &str| {
        format!(
            "version: 1\nstages:\n  a: {{ download: {{ from: 'file:a', as: answers }} }}\n  f: {{ download: {{ from: 'file:f', as: files }} }}\n  j: {{ needs: {{ {needs} }}, judge: {{ annotator: alpaca_eval_gpt4, endpoint: {{ model: m }}{more} }} }}\n"
        )
    };
    let all = "answers: a, reference: a, annotators: f";
    assert_eq!(codes_of(&text("answers: a", "")), ["missing_slot", "missing_slot"]);
    assert_eq!(codes_of(&text(all, ", calibrate: 5")), ["missing_slot"]);
    assert_eq!(codes_of(&text(&format!("{all}, calibrate: f"), "")), ["missing_key"]);
    assert_eq!(codes_of(&text(&format!("{all}, annotations: f"), "")), ["conflict"]);
    assert_eq!(codes_of(&text(all, ", seed: 18446744073709551615")), ["bad_value"]);
    assert_eq!(loaded(&text(all, ", length_control: { C: cv }")).instances.len(), 3);
    assert_eq!(codes_of(&text(all, ", length_control: { C: best }")), ["bad_value"]);
}

#[test]
fn axes_that_a_report_names_exist() {
    let text = |report: &str| {
        codes_of(&format!(
            "version: 1\nstages:\n  a: {{ matrix: {{ v: {{ p: {{}}, q: {{}} }} }}, download: {{ from: 'file:a', as: answers }} }}\n  r: {{ needs: {{ answers: 'a[*]' }}, report: {{ {report} }} }}\n"
        ))
    };
    assert_eq!(text("rows: w"), ["unknown_axis"]);
    assert_eq!(text("rows: v, baseline: { v: z }"), ["unknown_axis_value"]);
    assert_eq!(text("rows: v, baseline: { x: z }"), ["unknown_axis"]);
    assert_eq!(text("rows: v, families: { f: [p, z] }, baseline: { v: w }"), ["unknown_axis_value"; 2]);
    let interactions = "rows: v, interactions: { i: { both: p, alone: [q, r] }, j: { both: s, alone: [p, q] } }";
    assert_eq!(text(interactions), ["unknown_axis_value"; 2]);
}

/// What a worker would refuse only once its inputs are there.
#[test]
fn what_does_not_go_together_is_said_before_anything_runs() {
    let text = |stages: &str| {
        codes_of(&format!(
            "version: 1\nstages:\n  m: {{ download: {{ from: 'file:m', as: model }} }}\n  d: {{ download: {{ from: 'file:d', as: dataset }} }}\n  k: {{ needs: {{ dataset: d, tokenizer: m }}, tokenize: {{ }} }}\n  a: {{ needs: {{ model: m, tokens: k }}, train: {{ lora: {{ rank: 4 }} }} }}\n{stages}"
        ))
    };
    let train = |params: &str| {
        text(&format!("  t: {{ needs: {{ model: m, tokens: k, adapter: a }}, train: {{ {params} }} }}\n"))
    };
    assert_eq!(train("full: true"), ["conflict"]);
    assert_eq!(train("lora: { rank: 8 }"), ["conflict"]);
    assert_eq!(train("lora: { rank: 4 }, early_stopping: { patience: 1 }, eval_every: 2"), ["conflict"]);
    let masked = "  s: { needs: { model: m, tokens: k }, train: { sparsity: { scope: delta, target: 0.5 } } }\n  t: { needs: { model: m, tokens: k, adapter: s } , train: {} }\n";
    assert_eq!(text(masked), ["conflict"]);
    assert_eq!(
        text("  t: { needs: { dataset: d, tokenizer: m }, tokenize: { decontaminate: true } }\n"),
        ["missing_slot"]
    );
    let contamination = "  e: { download: { from: 'file:e', as: prompts } }\n  t: { needs: { dataset: d, tokenizer: m, exclude: e }, tokenize: { decontaminate: true, contamination: { ngrams: 4 } } }\n";
    assert_eq!(text(contamination), ["bad_value"]);
    let of_none = loaded(
        "version: 1\nname: x\nstages:\n  m: { download: { from: 'file:m', as: model } }\n  d: { download: { from: 'file:d', as: dataset } }\n  t: { needs: { dataset: d, tokenizer: m }, tokenize: { contamination: { text: normalised } } }\n",
    );
    assert!(of_none.warnings.to_string().contains("`contamination` drops nothing without `decontaminate`"));
    let sources =
        ["hf:alone", "https://", "pypi:a==1 --pre", "file:"].map(|from| format!("{{ from: '{from}', as: files }}"));
    for download in sources
        .iter()
        .map(String::as_str)
        .chain(["{ from: 'file:x', sha256: ab }", "{ from: 'hf:a/b', select: ['[a'] }"])
    {
        assert_eq!(text(&format!("  x: {{ download: {download} }}\n")), ["bad_value"], "{download}");
    }
}

#[test]
fn a_judge_that_could_not_begin_is_refused_where_its_value_stands() {
    let text = |parser: &str| {
        format!(
            "version: 1\nstages:\n  a: {{ download: {{ from: 'file:a', as: answers }} }}\n  f: {{ download: {{ from: 'file:f', as: files }} }}\n  v:\n    needs: {{ answers: a, reference: a, annotators: f }}\n    judge: {{ annotator: custom, endpoint: {{ model: m }}, custom: {{ prompt: p.txt, parser: {parser} }} }}\n"
        )
    };
    loaded(&text("{ regex: { first: '(?i)a', second: b } }"));
    let text = text("{ regex: { first: 'a+', second: '(b' } }");
    let problems = Project::new(&text).load().unwrap_err();
    let [only] = problems.diagnostics.as_slice() else { panic!("{problems}") };
    assert_eq!((only.code.to_string().as_str(), text[only.span.range.clone()].trim_end()), ("bad_value", "'(b'"));
    assert!(only.message.contains("unclosed group"), "{}", only.message);
}

#[test]
fn cycles_unknown_stages_and_kinds() {
    let cycle = commands(
        "  a: { needs: { b: b }, command: { run: x } }\n  b: { needs: { a: a }, command: { run: x } }\n  c: { needs: { a: a }, command: { run: x } }\n",
    );
    let problems = Project::new(&cycle).load().unwrap_err();
    assert_eq!(problems.diagnostics.len(), 1);
    assert!(problems.diagnostics[0].message.contains("`a` needs `b` needs `a`"), "{problems}");
    assert_eq!(codes_of(&commands("  a: { needs: { a: a }, command: { run: x } }\n")), ["cycle"]);
    assert_eq!(codes_of(&commands("  a: { needs: { x: b }, command: { run: x } }\n")), ["unknown_stage"]);
    assert_eq!(codes_of(&commands("  a: { command: { run: x }, train: {} }\n")), ["kind_count"]);
    assert_eq!(codes_of(&commands("  a: { label: x }\n")), ["kind_count"]);
    assert_eq!(codes_of(&commands("  a: { comand: { run: x } }\n")), ["kind_count"]);
}

#[test]
fn commands_are_told_of_scripts_that_they_leave_behind() {
    let project =
        Project::new(&commands("  a: { command: { run: 'python3 go.py --x=1 lib/x.py', files: ['lib/**'] } }\n"));
    project.file("go.py", "");
    project.file("lib/x.py", "");
    let pipeline = project.load().unwrap();
    assert_eq!(pipeline.warnings.diagnostics.len(), 1);
    let warning = pipeline.warnings.to_string();
    assert!(warning.contains("script_not_in_files") && warning.contains("go.py"), "{warning}");
    project.file("p.yaml", &commands("  a: { command: { run: 'go.py', files: [go.py, none.py, ../x] } }\n"));
    assert_eq!(codes(project.load()), ["missing_file", "bad_value"]);
    let of_two = "  a: { command: { run: x, files: [none.py] } }\n  b: { command: { run: x, files: [none.py] } }\n";
    project.file("p.yaml", &commands(of_two));
    assert_eq!(codes(project.load()), ["missing_file"; 2]);
}

#[test]
fn a_path_that_the_key_cannot_leave_out_is_told() {
    let warnings = |stage: &str| loaded(&commands(stage)).warnings.to_string();
    let told = warnings("  a: { command: { run: x, params: { note: 1 }, key_ignore: [params.noet] } }\n");
    assert!(told.contains("no_effect") && told.contains("did you mean `note`"), "{told}");
    let of_some =
        "  a: { matrix: { v: { p: { params.x.y: 1 }, q: {} } }, command: { run: x, key_ignore: [params.x.y] } }\n";
    assert_eq!(warnings(of_some), "");
}

#[test]
fn files_that_are_no_pipeline_are_refused_clearly() {
    assert_eq!(codes_of(""), ["empty_file"]);
    assert_eq!(codes_of("# only a comment\n"), ["empty_file"]);
    assert_eq!(codes_of("[1, 2]"), ["wrong_type"]);
    assert_eq!(codes_of("version: 1\n\tstages: {}\n"), ["yaml_syntax"]);
    assert_eq!(codes_of("version: 2\nstages: {}\n"), ["bad_version"]);
    assert_eq!(codes_of("version: 1\n"), ["missing_key"]);
    assert_eq!(codes_of("version: 1\nstages: {}\n---\nversion: 1\n"), ["yaml_syntax"]);
    assert_eq!(codes_of(&commands("  'a b': { command: { run: x } }\n")), ["bad_name"]);
    assert_eq!(codes_of(&commands("  a: &x { command: { run: x } }\n  b: { <<: *x }\n")), ["merge_key"]);
    assert_eq!(codes_of(&commands("  a: { command: { run: x } }\n  a: { command: { run: x } }\n")), ["duplicate_key"]);
    let missing = load(Path::new("/nonexistent/p.yaml"), &Overrides::default());
    assert_eq!(codes(missing), ["unreadable_file"]);
    let project = Project::new("");
    std::fs::write(project.0.path().join("p.yaml"), b"version: 1\nname: \xff\n").unwrap();
    let problems = project.load().unwrap_err();
    assert_eq!(problems.diagnostics[0].message, "byte 0xff at offset 17 is no UTF-8");
}

#[test]
fn everything_wrong_in_a_file_is_said_at_once() {
    let text = "version: 1
parms: {}
stages:
  model: { download: { from: 'ftp:x', limit: many } }
  t: { needs: { model: modle, tokens: model }, train: { steps: -1, neft: { alhpa: 5 } }, timeout: 2 }
";
    let expected =
        ["unknown_key", "bad_value", "wrong_type", "unknown_stage", "bad_value", "unknown_key", "wrong_type"];
    assert_eq!(codes_of(text), expected);
}

#[test]
fn what_does_not_go_together_is_said_beside_what_is_wrong_by_itself() {
    let text = |stages: &str| {
        codes_of(&format!(
            "version: 1\nstages:\n  m: {{ download: {{ from: 'file:m', as: model, limit: many }} }}\n  d: {{ download: {{ from: 'file:d', as: dataset }} }}\n  k: {{ needs: {{ dataset: d, tokenizer: m }}, tokenize: {{ max_length: x }} }}\n  a: {{ needs: {{ model: m, tokens: k }}, train: {{ lora: {{ rank: 4 }}, eps: x }} }}\n{stages}"
        ))
    };
    let with = |more: &[&'static str]| [&["wrong_type"; 3][..], more].concat();
    let train = |params: &str| {
        text(&format!("  t: {{ needs: {{ model: m, tokens: k, adapter: a }}, train: {{ {params} }} }}\n"))
    };
    // of one stage
    assert_eq!(train("learning_rate: 0, clip: x, lora: { rank: 4 }"), with(&["bad_value", "wrong_type"]));
    assert_eq!(train("steps: 2, epochs: 1, clip: x, lora: { rank: 4 }"), with(&["conflict", "wrong_type"]));
    let label =
        "  t: { needs: { model: m, tokens: k }, matrix: { v: { x: { clip: x }, y: { clip: -1 } } }, train: {} }\n";
    assert_eq!(text(label), with(&["wrong_type", "bad_value"]));
    // of two, wrong otherwise
    assert_eq!(train("lora: { rank: 8 }"), with(&["conflict"]));
    assert_eq!(train("lora: { rank: 4 }, early_stopping: { patience: 1 }, eval_every: 2"), with(&["conflict"]));
    assert_eq!(text("  g: { needs: { model: k, prompts: k.heldout }, generate: {} }\n"), with(&["slot_type"]));
    let judge = "  v: { needs: { answers: g, reference: g }, judge: { annotator: local, concurrency: x } }\n  g: { needs: { model: m, prompts: k.heldout }, generate: { top_p: x } }\n";
    assert_eq!(text(judge), with(&["missing_slot", "wrong_type", "wrong_type"]));
    let command = "  c: { needs: { x: m }, command: { run: 'echo {in.y} {params.n}', files: [5] } }\n";
    assert_eq!(text(command), with(&["unknown_field", "unknown_field", "wrong_type"]));
    // what goes with a value that is wrong is not guessed
    assert_eq!(train("lora: { rank: 8, alpha: x }"), with(&["wrong_type"]));
    assert_eq!(
        train("lora: { rank: 4 }, early_stopping: { patience: 1 }, eval_every: x"),
        with(&["conflict", "wrong_type"])
    );
    let judge = "  v: { needs: { answers: g }, judge: { annotator: locl } }\n  g: { needs: { model: m, prompts: k.heldout }, generate: {} }\n";
    assert_eq!(text(judge), with(&["bad_value"]));
    let file = "  f: { download: { from: 'file:f', as: x } }\n  g: { needs: { model: f, prompts: k.heldout }, generate: {} }\n";
    assert_eq!(text(file), with(&["bad_value"]));
}

#[test]
fn the_json_of_problems_has_their_places() {
    let problems = Project::new("version: 1\nstages:\n  é: { command: { rnu: x } }\n").load().unwrap_err();
    let value: Value = problems.to_json();
    let first = &value["problems"][0];
    assert_eq!(value["version"], 1);
    assert_eq!(
        (&first["code"], &first["line"], &first["column"], &first["length"]),
        (&json!("unknown_key"), &json!(3), &json!(19), &json!(3))
    );
    assert_eq!(first["hint"], "did you mean `run`?");
}

#[test]
fn ten_thousand_stages_and_a_chain_of_as_many_load() {
    let mut text = String::from("version: 1\nstages:\n  s0: { command: { run: 'true' } }\n");
    for index in 1..10_000 {
        text += &format!("  s{index}: {{ needs: {{ x: s{} }}, command: {{ run: 'true' }} }}\n", index - 1);
    }
    let pipeline = loaded(&text);
    assert_eq!(pipeline.instances.len(), 10_000);
    assert_eq!(pipeline.instances[9_999].inputs["x"][0].instance, 9_998);
}

#[test]
fn a_matrix_beyond_all_reason_is_refused() {
    let axes: String = (0..12).map(|axis| format!("params.a{axis}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], ")).collect();
    assert_eq!(
        codes_of(&commands(&format!("  a: {{ matrix: {{ {axes} }}, command: {{ run: x }} }}\n"))),
        ["too_many_instances"]
    );
}

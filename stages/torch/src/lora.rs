//! Low-rank adapters in the files of PEFT: read, checked against the model, attached, started afresh, written, merged.
//!
//! It knows names and shapes; how an adapter computes stands at [`LowRank`].

use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::params::train::Lora;
use neftpipe_protocol::random::RandomStream;
use neftpipe_protocol::worker::write_json;
use neftpipe_protocol::{Failure, artifact::AdapterInfo};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use crate::model::{Covers, Llama, LowRank, Mask};
use crate::tensor_file::{self, TensorFile, TensorFileError};

/// Name of the weights in an adapter folder.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Name of the configuration in an adapter folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the masks in the folder of a sparse adapter.
pub const MASKS_FILE: &str = "masks.safetensors";
/// The `peft_type` of an adapter with masks, and what its configuration calls what they cover.
const SPARSE_TYPE: &str = "NEFTPIPE_SPARSE_LORA";
const SCOPE: &str = "neftpipe_sparsity_scope";
const SCOPES: [(&str, Covers); 2] = [("delta", Covers::Update), ("base_plus_lora", Covers::Weight)];
/// Name of our own facts in an adapter folder; adapters made elsewhere have none.
pub const INFO_FILE: &str = "neftpipe.json";

/// What is wrong with an adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its configuration says something that is not supported.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What.
        message: String,
    },
    /// It was made for a model with fewer projections.
    #[error("{}: `{name}` has no place in this model", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Its tensors do not fit.
    #[error(transparent)]
    Weights(#[from] TensorFileError),
}

impl From<AdapterError> for Failure {
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::Weights(TensorFileError::Shape { .. }) | AdapterError::OtherModel { .. } => {
                Self::data(error.to_string()).with_hint("this adapter was made for another base model")
            }
            AdapterError::Weights(error) => error.into(),
            error => Self::data(error.to_string()),
        }
    }
}

/// What an adapter's files say of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank, alpha, dropout, targets, rslora.
    pub lora: Lora,
    /// Whether it computes under masks.
    pub sparse: bool,
    /// How it was trained, where it was trained here.
    pub info: Option<AdapterInfo>,
}

#[derive(Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: u64,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Options of PEFT that change what an adapter computes, with the values under which they do not.
const UNSUPPORTED: [(&str, &[&str]); 18] = [
    ("use_dora", &["false"]),
    ("use_qalora", &["false"]),
    ("use_bdlora", &["false"]),
    ("lora_bias", &["false"]),
    ("fan_in_fan_out", &["false"]),
    ("bias", &["\"none\""]),
    ("modules_to_save", &["[]"]),
    ("rank_pattern", &["{}"]),
    ("alpha_pattern", &["{}"]),
    ("layers_to_transform", &[]),
    ("layer_replication", &[]),
    ("exclude_modules", &["[]"]),
    ("target_parameters", &["[]"]),
    ("trainable_token_indices", &[]),
    ("alora_invocation_tokens", &[]),
    ("arrow_config", &[]),
    ("velora_config", &[]),
    // Other starts change the base weights, which an adapter file alone does not show.
    ("init_lora_weights", &["true", "false", "\"gaussian\"", "\"orthogonal\""]),
];

/// Reads an adapter and puts it beside the projections of a model, in f32 and on its device.
///
/// # Errors
/// Where a file is missing or damaged, it asks for more than LoRA, or it does not fit the model.
pub fn attach(folder: &Path, model: &mut Llama) -> Result<Adapter, AdapterError> {
    let config_path = folder.join(CONFIG_FILE);
    let read = |path: &Path| fs::read(path).map_err(|source| AdapterError::Read { path: path.to_owned(), source });
    let refuse = |message| AdapterError::Config { path: config_path.clone(), message };
    let config: PeftConfig = serde_json::from_slice(&read(&config_path)?)
        .map_err(|error| refuse(format!("not a LoRA configuration: {error}")))?;
    let lora = config.check().map_err(refuse)?;
    let covers = config.covers().map_err(refuse)?;
    let file = TensorFile::open(&folder.join(WEIGHTS_FILE))?;
    attach_tensors(&file, &lora, model)?;
    if let Some(covers) = covers {
        attach_masks(&TensorFile::open(&folder.join(MASKS_FILE))?, &lora, covers, model)?;
    }
    let info_path = folder.join(INFO_FILE);
    let info = if info_path.exists() {
        let info = serde_json::from_slice(&read(&info_path)?);
        Some(info.map_err(|error| AdapterError::Config { path: info_path, message: error.to_string() })?)
    } else {
        None
    };
    Ok(Adapter { lora, sparse: covers.is_some(), info })
}

impl PeftConfig {
    fn check(&self) -> Result<Lora, String> {
        if self.peft_type != "LORA" && self.peft_type != SPARSE_TYPE {
            return Err(format!("`peft_type` is `{}`; LORA is supported", self.peft_type));
        }
        for (name, neutral) in UNSUPPORTED {
            if let Some(value) = self.rest.get(name).filter(|value| !value.is_null()) {
                let text = value.to_string();
                if !neutral.contains(&text.as_str()) {
                    return Err(format!("`{name}` is {text}, which is not supported"));
                }
            }
        }
        let targets = self.targets()?;
        Ok(Lora {
            rank: self.r,
            alpha: Some(self.lora_alpha),
            dropout: self.lora_dropout,
            targets,
            rslora: self.use_rslora,
        })
    }

    /// What its masks cover, where it has any.
    fn covers(&self) -> Result<Option<Covers>, String> {
        if self.peft_type != SPARSE_TYPE {
            return Ok(None);
        }
        let said = self.rest.get(SCOPE).and_then(Value::as_str).unwrap_or_default();
        match SCOPES.iter().find(|(name, _)| *name == said) {
            Some(&(_, covers)) => Ok(Some(covers)),
            None => Err(format!("`{SCOPE}` is `{said}`; `delta` and `base_plus_lora` are supported")),
        }
    }

    /// The projections in the order of a block, whatever the order in the file.
    fn targets(&self) -> Result<Vec<String>, String> {
        let said: Vec<String> = match &self.target_modules {
            Value::String(all) if all == "all-linear" => Lora::ALL_TARGETS.map(str::to_owned).to_vec(),
            Value::Array(names) => {
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                if let Some(one) = names.iter().find(|name| name.contains("layers.")) {
                    return Err(format!(
                        "`target_modules` names `{one}`, of one layer; adapters over all layers are supported"
                    ));
                }
                names.into_iter().map(last_part).collect()
            }
            other => return Err(format!("`target_modules` is {other}; a list of projections is supported")),
        };
        if let Some(unknown) = said.iter().find(|name| !Lora::ALL_TARGETS.contains(&name.as_str())) {
            return Err(format!("the target `{unknown}` is no projection: {}", Lora::ALL_TARGETS.join(", ")));
        }
        let known = Lora::ALL_TARGETS.iter().filter(|&&known| said.iter().any(|name| name == known));
        Ok(known.map(|&name| name.to_owned()).collect())
    }
}

fn last_part(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

fn attach_tensors(file: &TensorFile, lora: &Lora, model: &mut Llama) -> Result<(), AdapterError> {
    let (kind, device) = (Kind::Float, model.device());
    let mut wanted = Vec::new();
    for_each_target(model, &lora.targets, |name, _, projection| {
        let (a_name, b_name) = tensor_names(name);
        let a = file.read(&a_name, &[lora.rank as i64, projection.inputs()], kind, device)?;
        let b = file.read(&b_name, &[projection.outputs(), lora.rank as i64], kind, device)?;
        projection.adapter = Some(LowRank { a, b, scaling: lora.scaling(), mask: None });
        wanted.extend([a_name, b_name]);
        Ok::<_, AdapterError>(())
    })?;
    match file.names().into_iter().find(|name| !wanted.contains(name)) {
        Some(name) => Err(AdapterError::OtherModel { path: file.path().to_owned(), name }),
        None => Ok(()),
    }
}

fn attach_masks(file: &TensorFile, lora: &Lora, covers: Covers, model: &mut Llama) -> Result<(), AdapterError> {
    let device = model.device();
    for_each_target(model, &lora.targets, |name, _, projection| {
        let shape = [projection.outputs(), projection.inputs()];
        let inside = file.read(&mask_name(name), &shape, Kind::Bool, device)?;
        let adapter = projection.adapter.as_mut().expect("its tensors were attached");
        adapter.mask = Some(Mask { outside: inside.logical_not(), covers });
        Ok(())
    })
}

fn mask_name(projection: &str) -> String {
    format!("base_model.model.{projection}.mask")
}

/// Puts a fresh adapter beside the projections: A Kaiming-uniform with a = √5 (bound 1/√in), B zero, as PEFT starts; in f32.
/// Each A is a pure function of the seed and its place.
pub fn start(model: &mut Llama, lora: &Lora, seed: u64) {
    let device = model.device();
    let started = for_each_target(model, &lora.targets, |_, place, projection| {
        let (rank, inputs) = (lora.rank as i64, projection.inputs());
        let mut values = vec![0f32; (rank * inputs) as usize];
        RandomStream::new("lora start", seed, &place).fill_symmetric(&mut values);
        let a = Tensor::from_slice(&values).view([rank, inputs]) / (inputs as f64).sqrt();
        let a = a.to_device(device);
        let b = Tensor::zeros([projection.outputs(), rank], (Kind::Float, device));
        projection.adapter = Some(LowRank { a, b, scaling: lora.scaling(), mask: None });
        Ok::<_, std::convert::Infallible>(())
    });
    match started {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// Calls with each targeted projection: its full name, its place (layer, index of the target), itself.
fn for_each_target<E>(
    model: &mut Llama,
    targets: &[String],
    mut act: impl FnMut(&str, [u64; 2], &mut crate::model::Linear) -> Result<(), E>,
) -> Result<(), E> {
    for layer in 0..model.config().layers {
        for (index, target) in Lora::ALL_TARGETS.iter().enumerate() {
            if !targets.iter().any(|name| name == target) {
                continue;
            }
            let name = Llama::projection_name(layer, target);
            let projection = model.projection_mut(layer, target).expect("every block has all seven projections");
            act(&name, [layer as u64, index as u64], projection)?;
        }
    }
    Ok(())
}

fn tensor_names(projection: &str) -> (String, String) {
    let base = format!("base_model.model.{projection}");
    (format!("{base}.lora_A.weight"), format!("{base}.lora_B.weight"))
}

/// The adapter's tensors under their names on disk, sharing storage with the model.
pub fn tensors(model: &Llama) -> Vec<(String, Tensor)> {
    let adapted = model.projections().into_iter().filter_map(|(name, it)| Some((name, it.adapter.as_ref()?)));
    adapted
        .flat_map(|(name, LowRank { a, b, .. })| {
            let (a_name, b_name) = tensor_names(&name);
            [(a_name, a.shallow_clone()), (b_name, b.shallow_clone())]
        })
        .collect()
}

/// Writes the model's adapter as PEFT does, in f32. One with masks has them in a file of their own, and a type that `peft`
/// does not know: it would pass the masks over and compute something else.
///
/// # Errors
/// Where the files cannot be written.
pub fn save(folder: &Path, model: &Llama, lora: &Lora) -> Result<(), Failure> {
    let tensors: Vec<_> =
        tensors(model).into_iter().map(|(name, tensor)| (name, tensor.detach().to_kind(Kind::Float))).collect();
    tensor_file::write(&folder.join(WEIGHTS_FILE), &tensors)?;
    let targets: Vec<_> = Lora::ALL_TARGETS.iter().filter(|&&name| lora.targets.iter().any(|it| it == name)).collect();
    let covers = save_masks(folder, model)?;
    let mut config = json!({
        "base_model_name_or_path": model.config().name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": whole_or_float(lora.effective_alpha()),
        "lora_dropout": lora.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": lora.rslora,
    });
    if let Some((scope, _)) = SCOPES.iter().find(|(_, it)| Some(*it) == covers) {
        config["peft_type"] = json!(SPARSE_TYPE);
        config[SCOPE] = json!(scope);
    }
    write_json(&folder.join(CONFIG_FILE), &config)
}

/// Writes the masks, true where an entry is kept, if there are any; returns what they cover.
fn save_masks(folder: &Path, model: &Llama) -> Result<Option<Covers>, Failure> {
    let mut covers = None;
    let mut masks = Vec::new();
    for (name, projection) in model.projections() {
        if let Some(mask) = projection.adapter.as_ref().and_then(|adapter| adapter.mask.as_ref()) {
            covers = Some(mask.covers);
            masks.push((mask_name(&name), mask.outside.logical_not()));
        }
    }
    if covers.is_some() {
        tensor_file::write(&folder.join(MASKS_FILE), &masks)?;
    }
    Ok(covers)
}

/// PEFT writes a whole `lora_alpha` without a point.
fn whole_or_float(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// Adds every adapter to its weight and takes it away: the model then computes the same without it.
pub fn merge(model: &mut Llama) {
    tch::no_grad(|| {
        for layer in 0..model.config().layers {
            for target in Lora::ALL_TARGETS {
                let projection = model.projection_mut(layer, target).expect("every block has all seven projections");
                if projection.adapter.is_some() {
                    let merged = projection.effective();
                    projection.adapter = None;
                    projection.weight.copy_(&merged);
                }
            }
        }
    });
}

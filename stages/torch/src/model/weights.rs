//! The weights of a model: one safetensors file, or shards with an index, or random numbers for trials.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::ModelError;
use crate::tensor_file::{TensorFile, TensorFileError};

/// Where the weights of a model come from.
pub enum Weights {
    /// The mapped files of a folder.
    Files {
        /// The folder.
        folder: PathBuf,
        /// Its files.
        files: Vec<TensorFile>,
    },
    /// Made on the spot, as the model asks for them; those of one seed are the same on every device.
    Random,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Maps the weights of a model folder.
    ///
    /// # Errors
    /// Where there are none, or a file is truncated.
    pub fn open(model: &Path) -> Result<Self, ModelError> {
        let single = model.join("model.safetensors");
        let files = if single.exists() { vec![single] } else { shards(model)? };
        let files = files.iter().map(|path| TensorFile::open(path)).collect::<Result<_, _>>()?;
        Ok(Self::Files { folder: model.to_owned(), files })
    }

    /// Copies one tensor to a device in a number format.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn read(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, ModelError> {
        match self {
            Self::Files { folder, files } => Ok(holder(folder, files, name)?.read(name, shape, kind, device)?),
            Self::Random => {
                let mut target = Tensor::empty(shape, (kind, device));
                fill(&mut target);
                Ok(target)
            }
        }
    }

    /// Copies one tensor into another one of its shape.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn read_into(&self, name: &str, target: &mut Tensor) -> Result<(), ModelError> {
        match self {
            Self::Files { folder, files } => Ok(holder(folder, files, name)?.read_into(name, target)?),
            Self::Random => {
                fill(target);
                Ok(())
            }
        }
    }

    /// Random weights of a seed.
    pub fn random(seed: u64) -> Self {
        tch::manual_seed(seed as i64);
        Self::Random
    }
}

/// Ones for a norm; for a matrix [out, in] uniforms of the variance 1/in, which keep the size of what they multiply.
/// Drawn on the CPU in f32, so that a device or a number format draws no others.
fn fill(target: &mut Tensor) {
    let shape = target.size();
    match shape.as_slice() {
        [_, inputs] => {
            let bound = (3.0 / *inputs as f64).sqrt();
            target.copy_(&Tensor::empty(&shape, (Kind::Float, Device::Cpu)).uniform_(-bound, bound));
        }
        _ => {
            let _ = target.fill_(1.0);
        }
    }
}

fn holder<'a>(folder: &Path, files: &'a [TensorFile], name: &str) -> Result<&'a TensorFile, TensorFileError> {
    let missing = || TensorFileError::Missing { path: folder.to_owned(), name: name.to_owned() };
    files.iter().find(|file| file.contains(name)).ok_or_else(missing)
}

fn shards(model: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let path = model.join("model.safetensors.index.json");
    if !path.exists() {
        return Err(ModelError::NoWeights { path: model.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|error| ModelError::Config { path, message: format!("not an index of shards: {error}") })?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    Ok(names.into_iter().map(|name| model.join(name)).collect())
}

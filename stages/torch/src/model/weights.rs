//! The weights of a model folder: one safetensors file, or shards with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::ModelError;
use crate::tensor_file::{TensorFile, TensorFileError};

/// The mapped files of a model.
pub struct Weights {
    folder: PathBuf,
    files: Vec<TensorFile>,
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
        Ok(Self { folder: model.to_owned(), files })
    }

    /// Copies one tensor to a device in a number format.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn read(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, ModelError> {
        Ok(self.holder(name)?.read(name, shape, kind, device)?)
    }

    /// Copies one tensor into another one of its shape.
    ///
    /// # Errors
    /// Where it is missing or has another shape.
    pub fn read_into(&self, name: &str, target: &mut Tensor) -> Result<(), ModelError> {
        Ok(self.holder(name)?.read_into(name, target)?)
    }

    fn holder(&self, name: &str) -> Result<&TensorFile, TensorFileError> {
        let missing = || TensorFileError::Missing { path: self.folder.clone(), name: name.to_owned() };
        self.files.iter().find(|file| file.contains(name)).ok_or_else(missing)
    }
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
